"""What may go wrong around a run, and what is lost then: a table whose every row is a test, here or where it belongs; ``docs/faults.md`` prints it.

python -m tests.test_faults > docs/faults.md
"""

import ast
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import _atomic, cells, cli, comparison, report, sweep, tasks, training
from jaxrnn.cli import diagnose
from jaxrnn.store import Store
from jaxrnn.training import checkpoints, logs

ROOT = Path(__file__).parents[1]
NOTHING = "lost: nothing"


class Fault(NamedTuple):
    """A row of the table."""

    fault: str
    where: str
    outcome: str
    test: str  # a function of this file, or file::function of another


_BATCH = "lost: the batch that was computed; called again, the rest is computed, to the same bits"
_SINCE = "lost: the updates since the last checkpoint; called again, they are made again, to the same bits"
_REFUSED = "refused before any work, with what to do; lost: nothing"
_NAMED = "refused, the file named, with what to do; lost: what was in that file"
FAULTS = [
    # Killed, ended, interrupted.
    Fault("kill -9", "training", _SINCE, "test_checkpoints.py::test_a_killed_training_goes_on_bit_for_bit"),
    Fault("kill -9", "sweep", _BATCH, "test_cluster.py::test_kills_of_the_process_and_of_a_worker_lose_nothing"),
    Fault("kill -9 amid the write of a checkpoint", "training", _SINCE,
          "test_checkpoints.py::test_the_newest_two_are_kept_and_what_a_kill_left_is_cleared"),
    Fault("kill -9 amid the write of a part", "sweep", _BATCH, "test_store.py::test_what_a_kill_leaves_behind_is_no_part"),
    Fault("kill -9 amid the write of a page, a result or a picture", "every command", "each file is the old one or the new one, whole",
          "test_a_file_is_whole_whenever_its_writers_are_killed"),
    Fault("kill -9 amid a line of the log", "training", "lost: that line, which is written again",
          "test_checkpoints.py::test_a_log_of_json_lines_is_cut_where_a_run_goes_on"),
    Fault("kill -9 between two arms", "comparison", _SINCE, "test_comparison.py::test_what_is_done_is_read_and_what_was_cut_goes_on"),
    Fault("a worker is killed", "sweep over workers", "its batch is done again elsewhere; lost: nothing",
          "test_cluster.py::test_kills_of_the_process_and_of_a_worker_lose_nothing"),
    Fault("a point kills every worker", "sweep over workers", "lost: that point, which is listed with the reason",
          "test_cluster.py::test_of_1000_points_one_raises_one_is_no_number_one_kills_its_worker_and_the_others_arrive"),
    Fault("Ctrl-C", "diagnosis", "exit 130, one sentence, no file", "test_cli.py::test_an_interrupt_leaves_nothing_and_says_so"),
    Fault("Ctrl-C", "training", _SINCE, "test_checkpoints.py::test_a_training_goes_on_bit_for_bit"),
    Fault("Ctrl-C", "sweep", f"exit 130; {_BATCH}", "test_a_sweep_that_is_stopped_by_a_signal_goes_on"),
    Fault("SIGTERM", "sweep", f"exit 143; {_BATCH}", "test_a_sweep_that_is_stopped_by_a_signal_goes_on"),
    Fault("SIGTERM amid the write of a file", "every command", "exit 143, one sentence; the file is the old one, and nothing lies beside it",
          "test_a_signal_amid_a_write_leaves_the_old_file_alone"),
    # Disks.
    Fault("the disk is full", "diagnosis", "exit 2 with the reason, no file", "test_cli.py::test_a_full_disk_leaves_no_file"),
    Fault("the disk is full", "sweep", _BATCH, "test_store.py::test_a_full_disk_leaves_no_part"),
    Fault("the disk is full amid a checkpoint", "training", _SINCE, "test_a_full_disk_leaves_the_checkpoint_before"),
    Fault("the disk is full amid a line of the log", "training", "ends with the reason; lost: that line, all of it",
          "test_a_full_disk_leaves_no_half_of_a_line"),
    Fault("the disk is full at the renaming", "every file", "the old file stays, and nothing lies beside it",
          "test_a_renaming_that_fails_leaves_the_old_file_alone"),
    Fault("the disk is full after an arm", "comparison", "lost: the last evaluation; its checkpoints stay",
          "test_an_arm_whose_result_cannot_be_written_keeps_its_checkpoints"),
    Fault("the folder is read-only", "diagnosis", _REFUSED, "test_cli.py::test_an_unwritable_folder_is_refused_before_the_work"),
    Fault("the folder is read-only", "checkpoints, logs, stores", _REFUSED, "test_what_cannot_be_written_is_refused_by_every_writer"),
    Fault("a file is where the folder should be", "every command", _REFUSED,
          "test_cli.py::test_an_output_folder_that_cannot_be_is_refused_before_the_work"),
    Fault("the folder is a link to what is not there", "every command", _REFUSED, "test_a_link_to_nowhere_is_refused_before_the_work"),
    Fault("the folder is a link to a folder", "report", f"written there, the link stays; {NOTHING}",
          "test_a_linked_folder_is_written_through_and_a_linked_file_is_replaced"),
    Fault("a file of the report is a link", "report", "the link is replaced, what it pointed to is not touched",
          "test_a_linked_folder_is_written_through_and_a_linked_file_is_replaced"),
    Fault("the folder is removed amid the run", "sweep", "ends with the reason; lost: what was in the folder",
          "test_a_folder_that_is_removed_ends_the_sweep_with_its_name"),
    Fault("a name with blanks, quotes and other alphabets", "report, sweep, log", NOTHING, "test_any_name_that_is_text_will_do"),
    Fault("a name longer than the file system takes", "every command", _REFUSED, "test_a_name_that_is_too_long_is_refused_before_the_work"),
    Fault("a name that is no text", "every command", _REFUSED, "test_cli.py::test_names_that_are_no_text_are_refused"),
    # Others at the same time, and before.
    Fault("two processes", "one sweep's folder", NOTHING, "test_store.py::test_two_processes_write_to_one_store"),
    Fault("two processes", "one training's folder", "the later one ends with the reason; the checkpoint of the other stays",
          "test_of_two_trainings_in_one_folder_the_later_is_refused"),
    Fault("two processes", "one report's folder", "each file is whole, of one of them", "test_a_file_is_whole_whenever_its_writers_are_killed"),
    Fault("the folder is another training's", "train", _REFUSED, "test_cli.py::test_a_training_is_kept_goes_on_and_is_not_overwritten"),
    Fault("the folder is another sweep's", "sweep", _REFUSED, "test_store.py::test_another_point_or_other_axes_are_refused"),
    Fault("the folder holds something else", "sweep", _REFUSED, "test_store.py::test_a_folder_of_something_else_is_refused"),
    Fault("the clock goes back", "sweep, checkpoints, log", NOTHING, "test_a_clock_that_goes_back_changes_nothing"),
    # Damage.
    Fault("a part is cut or changed", "sweep", "put aside by verify(); its points are computed again",
          "test_store.py::test_a_damaged_part_is_found_put_aside_and_its_points_are_missing"),
    Fault("a part is somebody else's", "sweep", "it does not count, and verify() puts it aside",
          "test_store.py::test_what_is_no_part_under_the_right_name_is_a_damaged_one"),
    Fault("a part is removed", "sweep", "its points are computed again; lost: the time", "test_a_part_that_is_gone_is_computed_again"),
    Fault("a manifest is cut or of another form", "sweep", _REFUSED, "test_store.py::test_a_folder_of_something_else_is_refused"),
    Fault("a manifest is removed", "sweep", "refused: nobody knows what the parts are of", "test_parts_without_their_manifest_are_refused"),
    Fault("the record of a failure is cut", "sweep", _NAMED,
          "test_store.py::test_a_manifest_or_a_failure_that_is_nested_too_deep_or_of_another_form_is_refused"),
    Fault("a checkpoint is cut or changed", "training", "refused; removed, the one before is taken",
          "test_checkpoints.py::test_a_byte_changed_or_cut_anywhere_is_refused"),
    Fault("the newest checkpoint is removed", "training", "goes on from the one before, to the same bits",
          "test_without_the_newest_checkpoint_training_goes_on_from_the_one_before"),
    Fault("a checkpoint is another run's", "training", _REFUSED, "test_checkpoints.py::test_a_checkpoint_of_another_training_is_refused"),
    Fault("a line of the log is no line of a log", "training", _NAMED, "test_checkpoints.py::test_a_line_that_is_of_no_log_is_refused"),
    Fault("the log is removed", "training", "lost: its lines; the training goes on", "test_a_log_that_is_gone_is_begun_anew"),
    Fault("the options of a training are cut", "train", _NAMED, "test_cli.py::test_options_of_an_earlier_training_that_are_no_table_are_refused"),
    Fault("the result of an arm is damaged", "comparison", _NAMED, "test_comparison.py::test_a_result_whose_fields_do_not_fit_is_refused"),
    Fault("a stored diagnosis is damaged", "compare-reports", _NAMED, "test_cli.py::test_reports_that_cannot_be_compared_exit_2_and_leave_nothing"),
    Fault("a file of weights is damaged or hostile", "diagnose, inspect", _REFUSED, "test_inspect.py::test_a_strange_archive_is_refused"),
    # Memory.
    Fault("NumPy is out of memory", "every command", "exit 2 with the size that was asked for and the options to lower",
          "test_out_of_memory_says_how_much_and_what_to_lower"),
    Fault("JAX is out of memory", "every command", "exit 2 with the size that was asked for and the options to lower",
          "test_out_of_memory_says_how_much_and_what_to_lower"),
    Fault("a point is out of memory", "sweep", "lost: that point, which is listed with the reason",
          "test_a_point_that_is_out_of_memory_is_listed_and_the_others_arrive"),
    # Numbers and functions.
    Fault("a point raises, or is NaN", "sweep", "lost: that point, which is listed with the reason",
          "test_sweep.py::test_a_point_that_raises_and_one_without_a_number_are_listed_and_the_others_arrive"),
    Fault("the loss is NaN", "training of seeds", "that seed ends, and says where it began; the others go on",
          "test_training.py::test_the_first_update_that_is_not_finite_ends_a_seed_alone"),
    Fault("training diverges", "diagnose", "exit 2; the diagnosis before training stays",
          "test_cli.py::test_training_that_diverges_says_where_and_keeps_the_diagnosis_before"),
    Fault("the data raise midway", "training", _SINCE, "test_data_that_raise_midway_leave_the_checkpoint"),
    Fault("a step of one's own raises", "diagnose", _REFUSED, "test_cli.py::test_bad_options_exit_2_with_a_message_and_leave_nothing"),
    Fault("a sweep of one's own raises while it is read", "sweep", _REFUSED,
          "test_cli_sweep.py::test_a_python_file_that_raises_is_refused_with_what_it_raised"),
    # Around the process.
    Fault("who reads the output has left (| head)", "every command", "exit 1, no traceback; files are written before",
          "test_output_that_nobody_takes_ends_without_a_traceback"),
    Fault("the output goes to a full disk", "every command", "exit 2 with the reason; files are written before",
          "test_output_that_nobody_takes_ends_without_a_traceback"),
    Fault("there is no output", "every command", f"exit 0; {NOTHING}", "test_output_that_nobody_takes_ends_without_a_traceback"),
    Fault("a terminal without λ", "every command", f"it is told by its number; {NOTHING}", "test_a_terminal_of_few_characters_is_told_their_numbers"),
    Fault("a package of an extra is missing", "every command", "exit 2 with the line that installs it; nothing is written",
          "test_a_missing_extra_is_told_before_anything_is_written"),
    Fault("the cache of compiled programs cannot be written", "every command", f"a warning, compiled anew; {NOTHING}",
          "test_without_home_cache_display_or_browser_a_page_is_written"),
    Fault("there is no home folder", "every command", f"compiled anew; {NOTHING}", "test_without_a_home_nothing_is_cached"),
    Fault("there is no display and no browser", "report", NOTHING, "test_without_home_cache_display_or_browser_a_page_is_written"),
]  # fmt: skip


