"""Recurrences made as steps of a differential equation whose flow neither grows nor shrinks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes, zeros_like_hidden
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import preactivation, whole_state


class CoRNNState(NamedTuple):
    """Oscillators: where they are and how fast."""

    y: Array  # (n,) position, the output
    z: Array  # (n,) velocity, positions per unit of time


class LEMState(NamedTuple):
    """The two memories of an LEM."""

    y: Array  # (n,) the output
    z: Array  # (n,)


@register(
    equation="h_t = h_{t−1} + ε tanh((W_hh − W_hhᵀ − γ I) h_{t−1} + W_xh x_t + b_h)",
    source="Chang, Chen, Haber, Chi 2019",
)
def antisymmetric(n_in: int, n_hidden: int, init: str = "gaussian", epsilon: float = 0.1, gamma: float = 0.1) -> Cell:
    """The antisymmetric RNN: a step of Euler's method for an equation that only rotates.

    h_t = h_{t−1} + ε tanh(M h_{t−1} + W_xh x_t + b_h), M = W_hh − W_hhᵀ − γ I.

    J_t = I + ε diag(tanh') M. At tanh' = 1 its eigenvalues are 1 + ε(iω − γ), ±iω those of W_hh − W_hhᵀ, of modulus
    √((1 − εγ)² + ε²ω²) > 1 at γ = 0: it is an isometry only to O(ε²), and γ ≥ about εω²/2 is what keeps it from growing.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: how W_hh starts: ``gaussian``, ``orthogonal``, ``uniform``; ``identity`` and ``positive_definite`` have no antisymmetric part.
        epsilon: ε > 0, the step.
        gamma: γ ≥ 0, the damping.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), of whose n² numbers n(n − 1)/2 count, W_xh (n, n_in),
        b_h (n,) zero, and ``constants`` with ``epsilon`` and ``gamma``, numbers that no gradient reaches.

    Raises:
        ValueError: unknown init, epsilon not positive, a negative gamma, a size below 1.

    Source: Chang, Chen, Haber, Chi 2019.

    >>> import jax
    >>> from jaxrnn.cells.ode import antisymmetric
    >>> params = antisymmetric(2, 3, epsilon=0.5).init_params(jax.random.key(0))
    >>> params["W_hh"].shape, float(params["constants"]["epsilon"])
    ((3, 3), 0.5)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    _require_signs(positive={"epsilon": epsilon}, nonnegative={"gamma": gamma})
    return Cell(_antisymmetric_params(1, n_in, n_hidden, init, epsilon, gamma), zeros_like_hidden, _ANTISYMMETRIC, whole_state)


