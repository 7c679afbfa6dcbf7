import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import spectra
from jaxrnn.spectra import lapack
from tests.models import noise, relative

EPS = np.finfo(np.float64).eps


def similar_to(eigenvalues, seed=1):
    """A full matrix with these real eigenvalues: turned by a random rotation."""
    q = np.linalg.qr(np.asarray(noise(seed, (len(eigenvalues),) * 2)))[0]
    return jnp.asarray(q @ np.diag(eigenvalues) @ q.T)


def test_known_eigenvalues_come_largest_modulus_first():
    wanted = [-3.0, 2.0, -1.0, 0.5]
    found = spectra.eigenvalues(similar_to([0.5, 2.0, -3.0, -1.0]))
    assert np.abs(np.asarray(found) - np.array(wanted)).max() < 100 * EPS
    assert abs(spectra.spectral_radius(similar_to(wanted)) - 3) < 100 * EPS


def test_a_rotation_has_eigenvalues_on_the_circle():
    found = spectra.eigenvalues(2 * jnp.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]))
    assert np.abs(np.abs(found) - 2).max() < 10 * EPS
    assert np.abs(np.sort(np.angle(found)) - np.array([-0.3, 0.3])).max() < 10 * EPS


def test_known_singular_values_descend_also_of_rectangles():
    q, r = np.linalg.qr(np.asarray(noise(2, (4, 3))))[0], np.linalg.qr(np.asarray(noise(3, (3, 3))))[0]
    assert np.abs(spectra.singular_values(jnp.asarray(q @ np.diag([1.0, 5.0, 0.2]) @ r)) - np.array([5.0, 1.0, 0.2])).max() < 100 * EPS


def test_leading_axes_are_a_batch():
    matrices = noise(4, (2, 3, 4, 4))
    one = matrices[1, 2]
    assert relative(spectra.eigenvalues(matrices)[1, 2], spectra.eigenvalues(one)) < 100 * EPS
    assert relative(spectra.singular_values(matrices)[1, 2], spectra.singular_values(one)) < 100 * EPS
    assert spectra.spectral_radius(matrices).shape == (2, 3)
    assert relative(jax.vmap(spectra.spectral_radius)(matrices), spectra.spectral_radius(matrices)) < 100 * EPS


def test_a_one_by_one_matrix_is_its_own_eigenvalue():
    one = jnp.array([[-2.0]])
    assert (spectra.eigenvalues(one)[0], spectra.spectral_radius(one), spectra.singular_values(one)[0]) == (-2, 2, 2)


def test_a_nan_reaches_the_caller_and_spares_its_neighbours():
    matrices = noise(5, (2, 3, 3)).at[0, 1, 1].set(jnp.nan)
    for measure in (spectra.eigenvalues, spectra.spectral_radius, spectra.singular_values):
        found = measure(matrices)
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()


def test_float32_stays_float32():
    small = noise(6, (3, 3), np.float32)
    assert spectra.eigenvalues(small).dtype == np.complex64
    assert spectra.spectral_radius(small).dtype == spectra.singular_values(small).dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, 1e-30), (np.float32, 1e-13), (np.float32, 1e13), (np.float64, 1e150), (np.float64, 1e-150)],
)
def test_eigenvalues_of_very_large_and_very_small_matrices_are_right(dtype, scale):
    matrix = jnp.asarray(np.array([[1.0, 2.0], [3.0, 4.0]]) * scale, dtype)
    assert float(spectra.spectral_radius(matrix)) / scale == pytest.approx((5 + np.sqrt(33)) / 2, rel=1e-5)


def rotations(seed, count, n):
    return [np.linalg.qr(np.asarray(noise(seed + i, (n, n))))[0] for i in range(count)]


@pytest.mark.parametrize("T", [1, 7, 150])
def test_singular_values_of_a_product_that_is_known_are_found_over_six_hundred_nats(T):
    """J_t = U_t diag(e^{d_t}) U_{t−1}ᵀ: the product is U_T diag(e^{Σ d_t}) U_0ᵀ."""
    n = 16
    turned = rotations(10, T + 1, n)
    d = np.linspace(1.0, -3.0, n) + 0.3 * np.asarray(noise(9, (T, n)))
    jacobians = jnp.asarray(np.stack([turned[t + 1] @ np.diag(np.exp(d[t])) @ turned[t].T for t in range(T)]))
    found = spectra.product_log_singular_values(jacobians)
    assert np.abs(found.logs - np.sort(d.sum(0))[::-1]).max() < 1e4 * EPS * max(1, np.abs(d).sum(0).max())
    assert found.change.max() < 1e-10


