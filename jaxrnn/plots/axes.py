"""What every picture shares: axes, labels, legend and colours, and how what is finite is drawn and what is not is counted."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator

DEEP = 1e12  # stands for ±inf at the edge of a band: off every axis, and within what a renderer can clip
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe & Ito (2008), grey for their yellow
_WIDTH = 92  # characters of a legend that fit beside each other, seven for the sign of an entry
CHOSEN = (1, 2, 4, 8, 16)  # ranks that stand for all where each has a band


def save(draw: Callable[[Axes], Any]) -> bytes:
    """A PNG, as bytes, of what ``draw(ax)`` draws.

    >>> from jaxrnn import plots
    >>> plots.save(lambda ax: plots.lag_share([1.0, 0.5], ax=ax))[1:4]
    b'PNG'
    """
    figure = Figure(figsize=(7.0, 5.0), layout="constrained", dpi=130)
    draw(figure.add_subplot())
    figure.savefig(out := io.BytesIO(), format="png")
    return out.getvalue()


def axes(ax: Axes | None) -> Axes:
    """These, or those of a fresh figure without pyplot: no global state, no window."""
    return Figure(figsize=(7.0, 5.0), layout="constrained").add_subplot() if ax is None else ax


def given(name: str, value: Any, *allowed: str, dtype: Any = np.float64) -> np.ndarray:
    """``value`` as an array whose shape is one of ``allowed``, in which words stand for any length."""
    array = np.asarray(value, dtype)
    for form in ([part for part in shape.strip("(,)").split(", ") if part] for shape in allowed):
        if len(form) == array.ndim and all(part == str(size) or not part.isdigit() for size, part in zip(array.shape, form, strict=True)):
            return array
    raise ValueError(f"{name} has shape {array.shape}; allowed is {' or '.join(allowed)}")


def ascending(name: str, value: Any, shape: str) -> np.ndarray:
    """``value`` as an array that can be an axis of a map."""
    array = given(name, value, shape)
    if not (np.isfinite(array).all() and (np.diff(array) > 0).all()):
        raise ValueError(f"{name} must be finite and ascend: it is an axis of the map")
    return array


def edges(centres: np.ndarray) -> np.ndarray:
    """Where the cells around ascending centres meet, and where the outer ones end."""
    if centres.size < 2:
        return np.array([-0.5, *(centres + 0.5)]) if not centres.size else np.array([centres[0] - 0.5, centres[0] + 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    return np.array([2 * centres[0] - between[0], *between, 2 * centres[-1] - between[-1]])


def ranked(values: np.ndarray, *shares: float) -> np.ndarray:
    """Quantiles over axis 0, one row per share: values themselves, never between −inf and a number; NaN is not counted."""
    known = (~np.isnan(values)).sum(0)
    ordered = np.sort(np.concatenate([values, np.full((1, *values.shape[1:]), np.nan)]), 0)
    ranks = np.stack([np.maximum(np.ceil(q * known).astype(int) - 1, 0) for q in shares])
    return np.take_along_axis(ordered, ranks, 0)


def finish(ax: Axes, x: str, y: str, title: str, columns: int = 1) -> Axes:
    """Labels, and a legend between title and axes, where it hides no data; to their right for no columns."""
    ax.set_xlabel(x, fontsize=11)
    ax.set_ylabel(y, fontsize=11)
    for axis in [ax.xaxis] * ("(steps" in x or "(rank" in x) + [ax.yaxis] * ("(steps" in y):
        if axis.get_scale() == "linear":
            axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    for axis in (each for each in (ax.xaxis, ax.yaxis) if each.get_scale() == "log"):
        axis.set_tick_params(which="both", labelsize=11)  # its exponents are smaller
    ax.yaxis.get_offset_text().set(x=-0.01, ha="right")  # or a factor such as 1e6 would stand in the legend
    handles, labels = ax.get_legend_handles_labels()
    while columns > 1 and sum(7 + max(map(len, part), default=0) for part in np.array_split(labels, columns)) > _WIDTH:
        columns -= 1
    rows = -(-len(handles) // columns) if columns else 0
    if handles:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1)} if columns else {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        legend = ax.legend(handles, labels, ncols=columns or 1, frameon=False, fontsize=9, borderaxespad=0.2, columnspacing=1, **place)
        for text in legend.get_texts():
            text.set_parse_math(False)
    ax.set_title(title, fontsize=12, pad=8 + 14 * (rows + bool(ax.texts)))
    return ax


def curve(ax: Axes, x: np.ndarray, quantiles: Any, label: str | None) -> None:
    """Median and band in the next colour; the limits take what is finite of them."""
    (low, middle, high), j = quantiles, len(ax.collections)
    colour = COLOURS[j % 8]
    line(ax, x, middle, color=colour, ls="-" if j < 8 else "--", label=named(label, middle))
    for edge in (low, high):
        ax.update_datalim(np.column_stack([x, edge])[np.isfinite(edge)])
    limits = ax.dataLim.get_points().copy()
    ax.fill_between(x, np.clip(low, -DEEP, DEEP), np.clip(high, -DEEP, DEEP), color=colour, alpha=0.2, lw=0)
    ax.dataLim.set_points(limits)
    zeros(ax, x[np.isneginf(middle)], j)
    ax.update_datalim([(0, 0), (max(x.max(initial=0), 1), 0)], updatey=False)


def line(ax: Axes, x: np.ndarray, y: np.ndarray, **look: Any) -> None:
    """What is finite, with dots where both neighbours are not."""
    gap = ~np.isfinite(np.pad(y, 1, constant_values=np.nan))
    ax.plot(x, np.where(gap[1:-1], np.nan, y), marker=".", ms=6, markevery=np.flatnonzero(~gap[1:-1] & gap[:-2] & gap[2:]), **look)


def slope(
    ax: Axes, x: np.ndarray, y: np.ndarray, rate: float | None, error: float | None = None, *, name: str = "λ₁", colour: str = COLOURS[1]
) -> None:
    """A dashed line of this slope through the mean of the finite points, and a wedge of ± 2 errors; neither moves the limits."""
    known = np.isfinite(y)
    if rate is None or not known.any():
        return
    at, finite = (x[known].mean(), y[known].mean()), bool(np.isfinite(rate))
    spread = "" if error is None else f" ± {error:.1g}" if np.isfinite(error) else " ± unknown"
    label = f"slope {name} = {rate:.4g}{spread} nats per step".replace("-", "−")
    ax.axline(at, slope=rate if finite else 0, ls="--" if finite else "", color=colour, label=label)
    if finite and error is not None and np.isfinite(error):
        ends = np.array([x[0], x[-1]])
        low, high = (np.clip(rate + 2 * s * error, -DEEP, DEEP) * (ends - at[0]) + at[1] for s in (-1, 1))
        wedge = [(ends[0], low[0]), at, (ends[1], low[1]), (ends[1], high[1]), at, (ends[0], high[0])]
        ax.add_artist(Polygon(wedge, color=colour, alpha=0.25, lw=0))  # unlike add_patch, it leaves the limits to the data


def balanced(known: np.ndarray) -> float:
    """The limit of a map's colours, cut where one side would pale the other: a deep sea its shore."""
    most, least = known.max(initial=0.0), -known.min(initial=0.0)
    return float(min(max(most, least), 2 * (min(most, least) or np.inf))) or 1.0


