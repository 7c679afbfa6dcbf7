"""Which recurrences are there. ``cell = lstm(n_in, n_hidden)`` gives four pure functions; parameters are plain dicts."""

from collections.abc import Callable

from jaxrnn.cells.compose import readout_loss, stack, with_readout
from jaxrnn.cells.gated import LSTMState, gru, lstm
from jaxrnn.cells.protocol import Cell, Structure, structure
from jaxrnn.cells.simple import vanilla

REGISTRY: dict[str, Callable[..., Cell]] = {"vanilla": vanilla, "gru": gru, "lstm": lstm}
"""Name -> constructor(n_in, n_hidden, **choices)."""

__all__ = ["REGISTRY", "Cell", "LSTMState", "Structure", "gru", "lstm", "readout_loss", "stack", "structure", "vanilla", "with_readout"]
