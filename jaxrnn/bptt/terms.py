"""Which (t, k) terms is ∂L/∂θ made of: how large is each, how much comes by which lag, where may it be truncated."""

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._border import admit, compiled, require_at, require_loss, targets_length
from jaxrnn._frames import joint_log_norm, quick_log_norm, rescale
from jaxrnn._tree import Layout, layout
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step, in_coordinates
from jaxrnn.unroll import preceding, states

PyTree = Any
_TOGETHER = 2**23  # numbers of terms' gradients that are held at once, 64 MiB in float64


class Decomposition(NamedTuple):
    """∂L/∂θ taken apart. S is the number of chosen times t (T by default), ``lags`` the number of entries by lag."""

    log_norms: PyTree  # per leaf of params (S, T): log‖term(t, k)‖ in nats at [index of t, k − 1]; −inf elsewhere
    direct: PyTree  # per leaf (S, ...): ∂L_t/∂θ at fixed states, the part through the readout
    by_lag: PyTree  # per leaf (lags, ...): Σ_t term(t, t − lag); the last entry sums all lags beyond max_lag
    total: PyTree  # per leaf (...): the sum of by_lag and direct, the gradient of Σ_t L_t over the chosen times
    cosine: Array  # (lags,): of the gradient truncated at that lag with the full one; leaves through the state only
    lag_share: Array  # (lags,): Σ_{t−k ≥ lag} ‖term‖ / Σ ‖term‖, the norm taken over all leaves


def decompose(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    targets: PyTree,
    loss: Loss,
    *,
    max_lag: int | None = None,
    times: tuple[int, ...] | None = None,
    trajectory: PyTree = None,
) -> Decomposition:
    """The exact terms of backpropagation through time, for every leaf of the parameters.

    ∂L/∂θ = Σ_t [ ∂⁺L_t/∂θ + Σ_{k=1..t} term(t, k) ],  term(t, k) = ∂L_t/∂h_t · ∂h_t/∂h_k · ∂⁺h_k/∂θ,

    where ∂⁺ holds the other states fixed and L_t = loss(θ, h_t, x_t, y_t). All is linearised on the stored states of
    one forward run, the cotangents are rescaled at every step, and ``total`` is the sum of the terms: the loss is
    never differentiated through time.

    Args:
        step, params, state, xs: as in ``unroll.states``; the leaves of params must be floating or complex.
        targets, loss: as in ``flow.state_gradients``.
        max_lag: tell lags 0..max_lag apart and sum the rest into one last entry; all lags by default.
        times: which t in 1..T (distinct); all by default. With a loss at the last step only, ``(T,)``.
        trajectory: states h_1..h_T to linearise on; by default those of one forward run. In chaos two programs that
            round differently part, so compare on one stored trajectory.

    Returns:
        ``Decomposition`` with lags = T, or max_lag + 2 where max_lag < T − 1. There ``log_norms`` is −inf beyond
        max_lag, and the last entry of ``lag_share`` counts for each k the norm of the sum over t: a lower bound.

    Raises:
        ValueError: max_lag outside [0, T − 1], times outside [1, T] or repeated; else as ``flow.state_gradients``.

    Cost: S · lags / 2 pulls through one step and norms of terms (T² / 2 where all are taken), each O(size of θ); memory
    O((S + lags) · size of θ): at T = 500 bound ``max_lag`` or choose ``times`` for parameters beyond a hundred thousand.

    Source: Rumelhart, Hinton, Williams 1986; the sum over k as in Pascanu, Mikolov, Bengio 2013, eqs. 3–5.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import bptt, cells
    >>> cell = cells.with_readout(cells.vanilla(1, 4), 1)
    >>> params = cell.init_params(jax.random.key(0))
    >>> loss = cells.readout_loss(cell, lambda prediction, target: jnp.sum((prediction - target) ** 2))
    >>> parts = bptt.decompose(cell.step, params, cell.init_state(params), jnp.ones((5, 1)), jnp.zeros((5, 1)), loss)
    >>> parts.total["W_hh"].shape, parts.log_norms["W_xh"].shape  # ∂L/∂W_hh, and the size of each term of ∂L/∂W_xh
    ((4, 4), (5, 5))
    """
    times = None if times is None else tuple(operator.index(t) for t in times)
    return _decompose(step, params, state, xs, targets, loss, max_lag=max_lag, times=times, trajectory=trajectory)


