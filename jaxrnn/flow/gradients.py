"""What is ∂L/∂h_t and ∂L/∂x_t for every t, and does the gradient of a last loss go at the leading exponent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import admit, compiled, require_loss, sequence_length, targets_length
from jaxrnn._frames import random_frame, rescale
from jaxrnn._tree import layout
from jaxrnn.cells import Structure
from jaxrnn.flow.transport import end_product
from jaxrnn.linearize import Step, pulled, pushed
from jaxrnn.unroll import preceding, states

PyTree = Any
Loss = Callable[[PyTree, PyTree, PyTree, PyTree], Array]


class StateGradients(NamedTuple):
    """A loss with its gradients."""

    loss: Array  # scalar, L = Σ_t loss(θ, h_t, x_t, y_t)
    states: PyTree  # ∂L/∂h_t for t = 0..T through all later times, leaves (T + 1, ...)
    params: PyTree  # ∂L/∂θ, as params


class Slope(NamedTuple):
    """The rate at which the gradient of a last loss changes on its way back, beside the leading Lyapunov exponent."""

    slope: Array  # (log‖∂L_T/∂h_0‖ − log‖∂L_T/∂h_T‖) / T, nats per step
    exponent: Array  # λ₁ of the same T steps, of a random perturbation pushed forwards, nats per step
    bound: Array  # |slope − exponent| cannot exceed this, nats per step
    log_gradient: Array  # (T + 1,) log‖∂L_T/∂h_t‖ for t = 0..T, nats


@compiled("step", "loss")
def state_gradients(step: Step, params: PyTree, state: PyTree, xs: PyTree, targets: PyTree, loss: Loss) -> StateGradients:
    """The gradient of the loss with respect to every state, together with that of the parameters.

    L = Σ_{t=1..T} loss(θ, h_t, x_t, y_t); ∂L/∂h_t is total, through all later states, t = 0..T.

    Args:
        step, params, state, xs: as in ``unroll.states``; where ``xs`` is None, T is that of the targets.
        targets: y_1..y_T, a pytree with time on axis 0 of each leaf; it may carry a mask for ``loss`` to apply.
        loss: ``loss(params, state, x, target) -> scalar``; ``cells.readout_loss`` makes one.

    Returns:
        ``StateGradients``. Complex leaves follow ``jax.grad``: ∂/∂re − i ∂/∂im.

    Raises:
        TypeError: the loss is not a real scalar. ValueError: targets of another length than ``xs``.

    Cost: that of ``jax.value_and_grad`` plus O(T n) memory: ∂L/∂h_t is the gradient of a zero added to each state.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import flow
    >>> square = lambda params, h, x, y: (h - y) ** 2
    >>> g = flow.state_gradients(lambda a, h, x: a * h, 0.5, 1.0, jnp.zeros(2), jnp.array([0.5, 0.0]), square)
    >>> float(g.loss), g.states.tolist(), float(g.params)
    (0.0625, [0.125, 0.25, 0.5], 0.5)
    """
    state, length = admit(step, params, state, xs, targets_length(xs, targets))
    require_loss(loss, params, state, xs, targets, length)
    layout(params, "params")

    def total(theta: PyTree, start: PyTree, nudges: PyTree) -> Array:
        hs = states(nudged(step), theta, start, (xs, nudges))
        return jnp.sum(jax.vmap(loss, (None, 0, 0, 0))(theta, hs, xs, targets))

    nudges = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), state)
    value, (g_params, g_start, g_nudges) = jax.value_and_grad(total, (0, 1, 2))(params, state, nudges)
    g_states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), g_start, g_nudges)
    return StateGradients(value, g_states, g_params)


def nudged(step: Step) -> Step:
    """h_t = step(θ, h_{t−1}, x_t) + e_t on inputs (x_t, e_t), declared as the step is: ∂L/∂e_t is ∂L/∂h_t."""
    if not isinstance(step, Structure):
        return lambda theta, h, xe: jax.tree.map(jnp.add, step(theta, h, xe[0]), xe[1])
    inner = step.from_result
    return Structure(
        lambda theta, h, xe: (step.affine(theta, h, xe[0]), xe[1]),
        lambda theta, z: jax.tree.map(jnp.add, step.pointwise(theta, z[0]), z[1]),
        prepare=step.prepare,
        from_result=None if inner is None else lambda h, dz: jax.tree.map(jnp.add, inner(h, dz[0]), dz[1]),  # at e = 0
    )


@compiled("step", "loss")
def input_gradients(step: Step, params: PyTree, state: PyTree, xs: PyTree, targets: PyTree, loss: Loss) -> PyTree:
    """The gradient of the loss with respect to every input: what in the sequence the loss still hears.

    ∂L/∂x_t for t = 1..T, L = Σ_t loss(θ, h_t, x_t, y_t), through h_t and all later states, and through the loss itself.

    Arguments, errors and cost as ``state_gradients``; xs must be there and hold floating or complex leaves (TypeError names another).

    Returns:
        As xs, leaves (T, ...); complex leaves follow ``jax.grad``.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import flow
    >>> last = lambda params, h, x, target: target * h
    >>> flow.input_gradients(lambda a, h, x: a * h + x, 0.5, 0.0, jnp.ones(3), jnp.array([0.0, 0.0, 1.0]), last).tolist()
    [0.25, 0.5, 1.0]
    """
    if xs is None:
        raise ValueError("xs is None: an autonomous map has no inputs to differentiate by")
    sequence_length(xs, None)
    layout(jax.tree.map(lambda leaf: leaf[0], xs), "input")
    state, length = admit(step, params, state, xs, None)
    require_loss(loss, params, state, xs, targets, length)

    def total(given: PyTree) -> Array:
        hs = states(step, params, state, given)
        return jnp.sum(jax.vmap(loss, (None, 0, 0, 0))(params, hs, given, targets))

    return jax.grad(total)(xs)


@compiled("step", "loss", "length")
def slope(step: Step, params: PyTree, state: PyTree, xs: PyTree, target: PyTree, loss: Loss, *, length: int | None = None) -> Slope:
    """Does the gradient of a loss at T alone go back through time at the rate of the leading Lyapunov exponent.

    With P = J_T ⋯ J_1 = Σ σ_i u_i v_iᵀ, a gradient direction g at h_T and a random perturbation q at h_0, each of norm 1,
    log‖Pᵀg‖ lies in [log σ₁ + log|u₁·g|, log σ₁] and log‖P q‖ in [log σ₁ + log|v₁·q|, log σ₁]. So the two rates differ by at most
    max(−log|u₁·g|, −log|v₁·q|) / T: O(log κ / T), exact at every T. With a loss at every step there is no such slope.

    Args:
        step, params, state, xs, length: as in ``unroll.states``.
        target: y_T; loss(θ, h_T, x_T, y_T) is the only loss, x_T None for an autonomous map.
        loss: as in ``state_gradients``.

    Returns:
        ``Slope``; NaN where the gradient at h_T is zero. ``exponent`` is that of ``lyapunov.spectrum(..., k=1)`` on the same steps.

    Raises:
        TypeError: the loss is not a real scalar; and as ``unroll.states``.

    Cost: O(T n³) for the directions u₁, v₁; memory O(T n + n²).

    Source: the statement in Engelken, Wolf, Abbott 2023, section on gradients; the bound follows from the singular value decomposition.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import flow
    >>> found = flow.slope(lambda a, h, x: a * h, jnp.array([0.5, 0.9]), jnp.ones(2), None, 0.0, lambda p, h, x, y: h.sum(), length=200)
    >>> round(float(found.slope), 2), bool(abs(found.slope - found.exponent) <= found.bound)  # ln 0.9, less ln √2 / 200
    (-0.11, True)
    """
    state, length = admit(step, params, state, xs, length)
    one = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)
    x = jax.tree.map(lambda leaf: leaf[-1], xs)
    require_loss(loss, params, state, one(x), one(target), 1)
    lay = layout(state)
    hs = states(step, params, state, xs, length=length)
    v = lay.ravel(jax.tree.map(lambda leaf: leaf[-1], hs))
    gradient, size = rescale(jax.grad(lambda v: loss(params, lay.unravel(v), x, target))(v), (0,))

    def back(carry: tuple[Array, Array], hx: PyTree) -> tuple[tuple[Array, Array], Array]:
        (unit, log), (h, x) = carry, hx
        unit, growth = rescale(pulled(step, params, lay, h, x, unit)[1], (0,))
        return (unit, log + growth), log + growth

    def forth(carry: tuple[Array, Array], hx: PyTree) -> tuple[tuple[Array, Array], None]:
        (unit, log), (h, x) = carry, hx
        unit, growth = rescale(pushed(step, params, lay, h, x, unit)[1], (0,))
        return (unit, log + growth), None

    items, start = (preceding(state, hs), xs), random_frame(lay.size, 1, lay.dtype)[:, 0]
    _, logs = jax.lax.scan(back, (gradient, size), items, length=length, reverse=True)
    (_, grown), _ = jax.lax.scan(forth, (start, jnp.zeros((), lay.dtype)), items, length=length)
    left, _, right = jnp.linalg.svd(end_product(step, params, state, xs, length=length)[0])
    bound = -jnp.log(jnp.minimum(jnp.abs(left[:, 0] @ gradient), jnp.abs(right[0] @ start))) / length
    return Slope((logs[0] - size) / length, grown / length, bound, jnp.concatenate([logs, size[None]]))
