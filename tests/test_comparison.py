"""Comparisons: the same seeds for every arm, and nothing lost or done twice."""

import json
import math

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxrnn import comparison, remedies, tasks, training, unroll

pytest.importorskip("orbax.checkpoint", reason="checkpoints come with the extra train")
BUDGET = comparison.Budget(steps=6, batch=3, seeds=(1, 2), every=3, test=10)
ARMS = comparison.arms(["vanilla"], [(), ("clipping",), ("gate-bias",)], [12])
adding = tasks.REGISTRY["adding"]
same = lambda a, b: a._replace(seconds_per_step=0) == b._replace(seconds_per_step=0)


def test_every_arm_gives_a_row_and_one_that_does_not_fit_says_why(tmp_path):
    rows = comparison.run(ARMS, adding, 4, BUDGET, tmp_path)
    assert [row.name for row in rows] == [arm.name for arm in ARMS]
    assert [bool(row.skipped) for row in rows] == [False, False, True]
    assert "vanilla has no gate that keeps" in rows[2].skipped
    for row in rows[:2]:
        assert (row.evaluated, len(row.metric), len(row.solved), row.failures) == ((3, 6), 2, 2, ())
        assert row.baseline == pytest.approx(1 / 6)
        assert all(math.isfinite(rate) for part in row.exponent for rate in part)
    assert rows[0].exponent[0] == rows[1].exponent[0]  # the same start
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".json"]


def test_what_is_done_is_read_and_what_was_cut_goes_on(tmp_path, monkeypatch):
    whole = comparison.run(ARMS[:1], adding, 4, BUDGET, tmp_path / "whole")

    def cut(name, done, values):
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        comparison.run(ARMS[:1], adding, 4, BUDGET._replace(every=2), tmp_path / "cut", progress=cut)
    assert [p.suffix for p in (tmp_path / "cut").iterdir()] == [".checkpoints"]
    seen = []
    resumed = comparison.run(ARMS[:1], adding, 4, BUDGET._replace(every=2), tmp_path / "cut", progress=lambda name, done, values: seen.append(done))
    assert min(seen) == 6
    assert resumed[0].metric == whole[0].metric
    monkeypatch.setattr(training, "fit", None)
    assert comparison.run(ARMS[:1], adding, 4, BUDGET, tmp_path / "whole") == whole


def test_a_result_that_is_no_result_is_refused(tmp_path):
    comparison.run(ARMS[:1], adding, 4, BUDGET, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({"row": {"name": "something"}}))
    with pytest.raises(ValueError, match="is not a result of a comparison"):
        comparison.run(ARMS[:1], adding, 4, BUDGET, tmp_path)


def test_wilsons_interval_is_the_root_of_its_equation():
    for k, n in ((0, 5), (3, 5), (5, 5), (7, 10)):
        for end in comparison.wilson(k, n):
            assert abs(k / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in remedies.CATALOGUE if remedies.executable(name)))
def test_every_remedy_trains_or_says_why_it_does_not_fit(name, tmp_path):
    given = "forcing:interval=3" if name == "forcing" else name
    (row,) = comparison.run(comparison.arms(["vanilla"], [(given,)], [12]), adding, 4, BUDGET._replace(steps=2, seeds=(1,)), tmp_path)
    assert row.skipped or len(row.metric) == 1


def test_remedies_are_tried_until_the_time_is_up():
    task = adding(12)
    setup = remedies.apply("clipping", remedies.setup("vanilla", task, 4, length=12))
    advice = [remedies.Advice(name, "", remedies.CATALOGUE[name]) for name in ("more-data", "gate-bias", "orthogonal-init")]
    rows = comparison.attempt(advice, setup, task, BUDGET)
    assert [(row.name, bool(row.skipped)) for row in rows] == [("as it is", False), ("gate-bias", True), ("orthogonal-init", False)]
    late = comparison.attempt(advice, setup, task, BUDGET, minutes=1e-9)
    assert [bool(row.skipped) for row in late] == [False, True, True]
    assert "minutes were over" in late[2].skipped