@register(
    equation="h_t = h_{t−1} + ε σ(M h_{t−1} + V_z x_t + b_z) ∘ tanh(M h_{t−1} + V_h x_t + b), M = W_hh − W_hhᵀ − γ I",
    source="Chang, Chen, Haber, Chi 2019",
)
def gated_antisymmetric(n_in: int, n_hidden: int, init: str = "gaussian", epsilon: float = 0.1, gamma: float = 0.1) -> Cell:
    """The antisymmetric RNN with a gate on its step, which shares the recurrent matrix, z, h stacked.

    h_t = h_{t−1} + ε σ(M h_{t−1} + V_z x_t + b_z) ∘ tanh(M h_{t−1} + V_h x_t + b), M = W_hh − W_hhᵀ − γ I.

    J_t = I + ε diag(d) M with d = σ tanh' + σ' tanh, in (−¼, 1¼): still a diagonal times an almost antisymmetric matrix.

    Args:
        n_in, n_hidden, init, epsilon, gamma: as for ``antisymmetric``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), W_xh (2n, n_in), V_z over V_h, b_h (2n,) zero, and
        ``constants`` with ``epsilon`` and ``gamma``, numbers that no gradient reaches.

    Raises:
        ValueError: as for ``antisymmetric``.

    Source: Chang, Chen, Haber, Chi 2019.

    >>> import jax
    >>> from jaxrnn.cells.ode import gated_antisymmetric
    >>> gated_antisymmetric(2, 3).init_params(jax.random.key(0))["W_xh"].shape
    (6, 2)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    _require_signs(positive={"epsilon": epsilon}, nonnegative={"gamma": gamma})
    return Cell(_antisymmetric_params(2, n_in, n_hidden, init, epsilon, gamma), zeros_like_hidden, _GATED_ANTISYMMETRIC, whole_state)


@register(
    equation="z_t = z_{t−1} + Δt (tanh(W_hh y_{t−1} + W_zh z_{t−1} + W_xh x_t + b_h) − γ y_{t−1} − ε z_{t−1}), y_t = y_{t−1} + Δt z_t",
    source="Rusch, Mishra 2021 (coRNN)",
)
def cornn(n_in: int, n_hidden: int, init: str = "uniform", dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7) -> Cell:
    """The coupled oscillatory RNN: forced, damped oscillators y'' = tanh(W y + 𝒲 y' + V x + b) − γ y − ε y'.

    z_t = z_{t−1} + Δt (tanh(W_hh y_{t−1} + W_zh z_{t−1} + W_xh x_t + b_h) − γ y_{t−1} − ε z_{t−1}), y_t = y_{t−1} + Δt z_t.

    With D = diag(tanh'), P = Δt (D W_hh − γ I), Q = (1 − Δt ε) I + Δt D W_zh: J_t = [[I + Δt P, Δt Q], [P, Q]], so det J_t = det Q and
    ‖J_t‖_∞ ≤ max(s, 1 + Δt s), s = Δt (‖W_hh‖_∞ + γ + ‖W_zh‖_∞) + |1 − Δt ε|: 1 + O(Δt), the paper's bound for this variant.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is ``CoRNNState(y, z)``, of real dimension 2n; the output is y.
        init: how W_hh and W_zh start: ``uniform``, ``gaussian``, ``orthogonal``, ``identity``.
        dt: Δt > 0, the step.
        gamma: γ ≥ 0, the squared frequency of a free oscillator.
        epsilon: ε ≥ 0, its damping. The three defaults are the published ones of sequential MNIST.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), W_zh (n, n), W_xh (n, n_in), at gain 1 from
        U(±1/√(2n + n_in)) as the published code, b_h (n,) zero, and ``constants`` with ``dt``, ``gamma``, ``epsilon``, that no gradient reaches.

    Raises:
        ValueError: unknown init, dt not positive, a negative gamma or epsilon, a size below 1.

    Source: Rusch, Mishra 2021, eq. 3 with z_{t−1} in the damping, as their code; bound: proof of their proposition 3.2.

    >>> import jax
    >>> from jaxrnn.cells.ode import cornn
    >>> cell = cornn(2, 3)
    >>> [leaf.shape for leaf in cell.init_state(cell.init_params(jax.random.key(0)))]
    [(3,), (3,)]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    _require_signs(positive={"dt": dt}, nonnegative={"gamma": gamma, "epsilon": epsilon})
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_hh, key_zh, key_xh = jax.random.split(key, 3)
        fan_in = float(2 * n_hidden + n_in)
        w_hh, w_zh = (recurrent(k, n_hidden, n_hidden, gain * (n_hidden / fan_in) ** 0.5) for k in (key_hh, key_zh))
        w_xh = initializers.uniform(key_xh, n_hidden, n_in, input_gain * (n_in / fan_in) ** 0.5)
        held = _constants(w_hh, dt=dt, gamma=gamma, epsilon=epsilon)
        return {"W_hh": w_hh, "W_zh": w_zh, "W_xh": w_xh, "b_h": jnp.zeros(n_hidden, w_hh.dtype), "constants": held}

    return Cell(init_params, _cornn_zeros, _CORNN, _position)


@register(
    equation="z_t = (1 − δ) ∘ z_{t−1} + δ ∘ tanh(a_z), y_t = (1 − δ') ∘ y_{t−1} + δ' ∘ tanh(W_zh z_t + …), δ, δ' = Δt σ(a), a = W_hh y_{t−1} + …",
    source="Rusch, Mishra, Erichson, Mahoney 2022 (LEM)",
)
def lem(n_in: int, n_hidden: int, init: str = "uniform", dt: float = 1.0) -> Cell:
    """The long expressive memory: two leaky memories whose steps are learned, δ', δ, z, y stacked.

    With a = W_hh y_{t−1} + U x_t + b of the first three, a_y = W_zh z_t + U_y x_t + b_y: δ' = Δt σ(a_δ'), δ = Δt σ(a_δ),
    z_t = (1 − δ) ∘ z_{t−1} + δ ∘ tanh(a_z), y_t = (1 − δ') ∘ y_{t−1} + δ' ∘ tanh(a_y).

    J_t = I + O(Δt): where both steps are small the state stays. For Δt ≤ 1 the states stay in [−1, 1] once there. y_t hears the new z_t
    through weights, two products in a row: no affine-then-pointwise declaration.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is ``LEMState(y, z)``, of real dimension 2n; the output is y.
        init: how each recurrent block starts: ``uniform``, ``gaussian``, ``orthogonal``, ``identity``.
        dt: Δt > 0, the largest step.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (3n, n), W_zh (n, n), W_xh (4n, n_in), at gain 1 all from U(±1/√n)
        as the published code, b_h (4n,) zero, and ``constants`` with ``dt``, that no gradient reaches.

    Raises:
        ValueError: unknown init, dt not positive, a size below 1.

    Source: Rusch, Mishra, Erichson, Mahoney 2022, eq. 3.

    >>> import jax
    >>> from jaxrnn.cells.ode import lem
    >>> lem(2, 3).init_params(jax.random.key(0))["b_h"].shape
    (12,)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    _require_signs(positive={"dt": dt}, nonnegative={})
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        *keys, key_zh, key_xh = jax.random.split(key, 5)
        w_hh = jnp.concatenate([recurrent(k, n_hidden, n_hidden, gain) for k in keys])
        w_xh = initializers.uniform(key_xh, 4 * n_hidden, n_in, input_gain * (n_in / n_hidden) ** 0.5)
        weights = {"W_hh": w_hh, "W_zh": recurrent(key_zh, n_hidden, n_hidden, gain), "W_xh": w_xh}
        return {**weights, "b_h": jnp.zeros(4 * n_hidden, w_hh.dtype), "constants": _constants(w_hh, dt=dt)}

    return Cell(init_params, _lem_zeros, _lem_step, _position)


def _require_signs(positive: dict[str, float], nonnegative: dict[str, float]) -> None:
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be positive")
    for name, value in nonnegative.items():
        if not value >= 0:
            raise ValueError(f"{name}={value} must not be negative")


def _constants(like: Array, **values: float) -> dict[str, Array]:
    return {name: jnp.asarray(value, like.dtype) for name, value in values.items()}


def _antisymmetric_params(gates: int, n_in: int, n_hidden: int, init: str, epsilon: float, gamma: float) -> Callable[..., dict[str, PyTree]]:
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_hh, key_xh = jax.random.split(key)
        w_hh = recurrent(key_hh, n_hidden, n_hidden, gain)
        w_xh = initializers.gaussian(key_xh, gates * n_hidden, n_in, input_gain)
        held = _constants(w_hh, epsilon=epsilon, gamma=gamma)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": jnp.zeros(gates * n_hidden, w_hh.dtype), "constants": held}

    return init_params


def _antisymmetric_prepare(params: PyTree) -> dict[str, PyTree]:
    w, constants = params["W_hh"], jax.lax.stop_gradient(params["constants"])
    rotation = w - w.T - constants["gamma"] * jnp.eye(w.shape[0], dtype=w.dtype)
    return {"M": rotation, "W_xh": params["W_xh"], "b_h": params["b_h"], "epsilon": constants["epsilon"]}


def _antisymmetric_affine(params: PyTree, h: Array, x: Array | None) -> tuple[Array, Array, Array]:
    return h, params["M"] @ h, params["b_h"] if x is None else params["W_xh"] @ x + params["b_h"]


def _antisymmetric_pointwise(params: PyTree, z: tuple[Array, Array, Array]) -> Array:
    return z[0] + params["epsilon"] * jnp.tanh(z[1] + z[2])


def _gated_antisymmetric_pointwise(params: PyTree, z: tuple[Array, Array, Array]) -> Array:
    h, rotated, (gate, drive) = z[0], z[1], jnp.split(z[2], 2)
    return h + params["epsilon"] * jax.nn.sigmoid(rotated + gate) * jnp.tanh(rotated + drive)


def _cornn_zeros(params: PyTree) -> CoRNNState:
    return CoRNNState(zeros_like_hidden(params), zeros_like_hidden(params))


def _lem_zeros(params: PyTree) -> LEMState:
    return LEMState(zeros_like_hidden(params), zeros_like_hidden(params))


def _position(params: PyTree, state: CoRNNState | LEMState, x: PyTree) -> Array:
    return state.y


def _cornn_affine(params: PyTree, state: CoRNNState, x: Array | None) -> tuple[Array, Array, Array]:
    return state.y, state.z, preactivation(params, state.y, x) + params["W_zh"] @ state.z


def _cornn_pointwise(params: PyTree, z: tuple[Array, Array, Array]) -> CoRNNState:
    position, speed, a = z
    constants = jax.lax.stop_gradient(params["constants"])
    speed = speed + constants["dt"] * (jnp.tanh(a) - constants["gamma"] * position - constants["epsilon"] * speed)
    return CoRNNState(position + constants["dt"] * speed, speed)


def _lem_step(params: PyTree, state: LEMState, x: Array | None) -> LEMState:
    dt = jax.lax.stop_gradient(params["constants"]["dt"])
    drive = params["b_h"] if x is None else params["W_xh"] @ x + params["b_h"]
    (u_dy, u_dz, u_z, u_y), (a_dy, a_dz, a_z) = jnp.split(drive, 4), jnp.split(params["W_hh"] @ state.y, 3)
    step_y, step_z = dt * jax.nn.sigmoid(a_dy + u_dy), dt * jax.nn.sigmoid(a_dz + u_dz)
    z = (1 - step_z) * state.z + step_z * jnp.tanh(a_z + u_z)
    return LEMState((1 - step_y) * state.y + step_y * jnp.tanh(params["W_zh"] @ z + u_y), z)


_ANTISYMMETRIC = Structure(_antisymmetric_affine, _antisymmetric_pointwise, prepare=_antisymmetric_prepare)
_GATED_ANTISYMMETRIC = Structure(_antisymmetric_affine, _gated_antisymmetric_pointwise, prepare=_antisymmetric_prepare)
_CORNN = Structure(_cornn_affine, _cornn_pointwise)
