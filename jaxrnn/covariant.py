"""Along which directions do perturbations grow at each rate: covariant Lyapunov vectors and the angles between them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import admit, compiled, require_at
from jaxrnn._frames import orthonormalise, random_frame
from jaxrnn._tree import layout
from jaxrnn.linearize import Step, pushed

PyTree = Any


class Covariant(NamedTuple):
    """Covariant vectors at the times t = warmup..T − cooldown, W = T − warmup − cooldown + 1 of them."""

    vectors: Array  # (W, n, k) unit columns over the real coordinates of the state; J_{t+1} v_t^i is parallel to v_{t+1}^i
    log_growth: Array  # (W − 1, k) ln‖J_{t+1} v_t^i‖, nats: its mean over time is the i-th exponent
    exponents: Array  # (k,) that mean, nats per step


@compiled("step", "length", "k", "warmup", "cooldown")
def vectors(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    length: int | None = None,
    k: int | None = None,
    warmup: int,
    cooldown: int,
) -> Covariant:
    """The k leading covariant Lyapunov vectors along a trajectory.

    Forward, J_t Q_{t−1} = Q_t R_t; backward from a triangular C_T, C_{t−1} = R_t⁻¹ C_t with columns of norm 1. After the
    transients V_t = Q_t C_t: the i-th column grows at rate λ_i both ways in time, and is independent of the norm, unlike Q_t.

    Args:
        step, params, state, xs, length: as in ``unroll.states``.
        k: how many, in [1, n]; all n by default. Their directions must be alive: of a dead or drowned one nothing is known.
        warmup: steps in which the frame turns into the backward Lyapunov vectors.
        cooldown: steps at the end in which C turns; both must outlast a few times 1 / (λ_i − λ_{i+1}).

    Returns:
        ``Covariant``; NaN where a direction was lost. Two exponents that are equal leave the vectors of their plane open.

    Raises:
        ValueError: k outside [1, n], warmup or cooldown below 0 or together leaving no step; and as ``unroll.states``.

    Cost: that of ``lyapunov.spectrum`` and a triangular solve per step; memory O(T (n k + k²)).

    Source: Ginelli et al. 2007.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import covariant
    >>> A = jnp.array([[2.0, 1.0], [0.0, 0.5]])  # its eigenvectors (1, 0) and (−2, 3)/√13
    >>> found = covariant.vectors(lambda A, h, x: A @ h, A, jnp.ones(2), None, length=100, warmup=30, cooldown=30)
    >>> abs(found.vectors[0]).round(3).tolist()
    [[1.0, 0.555...], [0.0, 0.832...]]
    """
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)
    k = lay.size if k is None else k
    require_at("k", k, 1, lay.size, "the real dimension of the state")
    require_at("warmup", warmup, 0, length - 1, f"fewer than the {length} steps there are")
    require_at("cooldown", cooldown, 0, length - 1 - warmup, "what the warm-up leaves but one step")

    def forward(carry: tuple[PyTree, Array], x: PyTree) -> tuple[tuple[PyTree, Array], tuple[Array, Array]]:
        h, q = carry
        h, moved = pushed(step, params, lay, h, x, q)
        new = orthonormalise(moved).frame
        return (h, new), (new, jnp.triu(new.T @ moved))

    turn = jax.tree.map(lambda leaf: leaf[:warmup], xs)
    rest = jax.tree.map(lambda leaf: leaf[warmup:], xs)
    carry = (state, random_frame(lay.size, k, lay.dtype))
    carry, _ = jax.lax.scan(lambda c, x: (forward(c, x)[0], None), carry, turn, length=warmup)
    _, (frames, triangles) = jax.lax.scan(forward, carry, rest, length=length - warmup)
    frames = jnp.concatenate([carry[1][None], frames])

    def backward(c: Array, r: Array) -> tuple[Array, tuple[Array, Array]]:
        new = jax.scipy.linalg.solve_triangular(r, c)
        size = jnp.linalg.norm(new, axis=0)
        return new / size, (new / size, -jnp.log(size))

    # Upper triangular with no zero: a column that lacked a component would never find it.
    start = jnp.triu(jnp.ones((k, k), lay.dtype))
    _, (coefficients, growth) = jax.lax.scan(backward, start / jnp.linalg.norm(start, axis=0), triangles, reverse=True)
    count = length - warmup - cooldown
    last = coefficients[count] if cooldown else start / jnp.linalg.norm(start, axis=0)
    coefficients = jnp.concatenate([coefficients[:count], last[None]])
    return Covariant(frames[: count + 1] @ coefficients, growth[:count], growth[:count].mean(0))


@jax.jit
def angles(vectors: Array) -> Array:
    """The angles between covariant vectors (..., n, k), as (..., k, k), radians in [0, π/2]: 0 is a tangency.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import covariant
    >>> round(float(covariant.angles(jnp.array([[1.0, 0.6], [0.0, 0.8]]))[0, 1]), 4)  # arccos 0.6
    0.9273
    """
    cosines = jnp.abs(jnp.swapaxes(vectors, -1, -2) @ vectors)
    return jnp.arccos(jnp.clip(cosines, 0, 1))
