"""The self-checks pass on every model, and each planted fault is caught."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import _tree, bptt, checks, flow, linearize, lyapunov
from tests.models import MODELS, STEPS, at_time, noise, of_distance, over_models, over_recurrences


def targets_of(model, length):
    """A random scalar target for every step."""
    return noise(5, (length,))


def run_all(model, length):
    """The four checks by name."""
    xs = jax.tree.map(lambda leaf: leaf[:length], model.xs)
    m = (model.step, model.params, model.state, xs)
    found = [checks.determinants(*m), checks.products(*m), checks.bounds(*m)]
    found.append(checks.terms(*m, targets_of(model, length), of_distance))
    return {check.name: check for check in found}


@over_models
@pytest.mark.parametrize("length", [1, STEPS])
def test_every_self_check_passes_in_float64(model, length):
    found = run_all(model, length)
    assert all(check.passed for check in found.values()), found
    assert found["terms sum to jax.grad"].allowed == 1e-10
    assert found["push and pull equal dense J"].allowed == 1e-12


@over_recurrences
def test_every_self_check_passes_on_every_recurrence(model):
    found = run_all(model, STEPS)
    assert all(check.passed for check in found.values()), found


@over_models
def test_every_self_check_passes_in_float32(model):
    model = model.cast(np.float32)
    xs = model.xs
    m = (model.step, model.params, model.state, xs)
    found = [checks.determinants(*m), checks.products(*m), checks.bounds(*m)]
    found.append(checks.terms(*m, targets_of(model, STEPS).astype(jnp.float32), of_distance))
    assert all(check.passed for check in found), found


def test_a_truncated_and_a_thinned_decomposition_pass_too():
    model = next(m for m in MODELS if m.name == "lstm")
    check = checks.terms(model.step, model.params, model.state, model.xs, targets_of(model, STEPS), of_distance, max_lag=2, times=(2, STEPS))
    assert check.passed, check


def _transposed_push(step, params, lay, state, x, vectors):
    return linearize.pulled(step, params, lay, state, x, vectors)


def _late_push(step, params, lay, state, x, vectors):
    """Linearised at h_t instead of h_{t−1}."""
    ahead = step(params, state, x)
    return ahead, PUSHED(step, params, lay, ahead, x, vectors)[1]


def _late_dense(step, params, lay, state, x):
    ahead = step(params, state, x)
    return DENSE(step, params, lay, ahead, x)[0], ahead


def _dense_without_first_leaf(step, params, lay, state, x):
    jacobian, ahead = DENSE(step, params, lay, state, x)
    return jacobian.at[next(iter(lay.slices.values()))].set(0), ahead


def _push_without_first_leaf(step, params, lay, state, x, vectors):
    ahead, out = PUSHED(step, params, lay, state, x, vectors)
    return ahead, out.at[next(iter(lay.slices.values()))].set(0)


def _transposed_pull(run, k, covectors):
    x = at_time(run.xs, k)
    one = lambda v, x, u: jax.jvp(linearize.in_coordinates(run.step, run.params, run.lay, x), (v,), (u,))[1]
    return jax.vmap(one)(run.before[k], x, covectors)


def _without_first_leaf(self, tree):
    vector = RAVEL(self, tree)
    return vector.at[next(iter(self.slices.values()))].set(0)


PUSHED, DENSE, RAVEL = linearize.pushed, linearize.dense, _tree.Layout.ravel
TERMS, DETERMINANTS, PRODUCTS, BOUNDS = "terms sum to jax.grad", "log growth sums to log|det J|", "push and pull equal dense J", "per-step bounds"
FAULTS = {
    "transpose in the push": (linearize, "pushed", _transposed_push, PRODUCTS),
    "transpose in the terms": (bptt.terms, "_pull", _transposed_pull, TERMS),
    "off by one in time, exponents": (lyapunov.exponents, "pushed", _late_push, DETERMINANTS),
    "off by one in time, transport": (flow.transport, "dense", _late_dense, BOUNDS),
    "off by one in time, terms": (bptt.terms, "preceding", lambda state, later: later, TERMS),
    "dropped state leaf, exponents": (lyapunov.exponents, "pushed", _push_without_first_leaf, DETERMINANTS),
    "dropped state leaf, transport": (flow.transport, "dense", _dense_without_first_leaf, BOUNDS),
    "dropped state leaf, dense Jacobians": (linearize, "dense", _dense_without_first_leaf, PRODUCTS),
    "dropped state leaf, everywhere": (_tree.Layout, "ravel", _without_first_leaf, TERMS),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    module, name, broken, catcher = FAULTS[fault]
    model = next(m for m in MODELS if m.name == "lstm")
    jax.clear_caches()
    monkeypatch.setattr(module, name, broken)
    found = run_all(model, STEPS)
    monkeypatch.undo()
    jax.clear_caches()
    assert not found[catcher].passed, found


def test_every_self_check_catches_a_planted_fault():
    assert {row[3] for row in FAULTS.values()} == {TERMS, DETERMINANTS, PRODUCTS, BOUNDS}


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160])
def test_the_checks_hold_at_any_scale(scale):
    W = scale * noise(3, (3, 3))
    found = [f(lambda W, h, x: W @ h, W, jnp.zeros(3), None, length=1) for f in (checks.determinants, checks.products, checks.bounds)]
    assert all(check.passed for check in found), found


def test_bfloat16_states_are_held_to_their_own_rounding():
    model = next(m for m in MODELS if m.name == "vanilla").cast(jnp.bfloat16)
    m = (model.step, model.params, model.state, model.xs)
    found = [checks.determinants(*m), checks.products(*m), checks.bounds(*m)]
    assert all(check.passed for check in found), found


def test_a_wrong_leaf_with_a_small_gradient_is_seen(monkeypatch):
    model = next(m for m in MODELS if m.name == "vanilla")
    true = bptt.decompose

    def wrong(*args, **kwargs):
        parts = true(*args, **kwargs)
        return parts._replace(total=parts.total | {"W_xh": 3 * parts.total["W_xh"]})

    monkeypatch.setattr(bptt, "decompose", wrong)
    loss = lambda params, h, x, y: jnp.sum(h * y)
    check = checks.terms(model.step, model.params, model.state, 1e-12 * model.xs, targets_of(model, STEPS), loss)
    assert not check.passed, check


def test_jacobians_that_are_not_finite_fail():
    root = lambda params, h, x: jnp.sqrt(0 * h) + x
    assert not checks.determinants(root, (), jnp.ones(2), jnp.ones((5, 2))).passed


def test_a_gradient_that_overflows_is_not_called_right():
    grow = lambda a, h, x: a * h
    check = checks.terms(grow, jnp.array(1e30), jnp.array(1.0), jnp.zeros(20), jnp.zeros(20), lambda a, h, x, y: h**2)
    assert not check.passed


def test_terms_of_a_loss_without_targets_are_checked():
    model = next(m for m in MODELS if m.name == "gru")
    size = lambda params, state, x, target: jnp.sum(state**2)
    check = checks.terms(model.step, model.params, model.state, model.xs, None, size)
    assert check.passed, check
