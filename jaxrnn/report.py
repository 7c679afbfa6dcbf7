"""Results to files: one self-contained HTML page, ``diagnosis.json`` and the pictures."""

import base64
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxrnn
from jaxrnn import _atomic, _pictures
from jaxrnn._pictures import Omitted, Picture
from jaxrnn._words import sampled
from jaxrnn.diagnosis import Comparison, Diagnosis
from jaxrnn.evidence import Evidence


class Figure(NamedTuple):
    """One line of the table of key figures, as people read it."""

    name: str
    value: str
    error: str
    unit: str


def write(diagnosis: Diagnosis, path: str | Path, *, title: str = "Recurrent model", run: Mapping[str, Any] | None = None) -> list[Path]:
    """Write the report of a diagnosis into a folder: ``report.html``, ``diagnosis.json`` and the pictures as PNG.

    The page holds everything itself (no script, no request): verdict and advice, the evidence in words, pictures with
    alternative text and numbers, the self-checks, what was sampled or left out and why, and how to reproduce it.

    Args:
        diagnosis: what ``diagnosis.diagnose`` returned.
        path: the folder; made where it does not exist. Pictures of an earlier report there that this one does not
            have are removed; other files stay.
        title: what was diagnosed, shown as text whatever it holds.
        run: how to reproduce it: ``command``, ``settings`` and ``versions`` as far as they are known; kept in
            ``diagnosis.json`` too, so its values must be JSON's.

    Returns:
        The files, ``report.html`` first. Each appears whole or not at all, and all are made before the first is written.

    Raises:
        ModuleNotFoundError: jinja2 is missing (extra ``cli``). OSError: the folder cannot be written.

    >>> import tempfile, jax.numpy as jnp
    >>> from jaxrnn import diagnosis, report
    >>> found = diagnosis.diagnose(lambda a, h, x: a * h + x, 0.5, jnp.zeros(1), jnp.ones((2, 20, 1)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report.write(found, folder)[0].name
    'report.html'
    """
    pictures, omitted = _pictures.of_diagnosis(diagnosis.evidence)
    page = _page("diagnosis.html", _diagnosis_page(diagnosis, title, run, pictures, omitted))
    facts = json.dumps({"title": title, **diagnosis.to_dict(), **(run or {})}, indent=1, allow_nan=False)
    files = {"report.html": page, "diagnosis.json": facts.encode(), **{f"{p.name}.png": p.png for p in pictures}}
    return _write_all(Path(path), files, [f"{name}.png" for name in _pictures.DIAGNOSIS])


def write_comparison(
    comparison: Comparison,
    path: str | Path,
    *,
    title: str = "Before and after",
    run: Mapping[str, Any] | None = None,
    training: tuple[Any, Any] | None = None,
    details: tuple[str, ...] = (),
) -> list[Path]:
    """Write the page of a comparison into a folder: ``comparison.html``, ``comparison.json`` and its pictures.

    Args:
        comparison: what ``diagnosis.compare`` returned.
        path, title, run: as in ``write``.
        training: (loss, gradient norm) over the updates between the two, to be drawn.
        details: further sentences for the page, e.g. accuracies.

    Returns:
        The files, ``comparison.html`` first.

    Raises:
        As ``write``.

    >>> import tempfile, jax.numpy as jnp
    >>> from jaxrnn import diagnosis, report
    >>> a, b = (diagnosis.diagnose(lambda a, h, x: a * h + x, w, jnp.zeros(1), jnp.ones((2, 20, 1))) for w in (0.5, 0.9))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report.write_comparison(diagnosis.compare(a, b), folder)[0].name
    'comparison.html'
    """
    pictures = _pictures.of_comparison(comparison, training)
    rows = [
        {
            "name": c.name, "unit": c.unit, "a": _plus_minus(c.a, c.a_error), "b": _plus_minus(c.b, c.b_error),
            "difference": {True: "clear", False: "not clear", None: "no error known"}[c.clear],
        }
        for c in comparison.changes
    ]  # fmt: skip
    told = sum(not (math.isnan(c.a) or math.isnan(c.b)) for c in comparison.changes)  # one sentence each, at the end
    summary = comparison.sentences[: len(comparison.sentences) - told + 1]
    content = {
        "title": title, "labels": comparison.labels, "verdicts": comparison.verdicts, "summary": summary,
        "rows": rows, "pictures": [_embedded(p) for p in pictures], "details": details, "run": _run(run),
    }  # fmt: skip
    facts = json.dumps({"title": title, **comparison.to_dict(), "details": list(details), **(run or {})}, indent=1, allow_nan=False)
    files = {"comparison.html": _page("comparison.html", content), "comparison.json": facts.encode()}
    files |= {f"{p.name}.png": p.png for p in pictures}
    return _write_all(Path(path), files, [f"{name}.png" for name in _pictures.COMPARISON])