def test_small_singular_values_do_not_drown_as_in_the_explicit_product():
    jacobians = noise(11, (60, 20, 20)) / np.sqrt(20)
    found = spectra.product_log_singular_values(jacobians)
    determinant = np.linalg.slogdet(np.asarray(jacobians))[1].sum()
    assert float(found.logs.sum()) == pytest.approx(determinant, abs=1e-8)
    explicit = np.linalg.svd(np.linalg.multi_dot(list(np.asarray(jacobians)[::-1])), compute_uv=False)
    np.testing.assert_allclose(np.exp(found.logs[:5]), explicit[:5], rtol=1e-9)
    assert np.log(explicit[-1]) - float(found.logs[-1]) > 20  # the explicit one stops at the rounding of the largest


def test_products_overflow_nowhere_and_dead_directions_are_minus_infinity():
    huge = spectra.product_log_singular_values(jnp.tile(jnp.diag(jnp.array([1e30, 1e-30])), (50, 1, 1)))
    np.testing.assert_allclose(huge.logs, [50 * np.log(1e30), -50 * np.log(1e30)])
    dead = spectra.product_log_singular_values(jnp.tile(jnp.diag(jnp.array([2.0, 0.0])), (3, 1, 1)))
    assert dead.logs.tolist() == pytest.approx([3 * np.log(2), -np.inf])
    assert not np.isnan(dead.change).any()


def test_a_product_of_rotations_has_singular_values_of_one():
    found = spectra.product_log_singular_values(jnp.asarray(np.stack(rotations(50, 40, 16))))
    assert np.abs(found.logs).max() < 1e-12


def test_the_departure_from_normality_is_that_of_the_schur_form():
    normal = similar_to([3.0, -1.0, 0.5])
    shift = jnp.eye(5, k=1)
    assert float(spectra.henrici(normal)) < 100 * EPS
    assert float(spectra.henrici(shift)) == pytest.approx(1)
    full = noise(12, (6, 6))
    by_difference = np.sqrt(1 - (np.abs(np.linalg.eigvals(full)) ** 2).sum() / np.linalg.norm(full) ** 2)
    assert float(spectra.henrici(full)) == pytest.approx(by_difference, rel=1e-7)
    np.testing.assert_allclose(spectra.henrici(jnp.stack([full, 1e200 * full, jnp.zeros((6, 6))])), [by_difference, by_difference, 0], atol=1e-7)


def test_the_pseudospectrum_is_the_smallest_singular_value_at_every_point():
    matrix = noise(13, (7, 7))
    points = jnp.asarray(np.linspace(-2, 2, 5)[:, None] + 1j * np.linspace(-1, 1, 4))
    found = spectra.pseudospectrum(matrix, points, batch=3)
    assert found.shape == (5, 4)
    for at in np.ndindex(5, 4):
        direct = np.linalg.svd(complex(points[at]) * np.eye(7) - np.asarray(matrix), compute_uv=False)[-1]
        assert float(found[at]) == pytest.approx(direct, rel=1e-10)
    eigenvalues = spectra.eigenvalues(matrix)
    assert spectra.pseudospectrum(matrix, eigenvalues).max() < 1e-12


def test_the_pseudospectrum_of_a_normal_matrix_is_the_distance_to_its_eigenvalues():
    values = np.array([3.0, -1.0, 0.5])
    points = jnp.asarray(np.array([0.0, 1 + 1j, 2.5]))
    distance = np.abs(np.asarray(points)[:, None] - values).min(1)
    np.testing.assert_allclose(spectra.pseudospectrum(similar_to(values), points), distance, atol=1e-13)


