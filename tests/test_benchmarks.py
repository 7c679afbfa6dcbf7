"""Every benchmark runs, at tiny sizes; how fast it was is never tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("p[0-9]*.py"))
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "JAX_NUMPY_DTYPE_PROMOTION")}


def run(*arguments):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_runs_and_prints_a_table_that_the_page_can_show(script, tmp_path):
    out = run(FOLDER / script, "--smoke", "--out", tmp_path)
    assert out.count("\n") > 3
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    run(FOLDER / "table.py", "--results", tmp_path, "--out", tmp_path / "page.md")
    assert "# Benchmarks" in (tmp_path / "page.md").read_text()


def test_the_page_of_the_benchmarks_is_what_their_results_say(tmp_path):
    run(FOLDER / "table.py", "--out", tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == (FOLDER / "README.md").read_text()


@pytest.mark.slow
def test_the_coverage_of_standard_errors_is_printed_for_both_ways_to_stop():
    out = run("-m", "experiments.coverage", "--smoke")
    assert [line.split()[0] for line in out.splitlines() if "±" in line] == ["T", "T", "until", "until"]
