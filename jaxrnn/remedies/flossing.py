"""Gradient flossing before training: the leading exponents are moved to 0 and nothing else is asked."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxrnn._border import require_at
from jaxrnn.linearize import Step
from jaxrnn.remedies.penalties import leading_exponents, mean_square
from jaxrnn.tasks import Batch

PyTree = Any


class Flossed(NamedTuple):
    """Parameters after flossing, and how they came there."""

    params: PyTree
    exponents: Array  # (steps, k) nats per step, mean over the batch, before each update; −inf where a direction died in one
    penalty: Array  # (steps,) mean of λ² before each update
    finite: Array  # (steps,) whether penalty and gradient were; an update that is not leaves the parameters as they were


def floss(
    step: Step,
    params: PyTree,
    state: PyTree,
    sample: Callable[[Array, int], Batch],
    *,
    k: int,
    window: int,
    steps: int = 500,
    batch: int = 1,
    key: Array,
    learning_rate: float = 1e-3,
) -> Flossed:
    """Parameters whose k leading exponents over a short window are near 0: flossing before training.

    θ ← Adam(θ, ∂/∂θ mean over B sequences of (1/k) Σ_{i ≤ k} λ_i²), λ_i over the first ``window`` steps.

    Args:
        step, params, state: the model, as for ``unroll.states``; params without influence on the state keep their values.
        sample: ``(key, batch) -> tasks.Batch`` that can be traced, of at least ``window`` steps; its targets are not read.
        k: how many exponents.
        window: steps.
        steps: how many updates. More of them, or a larger rate, can make it worse.
        batch: B, sequences of one update, new ones each time.
        key: of all randomness.
        learning_rate: of Adam.

    Returns:
        ``Flossed``.

    Raises:
        ValueError: k above the dimension of the state, a window longer than the sequences, numbers below 1.

    Cost: per update B · window QR decompositions O(n k²) and the way back through them: N = 80, k = 40, window 55, float64: 10 ms; on a busy
    machine set OPENBLAS_NUM_THREADS=1, whose threads wait for each other in small matrices (440 ms).
    Up to a gain of about 1.5 it works; at 2.5 the exponents of a window depend on the parameters too wildly, and it does not.

    Source: Engelken 2023.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import remedies, tasks
    >>> sample = lambda key, batch: tasks.Batch(jnp.zeros((batch, 4, 1)), None)
    >>> found = remedies.floss(lambda a, h, x: a * h, jnp.array(0.8), jnp.ones(1), sample, k=1, window=4, steps=500, key=jax.random.key(0))
    >>> found.exponents.shape, round(float(found.params), 2)
    ((500, 1), 1.0)
    """
    for name, value in (("k", k), ("window", window), ("steps", steps), ("batch", batch)):
        require_at(name, value, 1, None, "a number of exponents, steps, updates or sequences")
    return _floss(step, params, state, key, jnp.asarray(learning_rate), sample, k=k, window=window, steps=steps, batch=batch)


@functools.partial(jax.jit, static_argnames=("step", "sample", "k", "window", "steps", "batch"))
def _floss(
    step: Step, params: PyTree, state: PyTree, key: Array, rate: Array, sample: Callable, *, k: int, window: int, steps: int, batch: int
) -> Flossed:
    adam = optax.scale_by_adam()

    def penalty(params: PyTree, given: Batch) -> tuple[Array, Array]:
        exponents = leading_exponents(step, params, state, given.xs, k=k, window=window, lengths=given.lengths)
        return mean_square(exponents), exponents.mean(0)

    def update(carry: tuple[PyTree, PyTree], i: Array) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array, Array]]:
        params, moments = carry
        (value, exponents), gradient = jax.value_and_grad(penalty, has_aux=True)(params, sample(jax.random.fold_in(key, i), batch))
        gradient = jax.tree.map(jnp.conj, gradient)
        with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to the power of an integer count
            direction, after = adam.update(gradient, moments, params)
        finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
        moved = jax.tree.map(lambda leaf, d: leaf - (rate * d).astype(leaf.dtype), params, direction)
        keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        return (keep(moved, params), keep(after, moments)), (exponents, value, finite)

    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), params)
    (params, _), seen = jax.lax.scan(update, (params, adam.init(params)), jnp.arange(steps))
    return Flossed(params, *seen)


@dataclasses.dataclass(frozen=True)
class FlossFirst:
    """``Setup.prepare``: flossing before training, on the task's own sequences."""

    k: int
    window: int
    steps: int
    batch: int
    learning_rate: float

    def __call__(self, key: Array, setup: Any, params: PyTree, sample: Callable[[Array, int], Batch]) -> PyTree:
        """The flossed params."""
        rest: dict[str, Any] = dataclasses.asdict(self)
        return floss(setup.step, params, setup.init_state(params), sample, key=key, **rest).params
