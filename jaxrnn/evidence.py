"""What was measured on these sequences: the numbers that a verdict rests on, and what they cost.

``gather`` runs every analysis over a batch; what is sampled or strided is chosen before, from sizes alone, in ``Plan``.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import _measure, bptt, flow, spectra
from jaxrnn._tree import layout
from jaxrnn.cells import prepared, structure
from jaxrnn.cells.compose import StackStep
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.unroll import masked

PyTree = Any
Progress = Callable[[str, int, int], None]

_RATE = 4e9  # flops a second of float64 products at n = 64 on two cores; the estimate is good to a factor of about three
_SECONDS = 5.0  # for one kind of analysis, about
_SIGMAS = 16  # leading singular values kept of each product
_LEAVES = 8  # the transport is told apart by blocks up to this many leaves
_MEMORY = 1e9  # bytes for the arrays of one analysis


class Plan(NamedTuple):
    """What will be computed, chosen from sizes alone."""

    sequences: int  # how many sequences give exponents and gains
    steps: int  # T
    dimension: int  # n, real coordinates of the state
    exponents: int  # how many leading Lyapunov exponents
    jacobians: int  # how many (sequence, step) pairs give eigenvalues and singular values, drawn at random
    transport_sequences: int  # how many sequences give the transport between all pairs of times
    transport_stride: int  # distance between its starting times
    gradient_sequences: int  # how many sequences give the terms of ∂L/∂θ; 0 without a loss
    gradient_times: int  # of how many times t at most
    max_lag: int  # lags told apart in the terms
    check_steps: int  # length of the stretch at the end of the first sequence on which the self-checks run
    seconds: float  # rough estimate, compilation apart
    bytes: float  # rough estimate of the peak


class Gradient(NamedTuple):
    """The gradient of a loss over times and lags."""

    log_states: np.ndarray  # (T + 1,) mean over sequences of log‖∂L/∂h_t‖, nats
    log_last: np.ndarray  # (3, T + 1) 10, 50 and 90 % quantiles over sequences of log‖∂L_s/∂h_{s−lag}‖ by lag, s the last step with a loss; nats
    log_by_lag: np.ndarray  # (lags,) mean over sequences of log Σ_t ‖term(t, t − lag)‖
    lag_share: np.ndarray  # (lags,) mean over sequences of the share carried by lags ≥ lag
    lag_share_errors: np.ndarray  # (lags,) standard error between sequences; inf for one
    cosine: np.ndarray  # (lags,) mean over sequences of the cosine of the truncated with the full gradient
    truncation_lags: np.ndarray  # per sequence, for a cosine of 0.99
    times: tuple[int, ...]  # the t whose losses were taken apart


class Evidence(NamedTuple):
    """Everything measured, as NumPy arrays over the B measured sequences; rates in nats per step."""

    plan: Plan
    given: int  # how many sequences there were
    given_steps: int  # of how many steps, the longest
    chosen: np.ndarray  # (B,) which of them were measured
    lengths: np.ndarray  # (B,) steps analysed of each: its length, or up to its last finite state; T is the longest
    first_nonfinite: np.ndarray  # (given,) first step whose state is not finite, 0 where there is none
    first_nonfinite_jacobian: np.ndarray  # (B,) first step whose Jacobian is not finite though the state is, 0 for none
    log_gain: np.ndarray  # (B,) log σ₁(∂h_T/∂h_0), nats over the whole sequence
    log_separation: np.ndarray  # (B,) the same for a perturbation of the size of the states, along that direction
    exponents: np.ndarray  # (k,) total log growth over total steps, descending
    standard_errors: np.ndarray  # (k,) between sequences; from 8 blocks of time where B = 1
    rate: float  # Σ log_gain / Σ lengths
    rate_error: float  # its standard error, as above
    freedom: int  # degrees of freedom of the errors: B − 1, or blocks of time − 1
    one_trajectory: bool  # whether the errors come from blocks of time: one sequence, or all take the same trajectory
    jacobian_steps: np.ndarray  # (P,) the steps t of the sampled Jacobians
    eigenvalues: np.ndarray  # (P, n) of these, complex
    log_radius: np.ndarray  # (P,) log ρ(J_t)
    log_sigma: np.ndarray  # (P,) log σ₁(J_t)
    product_lags: np.ndarray  # (L,) steps from the start of a sequence
    product_log_sigma: np.ndarray  # (B, L, k) log σ_i(∂h_lag/∂h_0); NaN where drowned in rounding or past the end, −inf where zero
    unit_names: tuple[str, ...]  # one for each of the n real coordinates of the state
    unit_shares: (
        np.ndarray
    )  # (2, n) mean over sequences of the squared entries of the singular vectors of σ₁(∂h_T/∂h_0): at the start, at the end; NaN where all are zero
    transport: np.ndarray  # (T + 1, K) mean over sequences that last so long of log(‖∂h_t/∂h_k‖_F / √n), NaN beyond
    transport_by_lag: np.ndarray  # (3, T + 1) its 10, 50 and 90 % quantiles over starting times and sequences
    blocks: dict[tuple[str, str], np.ndarray]  # {(from, to): (T + 1,)} median by lag of each block's transport; empty for one or many leaves
    horizon: np.ndarray  # (3,) lags after which 10, 50 and 90 % of the starting times have fallen below 1/e
    censored: float  # share of starting times above 1/e to the end
    state_rate: np.ndarray  # (B,) growth of log‖h_t‖ per step over the second half
    movement: np.ndarray  # (B,) ‖h_t − h_{t−1}‖ over ‖h_t‖ there; 0 at rest
    split: tuple[float, float] | None  # growth by weights and by activations over the steps all have; None where the step declares no structure
    slope_bound: float | None  # sup|φ'| of a cell with one activation; None for all others
    dies: bool  # whether the slope of that activation is exactly 0 at −1, as ReLU's
    gated: bool | None  # whether all layers are gated; None for opaque steps
    gradient: Gradient | None  # None without a loss, or where states are not finite


def plan(sequences: int, steps: int, dimension: int, parameters: int = 0, itemsize: int = 8) -> Plan:
    """What to compute of B sequences of T steps and n real coordinates, and what it will cost.

    Each kind of analysis aims at a fixed number of operations; what does not fit is sampled or strided, down to 2
    sequences, 8 starting times and 16 Jacobians, which are computed whatever they cost: for n in the thousands read
    ``seconds`` first. ``parameters`` is the number of entries of θ, 0 without a loss.

    >>> from jaxrnn import evidence
    >>> evidence.plan(16, 784, 256).transport_stride > 1
    True
    """
    given, T, n = sequences, steps, dimension
    at_most = lambda budget, cost, low, high: int(min(high, max(low, budget // max(cost, 1))))
    rate = _RATE * max(1.0, n / 64) ** 2  # matrix products run faster as they grow, eigenvalues hardly do
    budget = _SECONDS * rate
    k = n if n <= 64 else 16
    B = at_most(50 * budget, T * (8 * n * n * k + 4 * n**3), 2, given)
    jacobians = at_most(_SECONDS / 2 * _RATE * max(1.0, n / 64), 50 * n**3, 16, B * T)
    starts = at_most(budget, 2 * T * n**3, 8, min(T + 1, 100))
    stride = -(-(T + 1) // starts)
    starts = -(-(T + 1) // stride)
    moved = at_most(4 * budget, 2 * T * starts * n**3, 1, min(B, 8))
    lags = at_most(_MEMORY, 2 * itemsize * parameters, 1, T)
    terms = at_most(_SECONDS / 2 * _RATE, 6 * lags * parameters, 1, B * T)
    graded = min(B, 8, terms) if parameters else 0
    times = min(T, terms // max(graded, 1))
    check = at_most(_SECONDS / 4 * _RATE, 60 * n**3, 16, min(T, 128))
    flops = B * T * (8 * n * n * k + 4 * n**3) + moved * 2 * T * starts * n**3 + check * 150 * n**3
    small = 50 * n**3 * jacobians / max(1.0, n / 64) + graded * times * lags * 6 * parameters
    seconds = flops / rate + small / _RATE
    arrays = given * T * n * 4 + max(3 * starts * n * n, (jacobians + 4 * check) * n * n, (times + 3 * lags) * parameters)
    return Plan(B, T, n, k, jacobians, moved, stride, graded, times, lags - 1, check, seconds, arrays * itemsize)


def gather(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    targets: PyTree,
    loss: Loss | None,
    lengths: np.ndarray,
    progress: Progress,
) -> Evidence:
    """Run every analysis of the plan. ``xs`` (given, T, ...) or None, ``lengths`` (given,); the arguments were checked."""
    progress("states", 0, 6)
    length = next((leaf.shape[1] for leaf in jax.tree.leaves(xs)), int(lengths.max()))
    facts = _measure.state_facts(step, params, state, xs, lengths, length=length, count=len(lengths))
    first_bad, state_rate, movement = (np.asarray(fact) for fact in facts)
    first_bad = np.where(first_bad > lengths, 0, first_bad)
    lengths = np.where(first_bad > 0, first_bad - 1, lengths)
    lay = layout(state)
    size = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params)) if loss is not None else 0
    usable = np.flatnonzero(lengths > 0)
    todo = plan(max(len(usable), 1), int(max(lengths.max(), 1)), lay.size, size, lay.dtype.itemsize)
    chosen = usable[: todo.sequences]
    common: dict[str, Any] = {
        "given": len(lengths),
        "given_steps": length,
        "chosen": chosen,
        "lengths": lengths[chosen],
        "first_nonfinite": first_bad,
    }
    common |= {"state_rate": state_rate[chosen], "movement": movement[chosen]}
    if not chosen.size:
        return _nothing(todo, common)
    lengths, overflown = lengths[chosen], bool((first_bad[chosen] > 0).any())
    xs, targets = (_held(tree, chosen, lengths, todo.steps) for tree in (xs, targets))
    found = _declared(step, params, state, xs, int(lengths.min()))
    if (lengths < todo.steps).any():
        xs = (xs, jnp.asarray(np.arange(todo.steps) < lengths[:, None]))
        step, loss = masked(step), None if loss is None else _measure.MaskedLoss(loss)
    gradient = None
    model: tuple = (step, params, state, xs)
    same = _same(movement[chosen], state_rate[chosen], lengths)
    found |= _rates(model, lengths, same, todo, progress) | _transport(model, lengths, todo, progress)
    progress("terms of the gradient", 5, 6)
    if loss is not None and not overflown:
        gradient = _gradient(model, targets, loss, lengths, todo)
    progress("self-checks", 6, 6)
    return Evidence(plan=todo, gradient=gradient, **common, **found)


def _declared(step: Step, params: PyTree, state: PyTree, xs: PyTree, shortest: int) -> dict[str, Any]:
    """What a built-in step says of itself, and the split of its growth over the steps that all sequences have."""
    parts = [structure(part) for part in (step.steps if isinstance(step, StackStep) else (step,))]
    gated = None if None in parts else all(part.gated for part in parts if part is not None)
    found: dict[str, Any] = {"gated": gated, "slope_bound": None, "dies": False, "split": None}
    declared = structure(step)
    if declared is None:
        return found
    count = len(jax.tree.leaves(xs)[0]) if jax.tree.leaves(xs) else 1
    seen = jax.tree.map(lambda leaf: leaf[:, :shortest], xs)
    batch = _measure.batch_size(count, layout(state).size)
    weights, activation = _measure.splits(step, params, state, seen, length=shortest, count=count, batch=batch)
    found |= {"slope_bound": declared.slope_bound, "split": (float(np.mean(weights)), float(np.mean(activation)))}
    if declared.slope_bound is not None:
        x = jax.tree.map(lambda leaf: leaf[0, 0], xs)
        declared, params = prepared(declared, params)
        below = jax.tree.map(lambda leaf: -jnp.ones(leaf.shape, leaf.dtype), jax.eval_shape(declared.affine, params, state, x))
        slopes = jax.jvp(lambda z: declared.pointwise(params, z), (below,), (below,))[1]
        found["dies"] = all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(slopes))
    return found


def _held(tree: PyTree, chosen: np.ndarray, lengths: np.ndarray, steps: int) -> PyTree:
    """The chosen sequences over the given number of steps, each held at its last valid entry beyond its end, which is not read."""
    t = np.minimum(np.arange(steps), lengths[:, None] - 1)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen[:, None], t], tree)


def _rates(model: tuple, lengths: np.ndarray, same: bool, todo: Plan, progress: Progress) -> dict[str, Any]:
    """Exponents, gains and eigenvalues."""
    step, params, state, xs = model
    T, count = todo.steps, len(lengths)
    batch = _measure.batch_size(count, todo.dimension)
    progress("Lyapunov exponents", 1, 6)
    growth, over_time = (np.asarray(v) for v in _measure.growth(step, params, state, xs, length=T, count=count, k=todo.exponents, batch=batch))
    exponents, errors = _pooled(growth, lengths)
    order = np.argsort(-exponents)
    alone = count == 1 or same
    exponents, errors = exponents[order], over_time[0] if alone else errors[order]
    progress("gain over the whole length", 2, 6)
    lags = tuple(int(lag) for lag in np.unique(np.geomspace(1, T, 12).round()))
    at_most = min(todo.dimension, _SIGMAS)
    parts = _measure.gains(step, params, state, xs, jnp.asarray(lengths), lags=lags, count=count, k=at_most, batch=batch)
    gain, separation, log_sigma_products, shares = (np.asarray(v, np.float64) for v in parts)
    rate, rate_error = _pooled(gain[:, None], lengths)
    bad = np.zeros(count, int)
    for b in np.flatnonzero(np.isnan(gain)):
        flags = np.asarray(_measure.bad_jacobians(step, params, state, jax.tree.map(lambda leaf, b=b: leaf[b], xs), length=T))
        bad[b] = int(np.argmax(flags)) + 1 if flags.any() else 0
    progress("eigenvalues of the Jacobians", 3, 6)
    alive, there = np.isfinite(gain), np.asarray(lags)[None, :, None] <= lengths[:, None, None]
    return _sampled(model, lengths, todo) | {
        "first_nonfinite_jacobian": bad, "log_gain": gain, "log_separation": separation, "exponents": exponents, "standard_errors": errors,
        "rate": float(rate[0]), "rate_error": float(over_time[0, 0] if alone else rate_error[0]),
        "freedom": (min(8, T) if alone else count) - 1, "one_trajectory": alone,
        "product_lags": np.asarray(lags), "product_log_sigma": np.where(there, log_sigma_products, np.nan),
        "unit_names": layout(state).coordinate_names(), "unit_shares": shares[alive].mean(0) if alive.any() else np.full(shares.shape[1:], np.nan),
    }  # fmt: skip


def _same(movement: np.ndarray, state_rate: np.ndarray, lengths: np.ndarray) -> bool:
    """Whether all sequences take one trajectory: input that does nothing leaves no spread between them to learn from."""
    alike = lambda values: bool(np.ptp(values) <= 1e-9 * np.abs(values).max())
    return len(set(lengths)) == 1 and alike(movement) and alike(state_rate)


def _pooled(growth: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Total growth over total steps (k,), and the standard error of that ratio between sequences; inf for one."""
    growth, steps, count = np.asarray(growth, np.float64), np.asarray(lengths, np.float64)[:, None], len(lengths)
    with np.errstate(invalid="ignore"):
        rates = growth.sum(0) / steps.sum()
        spread = np.where(np.isfinite(rates), growth - rates * steps, 0)
    errors = np.sqrt(count / max(count - 1, 1) * (spread**2).sum(0)) / steps.sum()
    return rates, np.where(np.isfinite(rates) & (count > 1), errors, np.inf)


