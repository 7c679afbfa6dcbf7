"""What follows from exponents: dimension, entropy, gaps, how long growth remembers itself."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrnn.lyapunov.batch_means import integrated_autocorrelation, standard_error
from jaxrnn.lyapunov.recursion import Spectrum


@jax.jit
def kaplan_yorke(exponents: Array) -> Array:
    """The Kaplan–Yorke dimension: how many leading exponents it takes until volumes shrink.

    D = j + (λ_1 + … + λ_j) / |λ_{j+1}|, j the largest number whose exponents sum to 0 or more.

    Args:
        exponents: (..., k) in any order and unit, all there are or enough that their sum is negative; −inf is a
            direction that dies at once.

    Returns:
        (...,): 0 where all are negative, k where even the sum of all is not (then more exponents are needed, or volume
        does not shrink), NaN where one is.

    Source: Kaplan, Yorke 1979.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> round(float(lyapunov.kaplan_yorke(jnp.array([0.9056, 0.0, -14.572]))), 3)  # Lorenz
    2.062
    """
    exponents = -jnp.sort(-jnp.asarray(exponents), axis=-1)
    sums = jnp.cumsum(exponents, axis=-1)
    whole = jnp.sum(sums >= 0, axis=-1)  # the sums of descending numbers rise, then fall: this counts a beginning
    k = exponents.shape[-1]
    at = lambda values, i: jnp.take_along_axis(values, jnp.clip(i, 0, k - 1)[..., None], -1)[..., 0]
    before = jnp.where(whole > 0, at(sums, whole - 1), jnp.zeros((), sums.dtype))
    dimension = whole.astype(sums.dtype) + jnp.where(whole < k, before / jnp.abs(at(exponents, whole)), 0)
    return jnp.where(jnp.isnan(exponents).any(-1), jnp.nan, jnp.where(whole == 0, 0, dimension))


@jax.jit
def entropy_rate(exponents: Array) -> Array:
    """Sum of the positive exponents (..., k), as (...): the rate at which nearby states come apart, in their unit.

    By Ruelle's inequality an upper bound of the Kolmogorov–Sinai entropy, equal to it for Pesin's smooth measures.

    Source: Pesin 1977; Ruelle 1978.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> float(lyapunov.entropy_rate(jnp.array([0.5, 0.25, -3.0, -jnp.inf])))
    0.75
    """
    exponents = jnp.asarray(exponents)
    return jnp.where(jnp.isnan(exponents).any(-1), jnp.nan, jnp.sum(jnp.maximum(exponents, 0), axis=-1))


class Gaps(NamedTuple):
    """How far neighbouring exponents lie apart."""

    gaps: Array  # (k − 1,) λ_i − λ_{i+1} ≥ 0, nats per unit of time; inf above a lost one, NaN between two
    standard_errors: Array  # (k − 1,) of the gaps, from the blocks
    separated: Array  # (k − 1,) bool: the gap exceeds two standard errors; where not, only the plane of both directions is known, and their mean


@jax.jit
def gaps(spectrum: Spectrum, dt: ArrayLike = 1.0) -> Gaps:
    """Which exponents are told apart: the gaps between neighbours with their own standard errors.

    Neighbours are estimated on one trajectory, so that the error of their difference is not that of either: it is taken from the
    differences within each block.

    Args:
        spectrum: from any function here, with at least 2 blocks.
        dt: as it was computed with.

    Returns:
        ``Gaps``. Covariant vectors, and derivatives of single exponents, need gaps that are separated.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> found = lyapunov.spectrum(lambda a, h, x: a * h, jnp.array([0.9, 0.5, 0.5]), jnp.ones(3), None, length=200, warmup=100)
    >>> lyapunov.gaps(found).separated.tolist()
    [True, False]
    """
    growth, dt = spectrum.block_growth, jnp.asarray(dt, spectrum.block_growth.dtype)
    lost = jnp.isneginf(growth).any(0)
    order = jnp.argsort(-jnp.where(lost, -jnp.inf, growth.sum(0)))
    growth, lost = jnp.where(lost, 0, growth)[:, order], lost[order]
    steps = spectrum.block_steps.astype(growth.dtype)[:, None]
    blocks, counted = len(growth), steps.sum()
    between = growth[:, :-1] - growth[:, 1:]
    gap = between.sum(0) / counted
    spread = standard_error(between / steps, steps[:, 0] / counted)
    gap, spread = gap / dt, spread / dt
    # A gap of nothing but rounding is none: sums over T steps err by some eps a step.
    rounding = jnp.where(jnp.isfinite(spectrum.rounding), spectrum.rounding, 0)
    eps = jnp.finfo(growth.dtype).eps / dt
    floor = 100 * jnp.maximum(eps, jnp.abs(spectrum.exponents[:-1]) * jnp.finfo(growth.dtype).eps) + rounding[:-1] + rounding[1:]
    above, below = lost[:-1], lost[1:]
    gap = jnp.where(below, jnp.where(above, jnp.nan, jnp.inf), gap)
    errors = jnp.where(below | (blocks < 2), jnp.inf, spread)
    return Gaps(gap, errors, (gap > 2 * spread) & (gap > floor) & ~above & (below | (blocks > 1)))


@jax.jit
def autocorrelation_time(spectrum: Spectrum) -> Array:
    """For how many steps growth remembers itself: the integrated autocorrelation time of each exponent (k,), steps.

    τ = m (1 + 2 Σ_{j ≥ 1} ρ_j), ρ_j the autocorrelation of the growth of blocks of m steps at distance j, summed while pairs of
    neighbours stay positive. A standard error of batch means is right once blocks are much longer than τ.

    Args:
        spectrum: with many blocks; its resolution is a block, so that τ ≈ m says no more than "at most a block".

    Returns:
        (k,) in the order of the exponents; NaN where a direction was lost.

    Source: the initial positive sequence of Geyer 1992, Statistical Science 7, 473.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> factors = jnp.exp(jax.random.normal(jax.random.key(0), (4096, 1)))
    >>> found = lyapunov.spectrum(lambda p, h, x: x * h, (), jnp.ones(1), factors, blocks=1024)
    >>> 3 < float(lyapunov.autocorrelation_time(found)[0]) < 5  # independent factors: one block of 4 steps
    True
    """
    growth = spectrum.block_growth
    lost = jnp.isneginf(growth).any(0)
    order = jnp.argsort(-jnp.where(lost, -jnp.inf, growth.sum(0)))
    rates = (jnp.where(lost, 0, growth) / spectrum.block_steps.astype(growth.dtype)[:, None])[:, order]
    factor = integrated_autocorrelation(rates)
    return jnp.where(lost[order], jnp.nan, factor * spectrum.block_steps.astype(growth.dtype).mean())