def truncation_lag(decomposition: Decomposition, cosine: float = 0.99) -> int:
    """The smallest lag from which on the truncated gradient keeps at least this cosine with the full one.

    A gradient truncated at lag ℓ is Σ_{t−k ≤ ℓ} term(t, k). A cosine can look good while every long lag is missing:
    read it beside ``lag_share``. A host function: it needs the values.

    Args:
        decomposition: from ``decompose``; with max_lag, max_lag + 1 means beyond.
        cosine: in (0, 1].

    Returns:
        The lag, in steps.

    Raises:
        ValueError: cosine outside (0, 1], or a gradient that is not finite.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import bptt
    >>> parts = bptt.Decomposition(None, None, None, None, jnp.array([0.2, 0.995, 0.98, 0.999]), None)
    >>> bptt.truncation_lag(parts)
    3
    """
    if not 0 < cosine <= 1:
        raise ValueError(f"cosine={cosine} must lie in (0, 1]")
    values = np.asarray(decomposition.cosine)
    if not np.isfinite(values).all():
        raise ValueError("the gradient is not finite, so no truncation of it can be judged; see decomposition.log_norms")
    # 1 − cosine is itself rounded: the full gradient must reach cosine = 1.
    below = np.flatnonzero(values < cosine - 8 * np.finfo(values.dtype).eps)
    return int(below[-1] + 1) if below.size else 0


@compiled("step", "loss", "max_lag", "times")
def _decompose(step, params, state, xs, targets, loss, *, max_lag, times, trajectory) -> Decomposition:
    state, length = admit(step, params, state, xs, targets_length(xs, targets))
    require_loss(loss, params, state, xs, targets, length)
    layout(params, "params")
    lay = layout(state)
    max_lag = length - 1 if max_lag is None else max_lag
    require_at("max_lag", max_lag, 0, length - 1, f"the longest lag of {length} steps")
    t = rows_of(times, length)

    hs = states(step, params, state, xs, length=length) if trajectory is None else trajectory
    run = Run(step, params, lay, jax.vmap(lay.ravel)(preceding(state, hs)), xs)
    at = jax.tree.map(lambda leaf: leaf[t], (jax.vmap(lay.ravel)(hs), xs, targets))

    of_state = jax.grad(lambda v, x, y: loss(params, lay.unravel(v), x, y))
    of_params = jax.grad(lambda theta, v, x, y: loss(theta, lay.unravel(v), x, y))
    direct = jax.vmap(of_params, (None, 0, 0, 0))(params, *at)
    unit, log = rescale(jax.vmap(of_state)(*at), (1,))

    def terms(k: Array, unit: Array, log: Array) -> tuple[PyTree, PyTree]:
        return _term_norms(run, k, unit, log), _term_sum(run, k, unit * jnp.exp(log)[:, None])

    carry, (norms, lags) = over_lags(run, t, unit, log, max_lag + 1, terms)
    sizes = [joint_log_norm(norms)]  # (lags, S)
    if max_lag < length - 1:
        rest, log_rest = beyond(run, t - max_lag - 1, *carry, length)
        lags = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), lags, rest)
        sizes = [*sizes, log_rest]

    through = jax.tree.map(lambda leaf: leaf.sum(0), lags)
    return Decomposition(
        log_norms=jax.tree.map(lambda values: place(values, t, length), norms),
        direct=direct,
        by_lag=lags,
        total=jax.tree.map(lambda a, b: a + b.sum(0), through, direct),
        cosine=_cosines(lags, through),
        lag_share=_shares(sizes),
    )


class Run(NamedTuple):
    """A stored forward run: what each step started from, in real coordinates."""

    step: Step
    params: PyTree
    lay: Layout
    before: Array  # (T, n) h_{k−1} at index k − 1
    xs: PyTree


