"""Where does the autonomous map rest under constant input, and is it stable there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import spectra
from jaxrnn._border import admit, compiled, require_at
from jaxrnn._tree import Layout, layout, named_leaves
from jaxrnn.linearize import Step, dense

PyTree = Any


class FixedPoints(NamedTuple):
    """The different points found, those reached from most starts first; NumPy arrays with a leading axis F, which may be 0."""

    points: PyTree  # leaves (F, ...): h = step(θ, h, x) up to the residual
    residuals: np.ndarray  # (F,) ‖step(θ, h, x) − h‖
    eigenvalues: np.ndarray  # (F, n) complex, of ∂step/∂h there, largest modulus first
    stable: np.ndarray  # (F,) bool: the largest modulus is below 1
    reached: np.ndarray  # (F,) from how many starts
    slow: PyTree  # leaves (G, ...): where the search stopped elsewhere, at local minima of the speed; different ones, slowest first
    slow_residuals: np.ndarray  # (G,) how far such a point moves in a step


def find(
    step: Step,
    params: PyTree,
    starts: PyTree,
    *,
    x: PyTree = None,
    iterations: int = 200,
    tolerance: float | None = None,
    apart: float | None = None,
) -> FixedPoints:
    """Fixed points h = step(θ, h, x) by damped least squares from many starts.

    Levenberg–Marquardt on r(h) = step(θ, h, x) − h: h ← h − (Aᵀ A + μ I)⁻¹ Aᵀ r, A = ∂step/∂h − I, μ smaller after a
    step that lowered ‖r‖ and larger, at the same h, after one that did not. It finds points of any stability.

    Args:
        step: ``step(params, state, x) -> state``.
        params: θ.
        starts: states with a leading axis S, e.g. those of a trajectory, or random ones.
        x: the constant input; None for none.
        iterations: steps of the search.
        tolerance: ‖r‖ / (1 + ‖h‖) below which a point rests; by default 100 n ε of the dtype.
        apart: distance / (1 + ‖h‖) below which two points are one; by default √ε, 1.5e-8 in float64.

    Returns:
        ``FixedPoints``. What is not found is not excluded: more starts find more.

    Raises:
        TypeError: the protocol is broken (see ``unroll.states``). ValueError: no starts, numbers out of range.

    Cost: ``iterations`` Jacobians and solves of (n, n) for each start, side by side. A host function: the number of
    points depends on numbers.

    Source: Marquardt 1963; slow points: Sussillo, Barak 2013.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import fixed_points
    >>> found = fixed_points.find(lambda g, h, x: jnp.tanh(g * h), 2.0, jnp.linspace(-3, 3, 20)[:, None])
    >>> sorted(round(abs(float(h)), 3) for h in found.points[:, 0]), sorted(found.stable.tolist())
    ([0.0, 0.958, 0.958], [False, True, True])
    """
    require_at("iterations", iterations, 1, None, "the steps of the search")
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in named_leaves(starts).values()}
    if len(sizes) != 1 or 0 in sizes:
        shapes = {name: np.shape(leaf) for name, leaf in named_leaves(starts).items()}
        raise ValueError(f"the leaves of starts have the shapes {shapes}; axis 0 of each must be the same number of states, at least 1")
    once = None if x is None else jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
    first, _ = admit(step, params, jax.tree.map(lambda leaf: leaf[0], starts), once, 1)
    lay = layout(first)
    tolerance = 100 * lay.size * lay.eps if tolerance is None else tolerance
    apart = lay.eps**0.5 if apart is None else apart
    for name, value in (("tolerance", tolerance), ("apart", apart)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value} must lie in (0, 1), relative to 1 + ‖h‖")
    points, residuals = (np.asarray(v) for v in _search(step, params, starts, x, iterations=iterations))
    size = 1 + np.linalg.norm(points, axis=1)
    rest = residuals <= tolerance * size
    moves = np.isfinite(residuals) & ~rest
    at, reached = _different(points[rest], apart)
    at, reached = at[np.argsort(-reached, kind="stable")], np.sort(reached)[::-1]
    slow, _ = _different(points[moves][np.argsort(residuals[moves])], apart)
    found, slow_found = points[rest][at], points[moves][np.argsort(residuals[moves])][slow]
    jacobians = _jacobians(step, params, found, x, lay) if len(found) else np.zeros((0, lay.size, lay.size), lay.dtype)
    eigenvalues = np.asarray(spectra.eigenvalues(jacobians)) if len(found) else np.zeros((0, lay.size), complex)
    stable = np.abs(eigenvalues).max(1, initial=0) < 1
    unravel = lambda rows: jax.tree.map(np.asarray, jax.vmap(lay.unravel)(jnp.asarray(rows)))
    return FixedPoints(unravel(found), residuals[rest][at], eigenvalues, stable, reached, unravel(slow_found), np.sort(residuals[moves])[slow])


@compiled("step", "iterations")
def _search(step: Step, params: PyTree, starts: PyTree, x: PyTree, *, iterations: int) -> tuple[Array, Array]:
    """Where each start ends (S, n), and its residual (S,)."""
    lay = layout(jax.tree.map(lambda leaf: leaf[0], starts))
    eye = jnp.eye(lay.size, dtype=lay.dtype)
    residual = lambda v: lay.ravel(step(params, lay.unravel(v), x)) - v

    def improve(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        v, r, damping = carry
        a = dense(step, params, lay, lay.unravel(v), x)[0] - eye
        scale = jnp.maximum(jnp.max(jnp.sum(a**2, 0)), jnp.finfo(lay.dtype).tiny)
        new = v - jnp.linalg.solve(a.T @ a + damping * scale * eye, a.T @ r)
        new_r = residual(new)
        better = jnp.linalg.norm(new_r) < jnp.linalg.norm(r)  # false for NaN, too
        keep = lambda yes, no: jnp.where(better, yes, no)
        damping = jnp.clip(keep(damping / 5, damping * 4), 1e-3 * lay.eps, 1e8)
        return (keep(new, v), keep(new_r, r), damping), None

    def one(start: PyTree) -> tuple[Array, Array]:
        v = lay.ravel(start)
        (v, r, _), _ = jax.lax.scan(improve, (v, residual(v), jnp.asarray(1e-2, lay.dtype)), None, length=iterations)
        return v, jnp.linalg.norm(r)

    return jax.vmap(one)(starts)


def _jacobians(step: Step, params: PyTree, points: np.ndarray, x: PyTree, lay: Layout) -> Array:
    return jax.lax.map(lambda v: dense(step, params, lay, lay.unravel(v), x)[0], jnp.asarray(points))


def _different(points: np.ndarray, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of points that lie apart from those before them, and how many points each stands for."""
    kept: list[int] = []
    counts: list[int] = []
    for i, point in enumerate(points):
        near = [j for j, k in enumerate(kept) if np.linalg.norm(point - points[k]) <= apart * (1 + np.linalg.norm(point))]
        if near:
            counts[near[0]] += 1
        else:
            kept.append(i)
            counts.append(1)
    return np.asarray(kept, int), np.asarray(counts, int)
