"""Will Newton's method pay, by what is known of the dynamics."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import require_at
from jaxrnn.parallel.trajectory import SWEEPS

OFFSET, SLOPE = 3.0, 2.0  # fitted to experiments/benchmarks/p10_newton.py


class Expected(NamedTuple):
    """What Newton's method will cost beside the sequential loop."""

    iterations: Array  # how many, at most T
    speedup: Array  # time of the loop over time of the iterations, in the model of ``expected_iterations``
    pays: Array  # bool: speedup > 1


def expected_iterations(exponent: ArrayLike, length: int, n: int, *, lanes: float = math.inf) -> Expected:
    """How many iterations ``newton`` will need, and whether that pays, from the largest Lyapunov exponent.

    An iteration turns the error e into e'_t = Σ_s J_t ⋯ J_{s+1} O(e_s²): in units of 1 / S it is squared, S = Σ_{k<T} e^(λ₁ k).
    ln S is about −ln|λ₁| where λ₁ < 0, ln T where λ₁ = 0 and λ₁ T where λ₁ > 0. While e is not small an iteration gains a fixed number of
    nats of S, and its sweeps at least 16 steps; once it is, a few more end it: iterations = 3 + min(2 ln S, T / 16), the 3 and the 2 fitted.

    The loop takes T times; an iteration 2 log₂ T + 16 times and 3 T n³ multiplications, of which ``lanes`` are done in one of these times.
    So λ₁ > 0 does not pay, however many lanes there are.

    Args:
        exponent: λ₁ in nats per step, any shape; ``lyapunov.spectrum`` measures it.
        length: T.
        n: real dimension of the state.
        lanes: multiplications that the machine does while the loop takes one step; infinite by default.

    Returns:
        ``Expected``, shaped as ``exponent``. The iterations were right to a factor of two on tanh networks, N = 32, g = .5 to 2, driven and
        autonomous, T = 100 to 1,600 in float64 (P10): fewer where the state rests in a linear regime, more where λ₁ < 0 but its
        finite-time values often are not. For other cells and for ``quasi_newton`` it is a guess.

    Raises:
        ValueError: length or n below 1.

    Source: after Gonzalez, Kozachkov, Zoltowski, Clarkson, Linderman 2025, where the sign of λ₁ decides; the formula is ours.

    >>> from jaxrnn import parallel
    >>> for exponent in (-0.5, 0.1):
    ...     found = parallel.expected_iterations(exponent, 10_000, 32)
    ...     print(round(float(found.iterations)), bool(found.pays))
    5 True
    628 False
    """
    require_at("length", length, 1, None, "the number of steps")
    require_at("n", n, 1, None, "the dimension of the state")
    exponent = jnp.asarray(exponent, jnp.result_type(float))
    decay = jnp.where(exponent == 0, -1, -jnp.abs(exponent))
    # S for λ > 0 is e^(λ (T − 1)) times S for −λ, which does not overflow.
    log_sum = jnp.where(exponent == 0, math.log(length), jnp.log(jnp.expm1(decay * length) / jnp.expm1(decay)))
    log_sum += jnp.maximum(exponent, 0) * (length - 1)
    iterations = jnp.minimum(OFFSET + jnp.minimum(SLOPE * log_sum, length / SWEEPS), length)
    each = 2 * math.log2(length) + SWEEPS + 3 * length * n**3 / lanes
    speedup = length * max(1.0, n**2 / lanes) / (iterations * each)
    return Expected(iterations, speedup, speedup > 1)
