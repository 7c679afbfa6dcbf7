"""The shelf of recurrences: a file in this folder that registers a constructor is all it takes to add one."""

from collections.abc import Callable
from typing import NamedTuple

from jaxrnn import _shelf
from jaxrnn._shelf import Constructor
from jaxrnn.cells.protocol import Cell

REGISTRY: dict[str, Callable[..., Cell]] = {}
"""Name -> constructor(n_in, n_hidden, **choices)."""


class Description(NamedTuple):
    """What a reader of a list wants to know of a recurrence."""

    equation: str  # of the step, one line
    source: str  # authors and year


DESCRIPTIONS: dict[str, Description] = {}
"""Name -> equation and source."""


def register(equation: str, source: str) -> Callable[[Constructor], Constructor]:
    """Decorate a constructor(n_in, n_hidden, **choices) -> Cell: it is listed under its own name.

    Raises:
        ValueError: that name is taken.
    """
    return _shelf.entry("cell", REGISTRY, DESCRIPTIONS, Description(equation, source))
