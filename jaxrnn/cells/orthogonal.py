"""Recurrences whose recurrent matrix is orthogonal, or nearly, by its parametrisation."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers, parametrize
from jaxrnn.cells.protocol import Cell, PyTree, Structure, require_sizes
from jaxrnn.cells.registry import register
from jaxrnn.cells.simple import whole_state


@register(equation="h_t = modReLU(e^{A − Aᵀ} h_{t−1} + W_xh x_t, b)", source="Lezcano-Casado, Martínez-Rubio 2019 (expRNN)")
def exprnn(n_in: int, n_hidden: int, activation: str = "modrelu") -> Cell:
    """A recurrence whose matrix is a rotation, the exponential of a skew matrix.

    h_t = φ(Q h_{t−1} + W_xh x_t), Q = exp(A − Aᵀ); modReLU(a, b) = sign(a) max(|a| + b, 0).

    J_t = diag(φ') Q: with modReLU slopes are 0 or 1, so that ‖J_t‖₂ ≤ 1, an isometry while no unit is cut off (b ≥ 0).

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n; the state is h (n,).
        activation: ``modrelu`` (theirs), ``tanh`` (the bias inside), ``identity``.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives A (n, n), of which the strict lower triangle is read, rotations by angles U(−π, π)
        in n/2 planes at the start, W_xh (n, n_in), b_h (n,).

    Raises:
        ValueError: unknown activation, a size below 1.

    Cost: O(n³) for Q, once for all steps in ``unroll.states``; analyses that take one step at a time pay it at each.

    Source: Lezcano-Casado, Martínez-Rubio 2019; the start: Henaff, Szlam, LeCun 2016.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.exprnn(2, 3).init_params(jax.random.key(0))["A"].shape
    (3, 3)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    step = _step("exp", activation)

    def init_params(key: Array, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_a, key_xh = jax.random.split(key)
        return {"A": _planes(jax.random.uniform(key_a, (n_hidden // 2,), minval=-math.pi, maxval=math.pi), n_hidden)} | _input(
            key_xh, n_hidden, n_in, input_gain
        )

    return Cell(init_params, _zeros, step, whole_state)


@register(equation="h_t = modReLU((I + S)⁻¹(I − S) D h_{t−1} + W_xh x_t, b), S = A − Aᵀ, D = diag(±1)", source="Helfrich, Willmott, Ye 2018 (scoRNN)")
def scornn(n_in: int, n_hidden: int, activation: str = "modrelu", negative: int | None = None) -> Cell:
    """A recurrence whose matrix is orthogonal by the scaled Cayley transform.

    h_t = φ(Q h_{t−1} + W_xh x_t), Q = (I + S)⁻¹(I − S) D, S = A − Aᵀ, D = diag(−1, …, −1, 1, …, 1).

    J_t = diag(φ') Q, as in ``exprnn``.

    Args:
        n_in, n_hidden, activation: as in ``exprnn``.
        negative: how many of D's entries are −1; n/2 where None.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives A (n, n), W_xh (n, n_in), b_h (n,), and ``constants`` with signs (n,).

    Raises:
        ValueError: unknown activation, ``negative`` outside [0, n], a size below 1.

    Source: Helfrich, Willmott, Ye 2018; entries tan(t/2) with t ~ U(0, π/2) in planes at the start, as theirs.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.scornn(2, 4).init_params(jax.random.key(0))["constants"]["signs"].tolist()
    [-1.0, -1.0, 1.0, 1.0]
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    count = n_hidden // 2 if negative is None else negative
    if not 0 <= count <= n_hidden:
        raise ValueError(f"negative={negative} must lie in [0, {n_hidden}], the number of units")
    step = _step("cayley", activation)

    def init_params(key: Array, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_a, key_xh = jax.random.split(key)
        angles = jax.random.uniform(key_a, (n_hidden // 2,), maxval=math.pi / 2)
        given = {"A": _planes(jnp.tan(angles / 2), n_hidden)} | _input(key_xh, n_hidden, n_in, input_gain)
        return given | {"constants": {"signs": jnp.where(jnp.arange(n_hidden) < count, -1, 1).astype(given["A"].dtype)}}

    return Cell(init_params, _zeros, step, whole_state)


@register(equation="h_t = φ(H(v_1) ⋯ H(v_k) h_{t−1} + W_xh x_t + b_h), H(v) = I − 2 v vᵀ/(v·v)", source="Mhammedi et al. 2017 (oRNN)")
def ornn(n_in: int, n_hidden: int, reflections: int | None = None, activation: str = "tanh") -> Cell:
    """A recurrence whose matrix is a product of Householder reflections: k n numbers, cheap for few.

    h_t = φ(Q h_{t−1} + W_xh x_t + b_h), Q = H(v_1) ⋯ H(v_k).

    J_t = diag(φ') Q, ‖J_t‖₂ ≤ sup|φ'|.

    Args:
        n_in, n_hidden: as in ``exprnn``.
        reflections: k; n where None.
        activation: ``modrelu``, ``tanh`` (the bias inside), ``identity``.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives V (k, n), N(0, 1), W_xh (n, n_in), b_h (n,).

    Raises:
        ValueError: unknown activation, a size below 1.

    Source: Mhammedi, Hellicar, Rahman, Bailey 2017; their vectors are triangular, so that k(2n − k + 1)/2 numbers count, their activation
    a leaky ReLU.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.ornn(2, 4, reflections=2).init_params(jax.random.key(0))["V"].shape
    (2, 4)
    """
    k = n_hidden if reflections is None else reflections
    require_sizes(n_in=n_in, n_hidden=n_hidden, reflections=k)
    step = _step("householder", activation)

    def init_params(key: Array, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_v, key_xh = jax.random.split(key)
        return {"V": jax.random.normal(key_v, (k, n_hidden))} | _input(key_xh, n_hidden, n_in, input_gain)

    return Cell(init_params, _zeros, step, whole_state)


@register(
    equation="h_t = modReLU(P Θ Pᵀ h_{t−1} + W_xh x_t, b), P = e^{A − Aᵀ}, Θ = γ rotations in planes + T strictly upper",
    source="Kerg et al. 2019 (nnRNN)",
)
def nnrnn(n_in: int, n_hidden: int, activation: str = "modrelu") -> Cell:
    """A recurrence by the Schur form of its matrix: eigenvalues on a circle, and beside them a part that is not normal.

    h_t = φ(W h_{t−1} + W_xh x_t), W = P Θ Pᵀ, P = exp(A − Aᵀ), Θ = blocks γ_i R(θ_i) on the diagonal and T above them.

    The eigenvalues of W are γ_i e^{±iθ_i} whatever T; T makes transients: the departure from normality is ‖T‖_F.

    Args:
        n_in, n_hidden, activation: as in ``exprnn``; n even.

    Returns:
        ``Cell``; ``init_params(key, gain=1.0, input_gain=1.0)`` gives A (n, n), T (n, n), of which what lies above the blocks is read, zero,
        gamma (n/2,) of ``gain``, theta (n/2,) ~ U(0, 2π), W_xh (n, n_in), b_h (n,).

    Raises:
        ValueError: unknown activation, n odd, a size below 1.

    Source: Kerg, Goyette, Puelma Touzel, Gidel, Vorontsov, Bengio, Lajoie 2019.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.nnrnn(2, 4).init_params(jax.random.key(0))["theta"].shape
    (2,)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)
    if n_hidden % 2:
        raise ValueError(f"n_hidden={n_hidden} must be even: units rotate in pairs")
    step = _step("schur", activation)

    def init_params(key: Array, gain: float | Array = 1.0, input_gain: float | Array = 1.0) -> dict[str, PyTree]:
        key_a, key_t, key_xh = jax.random.split(key, 3)
        angles = jax.random.uniform(key_a, (n_hidden // 2,), minval=-math.pi, maxval=math.pi)
        theta = jax.random.uniform(key_t, (n_hidden // 2,), maxval=2 * math.pi)
        schur = {
            "A": _planes(angles, n_hidden),
            "T": jnp.zeros((n_hidden, n_hidden), theta.dtype),
            "gamma": jnp.full_like(theta, gain),
            "theta": theta,
        }
        return schur | _input(key_xh, n_hidden, n_in, input_gain)

    return Cell(init_params, _zeros, step, whole_state)


def modrelu(a: Array, b: Array) -> Array:
    """sign(a) max(|a| + b, 0), of a complex number its phase times that (Arjovsky, Shah, Bengio 2016, equation 8).

    Its slope at a = 0 is the limit along the activation: 1 for b ≥ 0, 0 for b < 0; a state at rest is not dead while b ≥ 0.
    """
    if not jnp.iscomplexobj(a):
        return jnp.where(jnp.abs(a) + b >= 0, a + b * jnp.sign(a), 0)
    square = a.real**2 + a.imag**2
    at_rest = square == 0
    size = jnp.where(at_rest, 0, jnp.sqrt(jnp.where(at_rest, 1, square)))
    factor = jnp.where(at_rest, 1 + 0 * b, 1 + b / jnp.where(at_rest, 1, size))  # at 0 the phase is not known: what is added is 0
    return a * jnp.where(size + b >= 0, factor, 0).astype(a.dtype)


def _planes(values: Array, n: int) -> Array:
    """A (n, n) with A[2i + 1, 2i] = values[i]: rotations in n/2 planes."""
    i = 2 * jnp.arange(n // 2)
    return jnp.zeros((n, n), values.dtype).at[i + 1, i].set(values)


def _input(key: Array, n: int, n_in: int, gain: float | Array) -> dict[str, Array]:
    w_xh = initializers.gaussian(key, n, n_in, gain)
    return {"W_xh": w_xh, "b_h": jnp.zeros(n, w_xh.dtype)}


def _zeros(params: PyTree) -> Array:
    return jnp.zeros_like(params["b_h"])


def _schur(params: PyTree) -> Array:
    n = params["A"].shape[0]
    even = 2 * jnp.arange(n // 2)
    cos, sin = params["gamma"] * jnp.cos(params["theta"]), params["gamma"] * jnp.sin(params["theta"])
    above = jnp.arange(n)[:, None] // 2 < jnp.arange(n)[None, :] // 2
    blocks = jnp.where(above, params["T"], 0).at[even, even].set(cos).at[even + 1, even + 1].set(cos)
    blocks = blocks.at[even, even + 1].set(-sin).at[even + 1, even].set(sin)
    p = parametrize.exp(params["A"])
    with jax.default_matmul_precision("highest"):  # orthogonal to rounding, also where products are rounded more
        return p @ blocks @ p.T


_MATRICES: dict[str, Callable[[PyTree], Array]] = {
    "exp": lambda params: parametrize.exp(params["A"]),
    "cayley": lambda params: parametrize.cayley(params["A"], params["constants"]["signs"]),
    "householder": lambda params: parametrize.householder(params["V"]),
    "schur": _schur,
}
_POINTWISE: dict[str, Callable[[PyTree, Array], Array]] = {
    "modrelu": lambda params, a: modrelu(a, params["b_h"]),
    "tanh": lambda params, a: jnp.tanh(a + params["b_h"]),
    "identity": lambda params, a: a + params["b_h"],
}


@functools.cache
def _step(matrix: str, activation: str) -> Structure:
    if activation not in _POINTWISE:
        raise ValueError(f"unknown activation {activation!r}; allowed are {', '.join(sorted(_POINTWISE))}")
    made = _MATRICES[matrix]
    # Slopes of modReLU are 0 or 1, of tanh at most 1; where |a| + b turns negative it jumps by nothing.
    return Structure(_affine, _POINTWISE[activation], slope_bound=1.0, prepare=lambda params: {**params, "W_hh": made(params)})


def _affine(params: PyTree, h: Array, x: Array | None) -> Array:
    recurrent = params["W_hh"] @ h
    return recurrent if x is None else recurrent + params["W_xh"] @ x
