"""Recurrences with a memory of their own beside what they show: the LSTM and its kin, gates stacked i, f, g, o."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes, zeros_like_hidden
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import normalised, preactivation


class LSTMState(NamedTuple):
    """The full state of an LSTM: what it shows and what it keeps."""

    h: Array  # (n,)
    c: Array  # (n,)


class SLSTMState(NamedTuple):
    """The full state of an sLSTM; c e^m and n e^m are the sums that the equations without stabiliser carry."""

    h: Array  # (n,) what it shows
    c: Array  # (n,) memory
    n: Array  # (n,) normaliser
    m: Array  # (n,) stabiliser, in nats


@register(
    equation="c_t = σ(a_f) ∘ c_{t−1} + σ(a_i) ∘ tanh(a_g), h_t = σ(a_o) ∘ tanh(c_t), a = W_hh h_{t−1} + W_xh x_t + b_h",
    source="Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000",
)
def lstm(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The LSTM, gates in the order i, f, g, o.

    i, f, o = σ(a_i), σ(a_f), σ(a_o), g = tanh(a_g), a = W_hh h_{t−1} + W_xh x_t + b_h,
    c_t = f ∘ c_{t−1} + i ∘ g, h_t = o ∘ tanh(c_t).

    With W_hh = 0, ∂c_t/∂c_{t−1} = diag(f): the exponents of the memory are ln σ(a_f), the h-block is dead.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is ``LSTMState(h, c)``, of real dimension 2n.
        init: how each gate's recurrent block starts: ``orthogonal``, ``gaussian``, ``identity``, ``uniform``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, forget_bias=1.0, chrono=None)`` gives W_hh (4n, n), W_xh (4n, n_in),
        b_h (4n,), zero but for the forget gate's. With ``chrono``, T_max in steps, b_f = ln U(1, T_max − 1) and b_i = −b_f instead.
        Torch's two biases may both be there: b_x (4n,) beside b_h.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Hochreiter, Schmidhuber 1997; forget gate: Gers, Schmidhuber, Cummins 2000; its bias: Jozefowicz,
    Zaremba, Sutskever 2015; chrono: Tallec, Ollivier 2018.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.lstm(2, 3)
    >>> params = cell.init_params(jax.random.key(0), forget_bias=5.0)
    >>> params["b_h"].tolist()
    [0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(
        key: Array,
        gain: float | Array = 1.0,
        input_gain: float | Array = 1.0,
        forget_bias: float | Array = 1.0,
        chrono: float | Array | None = None,
    ) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 4, n_in, n_hidden, gain, input_gain)
        if chrono is None:
            return {"W_hh": w_hh, "W_xh": w_xh, "b_h": _forget(n_hidden, forget_bias)}
        kept = initializers.chrono(jax.random.fold_in(key, 4), n_hidden, chrono)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": _forget(n_hidden, kept).at[:n_hidden].set(-kept)}

    return Cell(init_params, _zeros, _LSTM, _shown)


@register(
    equation="as lstm, with p_i ∘ c_{t−1} added to a_i, p_f ∘ c_{t−1} to a_f and p_o ∘ c_t to a_o",
    source="Gers, Schmidhuber 2000",
)
def lstm_peephole(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The LSTM whose gates see the memory, each unit's its own.

    i = σ(a_i + p_i ∘ c_{t−1}), f = σ(a_f + p_f ∘ c_{t−1}), c_t = f ∘ c_{t−1} + i ∘ tanh(a_g), o = σ(a_o + p_o ∘ c_t),
    h_t = o ∘ tanh(c_t), a = W_hh h_{t−1} + W_xh x_t + b_h.

    With W_hh = 0 still diagonal, ∂c_t/∂c_{t−1} = f + f(1−f) p_f c_{t−1} + i(1−i) p_i g: a peephole can hold more than f does, even beyond 1.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is ``LSTMState(h, c)``, of real dimension 2n.
        init: as for ``lstm``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, forget_bias=1.0, peephole_gain=0.1)`` gives W_hh (4n, n), W_xh (4n, n_in),
        w_ch (3n,), p of i, f, o, from U(±peephole_gain), and b_h (4n,).

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Gers, Schmidhuber 2000; the output of the memory through tanh as in Graves 2013, eqs. 7–11.

    >>> import jax
    >>> from jaxrnn.cells.lstm import lstm_peephole
    >>> lstm_peephole(2, 3).init_params(jax.random.key(0))["w_ch"].shape
    (9,)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(
        key: Array,
        gain: float | Array = 1.0,
        input_gain: float | Array = 1.0,
        forget_bias: float | Array = 1.0,
        peephole_gain: float | Array = 0.1,
    ) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 4, n_in, n_hidden, gain, input_gain)
        peepholes = peephole_gain * jax.random.uniform(jax.random.fold_in(key, 4), (3 * n_hidden,), minval=-1.0, maxval=1.0)
        return {"W_hh": w_hh, "W_xh": w_xh, "w_ch": peepholes, "b_h": _forget(n_hidden, forget_bias)}

    return Cell(init_params, _zeros, _PEEPHOLE, _shown)


@register(
    equation="as lstm, with a = s_h ∘ LN(W_hh h_{t−1}) + s_x ∘ LN(W_xh x_t) + b_h and h_t = σ(a_o) ∘ tanh(s_c ∘ LN(c_t) + b_c)",
    source="Ba, Kiros, Hinton 2016",
)
def lstm_layernorm(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The LSTM with layer normalisation of what it hears from itself, of what it hears from outside and of what it shows.

    a = s_h ∘ LN(W_hh h_{t−1}) + s_x ∘ LN(W_xh x_t) + b_h, c_t = σ(a_f) ∘ c_{t−1} + σ(a_i) ∘ tanh(a_g),
    h_t = σ(a_o) ∘ tanh(s_c ∘ LN(c_t) + b_c), LN(v) = (v − mean v)/√(var v + 10⁻⁵) over all 4n entries of the gates, or the n of c.

    The scale of W_hh has no part, and ∂LN(v)/∂v = (I − 11ᵀ/N − LN LNᵀ/N)/sd kills two directions and grows as v shrinks: the Jacobian
    follows 1/sd(W_hh h), not ‖W_hh‖. Units are mixed after the product: no affine-then-pointwise declaration.

    Args:
        n_in: size of an input; x may also be None, as an input of zeros.
        n_hidden: n; the state is ``LSTMState(h, c)``, of real dimension 2n.
        init: as for ``lstm``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, forget_bias=1.0)`` gives W_hh (4n, n), W_xh (4n, n_in), s_h (4n,), s_x (4n,) and
        s_c (n,), ones, b_h (4n,), b_c (n,) zero but for the forget gate's. The paper's shifts of the two norms and its b are one: their sum.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Ba, Kiros, Hinton 2016, eqs. 20–22; the 10⁻⁵ is that of their code.

    >>> import jax
    >>> from jaxrnn.cells.lstm import lstm_layernorm
    >>> sorted(lstm_layernorm(2, 3).init_params(jax.random.key(0)))
    ['W_hh', 'W_xh', 'b_c', 'b_h', 's_c', 's_h', 's_x']
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, forget_bias: float | Array = 1.0) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 4, n_in, n_hidden, gain, input_gain)
        ones, one = jnp.ones(4 * n_hidden), jnp.ones(n_hidden)
        biases = {"b_h": _forget(n_hidden, forget_bias), "b_c": jnp.zeros(n_hidden)}
        return {"W_hh": w_hh, "W_xh": w_xh, "s_h": ones, "s_x": ones, "s_c": one, **biases}

    return Cell(init_params, _zeros, _layernorm_step, _shown)


@register(
    equation="c_t = f ∘ c_{t−1} + i ∘ tanh(a_g), n_t = f ∘ n_{t−1} + i, h_t = σ(a_o) ∘ c_t/n_t, i = e^{a_i − m_t}, f = e^{ln σ(a_f) + m_{t−1} − m_t}",
    source="Beck et al. 2024 (xLSTM)",
)
def slstm(n_in: int, n_hidden: int, init: str = "orthogonal", forget: str = "sigmoid") -> Cell:
    """The scalar memory of xLSTM: an exponential input gate, a normaliser, and a stabiliser that keeps e^a in range.

    m_t = max(ln φ(a_f) + m_{t−1}, a_i), i = e^{a_i − m_t}, f = e^{ln φ(a_f) + m_{t−1} − m_t}, c_t = f ∘ c_{t−1} + i ∘ tanh(a_g),
    n_t = f ∘ n_{t−1} + i, h_t = σ(a_o) ∘ c_t/n_t, a = W_hh h_{t−1} + W_xh x_t + b_h, φ = σ or exp.

    h depends on c/n, which moves by the share i/n_t: with W_hh = 0, ∂(c/n)_t/∂(c/n)_{t−1} = f n_{t−1}/n_t ≤ 1. The shift
    (c, n, m) → (c e^{−s}, n e^{−s}, m + s) changes no h: per unit its direction is kept exactly where the forget gate wins the maximum
    and killed where the input gate does, so that up to n of the 4n exponents, zeros, are the stabiliser's and no memory.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is ``SLSTMState(h, c, n, m)``, of real dimension 4n; a state with n = 0 and no input gate open gives NaN.
        init: how each gate's recurrent block R starts: ``orthogonal``, ``gaussian``, …; the published code starts at R = 0, ``gain=0``.
        forget: φ, ``sigmoid`` or ``exp``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, forget_bias=None)`` gives W_hh (4n, n), one head, W_xh (4n, n_in), b_h (4n,); the
        forget gate's biases fall from 5 to −7 as 5 − 12 (j/(n−1))^0.3, the published code's, where ``forget_bias`` is None.

    Raises:
        ValueError: unknown init or forget, a size below 1.

    Source: Beck et al. 2024, eqs. 8–17. The published code sets m_1 = a_i at n_0 = 0, which changes m_1, c_1, n_1 but no h.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn.cells.lstm import slstm
    >>> cell = slstm(1, 2)
    >>> params = cell.init_params(jax.random.key(0))
    >>> cell.step(params, cell.init_state(params), None).n.tolist()  # the input gate of a first step wins
    [1.0, 1.0]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)
    if forget not in _SLSTM:
        raise ValueError(f"unknown forget {forget!r}; allowed are {', '.join(sorted(_SLSTM))}")

    def init_params(
        key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, forget_bias: float | Array | None = None
    ) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 4, n_in, n_hidden, gain, input_gain)
        fall = 5 - 12 * jnp.linspace(0.0, 1.0, n_hidden) ** 0.3
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": _forget(n_hidden, fall if forget_bias is None else forget_bias)}

    return Cell(init_params, _slstm_zeros, _SLSTM[forget], _shown)


