"""What should it be: numbers in, numbers out, to set beside what was measured."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma
from jax.typing import ArrayLike

SLOPE_BOUNDS: dict[str, float] = {"tanh": 1.0, "relu": 1.0, "sigmoid": 0.25, "identity": 1.0}
"""γ = sup|φ'| by activation (Pascanu, Mikolov, Bengio 2013, section 2.2)."""


class PascanuBounds(NamedTuple):
    """What the weights alone say of the Jacobians of h_t = φ(W h_{t−1} + …)."""

    largest_singular_value: Array  # σ₁(W)
    log_step_bound: Array  # ln(γ σ₁), nats: log‖J_t‖₂ never exceeds it
    must_vanish: Array  # bool: γ σ₁ < 1, sufficient for vanishing
    may_explode: Array  # bool: γ σ₁ > 1, necessary, not sufficient, for exploding


def pascanu_bounds(weights: Array, slope_bound: ArrayLike = 1.0) -> PascanuBounds:
    """The bounds of Pascanu, Mikolov and Bengio on the per-step Jacobian J_t = diag(φ'(a_t)) W.

    ‖J_t‖₂ ≤ γ σ₁(W), γ = sup|φ'|.

    Args:
        weights: W (n, n), real.
        slope_bound: γ, 1 for tanh, ¼ for the sigmoid (``SLOPE_BOUNDS``).

    Returns:
        ``PascanuBounds``.

    Cost: one SVD of (n, n). Source: Pascanu, Mikolov, Bengio 2013, section 2.2.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import theory
    >>> bounds = theory.pascanu_bounds(2 * jnp.eye(3), theory.SLOPE_BOUNDS["sigmoid"])
    >>> bool(bounds.must_vanish), round(float(bounds.log_step_bound), 4)
    (True, -0.6931)
    """
    weights = jnp.asarray(weights)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(f"weights have shape {weights.shape}; the recurrent matrix must be square (n, n)")
    sigma = jnp.linalg.svd(weights, compute_uv=False)[0]
    bound = jnp.asarray(slope_bound * sigma)
    return PascanuBounds(sigma, jnp.log(bound), bound < 1, bound > 1)


def newman_exponents(n: int, sigma: ArrayLike) -> Array:
    """Lyapunov exponents of products of independent real Gaussian matrices with entries N(0, σ²).

    λ_i = ½ [ln(2σ²) + ψ((n − i + 1)/2)], i = 1..n.

    Args:
        n: the size of the matrices.
        sigma: σ, the standard deviation of an entry (1/√n keeps norms of order one).

    Returns:
        (n,) nats per step, descending. After T steps the i-th scatters by √(ψ₁((n−i+1)/2) / 4T).

    Source: Newman 1986, Commun. Math. Phys. 103, 121.

    >>> from jaxrnn import theory
    >>> [round(float(v), 6) for v in theory.newman_exponents(2, 0.5**0.5)]
    [-0.288608, -0.981755]
    """
    i = jnp.arange(1, n + 1)
    return 0.5 * (jnp.log(2.0 * jnp.asarray(sigma) ** 2) + digamma((n - i + 1) / 2))
