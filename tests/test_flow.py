import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, flow, linearize, lyapunov
from tests.models import STEPS, at_time, noise, of_distance, over_models, random_params, real_vector, relative, trajectory

EPS = np.finfo(np.float64).eps
TARGETS = noise(99, (STEPS,))


def products(jacobians):
    """{(t, k): ∂h_t/∂h_k} by explicit multiplication, 0 ≤ k ≤ t ≤ T."""
    J, n = np.asarray(jacobians), jacobians.shape[1]
    out = {}
    for k in range(len(J) + 1):
        out[k, k] = np.eye(n)
        for t in range(k + 1, len(J) + 1):
            out[t, k] = J[t - 1] @ out[t - 1, k]
    return out


def explicit(jacobians):
    """log(‖∂h_t/∂h_k‖_F / √n) of the explicit products."""
    T, n = jacobians.shape[:2]
    out = np.full((T + 1, T + 1), -np.inf)
    for (t, k), product in products(jacobians).items():
        size = np.linalg.norm(product)
        out[t, k] = np.log(size / np.sqrt(n)) if size else -np.inf
    return out


def close(found, wanted, tolerance=1e-12):
    return np.allclose(found, wanted, rtol=0, atol=tolerance)


@over_models
def test_transport_is_the_norm_of_the_explicit_product(model):
    wanted = explicit(linearize.jacobians(model.step, model.params, model.state, model.xs))
    assert close(flow.log_transport(model.step, model.params, model.state, model.xs), wanted)


@over_models
def test_the_squares_of_the_blocks_sum_to_the_whole(model):
    whole = flow.log_transport(model.step, model.params, model.state, model.xs)
    blocks = flow.log_transport_blocks(model.step, model.params, model.state, model.xs)
    assert len(blocks) == len(jax.tree.leaves(model.state)) ** 2
    summed = np.log(
        sum(np.exp(2 * np.asarray(block)) for block in blocks.values()), where=np.tri(STEPS + 1, dtype=bool), out=np.full((STEPS + 1,) * 2, -np.inf)
    )
    assert close(summed / 2, whole)


def test_a_block_goes_from_its_first_name_to_its_second():
    cell = cells.lstm(2, 3)
    params, state, xs = random_params(cell), cells.LSTMState(noise(1, (3,)), noise(2, (3,))), noise(3, (4, 2))
    product = products(linearize.jacobians(cell.step, params, state, xs))[4, 1]  # real coordinates: h, then c
    blocks = flow.log_transport_blocks(cell.step, params, state, xs)
    place = {"h": slice(0, 3), "c": slice(3, 6)}
    for (start, end), found in blocks.items():
        assert abs(found[4, 1] - np.log(np.linalg.norm(product[place[end], place[start]]) / np.sqrt(6))) < 1e-12


CELL = cells.gru(2, 3)
PARAMS, XS = random_params(CELL), noise(4, (11, 2))


