"""Nonsymmetric eigenvalues and Schur forms: LAPACK's on the CPU; on an accelerator, where jax has them not or not always, the host's."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@jax.custom_jvp
def eigvals(matrices: Array) -> Array:
    """Eigenvalues (..., n), complex, in no order, of square matrices (..., n, n); NaN where a matrix is not finite."""
    return _by_platform(jnp.linalg.eigvals, np.linalg.eigvals, matrices.shape[-1:], matrices)


@eigvals.defjvp
def _eigvals_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The derivative of A V = V Λ is dΛ = diag(V⁻¹ dA V); a callback has none of its own."""
    (matrices,), (moved,) = primals, tangents
    n = matrices.shape[-1]
    found = _by_platform(lambda a: _stacked(jnp, *jnp.linalg.eig(a)), lambda a: _stacked(np, *np.linalg.eig(a)), (n + 1, n), matrices)
    values, vectors = found[..., 0, :], found[..., 1:, :]
    turned = jnp.linalg.solve(vectors, moved.astype(vectors.dtype) @ vectors)
    return values, jnp.diagonal(turned, axis1=-2, axis2=-1)


def schur_form(matrices: Array) -> Array:
    """Upper triangular T (..., n, n), complex, of A = U T Uᴴ; NaN where a matrix is not finite."""
    lapack = lambda a: jax.lax.linalg.schur(a, compute_schur_vectors=False)[0]
    return _by_platform(lapack, host_schur, matrices.shape[-2:], as_complex(matrices))


def host_schur(matrix: np.ndarray) -> np.ndarray:
    """SciPy's Schur form of one matrix (n, n)."""
    import scipy.linalg  # type: ignore[import-untyped]  # here: it would slow the import of the library

    return scipy.linalg.schur(matrix, output="complex")[0]


def on_host(function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], matrices: Array) -> Array:
    """A NumPy function (n, n) -> ``shape`` of each matrix (..., n, n), called from a compiled program; the result complex."""
    dtype = np.result_type(matrices.dtype, np.complex64)
    out = jax.ShapeDtypeStruct((*matrices.shape[:-2], *shape), dtype)
    return jax.pure_callback(partial(_each, function, shape, dtype), out, matrices, vmap_method="broadcast_all")


def _each(function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], dtype: np.dtype, matrices: Array) -> np.ndarray:
    """The function matrix by matrix; NaN, as LAPACK through jax, where one is not finite or the iteration does not converge."""
    given = np.asarray(matrices)
    out = np.full((*given.shape[:-2], *shape), np.nan, dtype)
    for i in np.ndindex(given.shape[:-2]):
        if np.isfinite(given[i]).all():
            try:
                out[i] = function(given[i])
            except np.linalg.LinAlgError:
                continue
    return out


def _by_platform(lapack: Callable[[Array], Array], host: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], matrices: Array) -> Array:
    return jax.lax.platform_dependent(matrices, cpu=lapack, default=partial(on_host, host, shape))


def _stacked(xp, values, vectors):
    """Eigenvalues as row 0 above their eigenvectors, (..., n + 1, n)."""
    return xp.concatenate([values[..., None, :], vectors], -2)


def as_complex(values: Array) -> Array:
    """The same numbers as complex ones of the same precision."""
    values = values if jnp.issubdtype(values.dtype, jnp.inexact) else values.astype(jnp.float32)
    return values if jnp.iscomplexobj(values) else jax.lax.complex(values, jnp.zeros_like(values))


def require_square(matrices: Array) -> Array:
    """The matrices as an array (..., n, n); raises otherwise."""
    matrices = jnp.asarray(matrices)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"matrices have shape {matrices.shape}; the last two axes must be equal (..., n, n)")
    return matrices
