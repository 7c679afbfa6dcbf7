import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, linearize, unroll
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


@pytest.mark.parametrize(("declared", "share"), [(True, 2), (False, 3)])  # a declared step keeps but its states as it is
def test_the_checkpointed_backward_pass_takes_less_memory(declared, share):
    xs, cell = noise(3, (1024, 2)), cells.lstm(2, 16)
    params, step = random_params(cell), cell.step if declared else lambda *given: cell.step(*given)

    def temporary(every):
        # Only h_T is used, so that the returned states, which both keep, do not count.
        last = lambda p: jax.tree.map(lambda leaf: leaf[-1], unroll.states(step, p, cell.init_state(p), xs, checkpoint_every=every)).h.sum()
        return jax.jit(jax.grad(last)).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporary(32) < temporary(None) / share


def test_a_long_scan_is_checkpointed_unasked():
    def temporary(length):
        last = lambda a: unroll.states(lambda a, h, x: jnp.sin(a * h), a, jnp.ones(8), None, length=length)[-1].sum()
        return jax.jit(jax.grad(last)).lower(1.0).compile().memory_analysis().temp_size_in_bytes

    returned = 4096 * 8 * 8
    assert temporary(4096) - returned < (temporary(4095) - returned) / 10


@pytest.mark.parametrize("length", [1, 7, 20, 43])
def test_a_declared_step_may_have_any_number_of_steps_and_inputs_that_are_no_floats(length):
    step = cells.Structure(lambda p, h, x: p["w"] @ h + p["table"][x], lambda p, a: jnp.tanh(a))
    params, state = {"w": noise(1, (4, 4)) / 2, "table": noise(2, (3, 4))}, noise(3, (4,))
    xs = jnp.arange(length) % 3
    size = lambda run: lambda p, h: jnp.sum(run(p, h) ** 2)
    plain = lambda p, h: jax.lax.scan(lambda h, x: (step(p, h, x),) * 2, h, xs)[1]
    found = jax.grad(size(lambda p, h: unroll.states(step, p, h, xs)), (0, 1))(params, state)
    assert relative(found, jax.grad(size(plain), (0, 1))(params, state)) < 1e-13


def test_a_stack_is_run_layer_by_layer_and_is_the_same():
    cell, xs = cells.stack(cells.lstm(2, 3), cells.gru(3, 4)), noise(4, (43, 2))
    params = random_params(cell)
    state = cell.init_state(params)
    size = lambda run: lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(run(p)))
    plain = lambda p: jax.lax.scan(lambda h, x: (cell.step(p, h, x),) * 2, state, xs)[1]
    ours = lambda p: unroll.states(cell.step, p, state, xs)
    assert relative(ours(params), plain(params)) < 1e-14
    assert relative(jax.grad(size(ours))(params), jax.grad(size(plain))(params)) < 1e-12


def test_where_a_mask_is_false_the_state_is_held():
    keep, xs = jnp.array([True, False, True, True, False, False]), noise(5, (6, 2))
    held = unroll.states(unroll.masked(CELL.step), PARAMS, STATE, (xs, keep))
    short = unroll.states(CELL.step, PARAMS, STATE, xs[keep])
    assert relative(held[jnp.array([0, 2, 3])], short) < 1e-15
    assert relative(held[-1], short[-1]) < 1e-15
    assert unroll.masked(CELL.step) == unroll.masked(CELL.step)
    jacobians = linearize.jacobians(unroll.masked(CELL.step), PARAMS, STATE, (xs, keep))
    assert (np.asarray(jacobians[~keep]) == np.eye(len(STATE))).all()


def test_a_stream_of_chunks_is_one_scan_bit_for_bit():
    xs = noise(6, (23, 2))
    whole = jax.jit(lambda xs: unroll.states(CELL.step, PARAMS, STATE, xs))(xs)
    parts = list(unroll.stream(CELL.step, PARAMS, STATE, (xs[i : i + 10] for i in range(0, 23, 10))))
    assert [len(part) for part in parts] == [10, 10, 3]
    assert (np.asarray(jnp.concatenate(parts)) == np.asarray(whole)).all()
    with pytest.raises(TypeError, match="step must be a function"):
        next(unroll.stream(3, PARAMS, STATE, [xs]))


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
