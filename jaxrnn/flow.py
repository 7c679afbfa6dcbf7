"""How large is ∂h_t/∂h_k for every pair of times, ∂L/∂h_t for every t, and how far back does the state remember."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import admit, compiled, require_at, require_jacobians, require_loss, targets_length
from jaxrnn._frames import log_norm, random_frame, rescale
from jaxrnn._tree import Layout, layout
from jaxrnn.cells import structure
from jaxrnn.linearize import Step, dense
from jaxrnn.unroll import states

PyTree = Any
Loss = Callable[[PyTree, PyTree, PyTree, PyTree], Array]


class StateGradients(NamedTuple):
    """A loss with its gradients."""

    loss: Array  # scalar, L = Σ_t loss(θ, h_t, x_t, y_t)
    states: PyTree  # ∂L/∂h_t for t = 0..T through all later times, leaves (T + 1, ...)
    params: PyTree  # ∂L/∂θ, as params


class GrowthSplit(NamedTuple):
    """The growth rate of a perturbation, told apart; the two sum to the rate of J_t = P_t A."""

    weights: Array  # mean of ln‖A v‖, nats per step, ‖v‖ = 1 before each step
    activation: Array  # mean of ln(‖P_t A v‖ / ‖A v‖), nats per step: slopes of activations and gates


class Directions(NamedTuple):
    """The perturbations that survive a whole sequence best, mapped back to units; leaves as those of the state after an axis k."""

    log_gains: Array  # (k,) log σ_i(∂h_T/∂h_0), nats, descending; −inf where drowned in rounding or dead
    start: PyTree  # (k, ...) right singular vectors: what of h_0 is remembered
    end: PyTree  # (k, ...) left singular vectors: where in h_T it is found; read backwards, which loss reaches furthest


class Horizon(NamedTuple):
    """After how many steps transport has fallen below a level for good."""

    lags: Array  # one per quantile, steps; inf where the sequences were too short to see it
    censored: Array  # share of starting times that were still above the level when their sequence ended


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

    Cost: O(T K n³) for K starting times, memory O(K n²). The products are rescaled at every step, so nothing over- or
    underflows at any T.

    >>> from jaxrnn import flow
    >>> print(flow.log_transport(lambda a, h, x: a * h, 0.5, 1.0, None, length=2).round(3))
    [[ 0.      -inf   -inf]
     [-0.693  0.      -inf]
     [-1.386 -0.693  0.   ]]
    """
    advance, state, length, n, dtype = _dense_advance(step, params, state, xs, length)
    return _transport(advance, state, xs, length, n, dtype, stride, lambda unit, log: log)[0]


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
    advance, state, length, n, dtype = _dense_advance(step, params, state, xs, length)
    parts = layout(state).slices

    def measure(unit: Array, log: Array) -> dict[tuple[str, str], Array]:
        return {(a, b): log + log_norm(unit[parts[b], :, parts[a]], (0, 2)) for a in parts for b in parts}

    return _transport(advance, state, xs, length, n, dtype, stride, measure)[0]


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
    return _transport(lambda h, j: (j, h), (), jacobians, length, n, jacobians.dtype, stride, lambda unit, log: log)[0]


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
    advance, state, length, n, dtype = _dense_advance(step, params, state, xs, length)
    _, unit, log = _transport(advance, state, xs, length, n, dtype, length + 1, lambda unit, log: None)
    return unit[:, 0], log[0] + 0.5 * jnp.log(float(n)).astype(dtype)  # log counts ‖·‖_F / √n


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

    def nudged(theta: PyTree, h: tuple[PyTree, PyTree], xe: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        x, nudge = xe
        return jax.tree.map(jnp.add, step(theta, h, x), nudge)

    def total(theta: PyTree, start: PyTree, nudges: PyTree) -> Array:
        hs = states(nudged, theta, start, (xs, nudges))
        return jnp.sum(jax.vmap(loss, (None, 0, 0, 0))(theta, hs, xs, targets))

    nudges = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), state)
    value, (g_params, g_start, g_nudges) = jax.value_and_grad(total, (0, 1, 2))(params, state, nudges)
    g_states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), g_start, g_nudges)
    return StateGradients(value, g_states, g_params)


