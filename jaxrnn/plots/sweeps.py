"""What came of a sweep: a result over one of its axes, or over two."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxrnn.plots.axes import ascending, axes, balanced, curve, edges, finish, given, heat, ranked, zeros


def sweep_map(
    x: Any, y: Any, values: Any, *, labels: tuple[str, str, str] = ("x", "y", "value"), expected: Any = None, ax: Axes | None = None
) -> Axes:
    """Map of a result over two axes, with the line on which it is 0 and that of theory. Returns the axes.

    Red above 0, white at 0, blue below; where nothing is below 0, from dark at 0 to bright.

    Args:
        x: (a,) ascending. y: (b,) ascending.
        values: (a, b); NaN is left grey.
        labels: of x, y and the values, with their units.
        expected: (m, 2), points (x, y) of the line on which theory has the result at 0.

    >>> from jaxrnn import plots
    >>> ax = plots.sweep_map([0.5, 1.5], [0.0, 1.0], [[-0.7, -0.9], [0.2, -0.1]], expected=[[1.0, 0.0], [1.5, 0.43]])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['0 as measured', '0 in theory']
    """
    x, y, ax = ascending("x", x, "(a,)"), ascending("y", y, "(b,)"), axes(ax)
    found = given("values", values, f"({x.size}, {y.size})").T
    known = found[np.isfinite(found)]
    mesh = heat(ax, edges(x), edges(y), found, ~np.isfinite(found), balanced(known), labels[2])
    if known.size and known.min() >= 0:
        mesh.set(cmap="cividis", clim=(0, known.max() or 1))
    if min(found.shape) > 1 and known.min(initial=0) < 0 < known.max(initial=0):
        ax.contour(x, y, np.where(np.isfinite(found), found, np.nan), levels=[0], colors="k", linewidths=1.5)
        ax.plot([], [], "k", lw=1.5, label="0 as measured")
    if expected is not None:
        line = given("expected", expected, "(m, 2)")
        ax.plot(*line[np.isfinite(line).all(1)].T, "k--", lw=1.5, label="0 in theory")
    ax.set(xlim=edges(x)[[0, -1]], ylim=edges(y)[[0, -1]])
    return finish(ax, labels[0], labels[1], labels[2], columns=2)


def sweep_lines(
    x: Any,
    values: Any,
    *,
    labels: tuple[str, str] = ("x", "value"),
    names: Any = None,
    expected: Any = None,
    logarithmic: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Results against one axis, the median and the band from a tenth to nine tenths of the points that share a value of it. Returns the axes.

    Args:
        x: (a,) ascending.
        values: (curves, a, points); NaN is not counted; a median of infinity is a triangle on the upper edge.
        labels: of x and of the values, with their units.
        names: of the curves.
        expected: (a,) what theory has.
        logarithmic: whether the values' axis is.

    >>> from jaxrnn import plots
    >>> plots.sweep_lines([0.0, 1.0], [[[1.0, 2.0], [3.0, 4.0]]], expected=[1.5, 3.5]).get_legend().get_texts()[-1].get_text()
    'theory'
    """
    x, ax = ascending("x", x, "(a,)"), axes(ax)
    found, told = given("values", values, f"(curves, {x.size}, points)"), False
    for i, one in enumerate(found):
        quantiles = ranked(one.T, 0.1, 0.5, 0.9)
        curve(ax, x, quantiles, None if names is None else str(names[i]))
        if (beyond := np.isposinf(quantiles[1])).any():
            zeros(ax, x[beyond], i, None if told else "median beyond what was measured", top=True)
            told = True
    if expected is not None:
        ax.plot(x, given("expected", expected, f"({x.size},)"), "k--", lw=1.5, label="theory")
    if logarithmic:
        ax.set_yscale("log")
    ax.set_xlim(x[0], x[-1])
    return finish(ax, labels[0], labels[1], f"{labels[1]}: median, 10 % to 90 %", columns=2)
