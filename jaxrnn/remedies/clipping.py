"""Gradients cut to a size before the optimizer sees them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

PyTree = Any


def safe_norm(tree: PyTree) -> Array:
    """The Euclidean norm over all leaves, √Σ|x|², whose squares neither overflow nor underflow; 0 for zeros, inf or NaN where an entry is.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.remedies import safe_norm
    >>> [f"{float(safe_norm({'W': jnp.full(4, x, jnp.float32)})):.1e}" for x in (1e30, 1e-30)]
    ['2.0e+30', '2.0e-30']
    """
    peak = _peak(tree)
    size = jnp.where((peak > 0) & jnp.isfinite(peak), peak, 1)
    return jnp.where(jnp.isfinite(peak), peak * optax.tree.norm(optax.tree.scale(1 / size, tree)), peak)


@functools.cache  # one object, one compilation
def clip_by_norm(threshold: float = 1.0) -> optax.GradientTransformation:
    """G ← g min(1, threshold/‖g‖), the norm over all leaves: ``optax.clip_by_global_norm`` that survives a norm beyond the range of floats.

    An exploding gradient of 1e25 has squares beyond float32, though its direction is good; scaled by its largest entry first it is clipped
    like any other.

    Source: Pascanu, Mikolov, Bengio 2013, algorithm 1.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> clip = remedies.clip_by_norm(1.0)
    >>> [float(clip.update(jnp.full(1, g, jnp.float32), clip.init(None))[0][0]) for g in (0.5, 1e30)]
    [0.5, 1.0]
    """

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        peak = _peak(updates)
        scale = jnp.where(peak > threshold, peak, 1)
        small = optax.tree.scale(1 / scale, updates)
        norm = optax.tree.norm(small)  # of entries at most 1, or at most the threshold
        factor = jnp.minimum(scale, threshold / jnp.where(norm > 0, norm, 1))
        return optax.tree.scale(jnp.where(norm > 0, factor, 1), small), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _peak(tree: PyTree) -> Array:
    """The largest entry in absolute value; finite ones at most a quarter of the range, so that 1/peak is a normal number."""
    peaks = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    peak = functools.reduce(jnp.maximum, [peak.astype(jnp.result_type(*peaks)) for peak in peaks])
    return jnp.where(jnp.isfinite(peak), jnp.minimum(peak, jnp.finfo(peak.dtype).max / 8), peak)
