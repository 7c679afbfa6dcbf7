"""How a frame of vectors is orthonormalised, how much it grew, and how large a vector is without overflow."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Orthonormalised(NamedTuple):
    """A frame (n, k) = Q R and what its diagonal says."""

    frame: Array  # Q (n, k), orthonormal columns
    log_growth: Array  # (k,) log|R_ii| in nats, -inf where lost
    lost: Array  # (k,) bool: |R_ii| <= n·eps·‖column i‖, the direction died or drowned in rounding


def orthonormalise(frame: Array) -> Orthonormalised:
    """Householder QR of a frame (n, k); O(n k²), one LAPACK call, batched under vmap."""
    n = frame.shape[0]
    q, r = jnp.linalg.qr(frame)
    diagonal = jnp.abs(jnp.diagonal(r))
    # ‖column i‖ is ‖R[:, i]‖; a pivot below its rounding error carries no information about the dynamics.
    lost = diagonal <= n * jnp.finfo(frame.dtype).eps * jnp.linalg.norm(r, axis=0)
    log_growth = jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, 1, diagonal)))
    return Orthonormalised(q, log_growth, lost)


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


def _log(x: Array) -> Array:
    """Log x with log 0 = −inf whose derivative there is 0, not NaN."""
    return jnp.where(x == 0, -jnp.inf, jnp.log(jnp.where(x == 0, 1, x)))
