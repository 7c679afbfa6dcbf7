"""``jaxrnn diagnose --try-remedies``: what the diagnosis advises, tried on the model that was diagnosed."""

from typing import Any

import jax
from rich.console import Console

from jaxrnn import cells, comparison, remedies, report
from jaxrnn.cli import display, show
from jaxrnn.cli.load import Loaded, cast, named_task
from jaxrnn.cli.options import Diagnose, refusing
from jaxrnn.diagnosis import Diagnosis
from jaxrnn.remedies import Setup
from jaxrnn.tasks import Task

_STEPS = 2000
_SHARE = 8  # evaluations of an attempt


def run(config: Diagnose, loaded: Loaded, found: Diagnosis, about: dict[str, Any]) -> None:
    """Train, show the table and write its page into ``remedies`` under the folder of the diagnosis."""
    steps = config.train_steps or _STEPS
    todo = [advice for advice in found.remedies if remedies.executable(advice.name)]
    console = Console(stderr=True, highlight=False)
    if not todo:
        console.print("The diagnosis advises nothing that could be tried.")
        return
    names = ", ".join(advice.name for advice in todo)
    each = f"{config.seeds} seeds and {steps} updates each; none is begun after {config.budget:g} minutes"
    console.print(f"[dim]Tries the model as it is, then {names}: {each}.[/dim]")
    if isinstance(loaded.step, cells.Linear):
        console.print("A recurrence that is linear in its state gets a dense layer and a gelu before it and one hidden layer in its readout.")
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    budget = comparison.Budget(steps, config.batch, seeds, max(steps // _SHARE, 1))
    with jax.enable_x64(False), refusing():  # a user would train in float32
        setup, task = _setup(config, loaded)
        with display.training(steps, task.loss_baseline) as told:
            rows = comparison.attempt(todo, setup, task, budget, minutes=config.budget, progress=told)
        report.write_arms(rows, config.out / "remedies", title=f"{loaded.label}: remedies tried", metric=task.metric_name, run=about)
    show.rows(rows, task.metric_name)


def _setup(config: Diagnose, loaded: Loaded) -> tuple[Setup, Task]:
    """The model as ``--train-steps`` would train it: Adam after clipping of the norm to 1."""
    if config.from_ is not None:
        assert loaded.loss is not None  # the options were checked
        batch = cast(loaded.batch, "float32")
        sample = lambda key, size: cast(loaded.sample(key, size), "float32")
        params, state = cast(loaded.params, "float32"), cast(loaded.state, "float32")
        setup, task = comparison.own(loaded.step, params, state, loaded.loss, sample, batch, learning_rate=config.learning_rate)
        return setup, task._replace(metric_name="loss of a sequence trained on")
    task, length = named_task("--data", config.data, config.length, held_out=0.2, vocabulary=config.vocabulary)
    choices = {name: value for name, value in (("init", config.init), ("gain", config.gain)) if value is not None}
    setup = remedies.setup(config.cell, task, config.hidden, layers=config.layers, length=length, learning_rate=config.learning_rate, **choices)
    return remedies.apply("clipping", setup), task
