"""A bar on the error stream that says how a training goes."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Told = Mapping[str, Any]


@contextlib.contextmanager
def training(steps: int, baseline: float) -> Iterator[Any]:
    """A function ``told(name, updates made, what a training logs)``: loss beside its baseline, norm, clip share, λ₁, horizon, speed, time left."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[told]}"))  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}
        latest: dict[str, float] = {}

        def told(name: str, done: int, values: Told) -> None:
            if name not in tasks:
                for earlier in tasks.values():
                    bar.remove_task(earlier)
                tasks.clear()
                latest.clear()
                tasks[name] = bar.add_task(name, total=steps, told="")
            latest.update(summary(values))
            speed = bar.tasks[0].speed  # the only one
            rate = f"{speed:.0f} updates/s, " if speed else ""
            bar.update(tasks[name], completed=done, told=rate + sentence(latest, baseline))

        yield told


def summary(values: Told) -> dict[str, float]:
    """The numbers that are shown, each the mean over seeds that are alive."""
    middle = lambda v: float(np.nanmean(v)) if np.isfinite(np.asarray(v, np.float64)).any() else math.nan
    found = {name: middle(values[name]) for name in ("loss", "gradient_norm", "clipped", "metric") if name in values}
    if "exponents" in values:
        rates = values["exponents"]
        found |= {"exponent": middle(np.asarray(rates["exponents"])[..., 0]), "horizon": float(np.nanmedian(rates["horizon"]))}
    return found


def sentence(shown: Mapping[str, float], baseline: float) -> str:
    """``loss 0.12 (0.167 without memory), |∇| 0.8, …`` of whatever is known."""
    forms = {
        "loss": f"loss {{:.3g}} ({baseline:.3g} without memory)", "metric": "metric {:.3g}", "gradient_norm": "|∇| {:.2g}",
        "clipped": "clipped {:.0%}", "exponent": "λ₁ {:+.3f}", "horizon": "horizon {:.0f}",
    }  # fmt: skip
    return ", ".join(form.format(shown[name]) for name, form in forms.items() if name in shown)