@pytest.mark.parametrize("stride", [2, 3, 11, 12, 50])
def test_a_stride_takes_columns_of_the_full_transport(stride):
    full = flow.log_transport(CELL.step, PARAMS, jnp.ones(3), XS)
    strided = flow.log_transport(CELL.step, PARAMS, jnp.ones(3), XS, stride=stride)
    assert strided.shape == (12, -(-12 // stride))
    assert close(strided, full[:, ::stride])
    blocks = flow.log_transport_blocks(CELL.step, PARAMS, jnp.ones(3), XS, stride=stride)
    assert close(blocks["h", "h"], strided)


def test_transport_of_stored_jacobians_is_that_of_the_step():
    jacobians = linearize.jacobians(CELL.step, PARAMS, jnp.ones(3), XS)
    assert close(flow.from_jacobians(jacobians, stride=3), flow.log_transport(CELL.step, PARAMS, jnp.ones(3), XS, stride=3))


@pytest.mark.parametrize("gain", [3.0, 0.5])
def test_two_thousand_steps_neither_overflow_nor_underflow_and_go_at_the_largest_exponent(gain):
    n, length, stride = 32, 2000, 500
    cell = cells.vanilla(1, n)
    params = cell.init_params(jax.random.key(0), gain=gain)
    start = noise(5, (n,))
    found = np.asarray(flow.log_transport(cell.step, params, start, None, length=length, stride=stride))
    past = np.arange(length + 1)[:, None] >= stride * np.arange(found.shape[1])
    assert np.isfinite(found[past]).all()
    assert (found[~past] == -np.inf).all()
    assert np.abs(found).max(where=past, initial=0) > 100  # e^±1000 is out of reach of explicit products
    frame = jnp.asarray(np.linalg.qr(np.asarray(noise(6, (n, 1))))[0])
    rate = float(lyapunov.spectrum(cell.step, params, start, None, length=length, frame=frame).exponents[0])
    # Between ‖P v‖ for a random v and ‖P‖_F / √n lies the share of v along the leading direction: O(log n / T).
    assert abs(found[-1, 0] / length - rate) < 2 * np.log(n) / length


@over_models
def test_the_gain_is_the_largest_singular_value_of_the_whole_product(model):
    product = products(linearize.jacobians(model.step, model.params, model.state, model.xs))[STEPS, 0]
    assert abs(flow.log_gain(model.step, model.params, model.state, model.xs) - np.log(np.linalg.norm(product, 2))) < 1e-12


def test_a_zero_jacobian_transports_nothing():
    step = lambda p, h, x: jnp.where(x > 0, h, 0 * h)
    xs = jnp.array([1.0, 0.0, 1.0])
    found = flow.log_transport(step, None, jnp.ones(2), xs)
    zero, inf = 0.0, -np.inf
    assert close(found, [[zero, inf, inf, inf], [zero, zero, inf, inf], [inf, inf, zero, inf], [inf, inf, zero, zero]])
    assert flow.log_gain(step, None, jnp.ones(2), xs) == -np.inf


def test_a_nan_reaches_every_later_time_and_no_earlier_one():
    found = np.asarray(flow.from_jacobians(noise(7, (5, 2, 2)).at[2, 0, 0].set(jnp.nan)))
    through = np.array([[k <= 2 < t for k in range(6)] for t in range(6)])  # J_3 lies between k and t
    assert (np.isnan(found) == through).all()
    assert (found[np.triu_indices(6, 1)] == -np.inf).all()
    assert np.isnan(flow.log_gain(lambda p, h, x: h * x, None, jnp.ones(2), jnp.array([1.0, jnp.nan, 1.0])))


def test_one_step_of_one_unit():
    assert close(flow.log_transport(lambda a, h, x: a * h, 0.5, 1.0, None, length=1), [[0, -np.inf], [np.log(0.5), 0]])


def test_transport_can_be_differentiated():
    # d/da log|a^(t−k)| = (t − k)/a, so that Σ over k ≤ t is Σ (t − k) / a: the penalty that keeps transport near 0.
    def total(a):
        found = flow.log_transport(lambda a, h, x: a * h, a, 1.0, None, length=4)
        return jnp.where(jnp.tri(5, dtype=bool), found, 0.0).sum()

    assert abs(jax.grad(total)(0.8) - 20 / 0.8) < 1e-12


@over_models
def test_state_gradients_are_those_of_the_remaining_loss(model):
    path = trajectory(model.step, model.params, model.state, model.xs, STEPS)

    def remaining(h, t):
        """The loss from time t on as a function of h_t."""
        out = of_distance(model.params, h, at_time(model.xs, t - 1), TARGETS[t - 1]) if t else 0.0
        for i in range(t, STEPS):
            h = model.step(model.params, h, at_time(model.xs, i))
            out += of_distance(model.params, h, at_time(model.xs, i), TARGETS[i])
        return out

    found = flow.state_gradients(model.step, model.params, model.state, model.xs, TARGETS, of_distance)
    assert abs(found.loss / remaining(path[0], 0) - 1) < 100 * EPS
    for t in (0, 3, STEPS):
        assert relative(at_time(found.states, t), jax.grad(remaining)(path[t], t)) < 1e-12


@over_models
def test_the_gradient_of_the_parameters_is_that_of_a_python_loop(model):
    def whole(params):
        path = trajectory(model.step, params, model.state, model.xs, STEPS)[1:]
        return sum(of_distance(params, h, at_time(model.xs, i), TARGETS[i]) for i, h in enumerate(path))

    found = flow.state_gradients(model.step, model.params, model.state, model.xs, TARGETS, of_distance)
    assert relative(found.params, jax.jit(jax.grad(whole))(model.params)) < 1e-12


def test_a_mask_in_the_targets_reaches_the_loss():
    masked = lambda p, h, x, y: y["mask"] * jnp.sum((h - y["value"]) ** 2)
    targets = {"value": noise(8, (11, 3)), "mask": jnp.zeros(11).at[4].set(1.0)}
    found = flow.state_gradients(CELL.step, PARAMS, jnp.ones(3), XS, targets, masked)
    assert (np.abs(found.states[:6]).sum(1) > 0).all()
    assert not found.states[6:].any()


@pytest.mark.parametrize("lag", [1, 4, 10])
def test_the_horizon_of_a_linear_unit_follows_from_its_weight(lag):
    a = 0.36787944117144233 ** (1 / (lag - 0.5))  # a^lag < 1/e < a^(lag − 1)
    transport = flow.log_transport(lambda a, h, x: a * h, a, 1.0, None, length=30)
    found = flow.horizon(transport)
    assert found.lags.tolist() == [lag] * 3
    assert abs(found.censored - (lag - 1) / 30) < EPS * 10  # the starts at T − lag + 1 .. T − 1 saw too little


def test_what_never_falls_lasts_for_ever():
    transport = flow.log_transport(lambda a, h, x: h, None, 1.0, None, length=20)
    found = flow.horizon(transport)
    assert (found.lags == np.inf).all()
    assert found.censored == 1


def test_the_horizon_is_the_last_crossing_not_the_first():
    # One start: below the level at lag 1, above again at lag 2, below for good from lag 3.
    column = jnp.log(jnp.array([1.0, 0.1, 0.5, 0.1, 0.1]))[:, None]
    assert flow.horizon(column, stride=5).lags.tolist() == [3, 3, 3]


def test_censored_starts_count_as_kaplan_and_meier_count_them():
    # Five sequences of four steps, one start each, that end at lags 1, 2, 2, 4 and never while seen.
    # S(1) = 4/5, S(2) = 4/5 · 2/4 = 2/5, S(3) = 2/5, S(4) = 2/5 · 1/2 = 1/5.
    ends = [1, 2, 2, 4, 5]
    transport = jnp.stack([jnp.where(jnp.arange(5) < end, 0.0, -9.0)[:, None] for end in ends])
    found = flow.horizon(transport, stride=5, quantiles=(0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9))
    assert found.lags.tolist() == [1, 1, 2, 2, 4, 4, np.inf]
    assert abs(found.censored - 1 / 5) < EPS


def test_late_starts_leave_the_risk_when_their_sequence_ends():
    # T = 3, starts 0, 1, 2 (and 3, which says nothing). 0 ends at lag 3; 1 ends at lag 1; 2 is still above at lag 1, its last.
    # At risk: lag 1 {0, 1, 2}, lag 2 {0}, lag 3 {0}. S(1) = 2/3, S(2) = 2/3, S(3) = 0.
    up, down, none = 0.0, -9.0, -np.inf
    transport = jnp.array([[up, none, none, none], [up, up, none, none], [up, down, up, none], [down, down, up, up]])
    found = flow.horizon(transport, quantiles=(0.3, 0.4, 0.9))
    assert found.lags.tolist() == [1, 3, 3]
    assert abs(found.censored - 1 / 3) < 10 * EPS


@pytest.mark.slow
def test_the_slope_of_the_gradient_of_a_last_loss_is_the_largest_exponent():
    cell = cells.vanilla(2, 64)
    params, length = cell.init_params(jax.random.key(1), gain=1.5, input_gain=0.2), 600
    xs = noise(9, (length, 2))
    last = jnp.zeros(length).at[-1].set(1.0)
    found = flow.state_gradients(cell.step, params, jnp.zeros(64), xs, last, lambda p, h, x, y: y * h.sum())
    logs = np.log(np.linalg.norm(found.states, axis=1))
    rate = lyapunov.spectrum(cell.step, params, jnp.zeros(64), xs, k=1).exponents[0]
    # ‖… Jᵀ u‖ and ‖J … v‖ of the same product are each σ₁ times the share of a vector along one direction: O(log n / T).
    assert abs((logs[0] - logs[-1]) / length - rate) < 2 * np.log(64) / length


@pytest.mark.parametrize("cell", [cells.vanilla(2, 4), cells.vanilla(2, 4, "relu"), cells.gru(2, 4), cells.lstm(2, 4)])
def test_weights_and_activations_share_the_growth_of_a_perturbation_exactly(cell):
    params = random_params(cell)
    state, xs = cell.init_state(params), noise(3, (30, 2))
    split = flow.growth_split(cell.step, params, state, xs)
    rate = lyapunov.spectrum(cell.step, params, state, xs, k=1).exponents[0]
    assert abs(split.weights + split.activation - rate) < 1e-12


def test_the_weights_alone_grow_a_linear_cell():
    cell = cells.vanilla(2, 4, "identity")
    params = random_params(cell)
    assert flow.growth_split(cell.step, params, jnp.ones(4), noise(3, (30, 2))).activation == 0


def test_an_opaque_step_has_no_split():
    with pytest.raises(TypeError, match="declares no affine-then-pointwise structure"):
        flow.growth_split(lambda p, h, x: h, (), jnp.ones(2), jnp.ones((3, 1)))


def test_leading_directions_are_the_singular_vectors_of_the_whole_product():
    cell = cells.lstm(2, 3)
    params = cell.init_params(jax.random.key(2))
    state, xs = cell.init_state(params), noise(50, (8, 2))
    found = flow.leading_directions(cell.step, params, state, xs, k=4)
    product = np.linalg.multi_dot(list(np.asarray(linearize.jacobians(cell.step, params, state, xs))[::-1]))
    flat = lambda tree: np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(tree)], 1)
    assert type(found.start).__name__ == "LSTMState"
    for i in range(4):
        gain = np.exp(found.log_gains[i])
        np.testing.assert_allclose(product @ flat(found.start)[i], gain * flat(found.end)[i], atol=1e-12)
        np.testing.assert_allclose(product.T @ flat(found.end)[i], gain * flat(found.start)[i], atol=1e-12)
    assert found.log_gains[0] == pytest.approx(float(flow.log_gain(cell.step, params, state, xs)))


