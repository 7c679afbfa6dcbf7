import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxrnn import parametrize
from tests.models import noise, relative

MAPS = {
    "exp": parametrize.exp,
    "cayley": parametrize.cayley,
    "cayley scaled": lambda a: parametrize.cayley(a, jnp.where(jnp.arange(len(a)) % 2, 1, -1).astype(a.dtype)),
    "householder": parametrize.householder,
}
over_maps = pytest.mark.parametrize("name", MAPS)


@over_maps
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_what_comes_out_is_orthogonal_to_rounding_in_the_dtype_that_went_in(name, n, dtype):
    q = MAPS[name](noise(n, (n, n), dtype))
    assert q.dtype == dtype
    # Measured at most .6 n ε; the exponential squares log₂‖A‖ times, which doubles the error each time in the worst case.
    assert np.abs(q.T @ q - jnp.eye(n, dtype=dtype)).max() < 5 * n * np.finfo(dtype).eps


@over_maps
@pytest.mark.parametrize("size", [0.0, 1.0])
def test_both_modes_of_differentiation_agree_and_are_finite_even_at_zero(name, size):
    a, direction, weight = size * noise(1, (4, 4)), noise(2, (4, 4)), noise(3, (4, 4))
    forward = jnp.vdot(weight, jax.jvp(MAPS[name], (a,), (direction,))[1])
    backward = jnp.vdot(direction, jax.grad(lambda a: jnp.vdot(weight, MAPS[name](a)))(a))
    assert np.isfinite(forward)
    assert abs(forward - backward) < 1e-13 * (1 + abs(forward))
    if size or "householder" not in name:  # a reflection has no limit at v = 0
        step = 1e-5
        differences = jnp.vdot(weight, MAPS[name](a + step * direction) - MAPS[name](a - step * direction)) / (2 * step)
        assert abs(forward - differences) < 1e-8


@over_maps
def test_a_batch_equals_a_loop(name):
    batch = noise(4, (3, 5, 5))
    found = jax.vmap(MAPS[name])(batch)
    assert all(relative(found[i], MAPS[name](batch[i])) < 1e-14 for i in range(3))


def test_the_exponential_equals_scipys_and_has_determinant_one():
    a = noise(5, (6, 6))
    skew = parametrize.skew(a)
    assert relative(skew, -skew.T) == 0
    assert relative(parametrize.exp(a), scipy.linalg.expm(np.asarray(skew))) < 1e-14
    assert abs(np.linalg.det(parametrize.exp(a)) - 1) < 1e-14


@pytest.mark.parametrize("angle", [0.1, 1.0, 3.0])
def test_the_exponential_of_an_angle_turns_by_it_and_cayleys_by_twice_its_arctangent(angle):
    a = jnp.array([[0.0, 0.0], [angle, 0.0]])
    turn = lambda t: np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    assert relative(parametrize.exp(a), turn(angle)) < 1e-15
    assert relative(parametrize.cayley(a), turn(-2 * np.arctan(angle))) < 1e-15


def test_cayley_has_the_determinant_of_its_signs_and_misses_minus_one_without_them():
    a = noise(6, (5, 5))
    for signs in itertools.product([1.0, -1.0], repeat=5):
        assert abs(np.linalg.det(parametrize.cayley(a, jnp.array(signs))) - np.prod(signs)) < 1e-14
    skew = np.asarray(parametrize.skew(a))
    eigenvalues = np.linalg.eigvals(parametrize.cayley(a))
    # (1 − iω)/(1 + iω) + 1 = 2/(1 + iω): the distance of −1 is 2/√(1 + ω²).
    assert abs(np.abs(eigenvalues + 1).min() - 2 / np.sqrt(1 + np.linalg.norm(skew, 2) ** 2)) < 1e-13


@pytest.mark.parametrize("k", [1, 3, 4])
def test_reflections_are_multiplied_in_order_and_a_zero_vector_reflects_nothing(k):
    vectors = noise(7, (k, 4)).at[0].mul(1e3)
    reflection = lambda v: np.eye(4) - 2 * np.outer(v, v) / (v @ v)
    wanted = np.linalg.multi_dot([np.eye(4), *map(reflection, np.asarray(vectors)), np.eye(4)])
    found = parametrize.householder(vectors)
    assert relative(found, wanted) < 1e-14
    assert abs(np.linalg.det(found) - (-1) ** k) < 1e-14
    assert relative(parametrize.householder(jnp.concatenate([vectors, jnp.zeros((1, 4))])), wanted) < 1e-14


@pytest.mark.parametrize("make", [parametrize.exp, parametrize.cayley, parametrize.skew])
def test_matrices_that_are_not_square_are_refused(make):
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        make(jnp.ones((2, 3)))


def test_vectors_that_are_no_matrix_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\); allowed is \(k, n\)"):
        parametrize.householder(jnp.ones(3))
