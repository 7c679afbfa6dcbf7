"""The diagonal recurrence whose eigenvalues the input sets, in (0, 1), in (−1, 1) or in [−1, 1]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, Linear, PyTree, require_sizes
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import whole_state


@register(equation="h_t = a_t ∘ h_{t−1} + W_h x_t + b_h, a_t = φ(W_a x_t + b_a), φ = tanh", source="Grazzi et al. 2024")
def input_diagonal(n_in: int, n_hidden: int, transition: str = "tanh") -> Cell:
    """The diagonal recurrence whose eigenvalues are a function of the input, and may be negative.

    h_t = a_t ∘ h_{t−1} + b_t, a_t = φ(W_a x_t + b_a), b_t = W_b x_t + b_b.

    J_t = diag(a_t): the exponents are the means of ln|a_t|, never positive. A unit with a = −1 on one symbol and 1 on another counts
    modulo 2; no number of layers of units with a in [0, 1] does so at every length.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        transition: φ, ``sigmoid`` with a in (0, 1), ``tanh`` with a in (−1, 1), or ``clip`` to [−1, 1], whose derivative is taken as 1
            everywhere (straight through), so that a unit at ±1 can leave it.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0, transition_gain=1.0, transition_bias=0.0)`` gives W_xh (2n, n_in) and b_h (2n,), a first:
        W_a of N(0, transition_gain²) whatever n_in, so that one-hot symbols have independent transitions, b_a = transition_bias,
        W_b of N(0, input_gain²/n_in), b_b zero.

    Raises:
        ValueError: unknown transition, a size below 1.

    Source: Grazzi, Siems, Zela, Franke, Hutter, Pontil 2024, theorem 1 and section 4; straight through: Bengio, Léonard, Courville 2013.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells
    >>> cell = cells.input_diagonal(1, 1, "clip")
    >>> params = {"W_xh": jnp.array([[-4.0], [0.0]]), "b_h": jnp.array([2.0, 0.0])}  # a = 1 at x = 0, −1 at x = 1
    >>> [cell.step(params, jnp.ones(1), jnp.full(1, bit)).item() for bit in (0.0, 1.0)]
    [1.0, -1.0]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    if transition not in _STEPS:
        raise ValueError(f"unknown transition {transition!r}; allowed are {', '.join(sorted(_STEPS))}")

    def init_params(
        key: Array, input_gain: float | Array = 1.0, transition_gain: float | Array = 1.0, transition_bias: float | Array = 0.0
    ) -> dict[str, Array]:
        key_a, key_b = jax.random.split(key)
        w_a = transition_gain * jax.random.normal(key_a, (n_hidden, n_in))
        w_xh = jnp.concatenate([w_a, initializers.gaussian(key_b, n_hidden, n_in, input_gain)])
        return {"W_xh": w_xh, "b_h": jnp.zeros(2 * n_hidden, w_xh.dtype).at[:n_hidden].set(transition_bias)}

    return Cell(init_params, _zeros, _STEPS[transition], whole_state)


def _zeros(params: PyTree) -> Array:
    return jnp.zeros(params["b_h"].shape[0] // 2, params["b_h"].dtype)


def _straight_through(a: Array) -> Array:
    return a + jax.lax.stop_gradient(jnp.clip(a, -1, 1) - a)


def _coefficients(phi: Callable[[Array], Array]) -> Callable[[PyTree, Array | None], tuple[Array, Array]]:
    def coefficients(params: PyTree, x: Array | None) -> tuple[Array, Array]:
        a, b = jnp.split(params["b_h"] if x is None else params["W_xh"] @ x + params["b_h"], 2)
        return phi(a), b

    return coefficients


_STEPS = {name: Linear(_coefficients(phi)) for name, phi in {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "clip": _straight_through}.items()}