def test_the_kreiss_constant_bounds_the_largest_power_on_both_sides():
    jordan = jnp.array([[0.9, 10.0], [0.0, 0.9]])
    assert float(spectra.kreiss(jordan)) == pytest.approx(25.01, rel=1e-6)  # (r − 1)/σ_min has its maximum 25.01 near r = 1.1
    for matrix in (jordan, 0.9 * noise(14, (12, 12)) / np.sqrt(12), 0.5 * jnp.eye(8) + 0.6 * jnp.eye(8, k=1)):
        assert float(spectra.spectral_radius(matrix)) < 1
        constant, peak = float(spectra.kreiss(matrix)), float(jnp.exp(spectra.transient_growth(matrix, length=300).max()))
        assert constant * (1 - 1e-6) <= peak <= np.e * len(matrix) * constant
    assert float(spectra.kreiss(similar_to([0.99, -0.5, 0.1]))) == pytest.approx(1, abs=1e-6)
    assert float(spectra.kreiss(1.01 * jnp.eye(3))) == np.inf
    assert float(spectra.kreiss(jnp.asarray(rotations(15, 1, 5)[0]))) == pytest.approx(1, abs=1e-6)


def test_transient_growth_of_the_fourth_counterexample():
    growth = np.asarray(spectra.transient_growth(jnp.array([[0.9, 10.0], [0.0, 0.9]]), length=100))
    assert (np.exp(growth.max()), growth.argmax(), np.argmax(growth < 0)) == (pytest.approx(38.746, abs=5e-4), 9, 63)
    growth = np.asarray(spectra.transient_growth(0.5 * jnp.eye(50) + jnp.eye(50, k=1), length=300))
    assert (np.exp(growth.max()), growth.argmax(), np.argmax(growth < 0)) == (pytest.approx(5.98e13, rel=1e-3), 96, 210)
    nilpotent = spectra.transient_growth(jnp.eye(3, k=1), length=5)
    assert nilpotent.tolist() == pytest.approx([0, 0, 0, -np.inf, -np.inf, -np.inf], abs=1e-14)


def test_non_normality_in_float32_stays_float32():
    small = noise(16, (4, 4), np.float32) / 4
    assert spectra.henrici(small).dtype == spectra.kreiss(small).dtype == spectra.transient_growth(small, length=3).dtype == np.float32
    assert spectra.pseudospectrum(small, jnp.zeros(2, np.float32)).dtype == np.float32
    assert spectra.product_log_singular_values(small[None]).logs.dtype == np.float32


def test_no_measure_of_normality_swallows_a_nan():
    broken = jnp.eye(3).at[0, 1].set(jnp.nan)
    for found in (
        spectra.henrici(broken),
        spectra.kreiss(broken),
        *spectra.pseudospectrum(broken, jnp.ones(2)),
        spectra.transient_growth(broken, length=1)[1],
    ):
        assert np.isnan(found)


