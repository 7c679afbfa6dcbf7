"""Gated recurrences in torch's conventions: gates stacked along axis 0 of the weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes, zeros_like_hidden


class LSTMState(NamedTuple):
    """The full state of an LSTM: what it shows and what it keeps."""

    h: Array  # (n,)
    c: Array  # (n,)


def lstm(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The LSTM, gates in the order i, f, g, o.

    i, f, o = σ(a_i), σ(a_f), σ(a_o), g = tanh(a_g), a = W_hh h_{t−1} + W_xh x_t + b_h,
    c_t = f ∘ c_{t−1} + i ∘ g, h_t = o ∘ tanh(c_t).

    With W_hh = 0, ∂c_t/∂c_{t−1} = diag(f): the exponents of the memory are ln σ(a_f), the h-block is dead.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is ``LSTMState(h, c)``, of real dimension 2n.
        init: how each gate's recurrent block starts: ``orthogonal``, ``gaussian``, ``identity``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, forget_bias=1.0)`` gives W_hh (4n, n), W_xh (4n, n_in),
        b_h (4n,), zero but for the forget gate's. Torch's two biases are one here: their sum.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Hochreiter, Schmidhuber 1997; forget gate: Gers, Schmidhuber, Cummins 2000; its bias: Jozefowicz,
    Zaremba, Sutskever 2015.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.lstm(2, 3)
    >>> params = cell.init_params(jax.random.key(0), forget_bias=5.0)
    >>> params["b_h"].tolist()
    [0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, forget_bias: float | Array = 1.0) -> dict[str, Array]:
        w_hh, w_xh = _gate_weights(key, recurrent, 4, n_in, n_hidden, gain, input_gain)
        b_h = jnp.zeros(4 * n_hidden, w_hh.dtype).at[n_hidden : 2 * n_hidden].set(forget_bias)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": b_h}

    return Cell(init_params, _lstm_state, _LSTM_STEP, _lstm_output)


def gru(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The GRU, gates in the order r, z, n, the reset gate after the product (cuDNN's and torch's variant).

    r, z = σ(a_r), σ(a_z), n = tanh(W_xn x_t + b_xn + r ∘ (W_hn h_{t−1} + b_hn)), h_t = (1 − z) ∘ n + z ∘ h_{t−1},
    a = W_xh x_t + b_x + W_hh h_{t−1} + b_h.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: how each gate's recurrent block starts: ``orthogonal``, ``gaussian``, ``identity``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, update_bias=0.0)`` gives W_hh (3n, n), W_xh (3n, n_in),
        b_x (3n,), b_h (3n,); ``update_bias`` is b_x of z, which keeps h_{t−1} where it is large.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Cho et al. 2014; the variant: Chung, Gulcehre, Cho, Bengio 2014 as implemented in cuDNN.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.gru(2, 3).init_params(jax.random.key(0))["W_hh"].shape
    (9, 3)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, update_bias: float | Array = 0.0) -> dict[str, Array]:
        w_hh, w_xh = _gate_weights(key, recurrent, 3, n_in, n_hidden, gain, input_gain)
        zeros = jnp.zeros(3 * n_hidden, w_hh.dtype)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_x": zeros.at[n_hidden : 2 * n_hidden].set(update_bias), "b_h": zeros}

    return Cell(init_params, zeros_like_hidden, _GRU_STEP, _gru_output)


def _gate_weights(key, recurrent, gates, n_in, n_hidden, gain, input_gain) -> tuple[Array, Array]:
    *keys, key_xh = jax.random.split(key, gates + 1)
    w_hh = jnp.concatenate([recurrent(k, n_hidden, n_hidden, gain) for k in keys])
    return w_hh, initializers.gaussian(key_xh, gates * n_hidden, n_in, input_gain)


def _lstm_state(params: PyTree) -> LSTMState:
    return LSTMState(zeros_like_hidden(params), zeros_like_hidden(params))


def _lstm_affine(params: PyTree, state: LSTMState, x: Array | None) -> tuple[Array, Array]:
    a = params["W_hh"] @ state.h + params["b_h"]
    return state.c, a if x is None else a + params["W_xh"] @ x


def _lstm_pointwise(params: PyTree, z: tuple[Array, Array]) -> LSTMState:
    c, (i, f, g, o) = z[0], jnp.split(z[1], 4)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


def _lstm_output(params: PyTree, state: LSTMState, x: PyTree) -> Array:
    return state.h


def _gru_affine(params: PyTree, h: Array, x: Array | None) -> tuple[Array, Array, Array]:
    from_x = params["b_x"] if x is None else params["W_xh"] @ x + params["b_x"]
    return h, from_x, params["W_hh"] @ h + params["b_h"]


def _gru_pointwise(params: PyTree, z: tuple[Array, Array, Array]) -> Array:
    h, (r_x, z_x, n_x), (r_h, z_h, n_h) = z[0], jnp.split(z[1], 3), jnp.split(z[2], 3)
    keep = jax.nn.sigmoid(z_x + z_h)
    return (1 - keep) * jnp.tanh(n_x + jax.nn.sigmoid(r_x + r_h) * n_h) + keep * h


def _gru_output(params: PyTree, h: Array, x: PyTree) -> Array:
    return h


_LSTM_STEP = Structure(_lstm_affine, _lstm_pointwise)
_GRU_STEP = Structure(_gru_affine, _gru_pointwise)
