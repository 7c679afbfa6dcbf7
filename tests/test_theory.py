import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma

from jaxrnn import lyapunov, theory
from tests.models import noise

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
    phi = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0), "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "identity": lambda a: a}[name]
    steepest = np.max(np.diff(phi(at)) / np.diff(at))
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


@pytest.mark.parametrize(("bias_variance", "weight_variance"), [(0.05, 1.76095), (0.01, 1.42421)])
def test_the_critical_line_of_mean_field_theory(bias_variance, weight_variance):
    assert float(theory.mean_field(weight_variance**0.5, 0, bias_variance**0.5).chi) == pytest.approx(1, abs=1e-4)


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


@pytest.mark.slow
def test_a_network_of_four_hundred_units_has_the_exponent_of_the_theory():
    n, gain = 400, 3.0
    W = gain * noise(5, (n, n)) / np.sqrt(n)
    step = lambda W, h, x: jnp.tanh(W @ h)
    found = lyapunov.spectrum(step, W, noise(6, (n,)), None, length=1500, warmup=200, k=1)
    assert float(found.exponents[0]) == pytest.approx(float(theory.mean_field(gain).lyapunov), abs=0.015)
