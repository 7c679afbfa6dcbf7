"""The options of each command as dataclasses, and the numbers they may take."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


class BadInput(Exception):
    """What was given cannot be used; the message says why and what to do."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn the errors that a border raises into ``BadInput``; those of our own code elsewhere keep their traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise BadInput(str(error)) from error


@dataclass
class Diagnose:
    """Say whether the gradients of a recurrent network vanish or explode on real sequences, how fast, over which lags, and how sure that is."""

    cell: str = "vanilla"
    """Recurrence; `jaxrnn cells` lists them."""
    hidden: int = 64
    """Units per layer."""
    layers: int = 1
    """Layers, each fed the output of the one below."""
    init: str | None = None
    """Recurrent weights: gaussian, orthogonal, identity. [default: the cell's]"""
    gain: float | None = None
    """Factor on the recurrent weights. [default: 1]"""
    weights: Path | None = None
    """Trained weights instead of a cell: an .npz, .safetensors or .pt file in torch's layout; `jaxrnn inspect` lists what it holds."""
    kind: Literal["torch-rnn", "torch-gru", "torch-lstm"] | None = None
    """What the weights are of. [default: what their shapes say]"""
    prefix: str = ""
    """How the names of the weights' arrays begin, where the file holds more than one network."""
    names: tuple[str, ...] = ()
    """The arrays by name, where no pattern finds them: weight_ih=NAME weight_hh=NAME bias_ih=NAME bias_hh=NAME (…_l1=NAME for further layers)."""
    layer: int | None = None
    """One layer of the weights alone, 0 the lowest. [default: all]"""
    direction: Literal["forward", "reverse"] | None = None
    """One half of bidirectional weights; the reverse half reads every sequence from its end."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of torch-rnn weights."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Your own model, package.module:function; it returns (step, params, state, xs) or (step, params, state, xs, targets, loss), or these in a
    dictionary with lengths besides."""
    data: str = "digits"
    """digits, mnist, permuted-mnist (a digit read pixel by pixel), another task by name, text:FILE (characters), npy:FILE, npz:FILE (xs, and lengths,
    targets, weights)."""
    vocabulary: str | None = None
    """The characters of text:FILE in the order of their index. [default: those of the file]"""
    length: int | None = None
    """Take the first steps of each sequence only; for text and tasks of random numbers, their steps. [default: all; 128 for text, 100]"""
    sequences: int | None = None
    """How many sequences; the error bars come from between them. [default: 32, or all there are]"""
    train_steps: int = 0
    """Diagnose, train for so many updates, diagnose again and compare."""
    try_remedies: bool = False
    """Train the model as it is and with each remedy that the diagnosis advises, and compare: 2,000 updates each, or --train-steps."""
    seeds: int = 5
    """How many seeds each remedy is tried on."""
    budget: float = 30.0
    """Minutes after which no further remedy is begun."""
    batch: int = 32
    """Sequences in an update."""
    learning_rate: float = 1e-3
    """Of Adam; the norm of the gradient is clipped to 1."""
    seed: int = 0
    """Seed of the weights, of the choice of sequences and of the training."""
    precision: Literal["float64", "float32"] = "float64"
    """Arithmetic of the analysis; training runs in float32."""
    title: str | None = None
    """Heading of the report. [default: cell and data]"""
    out: Path = Path("jaxrnn-diagnosis")
    """Folder for report.html, diagnosis.json and the pictures."""


@dataclass
class Inspect:
    """List the recurrent layers in a file of weights, and for each the command that diagnoses it; nothing is unpickled."""

    file: tyro.conf.Positional[Path]
    """An .npz, .safetensors or .pt file; the last needs torch."""


@dataclass
class CompareReports:
    """Compare two diagnoses that were written before: what differs, and whether it is clear."""

    a: tyro.conf.Positional[Path]
    """Folder of the first, with its diagnosis.json."""
    b: tyro.conf.Positional[Path]
    """Folder of the second."""
    labels: tuple[str, str] | None = None
    """What to call them. [default: the folders' names]"""
    out: Path = Path("jaxrnn-comparison")
    """Folder for comparison.html, comparison.json and the pictures."""


