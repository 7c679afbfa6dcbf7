"""What are the states over time: the one scan, checkpointed where T is long, with masks, or streamed."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxrnn._border import admit, require_at, require_function
from jaxrnn.cells.compose import StackStep
from jaxrnn.cells.protocol import Structure, prepared
from jaxrnn.linearize import Step

PyTree = Any
_LONG = 4096  # steps from which a step without a declaration is checkpointed unasked
_CHUNK = 20  # steps of a declared cell whose backward pass fits a cache


def states(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None, checkpoint_every: int | None = None) -> PyTree:
    """The states h_1..h_T.

    h_t = step(θ, h_{t−1}, x_t), t = 1..T.

    A step that declares itself affine, then pointwise (``cells.structure``), is differentiated by hand: from dh_t = P_t (A dh_{t−1} +
    ∂z/∂θ dθ + ∂z/∂x dx) + ∂pointwise/∂θ dθ the backward pass gets δz_t = P_tᵀ δh_t step by step and the gradients of weights as one
    product for every 20 steps or so. A stack is run layer by layer.

    Args:
        step: pure function ``step(params, state, x) -> state``.
        params: θ, any pytree.
        state: h_0, a pytree of floating or complex leaves.
        xs: x_1..x_T, time on axis 0 of each leaf; None for an autonomous map.
        length: T where ``xs`` is None.
        checkpoint_every: keep for the backward pass only every m-th state and recompute the rest: beyond the returned
            states, memory O(T/m + m) for one more forward pass. None: every √T-th where T is 4,096 or more, everything where it is less;
            of a declared step always the states and nothing else.

    Returns:
        A state whose leaves have a leading axis T.

    Raises:
        TypeError: a leaf of the state is neither floating nor complex (its path is named), or step does not return
            the structure, shapes and dtypes it was given.
        ValueError: no steps, leaves of ``xs`` of different lengths, neither ``xs`` nor ``length``.

    Cost: T steps. Differentiable in every mode and order, and usable under the caller's jit and vmap.

    >>> from jaxrnn import unroll
    >>> unroll.states(lambda a, h, x: a * h, 0.5, 1.0, None, length=3).tolist()
    [0.5, 0.25, 0.125]
    """
    state, length = admit(step, params, state, xs, length)
    if checkpoint_every is not None:
        require_at("checkpoint_every", checkpoint_every, 1, None, "the number of steps between kept states")
    return _states(step, params, state, xs, length, checkpoint_every)


def truncated(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, every: int, length: int | None = None) -> PyTree:
    """The states h_1..h_T, cut into stretches that no gradient crosses: truncated backpropagation through time.

    The values are those of ``states``; h at the end of a stretch of ``every`` steps is a constant for the one after it, so that
    ∂h_t/∂h_k = 0 where a border lies between k and t, and a gradient reaches back 1 to ``every`` steps, half of that on average.

    Args:
        step, params, state, xs, length: as in ``states``.
        every: steps of a stretch, the last may be shorter; from T on nothing is cut.

    Returns:
        As ``states``.

    Raises:
        As ``states``; ValueError: every below 1.

    Source: Williams, Peng 1990 (here without overlap, h = h').

    >>> import jax
    >>> from jaxrnn import unroll
    >>> last = lambda h: unroll.truncated(lambda a, h, x: a * h, 0.5, h, None, every=2, length=3)[-1]
    >>> float(last(1.0)), float(jax.grad(last)(1.0))
    (0.125, 0.0)
    """
    state, length = admit(step, params, state, xs, length)
    require_at("every", every, 1, None, "the number of steps that a gradient may go back")
    if every >= length:
        return _states(step, params, state, xs, length, None)

    def run(m: int, n: int, params: PyTree, state: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
        def stretch(h: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
            hs = _states(step, params, jax.lax.stop_gradient(h), part, m, None)
            return jax.tree.map(lambda leaf: leaf[-1], hs), hs

        return jax.lax.scan(stretch, state, xs, length=n)

    return _in_chunks(run, params, state, xs, length, every)


def masked(step: Step) -> Step:
    """A step whose inputs are pairs (x_t, keep_t): where ``keep_t`` is false the state stays what it was.

    h_t = step(θ, h_{t−1}, x_t) where keep_t, else h_{t−1}: the state after a padded sequence is that at its end, and its Jacobians beyond
    are the identity. Equal steps give equal masked steps, so that they compile once; every analysis takes them.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import unroll
    >>> keep = jnp.array([True, True, False])
    >>> unroll.states(unroll.masked(lambda a, h, x: a * h + x), 0.5, 1.0, (jnp.zeros(3), keep)).tolist()
    [0.5, 0.25, 0.25]
    """
    require_function("step", step)
    return _Masked(step)


def stream(step: Step, params: PyTree, state: PyTree, chunks: Iterable[PyTree]) -> Iterator[PyTree]:
    """The states of a sequence too long for memory, one chunk of inputs after the other.

    Args:
        step, params, state: as in ``states``.
        chunks: pieces of xs in order, time on axis 0 of each leaf; each length compiles once, so let all but the last be equal.

    Yields:
        The states of each chunk; all together they are those of one scan, bit for bit.

    Raises:
        As ``states``, when the chunk is reached.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import unroll
    >>> parts = unroll.stream(lambda a, h, x: a * h + x, 0.5, 1.0, (jnp.zeros(2) for _ in range(2)))
    >>> [part.tolist() for part in parts]
    [[0.5, 0.25], [0.125, 0.0625]]
    """
    for xs in chunks:
        hs = _chunk(step, params, state, xs)
        state = jax.tree.map(lambda leaf: leaf[-1], hs)
        yield hs


def preceding(state: PyTree, later: PyTree) -> PyTree:
    """h_0..h_{T−1}, the state that each step started from, given h_0 and h_1..h_T."""
    return jax.tree.map(lambda first, rest: jnp.concatenate([jnp.asarray(first, rest.dtype)[None], rest[:-1]]), state, later)


@functools.partial(jax.jit, static_argnames="step")
def _chunk(step: Step, params: PyTree, state: PyTree, xs: PyTree) -> PyTree:
    return states(step, params, state, xs)


@dataclass(frozen=True)
class _Masked:
    step: Callable

    def __call__(self, params: PyTree, state: PyTree, x: tuple[PyTree, Array]) -> PyTree:
        inputs, keep = x
        return jax.tree.map(lambda new, old: jnp.where(keep, new, old), self.step(params, state, inputs), state)


def _states(step: Step, params: PyTree, state: PyTree, xs: PyTree, length: int, every: int | None) -> PyTree:
    if isinstance(step, StackStep):
        layers, x = [], xs
        for inner, output, theta, start in zip(step.steps, step.outputs, params["layers"], state, strict=True):
            layers.append(_states(inner, theta, start, x, length, every))
            x = jax.vmap(output, (None, 0, None if x is None else 0))(theta, layers[-1], x)
        return tuple(layers)
    step, params = prepared(step, params)
    if every is None and not isinstance(step, Structure) and length >= _LONG:
        every = round(length**0.5)

    def plain(params: PyTree, state: PyTree, xs: PyTree, steps: int) -> PyTree:
        if isinstance(step, Structure):
            return _in_chunks(functools.partial(_declared, step), params, state, xs, steps, _chunk_of(steps))
        return _scan(step, params, state, xs, steps)[1]

    def recomputed(m: int, n: int, params: PyTree, state: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
        def body(h: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
            hs = plain(params, h, part, m)
            return jax.tree.map(lambda leaf: leaf[-1], hs), hs

        return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), state, xs, length=n)

    return plain(params, state, xs, length) if every is None else _in_chunks(recomputed, params, state, xs, length, every)


def _chunk_of(length: int) -> int:
    """About ``_CHUNK`` steps, a divisor of the length where there is one: a rest is compiled apart."""
    divisors = [m for m in range(_CHUNK // 2, 2 * _CHUNK + 1) if length % m == 0]
    return min(divisors, key=lambda m: abs(m - _CHUNK), default=_CHUNK)


def _in_chunks(run: Callable, params: PyTree, state: PyTree, xs: PyTree, length: int, every: int) -> PyTree:
    """States by ``run(m, n, params, state, xs)``, which takes n chunks of m steps, xs (n, m, ...), and gives the last state and all (n, m, ...)."""
    m = min(every, length)
    n, rest = divmod(length, m)
    head = jax.tree.map(lambda leaf: leaf[: n * m].reshape(n, m, *leaf.shape[1:]), xs)
    last, hs = run(m, n, params, state, head)
    hs = jax.tree.map(lambda leaf: leaf.reshape(n * m, *leaf.shape[2:]), hs)
    if not rest:
        return hs
    _, tail = run(rest, 1, params, last, jax.tree.map(lambda leaf: leaf[None, n * m :], xs))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[0]]), hs, tail)


def _scan(step: Step, params: PyTree, state: PyTree, xs: PyTree, length: int) -> tuple[PyTree, PyTree]:
    def advance(h: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        h = step(params, h, x)
        return h, h

    return jax.lax.scan(advance, state, xs, length=length)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _declared(step: Structure, m: int, n: int, params: PyTree, state: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
    """The last state and all states (n, m, ...) of n chunks of m steps."""
    return jax.lax.scan(lambda h, part: _scan(step, params, h, part, m), state, xs, length=n)


def _declared_jvp(step: Structure, m: int, n: int, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """The derivative along the states, linear in the tangents, chunk by chunk: what JAX transposes is the backward pass.

    The two checkpoints keep nothing of a chunk but its states, and nothing of a step: z_t is computed anew, beside the product that its
    cotangent goes into, while it is in a cache. All else is a constant of the transposed scan, so that ∂z/∂θ dθ transposes to one
    product per chunk, over time and, under vmap, over the batch.
    """
    params, state, xs = primals
    last, hs = _declared(step, m, n, params, state, xs)
    with_params, thetas, d_thetas = _moving(params, tangents[0])
    d_state = jax.tree.map(lambda t: jnp.zeros(t.shape, t.dtype) if _is_zero(t) else t, tangents[1], is_leaf=_is_zero)
    with_xs, moving_xs, d_moving_xs = _moving(xs, tangents[2])

    def chunk(carry: tuple[PyTree, PyTree], part: tuple) -> tuple[tuple[PyTree, PyTree], PyTree]:
        (start, d_start), (later, x, moved, d_moved) = carry, part
        before = preceding(start, later)
        affine = lambda p, moved: jax.vmap(step.affine, (None, 0, 0))(with_params(p), before, with_xs(moved, x))
        zs, d_zs = jax.jvp(affine, (thetas, moved), (d_thetas, d_moved))
        first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
        direct = None
        if _reads(step.pointwise, params, first(zs)):
            pointwise = lambda p: jax.vmap(step.pointwise, (None, 0))(with_params(p), zs)
            direct = jax.jvp(pointwise, (thetas,), (d_thetas,))[1]

        def advance(d: PyTree, at: tuple) -> tuple[PyTree, PyTree]:
            h, h_next, x, d_z, d_direct = at
            through = jax.jvp(lambda h: step.affine(params, h, x), (h,), (d,))[1]
            d_z = jax.tree.map(jnp.add, d_z, through)
            if step.from_result is None:
                d = jax.jvp(lambda z: step.pointwise(params, z), (step.affine(params, h, x),), (d_z,))[1]
            else:
                d = step.from_result(h_next, d_z)
            d = d if d_direct is None else jax.tree.map(jnp.add, d, d_direct)
            return d, d

        d_last, d_hs = jax.lax.scan(jax.checkpoint(advance, prevent_cse=False), d_start, (before, later, x, d_zs, direct), length=m)
        return (jax.tree.map(lambda leaf: leaf[-1], later), d_last), d_hs

    parts = (hs, xs, moving_xs, d_moving_xs)
    (_, d_last), d_hs = jax.lax.scan(jax.checkpoint(chunk, prevent_cse=False), (state, d_state), parts, length=n)
    return (last, hs), (d_last, d_hs)


_declared.defjvp(_declared_jvp, symbolic_zeros=True)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def _moving(tree: PyTree, tangents: PyTree) -> tuple[Callable[..., PyTree], list, list]:
    """The leaves that have a tangent, their tangents, and how to put such leaves back among the others (of ``tree``, or of its second argument)."""
    leaves, treedef = jax.tree.flatten(tree)
    d_leaves = jax.tree.leaves(tangents, is_leaf=_is_zero)
    chosen = [i for i, t in enumerate(d_leaves) if not _is_zero(t)]

    def rebuilt(moving: list, others: PyTree = tree) -> PyTree:
        new = jax.tree.leaves(others)
        for i, leaf in zip(chosen, moving, strict=True):
            new[i] = leaf
        return jax.tree.unflatten(treedef, new)

    return rebuilt, [leaves[i] for i in chosen], [d_leaves[i] for i in chosen]


def _reads(pointwise: Callable, params: PyTree, z: PyTree) -> bool:
    """Whether the pointwise map depends on parameters at all."""
    jaxpr = jax.make_jaxpr(pointwise)(params, z).jaxpr
    read = {id(v) for equation in jaxpr.eqns for v in equation.invars} | {id(v) for v in jaxpr.outvars}
    return any(id(v) in read for v in jaxpr.invars[: len(jax.tree.leaves(params))])
