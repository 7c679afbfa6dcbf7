"""Results to files: one self-contained HTML page, ``diagnosis.json`` and the pictures."""

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxrnn
from jaxrnn import _arms_page, _atomic, _pictures, _sweep_page, plots
from jaxrnn._pictures import Omitted, Picture
from jaxrnn._words import sampled
from jaxrnn.comparison import Row, plain, wilson
from jaxrnn.diagnosis import Comparison, Diagnosis
from jaxrnn.evidence import Evidence
from jaxrnn.sweep import Plan, Sweep

_TOGETHER = 12  # curves that can be told apart in one picture


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


def write_arms(rows: Sequence[Row], path: str | Path, *, title: str, metric: str, run: Mapping[str, Any] | None = None) -> list[Path]:
    """Write the page of a comparison of arms into a folder: ``compare.html``, ``compare.json`` and its pictures.

    Args:
        rows: what ``comparison.run`` or ``comparison.attempt`` returned.
        path, title, run: as in ``write``.
        metric: its name, ``Task.metric_name``.

    Returns:
        The files, ``compare.html`` first.

    Raises:
        As ``write``.

    >>> import tempfile
    >>> from jaxrnn import comparison, report
    >>> row = comparison.Row("gru, 50", (200,), (0.01,), 0.17, (200,), (0.01,), ((-0.5,), (-0.1,)), ((5.0,), (30.0,)), 0.01, ())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report.write_arms([row], folder, title="One arm", metric="mean squared error")[0].name
    'compare.html'
    """
    pictures, said = _arms_pictures([row for row in rows if row.solved], metric), _arms_page.summary(rows, metric)
    content = {
        "title": title, "metric": metric, "summary": said, "lines": _arms_page.table(rows), "pictures": [_embedded(p) for p in pictures],
        "skipped": [(row.name, row.skipped) for row in rows if not row.solved],
        "failures": [(row.name, what) for row in rows for what in row.failures], "run": _run(run),
    }  # fmt: skip
    arms = [{**plain(row), "interval": list(wilson(row.successes, len(row.solved))) if row.solved else None} for row in rows]
    facts = json.dumps({"title": title, "metric": metric, "summary": said, "arms": arms, **(run or {})}, indent=1, allow_nan=False)
    files = {"compare.html": _page("arms.html", content), "compare.json": facts.encode(), **{f"{p.name}.png": p.png for p in pictures}}
    return _write_all(Path(path), files, _arms_owned(Path(path)))


def write_sweep(found: Sweep, plan: Plan, path: str | Path, *, run: Mapping[str, Any] | None = None) -> list[Path]:
    """Write the page of a sweep into a folder: ``sweep.html``, ``sweep.json`` and its pictures; the numbers are in its store.

    Args:
        found: what ``sweep.run`` returned.
        plan: what was swept; its title, units and what theory expects.
        path, run: as in ``write``.

    Returns:
        The files, ``sweep.html`` first.

    Raises:
        As ``write``.

    >>> import tempfile, numpy as np
    >>> from jaxrnn import report, sweep
    >>> plan = sweep.Plan(lambda a: a**2, sweep.grid(a=np.linspace(-1.0, 1.0, 5)), "Squares")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in report.write_sweep(sweep.run(plan.point, plan.grid), plan, folder)]
    ['sweep.html', 'sweep.json', 'sweep_result.png']
    """
    pictures, said = _sweep_page.pictures(found, plan), _sweep_page.summary(found)
    failures = [(_sweep_page.told(failure.values), failure.message) for failure in found.failures]
    content = {
        "title": plan.title, "summary": said, "axes": _sweep_page.axes(found, plan), "failures": failures,
        "pictures": [_embedded(p) for p in pictures], "run": _run(run),
    }  # fmt: skip
    facts = {"title": plan.title, "summary": said, "axes": _sweep_page.axes(found, plan), "failures": failures, "nonfinite": len(found.nonfinite)}
    files = {"sweep.html": _page("sweep.html", content), "sweep.json": json.dumps({**facts, **(run or {})}, indent=1, allow_nan=False).encode()}
    files |= {f"{p.name}.png": p.png for p in pictures}
    return _write_all(Path(path), files, [file.name for file in Path(path).glob("sweep_*.png")])


