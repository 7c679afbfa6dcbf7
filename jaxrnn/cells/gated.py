"""Gated recurrences whose state is all they show: gates stacked along axis 0 of the weights."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes, zeros_like_hidden
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import preactivation, whole_state


@register(
    equation="h_t = (1 − z) ∘ tanh(W_xn x_t + b_xn + r ∘ (W_hn h_{t−1} + b_hn)) + z ∘ h_{t−1}, r, z = σ(W_xh x_t + b_x + W_hh h_{t−1} + b_h)",
    source="Cho et al. 2014; Chung, Gulcehre, Cho, Bengio 2014 as in cuDNN",
)
def gru(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The GRU, gates in the order r, z, n, the reset gate after the product (cuDNN's and torch's variant).

    r, z = σ(a_r), σ(a_z), n = tanh(W_xn x_t + b_xn + r ∘ (W_hn h_{t−1} + b_hn)), h_t = (1 − z) ∘ n + z ∘ h_{t−1},
    a = W_xh x_t + b_x + W_hh h_{t−1} + b_h.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: how each gate's recurrent block starts: ``orthogonal``, ``gaussian``, ``identity``, ``uniform``.

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
        w_hh, w_xh = initializers.gates(key, recurrent, 3, n_in, n_hidden, gain, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_x": _bias(3, 1, n_hidden, update_bias), "b_h": jnp.zeros(3 * n_hidden)}

    return Cell(init_params, zeros_like_hidden, _GRU, whole_state)


@register(
    equation="h_t = z ∘ h_{t−1} + (1 − z) ∘ tanh(W_n (r ∘ h_{t−1}) + U_n x_t + b_n), r, z = σ(W h_{t−1} + U x_t + b)",
    source="Cho et al. 2014",
)
def gru_reset_before(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The GRU as first published, gates in the order r, z, n: the reset gate before the product.

    r, z = σ(a_r), σ(a_z), a = W_hh h_{t−1} + W_xh x_t + b_h, n = tanh(W_n (r ∘ h_{t−1}) + U_n x_t + b_n), h_t = z ∘ h_{t−1} + (1 − z) ∘ n.

    The candidate's share of J_t is diag((1−z) n') W_n [diag(r) + diag(h r (1−r)) W_r]: two products of weights, so there is no one matrix that
    the gates scale, and no affine-then-pointwise declaration. Where all gates are constant it is ``gru``.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: as for ``gru``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, update_bias=0.0)`` gives W_hh (3n, n), W_xh (3n, n_in), b_h (3n,);
        ``update_bias`` is b_h of z.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Cho et al. 2014, eqs. 5–8; biases as in later work.

    >>> import jax
    >>> from jaxrnn.cells.gated import gru_reset_before
    >>> gru_reset_before(2, 3).init_params(jax.random.key(0))["b_h"].shape
    (9,)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, update_bias: float | Array = 0.0) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 3, n_in, n_hidden, gain, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": _bias(3, 1, n_hidden, update_bias)}

    return Cell(init_params, zeros_like_hidden, _gru_reset_before_step, whole_state)


@register(
    equation="h_t = (1 − f) ∘ tanh(W_xn x_t + b_xn + f ∘ (W_hn h_{t−1} + b_h)) + f ∘ h_{t−1}, f = σ(W_hf h_{t−1} + W_xf x_t + b_xf)",
    source="Zhou, Wu, Zhang, Zhou 2016 as in flax",
)
def mgu(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The minimal gated unit in flax's variant, f, n stacked: one gate both keeps and resets, after the product.

    f = σ(W_hf h_{t−1} + W_xf x_t + b_xf), n = tanh(W_xn x_t + b_xn + f ∘ (W_hn h_{t−1} + b_h)), h_t = (1 − f) ∘ n + f ∘ h_{t−1}.

    The paper takes the gate before the product, and f and 1 − f the other way round: ``mgu_reset_before``. Here a unit that keeps its state
    (f → 1) also hears the others in full, there it does not.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: as for ``gru``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, forget_bias=1.0)`` gives W_hh (2n, n), W_xh (2n, n_in), b_x (2n,), b_h (n,);
        ``forget_bias`` is b_x of f, which keeps h_{t−1} where it is large.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Zhou, Wu, Zhang, Zhou 2016; the variant: flax.linen.MGUCell with ``reset_gate``.

    >>> import jax
    >>> from jaxrnn.cells.gated import mgu
    >>> mgu(2, 3).init_params(jax.random.key(0))["b_x"].tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, forget_bias: float | Array = 1.0) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 2, n_in, n_hidden, gain, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_x": _bias(2, 0, n_hidden, forget_bias), "b_h": jnp.zeros(n_hidden)}

    return Cell(init_params, zeros_like_hidden, _MGU, whole_state)


@register(
    equation="h_t = (1 − f) ∘ h_{t−1} + f ∘ tanh(W_n (f ∘ h_{t−1}) + U_n x_t + b_n), f = σ(W_f h_{t−1} + U_f x_t + b_f)",
    source="Zhou, Wu, Zhang, Zhou 2016",
)
def mgu_reset_before(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The minimal gated unit as published, f, n stacked: what is renewed is also what is heard, before the product.

    f = σ(a_f), a = W_hh h_{t−1} + W_xh x_t + b_h, n = tanh(W_n (f ∘ h_{t−1}) + U_n x_t + b_n), h_t = (1 − f) ∘ h_{t−1} + f ∘ n.

    Where f → 0 the Jacobian is the identity: negative biases of f make it remember. No affine-then-pointwise declaration, as ``gru_reset_before``.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: as for ``gru``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, forget_bias=1.0)`` gives W_hh (2n, n), W_xh (2n, n_in), b_h (2n,);
        ``forget_bias``, which the paper sets large, is b_h of f.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Zhou, Wu, Zhang, Zhou 2016.

    >>> import jax
    >>> from jaxrnn.cells.gated import mgu_reset_before
    >>> mgu_reset_before(2, 3).init_params(jax.random.key(0))["W_xh"].shape
    (6, 2)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, forget_bias: float | Array = 1.0) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 2, n_in, n_hidden, gain, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": _bias(2, 0, n_hidden, forget_bias)}

    return Cell(init_params, zeros_like_hidden, _mgu_reset_before_step, whole_state)


@register(
    equation="h_t = u ∘ h_{t−1} + (1 − u) ∘ e_t, u = σ(W_hh h_{t−1} + W_eh e_t + b_h), e_t = tanh(W_xh x_t + b_e)",
    source="Chen 2017 (MinimalRNN)",
)
def minimal_rnn(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The MinimalRNN: states are weighted means of embedded inputs, under one gate.

    e_t = tanh(W_xh x_t + b_e), u = σ(W_hh h_{t−1} + W_eh e_t + b_h), h_t = u ∘ h_{t−1} + (1 − u) ∘ e_t.

    J_t = diag(u) + diag((h_{t−1} − e_t) u (1−u)) W_hh: as |h| ≤ 1 the second part is at most ‖W_hh‖₂/2. As u → 1 it is the identity.

    Args:
        n_in: size of an input; x may also be None, as an input of zeros.
        n_hidden: n; the state is h (n,).
        init: how W_hh and W_eh start: ``orthogonal``, ``gaussian``, ``identity``, ``uniform``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, update_bias=0.0)`` gives W_hh (n, n), W_eh (n, n), W_xh (n, n_in), b_h (n,), b_e (n,);
        ``update_bias`` is b_h, which keeps h_{t−1} where it is large.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Chen 2017; Chen, Pennington, Schoenholz 2018, who give its critical surface.

    >>> import jax
    >>> from jaxrnn.cells.gated import minimal_rnn
    >>> sorted(minimal_rnn(2, 3).init_params(jax.random.key(0)))
    ['W_eh', 'W_hh', 'W_xh', 'b_e', 'b_h']
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, update_bias: float | Array = 0.0) -> dict[str, Array]:
        key_hh, key_eh, key_xh = jax.random.split(key, 3)
        w_hh, w_eh = (recurrent(k, n_hidden, n_hidden, gain) for k in (key_hh, key_eh))
        w_xh = initializers.gaussian(key_xh, n_hidden, n_in, input_gain)
        return {"W_hh": w_hh, "W_eh": w_eh, "W_xh": w_xh, "b_h": _bias(1, 0, n_hidden, update_bias), "b_e": jnp.zeros(n_hidden)}

    return Cell(init_params, zeros_like_hidden, _MINIMAL, whole_state)


@register(
    equation="h_t = g ∘ h_{t−1} + (1 − g) ∘ tanh(a_c), g = σ(a_g), a = W_hh h_{t−1} + W_xh x_t + b_h",
    source="Collins, Sohl-Dickstein, Sussillo 2017",
)
def ugrnn(n_in: int, n_hidden: int, init: str = "orthogonal") -> Cell:
    """The update-gate RNN, c, g stacked: a vanilla RNN with one gate that keeps.

    c = tanh(a_c), g = σ(a_g), a = W_hh h_{t−1} + W_xh x_t + b_h, h_t = g ∘ h_{t−1} + (1 − g) ∘ c.

    J_t = diag(g) + diag((1−g) c') W_c + diag((h_{t−1} − c) g (1−g)) W_g: as g → 1 the identity.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: as for ``gru``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, update_bias=1.0)`` gives W_hh (2n, n), W_xh (2n, n_in), b_h (2n,);
        ``update_bias`` is b_h of g, the paper's b^fg.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Collins, Sohl-Dickstein, Sussillo 2017, section 2.

    >>> import jax
    >>> from jaxrnn.cells.gated import ugrnn
    >>> ugrnn(1, 2).init_params(jax.random.key(0))["b_h"].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, update_bias: float | Array = 1.0) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 2, n_in, n_hidden, gain, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": _bias(2, 1, n_hidden, update_bias)}

    return Cell(init_params, zeros_like_hidden, _UGRNN, whole_state)


