"""What does one unit do: how long a gate remembers, how large a long memory makes a state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def gate_rate(bias: ArrayLike) -> Array:
    """The exponent of a state held by a gate alone, ln σ(b), nats per step: of an LSTM's cell at forget bias b and no input.

    A minimal GRU's (1 − z) h + z c with z = σ(a) has ``gate_rate(−a)`` = ln(1 − σ(a)) (Feng et al. 2024).

    >>> from jaxrnn import theory
    >>> round(float(theory.gate_rate(1.0)), 6), round(float(theory.gate_rate(0.0)), 6)
    (-0.313262, -0.693147)
    """
    return -jax.nn.softplus(-jnp.asarray(bias, float))  # no digit is lost where σ(b) rounds to 1


def gate_time_scale(bias: ArrayLike) -> Array:
    """After how many steps a gate of bias b has let go of all but 1/e: −1/ln σ(b); inf only where e^b overflows.

    Source: Gers, Schmidhuber, Cummins 2000.

    >>> from jaxrnn import theory
    >>> round(float(theory.gate_time_scale(5.0)), 1)
    148.9
    """
    return -1 / gate_rate(bias)


def gate_bias(time_scale: ArrayLike) -> Array:
    """The bias at which a gate remembers for T steps, the inverse of ``gate_time_scale``: b = −ln(e^(1/T) − 1).

    The chrono initialisation takes ln(T − 1), from the time scale 1/(1 − σ(b)), its value for large T: the two differ by 1/2T.

    Args:
        time_scale: T > 0, steps; inf gives inf, a negative one NaN.

    Source: Tallec, Ollivier 2018, for the initialisation; the exact inverse is elementary.

    >>> import math
    >>> from jaxrnn import theory
    >>> round(float(theory.gate_bias(100.0)), 4), round(math.log(99), 4)
    (4.6002, 4.5951)
    """
    u = 1 / jnp.asarray(time_scale, float)
    return -u - jnp.log(-jnp.expm1(-u))  # e^u itself overflows where T is small


def antisymmetric_euler_modulus(step_size: ArrayLike, frequency: ArrayLike, damping: ArrayLike = 0.0) -> Array:
    """|μ| of an AntisymmetricRNN's eigenvalue μ = 1 + ε(iω − γ) at h = 0: √((1 − εγ)² + ε²ω²).

    h_t = h_{t−1} + ε tanh((W − Wᵀ − γI) h_{t−1} + …): with γ = 0 it exceeds 1, an isometry only to O(ε²).

    Args:
        step_size: ε.
        frequency: ω, of an eigenvalue ±iω of W − Wᵀ; the largest decides.
        damping: γ.

    Source: Chang, Chen, Haber, Chi 2019, section 3.

    >>> from jaxrnn import theory
    >>> round(float(theory.antisymmetric_euler_modulus(0.1, 2.0)), 6)
    1.019804
    """
    return jnp.hypot(1 - jnp.asarray(step_size, float) * damping, jnp.asarray(step_size, float) * frequency)


class CurseOfMemory(NamedTuple):
    """A linear unit h_t = λ h_{t−1} + x_t under white input of variance 1, at rest in distribution."""

    variance: Array  # E|h|² = 1/(1 − |λ|²)
    sensitivity: Array  # E|dh/dλ|² = (1 + |λ|²)/(1 − |λ|²)³


def curse_of_memory(decay: ArrayLike) -> CurseOfMemory:
    """How large a long memory makes a state and its derivative by its own decay, though nothing explodes.

    Args:
        decay: λ, real or complex; inf is returned where |λ| ≥ 1.

    Valid after 1/(1 − |λ|) steps and more; correlated input makes both larger.

    Source: Zucchet, Orvieto 2024.

    >>> from jaxrnn import theory
    >>> [round(float(v), 2) for v in theory.curse_of_memory(0.9)]
    [5.26, 263.89]
    """
    modulus = jnp.abs(jnp.asarray(decay, None if jnp.iscomplexobj(decay) else float))
    gap = (1 - modulus) * (1 + modulus)
    return CurseOfMemory(*(jnp.where(modulus >= 1, jnp.inf, value) for value in (1 / gap, (1 + modulus**2) / gap**3)))
