"""At what rates perturbations grow: spectra, over windows of time, until converged, over gain and input."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from jaxrnn.plots.axes import CHOSEN, COLOURS, DEEP, ascending, axes, balanced, curve, edges, finish, given, heat, named, ranked, subscript, zeros


def lyapunov_spectrum(
    exponents: Any, standard_errors: Any, *, theory: Any = None, gaps_separated: Any = None, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Lyapunov exponents with ± 2 standard errors, against what is expected; call it again on its axes to compare.
    Returns the axes; lost directions are triangles on the lower edge and counted in the legend.

    Args:
        exponents: (k,) descending, nats per step; −inf is a lost direction.
        standard_errors: (k,) nats per step; inf or NaN has no bar.
        theory: (k,) the exponents expected, nats per step, drawn as a line.
        gaps_separated: (k − 1,) bool, from ``lyapunov.gaps``: neighbours that are not told apart are joined.
        label: name of the spectrum.

    >>> from jaxrnn import plots
    >>> plots.lyapunov_spectrum([0.1, -0.2, float("-inf")], [0.01, 0.01, float("inf")]).get_legend().get_texts()[0].get_text()
    '1 of 3 lost'
    """
    values, ax = given("exponents", exponents, "(k,)"), axes(ax)
    errors = given("standard_errors", standard_errors, f"({values.size},)")
    j = len(ax.containers)  # spectra that are here already
    if j == 0:
        ax.axhline(0, color="0.5", lw=1)
    colour, index = COLOURS[j % 8], np.arange(1, values.size + 1) + 0.15 * (j % 5)
    heights, bars = np.where(np.isfinite(values), values, np.nan), 2 * np.where(errors < DEEP, errors, np.nan)
    size, lost = 5 if values.size <= 64 else 2.5, np.isneginf(values)
    name = named(label, np.where(lost, 0, values))
    ax.errorbar(index, heights, bars, fmt="os^D"[j % 4], ms=size, elinewidth=1, color=colour, label=name)
    if lost.any():
        zeros(ax, index[lost], j, named(label, lost=f"{lost.sum()} of {lost.size} lost"))
    if gaps_separated is not None:
        apart = given("gaps_separated", gaps_separated, f"({max(values.size - 1, 0)},)", dtype=bool)
        joined = np.flatnonzero(~apart & np.isfinite(heights[:-1]) & np.isfinite(heights[1:]))
        pairs = [np.column_stack([each[joined], each[joined + 1], joined * np.nan]).ravel() for each in (index, heights)]
        told = named(label, lost=f"{joined.size} of {apart.size} neighbours joined, not told apart")
        ax.plot(*pairs, color=colour, lw=7, alpha=0.3, solid_capstyle="round", zorder=1, label=told)
    if theory is not None:
        _expected(ax, index, given("theory", theory, f"({values.size},)"), named(label, lost="theory"))
    ax.update_datalim([(0.5, 0), (values.size + 0.5, 0)], updatey=False)
    return finish(ax, "index i (rank)", "exponent λ (nats per step)", "Lyapunov spectrum with ± 2 standard errors", columns=2)


