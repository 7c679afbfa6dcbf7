"""How much of a perturbation is left: over every pair of times, by lag, from part to part, in which units, and how much of it can be computed."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxrnn.plots.axes import CHOSEN, COLOURS, axes, curve, finish, given, heat, line, literal, named, ranked, slope, subscript, zeros

_TRANSPORT = r"$\log(\|\partial h_t/\partial h_k\|_F\,/\sqrt{n})$ (nats)"
_BLOCKS, _BARS = 16, 24  # lines that eight colours and two styles tell apart; names that can be read below each other


def transport(log_transport: Any, *, stride: int = 1, ax: Axes | None = None) -> Axes:
    """Heat map of log(‖∂h_t/∂h_k‖_F / √n) over pairs of times; white is an isometry, blue vanishes, red explodes.
    Returns the axes; the colour bar is cut at ±25 nats and says so.

    Args:
        log_transport: (T + 1, K), nats, from ``flow.log_transport`` or a mean of such; NaN is left grey.
        stride: the stride of its starting times.

    >>> from jaxrnn import plots
    >>> plots.transport([[0.0, float("-inf")], [-0.1, 0.0]]).get_xlabel()
    'starting time k (steps)'
    """
    values, ax = given("log_transport", log_transport, "(T + 1, K)"), axes(ax)
    t, k = np.arange(values.shape[0] + 1) - 0.5, stride * (np.arange(values.shape[1] + 1) - 0.5)
    unseen = (t[:-1, None] + 0.5 < k[None, :-1] + stride / 2) | np.isnan(values)
    seen = values[~unseen]
    limit = float(np.clip(np.abs(seen[np.isfinite(seen)]).max(initial=0.0), 1.0, 25.0))
    heat(ax, k, t, values, unseen, limit, _TRANSPORT)
    ax.set(xlim=(k[0], max(k[-1], 0.5)), ylim=(max(t[-1], 0.5), -0.5))
    return finish(ax, "starting time k (steps)", "time t (steps)", "How much of a perturbation at time k is left at time t")


def transport_by_lag(
    quantiles: Any,
    *,
    level: float = 1 / math.e,
    rate: float | None = None,
    rate_error: float | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How much of a perturbation is left after a lag; call it again on its axes to compare.
    Returns the axes; the data set their limits, not the line of the rate.

    Args:
        quantiles: (3, T + 1) 10, 50 and 90 % quantiles of log(‖∂h_t/∂h_k‖_F / √n) by lag t − k, nats.
        level: transport below it counts as forgotten, dimensionless, > 0; marked by a dotted line.
        rate: λ₁, nats per step, which transport approaches over long lags; its line passes through the mean of the finite medians.
        rate_error: standard error of ``rate``, nats per step, drawn as a wedge of ± 2.
        label: name of the curve.

    >>> from jaxrnn import plots
    >>> plots.transport_by_lag([[0.0, -1.2], [0.0, -1.0], [0.0, -0.8]]).get_legend().get_texts()[0].get_text()
    'forgotten below 1/e'
    """
    values, ax = given("quantiles", quantiles, "(3, T + 1)"), axes(ax)
    if not 0 < level < np.inf:
        raise ValueError(f"level={level} must be positive and finite")
    if not ax.collections:
        ax.axhline(math.log(level), color="0.3", ls=":", lw=1.2, label=f"forgotten below {'1/e' if level == 1 / math.e else f'{level:g}'}")
    lags, colour = np.arange(values.shape[1]), COLOURS[(len(ax.collections) + (label is None)) % 8]
    curve(ax, lags, values, label or "median, 10–90 %")
    slope(ax, lags, values[1], rate, rate_error, colour=colour)
    return finish(ax, "lag t − k (steps)", _TRANSPORT, "How much of a perturbation is left after a lag: median, 10–90 %")


def transport_blocks(blocks: dict[tuple[str, str], Any], *, ax: Axes | None = None) -> Axes:
    """How much of a perturbation of one part of the state reaches another, by lag.
    Returns the axes; the title counts those left out.

    Args:
        blocks: {(from, to): (T + 1,)} median of the log transport by lag, nats; 16 are drawn, those largest after lag 0.

    >>> from jaxrnn import plots
    >>> plots.transport_blocks({("h", "c"): [-1.0, -1.5]}).get_legend().get_texts()[0].get_text()
    'h → c'
    """
    ax, curves = axes(ax), {pair: given(f"blocks[{pair!r}]", v, "(T + 1,)") for pair, v in blocks.items()}
    largest = lambda pair: np.nan_to_num(curves[pair][1:], nan=-np.inf).max(initial=-np.inf)
    kept = set(sorted(curves, key=largest, reverse=True)[:_BLOCKS])
    for pair in (pair for pair in curves if pair in kept):
        source, target = (literal(part, 14) for part in pair)
        curve(ax, np.arange(curves[pair].size), np.broadcast_to(curves[pair], (3, curves[pair].size)), f"{source} → {target}")
    left = len(curves) - len(kept)
    title = "How much of a perturbation of one part reaches another" + f"\n{left} of {len(curves)} pairs left out, the weakest" * (left > 0)
    return finish(ax, "lag t − k (steps)", "log transport (nats)", title, columns=0)


