"""Does the analysis hold on this very model? Each check sets what the analysis claims beside an independent path.

A check never raises because it failed: it returns the error seen and the error allowed.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import bptt, flow, linearize, lyapunov, spectra, theory
from jaxrnn._border import compiled
from jaxrnn._tree import layout, named_leaves
from jaxrnn.cells import structure
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

    ‖total − ∂L/∂θ‖ over Σ‖terms‖, worst leaf. Allowed: 1e-10 in float64, 2000 eps else. The reference is
    differentiated along h_stored + h − stop_gradient(h), since two programs that round differently part in chaos.
    Arguments as ``bptt.decompose``.
    """  # fmt: skip
    claimed = bptt.decompose(step, params, state, xs, targets, loss, max_lag=max_lag, times=times)
    chosen = None if times is None else tuple(int(t) for t in times)
    reference = named_leaves(_stored_gradient(step, params, state, xs, targets, loss, times=chosen))
    scale = sum(float(jnp.sum(jnp.exp(leaf))) for leaf in jax.tree.leaves(claimed.log_norms))
    scale += sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(claimed.direct))
    gaps = {name: float(jnp.linalg.norm((leaf - reference[name]).ravel())) for name, leaf in named_leaves(claimed.total).items()}
    worst = max(gaps, key=lambda name: gaps[name] if np.isfinite(gaps[name]) else np.inf)
    error = gaps[worst] / scale if 0 < scale < np.inf else gaps[worst] if scale == 0 else np.inf  # overflown: nothing is shown
    eps = float(jnp.finfo(layout(state).dtype).eps)
    count = len(chosen) if chosen else jax.tree.leaves(targets)[0].shape[0]
    detail = f"worst leaf {worst}, relative to the sum of the terms' norms, loss at {count} of {jax.tree.leaves(targets)[0].shape[0]} steps"
    return _check("terms sum to jax.grad", error, _allowed(1e-10, 2000, eps), detail)


