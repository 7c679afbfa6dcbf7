"""Every reader takes, or refuses with a message, a few of the inputs of ``experiments.fuzz``; and that campaign sees what it is there to see."""

import pickle
import random
import re
import time
import warnings
import zipfile

import pytest

from experiments import fuzz
from experiments.fuzz_readers import READERS, Reader
from tests import fuzzing

FEW = 1200  # inputs over all readers


@pytest.mark.parametrize("name", READERS)
def test_almost_valid_inputs_are_taken_or_refused_with_a_message(name):
    pytest.importorskip(fuzz.LACKING.get(name, "jax"))
    whole = sum(reader.weight for reader in READERS.values())
    found = fuzz.campaign(name, max(8, FEW * READERS[name].weight // whole), seed=7)
    assert not found.crashes, "\n".join(found.crashes)
    assert found.inputs == found.taken + found.refused.total()


@pytest.mark.parametrize("name", [name for name in READERS if name not in fuzz.LACKING])
def test_an_input_follows_from_reader_seed_and_number(name, tmp_path):
    def made(place):
        place.mkdir()
        given = READERS[name].make(random.Random("3"), place)
        files = {
            path.relative_to(place).as_posix(): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file() and path.suffix != ".npz"
        }
        return str(given).replace(str(place), ""), files

    assert made(tmp_path / "a") == made(tmp_path / "b")


def bad(what):
    """What a reader may not do."""
    if what == "key":
        raise KeyError("xs")
    if what == "unnamed":
        raise ValueError("something is wrong")
    if what == "slow":
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
    if what == "warns":
        warnings.warn("look out", stacklevel=1)


@pytest.mark.parametrize(
    ("what", "message"),
    [("key", "KeyError"), ("unnamed", "whose message does not say 'some.txt'"), ("slow", r"0\.\d s"), ("large", r"\d+ MB"), ("warns", "look out")],
)
def test_what_no_reader_may_do_is_a_crash(what, message, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    monkeypatch.setattr(fuzz, "BYTES", 1e6)
    monkeypatch.setattr(fuzz, "_keep", lambda *_: None)
    monkeypatch.setattr(fuzz, "held", lambda: 80e6 * (what == "large") * bool(reads))
    (tmp_path / "some.txt").write_text("")
    tally, reads = fuzz.Tally(), []
    fuzz.tried(Reader(lambda draw, folder: tmp_path / "some.txt", lambda path: (reads.append(path), bad(what)), 1), "bad", 0, 0, tmp_path, tally)
    assert len(tally.crashes) == 1
    assert re.search(message, tally.crashes[0]), tally.crashes


def test_the_canary_sings_where_a_pickle_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "_keep", lambda *_: None)
    for what in ("file", "system", "environment", "eval", "exec"):
        (folder := tmp_path / what).mkdir()
        (folder / "some.pkl").write_bytes(pickle.dumps(fuzzing.Payload(what, str(folder / fuzzing.CANARY))))
        tally = fuzz.Tally()
        trusting = Reader(lambda draw, folder: folder / "some.pkl", lambda path: pickle.loads(path.read_bytes()), 1)
        fuzz.tried(trusting, "trusting", 0, 0, folder, tally)
        assert "ran" in tally.crashes[0], what


def test_a_file_outside_the_folder_is_seen(monkeypatch):
    def unpacked(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                (path.parent / name).write_bytes(archive.read(name))

    def make(draw, folder):
        path = folder / "some.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../outside", "")
        return path

    monkeypatch.setitem(READERS, "trusting", Reader(make, unpacked, 1))
    assert "written outside the folder" in fuzz.campaign("trusting", 1).crashes[0]
