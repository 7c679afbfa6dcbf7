"""What the tasks made of random numbers have in common: how they ask, answer and guess, and the two forms of their scores."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import require_at
from jaxrnn.tasks.protocol import Above, Batch, Below, Task, accuracy, cross_entropy, mean_squared_error, squared_error

Draw = Callable[[Array, int], Batch]
Predict = Callable[[Batch], Array]

SURE = 50.0  # the logit of a certain answer: e^−50 of the rest is below the rounding of float64, and no loss overflows


def checked(draw: Draw) -> Draw:
    """``draw`` that refuses a batch of less than one sequence."""

    def sample(key: Array, batch: int) -> Batch:
        require_at("batch", batch, 1, None, "the number of sequences")
        return draw(key, batch)

    return sample


def classes(
    draw: Draw,
    n_in: int,
    n_out: int,
    oracle: Predict,
    *,
    guess: Predict | None = None,
    baseline: float | None = None,
    loss_baseline: float | None = None,
    held_out: Draw | None = None,
) -> Task:
    """A task of class labels, solved above 99 %; without memory all ``n_out`` classes are equally likely unless other scores are given."""
    sample = checked(draw)
    uniform = lambda batch: jnp.zeros((*batch.xs.shape[:2], n_out), float)
    return Task(
        sample, sample if held_out is None else checked(held_out), n_in, n_out, cross_entropy, accuracy, "accuracy",
        1 / n_out if baseline is None else baseline, Above(0.99),
        loss_baseline=math.log(n_out) if loss_baseline is None else loss_baseline, oracle=oracle, guess=guess or uniform,
    )  # fmt: skip


def values(draw: Draw, n_in: int, n_out: int, oracle: Predict, *, guess: float | Predict, baseline: float, solved: float) -> Task:
    """A task of numbers, scored by the mean squared error; ``guess``: the best one without memory, a constant or a predictor."""
    sample = checked(draw)
    constant: Predict = guess if callable(guess) else lambda batch: jnp.full((*batch.xs.shape[:2], n_out), guess, float)
    return Task(
        sample, sample, n_in, n_out, squared_error, mean_squared_error, "mean squared error", baseline, Below(solved),
        loss_baseline=baseline, oracle=oracle, guess=constant,
    )  # fmt: skip


def one_hot(ids: Array, count: int) -> Array:
    """Floating one-hot vectors, zeros for ids outside [0, count)."""
    return jax.nn.one_hot(ids, count, dtype=float)


def ids(xs: Array) -> Array:
    """The symbols (B, T) int32 of one-hot vectors (B, T, count)."""
    return jnp.argmax(xs, -1).astype(jnp.int32)


def sure(labels: Array, count: int) -> Array:
    """Logits (..., count) that leave no doubt about the labels."""
    return SURE * one_hot(labels, count)


def at_end(batch: int, length: int) -> Array:
    """Weights (B, T): the last step alone is asked."""
    return jnp.zeros((batch, length), float).at[:, -1].set(1)


def throughout(answer: Array, length: int) -> Array:
    """One answer a sequence (B, ...), repeated at each of the steps (B, T, ...)."""
    return jnp.repeat(answer[:, None], length, 1)


def position(key: Array, batch: int, low: int, high: int) -> Array:
    """Steps (B,) int32, uniform on [low, high)."""
    return jax.random.randint(key, (batch,), low, high, jnp.int32)


def marks(key: Array, batch: int, length: int) -> Array:
    """Ones (B, T) at a random step of the first tenth and at one of the rest of the first half."""
    key_a, key_b = jax.random.split(key)
    a, b = position(key_a, batch, 0, length // 10), position(key_b, batch, length // 10, length // 2)
    return one_hot(a, length) + one_hot(b, length)


def places(key: Array, batch: int, count: int, items: int) -> Array:
    """``items`` different numbers (B, items) int32 of [0, count), in random order."""
    every = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32), (batch, count))
    return jax.random.permutation(key, every, 1, independent=True)[:, :items]


def evenly(asked: Array) -> Array:
    """Weights (B, T) that share 1 among the steps of each sequence where ``asked`` (B, T)."""
    return asked.astype(float) / jnp.sum(asked, 1, keepdims=True).astype(float)