def apart(found, wanted):
    """By how much two batches of spectra (..., n) differ at most, whatever the order: each eigenvalue beside its nearest."""
    pairs = np.stack([np.broadcast_to(wanted, found.shape), found], -2)
    return np.array([np.abs(np.diff(spectra.tracks(pairs[i]), axis=0)).max() for i in np.ndindex(pairs.shape[:-2])]).reshape(pairs.shape[:-2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_the_host_finds_the_eigenvalues_and_schur_forms_of_lapack(dtype):
    n, matrices = 16, noise(20, (2, 3, 16, 16), dtype)
    eps = np.finfo(dtype).eps
    values = jax.jit(lambda m: lapack.on_host(np.linalg.eigvals, (n,), m))(matrices)
    assert values.dtype == np.result_type(dtype, np.complex64)
    # An eigenvalue is rounded by ε ‖A‖ times its condition, at most that of the eigenvectors.
    doubt = n * eps * np.linalg.norm(matrices, 2, (-2, -1)) * np.linalg.cond(np.linalg.eig(np.asarray(matrices))[1])
    assert (apart(values, jnp.linalg.eigvals(matrices)) < doubt).all()
    form = jax.vmap(jax.jit(lambda m: lapack.on_host(lapack.host_schur, (n, n), m)))(lapack.as_complex(matrices))
    assert (np.tril(form, -1) == 0).all()
    assert (apart(jnp.diagonal(form, axis1=-2, axis2=-1), values) < doubt).all()
    # Unitary similarity keeps the Frobenius norm; how it is shared out above the diagonal is no invariant, how much lies there is.
    ours, theirs = (np.linalg.norm(np.triu(t, 1), axis=(-2, -1)) for t in (form, lapack.schur_form(matrices)))
    assert (np.abs(ours - theirs) < doubt).all()


def test_on_the_host_a_matrix_that_is_not_finite_gives_nan_and_spares_its_neighbours():
    matrices = noise(21, (3, 4, 4)).at[0, 1, 1].set(jnp.nan).at[2, 0, 0].set(jnp.inf)
    for found in (lapack.on_host(np.linalg.eigvals, (4,), matrices), lapack.on_host(lapack.host_schur, (4, 4), lapack.as_complex(matrices))):
        assert np.isnan(found[::2]).all()
        assert np.isfinite(found[1]).all()


def test_on_the_host_an_iteration_that_fails_gives_nan():
    def failing(matrix):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    assert np.isnan(lapack.on_host(failing, (2,), jnp.eye(2))).all()


def test_everything_through_the_host_is_what_lapack_says(monkeypatch):
    matrices, direction = noise(22, (3, 6, 6)), noise(23, (3, 6, 6))
    points = jnp.asarray([0.5 + 0.5j, 1.0])

    def measures():
        moduli = lambda m: jnp.abs(spectra.eigenvalues.__wrapped__(m))
        normality = (spectra.henrici.__wrapped__(matrices), spectra.pseudospectrum.__wrapped__(matrices[0], points))
        return moduli(matrices), normality, jax.jvp(moduli, (matrices,), (direction,))[1], jax.grad(lambda m: moduli(m)[:, 0].sum())(matrices)

    direct = measures()
    monkeypatch.setattr(lapack, "_by_platform", lambda _, host, shape, m: lapack.on_host(host, shape, m))
    condition = np.linalg.cond(np.linalg.eig(np.asarray(matrices))[1]).max()
    assert relative(measures(), direct) < 100 * EPS * condition**2  # derivatives take the eigenvectors and their inverse


def test_the_derivative_of_eigenvalues_is_that_of_jax():
    matrix = noise(24, (6, 6))
    ours = jax.grad(lambda m: spectra.spectral_radius(m))(matrix)
    theirs = jax.grad(lambda m: jnp.abs(jnp.linalg.eigvals(m)).max())(matrix)
    assert relative(ours, theirs) < 100 * EPS * np.linalg.cond(np.linalg.eig(np.asarray(matrix))[1]) ** 2


@pytest.mark.parametrize("measure", [spectra.eigenvalues, spectra.henrici])
def test_only_the_cpu_is_asked_for_eigenvalues_and_only_accelerators_call_the_host(measure, monkeypatch):
    matrices = jnp.zeros((3, 5, 5))
    fresh = lambda: jax.jit(lambda m: measure.__wrapped__(m)).trace(matrices)
    assert "pure_callback" in str(fresh().jaxpr)
    on_cpu = fresh().lower(lowering_platforms=("cpu",)).as_text()
    assert "lapack_dgeev" in on_cpu or "lapack_zgees" in on_cpu
    assert "callback" not in on_cpu
    # A callback lowers only where the accelerator is; a stand-in for it lets the rest of the program lower anywhere.
    monkeypatch.setattr(lapack, "on_host", lambda _, shape, m: jnp.zeros((*m.shape[:-2], *shape), complex))
    on_cuda = fresh().lower(lowering_platforms=("cuda",)).as_text()
    assert "custom_call" not in on_cuda


def shuffled(values, seed):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(row) for row in np.asarray(values)])


def test_tracks_follow_eigenvalues_that_move_less_than_they_are_apart():
    # 16 points of a grid of width 1, each on a circle of its own of radius 0.2: never nearer than 0.6, and steps of at most 0.02.
    centres = (np.arange(4)[:, None] + 1j * np.arange(4)).ravel()
    rates = np.linspace(-0.1, 0.1, 16)
    moving = centres + 0.2 * np.exp(1j * rates * np.arange(200)[:, None])
    rows = shuffled(moving, 1)
    rows[0] = moving[0]
    assert (spectra.tracks(jnp.asarray(rows)) == moving).all()


def test_tracks_of_the_eigenvalues_of_a_path_of_matrices_are_continuous():
    a, b = noise(25, (2, 16, 16)) / 4
    path = a + jnp.linspace(0, 0.02, 100)[:, None, None] * b
    found = spectra.tracks(spectra.eigenvalues(path))
    assert relative(np.sort_complex(found), np.sort_complex(spectra.eigenvalues(path))) == 0
    # Bauer–Fike: no eigenvalue moves further in a step than κ(V) ‖dA‖; the assignment finds that order or a shorter one.
    condition = max(np.linalg.cond(np.linalg.eig(m)[1]) for m in np.asarray(path))
    assert np.abs(np.diff(found, axis=0)).sum(1).max() < 16 * condition * 0.02 / 99 * np.linalg.norm(b, 2)