def finite_time(windows: Any, *, window: int, exponents: Any = None, ax: Axes | None = None) -> Axes:
    """How much the growth rates vary on the way: medians (dots), 10–90 % (thick) and extremes (thin) over windows of time.
    Returns the axes; where a direction was lost in some window its bar reaches below the lower edge, under a triangle.

    Args:
        windows: (W, k) growth rates over each window, nats per step, from ``lyapunov.finite_time``.
        window: steps of a window.
        exponents: (k,) those of the long run, measured or expected, nats per step, drawn as a line.

    >>> from jaxrnn import plots
    >>> ax = plots.finite_time([[0.3, -1.0], [-0.1, float("-inf")]], window=20)
    >>> ax.get_legend().get_texts()[0].get_text()
    '1 of 4 rates lost'
    """
    values, ax = given("windows", windows, "(W, k)"), axes(ax)
    W, k = values.shape
    least, low, middle, high, most = (np.clip(each, -DEEP, DEEP) for each in ranked(values, 0, 0.1, 0.5, 0.9, 1))
    index, colour = np.arange(1, k + 1), COLOURS[0]
    ax.axhline(0, color="0.5", lw=1)
    ax.plot(index, np.where(np.isneginf(ranked(values, 0.5)[0]), np.nan, middle), "o", ms=5 if k <= 64 else 2.5, color=colour)
    ax.update_datalim([(0.5, 0), (k + 0.5, 0)], updatey=False)
    finite = values[np.isfinite(values)]
    ax.update_datalim([(0.5, y) for y in (finite.min(initial=np.inf), finite.max(initial=-np.inf)) if np.isfinite(y)])
    limits = ax.dataLim.get_points().copy()
    wide = np.clip(240 / max(k, 1), 1, 8)
    ax.vlines(index, least, most, color=colour, lw=max(wide / 8, 0.5))
    ax.vlines(index, low, high, color=colour, lw=wide, alpha=0.35)
    ax.dataLim.set_points(limits)
    lost = np.isneginf(values)
    if lost.any() or not finite.size:
        zeros(ax, index[lost.any(0)], 0, f"{lost.sum():,} of {lost.size:,} rates lost" if lost.any() else "nothing to draw")
    if exponents is not None:
        _expected(ax, index, given("exponents", exponents, f"({k},)"), "exponents of the long run")
    title = f"Growth over {W:,} window{'s' * (W != 1)} of {window:,} step{'s' * (window != 1)}: median, 10–90 %, extremes"
    return finish(ax, "index i (rank)", "finite-time exponent (nats per step)", title, columns=2)


def convergence(steps: Any, exponents: Any, standard_errors: Any, *, wanted: Any = None, theory: Any = None, ax: Axes | None = None) -> Axes:
    """How exponents settle while a trajectory runs: estimates ± 2 standard errors for i = 1, 2, 4, 8, 16.
    Returns the axes, logarithmic in x; an error that is not known has no band.

    Args:
        steps: (m,) counted steps, > 0.
        exponents: (m,) or (m, k) estimates after so many steps, nats per step.
        standard_errors: of the same shape, nats per step.
        wanted: the standard error to reach, nats per step, a number or (k,); dotted lines lie 2 of them above and below the last estimate.
        theory: the exponents expected, a number or (k,), nats per step, drawn as dashed lines.

    >>> from jaxrnn import plots
    >>> ax = plots.convergence([100, 200], [0.3, 0.28], [0.02, 0.01], wanted=0.005)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['λ₁', '± 2 wanted errors']
    """
    values = given("exponents", exponents, "(m,)", "(m, k)")
    errors = given("standard_errors", standard_errors, f"({', '.join(map(str, values.shape))}{',' * (values.ndim == 1)})")
    if values.ndim == 1:
        values, errors = values[:, None], errors[:, None]
    m, k = values.shape
    steps, ax = given("steps", steps, f"({m},)"), axes(ax)
    known = (steps > 0) & np.isfinite(steps)
    steps, values, errors = steps[known], values[known], errors[known]
    bars = 2 * np.where(errors < DEEP, errors, np.nan)
    wanted, theory = (None if v is None else np.broadcast_to(given(n, v, "()", f"({k},)"), (k,)) for n, v in (("wanted", wanted), ("theory", theory)))
    for j, i in enumerate(i for i in CHOSEN if i <= k):
        each, bar = values[:, i - 1], bars[:, i - 1]
        curve(ax, steps, (each - bar, each, each + bar), "λ" + subscript(i))
        last = each[np.isfinite(each)][-1:]
        around = [] if wanted is None or not np.isfinite(wanted[i - 1]) else [*(last - 2 * wanted[i - 1]), *(last + 2 * wanted[i - 1])]
        expected = [] if theory is None or not np.isfinite(theory[i - 1]) else [theory[i - 1]]
        for y, style in [(y, ":") for y in around] + [(y, "--") for y in expected]:
            ax.axhline(y, color=COLOURS[j], lw=1.2, ls=style)
    for what, style, name in ((wanted, ":", "± 2 wanted errors"), (theory, "--", "theory")):
        if what is not None:
            ax.plot([], [], color="0.3", lw=1.2, ls=style, label=name)
    _counted(ax, steps)
    return finish(
        ax,
        "counted steps (steps)",
        "exponent λ (nats per step)",
        "Exponents while the trajectory runs: ± 2 standard errors",
        columns=4 if np.isfinite(values).all() else 2,
    )


