"""Piecewise-linear recurrences: linear in each region of the state, so that fixed points and Jacobians are exact."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, require_sizes
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import whole_state


@register(equation="z_t = A ∘ z_{t−1} + W_hh relu(z_{t−1}) + W_xh x_t + b_h, W_hh without diagonal", source="Durstewitz 2017 (PLRNN)")
def plrnn(n_in: int, n_hidden: int, init: str = "positive_definite") -> Cell:
    """The piecewise-linear RNN.

    z_t = A ∘ z_{t−1} + W relu(z_{t−1}) + W_xh x_t + b_h, A (n,), W the off-diagonal part of W_hh.

    J_t = diag(A) + W diag(1[z_{t−1} > 0]): one of 2ⁿ constant matrices, so orbits grow or decay as products of them. The activation comes
    before the product: no affine-then-pointwise declaration.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is z (n,).
        init: whose diagonal is A and whose rest is W: ``positive_definite`` as published, ``gaussian``, ``orthogonal``, …

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives A (n,), W_hh (n, n), whose diagonal is zero and has no part,
        W_xh (n, n_in), b_h (n,) zero; ``gain`` scales A and W_hh.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Durstewitz 2017, eq. 1; start: Talathi, Vartak 2016.

    >>> import jax
    >>> from jaxrnn.cells.piecewise import plrnn
    >>> {name: leaf.shape for name, leaf in plrnn(2, 3).init_params(jax.random.key(0)).items()}
    {'A': (3,), 'W_hh': (3, 3), 'W_xh': (3, 2), 'b_h': (3,)}
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, Array]:
        key_hh, key_xh = jax.random.split(key)
        both = recurrent(key_hh, n_hidden, n_hidden, gain)
        w_xh = initializers.gaussian(key_xh, n_hidden, n_in, input_gain)
        return {"A": jnp.diagonal(both), "W_hh": _off_diagonal(both), "W_xh": w_xh, "b_h": jnp.zeros(n_hidden, both.dtype)}

    return Cell(init_params, _zeros, _plrnn_step, whole_state)


@register(equation="z_t = A ∘ z_{t−1} + W_lh relu(W_hl z_{t−1} + b_l) + W_xh x_t + b_h", source="Hess, Monfared, Brenner, Durstewitz 2023")
def shallow_plrnn(n_in: int, n_hidden: int, init: str = "uniform", width: int | None = None) -> Cell:
    """The shallow piecewise-linear RNN: a leak beside a network with one hidden layer.

    z_t = A ∘ z_{t−1} + W_lh relu(W_hl z_{t−1} + b_l) + W_xh x_t + b_h.

    J_t = diag(A) + W_lh diag(1[W_hl z_{t−1} + b_l > 0]) W_hl: constant in each of the regions that L hyperplanes cut. Two products: no
    affine-then-pointwise declaration.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is z (n,).
        init: how W_lh and W_hl start: ``uniform``, ``gaussian``, ``orthogonal``, ``identity``.
        width: L, units of the hidden layer; n where None.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives A (n,) from U(½, 9/10), W_hl (L, n) and b_l (L,), the paper's W₂, h₂,
        W_lh (n, L) and b_h (n,), its W₁, h₁, biases zero, and W_xh (n, n_in); ``gain`` scales W_hl and W_lh.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Hess, Monfared, Brenner, Durstewitz 2023, without their clipping.

    >>> import jax
    >>> from jaxrnn.cells.piecewise import shallow_plrnn
    >>> shallow_plrnn(2, 3, width=5).init_params(jax.random.key(0))["W_lh"].shape
    (3, 5)
    """
    layer = n_hidden if width is None else width
    require_sizes(n_in=n_in, n_hidden=n_hidden, width=layer)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, Array]:
        key_a, key_hl, key_lh, key_xh = jax.random.split(key, 4)
        a = jax.random.uniform(key_a, (n_hidden,), minval=0.5, maxval=0.9)
        weights = {"W_hl": recurrent(key_hl, layer, n_hidden, gain), "W_lh": recurrent(key_lh, n_hidden, layer, gain)}
        w_xh = initializers.gaussian(key_xh, n_hidden, n_in, input_gain)
        return {"A": a, **weights, "W_xh": w_xh, "b_h": jnp.zeros(n_hidden, a.dtype), "b_l": jnp.zeros(layer, a.dtype)}

    return Cell(init_params, _zeros, _shallow_step, whole_state)


def _zeros(params: PyTree) -> Array:
    return jnp.zeros_like(params["A"])


def _off_diagonal(w: Array) -> Array:
    return w * (1 - jnp.eye(w.shape[0], dtype=w.dtype))


def _driven(params: PyTree, z: Array, x: Array | None) -> Array:
    alone = params["A"] * z + params["b_h"]
    return alone if x is None else alone + params["W_xh"] @ x


def _plrnn_step(params: PyTree, z: Array, x: Array | None) -> Array:
    return _driven(params, z, x) + _off_diagonal(params["W_hh"]) @ jax.nn.relu(z)


def _shallow_step(params: PyTree, z: Array, x: Array | None) -> Array:
    return _driven(params, z, x) + params["W_lh"] @ jax.nn.relu(params["W_hl"] @ z + params["b_l"])
