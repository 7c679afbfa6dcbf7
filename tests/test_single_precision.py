"""With x64 off, as jax starts: nothing asks for float64, and what is computed keeps what single precision promises.

Collected only where ``JAX_ENABLE_X64=0``; all other tests run with x64 on.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import bptt, cells, checks, diagnosis, flow, linearize, lyapunov, spectra, tasks, training, unroll
from tests.test_diagnosis import SYSTEMS

STEPS = 8
EPS = float(np.finfo(np.float32).eps)


def model_of(name):
    """A registered cell, its parameters, a state that is not zero, and inputs, all as they come."""
    cell = cells.REGISTRY[name](2, 4)
    params = cell.init_params(jax.random.key(1))
    xs = jax.random.normal(jax.random.key(2), (STEPS, 2))
    state = jax.tree.map(lambda leaf: leaf[-1], unroll.states(cell.step, params, cell.init_state(params), xs))
    return cell, (cell.step, params, state, xs)


def of_size(params, state, x, target):
    return sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(state)) / 2


def is_single(tree):
    return all(leaf.dtype in (jnp.float32, jnp.complex64, jnp.int32, jnp.bool_) for leaf in jax.tree.leaves(tree))


def test_x64_is_off():
    assert not jax.config.jax_enable_x64
    assert jnp.zeros(1).dtype == jnp.float32


@pytest.mark.parametrize("name", sorted(cells.REGISTRY))
def test_a_cell_stays_in_single_precision_and_passes_its_self_checks(name):
    cell, model = model_of(name)
    _, params, state, xs = model
    assert is_single((params, state, cell.step(params, state, xs[0])))
    found = [checks.determinants(*model), checks.products(*model), checks.bounds(*model), checks.terms(*model, None, of_size)]
    assert all(check.passed for check in found), found


@pytest.mark.parametrize("name", ["vanilla", "gru", "lstm"])
def test_every_analysis_returns_single_precision(name):
    _, model = model_of(name)
    J = linearize.jacobians(*model)
    spectrum = lyapunov.spectrum(*model)
    assert is_single((unroll.states(*model), J, spectra.eigenvalues(J), spectra.singular_values(J), flow.log_transport(*model), spectrum.exponents))
    # In double precision from the same Jacobians; each of the STEPS n logs is off by a few ε of the condition of its J.
    wanted = np.linalg.slogdet(np.asarray(J, np.float64))[1].mean()
    condition = float(np.linalg.cond(np.asarray(J, np.float64)).max())
    assert abs(float(jnp.sum(spectrum.exponents)) - wanted) < J.shape[1] * condition * EPS


def test_terms_sum_to_the_gradient():
    cell, (_, params, state, xs) = model_of("lstm")
    loss = lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(unroll.states(cell.step, p, state, xs))) / 2
    wanted, found = jax.grad(loss)(params), bptt.decompose(cell.step, params, state, xs, None, of_size).total
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == jnp.float32
        assert float(jnp.abs(a - b).max()) < 30 * EPS * max(1, float(jnp.abs(b).max()))


def test_products_beyond_the_range_of_single_precision_are_logs():
    steep = jnp.full((400, 1, 1), 10.0)
    logs = flow.log_transport(lambda p, h, x: x @ h, (), jnp.ones(1), steep)
    assert abs(float(logs[-1, 0]) - 400 * np.log(10)) < 400 * EPS * 400 * np.log(10)
    assert abs(float(lyapunov.from_jacobians(steep).exponents[0]) - np.log(10)) < 30 * EPS


def test_a_hundred_thousand_steps_keep_their_mean():
    run = lyapunov.spectrum(lambda a, h, x: a * h, 0.999, 1.0, None, length=100_000)
    assert abs(float(run.exponents[0]) - np.log(float(np.float32(0.999)))) < EPS


@pytest.mark.parametrize(
    "name",
    ["contracting linear", "unstable linear", "tanh net, g = 0.5", "counterexample 3, θ = 0.7", "dead ReLU net", "LSTM, forget bias 1, same"],
)
def test_a_known_system_gets_its_verdict(name):
    s = SYSTEMS[name]
    found = diagnosis.diagnose(s.step, s.params, s.state, s.xs, length=s.length)
    assert found.verdict == s.verdict, found.reasons
    assert all(check.passed for check in found.checks), found.checks


def test_training_keeps_its_precision():
    task, cell = tasks.adding(10), cells.with_readout(cells.gru(2, 4), 1)
    params = cell.init_params(jax.random.key(0))
    model, loss = (cell.step, params, cell.init_state(params)), cells.readout_loss(cell, task.loss)
    fit = training.fit(*model, task.sample, loss, steps=4, batch=3, key=jax.random.key(3))
    assert is_single(fit.params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(fit.params))
