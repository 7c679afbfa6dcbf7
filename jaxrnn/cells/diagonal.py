"""Recurrences that are linear and diagonal in the state: each unit forgets at a rate of its own, which the input may set."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, Linear, PyTree, require_sizes
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import whole_state


@register(
    equation="h_t = λ ∘ h_{t−1} + γ ∘ (B x_t), λ = exp(−e^ν + i e^θ) complex, γ = √(1 − |λ|²), y_t = Re(C h_t) + D x_t", source="Orvieto et al. 2023"
)
def lru(n_in: int, n_hidden: int, r_min: float = 0.0, r_max: float = 1.0, max_phase: float = 2 * math.pi) -> Cell:
    """The linear recurrent unit: a complex diagonal, stable by its parametrisation, on a ring at the start.

    h_t = λ ∘ h_{t−1} + γ ∘ (B x_t), λ = exp(−exp(ν) + i exp(θ)), y_t = Re(C h_t) + D x_t.

    J_t = diag(λ) whatever the input: the exponents are ln|λ| = −e^ν < 0, each twice in real coordinates.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n, number of complex units; the state is h (n,) complex, of real dimension 2n.
        r_min, r_max: the ring, 0 ≤ r_min < r_max ≤ 1, that |λ| starts on, uniform in area.
        max_phase: arg λ starts uniform in [0, max_phase].

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives nu_log, theta_log, gamma_log (n,), B_re, B_im (n, n_in), C_re, C_im (n, n), D (n, n_in).
        The output is real (n,).

    Raises:
        ValueError: no ring, a size below 1.

    Source: Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De 2023, section 3 and appendix A.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.lru(2, 3)
    >>> cell.init_state(cell.init_params(jax.random.key(0))).dtype.kind
    'c'
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    if not 0 <= r_min < r_max <= 1:
        raise ValueError(f"r_min={r_min}, r_max={r_max} must make a ring: 0 ≤ r_min < r_max ≤ 1")

    def init_params(key: Array, input_gain: float | Array = 1.0) -> dict[str, Array]:
        keys = jax.random.split(key, 7)
        square = jax.random.uniform(keys[0], (n_hidden,), minval=r_min**2, maxval=r_max**2)
        nu = -0.5 * jnp.log(square)
        phase = jax.random.uniform(keys[1], (n_hidden,), minval=1e-6, maxval=max_phase)
        b = [initializers.gaussian(k, n_hidden, n_in, input_gain / math.sqrt(2)) for k in keys[2:4]]
        c = [initializers.gaussian(k, n_hidden, n_hidden) for k in keys[4:6]]
        return {
            "nu_log": jnp.log(nu),
            "theta_log": jnp.log(phase),
            "gamma_log": 0.5 * jnp.log(-jnp.expm1(-2 * nu)),
            "B_re": b[0],
            "B_im": b[1],
            "C_re": c[0],
            "C_im": c[1],
            "D": initializers.gaussian(keys[6], n_hidden, n_in),
        }

    return Cell(init_params, _lru_state, _LRU, _real_part)