def _sampled(model: tuple, lengths: np.ndarray, todo: Plan) -> dict[str, np.ndarray]:
    """Eigenvalues, log ρ(J_t) and log σ₁(J_t) of random steps: a stride could fall into step with a periodic input."""
    step, params, state, xs = model
    b, t = np.nonzero(np.arange(todo.steps)[None] < lengths[:, None])
    at = np.sort(np.random.default_rng(0).permutation(len(b))[: todo.jacobians])
    jacobians = np.asarray(_measure.jacobians_at(step, params, state, xs, b[at], t[at], length=todo.steps, count=len(lengths)))
    scale = np.abs(jacobians).max((-2, -1), keepdims=True)
    scale = np.where((scale > 0) & (scale < np.inf), scale, 1)
    eigenvalues, sigma = np.asarray(spectra.eigenvalues(jacobians / scale)), np.asarray(spectra.singular_values(jacobians / scale))
    with np.errstate(divide="ignore", over="ignore"):
        log = lambda values: np.log(np.asarray(values, np.float64)) + np.log(scale[:, 0, 0].astype(np.float64))
        return {
            "jacobian_steps": t[at] + 1,
            "eigenvalues": eigenvalues * scale[:, 0],
            "log_radius": log(np.abs(eigenvalues).max(-1)),
            "log_sigma": log(sigma[:, 0]),
        }


