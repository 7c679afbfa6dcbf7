"""Where in the space of states: fixed points beside the trajectory, and directions that nearly touch."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxrnn.plots.axes import COLOURS, DEEP, axes, finish, given


def fixed_points(points: Any, stable: Any, *, trajectory: Any = None, slow: Any = None, ax: Axes | None = None) -> Axes:
    """Fixed points, and the states of a trajectory, on the two directions along which all that is given spreads most.
    Returns the axes, to scale; stable points are full, unstable ones hollow, slow ones crosses.

    Args:
        points: (F, n) states that rest, in the unit of the state.
        stable: (F,) bool.
        trajectory: (T, n) states over time.
        slow: (G, n) states where the map moves least without resting.

    >>> from jaxrnn import plots
    >>> [text.get_text() for text in plots.fixed_points([[0.0, 0.0], [1.0, 1.0]], [False, True]).get_legend().get_texts()]
    ['1 stable', '1 unstable']
    """
    resting = given("points", points, "(F, n)")
    n, ax = resting.shape[1], axes(ax)
    stable = given("stable", stable, f"({len(resting)},)", dtype=bool)
    path, slower = (
        given(name, np.zeros((0, n)) if v is None else v, f"({rows}, {n})")
        for name, v, rows in (("trajectory", trajectory, "T"), ("slow", slow, "G"))
    )
    on, spread = _components(np.concatenate([resting, path, slower]))
    if trajectory is not None:
        ax.plot(*on(path), "-", marker=".", ms=3, lw=0.6, color="0.65", zorder=1, label=f"trajectory of {len(path):,} states")
        ax.plot(*on(path[:1]), ">", ms=7, color="0.35", zorder=1, label="its start")
    looks: dict[str, dict[str, Any]] = {"stable": {"mfc": COLOURS[0]}, "unstable": {"mfc": "none"}}
    for (name, look), rows in zip(looks.items(), (resting[stable], resting[~stable]), strict=True):
        ax.plot(*on(rows), "o", ms=9, mew=2, mec=COLOURS[0 if name == "stable" else 1], label=f"{len(rows):,} {name}", zorder=4, **look)
    if slow is not None:
        ax.plot(*on(slower), "x", ms=8, mew=2, color=COLOURS[2], label=f"{len(slower):,} slow", zorder=3)
    ax.set_aspect("equal", adjustable="datalim")
    x, y = (f"component {i + 1} (unit of the state; {100 * spread[i]:.0f} % of the variance)" for i in range(2))
    return finish(ax, x, y, f"Fixed points on the leading components of {n:,} coordinate{'s' * (n != 1)}", columns=3)


def angles(angles: Any, *, ax: Axes | None = None) -> Axes:
    """How close covariant directions come to each other: the smallest angle at each time, of all pairs and of neighbours.
    Returns the axes, logarithmic in y; what piles up at 0 is nearly a tangency.

    Args:
        angles: (W, k, k) angles between the directions, radians in [0, π/2], from ``covariant.angles``.

    >>> from jaxrnn import plots
    >>> plots.angles([[[0.0, 0.9], [0.9, 0.0]]]).get_legend().get_texts()[0].get_text()
    'all pairs: least 0.9'
    """
    values, ax = given("angles", angles, "(W, k, k)"), axes(ax)
    W, k, _ = values.shape
    given("angles", values, f"(W, {k}, {k})")
    above = np.triu(np.ones(values.shape[1:], bool), 1)
    pairs = {"all pairs": values[:, above]} | ({"neighbours": np.diagonal(values, 1, 1, 2)} if k > 2 else {})
    bins = np.linspace(0, np.pi / 2, 46)
    floor = 0.5 / max(W, 1)
    for j, (name, found) in enumerate(pairs.items()):
        least = found.min(1, initial=np.inf)
        known = least[(least >= 0) & (least <= np.pi / 2)]
        left = W - known.size
        label = f"{name}: least {known.min():.2g}" + f", {left:,} of {W:,} times unknown" * (left > 0) if known.size else f"{name}: nothing to draw"
        shares = np.histogram(known, bins)[0] / max(W, 1)
        ax.stairs(np.maximum(shares, floor), bins, baseline=floor, fill=j == 0, color=COLOURS[j], alpha=1 if j else 0.4, lw=1.5, label=label)
    ax.set(yscale="log", ylim=(floor, 1.5), xlim=(0, np.pi / 2))
    ax.set_xticks(np.linspace(0, np.pi / 2, 5), ["0", "π/8", "π/4", "3π/8", "π/2"])
    title = f"Smallest angle between {k} covariant directions at {W:,} time{'s' * (W != 1)}"
    return finish(ax, "smallest angle (radians)", "share of the times (dimensionless)", title, columns=2)


def _components(rows: np.ndarray) -> tuple[Any, np.ndarray]:
    """The projection on the two leading principal components of what is finite, and their shares of the variance."""
    known = rows[np.isfinite(rows).all(1)]
    scale = float(np.abs(known).max(initial=0)) or 1.0  # squares of large numbers overflow
    centre = (known / scale).mean(0) if len(known) else np.zeros(rows.shape[1])
    centred = known / scale - centre
    variances, directions = np.linalg.eigh(centred.T @ centred)
    two = np.zeros((rows.shape[1], 2))
    leading = directions[:, ::-1][:, :2]
    two[:, : leading.shape[1]] = leading * np.where(leading.sum(0) < 0, -1, 1)  # a sign that does not depend on the machine
    shares = np.zeros(2)
    shares[: leading.shape[1]] = np.maximum(variances[::-1][:2], 0) / (max(variances.sum(), 0) or 1)

    def on(points: np.ndarray) -> np.ndarray:
        finite = np.isfinite(points).all(1)[:, None]
        flat = np.where(finite, np.where(finite, points, 0) / scale - centre, np.nan) @ two
        return np.clip(flat * scale, -DEEP, DEEP).T

    return on, shares
