"""What the scripts of training outcomes share: train some seeds of one cell on one task."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrnn import cells, training


class Outcome(NamedTuple):
    """One cell, trained from several seeds."""

    name: str
    fit: training.Fit
    seconds_per_step: float  # and seed, compilation included

    def metric_at(self, update: int) -> np.ndarray:
        """The metric of each seed after so many updates."""
        return self.fit.metric[:, list(self.fit.evaluated).index(update)]


def train(
    name: str, cell: cells.Cell, task, *, steps: int, seeds: tuple[int, ...], every: int, batch: int = 32, rate: float = 1e-3,
    optimizer: optax.GradientTransformation | None = None, test=None, scales: Any = None, **options,
) -> Outcome:  # fmt: skip
    """Train ``cell`` from ``seeds``, evaluated every so often on sequences apart."""
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    params = jax.vmap(lambda key: cell.init_params(key, **(scales or {})))(keys)
    state = cell.init_state(jax.tree.map(lambda leaf: leaf[0], params))
    test = task.held_out(jax.random.key(2**31), 1000) if test is None else test
    evaluation = training.Evaluation(cell.output, task.metric, test, every, task.solved)
    data = jax.vmap(lambda key: jax.random.fold_in(key, 7))(keys)  # not the numbers that made the weights
    start = time.perf_counter()
    fit = training.fit(
        cell.step, params, state, task.sample, cells.readout_loss(cell, task.loss), steps=steps, batch=batch, key=data,
        optimizer=optimizer or training.default_optimizer(rate), evaluation=evaluation, chunk=every, **options,
    )  # fmt: skip
    found = Outcome(name, fit, (time.perf_counter() - start) / steps / len(seeds))
    for failure in fit.failures:
        print(f"  {name}: {failure}")
    return found
