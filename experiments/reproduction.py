"""What the numbered scripts share: one published result each, judged by a criterion that stood before the first full run.

A script has a docstring (claim, source, settings, what is reduced and why), a frozen dataclass ``Settings`` with everything that can be set, a
``SMOKE`` one that takes seconds, and ``main(settings) -> Found``. Its last line calls ``command``, which times it, writes ``results/NAME.json``
and pictures, and writes README.md anew from all results, so the scripts can run alone and in any order.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks.harness import THREADS, versions
from jaxrnn import plots

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LIMIT = 40  # minutes on two cores


class Claim(NamedTuple):
    """One statement, what was published for it, and what was measured here."""

    statement: str
    published: str  # the number or the finding, with its place in the source
    criterion: str  # when the statement counts as reproduced; not changed after the first full run
    measured: str  # with its error: over how many seeds, or which standard error
    holds: bool


class Found(NamedTuple):
    """What a script returns."""

    claims: Sequence[Claim]
    pictures: Mapping[str, Callable[[Any], Any]]  # name -> what draws it on given axes
    numbers: Mapping[str, Any]  # whatever a reader may want to plot again; arrays and plain values
    attempts: Sequence[str] = ()  # where a claim did not hold at first: what was tried, with its figures


def verdict(claims: Sequence[Mapping[str, Any]]) -> str:
    """Say ``reproduced`` where every claim holds, ``not`` where none does, else ``partly``."""
    held = sum(bool(claim["holds"]) for claim in claims)
    return "reproduced" if held == len(claims) else "partly" if held else "not"


def spread(values: Any, digits: int = 3) -> str:
    """Mean ± standard error of the mean over seeds, and how many they are."""
    values = np.asarray(values, float)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{values.mean():.{digits}g} ± {error:.1g} ({len(values)} seeds)" if len(values) > 1 else f"{values.mean():.{digits}g} (1 seed)"


def command(description: str, main: Callable[[Any], Found], full: Any, smoke: Any, precision: str = "float64") -> None:
    """Run a script from the shell: ``--smoke``, ``--out``, and one option per field of its settings."""
    if THREADS not in os.environ:
        os.environ[THREADS] = "1"  # threads that wait for XLA's: see experiments/benchmarks/harness.py
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny settings, to see that it runs; nothing written unless --out is given")
    parser.add_argument("--out", type=Path, help="folder of results (default: results/ beside the script, and README.md written anew)")
    for field in dataclasses.fields(full):
        value = getattr(full, field.name)
        many, kind = isinstance(value, tuple), type(value[0] if isinstance(value, tuple) and value else value)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, nargs="+" if many else None, default=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    out, settings = given.pop("out", None), smoke if given.pop("smoke") else full
    standard = settings is full and not given
    settings = dataclasses.replace(settings, **{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
    jax.config.update("jax_enable_x64", precision == "float64")
    name = Path(sys.argv[0]).stem
    started = time.perf_counter()
    found = main(settings)
    seconds = time.perf_counter() - started
    show(found, seconds)
    if standard or out:
        write(out or RESULTS, name, found, settings, seconds, precision)
    if standard and not out:
        (HERE / "README.md").write_text(page())


def show(found: Found, seconds: float) -> None:
    """Print every claim with its figures, then the verdict."""
    for claim in found.claims:
        print(f"{'holds' if claim.holds else 'FAILS'}: {claim.statement}\n    published: {claim.published}\n    here: {claim.measured}"
              f"\n    criterion: {claim.criterion}")  # fmt: skip
    print(f"{verdict([claim._asdict() for claim in found.claims])}; {seconds:.0f} s", flush=True)


def write(folder: Path, name: str, found: Found, settings: Any, seconds: float, precision: str) -> None:
    """Write ``NAME.json`` and ``NAME_PICTURE.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for picture, draw in found.pictures.items():
        pictures[picture] = f"{name}_{picture}.png"
        (folder / pictures[picture]).write_bytes(plots.save(draw))
    content = {
        "experiment": name, "title": _title(name), "claims": [claim._asdict() | {"holds": bool(claim.holds)} for claim in found.claims],
        "attempts": list(found.attempts), "seconds": round(seconds, 1), "precision": precision, "settings": dataclasses.asdict(settings),
        "versions": versions(), "pictures": pictures, "numbers": found.numbers,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, default=_plain, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    """An array as nested lists, rounded to what a picture can show; anything else is a mistake."""
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        array = np.asarray(value)
        return [_plain(row) for row in array] if array.ndim else float(f"{array:.6g}") if array.dtype.kind == "f" else array.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON; give arrays, numbers, strings, lists or dictionaries")


INTRODUCTION = """# The literature, reproduced

*Written by the scripts from `results/*.json`; do not edit.*

Each script takes one or a few published statements, the settings they were made with (or smaller ones, and it says which and why), and a criterion
that was committed before the first full run. Minutes are of two CPU cores that other work may have shared; nothing here was run on a GPU.
"Reproduced" means that every claim of the script met its criterion, "partly" that some did. What was tried after a miss, and settings that were
changed after the first full run, stand below the claims.

    python -m experiments.all --smoke      # all of them in minutes, nothing written
    python -m experiments.all              # all of them in full, one after another
"""


def _title(name: str) -> str:
    """The first line of a script."""
    return (HERE / f"{name}.py").read_text().splitlines()[0].strip('"').rstrip(".")


def page(folder: Path = RESULTS) -> str:
    """README.md from everything in ``folder``: the table, then each script's claims and pictures."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("e[0-9][0-9]_*.json"))]
    lines = [INTRODUCTION, "| | statement | claims that hold | verdict | minutes | command |", "|---|---|---|---|---|---|"]
    for found in results:
        name, claims = found["experiment"], found["claims"]
        held, minutes = sum(claim["holds"] for claim in claims), found["seconds"] / 60
        anchor = f"[{int(name[1:3])}](#{name.replace('_', '-')})"
        cells = (anchor, found["title"], f"{held} of {len(claims)}", verdict(claims), f"{minutes:.1f}", f"`python -m experiments.{name}`")
        lines.append(f"| {' | '.join(cells)} |")
    for found in results:
        lines += ["", *_section(found)]
    return "\n".join(lines) + "\n"


def _section(found: Mapping[str, Any]) -> list[str]:
    """One script's part of the page."""
    name = found["experiment"]
    safe = lambda text: text.replace("|", "\\|")
    lines = [f"## {name.replace('_', '-')}", "", f"{found['title']}. The script's docstring has source and settings: [{name}.py]({name}.py).", ""]
    lines += ["| claim | published | here | criterion | holds |", "|---|---|---|---|---|"]
    for claim in found["claims"]:
        row = (*(safe(claim[key]) for key in ("statement", "published", "measured", "criterion")), "yes" if claim["holds"] else "**no**")
        lines.append(f"| {' | '.join(row)} |")
    if found["attempts"]:
        lines += ["", "What was tried:", "", *(f"- {attempt}" for attempt in found["attempts"])]
    if found["pictures"]:
        pictures = (f"![{name}: {picture.replace('_', ' ')}](results/{file})" for picture, file in found["pictures"].items())
        lines += ["", "\n".join(pictures)]
    return lines
