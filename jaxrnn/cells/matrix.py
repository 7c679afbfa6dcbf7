"""Recurrences whose state is a matrix: an associative memory that keys write to and queries read from."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import RIGHT, Cell, Linear, PyTree, require_sizes
from jaxrnn.cells.registry import register


class AttentionState(NamedTuple):
    """What linear attention has summed up."""

    S: Array  # (n, d) values times features of keys
    z: Array  # (d,) features of keys


class MLSTMState(NamedTuple):
    """The memory of an mLSTM, over its largest gate."""

    C: Array  # (n, d) values times keys, times e^{−m}
    n: Array  # (d,) keys, times e^{−m}
    m: Array  # () log of the largest weight so far


@register(
    equation="S_t = S_{t−1} + v_t φ(k_t)ᵀ, z_t = z_{t−1} + φ(k_t), y_t = S_t φ(q_t) / (z_t·φ(q_t)), φ = elu + 1", source="Katharopoulos et al. 2020"
)
def linear_attention(n_in: int, n_hidden: int, n_key: int | None = None) -> Cell:
    """Causal attention with a positive feature map, as a recurrence: it forgets nothing.

    S_t = S_{t−1} + v_t φ(k_t)ᵀ, z_t = z_{t−1} + φ(k_t), y_t = S_t φ(q_t) / (z_t·φ(q_t)); φ = elu + 1; q, k, v = W_q x, W_k x, W_v x.

    J_t = I: every exponent is 0, and no gradient by the state vanishes. What fades is the share of one step in a growing sum.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n, size of a value and of the output; the state is ``AttentionState(S, z)``, of real dimension n d + d.
        n_key: d; n where None.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives W_q, W_k (d, n_in), W_v (n, n_in).

    Raises:
        ValueError: a size below 1.

    Source: Katharopoulos, Vyas, Pappas, Fleuret 2020, equations 7, 16–20. The output of the zero state is NaN: 0/0.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.linear_attention(2, 3, 4)
    >>> cell.init_state(cell.init_params(jax.random.key(0))).S.shape
    (3, 4)
    """
    d = _key_size(n_in, n_hidden, n_key)
    init_params = lambda key, input_gain=1.0: _projections(key, n_in, n_hidden, d, input_gain)
    init_state = lambda params: AttentionState(_memory(params), jnp.zeros(params["W_k"].shape[0], params["W_k"].dtype))
    return Cell(init_params, init_state, _ATTENTION, _attention_output)


@register(
    equation="S_t = S_{t−1} (I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, k_t of norm 1, β = β_max σ(w_β·x_t + b_β), y_t = S_t q_t",
    source="Schlag, Irie, Schmidhuber 2021",
)
def deltanet(n_in: int, n_hidden: int, n_key: int | None = None, beta_max: float = 1.0) -> Cell:
    """A memory that corrects what a key retrieves towards its value: the delta rule as a recurrence.

    S_t = S_{t−1} (I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, y_t = S_t q_t; q, k = W_q x, W_k x over their norms, v = W_v x, β_t = β_max σ(w_β·x + b_β).

    J_t acts on every row of S by I − β k kᵀ, whose eigenvalues are 1 and 1 − β: in [0, 1] for β_max = 1; for 2 in [−1, 1], a reflection at its end,
    which lets it track parity (Grazzi et al. 2024).

    Args:
        n_in: size of an input; x may also be None (then nothing is written).
        n_hidden: n, size of a value and of the output; the state is S (n, d).
        n_key: d; n where None.
        beta_max: 1, or 2 for eigenvalues in [−1, 1].

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives W_q, W_k (d, n_in), W_v (n, n_in), w_beta (n_in,), b_beta (), and ``constants``
        with beta_max.

    Raises:
        ValueError: beta_max outside (0, 2], a size below 1.

    Source: Schlag, Irie, Schmidhuber 2021, equation 24; keys of norm 1: Yang et al. 2024; β up to 2: Grazzi et al. 2024.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.deltanet(2, 3, 4)
    >>> cell.init_state(cell.init_params(jax.random.key(0))).shape
    (3, 4)
    """
    d = _key_size(n_in, n_hidden, n_key)
    _require_beta(beta_max)
    init_params = lambda key, input_gain=1.0: _delta_params(key, n_in, n_hidden, d, input_gain, beta_max, ("beta",))
    return Cell(init_params, _memory, _DELTANET, _retrieved)


@register(
    equation="S_t = α_t S_{t−1} (I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, α = σ(w_α·x_t + b_α), k_t of norm 1, β = β_max σ(w_β·x_t + b_β), y_t = S_t q_t",
    source="Yang, Kautz, Hatamizadeh 2024",
)
def gated_deltanet(n_in: int, n_hidden: int, n_key: int | None = None, beta_max: float = 1.0) -> Cell:
    """The delta rule with a gate that forgets all of the memory at once.

    S_t = α_t S_{t−1} (I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, y_t = S_t q_t; α_t = σ(w_α·x + b_α), the rest as in ``deltanet``.

    J_t acts on every row of S by α (I − β k kᵀ): d − 1 exponents of each row are the mean of ln α at least, and all lie below 0.

    Args:
        n_in, n_hidden, n_key, beta_max: as in ``deltanet``.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives what ``deltanet`` has, and w_alpha (n_in,), b_alpha () = 4, which keeps 98 % a step.

    Raises:
        ValueError: beta_max outside (0, 2], a size below 1.

    Source: Yang, Kautz, Hatamizadeh 2024, equation 10; their α is Mamba2's e^{−Δ A}, here one logistic gate.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.gated_deltanet(2, 3).init_params(jax.random.key(0))["w_alpha"].shape
    (2,)
    """
    d = _key_size(n_in, n_hidden, n_key)
    _require_beta(beta_max)

    def init_params(key: Array, input_gain: float | Array = 1.0) -> PyTree:
        params = _delta_params(key, n_in, n_hidden, d, input_gain, beta_max, ("beta", "alpha"))
        return params | {"b_alpha": jnp.full_like(params["b_alpha"], 4.0)}

    return Cell(init_params, _memory, _GATED_DELTANET, _retrieved)


@register(
    equation="C_t = f C_{t−1} + i v_t k_tᵀ, n_t = f n_{t−1} + i k_t, i = e^{w_i·x + b_i}, f = σ(w_f·x + b_f), y_t = o ∘ C_t q_t / max(|n_t·q_t|, 1)",
    source="Beck et al. 2024 (xLSTM)",
)
def mlstm(n_in: int, n_hidden: int, n_key: int | None = None) -> Cell:
    """The matrix LSTM of xLSTM: one exponential input gate and one forget gate for a matrix memory.

    C_t = f C_{t−1} + i v_t k_tᵀ, n_t = f n_{t−1} + i k_t, i = exp(ĩ), f = σ(f̃), y_t = σ(õ) ∘ C_t q_t / max(|n_t·q_t|, 1), k = W_k x / √d.

    C and n are kept times e^{−m}, m_t = max(ln f + m_{t−1}, ĩ), so that exp(ĩ) cannot overflow; y is the same, and e^{−m} takes the place of 1.
    J_t multiplies C and n by f e^{m_{t−1} − m_t} ≤ 1; m is one coordinate more, which moves itself by 1 or 0 (and C, n with it): no memory.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n, size of a value and of the output; the state is ``MLSTMState(C, n, m)``, of real dimension n d + d + 1.
        n_key: d; n where None.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0, forget_bias=3.0)`` gives W_q, W_k (d, n_in), W_v, W_o (n, n_in), b_o (n,),
        w_i, w_f (n_in,), b_i, b_f ().

    Raises:
        ValueError: a size below 1.

    Source: Beck et al. 2024, equations 19–27 and 15 for the stabiliser, with a logistic forget gate.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.mlstm(2, 3, 4)
    >>> [leaf.shape for leaf in cell.init_state(cell.init_params(jax.random.key(0)))]
    [(3, 4), (4,), ()]
    """
    d = _key_size(n_in, n_hidden, n_key)

    def init_params(key: Array, input_gain: float | Array = 1.0, forget_bias: float | Array = 3.0) -> dict[str, Array]:
        key_qkv, key_o, key_i, key_f = jax.random.split(key, 4)
        params = _projections(key_qkv, n_in, n_hidden, d, input_gain)
        number = lambda value: jnp.asarray(value, params["W_q"].dtype)
        return params | {
            "W_o": initializers.gaussian(key_o, n_hidden, n_in, input_gain),
            "b_o": jnp.zeros(n_hidden, params["W_q"].dtype),
            "w_i": initializers.gaussian(key_i, 1, n_in, input_gain)[0],
            "w_f": initializers.gaussian(key_f, 1, n_in, input_gain)[0],
            "b_i": number(0.0),
            "b_f": number(forget_bias),
        }

    def init_state(params: PyTree) -> MLSTMState:
        memory = _memory(params)
        return MLSTMState(memory, jnp.zeros(memory.shape[1], memory.dtype), jnp.zeros((), memory.dtype))

    return Cell(init_params, init_state, _mlstm_step, _mlstm_output)


def _key_size(n_in: int, n_hidden: int, n_key: int | None) -> int:
    d = n_hidden if n_key is None else n_key
    require_sizes(n_in=n_in, n_hidden=n_hidden, n_key=d)
    return d


def _require_beta(beta_max: float) -> None:
    if not 0 < beta_max <= 2:
        raise ValueError(f"beta_max={beta_max} must lie in (0, 2]: beyond, eigenvalues leave [−1, 1]")


def _projections(key: Array, n_in: int, n: int, d: int, gain: float | Array) -> dict[str, Array]:
    keys = jax.random.split(key, 3)
    return {name: initializers.gaussian(k, size, n_in, gain) for name, k, size in zip(("W_q", "W_k", "W_v"), keys, (d, d, n), strict=True)}


def _delta_params(key: Array, n_in: int, n: int, d: int, gain: float | Array, beta_max: float, gates: tuple[str, ...]) -> PyTree:
    key, *keys = jax.random.split(key, 1 + len(gates))
    params: dict[str, PyTree] = dict(_projections(key, n_in, n, d, gain))
    dtype = params["W_q"].dtype
    for name, k in zip(gates, keys, strict=True):
        params |= {f"w_{name}": initializers.gaussian(k, 1, n_in, gain)[0], f"b_{name}": jnp.zeros((), dtype)}
    return params | {"constants": {"beta_max": jnp.asarray(beta_max, dtype)}}


def _memory(params: PyTree) -> Array:
    """The empty memory (n, d)."""
    return jnp.zeros((params["W_v"].shape[0], params["W_k"].shape[0]), params["W_k"].dtype)


def _projected(params: PyTree, name: str, x: Array | None) -> Array:
    weights = params[name]
    return jnp.zeros(weights.shape[0], weights.dtype) if x is None else weights @ x


def _gate(params: PyTree, name: str, x: Array | None) -> Array:
    """The pre-activation of a gate that is one number."""
    bias = params[f"b_{name}"]
    return bias if x is None else params[f"w_{name}"] @ x + bias


def _unit(v: Array) -> Array:
    """Over its norm; zero stays zero, where the derivative is that of the identity."""
    square = v @ v
    return v * jax.lax.rsqrt(jnp.where(square == 0, 1, square))


def _features(v: Array) -> Array:
    return jax.nn.elu(v) + 1


def _attention_coefficients(params: PyTree, x: Array | None) -> tuple[AttentionState, AttentionState]:
    k = _features(_projected(params, "W_k", x))
    one = jnp.ones((), k.dtype)
    written = AttentionState(jnp.outer(_projected(params, "W_v", x), k), k)
    return AttentionState(one[None, None], one[None]), written


def _attention_output(params: PyTree, state: AttentionState, x: Array | None) -> Array:
    q = _features(_projected(params, "W_q", x))
    return state.S @ q / (state.z @ q)


def _delta(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    """I − β k kᵀ, β v kᵀ."""
    k = _unit(_projected(params, "W_k", x))
    beta = jax.lax.stop_gradient(params["constants"]["beta_max"]) * jax.nn.sigmoid(_gate(params, "beta", x))
    return jnp.eye(len(k), dtype=k.dtype) - beta * jnp.outer(k, k), beta * jnp.outer(_projected(params, "W_v", x), k)


def _gated_delta(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    transition, written = _delta(params, x)
    return jax.nn.sigmoid(_gate(params, "alpha", x)) * transition, written


def _retrieved(params: PyTree, state: Array, x: Array | None) -> Array:
    return state @ _unit(_projected(params, "W_q", x))


def _mlstm_step(params: PyTree, state: MLSTMState, x: Array | None) -> MLSTMState:
    k = _projected(params, "W_k", x) / math.sqrt(params["W_k"].shape[0])
    log_i, log_f = _gate(params, "i", x), jax.nn.log_sigmoid(_gate(params, "f", x))
    m = jnp.maximum(log_f + state.m, log_i)
    keep, write = jnp.exp(log_f + state.m - m), jnp.exp(log_i - m)
    return MLSTMState(keep * state.C + write * jnp.outer(_projected(params, "W_v", x), k), keep * state.n + write * k, m)


def _mlstm_output(params: PyTree, state: MLSTMState, x: Array | None) -> Array:
    q = _projected(params, "W_q", x)
    gate = jax.nn.sigmoid(_projected(params, "W_o", x) + params["b_o"])
    return gate * (state.C @ q) / jnp.maximum(jnp.abs(state.n @ q), jnp.exp(-state.m))


_ATTENTION = Linear(_attention_coefficients)
_DELTANET = Linear(_delta, RIGHT)
_GATED_DELTANET = Linear(_gated_delta, RIGHT)