def horizon(
    log_transport: Array,
    *,
    level: ArrayLike = 0.36787944117144233,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
    stride: int = 1,
    lengths: Array | None = None,
) -> Horizon:
    """How many steps until transport has fallen below a level for good, with quantiles over starting times.

    A starting time k whose transport is still at or above the level when the sequence ends is censored: it is known to
    last that long, not how long. Quantiles are those of the Kaplan–Meier estimate of the survival S(lag).

    Args:
        log_transport: (T + 1, K) or (B, T + 1, K), from ``log_transport`` with the same ``stride``.
        level: what counts as forgotten, 1/e by default (so the horizon of rate λ < 0 is 1/|λ|).
        quantiles: which quantiles over starting times (and sequences).
        stride: the stride of the starting times.
        lengths: (B,) or scalar, the last time t of each sequence where they are ragged; T by default.

    Returns:
        ``Horizon``; a quantile is inf where the data end before S falls to it, and NaN if any entry is NaN.

    Raises:
        ValueError: quantiles outside (0, 1), or a stride that does not fit the number of columns.

    >>> from jaxrnn import flow
    >>> transport = flow.log_transport(lambda a, h, x: a * h, 0.9, 1.0, None, length=40)
    >>> [float(lag) for lag in flow.horizon(transport).lags]  # 0.9^10 = 0.349 < 1/e
    [10.0, 10.0, 10.0]
    """
    require_at("stride", stride, 1, None, "the distance between starting times")
    if not quantiles or not all(0 < q < 1 for q in quantiles):
        raise ValueError(f"quantiles={quantiles} must be numbers in (0, 1)")
    log_transport = jnp.asarray(log_transport)
    if log_transport.ndim not in (2, 3) or log_transport.shape[-2] < 2:
        raise ValueError(f"log_transport has shape {log_transport.shape}; allowed are (T + 1, K) and (B, T + 1, K) with T ≥ 1")
    if log_transport.shape[-1] != -(-log_transport.shape[-2] // stride):
        T = log_transport.shape[-2] - 1
        raise ValueError(f"log_transport has {log_transport.shape[-1]} columns; stride={stride} over T={T} gives {-(-(T + 1) // stride)}")
    ends = jnp.broadcast_to(jnp.asarray(log_transport.shape[-2] - 1 if lengths is None else lengths), log_transport.shape[:-2])
    return _horizon(log_transport, jnp.log(level), ends, quantiles=tuple(float(q) for q in quantiles), stride=stride)


@compiled("quantiles", "stride")
def _horizon(log_transport: Array, log_level: Array, ends: Array, *, quantiles: tuple[float, ...], stride: int) -> Horizon:
    last = log_transport.shape[-2] - 1
    t, k = jnp.arange(last + 1)[:, None], stride * jnp.arange(log_transport.shape[-1])[None]
    ends = ends[..., None].astype(t.dtype)
    real = (t >= k) & (t <= ends[..., None])
    unknown = jnp.any(jnp.isnan(log_transport) & real)
    above = (log_transport >= log_level) & real
    kept = jnp.max(jnp.where(above, t - k, -1), axis=-2)  # the last lag at which it still stood
    window = jnp.broadcast_to(ends - k[0], kept.shape)
    usable = window > 0  # a start at T has nothing to say
    ended = (kept < window) & usable
    lags = jnp.arange(1, last + 1)
    # An end at kept + 1 is an event at that lag; at risk are those not yet ended whose sequence is long enough.
    events = jnp.sum((kept[..., None] + 1 == lags) & ended[..., None], axis=tuple(range(kept.ndim)))
    risk = jnp.sum((kept[..., None] + 1 >= lags) & (window[..., None] >= lags), axis=tuple(range(kept.ndim)))
    survival = jnp.cumprod(1 - events / jnp.maximum(risk, 1))
    reached = survival <= 1 - jnp.asarray(quantiles, survival.dtype)[:, None] + 1e-6  # rounding of the product
    found = jnp.where(reached.any(-1), lags[jnp.argmax(reached, -1)].astype(survival.dtype), jnp.inf)
    found = jnp.where(unknown, jnp.nan, found)
    return Horizon(found, 1 - jnp.sum(ended) / jnp.maximum(jnp.sum(usable), 1))


def _dense_advance(step: Step, params: PyTree, state: PyTree, xs: PyTree, length: int | None) -> tuple:
    state, length = admit(step, params, state, xs, length)
    lay: Layout = layout(state)
    return lambda h, x: dense(step, params, lay, h, x), state, length, lay.size, lay.dtype


def _transport(
    advance: Callable[[PyTree, PyTree], tuple[Array, PyTree]],
    state: PyTree,
    xs: PyTree,
    length: int,
    n: int,
    dtype: Any,
    stride: int,
    measure: Callable[[Array, Array], PyTree],
) -> tuple[PyTree, Array, Array]:
    """Push the identity from every starting time at once; (measurements, unit products (n, K, n), their logs (K,))."""
    require_at("stride", stride, 1, None, "the distance between starting times")
    count = -(-(length + 1) // stride)
    start = jnp.eye(n, dtype=dtype)[:, None] / jnp.sqrt(float(n)).astype(dtype)

    def begin(unit: Array, log: Array, t: Array) -> tuple[Array, Array]:
        j, now = t // stride, t % stride == 0
        unit = jnp.where(now, jax.lax.dynamic_update_slice(unit, start, (0, j, 0)), unit)
        return unit, jnp.where(now & (jnp.arange(count) == j), 0, log)

    def body(carry: tuple, tx: tuple) -> tuple[tuple, PyTree]:
        h, unit, log = carry
        t, x = tx
        jacobian, h = advance(h, x)
        unit, growth = rescale((jacobian @ unit.reshape(n, -1)).reshape(n, count, n), (0, 2))
        begun = stride * jnp.arange(count) < t  # NaN · 0 would reach columns that have not begun
        unit, growth = jnp.where(begun[:, None], unit, 0), jnp.where(begun, growth, 0)
        unit, log = begin(unit, log + growth, t)
        return (h, unit, log), measure(unit, log)

    unit, log = begin(jnp.zeros((n, count, n), dtype), jnp.full(count, -jnp.inf, dtype), jnp.array(0))
    first = measure(unit, log)
    (_, unit, log), rows = jax.lax.scan(body, (state, unit, log), (jnp.arange(1, length + 1), xs), length=length)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rows), unit, log