def test_directions_that_drowned_have_no_gain():
    found = flow.leading_directions(lambda a, h, x: a * h, jnp.array([0.9, 1e-9, 0.0]), jnp.ones(3), None, length=5, k=3)
    assert found.log_gains.tolist() == pytest.approx([5 * np.log(0.9), -np.inf, -np.inf])
    dead = flow.leading_directions(lambda a, h, x: a * h, jnp.zeros(2), jnp.ones(2), None, length=5)
    assert dead.log_gains.tolist() == [-np.inf]
    with pytest.raises(ValueError, match=r"k=3 must be in \[1, 2\]"):
        flow.leading_directions(lambda a, h, x: a * h, jnp.ones(2), jnp.ones(2), None, length=5, k=3)


def test_many_starting_times_are_taken_in_blocks_and_none_is_missed():
    n, length = 5, 140
    jacobians = noise(61, (length, n, n)) / np.sqrt(n)
    found = np.asarray(flow.from_jacobians(jacobians))
    product = lambda t, k: np.linalg.multi_dot([np.eye(n), *np.asarray(jacobians[k:t])[::-1], np.eye(n)]) if t > k else np.eye(n)
    for t, k in [(0, 0), (140, 140), (140, 0), (70, 17), (71, 70), (36, 35), (139, 105), (140, 139), (35, 36), (0, 140)]:
        wanted = np.log(np.linalg.norm(product(t, k)) / np.sqrt(n)) if t >= k else -np.inf
        assert found[t, k] == pytest.approx(wanted, abs=1e-11)
    assert (np.isneginf(found) == np.triu(np.ones_like(found), 1).astype(bool)).all()
    np.testing.assert_allclose(flow.from_jacobians(jacobians, stride=3), found[:, ::3], atol=1e-11)


