import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn._frames import orthonormalise, quick_log_norm, renormalise
from tests.models import noise

LOOSE = 1 / 8


def conditioned(seed, n, k, condition, dtype=np.float64):
    """A frame whose columns lose independence by a given condition number, the first longest, as frames pushed in time do."""
    left, right = (np.linalg.qr(np.asarray(noise(seed + i, (m, k))))[0] for i, m in enumerate((n, k)))
    return jnp.asarray(left @ np.diag(np.logspace(0, -np.log10(condition), k)) @ np.triu(right.T @ right + 0.1), dtype)


@pytest.mark.parametrize("k", [1, 2, 31, 32, 47, 48, 64, 100, 300])
def test_renormalised_frames_have_the_logs_of_a_householder_qr(k):
    n = k + 5
    frame = noise(k, (n, k)) @ jnp.diag(jnp.exp(jnp.linspace(3, -3, k)))
    quick, exact = renormalise(frame, LOOSE), orthonormalise(frame)
    bound = n * np.finfo(np.float64).eps * np.linalg.cond(frame) ** 2
    assert np.abs(quick.log_growth - exact.log_growth).max() < bound
    assert np.abs(quick.frame.T @ quick.frame - np.eye(k)).max() < bound
    signs = jnp.sign(jnp.sum(quick.frame * exact.frame, 0))
    assert np.abs(quick.frame - signs * exact.frame).max() < bound
    assert not quick.lost.any()
    np.testing.assert_allclose(quick.rounding, exact.rounding, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "conditions"), [(np.float64, (1e2, 1e5, 1e9, 1e14)), (np.float32, (1e1, 1e3, 1e6))])
@pytest.mark.parametrize("k", [16, 64])
def test_a_frame_is_orthonormal_to_the_promised_departure_however_ill_conditioned(dtype, conditions, k):
    for condition in conditions:
        frame = conditioned(3, 80, k, condition, dtype)
        for departure in (LOOSE, 1e-4):
            found = renormalise(frame, departure)
            assert np.abs(np.asarray(found.frame.T @ found.frame, np.float64) - np.eye(k)).max() < departure


def test_what_a_renormalised_frame_lacks_is_counted_by_the_next_one():
    # Sums over many ill-conditioned steps: the logs telescope to those of Householder at every step.
    n, length = 48, 60
    jacobians = np.asarray(noise(5, (length, n, n))) @ np.diag(np.logspace(0, -3, n))

    def total(normalise):
        q, logs = jnp.asarray(np.linalg.qr(np.asarray(noise(6, (n, n))))[0]), 0.0
        for j in jacobians:
            done = normalise(j @ q)
            q, logs = done.frame, logs + done.log_growth
        return logs + orthonormalise(q).log_growth

    # Each step rounds the smallest direction by n·eps times the condition of that step.
    bound = length * n * np.finfo(np.float64).eps * np.linalg.cond(jacobians).max()
    assert np.abs(total(lambda a: renormalise(a, LOOSE)) - total(orthonormalise)).max() < bound


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dead_nan_and_overflowing_columns_are_left_to_householder(dtype):
    frame = noise(7, (12, 6), dtype)
    dead = frame.at[:, 2].set(0)
    found, wanted = renormalise(dead, LOOSE), orthonormalise(dead)
    assert found.lost.tolist() == wanted.lost.tolist() == [False, False, True, False, False, False]
    assert found.log_growth[2] == -np.inf
    np.testing.assert_array_equal(found.log_growth, wanted.log_growth)
    big = frame * np.sqrt(np.finfo(dtype).max)
    assert np.isfinite(renormalise(big, LOOSE).log_growth).all()
    assert np.isnan(renormalise(frame.at[0, 0].set(np.nan), LOOSE).log_growth).all()


def test_one_column_that_is_zero_becomes_a_unit_vector():
    found = renormalise(jnp.zeros((4, 1)), LOOSE)
    assert found.lost.all()
    assert found.frame[:, 0].tolist() == [1, 0, 0, 0]


