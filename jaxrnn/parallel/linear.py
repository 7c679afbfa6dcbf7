"""The states of linear recurrences, by an associative scan.

Affine maps compose to affine maps, (B, d) ∘ (A, b) = (B A, B b + d), and composition is associative: all prefixes of T steps
take depth O(log T) where a processor is free for every step (Blelloch 1990).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._border import admit, compiled
from jaxrnn.cells.compose import StackStep
from jaxrnn.cells.protocol import Linear, Product, prepared
from jaxrnn.linearize import Step

PyTree = Any


@compiled("step", "length")
def associative(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, length: int | None = None) -> PyTree:
    """The states h_1..h_T of a linear cell, by an associative scan.

    h_t = A_t h_{t−1} + b_t. Steps 1..t compose to (A_t ⋯ A_1, Σ_s A_t ⋯ A_{s+1} b_s); with A_1 h_0 added to b_1 its second half is h_t.
    A stack of linear cells is solved layer by layer, each from the outputs of the one below.

    Args:
        step: a step that declares itself linear (``cells.protocol.Linear``), or a stack of such.
        params, state, xs, length: as in ``unroll.states``.

    Returns:
        As ``unroll.states``, from which it differs by rounding.

    Raises:
        TypeError: the step does not declare itself linear. TypeError, ValueError: as ``unroll.states``.

    Cost: depth O(log T), about 2 T compositions, memory about four times that of the transitions. Where these are diagonal that is
    O(T n). Where they are matrices (d, d) it is O(T d³) work and O(T d²) memory, against O(T d²) and O(d²) of the loop (T = 10⁵, d = 64,
    float32: 6.5 GB; cut such a sequence and go on from the last state). Differentiable in both modes; under the caller's jit and vmap.

    Source: Blelloch 1990, Prefix sums and their applications; for recurrent networks Martin, Cundy 2018.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import parallel
    >>> from jaxrnn.cells.protocol import Linear
    >>> leak = Linear(lambda a, x: (a, x))  # h_t = a h_{t−1} + x_t
    >>> parallel.associative(leak, jnp.array(0.5), jnp.array(2.0), jnp.array([0.0, 1.0, 0.0])).tolist()
    [1.0, 1.5, 0.75]
    """
    state, length = admit(step, params, state, xs, length)
    return _states(step, params, state, xs, length)


def recurrence(product: Product, transitions: PyTree, drives: PyTree) -> PyTree:
    """Solve h_t = A_t h_{t−1} + b_t from h_0 = 0, time on axis 0 of every leaf; A_1 is not used."""
    act, compose = jax.vmap(product.act), jax.vmap(product.compose)

    def then(first: tuple[PyTree, PyTree], second: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        (a, b), (c, d) = first, second
        return compose(c, a), jax.tree.map(jnp.add, act(c, b), d)

    return jax.lax.associative_scan(then, (transitions, drives))[1]


def _states(step: Step, params: PyTree, state: PyTree, xs: PyTree, length: int) -> PyTree:
    if isinstance(step, StackStep):
        out = []
        for layer, output, theta, h in zip(step.steps, step.outputs, params["layers"], state, strict=True):
            hs = _states(layer, theta, h, xs, length)
            xs = jax.vmap(output, (None, 0, 0), axis_size=length)(theta, hs, xs)
            out.append(hs)
        return tuple(out)
    if not isinstance(step, Linear):
        raise TypeError(
            f"associative needs a step that declares itself linear in the state (cells.protocol.Linear, or a stack of such), given {step!r}; "
            "use parallel.newton, which takes any step, or unroll.states"
        )
    linear, params = prepared(step, params)
    transitions, drives = jax.vmap(linear.coefficients, (None, 0), axis_size=length)(params, xs)
    start = linear.product.act(jax.tree.map(lambda leaf: leaf[0], transitions), state)
    drives = jax.tree.map(lambda b, first: b.at[0].add(first), drives, start)
    return recurrence(linear.product, transitions, drives)
