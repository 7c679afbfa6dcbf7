"""Along which directions does most survive, and what do weights and activations each do to a perturbation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import admit, compiled, require_at
from jaxrnn._frames import log_norm, random_frame, rescale
from jaxrnn._tree import layout
from jaxrnn.cells import prepared, structure
from jaxrnn.flow.transport import end_product
from jaxrnn.linearize import Step

PyTree = Any


class GrowthSplit(NamedTuple):
    """The growth rate of a perturbation, told apart; the two sum to the rate of J_t = P_t A."""

    weights: Array  # mean of ln‖A v‖, nats per step, ‖v‖ = 1 before each step
    activation: Array  # mean of ln(‖P_t A v‖ / ‖A v‖), nats per step: slopes of activations and gates


class Directions(NamedTuple):
    """The perturbations that survive a whole sequence best, mapped back to units; leaves as those of the state after an axis k."""

    log_gains: Array  # (k,) log σ_i(∂h_T/∂h_0), nats, descending; −inf where drowned in rounding or dead
    start: PyTree  # (k, ...) right singular vectors: what of h_0 is remembered
    end: PyTree  # (k, ...) left singular vectors: where in h_T it is found; read backwards, which loss reaches furthest


@compiled("step", "length", "k")
def leading_directions(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None, k: int = 1) -> Directions:
    """Along which directions most survives from the start to the end: the leading singular vectors of ∂h_T/∂h_0.

    ∂h_T/∂h_0 v_i = σ_i u_i; ‖v_i‖ = ‖u_i‖ = 1 over the real coordinates of the state. Square their entries for the share of
    each unit. Signs are arbitrary, and so is the basis among equal σ_i.

    Args:
        step, params, state, xs, length: as in ``unroll.states``.
        k: how many, in [1, n].

    Returns:
        ``Directions``.

    Raises:
        ValueError: k outside [1, n], and as ``unroll.states``. Cost: as ``log_gain``.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import flow
    >>> found = flow.leading_directions(lambda a, h, x: a * h, jnp.array([0.5, 0.9]), jnp.ones(2), None, length=10)
    >>> abs(found.start).tolist(), round(float(found.log_gains[0] / 10), 4)  # the unit with 0.9
    ([[0.0, 1.0]], -0.1054)
    """
    product, log = end_product(step, params, state, xs, length=length)
    lay = layout(state)
    require_at("k", k, 1, lay.size, "the real dimension of the state")
    left, sigma, right = jnp.linalg.svd(product)
    lost = sigma <= lay.size * lay.eps * sigma[0]
    gains = jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, 1, sigma)) + jnp.where(lost, 0, log))
    unravel = jax.vmap(lay.unravel)
    return Directions(gains[:k], unravel(right[:k]), unravel(left.T[:k]))


@compiled("step", "length")
def growth_split(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> GrowthSplit:
    """How much of the growth of a perturbation is due to the weights, and how much to the activations.

    For a step declared affine, then pointwise (``cells.structure``), J_t = P_t A:
    ln‖J_t v‖ = ln‖A v‖ + ln(‖P_t A v‖ / ‖A v‖), averaged along one random perturbation. For the vanilla cell A = W_hh
    and P_t = diag(φ'(a_t)); for gated cells P_t holds the gates.

    Arguments and errors as in ``unroll.states``; TypeError if the step declares no structure.

    Returns:
        ``GrowthSplit``; −inf where the perturbation died.

    Cost: two tangents per step.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells, flow
    >>> cell = cells.vanilla(1, 4, "sigmoid", init="orthogonal")  # at zero the slope is 1/4
    >>> params = cell.init_params(jax.random.key(0), gain=1e-8)
    >>> split = flow.growth_split(cell.step, params, jnp.zeros(4), jnp.zeros((3, 1)))
    >>> round(float(split.weights - jnp.log(1e-8)), 4), round(float(split.activation), 4)
    (0.0, -1.3863)
    """
    declared = structure(step)
    if declared is None:
        raise TypeError(f"{step!r} declares no affine-then-pointwise structure; this is offered for the built-in cells only")
    state, length = admit(step, params, state, xs, length)
    declared, params = prepared(declared, params)
    lay = layout(state)

    def body(carry: tuple[PyTree, Array], x: PyTree) -> tuple[tuple[PyTree, Array], tuple[Array, Array]]:
        h, v = carry
        inner = layout(jax.eval_shape(declared.affine, params, h, x), "affine part")
        affine = lambda u: inner.ravel(declared.affine(params, lay.unravel(u), x))
        pointwise = lambda z: lay.ravel(declared.pointwise(params, inner.unravel(z)))
        z, av = jax.jvp(affine, (lay.ravel(h),), (v,))
        new, pav = jax.jvp(pointwise, (z,), (av,))
        unit, log_step = rescale(pav, (0,))
        log_affine = log_norm(av, (0,))
        log_pointwise = jnp.where(log_affine == -jnp.inf, 0, log_step - jnp.where(log_affine == -jnp.inf, 0, log_affine))
        return (lay.unravel(new), unit), (log_affine, log_pointwise)

    v = random_frame(lay.size, 1, lay.dtype)[:, 0]
    _, (weights, activation) = jax.lax.scan(body, (state, v), xs, length=length)
    return GrowthSplit(weights.mean(), activation.mean())
