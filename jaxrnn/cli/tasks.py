"""``jaxrnn tasks``: what there is to learn, read from the registry alone."""

import inspect

from rich.console import Console
from rich.table import Table

from jaxrnn import tasks
from jaxrnn.cli.options import Tasks, refusing, unknown

_WIDE = 110  # columns from which the source has one of its own


def run(config: Tasks, argv: list[str]) -> int:
    """Print the table; 0."""
    del argv
    console = Console(highlight=False)
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0))
    for heading in ("task", "what is asked", *(("source",) if wide else ()), "in", "out", "metric", "baseline", "solved"):
        table.add_column(
            heading, no_wrap=heading not in ("what is asked", "source", "metric"), max_width=9 if heading == "metric" and not wide else None
        )
    with refusing(), console.status("") as status:
        names = config.names or tuple(sorted(tasks.REGISTRY))
        for name in names:
            if name not in tasks.REGISTRY:
                raise ValueError(unknown("task", name, tasks.REGISTRY, "see jaxrnn tasks"))
        for name in names:
            status.update(f"making {name}")
            variant, source = tasks.DESCRIPTIONS[name]
            table.add_row(name, *((variant, source) if wide else (f"{variant} ({source})",)), *scores(name, config.length))
    console.print(table)
    console.print(
        "\nin, out: numbers read and answered at each step. baseline: the metric of the best guess without memory, at length or lag"
        f" {config.length} (images: all their pixels)."
        "\n\nFurther tasks are files of your own: text:FILE, npy:FILE, npz:FILE. text asks for the next character; npz holds xs, and targets,"
        " lengths, weights; npy holds xs alone."
    )
    return 0


def scores(name: str, length: int) -> tuple[str, ...]:
    """Inputs and outputs, the metric, its baseline, and when the task is solved; which package is missing instead, where one is."""
    make = tasks.REGISTRY[name]
    try:
        task = make() if "held_out" in inspect.signature(make).parameters else make(length)
    except ModuleNotFoundError as error:
        return "", "", f"needs {error.name}", "", ""
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return str(task.n_in), str(task.n_out), task.metric_name, f"{task.baseline:.4g}", str(task.solved)
