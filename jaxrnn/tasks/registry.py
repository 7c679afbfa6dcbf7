"""The shelf of tasks: a file in this folder that registers a constructor is all it takes to add one."""

from collections.abc import Callable
from typing import NamedTuple

from jaxrnn import _shelf
from jaxrnn._shelf import Constructor
from jaxrnn.tasks.protocol import Task

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
    return _shelf.entry("task", REGISTRY, DESCRIPTIONS, Description(variant, source), joined="-")
