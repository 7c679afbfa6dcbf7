import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import polygamma

from jaxrnn import cells, linearize, lyapunov
from tests.models import at_time, noise, over_models, random_params, relative, shaken

EPS = np.finfo(np.float64).eps
LENGTH = 40


def exponents_by_numpy(jacobians, frame):
    """The textbook loop: QR of J_t Q at every step, logs of |R_ii| averaged; −inf where a pivot is nothing but rounding."""
    q, logs = np.asarray(frame), []
    for j in np.asarray(jacobians):
        image = j @ q
        q, r = np.linalg.qr(image)
        pivot = np.abs(np.diag(r))
        pivot[pivot <= len(q) * EPS * np.linalg.norm(image, axis=0)] = np.nan
        logs.append(np.log(pivot))
    rates = np.mean(logs, 0)
    return np.sort(np.where(np.isnan(rates), -np.inf, rates))[::-1]


def orthonormal(seed, n, k):
    return jnp.asarray(np.linalg.qr(np.asarray(noise(seed, (n, k))))[0])


def tanh_net(n, gain, seed=1):
    cell = cells.vanilla(1, n)
    params = cell.init_params(jax.random.key(seed), gain=gain)
    return cell.step, params, noise(seed, (n,))


@over_models
def test_the_exponents_sum_to_the_mean_log_determinant(model):
    xs = model.inputs(LENGTH)
    jacobians = np.asarray(linearize.jacobians(model.step, model.params, model.state, xs))
    found = lyapunov.spectrum(model.step, model.params, model.state, xs).exponents
    n, singular_values = len(found), np.linalg.svd(jacobians, compute_uv=False)
    if not singular_values.all():  # a dead ReLU, say
        assert found[-1] == -np.inf
        return
    doubt = n * EPS * singular_values[:, 0] / singular_values[:, -1]
    assert doubt.max() < 0.1
    assert abs(found.sum() - np.linalg.slogdet(jacobians)[1].mean()) < 1e-9 + doubt.mean()


@over_models
def test_the_spectrum_equals_that_of_the_stored_jacobians_and_of_a_numpy_loop(model):
    xs = model.inputs(LENGTH)
    jacobians = linearize.jacobians(model.step, model.params, model.state, xs)
    n = jacobians.shape[1]
    k = (n + 1) // 2
    frame = orthonormal(3, n, k)
    direct = lyapunov.spectrum(model.step, model.params, model.state, xs, frame=frame).exponents
    stored = lyapunov.from_jacobians(jacobians, frame=frame).exponents
    assert np.allclose(direct, stored, rtol=0, atol=1e-10)
    assert np.allclose(direct, exponents_by_numpy(jacobians, frame), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("qr_every", "cut"), [(1, 32), (2, 32), (3, 36)])
def test_a_resumed_run_is_one_run(qr_every, cut):
    cell = cells.gru(2, 3)
    params, xs = random_params(cell), noise(4, (2 * cut, 2))
    options = dict(qr_every=qr_every)
    whole = lyapunov.spectrum(cell.step, params, jnp.zeros(3), xs, blocks=8, **options)
    first = lyapunov.spectrum(cell.step, params, jnp.zeros(3), xs[:cut], blocks=4, **options)
    second = lyapunov.spectrum(cell.step, params, first.state, xs[cut:], blocks=4, frame=first.frame, **options)
    assert (second.state == whole.state).all()
    assert (second.frame == whole.frame).all()
    assert (jnp.concatenate([first.block_growth, second.block_growth]) == whole.block_growth).all()
    assert (jnp.concatenate([first.block_steps, second.block_steps]) == whole.block_steps).all()


