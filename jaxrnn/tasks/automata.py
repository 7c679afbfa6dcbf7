"""Sequences that a finite automaton reads: every input counts, and the state must be exact to the end."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import theory
from jaxrnn._border import require_at
from jaxrnn.tasks.parts import SURE, at_end, classes, ids, one_hot, sure, values
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
    ([7, 12, 39, 26], [40, 40, 40, 40])
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


@register(variant="value modulo m of an expression with +, −, × and no brackets, asked at the end", source="Delétang et al. 2023")
def modular_arithmetic(length: int, modulus: int = 5) -> Task:
    """The value modulo m of a₁ ± a₂ × a₃ …, asked at the end; × binds first.

    x_t is an operator (+, −, ×, the first one +) and the number behind it, uniform on 0 … m − 1, both one-hot: T numbers in T
    steps (the source gives the operators steps of their own). What was read is (sum of finished terms) + (term). Were it read
    from left to right instead, a product with 0 would erase all before it, and no lag would be long.

    Args:
        length: T, at least 2.
        modulus: m, at least 2.

    Returns:
        ``Task``: n_in 3 + m, n_out m; accuracy. The last step alone says very little of the value, and that is counted
        exactly (``theory.modular_answers``): 1/m and ln m, but for a trace that is gone after some ten steps.

    Raises:
        ValueError: a number below 2.

    Source: Delétang et al. 2023 ("modular arithmetic (simple)").

    >>> from jaxrnn import tasks
    >>> task = tasks.modular_arithmetic(20)
    >>> task.n_in, task.n_out, round(task.baseline, 4), round(task.loss_baseline, 4)
    (8, 5, 0.2, 1.6094)
    """
    require_at("length", length, 2, None, "the number of steps")
    require_at("modulus", modulus, 2, None, "how many numbers there are")
    known = theory.modular_answers(length, modulus)

    def answers(operators: Array, numbers: Array) -> Array:
        def read(state: tuple[Array, Array], x: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            (done, term), (operator, n) = state, x
            opened = (done + term) % modulus
            done = jnp.where(operator == 2, done, opened)
            term = jnp.where(operator == 0, n, jnp.where(operator == 1, -n, term * n)) % modulus
            return (done, term), (done + term) % modulus

        zeros = jnp.zeros(len(numbers), jnp.int32)
        return jax.lax.scan(read, (zeros, zeros), (operators.T, numbers.T))[1].T

    def draw(key: Array, batch: int) -> Batch:
        key_operators, key_numbers = jax.random.split(key)
        operators = jax.random.randint(key_operators, (batch, length), 0, 3, jnp.int32).at[:, 0].set(0)
        numbers = jax.random.randint(key_numbers, (batch, length), 0, modulus, jnp.int32)
        xs = jnp.concatenate([one_hot(operators, 3), one_hot(numbers, modulus)], -1)
        return Batch(xs, {"label": answers(operators, numbers), "weight": at_end(batch, length)})

    def oracle(batch: Batch) -> Array:
        return sure(answers(ids(batch.xs[..., :3]), ids(batch.xs[..., 3:])), modulus)

    def guess(batch: Batch) -> Array:
        logits = jnp.asarray(np.log(np.maximum(known, np.exp(-SURE))), float)
        return logits[ids(batch.xs[..., :3]), ids(batch.xs[..., 3:])]

    loss = -float(np.sum(known * np.log(np.where(known > 0, known, 1)), -1).mean())
    return classes(draw, 3 + modulus, modulus, oracle, guess=guess, baseline=float(known.max(-1).mean()), loss_baseline=loss)


_GROUPS = {"S3": 3, "S5": 5}


@register(variant="product of the permutations so far, asked at every step", source="Liu et al. 2023; Merrill et al. 2024")
def word_problem(length: int, group: str = "S3") -> Task:
    """The product of all permutations so far, asked at every step.

    x_t is an element of the group of all permutations of 3 or 5 things, uniform, one-hot in lexicographic order; the label is
    g_t = x_t ∘ g_{t−1}, g_0 the identity. S3 is solvable; S5 is not, so its word problem is complete for NC¹, beyond what
    a fixed number of parallel layers computes unless NC¹ = TC⁰. Each step weighs 1/T.

    Args:
        length: T, at least 2.
        group: "S3" or "S5".

    Returns:
        ``Task``: n_in = n_out = |G| = 6 or 120; accuracy. Without memory g_1 is known and the others are uniform:
        (1 + (T − 1)/|G|)/T, a loss of (T − 1)/T · ln|G|.

    Raises:
        ValueError: length below 2, an unknown group.

    Source: Liu et al. 2023; Merrill, Petty, Sabharwal 2024 (there A5 and S5; these inputs: all elements).

    >>> import jax
    >>> from jaxrnn import tasks
    >>> tasks.word_problem(20, "S5").sample(jax.random.key(0), 3).xs.shape, round(tasks.word_problem(20).baseline, 4)
    ((3, 20, 120), 0.2083)
    """
    require_at("length", length, 2, None, "the number of steps")
    if group not in _GROUPS:
        raise ValueError(f"group={group!r} is unknown; allowed are {', '.join(_GROUPS)}")
    elements = np.array(list(itertools.permutations(range(_GROUPS[group]))), np.int32)
    order = len(elements)
    index = {tuple(g): i for i, g in enumerate(elements.tolist())}
    table = np.array([[index[tuple(x[g].tolist())] for g in elements] for x in elements], np.int32)  # (x ∘ g)(i) = x[g[i]]; the identity is 0

    def answers(word: Array) -> Array:
        follow = lambda g, x: (jnp.asarray(table)[x, g],) * 2
        return jax.lax.scan(follow, jnp.zeros(len(word), jnp.int32), word.T)[1].T

    def draw(key: Array, batch: int) -> Batch:
        word = jax.random.randint(key, (batch, length), 0, order, jnp.int32)
        return Batch(one_hot(word, order), {"label": answers(word), "weight": jnp.full((batch, length), 1 / length, float)})

    def guess(batch: Batch) -> Array:
        return jnp.where(jnp.arange(length)[:, None] == 0, SURE * batch.xs, jnp.zeros_like(batch.xs))

    chance = (1 + (length - 1) / order) / length
    loss = (length - 1) / length * math.log(order)
    return classes(draw, order, order, lambda batch: sure(answers(ids(batch.xs)), order), guess=guess, baseline=chance, loss_baseline=loss)


@register(variant="the sign of the last pulse on each of three lines, at every step", source="Sussillo, Barak 2013")
def flip_flop(length: int, pulses: float = 4.0) -> Task:
    """The sign of the last pulse on each of three lines, asked at every step.

    x_t ∈ {−1, 0, 1}³: a pulse on every line at the first step, later one with probability p = pulses/T independently at each
    step and line, of random sign; the target is the sign of the line's last pulse. A line waits T/pulses steps on average.
    Without memory a line with a pulse is known and 0 is the best guess of the others, with an error of (1 − p)(T − 1)/T.

    Args:
        length: T, at least 2.
        pulses: expected number on a line after the first, in (0, length).

    Returns:
        ``Task``: n_in 3, n_out 3; mean squared error, solved below 0.01.

    Raises:
        ValueError: a number out of range.

    Source: Sussillo, Barak 2013, section 3.3 (the 3-bit flip-flop; there without the pulses at the first step).

    >>> import jax
    >>> from jaxrnn import tasks
    >>> tasks.flip_flop(100).sample(jax.random.key(0), 3).targets["value"].shape, round(tasks.flip_flop(100).baseline, 4)
    ((3, 100, 3), 0.9504)
    """
    require_at("length", length, 2, None, "the number of steps")
    if not 0 < pulses < length:
        raise ValueError(f"pulses={pulses} must lie in (0, {length}), the expected number on a line")
    probability = pulses / length

    def answers(xs: Array) -> Array:
        keep = lambda last, x: (jnp.where(x == 0, last, x),) * 2
        return jax.lax.scan(keep, jnp.zeros_like(xs[:, 0]), xs.swapaxes(0, 1))[1].swapaxes(0, 1)

    def draw(key: Array, batch: int) -> Batch:
        key_pulse, key_sign = jax.random.split(key)
        pulse = jax.random.bernoulli(key_pulse, probability, (batch, length, 3)).at[:, 0].set(True)
        xs = jnp.where(pulse, jax.random.rademacher(key_sign, (batch, length, 3), float), 0)
        return Batch(xs, {"value": answers(xs), "weight": jnp.full((batch, length), 1 / length, float)})

    baseline = (1 - probability) * (length - 1) / length
    return values(draw, 3, 3, lambda batch: answers(batch.xs), guess=lambda batch: batch.xs, baseline=baseline, solved=0.01)
