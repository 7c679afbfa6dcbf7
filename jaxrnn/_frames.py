"""How a frame of vectors is orthonormalised, how much it grew, and how large a vector is without overflow."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

PyTree = Any


class Orthonormalised(NamedTuple):
    """A frame (n, k) = Q R and what its diagonal says."""

    frame: Array  # Q (n, k), orthonormal columns
    log_growth: Array  # (k,) log|R_ii| in nats, -inf where lost
    lost: Array  # (k,) bool: |R_ii| <= n·eps·‖column i‖, the direction died or drowned
    rounding: Array  # (k,) eps·‖column i‖ / |R_ii|: the relative error of R_ii to first order; 1 / n and more where lost


def orthonormalise(frame: Array) -> Orthonormalised:
    """Householder QR of a frame (n, k); O(n k²), one LAPACK call, batched under vmap.

    Differentiable: a lost direction passes no derivative on, instead of the NaN of dividing by R_ii = 0.
    """
    n, k = frame.shape
    if k == 1:
        return _normalise(frame)
    # Scaled by a power of two, which rounds nothing, so that the norm of the longest column neither overflows nor underflows; one that is
    # shorter by more than the range of a square counts as lost. By a factor: ldexp of the frame has no second derivative in a scan.
    top = int(jnp.finfo(frame.dtype).maxexp) - 2
    exponent = jnp.clip(jax.lax.stop_gradient(jnp.frexp(jnp.max(jnp.abs(frame)))[1]), -top, top)
    q, r = _qr(frame * jax.lax.stop_gradient(jnp.ldexp(jnp.ones((), frame.dtype), -exponent)))
    diagonal, lost = jnp.abs(jnp.diagonal(r)), _lost(r, n)
    pivot = jnp.where(lost, 1, diagonal)
    log_growth = jnp.where(lost, -jnp.inf, jnp.log(pivot) + exponent.astype(frame.dtype) * math.log(2))
    return Orthonormalised(q, log_growth, lost, jax.lax.stop_gradient(_rounding(jnp.linalg.norm(r, axis=0), diagonal)))


@jax.custom_jvp
def renormalise(frame: Array, departure: ArrayLike) -> Orthonormalised:
    """A frame (n, k) = Q R, panel by panel: quicker than ``orthonormalise``, and rougher.

    From each panel of columns what lies in the span of those before is taken once, P ← P − Q Qᵀ P (block Gram–Schmidt); then
    RᵀR = PᵀP by Cholesky and Q = P R⁻¹. A = Q R holds to the rounding of each column, as in Householder's; but QᵀQ = I only to
    n·eps·(‖column‖ / R_ii + (‖what is left of it‖ / R_ii)²). What Q lacks is part of the next frame J Q and so of the next R:
    over steps the logs of R_ii telescope, and nothing is lost if ``orthonormalise`` ends the sum. Where that estimate, or
    QᵀQ z − z for two random z, exceeds ``departure`` (at most 1/8), or columns are dead, NaN or overflow, Householder does it instead.
    """
    if frame.shape[1] == 1:
        return _normalise(frame)
    return _renormalised(frame, jnp.asarray(departure, frame.dtype))


@renormalise.defjvp
def _renormalise_jvp(primals: tuple[Array, ArrayLike], tangents: tuple[Array, ArrayLike]) -> tuple[Orthonormalised, Orthonormalised]:
    return jax.jvp(orthonormalise, primals[:1], tangents[:1])


@jax.custom_batching.custom_vmap
def _renormalised(frames: Array, departure: Array) -> Orthonormalised:
    """``renormalise`` of frames (..., n, k) at once; one that is not safe sends all of a batch to Householder.

    The choice must stay a conditional under vmap: batched, it would compute both sides always.
    """
    n, k = frames.shape[-2:]
    transposed = lambda a: jnp.swapaxes(a, -1, -2)
    # Laid out anew where small: a product with a transposed left side is not inlined on CPU.
    flipped = (lambda a: jax.lax.optimization_barrier(transposed(a))) if n <= 64 else transposed
    panels: list[tuple[Array, Array, Array]] = []
    for start, stop in _panels(k):
        panel = frames[..., start:stop]
        if panels:
            before = jnp.concatenate([q for q, *_ in panels], -1)
            panel = panel - before @ (flipped(before) @ panel)
        gram = flipped(panel) @ panel
        lower = jax.lax.linalg.cholesky(gram, symmetrize_input=False)
        q = jax.lax.linalg.triangular_solve(lower, panel, left_side=False, lower=True, transpose_a=True)
        panels.append((q, _diagonal(lower), jnp.sqrt(_diagonal(gram))))
    q, pivot, left = (jnp.concatenate(parts, -1) for parts in zip(*panels, strict=True))
    size = jnp.sqrt(jnp.sum(frames**2, -2)) if len(panels) > 1 else left
    eps = jnp.finfo(frames.dtype).eps
    bound = n * eps * (size / pivot + (left / pivot) ** 2)
    # Pivots may hide a bad condition (Kahan's matrix): the outcome is probed, too, at the price of two vectors.
    probe = jnp.asarray(np.random.default_rng(0).standard_normal((k, 1)), frames.dtype)
    error = jnp.max(jnp.abs(flipped(q) @ (q @ probe) - probe), axis=(-2, -1))
    safe = jnp.all(bound < departure[..., None]) & jnp.all(error < departure) & jnp.all(jnp.isfinite(size))  # false where Cholesky failed, too: NaN
    quick = Orthonormalised(q, jnp.log(pivot), jnp.zeros(pivot.shape, bool), eps * size / pivot)
    each = orthonormalise
    for _ in range(frames.ndim - 2):
        each = jax.vmap(each)
    return jax.lax.cond(safe, lambda _: quick, each, frames)


@_renormalised.def_vmap
def _renormalised_batch(size: int, batched: list[bool], frames: Array, departure: Array) -> tuple[Orthonormalised, Orthonormalised]:
    frames, departure = (part if b else jnp.broadcast_to(part, (size, *part.shape)) for part, b in zip((frames, departure), batched, strict=True))
    return _renormalised(frames, departure), jax.tree.map(lambda _: True, Orthonormalised(*range(4)))


def _diagonal(matrices: Array) -> Array:
    return jnp.diagonal(matrices, axis1=-2, axis2=-1)


def _panels(k: int) -> list[tuple[int, int]]:
    """First and last column of panels of equal width: 32 columns, which fit a cache, but at most 8 panels to compile."""
    count = max(1, min(8, round(k / 32)))
    edges = [round(i * k / count) for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def _normalise(column: Array) -> Orthonormalised:
    """Q and R of one column (n, 1); a zero one is lost and becomes the first coordinate."""
    unit, log = rescale(column, (0,))
    lost = log == -jnp.inf
    eps = jnp.full(1, jnp.finfo(column.dtype).eps, column.dtype)
    return Orthonormalised(jnp.where(lost, jnp.eye(len(column), 1, dtype=column.dtype), unit), log, lost, jnp.where(lost, jnp.inf, eps))


def _rounding(size: Array, pivot: Array) -> Array:
    eps = jnp.finfo(size.dtype).eps
    return jnp.where(pivot == 0, jnp.inf, eps * size / jnp.where(pivot == 0, 1, pivot))


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


def quick_log_norm(array: Array, side: int) -> Array:
    """Log of the norm of all entries, real or complex, in one pass without a search for the largest; −inf for zero.

    Squares are summed after a scaling by a power of two. ``side`` = 1 is right for norms from 1e-32 to 4e3 (float32), 1e-270 to
    1e31 (float64), and inf above; ``side`` = −1 goes on to 1e34 and 1e277.
    """
    dtype = jnp.finfo(array.dtype).dtype
    shift = side * int(0.4 * jnp.finfo(dtype).maxexp)
    parts = (array.real, array.imag) if jnp.iscomplexobj(array) else (array,)
    square = sum(jnp.sum((part * jnp.asarray(2.0**shift, dtype)) ** 2) for part in parts)
    return 0.5 * _log(jnp.asarray(square)) - jnp.asarray(shift * math.log(2), dtype)


def joint_log_norm(log_norms: PyTree) -> Array:
    """Log of the norm over all leaves, from the logs of the leaves' norms."""
    return 0.5 * jax.nn.logsumexp(2 * jnp.stack(jax.tree.leaves(log_norms)), axis=0)


def _log(x: Array) -> Array:
    """Log x with log 0 = −inf whose derivative there is 0, not NaN."""
    return jnp.where(x == 0, -jnp.inf, jnp.log(jnp.where(x == 0, 1, x)))
