"""What was measured on these sequences: the numbers that a verdict rests on, and what they cost.

``gather`` runs every analysis over a batch within a budget: what is sampled or strided is chosen before, from sizes
alone, and kept in ``Plan``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import bptt, flow, lyapunov, spectra
from jaxrnn._border import compiled
from jaxrnn._frames import log_norm
from jaxrnn._tree import Layout, layout
from jaxrnn.cells import structure
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step, dense
from jaxrnn.unroll import preceding, states

PyTree = Any
Progress = Callable[[str, int, int], None]

_RATE = 4e9  # flops a second of small float64 products on two cores; the estimate is good to a factor of about three
_BUDGET = 2e10  # flops for one kind of analysis, about five seconds
_MEMORY = 1e9  # bytes for the arrays of one analysis


class Plan(NamedTuple):
    """What will be computed, chosen from sizes alone."""

    sequences: int  # B, all of which give exponents and gains
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
    log_by_lag: np.ndarray  # (lags,) mean over sequences of log Σ_t ‖term(t, t − lag)‖
    lag_share: np.ndarray  # (lags,) mean over sequences of the share carried by lags ≥ lag
    lag_share_errors: np.ndarray  # (lags,) standard error between sequences; inf for one
    cosine: np.ndarray  # (lags,) mean over sequences of the cosine of the truncated with the full gradient
    truncation_lags: np.ndarray  # per sequence, for a cosine of 0.99
    times: tuple[int, ...]  # the t whose losses were taken apart


class Evidence(NamedTuple):
    """Everything measured, as NumPy arrays; rates in nats per step."""

    plan: Plan
    lengths: np.ndarray  # (B,) steps analysed of each sequence: its length, or up to its last finite state
    first_nonfinite: np.ndarray  # (B,) first step whose state is not finite, 0 where there is none
    log_gain: np.ndarray  # (B,) log σ₁(∂h_T/∂h_0), nats over the whole sequence
    exponents: np.ndarray  # (k,) total log growth over total steps, descending
    standard_errors: np.ndarray  # (k,) between sequences; from blocks of time where B = 1
    rate: float  # Σ log_gain / Σ lengths, over sequences with a finite gain
    rate_error: float  # its standard error, as above
    log_radius: np.ndarray  # (P,) log ρ(J_t) of the sampled Jacobians
    log_sigma: np.ndarray  # (P,) log σ₁(J_t) of the same
    transport: np.ndarray  # (T + 1, K) mean over sequences of log(‖∂h_t/∂h_k‖_F / √n)
    transport_by_lag: np.ndarray  # (3, T + 1) its 10, 50 and 90 % quantiles over starting times and sequences
    horizon: np.ndarray  # (3,) lags after which 10, 50 and 90 % of the starting times have fallen below 1/e
    censored: float  # share of starting times above 1/e to the end
    state_rate: np.ndarray  # (B,) growth of log‖h_t‖ per step over the second half
    movement: np.ndarray  # (B,) ‖h_t − h_{t−1}‖ over ‖h_t‖ there; 0 at rest
    split: tuple[float, float] | None  # growth by weights and by activations; None where the step declares no structure
    slope_bound: float | None  # sup|φ'| of a cell with one activation; None for gated and for opaque steps
    gradient: Gradient | None  # None without a loss, or where states are not finite


@dataclass(frozen=True)
class Masked:
    """A step that stands still where its sequence has ended: J = I there, so its log growth is 0."""

    step: Step

    def __call__(self, params: PyTree, state: PyTree, x: tuple[PyTree, Array]) -> PyTree:
        """The next state, or the same one."""
        return jax.tree.map(lambda new, old: jnp.where(x[1], new, old), self.step(params, state, x[0]), state)


@dataclass(frozen=True)
class MaskedLoss:
    """A loss that counts only where its sequence has not ended."""

    loss: Loss

    def __call__(self, params: PyTree, state: PyTree, x: tuple[PyTree, Array], target: PyTree) -> Array:
        """L_t or 0."""
        value = self.loss(params, state, x[0], target)
        return jnp.where(x[1], value, jnp.zeros_like(value))


def plan(sequences: int, steps: int, dimension: int, parameters: int = 0, itemsize: int = 8) -> Plan:
    """What to compute of B sequences of T steps and n real coordinates, and what it will cost.

    Each kind of analysis gets a fixed number of operations and bytes; what does not fit is sampled or strided.
    ``parameters`` is the number of entries of θ, 0 without a loss.

    >>> from jaxrnn import evidence
    >>> evidence.plan(16, 784, 256).transport_stride > 1
    True
    """
    B, T, n = sequences, steps, dimension
    k = n if n <= 64 else 16
    at_most = lambda budget, cost, low, high: int(max(low, min(high, budget // max(cost, 1))))
    jacobians = at_most(_BUDGET / 2, 50 * n**3, 48, B * T)
    starts = at_most(_BUDGET, 2 * T * n**3, 8, min(T + 1, 100))
    stride = -(-(T + 1) // starts)
    starts = -(-(T + 1) // stride)
    moved = at_most(_BUDGET, 2 * T * starts * n**3, 1, min(B, 8))
    lags = at_most(_MEMORY, 2 * itemsize * parameters, 1, T) if parameters else T
    times = at_most(_BUDGET / 2, 6 * lags * parameters, 1, T) if parameters else T
    graded = at_most(_BUDGET / 2, 6 * lags * parameters * times, 1, min(B, 8)) if parameters else 0
    check = at_most(_BUDGET / 4, 60 * n**3, 16, min(T, 128))
    flops = B * T * (8 * n * n * k + 4 * n**3) + 50 * n**3 * jacobians + moved * 2 * T * starts * n**3
    flops += graded * times * lags * 6 * parameters + check * (80 * n**3 + check * 2 * n**3)
    arrays = B * T * n * 4 + max(3 * starts * n * n * moved, jacobians * 4 * n * n, (times + 3 * lags) * parameters)
    return Plan(B, T, n, k, jacobians, moved, stride, graded, times, lags - 1, check, flops / _RATE, arrays * itemsize)


def gather(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    targets: PyTree,
    loss: Loss | None,
    length: int,
    lengths: np.ndarray,
    todo: Plan,
    progress: Progress,
) -> Evidence:
    """Run every analysis of the plan. ``xs`` (B, T, ...) or None, ``lengths`` (B,); the arguments were checked."""
    B, T, n = todo.sequences, todo.steps, todo.dimension
    ragged = bool((lengths < T).any())
    first_bad, state_rate, movement = (np.asarray(v) for v in _state_facts(step, params, state, xs, lengths, length=T, count=B))
    first_bad = np.where(first_bad > lengths, 0, first_bad)
    overflown = bool((first_bad > 0).any())
    lengths = np.where(first_bad > 0, first_bad - 1, lengths)
    plain_step, plain_loss = step, loss
    if ragged or overflown:
        valid = np.arange(T)[None] < lengths[:, None]
        blank = lambda leaf: jnp.where(valid.reshape(B, T, *(1,) * (leaf.ndim - 2)), leaf, jnp.zeros((), leaf.dtype))
        xs = (jax.tree.map(blank, xs), jnp.asarray(valid))
        step, loss = Masked(step), None if loss is None else MaskedLoss(loss)
    usable = np.flatnonzero(lengths > 0)
    if not usable.size:
        return _nothing(todo, lengths, first_bad, state_rate, movement)
    whole = dict(length=T)

    progress("Lyapunov exponents", 1, 6)
    growth, time_errors = (np.asarray(v) for v in _growth(step, params, state, xs, usable, **whole, k=todo.exponents, batch=_batch(len(usable), n)))
    progress("gain over the whole length", 2, 6)
    gain = np.full(B, np.nan)
    gain[usable] = _gains(step, params, state, xs, usable, **whole, batch=_batch(len(usable), n))
    exponents, errors = _pooled(growth, lengths[usable], time_errors)
    order = np.argsort(-exponents)
    living = usable[np.isfinite(gain[usable])]
    rate, rate_error = _pooled(gain[living][:, None], lengths[living], time_errors[:1]) if len(living) else ([-np.inf], [np.inf])

    progress("eigenvalues of the Jacobians", 3, 6)
    log_radius, log_sigma = _sampled(step, params, state, xs, lengths, todo)

    progress("transport between all pairs of times", 4, 6)
    some = usable[: todo.transport_sequences]
    transport = np.asarray(_transports(step, params, state, xs, some, **whole, stride=todo.transport_stride))
    transport = _until(transport, lengths[some], todo.transport_stride)
    seen = flow.horizon(jnp.asarray(transport), stride=todo.transport_stride, quantiles=(0.1, 0.5, 0.9))
    declared, split = structure(plain_step), None
    if declared is not None and not (ragged or overflown):
        split = _splits(plain_step, params, state, xs, usable, **whole, batch=_batch(len(usable), n))
        split = tuple(float(np.mean(part)) for part in split)

    progress("terms of the gradient", 5, 6)
    gradient = None
    if plain_loss is not None and not overflown:
        gradient = _gradient(step, params, state, xs, targets, loss, todo)
    progress("self-checks", 6, 6)
    return Evidence(
        todo, lengths, first_bad, gain, exponents[order], errors[order], float(rate[0]), float(rate_error[0]), log_radius, log_sigma,
        transport.mean(0), _lag_quantiles(transport, todo.transport_stride), np.asarray(seen.lags), float(seen.censored),
        state_rate, movement, split, None if declared is None else declared.slope_bound, gradient,
    )  # fmt: skip


def _nothing(todo: Plan, lengths: np.ndarray, first_bad: np.ndarray, state_rate: np.ndarray, movement: np.ndarray) -> Evidence:
    """NaN throughout: no sequence has a finite state."""
    unknown = lambda *shape: np.full(shape, np.nan)
    B, T, k = todo.sequences, todo.steps, todo.exponents
    columns = -(-(T + 1) // todo.transport_stride)
    return Evidence(
        todo, lengths, first_bad, unknown(B), unknown(k), unknown(k), math.nan, math.nan, unknown(1), unknown(1), unknown(T + 1, columns),
        unknown(3, T + 1), unknown(3), math.nan, state_rate, movement, None, None, None,
    )  # fmt: skip


def _batch(sequences: int, dimension: int) -> int:
    """How many sequences run side by side: the largest divisor up to 8, 1 where a matrix alone fills the cache."""
    return 1 if dimension > 128 else max(d for d in range(1, 9) if sequences % d == 0)


def _each(function: Callable[[PyTree], PyTree], xs: PyTree, indices: Array, batch: int) -> PyTree:
    """function(xs of one sequence) for the chosen sequences, stacked."""
    return jax.lax.map(lambda b: function(jax.tree.map(lambda leaf: leaf[b], xs)), jnp.asarray(indices), batch_size=batch)


@compiled("step", "length", "count")
def _state_facts(step, params, state, xs, lengths, *, length, count):
    """First step with a non-finite state, growth and movement of the state over the second half, each (B,)."""
    lay: Layout = layout(state)

    def one(row):
        x, last = row
        h = jax.vmap(lay.ravel)(states(step, params, state, x, length=length))
        bad = ~jnp.isfinite(h).all(1)
        first = jnp.where(bad.any(), jnp.argmax(bad) + 1, 0).astype(last.dtype)
        last = jnp.where(first > 0, jnp.minimum(first - 1, last), last)
        t = jnp.arange(length, dtype=last.dtype)
        sizes = jnp.linalg.norm(jnp.where(bad[:, None], 0, h), axis=1)
        half, end = jnp.maximum(last // 2, 1) - 1, jnp.maximum(last - 1, 0)
        logs = jnp.log(jnp.where(sizes == 0, 1, sizes))
        rate = jnp.where((sizes[half] > 0) & (sizes[end] > 0), logs[end] - logs[half], 0) / jnp.maximum(end - half, 1).astype(lay.dtype)
        late = (t > half) & (t <= end)
        moved = jnp.linalg.norm(jnp.where(late[1:, None], h[1:] - h[:-1], 0))
        size = jnp.linalg.norm(jnp.where(late, sizes, 0))
        return first, rate, moved / jnp.where(size == 0, 1, size)

    rows = (xs, lengths) if jax.tree.leaves(xs) else (None, lengths)
    return _each(one, rows, jnp.arange(count), 1)


@compiled("step", "length", "k", "batch")
def _growth(step, params, state, xs, indices, *, length, k, batch):
    """Log growth of every column of the frame (B, k), and the time-block errors of the first sequence's exponents."""

    def one(x):
        found = lyapunov.spectrum(step, params, state, x, length=length, k=k, blocks=8)
        rates = found.block_growth / found.block_steps[:, None].astype(found.frame.dtype)
        spread = jnp.where(jnp.isfinite(rates), rates - found.block_growth.sum(0) / length, 0)
        blocks = len(found.block_steps)
        error = jnp.sqrt((spread**2).sum(0) / blocks / max(blocks - 1, 1)) if blocks > 1 else jnp.full(k, jnp.inf)
        return found.block_growth.sum(0), error

    growth, errors = _each(one, xs, indices, batch)
    return growth, errors[0]


