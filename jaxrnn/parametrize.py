"""Unconstrained numbers to orthogonal matrices, smoothly: train the numbers, use the matrix."""

import jax
import jax.numpy as jnp
from jax import Array


def skew(a: Array) -> Array:
    """A − Aᵀ of the strictly lower triangle of (..., n, n): n(n−1)/2 numbers count, the rest of ``a`` is not read.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import parametrize
    >>> parametrize.skew(jnp.array([[5.0, 5.0], [1.0, 5.0]])).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    lower = jnp.tril(_square(a), -1)
    return lower - jnp.swapaxes(lower, -1, -2)


def exp(a: Array) -> Array:
    """The rotation e^(skew a) (..., n, n): every rotation is one; at a = 0 the identity.

    Args:
        a: (..., n, n) real.

    Returns:
        (..., n, n) orthogonal to O(n eps), determinant 1; differentiable everywhere.

    Raises:
        ValueError: not square.

    Cost: O(n³), some ten products, by scaling and squaring. Its derivative loses rank where eigenvalues of skew a lie 2π apart.

    Source: Lezcano-Casado, Martínez-Rubio 2019.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import parametrize
    >>> parametrize.exp(jnp.array([[0.0, 0.0], [jnp.pi / 2, 0.0]])).round(6).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    with jax.default_matmul_precision("highest"):  # orthogonal to rounding, also where products are rounded more
        return jax.scipy.linalg.expm(skew(a))


def cayley(a: Array, signs: Array | None = None) -> Array:
    """The orthogonal matrix (I + S)⁻¹ (I − S) D (..., n, n), S = skew a, D = diag(signs).

    Args:
        a: (..., n, n) real.
        signs: (n,) of ±1, a constant; I where None. Without it no matrix with an eigenvalue −1 is reached; with the right one every
            orthogonal matrix is.

    Returns:
        (..., n, n) orthogonal to O(n eps); I + S is never singular.

    Raises:
        ValueError: not square.

    Cost: O(n³), one solve.

    Source: Helfrich, Willmott, Ye 2018, theorem 3.1.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import parametrize
    >>> parametrize.cayley(jnp.array([[0.0, 0.0], [1.0, 0.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    s = skew(a)
    identity = jnp.eye(s.shape[-1], dtype=s.dtype)
    rotation = jnp.linalg.solve(identity + s, identity - s)
    return rotation if signs is None else rotation * jax.lax.stop_gradient(signs)


def householder(vectors: Array) -> Array:
    """The product of reflections H(v_1) ⋯ H(v_k) (n, n), H(v) = I − 2 v vᵀ / (v·v); a zero vector reflects nothing.

    Args:
        vectors: (k, n); k = n reaches every orthogonal matrix of determinant (−1)^n.

    Returns:
        (n, n) orthogonal to O(k eps), determinant (−1)^k; differentiable but at v = 0.

    Raises:
        ValueError: ``vectors`` is not (k, n).

    Cost: O(k n²).

    Source: Mhammedi, Hellicar, Rahman, Bailey 2017.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import parametrize
    >>> parametrize.householder(jnp.array([[2.0, 0.0]])).tolist()
    [[-1.0, 0.0], [0.0, 1.0]]
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors have shape {vectors.shape}; allowed is (k, n)")

    def reflect(matrix: Array, v: Array) -> tuple[Array, None]:
        square = v @ v
        return matrix - jnp.outer(v, 2 * (v @ matrix) / jnp.where(square == 0, 1, square)), None

    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(reflect, jnp.eye(vectors.shape[1], dtype=vectors.dtype), vectors, reverse=True)[0]


def _square(a: Array) -> Array:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"the matrix has shape {a.shape}; it must be square")
    return a