def rows():
    """(fault, where, outcome) of every row, for the documentation."""
    return [row[:3] for row in FAULTS]


def page():
    """What ``docs/faults.md`` holds."""
    lines = [f"| {fault} | {where} | {outcome} |" for fault, where, outcome in rows()]
    intro = (
        "# What may go wrong, and what is lost",
        f"Every row of this table of {len(FAULTS)} faults is a test, listed in `tests/test_faults.py`; what readers do with damaged files is tried "
        "by `python -m experiments.fuzz`.",
        "\n".join(["| fault | where | outcome |", "|---|---|---|", *lines]),
    )
    return "\n\n".join(intro) + "\n"


def test_the_page_of_faults_is_the_table():
    assert (ROOT / "docs" / "faults.md").read_text(encoding="utf-8") == page()


def test_every_row_has_its_test():
    assert len(FAULTS) == len(set(FAULTS)) >= 40
    named = {name: {node.name for node in ast.walk(ast.parse((ROOT / "tests" / name).read_text())) if isinstance(node, ast.FunctionDef)}
             for name in {row.test.partition("::")[0] for row in FAULTS if "::" in row.test}}  # fmt: skip
    for row in FAULTS:
        file, _, function = row.test.rpartition("::")
        assert function in (named[file] if file else globals()), row
    here = {name for name in globals() if name.startswith("test_")} - {"test_the_page_of_faults_is_the_table", "test_every_row_has_its_test"}
    assert here == {row.test for row in FAULTS if "::" not in row.test}


