"""Eigenvalues and singular values of Jacobians, and how they move in time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn.spectra.lapack import eigvals, require_square


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
    On an accelerator the host computes them, through a callback; that path was tested on a CPU, not run on an accelerator.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> print(abs(spectra.eigenvalues(jnp.array([[0., 4.], [-1., 0.]]))).round(5))
    [2. 2.]
    """
    matrices = require_square(matrices)
    largest = jnp.max(jnp.abs(matrices), axis=(-2, -1), keepdims=True)
    # LAPACK rescales very large and very small matrices, and jax 0.10 does not undo it (float32: beyond about 1e±12).
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    values = eigvals(matrices / scale)
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


def tracks(eigenvalues: ArrayLike) -> np.ndarray:
    """Eigenvalues over time, sorted so that each column follows one of them.

    Row by row the order in which the sum of the distances to the row before is least (the assignment problem).

    Args:
        eigenvalues: (T, n) complex or real, each row in any order, for instance ``eigenvalues(jacobians)``.

    Returns:
        (T, n) NumPy array: every row a permutation of the one given, the first row unchanged. A row with a NaN or an infinity
        stays as it is, and the next one follows the last that was finite.

    Raises:
        ValueError: not two axes.

    A host function. Cost: O(T n³), about 1 ms a step at n = 100. It knows places, not velocities: where two come closer to
    each other than they move in a step, they may change columns; two that pass through each other on a line always do, and
    look as if they had bounced. A real pair that collides and leaves the axis goes on in either order.

    Source: Kuhn 1955; Crouse 2016 (SciPy's linear_sum_assignment).

    >>> from jaxrnn import spectra
    >>> spectra.tracks([[2.0, 1.0], [1.1, 2.1], [2.2, 1.2]]).tolist()
    [[2.0, 1.0], [2.1, 1.1], [2.2, 1.2]]
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # here: it would slow the import of the library

    out = np.array(eigenvalues)
    if out.ndim != 2:
        raise ValueError(f"eigenvalues have shape {out.shape}; allowed is (T, n), one row per time")
    finite = np.flatnonzero(np.isfinite(out).all(1))
    for before, now in itertools.pairwise(finite):
        out[now] = out[now, linear_sum_assignment(np.abs(out[before][:, None] - out[now]))[1]]
    return out
