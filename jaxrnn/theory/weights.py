"""What do the weights alone say: bounds, and the exponents of random matrices."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma, polygamma, xlog1py
from jax.typing import ArrayLike

from jaxrnn._border import require_at

SLOPE_BOUNDS: dict[str, float] = {"tanh": 1.0, "relu": 1.0, "sigmoid": 0.25, "identity": 1.0, "erf": 2 / math.sqrt(math.pi)}
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
        (n,) nats per step, descending; ``newman_standard_errors`` says by how much those of T factors scatter.

    Raises:
        ValueError: n below 1.

    Source: Newman 1986, Commun. Math. Phys. 103, 121.

    >>> from jaxrnn import theory
    >>> [round(float(v), 6) for v in theory.newman_exponents(2, 0.5**0.5)]
    [-0.288608, -0.981755]
    """
    return jnp.log(jnp.asarray(sigma, float)) + 0.5 * (math.log(2) + digamma(_ranks(n) / 2))


def newman_standard_errors(n: int, length: int) -> Array:
    """By how much the exponents of a product of T real Gaussian matrices scatter: se_i = √(ψ₁((n − i + 1)/2) / 4T).

    ln|R_ii| of each factor is ½ ln χ² with n − i + 1 degrees of freedom, independent over time; σ plays no part.

    Args:
        n: the size of the matrices.
        length: T, the number of factors that were counted.

    Returns:
        (n,) nats per step, ascending: one standard deviation.

    Raises:
        ValueError: n or length below 1.

    Source: Newman 1986.

    >>> from jaxrnn import theory
    >>> [round(float(v), 5) for v in theory.newman_standard_errors(2, 100)]
    [0.06413, 0.11107]
    """
    require_at("length", length, 1, None, "the number of factors")
    return jnp.sqrt(polygamma(1, _ranks(n) / 2) / (4 * length))


def complex_newman_exponents(n: int, sigma: ArrayLike) -> Array:
    """Lyapunov exponents of products of independent complex Gaussian matrices with entries of E|z|² = σ².

    λ_i = ½ [ln σ² + ψ(n − i + 1)], i = 1..n: |R_ii|² is σ² times a Gamma(n − i + 1) variable.

    Args:
        n: the size of the complex matrices.
        sigma: σ, the root mean square of an entry.

    Returns:
        (n,) nats per step, descending. In the 2n real coordinates of this library each of them appears twice.

    Raises:
        ValueError: n below 1.

    Source: Newman's argument for a complex frame; Forrester 2013, J. Stat. Phys. 151, 796.

    >>> from jaxrnn import theory
    >>> [round(float(v), 6) for v in theory.complex_newman_exponents(2, 1.0)]
    [0.211392, -0.288608]
    """
    return jnp.log(jnp.asarray(sigma, float)) + 0.5 * digamma(_ranks(n))


def circular_law_exponents(n: int, gain: ArrayLike = 1.0) -> Array:
    """The exponents of h → gJ tanh h at rest, g < 1, or of any constant gJ: log|eigenvalues|, J_ij ~ N(0, 1/n) and n large.

    |eigenvalue|²/g² fills [0, 1] evenly (Girko's circular law): the i-th is the mean of ln|eigenvalue| over the i-th of n equal
    slices, so that their mean is exactly ln g − ½.

    Args:
        n: how many.
        gain: g.

    Returns:
        (n,) nats per step, descending.

    Raises:
        ValueError: n below 1.

    Valid for n → ∞: of one matrix about √n eigenvalues near the edge, and the few smallest, lie elsewhere.

    Source: Ginibre 1965; Girko 1985.

    >>> from jaxrnn import theory
    >>> [round(float(v), 4) for v in theory.circular_law_exponents(3, 0.5)]
    [-0.7877, -1.0493, -1.7425]
    """
    return jnp.log(jnp.asarray(gain, float)) + _mean_log_modulus(_ranks(n) / n, 1 / n)


class LRURing(NamedTuple):
    """A linear recurrent unit h_t = λ h_{t−1} + x_t whose |λ|² is drawn evenly from [r_min², r_max²]."""

    mean_exponent: Array  # E ln|λ|, nats per step
    largest_exponent: Array  # ln r_max, of many units the largest
    variance_gain: Array  # E 1/(1 − |λ|²): E|h|² of white unit input, before normalisation; inf at r_max = 1


def lru_ring(r_min: ArrayLike, r_max: ArrayLike) -> LRURing:
    """What the ring initialisation of linear recurrent units gives on average.

    E 1/(1 − |λ|²) = ln((1 − r_min²)/(1 − r_max²)) / (r_max² − r_min²), E ln|λ| by integration of ln over the same interval.

    Args:
        r_min, r_max: 0 ≤ r_min ≤ r_max ≤ 1; the phase plays no part.

    Returns:
        ``LRURing``; a ring of no width is a circle. NaN where r_min > r_max or r_max > 1.

    Source: Orvieto et al. 2023, the ring initialisation and its forward gain.

    >>> from jaxrnn import theory
    >>> [round(float(v), 4) for v in theory.lru_ring(0.9, 0.999)]
    [-0.0514, -0.001, 24.2253]
    """
    low, high = jnp.asarray(r_min, float), jnp.asarray(r_max, float)
    valid = (low >= 0) & (low <= high) & (high <= 1)
    width, gap = (high - low) * (high + low), (1 - high) * (1 + high)
    ratio = width / jnp.where(gap == 0, 1, gap)
    spread = jnp.where(ratio == 0, 1, jnp.log1p(ratio) / jnp.where(ratio == 0, 1, ratio))
    gain = jnp.where(gap == 0, jnp.inf, spread / jnp.where(gap == 0, 1, gap))
    return LRURing(*(jnp.where(valid, value, jnp.nan) for value in (_mean_log_modulus(high**2, width), jnp.log(high), gain)))


def lru_exponents(n: int, r_min: ArrayLike, r_max: ArrayLike) -> Array:
    """The exponents of n linear recurrent units in a ring: the mean of ln|λ| over the i-th of n equal slices of |λ|².

    Their mean is that of ``lru_ring``; the expected i-th largest of n random draws differs by O(1/n). Complex units count
    twice in real coordinates.

    Returns:
        (n,) nats per step, descending. Arguments, validity and source as ``lru_ring``; ValueError: n below 1.

    >>> from jaxrnn import theory
    >>> [round(float(v), 4) for v in theory.lru_exponents(2, 0.0, 1.0)]
    [-0.1534, -0.8466]
    """
    low, high = jnp.asarray(r_min, float), jnp.asarray(r_max, float)
    width = (high - low) * (high + low) / n
    values = _mean_log_modulus(low**2 + _ranks(n) * width, width)
    return jnp.where((low >= 0) & (low <= high) & (high <= 1), values, jnp.nan)


def _ranks(n: int) -> Array:
    """The numbers n − i + 1 for i = 1..n."""
    require_at("n", n, 1, None, "the number of exponents")
    return jnp.arange(n, 0, -1).astype(float)


def _mean_log_modulus(high: Array, width: ArrayLike) -> Array:
    """E ln r of r² even on [high − width, high]: ½ [ln high − 1 − (1 − u) ln(1 − u)/u], u = width/high."""
    u = width / jnp.where(high == 0, 1, high)
    within = jnp.where(u == 0, -1, xlog1py(1 - u, -u) / jnp.where(u == 0, 1, u))
    return 0.5 * (jnp.log(high) - 1 - within)