def full(*_, **__):
    """What a full disk says."""
    raise OSError(errno.ENOSPC, "No space left on device")


# Killed, ended, interrupted.


WRITER = """
import sys
from pathlib import Path
from jaxrnn import _atomic
folder = Path(sys.argv[1])
while True:
    for letter in sys.argv[2].encode():
        for name in ("report.html", "diagnosis.json", "states.png"):
            _atomic.write(folder / name, bytes([letter]) * 300_000)
"""


def test_a_file_is_whole_whenever_its_writers_are_killed(tmp_path):
    draw, command = np.random.default_rng(0), [sys.executable, "-c", WRITER, str(tmp_path)]
    for _ in range(6):
        writers = [subprocess.Popen([*command, letters], env={**os.environ, "PYTHONPATH": str(ROOT)}) for letters in ("ab", "yz")]
        names = "report.html", "diagnosis.json", "states.png"
        before = {name: (tmp_path / name).stat().st_ino for name in names if (tmp_path / name).exists()}
        while any(not (tmp_path / name).exists() or (tmp_path / name).stat().st_ino == before.get(name) for name in names):
            assert all(writer.poll() is None for writer in writers)
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.03))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        for name in names:
            content = (tmp_path / name).read_bytes()
            assert len(content) == 300_000
            assert len(set(content)) == 1


