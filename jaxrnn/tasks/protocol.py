"""What a task is, and the losses, metrics and criteria that tasks use."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

PyTree = Any


class Batch(NamedTuple):
    """Sequences with what is to be said of them; floating leaves in JAX's default precision, as new parameters are."""

    xs: PyTree  # (B, T, ...)
    targets: PyTree  # (B, T, ...): a dict with "weight" (B, T), 0 where nothing is asked, and "label" or "value"; None without
    lengths: Array | None = None  # (B,) valid steps of each; None: all of them


class Task(NamedTuple):
    """What to learn, and when it is learned."""

    sample: Callable[[Array, int], Batch]  # (key, batch) -> Batch; of stored data a choice without repetition
    held_out: Callable[[Array, int], Batch]  # the same of sequences that ``sample`` never gives
    n_in: int
    n_out: int  # 0 where there are no targets
    loss: Callable[[Array, PyTree], Array] | None  # (prediction (n_out,), target of one step) -> scalar, weighted
    metric: Callable[[Array, PyTree], Array] | None  # (predictions (B, T, n_out), targets) -> scalar
    metric_name: str
    baseline: float  # the metric of the best guess without memory
    solved: Callable[[float], bool]  # of the metric
    sequences: int | None = None  # how many sequences there are to draw from; None for a source without end
    held_out_sequences: int | None = None
    loss_baseline: float = math.nan  # Σ_t loss of one sequence, expected of that guess, in the loss's unit; NaN where it is not known
    oracle: Callable[[Batch], Array] | None = None  # batch -> predictions (B, T, n_out): the exact solution, from xs and lengths alone
    guess: Callable[[Batch], Array] | None = None  # the same of the best guess without memory: at t from t and x_t alone


@dataclass(frozen=True)
class Above:
    """The criterion metric > bound; NaN does not meet it.

    >>> from jaxrnn import tasks
    >>> print(tasks.Above(0.99)), tasks.Above(0.99)(1.0)
    > 0.99
    (None, True)
    """

    bound: float

    def __call__(self, metric: float) -> bool:
        """Whether it is met."""
        return bool(metric > self.bound)

    def __str__(self) -> str:
        """As in a table."""
        return f"> {self.bound:.4g}"


@dataclass(frozen=True)
class Below:
    """The criterion metric < bound; NaN does not meet it."""

    bound: float

    def __call__(self, metric: float) -> bool:
        """Whether it is met."""
        return bool(metric < self.bound)

    def __str__(self) -> str:
        """As in a table."""
        return f"< {self.bound:.4g}"


def cross_entropy(logits: Array, target: PyTree) -> Array:
    """The loss weight · (−log softmax(logits)[label]) of one step, nats.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import tasks
    >>> round(float(tasks.cross_entropy(jnp.zeros(10), {"label": jnp.array(3), "weight": jnp.array(1.0)})), 4)
    2.3026
    """
    return target["weight"] * optax.softmax_cross_entropy_with_integer_labels(logits, target["label"])


def squared_error(prediction: Array, target: PyTree) -> Array:
    """The loss weight · mean over outputs of (prediction − value)² of one step.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import tasks
    >>> float(tasks.squared_error(jnp.array([2.0]), {"value": jnp.array([0.5]), "weight": jnp.array(1.0)}))
    2.25
    """
    return target["weight"] * jnp.mean((prediction - target["value"]) ** 2)


def accuracy(predictions: Array, targets: PyTree) -> Array:
    """Share of the weighted steps whose largest logit is the label's."""
    right = (jnp.argmax(predictions, -1).astype(targets["label"].dtype) == targets["label"]).astype(targets["weight"].dtype)
    return jnp.sum(targets["weight"] * right) / jnp.sum(targets["weight"])


def mean_squared_error(predictions: Array, targets: PyTree) -> Array:
    """Mean over the weighted steps of the mean squared error."""
    errors = jnp.mean((predictions - targets["value"]) ** 2, -1)
    return jnp.sum(targets["weight"] * errors) / jnp.sum(targets["weight"])


def mean_cross_entropy(logits: Array, targets: PyTree) -> Array:
    """Mean over the weighted steps of the cross entropy, nats."""
    losses = jax.vmap(jax.vmap(cross_entropy))(logits, targets)
    return jnp.sum(losses) / jnp.sum(targets["weight"])
