"""What all benchmarks share: competitors interleaved, medians, compilation apart, a table, a JSON file with versions.

Absolute times differ between machines and hours; the claim is the ratio inside one run. Each round times every
competitor once, in an order that turns round by round, and a ratio is the median over rounds of the ratio within one
round, so that a slow spell of the machine hits both sides of it.
"""

import argparse
import importlib.metadata
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


class Timing(NamedTuple):
    """How long one competitor took, in seconds."""

    first: float  # the first call: tracing, compilation and one run
    median: float  # of one call, over rounds
    samples: list[float]  # (rounds,) of one call, each the mean over ``repetitions``
    repetitions: int  # calls per sample


def arguments(description: str) -> argparse.Namespace:
    """Read the command line of every benchmark: ``smoke``, ``rounds``, ``out``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, two rounds, nothing written unless --out is given")
    parser.add_argument("--rounds", type=int, help="timed rounds (default 9, smoke 2)")
    parser.add_argument("--out", type=Path, help="folder of the JSON file (default: results/ beside the script)")
    given = parser.parse_args()
    given.rounds = given.rounds or (2 if given.smoke else 9)
    given.out = given.out or (None if given.smoke else Path(__file__).parent / "results")
    return given


def interleave(competitors: Mapping[str, Callable[[], Any]], rounds: int, least: float = 0.05) -> dict[str, Timing]:
    """Time every competitor in every round, each sample at least ``least`` seconds long."""
    first = {name: _seconds(call, 1) for name, call in competitors.items()}
    repetitions = {name: _repetitions(call, least) for name, call in competitors.items()}
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


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their headers, floats to three digits, numbers to the right."""
    cells = [list(headers), *([f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))))


def save(name: str, rows: Any, given: argparse.Namespace) -> None:
    """Write rows, settings and versions to ``NAME.json`` in the folder of the results."""
    if given.out is None:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    found = {"benchmark": name, "smoke": given.smoke, "rounds": given.rounds, "versions": versions(), "rows": rows}
    path = given.out / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {os.path.relpath(path)}")


def versions(*packages: str) -> dict[str, Any]:
    """Collect what the figures depend on: Python, packages, system, cores, the device that jax computes on."""
    names = ("jax", "jaxlib", "optax", "numpy", *packages)
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
        "platform": f"{sys.platform} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind}",
    }


def _seconds(call: Callable[[], Any], repetitions: int) -> float:
    start = time.perf_counter()
    for _ in range(repetitions):
        jax.block_until_ready(call())
    return (time.perf_counter() - start) / repetitions


def _repetitions(call: Callable[[], Any], least: float) -> int:
    """How often to call for one sample: the shortest of three warm calls decides."""
    return max(1, int(least / min(_seconds(call, 1) for _ in range(3))) + 1)
