"""The page of a comparison of arms: what it says and holds, and that its pictures can be read."""

import html
import html.parser
import json
import math
import re

import numpy as np
import pytest

from jaxrnn import _arms_page, plots, report
from jaxrnn.comparison import Row, wilson
from tests import test_plots
from tests.test_report import LADEN

NAN, INF = math.nan, math.inf
MSE = "mean squared error"
CELLS, REMEDIES = ("vanilla", "lstm", "gru", "lru"), ("", " + clipping", " + norm-regulariser")
TWELVE = [cell + remedy for cell in CELLS for remedy in REMEDIES]
EVALUATED = tuple(range(200, 2001, 200))


def row(name="gru, 100", solved=(800, 1000, 0), end=0.01, **changes):
    """A row whose median goes from the baseline to ``end``."""
    S = len(solved)
    curve = tuple(float(v) for v in np.geomspace(0.167, end, len(EVALUATED)))
    given = Row(name, solved, (end,) * S, 0.167, EVALUATED, curve, ((-0.5,) * S, (-0.01,) * S), ((5.0,) * S, (INF,) * S), 0.01, ())
    return given._replace(**changes)


def skipped(name="lru + forget-bias, 100", why="a forget bias needs a cell with gates"):
    return Row(name, (), (), NAN, (), (), ((), ()), ((), ()), NAN, (), why)


def written(rows, folder, **choices):
    """The page's text and the stored facts."""
    files = report.write_arms(rows, folder, **{"title": "adding, 64 units", "metric": MSE, **choices})
    assert [f.name for f in files[:2]] == ["compare.html", "compare.json"]
    assert all(f.stat().st_size for f in files)
    return files[0].read_text(), json.loads(files[1].read_text())


