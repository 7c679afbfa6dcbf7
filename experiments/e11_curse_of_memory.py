"""Long memory without explosion, and its price: linear recurrent units and the curse of memory (Orvieto et al. 2023; Zucchet & Orvieto 2024).

    python -m experiments.e11_curse_of_memory

The LRU h_t = λ ∘ h_{t−1} + γ ∘ B x_t starts on a ring of the complex plane, |λ|² even on [r_min², r_max²], with γ = √(1 − |λ|²) so that states keep
the size of their input (Orvieto et al. 2023, lemma 3.2 and section 3.4). No Jacobian exceeds 1, yet for h = λh + x under white input

    E h² = 1/(1 − λ²),   E(dh/dλ)² = (1 + λ²)/(1 − λ²)³,   and of y = γh with λ = exp(−e^ν):   E(dy/dν)² = (λ ln λ/(1 − λ²))² → 1/4

(the last by E h², E h dh/dλ = λ/(1 − λ²)² and dγ/dλ = −λ/γ): the derivative by λ diverges as memory grows, that by ν of the normalised unit does
not (Zucchet & Orvieto 2024, sections 2 and 3, who say normalise and reparametrise). Then training: copy over 100 steps, 500 updates, with a ring near
1 and with one well inside. Reduced: one layer, no blocks between, which copying does not need; the papers' tasks are longer.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.outcomes import train
from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import cells, parallel, tasks, theory, unroll
from jaxrnn.plots.axes import COLOURS


@dataclass(frozen=True)
class Settings:
    ring: tuple[float, ...] = (0.9, 0.999)
    ring_units: int = 20_000
    decays: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    paths: int = 2000  # of white input, for every λ
    lifetimes: int = 12  # that each path runs before it is looked at
    long: int = 100_000  # steps, of the parallel scan
    lag: int = 100
    hidden: int = 128
    updates: int = 500
    every: int = 100
    far: tuple[float, ...] = (0.99, 0.9999)
    near: tuple[float, ...] = (0.0, 0.8)
    seeds: tuple[int, ...] = (101, 102, 103)


SMOKE = Settings(ring_units=200, decays=(0.5, 0.8), paths=50, long=100, lag=4, hidden=4, updates=2, every=1, seeds=(101, 102))


def start(s):
    """The ring at the start, and what a state weighs."""
    low, high = s.ring
    cell = cells.lru(1, s.ring_units, r_min=low, r_max=high)
    modulus = np.exp(-np.exp(np.asarray(jax.jit(lambda key: cell.init_params(key)["nu_log"])(jax.random.key(0)), np.float64)))
    ring = theory.lru_ring(low, high)
    error = float(np.std(np.log(modulus)) / np.sqrt(s.ring_units))
    exponent = float(np.mean(np.log(modulus)))
    gain, expected = float(np.mean(1 / (1 - modulus**2))), float(ring.variance_gain)
    gain_error = float(np.std(1 / (1 - modulus**2)) / np.sqrt(s.ring_units))
    return [
        Claim("the ring: |λ|² even between its radii", f"Orvieto 2023, lemma 3.2: E ln|λ| = {float(ring.mean_exponent):.5f}",
              "within 4 standard errors", f"{exponent:.5f} ± {error:.1g}", abs(exponent - float(ring.mean_exponent)) < 4 * error),
        Claim("without normalisation white input grows by E 1/(1 − |λ|²)", f"Orvieto 2023, section 3.4: {expected:.3f}", "within 4 standard errors",
              f"{gain:.3f} ± {gain_error:.1g}", abs(gain - expected) < 4 * gain_error),
    ]  # fmt: skip


def moments(s, decay, key):
    """The three second moments at one λ with their standard errors, from simulated paths."""
    length = int(np.ceil(s.lifetimes / (1 - decay)))
    x = jax.random.normal(key, (length, s.paths))
    scale = lambda n: jnp.sqrt(-jnp.expm1(-2 * jnp.exp(n)))
    last = lambda a: unroll.states(lambda a, h, x: a * h + x, a, jnp.zeros(s.paths), x)[-1]
    decay = jnp.asarray(decay, x.dtype)
    nu = jnp.log(-jnp.log(decay))
    h, by_decay = jax.jvp(last, (decay,), (jnp.ones_like(decay),))
    _, by_nu = jax.jvp(lambda n: scale(n) * last(jnp.exp(-jnp.exp(n))), (nu,), (jnp.ones_like(nu),))
    squares = np.asarray(jnp.stack([h, by_decay, by_nu])) ** 2
    return squares.mean(1), squares.std(1) / np.sqrt(s.paths)


def curse(s):
    """The moments against theory over λ."""
    keys = jax.random.split(jax.random.key(1), len(s.decays))
    found, errors = (np.array(v) for v in zip(*(moments(s, d, k) for d, k in zip(s.decays, keys, strict=True)), strict=True))
    decays = np.array(s.decays)
    by_nu = (decays * np.log(decays) / (1 - decays**2)) ** 2
    expected = np.stack([*(np.asarray(v) for v in theory.curse_of_memory(decays)), by_nu], 1)
    worst = np.abs((found - expected) / errors).max(0)
    ratio = found[-1] / found[0]
    claims = [
        Claim("E h² = 1/(1 − λ²)", "Zucchet & Orvieto 2024, section 2", "every λ within 4 standard errors", f"at most {worst[0]:.1f}", worst[0] < 4),
        Claim("E(dh/dλ)² = (1 + λ²)/(1 − λ²)³ though no gradient explodes", "Zucchet & Orvieto 2024, section 2", "every λ within 4 standard errors",
              f"at most {worst[1]:.1f}; from λ = {decays[0]} to {decays[-1]} it grows {ratio[1]:.3g} times", worst[1] < 4),
        Claim("normalised and by ν the derivative stays below 1/4", "Zucchet & Orvieto 2024, section 3: normalisation and reparametrisation",
              "every λ within 4 standard errors of (λ ln λ/(1 − λ²))²", f"at most {worst[2]:.1f}; {found[-1, 2]:.3f} at λ = {decays[-1]}",
              worst[2] < 4),
    ]  # fmt: skip
    numbers = {"decays": decays, "moments": found, "errors": errors, "expected": expected}
    return claims, {"curse": lambda ax: draw_curse(ax, decays, found, errors, expected)}, numbers


def draw_curse(ax, decays, found, errors, expected):
    gap = 1 - decays
    for i, name in enumerate(("E h²", "E(dh/dλ)²", "E(dy/dν)², y = √(1 − λ²) h, λ = exp(−e^ν)")):
        ax.errorbar(gap, found[:, i], 2 * errors[:, i], fmt="o", color=COLOURS[i], label=f"{name}, ± 2 standard errors")
        ax.plot(gap, expected[:, i], "--", color=COLOURS[i], label="formula" if i == 0 else None)
    ax.set(xscale="log", yscale="log", xlabel="1 − λ (dimensionless; memory lasts about its inverse)", ylabel="second moment (dimensionless)")
    ax.invert_xaxis()
    ax.legend(frameon=False, fontsize=9)
    ax.set_title("The curse of memory", fontsize=12)


def scan(s):
    """The states without a loop."""
    cell = cells.lru(2, 8, r_min=0.9, r_max=0.999)
    params = cell.init_params(jax.random.key(3))
    xs = jax.random.normal(jax.random.key(4), (s.long, 2))
    loop = unroll.states(cell.step, params, cell.init_state(params), xs)
    apart = float(jnp.abs(parallel.associative(cell.step, params, cell.init_state(params), xs) - loop).max() / jnp.abs(loop).max())
    allowed = float(jnp.finfo(xs.dtype).eps) * np.sqrt(s.long) * 10
    return Claim("an associative scan has the states of the loop", "Orvieto 2023, section 2; Martin & Cundy 2018",
                 f"{s.long:,} steps: within 10 √T ε = {allowed:.0e}", f"{apart:.1e} of the largest", apart < allowed)  # fmt: skip


def learning(s):
    """Copy, from two rings."""
    task = tasks.copy(s.lag)
    test = task.held_out(jax.random.key(2**31), 200)
    found = {}
    for name, (low, high) in (("far", s.far), ("near", s.near)):
        cell = cells.with_readout(cells.lru(task.n_in, s.hidden, r_min=low, r_max=high), task.n_out)
        found[name] = train(f"LRU, radii {low} to {high}", cell, task, steps=s.updates, seeds=s.seeds, every=s.every, test=test)
    curves = {name: (np.asarray(f.fit.evaluated), np.asarray(f.fit.metric) / task.baseline) for name, f in found.items()}
    far, near = (curves[name][1][:, -1] for name in ("far", "near"))
    claims = [
        Claim("a ring near 1 learns what lies far back", "Orvieto 2023, section 3.3: r_min near 1 for long memory; copying is ours",
              f"copy over {s.lag}: loss / baseline below .05 for every seed after {s.updates} updates", spread(far), bool((far < 0.05).all())),
        Claim("a ring well inside does not", "the same", "loss / baseline above .5 for every seed", spread(near), bool((near > 0.5).all())),
    ]  # fmt: skip

    def draw(ax):
        for i, (name, (low, high)) in enumerate((("far", s.far), ("near", s.near))):
            updates, losses = curves[name]
            ax.plot(updates, losses.T, color=COLOURS[i], alpha=0.8, label=[f"radii {low} to {high}", *[None] * (len(losses) - 1)])
        ax.set(yscale="log", xlabel="updates", ylabel="loss / loss without memory (dimensionless)")
        ax.set_title(f"Copy over {s.lag} steps, {len(s.seeds)} seeds", fontsize=12)
        ax.legend(frameon=False)

    return claims, {"copy": draw}, {name: {"updates": u, "losses": v} for name, (u, v) in curves.items()}


def main(s):
    claims, pictures, numbers = curse(s)
    learnt, more, curves = learning(s)
    return Found([*start(s), *claims, scan(s), *learnt], pictures | more, numbers | curves)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