@register(
    equation="h_t = e^{Λ Δ} ∘ h_{t−1} + ((e^{Λ Δ} − 1)/Λ) ∘ (B x_t), Λ complex, Re Λ < 0, y_t = 2 Re(C h_t) + D ∘ W x_t",
    source="Smith, Warrington, Linderman 2023 (S5)",
)
def s5(n_in: int, n_hidden: int, dt_min: float = 0.001, dt_max: float = 0.1) -> Cell:
    """The simplified state space layer: a continuous diagonal system, held constant over steps of learned length.

    h_t = e^{ΛΔ} ∘ h_{t−1} + ((e^{ΛΔ} − 1)/Λ) ∘ (B x_t), y_t = 2 Re(C h_t) + D x_t; Λ = −exp(log_decay) + i ω.

    J_t = diag(e^{ΛΔ}) whatever the input: the exponents are Δ Re Λ < 0, each twice. Λ starts at the eigenvalues of the normal part of
    HiPPO-LegS, Re Λ = −1/2, one of each conjugate pair.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n, number of complex units; the state is h (n,) complex, of real dimension 2n.
        dt_min, dt_max: Δ starts log-uniform between them.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives log_decay, omega, log_dt (n,), B_re, B_im (n, n_in), C_re, C_im (n, n), D (n, n_in).

    Raises:
        ValueError: a size below 1, or not 0 < dt_min < dt_max.

    Source: Smith, Warrington, Linderman 2023; the spectrum: Gu, Goel, Ré 2022, appendix C.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells
    >>> params = cells.s5(2, 4).init_params(jax.random.key(0))
    >>> bool(jnp.allclose(params["log_decay"], jnp.log(0.5), atol=1e-5))
    True
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    if not 0 < dt_min < dt_max:
        raise ValueError(f"dt_min={dt_min}, dt_max={dt_max} must be 0 < dt_min < dt_max")

    def init_params(key: Array, input_gain: float | Array = 1.0) -> dict[str, Array]:
        keys = jax.random.split(key, 6)
        spectrum = hippo_spectrum(n_hidden)
        b = [initializers.gaussian(k, n_hidden, n_in, input_gain / math.sqrt(2)) for k in keys[:2]]
        c = [initializers.gaussian(k, n_hidden, n_hidden, 1 / math.sqrt(2)) for k in keys[2:4]]
        return {
            "log_decay": jnp.log(jnp.asarray(-spectrum.real, b[0].dtype)),
            "omega": jnp.asarray(spectrum.imag, b[0].dtype),
            "log_dt": jax.random.uniform(keys[4], (n_hidden,), minval=math.log(dt_min), maxval=math.log(dt_max)),
            "B_re": b[0],
            "B_im": b[1],
            "C_re": c[0],
            "C_im": c[1],
            "D": initializers.gaussian(keys[5], n_hidden, n_in),
        }

    return Cell(init_params, _lru_state, _S5, _s5_output)


def hippo_spectrum(n: int) -> np.ndarray:
    """The n eigenvalues with positive imaginary part of the normal part of HiPPO-LegS of size 2n: real parts −1/2."""
    k = np.sqrt(2 * np.arange(2 * n) + 1.0)
    skew = 0.5 * np.outer(k, k) * (np.tri(2 * n, k=-1).T - np.tri(2 * n, k=-1))
    frequencies = np.linalg.eigvalsh(-1j * skew)
    return -0.5 + 1j * np.sort(frequencies)[n:]


@register(equation="z_t = σ(W_z x_t + b_z), h_t = (1 − z_t) ∘ h_{t−1} + z_t ∘ (W_h x_t + b_h)", source="Feng et al. 2024 (minGRU)")
def mingru(n_in: int, n_hidden: int) -> Cell:
    """The GRU of which only what is linear in the state is left: gate and candidate see the input alone.

    z_t = σ(W_z x_t + b_z), h_t = (1 − z_t) ∘ h_{t−1} + z_t ∘ (W_h x_t + b_h).

    J_t = diag(1 − z_t): the exponents are the means of ln(1 − z), −ln 2 at zero pre-activation.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0, update_bias=0.0)`` gives W_xh (2n, n_in) and b_h (2n,), z first; a negative
        ``update_bias`` keeps longer.

    Raises:
        ValueError: a size below 1.

    Source: Feng, Tung, Ahmed, Bengio, Hajimirsadeghi 2024, section 3.1.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.mingru(2, 3).init_params(jax.random.key(0))["W_xh"].shape
    (6, 2)
    """
    return _gated_by_input(n_in, n_hidden, 2, _MINGRU, "update_bias")


@register(
    equation="f, i = σ(W_f x_t + b_f), σ(W_i x_t + b_i), h_t = (f ∘ h_{t−1} + i ∘ (W_h x_t + b_h)) / (f + i)", source="Feng et al. 2024 (minLSTM)"
)
def minlstm(n_in: int, n_hidden: int) -> Cell:
    """The LSTM of which only what is linear in the state is left, its two gates normalised to sum to 1.

    f, i = σ(W_f x_t + b_f), σ(W_i x_t + b_i), h_t = f/(f + i) ∘ h_{t−1} + i/(f + i) ∘ (W_h x_t + b_h).

    J_t = diag(f / (f + i)): the exponents are the means of its ln, −ln 2 at zero pre-activation.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0, forget_bias=0.0)`` gives W_xh (3n, n_in) and b_h (3n,), in the order f, i, h.

    Raises:
        ValueError: a size below 1.

    Source: Feng, Tung, Ahmed, Bengio, Hajimirsadeghi 2024, section 3.2.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.minlstm(2, 3).init_params(jax.random.key(0))["W_xh"].shape
    (9, 2)
    """
    return _gated_by_input(n_in, n_hidden, 3, _MINLSTM, "forget_bias")


@register(
    equation="r, i = σ(W_r u_t + b_r), σ(W_i u_t + b_i), a = σ(Λ)^{8 r}, h_t = a ∘ h_{t−1} + √(1 − a²) ∘ (i ∘ u_t), u_t = W_xh x_t",
    source="De et al. 2024 (Griffin's RG-LRU)",
)
def rglru(n_in: int, n_hidden: int) -> Cell:
    """The real-gated linear recurrent unit of Griffin.

    u_t = W_xh x_t, r = σ(W_r u_t + b_r), i = σ(W_i u_t + b_i), ln a = −8 softplus(−Λ) ∘ r, h_t = a ∘ h_{t−1} + √(1 − a²) ∘ (i ∘ u_t).

    J_t = diag(a_t), 0 < a_t < 1: the exponents are the means of ln a, at r = 1/2 half of ln a_max.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives Λ (n,) with σ(Λ)⁸ uniform in [0.9, 0.999], W_gates (2n, n) and b_gates (2n,), r
        first, W_xh (n, n_in); ``gain`` scales W_gates.

    Raises:
        ValueError: a size below 1.

    Source: De et al. 2024, section 2.4; c = 8 and the initialisation as theirs.

    >>> import jax
    >>> from jaxrnn import cells
    >>> params = cells.rglru(2, 3).init_params(jax.random.key(0))
    >>> largest = jax.nn.sigmoid(params["Lambda"]) ** 8
    >>> bool((0.9 <= largest).all() and (largest <= 0.999).all())
    True
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, Array]:
        key_a, key_g, key_x = jax.random.split(key, 3)
        a = jax.random.uniform(key_a, (n_hidden,), minval=0.9, maxval=0.999) ** (1 / _C)
        return {
            "Lambda": jnp.log(a) - jnp.log1p(-a),
            "W_gates": initializers.gaussian(key_g, 2 * n_hidden, n_hidden, gain),
            "b_gates": jnp.zeros(2 * n_hidden, a.dtype),
            "W_xh": initializers.gaussian(key_x, n_hidden, n_in, input_gain),
        }

    return Cell(init_params, lambda params: jnp.zeros_like(params["Lambda"]), _RGLRU, whole_state)


