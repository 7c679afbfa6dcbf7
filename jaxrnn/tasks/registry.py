"""The shelf of tasks: a file in this folder that registers a constructor is all it takes to add one."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from jaxrnn.tasks.protocol import Task

Constructor = TypeVar("Constructor", bound=Callable[..., Task])

REGISTRY: dict[str, Callable[..., Task]] = {}
"""Name -> constructor(length), which sets the lag, or constructor(length=None, held_out=0.0) where the sequences are stored."""


class Description(NamedTuple):
    """What a reader of a list wants to know of a task."""

    variant: str  # what is asked, one line
    source: str  # authors and year


DESCRIPTIONS: dict[str, Description] = {}
"""Name -> variant and source."""


def register(variant: str, source: str) -> Callable[[Constructor], Constructor]:
    """Decorate a constructor(length, **choices) -> Task: it is listed under its own name, written with hyphens.

    Raises:
        ValueError: that name is taken.
    """

    def decorate(constructor: Constructor) -> Constructor:
        name = constructor.__name__.replace("_", "-")
        file = lambda made: made.__code__.co_filename  # one file may be read twice under two names, by doctest say
        if name in REGISTRY and file(REGISTRY[name]) != file(constructor):
            raise ValueError(f"a task named {name!r} is registered already, by {REGISTRY[name].__module__}; choose another name")
        REGISTRY[name] = constructor
        DESCRIPTIONS[name] = Description(variant, source)
        return constructor

    return decorate
