"""Two marked numbers among many: their sum, their mean, their product."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import theory
from jaxrnn._border import require_at
from jaxrnn.tasks.parts import at_end, marks, one_hot, throughout, values
from jaxrnn.tasks.protocol import Batch, Task
from jaxrnn.tasks.registry import register


@register(variant="sum of two marked numbers among many, one in each half, asked at the end", source="Le, Jaitly, Hinton 2015")
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

    def draw(key: Array, batch: int) -> Batch:
        key_u, key_a, key_b = jax.random.split(key, 3)
        u = jax.random.uniform(key_u, (batch, length), float)
        half = length // 2
        a = jax.random.randint(key_a, (batch,), 0, half)
        b = jax.random.randint(key_b, (batch,), half, length)
        m = one_hot(a, length) + one_hot(b, length)
        return _asked(jnp.stack([u, m], -1), (u * m).sum(1))

    return values(draw, 2, 1, lambda batch: _sums(batch.xs)[..., None], guess=1.0, baseline=theory.adding_baseline(), solved=0.01)


@register(variant="mean of two marked numbers, in the first tenth and half, asked at the end", source="Pascanu, Mikolov, Bengio 2013")
def adding_mean(length: int) -> Task:
    """The mean of the two marked numbers among ``length``, asked at the end.

    x_t = (u_t, m_t), u_t uniform on [0, 1), m_t = 1 at one random step of [0, T/10) and one of [T/10, T/2); the target is
    (u_a + u_b)/2. Guessing ½ errs by 1/24. The half after the marks makes every lag at least T/2.

    Args:
        length: T, at least 10.

    Returns:
        ``Task``: n_in 2, n_out 1; mean squared error, solved below 0.04² (0.04 is the error that the sources allow).

    Raises:
        ValueError: length below 10.

    Source: Hochreiter, Schmidhuber 1997, experiment 4 (½ + (X_a + X_b)/4 of X in [−1, 1] is this mean of u = (1 + X)/2);
    these places of the marks: Martens, Sutskever 2011; Pascanu, Mikolov, Bengio 2013. They draw the length from [T, 11T/10].

    >>> from jaxrnn import tasks
    >>> round(tasks.adding_mean(50).baseline, 4)
    0.0417
    """
    return _early(length, lambda xs: _sums(xs) / 2, 0.5, theory.adding_baseline(0.5))


@register(variant="product of two marked numbers, in the first tenth and half, asked at the end", source="Hochreiter, Schmidhuber 1997")
def multiplication(length: int) -> Task:
    """The product of the two marked numbers among ``length``, asked at the end.

    x_t as in ``adding_mean``; the target is u_a · u_b. Guessing ¼ errs by (E u²)² − (E u)⁴ = 1/9 − 1/16 = 7/144.

    Args:
        length: T, at least 10.

    Returns:
        ``Task``: n_in 2, n_out 1; mean squared error, solved below 0.04².

    Raises:
        ValueError: length below 10.

    Source: Hochreiter, Schmidhuber 1997, experiment 5; the places of the marks as in ``adding_mean``.

    >>> from jaxrnn import tasks
    >>> round(tasks.multiplication(50).baseline, 4)
    0.0486
    """
    return _early(length, _products, 0.25, 7 / 144)


def _early(length: int, answers: Callable[[Array], Array], guess: float, baseline: float) -> Task:
    """A task about two numbers that are marked in the first half; ``answers``: inputs (B, T, 2) to what is known so far (B, T)."""
    require_at("length", length, 10, None, "so that the first tenth has a step")

    def draw(key: Array, batch: int) -> Batch:
        key_u, key_marks = jax.random.split(key)
        xs = jnp.stack([jax.random.uniform(key_u, (batch, length), float), marks(key_marks, batch, length)], -1)
        return _asked(xs, answers(xs)[:, -1])

    return values(draw, 2, 1, lambda batch: answers(batch.xs)[..., None], guess=guess, baseline=baseline, solved=0.04**2)


def _sums(xs: Array) -> Array:
    return jnp.cumsum(xs[..., 0] * xs[..., 1], 1)


def _products(xs: Array) -> Array:
    return jnp.cumprod(jnp.where(xs[..., 1] > 0, xs[..., 0], 1), 1)


def _asked(xs: Array, answer: Array) -> Batch:
    """The answers (B,) asked at the last step."""
    batch, length = xs.shape[:2]
    return Batch(xs, {"value": throughout(answer[:, None], length), "weight": at_end(batch, length)})