def _forget(n: int, bias: float | Array) -> Array:
    """b_h (4n,), zero but for the forget gate's."""
    return jnp.zeros(4 * n).at[n : 2 * n].set(bias)


def _zeros(params: PyTree) -> LSTMState:
    return LSTMState(zeros_like_hidden(params), zeros_like_hidden(params))


def _slstm_zeros(params: PyTree) -> SLSTMState:
    return SLSTMState(*[zeros_like_hidden(params)] * 4)


def _shown(params: PyTree, state: LSTMState | SLSTMState, x: PyTree) -> Array:
    return state.h


def _affine(params: PyTree, state: LSTMState, x: Array | None) -> tuple[Array, Array]:
    return state.c, preactivation(params, state.h, x)


def _pointwise(params: PyTree, z: tuple[Array, Array]) -> LSTMState:
    c, (i, f, g, o) = z[0], jnp.split(z[1], 4)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


def _peephole_pointwise(params: PyTree, z: tuple[Array, Array]) -> LSTMState:
    c, (i, f, g, o), (p_i, p_f, p_o) = z[0], jnp.split(z[1], 4), jnp.split(params["w_ch"], 3)
    c = jax.nn.sigmoid(f + p_f * c) * c + jax.nn.sigmoid(i + p_i * c) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o + p_o * c) * jnp.tanh(c), c)


