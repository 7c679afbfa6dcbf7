"""Comparisons: the same seeds for every arm, and nothing lost or done twice."""

import json
import math

import pytest

from jaxrnn import comparison, remedies, tasks, training

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