@pytest.mark.parametrize("warmup", [0, 3, 4, 12])
@pytest.mark.parametrize(("length", "qr_every", "blocks"), [(13, 1, 4), (17, 4, 3), (14, 4, 32), (13, 20, 2)])
def test_every_counted_step_is_in_one_block_with_its_logs_and_its_time(warmup, length, qr_every, blocks):
    # A diagonal map grows by the same logs at every step: a forgotten or doubled one would show.
    rates = jnp.array([0.3, -0.2])
    run = lyapunov.spectrum(
        lambda a, h, x: jnp.exp(a) * h, rates, jnp.ones(2), None, length=length, warmup=warmup, frame=jnp.eye(2), qr_every=qr_every, blocks=blocks
    )
    assert run.block_steps.sum() == length - warmup
    assert len(run.block_steps) == min(blocks, -(-(length - warmup) // qr_every))
    assert (run.block_steps > 0).all()
    assert relative(run.block_growth, np.outer(run.block_steps, rates)) < 10 * EPS * length
    assert relative(run.exponents, rates) < 10 * EPS * length
    assert relative(run.state, jnp.exp(length * rates)) < 10 * EPS * length


def test_the_warmup_runs_state_and_frame_and_is_not_counted():
    step, params, state = tanh_net(6, 2.0)
    run = lyapunov.spectrum(step, params, state, None, length=60, warmup=25)
    before = lyapunov.spectrum(step, params, state, None, length=25)
    after = lyapunov.spectrum(step, params, before.state, None, length=35, frame=before.frame)
    assert relative(run.exponents, after.exponents) < 1e-10  # frames are renormalised here, orthonormalised there
    assert relative(run.frame, after.frame) < 1e-10


def test_two_steps_between_orthonormalisations_change_nothing_while_the_frame_is_conditioned():
    step, params, state = tanh_net(6, 1.2)
    one, two = (lyapunov.spectrum(step, params, state, None, length=60, qr_every=m).exponents for m in (1, 2))
    condition = np.linalg.cond(linearize.jacobians(step, params, state, None, length=60)).max() ** 2
    assert np.abs(one - two).max() < 6 * EPS * condition


def test_an_invertible_change_of_coordinates_keeps_the_exponents():
    step, params, state = tanh_net(6, 0.9)
    A = jnp.asarray(np.asarray(orthonormal(5, 6, 6)) * np.linspace(1, 3, 6))
    inverse, length, warmup = jnp.linalg.inv(A), 4000, 1000
    moved = lambda p, g, x: A @ step(p, inverse @ g, x)
    here = lyapunov.spectrum(step, params, state, None, length=length, warmup=warmup).exponents
    there = lyapunov.spectrum(moved, params, A @ state, None, length=length, warmup=warmup).exponents
    # The two products differ by A at either end, and each frame aligns in O(1): log κ(A) per end over the counted steps.
    assert np.abs(here - there).max() < 4 * np.log(np.linalg.cond(A)) / (length - warmup)


def test_the_leading_exponents_are_the_first_of_the_full_spectrum():
    step, params, state = tanh_net(8, 1.5)
    frame = orthonormal(6, 8, 8)
    full = lyapunov.spectrum(step, params, state, None, length=200, frame=frame)
    lead = lyapunov.spectrum(step, params, state, None, length=200, frame=frame[:, :3])
    # Column i of a QR depends on columns up to i only: equal up to rounding, before sorting.
    assert relative(lead.block_growth, full.block_growth[:, :3]) < 1e-9


def test_the_adjoint_has_the_same_exponents():
    step, params, state = tanh_net(6, 0.9)
    length = 4000
    jacobians = linearize.jacobians(step, params, state, None, length=length)
    forward = lyapunov.from_jacobians(jacobians, warmup=200).exponents
    adjoint = lyapunov.from_jacobians(jnp.swapaxes(jacobians, 1, 2)[::-1], warmup=200).exponents
    # The 200 uncounted steps at either end weigh 200/4000 of what the rates vary by; the rest is O(log κ / T).
    vectors = np.linalg.eig(np.asarray(jacobians[-1]))[1]
    drift = np.abs(np.asarray(jacobians[:200]) - np.asarray(jacobians[-1])).max()
    assert np.abs(forward - adjoint).max() < (2 * np.log(np.linalg.cond(vectors)) + 200 * drift) / (length - 200)


def test_standard_errors_of_independent_factors_are_those_of_newman():
    # T = 4096 factors in 32 blocks: a chi with 31 degrees of freedom scatters by 1/√62 = 13 %; four of those.
    n, length = 3, 4096
    found = lyapunov.from_jacobians(noise(7, (length, n, n))).standard_errors
    i = jnp.arange(1, n + 1)
    wanted = jnp.sqrt(polygamma(1, (n - i + 1) / 2) / (4 * length))
    assert np.abs(found / wanted - 1).max() < 4 / np.sqrt(62)


def test_standard_errors_follow_from_the_blocks():
    run = lyapunov.from_jacobians(noise(8, (103, 2, 2)), blocks=5)
    rates = np.asarray(run.block_growth) / np.asarray(run.block_steps)[:, None]
    weights = np.asarray(run.block_steps)[:, None] / 103
    variance = ((weights * (rates - (weights * rates).sum(0))) ** 2).sum(0) / (1 - (weights**2).sum())
    centred = rates - rates.mean(0)
    rho = np.stack([(centred[: 5 - j] * centred[j:]).sum(0) for j in range(4)]) / (centred**2).sum(0)
    pairs = rho[0::2] + rho[1::2]  # Geyer's: summed while they stay positive
    memory = 2 * (pairs * np.cumprod(pairs > 0, axis=0)).sum(0) - 1
    wanted = np.sqrt(variance * np.maximum(memory, 1))
    assert (memory > 1).any()
    assert np.abs(np.sort(run.standard_errors) - np.sort(wanted)).max() < 1e-13


def test_one_block_knows_no_error():
    assert (lyapunov.from_jacobians(noise(9, (10, 2, 2)), blocks=1).standard_errors == np.inf).all()
    assert (lyapunov.from_jacobians(noise(9, (1, 2, 2))).standard_errors == np.inf).all()


def test_one_step_of_one_unit_gives_the_log_of_its_slope():
    run = lyapunov.spectrum(lambda a, h, x: a * h, -0.25, 1.0, None, length=1)
    assert abs(run.exponents[0] - np.log(0.25)) < EPS
    assert run.state == -0.25


def test_one_vector_for_one_step_grows_by_the_norm_of_its_image():
    A, v = noise(10, (5, 5)), orthonormal(11, 5, 1)
    run = lyapunov.from_jacobians(A[None], frame=v, k=1)
    assert abs(run.exponents[0] - np.log(np.linalg.norm(A @ v))) < 10 * EPS
    assert relative(jnp.abs(run.frame), jnp.abs(A @ v / jnp.linalg.norm(A @ v))) < 10 * EPS


def test_rates_are_per_unit_of_time():
    A = noise(12, (30, 3, 3))
    one, tenth = lyapunov.from_jacobians(A), lyapunov.from_jacobians(A, dt=0.1)
    assert relative(tenth.exponents, 10 * one.exponents) < 10 * EPS
    assert relative(tenth.standard_errors, 10 * one.standard_errors) < 10 * EPS
    assert (tenth.block_growth == one.block_growth).all()


def test_exponents_descend_and_carry_their_own_errors():
    # With an eigenvector frame in ascending order the columns come out ascending; the result is sorted.
    rates = jnp.array([-1.0, 0.5, 0.0])
    jacobians = jax.vmap(jnp.diag)(jnp.exp(rates + jnp.array([0.0, 0.0, 1.0]) * noise(13, (64, 1))))
    run = lyapunov.from_jacobians(jacobians, frame=jnp.eye(3))
    assert (np.diff(run.exponents) < 0).all()
    assert (run.standard_errors > 1e-6).sum() == 1
    assert run.standard_errors[1] > 1e-6


def test_a_dead_relu_is_minus_infinity_and_has_no_error():
    cell = cells.vanilla(1, 4, "relu")
    params = {"W_hh": noise(14, (4, 4)), "W_xh": jnp.zeros((4, 1)), "b_h": jnp.array([9.0, 9.0, 9.0, -99.0])}
    run = lyapunov.spectrum(cell.step, params, jnp.ones(4), None, length=20)
    assert (run.exponents[-1], run.standard_errors[-1]) == (-np.inf, np.inf)
    assert (run.lost[-1] > 0).all()


def test_a_zero_map_loses_every_direction():
    run = lyapunov.from_jacobians(jnp.zeros((5, 2, 2)))
    assert (run.exponents == -np.inf).all()
    assert (run.lost == 5).all()


def test_nothing_is_lost_in_a_well_conditioned_run():
    assert not lyapunov.from_jacobians(noise(15, (50, 4, 4))).lost.any()


def test_a_nan_reaches_the_caller():
    jacobians = noise(16, (10, 2, 2)).at[6, 0, 1].set(jnp.nan)
    run = lyapunov.from_jacobians(jacobians, blocks=10)
    assert np.isnan(run.exponents).all()
    assert np.isfinite(run.block_growth[:6]).all()
    step = lambda a, h, x: jnp.where(x > 2, jnp.nan, 1.0) * a * h
    assert np.isnan(lyapunov.spectrum(step, 0.5, 1.0, jnp.arange(5.0)).exponents).all()


def test_float32_agrees_with_float64_where_the_motion_is_regular():
    cell = cells.vanilla(1, 6)
    params, xs = cell.init_params(jax.random.key(3), gain=0.8), noise(17, (300, 1))
    small = lambda tree: jax.tree.map(lambda leaf: leaf.astype(np.float32), tree)
    frame = orthonormal(20, 6, 6)  # the default frame is another one in float32
    wide = lyapunov.spectrum(cell.step, params, jnp.zeros(6), xs, frame=frame)
    narrow = lyapunov.spectrum(cell.step, small(params), jnp.zeros(6, np.float32), small(xs), frame=small(frame))
    assert narrow.exponents.dtype == narrow.frame.dtype == np.float32
    worst = np.linalg.cond(linearize.jacobians(cell.step, params, jnp.zeros(6), xs)).max()
    assert np.abs(np.asarray(narrow.exponents) - np.asarray(wide.exponents)).max() < 6 * np.finfo(np.float32).eps * worst


def test_vmap_equals_a_loop_over_sequences():
    cell = cells.lstm(2, 3)
    params, xs = random_params(cell), noise(18, (4, 20, 2))
    starts = jax.vmap(lambda i: shaken(cell.init_state(params), 1, 0.5))(jnp.arange(4))
    run = lambda h, x: lyapunov.spectrum(cell.step, params, h, x, k=2)
    found = jax.vmap(run)(starts, xs)
    for i in range(4):
        assert relative(at_time(found.exponents, i), run(at_time(starts, i), xs[i]).exponents) < 1e-11


def test_the_largest_exponent_can_be_differentiated():
    jacobians = noise(19, (6, 3, 3))
    top = lambda scale: lyapunov.from_jacobians(jnp.exp(scale) * jacobians).exponents[0]
    assert abs(jax.grad(top)(0.3) - 1) < 1e-12


def bytes_at(length):
    step, params, state = tanh_net(32, 1.0)
    return lyapunov.spectrum.jitted.lower(step, params, state, None, length=length).compile().memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_the_length():
    sizes = [bytes_at(length) for length in (10_000, 100_000, 1_000_000)]
    assert max(sizes) - min(sizes) <= 256  # the alignment of a few counters


@pytest.mark.slow
def test_a_hundred_thousand_steps_run():
    step, params, state = tanh_net(32, 0.9)
    run = lyapunov.spectrum(step, params, state, None, length=100_000, warmup=1000)
    rates = np.sort(np.log(np.abs(np.linalg.eigvals(params["W_hh"]))))[::-1]
    # At rest J = W_hh; O(log κ / T) with κ that of the eigenvectors.
    kappa = np.linalg.cond(np.linalg.eig(np.asarray(params["W_hh"]))[1])
    assert np.abs(run.exponents - rates).max() < 2 * np.log(kappa) / 99_000


def test_a_lost_direction_passes_no_derivative_on_and_spoils_none():
    W = noise(5, (4, 4)).at[2].set(-1.0)  # a unit that is dead for positive states

    def leading(W, k):
        return lyapunov.spectrum(lambda W, h, x: jax.nn.relu(W @ h), W, jnp.ones(4), None, length=6, k=k).exponents[0]

    full, alone = (jax.grad(leading)(W, k) for k in (4, 1))
    assert np.isfinite(full).all()
    np.testing.assert_allclose(full, alone, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-200, 1e160])
def test_exponents_of_very_small_and_very_large_jacobians_are_right(scale):
    found = lyapunov.from_jacobians(scale * noise(6, (5, 3, 3)))
    unit = lyapunov.from_jacobians(noise(6, (5, 3, 3)))
    np.testing.assert_allclose(found.exponents, unit.exponents + np.log(scale), rtol=1e-12)
    assert not found.lost.any()


@pytest.mark.parametrize(
    ("exponents", "dimension"),
    [
        ([0.9056, 0.0, -14.572], 2 + 0.9056 / 14.572),
        ([-14.572, 0.9056, 0.0], 2 + 0.9056 / 14.572),
        ([0.4192, np.log(0.3) - 0.4192], 1 + 0.4192 / (0.4192 - np.log(0.3))),
        ([-1.0, -2.0], 0),
        ([0.0, -1.0], 1),
        ([1.0, -0.5], 2),
        ([1.0, -np.inf, -np.inf], 1),
        ([0.5], 1),
        ([np.nan, -1.0], np.nan),
    ],
)
def test_the_kaplan_yorke_dimension_of_known_spectra(exponents, dimension):
    assert float(lyapunov.kaplan_yorke(jnp.array(exponents))) == pytest.approx(dimension, nan_ok=True)
    batch = jnp.stack([jnp.array(exponents)] * 2)
    np.testing.assert_array_equal(lyapunov.kaplan_yorke(batch)[0], lyapunov.kaplan_yorke(jnp.array(exponents)))


def test_the_entropy_rate_is_the_sum_of_what_is_positive():
    assert lyapunov.entropy_rate(jnp.array([[0.5, 0.25, -3.0, -jnp.inf], [-1.0, -1.0, -1.0, -1.0]])).tolist() == [0.75, 0]
    assert np.isnan(lyapunov.entropy_rate(jnp.array([1.0, jnp.nan])))


def test_the_suggested_interval_keeps_the_exponents_and_a_longer_one_does_not():
    n = 64
    W = 1.2 * noise(40, (n, n)) / np.sqrt(n)
    model = (lambda W, h, x: W @ jnp.tanh(h), W, noise(41, (n,)), None)
    every = lyapunov.suggest_interval(*model, length=1000, error=1e-7)
    assert every >= 2
    exact = lyapunov.spectrum(*model, length=120).exponents
    errors = [np.abs(lyapunov.spectrum(*model, length=120, qr_every=m).exponents - exact).max() for m in (every, 3 * every)]
    assert errors[0] < 1e-6
    assert not errors[1] < 1e-5
    assert lyapunov.suggest_interval(*model, length=1000, k=4) > every


def test_the_suggested_interval_is_one_where_nothing_longer_can_be_trusted():
    model = (lambda a, h, x: a * h, jnp.array([0.5, 1e-6], jnp.float32), jnp.ones(2, jnp.float32), None)
    assert lyapunov.suggest_interval(*model, length=10) == 1  # float32 does not carry 1e-9
    dead = (lambda a, h, x: a * h, jnp.array([0.5, 0.0]), jnp.ones(2), None)
    assert lyapunov.suggest_interval(*dead, length=10) == 1
    growing = (lambda a, h, x: a * h, jnp.array([1e40, 1e40]), jnp.zeros(2), None)
    assert lyapunov.suggest_interval(*growing, length=100) == 1
    with pytest.raises(ValueError, match=r"error=2 must lie in \(0, 1\)"):
        lyapunov.suggest_interval(*dead, length=10, error=2)
    with pytest.raises(ValueError, match="probe=1 must be at least 2"):
        lyapunov.suggest_interval(*dead, length=10, probe=1)


def test_finite_time_exponents_are_those_of_each_window_and_their_mean_that_of_the_whole():
    n, W = 6, 4
    jacobians = noise(60, (31, n, n)) / np.sqrt(n)
    model = (lambda p, h, j: j @ h, (), jnp.ones(n), jacobians)
    windows = lyapunov.finite_time(*model, window=7, warmup=3, dt=0.5)
    assert windows.shape == (W, n)
    whole = lyapunov.from_jacobians(jacobians, warmup=3, blocks=1, dt=0.5)
    np.testing.assert_allclose(np.sort(windows.mean(0))[::-1], whole.exponents, rtol=1e-12)
    first = lyapunov.from_jacobians(jacobians[:10], warmup=3, blocks=1)
    np.testing.assert_allclose(windows[0], first.block_growth[0] / 7 / 0.5, rtol=1e-12)
    assert lyapunov.finite_time(*model, window=10).shape == (3, n)  # the last step is left over
    frame = jnp.eye(n)[:, :2]
    every, seventh = (lyapunov.finite_time(*model, window=14, qr_every=m, frame=frame, warmup=3) for m in (1, 7))
    np.testing.assert_allclose(every[:, 0], seventh[:, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="window=7 must be a multiple of qr_every=2"):
        lyapunov.finite_time(*model, window=7, qr_every=2)
    with pytest.raises(ValueError, match=r"window=40 must be in \[1, 31\]"):
        lyapunov.finite_time(*model, window=40)


@pytest.mark.slow
def test_a_million_steps_of_thirty_two_units_run():
    step, params, state = tanh_net(32, 2.5)
    run = lyapunov.spectrum(step, params, state, None, length=1_000_000, warmup=1000, qr_every=2)
    assert run.block_steps.sum() == 999_000
    # A half-million-step run from elsewhere on the attractor agrees within the errors of both.
    other = lyapunov.spectrum(step, params, noise(71, (32,)), None, length=500_000, warmup=1000, qr_every=2)
    errors = np.hypot(run.standard_errors, other.standard_errors)
    assert (np.abs(run.exponents - other.exponents) < 4.5 * errors).all()  # 32 of them: 1e-5 each by chance


def test_the_adjoint_recursion_is_the_forward_one_of_the_transposed_jacobians_in_reverse():
    cell = cells.lstm(2, 3)
    params, xs = random_params(cell), noise(81, (30, 2))
    state = cell.init_state(params)
    frame = orthonormal(82, 6, 4)
    options = dict(frame=frame, warmup=4, blocks=5, dt=0.5)
    found = lyapunov.adjoint(cell.step, params, state, xs, **options)
    jacobians = linearize.jacobians(cell.step, params, state, xs)
    wanted = lyapunov.from_jacobians(jnp.swapaxes(jacobians[::-1], 1, 2), **options)
    assert relative(found.exponents, wanted.exponents) < 1e-10
    assert relative(found.block_growth, wanted.block_growth) < 1e-10
    assert found.state == ()


@pytest.mark.parametrize("gain", [0.7, 3.0])
def test_forward_and_adjoint_exponents_agree_on_both_sides_of_zero(gain):
    n, length = 32, 4000
    step, params, state = tanh_net(n, gain)
    _, states = jax.lax.scan(lambda h, _: (step(params, h, None),) * 2, state, length=length + 500)

    def along(p, h, following):
        # The Jacobians of one stored orbit: two compiled programs need not round a chaotic one alike, and would follow two orbits.
        return (1 - following**2) * (p["W_hh"] @ h)

    forward, backward = (f(along, params, jnp.zeros(n), states[500:]) for f in (lyapunov.spectrum, lyapunov.adjoint))
    assert (forward.exponents[0] > 0.02) == (gain > 1)
    # log σ₁…σ_k of the product exceeds the growth of k random directions, on either side, by −log|det| of a k × k block of a random
    # rotation: at most about n log n.
    difference = np.abs(np.cumsum(forward.exponents) - np.cumsum(backward.exponents))
    assert (difference < n * np.log(n) / length).all()
    assert difference[0] < np.log(1e4) / length
    assert difference[-1] < 1e-9


def test_a_drive_that_is_named_no_response_is_held_to_its_course():
    # Pecora and Carroll's Lorenz system: driven by y, what remains is x' = −σ x and z' = −β z, whatever y does.
    sigma, rho, beta, dt = 10.0, 60.0, 8 / 3, 1e-3

    def step(p, s, _):
        x, y, z = s["x"], s["y"], s["z"]
        return {"x": x + dt * sigma * (y - x), "y": y + dt * (x * (rho - z) - y), "z": z + dt * (x * y - beta * z)}

    start = {name: jnp.asarray(1.0) for name in "xyz"}
    found = lyapunov.conditional(step, (), start, None, response=("x", "z"), length=8000, warmup=5000, dt=dt)
    assert relative(found.exponents, jnp.log1p(-dt * jnp.array([beta, sigma])) / dt) < 1e-9
    by_x = lyapunov.conditional(step, (), start, None, response=("y", "z"), length=100_000, warmup=20_000, dt=dt)
    # Theirs are −1.81 and −1.86, the trace −1 − β; Euler's rotation by dt·x a step adds dt⟨x²⟩/2 ≈ 0.07 to each.
    assert abs(by_x.exponents[0] + 1.81) < 0.15
    assert abs(by_x.exponents[1] + 1.86) < 0.15
    whole = lyapunov.conditional(step, (), start, None, response=("x", "y", "z"), length=500)
    assert relative(whole.exponents, lyapunov.spectrum(step, (), start, None, length=500).exponents) < 1e-12
    for response in ((), ("x", "x"), ("w",)):
        with pytest.raises(ValueError, match="must be different leaves of the state, out of x, y, z"):
            lyapunov.conditional(step, (), start, None, response=response, length=5)


def test_the_layers_of_a_stack_have_their_conditional_exponents_as_the_exponents_of_the_whole():
    # A block-triangular product: the exponents of the stack are those of its first layer and the conditional ones of its second.
    stack = cells.stack(cells.vanilla(2, 5), cells.vanilla(5, 4))
    params, xs = random_params(stack, seed=2), noise(90, (3000, 2))
    state = stack.init_state(params)
    names = list(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_flatten_with_path(state)[0])
    parts = [lyapunov.conditional(stack.step, params, state, xs, response=(name,)).exponents for name in names]
    whole = lyapunov.spectrum(stack.step, params, state, xs).exponents
    assert np.abs(np.sort(np.concatenate(parts))[::-1] - whole).max() < np.log(1e6) / 3000


def test_gaps_know_which_exponents_are_told_apart():
    found = lyapunov.spectrum(lambda a, h, x: a * h, jnp.array([0.9, 0.9, 0.5, 0.0]), jnp.ones(4), None, length=600, warmup=100)
    gaps = lyapunov.gaps(found)
    assert gaps.separated.tolist() == [False, True, True]
    assert abs(gaps.gaps[1] - np.log(0.9 / 0.5)) < 1e-9
    assert gaps.gaps[2] == np.inf
    independent = 0.5 * noise(96, (4000, 6, 6))
    run = lyapunov.from_jacobians(independent, dt=0.25)
    gaps = lyapunov.gaps(run, dt=0.25)
    assert relative(gaps.gaps, run.exponents[:-1] - run.exponents[1:]) < 1e-12
    # R_ii of a Gaussian matrix are independent: the squares of the errors add.
    assert (np.abs(gaps.standard_errors / np.hypot(run.standard_errors[:-1], run.standard_errors[1:]) - 1) < 0.7).all()
    assert gaps.separated.all()


def test_the_autocorrelation_time_of_a_correlated_factor_is_that_of_its_chain():
    # ln of the factor is an AR(1) chain with ρ_j = a^j: τ = (1 + a) / (1 − a).
    a, length = 0.8, 2**16
    chain = np.zeros(length)
    draws = np.sqrt(1 - a**2) * np.asarray(noise(97, (length,)))
    for t in range(1, length):
        chain[t] = a * chain[t - 1] + draws[t]
    model = (lambda p, h, x: x * h, (), jnp.ones(1), jnp.exp(jnp.asarray(chain))[:, None])
    found = lyapunov.autocorrelation_time(lyapunov.spectrum(*model, blocks=length // 2))
    # Geyer's estimator scatters by about τ √(2 · 2 window / T), the window a few τ.
    assert abs(found[0] - 9) < 9 * 4 * np.sqrt(4 * 30 / length)
    correlated = lyapunov.spectrum(*model, blocks=64)  # blocks of 1024 steps
    assert abs(correlated.standard_errors[0] / np.sqrt(9 / length) - 1) < 4 / np.sqrt(2 * 63)


def test_the_rounding_field_says_when_float32_does_not_carry_an_exponent():
    n = 64
    jacobians = (2.0 * noise(98, (60, n, n)) / np.sqrt(n)) * (1 - jnp.tanh(noise(99, (60, n, 1))) ** 2)
    exact = lyapunov.from_jacobians(jacobians, frame=orthonormal(100, n, n))
    for every in (1, 3):
        rough = lyapunov.from_jacobians(jacobians.astype(np.float32), frame=orthonormal(100, n, n).astype(np.float32), qr_every=every)
        rough = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), rough)
        living = np.isfinite(rough.exponents)
        error = np.abs(rough.exponents - np.asarray(exact.exponents))[living]
        # First order, of one rounding per entry; products of 64 terms and the rounded matrices themselves make a few tens of it.
        assert (error < 64 * rough.rounding[living] + n * np.finfo(np.float32).eps).all()
        assert (rough.rounding[~living] == np.inf).all()
    assert rough.rounding[-1] > 100 * exact.rounding[-1]
    assert exact.rounding.max() < 1e-12


def test_over_a_short_window_exponents_differentiate_through_the_qr_and_the_frame_of_the_warmup_is_held():
    n, warmup = 8, 5
    step = lambda W, h, x: jnp.tanh(W @ h + x)
    W, xs = noise(101, (n, n)) / np.sqrt(n), noise(102, (warmup + 6, n))
    turned = lyapunov.spectrum(step, W, jnp.zeros(n), xs[:warmup], k=3)
    flossed = lambda W: jnp.sum(lyapunov.spectrum(step, W, jnp.zeros(n), xs, k=3, warmup=warmup).exponents ** 2)
    held = lambda W, h: jnp.sum(lyapunov.spectrum(step, W, h, xs[warmup:], k=3, frame=turned.frame).exponents ** 2)
    state_at = lambda W: lyapunov.spectrum(step, W, jnp.zeros(n), xs[:warmup], k=1).state
    assert relative(jax.grad(flossed)(W), jax.grad(lambda W: held(W, state_at(W)))(W)) < 1e-10
    direction = noise(103, (n, n))
    size = 1e-5
    along = (held(W + size * direction, turned.state) - held(W - size * direction, turned.state)) / (2 * size)
    wanted = jnp.sum(jax.grad(held)(W, turned.state) * direction)
    assert abs(along - wanted) < 1e-6 * abs(wanted) + 1e-8


def test_the_gradient_of_an_isometry_has_no_nan():
    # Equal singular values make the derivative of an SVD NaN; that of the QR is finite.
    W = orthonormal(104, 6, 6)
    rates = lambda W: jnp.sum(lyapunov.spectrum(lambda W, h, x: W @ h, W, jnp.ones(6), None, length=5, k=4).exponents)
    assert np.isfinite(jax.grad(rates)(W)).all()
    assert jnp.abs(jax.grad(rates)(W)).max() > 0.01
