"""Are the standard errors of Lyapunov exponents true: how often does a 50× longer run lie within two of them?

    python -m experiments.coverage

On random driven tanh networks, for the largest and the median exponent: once at a fixed length, once with ``lyapunov.until``. A normal
estimate with a true standard error is covered in 95 %.
"""

import argparse
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import lyapunov


@dataclass(frozen=True)
class Settings:
    nets: int = 100
    n: int = 16
    gains: tuple[float, float] = (0.8, 2.5)  # uniform
    input_sds: tuple[float, float] = (0.1, 2.0)  # log-uniform, of white input to every unit
    length: int = 2000  # counted steps at a fixed length
    warmup: int = 200
    blocks: int = 32
    standard_error: float = 0.015  # that ``until`` is asked for, nats per step
    longer: int = 50
    chunk: int = 10  # networks at once


FEW = Settings(nets=4, n=4, length=64, warmup=8, standard_error=0.05, longer=2, chunk=2)


def step(params, h, t):
    """A driven network; its input is drawn from the time t, so that nothing is stored."""
    noise = jax.random.normal(jax.random.fold_in(params["key"], t), h.shape, h.dtype)
    return jnp.tanh(params["weights"] @ h + params["input_sd"] * noise)


def network(s, key):
    keys = jax.random.split(key, 4)
    gain = jax.random.uniform(keys[0], minval=s.gains[0], maxval=s.gains[1])
    low, high = np.log(s.input_sds)
    weights = gain * jax.random.normal(keys[1], (s.n, s.n)) / np.sqrt(s.n)
    return {"weights": weights, "input_sd": jnp.exp(jax.random.uniform(keys[2], minval=low, maxval=high)), "key": keys[3]}


@partial(jax.jit, static_argnames=("length", "warmup", "blocks", "k"))
def ensemble(nets, states, frames, start, length, warmup, blocks, k):
    """The spectra of several networks, driven from time ``start`` on."""

    def one(net, state, frame):
        return lyapunov.spectrum(step, net, state, start + jnp.arange(warmup + length), k=k, warmup=warmup, frame=frame, blocks=blocks)

    return jax.vmap(one)(nets, states, frames)


def chunks(s, order):
    return [order[i : i + s.chunk] for i in range(0, len(order), s.chunk)]


def take(tree, chosen):
    return jax.tree.map(lambda leaf: leaf[chosen], tree)


def merged(parts, order):
    """Results of chunks, in the order of the networks."""
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return take(together, np.argsort(np.concatenate(order)))


def at_fixed_length(s, nets, k):
    order = chunks(s, np.arange(s.nets))
    start = lambda chosen: (take(nets, chosen), jnp.zeros((len(chosen), s.n)), None)
    return merged([ensemble(*start(chosen), 0, s.length, s.warmup, s.blocks, k) for chosen in order], order)


def with_until(s, nets, k):
    """Run each network until its largest and its k-th exponent are known well enough."""
    wanted = np.full(k, np.inf)
    wanted[[0, k - 1]] = s.standard_error
    draw = lambda start, count: start + jnp.arange(count)
    state = jnp.zeros(s.n)
    return [lyapunov.until(step, take(nets, i), state, draw, standard_error=wanted, k=k, warmup=s.warmup) for i in range(s.nets)]


def reference(s, nets, found, lengths, k):
    """Exponents of runs ``longer`` times as long as ``lengths``, driven by other inputs; networks of like length run together."""
    order = chunks(s, np.argsort(lengths))
    parts = []
    for chosen in order:
        length = s.longer * int(np.ceil(2 ** (np.ceil(2 * np.log2(max(lengths[chosen]))) / 2)))  # powers of √2: few programs to compile
        begin = (take(nets, chosen), found.state[chosen], found.frame[chosen])
        parts.append(ensemble(*begin, 10_000_000, length, 0, s.blocks, k).exponents)
    return merged(parts, order)


def print_coverage(name, estimates, errors, truth, k):
    for label, i in (("largest", 0), ("median", k - 1)):
        within = np.abs(np.asarray(estimates[:, i] - truth[:, i])) <= 2 * np.asarray(errors[:, i])
        share, nets = within.mean(), len(within)
        error = np.sqrt(share * (1 - share) / nets)
        verdict = "yes" if 0.9 <= share <= 0.99 else "NO"
        size = np.median(np.asarray(errors[:, i]))
        print(f"{name:12}  {label:8}  {share:7.1%} ± {error:.1%}   90–99 %: {verdict:3}   median standard error {size:.4f}")


def main(s):
    jax.config.update("jax_enable_x64", True)
    k = s.n // 2  # the median of n exponents, counted from the largest
    nets = jax.vmap(partial(network, s))(jax.random.split(jax.random.key(0), s.nets))
    fixed = at_fixed_length(s, nets, k)
    runs = with_until(s, nets, k)
    steps = np.array([run.steps for run in runs])
    truth = reference(s, nets, fixed, np.maximum(steps, s.length), k)
    print(f"{s.nets} networks, n = {s.n}; a run at least {s.longer} times longer lies within 2 standard errors:")
    print_coverage(f"T = {s.length:,}", fixed.exponents, fixed.standard_errors, truth, k)
    stack = lambda field: jnp.stack([getattr(run.spectrum, field) for run in runs])
    print_coverage("until", stack("exponents"), stack("standard_errors"), truth, k)
    reached = np.mean([run.converged for run in runs])
    print(f"until: {reached:.0%} converged to {s.standard_error} after {np.median(steps):,.0f} steps (median), {steps.max():,} at most")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few tiny networks")
    main(FEW if parser.parse_args().smoke else Settings())
