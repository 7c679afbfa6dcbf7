import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import bptt, cells, unroll
from tests.models import MODELS, STEPS, at_time, noise, of_distance, over_models, random_params, relative, trajectory

TARGETS = noise(99, (60,))


def terms_on_stored_states(model, steps):
    return _terms(model.name, steps)


@functools.cache
def _terms(name, steps):
    """∂L_t/∂θ_k for every (t, k), and the direct part, with jax.grad and one copy of θ per step: an independent route.

    Everything is linearised on the stored states h_j, as h_j + (h − stop_gradient(h)): in chaos the states of
    another program would part from them.
    """
    model = next(row for row in MODELS if row.name == name)
    stored = trajectory(model.step, model.params, model.state, model.xs, steps)
    live = lambda value, h: jax.tree.map(lambda a, b: a + (b - jax.lax.stop_gradient(b)), value, h)

    def losses(copies, outer):
        h, out = stored[0], []
        for j in range(steps):
            h = live(stored[j + 1], model.step(at_time(copies, j), h, at_time(model.xs, j)))
            out.append(of_distance(outer, h, at_time(model.xs, j), TARGETS[j]))
        return jnp.stack(out)

    @jax.jit
    def rows(copies, outer):
        weighted = lambda v: jax.grad(lambda c, o: v @ losses(c, o), (0, 1))(copies, outer)
        return jax.vmap(weighted)(jnp.eye(steps))

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (steps, *leaf.shape)), model.params)
    return rows(copies, model.params)  # per leaf (t, k, ...), and (t, ...)


def decomposed(model, steps=STEPS):
    return _decomposed(model.name, steps, None)


@functools.cache
def _decomposed(name, steps, max_lag):
    model = next(row for row in MODELS if row.name == name)
    xs = jax.tree.map(lambda leaf: leaf[:steps], model.xs)
    return bptt.decompose(model.step, model.params, model.state, xs, TARGETS[:steps], of_distance, max_lag=max_lag)


def norms(terms):
    """Norm of every (t, k) term of a leaf."""
    return np.linalg.norm(np.asarray(terms).reshape(*terms.shape[:2], -1), axis=-1)


def size_of_all(terms):
    """Σ‖term‖ over all terms and leaves, the scale on which their sum can be known."""
    return sum(norms(leaf).sum() for leaf in jax.tree.leaves(terms))


@over_models
def test_every_term_is_the_gradient_of_one_loss_with_the_parameters_active_at_one_step(model):
    terms, _ = terms_on_stored_states(model, STEPS)
    found = decomposed(model).log_norms
    for got, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(terms), strict=True):
        assert np.abs(np.exp(got) - norms(leaf)).max() < 1e-10 * size_of_all(terms)
        assert (got[np.triu_indices(STEPS, 1)] == -np.inf).all()


@over_models
def test_by_lag_sums_the_terms_of_each_lag(model):
    terms, _ = terms_on_stored_states(model, STEPS)
    wanted = jax.tree.map(lambda leaf: jnp.stack([sum(leaf[t, t - lag] for t in range(lag, STEPS)) for lag in range(STEPS)]), terms)
    assert relative(decomposed(model).by_lag, wanted, size_of_all(terms)) < 1e-10


@over_models
def test_direct_is_the_gradient_at_fixed_states(model):
    _, direct = terms_on_stored_states(model, STEPS)
    assert relative(decomposed(model).direct, direct) < 1e-14


@over_models
@pytest.mark.parametrize("steps", [1, STEPS])
def test_the_terms_sum_to_the_gradient_on_the_same_stored_states(model, steps):
    terms, direct = terms_on_stored_states(model, steps)
    wanted = jax.tree.map(lambda a, b: a.sum((0, 1)) + b.sum(0), terms, direct)
    assert relative(decomposed(model, steps).total, wanted, size_of_all(terms)) < 1e-10


@over_models
def test_the_total_is_jax_grad_of_the_whole_loss(model):
    def whole(params):
        hs = unroll.states(model.step, params, model.state, model.xs)
        return jax.vmap(of_distance, (None, 0, 0, 0))(params, hs, model.xs, TARGETS[:STEPS]).sum()

    terms, _ = terms_on_stored_states(model, STEPS)
    assert relative(decomposed(model).total, jax.grad(whole)(model.params), size_of_all(terms)) < 1e-10