def rows_of(times: tuple[int, ...] | None, length: int) -> np.ndarray:
    """0-based indices of the chosen times."""
    if times is None:
        return np.arange(length)
    if not times or len(set(times)) != len(times) or min(times) < 1 or max(times) > length:
        raise ValueError(f"times={times} must be distinct and lie in [1, {length}], the steps of xs")
    return np.asarray(times) - 1


def over_lags(
    run: Run, t: np.ndarray, unit: Array, log: Array, lags: int, terms: Callable[[Array, Array, Array], tuple[PyTree, PyTree]]
) -> tuple[tuple[Array, Array], tuple[PyTree, PyTree]]:
    """Pull the cotangent of every row one step further back per lag, and see what it meets there.

    ``terms(k, unit, log)`` gives something per row, put back into (lags, S) with −inf where k < 1, and something summed over them
    (lags, ...). Lags are taken in at most 4 blocks, each with the rows that still have a step that far back, which saves up to 3 in 8 pulls.
    Returns the last cotangents (S, n), their logs (S,) (−inf for rows that ended), and both kinds of terms.
    """

    def body(carry: tuple[Array, Array], lag: Array, rows: np.ndarray) -> tuple[tuple[Array, Array], tuple[PyTree, PyTree]]:
        unit, log = carry
        k = t[rows] - lag  # 0-based index of the step that made h_{t−lag}
        log, unit = jnp.where(k >= 0, log, -jnp.inf), jnp.where((k >= 0)[:, None], unit, 0)  # of a row that ended even NaN is nothing
        at_k = jnp.maximum(k, 0)
        seen = terms(at_k, unit, log)
        unit, growth = rescale(_pull(run, at_k, unit), (1,))
        return (unit, log + growth), seen

    blocks = max(1, min(4, lags // 16))
    parts = []
    for first, stop in itertools.pairwise([round(i * lags / blocks) for i in range(blocks + 1)]):
        rows = np.flatnonzero(t >= first)
        if not rows.size:  # chosen times that all lie before the longest lag
            rows = np.array([0])
        inside = functools.partial(body, rows=rows)
        (last, grown), (each, summed) = jax.lax.scan(inside, (unit[rows], log[rows]), jnp.arange(first, stop))
        unit, log = unit.at[rows].set(last), jnp.full(log.shape, -jnp.inf, log.dtype).at[rows].set(grown)
        whole = lambda values, rows=rows: jnp.full((len(values), len(t)), -jnp.inf, values.dtype).at[:, rows].set(values)
        parts.append((jax.tree.map(whole, each), summed))
    return (unit, log), jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _term_norms(run: Run, k: Array, unit: Array, log: Array) -> PyTree:
    """Log norm of each row's term uᵀ ∂⁺h_k/∂θ, u = unit·e^log, per leaf (S,)."""
    rows = (run.before[k], jax.tree.map(lambda leaf: leaf[k], run.xs), unit)
    batch = max(1, _TOGETHER // sum(leaf.size for leaf in jax.tree.leaves(run.params)))

    def norms(side: int) -> PyTree:
        def one(v: Array, x: PyTree, u: Array) -> PyTree:
            term = jax.vjp(lambda theta: in_coordinates(run.step, theta, run.lay, x)(v), run.params)[1](u)[0]
            return jax.tree.map(lambda leaf: quick_log_norm(leaf, side).astype(u.dtype), term)

        return jax.vmap(one)(*rows) if len(k) <= batch else jax.lax.map(lambda row: one(*row), rows, batch_size=batch)

    quick = norms(1)
    overflow = jnp.stack([jnp.isposinf(leaf).any() for leaf in jax.tree.leaves(quick)]).any()
    found = jax.lax.cond(overflow, lambda: norms(-1), lambda: quick)
    return jax.tree.map(lambda leaf: leaf + log, found)


def _term_sum(run: Run, k: Array, covectors: Array) -> PyTree:
    """Σ over rows of uᵀ ∂⁺h_k/∂θ, per leaf (...): the parameters are shared, so each is one matrix product."""

    def local(theta: PyTree) -> Array:
        one = lambda v, x: in_coordinates(run.step, theta, run.lay, x)(v)
        return jax.vmap(one)(run.before[k], jax.tree.map(lambda leaf: leaf[k], run.xs))

    return jax.vjp(local, run.params)[1](covectors)[0]


def _pull(run: Run, k: Array, covectors: Array) -> Array:
    """Each row's cotangent of h_k carried to h_{k−1}."""

    def one(v: Array, x: PyTree, u: Array) -> Array:
        return jax.vjp(in_coordinates(run.step, run.params, run.lay, x), v)[1](u)[0]

    return jax.vmap(one)(run.before[k], jax.tree.map(lambda leaf: leaf[k], run.xs), covectors)


def beyond(run: Run, k: np.ndarray, unit: Array, log: Array, length: int) -> tuple[PyTree, Array]:
    """The sum of all terms at steps up to row s's k[s], and for each step the log norm of its summed term.

    a_k = (cotangents that enter at k) + J_{k+1}ᵀ a_{k+1}: one adjoint run instead of one per time t.
    """
    entering = jnp.zeros((length, run.lay.size), unit.dtype)
    scaled = unit * jnp.where(k >= 0, jnp.exp(log), 0)[:, None]
    entering = entering.at[jnp.maximum(k, 0)].add(jnp.where((k >= 0)[:, None], scaled, 0))

    def back(a: Array, kx: tuple[Array, Array]) -> tuple[Array, Array]:
        i, enters = kx
        a = a + enters
        return _pull(run, i[None], a[None])[0], a

    indices = jnp.arange(length)
    _, adjoint = jax.lax.scan(back, jnp.zeros(run.lay.size, unit.dtype), (indices, entering), reverse=True)
    a, log = rescale(adjoint, (1,))
    each = jax.lax.map(lambda row: _term_norms(run, *(part[None] for part in row)), (indices, a, log))
    return _term_sum(run, indices, adjoint), joint_log_norm(each)[:, 0]


def place(values: Array, t: np.ndarray, length: int) -> Array:
    """(lags, S) by lag and row -> (S, T) by row and k."""
    lags, rows = values.shape
    k = t[:, None] - np.arange(lags)[None]
    empty = jnp.full((rows, length), -jnp.inf, values.dtype)
    return empty.at[np.arange(rows)[:, None], np.where(k >= 0, k, length)].set(values.T, mode="drop")


def _cosines(by_lag: PyTree, full: PyTree) -> Array:
    """Cosine of the running sum over lags with the whole; 1 where both are zero."""
    dtype = layout(full, "params").dtype
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)).astype(dtype) for leaf in jax.tree.leaves(by_lag)]))
    scale = jnp.where(largest == 0, 1, largest)
    unit = jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype), by_lag)
    whole = jax.tree.map(lambda leaf: leaf.sum(0), unit)

    def dot(a: PyTree, b: PyTree) -> Array:
        parts = jax.tree.map(lambda p, q: jnp.sum((jnp.conj(p) * q).real), a, b)
        return jnp.stack([p.astype(dtype) for p in jax.tree.leaves(parts)]).sum()

    def body(running: PyTree, lag: PyTree) -> tuple[PyTree, tuple[Array, Array]]:
        running = jax.tree.map(jnp.add, running, lag)
        return running, (dot(running, whole), dot(running, running))

    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), unit)
    _, (inner, square) = jax.lax.scan(body, zero, unit)
    size = jnp.sqrt(square * dot(whole, whole))
    both_zero = (square == 0) & (dot(whole, whole) == 0)
    return jnp.where(both_zero, 1, inner / jnp.where(size == 0, 1, size))


def _shares(log_norms: list[Array]) -> Array:
    """Σ of norms at or beyond each lag over Σ of all; 0 where there are none."""
    largest = jnp.max(jnp.stack([jnp.max(part) for part in log_norms]))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    sums = [jnp.exp(part - largest).sum(-1, keepdims=part.ndim < 2).reshape(-1) for part in log_norms]
    beyond = jnp.cumsum(jnp.concatenate(sums)[::-1])[::-1]
    return beyond / jnp.where(beyond[0] == 0, 1, beyond[0])
