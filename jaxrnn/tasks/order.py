"""Two or three things far apart that mean something only together: which came first, and whether they agree."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import require_at
from jaxrnn.tasks.parts import at_end, classes, ids, marks, one_hot, position, sure, throughout
from jaxrnn.tasks.protocol import Batch, Task
from jaxrnn.tasks.registry import register

_WINDOWS = {2: ((10, 20), (40, 50)), 3: ((10, 20), (33, 43), (66, 76))}  # percent of T; of 2: Pascanu et al., of 3: Hochreiter and Schmidhuber
_DISTRACTORS = 4


@register(variant="which of A and B stood in each of two windows among distractors, asked at the end", source="Hochreiter, Schmidhuber 1997")
def temporal_order(length: int, symbols: int = 2) -> Task:
    """Which of A and B stood at each of two random steps, in their order, asked at the end.

    x_t is one of six symbols, one-hot: A, B, or one of four distractors, which fill all other steps. The relevant two lie
    in [T/10, 2T/10) and [4T/10, 5T/10), the three of ``symbols=3`` in [.1, .2), [.33, .43) and [.66, .76) of T (steps
    counted from 0). The label reads them as a binary number, A = 0, first symbol first: AA, AB, BA, BB.

    Args:
        length: T, at least 10.
        symbols: how many relevant ones, 2 or 3.

    Returns:
        ``Task``: n_in 6, n_out 2^symbols; accuracy, 1/4 (1/8) without memory, a loss of ln 4 (ln 8).

    Raises:
        ValueError: length below 10, symbols other than 2 and 3.

    Source: Hochreiter, Schmidhuber 1997, experiments 6a and 6b; this variant, of fixed length and without their marks of
    beginning and end: Pascanu, Mikolov, Bengio 2013, section 4.1.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> task = tasks.temporal_order(50)
    >>> task.sample(jax.random.key(0), 4).xs.shape, task.n_out, round(task.loss_baseline, 4)
    ((4, 50, 6), 4, 1.3863)
    """
    require_at("length", length, 10, None, "so that every window has a step")
    require_at("symbols", symbols, 2, 3, "the windows that are known")
    n_in, n_out = 2 + _DISTRACTORS, 2**symbols

    def draw(key: Array, batch: int) -> Batch:
        key_noise, key_said, *keys = jax.random.split(key, 2 + symbols)
        seen = jax.random.randint(key_noise, (batch, length), 2, n_in, jnp.int32)
        said = jax.random.randint(key_said, (batch, symbols), 0, 2, jnp.int32)
        for i, (low, high) in enumerate(_WINDOWS[symbols]):
            at = position(keys[i], batch, length * low // 100, length * high // 100)
            seen = seen.at[jnp.arange(batch), at].set(said[:, i])
        label = said @ jnp.array([2 ** (symbols - 1 - i) for i in range(symbols)], jnp.int32)
        return Batch(one_hot(seen, n_in), {"label": throughout(label, length), "weight": at_end(batch, length)})

    def oracle(batch: Batch) -> Array:
        seen = ids(batch.xs)
        relevant = (seen < 2).astype(jnp.int32)
        place = symbols - jnp.cumsum(relevant, 1, jnp.int32)  # of the binary number
        return sure(jnp.cumsum(relevant * seen * 2**place, 1, jnp.int32), n_out)

    return classes(draw, n_in, n_out, oracle)


@register(variant="XOR of the two marked bits among many, asked at the end", source="Martens, Sutskever 2011")
def delayed_xor(length: int) -> Task:
    """Whether the two marked bits differ, asked at the end.

    x_t = (b_t, m_t), b_t a random bit, m_t = 1 at one random step of [0, T/10) and one of [T/10, T/2), 0 elsewhere; the
    label at T is b_a XOR b_b. No linear function of the two tells anything.

    Args:
        length: T, at least 10.

    Returns:
        ``Task``: n_in 2, n_out 2; accuracy, 1/2 without memory, a loss of ln 2.

    Raises:
        ValueError: length below 10.

    Source: Martens, Sutskever 2011, section 5.1 (there of length T to 11T/10).

    >>> import jax
    >>> from jaxrnn import tasks
    >>> batch = tasks.delayed_xor(20).sample(jax.random.key(0), 4)
    >>> batch.xs.shape, batch.xs[..., 1].sum(1).tolist()
    ((4, 20, 2), [2.0, 2.0, 2.0, 2.0])
    """
    require_at("length", length, 10, None, "so that the first tenth has a step")

    def answers(xs: Array) -> Array:
        return jnp.cumsum(xs[..., 0] * xs[..., 1], 1).astype(jnp.int32) % 2

    def draw(key: Array, batch: int) -> Batch:
        key_bits, key_marks = jax.random.split(key)
        bits = jax.random.bernoulli(key_bits, 0.5, (batch, length)).astype(float)
        xs = jnp.stack([bits, marks(key_marks, batch, length)], -1)
        return Batch(xs, {"label": throughout(answers(xs)[:, -1], length), "weight": at_end(batch, length)})

    return classes(draw, 2, 2, lambda batch: sure(answers(batch.xs), 2))
