import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from scipy.special import digamma

from jaxrnn import lyapunov, theory
from jaxrnn.cells import simple
from tests.models import noise, relative

EPS = np.finfo(np.float64).eps


@pytest.mark.parametrize(
    ("n", "sigma", "wanted"),
    [
        (2, 2**-0.5, [-0.288608, -0.981755]),
        (10, 10**-0.5, [-0.051660]),
        (4, 1.0, [0.557966, 0.364819, 0.057966, -0.635181]),
    ],
)
def test_row_5_newmans_exponents_have_their_published_values(n, sigma, wanted):
    found = theory.newman_exponents(n, sigma)
    assert found.shape == (n,)
    assert np.abs(found[: len(wanted)] - np.array(wanted)).max() < 5.1e-7
    assert (np.diff(found) < 0).all()


def test_newmans_exponents_sum_to_the_mean_log_determinant():
    # E ln|det G| = Σ_i E ln χ_i = ½ Σ_i [ln 2 + ψ(i/2)]: Goodman 1963, another route to their sum.
    n = 7
    wanted = 0.5 * sum(np.log(2) + digamma(i / 2) for i in range(1, n + 1))
    assert abs(theory.newman_exponents(n, 1.0).sum() - wanted) < 100 * EPS


def test_scaling_the_entries_shifts_every_exponent_by_its_log():
    assert np.abs(theory.newman_exponents(5, 3.0) - theory.newman_exponents(5, 1.0) - np.log(3)).max() < 20 * EPS


@pytest.mark.parametrize(
    ("slope", "scale", "vanish", "explode"), [(1.0, 0.9, True, False), (1.0, 1.1, False, True), (0.25, 3.9, True, False), (0.25, 4.1, False, True)]
)
def test_row_16_the_bound_of_pascanu_decides_at_one_over_gamma(slope, scale, vanish, explode):
    rotation = jnp.asarray(np.linalg.qr(np.asarray(noise(1, (5, 5))))[0])
    found = theory.pascanu_bounds(scale * rotation, slope)
    assert abs(found.largest_singular_value - scale) < 20 * EPS
    assert abs(found.log_step_bound - np.log(slope * scale)) < 20 * EPS
    assert (bool(found.must_vanish), bool(found.may_explode)) == (vanish, explode)


def test_at_the_bound_nothing_is_decided():
    found = theory.pascanu_bounds(jnp.eye(2))
    assert not found.must_vanish
    assert not found.may_explode


@pytest.mark.parametrize("name", theory.SLOPE_BOUNDS)
def test_the_slope_bounds_are_the_suprema_of_the_slopes(name):
    at = np.linspace(-30, 30, 60001)
    steepest = np.max(np.diff(np.asarray(simple.ACTIVATIONS[name](jnp.asarray(at)))) / np.diff(at))
    # The steepest secant of a grid of 1e-3 misses the supremum by O(1e-6).
    assert theory.SLOPE_BOUNDS[name] - 1e-6 < steepest < theory.SLOPE_BOUNDS[name] + 1e-10


@pytest.mark.parametrize(
    ("gain", "input_sd", "exponent", "tolerance"),
    [
        *((g, 0.0, value, 1e-5) for g, value in ((1.5, 0.065217), (2.0, 0.154724), (3.0, 0.310249), (10.0, 0.856435))),
        (1.5, 0.5, -0.01673, 1e-5),
        (1.5, 1.0, -0.14183, 1e-5),
        (1.5, 0.4314, 0.0, 1e-4),  # the input strength that just suppresses chaos
        (2.0, 1.279, 0.0, 1e-4),
        (0.9, 0.0, np.log(0.9), 1e-12),
    ],
)
def test_the_leading_exponent_of_a_wide_network_is_the_known_one(gain, input_sd, exponent, tolerance):
    assert float(theory.mean_field(gain, input_sd).lyapunov) == pytest.approx(exponent, abs=tolerance)


def test_the_mean_exponent_of_a_wide_network_is_the_known_one():
    assert float(theory.mean_field(3.0).mean_exponent) == pytest.approx(-2.272805, abs=1e-5)