OWN = """
import os
from pathlib import Path
from jaxrnn import sweep

def point(i):
    begun = Path(__file__).with_suffix(".begun")
    if i == 3 and not begun.exists():
        begun.touch()
        os.kill(os.getpid(), {signal})
    return {{"result": i * 1.5}}

def plan():
    return sweep.Plan(point, sweep.grid(i=[1, 2, 3, 4]), "Points", compiled=False)
"""


@pytest.mark.parametrize(("sent", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_sweep_that_is_stopped_by_a_signal_goes_on(sent, code, said, tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN.format(signal=int(sent)))
    command, handler = ["sweep", str(tmp_path / "own.py"), "--out", str(tmp_path / "out")], signal.getsignal(signal.SIGTERM)
    assert cli.main(command) == code
    assert f"jaxrnn: {said}; a file is written whole or not at all" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is handler
    assert len(list((tmp_path / "out" / "store" / "parts").iterdir())) == 2
    assert cli.main([*command, "--resume"]) == 0
    assert "4 of 4 points, 0 failed" in capsys.readouterr().out
    numbers = [np.load(path)["result"].item() for path in (tmp_path / "out" / "store" / "parts").iterdir()]
    assert sorted(numbers) == [1.5, 3.0, 4.5, 6.0]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_amid_a_write_leaves_the_old_file_alone(sent, code, tmp_path, monkeypatch, capsys):
    (tmp_path / "result.json").write_text("old")
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), sent))
    monkeypatch.setattr(cli, "_call", lambda *_: _atomic.write(tmp_path / "result.json", b"new"))
    assert cli.main(["tasks"]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("result.json", "old")]