@over_models
def test_a_bounded_lag_sums_the_rest_into_one_entry(model):
    max_lag = 2
    full, cut = decomposed(model), _decomposed(model.name, STEPS, max_lag)
    terms, _ = terms_on_stored_states(model, STEPS)
    scale = size_of_all(terms)
    fold = lambda leaf: jnp.concatenate([leaf[: max_lag + 1], leaf[max_lag + 1 :].sum(0, keepdims=True)])
    assert relative(cut.by_lag, jax.tree.map(fold, full.by_lag), scale) < 1e-10
    assert relative(cut.total, full.total, scale) < 1e-10
    assert np.abs(cut.cosine - full.cosine[jnp.r_[: max_lag + 1, -1]]).max() < 1e-10
    near = np.subtract.outer(np.arange(STEPS), np.arange(STEPS)) <= max_lag
    for a, b in zip(jax.tree.leaves(cut.log_norms), jax.tree.leaves(full.log_norms), strict=True):
        assert np.allclose(a, np.where(near, b, -np.inf), rtol=1e-12, atol=1e-12)


CELL = cells.with_readout(cells.lstm(2, 3), 2)
PARAMS = random_params(CELL)
LOSS = cells.readout_loss(CELL, lambda prediction, target: jnp.sum((prediction - target) ** 2))
XS, YS = noise(1, (9, 2)), noise(2, (9, 2))


def of_cell(length=9, **options):
    return bptt.decompose(CELL.step, PARAMS, CELL.init_state(PARAMS), XS[:length], YS[:length], LOSS, **options)


@pytest.mark.parametrize(("times", "max_lag"), [((9,), None), ((7, 2), None), ((1,), 3), ((2, 9), 3)])
def test_chosen_times_are_rows_of_all_times(times, max_lag):
    chosen, rows = of_cell(times=times, max_lag=max_lag), np.array(times) - 1
    everything = of_cell()
    for name, leaf in chosen.log_norms.items():
        wanted = everything.log_norms[name][rows]
        if max_lag is not None:
            wanted = np.where(rows[:, None] - np.arange(9) <= max_lag, wanted, -np.inf)
        assert np.allclose(leaf, wanted, rtol=1e-12, atol=1e-10), name
        assert np.allclose(chosen.direct[name], everything.direct[name][rows], rtol=1e-13, atol=1e-13), name

    def chosen_loss(params):
        hs = unroll.states(CELL.step, params, CELL.init_state(params), XS)
        return jax.vmap(LOSS, (None, 0, 0, 0))(params, hs, XS, YS)[rows].sum()

    assert relative(chosen.total, jax.grad(chosen_loss)(PARAMS)) < 1e-12


def test_the_readout_is_reached_directly_and_the_recurrence_through_the_state():
    parts = of_cell()
    assert all((parts.log_norms[name] == -np.inf).all() for name in ("W_hy", "b_y"))
    assert all(not parts.direct[name].any() for name in ("W_hh", "W_xh", "b_h"))
    assert parts.total["W_hy"].any()


def test_cosine_and_share_follow_from_the_terms_by_definition():
    model = next(row for row in MODELS if row.name == "gru")
    terms, _ = terms_on_stored_states(model, STEPS)
    flat = np.concatenate([np.asarray(leaf).reshape(STEPS, STEPS, -1) for leaf in jax.tree.leaves(terms)], axis=-1)
    lag = np.subtract.outer(np.arange(STEPS), np.arange(STEPS))
    full, sizes = flat.sum((0, 1)), np.linalg.norm(flat, axis=-1)
    cut = [flat[(lag >= 0) & (lag <= m)].sum(0) for m in range(STEPS)]
    cosine = [c @ full / np.linalg.norm(c) / np.linalg.norm(full) for c in cut]
    share = [sizes[lag >= m].sum() / sizes.sum() for m in range(STEPS)]
    found = decomposed(model)
    assert np.abs(found.cosine - np.array(cosine)).max() < 1e-12
    assert np.abs(found.lag_share - np.array(share)).max() < 1e-12


