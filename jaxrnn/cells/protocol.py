"""What a cell is, and how one declares that it is affine, then pointwise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn._border import require_at

PyTree = Any


class Cell(NamedTuple):
    """A recurrence as four pure functions; equal cells have equal ``step`` and so share one compilation."""

    init_params: Callable[..., PyTree]  # (key, **scales) -> params
    init_state: Callable[[PyTree], PyTree]  # params -> h_0
    step: Callable[[PyTree, PyTree, PyTree], PyTree]  # (params, h_{t−1}, x_t) -> h_t
    output: Callable[[PyTree, PyTree, PyTree], Array]  # (params, h_t, x_t) -> (n_out,)


@dataclass(frozen=True)
class Structure:
    """A step that is affine in the state, then pointwise over the units: h_t = pointwise(θ, affine(θ, h_{t−1}, x_t)).

    ``affine`` returns z, everything the pointwise map needs: pre-activations, and parts of the state it carries over.
    So J_t = P_t A with A = ∂z/∂h the same at every step and input, and P_t = ∂h_t/∂z_t block-diagonal over units:
    what the weights do and what the activations do come apart. The instance itself is the step.
    """

    affine: Callable[[PyTree, PyTree, PyTree], PyTree]
    pointwise: Callable[[PyTree, PyTree], PyTree]
    slope_bound: float | None = None  # γ = sup|φ'| where the pointwise map is one activation, else None

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        """The next state."""
        return self.pointwise(params, self.affine(params, state, x))


def structure(step: Callable) -> Structure | None:
    """The affine-then-pointwise declaration of a step, or None where it makes none.

    >>> from jaxrnn import cells
    >>> cells.structure(cells.vanilla(1, 2, "sigmoid").step).slope_bound
    0.25
    >>> cells.structure(lambda params, h, x: h) is None
    True
    """
    return step if isinstance(step, Structure) else None


def zeros_like_hidden(params: PyTree) -> Array:
    """h_0 = 0 (n,), its size and dtype read from the recurrent weights."""
    weights = params["W_hh"]
    return jnp.zeros(weights.shape[1], weights.dtype)


def require_sizes(**sizes: int) -> None:
    """Raise unless every size is a positive int (n_in may be 0: a cell without input)."""
    for name, size in sizes.items():
        require_at(name, size, int(name != "n_in"), None, "the number of entries")
