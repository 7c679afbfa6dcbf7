"""How far back does the state remember."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import compiled, require_at


class Horizon(NamedTuple):
    """After how many steps transport has fallen below a level for good."""

    lags: Array  # one per quantile, steps; inf where the sequences were too short to see it
    censored: Array  # share of starting times that were still above the level when their sequence ended


def horizon(
    log_transport: Array,
    *,
    level: ArrayLike = 0.36787944117144233,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
    stride: int = 1,
    lengths: Array | None = None,
) -> Horizon:
    """How many steps until transport has fallen below a level for good, with quantiles over starting times.

    A starting time k whose transport is still at or above the level when the sequence ends is censored: it is known to
    last that long, not how long. Quantiles are those of the Kaplan–Meier estimate of the survival S(lag).

    Args:
        log_transport: (T + 1, K) or (B, T + 1, K), from ``log_transport`` with the same ``stride``.
        level: what counts as forgotten, 1/e by default (so the horizon of rate λ < 0 is 1/|λ|).
        quantiles: which quantiles over starting times (and sequences).
        stride: the stride of the starting times.
        lengths: (B,) or scalar, the last time t of each sequence where they are ragged; T by default.

    Returns:
        ``Horizon``; a quantile is inf where the data end before S falls to it, and NaN if any entry is NaN.

    Raises:
        ValueError: quantiles outside (0, 1), or a stride that does not fit the number of columns.

    >>> from jaxrnn import flow
    >>> transport = flow.log_transport(lambda a, h, x: a * h, 0.9, 1.0, None, length=40)
    >>> [float(lag) for lag in flow.horizon(transport).lags]  # 0.9^10 = 0.349 < 1/e
    [10.0, 10.0, 10.0]
    """
    require_at("stride", stride, 1, None, "the distance between starting times")
    if not quantiles or not all(0 < q < 1 for q in quantiles):
        raise ValueError(f"quantiles={quantiles} must be numbers in (0, 1)")
    log_transport = jnp.asarray(log_transport)
    if log_transport.ndim not in (2, 3) or log_transport.shape[-2] < 2:
        raise ValueError(f"log_transport has shape {log_transport.shape}; allowed are (T + 1, K) and (B, T + 1, K) with T ≥ 1")
    if log_transport.shape[-1] != -(-log_transport.shape[-2] // stride):
        T = log_transport.shape[-2] - 1
        raise ValueError(f"log_transport has {log_transport.shape[-1]} columns; stride={stride} over T={T} gives {-(-(T + 1) // stride)}")
    ends = jnp.broadcast_to(jnp.asarray(log_transport.shape[-2] - 1 if lengths is None else lengths), log_transport.shape[:-2])
    return _horizon(log_transport, jnp.log(level), ends, quantiles=tuple(float(q) for q in quantiles), stride=stride)


@compiled("quantiles", "stride")
def _horizon(log_transport: Array, log_level: Array, ends: Array, *, quantiles: tuple[float, ...], stride: int) -> Horizon:
    last = log_transport.shape[-2] - 1
    t, k = jnp.arange(last + 1)[:, None], stride * jnp.arange(log_transport.shape[-1])[None]
    ends = ends[..., None].astype(t.dtype)
    real = (t >= k) & (t <= ends[..., None])
    unknown = jnp.any(jnp.isnan(log_transport) & real)
    above = (log_transport >= log_level) & real
    kept = jnp.max(jnp.where(above, t - k, -1), axis=-2)  # the last lag at which it still stood
    window = jnp.broadcast_to(ends - k[0], kept.shape)
    usable = window > 0  # a start at T has nothing to say
    ended = (kept < window) & usable
    lags = jnp.arange(1, last + 1)
    # An end at kept + 1 is an event at that lag; at risk are those not yet ended whose sequence is long enough.
    events = jnp.sum((kept[..., None] + 1 == lags) & ended[..., None], axis=tuple(range(kept.ndim)))
    risk = jnp.sum((kept[..., None] + 1 >= lags) & (window[..., None] >= lags), axis=tuple(range(kept.ndim)))
    survival = jnp.cumprod(1 - events / jnp.maximum(risk, 1))
    reached = survival <= 1 - jnp.asarray(quantiles, survival.dtype)[:, None] + 1e-6  # rounding of the product
    found = jnp.where(reached.any(-1), lags[jnp.argmax(reached, -1)].astype(survival.dtype), jnp.inf)
    found = jnp.where(unknown, jnp.nan, found)
    return Horizon(found, 1 - jnp.sum(ended) / jnp.maximum(jnp.sum(usable), 1))
