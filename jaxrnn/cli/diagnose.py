"""``jaxrnn diagnose``: one diagnosis, or one before and one after training, with the reports."""

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import jaxrnn
from jaxrnn import _atomic, _tree, diagnosis, evidence, report, training
from jaxrnn.cli import show
from jaxrnn.cli.load import Loaded, cast, load
from jaxrnn.cli.options import BadInput, Diagnose, applied, refusing
from jaxrnn.diagnosis import Diagnosis


def run(config: Diagnose, argv: list[str]) -> int:
    """Diagnose and write; 0, or 2 where training diverged."""
    _atomic.require_writable(config.out)
    configure(config.precision)
    with refusing():
        loaded = load(config)
    title = config.title or loaded.label
    about = {"command": shlex.join(["jaxrnn", *argv]), "settings": _settings(config), "versions": versions()}
    found = measure(loaded, loaded.params)
    for folder in (config.out, *(config.out / part for part in ("before", "after", "remedies"))):
        report.clear(folder)  # what an earlier run left there is of another model
    if config.try_remedies or not config.train_steps:
        _report(found, config.out, title, about)
        show.diagnosis(loaded.label, found)
        if config.try_remedies:
            from jaxrnn.cli import attempts

            attempts.run(config, loaded, found, about)
        print(config.out)
        return 0
    before = config.out / "before"
    _report(found, before, f"{title}, before training", about)
    show.diagnosis(f"{loaded.label}, before training", found)
    fit = _train(config, loaded)
    if fit.failures:
        raise BadInput(f"training diverged: {fit.failures[0]}; lower --learning-rate or --gain. The diagnosis before training is in {before}")
    after = measure(loaded, cast(fit.params, config.precision))
    labels = ("before training", f"after {config.train_steps} updates")
    compared = diagnosis.compare(found, after, labels=labels)
    _report(after, config.out / "after", f"{title}, {labels[1]}", about)
    details = _scores(config, loaded, fit.params)
    report.write_comparison(
        compared, config.out, title=title, run=about, training=(fit.history["loss"], fit.history["gradient_norm"]), details=details
    )
    show.diagnosis(f"{loaded.label}, {labels[1]}", after)
    show.comparison(compared, details)
    print(config.out)
    return 0


def configure(precision: str) -> None:
    """Precision and compilation cache of this process; the library itself never touches jax.config."""
    jax.config.update("jax_enable_x64", precision == "float64")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        if os.path.isabs(home):  # else there is no home, and every run compiles anew
            jax.config.update("jax_compilation_cache_dir", os.path.join(home, "jaxrnn"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def versions() -> dict[str, str]:
    """Of jaxrnn, Python and the packages that make the numbers."""
    packages = ("jax", "jaxlib", "numpy", "optax", "matplotlib")
    return {"jaxrnn": jaxrnn.__version__, "python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}}


def measure(loaded: Loaded, params: Any) -> Diagnosis:
    """The diagnosis, with the plan and a progress display on the error stream."""
    xs, targets, lengths = loaded.batch
    leaf = jax.tree.leaves(xs)[0]
    with refusing():
        lay = _tree.layout(loaded.state)
    size = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params)) if loaded.loss is not None else 0
    plan = evidence.plan(leaf.shape[0], leaf.shape[1], lay.size, size, lay.dtype.itemsize)
    Console(stderr=True).print(f"[dim]{show.plan(plan)}[/dim]", highlight=False)
    work = lambda progress: diagnosis.diagnose(
        loaded.step, params, loaded.state, xs, targets=targets, loss=loaded.loss, lengths=lengths, progress=progress
    )
    with refusing():
        return _with_progress("states", work)


def _train(config: Diagnose, loaded: Loaded) -> training.Fit:
    """Training in float32: what a user would do, and twice as fast."""
    assert loaded.loss is not None  # the options were checked
    loss, params, state = loaded.loss, cast(loaded.params, "float32"), cast(loaded.state, "float32")
    sample = lambda key, batch: cast(loaded.sample(key, batch), "float32")
    work = lambda progress: training.fit(
        loaded.step, params, state, sample, loss, steps=config.train_steps,
        batch=config.batch, key=jax.random.key(config.seed + 1),
        optimizer=training.default_optimizer(config.learning_rate),
        log=lambda done, values: progress(f"training, loss {float(values['loss']):.4g}", done, config.train_steps),
    )  # fmt: skip
    return _with_progress("training", work)


def _with_progress(first: str, work: Callable[[Callable[[str, int, int], None]], Any]) -> Any:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(first, total=None)
        return work(lambda what, i, total: bar.update(task, description=what, completed=i, total=total))


def _scores(config: Diagnose, loaded: Loaded, params: Any) -> tuple[str, ...]:
    """How well the task is done on sequences that were not trained on."""
    task = loaded.task
    if task is None or task.metric is None or loaded.output is None:
        return ("The sequences diagnosed are the ones trained on.",)
    count = min(200, task.held_out_sequences or 200)
    batch = cast(task.held_out(jax.random.key(config.seed), count), "float32")
    state = cast(loaded.state, "float32")
    score = lambda theta: training.evaluate(loaded.output, loaded.step, theta, state, batch, task.metric)
    a, b = score(cast(loaded.params, "float32")), score(params)
    name = task.metric_name[0].upper() + task.metric_name[1:]
    return (
        f"{name} on {count} sequences held out: {a:.4g} before, {b:.4g} after {config.train_steps} updates of {config.batch} sequences "
        f"({task.baseline:.4g} without memory). The sequences diagnosed were held out too.",
    )


def _report(found: Diagnosis, folder: Path, title: str, about: dict[str, Any]) -> None:
    try:
        report.write(found, folder, title=title, run=about)
    except OSError as error:
        raise OSError(f"could not write to {folder}: {error}") from error


def _settings(config: Diagnose) -> dict[str, Any]:
    """The options that had a say, as JSON takes them."""
    plain = lambda value: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return {name.rstrip("_"): plain(value) for name, value in asdict(config).items() if name in applied(config) and value not in (None, "", ())}
