"""At what rates do perturbations of the state grow: Lyapunov exponents of driven and autonomous recurrences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import admit, compiled, require_at, require_jacobians
from jaxrnn._frames import Orthonormalised, orthonormalise, random_frame
from jaxrnn._tree import layout
from jaxrnn.linearize import Step, pushed

PyTree = Any


class Spectrum(NamedTuple):
    """Lyapunov exponents and what is needed to judge and to continue them."""

    exponents: Array  # (k,) nats per unit of time, descending; -inf where the direction was lost
    standard_errors: Array  # (k,) of the exponents, from the blocks; inf with one block or where lost: nothing is known
    lost: Array  # (k,) in how many orthonormalisations |R_ii| <= n·eps·‖column‖: the direction died or drowned
    block_growth: Array  # (blocks, k) log growth in nats per block of time, in the order of the frame's columns
    block_steps: Array  # (blocks,) number of steps in each block
    state: PyTree  # h_T, to go on from
    frame: Array  # (n, k) orthonormal, to go on with


@compiled("step", "length", "k", "warmup", "qr_every", "blocks")
def spectrum(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    length: int | None = None,
    k: int | None = None,
    warmup: int = 0,
    frame: Array | None = None,
    qr_every: int = 1,
    blocks: int = 32,
    dt: ArrayLike = 1.0,
) -> Spectrum:
    """The k leading Lyapunov exponents along one trajectory, by repeated QR of a pushed frame.

    J_t Q_{t−1} = Q_t R_t,  λ_i = (1 / (T − warmup) dt) Σ_t ln|R_t,ii|  (t counted after the warm-up).

    Args:
        step, params, state, xs, length: as in ``unroll.states``.
        k: how many exponents, in [1, n]; all n by default.
        warmup: first steps that run state and frame and are not counted, in [0, T − 1].
        frame: (n, k) with orthonormal columns (not checked) to start from, such as the ``frame`` of an earlier result; by default
            random from a fixed key (a coordinate frame can hide living directions).
        qr_every: steps between orthonormalisations. More than 1 is exact only while the pushed frame stays
            well-conditioned: its condition number grows by e^(λ_1 − λ_k) a step.
        blocks: number of blocks of time for the standard errors; at most the number of orthonormalisations.
        dt: duration of a step.

    Returns:
        ``Spectrum``. Continuing with its ``state`` and ``frame`` on the following inputs equals one long run when it
        was cut at a multiple of ``qr_every``: add the ``block_growth``.

    Raises:
        ValueError: k, warmup, qr_every, blocks or frame outside what is allowed, and as ``unroll.states``.

    Cost: per step k tangents and O(n k²) for the QR (LAPACK; it dominates); memory O(n k + blocks k), flat in T.
    Errors: the standard errors are those of batch means, for a stationary trajectory; the finite-time bias is
    O(log κ / T). float32 carries λ_1 where the dynamics is not chaotic; use float64 for the rest.

    Source: Benettin, Galgani, Giorgilli, Strelcyn 1980; for driven recurrent networks Engelken, Wolf, Abbott 2023.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> A = jnp.array([[0.5, 1.0], [0.0, 0.25]])
    >>> result = lyapunov.spectrum(lambda A, h, x: A @ h, A, jnp.ones(2), None, length=2000, warmup=100)
    >>> [round(float(v), 3) for v in result.exponents]  # ln 0.5, ln 0.25
    [-0.693, -1.386]
    """
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)

    def advance(h: PyTree, q: Array, x: PyTree) -> tuple[PyTree, Array]:
        return pushed(step, params, lay, h, x, q)

    frame = _starting_frame(frame, lay.size, k, lay.dtype)
    return _measure(advance, state, frame, xs, length, warmup, qr_every, blocks, dt)


@compiled("k", "warmup", "qr_every", "blocks")
def from_jacobians(
    jacobians: Array,
    *,
    k: int | None = None,
    warmup: int = 0,
    frame: Array | None = None,
    qr_every: int = 1,
    blocks: int = 32,
    dt: ArrayLike = 1.0,
) -> Spectrum:
    """The Lyapunov exponents of a stored sequence of Jacobians, wherever they were computed.

    Args:
        jacobians: (T, n, n) real, J_t = ∂h_t/∂h_{t−1} at index t − 1.
        k, warmup, frame, qr_every, blocks, dt: as in ``spectrum``.

    Returns:
        ``Spectrum`` with an empty ``state``.

    Raises:
        ValueError, TypeError: on shapes other than (T, n, n) with T ≥ 1, and on dtypes that are not real floats.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> A, B = jnp.array([[0.5, 2.0], [0.0, 0.5]]), jnp.array([[0.5, 0.0], [2.0, 0.5]])
    >>> result = lyapunov.from_jacobians(jnp.stack([B, A] * 500), warmup=100)
    >>> round(float(result.exponents[0]), 4)  # grows, though each spectral radius is 0.5
    0.7505
    """
    jacobians = require_jacobians(jacobians)
    frame = _starting_frame(frame, jacobians.shape[1], k, jacobians.dtype)
    return _measure(lambda h, q, j: (h, j @ q), (), frame, jacobians, len(jacobians), warmup, qr_every, blocks, dt)


@jax.jit
def kaplan_yorke(exponents: Array) -> Array:
    """The Kaplan–Yorke dimension: how many leading exponents it takes until volumes shrink.

    D = j + (λ_1 + … + λ_j) / |λ_{j+1}|, j the largest number whose exponents sum to 0 or more.

    Args:
        exponents: (..., k) in any order and unit, all there are or enough that their sum is negative; −inf is a
            direction that dies at once.

    Returns:
        (...,): 0 where all are negative, k where even the sum of all is not (then more exponents are needed, or volume
        does not shrink), NaN where one is.

    Source: Kaplan, Yorke 1979.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> round(float(lyapunov.kaplan_yorke(jnp.array([0.9056, 0.0, -14.572]))), 3)  # Lorenz
    2.062
    """
    exponents = -jnp.sort(-jnp.asarray(exponents), axis=-1)
    sums = jnp.cumsum(exponents, axis=-1)
    whole = jnp.sum(sums >= 0, axis=-1)  # the sums of descending numbers rise, then fall: this counts a beginning
    k = exponents.shape[-1]
    at = lambda values, i: jnp.take_along_axis(values, jnp.clip(i, 0, k - 1)[..., None], -1)[..., 0]
    before = jnp.where(whole > 0, at(sums, whole - 1), jnp.zeros((), sums.dtype))
    dimension = whole.astype(sums.dtype) + jnp.where(whole < k, before / jnp.abs(at(exponents, whole)), 0)
    return jnp.where(jnp.isnan(exponents).any(-1), jnp.nan, jnp.where(whole == 0, 0, dimension))


@jax.jit
def entropy_rate(exponents: Array) -> Array:
    """Sum of the positive exponents (..., k), as (...): the rate at which nearby states come apart, in their unit.

    By Ruelle's inequality an upper bound of the Kolmogorov–Sinai entropy, equal to it for Pesin's smooth measures.

    Source: Pesin 1977; Ruelle 1978.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> float(lyapunov.entropy_rate(jnp.array([0.5, 0.25, -3.0, -jnp.inf])))
    0.75
    """
    exponents = jnp.asarray(exponents)
    return jnp.where(jnp.isnan(exponents).any(-1), jnp.nan, jnp.sum(jnp.maximum(exponents, 0), axis=-1))


@compiled("step", "window", "length", "k", "warmup", "qr_every")
def finite_time(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    window: int,
    length: int | None = None,
    k: int | None = None,
    warmup: int = 0,
    frame: Array | None = None,
    qr_every: int = 1,
    dt: ArrayLike = 1.0,
) -> Array:
    """The growth rates over windows of time, one after the other: how much the exponents vary on the way.

    λ_i^w = (1 / window dt) Σ_{t in w} ln|R_t,ii|. Their mean over the windows is the exponent; their spread says over which times
    a gradient may explode though it vanishes in the long run.

    Args:
        step, params, state, xs, length, k, warmup, frame, qr_every, dt: as for ``spectrum``.
        window: steps of a window, a multiple of ``qr_every``; what is left over at the end is not used.

    Returns:
        (W, k) nats per unit of time, W = ⌊(T − warmup) / window⌋, in the order of the frame's columns, not sorted; −inf where a
        direction was lost in that window.

    Raises:
        ValueError: no whole window, or one that is no multiple of ``qr_every``; and as ``spectrum``. Cost: as ``spectrum``.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> factors = jnp.array([[2.0], [2.0], [0.5], [0.5]])
    >>> lyapunov.finite_time(lambda p, h, x: x * h, (), jnp.ones(1), factors, window=2).round(4).tolist()
    [[0.6931...], [-0.6931...]]
    """
    state, length = admit(step, params, state, xs, length)
    require_at("warmup", warmup, 0, length - 1, f"fewer than the {length} steps there are")
    require_at("window", window, 1, length - warmup, "the steps that are counted")
    if window % qr_every:
        raise ValueError(f"window={window} must be a multiple of qr_every={qr_every}")
    count = (length - warmup) // window
    total = warmup + count * window
    seen = jax.tree.map(lambda leaf: leaf[:total], xs)
    options: dict[str, Any] = {"k": k, "warmup": warmup, "frame": frame, "qr_every": qr_every, "blocks": count}
    growth = spectrum(step, params, state, seen, length=total, **options).block_growth
    return growth / window / jnp.asarray(dt, growth.dtype)


def suggest_interval(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    length: int | None = None,
    k: int | None = None,
    error: float = 1e-9,
    probe: int = 200,
) -> int:
    """How many steps may lie between two orthonormalisations: the ``qr_every`` for ``spectrum``.

    Pushed m steps, a frame gets the condition number κ(m) ≈ exp(max − min over columns of their log growth), and its
    smallest direction is known to about ε·κ(m). The largest m with ε·κ(m) ≤ ``error`` over every stretch of the probe, and no
    growth that could overflow.

    Args:
        step, params, state, xs, length, k: as for ``spectrum``.
        error: of the log growth of an interval, nats.
        probe: how many first steps to look at; they should be typical. Half of them turn the frame first.

    Returns:
        m ≥ 1, a Python int: this looks at numbers, so it is a host function and not for use under jit. 1 where a
        direction was lost or float32 does not carry ``error`` at all.

    Raises:
        As ``spectrum``; ValueError: error not in (0, 1), probe below 2.

    Cost: the spectrum of ``probe`` steps.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> lyapunov.suggest_interval(lambda a, h, x: a * h, jnp.array([0.5, 0.01], jnp.float32), jnp.ones(2, jnp.float32), None, length=100, error=1e-4)
    1
    """
    if not 0 < error < 1:
        raise ValueError(f"error={error} must lie in (0, 1), nats per interval")
    require_at("probe", probe, 2, None, "the number of steps to look at")
    state, length = admit(step, params, state, xs, length)
    T = min(probe, length)
    seen = jax.tree.map(lambda leaf: leaf[:T], xs)
    found = spectrum(step, params, state, seen, length=T, k=k, warmup=T // 2, blocks=T)
    if bool((found.lost > 0).any()):
        return 1
    growth = np.concatenate([np.zeros((1, found.frame.shape[1])), np.cumsum(np.asarray(found.block_growth, np.float64), 0)])
    lay = layout(state)
    allowed, largest = np.log(error / lay.eps), 0.25 * np.log(np.finfo(lay.dtype).max)
    for m in range(1, len(growth)):
        window = growth[m:] - growth[:-m]
        if (window.max(1) - window.min(1)).max() > allowed or np.abs(window).max() > largest:
            return max(1, m - 1)
    return len(growth) - 1


def _starting_frame(frame: Array | None, n: int, k: int | None, dtype: np.dtype) -> Array:
    k = (n if frame is None else np.shape(frame)[-1]) if k is None else k
    require_at("k", k, 1, n, "the real dimension of the state")
    if frame is None:
        return random_frame(n, k, dtype)
    frame = jnp.asarray(frame)
    if frame.shape != (n, k) or frame.dtype != dtype:
        raise ValueError(
            f"frame is {frame.dtype}{list(frame.shape)}; it must be {dtype}[{n}, {k}], orthonormal columns over the real coordinates of the state"
        )
    return frame


def _measure(
    advance: Callable[[PyTree, Array, PyTree], tuple[PyTree, Array]],
    state: PyTree,
    frame: Array,
    xs: PyTree,
    length: int,
    warmup: int,
    qr_every: int,
    blocks: int,
    dt: ArrayLike,
) -> Spectrum:
    require_at("warmup", warmup, 0, length - 1, f"fewer than the {length} steps there are")
    require_at("qr_every", qr_every, 1, None, "the number of steps between orthonormalisations")
    require_at("blocks", blocks, 1, None, "the number of blocks of time")
    counted = length - warmup
    intervals, rest = divmod(counted, qr_every)
    blocks = min(blocks, intervals + (rest > 0))
    ids, steps = _block_plan(intervals, rest, qr_every, blocks)

    def stretch(h: PyTree, q: Array, part: PyTree, m: int) -> tuple[PyTree, Orthonormalised]:
        """M steps, then one QR."""
        if m == 1:
            h, q = advance(h, q, jax.tree.map(lambda leaf: leaf[0], part))
        else:
            (h, q), _ = jax.lax.scan(lambda c, x: (advance(*c, x), None), (h, q), part, length=m)
        return h, orthonormalise(q)

    def uncounted(carry: tuple, part: PyTree) -> tuple[tuple, None]:
        h, done = stretch(carry[0], carry[1], part, qr_every)
        return (h, done.frame), None

    def count(carry: tuple, i: ArrayLike, part: PyTree, m: int) -> tuple:
        h, q, growth, lost = carry
        h, done = stretch(h, q, part, m)
        return h, done.frame, growth.at[ids(i)].add(done.log_growth), lost + done.lost.astype(lost.dtype)

    whole, left = divmod(warmup, qr_every)
    state, frame = jax.lax.scan(uncounted, (state, frame), _split(xs, 0, whole, qr_every), length=whole)[0]
    if left:
        state, done = stretch(state, frame, _cut(xs, warmup - left, warmup), left)
        frame = done.frame

    k = frame.shape[1]
    carry = (state, frame, jnp.zeros((blocks, k), frame.dtype), jnp.zeros(k, jnp.int32))
    body = lambda ic, part: ((ic[0] + 1, count(ic[1], ic[0], part, qr_every)), None)
    _, carry = jax.lax.scan(body, (jnp.array(0), carry), _split(xs, warmup, intervals, qr_every), length=intervals)[0]
    if rest:
        carry = count(carry, intervals, _cut(xs, length - rest, length), rest)
    return _summary(*carry, jnp.asarray(steps), counted, jnp.asarray(dt, frame.dtype))


def _block_plan(intervals: int, rest: int, qr_every: int, blocks: int) -> tuple[Callable[[Any], Array], np.ndarray]:
    """Which block an interval falls in, and how many steps each block has; the first blocks take the surplus."""
    total = intervals + (rest > 0)
    size, surplus = divmod(total, blocks)
    edge = surplus * (size + 1)

    def ids(i: Any) -> Array:
        return jnp.where(i < edge, i // (size + 1), surplus + (i - edge) // size)

    steps = np.full(blocks, size * qr_every)
    steps[:surplus] += qr_every
    steps[-1] -= (qr_every - rest) if rest else 0
    return ids, steps


def _summary(state: PyTree, frame: Array, growth: Array, lost: Array, steps: Array, counted: int, dt: Array) -> Spectrum:
    blocks = len(steps)
    rates = jnp.where(lost > 0, -jnp.inf, growth.sum(0) / counted) / dt
    order = jnp.argsort(-rates)
    weights = (steps / counted).astype(growth.dtype)[:, None]
    spread = jnp.where(lost > 0, 0, growth / steps.astype(growth.dtype)[:, None] / dt - rates)
    errors = jnp.sqrt(blocks / max(blocks - 1, 1) * jnp.sum((weights * spread) ** 2, 0))
    errors = jnp.where((lost > 0) | (blocks < 2), jnp.inf, errors)
    return Spectrum(rates[order], errors[order], lost[order], growth, steps, state, frame)


def _split(xs: PyTree, start: int, count: int, m: int) -> PyTree:
    """Inputs of ``count`` intervals of m steps each."""
    return jax.tree.map(lambda leaf: leaf[start : start + count * m].reshape(count, m, *leaf.shape[1:]), xs)


def _cut(xs: PyTree, start: int, stop: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[start:stop], xs)