def _transport(model: tuple, lengths: np.ndarray, todo: Plan, progress: Progress) -> dict[str, Any]:
    """Transport between all pairs of times, its quantiles by lag, and the horizon."""
    step, params, state, xs = model
    progress("transport between all pairs of times", 4, 6)
    T, stride, count = todo.steps, todo.transport_stride, min(todo.transport_sequences, len(lengths))
    ends, common = lengths[:count], {"length": T, "count": count, "stride": stride}
    parts: dict = {}
    if 1 < len(jax.tree.leaves(state)) <= _LEAVES:
        found = _measure.transport_blocks(step, params, state, xs, **common)
        parts = {pair: np.asarray(values, np.float64) for pair, values in found.items()}
        values = 0.5 * np.logaddexp.reduce([2 * part for part in parts.values()])
    else:
        values = np.asarray(_measure.transports(step, params, state, xs, **common), np.float64)
    seen = flow.horizon(jnp.asarray(values), stride=stride, lengths=jnp.asarray(ends))
    return {
        "transport": _mean_while_lasting(values, ends),
        "transport_by_lag": _quantiles_by_lag(values, ends, stride, (0.1, 0.5, 0.9)),
        "blocks": {pair: _quantiles_by_lag(part, ends, stride, (0.5,))[0] for pair, part in parts.items()},
        "horizon": np.asarray(seen.lags),
        "censored": float(seen.censored),
    }