@compiled("step", "length", "batch")
def _gains(step, params, state, xs, indices, *, length, batch):
    return _each(lambda x: flow.log_gain(step, params, state, x, length=length), xs, indices, batch)


@compiled("step", "length", "batch")
def _splits(step, params, state, xs, indices, *, length, batch):
    return _each(lambda x: flow.growth_split(step, params, state, x, length=length), xs, indices, batch)


@compiled("step", "length", "stride")
def _transports(step, params, state, xs, indices, *, length, stride):
    return _each(lambda x: flow.log_transport(step, params, state, x, length=length, stride=stride), xs, indices, 1)


def _pooled(growth: np.ndarray, lengths: np.ndarray, time_errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Total growth over total steps (k,), and its standard error: of the ratio between sequences, or over time."""
    growth, lengths = np.asarray(growth, np.float64), np.asarray(lengths, np.float64)[:, None]
    with np.errstate(invalid="ignore"):
        rates = growth.sum(0) / lengths.sum()
        if len(growth) == 1:
            return rates, np.where(np.isfinite(rates), time_errors, np.inf)
        spread = np.where(np.isfinite(rates), growth - rates * lengths, 0)
    count = len(growth)
    errors = np.sqrt(count / (count - 1) * (spread**2).sum(0)) / lengths.sum()
    return rates, np.where(np.isfinite(rates), errors, np.inf)


def _sampled(step, params, state, xs, lengths, todo: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Log ρ(J_t) and log σ₁(J_t) of random steps: a stride could fall into step with a periodic input."""
    b, t = np.nonzero(np.arange(todo.steps)[None] < lengths[:, None])
    chosen = np.sort(np.random.default_rng(0).permutation(len(b))[: todo.jacobians])
    jacobians = _jacobians_at(step, params, state, xs, b[chosen], t[chosen], length=todo.steps, sequences=todo.sequences)
    with np.errstate(divide="ignore"):
        radius = np.log(np.asarray(spectra.spectral_radius(jacobians), np.float64))
        return radius, np.log(np.asarray(spectra.singular_values(jacobians), np.float64)[:, 0])


@compiled("step", "length", "sequences")
def _jacobians_at(step, params, state, xs, b, t, *, length, sequences):
    """J_t of the given (sequence, step) pairs, (P, n, n)."""
    lay = layout(state)
    run = lambda x: preceding(state, states(step, params, state, x, length=length))
    before = _each(run, xs, jnp.arange(sequences), 1)
    at = jax.tree.map(lambda leaf: leaf[b, t], (before, xs))
    return jax.lax.map(lambda hx: dense(step, params, lay, *hx)[0], at)


def _until(transport: np.ndarray, lengths: np.ndarray, stride: int) -> np.ndarray:
    """Transport cut to the shortest sequence: beyond its end the mask stands still, which is no memory."""
    shortest = int(lengths.min())
    return transport[:, : shortest + 1, : -(-(shortest + 1) // stride)]


def _lag_quantiles(transport: np.ndarray, stride: int) -> np.ndarray:
    """10, 50 and 90 % quantiles over starting times and sequences of the transport at each lag, (3, T + 1)."""
    T = transport.shape[1] - 1
    k = stride * np.arange(transport.shape[2])
    out = []
    for lag in range(T + 1):
        columns = np.flatnonzero(k + lag <= T)
        values = transport[:, k[columns] + lag, columns]
        out.append(np.quantile(values, (0.1, 0.5, 0.9), method="inverted_cdf"))
    return np.stack(out, 1)


def _gradient(step, params, state, xs, targets, loss, todo: Plan) -> Gradient:
    some = np.arange(todo.gradient_sequences)
    active = np.asarray(_loss_times(step, params, state, xs, targets, some, loss=loss)) + 1
    if len(active) > todo.gradient_times:
        active = np.sort(np.random.default_rng(0).permutation(active)[: todo.gradient_times])
    times = tuple(int(t) for t in active) or (todo.steps,)
    profile, by_lag, share, cosine = (
        np.asarray(v, np.float64) for v in _parts(step, params, state, xs, targets, some, loss=loss, times=times, max_lag=todo.max_lag)
    )
    lags = [bptt.truncation_lag(bptt.Decomposition(*(None,) * 4, c, None)) for c in cosine if np.isfinite(c).all()]  # type: ignore[arg-type]
    spread = share.std(0, ddof=1) / math.sqrt(len(some)) if len(some) > 1 else np.full(share.shape[1], np.inf)
    with np.errstate(invalid="ignore"):
        return Gradient(profile.mean(0), by_lag.mean(0), share.mean(0), spread, cosine.mean(0), np.asarray(lags), times)


def _loss_times(step, params, state, xs, targets, indices, *, loss) -> np.ndarray:
    """0-based steps at which the loss depends on the state in some sequence."""
    return np.flatnonzero(_local_sizes(step, params, state, xs, targets, indices, loss=loss).any(0))


@compiled("step", "loss")
def _local_sizes(step, params, state, xs, targets, indices, *, loss):
    lay = layout(state)

    def one(row):
        x, y = row
        h = jax.vmap(lay.ravel)(states(step, params, state, x))
        local = jax.grad(lambda v, x, y: loss(params, lay.unravel(v), x, y))
        return jnp.abs(jax.vmap(local)(h, x, y)).max(1) > 0

    return _each(one, (xs, targets), indices, 1)


@compiled("step", "loss", "times", "max_lag")
def _parts(step, params, state, xs, targets, indices, *, loss, times, max_lag):
    """Per sequence: log‖∂L/∂h_t‖ (T + 1,), log Σ_t‖term‖ by lag, share by lag, cosine by lag."""
    lay = layout(state)

    def one(row):
        x, y = row
        graded = flow.state_gradients(step, params, state, x, y, loss).states
        profile = log_norm(jax.vmap(lay.ravel)(graded), (1,))
        parts = bptt.decompose(step, params, state, x, y, loss, max_lag=max_lag, times=times)
        return profile, _by_lag(parts.log_norms, times, len(parts.cosine)), parts.lag_share, parts.cosine

    return _each(one, (xs, targets), indices, 1)


def _by_lag(log_norms: PyTree, times: tuple[int, ...], lags: int) -> Array:
    """Log Σ_t ‖term(t, t − lag)‖, the norm over all leaves."""
    joint = 0.5 * jax.nn.logsumexp(2 * jnp.stack(jax.tree.leaves(log_norms)), axis=0)
    k = np.asarray(times)[:, None] - 1 - np.arange(lags)[None]
    rows = jnp.take_along_axis(joint, jnp.asarray(np.maximum(k, 0)), 1)
    return jax.nn.logsumexp(jnp.where(k >= 0, rows, -jnp.inf), axis=0)
