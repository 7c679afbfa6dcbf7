"""What the page of a sweep says and shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrnn import plots
from jaxrnn._pictures import Picture
from jaxrnn.sweep import Grid, Plan, Sweep


def summary(found: Sweep) -> list[str]:
    """How many points there are, and how many have no number."""
    count, failed, bad = len(found.grid), len(found.failures), len(found.nonfinite)
    said = [f"{count} points, {count - failed} with a result."]
    if failed:
        said.append(f"{failed} point{'s' * (failed != 1)} failed; they are listed below.")
    if bad:
        said.append(f"{bad} result{'s' * (bad != 1)} hold{'s' * (bad == 1)} NaN or infinity.")
    return said


def axes(found: Sweep, plan: Plan) -> list[dict[str, str]]:
    """One row for each axis."""
    rows = []
    for name, values in found.grid.axes.items():
        first, last = _short(values[0]), _short(values[-1])
        whole = first if len(values) == 1 else f"{first} … {last}"
        rows.append({"name": name, "count": str(len(values)), "range": whole, "unit": plan.units.get(name, "")})
    return rows


def told(values: Mapping[str, Any]) -> str:
    """A point in words."""
    return ", ".join(f"{name} = {_short(value)}" for name, value in values.items())


def pictures(found: Sweep, plan: Plan) -> list[Picture]:
    """A map over the first two axes of numbers, or lines over the only one, for every result that is a number and each value of the other axes."""
    drawn = [name for name, values in found.grid.axes.items() if isinstance(values, np.ndarray) and _ascends(values) and name != "seed"]
    names = plan.shown or tuple(name for name, values in found.results.items() if values.ndim == 1 and values.dtype.kind in "fiu")
    apart = [name for name, values in found.grid.axes.items() if name not in found.grid.traced and len(values) > 1]
    parts = list(dict.fromkeys(tuple(row) for row in found.grid.index[:, [list(found.grid.axes).index(name) for name in apart]].tolist()))[:_MOST]
    made = []
    for name in names if drawn else ():
        for part in parts:
            of = told({axis: found.grid.axes[axis][at] for axis, at in zip(apart, part, strict=True)})
            draw = _map if len(drawn) > 1 else _lines
            made.append(draw(_only(found, dict(zip(apart, part, strict=True))), plan, name, of, *drawn[:2]))
    return made


_MOST = 12  # pictures of one result


def _only(found: Sweep, chosen: Mapping[str, int]) -> Sweep:
    """The points with these places on these axes."""
    axes = list(found.grid.axes)
    keep = np.all([found.grid.index[:, axes.index(name)] == at for name, at in chosen.items()], 0) if chosen else np.full(len(found.grid), True)
    return Sweep(Grid(found.grid.axes, found.grid.index[keep]), {name: values[keep] for name, values in found.results.items()}, (), ())


def _map(found: Sweep, plan: Plan, name: str, of: str, x: str, y: str) -> Picture:
    values, others = _over(found, name, x, y)
    known = np.isfinite(values)
    mean = np.where(known.any(-1), np.where(known, values, 0).sum(-1) / np.maximum(known.sum(-1), 1), np.nan)
    labels = _label(x, plan), _label(y, plan), f"{_label(name, plan)}, mean of {others}" if others > 1 else _label(name, plan)
    draw = lambda ax: plots.sweep_map(found.grid.axes[x], found.grid.axes[y], mean, labels=labels, expected=plan.zero_line, ax=ax)
    beside = " A line where it is 0, and a dashed one where theory has it." if plan.zero_line is not None else ""
    caption = f"{name} over {x} and {y}{_with(of)}, red above 0 and blue below; the mean of {others} points at each place.{beside}"
    return Picture(f"sweep_{_file(name, of)}", f"{name} over {x} and {y}{_with(of)}", caption, f"{caption} {_extremes(mean)}", plots.save(draw))


def _lines(found: Sweep, plan: Plan, name: str, of: str, x: str) -> Picture:
    values, others = _over(found, name, x)
    expected = None if plan.expected is None else _over(found, plan.expected, x)[0].mean(-1)
    draw = lambda ax: plots.sweep_lines(
        found.grid.axes[x], values[None], labels=(_label(x, plan), _label(name, plan)), expected=expected, logarithmic=plan.logarithmic, ax=ax
    )
    caption = f"{name} over {x}{_with(of)}: the median of {others} points at each place, and where the middle 80 % of them lie."
    return Picture(f"sweep_{_file(name, of)}", f"{name} over {x}{_with(of)}", caption, f"{caption} {_extremes(values)}", plots.save(draw))


def _over(found: Sweep, name: str, *kept: str) -> tuple[np.ndarray, int]:
    """A result with these axes first and all others as one, and how many points of those there are at most."""
    values = found.shaped(name).astype(float)
    order = [list(found.grid.axes).index(axis) for axis in kept]
    moved = np.moveaxis(values, order, range(len(order)))
    flat = moved.reshape(*moved.shape[: len(order)], -1)
    places = np.zeros(moved.shape[: len(order)], int)
    np.add.at(places, tuple(found.grid.index[:, order].T), 1)
    return flat, int(places.max(initial=0))


def _extremes(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"From {known.min():.3g} to {known.max():.3g}." if known.size else "Nothing is finite."


def _ascends(values: np.ndarray) -> bool:
    return values.ndim == 1 and len(values) > 1 and values.dtype.kind in "fiu" and bool((np.diff(values) > 0).all())


def _label(name: str, plan: Plan) -> str:
    unit = plan.units.get(name, "")
    return f"{name} ({'dimensionless' if unit == '1' else unit})" if unit else name


def _with(of: str) -> str:
    return f", {of}" if of else ""


def _file(*names: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in "_".join(filter(None, names)))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(getattr(value, "__name__", value))
