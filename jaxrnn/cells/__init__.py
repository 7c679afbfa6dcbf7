"""Which recurrences are there. ``cell = lstm(n_in, n_hidden)`` gives four pure functions; parameters are plain dicts.

Every file of this folder is read, and whatever constructor it registers is ``cells.REGISTRY[name]`` and ``cells.name``.
"""

import importlib
import pkgutil
from typing import Any

from jaxrnn.cells.compose import from_function, readout_loss, stack, with_encoder, with_readout
from jaxrnn.cells.gated import gru
from jaxrnn.cells.lstm import LSTMState, lstm
from jaxrnn.cells.protocol import Cell, Linear, Structure, prepared, structure
from jaxrnn.cells.registry import DESCRIPTIONS, REGISTRY, Description, register
from jaxrnn.cells.simple import vanilla

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
globals().update(REGISTRY)  # a file may bear the name of its cell: the cell is what is meant

__all__ = [
    "DESCRIPTIONS",
    "REGISTRY",
    "Cell",
    "Description",
    "LSTMState",
    "Linear",
    "Structure",
    "from_function",
    "gru",
    "lstm",
    "prepared",
    "readout_loss",
    "register",
    "stack",
    "structure",
    "vanilla",
    "with_encoder",
    "with_readout",
]


def __getattr__(name: str) -> Any:  # type checkers do not see constructors that are only registered
    raise AttributeError(f"there is no cell and nothing else named {name!r} in jaxrnn.cells; cells are {', '.join(sorted(REGISTRY))}")
