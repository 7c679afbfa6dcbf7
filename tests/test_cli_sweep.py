"""``jaxrnn sweep``: what it writes, resumes and refuses."""

import json
import re

import numpy as np
import pytest

from jaxrnn import cli, sweep
from jaxrnn.sweep.ready import phase_diagram

SIZES = "sweep = 'phase-diagram'\nn = 10\nlength = 40\ngains = 4\ninputs = 3\nseeds = 2\n"
OWN = """
import numpy as np
from jaxrnn import sweep

def point(a, b):
    if b == 3 and a > 1:
        raise ValueError("no such point")
    return {"product": a * b}

def plan():
    return sweep.Plan(point, sweep.grid(a=np.array([0.5, 1.5]), b=[2, 3]), "Products <&>", compiled=False)
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.toml").write_text(SIZES)
    return [str(tmp_path / "small.toml"), "--out", str(tmp_path / "out")]


def test_a_sweep_writes_its_page_and_goes_on_only_when_told(small, tmp_path, capsys):
    assert cli.main(["sweep", *small]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == str(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"store", "sweep.html", "sweep.json", "sweep_exponent.png"}
    facts = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert facts["summary"] == ["24 points, 24 with a result."]
    assert cli.main(["sweep", *small]) == 2
    assert "holds 24 of the 24 points already; give --resume to go on" in capsys.readouterr().err
    assert cli.main(["sweep", *small, "--status"]) == 0
    assert "24 of 24 points are done, 0 failed" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["sweep", *small, "--resume"]) == 0


def test_training_is_swept_with_a_picture_for_each_remedy(tmp_path, capsys):
    sizes = "sweep = 'trainable-length'\nn = 4\nsteps = 3\ngains = 2\nlengths = [3, 4]\nseeds = 2\ntreated = ['none', 'clipping']\n"
    (tmp_path / "small.toml").write_text(sizes)
    assert cli.main(["sweep", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"sweep_error_remedy___none.png", "sweep_error_remedy___clipping.png"}


def test_a_python_file_is_a_sweep_of_ones_own(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    assert cli.main(["sweep", str(tmp_path / "own.py"), "--out", str(tmp_path / "out")]) == 0
    assert "3 of 4 points, 1 failed" in capsys.readouterr().out
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "Products &lt;&amp;&gt;" in page
    assert "a = 1.5, b = 3: ValueError: no such point" in page


BAD = {
    "unknown": (["fase-diagram"], "did you mean phase-diagram?"),
    "no file": (["absent.toml"], "there is no file absent.toml"),
    "no toml": (["{broken.toml}"], "is not TOML"),
    "no name": (["{empty.toml}"], "must say sweep = NAME, one of phase-diagram, forget-bias, trainable-length"),
    "other sizes": (["{other.toml}"], "unexpected keyword argument 'units'"),
    "no plan": (["{empty.py}"], r"must have a function plan\(\)"),
    "two engines": (["phase-diagram", "--workers", "2", "--scheduler", "tcp://a:1"], "give one of them"),
    "no workers": (["phase-diagram", "--workers", "0"], r"--workers 0 must lie in \[1, 1024\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sweeps_are_refused(case, tmp_path, capsys):
    arguments, message = BAD[case]
    for name, content in {"broken.toml": "=", "empty.toml": "", "other.toml": "sweep = 'forget-bias'\nunits = 3", "empty.py": ""}.items():
        (tmp_path / name).write_text(content)
    filled = [str(tmp_path / word.strip("{}")) if word.startswith("{") else word for word in arguments]
    assert cli.main(["sweep", *filled, "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "out" / "sweep.html").exists()


def test_the_phase_diagram_falls_with_input_and_rises_with_gain():
    plan = phase_diagram(n=60, length=400, gains=3, inputs=2, seeds=3)
    found = sweep.run(plan.point, plan.grid, batch_size=6).shaped("exponent")[..., 0, 0].mean(-1)
    assert (np.diff(found, axis=0) > 0).all()
    assert (np.diff(found, axis=1) < 0).all()


BROKEN = {
    "no text": (b"sweep = '\xff'", "some.toml is not TOML: 'utf-8' codec"),
    "nested": (b"sweep = 'forget-bias'\nn = " + b"[" * 5000 + b"]" * 5000, "some.toml is not TOML: maximum recursion"),
    "dotted": (b"sweep = 'forget-bias'\na" + b".a" * 500 + b" = 1", "some.toml is not TOML: it is nested more than 64 deep"),
    "a list for a name": (b"sweep = ['forget-bias']", "some.toml must say sweep = NAME"),
    "more than memory holds": (
        b"sweep = 'forget-bias'\nseeds = 10000000000000",
        r"seeds=10000000000000 must be in \[1, 1000000\], a size",
    ),
    "none": (b"sweep = 'forget-bias'\nseeds = 0", r"some.toml: seeds=0 must be in \[1, 1000000\], a size"),
    "a fraction": (b"sweep = 'forget-bias'\nn = 2.5", "some.toml: n must be an int, given 2.5"),
    "more points than there can be": (
        b"sweep = 'forget-bias'\nseeds = 10000\nbiases = 10000",
        "some.toml: the axes have .* 10000000 are a grid",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_toml_file_is_refused_by_its_name(case, tmp_path, capsys):
    content, message = BROKEN[case]
    (tmp_path / "some.toml").write_bytes(content)
    assert cli.main(["sweep", str(tmp_path / "some.toml"), "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize("content", ["1 / 0", "import sys; sys.exit(3)", "def plan(): raise KeyError('gain')", "def plan(:"])
def test_a_python_file_that_raises_is_refused_with_what_it_raised(content, tmp_path, capsys):
    (tmp_path / "own.py").write_text(content)
    assert cli.main(["sweep", str(tmp_path / "own.py"), "--out", str(tmp_path / "out")]) == 2
    assert re.search("own.py raised (ZeroDivisionError|SystemExit|KeyError|SyntaxError): ", " ".join(capsys.readouterr().err.split()))


def test_the_status_of_a_sweep_whose_record_of_a_failure_is_broken_is_refused(small, tmp_path, capsys):
    assert cli.main(["sweep", *small]) == 0
    (tmp_path / "out" / "store" / "failures" / "x.json").write_text("{")
    assert cli.main(["sweep", *small, "--status"]) == 2
    assert "x.json is not the record of a failure" in " ".join(capsys.readouterr().err.split())
