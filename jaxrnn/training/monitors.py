"""What can be looked at during training; each gives a ``Monitor`` for ``training.fit(monitors={name: ...})``.

A monitor is a hashable ``measure(step, seen) -> arrays`` with how often to call it; one's own is written in the same way.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import lyapunov, spectra
from jaxrnn._tree import named_leaves
from jaxrnn.linearize import Step
from jaxrnn.training.loop import Monitor, Seen
from jaxrnn.training.recording import log_profile
from jaxrnn.unroll import masked


def profile(every: int = 1) -> Monitor:
    """The gradient on its way back: log √(mean over the batch of ‖∂L_b/∂h_t‖²) for t = 0..T, nats; −inf where it is zero. (T + 1,).

    Cost: the gradients of the states are a by-product of backpropagation; keeping them takes O(B T n) memory.
    """
    return Monitor(_Profile(), every)


def exponents(k: int = 4, every: int = 20, sequences: int = 1) -> Monitor:
    """The k leading Lyapunov exponents, nats per step, and the horizon −1/λ₁, steps (infinite from λ₁ = 0 on), on the first sequences.

    {"exponents": (k,), "horizon": ()}; over the whole sequence from h_0, the transient included, mean over ``sequences``. Of ragged
    sequences each is taken to its own end.

    Cost: ``sequences`` scans with k tangents and a QR a step.
    """
    return Monitor(_Exponents(k, sequences), every)


def eigenvalues(leaf: str = "W_hh", every: int = 100) -> Monitor:
    """The eigenvalues of a square leaf of the parameters, or of each gate's block where they are stacked: (n,) or (blocks, n), complex."""
    return Monitor(_Eigenvalues(leaf), every)


def saturation(level: float = 0.95, every: int = 1) -> Monitor:
    """Share of a state's numbers beyond ±level, and of those that are exactly zero, by leaf: {leaf: (2,)}.

    For tanh units |h| > .95 is a slope below .1; for ReLU units the zeros are those without a slope.
    """
    return Monitor(_Saturation(level), every)


def update_ratio(every: int = 1) -> Monitor:
    """How far an update moves each leaf: ‖Δθ‖ / ‖θ‖, {leaf: ()}; about 1e-3 is usual, infinite for a leaf of zeros that moves."""
    return Monitor(_UpdateRatio(), every)


def clip_share(threshold: float = 1.0, every: int = 1) -> Monitor:
    """Whether the norm of the gradient lies above the threshold that it is clipped to; a log hears the share of a chunk's updates."""
    return Monitor(_Above(threshold), every)


@dataclass(frozen=True)
class _Profile:
    def __call__(self, step: Step, seen: Seen) -> Array:
        return log_profile(seen.batch.gradients)


@dataclass(frozen=True)
class _Exponents:
    k: int
    sequences: int

    def __call__(self, step: Step, seen: Seen) -> dict[str, Array]:
        some = lambda tree: jax.tree.map(lambda leaf: leaf[: self.sequences], tree)
        batch = seen.batch
        xs, share = some(batch.xs), 1
        if batch.lengths is not None:
            length = jax.tree.leaves(xs)[0].shape[1]
            ends = some(batch.lengths)
            step, xs = masked(step), (xs, jnp.arange(length, dtype=ends.dtype) < ends[:, None])
            share = (length / ends).astype(seen.loss.dtype)[:, None]  # no growth beyond the end
        one = lambda x: lyapunov.spectrum(step, seen.params, batch.state, x, k=self.k, blocks=1).exponents
        found = jnp.mean(share * jax.vmap(one)(xs), 0)
        return {"exponents": found, "horizon": jnp.where(found[0] < 0, -1 / jnp.where(found[0] < 0, found[0], -1), jnp.inf)}


@dataclass(frozen=True)
class _Eigenvalues:
    leaf: str

    def __call__(self, step: Step, seen: Seen) -> Array:
        named = named_leaves(seen.params)
        found = [leaf for name, leaf in named.items() if name == self.leaf or name.endswith(f"/{self.leaf}")]
        if len(found) != 1 or found[0].ndim != 2 or found[0].shape[0] % found[0].shape[1]:
            shapes = {name: leaf.shape for name, leaf in named.items()}
            raise ValueError(f"eigenvalues of {self.leaf!r}: give the name of one leaf (n, n), or blocks of it on axis 0; there are {shapes}")
        n = found[0].shape[1]
        values = spectra.eigenvalues(found[0].reshape(-1, n, n))
        return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class _Saturation:
    level: float

    def __call__(self, step: Step, seen: Seen) -> dict[str, Array]:
        shares = lambda h: jnp.stack([jnp.mean(jnp.abs(h) > self.level), jnp.mean(h == 0)])
        return {name: shares(leaf).astype(seen.loss.dtype) for name, leaf in named_leaves(seen.batch.states).items()}


@dataclass(frozen=True)
class _UpdateRatio:
    def __call__(self, step: Step, seen: Seen) -> dict[str, Array]:
        norm = lambda leaf: jnp.sqrt(jnp.sum(jnp.abs(leaf) ** 2))
        after, before = named_leaves(seen.updates), named_leaves(seen.params)
        return {name: norm(after[name]) / norm(before[name]) for name in before}


@dataclass(frozen=True)
class _Above:
    threshold: float

    def __call__(self, step: Step, seen: Seen) -> Array:
        return seen.gradient_norm > self.threshold