# Disks.


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    pytest.importorskip("orbax.checkpoint")
    tree = {"w": np.arange(3.0)}
    checkpoints.save(tmp_path, 4, tree, {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(tmp_path, 8, {"w": np.ones(3)}, {})
    step, found = checkpoints.restore(tmp_path, tree, {})
    assert (step, found["w"].tolist()) == (4, [0.0, 1.0, 2.0])
    checkpoints.save(tmp_path, 8, tree, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "8"]


class Short(io.FileIO):
    """A file on a disk that takes ten bytes more."""

    def write(self, data):
        return super().write(data[:10])


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    log = training.json_lines(path)
    log(20, {"loss": 0.5})
    with monkeypatch.context() as patch:
        patch.setattr(logs, "open", lambda path, mode, buffering: Short(path, "ab"), raising=False)
        with pytest.raises(OSError, match=r"no space left for a line of the log: .*log.jsonl"):
            log(40, {"loss": 0.25})
    log(60, {"loss": 0.125})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [20, 60]


def test_a_renaming_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    _atomic.write(tmp_path / "result.json", b"old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        _atomic.write(tmp_path / "result.json", b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("result.json", "old")]


ROW = comparison.Row("gru, 50", (200,), (0.01,), 0.17, (200,), (0.01,), ((-0.5,), (-0.1,)), ((5.0,), (30.0,)), 0.01, ())


def test_an_arm_whose_result_cannot_be_written_keeps_its_checkpoints(tmp_path, monkeypatch):
    def work(folder):
        (folder / "200").mkdir(parents=True, exist_ok=True)
        return ROW

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            comparison.kept(tmp_path, "gru", {}, work)
    assert [path.name for path in tmp_path.rglob("*") if path.is_dir()][-1] == "200"
    assert comparison.kept(tmp_path, "gru", {}, work) == ROW
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_what_cannot_be_written_is_refused_by_every_writer(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    for write in (
        lambda: Store(tmp_path / "a", {}), lambda: training.json_lines(tmp_path / "a" / "log.jsonl"),
        lambda: _atomic.require_writable(tmp_path / "a" / "b"), lambda: checkpoints.save(tmp_path / "a", 1, {"w": np.ones(2)}, {}),
    ):  # fmt: skip
        with pytest.raises(PermissionError, match=r"is not writable \(Read-only file system\); choose another folder"):
            write()
    assert not list(tmp_path.iterdir())


def test_a_link_to_nowhere_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    monkeypatch.setattr(diagnose, "load", lambda _: pytest.fail("the work began"))
    for place in ("link", "link/below"):
        assert cli.main(["diagnose", "--out", str(tmp_path / place)]) == 2
        assert "link is a link to what is not there" in capsys.readouterr().err


def test_a_linked_folder_is_written_through_and_a_linked_file_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "real" / "compare.html").symlink_to(tmp_path / "kept.txt")
    report.write_arms([ROW._replace(solved=(), skipped="no")], tmp_path / "link", title="", metric="")
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["compare.html", "compare.json"]
    assert not (tmp_path / "real" / "compare.html").is_symlink()
    assert (tmp_path / "kept.txt").read_text() == "kept"


def plain(i):
    """A point."""
    return i * 1.5


def test_a_folder_that_is_removed_ends_the_sweep_with_its_name(tmp_path):
    folder = tmp_path / "store"

    def remove(done, total, failed):
        if folder.exists():
            (folder / "parts").rename(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="store/parts"):
        sweep.run(plain, sweep.grid(i=[1, 2, 3]), store=folder, progress=remove, compiled=False)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


@pytest.mark.parametrize("name", ["a b", "'\"$(x)", "κύμα 波 🌊", "-x", "%s{0}", "a\nb", "n" * 200])
def test_any_name_that_is_text_will_do(name, tmp_path):
    folder = tmp_path / name
    report.write_arms([ROW._replace(solved=(), skipped="no", name=name)], folder, title=name, metric=name)
    assert sweep.run(plain, sweep.grid(i=[1, 2]), store=folder / "store", compiled=False).results["result"].tolist() == [1.5, 3.0]
    training.json_lines(folder / "log.jsonl")(20, {name: 1.0})
    assert json.loads((folder / "log.jsonl").read_text())[name] == 1.0


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(diagnose, "load", lambda _: pytest.fail("the work began"))
    assert cli.main(["diagnose", "--out", str(tmp_path / ("n" * 300))]) == 2
    assert "File name too long" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# Others at the same time; the clock.


def test_of_two_trainings_in_one_folder_the_later_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("orbax.checkpoint")
    tree = {"w": np.arange(3.0)}
    checkpoints.save(tmp_path, 4, tree, {})
    checkpoints.save(tmp_path, 8, {"w": np.ones(3)}, {})  # the other process was quicker
    with pytest.raises(ValueError, match=r"has a checkpoint of step 8, so none of step 8 can follow; go on from that one"):
        checkpoints.save(tmp_path, 8, tree, {})
    hashes = checkpoints._hashes

    def meanwhile(folder):  # it is quicker while this one writes
        monkeypatch.setattr(checkpoints, "_hashes", hashes)
        checkpoints.save(tmp_path, 12, {"w": np.full(3, 2.0)}, {})
        return hashes(folder)

    monkeypatch.setattr(checkpoints, "_hashes", meanwhile)
    with pytest.raises(OSError, match="12"):
        checkpoints.save(tmp_path, 12, tree, {})
    assert checkpoints.restore(tmp_path, tree, {})[1]["w"].tolist() == [2.0, 2.0, 2.0]


def test_a_clock_that_goes_back_changes_nothing(tmp_path, monkeypatch):
    pytest.importorskip("orbax.checkpoint")
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "time_ns", lambda: next(now) * 10**9)
    for _ in range(2):
        assert sweep.run(plain, sweep.grid(i=[1, 2, 3]), store=tmp_path / "store", compiled=False).results["result"].tolist() == [1.5, 3.0, 4.5]
    for step in (4, 8):
        os.utime(tmp_path, (10**9 - step, 10**9 - step))
        checkpoints.save(tmp_path / "kept", step, {"w": np.full(2, float(step))}, {})
    assert checkpoints.restore(tmp_path / "kept", {"w": np.zeros(2)}, {})[1]["w"].tolist() == [8.0, 8.0]


# Damage.


def test_a_part_that_is_gone_is_computed_again(tmp_path):
    grid = sweep.grid(i=[1, 2, 3])
    sweep.run(plain, grid, store=tmp_path, compiled=False)
    names = {path.name for path in (tmp_path / "parts").iterdir()}
    (tmp_path / "parts" / min(names)).unlink()
    done = []
    found = sweep.run(plain, grid, store=tmp_path, compiled=False, progress=lambda *counts: done.append(counts))
    assert done == [(3, 3, 0)]
    assert found.results["result"].tolist() == [1.5, 3.0, 4.5]
    assert {path.name for path in (tmp_path / "parts").iterdir()} == names


def test_parts_without_their_manifest_are_refused(tmp_path):
    Store(tmp_path, {"code": "1"}).record(["a" * 32], {"rate": np.ones(1)})
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"holds parts, and its manifest.json is gone, which says what they are of; choose another folder"):
        Store(tmp_path, {"code": "2"})


CELL = cells.with_readout(cells.gru(2, 4), 1)
TASK = tasks.adding(6)
PARAMS = CELL.init_params(jax.random.key(0))


def train(folder, sample=TASK.sample, log=None):
    """A short training with a checkpoint after every fourth update."""
    return training.fit(
        CELL.step, PARAMS, CELL.init_state(PARAMS), sample, cells.readout_loss(CELL, TASK.loss), steps=12, batch=3, chunk=4, key=jax.random.key(1),
        checkpoints=training.Checkpoints(folder, 4), log=log,
    )  # fmt: skip


def weights(found):
    """Every bit of the parameters."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found.params)]


def test_without_the_newest_checkpoint_training_goes_on_from_the_one_before(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    whole = weights(train(tmp_path))
    (tmp_path / "12").rename(tmp_path / "gone")
    done = []
    assert weights(train(tmp_path, log=lambda step, values: done.append(step))) == whole
    assert done == [12]


def test_a_log_that_is_gone_is_begun_anew(tmp_path):
    training.json_lines(tmp_path / "log.jsonl", after=40)(60, {"loss": 0.5})
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [60]


# Memory.


@pytest.mark.parametrize(
    ("ask", "size"),
    [
        (lambda *_: np.empty((10**7, 10**7)), r"Unable to allocate 728\. TiB"),
        (lambda *_: jnp.zeros((10**7, 10**7)), r"Out of memory allocating \d{15} bytes"),
    ],
)
def test_out_of_memory_says_how_much_and_what_to_lower(ask, size, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(diagnose, "load", ask)
    assert cli.main(["diagnose", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxrnn: error: out of memory (")
    assert re.search(size, said), said
    assert said.endswith("); lower --hidden or --length or --sequences or --batch\n")
    assert not list(tmp_path.iterdir())


def greedy(i):
    """Most points are modest."""
    return np.empty((10**7, 10**7)).sum() if i == 2 else i * 1.5


def test_a_point_that_is_out_of_memory_is_listed_and_the_others_arrive(tmp_path):
    found = sweep.run(greedy, sweep.grid(i=[1, 2, 3]), store=tmp_path, compiled=False)
    [failure] = found.failures
    assert failure.values == {"i": 2}
    assert re.match(r"\w*MemoryError: Unable to allocate 728\. TiB", failure.message)
    assert found.results["result"][[0, 2]].tolist() == [1.5, 4.5]


# Functions of one's own.


def test_data_that_raise_midway_leave_the_checkpoint(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    drawn = []

    def sample(key, batch):
        np.asarray(jax.random.key_data(key))  # so that it cannot be traced, as what reads files cannot
        drawn.append(1)
        if broken and len(drawn) > 9:
            raise OSError("the file server is gone")
        return TASK.sample(key, batch)

    broken = True
    with pytest.raises(OSError, match="the file server is gone"):
        train(tmp_path, sample)
    assert checkpoints.latest(tmp_path) == 4
    broken = False
    assert weights(train(tmp_path, sample)) == weights(train(tmp_path / "whole", sample))


# Around the process.


def gone():
    """The end of a pipe whose other end is closed."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(
    ("opened", "code", "said"),
    [(gone, 1, ""), (lambda: os.open("/dev/full", os.O_WRONLY), 2, "jaxrnn: error: [Errno 28] No space left on device\n")],
)
@pytest.mark.parametrize("command", [["tasks", "adding", "--length", "5"], ["sweep", "own.py"]])
def test_output_that_nobody_takes_ends_without_a_traceback(opened, code, said, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN.format(signal=0))
    with monkeypatch.context() as patch, open(opened(), "w") as stdout:
        patch.setattr(sys, "stdout", stdout)
        try:
            assert cli.main(command) == code
        except SystemExit as stop:  # rich's, where it meets a closed pipe
            assert stop.code == code  # noqa: PT017
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # so that closing it finds room for what is left
    assert capsys.readouterr().err.endswith(said)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert cli.main([*command, "--resume"] if "sweep" in command else command) == 0
    if "sweep" in command:
        assert {"sweep.html", "sweep.json", "store"} <= {path.name for path in (tmp_path / "jaxrnn-sweep").iterdir()}


