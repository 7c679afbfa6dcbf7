"""What a comparison of arms says in words, and its table as people read it."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrnn.comparison import Row, wilson


class Line(NamedTuple):
    """One arm of the table, as people read it."""

    name: str
    solved: str
    interval: str
    updates: str
    final: str
    baseline: str
    exponent: str
    horizon: str
    cost: str
    ratio: str


def short(rows: Sequence[Row]) -> tuple[list[str], str]:
    """Names without the length, and the length, where all have the same; else as they are, and nothing."""
    ends = [re.fullmatch(r"(.+), (\d+)", row.name, re.DOTALL) for row in rows]
    found = {end[2] if end else "" for end in ends}
    if len(found) == 1 and "" not in found:
        return [end[1] for end in ends if end], found.pop()
    return [row.name for row in rows], ""


def summary(rows: Sequence[Row], metric: str) -> list[str]:
    """What came out: who solved the task, which shares are told apart, and where the metric ended."""
    run = [row for row in rows if row.solved]
    left = len(rows) - len(run)
    if not run:
        return [f"None of the {len(rows)} arms was run; the reasons stand below." if rows else "There is no arm to compare."]
    names, length = short(run)
    outcomes: dict[tuple[int, int], list[str]] = {}
    for name, row in zip(names, run, strict=True):
        outcomes.setdefault((row.successes, len(row.solved)), []).append(name)
    ordered = sorted(outcomes, key=lambda kn: (-kn[0] / kn[1], -kn[1]))
    parts = [f"{_listed(outcomes[kn])} from {_of(*kn) if kn[0] else f'none of {kn[1]}'} ({_interval(*kn)})" for kn in ordered[1:]]
    best, (k, n) = outcomes[ordered[0]], ordered[0]
    parts = [f"{_listed(best)} solved the task from {_of(k, n)} seed{'s' * (n != 1)} ({_interval(k, n)})", *parts]
    if not k:
        parts = ["no seed solved the task (" + "; ".join(f"{_interval(*kn)} by {_counted(kn[1], 'seed')} of an arm" for kn in ordered) + ")"]
    where = f", {'all ' * (len(run) > 1)}at length {length}" if length else ""
    head = f"Of the {len(run)} arms that were run" if len(run) > 1 else "Of 1 arm that was run"
    said = [f"{head}{where}: {'; '.join(parts)}."]
    if len(run) > 1:
        said.append(_apart(ordered))
    said += _metric(run, names, metric)
    if left:
        said.append(f"{left} of {len(rows)} arms {'was' if left == 1 else 'were'} not run; the reasons stand below.")
    return said


def table(rows: Sequence[Row]) -> list[Line]:
    """A line for each arm that was run."""
    run = [row for row in rows if row.solved]
    cheapest = min((row.seconds_per_step for row in run if row.seconds_per_step > 0), default=math.nan)
    return [_line(row, cheapest) for row in run]


def median(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN of none."""
    known = sorted(v for v in values if not math.isnan(v))
    if not known:
        return math.nan
    low, high = known[(len(known) - 1) // 2], known[len(known) // 2]
    return low if low == high else (low + high) / 2  # −inf and inf have no middle: NaN


def padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Rows of different length below each other, NaN where they have nothing."""
    out = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for each, values in zip(out, rows, strict=True):
        each[: len(values)] = values
    return out


def curves(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Updates (E,) at which any arm was evaluated, and the medians (A, E), NaN where an arm was not."""
    updates = np.unique(np.concatenate([np.asarray(row.evaluated, np.float64) for row in rows]))
    medians = np.full((len(rows), updates.size), np.nan)
    for each, row in zip(medians, rows, strict=True):
        each[np.searchsorted(updates, row.evaluated)] = row.median
    return updates, medians


def number(value: float, form: str = ".4g") -> str:
    """As it is shown, with a true minus and words for what is no number."""
    if math.isnan(value):
        return "unknown"
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else f"{value:{form}}".replace("-", "−")


def _line(row: Row, cheapest: float) -> Line:
    solving = [s for s in row.solved if s]
    failed = len(row.failures)  # one sentence a seed
    final = number(median(row.metric), ".3g") + f", {failed} failed" * (failed > 0)
    exponents = " → ".join(number(median(each), "+.3f") for each in row.exponent)
    horizons = " → ".join("beyond" if (m := median(each)) == math.inf else number(m, ".0f") for each in row.horizon)
    cost, k, n = row.seconds_per_step, row.successes, len(row.solved)
    return Line(
        row.name, f"{k}/{n}", _interval(k, n), number(median(solving), ".0f") if solving else "never", final, number(row.baseline, ".3g"),
        exponents, horizons, number(1e3 * cost, ".3g"), f"{cost / cheapest:.1f}" if cost > 0 else "unknown",
    )  # fmt: skip


def _apart(ordered: Sequence[tuple[int, int]]) -> str:
    """Which outcomes have intervals that do not overlap."""
    if len(ordered) == 1:
        return "All arms came out alike, so these seeds do not tell them apart."
    said = []
    for i, one in enumerate(ordered):
        lower = [_of(*other) for other in ordered[i + 1 :] if wilson(*other)[1] < wilson(*one)[0]]
        if lower:
            said.append(f"{_of(*one)} against {_listed(lower)}")
    if not said:
        return "The 95 % intervals of all arms overlap, so these seeds do not tell them apart."
    return f"Told apart, because their 95 % intervals do not overlap: {'; '.join(said)}. All other intervals overlap."


def _metric(run: Sequence[Row], names: Sequence[str], metric: str) -> list[str]:
    """Where the medians of the metric ended; which end is good is the metric's business."""
    ends = [(value, name) for row, name in zip(run, names, strict=True) if not math.isnan(value := median(row.metric))]
    failed = sum(len(row.failures) for row in run)
    said = []
    if ends:
        (low, least), (high, most) = min(ends), max(ends)
        between = f"from {number(low, '.3g')} ({least}) to {number(high, '.3g')} ({most})" if len(ends) > 1 else f"at {number(low, '.3g')}"
        baselines = sorted({row.baseline for row in run if not math.isnan(row.baseline)})
        without = f"; without memory it is {_listed([number(b, '.3g') for b in baselines])}" if baselines else ""
        said = [f"At the end the median {metric} lies {between}{without}."]
    if failed:
        said.append(f"{failed} of {_counted(sum(len(row.solved) for row in run), 'seed')} ended early because something was not finite.")
    return said


def _interval(successes: int, trials: int) -> str:
    low, high = wilson(successes, trials)
    return f"{100 * low:.0f}–{100 * high:.0f}\u00a0%"


def _of(successes: int, trials: int) -> str:
    return f"{successes} of {trials}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
