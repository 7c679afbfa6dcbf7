"""What a store holds is what was recorded, whole, whoever else writes and whatever is cut or damaged."""

import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import jaxrnn
from jaxrnn.store import Failure, Store

NAMES = [f"{i:032x}" for i in range(8)]
ABOUT = {"code": "1", "axes": {"gain": "traced"}}


def numbers(*which):
    return {"rate": np.array([i / 3 for i in which]), "count": np.array([[i, i] for i in which])}


@pytest.fixture
def kept(tmp_path):
    store = Store(tmp_path / "store", ABOUT)
    store.record(NAMES[:3], numbers(0, 1, 2))
    store.record(NAMES[3:5], numbers(3, 4))
    return store


def test_what_was_recorded_is_read_in_any_order_and_by_others(kept):
    again = Store(kept.folder, ABOUT)
    assert again.points() == set(NAMES[:5])
    found = again.read([NAMES[4], NAMES[0], NAMES[7]])
    np.testing.assert_array_equal(found["rate"], [4 / 3, 0, np.nan])
    np.testing.assert_array_equal(found["count"], [[4, 4], [0, 0], [0, 0]])
    again.record([NAMES[7]], numbers(7))
    assert NAMES[7] in kept.points()


def test_what_a_kill_leaves_behind_is_no_part(kept):
    (kept.folder / "parts" / ".0123.npz.half").write_bytes(b"half")
    assert Store(kept.folder, ABOUT).points() == set(NAMES[:5])
    assert Store(kept.folder, ABOUT).verify() == []


def test_a_damaged_part_is_found_put_aside_and_its_points_are_missing(kept):
    kept.points()
    part = sorted((kept.folder / "parts").glob("*.npz"))[0]
    whole = part.read_bytes()
    part.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    left = Store(kept.folder, ABOUT).points()
    assert left in (set(NAMES[:3]), set(NAMES[3:5]))
    with pytest.raises(OSError, match="was damaged since it was read; call verify"):
        kept.read(NAMES[:5])
    assert kept.verify() == [part.name]
    assert kept.points() == left
    assert (kept.folder / "damaged" / part.name).exists()
    assert kept.verify() == []


def test_another_point_or_other_axes_are_refused(kept):
    with pytest.raises(ValueError, match=r'holds results of something else: code was "1", is "2"\. Choose another folder'):
        Store(kept.folder, {**ABOUT, "code": "2"})
    with pytest.raises(ValueError, match=r'axes was \{"gain": "traced"\}, is \{"gain": "static"\}'):
        Store(kept.folder, {**ABOUT, "axes": {"gain": "static"}})
    Store(kept.folder, {**ABOUT, "versions": {"jax": "99"}})


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds files and no manifest"):
        Store(tmp_path, ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    for content in ("{", json.dumps({"format": 99}), "[]"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ValueError, match="is not the manifest of a store"):
            Store(tmp_path, ABOUT)


def test_a_full_disk_leaves_no_part(kept, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(path.name for path in (kept.folder / "parts").iterdir())
    with pytest.raises(OSError, match="No space left"):
        kept.record(NAMES[5:6], numbers(5))
    assert sorted(path.name for path in (kept.folder / "parts").iterdir()) == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        Store(tmp_path / "file", ABOUT)


def test_rows_must_be_as_many_as_points(kept):
    with pytest.raises(ValueError, match="rate has 1 rows for 2 points"):
        kept.record(NAMES[5:7], numbers(5))
    with pytest.raises(ValueError, match="another name than 'point'"):
        kept.record(NAMES[5:6], {"point": np.zeros(1)})


def test_a_failure_stays_until_there_is_a_result(kept):
    failure = Failure(NAMES[6], {"gain": 2.0}, "ValueError: no")
    kept.fail(failure)
    assert Store(kept.folder, ABOUT).failures() == [failure]
    kept.record(NAMES[6:7], numbers(6))
    assert kept.failures() == []


@pytest.mark.slow
def test_two_processes_write_to_one_store(tmp_path):
    script = """
        import sys
        import numpy as np
        from jaxrnn.store import Store
        store = Store(sys.argv[1], {"code": "1"})
        for i in range(0, 300, 3):
            which = list(range(i + int(sys.argv[2]), i + 3))
            store.record([f"{j:032x}" for j in which], {"rate": np.sqrt(which)})
    """
    env = {**os.environ, "PYTHONPATH": str(Path(jaxrnn.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "store")]
    writers = [subprocess.Popen([*command, str(skip)], env=env) for skip in (0, 1)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    store = Store(tmp_path / "store", {"code": "1"})
    assert store.verify() == []
    names = [f"{j:032x}" for j in range(300)]
    np.testing.assert_array_equal(store.read(names)["rate"], np.sqrt(np.arange(300)))


def test_a_manifest_or_a_failure_that_is_nested_too_deep_or_of_another_form_is_refused(kept):
    (kept.folder / "failures" / "x.json").write_text('{"point": 3, "values": {}, "message": ""}')
    for content in ('{"point": 3, "values": {}, "message": ""}', "[" * 100_000, "{", '{"point": "a"}', '{"a": ' * 90 + "1" + "}" * 90):
        (kept.folder / "failures" / "x.json").write_text(content)
        with pytest.raises(ValueError, match=r"x.json is not the record of a failure \(.*\); remove it"):
            kept.failures()
    (kept.folder / "manifest.json").write_text('{"format": 1, "code": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"manifest.json is not the manifest of a store \(it is nested too deep\)"):
        Store(kept.folder, ABOUT)


@pytest.mark.parametrize(
    "arrays",
    [{}, {"rate": np.ones(2)}, {"point": np.zeros((2, 2), "S32")}, {"point": np.zeros(2, "S32"), "rate": np.ones(3)}, {"point": np.array([b"\xff"])},
     {"point": np.zeros(1, "S32"), "rate": np.array(1.0)}, {"point": np.array([None])}, None],
)  # fmt: skip
def test_what_is_no_part_under_the_right_name_is_a_damaged_one(arrays, kept):
    content = io.BytesIO(b"" if arrays is not None else b"no archive at all")
    if arrays is not None:
        np.savez(content, **arrays)
    path = kept.folder / "parts" / f"{hashlib.sha256(content.getvalue()).hexdigest()}.npz"
    path.write_bytes(content.getvalue())
    assert kept.points() == set(NAMES[:5])
    assert kept.verify() == [path.name]


def test_integers_in_one_part_do_not_cut_the_fractions_of_another(kept):
    kept.record(NAMES[5:6], {"rate": np.array([2]), "count": np.array([[5, 5]])})
    for order in (NAMES, NAMES[::-1]):
        found = dict(zip(order, kept.read(order)["rate"].tolist(), strict=True))
        assert [found[name] for name in NAMES[:6]] == [0.0, 1 / 3, 2 / 3, 1.0, 4 / 3, 2.0]
        assert np.isnan([found[name] for name in NAMES[6:]]).all()


def test_a_result_of_another_shape_than_in_other_parts_is_refused(kept):
    kept.record(NAMES[5:6], {"rate": np.zeros((1, 3)), "count": np.array([[5, 5]])})
    with pytest.raises(ValueError, match=r"holds rate as float64\[3?\] for each point, and another part as float64\[3?\]; a result has one shape"):
        kept.read(NAMES)
