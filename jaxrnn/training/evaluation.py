"""How well a task is done, on sequences apart."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.linearize import Step
from jaxrnn.tasks import Batch
from jaxrnn.unroll import masked, states

PyTree = Any
_PIECE = 64  # sequences whose states are held at once


class Evaluation(NamedTuple):
    """A metric on fixed sequences, looked at every so often."""

    output: Callable[[PyTree, PyTree, PyTree], Array]  # (params, state, x) -> (n_out,), a cell's
    metric: Callable[[Array, PyTree], Array]  # (predictions (B, T, n_out), targets) -> scalar, a task's
    batch: Batch  # sequences that are not trained on
    every: int = 500  # updates between two; there is one after the last as well
    solved: Callable[[float], bool] = lambda value: False
    stop: bool = False  # a seed ends where it has solved the task


def evaluate(output: Callable, step: Step, params: PyTree, state: PyTree, batch: Batch, metric: Callable[[Array, PyTree], Array]) -> float:
    """The metric of what a model reads out on one batch: ``metric(output over time (B, T, n_out), targets)``."""
    return float(score(Evaluation(output, metric, batch), step, params, state, over=None))


def score(evaluation: Evaluation, step: Step, params: PyTree, state: PyTree, *, over: str | None) -> Array:
    """The metric (), or (S,) of parameters with S seeds on axis 0."""
    return _scores(evaluation.output, evaluation.metric, step, params, state, evaluation.batch, many=over is not None)


@functools.partial(jax.jit, static_argnames=("output", "metric", "step", "many"))
def _scores(output: Callable, metric: Callable, step: Step, params: PyTree, state: PyTree, batch: Batch, *, many: bool) -> Array:
    length = jax.tree.leaves(batch.targets)[0].shape[1]

    def one(params: PyTree, row: tuple) -> Array:
        x, end = row
        if end is None:
            return jax.vmap(output, (None, 0, 0))(params, states(step, params, state, x), x)
        t = jnp.arange(length, dtype=end.dtype)
        x = jax.tree.map(lambda leaf: leaf[jnp.minimum(t, end - 1)], x)  # what lies beyond the end is not read
        return jax.vmap(output, (None, 0, 0))(params, states(masked(step), params, state, (x, t < end)), x)

    def whole(params: PyTree) -> Array:
        predictions = jax.lax.map(functools.partial(one, params), (batch.xs, batch.lengths), batch_size=_PIECE)
        return metric(predictions, batch.targets)

    return jax.lax.map(whole, params) if many else whole(params)
