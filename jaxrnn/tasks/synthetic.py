"""Long-memory tasks made of random numbers: to solve them is to carry information over a known lag."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import theory
from jaxrnn._border import require_at
from jaxrnn.tasks.protocol import Batch, Task, cross_entropy, mean_squared_error, squared_error


def adding(length: int) -> Task:
    """The sum of the two marked numbers among ``length``, asked at the end.

    x_t = (u_t, m_t), u_t uniform on [0, 1), m_t = 1 at one random step of each half and 0 elsewhere; the target at T
    is u_a + u_b (the sum; some authors take the mean). Guessing 1 errs by 1/6, the variance of the sum.

    Args:
        length: T, at least 2.

    Returns:
        ``Task``: n_in 2, n_out 1; mean squared error, solved below 0.01.

    Source: Hochreiter, Schmidhuber 1997, experiment 4; this variant: Le, Jaitly, Hinton 2015.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> batch = tasks.adding(50).sample(jax.random.key(0), 4)
    >>> batch.xs.shape, batch.targets["value"].shape
    ((4, 50, 2), (4, 50, 1))
    """
    require_at("length", length, 2, None, "the number of steps")

    def sample(key: Array, batch: int) -> Batch:
        require_at("batch", batch, 1, None, "the number of sequences")
        key_u, key_a, key_b = jax.random.split(key, 3)
        u = jax.random.uniform(key_u, (batch, length), float)
        half = length // 2
        a = jax.random.randint(key_a, (batch,), 0, half)
        b = jax.random.randint(key_b, (batch,), half, length)
        marks = jax.nn.one_hot(a, length, dtype=float) + jax.nn.one_hot(b, length, dtype=float)
        value = jnp.broadcast_to((u * marks).sum(1)[:, None, None], (batch, length, 1))
        weight = jnp.zeros((batch, length), float).at[:, -1].set(1)
        return Batch(jnp.stack([u, marks], -1), {"value": value, "weight": weight})

    return Task(sample, sample, 2, 1, squared_error, mean_squared_error, "mean squared error", theory.adding_baseline(), lambda error: error < 0.01)


def copy(lag: int, symbols: int = 8, items: int = 10) -> Task:
    """The first ``items`` symbols, to be said again after ``lag`` blank steps.

    T = lag + 2·items steps of one-hot vectors: items symbols, lag − 1 blanks, the signal to recall, items blanks. The
    target is the blank until the signal has come, then the symbols in order. The loss is the mean over the T steps.

    Args:
        lag: blank steps between the last symbol and the first answer, at least 1.
        symbols: how many different ones.
        items: how many to keep.

    Returns:
        ``Task``: n_in symbols + 2, n_out symbols + 1 (symbols, then the blank); mean cross entropy in nats, whose
        baseline without memory is items · ln(symbols) / T; solved below a tenth of it.

    Source: Hochreiter, Schmidhuber 1997; this form: Arjovsky, Shah, Bengio 2016.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> task = tasks.copy(100)
    >>> task.sample(jax.random.key(0), 4).xs.shape, round(task.baseline, 4)
    ((4, 120, 10), 0.1733)
    """
    for name, value in (("lag", lag), ("symbols", symbols), ("items", items)):
        require_at(name, value, 1, None, "a number of steps or symbols")
    length, blank, signal = lag + 2 * items, symbols, symbols + 1

    def sample(key: Array, batch: int) -> Batch:
        require_at("batch", batch, 1, None, "the number of sequences")
        said = jax.random.randint(key, (batch, items), 0, symbols, jnp.int32)
        fill = lambda count, value: jnp.full((batch, count), value, jnp.int32)
        ids = jnp.concatenate([said, fill(lag - 1, blank), fill(1, signal), fill(items, blank)], 1)
        label = jnp.concatenate([fill(lag + items, blank), said], 1)
        weight = jnp.full((batch, length), 1 / length, float)
        return Batch(jax.nn.one_hot(ids, symbols + 2, dtype=float), {"label": label, "weight": weight})

    baseline = theory.copy_baseline(lag, symbols, items)
    return Task(
        sample,
        sample,
        symbols + 2,
        symbols + 1,
        cross_entropy,
        mean_cross_entropy,
        "mean cross entropy (nats)",
        baseline,
        lambda loss: loss < 0.1 * baseline,
    )


def mean_cross_entropy(logits: Array, targets: dict[str, Array]) -> Array:
    """Mean over the weighted steps of the cross entropy, nats."""
    losses = jax.vmap(jax.vmap(cross_entropy))(logits, targets)
    return jnp.sum(losses) / jnp.sum(targets["weight"])
