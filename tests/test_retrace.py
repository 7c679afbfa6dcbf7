"""Whatever decides shapes or code is static, everything else is data: equal cells and new numbers compile nothing new."""

import jax
import jax.numpy as jnp
import pytest

from jaxrnn import bptt, cells, flow, linearize, lyapunov
from tests.models import noise


def squared_error(prediction, target):
    return jnp.sum((prediction - target) ** 2)


MAKERS = {
    "lstm": [lambda: cells.lstm(2, 3), lambda: cells.lstm(n_in=2, n_hidden=3), lambda: cells.lstm(n_hidden=3, n_in=2, init="orthogonal")],
    "gru": [lambda: cells.gru(2, 3), lambda: cells.gru(n_in=2, n_hidden=3)],
    "vanilla": [lambda: cells.vanilla(2, 3), lambda: cells.vanilla(n_in=2, n_hidden=3, activation="tanh")],
    "stack": [
        lambda: cells.stack(cells.lstm(2, 3), cells.gru(3, 2)),
        lambda: cells.stack(cells.lstm(n_in=2, n_hidden=3), cells.gru(n_in=3, n_hidden=2)),
    ],
    "readout": [lambda: cells.with_readout(cells.gru(2, 3), 2), lambda: cells.with_readout(cell=cells.gru(2, 3), n_out=2)],
}


def compilations(analysis):
    """How many programs an analysis has compiled, from none."""
    analysis.jitted.clear_cache()
    return lambda: analysis.jitted._cache_size()


@pytest.mark.parametrize("name", MAKERS)
def test_equal_cells_compile_once_however_they_were_made(name):
    count, made = compilations(lyapunov.spectrum), [make() for make in MAKERS[name]]
    for i, cell in enumerate(made):
        params = cell.init_params(jax.random.key(i))
        lyapunov.spectrum(cell.step, params, cell.init_state(params), noise(i, (4, 2)))
    assert count() == 1
    assert len({(cell.step, cell.output) for cell in made}) == 1


@pytest.mark.parametrize("name", cells.REGISTRY)
def test_equal_cells_of_every_kind_share_their_step_and_output(name):
    made = [cells.REGISTRY[name](2, 4), cells.REGISTRY[name](n_in=2, n_hidden=4), cells.REGISTRY[name](n_hidden=4, n_in=2)]
    assert len({(cell.step, cell.output) for cell in made}) == 1


def test_equal_readout_losses_compile_once():
    count = compilations(flow.state_gradients)
    for _ in range(2):
        cell = cells.with_readout(cells.vanilla(2, 3), 1)
        params = cell.init_params(jax.random.key(0))
        flow.state_gradients(cell.step, params, jnp.zeros(3), jnp.ones((4, 2)), jnp.zeros((4, 1)), cells.readout_loss(cell, squared_error))
    assert count() == 1


def test_new_gains_states_inputs_and_time_steps_retrace_nothing():
    calls = []

    def step(params, h, x):
        calls.append(1)
        return jnp.tanh(params["gain"] * h + x)

    run = lambda gain, seed, dt: lyapunov.spectrum(step, {"gain": gain}, noise(seed, (2,)), noise(seed, (5, 2)), dt=dt)
    run(1.0, 0, 1.0)
    traced = len(calls)
    run(2.0, 1, 0.1)
    run(0.5, 2, 3.0)
    assert len(calls) == traced


@pytest.mark.parametrize("analysis", [linearize.jacobians, flow.log_transport, flow.log_transport_blocks, flow.log_gain])
def test_analyses_compile_once_per_shape(analysis):
    count, cell = compilations(analysis), cells.gru(2, 3)
    params = cell.init_params(jax.random.key(0))
    for seed in range(3):
        analysis(cell.step, params, noise(seed, (3,)), noise(seed, (4, 2)))
    assert count() == 1
    analysis(cell.step, params, noise(0, (3,)), noise(0, (5, 2)))
    assert count() == 2


def test_decompositions_compile_once_for_equal_times():
    count, cell = compilations(bptt.terms._decompose), cells.vanilla(2, 3)
    params, loss = cell.init_params(jax.random.key(0)), cells.readout_loss(cell, squared_error)
    for times in [(1, 3), [1, 3], jnp.array([1, 3])]:
        bptt.decompose(cell.step, params, jnp.zeros(3), jnp.ones((4, 2)), jnp.zeros((4, 3)), loss, times=times)
    assert count() == 1


def test_one_level_of_a_horizon_is_as_good_as_another():
    transport, count = jnp.zeros((4, 4)), compilations(flow.memory._horizon)
    for level in (0.1, 0.2):
        flow.horizon(transport, level=level)
    assert count() == 1
