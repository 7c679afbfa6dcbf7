"""Covariant vectors: what defines them, and the systems where they are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, covariant, linearize, lyapunov
from tests.models import noise

parallel = lambda a, b: np.abs((np.asarray(a) * np.asarray(b)).sum(-2))  # |cosine| of unit columns


def test_of_a_constant_matrix_they_are_its_eigenvectors():
    basis = np.linalg.qr(np.asarray(noise(0, (5, 5))))[0] + 0.4 * np.asarray(noise(1, (5, 5)))
    values = np.array([1.5, -1.1, 0.8, 0.5, -0.3])
    A = basis @ np.diag(values) @ np.linalg.inv(basis)
    found = covariant.vectors(lambda A, h, x: A @ h, jnp.asarray(A), jnp.ones(5), None, length=400, warmup=150, cooldown=150)
    assert found.vectors.shape == (101, 5, 5)
    unit = basis / np.linalg.norm(basis, axis=0)
    assert (parallel(found.vectors, unit) > 1 - 1e-10).all()
    np.testing.assert_allclose(found.log_growth, np.broadcast_to(np.log(np.abs(values)), (100, 5)), atol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "lstm"])
def test_each_step_carries_each_vector_into_the_next_one(name):
    n = 8
    if name == "tanh":
        step, params, state, xs = (lambda W, h, x: jnp.tanh(W @ h + x)), 1.3 * noise(2, (n, n)) / np.sqrt(n), jnp.zeros(n), 0.3 * noise(3, (600, n))
    else:
        cell = cells.lstm(2, 4)
        params = cell.init_params(jax.random.key(1))
        params = {**params, "b_h": params["b_h"] + 0.3 * noise(4, (16,))}
        step, state, xs = cell.step, jax.tree.map(lambda leaf: 0.1 * noise(5, leaf.shape), cell.init_state(params)), noise(6, (600, 2))
    found = covariant.vectors(step, params, state, xs, warmup=200, cooldown=200)
    jacobians = linearize.jacobians(step, params, state, xs)[200:400]
    moved = jacobians @ found.vectors[:-1]
    size = np.linalg.norm(moved, axis=1)
    assert (parallel(moved / size[:, None], found.vectors[1:]) > 1 - 1e-8).all()
    np.testing.assert_allclose(np.log(size), found.log_growth, atol=1e-8)
    exponents = lyapunov.from_jacobians(jacobians).exponents
    np.testing.assert_allclose(np.sort(found.exponents)[::-1], exponents, atol=0.05)  # the frame's ends differ: O(log κ / T)


def test_those_of_the_henon_map_are_those_of_a_direct_construction():
    """The unstable one by pushing any vector from the past, the stable one by pulling any vector from the future."""
    henon = lambda p, h, x: jnp.stack([1 - 1.4 * h[0] ** 2 + h[1], 0.3 * h[0]])
    start = jnp.array([0.1, 0.1])
    found = covariant.vectors(henon, (), start, None, length=600, warmup=200, cooldown=200)
    jacobians = np.asarray(linearize.jacobians(henon, (), start, None, length=600))
    forward = np.array([1.0, 0.3])
    for t in range(300):
        forward = jacobians[t] @ forward
        forward /= np.linalg.norm(forward)
    backward = np.array([0.2, 1.0])
    for t in range(599, 299, -1):
        backward = np.linalg.solve(jacobians[t], backward)
        backward /= np.linalg.norm(backward)
    assert parallel(found.vectors[100], np.stack([forward, backward], 1)).min() > 1 - 1e-8
    assert found.exponents.sum() == pytest.approx(np.log(0.3), abs=0.02)


def test_angles_are_those_between_the_columns():
    columns = jnp.array([[1.0, 0.6, -1.0], [0.0, 0.8, 0.0]])
    found = np.asarray(covariant.angles(columns))
    np.testing.assert_allclose(found[0], [0, np.arccos(0.6), 0], atol=1e-7)
    np.testing.assert_allclose(found, found.T)


def test_the_leading_ones_alone_are_the_leading_ones_of_all():
    W, xs = 1.3 * noise(2, (8, 8)) / np.sqrt(8), 0.3 * noise(3, (600, 8))
    model = (lambda W, h, x: jnp.tanh(W @ h + x), W, jnp.zeros(8), xs)
    some, all_ = (covariant.vectors(*model, k=k, warmup=250, cooldown=250) for k in (2, None))
    assert (parallel(some.vectors, all_.vectors[:, :, :2]) > 1 - 1e-6).all()
    assert covariant.vectors(*model, k=1, warmup=599, cooldown=0).vectors.shape == (2, 8, 1)


def test_numbers_outside_what_is_allowed_are_refused():
    model = (lambda A, h, x: A @ h, jnp.eye(2), jnp.ones(2), None)
    for options, message in (
        ({"k": 3, "warmup": 0, "cooldown": 0}, r"k=3 must be in \[1, 2\]"),
        ({"warmup": 10, "cooldown": 0}, r"warmup=10 must be in \[0, 9\]"),
        ({"warmup": 5, "cooldown": 5}, r"cooldown=5 must be in \[0, 4\]"),
    ):
        with pytest.raises(ValueError, match=message):
            covariant.vectors(*model, length=10, **options)