@pytest.mark.parametrize(("cosine", "lag"), [(0.1, 0), (0.9, 1), (0.99, 3), (0.996, 3), (1.0, 4)])
def test_the_truncation_lag_is_the_first_from_which_the_cosine_stays_above(cosine, lag):
    parts = bptt.Decomposition(None, None, None, None, jnp.array([0.5, 0.995, 0.98, 0.999, 1.0]), None)
    assert bptt.truncation_lag(parts, cosine) == lag


def test_a_cosine_hides_what_the_share_shows():
    # One unit keeps its input for ever and is asked for at the last step only, one forgets and is asked for loudly at every step.
    steps = 40
    keeps_and_forgets = lambda params, h, x: jnp.array([1.0, 0.3]) * h + params * x
    loss = lambda params, h, x, y: 100 * h[1] + y * h[0]
    last = jnp.zeros(steps).at[-1].set(1.0)
    parts = bptt.decompose(keeps_and_forgets, jnp.ones(2), jnp.zeros(2), jnp.ones((steps, 2)), last, loss)
    lags = np.arange(steps)
    sizes = 100 * 0.3**lags * (steps - 1 - lags) + np.hypot(100 * 0.3**lags, 1)
    assert bptt.truncation_lag(parts) < 5
    assert np.abs(parts.lag_share - sizes[::-1].cumsum()[::-1] / sizes.sum()).max() < 1e-13


def test_the_sum_never_differentiates_through_time(monkeypatch):
    wanted = of_cell(8).total
    plain = bptt.terms.states
    calls = []

    def frozen(*args, **kwargs):
        calls.append(1)
        return jax.lax.stop_gradient(plain(*args, **kwargs))

    monkeypatch.setattr(bptt.terms, "states", frozen)
    bptt.terms._decompose.jitted.clear_cache()
    assert relative(of_cell(8).total, wanted) == 0
    assert calls == [1]
    bptt.terms._decompose.jitted.clear_cache()


@pytest.mark.parametrize(("gain", "rate"), [(0.1, np.log(0.1)), (10.0, np.log(10.0))])
def test_logs_stay_finite_where_float32_underflows_or_overflows(gain, rate):
    steps = 300
    linear = lambda params, h, x: params["w"] * h + params["b"]
    params = {"w": jnp.float32(gain), "b": jnp.float32(0.0)}
    # b enters as 1 at every step, so that its term (t, k) is exactly gain^(t−k).
    parts = bptt.decompose(
        linear, params, jnp.float32(0), jnp.zeros(steps, jnp.float32), jnp.zeros(steps, jnp.float32), lambda p, h, x, y: h, times=(steps,)
    )
    found = np.asarray(parts.log_norms["b"][0])
    wanted = rate * np.arange(steps)[::-1]
    assert found.dtype == np.float32
    # Each of the 300 logs added in float32 rounds to half a unit in the last place of a sum of up to |300 ln 10|.
    assert np.abs(found - wanted).max() < steps * np.abs(wanted).max() * np.finfo(np.float32).eps / 2


def test_the_vanishing_terms_of_a_tanh_net_fall_at_its_rate():
    cell = cells.vanilla(1, 8)
    params = cell.init_params(jax.random.key(0), gain=0.1)
    parts = bptt.decompose(
        cell.step, params, cell.init_state(params), jnp.zeros((400, 1)), noise(3, (400,)), lambda p, h, x, y: h.sum(), times=(400,)
    )
    # At rest J = W_hh: the slope over 200 steps is ln ρ(W) up to O(log κ / 200).
    found = np.asarray(parts.log_norms["b_h"][0])
    rate = np.log(np.abs(np.linalg.eigvals(params["W_hh"])).max())
    assert np.isfinite(found).all()
    assert found[0] < -745  # below the smallest float64
    assert abs((found[50] - found[250]) / 200 - rate) < np.log(np.linalg.cond(np.linalg.eig(np.asarray(params["W_hh"]))[1])) / 200


def test_decomposition_works_under_the_callers_jit_and_vmap():
    starts = cells.LSTMState(noise(4, (2, 3)), noise(5, (2, 3)))
    run = lambda h: bptt.decompose(CELL.step, PARAMS, h, XS, YS, LOSS)
    found, alone = jax.jit(jax.vmap(run))(starts), run(at_time(starts, 1))
    assert relative(at_time(found.total, 1), alone.total) < 1e-12
    assert relative(at_time(found.lag_share, 1), alone.lag_share) < 1e-12


