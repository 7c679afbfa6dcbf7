"""Values found again by their keys."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import require_at
from jaxrnn.tasks.parts import classes, evenly, ids, one_hot, places, sure
from jaxrnn.tasks.protocol import Batch, Task
from jaxrnn.tasks.registry import register


@register(variant="pairs of key and value, then each key again in random order: its value (MQAR)", source="Arora et al. 2023")
def associative_recall(length: int, pairs: int = 4, symbols: int = 8) -> Task:
    """The value that stood beside each key, asked when the key comes again.

    The first 2·pairs steps are key, value, key, value, …, the keys all different, the values independent. Then every key
    comes once more, in random order at random steps of the rest, among blanks. Only there is anything asked, each with
    weight 1/pairs.

    Args:
        length: T, at least 3·pairs.
        pairs: how many.
        symbols: how many different keys there are, and how many different values, at least pairs.

    Returns:
        ``Task``: n_in 2·symbols + 1 (keys, values, the blank), n_out symbols; accuracy, 1/symbols without memory, a loss of
        ln(symbols).

    Raises:
        ValueError: length below 3·pairs, pairs below 1 or above symbols.

    Source: Arora et al. 2023, multi-query associative recall (there queries are likelier soon after the pairs).

    >>> import jax
    >>> from jaxrnn import tasks
    >>> batch = tasks.associative_recall(30).sample(jax.random.key(0), 2)
    >>> batch.xs.shape, (batch.targets["weight"] > 0).sum(1).tolist()
    ((2, 30, 17), [4, 4])
    """
    require_at("pairs", pairs, 1, symbols, "at most as many as there are keys")
    require_at("length", length, 3 * pairs, None, "room for the pairs and the queries")
    blank, stored = 2 * symbols, 2 * pairs

    def answers(seen: Array) -> Array:
        keys, found = seen[:, 0:stored:2], seen[:, 1:stored:2] - symbols
        which = jnp.argmax(seen[:, :, None] == keys[:, None], 2)
        return jnp.take_along_axis(found, which, 1)

    def draw(key: Array, batch: int) -> Batch:
        key_keys, key_values, key_order, key_at = jax.random.split(key, 4)
        keys = places(key_keys, batch, symbols, pairs)  # as many different numbers, in random order
        said = jax.random.randint(key_values, (batch, pairs), symbols, blank, jnp.int32)
        again = jnp.take_along_axis(keys, places(key_order, batch, pairs, pairs), 1)
        seen = jnp.full((batch, length), blank, jnp.int32).at[:, 0:stored:2].set(keys).at[:, 1:stored:2].set(said)
        at = stored + jnp.sort(places(key_at, batch, length - stored, pairs), 1)
        seen = seen.at[jnp.arange(batch)[:, None], at].set(again)
        asked = (seen < symbols) & (jnp.arange(length) >= stored)
        return Batch(one_hot(seen, blank + 1), {"label": jnp.where(asked, answers(seen), 0), "weight": evenly(asked)})

    return classes(draw, blank + 1, symbols, lambda batch: sure(answers(ids(batch.xs)), symbols))
