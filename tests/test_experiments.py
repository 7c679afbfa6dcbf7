"""The scripts on the literature run at tiny settings, draw what they say they draw, and what is on the page is what they wrote."""

import importlib
import json
import os
import re
import subprocess
import sys

import jax
import pytest

from experiments import reproduction
from experiments.all import SCRIPTS
from jaxrnn import plots


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_and_what_it_finds_can_be_kept(name, tmp_path):
    script = importlib.import_module(f"experiments.{name}")
    found = script.main(script.SMOKE)
    assert found.claims
    assert found.pictures
    for draw in found.pictures.values():
        assert plots.save(draw)[1:4] == b"PNG"
    reproduction.write(tmp_path, name, found, script.SMOKE, 1.0, "float64")
    kept = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(kept["claims"]) == len(found.claims)
    jax.clear_caches()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_title_names_its_source(name):
    assert re.search(r"\b(1[89]|20)\d\d\b", reproduction._title(name))


def test_the_page_is_made_of_the_results():
    assert (reproduction.HERE / "README.md").read_text() == reproduction.page()


def test_every_result_has_its_script_and_its_pictures():
    for path in reproduction.RESULTS.glob("*.json"):
        found = json.loads(path.read_text())
        assert found["experiment"] == path.stem
        assert path.stem in SCRIPTS
        assert all((reproduction.RESULTS / picture).is_file() for picture in found["pictures"].values())


def test_a_verdict_counts_what_holds():
    claims = lambda *held: [{"holds": h} for h in held]
    assert [reproduction.verdict(c) for c in (claims(True, True), claims(True, False), claims(False))] == ["reproduced", "partly", "not"]


def test_a_spread_is_a_mean_with_its_standard_error():
    assert reproduction.spread([1.0, 2.0, 3.0]) == "2 ± 0.6 (3 seeds)"
    assert reproduction.spread([0.5]) == "0.5 (1 seed)"


def test_what_cannot_be_kept_is_refused(tmp_path):
    found = reproduction.Found([], {}, {"oh": object()})
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        reproduction.write(tmp_path, "e01_equations", found, importlib.import_module("experiments.e01_equations").SMOKE, 1.0, "float64")


@pytest.mark.slow
def test_a_script_can_be_called(tmp_path):
    command = [sys.executable, "-m", "experiments.e01_equations", "--smoke", "--seed", "3", "--out", str(tmp_path)]
    done = subprocess.run(
        command, cwd=reproduction.HERE.parent, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "reproduced" in done.stdout
    assert json.loads((tmp_path / "e01_equations.json").read_text())["settings"]["seed"] == 3