def _quantiles_by_lag(values: np.ndarray, ends: np.ndarray, stride: int, quantiles: tuple[float, ...]) -> np.ndarray:
    """Quantiles by lag (Q, T + 1) over starting times and sequences of (B, T + 1, K); NaN where no pair has that lag."""
    T, k = values.shape[1] - 1, stride * np.arange(values.shape[2])
    by_lag = np.full((len(quantiles), T + 1), np.nan)
    for lag in range(T + 1):
        columns = np.flatnonzero(k + lag <= T)
        here = values[:, k[columns] + lag, columns][k[columns] + lag <= ends[:, None]]
        if here.size:
            by_lag[:, lag] = np.quantile(here, quantiles, method="inverted_cdf")
    return by_lag


def _mean_while_lasting(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Mean over sequences of (B, T + 1, ...) at the times that each reaches; beyond its end a masked step stands still."""
    there = (np.arange(values.shape[1]) <= ends[:, None]).reshape(*values.shape[:2], *(1,) * (values.ndim - 2))
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(0) / there.sum(0)  # NaN where none lasts so long


def _gradient(model: tuple, targets: PyTree, loss: Loss, lengths: np.ndarray, todo: Plan) -> Gradient:
    """The terms of the gradient in the first sequences, at the times at which the loss depends on the state."""
    step, params, state, xs = model
    count = min(todo.gradient_sequences, len(jax.tree.leaves(targets)[0]))
    reached = np.asarray(_measure.loss_reaches_state(step, params, state, xs, targets, loss=loss, count=count))
    last = np.where(reached.any(1), todo.steps - np.argmax(reached[:, ::-1], 1), lengths[:count]).astype(np.int32)
    tail = np.asarray(_measure.last_loss_profile(step, params, state, xs, targets, last, loss=loss, count=count), np.float64)
    active = np.flatnonzero(reached.any(0)) + 1
    if len(active) > todo.gradient_times:
        active = np.sort(np.random.default_rng(0).permutation(active)[: todo.gradient_times])
    times = tuple(int(t) for t in active) or (todo.steps,)
    parts = _measure.gradient_parts(step, params, state, xs, targets, loss=loss, times=times, max_lag=todo.max_lag, count=count)
    profile, by_lag, share, cosine = (np.asarray(v, np.float64) for v in parts)
    lags = [bptt.truncation_lag(bptt.Decomposition(*(None,) * 4, c, None)) for c in cosine if np.isfinite(c).all()]  # type: ignore[arg-type]
    spread = share.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.full(share.shape[1], np.inf)
    with np.errstate(invalid="ignore"):
        profile = _mean_while_lasting(profile, lengths[:count])
        return Gradient(profile, quantiles(tail), by_lag.mean(0), share.mean(0), spread, cosine.mean(0), np.asarray(lags), times)


def quantiles(values: np.ndarray) -> np.ndarray:
    """10, 50 and 90 % quantiles over axis 0 (3, ...) of what is not NaN; NaN where nothing is."""
    out = np.full((3, *values.shape[1:]), np.nan)
    for at in np.ndindex(values.shape[1:]):
        here = values[(slice(None), *at)]
        if not np.isnan(here).all():
            out[(slice(None), *at)] = np.quantile(here[~np.isnan(here)], (0.1, 0.5, 0.9), method="inverted_cdf")
    return out


def _nothing(todo: Plan, common: dict[str, Any]) -> Evidence:
    """NaN throughout: no sequence has a finite state."""
    unknown = lambda *shape: np.full(shape, np.nan)
    n = todo.dimension
    columns = -(-(todo.steps + 1) // todo.transport_stride)
    return Evidence(
        plan=todo, **common, first_nonfinite_jacobian=np.zeros(0, int), log_gain=unknown(0), log_separation=unknown(0),
        exponents=unknown(todo.exponents), standard_errors=unknown(todo.exponents), rate=math.nan, rate_error=math.nan, freedom=0,
        one_trajectory=False,
        log_radius=unknown(1), log_sigma=unknown(1), jacobian_steps=np.ones(1, int), eigenvalues=unknown(1, n) + 0j,
        product_lags=np.ones(1, int), product_log_sigma=unknown(0, 1, 1),
        unit_names=("",) * n, unit_shares=unknown(2, n), blocks={},
        transport=unknown(todo.steps + 1, columns), transport_by_lag=unknown(3, todo.steps + 1),
        horizon=unknown(3), censored=math.nan, split=None, slope_bound=None, dies=False, gated=None, gradient=None,
    )  # fmt: skip
