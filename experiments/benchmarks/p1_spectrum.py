"""P1: the full Lyapunov spectrum of an autonomous tanh network, g = 2, float64, orthonormalised at every step.

Competitors start from the same state and frame, and return the exponents alone; ours returns standard errors beside them.
Answers are compared after ``SHORT`` steps, before chaos lets programs that round differently part, and on a stored trajectory
with the mean of ln|det J_t|.
"""

import jax
import jax.numpy as jnp
from competitors import spectrum_competitors, tanh_net, tanh_step
from harness import arguments, claim, fastest, interleave, report, require, save, seconds

from jaxrnn import lyapunov, unroll

jax.config.update("jax_enable_x64", True)

SIZES = ((32, 20_000, 1.5), (128, 2_000, 2.5), (512, 100, 1.5))  # (N, T, target)
SHORT = 40
STORED = 1000  # steps of the stored trajectory on which the sum of the exponents is compared
LIMITS = {"difference after a short run": 1e-10, "difference of Σλ and mean ln|det J|": 1e-9}


def on_stored(params, h, stored):
    """The step on a stored trajectory: its value and Jacobian are those of the stored state, whatever the rounding before."""
    return tanh_step(params, stored + (h - jax.lax.stop_gradient(h)), None)


def logdet_difference(params, state, frame, length):
    hs = unroll.states(tanh_step, params, state, None, length=length)
    before = jnp.concatenate([state[None], hs[:-1]])
    found = lyapunov.spectrum(on_stored, params, state, before, frame=frame)
    slopes = jnp.log1p(-(jnp.tanh(before @ params.T) ** 2)).sum(1).mean()
    return float(jnp.abs(found.exponents.sum() - slopes - jnp.linalg.slogdet(params)[1]))


def short_difference(params, state, frame, length):
    ours = lyapunov.spectrum(tanh_step, params, state, None, length=length, frame=frame).exponents
    descending = lambda values: -jnp.sort(-jnp.asarray(values))
    theirs = {name: descending(call(params, state, frame)) for name, call in spectrum_competitors(length).items()}
    return {name: float(jnp.max(jnp.abs(ours - value))) for name, value in theirs.items()}


def measure(n, length, target, rounds):
    params, state, frame = tanh_net(n, 2.0)
    short = short_difference(params, state, frame, min(SHORT, length))
    checks = {
        "difference after a short run": max(short.values()),
        "difference of Σλ and mean ln|det J|": logdet_difference(params, state, frame, min(STORED, length)),
    }
    programs = {"jaxrnn": lambda: lyapunov.spectrum(tanh_step, params, state, None, length=length, frame=frame)}
    programs |= {
        name: lambda call=call: call(params, state, frame) for name, call in spectrum_competitors(length, threads=1 if n < 512 else 2).items()
    }
    timings = interleave(programs, rounds)
    return {
        "setting": f"N={n}, T={length:,}",
        "seconds": seconds(timings),
        "claims": [claim(timings, fastest(timings), target)],
        "checks": require(checks, LIMITS),
    }


def main(given):
    sizes = ((6, 20, None),) if given.smoke else SIZES
    rows = [measure(*size, given.rounds) for size in sizes]
    report(rows)
    save("p1_spectrum", rows, given, ("lyapax", "chaotax", "torch"))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=5))
