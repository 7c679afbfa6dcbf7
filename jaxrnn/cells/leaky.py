"""Units that leak: continuous-time recurrences by Euler's method, as rates and as membrane potentials."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes, zeros_like_hidden
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import ACTIVATIONS, preactivation, require_activation, whole_state


@register(
    equation="h_t = (1 − α) h_{t−1} + α φ(W_hh h_{t−1} + W_xh x_t + b_h)",
    source="Mozer 1992; Jaeger, Lukoševičius, Popovici, Siewert 2007",
)
def leaky(n_in: int, n_hidden: int, activation: str = "tanh", init: str = "gaussian", leak: float = 0.5) -> Cell:
    """Leaky units: each state is a running mean of what a vanilla network would be.

    h_t = (1 − α) h_{t−1} + α φ(W_hh h_{t−1} + W_xh x_t + b_h); J_t = (1 − α) I + α diag(φ') W_hh: where φ' is constant, every eigenvalue
    is moved towards 1 by the share 1 − α, so a small α slows growth and decay alike by 1/α.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        activation: φ, as for ``vanilla``.
        init: how W_hh starts: ``gaussian``, ``orthogonal``, ``identity``, ``uniform``.
        leak: α in (0, 1], the share renewed at each step; 1 is ``vanilla``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), W_xh (n, n_in), b_h (n,) zero, and
        ``constants`` with ``leak``, a number that no gradient reaches.

    Raises:
        ValueError: unknown activation or init, a leak outside (0, 1], a size below 1.

    Source: Mozer 1992; Jaeger, Lukoševičius, Popovici, Siewert 2007, with their leaking rate 1 and step α.

    >>> import jax
    >>> from jaxrnn.cells.leaky import leaky
    >>> float(leaky(2, 3, leak=0.25).init_params(jax.random.key(0))["constants"]["leak"])
    0.25
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    require_activation(activation)
    if not 0 < leak <= 1:
        raise ValueError(f"leak={leak} must lie in (0, 1]: the share of the state that a step renews")
    return Cell(_initializer(n_in, n_hidden, init, leak=leak), zeros_like_hidden, _LEAKY[activation], whole_state)


@register(
    equation="v_t = v_{t−1} + (Δt/τ)(−v_{t−1} + W_hh tanh(v_{t−1}) + W_xh x_t + b_h)",
    source="Funahashi, Nakamura 1993; Sompolinsky, Crisanti, Sommers 1988",
)
def ctrnn(n_in: int, n_hidden: int, init: str = "gaussian", dt: float = 0.1, tau: float = 1.0) -> Cell:
    """The continuous-time network of membrane potentials by Euler's method.

    τ dv/dt = −v + W_hh tanh(v) + W_xh x + b_h, so v_t = v_{t−1} + (Δt/τ)(−v_{t−1} + W_hh tanh(v_{t−1}) + W_xh x_t + b_h).

    J_t = I + (Δt/τ)(−I + W_hh diag(tanh' v_{t−1})). Exponents per unit of time are those per step over Δt, up to O(Δt); a random network
    of gain g > 1 is chaotic. The activation comes before the product, so nothing is declared; at constant input v = W_hh r + W_xh x + b_h turns
    ``leaky`` of r with α = Δt/τ into it.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is v (n,), the potentials, which are also the output.
        init: how W_hh starts: ``gaussian``, ``orthogonal``, ``identity``, ``uniform``.
        dt: Δt > 0, the time that a step takes; Euler is stable at rest only for Δt < 2τ.
        tau: τ > 0, in the unit of ``dt``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), W_xh (n, n_in), b_h (n,) zero, and
        ``constants`` with ``dt`` and ``tau``, numbers that no gradient reaches.

    Raises:
        ValueError: unknown init, dt or tau not positive, a size below 1.

    Source: Funahashi, Nakamura 1993; Sompolinsky, Crisanti, Sommers 1988.

    >>> import jax
    >>> from jaxrnn.cells.leaky import ctrnn
    >>> sorted(ctrnn(2, 3).init_params(jax.random.key(0))["constants"])
    ['dt', 'tau']
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    if not (dt > 0 and tau > 0):
        raise ValueError(f"dt={dt} and tau={tau} must be positive")
    return Cell(_initializer(n_in, n_hidden, init, dt=dt, tau=tau), zeros_like_hidden, _ctrnn_step, whole_state)


def _initializer(n_in: int, n_hidden: int, init: str, **constants: float) -> Callable[..., dict[str, PyTree]]:
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_hh, key_xh = jax.random.split(key)
        w_hh = recurrent(key_hh, n_hidden, n_hidden, gain)
        w_xh = initializers.gaussian(key_xh, n_hidden, n_in, input_gain)
        held = {name: jnp.asarray(value, w_hh.dtype) for name, value in constants.items()}
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": jnp.zeros(n_hidden, w_hh.dtype), "constants": held}

    return init_params


def _affine(params: PyTree, h: Array, x: Array | None) -> tuple[Array, Array]:
    return h, preactivation(params, h, x)


def _pointwise(phi: Callable[[Array], Array]) -> Callable[[PyTree, tuple[Array, Array]], Array]:
    def pointwise(params: PyTree, z: tuple[Array, Array]) -> Array:
        leak = jax.lax.stop_gradient(params["constants"]["leak"])
        return (1 - leak) * z[0] + leak * phi(z[1])

    return pointwise


def _ctrnn_step(params: PyTree, v: Array, x: Array | None) -> Array:
    constants = jax.lax.stop_gradient(params["constants"])
    return v + constants["dt"] / constants["tau"] * (preactivation(params, jnp.tanh(v), x) - v)


_LEAKY = {name: Structure(_affine, _pointwise(phi)) for name, phi in ACTIVATIONS.items()}
