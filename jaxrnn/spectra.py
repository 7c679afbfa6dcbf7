"""Eigenvalues and singular values of Jacobians, jitted and batched over all leading axes."""

import jax
import jax.numpy as jnp
from jax import Array


@jax.jit
def eigenvalues(matrices: Array) -> Array:
    """Eigenvalues of square matrices, largest modulus first.

    Args:
        matrices: (..., n, n), for instance ``linearize.jacobians``.

    Returns:
        (..., n) complex, by descending modulus.

    Raises:
        ValueError: if the last two axes differ.

    Cost: O(n³) each, one LAPACK call per matrix (about 80 ms at n = 256): stride over time where T is long. They say
    nothing of a product of different matrices (see the README's counterexamples). NaN where a matrix is not finite.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> print(abs(spectra.eigenvalues(jnp.array([[0., 4.], [-1., 0.]]))).round(5))
    [2. 2.]
    """
    matrices = _require_square(matrices)
    largest = jnp.max(jnp.abs(matrices), axis=(-2, -1), keepdims=True)
    # LAPACK rescales very large and very small matrices, and jax 0.10 does not undo it (float32: beyond about 1e±12).
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    values = jnp.linalg.eigvals(matrices / scale)
    values = values * scale[..., 0].astype(values.dtype)
    order = jnp.argsort(-jnp.abs(values), axis=-1)
    return jnp.take_along_axis(values, order, -1)


@jax.jit
def spectral_radius(matrices: Array) -> Array:
    """ρ = max|eigenvalue| of square matrices (..., n, n), as (...); cost and caveats as ``eigenvalues``.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> float(spectra.spectral_radius(jnp.diag(jnp.array([-3., 2.]))))
    3.0
    """
    return jnp.abs(eigenvalues(matrices))[..., 0]


@jax.jit
def singular_values(matrices: Array) -> Array:
    """Singular values of matrices (..., m, n), descending, as (..., min(m, n)).

    Cost: O(n³) each, one LAPACK call per matrix. Not for explicit products of many factors: the small ones drown.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> [round(float(s), 6) for s in spectra.singular_values(jnp.array([[0., 4.], [-1., 0.]]))]
    [4.0, 1.0]
    """
    return jnp.linalg.svd(jnp.asarray(matrices), compute_uv=False)


def _require_square(matrices: Array) -> Array:
    matrices = jnp.asarray(matrices)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"matrices have shape {matrices.shape}; the last two axes must be equal (..., n, n)")
    return matrices
