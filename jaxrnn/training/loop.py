"""The compiled inside of training: some updates in one loop, for one seed or several, and what is seen on the way."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxrnn.flow import Loss, nudged
from jaxrnn.linearize import Step
from jaxrnn.remedies import Pass, Penalty, safe_norm
from jaxrnn.tasks import Batch
from jaxrnn.unroll import masked, states, truncated

PyTree = Any


class Seen(NamedTuple):
    """One update, as a monitor sees it."""

    params: PyTree  # before the update
    updates: PyTree  # what is added to them
    gradient: PyTree  # of loss and penalty, as params, before clipping
    gradient_norm: Array  # its Euclidean norm over all leaves
    loss: Array  # mean over the batch of Σ_t loss, without the penalty
    batch: Pass  # the batch, its states and ∂L/∂h_t


class Monitor(NamedTuple):
    """Something to look at during training. Equal monitors compile once."""

    measure: Callable[[Step, Seen], PyTree]  # hashable; arrays whose shapes do not depend on data
    every: int = 1  # at the updates that this divides


class Spec(NamedTuple):
    """All of a training that is code, not numbers; the static argument of ``advance``."""

    step: Step
    loss: Loss
    sample: Callable[[Array, int], Batch] | None  # None: the batches are given
    batch: int
    optimizer: optax.GradientTransformation
    penalty: Penalty | None
    truncate: int | None
    monitors: tuple[tuple[str, Monitor], ...]
    skip: bool  # go on after an update that was not finite, without it


class Carry(NamedTuple):
    """What one update hands to the next; with seeds each leaf has them on axis 0."""

    params: PyTree
    optimizer: PyTree
    alive: Array  # bool: goes on
    done: Array  # int32, updates attempted
    finite: Array  # bool: none has been without finite loss, gradient and update, or they were skipped


def forward(spec: Spec, params: PyTree, state: PyTree, batch: Batch) -> tuple[Array, PyTree, Pass]:
    """The mean loss over the batch, its gradient, and the pass: states and ∂L/∂h_t, which cost nothing where nobody reads them."""
    size, length = jax.tree.leaves(batch.targets)[0].shape[:2]
    run = states if spec.truncate is None else functools.partial(truncated, every=spec.truncate)
    step, xs, targets, loss = spec.step, batch.xs, batch.targets, jax.vmap(spec.loss, (None, 0, 0, 0))
    keep = None
    if batch.lengths is not None:
        # Beyond the end nothing is read, whatever stands there: the state keeps still, and the last valid input and target are held.
        keep = jnp.arange(length, dtype=batch.lengths.dtype) < batch.lengths[:, None]
        hold = lambda leaf: jax.vmap(lambda row, end: row[jnp.minimum(jnp.arange(length, dtype=end.dtype), end - 1)])(leaf, batch.lengths)
        xs, targets = jax.tree.map(hold, (xs, targets))
        step = masked(step)

    def total(params: PyTree, start: PyTree, nudges: PyTree) -> tuple[Array, PyTree]:
        inputs = xs if keep is None else (xs, keep)
        follow = lambda h, x, e: run(nudged(step), params, h, (x, e))
        hs = jax.vmap(follow)(start, inputs, nudges)
        values = jax.vmap(lambda h, x, y: loss(params, h, x, y))(hs, xs, targets)
        values = values if keep is None else jnp.where(keep, values, jnp.zeros_like(values))
        return values.sum() / size, hs

    zeros = lambda *axes: jax.tree.map(lambda leaf: jnp.zeros((*axes, *jnp.shape(leaf)), jnp.result_type(leaf)), state)
    start = jax.tree.map(lambda leaf, zero: leaf + zero, state, zeros(size))
    (value, hs), (gradient, at_start, at_states) = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(params, start, zeros(size, length))
    whole = jax.tree.map(lambda first, rest: size * jnp.concatenate([first[:, None], rest], 1), at_start, at_states)
    seen = Pass(xs, state, hs, whole, batch.lengths, jnp.zeros((), jnp.int32))
    return value, gradient, jax.lax.stop_gradient(seen)


def update(spec: Spec, state: PyTree, number: Array, carry: Carry, batch: Batch) -> tuple[Carry, Seen]:
    """One update; where loss, gradient or update is not finite the parameters stay."""
    value, gradient, seen = forward(spec, carry.params, state, batch)
    seen = seen._replace(update=number)
    if spec.penalty is not None:
        extra = jax.grad(spec.penalty, 1)(spec.step, carry.params, seen)
        gradient = jax.tree.map(jnp.add, gradient, extra)
    gradient = jax.tree.map(jnp.conj, gradient)  # JAX's ∂/∂re − i ∂/∂im of a complex leaf points the other way along the imaginary axis
    norm = safe_norm(gradient)
    with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to the power of an integer count
        updates, optimizer = spec.optimizer.update(gradient, carry.optimizer, carry.params)
    sound = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates)]).all()
    finite = jnp.isfinite(value) & jnp.isfinite(norm) & sound
    proceed = carry.alive & finite
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(proceed, a, b), new, old)
    after = Carry(
        keep(optax.apply_updates(carry.params, updates), carry.params),
        keep(optimizer, carry.optimizer),
        carry.alive if spec.skip else proceed,
        carry.done + carry.alive.astype(jnp.int32),
        carry.finite if spec.skip else carry.finite & (finite | ~carry.alive),
    )
    return after, Seen(carry.params, updates, gradient, norm, value, seen)


@functools.partial(jax.jit, static_argnames=("spec", "chunk", "over"))
def advance(spec: Spec, carry: Carry, keys: Array, state: PyTree, first: Array, count: Array, batches: Any, *, chunk: int, over: str | None) -> Any:
    """``count`` updates (at most ``chunk``) after the ``first`` ones, and what was seen: name -> (chunk or fewer, ...), NaN where nothing was.

    One program whatever ``first`` and ``count`` are, so that the numbers do not depend on where a run is cut. ``over``: None for one seed, "map"
    for one after the other, "vmap" for side by side.
    """

    def draw(i: Array, key: Array, given: Any) -> Batch:
        if spec.sample is None:
            return jax.tree.map(lambda leaf: leaf[i], given)
        return spec.sample(jax.random.fold_in(key, first + i), spec.batch)

    def one(i: Array, carry: Carry, buffers: dict, key: Array, given: Any) -> tuple[Carry, dict]:
        number = first + i
        after, seen = update(spec, state, number, carry, draw(i, key, given))
        put = lambda slot, value, buffer: jax.tree.map(lambda b, v: b.at[slot].set(jnp.where(carry.alive, v, b[slot])), buffer, value)
        # What belongs to a seed that has stopped stays as it was.
        buffers = dict(buffers, **{name: put(i, getattr(seen, name), buffers[name]) for name in ("loss", "gradient_norm")})
        for name, monitor in spec.monitors:
            slot = (number + 1) // monitor.every - first // monitor.every - 1
            # Closed over, not handed on: what this monitor does not read is not computed for its sake.
            look = functools.partial(lambda monitor, slot, buffer: put(slot, monitor.measure(spec.step, seen), buffer), monitor, slot)
            hit = (number + 1) % monitor.every == 0
            buffers[name] = look(buffers[name]) if monitor.every == 1 else jax.lax.cond(hit, look, lambda buffer: buffer, buffers[name])
        return after, buffers

    def loop(body: Callable, carry: Carry, key: Array, given: Any, buffers: dict) -> tuple[Carry, dict]:
        go = lambda at: (at[0] < count) & jnp.any(at[1].alive)
        turn = lambda at: (at[0] + 1, *body(at[0], at[1], at[2], key, given))
        return jax.lax.while_loop(go, turn, (jnp.zeros((), jnp.int32), carry, buffers))[1:]

    pick = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
    alone = (carry, keys, batches) if over is None else pick((carry, keys, batches))
    buffers = _buffers(spec, state, alone, draw, chunk)
    if over is None:
        return loop(one, carry, keys, batches, buffers)
    if over == "map":
        return jax.lax.map(lambda at: loop(one, at[0], at[1], at[2], buffers), (carry, keys, batches))
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*keys.shape, *leaf.shape)), buffers)
    return loop(jax.vmap(one, (None, 0, 0, 0, 0)), carry, keys, batches, many)


def _buffers(spec: Spec, state: PyTree, alone: tuple, draw: Callable, chunk: int) -> dict[str, PyTree]:
    """Room for what one seed's chunk shows."""
    carry, key, given = alone
    zero = jnp.zeros((), jnp.int32)
    _, seen = jax.eval_shape(lambda: update(spec, state, zero, carry, draw(zero, key, given)))

    def room(rows: int, like: Any) -> Array:
        return jnp.full((rows, *like.shape), jnp.nan if jnp.issubdtype(like.dtype, jnp.inexact) else 0, like.dtype)

    rooms = {"loss": room(chunk, seen.loss), "gradient_norm": room(chunk, seen.gradient_norm)}
    for name, monitor in spec.monitors:
        shapes = jax.eval_shape(functools.partial(monitor.measure, spec.step), seen)
        rooms[name] = jax.tree.map(functools.partial(room, chunk // monitor.every + 1), shapes)
    return rooms