@register(
    equation="Δ = softplus(W_Δ u_t + b_Δ), S_t = e^{Δ A} ∘ S_{t−1} + (Δ ∘ u_t)(W_B u_t)ᵀ, y_t = S_t W_C u_t + D ∘ u_t, u_t = W_xh x_t",
    source="Gu, Dao 2023 (Mamba's S6)",
)
def selective_ssm(n_in: int, n_hidden: int, n_state: int | None = None) -> Cell:
    """The selective state space model at the heart of Mamba: every channel a diagonal system whose clock the input sets.

    u_t = W_xh x_t, Δ = softplus(W_Δ u_t + b_Δ), S_t = e^{Δ A} ∘ S_{t−1} + (Δ ∘ u_t)(W_B u_t)ᵀ, y_t = S_t (W_C u_t) + D ∘ u_t, A = −e^{log A}.

    J_t is diagonal with entries e^{Δ_t A} in (0, 1): the exponents are A times the mean of Δ.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n, number of channels; the state is S (n, m), the output y (n,).
        n_state: m, states of a channel; min(n, 16) where None.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives A_log (n, m) = ln 1…m, W_dt (n, n), b_dt (n,) with Δ log-uniform in [0.001, 0.1],
        W_B, W_C (m, n), D (n,) of ones, W_xh (n, n_in).

    Raises:
        ValueError: a size below 1.

    Source: Gu, Dao 2023, algorithm 2, Euler's rule for B as in their code; the projections of x are dense here, without low rank and convolution.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.selective_ssm(2, 3, 5)
    >>> cell.init_state(cell.init_params(jax.random.key(0))).shape
    (3, 5)
    """
    m = min(n_hidden, 16) if n_state is None else n_state
    require_sizes(n_in=n_in, n_hidden=n_hidden, n_state=m)

    def init_params(key: Array, input_gain: float | Array = 1.0) -> dict[str, Array]:
        keys = jax.random.split(key, 5)
        dt = jnp.exp(jax.random.uniform(keys[0], (n_hidden,), minval=math.log(0.001), maxval=math.log(0.1)))
        return {
            "A_log": jnp.broadcast_to(jnp.log(jnp.arange(1, m + 1, dtype=dt.dtype)), (n_hidden, m)),
            "W_dt": initializers.gaussian(keys[1], n_hidden, n_hidden, 0.1),
            "b_dt": dt + jnp.log(-jnp.expm1(-dt)),  # softplus of it is dt
            "W_B": initializers.gaussian(keys[2], m, n_hidden),
            "W_C": initializers.gaussian(keys[3], m, n_hidden),
            "D": jnp.ones(n_hidden, dt.dtype),
            "W_xh": initializers.gaussian(keys[4], n_hidden, n_in, input_gain),
        }

    return Cell(init_params, lambda params: jnp.zeros_like(params["A_log"]), _SELECTIVE, _selective_output)


_C = 8.0


