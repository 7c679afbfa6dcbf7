"""The vanilla recurrence h_t = φ(W_hh h_{t−1} + W_xh x_t + b_h)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers, theory
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes, zeros_like_hidden


def _affine(params: PyTree, h: Array, x: Array | None) -> Array:
    recurrent = params["W_hh"] @ h + params["b_h"]
    return recurrent if x is None else recurrent + params["W_xh"] @ x


def _pointwise(phi: Callable[[Array], Array]) -> Callable[[PyTree, Array], Array]:
    return lambda params, a: phi(a)


_PHI = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "identity": lambda a: a}
_STEPS = {name: Structure(_affine, _pointwise(phi), theory.SLOPE_BOUNDS[name]) for name, phi in _PHI.items()}


def vanilla(n_in: int, n_hidden: int, activation: str = "tanh", init: str = "gaussian") -> Cell:
    """The vanilla (Elman) recurrent cell.

    h_t = φ(W_hh h_{t−1} + W_xh x_t + b_h); J_t = diag(φ'(a_t)) W_hh, so ‖J_t‖₂ ≤ sup|φ'| σ₁(W_hh).

    Args:
        n_in: size of an input; x may also be None (an autonomous map).
        n_hidden: n, number of units. The state is h (n,).
        activation: φ, one of ``tanh``, ``relu``, ``sigmoid``, ``identity`` (a linear network).
        init: how W_hh starts: ``gaussian`` N(0, gain²/n), ``orthogonal``, ``identity`` (with relu the IRNN of
            Le, Jaitly, Hinton 2015).

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), W_xh (n, n_in) with entries
        N(0, input_gain²/n_in), b_h (n,) zero.

    Raises:
        ValueError: unknown activation or init, a size below 1.

    Source: Elman 1990; Pascanu, Mikolov, Bengio 2013, eq. 11.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.vanilla(2, 3)
    >>> params = cell.init_params(jax.random.key(0), gain=0.5)
    >>> {name: leaf.shape for name, leaf in params.items()}
    {'W_hh': (3, 3), 'W_xh': (3, 2), 'b_h': (3,)}
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    if activation not in _STEPS:
        raise ValueError(f"unknown activation {activation!r}; allowed are {', '.join(sorted(_STEPS))}")
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, Array]:
        key_hh, key_xh = jax.random.split(key)
        w_hh = recurrent(key_hh, n_hidden, n_hidden, gain)
        w_xh = initializers.gaussian(key_xh, n_hidden, n_in, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": jnp.zeros(n_hidden, w_hh.dtype)}

    return Cell(init_params, zeros_like_hidden, _STEPS[activation], _output)


def _output(params: PyTree, h: Array, x: PyTree) -> Array:
    return h
