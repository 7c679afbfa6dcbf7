"""The jitted optax loop: batches in, parameters and what was seen on the way out."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn._border import compiled, require_at
from jaxrnn._measure import Masked, MaskedLoss
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.tasks import Batch
from jaxrnn.unroll import states

PyTree = Any


class Fit(NamedTuple):
    """What ``fit`` gives back."""

    params: PyTree  # after the last step
    optimizer_state: PyTree
    loss: np.ndarray  # (steps,) mean over the batch of Σ_t loss, before each update
    gradient_norm: np.ndarray  # (steps,) of its gradient, before clipping
    first_nonfinite: int  # first step (from 1) whose loss or gradient was not finite, 0: none; training ended with its chunk


def fit(
    step: Step,
    params: PyTree,
    state: PyTree,
    sample: Callable[[Array, int], Batch],
    loss: Loss,
    *,
    steps: int,
    batch: int,
    key: Array,
    optimizer: optax.GradientTransformation | None = None,
    chunk: int = 20,
    progress: Callable[[str, int, int], None] | None = None,
) -> Fit:
    """Parameters trained by stochastic gradients through the whole sequences.

    θ ← optimizer(θ, ∂/∂θ (1/B) Σ_b Σ_{t ≤ T_b} loss(θ, h_t, x_t, y_t)).

    Args:
        step, params, state: the model, with h_0 as for ``unroll.states``.
        sample: ``(key, batch) -> tasks.Batch``, e.g. a task's; called on the host for each step with its own key.
        loss: ``loss(params, state, x, target) -> scalar``.
        steps: how many updates.
        batch: B.
        key: all randomness; the same key gives the same parameters.
        optimizer: an optax transformation; by default the global norm is clipped to 1, then Adam of rate 1e-3.
        chunk: updates between two looks at the numbers; each chunk is one compiled loop.
        progress: called as ``progress("training", i, steps)`` after each chunk.

    Returns:
        ``Fit``. Training stops after the chunk in which a loss or a gradient is not finite and says where.

    Raises:
        ValueError: steps, batch or chunk below 1, or whatever ``sample`` raises.

    Cost: ``steps`` forward and backward passes over B sequences; O(B T n) memory, and the batches of one chunk.

    >>> import jax, optax
    >>> from jaxrnn import cells, tasks, training
    >>> task, cell = tasks.adding(10), cells.with_readout(cells.gru(2, 8), 1)
    >>> params = cell.init_params(jax.random.key(0))
    >>> loss = cells.readout_loss(cell, task.loss)
    >>> found = training.fit(cell.step, params, cell.init_state(params), task.sample, loss, steps=3, batch=4, key=jax.random.key(1))
    >>> found.loss.shape, found.first_nonfinite
    ((3,), 0)
    """
    for name, value in (("steps", steps), ("batch", batch), ("chunk", chunk)):
        require_at(name, value, 1, None, "a number of updates or sequences")
    optimizer = optimizer or default_optimizer()
    opt_state = optimizer.init(params)
    losses: list[np.ndarray] = []
    norms: list[np.ndarray] = []
    first = done = 0
    keys = jax.random.split(key, steps)
    while done < steps and not first:
        part = [sample(k, batch) for k in keys[done : done + chunk]]
        batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *part)
        params, opt_state, seen = _updates(step, params, state, opt_state, batches, loss=loss, optimizer=optimizer)
        loss_seen, norm_seen = (np.asarray(v) for v in seen)
        bad = ~(np.isfinite(loss_seen) & np.isfinite(norm_seen))
        first = done + int(np.argmax(bad)) + 1 if bad.any() else 0
        losses.append(loss_seen)
        norms.append(norm_seen)
        done += len(part)
        if progress is not None:
            progress("training", done, steps)
    return Fit(params, opt_state, np.concatenate(losses), np.concatenate(norms), first)


def evaluate(output: Callable, step: Step, params: PyTree, state: PyTree, batch: Batch, metric: Callable[[Array, PyTree], Array]) -> float:
    """The metric of what a model reads out on one batch: ``metric(output over time (B, T, n_out), targets)``."""
    return float(metric(_predictions(step, params, state, batch.xs, output=output), batch.targets))


@functools.cache  # one object, one compilation
def default_optimizer(rate: float = 1e-3, clip: float = 1.0) -> optax.GradientTransformation:
    """Adam after clipping of the global norm."""
    return optax.chain(optax.clip_by_global_norm(clip), optax.adam(rate))


@compiled("step", "loss", "optimizer")
def _updates(step, params, state, opt_state, batches, *, loss, optimizer):
    def total(params, x, y):
        return jnp.sum(jax.vmap(loss, (None, 0, 0, 0))(params, states(step, params, state, x), x, y))

    def total_to_the_end(params, x, y, end):
        # Masking the sum alone would leave NaN · 0 in the gradient: what lies beyond the end is not read, and the state stands still.
        t = jnp.arange(len(jax.tree.leaves(x)[0]), dtype=end.dtype)
        held = lambda tree: jax.tree.map(lambda leaf: leaf[jnp.minimum(t, end - 1)], tree)
        x = (held(x), t < end)
        after = states(Masked(step), params, state, x)
        return jnp.sum(jax.vmap(MaskedLoss(loss), (None, 0, 0, 0))(params, after, x, held(y)))

    def mean_loss(params, batch):
        if batch.lengths is None:
            return jax.vmap(total, (None, 0, 0))(params, batch.xs, batch.targets).mean()
        return jax.vmap(total_to_the_end, (None, 0, 0, 0))(params, batch.xs, batch.targets, batch.lengths).mean()

    def update(carry, batch):
        params, opt_state = carry
        value, grads = jax.value_and_grad(mean_loss)(params, batch)
        with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to the power of an integer count
            updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), (value, optax.tree.norm(grads))

    (params, opt_state), seen = jax.lax.scan(update, (params, opt_state), batches)
    return params, opt_state, seen


@compiled("step", "output")
def _predictions(step, params, state, xs, *, output):
    one = lambda x: jax.vmap(output, (None, 0, 0))(params, states(step, params, state, x), x)
    return jax.vmap(one)(xs)
