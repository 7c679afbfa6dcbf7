"""What should it be: numbers in, numbers out, to set beside what was measured."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma, erf
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


class MeanField(NamedTuple):
    """A wide random network h_t = φ(x_t), x_t = g J h_{t−1} + b + ξ_t, J_ij ~ N(0, 1/N), in the limit N → ∞."""

    variance: Array  # q = E x², the stable solution of q = g² E φ(√q z)² + σ_b² + s², z ~ N(0, 1)
    chi: Array  # χ = g² E φ'(√q z)²: mean square growth of a small perturbation per step
    lyapunov: Array  # λ₁ = ½ ln χ, nats per step
    mean_exponent: Array  # (1/N) Σ λ_i = ln g − ½ + E ln|φ'(√q z)|, nats per step


def mean_field(gain: ArrayLike, input_sd: ArrayLike = 0.0, bias_sd: ArrayLike = 0.0, activation: str = "tanh") -> MeanField:
    """What a wide random network does: its variance, whether perturbations grow, and at what rate.

    Args:
        gain: g ≥ 0; the weights are N(0, g²/N).
        input_sd: s, standard deviation of input that is white in time and over units, before the activation.
        bias_sd: σ_b, that of a bias which stays the same in time.
        activation: ``tanh``, ``erf``, ``relu`` or ``identity``.

    Returns:
        ``MeanField``, scalars in the precision of JAX. Where nothing drives the network and g φ'(0) ≤ 1 it is silent: q = 0.
        ReLU and identity have no finite q where g² E φ'² ≥ 1 under drive: inf.

    Raises:
        ValueError: an unknown activation.

    Valid for N → ∞ at one step of delay; at finite N exponents scatter by O(1/√N), and at gains barely above 1 nets of a
    hundred units are often not chaotic at all. Not for weights with a mean, correlated weights or gates.

    Integrals by the trapezoid in τ with z = δ sinh τ, whose points crowd around 0 where φ' of a strongly driven unit lives;
    Gauss–Hermite of 201 nodes is wrong by a quarter at g = 10.

    Source: Sompolinsky, Crisanti, Sommers 1988; Molgedey, Schuchhardt, Schuster 1992; Schoenholz et al. 2017; the mean exponent:
    Engelken, Wolf, Abbott 2023.

    >>> from jaxrnn import theory
    >>> found = theory.mean_field(3.0)
    >>> round(float(found.lyapunov), 4), round(float(found.mean_exponent), 4)
    (0.3102, -2.2728)
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; allowed are {', '.join(sorted(_ACTIVATIONS))}")
    phi, slope, log_slope = _ACTIVATIONS[activation]
    gain, drive = jnp.asarray(gain, float), jnp.asarray(input_sd, float) ** 2 + jnp.asarray(bias_sd, float) ** 2
    tau = jnp.linspace(-1, 1, 8001) * jnp.arcsinh(12 / _DELTA)
    z, weight = _DELTA * jnp.sinh(tau), _DELTA * jnp.cosh(tau) * (tau[1] - tau[0])
    weight = weight * jnp.exp(-(z**2) / 2) / jnp.sqrt(2 * jnp.pi)
    mean = lambda values: jnp.sum(jnp.where(weight > 0, weight * values, 0))
    if activation in _HOMOGENEOUS:
        chi = gain**2 * _HOMOGENEOUS[activation]
        q = jnp.where(drive == 0, 0, jnp.where(chi < 1, drive / jnp.where(chi < 1, 1 - chi, 1), jnp.inf))
    else:
        q = _fixed_point(lambda q: gain**2 * mean(phi(jnp.sqrt(q) * z) ** 2) + drive, gain**2 + drive)
        chi = gain**2 * mean(slope(jnp.sqrt(q) * z) ** 2)
    log_slopes = -jnp.inf if activation == "relu" else mean(log_slope(jnp.sqrt(jnp.where(jnp.isfinite(q), q, 0)) * z))
    return MeanField(q, chi, 0.5 * jnp.log(chi), jnp.log(gain) - 0.5 + log_slopes)


def _fixed_point(image: Callable[[Array], Array], top: Array) -> Array:
    """The stable q = image(q) of a map that rises, bends down and stays below ``top``: under it q < image(q), above it q > image(q)."""

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        rises = image(jnp.exp(middle)) > jnp.exp(middle)
        return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

    low = jnp.log(jnp.asarray(_SILENT, top.dtype)) - 10
    found = jnp.exp(jax.lax.fori_loop(0, 80, halve, (low, jnp.log(top + _SILENT)))[1])
    return jnp.where(found > _SILENT, found, 0)


_SILENT = 1e-20  # a variance below this is none
_HOMOGENEOUS = {"relu": 0.5, "identity": 1.0}  # E φ(z)², of activations whose variance has a closed form
_DELTA = 1e-5  # width of the crowd of quadrature points around 0
_log_cosh = lambda x: jnp.abs(x) + jnp.log1p(jnp.exp(-2 * jnp.abs(x))) - jnp.log(2.0)
_ACTIVATIONS = {  # φ, φ', ln|φ'|
    "tanh": (jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, lambda x: -2 * _log_cosh(x)),
    "erf": (erf, lambda x: 2 / jnp.sqrt(jnp.pi) * jnp.exp(-(x**2)), lambda x: jnp.log(2 / jnp.sqrt(jnp.pi)) - x**2),
    "relu": (lambda x: jnp.maximum(x, 0), lambda x: jnp.where(x > 0, 1.0, 0.0), jnp.zeros_like),
    "identity": (lambda x: x, jnp.ones_like, jnp.zeros_like),
}
