"""``jaxrnn train``: one cell, one task, some seeds, with what was seen on the way."""

import importlib
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxrnn import _atomic, comparison, remedies, tasks, training
from jaxrnn.cli import display, show
from jaxrnn.cli.diagnose import configure, versions
from jaxrnn.cli.load import named_task
from jaxrnn.cli.options import BadInput, Train, refusing
from jaxrnn.remedies import Setup
from jaxrnn.training import monitors


def run(config: Train, argv: list[str]) -> int:
    """Train, or go on, and write; 0, or 1 where every seed broke down."""
    _atomic.require_writable(config.out)
    configure(config.precision)
    with refusing():
        task, length = named_task("--task", config.task, config.length, held_out=0.2)
        setup = _setup(config, task, length)
    importlib.import_module("orbax.checkpoint")  # missing, it is missed before anything is written
    config.out.mkdir(parents=True, exist_ok=True)
    _same_config(config)
    store = config.out / "checkpoints"
    done = training.latest(store)
    logs = [training.json_lines(config.out / "log.jsonl", after=done)]
    if config.tensorboard:
        logs.append(training.tensorboard(config.out / "tensorboard", after=done))
    log = training.both(*logs)
    budget = comparison.Budget(config.steps, config.batch, tuple(range(config.seed, config.seed + config.seeds)), config.every)
    seen = {} if not config.monitor_every else {"exponents": monitors.exponents(1, config.monitor_every)}
    if setup.clip_norm is not None:
        seen["clipped"] = monitors.clip_share(setup.clip_norm)
    label = comparison.Arm(config.cell, tuple(name for name in config.remedies if name != "none"), length).name
    with display.training(config.steps, task.loss_baseline) as told, refusing():

        def progress(name: str, at: int, values: Any) -> None:
            told(name, at, values)
            log(at, values)

        row = comparison.train(label, setup, task, budget, folder=store, progress=progress, monitors=seen, stop=config.until_solved)
    facts = {"command": shlex.join(["jaxrnn", *argv]), "versions": versions(), "metric": task.metric_name, "row": comparison.plain(row)}
    _atomic.write(config.out / "result.json", json.dumps(facts, indent=1, allow_nan=False).encode())
    show.rows([row], task.metric_name)
    print(config.out)
    return int(len(row.failures) == config.seeds)


def _setup(config: Train, task: tasks.Task, length: int) -> Setup:
    setup = remedies.setup(config.cell, task, config.hidden, layers=config.layers, length=length, learning_rate=config.learning_rate)
    for given in config.remedies:
        if given != "none":
            name, knobs = comparison.remedy(given)
            setup = remedies.apply(name, setup, **knobs)
    return setup


def _same_config(config: Train) -> None:
    """Write config.json; refuse where the folder is of another training, which would be overwritten. The number of updates may grow."""
    path = config.out / "config.json"
    plain = {name: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for name, v in asdict(config).items() if name != "out"}
    if path.exists():
        try:
            there = _atomic.parse(path.read_bytes())
            if not isinstance(there, dict):
                raise ValueError(f"it holds a {type(there).__name__}")
        except ValueError as error:
            raise BadInput(f"{path} is not a whole JSON file of options ({error}); give another --out, or remove the folder") from None
        differ = [f"{name} is {there.get(name)} there and {value} here" for name, value in plain.items()
                  if there.get(name) != value and name not in ("steps", "tensorboard")]  # fmt: skip
        if differ:
            raise BadInput(f"{config.out} holds another training: {'; '.join(differ)}; give another --out, or the options of that one")
    _atomic.write(path, json.dumps(plain, indent=1).encode())
