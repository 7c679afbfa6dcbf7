"""What is ∂h_t/∂h_{t−1} and ∂h_t/∂x_t: dense Jacobians, and their products with vectors without forming them.

Everything is expressed in the real coordinates of the full state (all leaves; complex leaves as re, im).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import admit, compiled
from jaxrnn._tree import Layout, layout

PyTree = Any
Step = Callable[[PyTree, PyTree, PyTree], PyTree]


@compiled("step", "length")
def jacobians(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Array:
    """Dense Jacobians of every step along the trajectory.

    J_t = ∂h_t/∂h_{t−1}, t = 1..T, by forward mode (``jax.jacfwd``).

    Args:
        step: ``step(params, state, x) -> state``.
        params: its parameters.
        state: h_0.
        xs: inputs x_1..x_T, time on axis 0 of each leaf, or None.
        length: T where ``xs`` is None.

    Returns:
        (T, n, n), J_t at index t − 1; n is the real dimension of the state.

    Raises:
        TypeError, ValueError: where the protocol is broken (see ``unroll.states``).

    Cost: T times n tangents through one step (O(T n³) for a dense recurrence), memory O(T n²).

    >>> from jaxrnn import linearize
    >>> linearize.jacobians(lambda a, h, x: a * h, 0.5, 1.0, None, length=2).ravel().tolist()
    [0.5, 0.5]
    """
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)

    def advance(h: PyTree, x: PyTree) -> tuple[PyTree, Array]:
        jacobian, h_next = dense(step, params, lay, h, x)
        return h_next, jacobian

    return jax.lax.scan(advance, state, xs, length=length)[1]


@compiled("step", "length")
def input_jacobians(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Array:
    """Dense Jacobians of every step with respect to its input.

    ∂h_t/∂x_t, t = 1..T, by forward mode. Arguments, errors as in ``jacobians``; ``xs`` must hold floating or complex
    leaves (TypeError names the leaf otherwise).

    Returns:
        (T, n, n_in), with n_in the real dimension of one input.

    >>> from jaxrnn import linearize
    >>> import jax.numpy as jnp
    >>> linearize.input_jacobians(lambda a, h, x: a * h + 3 * x, 0.5, 0.0, jnp.ones(2)).ravel().tolist()
    [3.0, 3.0]
    """
    if xs is None:
        raise ValueError("xs is None: an autonomous map has no input Jacobians; pass inputs")
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)
    inputs = layout(jax.tree.map(lambda leaf: leaf[0], xs), "input")

    def advance(h: PyTree, x: PyTree) -> tuple[PyTree, Array]:
        def with_value(v: Array) -> tuple[Array, PyTree]:
            h_next = step(params, h, inputs.unravel(v))
            return lay.ravel(h_next), h_next

        jacobian, h_next = jax.jacfwd(with_value, has_aux=True)(inputs.ravel(x))
        return h_next, jacobian

    return jax.lax.scan(advance, state, xs, length=length)[1]


@compiled("step")
def push(step: Step, params: PyTree, state: PyTree, x: PyTree, vectors: Array) -> tuple[PyTree, Array]:
    """One step, and its Jacobian times any number of tangent vectors, matrix-free.

    (h_t, J_t V) with J_t = ∂h_t/∂h_{t−1}: the body of a scan over time that needs no (n, n) matrix.

    Args:
        step, params: as in ``jacobians``.
        state: h_{t−1}.
        x: one input x_t, or None.
        vectors: V, (n,) or (n, k), in the dtype of the state's real coordinates.

    Returns:
        The next state and J_t V, shaped as ``vectors``.

    Raises:
        ValueError: if ``vectors`` does not have n rows.

    Cost: one linearised step, k tangents.

    >>> from jaxrnn import linearize
    >>> import jax.numpy as jnp
    >>> h, v = linearize.push(lambda a, h, x: a * h, 0.5, jnp.ones(2), None, jnp.ones((2, 3)))
    >>> v[0].tolist()
    [0.5, 0.5, 0.5]
    """
    vectors = jnp.asarray(vectors)
    state, lay = _one_step(step, params, state, x, vectors)
    return pushed(step, params, lay, state, x, vectors)


@compiled("step")
def pull(step: Step, params: PyTree, state: PyTree, x: PyTree, covectors: Array) -> tuple[PyTree, Array]:
    """One step, and its transposed Jacobian times any number of cotangent vectors, matrix-free.

    (h_t, J_tᵀ U) with J_t = ∂h_t/∂h_{t−1}; if U = ∂L/∂h_t then J_tᵀ U is its contribution to ∂L/∂h_{t−1}.
    Arguments, shapes, errors and cost as in ``push``.

    >>> from jaxrnn import linearize
    >>> import jax.numpy as jnp
    >>> W = jnp.array([[0., 1.], [0., 0.]])
    >>> linearize.pull(lambda W, h, x: W @ h, W, jnp.ones(2), None, jnp.array([1., 0.]))[1].tolist()
    [0.0, 1.0]
    """
    covectors = jnp.asarray(covectors)
    state, lay = _one_step(step, params, state, x, covectors)
    return pulled(step, params, lay, state, x, covectors)


def dense(step: Step, params: PyTree, lay: Layout, state: PyTree, x: PyTree) -> tuple[Array, PyTree]:
    """(J_t, h_t) of one admitted step, for the bodies of scans."""

    def with_value(v: Array) -> tuple[Array, PyTree]:
        h_next = step(params, lay.unravel(v), x)
        return lay.ravel(h_next), h_next

    return jax.jacfwd(with_value, has_aux=True)(lay.ravel(state))


def pushed(step: Step, params: PyTree, lay: Layout, state: PyTree, x: PyTree, vectors: Array) -> tuple[PyTree, Array]:
    """``push`` of one admitted step, for the bodies of scans."""
    value, linear = jax.linearize(in_coordinates(step, params, lay, x), lay.ravel(state))
    out = linear(vectors) if vectors.ndim == 1 else jax.vmap(linear, 1, 1)(vectors)
    return lay.unravel(value), out


def pulled(step: Step, params: PyTree, lay: Layout, state: PyTree, x: PyTree, covectors: Array) -> tuple[PyTree, Array]:
    """``pull`` of one admitted step, for the bodies of scans."""
    value, transposed = jax.vjp(in_coordinates(step, params, lay, x), lay.ravel(state))
    back = lambda u: transposed(u)[0]
    out = back(covectors) if covectors.ndim == 1 else jax.vmap(back, 1, 1)(covectors)
    return lay.unravel(value), out


def in_coordinates(step: Step, params: PyTree, lay: Layout, x: PyTree) -> Callable[[Array], Array]:
    """The step as a map of R^n."""
    return lambda v: lay.ravel(step(params, lay.unravel(v), x))


def _one_step(step: Step, params: PyTree, state: PyTree, x: PyTree, vectors: Array) -> tuple[PyTree, Layout]:
    state, _ = admit(step, params, state, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x), 1)
    lay = layout(state)
    if vectors.ndim not in (1, 2) or vectors.shape[0] != lay.size:
        raise ValueError(
            f"vectors have shape {vectors.shape}; allowed are ({lay.size},) and ({lay.size}, k), n = {lay.size} being the real dimension of the state"
        )
    if vectors.dtype != lay.dtype:
        raise TypeError(f"vectors have dtype {vectors.dtype}; the state's real coordinates have {lay.dtype}: cast them")
    return state, lay