def test_tracks_that_meet_on_a_line_bounce():
    t = np.linspace(-1, 1, 20)
    found = spectra.tracks(np.stack([t, -t], 1))
    assert (found == np.stack([-np.abs(t), np.abs(t)], 1)).all()


def test_tracks_of_a_real_pair_that_leaves_the_axis_hold_one_of_the_pair_each():
    pair = np.stack([np.emath.sqrt(s) * np.array([1, -1]) for s in np.linspace(1, -1, 41)])
    found = spectra.tracks(shuffled(pair, 2))
    assert (found.sum(1) == 0).all()
    assert np.abs(np.diff(found, axis=0)).max() < np.sqrt(2 / 40) + 10 * EPS  # √|s| over one step from 0


def test_tracks_leave_rows_that_are_not_finite_and_go_on_from_the_last_that_was():
    rows = np.array([[1, 2], [2.1, 1.1], [np.nan, np.nan], [1, np.inf], [2.2, 1.2]])
    found = spectra.tracks(rows)
    assert np.array_equal(found, [[1, 2], [1.1, 2.1], [np.nan, np.nan], [1, np.inf], [1.2, 2.2]], equal_nan=True)
    assert rows[1, 0] == 2.1
    assert np.isnan(spectra.tracks(rows[2:3])).all()
    with pytest.raises(ValueError, match=r"eigenvalues have shape \(2,\); allowed is \(T, n\)"):
        spectra.tracks(rows[0])


def test_the_log_condition_of_a_product_that_is_known_grows_with_the_lag():
    n, T = 16, 120
    turned = rotations(30, T + 1, n)
    d = np.linspace(1.0, -3.0, n) + 0.1 * np.asarray(noise(26, (T, n)))
    jacobians = jnp.asarray(np.stack([turned[t + 1] @ np.diag(np.exp(d[t])) @ turned[t].T for t in range(T)]))
    lags = (1, 120, 7)
    wanted = [np.ptp(d[:lag].sum(0)) for lag in lags]
    assert np.abs(spectra.log_condition(jacobians, lags) - np.array(wanted)).max() < 1e4 * EPS * np.abs(d).sum(0).max()
    assert wanted[1] > 460  # nats: κ itself is e^460, far beyond 1/ε


def test_the_log_condition_at_lag_one_is_that_of_the_matrix_and_of_an_isometry_zero():
    one = noise(27, (1, 16, 16))
    condition = np.linalg.cond(np.asarray(one[0]))
    assert abs(spectra.log_condition(one, [1])[0] - np.log(condition)) < 16 * EPS * condition
    assert np.abs(spectra.log_condition(jnp.asarray(np.stack(rotations(60, 100, 16))), (50, 100))).max() < 100 * 16 * EPS


def test_the_log_condition_is_infinite_where_the_product_is_singular_and_nan_where_it_is_not_finite():
    eye = jnp.eye(3)
    jacobians = jnp.stack([2 * eye, eye.at[2, 2].set(0), jnp.zeros((3, 3)), eye.at[0, 0].set(jnp.nan)])
    found = spectra.log_condition(jacobians, (1, 2, 3, 4))
    assert abs(found[0]) < 10 * EPS
    assert np.array_equal(found[1:], [np.inf, np.inf, np.nan], equal_nan=True)
    for lags, words in (((), "lags is empty"), ((0,), r"lag=0 must be in \[1, 4\]"), ((5,), r"lag=5 must be in \[1, 4\]")):
        with pytest.raises(ValueError, match=words):
            spectra.log_condition(jacobians, lags)


def test_what_is_not_square_or_too_few_is_refused():
    for measure in (
        spectra.henrici,
        spectra.kreiss,
        lambda m: spectra.pseudospectrum(m, jnp.zeros(1)),
        lambda m: spectra.transient_growth(m, length=2),
    ):
        with pytest.raises(ValueError, match=r"shape \(2, 3\); the last two axes must be equal"):
            measure(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="sweeps=0 must be at least 1"):
        spectra.product_log_singular_values(jnp.ones((1, 2, 2)), sweeps=0)
    with pytest.raises(ValueError, match="angles=2 must be at least 4"):
        spectra.kreiss(jnp.eye(2), angles=2)
