"""The command: what it writes, what it prints, and what it refuses."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxrnn
from jaxrnn import cli
from jaxrnn.cli import diagnose

SMALL = ["diagnose", "--hidden", "6", "--length", "9", "--sequences", "3"]
PICTURES = [
    "eigenvalues.png", "gradient_by_lag.png", "lyapunov_spectrum.png", "product_singular_values.png", "state_gradients.png", "transport.png",
    "transport_by_lag.png", "units.png",
]  # fmt: skip


def test_a_diagnosis_writes_a_page_numbers_and_pictures_and_ends_with_its_folder(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main([*SMALL, "--out", str(out)]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == str(out)
    assert sorted(p.name for p in out.iterdir()) == sorted(["diagnosis.json", "report.html", *PICTURES])
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in PICTURES)
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
    assert cli.main(["cells", "vanilla", "lstm"]) == 0
    out = capsys.readouterr().out
    assert "vanilla" in out
    assert "Elman 1990" in out
    assert [line.split()[-2] for line in out.splitlines() if line.startswith(("vanilla", "lstm"))] == ["16", "32"]
    assert cli.main(["cells", "lsm"]) == 2
    assert "did you mean lstm" in capsys.readouterr().err
    assert cli.main(["cells", "--hidden", "0"]) == 2
    assert "--hidden 0 must lie in [1, 4096]" in capsys.readouterr().err


def test_tasks_are_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    assert cli.main(["tasks", "temporal-order", "copy", "digits", "--length", "80"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("temporal-order", "copy", "digits"))}
    assert rows["temporal-order"][-7:] == ["1997", "6", "4", "accuracy", "0.25", ">", "0.99"]
    assert rows["copy"][-3:] == ["0.2079", "<", "0.02079"]  # 10 ln 8 / (80 + 20)
    assert rows["digits"][-3:] == ["0.1", ">", "0.95"]
    assert "text:FILE, npy:FILE, npz:FILE" in out
    assert cli.main(["tasks", "adding-men"]) == 2
    assert "there is no task 'adding-men'; did you mean adding-mean" in capsys.readouterr().err
    assert cli.main(["tasks", "--length", "5", "temporal-order"]) == 2
    assert "temporal-order: length=5 must be at least 10" in capsys.readouterr().err
    assert cli.main(["tasks", "--length", "0"]) == 2
    assert "--length 0 must lie in [1, " in capsys.readouterr().err


A_CELL = """
import jax, jax.numpy as jnp
from jaxrnn.cells.protocol import Cell
from jaxrnn.cells.registry import register


def _step(params, h, x):
    return params["a"] * h if x is None else params["a"] * h + params["b"] @ x


@register(equation="h_t = a ∘ h_{t−1} + B x_t", source="A stranger 2030")
def decay(n_in, n_hidden):
    \"\"\"Units that forget at rates of their own.\"\"\"
    init = lambda key: {"a": jnp.full(n_hidden, 0.5), "b": jnp.ones((n_hidden, n_in))}
    return Cell(init, lambda params: jnp.zeros_like(params["a"]), _step, lambda params, h, x: h)
"""


@pytest.mark.slow
def test_one_more_file_is_one_more_cell_everywhere(tmp_path):
    shutil.copytree(Path(jaxrnn.__file__).parent, tmp_path / "jaxrnn")
    (tmp_path / "jaxrnn" / "cells" / "strangers.py").write_text(A_CELL)
    env = os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"}

    def run(*arguments):
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, cwd=tmp_path)

    listed = run("-m", "jaxrnn.cli", "cells", "decay")
    assert listed.returncode == 0, listed.stderr
    row = next(line for line in listed.stdout.splitlines() if line.startswith("decay"))
    assert "h_t = a ∘ h_{t−1} + B x_t" in row
    assert row.split()[-2:] == ["16", "2"]  # 0.5² < 1/e < 0.5
    diagnosed = run("-m", "jaxrnn.cli", "diagnose", "--cell", "decay", "--hidden", "3", "--length", "20", "--sequences", "3")
    assert diagnosed.returncode == 0, diagnosed.stderr
    seen = run("-c", "from jaxrnn import cells; print(cells.decay(1, 2).step is cells.REGISTRY['decay'](1, 2).step)")
    assert seen.stdout.strip() == "True", seen.stderr


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


@pytest.mark.parametrize("arguments", [["--help"], ["diagnose", "--help"], ["cells", "--help"], ["tasks", "--help"]])
def test_help_does_not_import_jax(arguments):
    code = f"""