def _arms_owned(folder: Path) -> list[str]:
    """The pictures of an earlier comparison of arms; how many curves it had depends on its arms."""
    return ["solved_shares.png", "exponents_moved.png", *(file.name for file in folder.glob("learning_curves*.png"))]


def _arms_pictures(run: list[Row], metric: str) -> list[Picture]:
    """The pictures of the arms that were run; curves of one baseline at most ``_TOGETHER`` to a picture."""
    if not run:
        return []
    names, length = _arms_page.short(run)
    where = f" All of length {length}." if length else ""
    solved, seeds = [row.successes for row in run], [len(row.solved) for row in run]
    ends = [wilson(k, n) for k, n in zip(solved, seeds, strict=True)]
    tall = lambda draw: lambda ax: (ax.figure.set_figheight(max(5.0, 1.6 + 0.3 * len(run))), draw(ax))
    shares = "Dots: the share of seeds that solved the task. Bars: what share of all seeds these few are compatible with, at 95 %." + where
    told = "; ".join(f"{name} {k} of {n}" for name, k, n in zip(names, solved, seeds, strict=True))
    pictures = [
        Picture("solved_shares", "Who solves the task", shares, f"Seeds that solved the task: {told}.",
                plots.save(tall(lambda ax: plots.solved_shares(names, solved, seeds, ends, ax=ax)))),
    ]  # fmt: skip
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(run):
        groups.setdefault(repr(row.baseline), []).append(i)
    parts = [each[i : i + _TOGETHER] for each in groups.values() for i in range(0, len(each), _TOGETHER)]
    pictures += [_curves(part, i, len(parts), run, names, metric, where) for i, part in enumerate(parts)]
    before, after = (_arms_page.padded([row.exponent[i] for row in run]) for i in (0, 1))
    middle = lambda row, i: _arms_page.number(_arms_page.median(row.exponent[i]), ".3g")
    told = "; ".join(f"{name} {middle(row, 0)} to {middle(row, 1)}" for name, row in zip(names, run, strict=True))
    moved = "λ₁ of each seed before and after training; the closer to 0 from below, the longer a perturbation, and with it a gradient, lasts."
    return [
        *pictures,
        Picture("exponents_moved", "What became of the exponents", moved + where, f"Medians of λ₁ in nats per step: {told}.",
                plots.save(tall(lambda ax: plots.exponents_moved(names, before, after, ax=ax)))),
    ]  # fmt: skip


def _curves(part: list[int], i: int, count: int, run: list[Row], names: list[str], metric: str, where: str) -> Picture:
    """The i-th picture of learning curves, of the arms ``part``."""
    updates, medians = _arms_page.curves([run[j] for j in part])
    chosen, baseline = [names[j] for j in part], run[part[0]].baseline
    number = _arms_page.number
    ends = "; ".join(f"{names[j]} {number(run[j].median[-1] if run[j].median else math.nan, '.3g')}" for j in part)
    level = "" if math.isnan(baseline) else f" Without memory it is {number(baseline, '.3g')}."
    caption = f"The {metric} on held-out sequences, median over the seeds that still run." + where
    draw = lambda ax: plots.learning_curves(chosen, updates, medians, baseline, label=metric, ax=ax)
    title = "Learning curves" + f", {i + 1} of {count}" * (count > 1)
    return Picture("learning_curves" + f"_{i + 1}" * (i > 0), title, caption, f"{metric} at the end: {ends}.{level}", plots.save(draw))


def clear(folder: str | Path) -> None:
    """Remove from a folder what ``write``, ``write_comparison`` and ``write_arms`` make there; other files stay, an emptied folder goes."""
    folder = Path(folder)
    pictures = [f"{name}.png" for name in (*_pictures.DIAGNOSIS, *_pictures.COMPARISON)] + _arms_owned(folder)
    for name in ("report.html", "diagnosis.json", "comparison.html", "comparison.json", "compare.html", "compare.json", *pictures):
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
    page = pages.get_template(template).render(**content, version=jaxrnn.__version__)
    return page.encode("utf-8", "xmlcharrefreplace")  # what is no character, half of a pair, is one that cannot be shown


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