def test_the_variance_is_a_fixed_point_and_silence_is_the_answer_below_the_critical_gain():
    z = np.linspace(-12, 12, 200_001)
    mean = lambda values: np.trapezoid(values * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), z)
    for activation, phi in (("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0)), ("identity", lambda x: x)):
        found = theory.mean_field(0.7, 0.3, 0.2, activation)
        assert float(found.variance) == pytest.approx(0.49 * mean(phi(np.sqrt(found.variance) * z) ** 2) + 0.09 + 0.04, rel=1e-7)
    for activation in ("tanh", "relu", "identity"):
        assert theory.mean_field(0.9, activation=activation).variance == 0
    assert theory.mean_field(0.9, activation="erf").variance > 0  # its slope at 0 is 2/√π
    assert theory.mean_field(0.8, activation="erf").variance == 0
    assert theory.mean_field(1.5, 0.1, activation="relu").variance == np.inf
    with pytest.raises(ValueError, match="unknown activation 'gelu'; allowed are erf, identity, relu, tanh"):
        theory.mean_field(1.0, activation="gelu")


def test_the_scatter_of_newmans_exponents_is_that_of_independent_products():
    n, length, runs = 3, 20, 400
    found = jax.vmap(lambda j: lyapunov.from_jacobians(j).block_growth.sum(0) / length)(noise(7, (runs, length, n, n)))
    # The standard deviation of 400 nearly Gaussian numbers scatters by 1/√798.
    assert np.abs(found.std(0) / theory.newman_standard_errors(n, length) - 1).max() < 4 / np.sqrt(2 * (runs - 1))


def test_complex_newman_exponents_appear_twice_in_real_coordinates():
    n, length, sigma = 4, 4000, 0.7
    z = sigma / np.sqrt(2) * np.asarray(noise(8, (length, n, n), np.complex128))
    real = np.stack([np.stack([z.real, -z.imag], -1), np.stack([z.imag, z.real], -1)], -2).transpose(0, 1, 3, 2, 4).reshape(length, 2 * n, 2 * n)
    # Interleaved (re, im): a frame of coordinates is one of complex vectors v, iv, and stays one.
    run = lyapunov.from_jacobians(jnp.asarray(real), frame=jnp.eye(2 * n))
    pairs = run.exponents.reshape(n, 2)
    assert np.abs(pairs[:, 0] - pairs[:, 1]).max() < 1e-10
    # ln|R_ii|² is the log of a Gamma(n − i + 1) variable, of variance ψ₁.
    standard_errors = np.sqrt(scipy.special.polygamma(1, np.arange(n, 0, -1)) / (4 * length))
    assert (np.abs(pairs[:, 0] - theory.complex_newman_exponents(n, sigma)) < 4 * standard_errors).all()


def test_one_complex_factor_has_the_exponent_of_an_exponential_variable():
    assert abs(theory.complex_newman_exponents(1, 2.0)[0] - (np.log(2) - np.euler_gamma / 2)) < 10 * EPS


def test_the_circular_law_shares_out_a_mean_of_minus_one_half():
    found = theory.circular_law_exponents(300, 1.7)
    assert abs(found.mean() - np.log(1.7) + 0.5) < 300 * EPS
    assert (np.diff(found) < 0).all()
    first = scipy.integrate.quad(lambda w: 0.5 * np.log(w), 299 / 300, 1)[0] * 300
    assert abs(found[0] - np.log(1.7) - first) < 300 * EPS


def test_the_circular_law_ranks_the_eigenvalues_of_a_large_matrix():
    n = 400
    found = np.log(np.abs(np.linalg.eigvals(np.asarray(noise(9, (n, n))) / np.sqrt(n))))
    rank = (found[:, None] > np.asarray(theory.circular_law_exponents(n))).sum(0)
    # √(n/2π) eigenvalues reach over the edge on average (Kostlan 1992), and the number within a disc has a standard deviation of at
    # most (n/π)^¼ (Ginibre 1965), √2 times that where eigenvalues come in conjugate pairs; half a slice for the place in a slice.
    assert np.abs(rank - np.arange(1, n + 1)).max() < np.sqrt(n / (2 * np.pi)) + 4 * np.sqrt(2) * (n / np.pi) ** 0.25 + 1


ACTIVATIONS = ("tanh", "erf", "relu", "identity")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_without_drive_the_critical_gain_is_one_over_the_slope_at_rest(activation):
    wanted = {"tanh": 1.0, "erf": np.sqrt(np.pi) / 2, "relu": np.sqrt(2), "identity": 1.0}[activation]
    assert abs(theory.critical_gain(activation=activation) - wanted) < 20 * EPS


@pytest.mark.parametrize("activation", ["tanh", "erf"])
@pytest.mark.parametrize(("input_sd", "bias_sd"), [(1e-3, 0.0), (0.3, 0.0), (0.0, 0.3), (0.7, 2.0), (100.0, 0.0)])
def test_at_the_critical_gain_a_perturbation_keeps_its_mean_square(activation, input_sd, bias_sd):
    gain = theory.critical_gain(input_sd, bias_sd, activation)
    # Two bisections, each good to rounding; the stable variance answers to its drive with a slope of up to about 1/s.
    assert abs(theory.mean_field(gain, input_sd, bias_sd, activation).chi - 1) < 1e3 * EPS
    below, above = (theory.mean_field(gain * f, input_sd, bias_sd, activation).chi for f in (0.99, 1.01))
    assert below < 1 < above


def test_the_critical_gain_of_erf_is_the_root_of_its_closed_form():
    # Williams 1997: E erf(√q z)² = (2/π) arcsin(2q/(1 + 2q)); E erf'(√q z)² = (4/π)/√(1 + 4q).
    drive = 0.3**2
    gain_squared = lambda q: np.pi / 4 * np.sqrt(1 + 4 * q)
    q = scipy.optimize.brentq(lambda q: q - gain_squared(q) * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)) - drive, 1e-6, 10, xtol=1e-15)
    assert abs(theory.critical_gain(0.3, activation="erf") - np.sqrt(gain_squared(q))) < 1e3 * EPS


