"""How each kind of evidence is computed over a batch of sequences: compiled once, one sequence after another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import bptt, flow, lyapunov
from jaxrnn._border import compiled
from jaxrnn._frames import joint_log_norm, log_norm, rescale
from jaxrnn._tree import layout
from jaxrnn.flow import Loss
from jaxrnn.linearize import dense
from jaxrnn.unroll import preceding, states

PyTree = Any


@dataclass(frozen=True)
class MaskedLoss:
    """A loss that counts only where its sequence has not ended."""

    loss: Loss

    def __call__(self, params: PyTree, state: PyTree, x: tuple[PyTree, Array], target: PyTree) -> Array:
        """L_t or 0."""
        value = self.loss(params, state, x[0], target)
        return jnp.where(x[1], value, jnp.zeros_like(value))


def batch_size(sequences: int, dimension: int) -> int:
    """How many sequences run side by side: the largest divisor up to 8, 1 where a matrix alone fills the cache."""
    return 1 if dimension > 128 else max(d for d in range(1, 9) if sequences % d == 0)


def _each(function: Callable[[PyTree], PyTree], rows: PyTree, count: int, batch: int = 1) -> PyTree:
    """function(one sequence) for the first ``count`` sequences, stacked."""
    return jax.lax.map(lambda b: function(jax.tree.map(lambda leaf: leaf[b], rows)), jnp.arange(count), batch_size=batch)


@compiled("step", "length", "count")
def state_facts(step, params, state, xs, lengths, *, length, count):
    """First step with a non-finite state (0: none), growth of log‖h‖ a step and relative movement over the second half."""
    lay = layout(state)

    def one(row):
        x, last = row
        h = jax.vmap(lay.ravel)(states(step, params, state, x, length=length))
        bad = ~jnp.isfinite(h).all(1)
        first = jnp.where(bad.any(), jnp.argmax(bad) + 1, 0).astype(last.dtype)
        last = jnp.where(first > 0, jnp.minimum(first - 1, last), last)
        h = jnp.where(bad[:, None], 0, h)
        logs = log_norm(h, (1,))
        half, end = jnp.maximum(last // 2, 1) - 1, jnp.maximum(last - 1, 0)
        grown = jnp.where(jnp.isfinite(logs[half]) & jnp.isfinite(logs[end]), logs[end] - logs[half], 0)
        t = jnp.arange(length, dtype=last.dtype)
        late = ((t > half) & (t <= end))[:, None]
        moved = log_norm(jnp.where(late, h - jnp.concatenate([h[:1], h[:-1]]), 0), (0, 1))
        size = log_norm(jnp.where(late, h, 0), (0, 1))
        movement = jnp.where(size == -jnp.inf, 0, jnp.exp(moved - jnp.where(size == -jnp.inf, 0, size)))
        return first, grown / jnp.maximum(end - half, 1).astype(lay.dtype), movement

    return _each(one, (xs, lengths), count)


@compiled("step", "length", "count", "k", "batch")
def growth(step, params, state, xs, *, length, count, k, batch):
    """Log growth of every column of the frame (B, k), and the errors over time of the sorted exponents (B, k)."""

    def one(x):
        found = lyapunov.spectrum(step, params, state, x, length=length, k=k, blocks=8)
        return found.block_growth.sum(0), found.standard_errors

    return _each(one, xs, count, batch)


class Gains(NamedTuple):
    """What the products from the start of each sequence do."""

    log_gain: Array  # (B,) log σ₁(∂h_T/∂h_0)
    log_separation: Array  # (B,) the same for a perturbation of the size of the states, along the direction of largest gain
    log_sigma: Array  # (B, L, k) log σ_i(∂h_t/∂h_0) at the given t; NaN where drowned in rounding, −inf where the product is zero
    shares: Array  # (B, 2, n) squared entries of the right and left singular vector of σ₁: where it is read, where it is found


@compiled("step", "lags", "count", "k", "batch")
def gains(step, params, state, xs, ends, *, lags, count, k, batch):
    """``Gains`` over ``lags``, ascending, the last one T; ``ends`` (B,) is the last valid step of each sequence.

    For a linear map gain and separation are equal; where the dynamics folds, two states cannot part further than the states reach.
    """
    lay, length = layout(state), lags[-1]

    def one(row):
        x, end = row
        products, logs = _products(step, params, lay, state, x, lags)
        left, sigma, right = jnp.linalg.svd(products[-1])
        before = [jnp.linalg.svd(products[:-1], compute_uv=False)] if len(lags) > 1 else []
        sigmas = jnp.concatenate([*before, sigma[None]])[:, :k]
        drowned = sigmas <= lay.size * lay.eps * sigmas[:, :1]
        log_sigma = jnp.where(drowned, jnp.nan, jnp.log(jnp.where(drowned, 1, sigmas)) + jnp.where(logs == -jnp.inf, 0, logs)[:, None])
        log_sigma = jnp.where((logs == -jnp.inf)[:, None], -jnp.inf, log_sigma)
        run = lambda start: jax.vmap(lay.ravel)(states(step, params, start, x, length=length))
        here = run(state)
        valid = (jnp.arange(length, dtype=end.dtype) < end)[:, None]
        size = jnp.exp(log_norm(jnp.where(valid, here, 0), (0, 1))) / jnp.sqrt(end.astype(lay.dtype))
        size = jnp.where((size > 0) & (size < jnp.inf), size, 1)
        there = run(lay.unravel(lay.ravel(state) + size * right[0]))
        gain = jnp.where(jnp.isnan(sigma[0]), jnp.nan, log_sigma[-1, 0])
        shares = jnp.where(jnp.isfinite(gain), jnp.stack([right[0], left[:, 0]]) ** 2, jnp.nan)  # of a zero matrix they mean nothing
        return Gains(gain, log_norm((there[-1] - here[-1]) / size, (0,)), log_sigma, shares)

    return _each(one, (xs, ends), count, batch)


def _products(step, params, lay, state, x, lags):
    """∂h_t/∂h_0 at every t in ``lags`` as matrices of Frobenius norm 1 (L, n, n), and the logs of their norms (L,)."""
    wanted = jnp.asarray(lags)

    def body(carry, tx):
        h, unit, log, kept, logs = carry
        t, x = tx
        jacobian, h = dense(step, params, lay, h, x)
        unit, grown = rescale(jacobian @ unit, (0, 1))
        log = log + grown
        at = jnp.searchsorted(wanted, t)
        hit = wanted[at] == t
        kept = kept.at[at].set(jnp.where(hit, unit, kept[at]))
        return (h, unit, log, kept, logs.at[at].set(jnp.where(hit, log, logs[at]))), None

    n = lay.size
    root = jnp.sqrt(float(n)).astype(lay.dtype)
    start = (state, jnp.eye(n, dtype=lay.dtype) / root, jnp.log(root), jnp.zeros((len(lags), n, n), lay.dtype), jnp.zeros(len(lags), lay.dtype))
    (_, _, _, kept, logs), _ = jax.lax.scan(body, start, (jnp.arange(1, lags[-1] + 1), x), length=lags[-1])
    return kept, logs


@compiled("step", "length", "count", "batch")
def splits(step, params, state, xs, *, length, count, batch):
    """``flow.growth_split`` of every sequence."""
    return _each(lambda x: flow.growth_split(step, params, state, x, length=length), xs, count, batch)


@compiled("step", "length", "count", "stride")
def transports(step, params, state, xs, *, length, count, stride):
    """``flow.log_transport`` of the first sequences (B, T + 1, K)."""
    return _each(lambda x: flow.log_transport(step, params, state, x, length=length, stride=stride), xs, count)


@compiled("step", "length", "count", "stride")
def transport_blocks(step, params, state, xs, *, length, count, stride):
    """``flow.log_transport_blocks`` of the first sequences, each (B, T + 1, K)."""
    return _each(lambda x: flow.log_transport_blocks(step, params, state, x, length=length, stride=stride), xs, count)


@compiled("step", "length", "count")
def jacobians_at(step, params, state, xs, b, t, *, length, count):
    """J_t of the given (sequence, step) pairs, (P, n, n)."""
    lay = layout(state)
    before = _each(lambda x: preceding(state, states(step, params, state, x, length=length)), xs, count)
    at = jax.tree.map(lambda leaf: leaf[b, t], (before, xs))
    return jax.lax.map(lambda hx: dense(step, params, lay, *hx)[0], at)


@compiled("step", "length")
def bad_jacobians(step, params, state, x, *, length):
    """Whether J_t holds a number that is not finite (T,), of one sequence."""
    lay = layout(state)

    def advance(h, x):
        jacobian, h = dense(step, params, lay, h, x)
        return h, ~jnp.isfinite(jacobian).all()

    return jax.lax.scan(advance, state, x, length=length)[1]


@compiled("step", "loss", "count")
def loss_reaches_state(step, params, state, xs, targets, *, loss, count):
    """Whether ∂L_t/∂h_t is not zero, (B, T)."""
    lay = layout(state)

    def one(row):
        x, y = row
        h = jax.vmap(lay.ravel)(states(step, params, state, x))
        local = jax.grad(lambda v, x, y: loss(params, lay.unravel(v), x, y))
        return jnp.abs(jax.vmap(local)(h, x, y)).max(1) > 0

    return _each(one, (xs, targets), count)


@compiled("step", "loss", "times", "max_lag", "count")
def gradient_parts(step, params, state, xs, targets, *, loss, times, max_lag, count):
    """Per sequence: log‖∂L/∂h_t‖ (T + 1,), log Σ_t ‖term‖ by lag, share by lag, cosine by lag."""
    lay = layout(state)

    def one(row):
        x, y = row
        graded = flow.state_gradients(step, params, state, x, y, loss).states
        profile = log_norm(jax.vmap(lay.ravel)(graded), (1,))
        parts = bptt.decompose(step, params, state, x, y, loss, max_lag=max_lag, times=times)
        k = np.asarray(times)[:, None] - 1 - np.arange(len(parts.cosine))[None]
        rows = jnp.take_along_axis(joint_log_norm(parts.log_norms), jnp.asarray(np.maximum(k, 0)), 1)
        by_lag = jax.nn.logsumexp(jnp.where(k >= 0, rows, -jnp.inf), axis=0)
        return profile, by_lag, parts.lag_share, parts.cosine

    return _each(one, (xs, targets), count)


@compiled("step", "loss", "count")
def last_loss_profile(step, params, state, xs, targets, last, *, loss, count):
    """log‖∂L_s/∂h_{s−lag}‖ for lag = 0..T and s = ``last`` (B,), the step whose loss alone is followed back; NaN beyond s.

    The cotangent is pulled back one step at a time and rescaled, so that it cannot underflow.
    """
    lay = layout(state)

    def one(row):
        x, y, s = row
        after = states(step, params, state, x)
        length = len(jax.tree.leaves(after)[0])
        at = lambda tree: jax.tree.map(lambda leaf: leaf[s - 1], tree)
        v = jax.grad(lambda v: loss(params, lay.unravel(v), at(x), at(y)))(lay.ravel(at(after)))

        def body(carry, thx):
            v, log = carry
            t, h, x = thx  # from h_{t−1}
            pulled = jax.vjp(lambda u: lay.ravel(step(params, lay.unravel(u), x)), lay.ravel(h))[1](v)[0]
            unit, grown = rescale(pulled, (0,))
            v, log = jnp.where(t <= s, unit, v), jnp.where(t <= s, log + grown, log)
            return (v, log), log

        unit, log = rescale(v, (0,))
        steps = (jnp.arange(1, length + 1, dtype=s.dtype), preceding(state, after), x)
        logs = jax.lax.scan(body, (unit, log), steps, reverse=True)[1]  # at t − 1: log‖∂L_s/∂h_{t−1}‖
        logs = jnp.append(logs, log)[::-1]  # at lag T − t
        logs = jnp.roll(logs, s - length)
        return jnp.where(jnp.arange(length + 1, dtype=s.dtype) <= s, logs, jnp.nan)

    return _each(one, (xs, targets, last), count)
