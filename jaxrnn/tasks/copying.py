"""Symbols heard first and said again later, in their order."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import theory
from jaxrnn._border import require_at
from jaxrnn.tasks.parts import SURE, at_end, checked, classes, evenly, ids, one_hot, places, position, sure, throughout
from jaxrnn.tasks.protocol import Batch, Below, Task, cross_entropy, mean_cross_entropy
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
    baseline = theory.copy_baseline(lag, symbols, items)
    asked = np.arange(lag + 2 * items) >= lag + items
    return _after_signal(lag, symbols, items, lambda key, batch: jnp.full(batch, lag + items - 1, jnp.int32), asked.astype(float), baseline)


@register(variant="symbols at the start, said again after a signal that comes at a random step", source="Henaff, Szlam, LeCun 2016")
def variable_copy(lag: int, symbols: int = 8, items: int = 10) -> Task:
    """The first ``items`` symbols, to be said again when asked, after 1 to ``lag`` steps: counting does not help.

    As ``copy``, except that the signal comes after 0 to lag − 1 blanks, equally likely; after the answers stand blanks
    up to T = lag + 2·items, in the inputs and in the targets.

    Args:
        lag: the most steps between the last symbol and the first answer, at least 1.
        symbols: how many different ones.
        items: how many to keep.

    Returns:
        ``Task`` as of ``copy``. Without memory a blank input at step t is within the answers with a known probability q_t:
        the loss is ``theory.variable_copy_baseline``, more than that of ``copy``.

    Source: after Henaff, Szlam, LeCun 2016.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> task = tasks.variable_copy(100)
    >>> task.sample(jax.random.key(0), 4).xs.shape, round(task.baseline, 4)
    ((4, 120, 10), 0.4476)
    """
    signal_at = lambda key, batch: position(key, batch, items, items + lag)
    return _after_signal(lag, symbols, items, signal_at, theory.blank_asks(lag, items), theory.variable_copy_baseline(lag, symbols, items))


def _after_signal(lag: int, symbols: int, items: int, signal_at: Callable[[Array, int], Array], chance: np.ndarray, baseline: float) -> Task:
    """``items`` symbols and a signal, all else blank; ``chance`` (T,): of being asked, given a blank input at that step."""
    for name, value in (("lag", lag), ("symbols", symbols), ("items", items)):
        require_at(name, value, 1, None, "a number of steps or symbols")
    length, blank, signal = lag + 2 * items, symbols, symbols + 1

    def answers(seen: Array) -> Array:
        since = jnp.arange(length, dtype=jnp.int32) - jnp.argmax(seen == signal, 1).astype(jnp.int32)[:, None] - 1
        said = jnp.take_along_axis(seen, jnp.clip(since, 0, items - 1), 1)
        return jnp.where((since >= 0) & (since < items), said, blank)

    def draw(key: Array, batch: int) -> Batch:
        key_said, key_signal = jax.random.split(key)
        said = jax.random.randint(key_said, (batch, items), 0, symbols, jnp.int32)
        seen = jnp.full((batch, length), blank, jnp.int32).at[:, :items].set(said)
        seen = seen.at[jnp.arange(batch), signal_at(key_signal, batch)].set(signal)
        return Batch(one_hot(seen, symbols + 2), {"label": answers(seen), "weight": evenly(jnp.ones((batch, length), bool))})

    def guess(batch: Batch) -> Array:
        q = jnp.asarray(chance, float)[:, None]
        unsure = jnp.concatenate([jnp.broadcast_to(jnp.log(q / symbols), (length, symbols)), jnp.log1p(-q)], 1)
        return jnp.where((ids(batch.xs) == blank)[..., None], jnp.maximum(unsure, -SURE), sure(jnp.int32(blank), symbols + 1))

    sample = checked(draw)
    return Task(
        sample, sample, symbols + 2, symbols + 1, cross_entropy, mean_cross_entropy, "mean cross entropy (nats)", baseline, Below(0.1 * baseline),
        loss_baseline=baseline, oracle=lambda batch: sure(answers(ids(batch.xs)), symbols + 1), guess=guess,
    )  # fmt: skip


@register(variant="symbols at random steps among blanks, said again in their order after a signal", source="Jing et al. 2019; Gu, Dao 2023")
def selective_copy(length: int, symbols: int = 8, items: int = 10) -> Task:
    """The ``items`` symbols that stand among blanks, to be said again in their order in the last ``items`` steps.

    The symbols lie at random different steps of the first length − items − 1, then comes the signal, then items blanks.
    Only the answers are asked, each with weight 1/items.

    Args:
        length: T, at least 2·items + 1.
        symbols: how many different ones.
        items: how many to keep.

    Returns:
        ``Task``: n_in symbols + 2, n_out symbols; accuracy, 1/symbols without memory, a loss of ln(symbols).

    Raises:
        ValueError: length below 2·items + 1, another number below 1.

    Source: Jing et al. 2019 ("denoise"); Gu, Dao 2023 ("selective copying", 16 items of 16 symbols).

    >>> import jax
    >>> from jaxrnn import tasks
    >>> task = tasks.selective_copy(100)
    >>> task.sample(jax.random.key(0), 4).xs.shape, round(task.loss_baseline, 4)
    ((4, 100, 10), 2.0794)
    """
    for name, value in (("symbols", symbols), ("items", items)):
        require_at(name, value, 1, None, "a number of symbols")
    require_at("length", length, 2 * items + 1, None, "room for the symbols, the signal and the answers")
    blank, signal, heard = symbols, symbols + 1, length - items - 1

    def answers(seen: Array) -> Array:
        found = jnp.argsort(seen[:, :heard] == blank, 1, stable=True)[:, :items]  # the steps of the symbols, in their order
        return jnp.zeros_like(seen).at[:, -items:].set(jnp.take_along_axis(seen, found, 1))

    def draw(key: Array, batch: int) -> Batch:
        key_said, key_at = jax.random.split(key)
        said = jax.random.randint(key_said, (batch, items), 0, symbols, jnp.int32)
        seen = jnp.full((batch, length), blank, jnp.int32).at[:, heard].set(signal)
        seen = seen.at[jnp.arange(batch)[:, None], places(key_at, batch, heard, items)].set(said)  # any order: they are alike
        asked = jnp.broadcast_to(jnp.arange(length) > heard, (batch, length))
        return Batch(one_hot(seen, symbols + 2), {"label": answers(seen), "weight": evenly(asked)})

    return classes(draw, symbols + 2, symbols, lambda batch: sure(answers(ids(batch.xs)), symbols))


@register(variant="the first of many random symbols, asked after the lag", source="Hochreiter, Schmidhuber 1997")
def delayed_recall(lag: int, symbols: int = 8) -> Task:
    """The first symbol of a sequence, asked ``lag`` steps later, with random symbols of the same kind in between.

    T = lag + 1 steps of one-hot symbols, independent and equally likely.

    Args:
        lag: steps from the symbol to the answer, at least 1.
        symbols: how many different ones.

    Returns:
        ``Task``: n_in and n_out symbols; accuracy, 1/symbols without memory, a loss of ln(symbols).

    Raises:
        ValueError: lag below 1, symbols below 2.

    Source: after Hochreiter, Schmidhuber 1997, experiment 2 (there the first symbol differs from the distractors, and a
    cue asks for it).

    >>> import jax
    >>> from jaxrnn import tasks
    >>> batch = tasks.delayed_recall(20).sample(jax.random.key(0), 4)
    >>> batch.xs.shape, batch.xs[:, 0].argmax(-1).tolist() == batch.targets["label"][:, -1].tolist()
    ((4, 21, 8), True)
    """
    require_at("lag", lag, 1, None, "a number of steps")
    require_at("symbols", symbols, 2, None, "how many different ones")

    def draw(key: Array, batch: int) -> Batch:
        seen = jax.random.randint(key, (batch, lag + 1), 0, symbols, jnp.int32)
        return Batch(one_hot(seen, symbols), {"label": throughout(seen[:, 0], lag + 1), "weight": at_end(batch, lag + 1)})

    return classes(draw, symbols, symbols, lambda batch: sure(throughout(ids(batch.xs)[:, 0], lag + 1), symbols))