@over_models
def test_probes_estimate_the_transport_within_their_errors(model):
    xs = model.inputs(12)
    args = (model.step, model.params, model.state, xs)
    exact = np.asarray(flow.log_transport(*args, stride=4))
    found = flow.transport_by_probes(*args, jax.random.key(3), stride=4, probes=64)
    assert (np.isneginf(found.log_transport) == np.isneginf(exact)).all()
    seen = np.isfinite(exact)
    error, allowed = np.abs(np.asarray(found.log_transport)[seen] - exact[seen]), np.asarray(found.standard_errors)[seen]
    # Signs make the estimate exact where columns are orthogonal; five errors of a skewed mean of 64, and its bias of one error squared.
    assert (error <= 5 * allowed + allowed**2 + 1e-12).all()


def test_probes_are_unbiased_in_the_square():
    n, length = 12, 5
    jacobians = noise(62, (length, n, n)) / np.sqrt(n)
    model = (lambda p, h, j: j @ h, (), jnp.ones(n), jacobians)
    exact = flow.log_transport(*model)[-1, 0]
    estimates = jax.vmap(lambda key: flow.transport_by_probes(*model, key, stride=6, probes=2).log_transport[-1, 0])
    ratio = np.exp(2 * (estimates(jax.random.split(jax.random.key(4), 4000)) - exact))
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(4000)
    assert ratio.std() > 0.05
    with pytest.raises(ValueError, match="probes=1 must be at least 2"):
        flow.transport_by_probes(*model, jax.random.key(0), probes=1)


