"""What all benchmarks share: competitors interleaved, medians, compilation apart, a table, a JSON file with versions.

Absolute times differ between machines and hours; the claim is the ratio inside one run. Each round times every
competitor once, in an order that turns round by round, and a ratio is the median over rounds of the ratio within one
round, so that a slow spell of the machine hits both sides of it.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

THREADS = "OPENBLAS_NUM_THREADS"


class Timing(NamedTuple):
    """How long one competitor took, in seconds."""

    first: float  # the first call: tracing, compilation and one run
    median: float  # of one call, over rounds
    samples: list[float]  # (rounds,) of one call, each the mean over ``repetitions``
    repetitions: int  # calls per sample


def arguments(description: str, rounds: int = 9) -> argparse.Namespace:
    """Read the command line of every benchmark: ``smoke``, ``rounds``, ``out``; start again with LAPACK on one thread.

    On few cores OpenBLAS's threads and XLA's wait for one another: a QR of 128 columns takes up to five times as long on two threads
    as on one, for every competitor. A number of threads already in the environment is kept, and written to the results.
    """
    if THREADS not in os.environ:
        os.environ[THREADS] = "1"  # OpenBLAS reads it when it is loaded, which is before this line
        os.execv(sys.executable, [sys.executable, *sys.argv])
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, two rounds, nothing written unless --out is given")
    parser.add_argument("--rounds", type=int, help=f"timed rounds (default {rounds}, smoke 2)")
    parser.add_argument("--out", type=Path, help="folder of the JSON file (default: results/ beside the script)")
    given = parser.parse_args()
    given.rounds = given.rounds or (2 if given.smoke else rounds)
    given.out = given.out or (None if given.smoke else Path(__file__).parent / "results")
    return given


def interleave(
    competitors: Mapping[str, Callable[[], Any]], rounds: int, least: float = 0.05, answers: dict[str, Any] | None = None
) -> dict[str, Timing]:
    """Time every competitor in every round, each sample at least ``least`` seconds long; ``answers`` takes what the first calls returned."""
    first, repetitions, kept = {}, {}, {} if answers is None else answers
    for name, call in competitors.items():
        first[name] = _seconds(lambda call=call, name=name: kept.update({name: call()}) or kept[name], 1)
        repetitions[name] = _repetitions(call, least)
    samples: dict[str, list[float]] = {name: [] for name in competitors}
    for i in range(rounds):
        turn = i % len(competitors)
        names = [*competitors]
        for name in names[turn:] + names[:turn]:
            samples[name].append(_seconds(competitors[name], repetitions[name]))
    return {name: Timing(first[name], statistics.median(samples[name]), samples[name], repetitions[name]) for name in competitors}


def ratio(timings: Mapping[str, Timing], ours: str, theirs: str) -> tuple[float, float, float]:
    """Time of ``ours`` over ``theirs``: median of the ratios within a round, and their quartiles."""
    ratios = [a / b for a, b in zip(timings[ours].samples, timings[theirs].samples, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


def claim(timings: Mapping[str, Timing], against: str, target: float | None, *, ours: str = "jaxrnn", at_most: bool = False) -> dict[str, Any]:
    """What is claimed and whether it holds.

    ``at_most``: our time is at most ``target`` times that of ``against``; otherwise ours is at least ``target`` times faster.
    """
    middle, low, high = ratio(timings, ours, against) if at_most else ratio(timings, against, ours)
    reached = None if target is None else middle <= target if at_most else middle >= target
    return {"against": against, "at_most": at_most, "ratio": middle, "quartiles": [low, high], "target": target, "reached": reached}


def fastest(timings: Mapping[str, Timing], *but: str) -> str:
    """The name with the smallest median time, ours and ``but`` left out."""
    return min((name for name in timings if name not in ("jaxrnn", *but)), key=lambda name: timings[name].median)


def scaled(timing: Timing, factor: float) -> Timing:
    """The timing of a whole of which an even part was timed."""
    return Timing(timing.first * factor, timing.median * factor, [s * factor for s in timing.samples], timing.repetitions)


def seconds(timings: Mapping[str, Timing]) -> dict[str, dict[str, Any]]:
    """Timings as they are written to JSON."""
    return {name: timing._asdict() for name, timing in timings.items()}


def report(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the common form: a table of times, then each claim, then what was checked about the answers."""
    names = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    shown = lambda row, name: 1e3 * row["seconds"][name]["median"] if name in row["seconds"] else "–"
    table(("ms", *names), [(row["setting"], *(shown(row, name) for name in names)) for row in rows])
    print()
    for row in rows:
        if "sampled" in row:
            print(f"{row['setting']}: timed in part and scaled up: {row['sampled']}")
        for made in row["claims"]:
            print(f"{row['setting']}: {sentence(made)}")
        for name, value in {**row.get("checks", {}), **row.get("bytes", {})}.items():
            print(f"    {name}: {value:.3g}" if isinstance(value, float) else f"    {name}: {value}")