def _bias(gates: int, at: int, n: int, value: float | Array) -> Array:
    """(gates n,), zero but for the gate at that place."""
    return jnp.zeros(gates * n).at[at * n : (at + 1) * n].set(value)


def _from_input(params: PyTree, bias: str, x: Array | None) -> Array:
    return params[bias] if x is None else params["W_xh"] @ x + params[bias]


def _gru_affine(params: PyTree, h: Array, x: Array | None) -> tuple[Array, Array, Array]:
    return h, _from_input(params, "b_x", x), params["W_hh"] @ h + params["b_h"]


def _gru_pointwise(params: PyTree, z: tuple[Array, Array, Array]) -> Array:
    h, (r_x, z_x, n_x), (r_h, z_h, n_h) = z[0], jnp.split(z[1], 3), jnp.split(z[2], 3)
    keep = jax.nn.sigmoid(z_x + z_h)
    return (1 - keep) * jnp.tanh(n_x + jax.nn.sigmoid(r_x + r_h) * n_h) + keep * h


def _gru_reset_before_step(params: PyTree, h: Array, x: Array | None) -> Array:
    (r_x, z_x, n_x), (w_r, w_z, w_n) = jnp.split(_from_input(params, "b_h", x), 3), jnp.split(params["W_hh"], 3)
    keep = jax.nn.sigmoid(z_x + w_z @ h)
    return keep * h + (1 - keep) * jnp.tanh(n_x + w_n @ (jax.nn.sigmoid(r_x + w_r @ h) * h))