def test_probes_survive_where_an_explicit_product_would_not():
    found = flow.transport_by_probes(lambda a, h, x: a * h, 1e-3, jnp.ones(3), None, jax.random.key(0), length=300, stride=300)
    assert relative(found.log_transport[-1, 0], 300 * np.log(1e-3)) < 1e-12
    dead = flow.transport_by_probes(lambda a, h, x: a * h, 0.0, jnp.ones(3), None, jax.random.key(0), length=3)
    assert (np.asarray(dead.log_transport)[np.tril_indices(4, -1)] == -np.inf).all()
    assert (dead.standard_errors == 0).all()


@over_models
def test_input_gradients_are_those_of_a_python_loop(model):
    targets = jnp.linspace(-1, 1, STEPS)

    def total(xs):
        states = trajectory(model.step, model.params, model.state, xs, STEPS)[1:]
        return sum(of_distance(model.params, h, at_time(xs, t), targets[t]) for t, h in enumerate(states))

    found = flow.input_gradients(model.step, model.params, model.state, model.xs, targets, of_distance)
    assert relative(found, jax.grad(total)(model.xs)) < 1e-10


def test_inputs_that_have_no_derivative_are_refused():
    step, loss = (lambda p, h, x: h + p * x), (lambda p, h, x, y: h)
    with pytest.raises(ValueError, match="xs is None"):
        flow.input_gradients(lambda p, h, x: p * h, 1.0, 0.0, None, jnp.zeros(3), loss)
    with pytest.raises(TypeError, match="of the input has dtype int"):
        flow.input_gradients(step, 1.0, 0.0, jnp.arange(3), jnp.zeros(3), loss)


@over_models
def test_the_slope_of_a_last_loss_and_the_leading_exponent_differ_by_no_more_than_the_bound(model):
    xs = model.inputs(60)
    found = flow.slope(model.step, model.params, model.state, xs, jnp.asarray(0.3), of_distance)
    exponent = lyapunov.spectrum(model.step, model.params, model.state, xs, k=1).exponents[0]
    np.testing.assert_allclose(found.exponent, exponent, atol=1e-12)
    assert found.slope == exponent or abs(found.slope - exponent) <= found.bound + 1e-10  # a dead ReLU: −inf both
    padded = jnp.zeros(60).at[-1].set(1.0)
    masked = lambda p, h, x, w: w * of_distance(p, h, x, jnp.asarray(0.3, w.dtype))
    gradients = flow.state_gradients(model.step, model.params, model.state, xs, padded, masked).states
    norms = np.linalg.norm([real_vector(at_time(gradients, t)) for t in range(61)], axis=1)
    np.testing.assert_allclose(np.exp(found.log_gradient), norms, rtol=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_on_driven_networks_the_slope_is_the_exponent_within_its_bound(seed):
    n, length, gain, drive = 24, 500, 0.8 + 0.1 * seed, (0.1, 0.5, 1.0)[seed % 3]
    cell = cells.vanilla(n, n)
    params = cell.init_params(jax.random.key(seed), gain=gain) | {"W_xh": drive * jnp.eye(n)}
    xs = noise(1000 + seed, (length, n))
    found = flow.slope(cell.step, params, jnp.zeros(n), xs, jnp.asarray(0.3), of_distance)
    exponent = lyapunov.spectrum(cell.step, params, jnp.zeros(n), xs, k=1).exponents[0]
    assert abs(found.slope - exponent) <= found.bound + 1e-10
    assert found.bound < 12 / length  # log κ of random directions in 24 dimensions