@over_models
def test_contributions_are_the_terms_along_their_sum_and_sum_to_one(model):
    xs, targets = model.inputs(7), noise(98, (7,))
    args = (model.step, model.params, model.state, xs, targets, of_distance)
    parts = bptt.decompose(*args)
    whole = jax.tree.map(lambda leaf: leaf.sum(0), parts.by_lag)
    dot = lambda a, b: sum(float(jnp.sum(jnp.conj(p) * q).real) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    found = np.asarray(bptt.contributions(*args))
    assert found.shape == (7, 7)
    assert (found[np.triu_indices(7, 1)] == 0).all()
    size = np.abs(found).sum()
    assert abs(found.sum() - 1) < 1e-10 * size
    by_lag = [np.diagonal(found, -lag).sum() for lag in range(7)]
    wanted = [dot(whole, jax.tree.map(lambda leaf, i=lag: leaf[i], parts.by_lag)) / dot(whole, whole) for lag in range(7)]
    assert np.abs(np.subtract(by_lag, wanted)).max() < 1e-10 * size
    chosen = bptt.contributions(*args, times=(6, 2))
    some = bptt.decompose(*args, times=(6, 2))
    rest = jax.tree.map(lambda leaf: leaf.sum(0), some.by_lag)
    ratio = dot(whole, whole) / dot(rest, rest)
    assert chosen.shape == (2, 7)
    assert abs(chosen.sum() - 1) < 1e-9 * np.abs(chosen).sum()
    assert ratio > 0


def test_lags_in_blocks_are_the_lags_one_by_one():
    # Long enough for several blocks of lags, with rows that end inside each.
    cell = cells.vanilla(2, 3)
    params, xs, targets = random_params(cell), noise(31, (70, 2)), noise(32, (70,))
    args = (cell.step, params, cell.init_state(params), xs, targets, of_distance)
    parts = bptt.decompose(*args)
    gradient = jax.grad(
        lambda theta: jnp.sum(jax.vmap(of_distance, (None, 0, 0, 0))(theta, unroll.states(cell.step, theta, args[2], xs), xs, targets))
    )
    assert relative(parts.total, gradient(params)) < 1e-10
    for t in (1, 17, 18, 35, 36, 53, 70):
        row = bptt.decompose(*args, times=(t,))
        np.testing.assert_allclose(row.log_norms["W_hh"][0, :t], parts.log_norms["W_hh"][t - 1, :t], rtol=1e-10)
        assert (parts.log_norms["W_hh"][t - 1, t:] == -np.inf).all()
    bounded = bptt.decompose(*args, max_lag=40)
    assert relative(bounded.total, parts.total) < 1e-10
    assert relative(jax.tree.map(lambda leaf: leaf[:41], bounded.by_lag), jax.tree.map(lambda leaf: leaf[:41], parts.by_lag)) < 1e-10


def test_five_hundred_steps_fit():
    cell = cells.with_readout(cells.vanilla(2, 64), 1)
    params = cell.init_params(jax.random.key(0))
    loss = cells.readout_loss(cell, lambda prediction, target: jnp.sum((prediction - target) ** 2))
    args = (cell.step, params, cell.init_state(params), noise(33, (500, 2)), noise(34, (500, 1)), loss)
    program = bptt.terms._decompose.jitted.lower(*args, max_lag=None, times=None, trajectory=None).compile().memory_analysis()
    answer, numbers = program.output_size_in_bytes, sum(leaf.size for leaf in jax.tree.leaves(params))
    assert answer > 2 * 500 * numbers * 8  # by_lag and direct
    assert program.temp_size_in_bytes < 6 * answer


def test_large_parameters_are_taken_a_few_terms_at_a_time(monkeypatch):
    cell = cells.gru(2, 4)
    params = random_params(cell)
    args = (cell.step, params, cell.init_state(params), noise(35, (9, 2)), noise(36, (9,)), of_distance)
    together = bptt.decompose(*args)
    monkeypatch.setattr(bptt.terms, "_TOGETHER", 3 * sum(leaf.size for leaf in jax.tree.leaves(params)))
    bptt.terms._decompose.jitted.clear_cache()
    apart = bptt.decompose(*args)
    bptt.terms._decompose.jitted.clear_cache()
    for a, b in zip(jax.tree.leaves(together.log_norms), jax.tree.leaves(apart.log_norms), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_the_signal_of_long_lags_is_unbiased_and_its_error_covers_it():
    sequences, lags, size, runs = 24, 3, 5, 400
    truth = noise(40, (lags, size)) * jnp.array([[0.2], [0.3], [0.0]])
    draws = truth + 0.5 * noise(41, (runs, sequences, lags, size))
    found = jax.vmap(lambda batch: bptt.long_lag_signal({"W": batch}))(draws)
    tails = np.cumsum(np.asarray(truth)[::-1], 0)[::-1]
    wanted = (tails**2).sum(1)
    assert (np.abs(found.square.mean(0) - wanted) < 4 * found.square.std(0) / np.sqrt(runs)).all()
    # The jackknife of a U-statistic errs upwards by O(1/B) where the signal is small.
    assert (np.abs(found.square_errors.mean(0) / found.square.std(0) - 1) < 0.5).all()
    assert relative((found.noise**2).mean(), 0.25 * lags * size) < 0.02
    assert (found.signal[:, 2] == 0).mean() > 0.3  # nothing is there, and nothing is claimed half the time
    assert (found.batch[:, 2][found.signal[:, 2] == 0] == np.inf).all()


def test_a_target_at_a_long_lag_is_heard_over_a_batch_and_not_beyond():
    cell = cells.with_readout(cells.vanilla(1, 8, "identity", init="orthogonal"), 1)
    params = cell.init_params(jax.random.key(2), gain=1.0)
    loss = lambda p, h, x, target: target[1] * jnp.sum((cell.output(p, h, x) - target[0]) ** 2)
    xs = noise(42, (512, 12, 1))
    wanted = jnp.zeros((512, 12, 2)).at[:, -1, 0].set(5 * xs[:, 2, 0]).at[:, -1, 1].set(1.0)  # what came 9 steps before
    each = jax.vmap(lambda x, y: bptt.decompose(cell.step, params, cell.init_state(params), x, y, loss, times=(12,)).by_lag)(xs, wanted)
    found = bptt.long_lag_signal({"W_xh": each["W_xh"]})
    assert found.square[9] > 4 * found.square_errors[9]
    assert found.square[10] < 4 * found.square_errors[10]
    with pytest.raises(ValueError, match="the number of sequences B=2 must be at least 3"):
        bptt.long_lag_signal(jax.tree.map(lambda leaf: leaf[:2], each))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_terms_that_a_square_would_lose_keep_their_norm(scale):
    # θ enters as 1e±200 θ: the square of a term is 0 or inf in float64.
    step = lambda theta, h, x: 0.5 * h + scale * theta * x
    args = (jnp.asarray(1.0), jnp.zeros(()), jnp.arange(1.0, 5.0), jnp.zeros(4), lambda theta, h, x, y: h / scale)
    found = bptt.decompose(step, *args)
    t, k = np.mgrid[1:5, 1:5]
    wanted = np.where(k <= t, (t - k) * np.log(0.5) + np.log(k), -np.inf)
    np.testing.assert_allclose(found.log_norms, wanted, atol=1e-11)


def test_a_first_jacobian_that_is_infinite_spoils_no_gradient_that_is_finite():
    step = lambda p, h, x: p * jnp.sqrt(h) + x
    loss = lambda p, h, x, y: (h - y) ** 2
    found = bptt.decompose(step, jnp.asarray(0.5), jnp.asarray(0.0), jnp.ones(4), jnp.zeros(4), loss)

    def total(p):
        h, out = 0.0, 0.0
        for _ in range(4):
            h = p * np.sqrt(h) + 1
            out += h**2
        return out

    assert float(found.total) == pytest.approx((total(0.5 + 1e-6) - total(0.5 - 1e-6)) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("weight", [1e-25, 1.0, 1e25])
def test_contributions_do_not_depend_on_the_scale_of_the_loss(weight):
    last = lambda a, h, x, w: w * h
    args = (jnp.float32(0.5), jnp.float32(0), jnp.ones(3, jnp.float32), jnp.array([0, 0, weight], jnp.float32))
    shares = bptt.contributions(lambda a, h, x: a * h + x, *args, last)
    np.testing.assert_allclose(shares[2], [0, 0.25, 0.75], rtol=1e-6)
