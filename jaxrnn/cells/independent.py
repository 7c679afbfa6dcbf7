"""Units that hear themselves and the input, not each other."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers, theory
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import ACTIVATIONS, activate, require_activation, whole_state


@register(equation="h_t = φ(u ∘ h_{t−1} + W_xh x_t + b_h)", source="Li, Li, Cook, Zhu, Gao 2018 (IndRNN)")
def indrnn(n_in: int, n_hidden: int, activation: str = "relu") -> Cell:
    """The independently recurrent network: a vector u instead of a recurrent matrix.

    h_t = φ(u ∘ h_{t−1} + W_xh x_t + b_h); J_t = diag(φ'(a_t) ∘ u), so each unit is an exponent of its own, mean ln|u φ'|. With relu a unit
    that stays active neither vanishes nor explodes beyond T steps by a factor γ where |u| ≤ γ^(1/T): the paper clips u to that.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        activation: φ, ``relu`` as published, or as for ``vanilla``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives u_h (n,) from U(0, gain), W_xh (n, n_in), b_h (n,) zero: ``gain`` is the
        bound of |u| at the start; training does not keep it.

    Raises:
        ValueError: unknown activation, a size below 1.

    Source: Li, Li, Cook, Zhu, Gao 2018.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn.cells.independent import indrnn
    >>> params = indrnn(2, 3).init_params(jax.random.key(0), gain=0.5)
    >>> bool(jnp.all((0 <= params["u_h"]) & (params["u_h"] <= 0.5)))
    True
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    require_activation(activation)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, Array]:
        key_h, key_xh = jax.random.split(key)
        u_h = gain * jax.random.uniform(key_h, (n_hidden,))
        return {"u_h": u_h, "W_xh": initializers.gaussian(key_xh, n_hidden, n_in, input_gain), "b_h": jnp.zeros(n_hidden)}

    return Cell(init_params, _zeros, _STEPS[activation], whole_state)


def _zeros(params: PyTree) -> Array:
    return jnp.zeros_like(params["u_h"])


def _affine(params: PyTree, h: Array, x: Array | None) -> Array:
    recurrent = params["u_h"] * h + params["b_h"]
    return recurrent if x is None else recurrent + params["W_xh"] @ x


_STEPS = {name: Structure(_affine, activate(phi), theory.SLOPE_BOUNDS[name]) for name, phi in ACTIVATIONS.items()}
