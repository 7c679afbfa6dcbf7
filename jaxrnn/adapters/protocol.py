"""What an adapter returns."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

PyTree = Any


class Bound(NamedTuple):
    """A foreign model as four things; equal models have equal ``step`` and so share one compilation."""

    step: Callable[[PyTree, PyTree, PyTree], PyTree]  # (params, h_{t−1}, x_t) -> h_t
    params: PyTree
    state: PyTree  # h_0
    output: Callable[[PyTree, PyTree, PyTree], Array]  # (params, h_t, x_t) -> (n_out,)
