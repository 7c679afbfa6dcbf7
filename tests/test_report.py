"""The pages: what they hold, and how a browser shows them."""

import html
import json
import os
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, diagnosis, report, tasks
from jaxrnn._pictures import COMPARISON, DIAGNOSIS
from tests.test_diagnosis import SYSTEMS

LADEN = '<script>alert("1")</script><img src=http://example.org/x.png> & $x$ {{ 7 * 7 }}'


@pytest.fixture(scope="module")
def found():
    """Diagnoses by name: with a loss and two parts of the state, without a loss, and of states that are never finite."""
    task = tasks.digits(12)
    batch = task.sample(jax.random.key(0), 4)
    batch = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, batch)
    cell = cells.with_readout(cells.lstm(1, 4), 10)
    params = cell.init_params(jax.random.key(1), gain=0.1, forget_bias=-1.0)
    loss = cells.readout_loss(cell, task.loss)
    model = (cell.step, params, cell.init_state(params))
    shrink = lambda a, h, x: a * h + x
    return {
        "lstm": diagnosis.diagnose(*model, batch.xs, targets=batch.targets, loss=loss),
        "no loss": diagnosis.diagnose(shrink, 0.5, jnp.zeros(1), jnp.ones((2, 30, 1))),
        "nothing finite": diagnosis.diagnose(lambda a, h, x: a * h / 0.0, 1.0, jnp.ones(2), None, length=5),
    }


