"""The one recursion behind every exponent: push a frame of vectors, orthonormalise it, add up the logs of what it grew by."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import require_at
from jaxrnn._frames import Orthonormalised, orthonormalise, random_frame, renormalise
from jaxrnn.lyapunov.batch_means import standard_error

PyTree = Any
_DEPARTURE = 1 / 8  # how far a frame may be from orthonormal inside a block
Advance = Callable[[PyTree, Array, PyTree], tuple[PyTree, Array]]  # (h_{t−1}, V, x_t) -> (h_t, J_t V)


class Spectrum(NamedTuple):
    """Lyapunov exponents and what is needed to judge and to continue them."""

    exponents: Array  # (k,) nats per unit of time, descending; -inf where the direction was lost
    standard_errors: Array  # (k,) of the exponents, from the blocks; inf with one block or where lost: nothing is known
    lost: Array  # (k,) in how many orthonormalisations |R_ii| <= n·eps·‖column‖: the direction died or drowned
    rounding: Array  # (k,) error by rounding to first order, nats per unit of time; where it is not small this precision does not carry the value
    block_growth: Array  # (blocks, k) log growth in nats per block of time, in the order of the frame's columns
    block_steps: Array  # (blocks,) number of steps in each block
    state: PyTree  # h_T, to go on from
    frame: Array  # (n, k) orthonormal, to go on with


class _Sums(NamedTuple):
    """What is added up over time, a row or a number per column of the frame."""

    growth: Array  # (blocks, k)
    lost: Array  # (k,)
    rounding: Array  # (k,)


def starting_frame(frame: Array | None, n: int, k: int | None, dtype: np.dtype, meaning: str = "the real dimension of the state") -> Array:
    """The frame (n, k) to start from: the given one, checked, or a random one."""
    k = (n if frame is None else np.shape(frame)[-1]) if k is None else k
    require_at("k", k, 1, n, meaning)
    if frame is None:
        return random_frame(n, k, dtype)
    frame = jnp.asarray(frame)
    if frame.shape != (n, k) or frame.dtype != dtype:
        raise ValueError(
            f"frame is {frame.dtype}{list(frame.shape)}; it must be {dtype}[{n}, {k}], orthonormal columns over the real coordinates of the state"
        )
    return frame


def measure(
    advance: Advance, state: PyTree, frame: Array, xs: PyTree, length: int, warmup: int, qr_every: int, blocks: int, dt: ArrayLike
) -> Spectrum:
    """The recursion over ``length`` steps of ``advance``.

    Inside a block frames are renormalised, which is quick; the warm-up and every block end with a full orthonormalisation, so that the
    growth of a block is that of orthonormal frames. The frame in which counting starts is a constant to derivatives: how it
    turned there is not what a caller wants to change.
    """
    require_at("warmup", warmup, 0, length - 1, f"fewer than the {length} steps there are")
    require_at("qr_every", qr_every, 1, None, "the number of steps between orthonormalisations")
    require_at("blocks", blocks, 1, None, "the number of blocks of time")
    counted = length - warmup
    intervals, rest = divmod(counted, qr_every)
    blocks = min(blocks, intervals + (rest > 0))
    size, surplus, steps = _block_plan(intervals, rest, qr_every, blocks)
    short = intervals < 2 * blocks  # most intervals end a block

    def push(h: PyTree, q: Array, part: PyTree, m: int) -> tuple[PyTree, Array]:
        if m == 1:
            return advance(h, q, jax.tree.map(lambda leaf: leaf[0], part))
        return jax.lax.scan(lambda c, x: (advance(*c, x), None), (h, q), part, length=m)[0]

    def warm(carry: tuple, part: PyTree) -> tuple[tuple, None]:
        h, q = push(carry[0], carry[1], part, qr_every)
        return (h, renormalise(q, _DEPARTURE).frame), None

    def add(sums: _Sums, done: Orthonormalised, block: ArrayLike) -> _Sums:
        return _Sums(sums.growth.at[block].add(done.log_growth), sums.lost + done.lost.astype(jnp.int32), sums.rounding + done.rounding)

    def count(carry: tuple, part: PyTree) -> tuple[tuple, None]:
        (block, left), h, q, sums = carry  # the number of the block, how many intervals it still has
        h, q = push(h, q, part, qr_every)
        ends = left == 1
        done = orthonormalise(q) if short else renormalise(q, jnp.where(ends, 0, _DEPARTURE))
        following = jnp.where(ends, jnp.array([block + 1, jnp.where(block + 1 < surplus, size + 1, size)]), jnp.array([block, left - 1]))
        return (following, h, done.frame, add(sums, done, block)), None

    whole, left = divmod(warmup, qr_every)
    state, frame = jax.lax.scan(warm, (state, frame), _split(xs, 0, whole, qr_every), length=whole)[0]
    if left:
        state, frame = push(state, frame, _cut(xs, warmup - left, warmup), left)
    frame = jax.lax.stop_gradient(orthonormalise(frame).frame if warmup else frame)

    k = frame.shape[1]
    sums = _Sums(jnp.zeros((blocks, k), frame.dtype), jnp.zeros(k, jnp.int32), jnp.zeros(k, frame.dtype))
    carry = (jnp.array([0, size + (surplus > 0)]), state, frame, sums)
    (_, state, frame, sums), _ = jax.lax.scan(count, carry, _split(xs, warmup, intervals, qr_every), length=intervals)
    if rest:
        state, frame = push(state, frame, _cut(xs, length - rest, length), rest)
        done = orthonormalise(frame)
        frame, sums = done.frame, add(sums, done, blocks - 1)
    return _summary(state, frame, sums, jnp.asarray(steps), counted, jnp.asarray(dt, frame.dtype))


def _block_plan(intervals: int, rest: int, qr_every: int, blocks: int) -> tuple[int, int, np.ndarray]:
    """How many intervals a block has, how many of the first have one more, and how many steps each has."""
    size, surplus = divmod(intervals + (rest > 0), blocks)
    steps = np.full(blocks, size * qr_every)
    steps[:surplus] += qr_every
    steps[-1] -= (qr_every - rest) if rest else 0
    return size, surplus, steps


def _summary(state: PyTree, frame: Array, sums: _Sums, steps: Array, counted: int, dt: Array) -> Spectrum:
    lost = sums.lost > 0
    rates = jnp.where(lost, -jnp.inf, sums.growth.sum(0) / counted) / dt
    order = jnp.argsort(-rates)
    means = jnp.where(lost, 0, sums.growth) / steps.astype(frame.dtype)[:, None] / dt
    errors = jnp.where(lost, jnp.inf, standard_error(means, steps / counted))
    rounding = jnp.where(lost, jnp.inf, sums.rounding / counted) / dt
    return Spectrum(rates[order], errors[order], sums.lost[order], rounding[order], sums.growth, steps, state, frame)


def _split(xs: PyTree, start: int, count: int, m: int) -> PyTree:
    """Inputs of ``count`` intervals of m steps each."""
    return jax.tree.map(lambda leaf: leaf[start : start + count * m].reshape(count, m, *leaf.shape[1:]), xs)


def _cut(xs: PyTree, start: int, stop: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[start:stop], xs)