def clear(folder: str | Path) -> None:
    """Remove from a folder what ``write`` and ``write_comparison`` make there; other files stay, an emptied folder goes."""
    folder = Path(folder)
    pictures = [f"{name}.png" for name in (*_pictures.DIAGNOSIS, *_pictures.COMPARISON)]
    for name in ("report.html", "diagnosis.json", "comparison.html", "comparison.json", *pictures):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def figures(e: Evidence) -> list[Figure]:
    """The key figures of a diagnosis."""
    mean = float(e.lengths.mean()) if e.lengths.size else math.nan
    rows = [Figure("log gain over a sequence", f"{e.rate * mean:+.3f}", _error(e.rate_error * mean, 3), "nats")]
    leading = list(zip(e.exponents, e.standard_errors, strict=True))[:3]
    rows += [Figure(f"Lyapunov exponent {i}", f"{v:+.5f}", _error(se, 5), "nats per step") for i, (v, se) in enumerate(leading, 1)]
    middle = e.horizon[1]
    steps = "beyond the sequence" if math.isinf(middle) else "unknown" if math.isnan(middle) else f"{middle:.0f}"
    rows.append(Figure("memory horizon, median", steps, "", "steps"))
    rows.append(Figure("median log largest |eigenvalue|", f"{np.median(e.log_radius):+.4f}", "", "nats per step"))
    return rows


def _diagnosis_page(d: Diagnosis, title: str, run: Mapping[str, Any] | None, pictures: list[Picture], omitted: list[Omitted]) -> dict[str, Any]:
    return {
        "title": title, "verdict": d.verdict, "reasons": d.reasons, "advice": d.remedies, "checks": d.checks,
        "failed": sum(not c.passed for c in d.checks), "pictures": [_embedded(p) for p in pictures],
        "figures": figures(d.evidence), "limits": [*sampled(d.evidence), *(f"No picture “{o.title}”: {o.why}." for o in omitted)],
        "run": _run(run),
    }  # fmt: skip


def _page(template: str, content: dict[str, Any]) -> bytes:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "_pages")
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(template).render(**content, version=jaxrnn.__version__).encode()


def _embedded(picture: Picture) -> dict[str, Any]:
    width, height = struct.unpack(">II", picture.png[16:24])  # of the PNG's header
    data = "data:image/png;base64," + base64.b64encode(picture.png).decode()
    return {**picture._asdict(), "data": data, "width": width, "height": height}


def _run(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The command, and everything else as rows of a table."""
    if not run:
        return None
    rows = [(name.replace("_", " "), str(value)) for key in ("settings", "versions") for name, value in run.get(key, {}).items() if value is not None]
    rest = [(name.replace("_", " "), str(value)) for name, value in run.items() if name not in ("command", "settings", "versions")]
    return {"command": run.get("command", ""), "facts": rows + rest}


def _write_all(folder: Path, files: dict[str, bytes], owned: list[str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(owned) - set(files):
        (folder / name).unlink(missing_ok=True)  # an earlier report's would not belong to this one
    for name, content in files.items():
        _atomic.write(folder / name, content)
    return [folder / name for name in files]


def _error(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "unknown"


def _plus_minus(value: float, error: float) -> str:
    if math.isnan(value):
        return "unknown"
    return f"{value:.4g} ± {error:.2g}" if math.isfinite(error) else f"{value:.4g}"