def _layernorm_step(params: PyTree, state: LSTMState, x: Array | None) -> LSTMState:
    a = params["s_h"] * normalised(params["W_hh"] @ state.h) + params["b_h"]
    if x is not None:
        a = a + params["s_x"] * normalised(params["W_xh"] @ x)
    i, f, g, o = jnp.split(a, 4)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(params["s_c"] * normalised(c) + params["b_c"]), c)


def _slstm_affine(params: PyTree, state: SLSTMState, x: Array | None) -> tuple[Array, Array, Array, Array]:
    return state.c, state.n, state.m, preactivation(params, state.h, x)


def _slstm_pointwise(log_forget: Callable[[Array], Array]) -> Callable[[PyTree, tuple[Array, Array, Array, Array]], SLSTMState]:
    def pointwise(params: PyTree, z: tuple[Array, Array, Array, Array]) -> SLSTMState:
        (c, n, m), (i, f, g, o) = z[:3], jnp.split(z[3], 4)
        kept = log_forget(f) + m
        m = jnp.maximum(kept, i)
        keep, write = jnp.exp(kept - m), jnp.exp(i - m)
        c, n = keep * c + write * jnp.tanh(g), keep * n + write
        return SLSTMState(jax.nn.sigmoid(o) * c / n, c, n, m)

    return pointwise


_LSTM = Structure(_affine, _pointwise, gated=True)
_PEEPHOLE = Structure(_affine, _peephole_pointwise, gated=True)
_LOG_FORGET = {"sigmoid": jax.nn.log_sigmoid, "exp": lambda f: f}
_SLSTM = {name: Structure(_slstm_affine, _slstm_pointwise(log_forget), gated=True) for name, log_forget in _LOG_FORGET.items()}
