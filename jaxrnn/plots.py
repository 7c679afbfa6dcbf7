"""Arrays to axes. Every function draws on ``ax`` or on a figure of its own, and returns the axes; it knows no cell.

NaN is not drawn; a logarithm of −inf is a triangle on the lower edge, counted in the legend. Examples: ``from jaxrnn.plots import *``.
"""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from matplotlib.ticker import MaxNLocator

_FLOOR = 1e-16  # shares below this are rounding
_DEEP = 1e12  # stands for ±inf at the edge of a band: off every axis, and within what a renderer can clip
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe & Ito (2008), grey for their yellow
_TRANSPORT = r"$\log(\|\partial h_t/\partial h_k\|_F\,/\sqrt{n})$ (nats)"
_BLOCKS, _BARS = 16, 24  # lines that eight colours and two styles tell apart; names that can be read below each other
_POINTS, _RADIUS = 20_000, 20.0  # eigenvalues drawn; beyond it one would shrink the unit circle to a dot


def transport(log_transport: Any, *, stride: int = 1, ax: Axes | None = None) -> Axes:
    """Heat map of log(‖∂h_t/∂h_k‖_F / √n) over pairs of times; white is an isometry, blue vanishes, red explodes.
    Returns the axes; the colour bar is cut at ±25 nats and says so.

    Args:
        log_transport: (T + 1, K), nats, from ``flow.log_transport`` or a mean of such; NaN is left grey.
        stride: the stride of its starting times.

    >>> transport([[0.0, float("-inf")], [-0.1, 0.0]]).get_xlabel()
    'starting time k (steps)'
    """
    values, ax = _given("log_transport", log_transport, "(T + 1, K)"), _axes(ax)
    t, k = np.arange(values.shape[0] + 1) - 0.5, stride * (np.arange(values.shape[1] + 1) - 0.5)
    unseen = (t[:-1, None] + 0.5 < k[None, :-1] + stride / 2) | np.isnan(values)
    seen = values[~unseen]
    limit = float(np.clip(np.abs(seen[np.isfinite(seen)]).max(initial=0.0), 1.0, 25.0))
    cells = np.ma.masked_where(unseen, np.clip(np.nan_to_num(values, nan=0.0), -_DEEP, _DEEP))
    mesh = ax.pcolormesh(k, t, cells, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
    ax.set(facecolor="0.85", xlim=(k[0], max(k[-1], 0.5)), ylim=(max(t[-1], 0.5), -0.5))
    extend = ("neither", "min", "max", "both")[int((seen < -limit).any()) + 2 * int((seen > limit).any())]
    ax.figure.colorbar(mesh, ax=ax, extend=extend).set_label(_TRANSPORT, fontsize=11)
    return _finish(ax, "starting time k (steps)", "time t (steps)", "How much of a perturbation at time k is left at time t")


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

    >>> gradient_by_lag([0.0, -0.7], [1.0, 0.33], [0.9, 1.0]).get_xlabel()
    'lag t − k (steps)'
    """
    logs = _given("log_by_lag", log_by_lag, "(lags,)")
    cosine, lags = _given("cosine", cosine, f"({logs.size},)"), np.arange(logs.size)
    share, ax = _given("lag_share", lag_share, f"({logs.size},)"), _axes(ax)
    total = np.logaddexp.reduce(logs[np.isfinite(logs)], initial=-np.inf)
    here = np.exp(np.where(np.isfinite(logs), logs, -np.inf) - total) if np.isfinite(total) else lags * np.nan
    ax.plot(lags, here, ".", color=_COLOURS[2], label="share at this lag")
    _line(ax, lags, 1 - cosine, ls="--", color=_COLOURS[1], label="1 − cosine(truncated here, full)")
    _share(ax, share, lag_share_errors, "share at this lag or longer")
    if truncation_lag is not None:
        ax.axvline(truncation_lag, color="0.4", lw=1, ls=":", label=f"cosine 0.99 from lag {truncation_lag} on")
    return _finish(ax, "lag t − k (steps)", "share (dimensionless)", "Where along the lags the gradient comes from", columns=2)


def lag_share(share: Any, errors: Any = None, *, label: str | None = None, ax: Axes | None = None) -> Axes:
    """Share of the gradient's terms at a lag or longer ones; call it again on its axes to compare.
    Returns the axes, logarithmic in y; what is below 1e-16 lies outside.

    Args:
        share: (lags,) share of the terms' norm at lags ≥ lag.
        errors: (lags,) its standard errors, drawn as a band of ± 2 where finite.
        label: name of the curve.

    >>> [text.get_text() for text in lag_share([1, 0.5], label="after", ax=lag_share([1, 0.1], label="before")).get_legend().get_texts()]
    ['before', 'after']
    """
    share, ax = _given("share", share, "(lags,)"), _axes(ax)
    _share(ax, share, errors, label)
    return _finish(ax, "lag t − k (steps)", "share (dimensionless)", "Share of the gradient's terms at this lag or longer ones")


def state_gradients(log_gradient: Any, *, rate: float | None = None, rate_error: float | None = None, ax: Axes | None = None) -> Axes:
    """How the gradient of the last loss changes on its way back through time, beside the slope of the leading Lyapunov exponent.
    Returns the axes; the data set their limits, not the line.

    Args:
        log_gradient: (T + 1,) log‖∂L_T/∂h_t‖ by lag T − t, nats, a mean over sequences; or (3, T + 1), their 10, 50 and 90 % quantiles.
        rate: λ₁, nats per step; its line passes through the mean of the finite points.
        rate_error: standard error of ``rate``, nats per step, drawn as a wedge of ± 2.

    >>> state_gradients([0.0, -0.2, -0.4], rate=-0.182, rate_error=0.003).get_legend().get_texts()[-1].get_text()
    'slope λ₁ = −0.182 ± 0.003 nats per step'
    """
    values, ax = _given("log_gradient", log_gradient, "(T + 1,)", "(3, T + 1)"), _axes(ax)
    quantiles, lags = np.broadcast_to(values, (3, values.shape[-1])), np.arange(values.shape[-1])
    _curve(ax, lags, quantiles, "mean over sequences" if values.ndim == 1 else "median, 10–90 % of the sequences")
    known = np.isfinite(quantiles[1])
    if rate is not None and known.any():
        at, finite = (lags[known].mean(), quantiles[1][known].mean()), bool(np.isfinite(rate))
        spread = "" if rate_error is None else f" ± {rate_error:.1g}" if np.isfinite(rate_error) else " ± unknown"
        label = f"slope λ₁ = {rate:.4g}{spread} nats per step".replace("-", "−")
        ax.axline(at, slope=rate if finite else 0, ls="--" if finite else "", color=_COLOURS[1], label=label)
        if finite and rate_error is not None and np.isfinite(rate_error):
            low, high = (np.clip(rate + 2 * s * rate_error, -_DEEP, _DEEP) * (np.array([0, lags[-1]]) - at[0]) + at[1] for s in (-1, 1))
            wedge = [(0, low[0]), at, (lags[-1], low[1]), (lags[-1], high[1]), at, (0, high[0])]
            ax.add_artist(Polygon(wedge, color=_COLOURS[1], alpha=0.25, lw=0))  # unlike add_patch, it leaves the limits to the data
    return _finish(ax, "lag T − t (steps)", r"$\log\,\|\partial L_T/\partial h_t\|$ (nats)", "Gradient of the last loss, followed back in time")


def eigenvalues(eigenvalues: Any, times: Any, *, ax: Axes | None = None) -> Axes:
    """Eigenvalues of Jacobians in the complex plane against the unit circle, coloured by time.
    Returns the axes; of more than 20,000 points a random sample is drawn, and none beyond |λ| = 20: the title counts them.

    Args:
        eigenvalues: (P, n) complex, dimensionless, one row for each Jacobian.
        times: (P,) their times, steps.

    >>> eigenvalues([[0.5 + 0.5j, 0.5 - 0.5j], [30.0, 0.9]], [1, 2]).get_title().splitlines()
    ['Eigenvalues of 2 Jacobians against the unit circle', 'left out: 1 with |λ| > 20']
    """
    values = _given("eigenvalues", eigenvalues, "(P, n)", dtype=np.complex128)
    P, n = values.shape
    times, finite = np.repeat(_given("times", times, f"({P},)"), n), np.isfinite(values.ravel())
    near = np.flatnonzero(np.abs(np.where(finite, values.ravel(), np.inf)) <= _RADIUS)
    drawn = np.random.default_rng(0).permutation(near)[:_POINTS]  # at random, lest late times cover early ones
    points, ax = values.ravel()[drawn], _axes(ax)
    look: dict[str, Any] = {"s": np.clip(8000 / max(drawn.size, 1), 4, 25), "cmap": "viridis", "lw": 0, "rasterized": True}
    dots = ax.scatter(points.real, points.imag, c=times[drawn], **look)
    if np.isfinite(times[drawn]).any():
        dots.set_clim(np.nanmin(times[drawn]) - 0.5, np.nanmax(times[drawn]) + 0.5)  # one time alone has a colour too
    ax.add_patch(Circle((0, 0), 1, fill=False, color="0.2", lw=1.2, ls="--"))
    reach = 1.1 * np.abs([points.real, points.imag]).max(initial=1)
    ax.locator_params(nbins=6)
    ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
    ax.figure.colorbar(dots, ax=ax, ticks=MaxNLocator(5, integer=True, min_n_ticks=1)).set_label("time t (steps)", fontsize=11)
    counts = {"thinned": near.size - drawn.size, f"with |λ| > {_RADIUS:g}": finite.sum() - near.size, "not finite": (~finite).sum()}
    notes = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    title = f"Eigenvalues of {P:,} Jacobian{'s' * (P != 1)} against the unit circle" + f"\nleft out: {notes}" * bool(notes)
    return _finish(ax, "real part (dimensionless)", "imaginary part (dimensionless)", title)


def product_singular_values(log_sigma: Any, lags: Any, *, ax: Axes | None = None) -> Axes:
    """Singular values of the product of the Jacobians from the start of each sequence: medians and 10–90 % bands for i = 1, 2, 4, 8, 16.
    Returns the axes; a lag is drawn where at least half of the sequences are known, lest those that are left stand for all.

    Args:
        log_sigma: (B, L, k) log σ_i(∂h_lag/∂h_0), nats, descending in i.
        lags: (L,) steps from the start.

    >>> [text.get_text() for text in product_singular_values([[[0.0, -1.0, -2.0]]], [1]).get_legend().get_texts()]
    ['σ₁', 'σ₂']
    """
    values, ax = _given("log_sigma", log_sigma, "(B, L, k)"), _axes(ax)
    B, L, k = values.shape
    lags, known = _given("lags", lags, f"({L},)"), (~np.isnan(values)).sum(0)
    ordered = np.sort(np.pad(values, ((0, 1), (0, 0), (0, 0)), constant_values=np.nan), 0)
    ranks = np.stack([np.maximum(np.ceil(q * known).astype(int) - 1, 0) for q in (0.1, 0.5, 0.9)])  # never between −inf and a number
    quantiles = np.where(2 * known >= B, np.take_along_axis(ordered, ranks, 0), np.nan)
    ax.axhline(0, color="0.5", lw=1)
    for i in (i for i in (1, 2, 4, 8, 16) if i <= k):
        _curve(ax, lags, quantiles[..., i - 1], "σ" + str(i).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")))
    title = f"Singular values of ∂hₜ/∂h₀: median, 10–90 % of {B} sequence{'s' * (B != 1)}"
    return _finish(ax, "lag t (steps from the start)", "log σ (nats; 0 is an isometry)", title, columns=5 if np.isfinite(values).all() else 2)


def lyapunov_spectrum(exponents: Any, standard_errors: Any, *, label: str | None = None, ax: Axes | None = None) -> Axes:
    """Lyapunov exponents with ± 2 standard errors; call it again on its axes to compare.
    Returns the axes; lost directions are triangles on the lower edge and counted in the legend.

    Args:
        exponents: (k,) descending, nats per step; −inf is a lost direction.
        standard_errors: (k,) nats per step; inf or NaN has no bar.
        label: name of the spectrum.

    >>> lyapunov_spectrum([0.1, -0.2, float("-inf")], [0.01, 0.01, float("inf")]).get_legend().get_texts()[0].get_text()
    '1 of 3 lost'
    """
    values, ax = _given("exponents", exponents, "(k,)"), _axes(ax)
    errors = _given("standard_errors", standard_errors, f"({values.size},)")
    j = len(ax.containers)  # spectra that are here already
    if j == 0:
        ax.axhline(0, color="0.5", lw=1)
    colour, index = _COLOURS[j % 8], np.arange(1, values.size + 1) + 0.15 * (j % 5)
    heights, bars = np.where(np.isfinite(values), values, np.nan), 2 * np.where(errors < _DEEP, errors, np.nan)
    size, lost = 5 if values.size <= 64 else 2.5, np.isneginf(values)
    name = _named(label, np.where(lost, 0, values))
    ax.errorbar(index, heights, bars, fmt="os^D"[j % 4], ms=size, elinewidth=1, color=colour, label=name)
    if lost.any():
        _zeros(ax, index[lost], j, _named(label, lost=f"{lost.sum()} of {lost.size} lost"))
    ax.update_datalim([(0.5, 0), (values.size + 0.5, 0)], updatey=False)
    return _finish(ax, "index i (rank)", "exponent λ (nats per step)", "Lyapunov spectrum with ± 2 standard errors", columns=2)


def transport_blocks(blocks: dict[tuple[str, str], Any], *, ax: Axes | None = None) -> Axes:
    """How much of a perturbation of one part of the state reaches another, by lag.
    Returns the axes; the title counts those left out.

    Args:
        blocks: {(from, to): (T + 1,)} median of the log transport by lag, nats; 16 are drawn, those largest after lag 0.

    >>> transport_blocks({("h", "c"): [-1.0, -1.5]}).get_legend().get_texts()[0].get_text()
    'h → c'
    """
    ax, curves = _axes(ax), {pair: _given(f"blocks[{pair!r}]", v, "(T + 1,)") for pair, v in blocks.items()}
    largest = lambda pair: np.nan_to_num(curves[pair][1:], nan=-np.inf).max(initial=-np.inf)
    kept = set(sorted(curves, key=largest, reverse=True)[:_BLOCKS])
    for pair in (pair for pair in curves if pair in kept):
        source, target = (_literal(part, 14) for part in pair)
        _curve(ax, np.arange(curves[pair].size), np.broadcast_to(curves[pair], (3, curves[pair].size)), f"{source} → {target}")
    left = len(curves) - len(kept)
    title = "How much of a perturbation of one part reaches another" + f"\n{left} of {len(curves)} pairs left out, the weakest" * (left > 0)
    return _finish(ax, "lag t − k (steps)", "log transport (nats)", title, columns=0)


def units(shares: Any, names: Any, *, top: int = 20, ax: Axes | None = None) -> Axes:
    """Which units hold the direction that is remembered best: at the start, and where it is found at the end.
    Returns the axes; the legend says how many units hold 90 % of each direction.

    Args:
        shares: (2, n) squared entries of the singular vectors, each row sums to 1: of the start state, of the end state.
        names: n names of the units, drawn as they are.
        top: how many units to draw, those with the largest sum; at most 24.

    >>> units([[0.9, 0.1], [0.5, 0.5]], ["h[0]", "h[1]"]).get_legend().get_texts()[0].get_text()
    'at the start: 1 of 2 units hold 90 %'
    """
    values, ax = _given("shares", shares, "(2, n)"), _axes(ax)
    names, n = _given("names", names, f"({values.shape[1]},)", dtype=object), values.shape[1]
    if not 1 <= top <= _BARS:
        raise ValueError(f"top={top} must lie in [1, {_BARS}], the names that can be read below each other")
    values = np.where(np.isfinite(values), values, 0)
    order = np.argsort(-values.sum(0), kind="stable")[: max(1, min(top, (values.sum(0) > 1e-6).sum()))]
    y = np.arange(order.size)
    for j, (row, where) in enumerate(zip(values, ("at the start", "at the end"), strict=True)):
        held = np.cumsum(np.sort(row)[::-1])
        holders = f"{1 + int(np.argmax(held >= 0.9 * held[-1]))} of {n} units hold 90 %" if row.any() else "unknown"
        ax.barh(y + 0.4 * j - 0.2, row[order], 0.4, color=_COLOURS[4 * j], label=f"{where}: {holders}")
    ax.set_yticks(y, [_literal(str(names[i]), 24) for i in order], parse_math=False, fontsize=8.5)
    ax.set(ylim=(max(y.size, 1) - 0.4, -0.6), xlim=(0, 1.05 * values[:, order].max(initial=0) or 1))
    x, title = "share of the direction (dimensionless)", f"Units of the direction remembered best: {y.size} of {n}"
    return _finish(ax, x, "unit (coordinate of the state)", title)


def transport_by_lag(quantiles: Any, *, level: float = 1 / math.e, label: str | None = None, ax: Axes | None = None) -> Axes:
    """How much of a perturbation is left after a lag; call it again on its axes to compare.
    Returns the axes.

    Args:
        quantiles: (3, T + 1) 10, 50 and 90 % quantiles of log(‖∂h_t/∂h_k‖_F / √n) by lag t − k, nats.
        level: transport below it counts as forgotten, dimensionless, > 0; marked by a dotted line.
        label: name of the curve.

    >>> transport_by_lag([[0.0, -1.2], [0.0, -1.0], [0.0, -0.8]]).get_legend().get_texts()[0].get_text()
    'forgotten below 1/e'
    """
    values, ax = _given("quantiles", quantiles, "(3, T + 1)"), _axes(ax)
    if not 0 < level < np.inf:
        raise ValueError(f"level={level} must be positive and finite")
    if not ax.collections:
        ax.axhline(math.log(level), color="0.3", ls=":", lw=1.2, label=f"forgotten below {'1/e' if level == 1 / math.e else f'{level:g}'}")
    _curve(ax, np.arange(values.shape[1]), values, label or "median, 10–90 %")
    return _finish(ax, "lag t − k (steps)", _TRANSPORT, "How much of a perturbation is left after a lag: median, 10–90 %")


def training(loss: Any, gradient_norm: Any, *, ax: Axes | None = None) -> Axes:
    """Training loss, and on a second axis the norm of its gradient.
    Returns the axes of the loss; the first step that is not finite is marked.

    Args:
        loss: (steps,) in its own unit; its axis is logarithmic if all of it is positive and it spans a decade.
        gradient_norm: (steps,) loss per parameter, on a logarithmic axis; an exact zero is a triangle on the lower edge.

    >>> training([2.0, 1.0, float("nan")], [1.0, 3.0, float("inf")]).texts[0].get_text()
    'not finite at step 2'
    """
    loss = _given("loss", loss, "(steps,)")
    norm, ax = _given("gradient_norm", gradient_norm, f"({loss.size},)"), _axes(ax)
    steps, second = np.arange(loss.size), ax.twinx()
    for j, (axis, values) in enumerate(((ax, loss), (second, norm))):
        finite = values[np.isfinite(values)]
        _line(axis, steps, values, lw=2 - 1.2 * j, color=_COLOURS[j])
        if (finite > 0).any() and (j or finite.max() >= 10 * finite.min() > 0):
            axis.set_yscale("log")
        axis.tick_params(axis="y", which="both", labelcolor=_COLOURS[j], labelsize=11)
    ax.set(zorder=second.get_zorder() + 1, frame_on=False)
    _zeros(second, steps[norm == 0], 1)
    second.set_ylabel("gradient norm, thin (loss per parameter)", fontsize=11, color=_COLOURS[1])
    for step in np.flatnonzero(~(np.isfinite(loss) & np.isfinite(norm)))[:1]:
        ax.axvline(step, color="0.3", lw=1, ls="--")
        side = "left" if step < loss.size / 2 else "right"
        ax.text(step, 1.01, f"not finite at step {step}", ha=side, fontsize=9, transform=ax.get_xaxis_transform())
    ax.update_datalim([(0, 0), (max(loss.size - 1, 1), 0)], updatey=False)
    return _finish(ax, "training step (steps)", "loss, thick (its own unit)", "Training loss and the norm of its gradient")


def save(draw: Callable[[Axes], Any]) -> bytes:
    """A PNG, as bytes, of what ``draw(ax)`` draws."""
    figure = Figure(figsize=(7.0, 5.0), layout="constrained", dpi=130)
    draw(figure.add_subplot())
    figure.savefig(out := io.BytesIO(), format="png")
    return out.getvalue()


def _axes(ax: Axes | None) -> Axes:
    """A fresh figure without pyplot: no global state, no window."""
    return Figure(figsize=(7.0, 5.0), layout="constrained").add_subplot() if ax is None else ax


def _given(name: str, value: Any, *allowed: str, dtype: Any = np.float64) -> np.ndarray:
    """``value`` as an array whose shape is one of ``allowed``, in which words stand for any length."""
    array = np.asarray(value, dtype)
    for form in (shape.strip("(,)").split(", ") for shape in allowed):
        if len(form) == array.ndim and all(part == str(size) or not part.isdigit() for size, part in zip(array.shape, form, strict=True)):
            return array
    raise ValueError(f"{name} has shape {array.shape}; allowed is {' or '.join(allowed)}")


def _finish(ax: Axes, x: str, y: str, title: str, columns: int = 1) -> Axes:
    """Labels, and a legend between title and axes, where it hides no data; to their right for no columns."""
    ax.set_xlabel(x, fontsize=11)
    ax.set_ylabel(y, fontsize=11)
    for axis in [ax.xaxis] * ("(steps" in x or "(rank" in x) + [ax.yaxis] * ("(steps" in y):
        axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    ax.yaxis.get_offset_text().set(x=-0.01, ha="right")  # or a factor such as 1e6 would stand in the legend
    handles, labels = ax.get_legend_handles_labels()
    rows = -(-len(handles) // columns) if columns else 0
    if handles:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1)} if columns else {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        legend = ax.legend(handles, labels, ncols=columns or 1, frameon=False, fontsize=9, borderaxespad=0.2, columnspacing=1, **place)
        for text in legend.get_texts():
            text.set_parse_math(False)
    ax.set_title(title, fontsize=12, pad=8 + 14 * (rows + bool(ax.texts)))
    return ax


def _curve(ax: Axes, x: np.ndarray, quantiles: Any, label: str | None) -> None:
    """Median and band in the next colour; the limits take what is finite of them."""
    (low, middle, high), j = quantiles, len(ax.collections)
    colour = _COLOURS[j % 8]
    _line(ax, x, middle, color=colour, ls="-" if j < 8 else "--", label=_named(label, middle))
    for edge in (low, high):
        ax.update_datalim(np.column_stack([x, edge])[np.isfinite(edge)])
    limits = ax.dataLim.get_points().copy()
    ax.fill_between(x, np.clip(low, -_DEEP, _DEEP), np.clip(high, -_DEEP, _DEEP), color=colour, alpha=0.2, lw=0)
    ax.dataLim.set_points(limits)
    _zeros(ax, x[np.isneginf(middle)], j)
    ax.update_datalim([(0, 0), (max(x.max(initial=0), 1), 0)], updatey=False)


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, **look: Any) -> None:
    """What is finite, with dots where both neighbours are not."""
    gap = ~np.isfinite(np.pad(y, 1, constant_values=np.nan))
    ax.plot(x, np.where(gap[1:-1], np.nan, y), marker=".", ms=6, markevery=np.flatnonzero(~gap[1:-1] & gap[:-2] & gap[2:]), **look)


def _share(ax: Axes, share: np.ndarray, errors: Any, label: str | None) -> None:
    """A curve of shares, and a logarithmic axis down to the decade of the smallest share drawn."""
    errors = share * np.nan if errors is None else _given("errors", errors, f"({share.size},)")
    errors = 2 * np.where(np.abs(errors) < _DEEP, errors, np.nan)
    _curve(ax, np.arange(share.size), (np.clip(share - errors, _FLOOR, 2), share, np.clip(share + errors, _FLOOR, 2)), label)
    heights = np.concatenate([line.get_ydata(orig=False) for line in ax.get_lines()])
    least = max(_FLOOR, heights[heights > 0].min(initial=0.1))
    ax.set(ylim=(10.0 ** math.floor(math.log10(least)), 2), yscale="log")  # limits first, or it warns where no share is positive
    ax.tick_params(axis="y", which="both", labelsize=11)  # its exponents are smaller


def _zeros(ax: Axes, x: np.ndarray, j: int, label: str | None = None) -> None:
    """Triangles on the lower edge, the j-th row of them."""
    ax.plot(x, 0 * x + 0.02 * (1 + j % 8), "v", ms=4, color=_COLOURS[j % 8], transform=ax.get_xaxis_transform(), label=label)


def _named(label: str | None, values: Any = (0,), lost: str = "") -> str | None:
    """The label, with what the curve cannot show."""
    if zeros := int(np.isneginf(values).sum()):
        lost = f"{zeros} of {len(values)} exactly zero"
    elif not np.isfinite(values).any():
        lost = "nothing to draw"
    name = ": ".join(part for part in (_literal(label or "", 40), lost) if part)
    return " " * name.startswith("_") + name or None  # legends drop what begins with an underscore


def _literal(text: str, width: int) -> str:
    """What a legend shows and the font has: the middle cut out, other characters by their code."""
    glyphs = font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    text = "".join(c if ord(c) in glyphs else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= width else text[: width // 2 - 1] + "…" + text[-(width // 2) :]
