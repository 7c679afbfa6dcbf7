"""Fixed points: all the known ones and no others, with their stability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, fixed_points
from tests.models import noise


def found_points(found):
    return np.asarray(sorted(map(tuple, np.asarray(found.points).tolist())))


def test_the_three_of_a_bistable_unit():
    found = fixed_points.find(lambda g, h, x: jnp.tanh(g * h), 2.0, 3 * noise(0, (50, 1)))
    np.testing.assert_allclose(found_points(found)[:, 0], [-0.9575040240772687, 0, 0.9575040240772687], atol=1e-12)
    by_value = dict(zip(np.round(found.points[:, 0]).tolist(), found.stable.tolist(), strict=True))
    assert by_value == {-1: True, 0: False, 1: True}
    assert found.reached.sum() == 50
    slope = 2 * (1 - 0.9575040240772687**2)
    assert sorted(np.abs(found.eigenvalues[:, 0])) == pytest.approx([slope, slope, 2])


def test_both_of_the_henon_map():
    henon = lambda p, h, x: jnp.stack([1 - p[0] * h[0] ** 2 + h[1], p[1] * h[0]])
    found = fixed_points.find(henon, (1.4, 0.3), 2 * noise(1, (100, 2)))
    roots = np.roots([1.4, 0.7, -1])
    np.testing.assert_allclose(found_points(found), sorted((r, 0.3 * r) for r in roots), atol=1e-12)
    assert not found.stable.any()


def lorenz(dt):
    """One Runge–Kutta step of the flow."""

    def f(h):
        return jnp.stack([10 * (h[1] - h[0]), h[0] * (28 - h[2]) - h[1], h[0] * h[1] - 8 / 3 * h[2]])

    def step(params, h, x):
        k1 = f(h)
        k2 = f(h + dt / 2 * k1)
        k3 = f(h + dt / 2 * k2)
        k4 = f(h + dt * k3)
        return h + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


def test_the_three_of_the_lorenz_flow():
    found = fixed_points.find(lorenz(0.01), (), 15 * noise(2, (100, 3)) + jnp.array([0.0, 0.0, 20.0]), tolerance=1e-12)
    c = np.sqrt(72)
    np.testing.assert_allclose(found_points(found), [[-c, -c, 27], [0, 0, 0], [c, c, 27]], atol=1e-9)
    assert not found.stable.any()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_those_of_small_nets_are_those_of_a_dense_search(n):
    row = np.linspace(-1, 1, n)
    W = -np.stack([np.roll(row, i) for i in range(n)])
    found = fixed_points.find(lambda W, h, x: jnp.tanh(W @ h), jnp.asarray(W), jnp.tanh(2 * noise(3, (400, n))))
    expected = dense_search(W, np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * n), -1).reshape(-1, n))
    assert len(found.points) == len(expected)
    np.testing.assert_allclose(found_points(found), expected, atol=1e-8)


def dense_search(W, grid):
    """Newton in NumPy from every point of a grid, what converged, once each."""
    points = grid.copy()
    eye = np.eye(len(W))
    for _ in range(100):
        h = np.tanh(points @ W.T)
        jacobian = (1 - h**2)[:, :, None] * W - eye
        points = points - np.linalg.solve(jacobian + 1e-14 * eye, (h - points)[:, :, None])[:, :, 0]
    points = points[np.linalg.norm(np.tanh(points @ W.T) - points, axis=1) < 1e-10]
    unique = np.unique(np.round(points, 7) + 0.0, axis=0)
    return np.asarray(sorted(map(tuple, unique.tolist())))


def test_a_gated_cell_rests_under_constant_input_and_keeps_its_state_tree():
    cell = cells.lstm(2, 3)
    params = cell.init_params(jax.random.key(0))
    x = jnp.array([0.5, -1.0])
    starts = jax.tree.map(lambda leaf: 0.1 * noise(4, (20, *leaf.shape)), cell.init_state(params))
    found = fixed_points.find(cell.step, params, starts, x=x)
    assert type(found.points).__name__ == "LSTMState"
    assert found.stable.any()
    h = jax.tree.map(lambda leaf: leaf[int(np.argmax(found.stable))], found.points)
    later = h
    for _ in range(10):
        later = cell.step(params, later, x)
    for a, b in zip(jax.tree.leaves(h), jax.tree.leaves(later), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_where_nothing_rests_the_slow_points_are_told():
    drift = lambda p, h, x: h + 0.1 + h**2  # its speed is least at 0, where it is 0.1
    found = fixed_points.find(drift, (), noise(5, (10, 1)))
    assert found.points.shape == (0, 1)
    assert found.eigenvalues.shape == (0, 1)
    assert found.slow_residuals[0] == pytest.approx(0.1, abs=1e-6)
    assert abs(float(found.slow[0, 0])) < 1e-3


def test_bad_input_is_refused():
    step = lambda p, h, x: h
    with pytest.raises(ValueError, match="axis 0 of each must be the same number of states"):
        fixed_points.find(step, (), {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match=r"tolerance=0 must lie in \(0, 1\)"):
        fixed_points.find(step, (), jnp.ones((3, 2)), tolerance=0)
    with pytest.raises(ValueError, match="iterations=0 must be at least 1"):
        fixed_points.find(step, (), jnp.ones((3, 2)), iterations=0)
    with pytest.raises(TypeError, match="only floating and complex leaves"):
        fixed_points.find(step, (), jnp.ones((3, 2), jnp.int32))
