"""Symbols heard first and said again later, in their order."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import theory
from jaxrnn._border import require_at
from jaxrnn.tasks.protocol import Batch, Task, cross_entropy, mean_cross_entropy
from jaxrnn.tasks.registry import register


@register(variant="symbols at the start, said again after a signal", source="Arjovsky, Shah, Bengio 2016")
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