class _Balanced(html.parser.HTMLParser):
    """Open elements; an end tag must close the innermost."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_every_arm_and_everything_it_shows(tmp_path):
    rows = [row(f"{name}, 100", end=0.0004 * 2**i) for i, name in enumerate(TWELVE)] + [skipped()]
    page, facts = written(rows, tmp_path, run={"command": "jaxrnn compare", "versions": {"jax": "1.2"}})
    (parser := _Balanced()).feed(page)
    assert parser.open == []
    assert all(f"<td>{name}, 100</td>" in page for name in TWELVE)
    assert "<li>lru + forget-bias, 100: a forget bias needs a cell with gates</li>" in page
    assert all(place.startswith('"data:') for place in re.findall(r"(?:src|href)\s*=\s*(.{6})", page))
    assert not any(asking in page for asking in ("<script", "url("))
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == 3
    assert all(len(said) > 20 for said in re.findall(r'alt="([^"]*)"', page))
    assert "jaxrnn compare</pre>" in page
    assert [arm["name"] for arm in facts["arms"]] == [r.name for r in rows]
    assert facts["arms"][0]["interval"] == list(wilson(2, 3))
    assert (facts["versions"], facts["metric"], facts["arms"][-1]["interval"]) == ({"jax": "1.2"}, MSE, None)
    assert {f.name for f in tmp_path.glob("*.png")} == {"solved_shares.png", "learning_curves.png", "exponents_moved.png"}


def test_what_holds_html_is_shown_as_text(tmp_path):
    rows = [row(LADEN), row(LADEN + "2", failures=(LADEN,)), skipped(LADEN, LADEN)]
    page, _ = written(rows, tmp_path, title=LADEN, metric=LADEN, run={"command": LADEN})
    assert "<script" not in page
    assert "<img src=http" not in page
    assert "{{ 7 * 7 }}" in page


def test_the_top_says_who_solved_the_task_and_which_shares_are_told_apart():
    rows = [row("gru, 50", (1,) * 5, 0.001), row("lstm, 50", (1, 1, 1, 0, 0), 0.01), row("vanilla, 50", (0,) * 5, 0.16), skipped()]
    said = _arms_page.summary(rows, MSE)
    assert said[0].replace("\u00a0", " ") == (
        "Of the 3 arms that were run, all at length 50: gru solved the task from 5 of 5 seeds (57–100 %); "
        "lstm from 3 of 5 (23–88 %); vanilla from none of 5 (0–43 %)."
    )
    assert said[1] == "Told apart, because their 95 % intervals do not overlap: 5 of 5 against 0 of 5. All other intervals overlap."
    assert said[2] == f"At the end the median {MSE} lies from 0.001 (gru) to 0.16 (vanilla); without memory it is 0.167."
    assert said[3] == "1 of 4 arms was not run; the reasons stand below."


def test_shares_are_told_apart_exactly_where_their_intervals_do_not_overlap():
    said = lambda *counts: _arms_page.summary([row(str(k), (1,) * k + (0,) * (10 - k)) for k in counts], MSE)[1]
    assert wilson(10, 10)[0] < wilson(5, 10)[1] < wilson(10, 10)[1]
    assert wilson(5, 10)[0] < wilson(0, 10)[1] < wilson(8, 10)[0]
    told = "Told apart, because their 95 % intervals do not overlap: 10 of 10 against 0 of 10; 8 of 10 against 0 of 10. All other intervals overlap."
    assert said(10, 8, 5, 0) == told
    assert said(6, 5).startswith("The 95 % intervals of all arms overlap")
    assert said(6, 6).startswith("All arms came out alike")


def test_where_no_arm_solved_the_task_the_top_says_so(tmp_path):
    rows = [row("gru, 50", (0, 0)), row("lstm, 80", (0, 0))]
    page, facts = written(rows, tmp_path)
    assert facts["summary"][0].replace("\u00a0", " ") == "Of the 2 arms that were run: no seed solved the task (0–66 % by 2 seeds of an arm)."
    assert page.count("never") == 2
    assert ">gru, 50<" in page


def test_arms_that_were_all_skipped_have_a_page_without_pictures(tmp_path):
    page, facts = written([row()], tmp_path)
    page, facts = written([skipped(), skipped("gru + orthogonal, 100", "not square")], tmp_path)
    assert facts["summary"] == ["None of the 2 arms was run; the reasons stand below."]
    assert "<img" not in page
    assert "<table" not in page
    assert "gru + orthogonal, 100: not square" in page
    assert {f.name for f in tmp_path.iterdir()} == {"compare.html", "compare.json"}  # an earlier page's pictures are gone
    assert written([], tmp_path)[1]["summary"] == ["There is no arm to compare."]


def test_numbers_that_are_none_are_told_in_words(tmp_path):
    broken = row("as it is", (0, 0), metric=(NAN, NAN), median=(NAN,) * len(EVALUATED), baseline=NAN, failures=("seed 0 failed", "seed 1 failed"),
                 exponent=((-INF, -INF), (NAN, NAN)), horizon=((INF, 3.0), (NAN, NAN)))  # fmt: skip
    page, facts = written([broken, row("clipping")], tmp_path)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"data:image[^\"]*", "", page))
    assert "unknown, 2 failed" in page
    assert "−∞ → unknown" in page
    assert "beyond → unknown" in page
    assert "<li>as it is: seed 1 failed</li>" in page
    assert "2 of 5 seeds ended early because something was not finite." in facts["summary"]
    assert facts["arms"][0]["exponent"] == [["-inf", "-inf"], ["nan", "nan"]]
    assert (tmp_path / "learning_curves_2.png").exists()  # with another baseline


def test_one_seed_of_one_arm_is_enough_for_a_page(tmp_path):
    page, facts = written([row(solved=(400,))], tmp_path)
    assert facts["summary"][0].replace("\u00a0", " ").endswith("1 arm that was run, at length 100: gru solved the task from 1 of 1 seed (21–100 %).")
    line = _arms_page.table([row(solved=(400,))])[0]
    assert (line.solved, line.updates, line.exponent, line.horizon, line.cost, line.ratio) == (
        "1/1",
        "400",
        "−0.500 → −0.010",
        "5 → beyond",
        "10",
        "1.0",
    )
    assert page.count("<img ") == 3


def test_the_table_has_medians_and_costs_beside_the_cheapest():
    lines = _arms_page.table([row(solved=(100, 900, 300, 0), metric=(1.0, NAN, 2.0, 4.0)), row("b", seconds_per_step=0.025), skipped()])
    assert len(lines) == 2
    assert (lines[0].updates, lines[0].final) == ("300", "2")
    assert (lines[1].cost, lines[1].ratio) == ("25", "2.5")
    assert _arms_page.median([-INF, INF, NAN]) != _arms_page.median([-INF, -INF, NAN]) == -INF


def test_more_arms_than_one_picture_can_hold_have_several_and_clearing_removes_them(tmp_path):
    rows = [row(f"cell{i}, {length}") for length in (50, 100) for i in range(13)]  # 12 and 1 of either length: their baseline is one, so 12, 12 and 2
    page, _ = written(rows, tmp_path)
    assert "Learning curves, 3 of 3" in page
    written(rows[:1], tmp_path)
    assert len(list(tmp_path.glob("learning_curves*.png"))) == 1
    report.clear(tmp_path)
    assert not tmp_path.exists()


CURVES = np.geomspace(0.17, [0.16, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0004, 0.002, 0.02, 0.15, 0.05, 0.0007], 10).T
RATES = -np.abs(np.random.default_rng(0).normal(size=(2, 12, 5)))
OTHERS = ["$x_1$ <b> " + "long" * 20, "_h", r"\frac{", "层", "two\nlines", *(f"remedy{i}" for i in range(7))]
NONE = np.zeros((0, 3))


def pictures(names, curves, rates, solved, trials):
    ends = [wilson(k, n) if n else (NAN, NAN) for k, n in zip(solved, trials, strict=True)]
    steps = 200 * (1 + np.arange(curves.shape[1]))
    return {
        "shares": lambda ax: plots.solved_shares(names, solved, trials, np.reshape(ends, (-1, 2)), ax=ax),
        "curves": lambda ax: plots.learning_curves(names, steps, curves, 0.167, label=MSE, ax=ax),
        "exponents": lambda ax: plots.exponents_moved(names, *rates, ax=ax),
    }


SETS = {
    "twelve arms": (TWELVE, CURVES, RATES, [0, 1, 2, 3, 4, 5] * 2, [5] * 12),
    "twelve others": (OTHERS, CURVES, RATES, [0] * 12, [5] * 12),
    "one arm": (["gru"], CURVES[:1], RATES[:, :1], [5], [5]),
    "one seed, one evaluation": (["gru"], CURVES[:1, :1], RATES[:, :1, :1], [0], [1]),
    "no seeds": (["gru", "lstm"], CURVES[:2, :0], RATES[:, :2, :0], [0, 0], [0, 0]),
    "no arms": ([], NONE, np.stack([NONE, NONE]), [], []),
    **{f"{v} everywhere": (TWELVE, np.full((12, 4), v), np.full((2, 12, 3), v), [1] * 12, [3] * 12) for v in (NAN, INF, -INF, 1e300)},
    "long names": ([name + " + flossing:k=4,window=20, 100" for name in TWELVE], CURVES, RATES * 1e5, [10] * 12, [100] * 12),
}
DRAWN = {f"{name} of {which}": draw for which, given in SETS.items() for name, draw in pictures(*given).items()}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_legible_and_neither_cut_nor_overlapped(name, monkeypatch):
    monkeypatch.setitem(test_plots.PICTURES, name, DRAWN[name])
    test_plots.test_a_picture_has_labels_with_units_and_its_text_is_legible_and_neither_cut_nor_overlapped(name)


def test_cells_have_colours_and_remedies_styles_and_the_legend_lists_both_apart():
    ax = DRAWN["curves of twelve arms"](None)
    assert test_plots.said(ax) == [*CELLS, "as it is", "clipping", "norm-regulariser", "without memory"]
    looks = [(line.get_color(), line.get_linestyle()) for line in ax.get_lines() if len(line.get_xdata()) == 10]
    assert len(set(looks)) == 12
    assert len({colour for colour, _ in looks}) == 4
    assert ax.get_yscale() == "log"
    few = plots.learning_curves(["a", "b"], [1, 2], [[0.5, 0.4], [NAN, NAN]], NAN)
    assert test_plots.said(few) == ["a", "b: nothing to draw"]
    assert few.get_yscale() == "linear"
    assert plots.learning_curves(["a"], [1, 2], [[-0.5, 40]], 0.1).get_yscale() == "linear"


def test_bars_are_the_intervals_in_per_cent_and_counts_stand_beside_them():
    ax = plots.solved_shares(["a", "b"], [3, 0], [4, 0], [wilson(3, 4), (NAN, NAN)])
    assert [text.get_text() for text in ax.texts] == ["3 of 4", "not run"]
    np.testing.assert_allclose(ax.collections[0].get_segments()[0][:, 0], 100 * np.array(wilson(3, 4)))
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), [75, NAN])


def test_exponents_before_are_hollow_and_after_filled_and_what_is_lost_lies_on_the_edge():
    ax = plots.exponents_moved(["a", "b"], [[-2.0, -1.0, -3.0], [-INF, -INF, -1.0]], [[0.5, 0.1, NAN], [-0.1, -0.2, INF]])
    before, after = (next(line for line in ax.get_lines() if str(line.get_label()).startswith(name)) for name in ("before", "after"))
    assert before.get_markerfacecolor() == "none" != after.get_markerfacecolor()
    assert sorted(before.get_xdata()) == [-3, -2, -1, -1]
    joined = [line.get_xdata().tolist() for line in ax.get_lines() if line.get_color() == "0.35" and len(line.get_xdata())]
    assert joined[0] == [-2.0, 0.3]  # as in the table
    assert [len(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "<"] == [2, 0]
    assert ax.get_xlim()[0] > -5


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.solved_shares(["a"], [1], [1, 2], [(0, 1)]), r"trials has shape \(2,\); allowed is \(1,\)"),
        (lambda: plots.solved_shares(["a"], [1, 1], [1, 2], [(0, 1)] * 2), r"labels has shape \(1,\); allowed is \(2,\)"),
        (lambda: plots.learning_curves(["a"], [1, 2], [[1.0]], 0.1), r"medians has shape \(1, 1\); allowed is \(1, 2\)"),
        (lambda: plots.exponents_moved(["a"], [[1.0]], [[1.0, 2.0]]), r"after has shape \(1, 2\); allowed is \(1, 1\)"),
    ],
)
def test_the_wrong_shape_is_refused_with_what_is_allowed(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
