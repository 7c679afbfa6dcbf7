"""The shelf of recurrences: a file in this folder that registers a constructor is all it takes to add one."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from jaxrnn.cells.protocol import Cell

Constructor = TypeVar("Constructor", bound=Callable[..., Cell])

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

    def decorate(constructor: Constructor) -> Constructor:
        name = constructor.__name__
        file = lambda made: made.__code__.co_filename  # one file may be read twice under two names, by doctest say
        if name in REGISTRY and file(REGISTRY[name]) != file(constructor):
            raise ValueError(f"a cell named {name!r} is registered already, by {REGISTRY[name].__module__}; choose another name")
        REGISTRY[name] = constructor
        DESCRIPTIONS[name] = Description(equation, source)
        return constructor

    return decorate
