"""Singular values of products of Jacobians, at any length."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import compiled, require_at, require_jacobians
from jaxrnn._frames import orthonormalise, rescale


class ProductSingularValues(NamedTuple):
    """Singular values of a product of matrices."""

    logs: Array  # (n,) log σ_i(J_T ⋯ J_1), nats, descending; −inf where the product is singular
    change: Array  # (n,) by how much the last sweep changed each, nats: a measure of what is still wrong


@compiled("sweeps")
def product_log_singular_values(jacobians: Array, *, sweeps: int = 3) -> ProductSingularValues:
    """All singular values of the product J_T ⋯ J_1 in logs, the small ones too, at any T.

    J_t Q_{t−1} = Q_t R_t from Q_0 = V: where V holds the right singular vectors, the product of the triangular R_t is
    diagonal, so log σ_i = Σ_t ln|R_t,ii|. V comes from the singular value decomposition of the rescaled product, which
    is right as far as rounding carries, and then from ``sweeps`` passes back with J_tᵀ and forth again: each multiplies
    what is wrong between i and j by (σ_j/σ_i)². The product itself would overflow or drown its small directions.

    Args:
        jacobians: (T, n, n) real, J_t at index t − 1.
        sweeps: passes back and forth, at least 1.

    Returns:
        ``ProductSingularValues``.

    Raises:
        ValueError, TypeError: on shapes other than (T, n, n) with T ≥ 1, and on dtypes that are not real floats.

    Cost: (1 + 2·sweeps) passes of T products and T QR decompositions, O(sweeps T n³); memory that of the Jacobians.
    Singular values that lie close together converge slowly, but their sum and their size do not suffer: ``change``
    tells.

    Source: the product eigenvalue problem, e.g. Golub, Sølna, Van Dooren 2000; for long-time singular values of
    trajectories, Dieci, Elia 2008.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> found = spectra.product_log_singular_values(jnp.tile(jnp.array([[0.5, 1.0], [0.0, 0.01]]), (400, 1, 1)))
    >>> [round(float(v) / 400, 3) for v in found.logs]  # their sum is ln det = 400 ln 0.005; float64 ends at e^−745
    [-0.691, -4.607]
    """
    jacobians = require_jacobians(jacobians)
    require_at("sweeps", sweeps, 1, None, "the number of passes back and forth")
    n = jacobians.shape[1]
    product, _ = jax.lax.scan(lambda p, j: (rescale(j @ p, (0, 1))[0], None), jnp.eye(n, dtype=jacobians.dtype), jacobians)
    start = jnp.linalg.svd(product)[2].T

    def push(frame: Array, matrices: Array) -> tuple[Array, Array]:
        """The frame at the end and its log growth on the way."""

        def body(carry: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], None]:
            done = orthonormalise(j @ carry[0])
            return (done.frame, carry[1] + done.log_growth), None

        return jax.lax.scan(body, (frame, jnp.zeros(n, frame.dtype)), matrices)[0]

    def sweep(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        frame, logs, _before = carry
        back = push(frame, jnp.swapaxes(jacobians[::-1], 1, 2))[0]
        frame, new = push(back, jacobians)
        return (frame, new, logs), None

    frame, logs = push(start, jacobians)
    (_, logs, before), _ = jax.lax.scan(sweep, (frame, logs, logs), None, length=sweeps)
    order = jnp.argsort(-logs)
    same = logs == before  # also −inf, whose difference would be NaN
    change = jnp.where(same, 0, jnp.abs(logs - jnp.where(same, 0, before)))
    return ProductSingularValues(logs[order], change[order])


def log_condition(jacobians: Array, lags: Sequence[int], *, sweeps: int = 3) -> Array:
    """By how much a product of Jacobians favours one direction over another, against the lag.

    log κ₂(J_ℓ ⋯ J_1) = log σ_1 − log σ_n, which grows like (λ_1 − λ_n) ℓ.

    Args:
        jacobians: (T, n, n) real, J_t at index t − 1.
        lags: ℓ, in [1, T].
        sweeps: as for ``product_log_singular_values``, which finds the singular values without over- or underflow.

    Returns:
        (len(lags),) nats, in the order of ``lags``; inf where the product is singular, NaN where it is not finite.

    Raises:
        ValueError, TypeError: no lag, or one outside [1, T]; and as ``product_log_singular_values``.

    Cost: that of ``product_log_singular_values`` over the longest lag for each of them, one after the other.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> found = spectra.log_condition(jnp.tile(jnp.diag(jnp.array([2.0, 0.01])), (300, 1, 1)), (1, 300))
    >>> [round(float(v), 2) for v in found]  # ℓ ln 200; e^1589 overflows
    [5.3, 1589.5]
    """
    return _log_condition(jacobians, tuple(lags), sweeps=sweeps)


@compiled("lags", "sweeps")
def _log_condition(jacobians: Array, lags: tuple[int, ...], *, sweeps: int) -> Array:
    jacobians = require_jacobians(jacobians)
    if not lags:
        raise ValueError("lags is empty; give at least one")
    for lag in lags:
        require_at("lag", lag, 1, len(jacobians), "the number of Jacobians")
    seen, eye = jacobians[: max(lags)], jnp.eye(jacobians.shape[1], dtype=jacobians.dtype)

    def one(lag: Array) -> Array:
        within = jnp.arange(len(seen)) < lag  # an identity beyond the lag changes no singular value, and one program serves all lags
        logs = product_log_singular_values(jnp.where(within[:, None, None], seen, eye), sweeps=sweeps).logs
        return jnp.where(logs[-1] == -jnp.inf, jnp.inf, logs[0] - logs[-1])

    return jax.lax.map(one, jnp.asarray(lags))
