"""What a cell is, and how one declares that it is affine, then pointwise, or linear."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import require_at

PyTree = Any
S = TypeVar("S", bound=Callable)


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
    prepare: Callable[[PyTree], PyTree] | None = None  # θ -> the θ that affine and pointwise take (an exponential, say), once for all steps
    gated: bool = False  # whether gates with biases decide what is kept
    from_result: Callable[[PyTree, PyTree], PyTree] | None = None  # (h, dz) -> dh, where h = pointwise(θ, z) tells the derivative by itself

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        """The next state."""
        params = params if self.prepare is None else self.prepare(params)
        return self.pointwise(params, self.affine(params, state, x))


class Product(NamedTuple):
    """How transitions act on states and on one another: act(compose(B, A), h) = act(B, act(A, h)), compose associative."""

    act: Callable[[PyTree, PyTree], PyTree]  # (A, h) -> A h
    compose: Callable[[PyTree, PyTree], PyTree]  # (B, A) -> B A, what acts first on the right


def _leafwise(a: PyTree, h: PyTree) -> PyTree:
    return jax.tree.map(jnp.multiply, a, h)


DIAGONAL = Product(_leafwise, _leafwise)  # A leaf by leaf as the state, or broadcast against it
LEFT = Product(jnp.matmul, jnp.matmul)  # A (n, n) times a state (n,) or (n, m)
RIGHT = Product(lambda a, h: h @ a, lambda b, a: a @ b)  # a state (m, n) times A (n, n)


@dataclass(frozen=True)
class Linear:
    """A step that is linear in the state: h_t = A(θ, x_t) h_{t−1} + b(θ, x_t). The instance itself is the step."""

    coefficients: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]  # (θ, x_t) -> (A_t, b_t), b_t as the state
    product: Product = DIAGONAL
    prepare: Callable[[PyTree], PyTree] | None = None  # as in ``Structure``

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        """The next state."""
        transition, drive = self.coefficients(params if self.prepare is None else self.prepare(params), x)
        return jax.tree.map(jnp.add, self.product.act(transition, state), drive)


def structure(step: Callable) -> Structure | None:
    """The affine-then-pointwise declaration of a step, or None where it makes none.

    >>> from jaxrnn import cells
    >>> cells.structure(cells.vanilla(1, 2, "sigmoid").step).slope_bound
    0.25
    >>> cells.structure(lambda params, h, x: h) is None
    True
    """
    return step if isinstance(step, Structure) else None


def prepared(step: S, params: PyTree) -> tuple[S, PyTree]:
    """A step and params equal to these, with what a step needs to compute from θ but once already computed."""
    if isinstance(step, (Structure, Linear)) and step.prepare is not None:
        params, once = step.prepare(params), replace(step, prepare=None)
        return cast(S, once), params
    return step, params


def zeros_like_hidden(params: PyTree) -> Array:
    """h_0 = 0 (n,), its size and dtype read from the recurrent weights."""
    weights = params["W_hh"]
    return jnp.zeros(weights.shape[1], weights.dtype)


def require_sizes(**sizes: int) -> None:
    """Raise unless every size is a positive int (n_in may be 0: a cell without input)."""
    for name, size in sizes.items():
        require_at(name, size, int(name != "n_in"), None, "the number of entries")