@pytest.mark.parametrize(("gain", "wanted", "half_unit"), [(1.5, 0.4314, 5e-5), (2.0, 1.279, 5e-4)])
def test_row_10_the_input_that_just_suppresses_chaos(gain, wanted, half_unit):
    assert abs(theory.critical_input_sd(gain) - wanted) < half_unit


@pytest.mark.parametrize("activation", ["tanh", "erf"])
@pytest.mark.parametrize("gain", [1.2, 3.0, 100.0])
def test_the_critical_input_is_the_inverse_of_the_critical_gain(activation, gain):
    found = theory.critical_gain(theory.critical_input_sd(gain, activation), activation=activation)
    assert abs(found - gain) < 1e4 * EPS * gain


def test_where_no_input_is_critical_the_answer_is_nan_and_zero_at_the_edge():
    assert np.isnan([theory.critical_input_sd(0.99), theory.critical_input_sd(0.88, "erf"), theory.critical_input_sd(0.0)]).all()
    assert np.isnan([theory.critical_input_sd(2.0, "relu"), theory.critical_input_sd(2.0, "identity"), theory.critical_input_sd(np.nan)]).all()
    assert theory.critical_input_sd(1.0) == 0


def test_the_critical_lines_work_under_jit_and_vmap_and_refuse_unknown_activations():
    drives = jnp.array([0.0, 0.5, 2.0])
    together = jax.jit(jax.vmap(theory.critical_gain))(drives)
    assert relative(together, jnp.stack([theory.critical_gain(s) for s in drives])) < 100 * EPS
    gains = jnp.array([0.5, 1.5, 3.0])
    apart = jnp.stack([theory.critical_input_sd(g) for g in gains])
    assert np.allclose(jax.jit(jax.vmap(theory.critical_input_sd))(gains), apart, rtol=100 * EPS, atol=0, equal_nan=True)
    for function in (theory.critical_gain, theory.critical_input_sd):
        with pytest.raises(ValueError, match="unknown activation 'gelu'"):
            function(1.0, activation="gelu")


@pytest.mark.parametrize("bias", [-30.0, -1.0, 0.0, 1.0, 5.0, 40.0, 300.0])
def test_a_gates_bias_and_its_time_scale_are_inverse_and_lose_no_digit(bias):
    time_scale = theory.gate_time_scale(bias)
    # ln σ(b) = −ln(1 + e^−b); where σ(b) rounds to 1 the time scale is e^b.
    assert abs(time_scale * np.log1p(np.exp(-bias)) - 1) < 10 * EPS
    assert abs(theory.gate_bias(time_scale) - bias) < 10 * EPS * (1 + abs(bias))


def test_a_minimal_gru_forgets_by_the_gate_it_does_not_open():
    a = np.linspace(-3, 3, 13)
    assert np.abs(theory.gate_rate(-a) - np.log(1 - 1 / (1 + np.exp(-a)))).max() < 100 * EPS


def test_the_chrono_bias_is_the_gates_at_long_times():
    for time_scale in (30.0, 1000.0):
        difference = theory.gate_bias(time_scale) - np.log(time_scale - 1)
        # −ln(e^u − 1) − ln(1/u − 1) = −ln[(1 + u/2 + …)(1 − u)] = u/2 + O(u²), u = 1/T
        assert abs(difference - 0.5 / time_scale) < 1 / time_scale**2


def test_gate_biases_at_the_border():
    assert (theory.gate_bias(np.inf), theory.gate_bias(0.0)) == (np.inf, -np.inf)
    assert np.isnan(theory.gate_bias(-1.0))
    assert theory.gate_time_scale(np.inf) == np.inf
    assert abs(theory.gate_bias(1e-5) + 1e5) < 1e5 * 10 * EPS  # e^(1/T) would overflow


RINGS = [(0.0, 0.5), (0.4, 0.8), (0.9, 0.999), (0.99999, 0.999999)]