def test_a_terminal_of_few_characters_is_told_their_numbers(monkeypatch, capsys):
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert cli.main(["cells", "vanilla", "--hidden", "2", "--length", "4"]) == 0
    assert "\\u" in stdout.buffer.getvalue().decode("ascii")


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("orbax.checkpoint", ["train", "--precision", "float64", "--length", "5", "--hidden", "3"], "train"),
        ("distributed", ["sweep", "own.py", "--workers", "1"], "cluster"),
    ],
)
def test_a_missing_extra_is_told_before_anything_is_written(package, command, extra, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN.format(signal=0))
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 2
    assert f'pip install "jaxrnn[{extra}]"' in capsys.readouterr().err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "manifest.json"]


def test_without_a_home_nothing_is_cached(monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}[0])  # a user without a name, as in some containers
    before = jax.config.jax_compilation_cache_dir
    diagnose.configure("float64")
    assert jax.config.jax_compilation_cache_dir == before


DRAWN = """
import numpy as np
from jaxrnn import sweep

def point(i):
    return i**2

def plan():
    return sweep.Plan(point, sweep.grid(i=np.arange(4.0)), "Squares")
"""


def test_without_home_cache_display_or_browser_a_page_is_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "own.py").write_text(DRAWN)
    code = f"""
        import sys
        from jaxrnn import cli
        assert cli.main(["sweep", "own.py", "--out", {str(tmp_path / "out")!r}]) == 0
        assert "matplotlib.pyplot" not in sys.modules
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("JAX_COMPILATION_CACHE_DIR", "DISPLAY", "MPLBACKEND", "XDG_CACHE_HOME")}
    env = {**kept, "HOME": str(tmp_path / "file"), "PATH": "", "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path / "file" / "below")}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"sweep.html", "sweep.json", "sweep_result.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "Traceback" not in done.stderr


if __name__ == "__main__":
    print(page(), end="")
