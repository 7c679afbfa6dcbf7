"""Does gradient flossing move the leading exponents to 0, and what becomes of the product of Jacobians?

    OPENBLAS_NUM_THREADS=1 python -m experiments.flossing      # its threads wait for each other on a busy machine: 145 times slower

Random tanh networks under weak white input, 500 updates of Adam on the mean square of the k leading exponents over a window of 55 steps. Before
and after, on sequences that flossing has not seen: the mean |λ| of those k, the condition number of the product of the window along its k
leading directions, and how many directions keep a hundredth of what the first one keeps. Both from the logs of repeated QR, since singular
values of the product itself drown in rounding at 16 decades. Up to a gain of 1.5 it helps; at 2.5 it does not.
"""

import argparse
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxrnn import cells, lyapunov, remedies, tasks


@dataclass(frozen=True)
class Settings:
    n: int = 80
    gains: tuple[float, ...] = (1.0, 1.5, 2.5)
    ks: tuple[int, ...] = (20, 40)
    input_scale: float = 0.1  # standard deviation of what the input adds to a pre-activation
    window: int = 55
    steps: int = 500
    learning_rate: float = 1e-3
    batch: int = 1  # sequences of one update
    fresh: int = 16  # sequences that are measured
    seeds: tuple[int, ...] = (11, 12, 13)


FEW = Settings(n=8, gains=(1.0,), ks=(2, 4), window=10, steps=20, fresh=2, seeds=(1,))


class Measured(NamedTuple):
    exponent: float  # mean |λ_i| of the k leading ones, nats per step
    decades: float  # log10 of the condition number along them over the window
    dimension: float  # directions within a factor of 100 of the leading one over the window


class Row(NamedTuple):
    gain: float
    k: int
    seed: int
    before: Measured
    after: Measured


def noise(key, batch, *, length, n):
    return tasks.Batch(jax.random.normal(key, (batch, length, n)), None)


@partial(jax.jit, static_argnames=("step", "window"))
def growth(step, params, state, xs, window):
    """Log growth of all directions over the window, (B, n), largest first."""
    return jax.vmap(lambda x: lyapunov.spectrum(step, params, state, x, blocks=1).exponents)(xs) * window


def measured(step, params, state, xs, k, window):
    logs = np.asarray(growth(step, params, state, xs, window))
    within = (logs > logs[:, :1] - math.log(100)).sum(1)
    decades = (logs[:, 0] - logs[:, k - 1]) / math.log(10)
    return Measured(float(np.abs(logs[:, :k]).mean() / window), float(decades.mean()), float(within.mean()))


def one(s, gain, k, seed, sample):
    cell = cells.vanilla(s.n, s.n)
    start, flossing, fresh = jax.random.split(jax.random.key(seed), 3)
    params = cell.init_params(start, gain=gain, input_gain=s.input_scale)
    state, xs = cell.init_state(params), sample(fresh, s.fresh).xs
    options = {"k": k, "window": s.window, "steps": s.steps, "batch": s.batch, "learning_rate": s.learning_rate}
    found = remedies.floss(cell.step, params, state, sample, key=flossing, **options)
    return Row(gain, k, seed, *(measured(cell.step, p, state, xs, k, s.window) for p in (params, found.params)))


def main(s):
    sample = partial(noise, length=s.window, n=s.n)
    print(f"N = {s.n}, window {s.window}, {s.steps} updates, input {s.input_scale}; before → after, on {s.fresh} fresh sequences")
    print(f"{'gain':>5} {'k':>3} {'seed':>4}   {'mean |λ| of the k':>18}   {'condition, decades':>18}   {'dimension':>14}")
    rows = []
    for gain in s.gains:
        for k in s.ks:
            for seed in s.seeds:
                row = one(s, gain, k, seed, sample)
                b, a = row.before, row.after
                print(f"{gain:5.1f} {k:3d} {seed:4d}   {b.exponent:8.4f} → {a.exponent:7.4f}   {b.decades:8.1f} → {a.decades:7.1f}"
                      f"   {b.dimension:5.1f} → {a.dimension:6.1f}", flush=True)  # fmt: skip
                rows.append(row)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", action="store_true", help="tiny settings, to see that it runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=Settings.seeds)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    main(FEW if given.few else replace(Settings(), seeds=tuple(given.seeds)))