import sys
from pathlib import Path
import jaxrnn
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

    monkeypatch.setattr(diagnose, "measure", interrupted)
    assert cli.main([*SMALL, "--out", str(tmp_path / "out")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert cli.main([*SMALL, "--out", str(tmp_path)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


BAD = {
    "unknown cell": (["--cell", "elman"], "--cell elman is unknown; allowed are antisymmetric, .*, vanilla"),
    "init of a cell that has none": (["--cell", "lru", "--init", "orthogonal"], "--cell lru starts in one way only; leave --init out"),
    "gain of a cell without weights": (["--cell", "mingru", "--gain", "0.5"], "--cell mingru has no recurrent weights to scale; leave --gain out"),
    "unknown init": (["--init", "xavier"], "unknown init 'xavier'; allowed are chain, gaussian, identity, orthogonal, positive_definite, uniform"),
    "no units": (["--hidden", "0"], r"--hidden 0 must lie in \[1, 4096\]"),
    "no layers": (["--layers", "0"], r"--layers 0 must lie in \[1, 64\]"),
    "no sequences": (["--sequences", "0"], r"--sequences 0 must lie in \[1, "),
    "more sequences than there are": (["--sequences", "1798"], r"--sequences 1798 must lie in \[1, 1797\]"),
    "no steps": (["--length", "0"], r"--length 0 must lie in \[1, "),
    "more steps than pixels": (["--length", "65"], r"length=65 must be in \[1, 64\]"),
    "negative seed": (["--seed", "-1"], r"--seed -1 must lie in \[0, "),
    "gain is NaN": (["--gain", "nan"], "--gain nan must be a finite number"),
    "gain that overflows": (["--gain", "1e308", "--hidden", "4"], "--gain 1e\\+308 makes weights that are not finite in float64"),
    "negative gain": (["--gain", "-1"], "--gain -1.0 must be a finite number, at least 0"),
    "hidden is not a number": (["--hidden", "many"], "--hidden"),
    "unknown data": (
        ["--data", "imagenet"],
        "there is no task 'imagenet'; allowed are .*digits, .*permuted-mnist.*, text:FILE, npy:FILE, npz:FILE",
    ),
    "data without its file": (["--data", "text:"], "--data: there is no task 'text:'"),
    "data whose file is missing": (["--data", "npz:absent.npz"], "there is no file absent.npz"),
    "data whose ending is another": (["--data", "npy:{batch.npz}"], "does not end in .npy"),
    "batch of none": (["--batch", "0"], r"--batch 0 must lie in \[1, "),
    "negative training": (["--train-steps", "-1"], r"--train-steps -1 must lie in \[0, "),
    "learning rate of nothing": (["--learning-rate", "0"], "--learning-rate 0.0 must be a finite number above 0"),
    "learning rate is inf": (["--learning-rate", "inf"], "--learning-rate inf must be a finite number above 0"),
    "kind without weights": (["--kind", "torch-gru"], "--kind need --weights"),
    "half of weights without any": (["--direction", "reverse"], "--direction need --weights"),
    "weights and a cell": (["--weights", "w.npz", "--kind", "torch-gru", "--hidden", "8"], "--weights brings its own cell: leave out --hidden"),
    "weights to be trained": (
        ["--weights", "w.npz", "--kind", "torch-gru", "--train-steps", "2"],
        "--train-steps and --try-remedies need a readout and a loss",
    ),
    "weights that are missing": (["--weights", "w.npz", "--kind", "torch-gru"], "w.npz"),
    "weights of another input size": (["--weights", "{gru.npz}", "--kind", "torch-gru"], "take 3 numbers a step; --data digits gives 1"),
    "weights of another kind": (["--weights", "{gru.npz}", "--kind", "torch-lstm"], "torch-lstm"),
    "weights by a name that is not there": (["--weights", "{gru.npz}", "--kind", "torch-gru", "--names", "weight_hh=nothing"], "nothing"),
    "names that give a role twice": (
        ["--weights", "{gru.npz}", "--kind", "torch-gru", "--names", "weight_hh=a", "weight_hh=b"],
        "gives a role twice",
    ),
    "a batch of more than there is": (["--data", "npz:{labelled.npz}", "--train-steps", "2", "--batch", "5"], r"--batch 5 must lie in \[1, 3\]"),
    "more sequences than are held out": (
        ["--data", "npz:{labelled.npz}", "--train-steps", "2", "--batch", "2", "--sequences", "3"],
        "held out from training",
    ),
    "classes that are no classes": (["--data", "npz:{hashes.npz}"], "holds the class 123456789; at most 100000"),
    "negative weights": (["--data", "npz:{negative.npz}"], "none negative"),
    "names without a role": (["--weights", "{gru.npz}", "--kind", "torch-gru", "--names", "w_hh"], "--names w_hh must be ROLE=NAME"),
    "weights with pickled objects": (["--weights", "{pickled.npz}", "--kind", "torch-gru"], "holds pickled Python objects"),
    "weights cut short": (["--weights", "{cut.npz}", "--kind", "torch-gru"], "is not a whole .npz file"),
    "own model and a cell": (["--from", "own:model", "--cell", "gru"], "--from brings its own model and sequences: leave out --cell"),
    "own model without a function": (["--from", "own"], "must be package.module:function"),
    "own model in no module": (["--from", "nowhere_at_all:model"], "importing nowhere_at_all failed with ModuleNotFoundError"),
    "own model in a module that fails": (["--from", "broken:model"], "importing broken failed with ZeroDivisionError"),
    "own model that is not there": (["--from", "own:absent"], "own has no function 'absent'"),
    "own model that raises": (["--from", "own:raises"], r"raises\(\) raised RuntimeError: no data"),
    "own model that returns too little": (["--from", "own:little"], r"little\(\) returned a tuple of 2; allowed are"),
    "own model without sequences": (["--from", "own:unbatched"], "axes 0 and 1 of each must be sequences and time"),
    "own model that cannot be trained": (["--from", "own:model", "--train-steps", "3"], r"which model\(\) does not return"),
    "own model whose step raises": (["--from", "own:keyed"], r"step\(params, state, x\) raised KeyError: 'gain'"),
    "own model that exits": (["--from", "own:stops"], r"stops\(\) raised SystemExit: 3"),
    "own targets without time": (["--from", "own:flat"], r"the leaves of targets have the shapes \[\(3,\)\]"),
    "own parameters that are integers": (["--from", "own:number"], "only floating and complex leaves have derivatives"),
    "own model with NaN": (["--from", "own:nan"], "holds nan at sequence 0, step 1"),
    "own model of integers": (["--from", "own:integers"], "only floating and complex leaves have derivatives"),
    "vocabulary without text": (["--vocabulary", "abc"], "--vocabulary belongs to --data text:FILE"),
    "text outside the vocabulary": (["--data", "text:{words.txt}", "--vocabulary", "abc \n"], "line 2 holds 'd', outside the vocabulary"),
    "vocabulary with a character twice": (["--data", "text:{words.txt}", "--vocabulary", "aba"], "holds 'a' more than once"),
    "text that is too short": (["--data", "text:{words.txt}"], "a sequence of 128 steps needs 129"),
    "text that is not UTF-8": (["--data", "text:{latin.txt}"], "is not UTF-8 text: byte 0xe9 at position 1"),
    "array with pickled objects": (["--data", "npz:{pickled.npz}"], "holds pickled Python objects"),
    "array that is cut short": (["--data", "npz:{cut.npz}"], "is not a whole .npz file"),
    "array of words": (["--data", "npy:{words.npy}"], "dtype <U3; allowed are real numbers"),
    "array of one axis": (["--data", "npy:{flat.npy}"], r"xs has shape \(5,\)"),
    "array with NaN": (["--data", "npy:{nan.npy}"], "xs holds nan in sequence 1 at step 3"),
    "archive without xs": (["--data", "npz:{gru.npz}"], "allowed are xs"),
    "lengths beyond the end": (["--data", "npz:{long.npz}"], r"it must be 4 integers in \[1, 5\]"),
    "targets of another shape": (["--data", "npz:{misfit.npz}"], r"targets has shape \(3,\); allowed are \(4,\)"),
    "training without targets": (["--data", "npz:{batch.npz}", "--train-steps", "2"], "holds no targets, and to train needs some"),
    "more sequences than in the file": (["--data", "npz:{batch.npz}", "--sequences", "9"], r"--sequences 9 must lie in \[1, 4\]"),
    "more steps than in the file": (["--data", "npz:{batch.npz}", "--length", "6"], r"length=6 must be in \[1, 5\]"),
    "unknown precision": (["--precision", "float16"], "--precision"),
    "unknown option": (["--units", "3"], "--units"),
}


OWN = """
import jax.numpy as jnp
step = lambda w, h, x: jnp.tanh(w * h + x)
w, h, xs = jnp.array(0.9), jnp.zeros(2), jnp.ones((3, 4, 2))
model = lambda: (step, w, h, xs)
little = lambda: (step, w)
keyed = lambda: (lambda w, h, x: w["gain"] * h, {}, h, xs)
stops = lambda: exit(3)
flat = lambda: (step, w, h, xs, jnp.ones(3), error)
number = lambda: (lambda w, h, x: h * w["a"] + x, {"a": 2}, h, xs, xs, error)
unbatched = lambda: (step, w, h, jnp.ones(4))
nan = lambda: (step, w, h, xs.at[0, 0].set(jnp.nan))
integers = lambda: (lambda w, h, x: h, w, jnp.zeros(2, jnp.int32), xs)
weighted = lambda: {"step": step, "params": w, "state": h, "xs": xs, "lengths": [4, 2, 3], "targets": xs, "loss": error}
error = lambda w, h, x, y: jnp.sum((h - y) ** 2)
def raises():
    raise RuntimeError("no data")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Good and bad files by name, and modules to import."""
    folder = tmp_path_factory.mktemp("files")
    xs = np.linspace(-1, 1, 40).reshape(4, 5, 2)
    np.savez(folder / "batch.npz", xs=xs)
    np.savez(folder / "long.npz", xs=xs, lengths=[1, 2, 3, 6])
    np.savez(folder / "misfit.npz", xs=xs, targets=np.zeros(3))
    np.savez(folder / "labelled.npz", xs=xs, targets=[0, 1, 0, 1])
    np.savez(folder / "hashes.npz", xs=xs, targets=[0, 1, 0, 123456789])
    np.savez(folder / "negative.npz", xs=xs, targets=[0, 1, 0, 1], weights=-np.ones((4, 5)))
    np.savez(folder / "pickled.npz", xs=np.array([[1.0], [2.0, 3.0]], dtype=object))
    (folder / "cut.npz").write_bytes((folder / "batch.npz").read_bytes()[:200])
    np.save(folder / "words.npy", np.array([["one", "two"]]))
    np.save(folder / "flat.npy", np.arange(5.0))
    np.save(folder / "nan.npy", np.where(np.arange(10).reshape(2, 5) == 7, np.nan, 1.0))
    random = np.random.default_rng(0).normal
    np.savez(
        folder / "gru.npz",
        weight_ih_l0=random(size=(12, 3)),
        weight_hh_l0=random(size=(12, 4)),
        bias_ih_l0=random(size=12),
        bias_hh_l0=random(size=12),
    )
    (folder / "words.txt").write_text("a b c\nd e f")
    (folder / "latin.txt").write_bytes(b"d\xe9j\xe0 vu")
    (folder / "own.py").write_text(OWN)
    (folder / "broken.py").write_text("1 / 0")
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_options_exit_2_with_a_message_and_leave_nothing(case, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(files)
    options, message = BAD[case]
    options = [re.sub(r"\{(.+)\}", lambda name: str(files / name[1]), option) for option in options]
    assert _exit_code(["diagnose", *options]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert re.search(message, said), said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_is_refused_before_the_work(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(diagnose, "measure", lambda *_: pytest.fail("the work began"))
    assert cli.main([*SMALL, "--out", str(tmp_path / place)]) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unwritable_folder_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    monkeypatch.setattr(diagnose, "measure", lambda *_: pytest.fail("the work began"))
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


def test_sequences_of_ones_own_are_diagnosed_to_their_own_lengths(files, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(files)
    assert cli.main(["diagnose", "--from", "own:weighted", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert found["lengths"] == [4, 2, 3]
    assert found["gradient"] is not None


def test_text_is_read_character_by_character(files, tmp_path):
    assert cli.main(["diagnose", "--data", f"text:{files / 'words.txt'}", "--length", "5", "--hidden", "4", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert found["plan"]["sequences"] == 2
    assert len(found["gradient"]["times"]) == 5  # every step asks for the next character


def test_trained_weights_are_diagnosed_on_sequences_of_a_file(files, tmp_path):
    xs = np.random.default_rng(1).normal(size=(3, 7, 3))
    np.savez(tmp_path / "xs.npz", xs=xs, lengths=[7, 5, 6])
    options = ["--weights", str(files / "gru.npz"), "--kind", "torch-gru", "--data", f"npz:{tmp_path / 'xs.npz'}"]
    assert cli.main(["diagnose", *options, "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert sorted(found["lengths"]) == [5, 6, 7]
    assert found["plan"]["dimension"] == 4


@pytest.mark.slow
def test_training_gives_two_diagnoses_and_a_comparison_that_two_folders_give_too(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main([*SMALL, "--train-steps", "3", "--batch", "4", "--out", str(out)]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == str(out)
    assert (out / "before" / "report.html").exists()
    assert (out / "after" / "diagnosis.json").exists()
    page = (out / "comparison.html").read_text()
    assert "Accuracy on 200 sequences held out" in page
    assert struct.unpack(">II", (out / "training.png").read_bytes()[16:24])[0] > 600
    assert cli.main(["compare-reports", str(out / "before"), str(out / "after"), "--out", str(tmp_path / "again")]) == 0
    a, b = (json.loads((folder / "comparison.json").read_text()) for folder in (out, tmp_path / "again"))
    assert a["changes"] == b["changes"]
    assert b["labels"] == ["before", "after"]


def test_nothing_of_an_earlier_run_stays_beside_a_new_one(tmp_path):
    for folder in (tmp_path / "before", tmp_path / "after", tmp_path):
        folder.mkdir(exist_ok=True)
        for name in ("comparison.html", "report.html", "training.png", "transport_blocks.png", "notes.txt"):
            (folder / name).write_text("of another model")
    assert cli.main([*SMALL, "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"before", "after", "notes.txt", "diagnosis.json", "report.html", *PICTURES}
    assert [path.name for path in (tmp_path / "before").iterdir()] == ["notes.txt"]
    settings = json.loads((tmp_path / "diagnosis.json").read_text())["settings"]
    assert not {"batch", "learning_rate", "weights", "kind", "from"} & set(settings)
    assert settings["hidden"] == 6


def test_training_that_diverges_says_where_and_keeps_the_diagnosis_before(tmp_path, capsys):
    assert cli.main([*SMALL, "--train-steps", "4", "--learning-rate", "1e38", "--out", str(tmp_path)]) == 2
    assert re.search("training diverged: update [234] was not finite: .*; lower --learning-rate", capsys.readouterr().err)
    assert (tmp_path / "before" / "report.html").exists()
    assert not (tmp_path / "comparison.html").exists()


BAD_REPORTS = {
    "no folder": (None, "there is no .*a.*; give a folder that jaxrnn diagnose wrote"),
    "not JSON": ("{'verdict'", "is not a whole JSON file"),
    "cut short": ('{"verdict": "stable", "exp', "is not a whole JSON file"),
    "a list": ("[]", "holds a list, not a diagnosis"),
    "no diagnosis": ('{"verdict": "stable"}', "a is no diagnosis: it lacks exponents"),
}


@pytest.mark.parametrize("case", BAD_REPORTS)
def test_reports_that_cannot_be_compared_exit_2_and_leave_nothing(case, tmp_path, capsys):
    content, message = BAD_REPORTS[case]
    for name in "ab":
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "diagnosis.json").write_text(content)
    assert cli.main(["compare-reports", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


# float64 as the rest of the tests: the command sets the precision of the process it runs in.
TRAIN = [
    "train",
    "--precision",
    "float64",
    "--length",
    "12",
    "--cell",
    "gru",
    "--hidden",
    "4",
    "--batch",
    "3",
    "--every",
    "4",
    "--monitor-every",
    "4",
]


@pytest.mark.slow
def test_a_training_is_kept_goes_on_and_is_not_overwritten(tmp_path, capsys):
    pytest.importorskip("orbax.checkpoint", reason="checkpoints come with the extra train")
    assert cli.main([*TRAIN, "--seeds", "2", "--steps", "6", "--out", str(tmp_path / "cut")]) == 0
    out = capsys.readouterr().out
    assert "gru + clipping, 12" in out
    assert out.rstrip().splitlines()[-1] == str(tmp_path / "cut")
    assert cli.main([*TRAIN, "--seeds", "2", "--steps", "12", "--out", str(tmp_path / "cut")]) == 0
    assert cli.main([*TRAIN, "--seeds", "2", "--steps", "12", "--out", str(tmp_path / "whole")]) == 0
    rows = [json.loads((tmp_path / name / "result.json").read_text())["row"] for name in ("cut", "whole")]
    assert rows[0]["metric"] == rows[1]["metric"]
    assert rows[0]["exponent"] == rows[1]["exponent"]
    lines = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 6, 8, 12]
    assert {"loss", "gradient_norm", "clipped", "exponents", "metric"} <= set(lines[-1])
    config = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert (config["cell"], config["remedies"], config["steps"]) == ("gru", ["clipping"], 12)
    assert cli.main([*TRAIN, "--seeds", "1", "--out", str(tmp_path / "cut")]) == 2
    assert "holds another training: seeds is 2 there and 1 here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_comparison_shows_every_arm_and_is_read_again(tmp_path, capsys):
    pytest.importorskip("orbax.checkpoint", reason="checkpoints come with the extra train")
    command = ["compare", "--cells", "vanilla", "gru", "--remedies", "none", "clipping:threshold=0.5+gate-bias", "--lengths", "12", "--hidden", "4",
               "--batch", "3", "--steps", "4", "--every", "2", "--seeds", "2", "--precision", "float64", "--out", str(tmp_path)]  # fmt: skip
    for _ in range(2):
        assert cli.main(command) == 0
        out = capsys.readouterr().out
        assert "gru + clipping:threshold=0.5 + gate-bias, 12" in (tmp_path / "compare.html").read_text()
        assert "not run: vanilla + clipping:threshold=0.5 + gate-bias, 12: gate-bias: vanilla has no gate that keeps" in " ".join(out.split())
    assert (tmp_path / "compare.html").exists()
    assert len(list((tmp_path / "arms").glob("*.json"))) == 3


UNTRAINABLE = {
    "unknown task": (["train", "--task", "ading"], "there is no task 'ading'; did you mean adding"),
    "unknown cell": (["train", "--cell", "elman"], "unknown cell 'elman'; allowed are"),
    "unknown remedy": (["train", "--remedies", "hope"], "unknown remedy 'hope'; allowed are"),
    "unknown knob": (["train", "--remedies", "clipping:norm=3"], "clipping has no knob norm"),
    "knob without value": (["train", "--remedies", "clipping:norm"], "'norm' has no value"),
    "remedy that does not fit": (["train", "--cell", "vanilla", "--remedies", "gate-bias"], "vanilla has no gate that keeps"),
    "file that is missing": (["train", "--task", "npz:absent.npz"], "there is no file absent.npz"),
    "no updates": (["train", "--steps", "0"], r"--steps 0 must lie in \[1, "),
    "no seeds": (["compare", "--seeds", "0"], r"--seeds 0 must lie in \[1, "),
    "a length of nothing": (["compare", "--lengths", "10", "0"], r"--lengths 0 must lie in \[1, "),
    "unknown cell to compare": (["compare", "--cells", "elman"], "unknown cell 'elman'"),
    "unknown remedy to compare": (["compare", "--remedies", "hope"], "unknown remedy 'hope'"),
}


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_what_cannot_be_trained_is_refused(case, tmp_path, capsys):
    arguments, message = UNTRAINABLE[case]
    assert cli.main([*arguments, "--precision", "float64", "--out", str(tmp_path / "out")]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "out").exists()


def test_a_diagnosis_nested_too_deep_is_refused(tmp_path, capsys):
    (tmp_path / "diagnosis.json").write_text('{"verdict": ' + "[" * 100_000)
    assert cli.main(["compare-reports", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "diagnosis.json is not a whole JSON file (it is nested too deep)" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "3", "[" * 100_000])
def test_options_of_an_earlier_training_that_are_no_table_are_refused(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    assert cli.main([*TRAIN, "--out", str(tmp_path)]) == 2
    assert "config.json is not a whole JSON file of options" in capsys.readouterr().err


def test_names_that_are_no_text_are_refused(tmp_path, capsys):
    assert cli.main([*SMALL, "--out", str(tmp_path / "d\udce9j\udce0")]) == 2
    assert "is not text in UTF-8; rename the file or folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
