"""The states of any recurrence, by Newton's method on the whole trajectory."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import admit, compiled, require_at
from jaxrnn._tree import Layout, layout
from jaxrnn.cells.protocol import DIAGONAL, LEFT, Product, prepared
from jaxrnn.linearize import Step, dense, in_coordinates
from jaxrnn.parallel.linear import recurrence
from jaxrnn.unroll import preceding

PyTree = Any

SWEEPS = 16  # each costs about 1 / n of an iteration


class Newton(NamedTuple):
    """A trajectory found by iteration, and how it was found."""

    states: PyTree  # the last iterate h_1..h_T, leaves (T, ...): finite wherever h_0 and the guess are
    iterations: Array  # int: how many linear recurrences were solved
    residuals: Array  # (max_iterations,) max_t ‖h_t − step(h_{t−1}, x_t)‖∞ / max_{s ≤ t} ‖h_s‖∞ after each iteration; NaN after the end
    converged: Array  # bool: the last residual is at most the tolerance


def newton(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    length: int | None = None,
    guess: PyTree = None,
    damping: ArrayLike = 0.0,
    tolerance: ArrayLike | None = None,
    max_iterations: int = 100,
) -> Newton:
    """The states h_1..h_T of any cell, by Newton's method on the whole trajectory (DEER).

    It solves h_t − f_t(h_{t−1}) = 0 for all t at once. Linearised at the iterate h, the next is the solution h' of the linear recurrence
    h'_t = f_t(h_{t−1}) + J_t (h'_{t−1} − h_{t−1}), J_t = ∂f_t/∂h_{t−1}, h'_0 = h_0, found by an associative scan.

    Where h is exact up to step s, h' is up to s + 1, whatever stands for J_t: J_t may be damped, and where h' is not finite (products of
    J_t grow as e^(λ₁ t)) f_t(h_{t−1}) or, if need be, h_t takes its place. In floating point, too: J_t times an exact zero is added to f_t.
    An iteration that does not halve the residual is followed by 16 sweeps h_t ← f_t(h_{t−1}), all t at once: a trajectory that forgets
    where it started is led home, and in any case 16 more steps become exact, so that T / 16 such iterations suffice. How many are needed
    is a matter of λ₁ (``expected_iterations``); in chaos all that works is the sweeps, which are the loop in a costly form.

    Derivatives are those of the implicit function at the solution: δ_t = J_t δ_{t−1} + ∂f_t forwards, one scan; one scan of the
    transposed J_t backwards. They do not pass through the iterations.

    Args:
        step, params, state, xs, length: as in ``unroll.states``.
        guess: where to start, such as the states for slightly other parameters, leaves (T, ...); step(h_0, x_t) by default. It is held fixed
            by derivatives.
        damping: k in [0, 1], for (1 − k) J_t in place of J_t: 0 is Newton's method, 1 the iteration h'_t = f_t(h_{t−1}).
        tolerance: of the residual; by default 4 √n ε of the state's dtype.
        max_iterations: after how many iterations to give up.

    Returns:
        ``Newton``. Where λ₁ > 0 a converged result is one of the trajectories that rounding allows, as the loop's is another; they agree
        while e^(λ₁ t) ε is small. Derivatives belong to the states, converged or not.

    Raises:
        TypeError, ValueError: as ``unroll.states``; an option or a guess other than above.

    Cost: an iteration is T Jacobians and about 2 T products of (n, n), depth O(log T), memory about 5 T n² numbers (cut a sequence too long
    for that, and go on from the last state); under ``vmap`` every iteration sweeps, and all go on until the slowest is done. On two cores
    it takes 30 to 500 times as long as the loop where λ₁ < 0 (``experiments/benchmarks/p10_newton.py``): it is for accelerators.

    Source: Lim, Zhu, Selfridge, Kasim 2023 (DEER); Gonzalez, Warrington, Smith, Linderman 2024: T iterations suffice, prop. 1; damping by
    scaling J_t, app. A.4. Their ELK, a Kalman smoother with several inverses of (n, n) a step, is not offered. The sweeps are ours: on
    driven tanh networks of g = 2 (λ₁ = −.08, N = 32, T = 1600) they bring 220 iterations down to 15.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import parallel
    >>> found = parallel.newton(lambda w, h, x: jnp.tanh(w * h + x), 0.5, jnp.ones(1), jnp.ones((1000, 1)))
    >>> bool(found.converged), int(found.iterations) < 8, round(float(found.states[-1, 0]), 4)
    (True, True, 0.8952)
    """
    return _checked("dense", step, params, state, xs, length, guess, damping, tolerance, max_iterations)


def quasi_newton(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    length: int | None = None,
    guess: PyTree = None,
    damping: ArrayLike = 0.0,
    tolerance: ArrayLike | None = None,
    max_iterations: int = 100,
) -> Newton:
    """The states h_1..h_T of any cell, by Newton's method with the diagonals of the Jacobians (quasi-DEER).

    As ``newton`` with diag(J_t), in real coordinates, for J_t. The error is multiplied by a factor instead of squared, the smaller the less
    the units act on one another. Derivatives are exact: their linear recurrences with the full J_t are solved
    by the same iteration, from products of J_t and vectors, until the residual is below the tolerance, in at most T turns.

    Args, Returns, Raises: as ``newton``.

    Cost: an iteration is n products of each J_t and a vector, one after the other, and O(T n) memory.

    Source: Gonzalez, Warrington, Smith, Linderman 2024, sec. 4.1.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import parallel
    >>> W = jnp.array([[0.5, 0.1], [0.0, 0.5]])
    >>> found = parallel.quasi_newton(lambda W, h, x: jnp.tanh(W @ h + x), W, jnp.ones(2), jnp.ones((50, 2)))
    >>> bool(found.converged), int(found.iterations) < 12
    (True, True)
    """
    return _checked("diagonal", step, params, state, xs, length, guess, damping, tolerance, max_iterations)


class _Problem(NamedTuple):
    """What of a trajectory is static."""

    step: Step
    lay: Layout
    approximate: Callable  # (step, params, lay, v, x) -> (A, f(v)), A for ∂f/∂h at v
    product: Product  # of these A
    transpose: Callable[[Array], Array]  # of an A
    sweeps: int  # in which the recurrence of A solves that of ∂f/∂h


def _dense(step: Step, params: PyTree, lay: Layout, v: Array, x: PyTree) -> tuple[Array, Array]:
    jacobian, h = dense(step, params, lay, lay.unravel(v), x)
    return jacobian, lay.ravel(h)


def _diagonal(step: Step, params: PyTree, lay: Layout, v: Array, x: PyTree) -> tuple[Array, Array]:
    value, push = jax.linearize(in_coordinates(step, params, lay, x), v)
    # One column after the other: side by side they would be the (T, n, n) that is to be avoided.
    return jax.lax.map(lambda e: jnp.vdot(e, push(e)), jnp.eye(lay.size, dtype=lay.dtype)), value


def _checked(kind: str, step: Step, params: PyTree, state: PyTree, xs: PyTree, length: Any, guess: PyTree, *options: Any) -> Newton:
    """``_find``, after a look at the numbers, which it sees traced."""
    damping, tolerance, max_iterations = options
    require_at("max_iterations", max_iterations, 1, None, "the linear recurrences to solve at most")
    for name, value, high in (("damping", damping, 1.0), ("tolerance", tolerance, math.inf)):
        if value is not None and not isinstance(value, jax.core.Tracer) and not (np.ndim(value) == 0 and 0 <= value <= high):
            raise ValueError(f"{name}={value} must be one number in [0, {high}]")
    return _find(step, params, state, xs, guess, damping, tolerance, kind=kind, length=length, max_iterations=max_iterations)


@compiled("step", "kind", "length", "max_iterations")
def _find(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    guess: PyTree,
    damping: Array,
    tolerance: Array | None,
    *,
    kind: str,
    length: int | None,
    max_iterations: int,
) -> Newton:
    state, length = admit(step, params, state, xs, length)
    lay = layout(state)
    step, params = prepared(step, params)
    methods = {"dense": (_dense, LEFT, lambda a: a.T, 1), "diagonal": (_diagonal, DIAGONAL, lambda a: a, length)}
    problem = _Problem(step, lay, *methods[kind])
    start = lay.ravel(state)
    number = lambda value: jax.lax.stop_gradient(jnp.asarray(value, lay.dtype))
    tolerance = number(4 * math.sqrt(lay.size) * lay.eps if tolerance is None else tolerance)
    # Nothing that the iteration sees carries a derivative: a loop of unknown length has none in reverse.
    fixed = jax.lax.stop_gradient(_Given(params, start, xs))
    if guess is None:
        first = _evaluate(problem, fixed, jnp.broadcast_to(fixed.start, (length, lay.size)))
    else:
        first = jax.lax.stop_gradient(_guessed(lay, guess, state, length))
    found = _iterate(problem, fixed, first, 1 - number(damping), tolerance, max_iterations)
    hs = _implicit(problem, params, start, xs, found.hs, tolerance)
    return Newton(jax.vmap(lay.unravel)(hs), found.taken, found.residuals, found.residual <= tolerance)


class _Given(NamedTuple):
    """What determines a trajectory, beside the step."""

    params: PyTree
    start: Array  # h_0 (n,)
    xs: PyTree


class _Iterate(NamedTuple):
    hs: Array  # (T, n)
    residual: Array
    taken: Array  # how many linear recurrences were solved
    residuals: Array  # (max_iterations,)


def _evaluate(problem: _Problem, given: _Given, hs: Array) -> Array:
    """f_t(h_{t−1}) (T, n)."""
    apply = lambda v, x: in_coordinates(problem.step, given.params, problem.lay, x)(v)
    return jax.vmap(apply)(preceding(given.start, hs), given.xs)


def _linearise(problem: _Problem, given: _Given, hs: Array) -> tuple[Array, Array]:
    """A_t (T, n, n) or (T, n), and f_t(h_{t−1}) (T, n)."""
    approximate = lambda v, x: problem.approximate(problem.step, given.params, problem.lay, v, x)
    return jax.vmap(approximate)(preceding(given.start, hs), given.xs)


def _residual(given: _Given, hs: Array, after: Array) -> Array:
    """max_t ‖h_t − f_t‖ / max_{s ≤ t} ‖h_s‖: relative to the past, so that a state that grows does not excuse its beginnings."""
    size = lambda h: jnp.max(jnp.abs(h), -1)
    scale = jax.lax.cummax(jnp.maximum(jnp.maximum(size(hs), size(after)), size(given.start)))
    worst = jnp.max(size(hs - after) / jnp.where(scale == 0, 1, scale))
    return jnp.where(jnp.isnan(worst), jnp.inf, worst)


def _iterate(problem: _Problem, given: _Given, first: Array, kept: Array, tolerance: Array, max_iterations: int) -> _Iterate:
    """Newton's iteration from a first trajectory, with A_t times ``kept``."""
    of = lambda hs: _residual(given, hs, _evaluate(problem, given, hs))

    def swept(hs: Array) -> tuple[Array, Array]:
        hs = jax.lax.fori_loop(0, SWEEPS, lambda _, hs: _where_finite(_evaluate(problem, given, hs), hs), hs)
        return hs, of(hs)

    def improve(now: _Iterate) -> _Iterate:
        transitions, after = _linearise(problem, given, now.hs)
        transitions = kept * transitions
        change = recurrence(problem.product, transitions, after - now.hs)
        # Not h_t + change: this adds an exact zero to f_t where all before is exact, so that rounding cannot stir what has settled.
        hs = after + jax.vmap(problem.product.act)(transitions, preceding(jnp.zeros_like(given.start), change))
        hs = _where_finite(hs, _where_finite(after, now.hs))
        residual = of(hs)
        hs, residual = jax.lax.cond(residual <= now.residual / 2, lambda hs: (hs, residual), swept, hs)
        return _Iterate(hs, residual, now.taken + 1, now.residuals.at[now.taken].set(residual))

    goes_on = lambda now: (now.taken < max_iterations) & ~(now.residual <= tolerance)
    first = jnp.where(jnp.isfinite(first), first, given.start)
    start = _Iterate(first, of(first), jnp.zeros((), jnp.int32), jnp.full(max_iterations, jnp.nan, first.dtype))
    return jax.lax.while_loop(goes_on, improve, start)


