import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma

from jaxrnn import theory
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
