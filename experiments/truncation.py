"""Where may backpropagation be truncated before training, and when the cosine misleads: adding over 100 steps.

    python -m experiments.truncation

The smallest lag from which on the gradient truncated there has a cosine of at least .99 to the whole one, over a batch; beside it the smallest lag
from which on the relative error ‖truncated − whole‖ / ‖whole‖ stays below 10 %, and the share of the terms' norm that lies beyond the first lag.
"""

import argparse
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import bptt, cells, tasks


@dataclass(frozen=True)
class Settings:
    length: int = 100
    hidden: int = 128
    batch: int = 16
    seeds: tuple[int, ...] = (101, 102, 103)


FEW = Settings(length=6, hidden=3, batch=2, seeds=(101,))
LEAVES = ("W_hh", "W_xh", "b_h")


def main(settings: Settings) -> None:
    """Print both lags and the share, for every cell and seed."""
    task, n = tasks.adding(settings.length), settings.hidden
    recurrences = {
        "LSTM, forget bias 1": (cells.lstm(2, n), {}),
        "vanilla tanh, g = 1": (cells.vanilla(2, n), {}),
        "vanilla tanh, g = 1.5": (cells.vanilla(2, n), {"gain": 1.5}),
        "IRNN": (cells.vanilla(2, n, activation="relu", init="identity"), {}),
    }
    print(f"adding, T = {settings.length}, N = {n}, at initialisation; {settings.batch} sequences")
    print(f"{'':24s}{'seed':>5s}{'cosine .99':>12s}{'error 10 %':>12s}{'share beyond the first':>24s}")
    for name, (plain, scales) in recurrences.items():
        cell = cells.with_readout(plain, task.n_out)
        loss = cells.readout_loss(cell, task.loss)
        for seed in settings.seeds:
            params = cell.init_params(jax.random.key(seed), **scales)
            batch = task.sample(jax.random.key(seed + 1000), settings.batch)
            one = lambda x, y, cell=cell, params=params, loss=loss: _by_lag(cell, params, loss, x, y)
            by_lag, log_norms = jax.jit(lambda xs, ys, one=one: jax.lax.map(lambda at: one(*at), (xs, ys)))(batch.xs, batch.targets)
            first, error = lags(np.asarray(by_lag, np.float64).mean(0))
            shares = np.exp(np.asarray(log_norms, np.float64) - np.asarray(log_norms).max()).mean(0)
            share = shares[first:].sum() / shares.sum()
            print(f"{name:24s}{seed:5d}{first:12d}{error:12d}{share:24.3f}", flush=True)


def _by_lag(cell, params, loss, x, y):
    """The terms of one sequence, summed by lag and laid out as vectors (T, parameters), and the logs of their norms by lag (T,)."""
    parts = bptt.decompose(cell.step, params, cell.init_state(params), x, y, loss, times=(len(x),))
    vectors = jnp.concatenate([parts.by_lag[name].reshape(len(x), -1) for name in LEAVES], 1)
    return vectors, jnp.log(jnp.linalg.norm(vectors, axis=1))


def lags(by_lag: np.ndarray) -> tuple[int, int]:
    """Number of lags kept from which on the cosine stays at or above .99, and from which on the relative error stays below .1."""
    kept, whole = np.cumsum(by_lag, 0), by_lag.sum(0)
    norm = np.linalg.norm(whole)
    cosine = kept @ whole / (np.linalg.norm(kept, axis=1) * norm)
    error = np.linalg.norm(kept - whole, axis=1) / norm
    last = lambda good: int(np.flatnonzero(~good)[-1]) + 2 if not good.all() else 1
    return last(cosine >= 0.99), last(error < 0.1)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main(Settings())
