"""Sequences that a finite automaton reads: every input counts, and the state must be exact to the end."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import require_at
from jaxrnn.tasks.parts import classes, ids, one_hot, sure
from jaxrnn.tasks.protocol import Batch, Task
from jaxrnn.tasks.registry import register


@register(variant="whether the number of ones is odd, asked at the end", source="Minsky, Papert 1969; Delétang et al. 2023")
def parity(length: int, shortest: int | None = None) -> Task:
    """Whether a sequence of random bits holds an odd number of ones, asked at its last step.

    x_t is a bit, one-hot. The label at every step is the parity so far, the weight is 1 at the last valid step alone.

    Args:
        length: T, at least 2.
        shortest: draw the lengths of ``sample`` uniformly from [shortest, length], ``Batch.lengths``; those of
            ``held_out`` are all ``length``. None: all of them are.

    Returns:
        ``Task``: n_in 2, n_out 2; accuracy, 1/2 without memory, a loss of ln 2.

    Raises:
        ValueError: shortest outside [2, length] (one bit is its own parity, and needs no memory).

    Source: Minsky, Papert 1969; trained on short and asked on long sequences: Delétang et al. 2023 ("parity check").

    >>> import jax
    >>> from jaxrnn import tasks
    >>> task = tasks.parity(40, shortest=2)
    >>> task.sample(jax.random.key(0), 4).lengths.tolist(), task.held_out(jax.random.key(0), 4).lengths.tolist()
    ([4, 7, 15, 36], [40, 40, 40, 40])
    """
    require_at("length", length, 2, None, "the number of steps")
    if shortest is not None:
        require_at("shortest", shortest, 2, length, "the number of steps")

    def ask(key: Array, lengths: Array) -> Batch:
        batch, steps = len(lengths), jnp.arange(length, dtype=jnp.int32)
        bits = jax.random.randint(key, (batch, length), 0, 2, jnp.int32)
        bits = jnp.where(steps < lengths[:, None], bits, -1)  # beyond the end stand zeros
        label = jnp.cumsum((bits == 1).astype(jnp.int32), 1, jnp.int32) % 2
        weight = (steps == lengths[:, None] - 1).astype(float)
        return Batch(one_hot(bits, 2), {"label": label, "weight": weight}, None if shortest is None else lengths)

    def draw(key: Array, batch: int) -> Batch:
        key_bits, key_lengths = jax.random.split(key)
        return ask(key_bits, jax.random.randint(key_lengths, (batch,), shortest or length, length + 1, jnp.int32))

    def oracle(batch: Batch) -> Array:
        return sure(jnp.cumsum(ids(batch.xs), 1, jnp.int32) % 2, 2)

    return classes(draw, 2, 2, oracle, held_out=lambda key, batch: ask(jax.random.split(key)[0], jnp.full(batch, length, jnp.int32)))
