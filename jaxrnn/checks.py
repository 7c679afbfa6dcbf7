"""Does the analysis hold on this very model? Each check sets what the analysis claims beside an independent path.

A check never raises because it failed: it returns the error seen and the error allowed.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import bptt, flow, linearize, lyapunov, spectra, theory
from jaxrnn._border import compiled, sequence_length, targets_length
from jaxrnn._tree import layout, named_leaves
from jaxrnn.cells import prepared, structure
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.unroll import preceding, states

PyTree = Any


class Check(NamedTuple):
    """One self-check."""

    name: str  # what was checked
    error: float  # the error seen, in the unit that ``detail`` names
    allowed: float  # the error allowed
    passed: bool
    detail: str  # what was compared with what, over which steps


def terms(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    targets: PyTree,
    loss: Loss,
    *,
    max_lag: int | None = None,
    times: tuple[int, ...] | None = None,
) -> Check:
    """The (t, k) terms sum to the gradient that ``jax.grad`` computes on the same stored states.

    ‖total − ∂L/∂θ‖ over Σ‖terms‖ of the same leaf, worst leaf. Allowed: 1e-10 in float64, 2000 eps else. The reference is
    differentiated along h_stored + h − stop_gradient(h), on the same stored states: in chaos two programs part.
    Arguments as ``bptt.decompose``.
    """  # fmt: skip
    chosen = None if times is None else tuple(int(t) for t in times)
    length = targets_length(xs, targets)
    stored = _states(step, params, state, xs, length=length)
    claimed = bptt.decompose(step, params, state, xs, targets, loss, max_lag=max_lag, times=chosen, trajectory=stored)
    reference = named_leaves(_stored_gradient(step, params, state, xs, targets, stored, loss=loss, times=chosen))
    norms, by_lag, direct = (named_leaves(part) for part in (claimed.log_norms, claimed.by_lag, claimed.direct))
    errors = {}
    for name, leaf in named_leaves(claimed.total).items():
        scale = float(jnp.sum(jnp.exp(norms[name]))) + float(jnp.linalg.norm(by_lag[name][-1].ravel()))
        scale += float(jnp.sum(jnp.linalg.norm(direct[name].reshape(direct[name].shape[0], -1), axis=1)))
        gap = float(jnp.linalg.norm((leaf - reference[name]).ravel()))
        errors[name] = gap if scale == 0 else gap / scale if scale < np.inf else np.inf  # overflown: nothing is shown
    worst = max(errors, key=lambda name: errors[name] if errors[name] == errors[name] else np.inf)
    steps = jax.tree.leaves(stored)[0].shape[0]
    detail = f"worst leaf {worst}, relative to the sum of its terms' norms, loss at {len(chosen) if chosen else steps} of {steps} steps"
    return _check("terms sum to jax.grad", errors[worst], _allowed(1e-10, 2000, layout(state).eps), detail)


def determinants(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Check:
    """At every step the log growths of a full frame sum to ln|det J_t|.

    |Σ_i ln|R_t,ii| − ln|det J_t||, nats, at the step where it is worst relative to the allowed 1e-9 + n·eps·κ(J_t)
    (n·eps·(1 + |ln|det J_t||) instead of 1e-9 in float32). Steps with n·eps·κ > 0.1 are numerically singular: counted,
    not compared. Run over stretches of at most 8 steps from stored states. Arguments as ``lyapunov.spectrum``.
    """
    stretches = _stretches(step, params, state, xs, length)
    growth, jacobians = (np.asarray(v) for v in _growth_and_jacobians(step, params, *stretches))
    n, eps = jacobians.shape[-1], layout(state).eps
    scale = np.abs(jacobians).max((-2, -1), keepdims=True)
    scale = np.where(scale > 0, scale, 1)
    log_det = np.asarray(jnp.linalg.slogdet(jacobians / scale)[1], np.float64) + n * np.log(scale[..., 0, 0])
    sigma = np.asarray(spectra.singular_values(jacobians / scale), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slack = n * eps * sigma[..., 0] / sigma[..., -1]
        error = np.abs(growth.astype(np.float64) - log_det)
    singular = (slack > 0.1) | (sigma[..., 0] == 0)
    if singular.all():
        return _check("log growth sums to log|det J|", 0.0, 1e-9, f"all {singular.size} steps are numerically singular: nothing to compare")
    # In float32 the rounding of the n logarithms and of their sum comes on top.
    allowed = np.where(singular, 1, slack) + _allowed(1e-9, n * (1 + np.abs(log_det)), eps)
    at = np.unravel_index(np.argmax(np.where(singular, -1, np.where(np.isfinite(error), error / allowed, np.inf))), error.shape)
    detail = f"nats, worst of {singular.size} steps; {int(singular.sum())} numerically singular steps left out"
    return _check("log growth sums to log|det J|", float(error[at]), float(allowed[at]), detail)


def products(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Check:
    """Matrix-free push and pull equal the dense Jacobian and its transpose times the same random vectors.

    max over steps of ‖J V − push(V)‖ / (‖J‖ ‖V‖), and likewise for pull. Allowed: 1e-12 in float64, 100 eps else.
    """
    error = np.asarray(_product_errors(step, params, state, xs, length=length), np.float64)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    detail = f"relative to the norms, worst at step {worst + 1} of {len(error)}"
    return _check("push and pull equal dense J", float(error[worst]), _allowed(1e-12, 100, layout(state).eps), detail)


def bounds(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Check:
    """No step grows the transport beyond what its own Jacobian allows.

    σ_n(J_t) ≤ ‖∂h_t/∂h_k‖_F / ‖∂h_{t−1}/∂h_k‖_F ≤ σ₁(J_t) for every k < t, with equality to ‖J_t‖_F / √n at k = t − 1;
    ρ(J_t) ≤ σ₁(J_t); and for cells with one activation σ₁(J_t) ≤ sup|φ'| σ₁(W_hh). The largest violation in nats;
    allowed 1e-9 in float64, 1000 eps else. Run over stretches of at most 8 steps from stored states.
    """
    stretches = _stretches(step, params, state, xs, length)
    transport, jacobians = (np.asarray(v) for v in _transport_and_jacobians(step, params, *stretches))
    m, n, eps = jacobians.shape[1], jacobians.shape[-1], layout(state).eps
    scale = np.abs(jacobians).max((-2, -1), keepdims=True)
    scale = np.where((scale > 0) & (scale < np.inf), scale, 1)
    sigma = np.asarray(spectra.singular_values(jacobians / scale), np.float64)
    log_scale, transport = np.log(scale[..., 0, 0].astype(np.float64)), transport.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.log(np.asarray(spectra.spectral_radius(jacobians / scale), np.float64)) + log_scale
        # Rounding of relative size n·eps of the largest singular value hides what lies below it.
        low = np.log(np.maximum(sigma[..., -1] - n * eps * sigma[..., 0], 0)) + log_scale
        high = np.log(sigma[..., 0]) + log_scale
        one_dense = 0.5 * np.log((sigma**2).mean(-1)) + log_scale
        one_step = transport[:, np.arange(1, m + 1), np.arange(m)]
        growth = transport[:, 1:] - transport[:, :-1]
        alive = (transport[:, :-1] != -np.inf) & (np.arange(1, m + 1)[:, None] > np.arange(m + 1))
        over = np.where(alive & (growth != high[..., None]), growth - high[..., None], -np.inf)
        under = np.where(alive & (low[..., None] > -np.inf), low[..., None] - growth, -np.inf)
        violations = {
            "transport over one step is not ‖J_t‖_F": np.where(one_step == one_dense, 0, np.abs(one_step - one_dense)),
            "transport above σ₁(J_t)": over,
            "transport below σ_n(J_t)": under,
            "ρ(J_t) above σ₁(J_t)": np.where(radius == high, 0, radius - high),
        }
        declared = structure(step)
        if declared is not None and declared.slope_bound is not None:
            bound = theory.pascanu_bounds(_affine_matrix(declared, params, state, xs), declared.slope_bound)
            violations["σ₁(J_t) above sup|φ'| σ₁(W)"] = np.where(high == -np.inf, 0, high - float(bound.log_step_bound))
    worst = {what: float(np.max(np.where(np.isnan(v), np.inf, v))) for what, v in violations.items()}
    what = max(worst, key=worst.__getitem__)
    detail = f"nats, over {high.size} steps; closest or worst: {what}"
    return _check("per-step bounds", max(worst[what], 0.0), _allowed(1e-9, 1000, eps), detail)


def _stretches(step: Step, params: PyTree, state: PyTree, xs: PyTree, length: int | None) -> tuple[PyTree, PyTree, int]:
    """Stretches of m ≤ 8 steps that cover the run: their first states (S, ...), inputs (S, m, ...), and m.

    Two programs that run a chaotic trajectory apart would disagree however right they are; from stored states they have
    no time to part.
    """
    length = sequence_length(xs, length)
    m = min(8, length)
    starts = np.minimum(np.arange(0, length, m), length - m)
    before = preceding(state, _states(step, params, state, xs, length=length))
    inputs = jax.tree.map(lambda leaf: leaf[starts[:, None] + np.arange(m)], xs)
    return jax.tree.map(lambda leaf: leaf[starts], before), inputs, m


def _check(name: str, error: float, allowed: float, detail: str) -> Check:
    return Check(name, error, allowed, bool(error <= allowed), detail)  # NaN fails


def _allowed(in_float64: float, ulps: Any, eps: float) -> Any:
    return in_float64 if eps < 1e-12 else ulps * eps


@compiled("step", "length")
def _states(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None) -> PyTree:
    return states(step, params, state, xs, length=length)


@compiled("step", "m")
def _growth_and_jacobians(step: Step, params: PyTree, starts: PyTree, inputs: PyTree, m: int) -> tuple[Array, Array]:
    """Σ_i ln|R_ii| at every step (S, m), and the dense Jacobians there (S, m, n, n)."""
    growth = lambda h, x: lyapunov.spectrum(step, params, h, x, length=m, blocks=m).block_growth.sum(1)
    dense = lambda h, x: linearize.jacobians(step, params, h, x, length=m)
    return jax.vmap(growth)(starts, inputs), jax.vmap(dense)(starts, inputs)


@compiled("step", "m")
def _transport_and_jacobians(step: Step, params: PyTree, starts: PyTree, inputs: PyTree, m: int) -> tuple[Array, Array]:
    """The transport within each stretch (S, m + 1, m + 1), and the dense Jacobians there."""
    moved = lambda h, x: flow.log_transport(step, params, h, x, length=m)
    dense = lambda h, x: linearize.jacobians(step, params, h, x, length=m)
    return jax.vmap(moved)(starts, inputs), jax.vmap(dense)(starts, inputs)


@compiled("step", "loss", "times")
def _stored_gradient(
    step: Step, params: PyTree, state: PyTree, xs: PyTree, targets: PyTree, stored: PyTree, *, loss: Loss, times: tuple[int, ...] | None
) -> PyTree:
    """∂L/∂θ by reverse mode through the whole unroll, linearised on stored states, without the layout."""

    def on_stored(theta: PyTree, h: PyTree, xs_stored: tuple[PyTree, PyTree]) -> PyTree:
        x, before = xs_stored
        at = jax.tree.map(lambda kept, live: kept + (live - jax.lax.stop_gradient(live)), before, h)
        return step(theta, at, x)

    def total(theta: PyTree) -> Array:
        live = states(on_stored, theta, state, (xs, preceding(state, stored)))
        at = jax.tree.map(lambda kept, h: kept + (h - jax.lax.stop_gradient(h)), stored, live)
        losses = jax.vmap(loss, (None, 0, 0, 0))(theta, at, xs, targets)
        return losses.sum() if times is None else losses[np.asarray(times) - 1].sum()

    return jax.grad(total)(params)


@compiled("step", "length")
def _product_errors(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None) -> Array:
    """Relative error of push and pull at every step (T,), everything divided by max|J| first."""
    length = sequence_length(xs, length)
    before = preceding(state, states(step, params, state, xs, length=length))
    n = layout(state).size
    vectors = jax.random.normal(jax.random.key(1), (n, 3), layout(state).dtype)

    def one(row: tuple[PyTree, PyTree]) -> Array:
        h, x = row
        j = linearize.jacobians(step, params, h, jax.tree.map(lambda leaf: leaf[None], x), length=1)[0]
        largest = jnp.max(jnp.abs(j))
        scale = jnp.where(largest == 0, 1, largest)
        size = jnp.linalg.norm(j / scale) * jnp.linalg.norm(vectors)
        gap = jnp.maximum(
            jnp.linalg.norm(linearize.push(step, params, h, x, vectors)[1] / scale - j / scale @ vectors),
            jnp.linalg.norm(linearize.pull(step, params, h, x, vectors)[1] / scale - j.T / scale @ vectors),
        )
        return gap / jnp.where(size == 0, 1, size)

    return jax.lax.map(one, (before, xs))


def _affine_matrix(declared: Any, params: PyTree, state: PyTree, xs: PyTree) -> Array:
    """A = ∂affine/∂h, the same at every state and input."""
    declared, params = prepared(declared, params)
    lay = layout(state)
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    inner = layout(jax.eval_shape(declared.affine, params, state, x), "affine part")
    return jax.jacfwd(lambda v: inner.ravel(declared.affine(params, lay.unravel(v), x)))(lay.ravel(state))