@dataclass
class _Training:
    task: str = "adding"
    """What to learn: a task by name (`jaxrnn tasks` lists them), or text:FILE, npy:FILE, npz:FILE."""
    hidden: int = 128
    """Units per layer."""
    steps: int = 2000
    """Updates."""
    batch: int = 32
    """Sequences in an update."""
    learning_rate: float = 1e-3
    """Of Adam."""
    seed: int = 0
    """The first seed."""
    every: int = 200
    """Updates between two evaluations, and between two checkpoints."""
    precision: Literal["float32", "float64"] = "float32"
    """Arithmetic."""


@dataclass
class Train(_Training):
    """Train a recurrent network on a task under observation: loss against the best guess without memory, gradient norm, exponents, horizon."""

    length: int | None = None
    """Steps or lag of the task. [default: 100; of stored sequences all]"""
    cell: str = "lstm"
    """Recurrence; `jaxrnn cells` lists them."""
    layers: int = 1
    """Layers, each fed the output of the one below."""
    remedies: tuple[str, ...] = ("clipping",)
    """What is to mend it, applied in this order: NAME, or NAME:KNOB=VALUE,KNOB=VALUE; none for nothing."""
    seeds: int = 1
    """How many seeds, each with weights and data of its own."""
    until_solved: bool = False
    """End a seed where it has solved the task."""
    monitor_every: int = 100
    """Updates between two measurements of the leading exponent; 0: none."""
    tensorboard: bool = False
    """Write event files for TensorBoard too."""
    out: Path = Path("jaxrnn-training")
    """Folder for config.json, log.jsonl, result.json and checkpoints; called again with the same options, training goes on from the last."""


@dataclass
class Compare(_Training):
    """Train cells × remedies × lengths on one task from the same seeds: who solves it, how soon, at what cost, and what became of the exponents."""

    cells: tuple[str, ...] = ("vanilla", "gru", "lstm")
    """Recurrences; `jaxrnn cells` lists them."""
    remedies: tuple[str, ...] = ("none", "clipping")
    """none, NAME, NAME:KNOB=VALUE,KNOB=VALUE, or several of these joined by +."""
    lengths: tuple[int, ...] = (100,)
    """Steps or lags of the task."""
    seeds: int = 5
    """How many seeds, the same for every arm."""
    out: Path = Path("jaxrnn-compare")
    """Folder for compare.html, compare.json and the result of every arm; called again, what is done is read and what was cut goes on."""


@dataclass
class Sweep:
    """Compute every point of a sweep, in compiled batches, kept as they come: a phase diagram, a horizon against a bias, or a sweep of your own."""

    config: tyro.conf.Positional[str]
    """phase-diagram, forget-bias or trainable-length; a TOML file with `sweep = NAME` and its sizes; or a Python file whose function `plan` returns a
    sweep.Plan."""
    resume: bool = False
    """Go on where an earlier call ended."""
    status: bool = False
    """Say how far the sweep in --out is, and compute nothing."""
    workers: int | None = None
    """Worker processes on this machine. [default: this process alone]"""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers compute, tcp://HOST:PORT."""
    batch_size: int | None = None
    """Points computed at once. [default: the sweep's]"""
    precision: Literal["float64", "float32"] = "float64"
    """Arithmetic."""
    out: Path = Path("jaxrnn-sweep")
    """Folder for sweep.html, sweep.json, the pictures, and the results in store/."""


@dataclass
class Cells:
    """List the recurrences there are: equation, reference, size of the state, and how far back each remembers before it is trained."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which ones. [default: all]"""
    hidden: int = 16
    """Units."""
    length: int = 200
    """Steps of white noise that the horizon is measured on."""
    seed: int = 0
    """Seed of the weights and of the noise."""


@dataclass
class Tasks:
    """List the tasks there are: what is asked, reference, the score of the best guess without memory, and when each counts as solved."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which ones. [default: all]"""
    length: int = 100
    """Steps, or the lag, of the synthetic ones."""


