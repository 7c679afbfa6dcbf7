"""What is added to the loss: Pascanu's Ω, gradient flossing, the orthogonality penalty."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import lyapunov
from jaxrnn._border import require_at
from jaxrnn._frames import rescale
from jaxrnn._tree import layout, named_leaves
from jaxrnn.cells import prepared
from jaxrnn.linearize import Step, pulled
from jaxrnn.unroll import masked, preceding

PyTree = Any


class Pass(NamedTuple):
    """One pass over a batch: what a penalty may look at, all of it constant to the derivative."""

    xs: PyTree  # (B, T, ...)
    state: PyTree  # h_0, one for all sequences
    states: PyTree  # (B, T, ...) h_1..h_T
    gradients: PyTree  # (B, T + 1, ...) ∂L/∂h_t for t = 0..T, of each sequence's own loss, not divided by B
    lengths: Array | None  # (B,) valid steps of each; None: all
    update: Array  # int32, the number of this update from 0


Penalty = Callable[[Step, PyTree, Pass], Array]
"""``penalty(step, params, seen) -> scalar`` that is added to the loss and differentiated by params; hashable, equal where its knobs are."""


@dataclass(frozen=True)
class Omega:
    """Pascanu's Ω: the norm of ∂L/∂h is asked to be the same one step earlier.

    weight · mean over sequences of Σ_k (‖∂L/∂h_{k+1} · J_{k+1}‖ / ‖∂L/∂h_{k+1}‖ − 1)², J_{k+1} = ∂h_{k+1}/∂h_k.

    Differentiated through J_{k+1} alone: h_k, x_{k+1} and ∂L/∂h_{k+1} are constants, as in the paper. Steps where ∂L/∂h_{k+1} is
    zero or not finite, and steps beyond a sequence's end, do not count.

    Attributes:
        weight: of the sum over time in the loss. The mean over time with the same weight, T times weaker, does much less.

    Cost: one more pass of vector–Jacobian products, all steps at once, and its derivative.

    Source: Pascanu, Mikolov, Bengio 2013, equations 9 and 10.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> ones = jnp.ones((1, 2, 1))
    >>> seen = remedies.Pass(ones, jnp.ones(1), ones, jnp.ones((1, 3, 1)), None, jnp.int32(0))
    >>> penalty = lambda a: remedies.Omega(2.0)(lambda a, h, x: a * h, a, seen)  # 2 · 2 (|a| − 1)²
    >>> float(penalty(0.5)), float(jax.grad(penalty)(0.5))
    (1.0, -4.0)
    """

    weight: float = 2.0

    def __call__(self, step: Step, params: PyTree, seen: Pass) -> Array:
        """The weighted Ω."""
        terms, counts = ratios(step, params, seen)
        return self.weight * jnp.sum(jnp.where(counts, (terms - 1) ** 2, 0)) / len(counts)


def ratios(step: Step, params: PyTree, seen: Pass) -> tuple[Array, Array]:
    """‖∂L/∂h_{k+1} J_{k+1}‖ / ‖∂L/∂h_{k+1}‖ for k = 0..T−1, (B, T), and which of them count; 1 where one does not.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.remedies.penalties import Pass, ratios
    >>> g = jnp.array([[[0.0], [3.0], [0.0]]])  # nothing is asked of h_2
    >>> seen = Pass(jnp.ones((1, 2, 1)), jnp.ones(1), jnp.ones((1, 2, 1)), g, None, jnp.int32(0))
    >>> [part.tolist() for part in ratios(lambda a, h, x: a * h, 0.5, seen)]
    [[[0.5, 1.0]], [[True, False]]]
    """
    step, params = prepared(step, params)
    lay = layout(seen.state)
    before = jax.vmap(preceding, (None, 0))(seen.state, seen.states)
    after = jax.tree.map(lambda leaf: leaf[:, 1:], seen.gradients)
    size, length = jax.tree.leaves(after)[0].shape[:2]
    valid = jnp.ones((size, length), bool) if seen.lengths is None else jnp.arange(length) < seen.lengths[:, None]

    def one(h: PyTree, x: PyTree, g: PyTree, valid: Array) -> tuple[Array, Array]:
        # JAX's gradient of a complex leaf is ∂/∂re − i ∂/∂im: its conjugate holds the derivatives by the real coordinates.
        unit, log = rescale(lay.ravel(jax.tree.map(jnp.conj, g)), (0,))
        counts = valid & jnp.isfinite(log)
        h, unit = (jax.tree.map(lambda leaf: jnp.where(counts, leaf, jnp.zeros_like(leaf)), tree) for tree in (h, unit))
        square = jnp.sum(pulled(step, params, lay, h, x, unit)[1] ** 2)
        norm = jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))  # of dead units: √ has no derivative at 0
        return jnp.where(counts, norm, 1), counts

    parts = jax.lax.stop_gradient((before, seen.xs, after))
    return jax.vmap(jax.vmap(one))(*parts, valid)


@dataclass(frozen=True)
class Flossing:
    """Gradient flossing: the leading exponents over a short window are pushed towards 0.

    weight · mean over sequences of (1/k) Σ_{i ≤ k} λ_i², λ_i = (1/S) Σ_{t ≤ S} ln R_t,ii of the first S = ``window`` steps, in nats per step.

    Differentiated through the states, the Jacobians and the QR; the frame it starts from is fixed. Directions that die have no λ and
    no part in the mean.

    Attributes:
        k: how many exponents, at most the real dimension of the state.
        window: S; at most T, fewer where a sequence ends before.
        weight: of the mean in the loss.
        sequences: how many of the batch are looked at; None: all.
        every, start, stop: the schedule: on updates start, start + every, … before ``stop`` (None: no end); between them it costs nothing.

    Cost: per update that has it, window QR decompositions O(n k²) and k tangents a step for each sequence, and the way back.
    Helps up to a moderate gain; of strongly chaotic networks the gradient of an exponent over the window is itself chaotic.

    Source: Engelken 2023, equation 6.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> ones = jnp.ones((1, 3, 1))
    >>> seen = remedies.Pass(ones, jnp.ones(1), ones, jnp.ones((1, 4, 1)), None, jnp.int32(0))
    >>> penalty = lambda a: remedies.Flossing(k=1, window=3)(lambda a, h, x: a * h, a, seen)  # (ln a)²
    >>> float(jax.grad(penalty)(1.0)), round(float(jax.grad(penalty)(0.5)), 3)  # 2 ln a / a
    (0.0, -2.773)
    """

    k: int
    window: int
    weight: float = 1.0
    sequences: int | None = 4
    every: int = 1
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        for name in ("k", "window", "every"):
            require_at(name, getattr(self, name), 1, None, "a number of exponents, steps or updates")

    def __call__(self, step: Step, params: PyTree, seen: Pass) -> Array:
        """The weighted mean of λ²; 0 where the schedule is off."""
        xs, lengths = jax.tree.map(lambda leaf: leaf[: self.sequences], (seen.xs, seen.lengths))

        def on(params: PyTree) -> Array:
            return self.weight * mean_square(leading_exponents(step, params, seen.state, xs, k=self.k, window=self.window, lengths=lengths))

        due = (seen.update >= self.start) & ((seen.update - self.start) % self.every == 0)
        if self.stop is not None:
            due &= seen.update < self.stop
        zero = jnp.zeros((), layout(seen.state).dtype)
        return jax.lax.cond(due, on, lambda params: zero, params)


def leading_exponents(step: Step, params: PyTree, state: PyTree, xs: PyTree, *, k: int, window: int, lengths: Array | None = None) -> Array:
    """The k leading exponents over the first ``window`` steps of each sequence (B, k), nats per step, differentiable in everything.

    Where ``lengths`` (B,) ends a sequence within the window, those of the steps that there are; −inf where a direction died.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.remedies.penalties import leading_exponents
    >>> leading_exponents(lambda a, h, x: a * h, jnp.e, jnp.ones(1), jnp.ones((2, 5, 1)), k=1, window=4).round(3).tolist()
    [[1.0], [1.0]]
    """
    length = jax.tree.leaves(xs)[0].shape[1]
    require_at("window", window, 1, length, "the steps of a sequence")
    step, params = prepared(step, params)
    cut = jax.tree.map(lambda leaf: leaf[:, :window], xs)
    if lengths is None:
        return jax.vmap(lambda x: lyapunov.spectrum(step, params, state, x, k=k, blocks=1).exponents)(cut)
    steps = jnp.clip(lengths, 1, window)
    keep = jnp.arange(window) < steps[:, None]
    rates = jax.vmap(lambda x, kept: lyapunov.spectrum(masked(step), params, state, (x, kept), k=k, blocks=1).exponents)(cut, keep)
    return rates * (window / steps.astype(rates.dtype))[:, None]  # beyond the end the Jacobian is the identity


def mean_square(exponents: Array) -> Array:
    """The mean of λ² over those that are finite."""
    alive = jnp.isfinite(exponents)
    square = jnp.sum(jnp.where(alive, exponents, 0) ** 2)
    return square / jnp.maximum(jnp.sum(alive, dtype=square.dtype), 1)


@dataclass(frozen=True)
class Orthogonality:
    """How far recurrent weights are from orthogonal.

    weight · Σ ‖WᵀW − I‖_F² over the square leaves of the given names; of gates stacked along axis 0, over each block.

    Attributes:
        weight: of the sum in the loss.
        leaves: names of the weights, as the last part of their path.

    Raises:
        ValueError: no leaf of such a name, or one that is no stack of square blocks.

    Cost: O(n³) a block.

    Source: Vorontsov, Trabelsi, Kadoury, Pal 2017; Xie, Xiong, Pu 2017.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> float(remedies.Orthogonality(0.5)(None, {"W_hh": jnp.array([[2.0, 0.0], [0.0, 1.0]])}, None))
    4.5
    """

    weight: float = 0.01
    leaves: tuple[str, ...] = ("W_hh",)

    def __call__(self, step: Step, params: PyTree, seen: Pass) -> Array:
        """The weighted sum."""
        blocks = jax.tree.leaves(square_blocks(params, self.leaves))
        gram = lambda w: jnp.einsum("gki,gkj->gij", w, w)
        return self.weight * jnp.stack([jnp.sum((gram(w) - jnp.eye(w.shape[-1], dtype=w.dtype)) ** 2) for w in blocks]).sum()


@dataclass(frozen=True)
class Together:
    """The sum of several penalties.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> one = remedies.Orthogonality(0.5)
    >>> float(remedies.Together((one, one))(None, {"W_hh": jnp.zeros((2, 2))}, None))
    2.0
    """

    penalties: tuple[Penalty, ...]

    def __call__(self, step: Step, params: PyTree, seen: Pass) -> Array:
        """The sum."""
        return sum((penalty(step, params, seen) for penalty in self.penalties[1:]), self.penalties[0](step, params, seen))


def square_blocks(params: PyTree, leaves: tuple[str, ...]) -> dict[str, Array]:
    """The leaves of those names as stacks (g, n, n) of their square blocks, by path.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.remedies.penalties import square_blocks
    >>> {name: block.shape for name, block in square_blocks({"layers": ({"W_hh": jnp.ones((8, 2))},)}, ("W_hh",)).items()}
    {'layers/0/W_hh': (4, 2, 2)}
    """
    found = {name: leaf for name, leaf in named_leaves(params).items() if name in leaves or name.split("/")[-1] in leaves}
    if not found:
        raise ValueError(f"no leaf of params is named {' or '.join(leaves)}; there are {', '.join(named_leaves(params))}")
    for name, leaf in found.items():
        if leaf.ndim != 2 or leaf.shape[0] % leaf.shape[1]:
            raise ValueError(f"leaf {name!r} has shape {leaf.shape}; it must be (n, n), or gates (g·n, n) stacked along axis 0")
    return {name: leaf.reshape(-1, leaf.shape[1], leaf.shape[1]) for name, leaf in found.items()}
