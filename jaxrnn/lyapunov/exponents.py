"""At what rates do perturbations of the state grow: Lyapunov exponents of driven and autonomous recurrences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import admit, compiled, require_at, require_jacobians
from jaxrnn._tree import layout
from jaxrnn.linearize import Step, pulled, pushed
from jaxrnn.lyapunov.recursion import Spectrum, measure, starting_frame
from jaxrnn.unroll import preceding, states

PyTree = Any


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
    Errors: the standard errors are those of batch means, times their integrated autocorrelation, for a stationary trajectory
    (``experiments/coverage.py``); the finite-time bias is O(log κ / T). float32 carries λ_1 where the dynamics is not chaotic; use float64
    for the rest.

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

    frame = starting_frame(frame, lay.size, k, lay.dtype)
    return measure(advance, state, frame, xs, length, warmup, qr_every, blocks, dt)


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
    frame = starting_frame(frame, jacobians.shape[1], k, jacobians.dtype)
    return measure(lambda h, q, j: (h, j @ q), (), frame, jacobians, len(jacobians), warmup, qr_every, blocks, dt)


@compiled("step", "length", "k", "warmup", "qr_every", "blocks")
def adjoint(
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
    """The exponents of the adjoint: at what rates gradients grow on their way back through time.

    J_tᵀ Q_t = Q_{t−1} R_t for t = T..1, on the states of one forward run: the recursion that backpropagation is. In the long run these
    are the exponents of ``spectrum``, up to O(log κ / T); on one short sequence they are what its gradients do.

    Args:
        As ``spectrum``, time counted from the end: the first ``warmup`` steps backwards, which are the last of the sequence, turn
        the frame and are not counted, and the frame is that of gradients at h_T.

    Returns:
        ``Spectrum`` with an empty ``state``, block 0 the last in time; ``frame`` holds directions at h_0.

    Raises:
        As ``spectrum``. Cost: as ``spectrum``, and memory O(T n) for the states.

    Source: Benettin et al. 1980 on the adjoint cocycle; the vanishing gradient itself: Bengio, Simard, Frasconi 1994.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> A = jnp.array([[0.5, 1.0], [0.0, 0.25]])
    >>> result = lyapunov.adjoint(lambda A, h, x: A @ h, A, jnp.ones(2), None, length=2000, warmup=100)
    >>> [round(float(v), 3) for v in result.exponents]
    [-0.693, -1.386]
    """
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)
    before = preceding(state, states(step, params, state, xs, length=length))
    backwards = jax.tree.map(lambda leaf: leaf[::-1], (before, xs))

    def advance(nothing: PyTree, q: Array, hx: PyTree) -> tuple[PyTree, Array]:
        h, x = hx
        return nothing, pulled(step, params, lay, h, x, q)[1]

    frame = starting_frame(frame, lay.size, k, lay.dtype)
    return measure(advance, (), frame, backwards, length, warmup, qr_every, blocks, dt)


@compiled("step", "response", "length", "k", "warmup", "qr_every", "blocks")
def conditional(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    response: tuple[str, ...],
    length: int | None = None,
    k: int | None = None,
    warmup: int = 0,
    frame: Array | None = None,
    qr_every: int = 1,
    blocks: int = 32,
    dt: ArrayLike = 1.0,
) -> Spectrum:
    """The conditional exponents: of one part of the state, while the rest drives it and is held to its course.

    The product of the blocks J_t[response, response]. All negative, the response forgets where it started and follows the drive
    alone (generalised synchrony, the echo state property); the layers above the first of a stack are such responses.

    Args:
        step, params, state, xs, length, k, warmup, qr_every, blocks, dt: as in ``spectrum``; k at most the dimension of the response.
        response: names of the leaves of the state that respond, such as ``("1/h", "1/c")``; what is not named drives.
        frame: (dimension of the response, k).

    Returns:
        ``Spectrum``; its ``state`` is the whole state, its ``frame`` lives in the response.

    Raises:
        ValueError: a name that is no leaf of the state, none, or one twice; and as ``spectrum``. Cost: as ``spectrum``.

    Source: Pecora, Carroll 1990, Phys. Rev. Lett. 64, 821.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> def step(p, s, x):
    ...     return {"drive": 4 * s["drive"] * (1 - s["drive"]), "follower": 0.5 * s["follower"] + s["drive"]}
    >>> start = {"drive": jnp.array(0.3), "follower": jnp.array(0.0)}
    >>> [round(float(v), 4) for v in lyapunov.conditional(step, (), start, None, response=("follower",), length=100).exponents]
    [-0.6931]
    """
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)
    if not response or len(set(response)) != len(response) or not set(response) <= set(lay.names):
        raise ValueError(f"response={response} must be different leaves of the state, out of {', '.join(lay.names)}")
    at = np.concatenate([np.arange(lay.size)[lay.slices[name]] for name in response])

    def advance(h: PyTree, q: Array, x: PyTree) -> tuple[PyTree, Array]:
        h, moved = pushed(step, params, lay, h, x, jnp.zeros((lay.size, q.shape[1]), q.dtype).at[at].set(q))
        return h, moved[at]

    frame = starting_frame(frame, len(at), k, lay.dtype, "the real dimension of the response")
    return measure(advance, state, frame, xs, length, warmup, qr_every, blocks, dt)


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
    >>> print(lyapunov.finite_time(lambda p, h, x: x * h, (), jnp.ones(1), factors, window=2).round(3))
    [[ 0.693]
     [-0.693]]
    """
    state, length = admit(step, params, state, xs, length)
    require_at("warmup", warmup, 0, length - 1, f"fewer than the {length} steps there are")
    require_at("qr_every", qr_every, 1, None, "the number of steps between orthonormalisations")
    require_at("window", window, 1, length - warmup, "the steps that are counted")
    if window % qr_every:
        raise ValueError(f"window={window} must be a multiple of qr_every={qr_every}")
    count = (length - warmup) // window
    total = warmup + count * window
    seen = jax.tree.map(lambda leaf: leaf[:total], xs)
    options: dict[str, Any] = {"k": k, "warmup": warmup, "frame": frame, "qr_every": qr_every, "blocks": count}
    growth = spectrum(step, params, state, seen, length=total, **options).block_growth
    return growth / window / jnp.asarray(dt, growth.dtype)
