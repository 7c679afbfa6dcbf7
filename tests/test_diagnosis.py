"""Verdicts on systems whose answer is known, and what the reasons must say."""

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import _words, cells, diagnosis, evidence, flow, lyapunov, remedies


class System(NamedTuple):
    """A model, its sequences and what must be said of it."""

    step: Any
    params: Any
    state: Any
    xs: Any
    verdict: str
    length: int | None = None
    said: str = ""  # part of a reason


def linear(W, h, x):
    """h ← W h."""
    return W @ h


def given(params, h, x):
    """h ← x h: the inputs are the Jacobians."""
    return x @ h


def tanh_map(W, h, x):
    """h ← tanh(W h + x)."""
    return jnp.tanh(W @ h + x)


def gaussian(n, gain, key=0):
    return gain * jax.random.normal(jax.random.key(key), (n, n)) / np.sqrt(n)


def orthogonal(n):
    return jnp.linalg.qr(jax.random.normal(jax.random.key(0), (n, n)))[0]


def noise(shape, sd=1.0):
    return sd * jax.random.normal(jax.random.key(7), shape)


def rotated(theta, T):
    """Counterexample 3: A_t = R(θ)^t A R(θ)^−t, the same eigenvalues at every t."""
    A = np.array([[0.5, 4.0], [0.0, 0.5]])
    out = []
    for t in range(1, T + 1):
        c, s = np.cos(t * theta), np.sin(t * theta)
        R = np.array([[c, -s], [s, c]])
        out.append(R @ A @ R.T)
    return jnp.asarray(np.stack(out))[None]


def cell_system(cell, xs, verdict, said="", bias=None, **scales):
    params = cell.init_params(jax.random.key(1), **scales)
    if bias is not None:
        params = {**params, "b_h": params["b_h"] + bias}
    return System(cell.step, params, cell.init_state(params), xs, verdict, said=said)


A, B = jnp.array([[0.5, 2.0], [0.0, 0.5]]), jnp.array([[0.5, 0.0], [2.0, 0.5]])
D, E = jnp.diag(jnp.array([2.0, 0.1])), jnp.diag(jnp.array([0.1, 2.0]))
two = jnp.array([0.6, 0.8])
n = 32