def _where_finite(rows: Array, otherwise: Array) -> Array:
    return jnp.where(jnp.all(jnp.isfinite(rows), -1, keepdims=True), rows, otherwise)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _implicit(problem: _Problem, params: PyTree, start: Array, xs: PyTree, hs: Array, tolerance: Array) -> Array:
    """The solution ``hs`` as a function of params, h_0 and xs, of which it has the derivatives."""
    return hs


@_implicit.defjvp
def _implicit_jvp(problem: _Problem, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """δ_t = J_t δ_{t−1} + ∂f_t."""
    params, start, xs, _, tolerance = primals
    hs = _implicit(problem, *primals)  # not the bare solution, so that this rule has derivatives, too
    _, forcing = jax.jvp(lambda *given: _evaluate(problem, _Given(*given), hs), (params, start, xs), tangents[:3])
    return hs, _solve(problem, _Given(params, start, xs), hs, forcing, tolerance)


def _solve(problem: _Problem, given: _Given, hs: Array, forcing: Array, tolerance: Array) -> Array:
    """δ of δ_t − J_t δ_{t−1} = forcing_t, δ_0 = 0: transposed, a recurrence that runs backwards."""
    push = jax.linearize(lambda hs: _evaluate(problem, given, hs), hs)[1]
    transitions = _linearise(problem, given, hs)[0]
    forwards = lambda b: recurrence(problem.product, transitions, b)
    # λ_t = b_t + A_{t+1}ᵀ λ_{t+1}. The roll puts A_1 where no transition is used.
    turned = jnp.roll(jax.vmap(problem.transpose)(transitions)[::-1], 1, 0)
    backwards = lambda b: recurrence(problem.product, turned, b[::-1])[::-1]
    solver = lambda approximate: lambda matvec, b: _refine(matvec, b, approximate, problem.sweeps, tolerance)
    return jax.lax.custom_linear_solve(lambda d: d - push(d), forcing, solver(forwards), solver(backwards))


def _refine(matvec: Callable[[Array], Array], b: Array, approximate: Callable[[Array], Array], sweeps: int, tolerance: Array) -> Array:
    """Solve matvec(u) = b by u ← u + approximate(b − matvec(u)); exact in ``sweeps``."""
    size = lambda v: jnp.max(jnp.abs(v))

    def goes_on(now: tuple[Array, Array, Array]) -> Array:
        u, remaining, count = now
        return (count < sweeps) & ~(size(remaining) <= tolerance * jnp.maximum(size(b), size(u)))

    def sweep(now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        u, remaining, count = now
        u = u + approximate(remaining)
        return u, b - matvec(u), count + 1

    return jax.lax.while_loop(goes_on, sweep, (jnp.zeros_like(b), b, jnp.zeros((), jnp.int32)))[0]


def _guessed(lay: Layout, guess: PyTree, state: PyTree, length: int) -> Array:
    """A first trajectory (T, n) from the caller's."""
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((length, *leaf.shape), leaf.dtype), state)
    found = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), guess)
    if found != wanted:
        raise ValueError(f"guess is {found}; it must be a state with a leading axis T: {wanted}")
    return jax.vmap(lay.ravel)(guess)
