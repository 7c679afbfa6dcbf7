"""The known answers of science.md, by their row, and its counterexamples to the eigenvalue criterion, by their number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import bptt, cells, flow, linearize, lyapunov, spectra, tasks, theory, unroll
from tests.models import noise, relative

EPS = np.finfo(np.float64).eps


def linear(W, h, x):
    return W @ h


def log_moduli(W):
    return np.sort(np.log(np.abs(np.linalg.eigvals(np.asarray(W)))))[::-1]


def rate_of(factors, periods=500):
    """The largest exponent per step of a periodic product, its first half not counted."""
    jacobians = jnp.stack([jnp.asarray(A) for A in factors] * periods)
    return float(lyapunov.from_jacobians(jacobians, k=1, warmup=len(jacobians) // 2).exponents[0])


# Known answers


def test_row_1_a_linear_unit_transports_by_powers_of_its_weight():
    a, length = 0.9, 40
    xs = noise(1, (length,))
    found = flow.log_transport(lambda p, h, x: p * h + 2.0 * x, a, 0.3, xs)
    lag = np.subtract.outer(np.arange(length + 1), np.arange(length + 1))
    assert np.abs(np.exp(found) - np.where(lag >= 0, a ** np.maximum(lag, 0), 0)).max() < 1e-14
    assert (np.asarray(found)[lag < 0] == -np.inf).all()


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_row_2_a_constant_gaussian_map_has_the_logs_of_its_eigenvalues_on_both_sides_of_zero(gain):
    errors = []
    for seed in range(5):
        W = gain * noise(seed, (32, 32)) / np.sqrt(32)
        run = lyapunov.spectrum(linear, W, jnp.zeros(32), None, length=2100, warmup=100)
        errors.append(np.abs(run.exponents - log_moduli(W)).max())
        # O(log κ / T), κ the condition of the eigenvectors: over a pair of complex eigenvalues growth swings by κ either way.
        assert errors[-1] < 2 * np.log(np.linalg.cond(np.linalg.eig(np.asarray(W))[1])) / 2000
        assert np.sign(run.exponents[0]) == np.sign(np.log(gain))
    assert np.median(errors) < 2e-3


def test_row_2_a_constant_strongly_nonnormal_map_has_them_too():
    # Eigenvectors of condition 1e4, made of two random rotations: far from normal and nowhere near triangular.
    left, right = (np.linalg.qr(np.asarray(noise(seed, (16, 16))))[0] for seed in (3, 4))
    vectors = left @ np.diag(np.logspace(0, 4, 16)) @ right
    W = jnp.asarray(vectors @ np.diag(np.linspace(0.5, 1.5, 16) * (-1) ** np.arange(16)) @ np.linalg.inv(vectors))
    assert np.linalg.norm(W, 2) > 100 * np.abs(np.linalg.eigvals(W)).max()
    run = lyapunov.spectrum(linear, W, jnp.zeros(16), None, length=2000)
    assert np.abs(run.exponents - log_moduli(W)).max() < 0.03


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 3e-4)])
def test_row_3_an_orthogonal_map_is_an_isometry(dtype, tolerance):
    cell = cells.vanilla(1, 64, "identity", init="orthogonal")
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), cell.init_params(jax.random.key(1)))
    start = jnp.ones(64, dtype)
    product = jax.lax.scan(lambda p, _: (linearize.push(cell.step, params, start, None, p)[1], None), jnp.eye(64, dtype=dtype), None, length=1000)[0]
    assert np.abs(spectra.singular_values(product) - 1).max() < tolerance
    assert abs(flow.log_gain(cell.step, params, start, None, length=1000)) < tolerance
    assert np.abs(lyapunov.spectrum(cell.step, params, start, None, length=1000).exponents).max() < tolerance


def test_row_4_an_orthogonal_tanh_net_driven_by_noise_is_not_isometric():
    cell = cells.vanilla(64, 64, init="orthogonal")
    params = cell.init_params(jax.random.key(0)) | {"W_xh": jnp.eye(64)}
    run = lyapunov.spectrum(cell.step, params, jnp.zeros(64), 0.5 * noise(4, (1100, 64)), k=1, warmup=100)
    # The stated −0.27 is rounded to two digits: half a unit, and four standard errors of this run.
    assert abs(run.exponents[0] + 0.27) < 0.005 + 4 * run.standard_errors[0]


@pytest.mark.parametrize(("n", "sigma"), [(2, 2**-0.5), (10, 10**-0.5), (4, 1.0)])
def test_row_5_products_of_gaussian_matrices_have_newmans_exponents(n, sigma):
    length = 4000
    run = lyapunov.from_jacobians(sigma * noise(5, (length, n, n)))
    assert (np.abs(run.exponents - theory.newman_exponents(n, sigma)) < 4 * theory.newman_standard_errors(n, length)).all()


def test_row_6_a_random_tanh_net_at_rest_has_the_logs_of_its_eigenvalues():
    cell = cells.vanilla(1, 32)
    params = cell.init_params(jax.random.key(6), gain=0.8)
    run = lyapunov.spectrum(cell.step, params, noise(6, (32,)), None, length=3000, warmup=1000)
    assert np.sqrt(np.mean((run.exponents - log_moduli(params["W_hh"])) ** 2)) < 1e-3


def tanh_net(n, gain, seed):
    """A random net at gain g, its weights N(0, g²/n), each unit with an input of its own."""
    cell = cells.vanilla(n, n)
    return cell.step, cell.init_params(jax.random.key(seed), gain=gain) | {"W_xh": jnp.eye(n)}, noise(seed, (n,))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "gain", "exponent"), [(400, 2.0, 0.154724), (400, 3.0, 0.310249), (1600, 10.0, 0.856435)])
def test_row_7_a_large_chaotic_net_has_the_exponent_of_mean_field_theory(n, gain, exponent):
    # At g = 10 few units are unsaturated: the bias of a finite net, about −8/N there, is −0.021 of 400 units whatever the seed.
    run = lyapunov.spectrum(*tanh_net(n, gain, 5), None, length=2200, warmup=200, k=1)
    assert abs(run.exponents[0] - exponent) < 0.015


def test_row_8_the_mean_exponent_is_the_determinant_of_the_weights_and_the_mean_log_slope():
    n, length, warmup = 32, 300, 100
    step, params, start = tanh_net(n, 3.0, 8)
    run = lyapunov.spectrum(step, params, start, None, length=length, warmup=warmup)
    hs = np.asarray(unroll.states(step, params, start, None, length=length))[warmup:]
    W = np.asarray(params["W_hh"])
    wanted = np.linalg.slogdet(W)[1] / n + np.log1p(-(hs**2)).mean()
    # h is rounded by ε, so φ' = 1 − h² by 2ε/φ' of itself; and J = diag(φ') W by n ε κ(J), as of any identity of determinants.
    slopes = 1 - hs**2
    doubt = n * EPS * np.linalg.cond(slopes[:, :, None] * W)
    assert doubt.max() < 0.1
    assert abs(run.exponents.mean() - wanted) < 1e-9 + doubt.mean() / n + (2 * EPS / slopes).mean()


@pytest.mark.slow
@pytest.mark.exact
def test_row_9_the_spectrum_of_a_chaotic_net_is_extensive():
    # Clark's figures are those of one net of 4096 units; this one has 400, and 160 exponents reach past the dimension 115.
    n = 400
    exponents = lyapunov.spectrum(*tanh_net(n, 3.0, 9), None, length=900, warmup=300, k=160).exponents
    assert abs(lyapunov.kaplan_yorke(exponents) / n / 0.28717 - 1) < 0.03
    assert abs(lyapunov.entropy_rate(exponents) / n / 0.025106 - 1) < 0.05
    assert abs((exponents > 0).sum() / n / 0.15259 - 1) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "input_sd", "exponent"), [(1.5, 0.5, -0.01673), (1.5, 0.4314, 0.0), (2.0, 1.279, 0.0)])
def test_row_10_a_net_of_four_hundred_units_under_white_input_has_the_exponent_of_mean_field_theory(gain, input_sd, exponent):
    n = 400
    run = lyapunov.spectrum(*tanh_net(n, gain, 10), input_sd * noise(13, (3200, n)), k=1, warmup=200)
    assert abs(run.exponents[0] - exponent) < 0.006


@pytest.mark.parametrize(("bias_variance", "weight_variance"), [(0.05, 1.76095), (0.01, 1.42421)])
def test_row_11_the_critical_line_of_mean_field_theory(bias_variance, weight_variance):
    assert abs(theory.critical_gain(bias_sd=bias_variance**0.5) ** 2 - weight_variance) < 1e-4


@pytest.mark.parametrize("bias", [1.0, 5.0])
def test_row_12_an_lstm_without_recurrence_forgets_at_its_forget_gate(bias):
    n = 16
    cell = cells.lstm(1, n)
    params = cell.init_params(jax.random.key(0), gain=0.0, forget_bias=bias)
    run = lyapunov.spectrum(cell.step, params, cells.LSTMState(noise(7, (n,)), noise(8, (n,))), jnp.zeros((400, 1)))
    # Started at random directions of (h, c) the frame needs one step to fall into c: O(log κ / T).
    assert np.abs(run.exponents[:n] - theory.gate_rate(bias)).max() < np.log(1e3) / 400
    assert (run.exponents[n:] == -np.inf).all()
    assert (run.lost[n:] > 0).all()
    assert not run.lost[:n].any()


def test_row_12_the_forget_gates_give_the_time_scales():
    cell = cells.lstm(1, 2)

    def rates(bias):
        params = cell.init_params(jax.random.key(0), gain=0.0, forget_bias=bias)
        # At c = 0 the Jacobian is constant, and one step takes every frame into its range.
        return np.asarray(lyapunov.spectrum(cell.step, params, cell.init_state(params), None, length=100, warmup=1).exponents[:2])

    assert np.abs(rates(1.0) + 0.313262).max() < 1e-6
    for bias, steps, half_unit in ((1.0, 3.19, 0.005), (5.0, 148.9, 0.05)):
        assert np.abs(-1 / rates(bias) - steps).max() < half_unit
        assert abs(theory.gate_time_scale(bias) - steps) < half_unit


def minimal_gru(params, h, x):
    z = jax.nn.sigmoid(params["W_z"] @ x + params["b_z"])
    return (1 - z) * h + z * (params["W_c"] @ x + params["b_c"])


def test_row_13_a_minimal_gru_without_pre_activation_halves_at_every_step():
    n = 16
    params = {"W_z": noise(14, (n, 2)), "W_c": noise(15, (n, 2)), "b_z": jnp.zeros(n), "b_c": noise(16, (n,))}
    run = lyapunov.spectrum(minimal_gru, params, noise(17, (n,)), jnp.zeros((100, 2)))
    assert np.abs(run.exponents + np.log(2)).max() < 10 * EPS * 100
    assert abs(theory.gate_rate(0.0) + np.log(2)) < EPS


def logistic(r, x, _):
    return r * x * (1 - x)


def henon(params, state, _):
    a, b = params
    return jnp.array([1 - a * state[0] ** 2 + state[1], b * state[0]])


LORENZ_DT = 0.01


def lorenz(params, state, _):
    sigma, rho, beta = params
    f = lambda v: jnp.array([sigma * (v[1] - v[0]), v[0] * (rho - v[2]) - v[1], v[0] * v[1] - beta * v[2]])
    k1 = f(state)
    k2 = f(state + LORENZ_DT / 2 * k1)
    k3 = f(state + LORENZ_DT / 2 * k2)
    k4 = f(state + LORENZ_DT * k3)
    return state + LORENZ_DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def test_row_14_the_logistic_map():
    run = lyapunov.spectrum(logistic, 4.0, 0.3, None, length=50_000, warmup=100)
    # ln|f'| = ln 4|cos| has the mean ln 2; the sum telescopes nearly, so that four block errors are generous.
    assert abs(run.exponents[0] - np.log(2)) < 4 * run.standard_errors[0]
    assert run.standard_errors[0] < 0.01


def test_row_14_the_henon_map():
    run = lyapunov.spectrum(henon, (1.4, 0.3), jnp.array([0.1, 0.1]), None, length=50_000, warmup=1000)
    assert abs(run.exponents.sum() - np.log(0.3)) < 1e-12
    assert abs(run.exponents[0] - 0.4192) < 0.00005 + 4 * run.standard_errors[0]
    assert run.standard_errors[0] < 0.005


def test_row_14_the_lorenz_system_per_unit_of_time():
    run = lyapunov.spectrum(lorenz, (10.0, 28.0, 8 / 3), jnp.ones(3), None, length=60_000, warmup=2000, dt=LORENZ_DT)
    lead, zero, fall = run.exponents
    # The flow contracts volumes at exactly −(σ + 1 + β); RK4 does so up to its local error of order (|rate| dt)^5 / 120 per step.
    assert abs(run.exponents.sum() + 41 / 3) < (14.572 * LORENZ_DT) ** 5 / 120 / LORENZ_DT * 10
    assert abs(lead - 0.9056) < 0.00005 + 4 * run.standard_errors[0]
    # Along the flow the growth telescopes: O(log κ / t) with speeds between 1 and 400 over 580 units of time.
    assert abs(zero) < np.log(400) / 580
    assert abs(fall + 14.572) < 0.0005 + 4 * run.standard_errors[0] + np.log(400) / 580
    assert run.standard_errors[0] < 0.03
    assert abs(2 + (lead + zero) / -fall - 2.062) < 0.0005 + 4 * run.standard_errors[0] / 14.5 + np.log(400) / 580 / 14.5


def antisymmetric(params, h, _):
    W, damping, step_size = params
    return h + step_size * jnp.tanh((W - W.T - damping * jnp.eye(len(h))) @ h)


@pytest.mark.parametrize("damping", [0.0, 0.01, 1.0])
def test_row_15_an_antisymmetric_net_is_an_isometry_up_to_the_square_of_its_step_only(damping):
    n, step_size = 16, 0.1
    W = noise(18, (n, n)) / np.sqrt(n)
    params, rest = (W, damping, step_size), jnp.zeros(n)
    jacobian = linearize.jacobians(antisymmetric, params, rest, None, length=1)[0]
    frequency = np.abs(np.linalg.eigvals(np.asarray(W - W.T))).max()
    wanted = theory.antisymmetric_euler_modulus(step_size, frequency, damping)
    assert abs(spectra.spectral_radius(jacobian) - wanted) < 1e-12
    # J is normal: its singular values are the moduli, and its products grow at the rate of the largest from the first step.
    assert abs(flow.log_gain(antisymmetric, params, rest, None, length=100) - 100 * np.log(wanted)) < 1e-10
    if not damping:
        assert 0 < wanted - 1 <= (step_size * frequency) ** 2 / 2


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_row_16_no_jacobian_exceeds_the_slope_bound_times_the_largest_singular_value(activation):
    cell = cells.vanilla(2, 16, activation)
    params = cell.init_params(jax.random.key(1), gain=2.0)
    jacobians = linearize.jacobians(cell.step, params, jnp.zeros(16), noise(9, (200, 2)))
    bounds = theory.pascanu_bounds(params["W_hh"], theory.SLOPE_BOUNDS[activation])
    assert np.log(spectra.singular_values(jacobians)[:, 0]).max() <= bounds.log_step_bound + 10 * EPS


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 0.4), ("sigmoid", 1.9)])
def test_row_16_below_the_bound_every_gradient_vanishes(activation, gain):
    cell = cells.vanilla(2, 16, activation, init="orthogonal")
    params = cell.init_params(jax.random.key(2), gain=gain)
    bounds = theory.pascanu_bounds(params["W_hh"], theory.SLOPE_BOUNDS[activation])
    assert bounds.must_vanish
    gain_of_50 = flow.log_gain(cell.step, params, jnp.zeros(16), noise(10, (50, 2)))
    assert gain_of_50 <= 50 * bounds.log_step_bound


def test_row_16_above_the_bound_a_gradient_may_still_vanish():
    cell = cells.vanilla(16, 16)
    params = cell.init_params(jax.random.key(3), gain=1.5) | {"W_xh": jnp.eye(16)}
    assert theory.pascanu_bounds(params["W_hh"]).may_explode
    assert lyapunov.spectrum(cell.step, params, jnp.zeros(16), 3 * noise(11, (500, 16)), k=1, warmup=50).exponents[0] < -0.5


def test_row_17_the_baselines_are_the_known_ones():
    for lag in (10, 100, 1000):
        assert abs(theory.copy_baseline(lag) - 10 * np.log(8) / (lag + 20)) < EPS
        assert tasks.copy(lag).baseline == theory.copy_baseline(lag)
    assert tasks.adding(50).baseline == theory.adding_baseline() == 1 / 6
    assert theory.adding_baseline(0.5) == 1 / 24
    assert (theory.guessing(4), theory.guessing(2)) == (np.log(4), np.log(2))


@pytest.mark.parametrize(("weight", "error"), [(1.0, 1 / 6), (0.5, 1 / 24)])
def test_row_17_a_constant_guess_has_the_error_of_adding_at_either_target(weight, error):
    target = weight * np.asarray(tasks.adding(100).sample(jax.random.key(17), 20_000).targets["value"])[:, -1, 0]
    # The variance of weight² (u + v − 1)² is weight⁴ 7/180.
    assert abs(np.mean((target - weight) ** 2) - error) < 4 * weight**2 * np.sqrt(7 / 180 / 20_000)


# Counterexamples to "largest |eigenvalue| < 1 vanishes, > 1 explodes"


def test_counterexample_1_factors_that_vanish_alone_explode_together():
    A = jnp.array([[0.5, 2.0], [0.0, 0.5]])
    assert relative(spectra.spectral_radius(jnp.stack([A, A.T])), jnp.array([0.5, 0.5])) < 1e-7  # a defective eigenvalue: √ε
    assert abs(spectra.spectral_radius(A @ A.T) - (4.5 + np.sqrt(20)) / 2) < 1e-14
    assert abs(rate_of([A.T, A]) - 0.750488) < 5e-7


def test_counterexample_1_nilpotent_factors_explode_too():
    A = jnp.array([[0.0, 2.0], [0.0, 0.0]])
    assert spectra.spectral_radius(A) == spectra.spectral_radius(A.T) == 0
    assert abs(flow.from_jacobians(jnp.stack([A.T, A] * 25))[-1, 0] + 0.5 * np.log(2) - 25 * np.log(4)) < 1e-13
    assert abs(4.0**25 - 1.1259e15) < 5e10


def test_counterexample_2_factors_that_explode_alone_vanish_together():
    A, B = jnp.diag(jnp.array([2.0, 0.1])), jnp.diag(jnp.array([0.1, 2.0]))
    assert (spectra.spectral_radius(jnp.stack([A, B])) == 2).all()
    assert abs(rate_of([A, B]) + 0.804719) < 5e-7


@pytest.mark.parametrize(("theta", "rate"), [(0.3, -0.693), (0.7, 0.508), (np.pi / 2, 1.370)])
def test_counterexample_3_the_same_eigenvalues_at_every_step_and_any_rate(theta, rate):
    rotation = lambda t: np.array([[np.cos(t * theta), -np.sin(t * theta)], [np.sin(t * theta), np.cos(t * theta)]])
    A = np.array([[0.5, 4.0], [0.0, 0.5]])
    jacobians = jnp.asarray(np.stack([rotation(t) @ A @ rotation(t).T for t in range(4000)]))
    assert np.abs(spectra.spectral_radius(jacobians[:50]) - 0.5).max() < 1e-6  # a defective eigenvalue: √(ε ‖A‖)
    found = lyapunov.from_jacobians(jacobians, k=1).exponents[0]
    # In the turning frame the map is R(−θ) A, constant: exact to O(log κ / T), and rounded to three digits.
    exact = np.log(np.abs(np.linalg.eigvals(rotation(-1) @ A)).max())
    assert abs(found - exact) < np.log(100) / 4000 + 5e-4
    assert abs(exact - rate) < 5.1e-4


def test_counterexample_4_a_vanishing_map_amplifies_at_first():
    W = jnp.array([[0.9, 10.0], [0.0, 0.9]])
    gains = [float(flow.log_gain(linear, W, jnp.ones(2), None, length=k)) for k in (8, 9, 10, 62, 63)]
    assert abs(np.exp(gains[1]) - 38.746) < 5e-4
    assert gains[1] == max(gains)
    assert gains[3] > 0 > gains[4]


def test_counterexample_4_a_shift_amplifies_by_fourteen_orders():
    W = 0.5 * jnp.eye(50) + jnp.eye(50, k=1)
    assert abs(spectra.singular_values(W)[0] - 1.4994) < 5e-5
    gains = {k: float(flow.log_gain(linear, W, jnp.ones(50), None, length=k)) for k in (95, 96, 97, 209, 210)}
    assert abs(np.exp(gains[96]) / 5.98e13 - 1) < 1e-3
    assert gains[96] == max(gains.values())
    assert gains[209] > 0 > gains[210]


def test_counterexample_5_a_norm_above_one_at_every_step_and_decay():
    W = jnp.array([[0.0, 1.5], [0.5, 0.0]])
    assert abs(spectra.singular_values(W)[0] - 1.5) < EPS * 10
    assert abs(spectra.spectral_radius(W) - 0.866) < 5e-4
    assert abs(rate_of([W]) + 0.1438) < 5e-5


def test_counterexample_6_weights_are_not_jacobians():
    cell = cells.vanilla(1, 1)
    params = {"W_hh": jnp.full((1, 1), 4.0), "W_xh": jnp.zeros((1, 1)), "b_h": jnp.zeros(1)}
    slope = linearize.jacobians(cell.step, params, jnp.ones(1), None, length=50)[-1, 0, 0]
    assert abs(slope - 0.00539) < 5e-6


@pytest.mark.slow
def test_counterexample_6_noise_quenches_a_net_of_gain_above_one():
    n = 400
    cell = cells.vanilla(n, n)
    params = cell.init_params(jax.random.key(4), gain=1.5) | {"W_xh": jnp.eye(n)}
    run = lyapunov.spectrum(cell.step, params, jnp.zeros(n), noise(12, (3100, n)), k=1, warmup=100)
    assert abs(run.exponents[0] + 0.14183) < 0.006


def test_counterexample_7_the_mean_of_a_product_is_not_typical():
    length, runs = 100, 4001
    factors = jnp.where(jax.random.bernoulli(jax.random.key(7), 0.5, (runs * length, 1)), 2.0, 0.4)
    logs = 100 * np.asarray(lyapunov.finite_time(lambda p, h, x: x * h, (), jnp.ones(1), factors, window=length))[:, 0]
    # P(50 of 100) = 0.08 lies around the median: more than four standard errors 0.5/√4001 of a share to either side.
    assert abs(np.median(logs) - 50 * np.log(0.8)) < 1e-10
    assert abs(np.exp(50 * np.log(0.8)) - 1.4e-5) < 5e-7
    # The mean of the product is 1.2^100, six tenths of it from products with 83 twos and more, of probability 7e-12: no sample sees them.
    assert abs(1.2**100 / 8.3e7 - 1) < 5e-3
    assert np.mean(np.exp(logs)) < 0.5 * 1.2**100
    # The quantiles of log-norms say what happens: nine products of ten have 42 to 58 twos.
    twos = lambda count: count * np.log(2) + (length - count) * np.log(0.4)
    low, high = np.quantile(logs, [0.05, 0.95])
    assert twos(41) - 1e-10 < low < twos(43) + 1e-10
    assert twos(57) - 1e-10 < high < twos(59) + 1e-10


def test_counterexample_8_a_healthy_gradient_may_hold_no_long_lag_at_all():
    n, length = 16, 100
    cell = cells.with_readout(cells.vanilla(2, n, init="orthogonal"), 1)
    params = cell.init_params(jax.random.key(8), gain=0.5)
    loss = cells.readout_loss(cell, lambda prediction, target: jnp.sum((prediction - target) ** 2))
    xs, targets = noise(19, (length, 2)), noise(20, (length, 1))
    parts = bptt.decompose(cell.step, params, jnp.zeros(n), xs, targets, loss)
    norms = {name: float(jnp.linalg.norm(leaf)) for name, leaf in parts.total.items()}
    assert norms["W_hh"] > 0.1 * norms["W_hy"]  # no smaller than that of the readout, which needs no memory
    assert parts.cosine[10] > 0.999  # and a truncation after ten steps changes nothing
    assert 0 < parts.lag_share[50] < 1e-12
    # No Jacobian has a norm above 0.5, so what ∂L_t/∂h_t sends back is halved at least by each step of lag.
    sent = jax.vmap(jax.grad(loss, 1), (None, 0, 0, 0))(params, unroll.states(cell.step, params, jnp.zeros(n), xs), xs, targets)
    lag = np.arange(length)[:, None] - np.arange(length)
    bound = np.log(np.linalg.norm(sent, axis=1))[:, None] - lag * np.log(2)
    assert (np.asarray(parts.log_norms["b_h"]) <= bound + 100 * EPS)[lag >= 0].all()


@pytest.mark.parametrize(("decay", "units", "sensitivity", "digits"), [(0.9, 20_000, 263.89, 0.005), (0.99, 1000, 2.5126e5, 5)])
def test_counterexample_9_an_exponent_near_zero_and_a_derivative_of_huge_variance(decay, units, sensitivity, digits):
    known = theory.curse_of_memory(decay)
    assert abs(known.sensitivity - sensitivity) < digits
    step = lambda p, h, x: p * h + x
    xs = noise(21, (round(20 / (1 - decay)), units))  # until e^−20 of the start is left
    final = lambda p: unroll.states(step, p, jnp.zeros(units), xs)[-1]
    h, slope = jax.jvp(final, (jnp.asarray(decay),), (jnp.ones(()),))
    # Both are Gaussian over the units: a mean square scatters by √(2/units) of itself.
    for sample, wanted in ((h, known.variance), (slope, known.sensitivity)):
        assert abs(np.mean(np.asarray(sample) ** 2) / wanted - 1) < 4 * np.sqrt(2 / units)
    exponents = lyapunov.spectrum(step, decay, jnp.zeros(16), xs[:100, :16]).exponents
    assert np.abs(exponents - np.log(decay)).max() < 100 * EPS
    assert np.log(decay) > -1.06 * (1 - decay)  # ever nearer zero as the derivative diverges