lstm_bias_5 = cells.lstm(1, n)
SYSTEMS = {
    "contracting linear": System(linear, 0.9 * orthogonal(n), jnp.ones(n), None, "vanishing", 100),
    "orthogonal linear": System(linear, orthogonal(n), jnp.ones(n), None, "stable", 100),
    "unstable linear": System(linear, 1.1 * orthogonal(n), jnp.ones(n), None, "exploding", 100),
    "unstable linear at rest": System(linear, 1.1 * orthogonal(n), jnp.zeros(n), None, "exploding", 100),
    "tanh net, g = 0.5": System(tanh_map, gaussian(n, 0.5), jnp.zeros(n), noise((2, 60, n), 0.3), "vanishing"),
    "tanh net, g = 3": System(tanh_map, gaussian(100, 3.0), noise((100,)), noise((4, 200, 100), 0.0), "chaotic", None, "bounded"),
    "tanh net, g = 3, at rest": System(tanh_map, gaussian(n, 3.0), jnp.zeros(n), jnp.zeros((2, 60, n)), "exploding"),
    "counterexample 1: products of contracting factors grow": System(given, (), two, jnp.stack([B, A] * 50)[None], "exploding", None, "disagrees"),
    "counterexample 1, nilpotent": System(
        given,
        (),
        two,
        jnp.stack([jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([[0.0, 2.0], [0.0, 0.0]])] * 50)[None],
        "exploding",
        None,
        "disagrees",
    ),
    "counterexample 2: products of expanding factors shrink": System(given, (), two, jnp.stack([D, E] * 50)[None], "vanishing", None, "disagrees"),
    "counterexample 3, θ = 0.3": System(given, (), two, rotated(0.3, 100), "vanishing"),
    "counterexample 3, θ = 0.7": System(given, (), two, rotated(0.7, 100), "exploding", None, "disagrees"),
    "counterexample 3, θ = π/2": System(given, (), two, rotated(np.pi / 2, 100), "exploding", None, "disagrees"),
    "counterexample 4: transient growth before the decay": System(
        linear, jnp.array([[0.9, 10.0], [0.0, 0.9]]), two, None, "vanishing", 200, "Transient growth"
    ),
    "counterexample 5: σ₁ = 1.5 at every step": System(linear, jnp.array([[0.0, 1.5], [0.5, 0.0]]), two, None, "vanishing", 100),
    "counterexample 6: w = 4 at its fixed point": System(tanh_map, jnp.full((1, 1), 4.0), jnp.ones(1), jnp.zeros((1, 50, 1)), "vanishing"),
    "counterexample 6: input suppresses chaos": System(tanh_map, gaussian(100, 1.5), noise((100,)), noise((4, 200, 100)), "vanishing"),
    "LSTM, forget bias 5, T = 64": cell_system(lstm_bias_5, noise((8, 64, 1), 0.3), "stable", gain=0.1, forget_bias=5.0),
    "LSTM, forget bias 1, same": cell_system(lstm_bias_5, noise((8, 64, 1), 0.3), "vanishing", gain=0.1, forget_bias=1.0),
    "marginal: gains of random sign": System(given, (), jnp.ones(1), jnp.exp(noise((6, 100, 1, 1))), "undecided"),
    "dead ReLU net": cell_system(cells.vanilla(1, n, "relu"), noise((4, 30, 1), 0.1), "vanishing", "exactly zero", bias=-5.0),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_verdict_and_reasons_of_a_known_system(name):
    s = SYSTEMS[name]
    found = diagnosis.diagnose(s.step, s.params, s.state, s.xs, length=s.length)
    assert found.verdict == s.verdict, found.reasons
    assert any(s.said in reason for reason in found.reasons), found.reasons
    assert all(check.passed for check in found.checks), found.checks
    assert bool(found.remedies) == (found.verdict != "stable")
    assert len({advice.name for advice in found.remedies}) == len(found.remedies)
    assert all(remedies.CATALOGUE[advice.name] == advice.remedy and "nan" not in str(advice) for advice in found.remedies)
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_eigenvalue_criterion_agrees_where_it_is_right():
    s = SYSTEMS["contracting linear"]
    found = diagnosis.diagnose(s.step, s.params, s.state, None, length=100)
    assert any("agrees with the verdict" in reason for reason in found.reasons)


def test_exponents_of_a_batch_are_total_growth_over_total_steps_with_errors_between_sequences():
    cell = cells.vanilla(1, 8)
    params = cell.init_params(jax.random.key(0))
    xs = noise((6, 40, 1))
    e = diagnosis.diagnose(cell.step, params, jnp.zeros(8), xs).evidence
    each = np.stack([lyapunov.spectrum(cell.step, params, jnp.zeros(8), x).block_growth.sum(0) / 40 for x in xs])
    order = np.argsort(-each.mean(0))
    np.testing.assert_allclose(e.exponents, each.mean(0)[order], atol=1e-12)
    np.testing.assert_allclose(e.standard_errors, (each.std(0, ddof=1) / np.sqrt(6))[order], atol=1e-12)


def test_ragged_sequences_are_analysed_to_their_own_end():
    cell = cells.lstm(1, 4)
    params = cell.init_params(jax.random.key(0))
    h0 = cell.init_state(params)
    xs, lengths = np.array(noise((3, 30, 1))), np.array([30, 12, 21])
    xs[1, 12:] = np.nan  # what lies beyond a sequence's end is not read
    loss = cells.readout_loss(cell, lambda h, y: jnp.sum((h - y) ** 2))
    found = diagnosis.diagnose(cell.step, params, h0, jnp.asarray(xs), targets=jnp.zeros((3, 30, 4)), loss=loss, lengths=lengths)
    for b, T in enumerate(lengths):
        np.testing.assert_allclose(found.evidence.log_gain[b], flow.log_gain(cell.step, params, h0, jnp.asarray(xs[b, :T])), atol=1e-10)
    growth = sum(np.asarray(lyapunov.spectrum(cell.step, params, h0, jnp.asarray(xs[b, :T])).block_growth).sum(0) for b, T in enumerate(lengths))
    np.testing.assert_allclose(found.evidence.exponents, -np.sort(-growth / lengths.sum()), atol=1e-10)
    assert found.evidence.gradient is not None
    assert all(check.passed for check in found.checks)


def square(params, h, x):
    """h ← h² + x: escapes to infinity from |h| > 1."""
    return h**2 + x


def test_states_that_overflow_on_the_way_are_reported_not_refused():
    xs = jnp.zeros((3, 40, 1)).at[1].set(1e-3).at[2].set(-0.5)
    loss = lambda params, h, x, y: jnp.sum(h * y)
    found = diagnosis.diagnose(square, jnp.ones(1), jnp.array([1.5]), xs[:2], targets=jnp.ones((2, 40, 1)), loss=loss)
    first = int(np.ceil(np.log2(np.log(np.finfo(float).max) / np.log(1.5))))  # 1.5^(2^t) overflows
    assert found.verdict == "exploding"
    assert found.evidence.first_nonfinite.tolist() == [first, first]
    assert f"from step {first}" in found.reasons[0]
    assert found.evidence.gradient is None
    assert all(check.passed for check in found.checks)


def test_a_model_without_a_single_finite_state_is_undecided():
    blow = lambda params, h, x: h / (x * 0)
    found = diagnosis.diagnose(blow, (), jnp.ones(2), jnp.ones((2, 5, 1)))
    assert found.verdict == "undecided"
    assert "No state is finite" in found.reasons[0]
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_sequences_are_diagnosed(length):
    cell = cells.with_readout(cells.lstm(2, 3), 1)
    params = cell.init_params(jax.random.key(0))
    loss = cells.readout_loss(cell, lambda a, b: jnp.sum((a - b) ** 2))
    found = diagnosis.diagnose(cell.step, params, cell.init_state(params), noise((1, length, 2)), targets=jnp.zeros((1, length, 1)), loss=loss)
    assert all(check.passed for check in found.checks), found.checks
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_second_diagnosis_of_the_same_shapes_compiles_nothing():
    cell = cells.with_readout(cells.gru(1, 5), 2)
    loss = cells.readout_loss(cell, _squared)
    compiled = []

    def listen(event, duration, **_):
        if "backend_compile" in event:
            compiled.append(event)

    def run(seed):
        params = cell.init_params(jax.random.key(seed))
        xs, ys = jax.random.normal(jax.random.key(seed), (3, 7, 1)), jnp.zeros((3, 7, 2))
        diagnosis.diagnose(cell.step, params, cell.init_state(params), xs, targets=ys, loss=loss)

    jax.monitoring.register_event_duration_secs_listener(listen)
    run(0)
    assert compiled
    compiled.clear()
    run(1)
    assert compiled == []


def scaled(params, h, x):
    """h ← x h, unit by unit: the inputs are the Jacobians."""
    return x * h


def test_sequences_that_take_one_trajectory_are_no_evidence_between_them():
    W, h = gaussian(40, 3.0), noise((40,))
    step = lambda W, h, x: jnp.tanh(W @ h)
    one, many = (diagnosis.diagnose(step, W, h, noise((count, 200, 1))).evidence for count in (1, 5))
    assert one.one_trajectory
    assert many.one_trajectory
    assert one.rate_error == pytest.approx(many.rate_error, rel=1e-6)
    assert one.rate_error > 0


def test_a_linear_map_is_never_called_chaotic():
    noisy = lambda W, h, x: W @ h + x
    found = diagnosis.diagnose(noisy, jnp.array([[0.9, 10.0], [0.0, 0.9]]), jnp.zeros(2), noise((16, 30, 2)))
    assert found.verdict == "exploding"  # over 30 steps its transient growth is all there is
    unexcited = diagnosis.diagnose(noisy, jnp.diag(jnp.array([1.2, 0.5])), jnp.zeros(2), noise((8, 40, 2)) * jnp.array([0.0, 1.0]))
    assert unexcited.verdict == "exploding"


def test_the_horizon_of_ragged_sequences_counts_each_to_its_own_end():
    xs = jnp.full((4, 64, 1), 0.9)
    e = diagnosis.diagnose(scaled, (), jnp.ones(1), xs, lengths=[2, 64, 64, 64]).evidence
    assert e.horizon.tolist() == [10, 10, 10]  # 0.9^10 < 1/e < 0.9^9
    assert e.transport.shape == (65, 65)


def test_one_ragged_sequence_is_the_cut_one():
    xs = noise((1, 40, 1, 1))
    short = diagnosis.diagnose(given, (), jnp.ones(1), xs[:, :25])
    cut = diagnosis.diagnose(given, (), jnp.ones(1), xs, lengths=[25])
    assert short.reasons == cut.reasons
    assert short.verdict == cut.verdict


def test_targets_beyond_the_end_are_not_read():
    cell = cells.with_readout(cells.vanilla(1, 3), 1)
    params = cell.init_params(jax.random.key(0))
    ys = np.zeros((2, 9, 1))
    ys[1, 4:] = np.nan
    loss = cells.readout_loss(cell, _squared)
    found = diagnosis.diagnose(cell.step, params, jnp.zeros(3), noise((2, 9, 1)), targets=ys, loss=loss, lengths=[9, 4])
    assert np.isfinite(found.evidence.gradient.log_states).all()
    assert np.isfinite(found.evidence.gradient.lag_share).all()


def test_shares_are_of_the_mean_length():
    loss = lambda params, h, x, y: jnp.sum(h * y)
    found = diagnosis.diagnose(
        lambda a, h, x: a * h + x, jnp.array(0.9), jnp.ones(1), noise((3, 40, 1)), targets=jnp.ones((3, 40, 1)), loss=loss, lengths=[20] * 3
    )
    assert any("by lags of 11 or more (beyond 50% of the length)" in reason for reason in found.reasons), found.reasons


def test_sequences_with_a_zero_product_leave_the_verdict_open_unless_they_are_most():
    xs = np.ones((10, 30, 1))
    xs[:5, 3] = 0
    half = diagnosis.diagnose(scaled, (), jnp.ones(1), xs)
    assert half.verdict == "undecided"
    assert any("In 5 of 10 sequences the product of Jacobians is exactly zero" in reason for reason in half.reasons)
    xs[5, 3] = 0
    assert diagnosis.diagnose(scaled, (), jnp.ones(1), xs).verdict == "vanishing"


def test_a_jacobian_that_is_not_finite_is_named_and_nothing_is_decided():
    root = lambda params, h, x: 0.5 * h + jnp.sqrt(x * h)
    xs = np.ones((4, 12, 1))
    xs[2, 6] = 0  # the derivative of √ at 0
    found = diagnosis.diagnose(root, (), jnp.ones(1), xs)
    assert found.verdict == "undecided"
    assert "first in sequence 2 at step 7" in found.reasons[0]
    assert not any("nan" in sentence for sentence in (*found.reasons, *map(str, found.remedies))), found.reasons
    json.dumps(found.to_dict(), allow_nan=False)


def test_random_keys_and_integer_tokens_may_be_inputs():
    noisy = lambda a, h, x: a * h + jax.random.normal(x["key"], (2,), h.dtype) + x["token"].astype(h.dtype)
    xs = {"key": jax.random.split(jax.random.key(0), (3, 10)), "token": jnp.ones((3, 10), jnp.int32)}
    found = diagnosis.diagnose(noisy, 0.5, jnp.zeros(2), xs, lengths=[10, 7, 10])
    assert found.verdict == "vanishing"


def test_few_sequences_widen_the_interval_by_students_quantile():
    gains = noise((2, 100, 1)) * 0.02 + 0.98 + jnp.array([-0.05, 0.05])[:, None, None]
    e = diagnosis.diagnose(scaled, (), jnp.ones(1), gains).evidence
    low, high = _words.interval(e)
    assert (high - low) / (2 * e.rate_error * 100) == pytest.approx(12.71)


def _squared(prediction, target):
    return jnp.sum((prediction - target) ** 2)


CELL = cells.vanilla(2, 3)
PARAMS = CELL.init_params(jax.random.key(0))
GOOD = {"step": CELL.step, "params": PARAMS, "state": jnp.zeros(3), "xs": np.ones((4, 5, 2))}


def planted(shape, at, value=np.nan):
    out = np.ones(shape)
    out[at] = value
    return out


BAD = {
    "NaN in a sequence": ({"xs": planted((4, 5, 2), (2, 3, 1))}, ValueError, r"xs holds nan at sequence 2, step 4 \(index \(2, 3, 1\)\)"),
    "infinity in a sequence": ({"xs": planted((4, 5, 2), (0, 0, 0), np.inf)}, ValueError, "holds inf at sequence 0, step 1"),
    "NaN in params": ({"params": {**PARAMS, "b_h": planted((3,), 1)}}, ValueError, r"'b_h' of params holds nan at index \(1,\)"),
    "NaN in the state": ({"state": planted((3,), 2)}, ValueError, "state holds nan"),
    "NaN in targets": (
        {"targets": planted((4, 5), (1, 1)), "loss": lambda p, h, x, y: y * h.sum()},
        ValueError,
        "targets holds nan at sequence 1, step 2",
    ),
    "no batch axis": ({"xs": np.ones(5)}, ValueError, r"shape \(5,\); axes 0 and 1 must be sequences and time: add a batch axis"),
    "no sequences": ({"xs": np.ones((0, 5, 2))}, ValueError, "different or no sequences"),
    "no steps": ({"xs": np.ones((4, 0, 2))}, ValueError, "0 steps; at least 1"),
    "leaves of different batch": ({"xs": (np.ones((4, 5, 2)), np.ones((3, 5, 2)))}, ValueError, "different or no sequences"),
    "autonomous without length": ({"xs": None}, ValueError, "pass length=T"),
    "length against xs": ({"length": 6}, ValueError, "length=6 but xs has 5 steps"),
    "lengths too long": ({"lengths": [5, 5, 6, 5]}, ValueError, r"must be 4 integers in \[1, 5\]"),
    "lengths of the wrong count": ({"lengths": [5, 5]}, ValueError, "must be 4 integers"),
    "lengths without xs": ({"xs": None, "length": 5, "lengths": [5]}, ValueError, "xs is None"),
    "targets without loss": ({"targets": np.ones((4, 5))}, TypeError, "give both, or neither"),
    "loss without targets": ({"loss": lambda p, h, x, y: h.sum()}, TypeError, "give both, or neither"),
    "targets of another batch": ({"targets": np.ones((3, 5)), "loss": lambda p, h, x, y: h.sum()}, ValueError, r"must begin with \(4, 5\)"),
    "loss is a vector": ({"targets": np.ones((4, 5)), "loss": lambda p, h, x, y: h}, TypeError, "must return one real number"),
    "integer state": ({"state": np.zeros(3, np.int32)}, TypeError, "leaf 'h' of the state has dtype int32"),
    "step changes shape": ({"step": lambda p, h, x: h[:2]}, TypeError, r"from float64\[3\] to float64\[2\]"),
    "mismatched sizes": ({"xs": np.ones((4, 5, 7))}, TypeError, r"step could not take state float64\[3\]; x float64\[7\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_at_the_border_with_what_to_do(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change, error, message = BAD[case]
    arguments = {**GOOD, **change}
    with pytest.raises(error, match=message):
        diagnosis.diagnose(**arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [(2, 8, 6, 100), (1, 1, 1, 1), (32, 64, 64, 5000), (16, 784, 256, 300_000), (1000, 1000, 64, 5000)])
def test_a_plan_never_exceeds_what_there_is(sizes):
    B, T, n, _ = sizes
    todo = evidence.plan(*sizes)
    assert 1 <= todo.sequences <= B
    assert todo.transport_sequences <= todo.sequences
    assert todo.gradient_sequences <= todo.sequences
    assert todo.jacobians <= B * T
    assert todo.check_steps <= T
    assert todo.max_lag < T
    assert todo.exponents <= n


def test_sequences_that_are_too_many_are_thinned_and_said_so(monkeypatch):
    monkeypatch.setattr(evidence, "plan", lambda *sizes, plan=evidence.plan: plan(*sizes)._replace(sequences=2, transport_sequences=2))
    found = diagnosis.diagnose(scaled, (), jnp.ones(1), jnp.full((3, 30, 1), 0.5), lengths=[20, 10, 30])
    assert found.verdict == "vanishing"
    assert found.evidence.chosen.tolist() == [0, 1]
    assert any("2 of 3 sequences" in reason for reason in found.reasons)
    assert np.isnan(found.evidence.transport[21:]).all()
