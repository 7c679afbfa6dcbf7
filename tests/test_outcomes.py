"""The script on truncation runs, at settings too small to show an outcome."""

import re

import pytest

from experiments import truncation


@pytest.mark.slow
def test_the_script_runs(capsys):
    truncation.main(truncation.FEW)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert rows
    assert re.search(r"\d", rows[-1]), rows
    assert not [row for row in (heading, *rows) if "not finite" in row]