def test_somebodys_own_model_is_trained_on_its_own_loss():
    step = lambda params, h, x: jnp.tanh(params["W"] @ h + x)
    loss = lambda params, h, x, y: y * jnp.sum((h - 1.0) ** 2)
    params, state = {"W": 0.5 * jnp.eye(3)}, jnp.zeros(3)
    rows = lambda key, size: tasks.Batch(jax.random.normal(key, (size, 10, 3)), jnp.ones((size, 10)))
    test = rows(jax.random.key(9), 8)
    setup, task = comparison.own(step, params, state, loss, rows, test)
    still = comparison.train("still", setup._replace(optimizer=optax.sgd(0.0)), task, BUDGET)
    whole = lambda x, y: jax.vmap(loss, (None, 0, 0, 0))(params, unroll.states(step, params, state, x), x, y).sum()
    assert still.solved == (0, 0)
    assert still.metric == pytest.approx([float(jax.vmap(whole)(test.xs, test.targets).mean())] * 2)
    plain, penalised = (comparison.train("trained", s, task, BUDGET) for s in (setup, remedies.apply("norm-regulariser", setup)))
    assert len({still.metric, plain.metric, penalised.metric}) == 3


def test_a_ragged_model_of_ones_own_is_scored_to_the_ends_of_its_sequences():
    step, loss = (lambda a, h, x: a * h + x), (lambda a, h, x, y: (h - y) ** 2)
    ends = jnp.array([3, 5])
    rows = lambda tail: tasks.Batch(jnp.ones((2, 5)).at[0, 3:].set(tail), jnp.ones((2, 5)), ends)
    draw = lambda key, size: jax.tree.map(lambda leaf: leaf[:size], rows(9.0))
    a, h = jnp.array(0.5), jnp.array(0.0)
    still = lambda tail: comparison.own(step, a, h, loss, draw, rows(tail), learning_rate=1e-30)
    found = [comparison.train("own", *still(tail), BUDGET._replace(seeds=(1,), batch=2)).metric[0] for tail in (0.0, 9.0)]
    hs = [2 - 0.5 ** (t - 1) for t in range(1, 6)]  # h_t = ½ h_{t−1} + 1
    expected = sum((value - 1) ** 2 for end in (3, 5) for value in hs[:end]) / 2
    assert found == pytest.approx([expected] * 2)


def test_a_seed_that_stops_where_it_has_solved_the_task_keeps_its_metric():
    easy = adding(12)._replace(solved=lambda error: error < 100)
    row = comparison.train("easy", remedies.setup("vanilla", easy, 4, length=12), easy, BUDGET, stop=True)
    assert row.solved == (3, 3)
    assert all(math.isfinite(value) for value in row.metric)


@pytest.mark.parametrize(
    "change",
    [[], {"metric": 10**400}, {"metric": "high"}, {"metric": [10**400]}, {"solved": "ab"}, {"solved": [1, 2, 3]}, {"solved": [True]}, {"name": {}},
     {"exponent": [[0.1]]}, {"evaluated": [1, 2]}, {"failures": [1]}, {"skipped": None}, {"baseline": []}, "{" * 5000],
)  # fmt: skip
def test_a_result_whose_fields_do_not_fit_is_refused(change, tmp_path):
    row = comparison.Row("gru, 50", (200,), (0.01,), 0.17, (200,), (0.01,), ((-0.5,), (-0.1,)), ((5.0,), (float("inf"),)), 0.01, ())
    assert comparison.kept(tmp_path, "gru", {}, lambda folder: row) == comparison.kept(tmp_path, "gru", {}, None) == row
    (path,) = tmp_path.iterdir()
    plain = comparison.plain(row)
    path.write_text(change if isinstance(change, str) else json.dumps({"row": {**plain, **change} if isinstance(change, dict) else change}))
    with pytest.raises(ValueError, match=r"json is not a result of a comparison \(.*\); remove it to run 'gru' again"):
        comparison.kept(tmp_path, "gru", {}, None)


def test_the_value_of_a_knob_that_is_nested_too_deep_is_text():
    assert comparison.remedy("clipping:threshold=" + "[" * 5000) == ("clipping", {"threshold": "[" * 5000})
