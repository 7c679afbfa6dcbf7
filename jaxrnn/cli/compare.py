"""``jaxrnn compare``: cells × remedies × lengths on one task, resumable."""

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxrnn import _atomic, comparison, report, tasks
from jaxrnn.cli import display, show
from jaxrnn.cli.diagnose import configure, versions
from jaxrnn.cli.load import named_task
from jaxrnn.cli.options import BadInput, Compare, refusing


def run(config: Compare, argv: list[str]) -> int:
    """Run what is not done yet, print the table and write the page; 0."""
    _atomic.require_writable(config.out)
    configure(config.precision)
    with refusing():
        first, _ = named_task(config.task, config.lengths[0], held_out=0.2, default=config.lengths[0])
        given = tuple(() if names == "none" else tuple(names.split("+")) for names in config.remedies)
        todo = comparison.arms(config.cells, given, config.lengths)
        for arm in todo:  # unknown names before hours of work
            _prepare(arm, config)
    budget = comparison.Budget(config.steps, config.batch, tuple(range(config.seed, config.seed + config.seeds)), config.every)
    console = Console(stderr=True, highlight=False)
    updates = len(todo) * config.steps * config.seeds
    each = f"{len(todo)} arms of {config.seeds} seeds and {config.steps} updates"
    console.print(f"[dim]Plan: {each}, {updates} updates in all; what is done stays.[/dim]")
    rows: list[comparison.Row] = []
    began = time.perf_counter()
    with display.training(config.steps, first.loss_baseline) as told, refusing():
        for arm in todo:
            rows += comparison.run([arm], _Task(config.task), config.hidden, budget, config.out / "arms", learning_rate=config.learning_rate,
                                   progress=told)  # fmt: skip
    title = f"{config.task}, {config.hidden} units, {config.steps} updates"
    plain = lambda value: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    about = {"command": shlex.join(["jaxrnn", *argv]), "settings": {k: plain(v) for k, v in asdict(config).items()}, "versions": versions()}
    report.write_arms(rows, config.out, title=title, metric=first.metric_name, run=about)
    show.rows(rows, first.metric_name, config.steps)
    console.print(f"[dim]{(time.perf_counter() - began) / 60:.1f} minutes in this call.[/dim]")
    print(config.out)
    return 0


class _Task:
    """length -> task, of a name that a file or the registry knows; its name is part of what a result is kept under."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self, length: int) -> tasks.Task:
        return named_task(self.__qualname__, length, held_out=0.2, default=length)[0]


def _prepare(arm: comparison.Arm, config: Compare) -> Any:
    try:
        return comparison.prepared(arm, _Task(config.task)(arm.length), config.hidden, config.learning_rate)
    except comparison.NotApplicable:
        return None
    except ValueError as error:
        raise BadInput(str(error)) from error
