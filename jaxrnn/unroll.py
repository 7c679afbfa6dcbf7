"""What are the states over time: the one scan, checkpointed where T is long."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._border import admit, require_at
from jaxrnn.linearize import Step

PyTree = Any


def states(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None, checkpoint_every: int | None = None) -> PyTree:
    """The states h_1..h_T.

    h_t = step(θ, h_{t−1}, x_t), t = 1..T.

    Args:
        step: pure function ``step(params, state, x) -> state``.
        params: θ, any pytree.
        state: h_0, a pytree of floating or complex leaves.
        xs: x_1..x_T, time on axis 0 of each leaf; None for an autonomous map.
        length: T where ``xs`` is None.
        checkpoint_every: keep for the backward pass only every m-th state and recompute the rest: beyond the returned
            states, memory O(T/m + m) for one more forward pass. None keeps everything.

    Returns:
        A state whose leaves have a leading axis T.

    Raises:
        TypeError: a leaf of the state is neither floating nor complex (its path is named), or step does not return
            the structure, shapes and dtypes it was given.
        ValueError: no steps, leaves of ``xs`` of different lengths, neither ``xs`` nor ``length``.

    Cost: T steps. Differentiable, and usable under the caller's jit and vmap.

    >>> from jaxrnn import unroll
    >>> unroll.states(lambda a, h, x: a * h, 0.5, 1.0, None, length=3).tolist()
    [0.5, 0.25, 0.125]
    """
    state, length = admit(step, params, state, xs, length)

    def advance(h: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        h = step(params, h, x)
        return h, h

    def scan(h: PyTree, part: PyTree, steps: int) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(advance, h, part, length=steps)

    if checkpoint_every is None:
        return scan(state, xs, length)[1]
    require_at("checkpoint_every", checkpoint_every, 1, None, "the number of steps between kept states")

    m = min(checkpoint_every, length)
    chunks = length // m
    head = jax.tree.map(lambda leaf: leaf[: chunks * m].reshape(chunks, m, *leaf.shape[1:]), xs)
    remat = jax.checkpoint(lambda h, part: scan(h, part, m), prevent_cse=False)
    last, out = jax.lax.scan(remat, state, head, length=chunks)
    out = jax.tree.map(lambda leaf: leaf.reshape(chunks * m, *leaf.shape[2:]), out)
    if chunks * m == length:
        return out
    tail = jax.tree.map(lambda leaf: leaf[chunks * m :], xs)
    rest = scan(last, tail, length - chunks * m)[1]
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, rest)


def preceding(state: PyTree, later: PyTree) -> PyTree:
    """h_0..h_{T−1}, the state that each step started from, given h_0 and h_1..h_T."""
    return jax.tree.map(lambda first, rest: jnp.concatenate([jnp.asarray(first, rest.dtype)[None], rest[:-1]]), state, later)
