"""``jaxrnn compare-reports``: two diagnoses that were written before."""

import shlex
from pathlib import Path
from typing import Any

from jaxrnn import _atomic, diagnosis, report
from jaxrnn.cli import show
from jaxrnn.cli.options import CompareReports, refusing


def run(config: CompareReports, argv: list[str]) -> int:
    """Compare and write; 0."""
    _atomic.require_writable(config.out)
    with refusing():
        a, b = _read(config.a), _read(config.b)
    labels = config.labels or (config.a.resolve().name, config.b.resolve().name)
    if labels[0] == labels[1] or not all(label.strip() for label in labels):
        labels = (f"first ({config.a})", f"second ({config.b})")
    with refusing():
        found = diagnosis.compare(a, b, labels=labels)
    about = {
        "command": shlex.join(["jaxrnn", *argv]),
        f"command of {labels[0]}": a.get("command", ""),
        f"command of {labels[1]}": b.get("command", ""),
    }
    report.write_comparison(found, config.out, title=f"{labels[0]} and {labels[1]}", run=about)
    show.comparison(found)
    print(config.out)
    return 0


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "diagnosis.json" if folder.is_dir() else folder
    if not path.is_file():
        raise ValueError(f"there is no {path}; give a folder that jaxrnn diagnose wrote")
    try:
        found = _atomic.parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a whole JSON file ({error}); write the diagnosis again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a diagnosis")
    return found
