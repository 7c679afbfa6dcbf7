"""How a frame of vectors is orthonormalised, how much it grew, and how large a vector is without overflow."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any


class Orthonormalised(NamedTuple):
    """A frame (n, k) = Q R and what its diagonal says."""

    frame: Array  # Q (n, k), orthonormal columns
    log_growth: Array  # (k,) log|R_ii| in nats, -inf where lost
    lost: Array  # (k,) bool: |R_ii| <= n·eps·‖column i‖, the direction died or drowned in rounding


def orthonormalise(frame: Array) -> Orthonormalised:
    """Householder QR of a frame (n, k); O(n k²), one LAPACK call, batched under vmap.

    Differentiable: a lost direction passes no derivative on, instead of the NaN of dividing by R_ii = 0.
    """
    n = frame.shape[0]
    # Scaled by a power of two, which rounds nothing, so that the norms of columns neither overflow nor underflow.
    exponent = jax.lax.stop_gradient(jnp.frexp(jnp.max(jnp.abs(frame)))[1])
    q, r = _qr(jnp.ldexp(frame, -exponent))
    diagonal, lost = jnp.abs(jnp.diagonal(r)), _lost(r, n)
    log_growth = jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, 1, diagonal)) + exponent.astype(frame.dtype) * math.log(2))
    return Orthonormalised(q, log_growth, lost)


@jax.custom_jvp
def _qr(frame: Array) -> tuple[Array, Array]:
    q, r = jnp.linalg.qr(frame)
    return q, r


@_qr.defjvp
def _qr_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """DR = (C − Ω) R, dQ = dA R⁻¹ − Q (C − Ω), C = Qᵀ dA R⁻¹, Ω = tril(C) − tril(C)ᵀ, with lost columns of A held fixed."""
    (frame,), (d_frame,) = primals, tangents
    q, r = _qr(frame)
    lost = _lost(r, frame.shape[0])
    safe = jnp.where(lost, jnp.eye(r.shape[0], dtype=r.dtype), r)  # as if column i had been q_i
    da_rinv = jax.lax.linalg.triangular_solve(safe, jnp.where(lost, 0, d_frame))
    c = q.T @ da_rinv
    lower = jnp.tril(c, -1)
    upper = c - (lower - lower.T)
    return (q, r), (da_rinv - q @ upper, upper @ safe)


def _lost(r: Array, n: int) -> Array:
    """Whether each pivot lies below the rounding error of its column: it says nothing of the dynamics."""
    return jnp.abs(jnp.diagonal(r)) <= n * jnp.finfo(r.dtype).eps * jnp.linalg.norm(r, axis=0)


def random_frame(n: int, k: int, dtype: jnp.dtype) -> Array:
    """A fixed random orthonormal frame (n, k): a coordinate frame can hide living directions of a structured map.

    Drawn in float32 whatever the dtype, so that float32 and float64 start alike.
    """
    return jnp.linalg.qr(jax.random.normal(jax.random.key(0), (n, k), jnp.float32).astype(dtype))[0]


def rescale(array: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """(array / ‖array‖, log‖array‖), the norm over ``axes``; zero stays zero with log −inf, NaN stays NaN.

    The largest entry is divided out first, so that squares neither overflow nor underflow.
    """
    largest = jnp.max(jnp.abs(array), axis=axes, keepdims=True)
    scaled = array / jnp.where(largest == 0, 1, largest)
    square = jnp.sum(scaled**2, axis=axes, keepdims=True)
    norm = jnp.sqrt(jnp.where(square == 0, 1, square))  # the derivative of √ at 0 would be infinite, its product with 0 NaN
    return scaled / norm, jnp.squeeze(_log(largest) + jnp.log(norm), axes)


def log_norm(array: Array, axes: tuple[int, ...]) -> Array:
    """log‖array‖ over ``axes`` without overflow; −inf for zero."""
    return rescale(array, axes)[1]


def joint_log_norm(log_norms: PyTree) -> Array:
    """Log of the norm over all leaves, from the logs of the leaves' norms."""
    return 0.5 * jax.nn.logsumexp(2 * jnp.stack(jax.tree.leaves(log_norms)), axis=0)


def _log(x: Array) -> Array:
    """Log x with log 0 = −inf whose derivative there is 0, not NaN."""
    return jnp.where(x == 0, -jnp.inf, jnp.log(jnp.where(x == 0, 1, x)))