@pytest.mark.parametrize(("r_min", "r_max"), RINGS)
def test_the_means_over_a_ring_are_those_of_quadrature(r_min, r_max):
    found = theory.lru_ring(r_min, r_max)
    low, high = r_min**2, r_max**2
    mean = lambda f: scipy.integrate.quad(f, low, high, epsabs=0, epsrel=1e-13)[0] / (high - low)
    # r² is known to ε, hence 1 − r² and the width of a thin ring to ε over themselves.
    doubt = 100 * EPS / min(1 - high, high - low)
    assert abs(found.mean_exponent - mean(lambda w: 0.5 * np.log(w))) < 1e-13 + doubt * abs(found.mean_exponent)
    assert abs(found.variance_gain / mean(lambda w: 1 / (1 - w)) - 1) < 1e-12 + doubt
    assert found.largest_exponent == np.log(r_max)


@pytest.mark.parametrize(("r_min", "r_max"), RINGS)
def test_the_exponents_of_a_ring_share_out_its_mean_in_descending_order(r_min, r_max):
    found, ring = theory.lru_exponents(50, r_min, r_max), theory.lru_ring(r_min, r_max)
    assert abs(found.mean() - ring.mean_exponent) < 100 * EPS
    assert (np.diff(found) < 0).all()
    assert np.log(r_max) > found[0]
    assert found[-1] > np.log(r_min) if r_min else found[-1] > -10


def test_the_exponents_of_a_ring_are_the_expected_order_of_random_units():
    n, draws, low, high = 64, 4000, 0.6**2, 0.9**2
    u = np.random.default_rng(1).uniform(size=(draws, n))
    units = np.sort(0.5 * np.log(low + (high - low) * u), 1)[:, ::-1]
    # E U_(k) = k/(n+1) is within 1/2n of the middle of slice k, its variance below 1/4n; slope and curvature of ½ ln are at most d/2low, d²/2low².
    slope, curvature = (high - low) / (2 * low), (high - low) ** 2 / (2 * low**2)
    bias = slope / (2 * n) + curvature / (8 * n) + curvature / (24 * n**2)
    assert (np.abs(units.mean(0) - theory.lru_exponents(n, 0.6, 0.9)) < bias + 4 * units.std(0) / np.sqrt(draws)).all()


def test_a_ring_of_no_width_is_a_circle_and_a_wrong_one_nan():
    for r in (0.5, 0.9):
        assert relative(theory.lru_ring(r, r), (np.log(r), np.log(r), 1 / (1 - r**2))) < 10 * EPS
        assert relative(theory.lru_exponents(3, r, r), np.full(3, np.log(r))) < 10 * EPS
    assert tuple(theory.lru_ring(0.0, 0.0)) == (-np.inf, -np.inf, 1)
    assert tuple(theory.lru_ring(0.0, 1.0)) == (-0.5, 0, np.inf)
    assert tuple(theory.lru_ring(1.0, 1.0)) == (0, 0, np.inf)
    for ring in ((0.9, 0.5), (0.5, 1.1), (-0.5, 0.5)):
        assert np.isnan(theory.lru_ring(*ring)).all()
        assert np.isnan(theory.lru_exponents(2, *ring)).all()


@pytest.mark.parametrize("decay", [0.0, 0.9, -0.9, 0.9j, 0.99])
def test_the_curse_of_memory_is_the_sum_of_its_series(decay):
    k = np.arange(1, 6001)
    powers = np.abs(decay) ** (2.0 * (k - 1))  # h = Σ λ^(k−1) x, dh/dλ = Σ k λ^(k−1) x one step later
    found = theory.curse_of_memory(decay)
    assert relative(found, (powers.sum(), (k**2 * powers).sum())) < 1e4 * EPS


def test_beyond_the_unit_circle_memory_has_no_finite_variance():
    for decay in (1.0, -1.0, 1.5, 1j):
        assert tuple(theory.curse_of_memory(decay)) == (np.inf, np.inf)
    assert np.isnan(theory.curse_of_memory(np.nan)).all()


def test_numbers_that_cannot_be_sizes_are_refused():
    for function in (lambda: theory.newman_exponents(0, 1.0), lambda: theory.circular_law_exponents(0), lambda: theory.lru_exponents(0, 0.1, 0.2)):
        with pytest.raises(ValueError, match="n=0 must be at least 1"):
            function()
    with pytest.raises(ValueError, match="length=0 must be at least 1"):
        theory.newman_standard_errors(2, 0)
    with pytest.raises(ValueError, match="lag=0 must be at least 1"):
        theory.copy_baseline(0)
    with pytest.raises(TypeError, match="classes must be an int"):
        theory.guessing(2.5)
