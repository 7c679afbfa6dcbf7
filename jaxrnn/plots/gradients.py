"""Where the gradient of the loss comes from, and whether it arrives: along the lags, back through time, over training."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxrnn.plots.axes import COLOURS, DEEP, ascending, axes, curve, edges, finish, given, heat, line, named, slope, zeros

_FLOOR = 1e-16  # shares below this are rounding


def gradient_by_lag(
    log_by_lag: Any, lag_share: Any, cosine: Any, *, lag_share_errors: Any = None, truncation_lag: int | None = None, ax: Axes | None = None
) -> Axes:
    """Where along the lags the gradient of the loss comes from.
    Returns the axes, logarithmic in y; what is below 1e-16 lies outside.

    Args:
        log_by_lag: (lags,) log of Σ_t ‖term(t, t − lag)‖, nats.
        lag_share: (lags,) share of the terms' norm at lags ≥ lag.
        cosine: (lags,) of the gradient truncated at that lag with the full one.
        lag_share_errors: (lags,) standard errors of ``lag_share``, drawn as a band of ± 2.
        truncation_lag: lag to mark, for a cosine of 0.99.

    >>> from jaxrnn import plots
    >>> plots.gradient_by_lag([0.0, -0.7], [1.0, 0.33], [0.9, 1.0]).get_xlabel()
    'lag t − k (steps)'
    """
    logs = given("log_by_lag", log_by_lag, "(lags,)")
    cosine, lags = given("cosine", cosine, f"({logs.size},)"), np.arange(logs.size)
    share, ax = given("lag_share", lag_share, f"({logs.size},)"), axes(ax)
    total = np.logaddexp.reduce(logs[np.isfinite(logs)], initial=-np.inf)
    here = np.exp(np.where(np.isfinite(logs), logs, -np.inf) - total) if np.isfinite(total) else lags * np.nan
    ax.plot(lags, here, ".", color=COLOURS[2], label="share at this lag")
    line(ax, lags, 1 - cosine, ls="--", color=COLOURS[1], label="1 − cosine(truncated here, full)")
    _share(ax, share, lag_share_errors, "share at this lag or longer")
    if truncation_lag is not None:
        ax.axvline(truncation_lag, color="0.4", lw=1, ls=":", label=f"cosine 0.99 from lag {truncation_lag} on")
    return finish(ax, "lag t − k (steps)", "share (dimensionless)", "Where along the lags the gradient comes from", columns=2)


def lag_share(share: Any, errors: Any = None, *, label: str | None = None, ax: Axes | None = None) -> Axes:
    """Share of the gradient's terms at a lag or longer ones; call it again on its axes to compare.
    Returns the axes, logarithmic in y; what is below 1e-16 lies outside.

    Args:
        share: (lags,) share of the terms' norm at lags ≥ lag.
        errors: (lags,) its standard errors, drawn as a band of ± 2 where finite.
        label: name of the curve.

    >>> from jaxrnn import plots
    >>> [text.get_text() for text in plots.lag_share([1, 0.5], label="after", ax=plots.lag_share([1, 0.1], label="before")).get_legend().get_texts()]
    ['before', 'after']
    """
    share, ax = given("share", share, "(lags,)"), axes(ax)
    _share(ax, share, errors, label)
    return finish(ax, "lag t − k (steps)", "share (dimensionless)", "Share of the gradient's terms at this lag or longer ones")


def state_gradients(log_gradient: Any, *, rate: float | None = None, rate_error: float | None = None, ax: Axes | None = None) -> Axes:
    """How the gradient of the last loss changes on its way back through time, beside the slope of the leading Lyapunov exponent.
    Returns the axes; the data set their limits, not the line.

    Args:
        log_gradient: (T + 1,) log‖∂L_T/∂h_t‖ by lag T − t, nats, a mean over sequences; or (3, T + 1), their 10, 50 and 90 % quantiles.
        rate: λ₁, nats per step; its line passes through the mean of the finite points.
        rate_error: standard error of ``rate``, nats per step, drawn as a wedge of ± 2.

    >>> from jaxrnn import plots
    >>> plots.state_gradients([0.0, -0.2, -0.4], rate=-0.182, rate_error=0.003).get_legend().get_texts()[-1].get_text()
    'slope λ₁ = −0.182 ± 0.003 nats per step'
    """
    values, ax = given("log_gradient", log_gradient, "(T + 1,)", "(3, T + 1)"), axes(ax)
    quantiles, lags = np.broadcast_to(values, (3, values.shape[-1])), np.arange(values.shape[-1])
    curve(ax, lags, quantiles, "mean over sequences" if values.ndim == 1 else "median, 10–90 % of the sequences")
    slope(ax, lags, quantiles[1], rate, rate_error)
    return finish(ax, "lag T − t (steps)", r"$\log\,\|\partial L_T/\partial h_t\|$ (nats)", "Gradient of the last loss, followed back in time")


def training(loss: Any, gradient_norm: Any, *, ax: Axes | None = None) -> Axes:
    """Training loss, and on a second axis the norm of its gradient.
    Returns the axes of the loss; the first step that is not finite is marked.

    Args:
        loss: (steps,) in its own unit; its axis is logarithmic if all of it is positive and it spans a decade.
        gradient_norm: (steps,) loss per parameter, on a logarithmic axis; an exact zero is a triangle on the lower edge.

    >>> from jaxrnn import plots
    >>> plots.training([2.0, 1.0, float("nan")], [1.0, 3.0, float("inf")]).texts[0].get_text()
    'not finite at step 2'
    """
    loss = given("loss", loss, "(steps,)")
    norm, ax = given("gradient_norm", gradient_norm, f"({loss.size},)"), axes(ax)
    steps, second = np.arange(loss.size), ax.twinx()
    for j, (axis, values) in enumerate(((ax, loss), (second, norm))):
        finite = values[np.isfinite(values)]
        line(axis, steps, values, lw=2 - 1.2 * j, color=COLOURS[j])
        if (finite > 0).any() and (j or finite.max() >= 10 * finite.min() > 0):
            axis.set_yscale("log")
        axis.tick_params(axis="y", which="both", labelcolor=COLOURS[j], labelsize=11)
    ax.set(zorder=second.get_zorder() + 1, frame_on=False)
    zeros(second, steps[norm == 0], 1)
    second.set_ylabel("gradient norm, thin (loss per parameter)", fontsize=11, color=COLOURS[1])
    for step in np.flatnonzero(~(np.isfinite(loss) & np.isfinite(norm)))[:1]:
        ax.axvline(step, color="0.3", lw=1, ls="--")
        side = "left" if step < loss.size / 2 else "right"
        ax.text(step, 1.01, f"not finite at step {step}", ha=side, fontsize=9, transform=ax.get_xaxis_transform())
    ax.update_datalim([(0, 0), (max(loss.size - 1, 1), 0)], updatey=False)
    return finish(ax, "training step (steps)", "loss, thick (its own unit)", "Training loss and the norm of its gradient")


def input_gradients(log_norms: Any, *, rate: float | None = None, rate_error: float | None = None, ax: Axes | None = None) -> Axes:
    """How much the loss listens to the input of each step.
    Returns the axes; the data set their limits, not the line.

    Args:
        log_norms: (T,) log‖∂L/∂x_t‖ for t = 1..T, nats; or (3, T), its 10, 50 and 90 % quantiles over sequences.
        rate: λ₁, nats per step: with a loss at the end, inputs lose or gain so much with every step that they lie back. Its line, of
            slope −λ₁, passes through the mean of the finite points.
        rate_error: standard error of ``rate``, nats per step, drawn as a wedge of ± 2.

    >>> from jaxrnn import plots
    >>> plots.input_gradients([-0.4, -0.2, 0.0], rate=-0.2).get_legend().get_texts()[-1].get_text()
    'slope −λ₁ = 0.2 nats per step'
    """
    values, ax = given("log_norms", log_norms, "(T,)", "(3, T)"), axes(ax)
    quantiles, times = np.broadcast_to(values, (3, values.shape[-1])), 1 + np.arange(values.shape[-1])
    curve(ax, times, quantiles, "log-norm of the gradient" if values.ndim == 1 else "median, 10–90 % of the sequences")
    slope(ax, times, quantiles[1], None if rate is None else -rate, rate_error, name="−λ₁")
    return finish(ax, "time t of the input (steps)", r"$\log\,\|\partial L/\partial x_t\|$ (nats)", "How much the loss listens to each input")


def contributions(signed: Any, *, times: Any = None, ax: Axes | None = None) -> Axes:
    """Heat map of how far each term (t, k) moves along the whole gradient: red adds to it, blue works against it.
    Returns the axes; pairs that cannot be are grey.

    Args:
        signed: (S, T) term(t, k) · gradient / ‖gradient‖² at [index of t, k − 1], as a fraction: all of them sum to 1.
        times: (S,) their times t, ascending; 1..T by default.

    >>> from jaxrnn import plots
    >>> plots.contributions([[0.5, 0.0], [-0.2, 0.7]]).get_xlabel()
    'time k at which the parameters act (steps)'
    """
    values, ax = given("signed", signed, "(S, T)"), axes(ax)
    times = _times(times, values)
    k = 1 + np.arange(values.shape[1])
    unseen = (k > times[:, None]) | np.isnan(values)
    seen = np.abs(values[~unseen & np.isfinite(values)])
    limit = float(np.clip(100 * seen.max(initial=0.0), 1e-6, DEEP)) or 1.0
    x, y = edges(k), edges(times)
    y[[0, -1]] = (times[0] - 0.5, times[-1] + 0.5) if times.size else y[[0, -1]]
    heat(ax, x, y, np.clip(values, -DEEP, DEEP) * 100, unseen, limit, "share of the gradient (per cent; all sum to 100)")
    ax.set(xlim=(x[0], max(x[-1], 0.5)), ylim=(max(y[-1], 0.5), y[0]))
    return finish(ax, "time k at which the parameters act (steps)", "time t of the loss (steps)", "What each term adds to the gradient")


def contribution_by_lag(signed: Any, *, times: Any = None, ax: Axes | None = None) -> Axes:
    """By how far the gradient has come when terms up to a lag are summed, and what each lag adds.
    Returns the axes.

    Args:
        signed: (S, T) term(t, k) · gradient / ‖gradient‖² at [index of t, k − 1], as a fraction: all of them sum to 1.
        times: (S,) their times t, ascending; 1..T by default.

    >>> from jaxrnn import plots
    >>> ax = plots.contribution_by_lag([[0.5, 0.0], [-0.2, 0.7]])
    >>> [line.get_ydata().round(3).tolist() for line in ax.get_lines()[2:]]
    [[1.2, 1.0]]
    """
    values, ax = given("signed", signed, "(S, T)"), axes(ax)
    lags = _times(times, values)[:, None] - 1 - np.arange(values.shape[1])
    reached = np.arange(int(lags.max(initial=-1)) + 1)
    known = np.where(np.isfinite(values), values, np.nan)[lags >= 0]
    each = np.bincount(lags[lags >= 0].astype(int), known, reached.size)[: reached.size]
    sums = np.cumsum(each, dtype=float)
    for height in (0, 1):
        ax.axhline(height, color="0.5", lw=1, ls="-" if height else ":")
    for sign, colour in ((1, COLOURS[1]), (-1, COLOURS[0])):  # as on the map
        if (bars := sign * each > 0).any():
            ax.bar(reached[bars], each[bars], 0.8, color=colour)
    ax.use_sticky_edges = False  # bars would end at the frame
    line(ax, reached, sums, color=COLOURS[6], label=named("sum up to this lag; bars: this lag alone", sums))
    ax.update_datalim([(-0.5, 0), (max(reached.size, 1) - 0.5, 1.05)])
    return finish(ax, "lag t − k (steps)", "share of the gradient (dimensionless)", "How the gradient adds up along the lags")


def long_lag_signal(signal: Any, noise: Any, *, batch: int | None = None, ax: Axes | None = None) -> Axes:
    """From which lag on the gradient of a batch is noise.
    Returns the axes, logarithmic in y; a 0 is a triangle on the lower edge.

    Args:
        signal: (lags,) norm of the mean gradient from lags ≥ lag, loss per parameter; 0 where none was seen.
        noise: standard deviation of the gradient from one sequence, loss per parameter; (lags,) or one number for all lags.
        batch: sequences in a batch, of which the noise is 1/√batch; one by default.

    >>> from jaxrnn import plots
    >>> plots.long_lag_signal([1.0, 0.1, 0.01], 0.5, batch=100).get_legend().get_texts()[-1].get_text()
    'noise wins from lag 2 on'
    """
    signal = given("signal", signal, "(lags,)")
    if batch is not None and batch < 1:
        raise ValueError(f"batch={batch} must be at least 1")
    noise = np.broadcast_to(given("noise", noise, "()", f"({signal.size},)"), signal.shape) / math.sqrt(batch or 1)
    lags, ax = np.arange(signal.size), axes(ax)
    unseen = int((signal == 0).sum())
    drawn = [np.where(values > 0, values, np.nan) for values in (signal, noise)]
    line(
        ax,
        lags,
        drawn[0],
        color=COLOURS[0],
        label=named("signal", (0,) if unseen else drawn[0], f"{unseen} of {signal.size} not seen" * (unseen > 0)),
    )
    whose = "one sequence" if batch is None else f"a batch of {batch:,}"
    line(ax, lags, drawn[1], color=COLOURS[1], ls="--", label=named(f"noise of {whose}", drawn[1]))
    if any(np.isfinite(values).any() for values in drawn):
        ax.set_yscale("log")
    zeros(ax, lags[signal == 0], 0)
    if (known := np.isfinite(signal) & np.isfinite(noise)).any():
        first = int(np.flatnonzero(known & (signal > noise)).max(initial=-1)) + 1
        if first <= np.flatnonzero(known)[-1]:
            ax.axvline(first, color="0.4", lw=1, ls=":", label=f"noise wins from lag {first} on")
    ax.update_datalim([(0, 0), (max(signal.size - 1, 1), 0)], updatey=False)
    return finish(ax, "lag (steps)", "norm (loss per parameter)", "Gradient from this lag or longer ones, against its noise", columns=2)


def _times(times: Any, values: np.ndarray) -> np.ndarray:
    """The times of the rows of a matrix (S, T) of terms."""
    S, T = values.shape
    if times is None and S != T:
        raise ValueError(f"signed has shape ({S}, {T}): give the times of its {S} rows")
    return ascending("times", 1.0 + np.arange(S) if times is None else times, f"({S},)")


def _share(ax: Axes, share: np.ndarray, errors: Any, label: str | None) -> None:
    """A curve of shares, and a logarithmic axis down to the decade of the smallest share drawn."""
    errors = share * np.nan if errors is None else given("errors", errors, f"({share.size},)")
    errors = 2 * np.where(np.abs(errors) < DEEP, errors, np.nan)
    curve(ax, np.arange(share.size), (np.clip(share - errors, _FLOOR, 2), share, np.clip(share + errors, _FLOOR, 2)), label)
    heights = np.concatenate([line.get_ydata(orig=False) for line in ax.get_lines()])
    least = max(_FLOOR, heights[heights > 0].min(initial=0.1))
    ax.set(ylim=(10.0 ** math.floor(math.log10(least)), 2), yscale="log")  # limits first, or it warns where no share is positive