def _gated_by_input(n_in: int, n_hidden: int, gates: int, step: Linear, bias: str) -> Cell:
    require_sizes(n_in=n_in, n_hidden=n_hidden)

    def init_params(key: Array, input_gain: float | Array = 1.0, **biases: float | Array) -> dict[str, Array]:
        if set(biases) - {bias}:
            raise TypeError(f"unknown scales {sorted(set(biases) - {bias})}; allowed are input_gain and {bias}")
        w_xh = initializers.gaussian(key, gates * n_hidden, n_in, input_gain)
        return {"W_xh": w_xh, "b_h": jnp.zeros(gates * n_hidden, w_xh.dtype).at[:n_hidden].set(biases.get(bias, 0.0))}

    def init_state(params: PyTree) -> Array:
        return jnp.zeros(params["b_h"].shape[0] // gates, params["b_h"].dtype)

    return Cell(init_params, init_state, step, whole_state)


def _complex(params: PyTree, name: str) -> Array:
    return jax.lax.complex(params[f"{name}_re"], params[f"{name}_im"])


def _lru_state(params: PyTree) -> Array:
    zero = jnp.zeros(params["B_re"].shape[0], params["B_re"].dtype)
    return jax.lax.complex(zero, zero)


def _lru_coefficients(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    nu, theta = jnp.exp(params["nu_log"]), jnp.exp(params["theta_log"])
    transition = jax.lax.complex(jnp.exp(-nu) * jnp.cos(theta), jnp.exp(-nu) * jnp.sin(theta))
    if x is None:
        return transition, jnp.zeros_like(transition)
    gamma = jnp.exp(params["gamma_log"])
    return transition, jax.lax.complex(gamma * (params["B_re"] @ x), gamma * (params["B_im"] @ x))


def _real_part(params: PyTree, h: Array, x: Array | None) -> Array:
    """Re(C h) + D x."""
    y = params["C_re"] @ h.real - params["C_im"] @ h.imag
    return y if x is None else y + params["D"] @ x


def _s5_coefficients(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    rate, dt = jax.lax.complex(-jnp.exp(params["log_decay"]), params["omega"]), jnp.exp(params["log_dt"])
    turned = rate * dt.astype(rate.dtype)
    transition = jnp.exp(turned)
    if x is None:
        return transition, jnp.zeros_like(transition)
    return transition, jnp.expm1(turned) / rate * jax.lax.complex(params["B_re"] @ x, params["B_im"] @ x)


def _s5_output(params: PyTree, h: Array, x: Array | None) -> Array:
    y = 2 * (params["C_re"] @ h.real - params["C_im"] @ h.imag)
    return y if x is None else y + params["D"] @ x


def _from_input(params: PyTree, x: Array | None) -> Array:
    return params["b_h"] if x is None else params["W_xh"] @ x + params["b_h"]


def _mingru_coefficients(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    gate, candidate = jnp.split(_from_input(params, x), 2)
    return jax.nn.sigmoid(-gate), jax.nn.sigmoid(gate) * candidate


def _minlstm_coefficients(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    forget, write, candidate = jnp.split(_from_input(params, x), 3)
    # σ(f)/(σ(f) + σ(i)) = σ(ln σ(f) − ln σ(i)): safe where both gates are closed.
    keep = jax.nn.log_sigmoid(forget) - jax.nn.log_sigmoid(write)
    return jax.nn.sigmoid(keep), jax.nn.sigmoid(-keep) * candidate


def _rglru_coefficients(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    u = jnp.zeros_like(params["Lambda"]) if x is None else params["W_xh"] @ x
    r, i = jnp.split(jax.nn.sigmoid(params["W_gates"] @ u + params["b_gates"]), 2)
    log_a = -_C * jax.nn.softplus(-params["Lambda"]) * r
    left = -jnp.expm1(2 * log_a)
    # Where r underflows nothing is forgotten and nothing written; √ has no derivative there.
    return jnp.exp(log_a), jnp.where(left == 0, 0, jnp.sqrt(jnp.where(left == 0, 1, left))) * i * u


def _channels(params: PyTree, x: Array | None) -> Array:
    return jnp.zeros_like(params["D"]) if x is None else params["W_xh"] @ x


def _selective_coefficients(params: PyTree, x: Array | None) -> tuple[Array, Array]:
    u = _channels(params, x)
    dt = jax.nn.softplus(params["W_dt"] @ u + params["b_dt"])
    return jnp.exp(-dt[:, None] * jnp.exp(params["A_log"])), jnp.outer(dt * u, params["W_B"] @ u)


def _selective_output(params: PyTree, state: Array, x: Array | None) -> Array:
    u = _channels(params, x)
    return state @ (params["W_C"] @ u) + params["D"] * u


_LRU = Linear(_lru_coefficients)
_S5 = Linear(_s5_coefficients)
_MINGRU = Linear(_mingru_coefficients)
_MINLSTM = Linear(_minlstm_coefficients)
_RGLRU = Linear(_rglru_coefficients)
_SELECTIVE = Linear(_selective_coefficients)
