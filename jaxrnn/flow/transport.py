"""How large is ∂h_t/∂h_k for every pair of times."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._border import admit, compiled, require_at, require_jacobians
from jaxrnn._frames import log_norm, rescale
from jaxrnn._tree import Layout, layout
from jaxrnn.linearize import Step, dense, pushed
from jaxrnn.unroll import preceding, states

PyTree = Any
Measure = Callable[[Array, Array, Array], PyTree]  # (vectors, the log of what they were divided by, the logs of their true norms)


class Probed(NamedTuple):
    """Transport estimated from random perturbations."""

    log_transport: Array  # (T + 1, K) nats, as ``log_transport``; −inf for k > t
    standard_errors: Array  # (T + 1, K) nats, to first order; 0 where nothing arrives


@compiled("step", "length", "stride")
def log_transport(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None, stride: int = 1) -> Array:
    """How much of a perturbation at time k is left at time t, for every pair.

    log(‖∂h_t/∂h_k‖_F / √n), ∂h_t/∂h_k = J_t J_{t−1} ⋯ J_{k+1}: 0 for an isometry, at any n.

    Args:
        step, params, state, xs, length: as in ``unroll.states``.
        stride: take the starting times k = 0, stride, 2·stride, … only.

    Returns:
        (T + 1, ⌈(T + 1)/stride⌉) nats: row t = 0..T, column k/stride; −inf for k > t.

    Raises:
        ValueError: stride below 1, and as ``unroll.states``.

    Cost: T² n³ / stride operations (T K n³ for K starting times, half of it saved on pairs k > t), plus 16 T n³ at most for Jacobians;
    memory that of the answer, of the states O(T n), and K n² / 8 for the products. They are rescaled at every step, so nothing over- or
    underflows at any T. Beyond T = 1,000 or n = 256: a stride, or ``transport_by_probes``.

    >>> from jaxrnn import flow
    >>> print(flow.log_transport(lambda a, h, x: a * h, 0.5, 1.0, None, length=2).round(3))
    [[ 0.      -inf   -inf]
     [-0.693  0.      -inf]
     [-1.386 -0.693  0.   ]]
    """
    return _exact(step, params, state, xs, length, stride, _logs)


@compiled("step", "length", "stride")
def log_transport_blocks(
    step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None, stride: int = 1
) -> dict[tuple[str, str], Array]:
    """The transport from each leaf of the state to each leaf: h→h, h→c, layer→layer.

    log(‖(∂h_t/∂h_k)[to, from]‖_F / √n), n the dimension of the *whole* state: the squares of the blocks' exponentials
    sum to that of ``log_transport``.

    Args, errors and cost as ``log_transport``.

    Returns:
        ``{(from, to): (T + 1, K)}``, leaves named by their path in the state.

    >>> import jax
    >>> from jaxrnn import cells, flow
    >>> cell = cells.lstm(1, 2)
    >>> params = cell.init_params(jax.random.key(0))
    >>> sorted(flow.log_transport_blocks(cell.step, params, cell.init_state(params), None, length=3))
    [('c', 'c'), ('c', 'h'), ('h', 'c'), ('h', 'h')]
    """
    parts = layout(state).slices

    def measure(vectors: Array, scale: Array, log: Array) -> dict[tuple[str, str], Array]:
        return {(a, b): scale + log_norm(vectors[parts[b], :, parts[a]], (0, 2)) for a in parts for b in parts}

    return _exact(step, params, state, xs, length, stride, measure)


@compiled("step", "length", "stride", "probes")
def transport_by_probes(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    key: Array,
    *,
    length: int | None = None,
    stride: int = 1,
    probes: int = 8,
) -> Probed:
    """An estimate of ``log_transport`` from random perturbations, for states too large for the exact one.

    E‖∂h_t/∂h_k v‖² = ‖∂h_t/∂h_k‖_F² for v of independent signs ±1: the mean over probes is unbiased, and half its log is returned,
    whose bias is −standard_error² to first order.

    Args:
        step, params, state, xs, length, stride: as in ``log_transport``.
        key: of the signs, which differ from starting time to starting time.
        probes: p, vectors for each starting time, at least 2.

    Returns:
        ``Probed``.

    Raises:
        ValueError: fewer than 2 probes; and as ``log_transport``.

    Cost: O(T K p) tangents through one step, matrix-free: O(T K p n²) for a dense recurrence; memory O(T n + K p n / 8).

    Source: Hutchinson 1990, Commun. Stat. Simul. 19, 433.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import flow
    >>> found = flow.transport_by_probes(lambda a, h, x: a * h, 0.5, jnp.ones(100), None, jax.random.key(0), length=2, stride=2)
    >>> print(found.log_transport.round(3))  # ‖a v‖ = a ‖v‖ for every v
    [[ 0.      -inf]
     [-0.693   -inf]
     [-1.386  0.   ]]
    """
    require_at("probes", probes, 2, None, "the number of vectors for each starting time")
    items, length, lay = _along(step, params, state, xs, length)

    def push(hx: PyTree, v: Array) -> Array:
        h, x = hx
        return pushed(step, params, lay, h, x, v)[1]

    def start(k: Array) -> Array:
        signs = jax.random.rademacher(jax.random.fold_in(key, k), (lay.size, probes), lay.dtype)
        return signs / jnp.sqrt(float(lay.size)).astype(lay.dtype)

    def measure(vectors: Array, scale: Array, log: Array) -> Probed:
        """Mean and spread of the squares, from logs (K, p)."""
        largest = jnp.max(log, 1, keepdims=True)
        square = jnp.exp(2 * (log - jnp.where(jnp.isneginf(largest), 0, largest)))
        mean = square.mean(1)
        dead = mean == 0
        error = 0.5 * jnp.std(square, 1, ddof=1) / math.sqrt(probes) / jnp.where(dead, 1, mean)
        return Probed(jnp.where(dead, -jnp.inf, largest[:, 0] + 0.5 * jnp.log(jnp.where(dead, 1, mean))), error)

    found = _transport(push, start, items, length, stride, (0,), measure)
    return Probed(found.log_transport, jnp.where(jnp.isneginf(found.log_transport), 0, found.standard_errors))


@compiled("stride")
def from_jacobians(jacobians: Array, *, stride: int = 1) -> Array:
    """``log_transport`` of a stored sequence of Jacobians (T, n, n), wherever they were computed.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import flow
    >>> print(flow.from_jacobians(jnp.full((2, 1, 1), 0.5), stride=2).round(3))
    [[ 0.      -inf]
     [-0.693   -inf]
     [-1.386  0.   ]]
    """
    jacobians = require_jacobians(jacobians)
    length, n = jacobians.shape[:2]
    return _transport(*_all_units(lambda j: j, n, jacobians.dtype), jacobians, length, stride, (0, 2), _logs)


@compiled("step", "length")
def log_gain(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> Array:
    """By how much the sequence can amplify a perturbation of its first state at most.

    log σ₁(∂h_T/∂h_0), the largest singular value of the whole product J_T ⋯ J_1. By transposition it is also the
    largest gain of a gradient from the end to the start.

    Arguments and errors as ``unroll.states``.

    Returns:
        Scalar, nats; −inf if the product is zero, NaN if a state or a Jacobian is not finite.

    Cost: O(T n³), memory O(n²), one SVD.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import flow
    >>> A = jnp.array([[0.9, 10.0], [0.0, 0.9]])  # spectral radius 0.9, yet it amplifies at first
    >>> round(float(flow.log_gain(lambda A, h, x: A @ h, A, jnp.ones(2), None, length=9)), 3)
    3.657
    """
    product, log = end_product(step, params, state, xs, length=length)
    sigma = jnp.linalg.svd(product, compute_uv=False)[0]
    return log + jnp.where(log == -jnp.inf, 0, jnp.log(jnp.where(sigma == 0, 1, sigma)))


@compiled("step", "length")
def end_product(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> tuple[Array, Array]:
    """The whole product J_T ⋯ J_1 = ∂h_T/∂h_0 as a matrix of Frobenius norm 1 (n, n) and the log of its norm, nats.

    Its leading singular values and directions are accurate; those below eps of the first have drowned. Arguments,
    errors and cost as ``log_gain``.

    >>> from jaxrnn import flow
    >>> product, log = flow.end_product(lambda a, h, x: a * h, 0.5, 1.0, None, length=2000)
    >>> float(product[0, 0]), round(float(log), 2)
    (1.0, -1386.29)
    """
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)

    def body(carry: tuple[PyTree, Array, Array], x: PyTree) -> tuple[tuple[PyTree, Array, Array], None]:
        h, unit, log = carry
        h, moved = pushed(step, params, lay, h, x, unit)
        unit, growth = rescale(moved, (0, 1))
        return (h, unit, log + growth), None

    unit, log = rescale(jnp.eye(lay.size, dtype=lay.dtype), (0, 1))
    return jax.lax.scan(body, (state, unit, log), xs, length=length)[0][1:]


def _along(step: Step, params: PyTree, state: PyTree, xs: PyTree, length: int | None) -> tuple[PyTree, int, Layout]:
    """The sequence of (h_{t−1}, x_t), its length T, and the layout of the state."""
    state, length = admit(step, params, state, xs, length)
    return (preceding(state, states(step, params, state, xs, length=length)), xs), length, layout(state)


def _exact(step: Step, params: PyTree, state: PyTree, xs: PyTree, length: int | None, stride: int, measure: Measure) -> PyTree:
    items, length, lay = _along(step, params, state, xs, length)
    pair = _all_units(lambda hx: dense(step, params, lay, *hx)[0], lay.size, lay.dtype)
    return _transport(*pair, items, length, stride, (0, 2), measure)


def _transport(
    push: Callable[[PyTree, Array], Array],
    start: Callable[[Array], Array],
    items: PyTree,
    length: int,
    stride: int,
    axes: tuple[int, ...],
    measure: Measure,
) -> PyTree:
    """Measurements of what becomes of the columns start(k) (n, w) of each starting time k at every later one, leaves (T + 1, K).

    Starting times are taken in blocks, each from its first one on: pairs k > t are left alone but for those inside a block, and
    the vectors of one block are all that is held at once.
    """
    require_at("stride", stride, 1, None, "the distance between starting times")
    count = -(-(length + 1) // stride)
    blocks = max(1, min(8, count // 16))
    edges = [round(i * count / blocks) for i in range(blocks + 1)]
    times = [stride * np.arange(a, b) for a, b in itertools.pairwise(edges)]
    columns = [_columns(push, start, items, length, block, axes, measure) for block in times]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *columns)


def _columns(
    push: Callable[[PyTree, Array], Array],
    start: Callable[[Array], Array],
    items: PyTree,
    length: int,
    times: np.ndarray,
    axes: tuple[int, ...],
    measure: Measure,
) -> PyTree:
    """Push the columns of some starting times side by side; norms are taken over ``axes`` of (n, starting times, w).

    What is carried is exp(−scale) times the truth, rescaled only when a norm has left the range whose squares are safe: most steps
    read the vectors once, to measure them.
    """
    begin, starts = int(times[0]), jax.vmap(start, out_axes=1)(jnp.asarray(times))
    spacing = int(times[1] - times[0]) if len(times) > 1 else length + 1
    zero = jnp.zeros_like(log_norm(starts, axes))
    low, high = (jnp.asarray(2.0 ** (sign * int(jnp.finfo(starts.dtype).maxexp) // 4), starts.dtype) for sign in (-1, 1))
    widen = lambda which, like: which.reshape(which.shape + (1,) * (like.ndim - 1))

    def rescaled(vectors: Array, scale: Array, square: Array) -> tuple[Array, Array, Array]:
        unit, growth = rescale(vectors, axes)
        return unit, scale + growth, scale + growth

    def kept(vectors: Array, scale: Array, square: Array) -> tuple[Array, Array, Array]:
        return vectors, scale, scale + 0.5 * jnp.log(jnp.where(square == 0, 1, square))

    def seen(t: Array, vectors: Array, scale: Array, log: Array) -> PyTree:
        begun = jnp.asarray(times) <= t
        return jax.tree.map(lambda leaf: jnp.where(widen(begun, leaf), leaf, -jnp.inf), measure(vectors, scale, log))

    def body(carry: tuple[Array, Array], ti: tuple[Array, PyTree]) -> tuple[tuple[Array, Array], PyTree]:
        (vectors, scale), (t, item) = carry, ti
        vectors = push(item, vectors.reshape(len(vectors), -1)).reshape(vectors.shape)
        i, late = jnp.divmod(t - begin, spacing)
        now = (late == 0) & (i < len(times))
        vectors = vectors.at[:, i].set(jnp.where(now, starts[:, i], vectors[:, i]), mode="drop")
        scale = scale.at[i].set(jnp.where(now, 0, scale[i]), mode="drop")
        square, begun = jnp.sum(vectors**2, axes), widen(jnp.asarray(times) <= t, zero)
        safe = ((square > low) & (square < high)) | ((square == 0) & (scale == -jnp.inf)) | ~begun
        vectors, scale, log = jax.lax.cond(jnp.all(safe), kept, rescaled, vectors, scale, square)
        return (vectors, scale), seen(t, vectors, scale, log)

    first = jnp.arange(len(times)) == 0
    vectors, scale = jnp.where(first[:, None], starts, 0), zero
    row = seen(jnp.asarray(begin), vectors, scale, jnp.where(widen(first, zero), log_norm(starts, axes), -jnp.inf))
    rest = (jnp.arange(begin + 1, length + 1), jax.tree.map(lambda leaf: leaf[begin:], items))
    _, rows = jax.lax.scan(body, (vectors, scale), rest, length=length - begin)
    unseen = lambda leaf: jnp.full((begin, *leaf.shape), -jnp.inf, leaf.dtype)
    return jax.tree.map(lambda a, b: jnp.concatenate([unseen(a), a[None], b]), row, rows)


def _logs(vectors: Array, scale: Array, log: Array) -> Array:
    """The logs of the norms themselves."""
    return log


def _all_units(jacobian: Callable[[PyTree], Array], n: int, dtype: Any) -> tuple[Callable, Callable]:
    """Push with a dense Jacobian, from all n units at once, of joint norm 1."""
    identity = jnp.eye(n, dtype=dtype) / jnp.sqrt(float(n)).astype(dtype)
    return (lambda item, v: jacobian(item) @ v), (lambda k: identity)
