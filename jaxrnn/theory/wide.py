"""What does a wide random network do: mean-field theory, and the edge of its chaos."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf
from jax.typing import ArrayLike


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

    Not to be differentiated: the fixed point is bisected, and what ``jax.grad`` returns is not its derivative; take differences.

    Valid for N → ∞ at one step of delay; at finite N exponents scatter by O(1/√N), and at gains barely above 1 nets of a
    hundred units are often not chaotic at all. Not for weights with a mean, correlated weights or gates.

    Integrals by the trapezoid in τ with z = δ sinh τ, whose points crowd around 0 where φ' of a strongly driven unit lives;
    Gauss–Hermite of 201 nodes is wrong by a quarter at g = 10.

    Source: Sompolinsky, Crisanti, Sommers 1988; Molgedey, Schuchhardt, Schuster 1992; Schoenholz et al. 2017; the mean exponent:
    Engelken, Wolf, Abbott 2023.

    >>> from jaxrnn import theory
    >>> found = theory.mean_field(3.0)
    >>> round(float(found.lyapunov), 3), round(float(found.mean_exponent), 3)
    (0.31, -2.273)
    """
    phi, slope, log_slope = _activation(activation)
    gain, drive = jnp.asarray(gain, float), jnp.asarray(input_sd, float) ** 2 + jnp.asarray(bias_sd, float) ** 2
    mean = _gaussian_mean()
    if activation in _HOMOGENEOUS:
        chi = gain**2 * _HOMOGENEOUS[activation]
        q = jnp.where(drive == 0, 0, jnp.where(chi < 1, drive / jnp.where(chi < 1, 1 - chi, 1), jnp.inf))
    else:
        # The image of q rises, bends down and stays below g² + drive: it lies above q up to the stable fixed point.
        q = _last(lambda q: gain**2 * mean(lambda z: phi(jnp.sqrt(q) * z) ** 2) + drive > q, gain**2 + drive)
        chi = gain**2 * mean(lambda z: slope(jnp.sqrt(q) * z) ** 2)
    log_slopes = -jnp.inf if activation == "relu" else mean(lambda z: log_slope(jnp.sqrt(jnp.where(jnp.isfinite(q), q, 0)) * z))
    return MeanField(q, chi, 0.5 * jnp.log(chi), jnp.log(gain) - 0.5 + log_slopes)


def critical_gain(input_sd: ArrayLike = 0.0, bias_sd: ArrayLike = 0.0, activation: str = "tanh") -> Array:
    """The gain at which a wide random network neither forgets nor amplifies: χ = g² E φ'(√q z)² = 1, λ₁ = 0.

    With g² = 1/E φ'² the variance obeys q − E φ²/E φ'² = s² + σ_b², one equation in q, solved by bisection.

    Args:
        input_sd, bias_sd, activation: as for ``mean_field``.

    Returns:
        Scalar g. 1/φ'(0) where nothing drives the network; √2 for relu and 1 for identity whatever drives them.

    Raises:
        ValueError: an unknown activation.

    Valid as ``mean_field``; good to a few ε, but to about √ε where the variance of the drive is below ε^1.5.

    Source: Schoenholz et al. 2017 (the line χ₁ = 1, there σ_w = g).

    >>> from jaxrnn import theory
    >>> round(float(theory.critical_gain(bias_sd=0.05**0.5)) ** 2, 3)
    1.761
    """
    phi, slope, _ = _activation(activation)
    drive = jnp.asarray(input_sd, float) ** 2 + jnp.asarray(bias_sd, float) ** 2
    if activation in _HOMOGENEOUS:
        return jnp.full_like(drive, _HOMOGENEOUS[activation] ** -0.5)
    mean = _gaussian_mean()
    slopes = lambda q: mean(lambda z: slope(jnp.sqrt(q) * z) ** 2)
    short = lambda q: q - mean(lambda z: phi(jnp.sqrt(q) * z) ** 2) / slopes(q) < drive
    return slopes(jnp.where(drive == 0, 0, _last(short, 100 * (1 + drive)))) ** -0.5


def critical_input_sd(gain: ArrayLike, activation: str = "tanh") -> Array:
    """The strength of white input that just suppresses the chaos of a wide random network: λ₁ = 0.

    g² E φ'(√q z)² = 1 gives q by bisection, and s² = q − g² E φ(√q z)².

    Args:
        gain: g ≥ 0, up to 1000 in double precision.
        activation: as for ``mean_field``; without bias.

    Returns:
        Scalar s ≥ 0. NaN where there is none: g φ'(0) < 1 is quiet under any input, and of relu and identity no input changes χ.

    Raises:
        ValueError: an unknown activation.

    Valid as ``mean_field``, for input white in time and over units.

    Source: Molgedey, Schuchhardt, Schuster 1992.

    >>> from jaxrnn import theory
    >>> round(float(theory.critical_input_sd(1.5)), 4)
    0.4314
    """
    phi, slope, _ = _activation(activation)
    gain = jnp.asarray(gain, float)
    if activation in _HOMOGENEOUS:
        return jnp.full_like(gain, jnp.nan)
    mean = _gaussian_mean()
    q = _last(lambda q: gain**2 * mean(lambda z: slope(jnp.sqrt(q) * z) ** 2) > 1, 1 + gain**4)
    variance = q - gain**2 * mean(lambda z: phi(jnp.sqrt(q) * z) ** 2)
    # Just above the critical gain s² = (4/3)(g − 1)³ is less than the rounding of q.
    return jnp.where(gain * slope(jnp.zeros(())) < 1, jnp.nan, jnp.sqrt(jnp.maximum(variance, 0)))


def _activation(name: str) -> tuple[Callable, Callable, Callable]:
    if name not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; allowed are {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name]


def _gaussian_mean() -> Callable[[Callable[[Array], Array]], Array]:
    """E f(z), z ~ N(0, 1), by the trapezoid in τ, z = δ sinh τ."""
    end, half = math.asinh(12 / _DELTA), 4000
    z, weight = (_DELTA * f(jnp.linspace(-end, end, 2 * half + 1)) for f in (jnp.sinh, jnp.cosh))
    weight = weight * jnp.exp(-(z**2) / 2) * (end / half / math.sqrt(2 * math.pi))  # a difference of τ would cost four digits
    return lambda f: jnp.sum(jnp.where(weight > 0, weight * f(z), 0))


def _last(holds: Callable[[Array], Array], top: Array) -> Array:
    """The largest q below ``top`` at which a condition holds that holds below it and not above, by bisection of ln q; 0 if none."""

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        here = holds(jnp.exp(middle))
        return jnp.where(here, middle, low), jnp.where(here, high, middle)

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
