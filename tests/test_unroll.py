import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, unroll
from tests.models import STEPS, at_time, noise, over_models, random_params, real_vector, relative, trajectory

EPS = np.finfo(np.float64).eps
CELL = cells.gru(2, 3)
PARAMS = random_params(CELL)
STATE = noise(1, (3,))


@over_models
def test_the_scan_equals_a_python_loop(model):
    found = unroll.states(model.step, model.params, model.state, model.xs)
    wanted = trajectory(model.step, model.params, model.state, model.xs, STEPS)[1:]
    wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *wanted)
    assert relative(found, wanted) < 100 * STEPS * EPS


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (1, 3), (7, 1), (7, 3), (12, 4), (12, 12), (12, 50)])
def test_checkpointing_changes_neither_states_nor_gradients(steps, every):
    xs = noise(2, (steps, 2))

    def loss(params, state, every):
        return jnp.sum(jnp.sin(unroll.states(CELL.step, params, state, xs, checkpoint_every=every)))

    plain = unroll.states(CELL.step, PARAMS, STATE, xs)
    kept = unroll.states(CELL.step, PARAMS, STATE, xs, checkpoint_every=every)
    assert relative(kept, plain) < 1e-15
    gradient = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)
    assert relative(gradient(PARAMS, STATE, every), gradient(PARAMS, STATE, None)) < 100 * steps * EPS


def test_the_checkpointed_backward_pass_takes_less_memory():
    xs, cell = noise(3, (1024, 2)), cells.lstm(2, 16)
    params = random_params(cell)

    def temporary(every):
        # Only h_T is used, so that the returned states, which both keep, do not count.
        last = lambda p: jax.tree.map(lambda leaf: leaf[-1], unroll.states(cell.step, p, cell.init_state(p), xs, checkpoint_every=every)).h.sum()
        return jax.jit(jax.grad(last)).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporary(32) < temporary(None) / 3


def test_vmap_equals_a_loop_over_sequences():
    xs, starts = noise(4, (5, 9, 2)), noise(5, (5, 3))
    batched = jax.vmap(lambda h, x: unroll.states(CELL.step, PARAMS, h, x))(starts, xs)
    alone = jnp.stack([unroll.states(CELL.step, PARAMS, h, x) for h, x in zip(starts, xs, strict=True)])
    assert relative(batched, alone) < 100 * 9 * EPS


def test_an_autonomous_map_runs_for_the_length_given():
    found = unroll.states(lambda a, h, x: a * h, 0.5, 1.0, None, length=4, checkpoint_every=3)
    assert found.tolist() == [0.5, 0.25, 0.125, 0.0625]


@over_models
def test_the_dtype_of_the_state_is_kept_in_float32(model):
    small = model.cast(np.float32)
    found = unroll.states(small.step, small.params, small.state, small.xs)
    assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [leaf.dtype for leaf in jax.tree.leaves(small.state)]


@over_models
def test_preceding_are_the_states_that_each_step_started_from(model):
    found = unroll.states(model.step, model.params, model.state, model.xs)
    before = unroll.preceding(model.state, found)
    wanted = [real_vector(model.state), *(real_vector(at_time(found, i)) for i in range(STEPS - 1))]
    assert all((real_vector(at_time(before, i)) == w).all() for i, w in enumerate(wanted))
