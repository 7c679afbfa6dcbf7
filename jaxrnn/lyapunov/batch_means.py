"""Standard errors of a mean from the means of consecutive batches, which may still remember one another."""

import jax.numpy as jnp
from jax import Array


def standard_error(means: Array, weights: Array) -> Array:
    """Standard error (k,) of Σ_b w_b x_b from batch means x (B, k) of shares w (B,) that sum to 1; inf for one batch.

    Var = Σ w_b² (x_b − x̄)² / (1 − Σ w_b²), times the integrated autocorrelation of the batches where that exceeds 1: batches that are
    not long against the memory of the series would otherwise promise too much.
    """
    if len(means) < 2:
        return jnp.full(means.shape[1], jnp.inf, means.dtype)
    weights = weights.astype(means.dtype)[:, None]
    centred = means - jnp.sum(weights * means, 0)
    variance = jnp.sum((weights * centred) ** 2, 0) / (1 - jnp.sum(weights**2))
    return jnp.sqrt(variance * jnp.maximum(integrated_autocorrelation(means), 1))


def integrated_autocorrelation(series: Array) -> Array:
    """1 + 2 Σ ρ_j of a series (B, k) as (k,), at least 1/B, by the initial positive sequence of Geyer 1992."""
    count = len(series)
    centred = series - series.mean(0)
    padded = jnp.concatenate([centred, jnp.zeros_like(centred)])
    power = jnp.abs(jnp.fft.rfft(padded, axis=0)) ** 2
    covariance = jnp.fft.irfft(power, n=2 * count, axis=0)[:count]
    rho = covariance / jnp.where(covariance[0] == 0, 1, covariance[0])
    pairs = rho[: count - count % 2].reshape(-1, 2, series.shape[1]).sum(1)
    kept = jnp.cumprod((pairs > 0).astype(series.dtype), axis=0)
    return jnp.maximum(2 * jnp.sum(pairs * kept, 0) - 1, 1 / count)
