"""What gradients do in somebody's own training loop: an optax transformation that looks at them and passes them on."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn._border import require_at
from jaxrnn._frames import joint_log_norm, log_norm
from jaxrnn.remedies import safe_norm

PyTree = Any


class Record(NamedTuple):
    """The state of ``recorder``: arrays, of the default float dtype."""

    updates: Array  # int32, so far
    log_norms: Array  # (history,) log‖gradient‖ of the last updates, nats; that of update i, from 0, at i modulo history
    above: Array  # int32, updates whose norm was above the threshold
    nonfinite: Array  # int32, updates whose norm was not finite
    first_nonfinite: Array  # int32, the first of them, from 1; 0 while there is none
    log_profile: Array  # (length,) of the last update that had a probe; NaN before


class Recorded(NamedTuple):
    """A ``Record`` in plain numbers."""

    updates: int  # so far
    log_norms: np.ndarray  # log‖gradient‖ before clipping, nats, of the last updates, the oldest first
    norm: float  # ‖gradient‖ of the last one; NaN before the first
    share: float  # of all updates, those whose norm was above the threshold; NaN before the first
    nonfinite: int  # updates whose norm was not finite
    first_nonfinite: int | None  # the first of them, counted from 1
    log_profile: np.ndarray | None  # (length,) log √(mean over the batch of ‖∂L_b/∂h_t‖²) for t = 1..length, nats; None without a probe


def recorder(threshold: float | Array = 1.0, *, history: int = 100, length: int | None = None) -> optax.GradientTransformationExtraArgs:
    """An optax transformation that changes nothing and keeps what it sees; first in a chain it sees gradients before they are clipped.

    With a probe it also keeps the gradient on its way back through time: add zeros e (B, T, …) to the states of the model's own scan,
    h_t = step(θ, h_{t−1}, x_t) + e_t, and ∂L/∂e_t is ∂L/∂h_t; hand that to ``update(gradient, state, params, probe=…)``.

    Args:
        threshold: of the norm over all leaves, as that of ``optax.clip_by_global_norm``.
        history: how many norms to keep.
        length: T of the probes; None without.

    Returns:
        A transformation with state ``Record``, under jit, vmap, scan and inside other transformations; ``recorded`` reads it.
        ``probe`` is a pytree with leaves (B, T, …), one sequence (1, T, …); L is the mean over the batch of L_b.

    Raises:
        ValueError: history or length below 1; a probe of another length.

    Cost: a pass over the gradient and the probe; memory of history + length numbers.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from jaxrnn import training
    >>> optimizer = optax.chain(training.recorder(threshold=1.0), optax.clip_by_global_norm(1.0), optax.sgd(0.1))
    >>> params = jnp.zeros(2)
    >>> state = optimizer.init(params)
    >>> for size in (0.1, 1e30):
    ...     updates, state = optimizer.update(jnp.array([3.0, 4.0]) * size, state, params)
    >>> found = training.recorded(state)
    >>> found.updates, found.share, round(float(found.log_norms[0]), 3)  # ln 0.5
    (2, 0.5, -0.693)
    """
    require_at("history", history, 1, None, "the number of norms to keep")
    if length is not None:
        require_at("length", length, 1, None, "the number of steps of a probe")

    def init(params: PyTree) -> Record:
        zero = jnp.zeros((), jnp.int32)
        return Record(zero, jnp.full(history, jnp.nan), zero, zero, zero, jnp.full(length or 0, jnp.nan))

    def update(updates: PyTree, state: Record, params: PyTree = None, *, probe: PyTree = None, **others: Any) -> tuple[PyTree, Record]:
        norm = safe_norm(updates)
        finite, count = jnp.isfinite(norm), state.updates + 1
        log = jnp.log(jnp.where(norm > 0, norm, 1)).astype(state.log_norms.dtype)
        log = jnp.where(norm == 0, -jnp.inf, jnp.where(jnp.isnan(norm), jnp.nan, log))
        return updates, Record(
            count,
            state.log_norms.at[state.updates % history].set(log),
            state.above + (norm > threshold).astype(jnp.int32),
            state.nonfinite + (~finite).astype(jnp.int32),
            jnp.where((state.first_nonfinite == 0) & ~finite, count, state.first_nonfinite),
            state.log_profile if probe is None else _of_probe(probe, length).astype(state.log_profile.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def recorded(state: PyTree) -> Recorded:
    """What the one ``recorder`` in an optimizer's state has seen, in plain numbers.

    Args:
        state: of any optax transformation, however nested; of several seeds, one seed's.

    Raises:
        ValueError: no record or several in it, or that of several seeds.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import training
    >>> training.recorded((training.recorder().init(jnp.zeros(2)),)).updates
    0
    """
    is_record = lambda node: isinstance(node, Record)
    found = [node for node in jax.tree.leaves(state, is_leaf=is_record) if is_record(node)]
    if len(found) != 1:
        said = "is no record; put training.recorder() into optax.chain" if not found else f"are {len(found)} records; give the part with one"
        raise ValueError(f"in this state of an optimizer there {said}")
    record = found[0]
    if np.ndim(record.updates):
        raise ValueError(f"the record is that of {np.shape(record.updates)} optimizers; take one: jax.tree.map(lambda leaf: leaf[0], state)")
    updates, ring, profile = int(record.updates), np.asarray(record.log_norms), np.asarray(record.log_profile)
    log_norms = np.roll(ring, -updates)[-updates:] if updates else ring[:0]
    with np.errstate(over="ignore"):
        norm = float(np.exp(log_norms[-1])) if updates else math.nan
    return Recorded(
        updates,
        log_norms,
        norm,
        int(record.above) / updates if updates else math.nan,
        int(record.nonfinite),
        int(record.first_nonfinite) or None,
        None if np.isnan(profile).all() else profile,
    )


def log_profile(gradients: PyTree) -> Array:
    """Log √(mean over the batch of ‖∂L_b/∂h_t‖²), (T,), of the gradients of each sequence's own loss, leaves (B, T, …); −inf where they are zero."""
    size = len(jax.tree.leaves(gradients)[0])
    logs = [log_norm(leaf.reshape(*leaf.shape[:2], -1), (0, 2)) for leaf in jax.tree.leaves(gradients)]
    return joint_log_norm(logs) - 0.5 * jnp.log(float(size)).astype(logs[0].dtype)


def _of_probe(probe: PyTree, length: int | None) -> Array:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(probe)]
    if any(len(shape) < 2 or shape[:2] != (shapes[0][0], length) for shape in shapes):
        told = "told no length" if length is None else f"told length={length}"
        raise ValueError(f"the leaves of a probe are (B, T, ...), one sequence (1, T, ...), T the recorder's length; it was {told}, given {shapes}")
    logs = log_profile(probe)
    return logs + jnp.log(float(shapes[0][0])).astype(logs.dtype)  # ∂L/∂h_t of the mean is 1/B of ∂L_b/∂h_t
