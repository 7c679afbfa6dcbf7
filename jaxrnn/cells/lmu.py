"""A linear memory of the last θ steps, as Legendre polynomials, beside a nonlinear state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes
from jaxrnn.cells.registry import register


class LMUState(NamedTuple):
    """What an LMU shows and the window it remembers."""

    h: Array  # (n,) the output
    m: Array  # (d,) coefficients of the window's u in shifted Legendre polynomials


@register(
    equation="u_t = e_x·x_t + e_h·h_{t−1} + e_m·m_{t−1}, m_t = A m_{t−1} + B u_t, h_t = tanh(W_xh x_t + W_hh h_{t−1} + W_mh m_t)",
    source="Voelker, Kajić, Eliasmith 2019",
)
def lmu(n_in: int, n_hidden: int, init: str = "gaussian", memory: int | None = None, theta: float = 100.0) -> Cell:
    """The Legendre memory unit: a scalar u is written into a fixed linear memory that spans its last θ steps.

    u_t = e_x·x_t + e_h·h_{t−1} + e_m·m_{t−1}, m_t = A m_{t−1} + B u_t, h_t = tanh(W_xh x_t + W_hh h_{t−1} + W_mh m_t).

    The state passes through one constant matrix before the tanh: affine, then pointwise. With e_h = e_m = 0 the exponents of m are
    ln|eig A| = Re λ/θ, λ the eigenvalues of the Legendre delay system, all in the left half plane: what is older than θ is forgotten.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is ``LMUState(h, m)``, of real dimension n + d; the output is h.
        init: how W_hh starts: ``gaussian`` (Xavier's), ``orthogonal``, ``identity``, ``uniform``.
        memory: d, how many polynomials; n where None.
        theta: θ > 0 in steps, the window.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives W_hh (n, n), W_mh (n, d), W_xh (n, n_in), Xavier normal, e_x (n_in,),
        e_h (n,), LeCun uniform, e_m (d,) zero, and ``constants`` with A (d, d) and B (d,), that no gradient reaches. ``gain`` scales W_hh and
        W_mh, ``input_gain`` W_xh and e_x. There is no bias.

    Raises:
        ValueError: unknown init, theta not positive, a size below 1.

    The exponential is taken once, in float64; entries grow as d²/θ, so that d above θ is meaningless.

    Source: Voelker, Kajić, Eliasmith 2019; zero-order hold and initialisation as theirs.

    >>> import jax
    >>> from jaxrnn.cells.lmu import lmu
    >>> cell = lmu(2, 3, memory=4)
    >>> [leaf.shape for leaf in cell.init_state(cell.init_params(jax.random.key(0)))]
    [(3,), (4,)]
    """
    d = n_hidden if memory is None else memory
    require_sizes(n_in=n_in, n_hidden=n_hidden, memory=d)
    if not theta > 0:
        raise ValueError(f"theta={theta} must be positive: the number of steps that the memory spans")
    recurrent = initializers.named(init)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_hh, key_mh, key_xh, key_x, key_h = jax.random.split(key, 5)
        w_hh = recurrent(key_hh, n_hidden, n_hidden, gain)
        w_mh = initializers.gaussian(key_mh, n_hidden, d, gain * (2 * d / (n_hidden + d)) ** 0.5)
        w_xh = initializers.gaussian(key_xh, n_hidden, n_in, input_gain * (2 * n_in / (n_hidden + n_in)) ** 0.5)
        lecun = lambda k, size, scale: initializers.uniform(k, 1, size, scale * 3**0.5)[0]
        encoders = {"e_x": lecun(key_x, n_in, input_gain), "e_h": lecun(key_h, n_hidden, 1.0), "e_m": jnp.zeros(d, w_hh.dtype)}
        transition, write = (jnp.asarray(part, w_hh.dtype) for part in _legendre(d, theta))
        return {"W_hh": w_hh, "W_mh": w_mh, "W_xh": w_xh, **encoders, "constants": {"A": transition, "B": write}}

    return Cell(init_params, _zeros, _LMU, _shown)


def _legendre(d: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """A (d, d) and B (d,) of one step under an input held constant: the top rows of e^[[A_c, B_c], [0, 0]]."""
    from scipy.linalg import expm  # type: ignore[import-untyped]  # here: it would slow the import of the library

    i, j = np.arange(d)[:, None], np.arange(d)[None, :]
    continuous = np.zeros((d + 1, d + 1))
    continuous[:d, :d] = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1)) / theta
    continuous[:d, d] = ((2 * i + 1) * (-1.0) ** i)[:, 0] / theta
    held = expm(continuous)
    return held[:d, :d], held[:d, d]


def _zeros(params: PyTree) -> LMUState:
    weights = params["W_mh"]
    return LMUState(*(jnp.zeros(size, weights.dtype) for size in weights.shape))


def _shown(params: PyTree, state: LMUState, x: PyTree) -> Array:
    return state.h


def _affine(params: PyTree, state: LMUState, x: Array | None) -> LMUState:
    constants = jax.lax.stop_gradient(params["constants"])
    u = params["e_h"] @ state.h + params["e_m"] @ state.m
    a = params["W_hh"] @ state.h
    if x is not None:
        u, a = u + params["e_x"] @ x, a + params["W_xh"] @ x
    m = constants["A"] @ state.m + constants["B"] * u
    return LMUState(a + params["W_mh"] @ m, m)


def _pointwise(params: PyTree, z: LMUState) -> LMUState:
    return LMUState(jnp.tanh(z.h), z.m)


_LMU = Structure(_affine, _pointwise)