def product_singular_values(log_sigma: Any, lags: Any, *, ax: Axes | None = None) -> Axes:
    """Singular values of the product of the Jacobians from the start of each sequence: medians and 10–90 % bands for i = 1, 2, 4, 8, 16.
    Returns the axes; a lag is drawn where at least half of the sequences are known, lest those that are left stand for all.

    Args:
        log_sigma: (B, L, k) log σ_i(∂h_lag/∂h_0), nats, descending in i.
        lags: (L,) steps from the start.

    >>> from jaxrnn import plots
    >>> [text.get_text() for text in plots.product_singular_values([[[0.0, -1.0, -2.0]]], [1]).get_legend().get_texts()]
    ['σ₁', 'σ₂']
    """
    values, ax = given("log_sigma", log_sigma, "(B, L, k)"), axes(ax)
    B, L, k = values.shape
    lags, known = given("lags", lags, f"({L},)"), (~np.isnan(values)).sum(0)
    quantiles = np.where(2 * known >= B, ranked(values, 0.1, 0.5, 0.9), np.nan)
    ax.axhline(0, color="0.5", lw=1)
    for i in (i for i in CHOSEN if i <= k):
        curve(ax, lags, quantiles[..., i - 1], "σ" + subscript(i))
    title = f"Singular values of ∂hₜ/∂h₀: median, 10–90 % of {B} sequence{'s' * (B != 1)}"
    return finish(ax, "lag t (steps from the start)", "log σ (nats; 0 is an isometry)", title, columns=5 if np.isfinite(values).all() else 2)


def units(shares: Any, names: Any, *, top: int = 20, ax: Axes | None = None) -> Axes:
    """Which units hold the direction that is remembered best: at the start, and where it is found at the end.
    Returns the axes; the legend says how many units hold 90 % of each direction.

    Args:
        shares: (2, n) squared entries of the singular vectors, each row sums to 1: of the start state, of the end state.
        names: n names of the units, drawn as they are.
        top: how many units to draw, those with the largest sum; at most 24.

    >>> from jaxrnn import plots
    >>> plots.units([[0.9, 0.1], [0.5, 0.5]], ["h[0]", "h[1]"]).get_legend().get_texts()[0].get_text()
    'at the start: 1 of 2 units hold 90 %'
    """
    values, ax = given("shares", shares, "(2, n)"), axes(ax)
    names, n = given("names", names, f"({values.shape[1]},)", dtype=object), values.shape[1]
    if not 1 <= top <= _BARS:
        raise ValueError(f"top={top} must lie in [1, {_BARS}], the names that can be read below each other")
    values = np.where(np.isfinite(values), values, 0)
    order = np.argsort(-values.sum(0), kind="stable")[: max(1, min(top, (values.sum(0) > 1e-6).sum()))]
    y = np.arange(order.size)
    for j, (row, where) in enumerate(zip(values, ("at the start", "at the end"), strict=True)):
        held = np.cumsum(np.sort(row)[::-1])
        holders = f"{1 + int(np.argmax(held >= 0.9 * held[-1]))} of {n} units hold 90 %" if row.any() else "unknown"
        ax.barh(y + 0.4 * j - 0.2, row[order], 0.4, color=COLOURS[4 * j], label=f"{where}: {holders}")
    ax.set_yticks(y, [literal(str(names[i]), 24) for i in order], parse_math=False, fontsize=8.5)
    ax.set(ylim=(max(y.size, 1) - 0.4, -0.6), xlim=(0, 1.05 * values[:, order].max(initial=0) or 1))
    x, title = "share of the direction (dimensionless)", f"Units of the direction remembered best: {y.size} of {n}"
    return finish(ax, x, "unit (coordinate of the state)", title)


def log_condition(
    log_condition: Any, lags: Any, *, eps: float = 2.2e-16, rate: float | None = None, rate_error: float | None = None, ax: Axes | None = None
) -> Axes:
    """How much more a product of Jacobians keeps of one direction than of another, against what a computer can hold of it.
    Returns the axes; above the level −ln ε a product that is multiplied out has lost its smallest direction to rounding.

    Args:
        log_condition: (m,) log σ_1 − log σ_n of the product over each lag, nats; a triangle on the upper edge where it is singular, +inf.
        lags: (m,) steps.
        eps: ε of the numbers it would be multiplied out in, in (0, 1); by default double precision.
        rate: λ_1 − λ_n, nats per step; its line passes through the mean of the finite points.
        rate_error: standard error of ``rate``, nats per step, drawn as a wedge of ± 2.

    >>> from jaxrnn import plots
    >>> plots.log_condition([20.0, 40.0, float("inf")], [10, 20, 30]).get_legend().get_texts()[0].get_text()
    'log condition number: 1 of 3 singular'
    """
    values, ax = given("log_condition", log_condition, "(m,)"), axes(ax)
    lags = given("lags", lags, f"({values.size},)")
    if not 0 < eps < 1:
        raise ValueError(f"eps={eps} must lie in (0, 1): the rounding of one number")
    singular, level = np.isposinf(values), -math.log(eps)
    lost = f"{singular.sum()} of {values.size} singular" if singular.any() else ""
    name = named("log condition number", np.where(singular, 0, values), lost)
    line(ax, lags, values, color=COLOURS[0], label=name)
    ax.plot(lags, np.where(np.isfinite(values), values, np.nan), ".", ms=6, color=COLOURS[0])
    zeros(ax, lags[singular], 0, top=True)
    zeros(ax, lags[np.isneginf(values)], 0)
    ax.axhline(level, color="0.3", ls=":", lw=1.2, label=f"−ln ε = {level:.3g} nats: above, an explicit product has lost its smallest direction")
    slope(ax, lags, values, rate, rate_error, name="λ₁ − λₙ")
    longest = np.where(np.isfinite(lags), lags, 0).max(initial=1)
    ax.update_datalim([(0, 0), (longest, level)])
    return finish(ax, "lag (steps)", "log σ₁ − log σₙ (nats)", "What a product of Jacobians keeps of its weakest direction")