def phase_diagram(gains: Any, input_sds: Any, lyapunov: Any, *, measured: Any = None, ax: Axes | None = None) -> Axes:
    """Map of the leading exponent of mean-field theory over gain and input: red is chaos, blue forgets, a line between them.
    Returns the axes; the colour bar is cut where one side would hide the other, and says so.

    Args:
        gains: (a,) ascending, dimensionless.
        input_sds: (b,) ascending, standard deviation of the input, dimensionless.
        lyapunov: (b, a) λ₁ expected, nats per step; NaN is left grey.
        measured: (m, 3) gain, input's standard deviation and λ₁ of networks, drawn as circles in the same colours.

    >>> from jaxrnn import plots
    >>> plots.phase_diagram([0.5, 1.5], [0.0, 1.0], [[-0.7, 0.2], [-0.9, -0.1]], measured=[[1.5, 0.0, 0.18]]).get_legend().get_texts()[0].get_text()
    'λ₁ = 0 in theory'
    """
    gains, input_sds, ax = ascending("gains", gains, "(a,)"), ascending("input_sds", input_sds, "(b,)"), axes(ax)
    values = given("lyapunov", lyapunov, f"({input_sds.size}, {gains.size})")
    points = given("measured", np.zeros((0, 3)) if measured is None else measured, "(m, 3)")
    finite = np.clip(values[np.isfinite(values)], -DEEP, DEEP)
    most, least = finite.max(initial=0.0), -finite.min(initial=0.0)
    x, y = edges(gains), edges(input_sds)
    mesh = heat(ax, x, y, values, np.isnan(values), balanced(finite), "leading exponent λ₁ (nats per step)")
    if min(values.shape) > 1 and most > 0 and least > 0:
        ax.contour(gains, input_sds, np.clip(values, -DEEP, DEEP), levels=[0], colors="k", linewidths=1.5)
        ax.plot([], [], "k", lw=1.5, label="λ₁ = 0 in theory")
    known = points[np.isfinite(points).all(1)]
    if measured is not None:
        name = f"{len(known)} measured" + f", {len(points) - len(known)} not finite" * (len(known) < len(points))
        colours = np.clip(known[:, 2], -DEEP, DEEP)
        ax.scatter(known[:, 0], known[:, 1], c=colours, norm=mesh.norm, cmap=mesh.cmap, s=60, edgecolors="k", lw=1, label=name, zorder=3)
    ax.set(xlim=(x[0], x[-1]) if gains.size else (0, 1), ylim=(y[0], y[-1]) if input_sds.size else (0, 1))
    title = "Leading exponent: mean-field theory" + " (map) and measured (circles)" * (measured is not None)
    return finish(ax, "gain g (dimensionless)", "standard deviation of the input (dimensionless)", title, columns=2)


def _expected(ax: Axes, index: np.ndarray, theory: np.ndarray, label: str | None) -> None:
    """Expected exponents as a line over the dots."""
    ax.plot(index, np.where(np.isfinite(theory), theory, np.nan), color="k", lw=1.2, zorder=3, label=label)


def _counted(ax: Axes, steps: np.ndarray) -> None:
    """A logarithmic axis of steps with numbers that are read at a glance."""
    if steps.size:
        ax.set(xscale="log", xlim=(steps.min() / 1.1, steps.max() * 1.1))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if steps.max() < 300 * steps.min() else (1,), numticks=8))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}" if x < 1e6 else f"{x:.0e}".replace("e+", "e")))
        ax.xaxis.set_minor_formatter(NullFormatter())
