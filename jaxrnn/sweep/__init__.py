"""Thousands of points of a model's parameters: compiled once, in batches, over devices and machines, kept as they come.

A point is a function of named numbers; a grid says which. What a point draws at random follows from its own names and values alone, so
neither another value on an axis nor another size of the batches changes what it finds.
"""

from jaxrnn.sweep.grid import Grid, grid, random
from jaxrnn.sweep.ready import READY, Plan
from jaxrnn.sweep.run import Progress, Sweep, about, run, suggest_batch_size

__all__ = ["READY", "Grid", "Plan", "Progress", "Sweep", "about", "grid", "random", "run", "suggest_batch_size"]
