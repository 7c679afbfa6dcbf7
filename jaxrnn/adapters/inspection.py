"""Which recurrences does a file of torch's weights hold, and can each be taken."""

import os
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn._archives import Archive
from jaxrnn.adapters.weights import GATES, Role, from_archive, open_weights, roles, under


class Recurrence(NamedTuple):
    """One recurrence of a file, as the names and shapes of its arrays tell it."""

    module: str  # what its names begin with
    kind: str | None  # torch-rnn, torch-gru or torch-lstm
    n_in: int | None
    units: tuple[int, ...]  # of the layers, the lowest first
    directions: tuple[str, ...]  # forward, and reverse where it is bidirectional
    biases: bool
    dtypes: tuple[str, ...]
    choices: tuple[dict[str, Any], ...]  # what to pass to ``torch_weights`` for each model that can be taken from it
    problems: tuple[str, ...]  # why something cannot be taken


def inspect(path: str | os.PathLike[str]) -> tuple[Recurrence, ...]:
    """The recurrences that a file holds, in the order of their names; nothing is unpickled.

    Args:
        path: as for ``torch_weights``.

    Returns:
        ``Recurrence`` of every module whose names have weight_ih (w_ih), weight_hh, … in them. ``choices`` are the arguments with which
        ``torch_weights`` takes it: one for a network of one direction, one for every layer and direction of a bidirectional one, none where
        ``problems`` says why. Both are found by taking it.

    Raises:
        FileNotFoundError, ModuleNotFoundError, ValueError: as ``torch_weights``, of the file itself.

    >>> import tempfile
    >>> import numpy as np
    >>> from jaxrnn import adapters
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/weights.npz", **{"enc.weight_ih_l0": np.ones((12, 2)), "enc.weight_hh_l0": np.ones((12, 4)), "table": np.ones(3)})
    ...     [found] = adapters.inspect(f"{folder}/weights.npz")
    >>> found.kind, found.n_in, found.units, found.choices
    ('torch-gru', 2, (4,), ({'prefix': 'enc.'},))
    """
    return recurrences(open_weights(path))


def recurrences(file: Archive) -> tuple[Recurrence, ...]:
    """As ``inspect``, of a file already read."""
    modules: dict[str, list[Role]] = {}
    for role in roles(file):
        modules.setdefault(role.module, []).append(role)
    return tuple(_described(file, module, modules[module]) for module in sorted(modules))


def _described(file: Archive, module: str, parts: list[Role]) -> Recurrence:
    numbers = sorted({part.layer for part in parts})
    directions = ("forward", *(("reverse",) if any(part.reverse for part in parts) else ()))
    weights = {(part.layer, part.role): file.arrays[part.name] for part in parts if not part.reverse}
    recurrent = [weights[number, "weight_hh"] for number in numbers if (number, "weight_hh") in weights]
    lowest = weights.get((numbers[0], "weight_ih"))
    shape = recurrent[0].shape if recurrent else ()
    kind = next((kind for kind, gates in GATES.items() if len(shape) == 2 and shape[1] and shape[0] == gates * shape[1]), None)
    choices, problems = [], []
    for choice in _candidates(file, module, parts, numbers, directions):
        try:
            from_archive(file, None, **choice)
            choices.append(choice)
        except (TypeError, ValueError) as error:
            problems.append(str(error))
    return Recurrence(
        module, kind, int(lowest.shape[1]) if lowest is not None and lowest.ndim == 2 else None, tuple(w.shape[-1] for w in recurrent if w.ndim),
        directions, any("bias" in part.role for part in parts), tuple(dict.fromkeys(str(file.arrays[part.name].dtype) for part in parts)),
        tuple(choices), (*_nonfinite(file, parts), *dict.fromkeys(problems)),
    )  # fmt: skip


def _candidates(file: Archive, module: str, parts: list[Role], numbers: list[int], directions: tuple[str, ...]) -> list[dict[str, Any]]:
    """What ``torch_weights`` may be asked for; by names where no prefix tells the module from others."""
    both = len(directions) > 1
    if {role.module for role in under(file, module)} == {module}:
        prefix = {"prefix": module} if module else {}
        layers = [{"layer": number} for number in numbers] if both and len(numbers) > 1 else [{}]
        return [{**prefix, **layer, **({"direction": direction} if both else {})} for layer in layers for direction in directions]
    if len({(part.layer, part.reverse, part.role) for part in parts}) < len(parts):
        return [{"prefix": module}]  # which is refused as ambiguous
    if not both:
        return [{"names": {f"{part.role}_l{part.layer}": part.name for part in parts}}]
    half = lambda number, reverse: {part.role: part.name for part in parts if (part.layer, part.reverse) == (number, reverse)}
    return [{"names": half(number, direction == "reverse"), "direction": direction} for number in numbers for direction in directions]


def _nonfinite(file: Archive, parts: list[Role]) -> list[str]:
    found = []
    for part in parts:
        values = file.arrays[part.name]
        bad = np.argwhere(~np.isfinite(values)) if jnp.issubdtype(values.dtype, jnp.inexact) else np.empty((0, 0))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            found.append(f"{part.name!r} has {len(bad)} of {values.size} numbers that are not finite, the first {values[at]} at index {at}")
    return found