def determinants(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Check:
    """At every step the log growths of a full frame sum to ln|det J_t|.

    |Σ_i ln|R_t,ii| − ln|det J_t||, nats, at the step where it is worst relative to the allowed 1e-9 + n·eps·κ(J_t)
    (n·eps·(1 + |ln|det J_t||) instead of 1e-9 in float32).
    Steps with n·eps·κ > 0.1 are numerically singular: counted, not compared. Arguments as ``lyapunov.spectrum``.
    """
    jacobians = linearize.jacobians(step, params, state, xs, length=length)
    steps, n = jacobians.shape[:2]
    growth = lyapunov.spectrum(step, params, state, xs, length=length, blocks=steps).block_growth.sum(1)
    log_det = np.asarray(jnp.linalg.slogdet(jacobians)[1], np.float64)
    eps = float(jnp.finfo(jacobians.dtype).eps)
    sigma = np.asarray(spectra.singular_values(jacobians), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slack = n * eps * sigma[:, 0] / sigma[:, -1]
        error = np.abs(np.asarray(growth, np.float64) - log_det)
    singular = ~(slack <= 0.1)
    if singular.all():
        return _check("log growth sums to log|det J|", 0.0, 1e-9, f"all {steps} steps are numerically singular: nothing to compare")
    # In float32 the rounding of the n logarithms and of their sum comes on top.
    allowed = slack + _allowed(1e-9, n * (1 + np.abs(log_det)), eps)
    ratio = np.where(singular, -1, np.where(np.isfinite(error), error / allowed, np.inf))
    t = int(np.argmax(ratio))
    detail = f"nats, worst at step {t + 1} of {steps}; {int(singular.sum())} numerically singular steps left out"
    return _check("log growth sums to log|det J|", float(error[t]), float(allowed[t]), detail)


def products(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Check:
    """Matrix-free push and pull equal the dense Jacobian and its transpose times the same random vectors.

    max over steps of ‖J V − push(V)‖ / (‖J‖ ‖V‖), and likewise for pull. Allowed: 1e-12 in float64, 100 eps else.
    """
    error = _product_errors(step, params, state, xs, length=length)
    eps = float(jnp.finfo(error.dtype).eps)
    steps, worst = len(error), jnp.nanargmax(jnp.where(jnp.isnan(error), jnp.inf, error))
    detail = f"relative to the norms, worst at step {int(worst) + 1} of {steps}"
    return _check("push and pull equal dense J", float(error[worst]), _allowed(1e-12, 100, eps), detail)


def bounds(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Check:
    """No step grows the transport beyond what its own Jacobian allows.

    σ_n(J_t) ≤ ‖∂h_t/∂h_k‖_F / ‖∂h_{t−1}/∂h_k‖_F ≤ σ₁(J_t) for every k < t, with equality to ‖J_t‖_F / √n at k = t − 1;
    ρ(J_t) ≤ σ₁(J_t); and for cells with one activation σ₁(J_t) ≤ sup|φ'| σ₁(W_hh). The largest violation in nats;
    allowed 1e-9 in float64, 1000 eps else.
    """
    jacobians = linearize.jacobians(step, params, state, xs, length=length)
    steps, n = jacobians.shape[:2]
    transport = np.asarray(flow.log_transport(step, params, state, xs, length=length), np.float64)
    eps = float(jnp.finfo(jacobians.dtype).eps)
    sigma = np.asarray(spectra.singular_values(jacobians), np.float64)
    radius = np.asarray(spectra.spectral_radius(jacobians), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Rounding of relative size n·eps of the largest singular value hides what lies below it.
        low, high = np.log(np.maximum(sigma[:, -1] - n * eps * sigma[:, 0], 0)), np.log(sigma[:, 0])
        growth = transport[1:] - transport[:-1]
        alive = np.isfinite(transport[:-1])  # k ≤ t − 1 and not died before
        over = np.where(alive, growth - high[:, None], -np.inf)
        under = np.where(alive, np.where(low[:, None] == -np.inf, -np.inf, low[:, None] - growth), -np.inf)
        one_step = transport[np.arange(1, steps + 1), np.arange(steps)]
        one_dense = np.log(np.sqrt((sigma**2).sum(1) / n))
        violations = {
            "transport over one step is not ‖J_t‖_F": np.where(one_step == one_dense, 0, np.abs(one_step - one_dense)),
            "transport above σ₁(J_t)": over.max(1),
            "transport below σ_n(J_t)": under.max(1),
            # An eigenvalue of a non-normal matrix is known to (eps)^(1/n) only; its modulus never exceeds σ₁ by more.
            "ρ(J_t) above σ₁(J_t)": np.log(radius) - high,
        }
        declared = structure(step)
        if declared is not None and declared.slope_bound is not None:
            bound = theory.pascanu_bounds(_affine_matrix(declared, params, state, xs), declared.slope_bound)
            violations["σ₁(J_t) above sup|φ'| σ₁(W)"] = high - float(bound.log_step_bound)
    worst = {what: float(np.max(np.where(np.isnan(v), np.where(sigma[:, 0] == 0, -np.inf, np.inf), v))) for what, v in violations.items()}
    what = max(worst, key=worst.__getitem__)
    return _check("per-step bounds", max(worst[what], 0.0), _allowed(1e-9, 1000, eps), f"nats, over {steps} steps; closest or worst: {what}")


def _check(name: str, error: float, allowed: float, detail: str) -> Check:
    return Check(name, error, allowed, bool(error <= allowed), detail)  # NaN fails


def _allowed(in_float64: float, ulps: Any, eps: float) -> Any:
    return in_float64 if eps < 1e-12 else ulps * eps


@compiled("step", "loss", "times")
def _stored_gradient(step: Step, params: PyTree, state: PyTree, xs: PyTree, targets: PyTree, loss: Loss, *, times: tuple[int, ...] | None) -> PyTree:
    """∂L/∂θ by reverse mode through the whole unroll, linearised on stored states, without the layout."""
    stored = states(step, params, state, xs)

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
    """Relative error of push and pull at every step (T,)."""
    jacobians = linearize.jacobians(step, params, state, xs, length=length)
    n = jacobians.shape[1]
    before = preceding(state, states(step, params, state, xs, length=length))
    vectors = jax.random.normal(jax.random.key(1), (n, 3), jacobians.dtype)

    def one(row: tuple[PyTree, PyTree, Array]) -> Array:
        h, x, j = row
        size = jnp.linalg.norm(j) * jnp.linalg.norm(vectors)
        gap = jnp.maximum(
            jnp.linalg.norm(linearize.push(step, params, h, x, vectors)[1] - j @ vectors),
            jnp.linalg.norm(linearize.pull(step, params, h, x, vectors)[1] - j.T @ vectors),
        )
        return gap / jnp.where(size == 0, 1, size)

    return jax.lax.map(one, (before, xs, jacobians))


def _affine_matrix(declared: Any, params: PyTree, state: PyTree, xs: PyTree) -> Array:
    """A = ∂affine/∂h, the same at every state and input."""
    lay = layout(state)
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    inner = layout(jax.eval_shape(declared.affine, params, state, x), "affine part")
    return jax.jacfwd(lambda v: inner.ravel(declared.affine(params, lay.unravel(v), x)))(lay.ravel(state))
