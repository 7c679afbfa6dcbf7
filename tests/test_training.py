"""The training loop: the same as the plain loop, and honest where it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import cells, tasks, training

CELL = cells.with_readout(cells.gru(2, 5), 1)
TASK = tasks.adding(8)
LOSS = cells.readout_loss(CELL, TASK.loss)
KEY = jax.random.key(0)
PARAMS = CELL.init_params(KEY)
MODEL = (CELL.step, PARAMS, CELL.init_state(PARAMS))


def plain_loss(params, batch):
    """Mean over sequences of the sum over steps, one after the other."""
    at = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)
    total = jnp.zeros(())
    for b in range(3):
        h = MODEL[2]
        for t in range(8):
            h = CELL.step(params, h, batch.xs[b, t])
            total += LOSS(params, h, batch.xs[b, t], at(at(batch.targets, b), t))
    return total / 3


def test_the_loop_is_the_plain_loop():
    optimizer, key = optax.sgd(0.1), jax.random.key(3)
    found = training.fit(*MODEL, TASK.sample, LOSS, steps=5, batch=3, key=key, optimizer=optimizer, chunk=2)
    params, state = PARAMS, optimizer.init(PARAMS)
    for i, k in enumerate(jax.random.split(key, 5)):
        batch = TASK.sample(k, 3)

        value, grads = jax.value_and_grad(plain_loss)(params, batch)
        np.testing.assert_allclose(found.loss[i], value, rtol=1e-5)
        np.testing.assert_allclose(found.gradient_norm[i], optax.tree.norm(grads), rtol=1e-4)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    for name, leaf in params.items():
        np.testing.assert_allclose(found.params[name], leaf, rtol=1e-4, atol=1e-6)


def test_chunks_do_not_change_the_numbers():
    a, b = (training.fit(*MODEL, TASK.sample, LOSS, steps=6, batch=3, key=KEY, chunk=chunk) for chunk in (2, 3))
    np.testing.assert_array_equal(a.loss, b.loss)
    np.testing.assert_array_equal(a.params["W_hh"], b.params["W_hh"])


def ragged(tail):
    """Sequences of 5 valid steps of 8, whatever stands beyond; every step has a loss."""

    def sample(key, batch):
        whole = TASK.sample(key, batch)
        targets = {"value": whole.targets["value"].at[:, 5:].set(tail), "weight": jnp.ones_like(whole.targets["weight"])}
        return tasks.Batch(whole.xs.at[:, 5:].set(tail), targets, jnp.full(batch, 5, jnp.int32))

    return sample


def test_what_lies_beyond_the_end_of_a_sequence_is_not_read_also_by_the_gradient():
    def cut(key, batch):
        whole = ragged(0)(key, batch)
        first = lambda leaf: leaf[:, :5]
        return tasks.Batch(first(whole.xs), jax.tree.map(first, whole.targets))

    expected = training.fit(*MODEL, cut, LOSS, steps=3, batch=2, key=KEY, chunk=1)
    for tail in (0, 9, jnp.nan, jnp.inf):
        found = training.fit(*MODEL, ragged(tail), LOSS, steps=3, batch=2, key=KEY, chunk=1)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
        np.testing.assert_allclose(found.gradient_norm, expected.gradient_norm, rtol=1e-5)


def test_a_state_that_would_explode_beyond_the_end_does_not_reach_the_gradient():
    sample = lambda key, batch: tasks.Batch(jnp.ones((batch, 1000)), jnp.ones((batch, 1000)), jnp.full(batch, 4, jnp.int32))
    grows, square = lambda a, h, x: a * h + x, lambda a, h, x, y: (h - y) ** 2
    found = training.fit(grows, jnp.array(3.0), jnp.array(0.0), sample, square, steps=1, batch=2, key=KEY)
    assert np.isfinite(found.gradient_norm).all()


def test_the_first_step_that_is_not_finite_is_named_and_ends_the_training():
    found = training.fit(*MODEL, TASK.sample, LOSS, steps=50, batch=2, key=KEY, optimizer=optax.sgd(1e300), chunk=5)
    assert 2 <= found.first_nonfinite <= 5
    assert len(found.loss) == 5
    assert np.isfinite(found.loss[: found.first_nonfinite - 1]).all()


@pytest.mark.slow
def test_a_small_gru_learns_to_add():
    task = tasks.adding(10)
    cell = cells.with_readout(cells.gru(2, 16), 1)
    params = cell.init_params(KEY)
    state = cell.init_state(params)
    found = training.fit(
        cell.step, params, state, task.sample, cells.readout_loss(cell, task.loss), steps=400, batch=32, key=KEY,
        optimizer=training.default_optimizer(1e-2),
    )  # fmt: skip
    error = training.evaluate(cell.output, cell.step, found.params, state, task.held_out(jax.random.key(9), 200), task.metric)
    assert error < task.baseline / 3


def test_numbers_of_updates_below_one_are_refused():
    for name in ("steps", "batch", "chunk"):
        with pytest.raises(ValueError, match=f"{name}=0 must"):
            training.fit(*MODEL, TASK.sample, LOSS, **{"steps": 1, "batch": 1, "key": KEY, name: 0})
