"""The vanilla recurrence h_t = φ(W_hh h_{t−1} + W_xh x_t + b_h), and what other cells share with it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf

from jaxrnn import initializers, theory
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes, zeros_like_hidden
from jaxrnn.cells.registry import register

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda a: a,
    "erf": erf,
}
"""Name -> φ; ``theory.SLOPE_BOUNDS`` has sup|φ'|."""


def require_activation(name: str) -> None:
    """Raise unless there is an activation of that name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; allowed are {', '.join(sorted(ACTIVATIONS))}")


def preactivation(params: PyTree, h: Array, x: Array | None) -> Array:
    """W_hh h + b_h + W_xh x, of one unit each or of stacked gates, without W_xh x where x is None; a second bias b_x is added where there is one."""
    a = params["W_hh"] @ h + params["b_h"]
    a = a + params["b_x"] if "b_x" in params else a
    return a if x is None else a + params["W_xh"] @ x


def normalised(v: Array) -> Array:
    """(v − mean v)/√(var v + 10⁻⁵), the constant that of the code of Ba, Kiros, Hinton 2016."""
    centred = v - v.mean()
    return centred * jax.lax.rsqrt((centred**2).mean() + 1e-5)


def whole_state(params: PyTree, h: Array, x: PyTree) -> Array:
    """The output of a cell that shows all of its state."""
    return h


def activate(phi: Callable[[Array], Array]) -> Callable[[PyTree, Array], Array]:
    """The pointwise map of a cell that is one activation."""
    return lambda params, a: phi(a)


_FROM_RESULT: dict[str, Callable[[Array, Array], Array]] = {  # φ'(a) da from h = φ(a); erf's is not worth inverting
    "tanh": lambda h, da: (1 - h**2) * da,
    "relu": lambda h, da: jnp.where(h > 0, da, 0),
    "sigmoid": lambda h, da: h * (1 - h) * da,
    "identity": lambda h, da: da,
}
_STEPS = {
    name: Structure(preactivation, activate(phi), theory.SLOPE_BOUNDS[name], from_result=_FROM_RESULT.get(name)) for name, phi in ACTIVATIONS.items()
}


@register(equation="h_t = φ(W_hh h_{t−1} + W_xh x_t + b_h)", source="Elman 1990")
def vanilla(n_in: int, n_hidden: int, activation: str = "tanh", init: str = "gaussian") -> Cell:
    """The vanilla (Elman) recurrent cell.

    h_t = φ(W_hh h_{t−1} + W_xh x_t + b_h); J_t = diag(φ'(a_t)) W_hh, so ‖J_t‖₂ ≤ sup|φ'| σ₁(W_hh).

    Args:
        n_in: size of an input; x may also be None (an autonomous map).
        n_hidden: n, number of units. The state is h (n,).
        activation: φ, one of ``tanh``, ``relu``, ``sigmoid``, ``erf``, ``identity`` (a linear network).
        init: how W_hh starts: ``gaussian`` N(0, gain²/n), ``orthogonal``, ``uniform``, ``chain``, ``identity`` (with relu the IRNN of
            Le, Jaitly, Hinton 2015), or ``critical``: N(0, gain² g_c²/n) where g_c is the gain at which a wide network with
            biases N(0, bias_sd²) and no input neither forgets nor amplifies (``theory.critical_gain``), so at gain 1 its λ₁ is 0.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0, bias_sd=0.0)`` gives W_hh (n, n), W_xh (n, n_in) with entries
        N(0, input_gain²/n_in), b_h (n,) of N(0, bias_sd²), zero unless told. Torch's two biases may both be there: b_x (n,) beside b_h.

    Raises:
        ValueError: unknown activation or init, ``critical`` with the sigmoid, a size below 1.

    Source: Elman 1990; Pascanu, Mikolov, Bengio 2013, eq. 11; critical: Schoenholz et al. 2017.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.vanilla(2, 3)
    >>> params = cell.init_params(jax.random.key(0), gain=0.5)
    >>> {name: leaf.shape for name, leaf in params.items()}
    {'W_hh': (3, 3), 'W_xh': (3, 2), 'b_h': (3,)}
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    require_activation(activation)
    is_critical = init == "critical"
    if is_critical and activation == "sigmoid":
        raise ValueError("init 'critical' has no gain for the sigmoid, whose mean is not 0; choose tanh, erf, relu or identity")
    recurrent = initializers.gaussian if is_critical else initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0, bias_sd: float | Array = 0.0) -> dict[str, Array]:
        key_hh, key_xh = jax.random.split(key)
        critical = lambda: initializers.critical(key_hh, n_hidden, n_hidden, gain, bias_sd=bias_sd, activation=activation)
        w_hh = critical() if is_critical else recurrent(key_hh, n_hidden, n_hidden, gain)
        w_xh = initializers.gaussian(key_xh, n_hidden, n_in, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "b_h": bias_sd * jax.random.normal(jax.random.fold_in(key, 2), (n_hidden,))}

    return Cell(init_params, zeros_like_hidden, _STEPS[activation], whole_state)


@register(equation="h_t = tanh(s ∘ LN(W_hh h_{t−1} + W_xh x_t) + b_h)", source="Ba, Kiros, Hinton 2016")
def vanilla_layernorm(n_in: int, n_hidden: int, init: str = "gaussian") -> Cell:
    """The vanilla cell with layer normalisation of what goes into its units.

    h_t = tanh(s ∘ LN(a_t) + b_h), a_t = W_hh h_{t−1} + W_xh x_t, LN(a) = (a − mean a)/√(var a + 10⁻⁵) over the n units.

    J_t = diag(φ' ∘ s) (I − 11ᵀ/n − LN LNᵀ/n) W_hh / sd(a_t): the common scale of the weights has no part, two directions of a_t are killed
    at every step, and what is left grows as a_t shrinks. Units are mixed after the product: no affine-then-pointwise declaration.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        init: how W_hh starts: ``gaussian``, ``orthogonal``, ``identity``, ``uniform``.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), W_xh (n, n_in), s_h (n,) ones and b_h (n,) zeros.

    Raises:
        ValueError: unknown init, a size below 1.

    Source: Ba, Kiros, Hinton 2016, equation 4.

    >>> import jax
    >>> from jaxrnn import cells
    >>> params = cells.vanilla_layernorm(2, 3).init_params(jax.random.key(0))
    >>> {name: leaf.shape for name, leaf in params.items()}
    {'W_hh': (3, 3), 'W_xh': (3, 2), 's_h': (3,), 'b_h': (3,)}
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, Array]:
        w_hh, w_xh = initializers.gates(key, recurrent, 1, n_in, n_hidden, gain, input_gain)
        return {"W_hh": w_hh, "W_xh": w_xh, "s_h": jnp.ones(n_hidden, w_hh.dtype), "b_h": jnp.zeros(n_hidden, w_hh.dtype)}

    return Cell(init_params, zeros_like_hidden, _layernorm_step, whole_state)


def _layernorm_step(params: PyTree, h: Array, x: Array | None) -> Array:
    a = params["W_hh"] @ h
    a = a if x is None else a + params["W_xh"] @ x
    return jnp.tanh(params["s_h"] * normalised(a) + params["b_h"])