def sentence(made: Mapping[str, Any]) -> str:
    """A claim in words."""
    low, high = made["quartiles"]
    reached = {None: "", True: "reached", False: "NOT reached"}[made["reached"]]
    wanted = "" if made["target"] is None else f"; target {'≤' if made['at_most'] else '≥'} {made['target']:g}: {reached}"
    what = "times as long as" if made["at_most"] else "times as fast as"
    return f"{made['ratio']:.2f} ({low:.2f} to {high:.2f}) {what} {made['against']}{wanted}"


def require(checks: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """The checks as given; raises where an answer differs by more than its limit, for then its time means nothing."""
    wrong = {name: value for name, value in checks.items() if name in limits and not value <= limits[name]}
    if wrong:
        raise SystemExit(f"answers differ by more than allowed: {wrong}, allowed {dict(limits)}")
    return dict(checks)


def log_difference(a: Any, b: Any) -> float:
    """The largest difference of logs; −inf must stand in both, else inf."""
    a, b = np.asarray(a), np.asarray(b)
    finite = np.isfinite(a)
    if (finite != np.isfinite(b)).any():
        return float("inf")
    return float(np.max(np.abs(a[finite] - b[finite]), initial=0.0))


def allocated(compiled: Any) -> dict[str, int]:
    """Bytes that a compiled program allocates beside its arguments."""
    found = compiled.memory_analysis()
    return {"temporaries": found.temp_size_in_bytes, "outputs": found.output_size_in_bytes}


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their headers, floats to three digits, numbers to the right."""
    cells = [list(headers), *([f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))))


def save(name: str, rows: Any, given: argparse.Namespace, packages: Sequence[str] = ()) -> None:
    """Write rows, settings and versions (of jax and its like, and of ``packages``) to ``NAME.json`` in the folder of the results."""
    if given.out is None:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    found = {"benchmark": name, "smoke": given.smoke, "rounds": given.rounds, "versions": versions(*packages), "rows": rows}
    path = given.out / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {os.path.relpath(path)}")


def versions(*packages: str) -> dict[str, Any]:
    """Collect what the figures depend on: Python, packages, system, cores, the device that jax computes on."""
    names = ("jax", "jaxlib", "optax", "numpy", *packages)
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names if importlib.util.find_spec(name)},
        "platform": f"{sys.platform} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        THREADS: os.environ.get(THREADS),
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind}",
    }


def _seconds(call: Callable[[], Any], repetitions: int) -> float:
    start = time.perf_counter()
    for _ in range(repetitions):
        jax.block_until_ready(call())
    return (time.perf_counter() - start) / repetitions


def _repetitions(call: Callable[[], Any], least: float) -> int:
    """How often to call for one sample: the shortest of three warm calls decides, or the first where it is long."""
    shortest = _seconds(call, 1)
    if shortest < 5 * least:
        shortest = min(shortest, *(_seconds(call, 1) for _ in range(2)))
    return max(1, int(least / shortest) + 1)
