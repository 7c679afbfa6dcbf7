"""The training loop: the same as the plain loop however it is cut, and honest where it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import bptt, cells, flow, lyapunov, remedies, tasks, training, unroll
from jaxrnn.training import monitors

CELL = cells.with_readout(cells.gru(2, 5), 1)
TASK = tasks.adding(8)
LOSS = cells.readout_loss(CELL, TASK.loss)
KEY = jax.random.key(0)
PARAMS = CELL.init_params(KEY)
MODEL = (CELL.step, PARAMS, CELL.init_state(PARAMS))
TEST = TASK.held_out(jax.random.key(9), 20)
equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
close = lambda a, b, **options: jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **options), a, b)


def fit(**options):
    return training.fit(*MODEL, TASK.sample, LOSS, **{"steps": 6, "batch": 3, "key": KEY, **options})


def plain_loss(params, batch):
    """Mean over sequences of the sum over steps, one after the other."""
    at = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)
    total = jnp.zeros(())
    for b in range(3):
        h = MODEL[2]
        for t in range(8):
            h = CELL.step(params, h, batch.xs[b, t])
            total += LOSS(params, h, batch.xs[b, t], at(at(batch.targets, b), t))
    return total / 3


def test_the_loop_is_the_plain_loop():
    optimizer = optax.sgd(0.1)
    found = fit(steps=5, optimizer=optimizer, chunk=2)
    params, state = PARAMS, optimizer.init(PARAMS)
    for i in range(5):
        batch = TASK.sample(jax.random.fold_in(KEY, i), 3)
        value, grads = jax.value_and_grad(plain_loss)(params, batch)
        np.testing.assert_allclose(found.history["loss"][i], value, rtol=1e-5)
        np.testing.assert_allclose(found.history["gradient_norm"][i], optax.tree.norm(grads), rtol=1e-4)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    close(found.params, params, rtol=1e-4, atol=1e-6)
    assert (found.done, found.solved, found.failures) == (5, 0, ())


@pytest.mark.exact
def test_neither_chunks_nor_the_number_of_updates_nor_where_data_are_drawn_change_the_numbers():
    on_the_host = lambda key, batch: jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, TASK.sample(key, batch)))
    expected = fit()
    for found in (fit(chunk=2), fit(chunk=4), training.fit(*MODEL, on_the_host, LOSS, steps=6, batch=3, key=KEY, chunk=4)):
        equal(found.params, expected.params)
        equal(found.history, expected.history)
    equal(fit(steps=4).history["loss"], expected.history["loss"][:4])


@pytest.mark.parametrize("over", ["map", "vmap"])
def test_every_seed_is_trained_as_it_would_be_alone(over):
    keys = jax.random.split(KEY, 3)
    params = jax.vmap(CELL.init_params)(keys)
    options = dict(evaluation=training.Evaluation(CELL.output, TASK.metric, TEST, 4), monitors={"profile": monitors.profile(2)}, chunk=3)
    many = training.fit(CELL.step, params, MODEL[2], TASK.sample, LOSS, steps=6, batch=3, key=keys, over=over, **options)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], params)
        alone = training.fit(CELL.step, one, MODEL[2], TASK.sample, LOSS, steps=6, batch=3, key=keys[i], **options)
        pick = lambda tree, i=i: jax.tree.map(lambda leaf: leaf[i], tree)
        close(pick(many.params), alone.params, rtol=1e-8)
        close(pick(many.history), alone.history, rtol=1e-8)
        np.testing.assert_allclose(many.metric[i], alone.metric, rtol=1e-8)
    np.testing.assert_array_equal(many.evaluated, [4, 6])


def test_keys_and_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"key has shape \(3,\), so that every leaf of params needs \(3,\) on axis 0"):
        fit(key=jax.random.split(KEY, 3))


def ragged(tail):
    """Sequences of 5 valid steps of 8, whatever stands beyond; every step has a loss."""

    def sample(key, batch):
        whole = TASK.sample(key, batch)
        targets = {"value": whole.targets["value"].at[:, 5:].set(tail), "weight": jnp.ones_like(whole.targets["weight"])}
        return tasks.Batch(whole.xs.at[:, 5:].set(tail), targets, jnp.full(batch, 5, jnp.int32))

    return sample


def test_what_lies_beyond_the_end_of_a_sequence_is_not_read_also_by_the_gradient_or_a_monitor():
    def cut(key, batch):
        whole = ragged(0)(key, batch)
        first = lambda leaf: leaf[:, :5]
        return tasks.Batch(first(whole.xs), jax.tree.map(first, whole.targets))

    run = lambda sample: training.fit(*MODEL, sample, LOSS, steps=3, batch=2, key=KEY, monitors={"rates": monitors.exponents(2, every=1)}).history
    expected = run(cut)
    for tail in (0, 9, jnp.nan, jnp.inf):
        close(run(ragged(tail)), expected, rtol=1e-5)


def test_a_state_that_would_explode_beyond_the_end_does_not_reach_the_gradient():
    sample = lambda key, batch: tasks.Batch(jnp.ones((batch, 1000)), jnp.ones((batch, 1000)), jnp.full(batch, 4, jnp.int32))
    grows, square = lambda a, h, x: a * h + x, lambda a, h, x, y: (h - y) ** 2
    found = training.fit(grows, jnp.array(3.0), jnp.array(0.0), sample, square, steps=1, batch=2, key=KEY)
    assert np.isfinite(found.history["gradient_norm"]).all()


@pytest.mark.parametrize("every", [1, 3, 8, 50])
def test_truncated_backpropagation_keeps_the_terms_within_each_stretch(every):
    batch = TASK.sample(jax.random.fold_in(KEY, 0), 1)
    one = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
    x, y = one(batch.xs), {**one(batch.targets), "weight": jnp.ones(8)}
    sample = lambda key, size: tasks.Batch(x[None], jax.tree.map(lambda leaf: leaf[None], y))
    found = training.fit(*MODEL, sample, LOSS, steps=1, batch=1, key=KEY, optimizer=optax.sgd(1.0), truncate=every)
    gradient = jax.tree.map(lambda a, b: a - b, PARAMS, found.params)
    expected = jax.tree.map(jnp.zeros_like, PARAMS)
    hs = unroll.preceding(MODEL[2], unroll.states(*MODEL, x))
    for first in range(0, 8, every):
        part = lambda leaf, first=first: leaf[first : first + every]
        start = jax.tree.map(lambda leaf, first=first: leaf[first], hs)
        terms = bptt.decompose(CELL.step, PARAMS, start, part(x), jax.tree.map(part, y), LOSS)
        expected = jax.tree.map(jnp.add, expected, terms.total)
    close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_a_penalty_is_added_to_the_gradient_and_not_to_the_loss():
    penalty = remedies.Orthogonality(weight=0.3, leaves=("W_hh",))
    plain, found = (fit(steps=1, optimizer=optax.sgd(1.0), penalty=p) for p in (None, penalty))
    np.testing.assert_array_equal(plain.history["loss"], found.history["loss"])
    extra = jax.grad(lambda params: penalty(CELL.step, params, None))(PARAMS)
    close(jax.tree.map(lambda a, b: a - b, plain.params, found.params), extra, rtol=1e-4, atol=1e-6)


def test_the_profile_is_the_gradient_of_every_state():
    found = fit(steps=1, monitors={"profile": monitors.profile()}).history["profile"]
    batch = TASK.sample(jax.random.fold_in(KEY, 0), 3)
    each = jax.vmap(lambda x, y: flow.state_gradients(*MODEL, x, y, LOSS).states)(batch.xs, batch.targets)
    np.testing.assert_allclose(found[0], 0.5 * np.log((np.asarray(each) ** 2).sum(2).mean(0)), rtol=1e-5)


def test_the_exponents_are_those_of_the_parameters_before_the_update():
    found = fit(steps=4, chunk=3, monitors={"rates": monitors.exponents(2, every=2, sequences=3)}).history["rates"]
    assert found["exponents"].shape == (2, 2)
    params = fit(steps=3).params
    batch = TASK.sample(jax.random.fold_in(KEY, 3), 3)
    each = jax.vmap(lambda x: lyapunov.spectrum(CELL.step, params, MODEL[2], x, k=2).exponents)(batch.xs)
    np.testing.assert_allclose(found["exponents"][1], each.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["horizon"][1], -1 / found["exponents"][1, 0])


def test_the_other_monitors_say_what_they_promise():
    seen = dict(
        eigenvalues=monitors.eigenvalues(every=1),
        saturation=monitors.saturation(0.1),
        ratio=monitors.update_ratio(),
        clipped=monitors.clip_share(0.5),
    )
    found = fit(steps=2, monitors=seen).history
    blocks = np.asarray(PARAMS["W_hh"]).reshape(3, 5, 5)
    np.testing.assert_allclose(np.sort_complex(found["eigenvalues"][0]), np.sort_complex(np.linalg.eigvals(blocks)), rtol=1e-4)
    hs = jax.vmap(lambda x: unroll.states(*MODEL, x))(TASK.sample(jax.random.fold_in(KEY, 0), 3).xs)
    np.testing.assert_allclose(found["saturation"]["h"][0], [(abs(np.asarray(hs)) > 0.1).mean(), 0])
    step = jax.tree.map(lambda a, b: a - b, fit(steps=1).params, PARAMS)
    np.testing.assert_allclose(found["ratio"]["W_hh"][0], np.linalg.norm(step["W_hh"]) / np.linalg.norm(PARAMS["W_hh"]), rtol=1e-4)
    np.testing.assert_array_equal(found["clipped"], found["gradient_norm"] > 0.5)
    with pytest.raises(ValueError, match="eigenvalues of 'W': give the name of one leaf"):
        fit(monitors={"eigenvalues": monitors.eigenvalues("W")})


def test_a_log_gets_what_was_seen():
    got = []
    fit(steps=5, chunk=2, monitors={"clipped": monitors.clip_share()}, log=lambda step, values: got.append((step, sorted(values))))
    assert got == [(2, ["clipped", "gradient_norm", "loss"]), (4, ["clipped", "gradient_norm", "loss"]), (5, ["clipped", "gradient_norm", "loss"])]


def test_a_log_hears_the_share_of_clipped_updates_and_the_last_of_other_monitors():
    got = {}
    middle = float(np.median(fit().history["gradient_norm"]))
    seen = {"clipped": monitors.clip_share(middle), "ratio": monitors.update_ratio()}
    found = fit(steps=6, chunk=3, monitors=seen, log=lambda step, values: got.update({step: values})).history
    assert got[6]["clipped"] == found["clipped"][3:].mean()
    assert found["clipped"].mean() == 0.5
    assert got[6]["ratio"]["W_hh"] == found["ratio"]["W_hh"][-1]


def test_a_seed_ends_where_it_has_solved_the_task_and_the_others_go_on():
    keys = jax.random.split(KEY, 2)
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, 0 * leaf]), PARAMS)
    metric = lambda predictions, targets: jnp.mean(predictions**2)
    evaluation = training.Evaluation(CELL.output, metric, TEST, 2, lambda value: value > 0.001, stop=True)
    found = training.fit(CELL.step, params, MODEL[2], TASK.sample, LOSS, steps=8, batch=3, key=keys, evaluation=evaluation, optimizer=optax.sgd(1e-6))
    assert found.solved.tolist() == [2, 0]
    assert found.done.tolist() == [2, 8]
    assert found.metric.shape == (2, 4)
    assert np.isnan(found.metric[0, 1:]).all()
    assert np.isnan(found.history["loss"][0, 2:]).all()
    assert np.isfinite(found.history["loss"][1]).all()


def planted(at, where, value=jnp.nan):
    """The adding task with one bad number at update ``at`` (from 1), step 4 of sequence 2."""

    def sample(key, batch):
        whole = TASK.sample(key, batch)
        hit = (jax.random.key_data(key) == jax.random.key_data(jax.random.fold_in(KEY, at - 1))).all()
        put = lambda leaf: leaf.at[2, 3].set(jnp.where(hit, value, leaf[2, 3]))
        if where == "xs":
            return whole._replace(xs=put(whole.xs))
        return whole._replace(targets={**whole.targets, where: put(whole.targets[where])})

    return sample


@pytest.mark.parametrize(("where", "what", "leaf"), [("xs", "input", "h"), ("weight", "target", "weight")])
def test_a_number_planted_in_the_data_is_found(where, what, leaf):
    found = training.fit(*MODEL, planted(137, where), LOSS, steps=200, batch=3, key=KEY)
    (failure,) = found.failures
    assert (failure.update, failure.what, failure.leaf, failure.time, failure.sequence) == (137, what, leaf, 4, 2)
    assert found.done == 137
    assert len(found.history["loss"]) in (137, 150)
    equal(found.params, fit(steps=136).params)  # nothing is lost
    assert str(failure) == f"update 137 was not finite: the {what} {leaf!r} is nan at step 4 of sequence 2 of its batch"


def test_a_bad_update_is_skipped_on_request():
    found = training.fit(*MODEL, planted(3, "xs"), LOSS, steps=6, batch=3, key=KEY, nonfinite="skip")
    assert np.isnan(found.history["loss"]).tolist() == [False, False, True, False, False, False]
    assert found.failures == ()
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found.params))


def test_a_state_and_a_gradient_that_overflow_are_told_apart():
    sample = lambda key, batch: tasks.Batch(jnp.ones((batch, 400)), jnp.ones((batch, 400)))
    grows, square = lambda a, h, x: a * h + x, lambda a, h, x, y: (h - y) ** 2
    run = lambda step, a, loss: training.fit(step, jnp.array(a), jnp.array(0.0), sample, loss, steps=1, batch=2, key=KEY).failures[0]
    state = run(grows, 10.0, square)
    assert (state.what, state.time, state.value) == ("state", 310, np.inf)  # (10^t − 1)/9 passes 1.8e308 there
    # The step's value stays near 1 while its derivative is 100: ∂L/∂h_t overflows on its way back, first seen 154 steps before the end.
    steep = lambda a, h, x: a * (h - jax.lax.stop_gradient(h)) * 100.0 + x
    last = lambda a, h, x, y: h
    gradient = run(steep, 1.0, last)
    assert gradient.what == "gradient of the state"
    assert gradient.time in range(400 - 156, 400 - 152)


def test_an_update_that_is_not_finite_is_named_by_its_leaf():
    def poison(updates, state, params=None):
        return {**updates, "b_y": jnp.where(state == 1, jnp.inf, updates["b_y"])}, state + 1

    optimizer = optax.chain(optax.sgd(0.1), optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), poison))
    (failure,) = fit(optimizer=optimizer).failures
    assert (failure.update, failure.what, failure.leaf) == (2, "update", "b_y")


def test_the_first_update_that_is_not_finite_ends_a_seed_alone():
    keys = jnp.stack([KEY, jax.random.key(5)])
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), PARAMS)
    found = training.fit(CELL.step, params, MODEL[2], planted(3, "xs"), LOSS, steps=6, batch=3, key=keys)
    assert [(f.seed, f.update) for f in found.failures] == [(0, 3)]
    assert found.done.tolist() == [3, 6]


@pytest.mark.slow
def test_a_small_gru_learns_to_add():
    task = tasks.adding(10)
    cell = cells.with_readout(cells.gru(2, 16), 1)
    params = cell.init_params(KEY)
    state = cell.init_state(params)
    found = training.fit(
        cell.step, params, state, task.sample, cells.readout_loss(cell, task.loss), steps=400, batch=32, key=KEY,
        optimizer=training.default_optimizer(1e-2),
    )  # fmt: skip
    error = training.evaluate(cell.output, cell.step, found.params, state, task.held_out(jax.random.key(9), 200), task.metric)
    assert error < task.baseline / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: 0}, f"{name}=0 must") for name in ("steps", "batch", "chunk", "truncate")),
        ({"nonfinite": "ignore"}, "nonfinite='ignore' must be 'stop' or 'skip'"),
        ({"over": "pmap"}, "over='pmap' must be 'map' or 'vmap'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)
