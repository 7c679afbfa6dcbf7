"""Arms of a comparison beside each other: who solves the task, how each learns, and what became of the exponents."""

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxrnn.plots.axes import COLOURS, DEEP, axes, finish, given, line, literal, named, ranked

_STYLES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)))
_NAME = 34  # characters of an arm's name
_NAMES = "arm (cell + remedies)"


def solved_shares(labels: Any, successes: Any, trials: Any, intervals: Any, *, ax: Axes | None = None) -> Axes:
    """The share of the seeds that solved the task, of every arm, with its interval.
    Returns the axes; the counts stand on their right.

    Args:
        labels: A names of arms, drawn as they are, the first on top.
        successes: (A,) seeds that solved the task.
        trials: (A,) seeds; where there are none nothing is drawn.
        intervals: (A, 2) ends of the interval of the share, as fractions, from ``comparison.wilson``.

    >>> from jaxrnn import comparison, plots
    >>> ax = plots.solved_shares(["gru", "lstm"], [5, 0], [5, 5], [comparison.wilson(5, 5), comparison.wilson(0, 5)])
    >>> [text.get_text() for text in ax.texts]
    ['5 of 5', '0 of 5']
    """
    solved, ax = given("successes", successes, "(A,)"), axes(ax)
    A = solved.size
    seeds = given("trials", trials, f"({A},)")
    low, high = 100 * given("intervals", intervals, f"({A}, 2)").T
    y = _rows(ax, labels, A)
    share = 100 * np.divide(solved, seeds, out=np.full(A, np.nan), where=seeds > 0)
    ax.hlines(y[seeds > 0], low[seeds > 0], high[seeds > 0], color=COLOURS[0], lw=4, alpha=0.35)
    ax.plot(share, y, "o", ms=7, color=COLOURS[0], clip_on=False)
    for height, k, n in zip(y, solved, seeds, strict=True):
        told = f"{k:.0f} of {n:.0f}" if n > 0 else "not run"
        ax.text(1.03, height, told, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.set(xlim=(-2, 102), xticks=range(0, 101, 20))
    ax.grid(axis="x", color="0.9", zorder=0)
    finish(ax, "seeds that solved the task (%)", _NAMES, "")
    ax.set_title("Solved, with 95 % intervals (Wilson)", fontsize=12, pad=8)  # the counts stand beside the axes, not above
    return ax


def learning_curves(labels: Any, updates: Any, medians: Any, baseline: float, *, label: str = "metric", ax: Axes | None = None) -> Axes:
    """The metric of every arm while it is trained, against what needs no memory.
    Returns the axes, logarithmic in y where all values are positive and span more than a decade.

    What stands before the first " + " or ", " of a name (the cell) has one colour, what follows (the remedies) one style of line;
    where that makes the legend shorter it lists both apart. More than about 12 arms cannot be told apart by eye.

    Args:
        labels: A names of arms, drawn as they are.
        updates: (E,) updates made at each evaluation.
        medians: (A, E) the metric; NaN is not drawn.
        baseline: of the best guess without memory, dashed; NaN where it is not known.
        label: name of the metric.

    >>> from jaxrnn import plots
    >>> ax = plots.learning_curves(["gru", "gru + clipping"], [100, 200], [[0.2, 0.1], [0.1, 0.001]], 0.17, label="error")
    >>> ax.get_yscale(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('log', ['gru', 'gru + clipping', 'without memory'])
    """
    x, ax = given("updates", updates, "(E,)"), axes(ax)
    names = given("labels", labels, "(A,)", dtype=object)
    values = given("medians", medians, f"({names.size}, {x.size})")
    parts = [(re.split(r" \+ |, ", str(name))[0], str(name)) for name in names]
    pairs = [(head, name[len(head) :].removeprefix(" + ").removeprefix(", ")) for head, name in parts]
    heads, tails = (list(dict.fromkeys(pair[i] for pair in pairs)) for i in (0, 1))
    apart = len(heads) + len(tails) < len(pairs) and len(set(pairs)) == len(pairs)
    for (head, tail), name, each in zip(pairs, names, values, strict=True):
        j = heads.index(head)
        look: dict[str, Any] = {"color": COLOURS[j % 8], "ls": _STYLES[(tails.index(tail) + j // 8) % len(_STYLES)], "lw": 1.6}
        line(ax, x, each, **look, label=None if apart else named(str(name), each))
    if apart:
        for j, head in enumerate(heads):
            ax.plot([], [], color=COLOURS[j % 8], lw=3, label=named(head))
        for i, tail in enumerate(tails):
            ax.plot([], [], color="0.3", ls=_STYLES[i % len(_STYLES)], label=named(tail or "as it is"))
        if blank := int((~np.isfinite(values)).all(1).sum()):
            ax.plot([], [], "", label=f"{blank} of {len(names)} have nothing to draw")
    if np.isfinite(baseline):
        ax.axhline(baseline, color="0.4", lw=1, ls=(0, (5, 4)), label="without memory")
    seen = np.append(values[np.isfinite(values)], [baseline] * bool(np.isfinite(baseline)))
    if seen.size and seen.min() > 0 and seen.max() / 10 > seen.min():
        ax.set_yscale("log")
    ax.update_datalim([(0, 0), (x.max(initial=1), 0)], updatey=False)
    ax.autoscale_view(scaley=False)
    ax.yaxis.label.set_parse_math(False)
    return finish(ax, "training (steps)", f"{literal(label, 40)} (median over seeds)", "Learning curves", columns=4)


def exponents_moved(labels: Any, before: Any, after: Any, *, ax: Axes | None = None) -> Axes:
    """λ₁ of every seed of every arm before training (hollow) and after it (filled), the medians joined.
    Returns the axes; what is −∞ or +∞ is a triangle on the left or right edge, and NaN is counted in the legend.

    Args:
        labels: A names of arms, drawn as they are, the first on top.
        before, after: (A, S) λ₁ of every seed, nats per step.

    >>> from jaxrnn import plots
    >>> ax = plots.exponents_moved(["gru"], [[-0.5, -0.4]], [[-0.01, float("nan")]])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['before training', 'after training: 1 of 2 unknown', 'medians joined']
    """
    both, ax = (given("before", before, "(A, S)"), given("after", after, "(A, S)")), axes(ax)
    A, S = both[0].shape
    given("after", after, f"({A}, {S})")
    y = _rows(ax, labels, A)
    ax.axvline(0, color="0.4", lw=1)
    edge = ax.get_yaxis_transform()
    for name, values, shift, colour, face in zip(("before", "after"), both, (-0.17, 0.17), COLOURS[:2], ("none", None), strict=True):
        heights = np.repeat(y + shift, S).reshape(A, S)
        look: dict[str, Any] = {"color": colour, "mfc": face or colour, "ls": "", "alpha": 0.85}
        unknown = int(np.isnan(values).sum())
        told = f"{name} training" + f": {unknown} of {values.size} unknown" * (unknown > 0)
        drawn = np.isfinite(values)
        ax.plot(values[drawn], heights[drawn], marker="o", ms=5, label=told, **look)
        for lost, at, marker in ((np.isneginf(values), 0.008, "<"), (np.isposinf(values), 0.992, ">")):
            ax.plot(np.full(int(lost.sum()), at), heights[lost], marker=marker, ms=5, transform=edge, **look)
    middles = np.array([np.clip(_medians(values) if S else np.full(A, np.nan), -DEEP, DEEP) for values in both])
    limits = ax.dataLim.get_points().copy()
    ends = np.where(np.isnan(middles).any(0), np.nan, middles)
    ax.plot(ends, np.array([y - 0.17, y + 0.17]), color="0.35", lw=1.3, zorder=1)
    ax.dataLim.set_points(limits)
    ax.plot([], [], color="0.35", lw=1.3, label="medians joined")
    ax.autoscale_view(scaley=False)
    for height in y[:-1] + 0.5:
        ax.axhline(height, color="0.92", lw=0.8, zorder=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))  # long names leave little room
    return finish(ax, "λ₁ (nats per step)", _NAMES, "λ₁ of every seed, before and after", columns=2)


def _medians(values: np.ndarray) -> np.ndarray:
    """Of each row, NaN not counted; −∞ and ∞ have no middle."""
    low, high = ranked(values.T, 0.5)[0], -ranked(-values.T, 0.5)[0]
    with np.errstate(invalid="ignore"):
        return np.where(low == high, low, (low + high) / 2)


def _rows(ax: Axes, labels: Any, count: int) -> np.ndarray:
    """One row an arm, the first on top, the names drawn literally."""
    names, y = given("labels", labels, f"({count},)", dtype=object), np.arange(count, dtype=float)
    ax.set_yticks(y, [literal(str(name), _NAME) for name in names], parse_math=False, fontsize=9)
    ax.set_ylim(max(count, 1) - 0.4, -0.6)
    return y
