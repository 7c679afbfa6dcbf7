"""The scripts of training outcomes run, at settings too small to show an outcome."""

import importlib
import re

import pytest

SCRIPTS = ("flossing", "train_adding", "train_copy", "train_digits", "train_order", "train_parity", "truncation")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_runs(name, capsys):
    script = importlib.import_module(f"experiments.{name}")
    script.main(script.FEW)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert rows
    assert all(re.search(r"\d", row) for row in rows[-1:]), rows
    assert not [row for row in (heading, *rows) if "not finite" in row]
