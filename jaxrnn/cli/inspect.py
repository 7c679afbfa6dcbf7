"""``jaxrnn inspect``: which recurrences a file of weights holds, and how to diagnose each."""

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxrnn.adapters.inspection import Recurrence, recurrences
from jaxrnn.adapters.weights import open_weights
from jaxrnn.cli.options import Inspect, refusing


def run(config: Inspect, argv: list[str]) -> int:
    """Print the table and the commands; 0."""
    del argv
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    with refusing():
        file = open_weights(config.file)
        found = recurrences(file)
    if not found:
        console.print(f"{config.file} holds no recurrent weights (names with weight_ih or w_ih, weight_hh or w_hh in them); it holds {file.listed()}")
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("recurrence", "kind", "inputs", "units", "directions", "biases", "dtype"):
        table.add_column(heading)
    for one in found:
        sizes = str(one.n_in or "?"), " → ".join(map(str, one.units))
        rest = " and ".join(one.directions), "yes" if one.biases else "no", ", ".join(one.dtypes)
        table.add_row(_shown(one), one.kind or "unknown", *sizes, *rest)
    console.print(table)
    for one in found:
        console.print(f"\n{_shown(one)}", style="bold")
        for problem in one.problems:
            console.print(f"  not as it is: {problem}")
        for choice in one.choices:
            console.print(f"  {command(config.file, one, choice)}")
    if any(one.choices for one in found):
        console.print("\nSEQUENCES.npz holds xs (sequences, steps, inputs), and lengths (sequences,) where they differ.")
    return 0


def command(path: Path, one: Recurrence, choice: dict[str, Any]) -> str:
    """The command that diagnoses one choice, or what does the same in Python where its names cannot be typed."""
    words = ["jaxrnn", "diagnose", "--weights", str(path), "--kind", str(one.kind)]
    for option, value in choice.items():
        given = [f"{role}={name}" for role, name in value.items()] if isinstance(value, dict) else [str(value)]
        words += [f"--{option}={given[0]}"] if given[0].startswith("-") else [f"--{option}", *given]
    if not "".join(words).isprintable():
        arguments = ", ".join(f"{option}={value!a}" for option, value in choice.items())
        return f"adapters.torch_weights({str(path)!a}, {arguments})"
    note = "    # --activation relu, if it was" if one.kind == "torch-rnn" else ""
    return shlex.join([*words, "--data", "npz:SEQUENCES.npz"]) + note


def _shown(one: Recurrence) -> str:
    """The module's name, without what would command the terminal."""
    return (one.module if one.module.isprintable() else ascii(one.module)) or "(no prefix)"