def test_a_batch_is_the_loop_over_its_frames_also_where_one_of_them_is_dead():
    frames = noise(8, (3, 2, 20, 8))
    wanted = [[renormalise(f, LOOSE) for f in row] for row in frames]
    found = jax.vmap(jax.vmap(lambda f: renormalise(f, LOOSE)))(frames)
    for i in range(3):
        for j in range(2):
            np.testing.assert_allclose(found.frame[i, j], wanted[i][j].frame, atol=1e-13)
            np.testing.assert_allclose(found.log_growth[i, j], wanted[i][j].log_growth, atol=1e-13)
    mixed = frames[0].at[1, :, 3].set(0)
    found = jax.jit(jax.vmap(lambda f: renormalise(f, LOOSE)))(mixed)
    assert found.lost.tolist() == [[False] * 8, [False] * 3 + [True] + [False] * 4]
    np.testing.assert_allclose(found.log_growth[0], wanted[0][0].log_growth, atol=1e-13)


def test_a_batch_in_a_loop_in_which_frames_turn_bad_ends():
    # LAPACK inside a batched loop inside a scan has hung before.
    jacobians = noise(9, (64, 32, 32)).at[5].set(0)

    def run(j):
        body = lambda q, _: (renormalise(j @ q, LOOSE).frame, None)
        return jax.lax.scan(body, jnp.eye(32), None, length=40)[0]

    found = jax.jit(jax.vmap(run))(jacobians)
    assert np.isfinite(found).all()


def test_its_derivative_is_that_of_householder():
    frame, direction = noise(10, (9, 4)), noise(11, (9, 4))
    quick, exact = (jax.jvp(lambda f, g=g: g(f)[:2], (frame,), (direction,))[1] for g in (lambda f: renormalise(f, LOOSE), orthonormalise))
    for a, b in zip(quick, exact, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_quick_norm_is_right_on_its_side(dtype):
    entries = noise(12, (7, 3), dtype)
    smallest, largest = (1e-32, 1e33) if dtype == np.float32 else (1e-270, 1e275)
    for scale, side in ((smallest, 1), (1e-20, 1), (1.0, 1), (300.0, 1), (300.0, -1), (largest, -1)):
        found = quick_log_norm(entries * dtype(scale), side)
        wanted = np.log(np.linalg.norm(np.asarray(entries, np.float64))) + np.log(scale)
        assert abs(float(found) - wanted) < 16 * np.finfo(dtype).eps * (abs(np.log(scale)) + 300)  # the logs of scales and shifts are rounded
    assert quick_log_norm(entries * dtype(largest), 1) == np.inf  # so that the caller knows
    assert quick_log_norm(jnp.zeros(3, dtype), 1) == -np.inf
    assert np.isnan(quick_log_norm(entries.at[0, 0].set(np.nan), 1))
    turned = jax.lax.complex(entries, -2 * entries)
    assert abs(float(quick_log_norm(turned, 1)) - float(quick_log_norm(entries, 1)) - 0.5 * np.log(5)) < 1e-5


@pytest.mark.parametrize(("dtype", "n", "s"), [(np.float32, 16, 0.85), (np.float64, 24, 0.7)])
def test_a_frame_whose_pivots_hide_its_condition_is_seen(dtype, n, s):
    # Kahan's matrix: no pivot is small, the smallest singular value is.
    kahan = np.diag(s ** np.arange(n)) @ (np.eye(n) - np.sqrt(1 - s**2) * np.triu(np.ones((n, n)), 1))
    frame = jnp.asarray(np.linalg.qr(np.asarray(noise(13, (n, n))))[0] @ kahan, dtype)
    found, exact = renormalise(frame, LOOSE), orthonormalise(frame)
    assert np.abs(found.frame.T @ found.frame - np.eye(n, dtype=dtype)).max() < LOOSE
    np.testing.assert_array_equal(found.log_growth, exact.log_growth)  # Householder's


def test_second_derivatives_pass_through_a_scan():
    jacobians, direction = noise(14, (6, 4, 4)), noise(15, (4, 4))

    def rates(W):
        body = lambda q, j: (lambda done: (done.frame, done.log_growth))(orthonormalise(j @ W @ q))
        return jnp.sum(jax.lax.scan(body, jnp.eye(4)[:, :3], jacobians)[1] * jnp.array([1.0, 2.0, -1.0]))

    at, size = jnp.eye(4), 1e-4
    along = lambda W: jnp.sum(jax.grad(rates)(W) * direction)
    wanted = (along(at + size * direction) - along(at - size * direction)) / (2 * size)
    assert float(jax.jvp(along, (at,), (direction,))[1]) == pytest.approx(float(wanted), rel=1e-5)
