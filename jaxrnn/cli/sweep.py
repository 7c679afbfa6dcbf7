"""``jaxrnn sweep``: the points of a plan, kept as they come, with a page."""

import runpy
import shlex
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxrnn import _atomic, report, sweep
from jaxrnn._border import require_at
from jaxrnn.cli.diagnose import configure, versions
from jaxrnn.cli.options import Sweep, refusing, unknown
from jaxrnn.store import Store

_MOST = 10**6  # of any size in a TOML file, and points of a sweep that it makes: what is more is a slip of the pen


def run(config: Sweep, argv: list[str]) -> int:
    """Compute what is missing, print what came of it and write the page; 0."""
    _atomic.require_writable(config.out)
    configure(config.precision)
    with refusing():
        if config.workers is not None and config.scheduler is not None:
            raise ValueError("--workers starts workers here and --scheduler uses those of a cluster; give one of them")
        plan = load(config.config)
        kept = Store(config.out / "store", sweep.about(plan.point, plan.grid))
        names = plan.grid.names()
        done = len(kept.points() & set(names))
    console = Console(highlight=False)
    if config.status:
        with refusing():
            failed = len(kept.failures())
        console.print(f"{plan.title}: {done} of {len(names)} points are done, {failed} failed.", markup=False)
        return 0
    if done and not config.resume:
        with refusing():
            raise ValueError(f"{config.out} holds {done} of the {len(names)} points already; give --resume to go on, or another --out")
    found = _computed(config, plan, kept, len(names), done)
    about = {"command": shlex.join(["jaxrnn", *argv]), "settings": {k: _plain(v) for k, v in asdict(config).items()}, "versions": versions()}
    report.write_sweep(found, plan, config.out, run=about)
    console.print(f"{plan.title}: {len(names) - len(found.failures)} of {len(names)} points, {len(found.failures)} failed.", markup=False)
    for failure in found.failures[:10]:
        console.print(f"  {failure.values}: {failure.message}", markup=False)
    print(config.out)
    return 0


def load(given: str) -> sweep.Plan:
    """The plan that the command names."""
    path = Path(given)
    if path.suffix in (".toml", ".py") and not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix == ".toml":
        return _from_toml(path)
    if path.suffix == ".py":
        try:
            plan = runpy.run_path(str(path), run_name=path.stem).get("plan")
            found = plan() if callable(plan) else plan
        except (Exception, SystemExit) as error:
            raise ValueError(f"{path} raised {type(error).__name__}: {error}") from error
        if not isinstance(found, sweep.Plan):
            raise ValueError(f"{path} must have a function plan() that returns a jaxrnn.sweep.Plan; plan is {found!r}")
        return found
    if given not in sweep.READY:
        raise ValueError(unknown("sweep", given, sweep.READY, f"allowed are {', '.join(sweep.READY)}, FILE.toml and FILE.py"))
    return sweep.READY[given]()


def _from_toml(path: Path) -> sweep.Plan:
    try:
        settings = tomllib.loads(path.read_bytes().decode("utf-8"))
        _atomic.require_shallow(settings)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    name = settings.pop("sweep", None)
    if not isinstance(name, str) or name not in sweep.READY:
        raise ValueError(f"{path} must say sweep = NAME, one of {', '.join(sweep.READY)}; it says {name!r}")
    try:
        for size, value in settings.items():
            for count in value if isinstance(value, list) else [value] if not isinstance(value, str) else []:
                if not isinstance(count, str):
                    require_at(size, count, 1, _MOST, "a size")
        return sweep.READY[name](**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _computed(config: Sweep, plan: sweep.Plan, kept: Store, count: int, done: int) -> sweep.Sweep:
    shown = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn()
    began = time.perf_counter()
    with Progress(*shown, console=Console(stderr=True)) as bar:
        task = bar.add_task("points", total=count, completed=done, rate="")

        def told(now: int, total: int, failed: int) -> None:
            rate = (now - done) / (time.perf_counter() - began)
            bar.update(task, completed=now, rate=f"{rate:.3g} a second" + f", {failed} failed" * bool(failed))

        client: Any = config.workers or config.scheduler
        size = config.batch_size or plan.batch_size
        with refusing():
            return sweep.run(plan.point, plan.grid, batch_size=size, store=kept, client=client, compiled=plan.compiled, progress=told)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
