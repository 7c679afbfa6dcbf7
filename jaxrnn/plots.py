"""Arrays to axes. Every function takes an ``ax`` or makes one, and returns it; it knows no cell."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_FLOOR = 1e-16  # shares below this are rounding


def transport(log_transport: Any, *, stride: int = 1, ax: Axes | None = None) -> Axes:
    """Heat map of log(‖∂h_t/∂h_k‖_F / √n) over pairs of times; white is an isometry, blue vanishes, red explodes.

    Args:
        log_transport: (T + 1, K), nats, from ``flow.log_transport`` or a mean of such; NaN is left grey.
        stride: the stride of its starting times.
        ax: axes to draw on.

    Returns:
        The axes; the colour bar is cut at ±25 nats and says so.

    >>> import numpy as np
    >>> from jaxrnn import plots
    >>> plots.transport(np.where(np.tri(3) > 0, 0.0, -np.inf)).get_xlabel()
    'starting time k (steps)'
    """
    values = np.asarray(log_transport, np.float64)
    if values.ndim != 2:
        raise ValueError(f"log_transport has shape {values.shape}; allowed is (T + 1, K)")
    ax = _axes(ax)
    T = values.shape[0] - 1
    k = stride * np.arange(values.shape[1])
    future = np.arange(T + 1)[:, None] < k[None]
    unseen = future | np.isnan(values)
    seen = values[~unseen]
    finite = np.abs(seen[np.isfinite(seen)])
    limit = float(np.clip(finite.max(initial=0.0), 1.0, 25.0))
    cells = np.ma.masked_where(unseen, np.clip(np.nan_to_num(values, nan=0.0, neginf=-1e9, posinf=1e9), -1e9, 1e9))
    edges_k = np.append(k, k[-1] + stride) - stride / 2
    mesh = ax.pcolormesh(edges_k, np.arange(T + 2) - 0.5, cells, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
    ax.set_facecolor("0.85")
    ax.set(xlabel="starting time k (steps)", ylabel="time t (steps)", xlim=(edges_k[0], edges_k[-1]), ylim=(T + 0.5, -0.5))
    below, above = bool((seen < -limit).any()), bool((seen > limit).any())
    extend = "both" if below and above else "min" if below else "max" if above else "neither"
    bar = ax.figure.colorbar(mesh, ax=ax, extend=extend)
    bar.set_label(r"$\log(\|\partial h_t/\partial h_k\|_F\,/\sqrt{n})$ (nats)")
    ax.set_title("How much of a perturbation at time k is left at time t")
    return ax


def gradient_by_lag(
    log_by_lag: Any, lag_share: Any, cosine: Any, *, lag_share_errors: Any = None, truncation_lag: int | None = None, ax: Axes | None = None
) -> Axes:
    """Where along the lags the gradient of the loss comes from.

    Args:
        log_by_lag: (lags,) log of Σ_t ‖term(t, t − lag)‖, nats.
        lag_share: (lags,) share of the terms' norm at lags ≥ lag.
        cosine: (lags,) of the gradient truncated at that lag with the full one.
        lag_share_errors: (lags,) standard errors of ``lag_share``, drawn as a band of ± 2.
        truncation_lag: lag to mark, for a cosine of 0.99.
        ax: axes to draw on.

    Returns:
        The axes, logarithmic in y; what is below 1e-16 is not drawn.

    >>> import numpy as np
    >>> from jaxrnn import plots
    >>> plots.gradient_by_lag(np.log([1.0, 0.5]), np.array([1.0, 1 / 3]), np.array([0.9, 1.0])).get_xlabel()
    'lag t − k (steps)'
    """
    logs, share, cosine = (np.asarray(v, np.float64) for v in (log_by_lag, lag_share, cosine))
    ax = _axes(ax)
    lags = np.arange(len(share))
    total = np.logaddexp.reduce(logs) if np.isfinite(logs).any() else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        ax.plot(lags, _drawn(np.exp(logs - total)), ".", color="#009E73", label="share of the terms' norm at this lag")
    ax.plot(lags, _drawn(share), "-", color="#0072B2", label="… at this lag or longer")
    errors = np.full(len(share), np.inf) if lag_share_errors is None else np.asarray(lag_share_errors)
    if np.isfinite(errors).all():
        ax.fill_between(lags, np.maximum(share - 2 * errors, _FLOOR), np.minimum(share + 2 * errors, 1), color="#0072B2", alpha=0.2, lw=0)
    ax.plot(lags, _drawn(1 - cosine), "--", color="#D55E00", label="1 − cosine(truncated here, full)")
    if truncation_lag is not None:
        ax.axvline(truncation_lag, color="0.4", lw=1, ls=":", label=f"cosine 0.99 from lag {truncation_lag} on")
    positive = np.concatenate([share[share > 0], (1 - cosine)[1 - cosine > 0]])
    bottom = max(_FLOOR, 10.0 ** np.floor(np.log10(positive.min()))) if positive.size else 1e-3
    ax.set(yscale="log", ylim=(min(bottom, 0.1), 2), xlim=(-0.5, max(len(share) - 0.5, 1)))
    ax.set(xlabel="lag t − k (steps)", ylabel="share (dimensionless)", title="Where along the lags the gradient comes from")
    ax.legend(frameon=False, fontsize="small", loc="best")
    return ax


def save(draw: Callable[[Axes], Any]) -> bytes:
    """A PNG, as bytes, of what ``draw(ax)`` draws."""
    figure = Figure(figsize=(7.0, 5.0), layout="constrained", dpi=130)
    draw(figure.add_subplot())
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _axes(ax: Axes | None) -> Axes:
    """A fresh figure without pyplot: no global state, no window."""
    return Figure(figsize=(7.0, 5.0), layout="constrained").add_subplot() if ax is None else ax


def _drawn(values: np.ndarray) -> np.ndarray:
    return np.where(values > _FLOOR, values, np.nan)
