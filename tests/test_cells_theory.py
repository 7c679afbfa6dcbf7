"""What theory says of each family of cells: bounds, eigenvalues, invariances, and which cell is another in disguise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import cont2discrete

from jaxrnn import cells, initializers, linearize, theory, unroll
from jaxrnn.cells.gated import minimal_rnn
from jaxrnn.cells.independent import indrnn
from jaxrnn.cells.leaky import ctrnn, leaky
from jaxrnn.cells.lmu import lmu
from jaxrnn.cells.lstm import SLSTMState, lstm, lstm_peephole, slstm
from jaxrnn.cells.ode import antisymmetric, cornn, gated_antisymmetric, lem
from jaxrnn.cells.piecewise import plrnn, shallow_plrnn
from jaxrnn.cells.simple import vanilla
from tests.models import noise, relative, shaken
from tests.test_cells_published import EPS, N_IN, N, weights


def jacobian(cell, params, state, x=None):
    xs = None if x is None else x[None]
    return np.asarray(linearize.jacobians(cell.step, params, state, xs, length=1)[0])


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize(("make", "share"), [(antisymmetric, 1.0), (gated_antisymmetric, 0.5)])
def test_euler_steps_of_an_antisymmetric_matrix_are_no_isometries(make, share, gamma):
    epsilon, cell = 0.2, make(0, 6, epsilon=0.2, gamma=gamma)
    params = cell.init_params(jax.random.key(3))
    omega = np.abs(np.linalg.eigvals(np.asarray(params["W_hh"] - params["W_hh"].T))).max()
    found = np.abs(np.linalg.eigvals(jacobian(cell, params, jnp.zeros(6)))).max()
    # At rest tanh' is 1, and the gate ½ at both its factors.
    assert abs(found - math.hypot(1 - share * epsilon * gamma, share * epsilon * omega)) < 1e-12
    assert found > 1 or gamma > 0


def test_the_jacobian_of_cornn_obeys_its_bound_and_its_determinant():
    cell = cornn(N_IN, N)
    params = weights(cell, gain=3.0)
    dt, gamma, epsilon = (float(params["constants"][name]) for name in ("dt", "gamma", "epsilon"))
    W, Z = (np.asarray(params[name]) for name in ("W_hh", "W_zh"))
    largest = lambda M: np.abs(M).sum(1).max()
    s = dt * (largest(W) + gamma + largest(Z)) + abs(1 - dt * epsilon)
    for seed in range(20):
        state, x = shaken(cell.init_state(params), seed, 0.3), noise(seed, (N_IN,))
        J = jacobian(cell, params, state, x)
        slope = 1 - np.tanh(W @ state.y + Z @ state.z + params["W_xh"] @ x + params["b_h"]) ** 2
        assert largest(J) <= max(s, 1 + dt * s)
        assert np.isclose(np.linalg.det(J), np.linalg.det((1 - dt * epsilon) * np.eye(N) + dt * np.diag(slope) @ Z), rtol=1e-12)


def test_independent_units_have_diagonal_jacobians_within_the_bound():
    cell = indrnn(N_IN, 50)
    params = cell.init_params(jax.random.key(0), gain=0.9)
    assert 0 <= params["u_h"].min() <= params["u_h"].max() <= 0.9
    J = jacobian(cell, params, jnp.abs(noise(1, (50,))), noise(2, (N_IN,)))
    assert not (J - np.diag(np.diag(J))).any()
    assert 0 < np.linalg.norm(J, 2) <= cells.structure(cell.step).slope_bound * params["u_h"].max()


def test_the_slope_of_erf_is_bounded_by_that_at_zero():
    cell = vanilla(0, N, "erf")
    params = {**weights(cell), "b_h": jnp.zeros(N)}
    bound = cells.structure(cell.step).slope_bound * np.linalg.norm(params["W_hh"], 2)
    assert np.isclose(np.linalg.norm(jacobian(cell, params, jnp.zeros(N)), 2), bound, rtol=10 * EPS)
    assert all(np.linalg.norm(jacobian(cell, params, noise(seed, (N,))), 2) < bound for seed in range(10))


def test_minimal_rnn_obeys_its_bound():
    cell = minimal_rnn(N_IN, N)
    params = weights(cell, gain=2.0)
    norms = [np.linalg.norm(jacobian(cell, params, jnp.tanh(noise(seed, (N,))), noise(seed + 50, (N_IN,))), 2) for seed in range(20)]
    assert max(norms) <= 1 + np.linalg.norm(params["W_hh"], 2) / 2


def test_lem_stays_within_one():
    cell = lem(N_IN, N)
    found = unroll.states(cell.step, weights(cell, size=3.0), cell.init_state(weights(cell)), 5 * noise(1, (200, N_IN)))
    assert max(np.abs(leaf).max() for leaf in found) <= 1


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_the_stabiliser_of_slstm_changes_no_output(forget):
    cell = slstm(N_IN, N, forget=forget)
    params, xs = weights(cell), noise(1, (30, N_IN))
    start = SLSTMState(*(jnp.abs(noise(seed, (N,))) for seed in range(4)))
    shift = noise(5, (N,))
    shifted = start._replace(c=start.c * jnp.exp(-shift), n=start.n * jnp.exp(-shift), m=start.m + shift)
    one, other = (unroll.states(cell.step, params, state, xs).h for state in (start, shifted))
    assert relative(one, other) < 1e-13
    direction = jnp.concatenate([jnp.zeros(N), -start.c, -start.n, jnp.ones(N)])
    after = cell.step(params, start, xs[0])
    moved = jacobian(cell, params, start, xs[0]) @ np.asarray(direction)
    input_won = np.isclose(after.m, (params["W_hh"] @ start.h + params["W_xh"] @ xs[0] + params["b_h"])[:N], rtol=1e-12)
    kept = np.concatenate([np.zeros(N), -after.c, -after.n, np.ones(N)]) * np.tile(~input_won, 4)
    assert np.abs(moved - kept).max() < 1e-12
    assert 0 < input_won.sum() < N


def test_the_memory_of_lmu_is_the_held_legendre_system_and_recalls_its_window():
    d, theta = 12, 40.0
    i, j = np.mgrid[:d, :d]
    A = np.where(i < j, -1.0, (-1.0) ** (i - j + 1)) * (2 * i + 1) / theta
    B = ((2 * i + 1) * (-1.0) ** i)[:, :1] / theta
    held = cont2discrete((A, B, np.eye(d), np.zeros((d, 1))), 1.0)
    params = lmu(1, 4, memory=d, theta=theta).init_params(jax.random.key(0))
    assert relative(params["constants"]["A"], held[0]) < 1e-12
    assert relative(params["constants"]["B"], held[1][:, 0]) < 1e-12
    alone = {**params, "e_x": jnp.ones(1), "e_h": jnp.zeros(4)}
    u = np.sin(0.08 * np.arange(400))
    cell = lmu(1, 4, memory=d, theta=theta)
    m = unroll.states(cell.step, alone, cell.init_state(alone), jnp.asarray(u)[:, None]).m
    # Shifted Legendre polynomials are 1 at the far end of the window; an input held for a step lags by half of one, and errs by O(ω²).
    assert np.abs(np.asarray(m).sum(1)[100:] - np.sin(0.08 * (np.arange(400)[100:] + 0.5 - theta))).max() < 0.08**2
    found = np.sort(np.log(np.abs(np.linalg.eigvals(params["constants"]["A"]))))
    assert np.abs(found - np.sort(np.linalg.eigvals(A).real)).max() < 1e-9


@pytest.mark.parametrize(("make", "layers"), [(plrnn, ("W_hh", "W_hh")), (shallow_plrnn, ("W_lh", "W_hl"))])
def test_piecewise_linear_jacobians_depend_on_signs_only(make, layers):
    cell = make(0, N)
    params, z = weights(cell), noise(1, (N,))
    W = np.asarray(params[layers[0]])
    if make is plrnn:
        wanted = (W - np.diag(np.diag(W))) @ np.diag(z > 0)
    else:
        wanted = W @ np.diag(params["W_hl"] @ z + params["b_l"] > 0) @ np.asarray(params["W_hl"])
    assert relative(jacobian(cell, params, z), np.diag(params["A"]) + wanted) < 10 * EPS


def test_potentials_are_leaky_rates_seen_through_the_weights():
    rates, potentials = leaky(0, N, leak=0.1), ctrnn(0, N, dt=0.2, tau=2.0)
    params = weights(rates)
    v = lambda r: r @ params["W_hh"].T + params["b_h"]
    constants = potentials.init_params(jax.random.key(0))["constants"]
    r = unroll.states(rates.step, params, noise(1, (N,)), None, length=40)
    found = unroll.states(potentials.step, {**params, "constants": constants}, v(noise(1, (N,))), None, length=40)
    assert relative(found, v(r)) < 1e-13


def test_a_leak_of_one_is_the_vanilla_cell():
    cell = leaky(N_IN, N, leak=1.0)
    params, h, x = weights(cell), noise(1, (N,)), noise(2, (N_IN,))
    assert relative(cell.step(params, h, x), vanilla(N_IN, N).step(params, h, x)) == 0


def test_peepholes_of_zero_are_the_lstm():
    cell = lstm_peephole(N_IN, N)
    params = weights(cell)
    state, x = shaken(cell.init_state(params), 1, 0.5), noise(2, (N_IN,))
    assert relative(cell.step({**params, "w_ch": jnp.zeros(3 * N)}, state, x), lstm(N_IN, N).step(params, state, x)) == 0


def test_chrono_biases_oppose_each_other_and_span_the_horizon():
    i, f, g, o = np.split(np.asarray(lstm(1, 2000, "identity").init_params(jax.random.key(0), chrono=100.0)["b_h"]), 4)
    assert (f == -i).all()
    assert not np.concatenate([g, o]).any()
    # e^b is U(1, 99): mean 50, standard error 98/√12/√2000 = 0.63.
    assert abs(np.exp(f).mean() - 50) < 4 * 0.63
    assert np.exp(f).min() >= 1
    assert np.exp(f).max() <= 99


def test_the_critical_start_has_the_critical_gain():
    params = vanilla(2, 50, init="critical").init_params(jax.random.key(0), bias_sd=0.05**0.5)
    plain = vanilla(2, 50).init_params(jax.random.key(0))
    assert relative(params["W_hh"], plain["W_hh"] * theory.critical_gain(bias_sd=0.05**0.5)) < 10 * EPS
    assert 0.1 < params["b_h"].std() < 0.4
    assert not plain["b_h"].any()


def test_the_slow_start_of_piecewise_linear_cells_is_positive_definite():
    found = np.linalg.eigvalsh(initializers.positive_definite(jax.random.key(1), 8, 8, 0.7))
    assert found[0] > 0
    assert abs(found[-1] - 0.7) < 1e-14
    params = plrnn(2, 8).init_params(jax.random.key(1), gain=0.7)
    assert np.abs(np.linalg.eigvalsh(params["W_hh"] + jnp.diag(params["A"]))[-1] - 0.7) < 1e-14


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vanilla(1, 2, "sigmoid", init="critical"), "no gain for the sigmoid"),
        (lambda: leaky(1, 2, leak=1.5), "must lie in"),
        (lambda: ctrnn(1, 2, dt=0.0), "must be positive"),
        (lambda: antisymmetric(1, 2, epsilon=-1.0), "epsilon=-1.0 must be positive"),
        (lambda: cornn(1, 2, gamma=-1.0), "gamma=-1.0 must not be negative"),
        (lambda: lmu(1, 2, theta=0.0), "theta=0.0 must be positive"),
        (lambda: slstm(1, 2, forget="tanh"), "allowed are exp, sigmoid"),
        (lambda: indrnn(1, 2, "softplus"), "unknown activation"),
        (lambda: initializers.positive_definite(jax.random.key(0), 3, 2), "square weights"),
    ],
)
def test_impossible_choices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
