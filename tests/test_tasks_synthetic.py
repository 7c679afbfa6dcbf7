"""Every task of random numbers: its oracle solves it, its guess scores what the baseline says, and its streams are what the key says."""

import hashlib
import inspect
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import tasks

KEY = jax.random.key(7)
# Name, arguments; lengths so small that the baseline's dependence on them shows.
CASES = [
    ("adding", 9, {}),
    ("adding-mean", 20, {}),
    ("associative-recall", 14, {}),
    ("copy", 5, {}),
    ("delayed-recall", 9, {}),
    ("delayed-xor", 20, {}),
    ("flip-flop", 9, {}),
    ("henon", 6, {}),
    pytest.param("lorenz", 3, {}, marks=pytest.mark.slow),
    ("modular-arithmetic", 3, {}),
    ("modular-arithmetic", 12, {"modulus": 4}),
    ("multiplication", 20, {}),
    ("parity", 20, {}),
    ("parity", 20, {"shortest": 2}),
    ("selective-copy", 25, {}),
    ("temporal-order", 20, {}),
    ("temporal-order", 20, {"symbols": 3}),
    ("variable-copy", 6, {"symbols": 4, "items": 5}),
    ("variable-copy", 1, {}),
    ("word-problem", 7, {}),
    ("word-problem", 4, {"group": "S5"}),
]
ALL = [getattr(case, "values", case) for case in CASES]
each = pytest.mark.parametrize(("name", "length", "choices"), CASES)
equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def make(name, length, choices):
    return tasks.REGISTRY[name](length, **choices)


def losses(task, predictions, targets):
    """Sum over the steps (B,)."""
    return jax.vmap(jax.vmap(task.loss))(predictions, targets).sum(1)


def test_every_synthetic_task_is_in_the_table():
    synthetic = {name for name, constructor in tasks.REGISTRY.items() if "held_out" not in inspect.signature(constructor).parameters}
    assert {name for name, _, _ in ALL} == synthetic


@each
def test_the_oracle_solves_it_from_the_inputs_alone(name, length, choices):
    task = make(name, length, choices)
    batch = task.sample(KEY, 100)
    predictions = task.oracle(batch._replace(targets=None))
    assert float(losses(task, predictions, batch.targets).max()) < 1e-12
    assert task.solved(float(task.metric(predictions, batch.targets)))


@each
def test_the_guess_scores_the_baselines_and_does_not_solve_it(name, length, choices):
    task = make(name, length, choices)

    @jax.jit
    def scores(key):
        batch = task.sample(key, 20_000)
        guessed = task.guess(batch._replace(targets=None))
        one = lambda prediction, target: task.metric(prediction[None], jax.tree.map(lambda leaf: leaf[None], target))
        return losses(task, guessed, batch.targets), jax.vmap(one)(guessed, batch.targets), task.metric(guessed, batch.targets)

    loss, metric, whole = (np.asarray(score) for score in scores(KEY))
    for found, expected in ((loss, task.loss_baseline), (metric, task.baseline)):
        assert abs(found.mean() - expected) <= 4 * found.std() / np.sqrt(len(found)) + 1e-9
    assert whole == pytest.approx(metric.mean())
    assert not task.solved(float(whole))


@each
def test_the_guess_has_no_memory(name, length, choices):
    task = make(name, length, choices)
    batch = task.sample(KEY, 50)
    guessed = task.guess(batch)
    for t in {0, batch.xs.shape[1] // 2, batch.xs.shape[1] - 1}:
        others = jnp.roll(batch.xs, 1, 0).at[:, t].set(batch.xs[:, t])
        np.testing.assert_array_equal(task.guess(batch._replace(xs=others))[:, t], guessed[:, t])


@each
def test_a_traced_batch_is_the_same_bit_for_bit(name, length, choices):
    task = make(name, length, choices)
    for draw in {task.sample, task.held_out}:
        equal(jax.jit(draw, static_argnums=1)(KEY, 3), draw(KEY, 3))


@each
def test_no_batch_is_repeated(name, length, choices):
    task = make(name, max(length, 20), choices)
    xs = np.asarray(jax.jit(jax.vmap(lambda key: task.sample(key, 8).xs))(jax.random.split(KEY, 1000)))
    assert len({row.tobytes() for row in xs}) == 1000


@each
def test_each_sequence_weighs_one_and_nothing_is_asked_beyond_its_end(name, length, choices):
    batch = make(name, length, choices).sample(KEY, 50)
    weight = np.asarray(batch.targets["weight"])
    np.testing.assert_allclose(weight.sum(1), 1, rtol=1e-12)
    ends = np.full(50, weight.shape[1]) if batch.lengths is None else np.asarray(batch.lengths)
    beyond = np.arange(weight.shape[1]) >= ends[:, None]
    assert not weight[beyond].any()
    assert not np.asarray(batch.xs)[beyond].any()


@each
def test_an_empty_batch_and_too_short_a_length_are_refused(name, length, choices):
    with pytest.raises(ValueError, match="batch=0 must be at least 1"):
        make(name, length, choices).sample(KEY, 0)
    with pytest.raises(ValueError, match=r"(length|lag)=0 must be at least"):
        make(name, 0, choices if name != "parity" else {})


def digest():
    """SHA-256 over a batch of every task, and whether each has JAX's own precision and is solved by its oracle."""
    found, sound = hashlib.sha256(), True
    for case in ALL:
        task = make(*case)

        @jax.jit
        def solve(key, task=task):
            batch = task.sample(key, 5)
            predictions = task.oracle(batch)
            return batch, task.guess(batch), predictions, losses(task, predictions, batch.targets), task.metric(predictions, batch.targets)

        batch, guessed, predictions, lost, metric = solve(KEY)
        for leaf in jax.tree.leaves(batch):
            found.update(np.asarray(leaf).tobytes())
        sound &= {batch.xs.dtype, batch.targets["weight"].dtype, guessed.dtype, predictions.dtype} == {jnp.zeros(()).dtype}
        sound &= task.solved(float(metric)) and float(lost.max()) < 1e-9
    return f"{found.hexdigest()} {sound}"


@pytest.mark.slow
@pytest.mark.parametrize("x64", ["1", "0"])
def test_another_process_draws_the_same_and_either_precision_serves(x64):
    run = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=os.environ | {"JAX_ENABLE_X64": x64})
    assert run.returncode == 0, run.stderr
    found, sound = run.stdout.split()
    assert sound == "True"
    assert (found == digest().split()[0]) == (x64 == "1")


if __name__ == "__main__":
    print(digest())