def test_a_report_is_one_page_with_numbers_and_pictures_beside_it(found, tmp_path):
    files = report.write(found["lstm"], tmp_path / "a" / "b", title="An LSTM", run={"command": "jaxrnn diagnose", "versions": {"jax": "1.2"}})
    assert [f.name for f in files] == ["report.html", "diagnosis.json", *(f"{name}.png" for name in DIAGNOSIS)]
    page = files[0].read_text()
    assert all(page.count(html.escape(said, quote=False)) <= 1 for said in found["lstm"].reasons)
    for said in ("An LSTM", "jaxrnn diagnose", *found["lstm"].reasons, *(c.detail for c in found["lstm"].checks)):
        assert html.escape(said, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    assert found["lstm"].verdict == "vanishing"
    for advice in found["lstm"].remedies:
        assert html.escape(advice.remedy.source) in page
    facts = json.loads(files[1].read_text())
    assert facts["title"] == "An LSTM"
    assert facts["versions"] == {"jax": "1.2"}


def test_the_page_holds_everything_itself(found, tmp_path):
    page = report.write(found["lstm"], tmp_path)[0].read_text()
    assert all(place.startswith('"data:') for place in re.findall(r"(?:src|href)\s*=\s*(.{6})", page))
    assert "<script" not in page
    assert "url(" not in page
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == len(DIAGNOSIS)


def test_what_holds_html_is_shown_as_text(found, tmp_path):
    page = report.write(found["lstm"], tmp_path, title=LADEN, run={"command": LADEN, "settings": {LADEN: LADEN}})[0].read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    both = diagnosis.compare(found["lstm"], found["no loss"], labels=(LADEN, "b<b>"))
    page = report.write_comparison(both, tmp_path, title=LADEN, details=(LADEN,))[0].read_text()
    assert "<script" not in page
    assert "<b>" not in page.replace("<b>Transport", "").replace("<b>Lyapunov", "")


def test_what_was_left_out_is_named_with_its_reason(found, tmp_path):
    page = report.write(found["no loss"], tmp_path)[0].read_text()
    assert "No picture “Which lags the gradient comes from”: no targets and loss were given." in page
    assert "No picture “From part to part of the state”" in page
    page = report.write(found["nothing finite"], tmp_path)[0].read_text()
    assert "No state is finite" in page
    assert "<img" not in page


def test_pictures_of_an_earlier_report_that_this_one_lacks_are_removed_and_other_files_stay(found, tmp_path):
    (tmp_path / "notes.txt").write_text("kept")
    report.write(found["lstm"], tmp_path)
    names = {f.name for f in report.write(found["no loss"], tmp_path)}
    assert {f.name for f in tmp_path.iterdir()} == names | {"notes.txt"}
    assert "gradient_by_lag.png" not in names


def test_two_diagnoses_are_compared_alike_from_memory_and_from_files(found, tmp_path):
    report.write(found["lstm"], tmp_path)
    stored = json.loads((tmp_path / "diagnosis.json").read_text())
    a, b = diagnosis.compare(found["lstm"], found["no loss"]), diagnosis.compare(stored, found["no loss"].to_dict())
    assert a.sentences == b.sentences
    assert [c.name for c in a.changes] == [c.name for c in b.changes]
    files = report.write_comparison(a, tmp_path, training=(np.array([2.0, 1.0, np.nan]), np.array([1.0, 3.0, np.inf])))
    assert {f.stem for f in files} == {"comparison", "compared_transport", "compared_spectrum", "training"}
    assert {f.stem for f in report.write_comparison(diagnosis.compare(found["lstm"], found["lstm"]), tmp_path)} >= {"compared_gradient"}
    assert not (tmp_path / "training.png").exists()
    assert set(COMPARISON) >= {f.stem for f in files[2:]}


def test_a_difference_is_called_clear_where_it_exceeds_its_error(found):
    same = diagnosis.compare(found["lstm"], found["lstm"])
    assert same.sentences[0].startswith("The verdict stays: ")
    assert {c.clear for c in same.changes} <= {False, None}
    other = diagnosis.compare(found["lstm"], found["no loss"])
    assert any("differ in length (12 and 30 steps)" in said for said in other.sentences)


def facts(gain, error, count, rate=None):
    """What is stored of a diagnosis of ``count`` sequences of 10 steps."""
    return {
        "verdict": "stable", "exponents": [gain / 10 if rate is None else rate], "standard_errors": [error / 10], "lengths": [10] * count,
        "horizon": {"lags": [1, 2, 3]}, "log_gain": {"rate": gain / 10, "rate_error": error / 10, "freedom": count - 1},
        "eigenvalue_criterion": {"median_log_radius": 0.0}, "transport_by_lag": {"log_transport": [[0.0]] * 3}, "plan": {"gradient_sequences": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "clear"),
    [
        (facts(0.0, 1.0, 1000), facts(2.9, 1.0, 1000), True),  # 2.9 > 1.96 √2
        (facts(0.0, 1.0, 1000), facts(2.6, 1.0, 1000), False),
        (facts(0.0, 1.0, 3), facts(2.9, 1.0, 3), False),  # Student's quantile for 4 degrees of freedom is 2.78
        (facts(0.0, 1.0, 3), facts(4.1, 1.0, 3), True),
        (facts(0.9, 0.0, 5), facts(0.9 + 1e-15, 0.0, 5), False),  # rounding
        (facts(0.9, 0.0, 5), facts(0.91, 0.0, 5), True),
        (facts(-np.inf, np.inf, 5), facts(0.9, 0.1, 5), True),
        (facts(-np.inf, np.inf, 5), facts(-np.inf, np.inf, 5), False),
        (facts(0.0, np.inf, 1), facts(5.0, 0.1, 5), None),
    ],
)
def test_a_difference_is_judged_by_welchs_test(a, b, clear):
    assert diagnosis.compare(a, b).changes[0].clear is clear


def test_two_samples_of_one_distribution_rarely_differ_clearly():
    random, count = np.random.default_rng(0), 4
    samples = random.normal(size=(2, 4000, count))
    means, errors = samples.mean(-1), samples.std(-1, ddof=1) / np.sqrt(count)
    told = [diagnosis.compare(facts(x, xe, count), facts(y, ye, count)).changes[0].clear for (x, y), (xe, ye) in zip(means.T, errors.T, strict=True)]
    assert np.mean(told) < 0.06


def test_what_is_no_diagnosis_is_not_compared(found):
    with pytest.raises(TypeError, match="before is of type int; give a Diagnosis"):
        diagnosis.compare(3, found["lstm"])
    with pytest.raises(ValueError, match="after is no diagnosis: it lacks verdict, exponents"):
        diagnosis.compare(found["lstm"], {})
    broken = {**found["lstm"].to_dict(), "eigenvalue_criterion": {}}
    with pytest.raises(ValueError, match=r"after is no whole diagnosis \(KeyError: 'median_log_radius'\); write it again"):
        diagnosis.compare(found["lstm"], broken)
    with pytest.raises(ValueError, match="before is no whole diagnosis"):
        diagnosis.compare({**found["lstm"].to_dict(), "exponents": ["high"]}, found["lstm"])


def test_clearing_a_folder_spares_what_is_not_ours(found, tmp_path):
    report.write(found["lstm"], tmp_path / "a")
    report.write(found["lstm"], tmp_path / "b")
    (tmp_path / "b" / "notes.txt").write_text("kept")
    for name in "abc":
        report.clear(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["notes.txt"]


def test_every_picture_of_the_pages_is_in_the_documentation_and_those_of_the_readme_exist():
    root = Path(__file__).parents[1]
    shown = {path.stem for path in (root / "docs" / "pictures").glob("*.png")}
    assert shown >= {*DIAGNOSIS, *COMPARISON, "report", "comparison"}
    assert all((root / place).is_file() for place in re.findall(r"!\[[^]]+\]\(([^)]+)\)", (root / "README.md").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_known_system_has_a_page_whose_pictures_are_told_in_words(name, tmp_path):
    s = SYSTEMS[name]
    d = diagnosis.diagnose(s.step, s.params, s.state, s.xs, length=s.length)
    page = report.write(d, tmp_path, title=name)[0].read_text()
    assert page.count("<img ") >= 5
    assert "nan" not in " ".join(re.findall(r'alt="([^"]*)"', page))
    assert f'class="verdict {s.verdict}"' in page


def _browser():
    """Headless Chromium, or a skip that says why; where CI is set it has to be there."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        assert not os.environ.get("CI"), "CI installs chromium and chromium-driver"
        pytest.skip("needs chromium and chromedriver")
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless", "no-sandbox", "no-first-run", "disable-gpu", "disable-quic"):
        options.add_argument(f"--{flag}")
    for asking in ("background-networking", "component-update", "sync"):
        options.add_argument(f"--disable-{asking}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return selenium.Chrome(options=options, service=Service(shutil.which("chromedriver")))


@pytest.fixture(scope="module")
def browser():
    driver = _browser()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    run = {"command": "jaxrnn diagnose " + "--a-long-option " * 30, "settings": {"title": LADEN}, "versions": {"jax": "1"}}
    made = {name: report.write(d, folder / name.replace(" ", "-"), title=name, run=run)[0] for name, d in found.items()}
    both = diagnosis.compare(found["lstm"], found["no loss"], labels=(LADEN, "an uninterrupted" + "_label" * 20))
    made["comparison"] = report.write_comparison(both, folder, title=LADEN, run=run, training=(np.ones(9), np.ones(9)), details=(LADEN,))[0]
    return made


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("name", ["lstm", "no loss", "nothing finite", "comparison"])
def test_a_browser_shows_the_page_whole_on_wide_and_narrow_screens_and_asks_for_nothing(name, width, pages, browser):
    browser.get_log("browser")
    browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.get(pages[name].as_uri())
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    facts = browser.execute_script(
        """
        const pictures = [...document.images];
        const shown = [...document.querySelectorAll("p, li, td, dd, figcaption")].filter(e => e.innerText.trim());
        const scrolled = e => e.closest(".scroll, pre");
        return {
          overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
          unloaded: pictures.filter(p => !(p.complete && p.naturalWidth)).length,
          mute: pictures.filter(p => p.alt.trim().length < 20).length,
          outside: [...shown, ...pictures].filter(e => !scrolled(e) && e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => e.outerHTML.slice(0, 99)),
          small: shown.filter(e => parseFloat(getComputedStyle(e).fontSize) < 13).length,
          scripts: document.scripts.length,
          headings: document.querySelectorAll("h1").length,
          language: document.documentElement.lang,
        };
        """
    )
    expected = {"overflow": 0, "unloaded": 0, "mute": 0, "outside": [], "small": 0, "scripts": 0, "headings": 1, "language": "en"}
    assert facts == expected


@pytest.mark.parametrize(
    "change",
    [{"log_gain": []}, {"exponents": [10**400]}, {"exponents": 3}, {"standard_errors": [0.1]}, {"lengths": [-1, 5]}, {"lengths": {"a": 1}},
     {"verdict": None}, {"transport_by_lag": {"log_transport": [[0.0], [0.0]]}}, {"transport_by_lag": {"log_transport": [[1e300]] * 3}},
     {"checks": [{}]}, {"checks": 3},
     {"gradient": {"lag_share": [1.0], "lag_share_errors": [0.1, 0.1]}}, {"gradient": [1]}, {"plan": {"gradient_sequences": []}}],
)  # fmt: skip
def test_a_diagnosis_whose_numbers_do_not_fit_is_refused_before_anything_is_drawn(change):
    whole = {**facts(0.0, 1.0, 5), "exponents": [0.1, 0.2], "standard_errors": [0.1, 0.1]}
    assert len(diagnosis.compare(whole, whole).changes)
    with pytest.raises(ValueError, match=r"after is no whole diagnosis \(.*\); write it again"):
        diagnosis.compare(whole, {**whole, **change})


def test_errors_whose_squares_overflow_are_compared_too():
    assert diagnosis.compare(facts(0.0, 1e90, 5), facts(1e92, 1e90, 5)).changes[0].clear is True
    assert diagnosis.compare(facts(0.0, 1e-200, 5), facts(1e-198, 1e-200, 5)).changes[0].clear is True


def test_diagnoses_without_an_exponent_are_compared(tmp_path):
    none = {**facts(0.0, 1.0, 5), "exponents": [], "standard_errors": []}
    page = report.write_comparison(diagnosis.compare(none, none), tmp_path)[0].read_text()
    assert "the leading ones are unknown and unknown nats per step" in page


def test_half_of_a_pair_of_characters_is_shown_as_one_that_cannot_be(tmp_path):
    page = report.write_comparison(diagnosis.compare(facts(0.0, 1.0, 5), facts(1.0, 1.0, 5)), tmp_path, title="a\ud800b")[0].read_text()
    assert "<title>a&#55296;b</title>" in page