def heat(ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, unseen: np.ndarray, limit: float, label: str) -> Any:
    """A map between these edges, white at 0, grey where unseen; its bar says where it is cut off."""
    seen = values[~unseen]
    cells = np.ma.masked_where(unseen, np.clip(np.nan_to_num(values, nan=0.0), -DEEP, DEEP))
    mesh = ax.pcolormesh(x, y, cells, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
    ax.set_facecolor("0.85")
    extend = ("neither", "min", "max", "both")[int((seen < -limit).any()) + 2 * int((seen > limit).any())]
    ax.figure.colorbar(mesh, ax=ax, extend=extend).set_label(label, fontsize=11)
    return mesh


def zeros(ax: Axes, x: np.ndarray, j: int, label: str | None = None, *, top: bool = False) -> None:
    """Triangles on the lower edge, or for +inf on the upper one, the j-th row of them."""
    height, marker = 0.02 * (1 + j % 8), "^" if top else "v"
    ax.plot(x, 0 * x + (1 - height if top else height), marker, ms=4, color=COLOURS[j % 8], transform=ax.get_xaxis_transform(), label=label)


def named(label: str | None, values: Any = (0,), lost: str = "") -> str | None:
    """The label, with what the curve cannot show."""
    if zeros := int(np.isneginf(values).sum()):
        lost = f"{zeros} of {len(values)} exactly zero"
    elif not np.isfinite(values).any():
        lost = "nothing to draw"
    name = ": ".join(part for part in (literal(label or "", 40), lost) if part)
    return " " * name.startswith("_") + name or None  # legends drop what begins with an underscore


def literal(text: str, width: int) -> str:
    """What a legend shows and the font has: the middle cut out, other characters by their code."""
    glyphs = font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    text = "".join(c if ord(c) in glyphs else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= width else text[: width // 2 - 1] + "…" + text[-(width // 2) :]


def subscript(number: int) -> str:
    """The number below the line."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