def _mgu_affine(params: PyTree, h: Array, x: Array | None) -> tuple[Array, Array, Array]:
    return h, _from_input(params, "b_x", x), params["W_hh"] @ h


def _mgu_pointwise(params: PyTree, z: tuple[Array, Array, Array]) -> Array:
    h, (f_x, n_x), (f_h, n_h) = z[0], jnp.split(z[1], 2), jnp.split(z[2], 2)
    keep = jax.nn.sigmoid(f_x + f_h)
    return (1 - keep) * jnp.tanh(n_x + keep * (n_h + params["b_h"])) + keep * h


def _mgu_reset_before_step(params: PyTree, h: Array, x: Array | None) -> Array:
    (f_x, n_x), (w_f, w_n) = jnp.split(_from_input(params, "b_h", x), 2), jnp.split(params["W_hh"], 2)
    renew = jax.nn.sigmoid(f_x + w_f @ h)
    return (1 - renew) * h + renew * jnp.tanh(n_x + w_n @ (renew * h))


def _minimal_affine(params: PyTree, h: Array, x: Array | None) -> tuple[Array, Array, Array]:
    embedded = jnp.tanh(_from_input(params, "b_e", x))
    return h, embedded, params["W_hh"] @ h + params["W_eh"] @ embedded + params["b_h"]


def _minimal_pointwise(params: PyTree, z: tuple[Array, Array, Array]) -> Array:
    h, embedded, a = z
    keep = jax.nn.sigmoid(a)
    return keep * h + (1 - keep) * embedded


def _ugrnn_affine(params: PyTree, h: Array, x: Array | None) -> tuple[Array, Array]:
    return h, preactivation(params, h, x)


def _ugrnn_pointwise(params: PyTree, z: tuple[Array, Array]) -> Array:
    h, (c, g) = z[0], jnp.split(z[1], 2)
    keep = jax.nn.sigmoid(g)
    return keep * h + (1 - keep) * jnp.tanh(c)


_GRU = Structure(_gru_affine, _gru_pointwise, gated=True)
_MGU = Structure(_mgu_affine, _mgu_pointwise, gated=True)
_MINIMAL = Structure(_minimal_affine, _minimal_pointwise, gated=True)
_UGRNN = Structure(_ugrnn_affine, _ugrnn_pointwise, gated=True)
