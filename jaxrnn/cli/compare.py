"""``jaxrnn compare``: cells × remedies × lengths on one task, resumable."""

import contextlib
import functools
import shlex
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from jaxrnn import _atomic, comparison, report
from jaxrnn.cli import display, show
from jaxrnn.cli.diagnose import configure, versions
from jaxrnn.cli.load import named_task
from jaxrnn.cli.options import Compare, refusing


def run(config: Compare, argv: list[str]) -> int:
    """Run what is not done yet, print the table and write the page; 0."""
    _atomic.require_writable(config.out)
    configure(config.precision)
    with refusing():
        task = functools.cache(lambda length: named_task("--task", config.task, length, held_out=0.2)[0])
        task.__qualname__ = config.task  # what a result is kept under
        given = tuple(() if names == "none" else tuple(names.split("+")) for names in config.remedies)
        todo = comparison.arms(config.cells, given, config.lengths)
        for arm in todo:  # unknown names before hours of work
            with contextlib.suppress(comparison.NotApplicable):
                comparison.prepared(arm, task(arm.length), config.hidden, config.learning_rate)
    budget = comparison.Budget(config.steps, config.batch, tuple(range(config.seed, config.seed + config.seeds)), config.every)
    console = Console(stderr=True, highlight=False)
    updates = len(todo) * config.steps * config.seeds
    each = f"{len(todo)} arms of {config.seeds} seeds and {config.steps} updates"
    console.print(f"[dim]Plan: {each}, {updates} updates in all; what is done stays.[/dim]")
    rows: list[comparison.Row] = []
    began = time.perf_counter()
    for arm in todo:
        with display.training(config.steps, task(arm.length).loss_baseline) as told, refusing():
            rows += comparison.run([arm], task, config.hidden, budget, config.out / "arms", learning_rate=config.learning_rate, progress=told)
    title = f"{config.task}, {config.hidden} units, {config.steps} updates"
    plain = lambda value: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    about = {"command": shlex.join(["jaxrnn", *argv]), "settings": {k: plain(v) for k, v in asdict(config).items()}, "versions": versions()}
    report.write_arms(rows, config.out, title=title, metric=task(config.lengths[0]).metric_name, run=about)
    show.rows(rows, task(config.lengths[0]).metric_name)
    console.print(f"[dim]{(time.perf_counter() - began) / 60:.1f} minutes in this call.[/dim]")
    print(config.out)
    return 0
