"""How does a constructor come to be listed: the shelves of cells and of tasks."""

from collections.abc import Callable
from typing import Any, TypeVar

Constructor = TypeVar("Constructor", bound=Callable[..., Any])


def entry(
    what: str, registry: dict[str, Any], descriptions: dict[str, Any], description: Any, joined: str = "_"
) -> Callable[[Constructor], Constructor]:
    """Decorate a constructor: it is listed under its own name, the words of it ``joined``, with its description.

    Raises:
        ValueError: (from the decorator) another file has that name already.
    """

    def decorate(constructor: Constructor) -> Constructor:
        name = constructor.__name__.replace("_", joined)
        file = lambda made: made.__code__.co_filename  # one file may be read twice under two names, by doctest say
        if name in registry and file(registry[name]) != file(constructor):
            raise ValueError(f"a {what} named {name!r} is registered already, by {registry[name].__module__}; choose another name")
        registry[name] = constructor
        descriptions[name] = description
        return constructor

    return decorate