def unknown(what: str, given: str, known: Iterable[str], otherwise: str) -> str:
    """That a name is not known, with those that are spelt alike, else with what to do."""
    close = difflib.get_close_matches(given, list(known), 3)
    return f"there is no {what} {given!r}; " + (f"did you mean {' or '.join(close)}?" if close else otherwise)


FILES = ("text", "npy", "npz")
"""Kinds of data that name a file."""

_RANGES = (
    ("hidden", 1, 4096),
    ("layers", 1, 64),
    ("length", 1, 10**7),
    ("lengths", 1, 10**7),
    ("sequences", 1, 10**6),
    ("train_steps", 0, 10**8),
    ("batch", 1, 10**5),
    ("steps", 1, 10**8),
    ("seeds", 1, 10**4),
    ("workers", 1, 1024),
    ("batch_size", 1, 10**6),
    ("every", 1, 10**8),
    ("monitor_every", 0, 10**8),
    ("seed", 0, 2**32 - 1),
)
_OF_A_CELL = ("cell", "hidden", "layers", "init", "gain")
_OF_WEIGHTS = ("kind", "prefix", "names", "layer", "direction", "activation")
_OF_DATA = ("data", "vocabulary")


def require_within(config: object) -> None:
    """Raise ValueError on a number outside its range."""
    for name in ("learning_rate", "budget"):
        value = getattr(config, name, 1.0)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{flag(name)} {value} must be a finite number above 0")
    for name, low, high in _RANGES:
        given = getattr(config, name, None)
        for value in given if isinstance(given, tuple) else () if given is None else (given,):
            if not low <= value <= high:
                raise ValueError(f"{flag(name)} {value} must lie in [{low}, {high}]")


def require(config: object) -> None:
    """Raise ValueError on numbers outside what is allowed, and on options that exclude each other."""
    require_within(config)
    if isinstance(config, Diagnose):
        _require_model(config)


def _require_model(config: Diagnose) -> None:
    if config.gain is not None and not (math.isfinite(config.gain) and config.gain >= 0):
        raise ValueError(f"--gain {config.gain} must be a finite number, at least 0")
    if config.from_ is not None:
        _exclude(config, "--from", "brings its own model and sequences", (*_OF_A_CELL, "weights", *_OF_WEIGHTS, *_OF_DATA))
    elif config.weights is not None:
        _exclude(config, "--weights", "brings its own cell", _OF_A_CELL)
        if config.train_steps or config.try_remedies:
            raise ValueError(
                "--train-steps and --try-remedies need a readout and a loss, which --weights do not bring; "
                "use --from, whose function returns targets and loss"
            )
    else:
        _exclude(config, None, "need --weights", _OF_WEIGHTS)
    if config.vocabulary is not None and not config.data.startswith("text:"):
        raise ValueError(f"--vocabulary belongs to --data text:FILE; this is --data {config.data}")


def applied(config: Diagnose) -> set[str]:
    """The names of the options that have a say in what is computed."""
    unused: set[str] = set() if config.train_steps or config.try_remedies else {"train_steps", "batch", "learning_rate"}
    unused |= set() if config.try_remedies else {"try_remedies", "seeds", "budget"}
    if config.from_ is not None:
        unused |= {*_OF_A_CELL, "weights", *_OF_WEIGHTS, *_OF_DATA}
    unused |= set(_OF_A_CELL) if config.weights is not None else {"weights", *_OF_WEIGHTS}
    return {field.name for field in dataclasses.fields(config)} - unused


def _exclude(config: Diagnose, given: str | None, why: str, others: tuple[str, ...]) -> None:
    """Raise where one of ``others`` has not its default."""
    default = {field.name: field.default for field in dataclasses.fields(config)}
    changed = [flag(name) for name in others if getattr(config, name) != default[name]]
    if changed:
        raise ValueError(f"{given} {why}: leave out {', '.join(changed)}" if given else f"{', '.join(changed)} {why}")


def flag(name: str) -> str:
    """How an option is spelt."""
    return "--" + name.rstrip("_").replace("_", "-")
