"""Every benchmark runs, at tiny sizes; how fast it was is never tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("p*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_runs_and_prints_a_table(script, tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "JAX_NUMPY_DTYPE_PROMOTION")}
    command = [sys.executable, str(FOLDER / script), "--smoke", "--out", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") > 3
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
