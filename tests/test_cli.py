"""The command: what it writes, what it prints, and what it refuses."""

import json
import os
import re
import subprocess
import sys

import pytest

from jaxrnn import cli

SMALL = ["diagnose", "--hidden", "6", "--length", "9", "--sequences", "3"]


def test_a_diagnosis_writes_three_whole_files_and_ends_with_its_folder(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main([*SMALL, "--out", str(out)]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == str(out)
    assert sorted(p.name for p in out.iterdir()) == ["diagnosis.json", "gradient_by_lag.png", "transport.png"]
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in ("gradient_by_lag.png", "transport.png"))
    found = json.loads((out / "diagnosis.json").read_text())
    assert {"verdict", "exponents", "standard_errors", "horizon", "checks", "versions", "command", "settings"} <= found.keys()
    assert len(found["exponents"]) == 6
    assert all(check["passed"] for check in found["checks"])
    assert found["command"].startswith("jaxrnn diagnose --hidden 6")


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_every_cell_and_layers_and_scales_are_diagnosed(cell, tmp_path):
    options = ["--cell", cell, "--layers", "2", "--gain", "0.5", "--init", "gaussian", "--seed", "3", "--out", str(tmp_path)]
    assert cli.main([*SMALL, *options]) == 0
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert found["plan"]["dimension"] == 2 * 6 * (2 if cell == "lstm" else 1)


def test_the_same_command_gives_the_same_numbers(tmp_path):
    for name in "ab":
        assert cli.main([*SMALL, "--out", str(tmp_path / name)]) == 0
    a, b = (json.loads((tmp_path / name / "diagnosis.json").read_text()) for name in "ab")
    assert a["exponents"] == b["exponents"]
    assert a["gradient"] == b["gradient"]


def test_cells_are_listed(capsys):
    assert cli.main(["cells"]) == 0
    assert "vanilla" in capsys.readouterr().out


@pytest.mark.slow
def test_float32_and_a_terminal_without_colour(tmp_path):
    """In a process of its own: the command sets the precision of the process it runs in."""
    env = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "JAX_NUMPY_DTYPE_PROMOTION")}
    run = subprocess.run(
        [sys.executable, "-m", "jaxrnn.cli", *SMALL, "--precision", "float32", "--out", str(tmp_path)], capture_output=True, text=True, env=env
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.rstrip().splitlines()[-1] == str(tmp_path)
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert all(check["passed"] for check in found["checks"]), found["checks"]
    assert found["checks"][0]["allowed"] > 1e-6


@pytest.mark.parametrize("arguments", [["--help"], ["diagnose", "--help"], ["cells", "--help"]])
def test_help_does_not_import_jax(arguments):
    code = f"""
import sys
from jaxrnn import cli
try:
    cli.main({arguments!r})
except SystemExit as stop:
    assert not stop.code
assert "jax" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).returncode == 0


def test_missing_packages_are_named_with_the_extra_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert cli.main(["cells"]) == 2
    assert 'pip install "jaxrnn[cli]"' in capsys.readouterr().err


def test_an_interrupt_leaves_nothing_and_says_so(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main([*SMALL, "--out", str(tmp_path / "out")]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert cli.main([*SMALL, "--out", str(tmp_path)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


BAD = {
    "unknown cell": (["--cell", "elman"], "--cell elman is unknown; allowed are gru, lstm, vanilla"),
    "unknown init": (["--init", "xavier"], "unknown init 'xavier'; allowed are gaussian, identity, orthogonal"),
    "no units": (["--hidden", "0"], r"--hidden 0 must lie in \[1, 4096\]"),
    "no layers": (["--layers", "0"], r"--layers 0 must lie in \[1, 64\]"),
    "no sequences": (["--sequences", "0"], r"--sequences 0 must lie in \[1, 1797\]"),
    "more sequences than there are": (["--sequences", "1798"], r"--sequences 1798 must lie in \[1, 1797\]"),
    "no steps": (["--length", "0"], r"--length 0 must lie in \[1, 64\]"),
    "more steps than pixels": (["--length", "65"], r"--length 65 must lie in \[1, 64\]"),
    "negative seed": (["--seed", "-1"], r"--seed -1 must lie in \[0, "),
    "gain is NaN": (["--gain", "nan"], "--gain nan must be a finite number"),
    "gain that overflows": (["--gain", "1e308", "--hidden", "4"], "--gain 1e\\+308 makes weights that are not finite in float64"),
    "negative gain": (["--gain", "-1"], "--gain -1.0 must be a finite number, at least 0"),
    "hidden is not a number": (["--hidden", "many"], "--hidden"),
    "unknown data": (["--data", "imagenet"], "--data"),
    "unknown precision": (["--precision", "float16"], "--precision"),
    "unknown option": (["--units", "3"], "--units"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_exit_2_with_a_message_and_leave_nothing(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options, message = BAD[case]
    assert _exit_code(["diagnose", *options]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert re.search(message, said), said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_is_refused_before_the_work(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(cli, "_run", lambda *_: pytest.fail("the work began"))
    assert cli.main([*SMALL, "--out", str(tmp_path / place)]) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unwritable_folder_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    monkeypatch.setattr(cli, "_run", lambda *_: pytest.fail("the work began"))
    assert cli.main([*SMALL, "--out", str(tmp_path / "out")]) == 2
    assert "is not writable (Read-only file system); choose another folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_exits_2(capsys):
    assert _exit_code(["diagnoze"]) == 2
    assert "diagnoze" in capsys.readouterr().err


def _exit_code(arguments):
    try:
        return cli.main(arguments)
    except SystemExit as stop:  # tyro's refusals
        return stop.code
