"""Every reader of the package, and what makes almost valid inputs for it; ``READERS`` is the table that ``experiments.fuzz`` runs over."""

import contextlib
import dataclasses
import functools
import hashlib
import html.parser
import importlib
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from jaxrnn import adapters, cells, cli, comparison, diagnosis, plots, report, store, sweep, tasks, training
from jaxrnn.checks import Check
from jaxrnn.cli import compare_reports, options
from jaxrnn.cli import sweep as cli_sweep
from jaxrnn.cli import train as cli_train
from jaxrnn.remedies import Advice
from jaxrnn.remedies.catalogue import Remedy
from jaxrnn.training import checkpoints
from tests import fuzzing

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(7) + b"\x01" + bytes(3) + b"\x01\x08\x06\x00\x00\x00"
_SAVE = plots.save


@dataclasses.dataclass(frozen=True)
class Reader:
    """How an input is made in a folder, and what reads it."""

    make: Callable[[random.Random, Path], Any]  # the path or whatever else ``read`` takes
    read: Callable[[Any], Any]
    weight: int  # of the inputs
    errors: tuple[type[Exception], ...] = (ValueError,)
    named: str = ""  # what a message must hold; "" for the name of the file


class Crash(Exception):
    """What no reader may do."""


# Sequences and weights.


def _sequences(draw):
    B, T = draw.randrange(1, 5), draw.randrange(1, 6)
    found = {"xs": fuzzing.numbers(draw, (B, T) if draw.random() < 0.2 else (B, T, draw.randrange(1, 4)))}
    if draw.random() < 0.5:
        found["lengths"] = np.array([draw.randrange(1, T + 1) for _ in range(B)], draw.choice(("<i8", "<u4", ">i2", "<f8")))
    if draw.random() < 0.7:
        found["targets"] = fuzzing.numbers(draw, draw.choice(((B,), (B, T), (B, T, 2), (T, B))))
    if draw.random() < 0.3:
        found["weights"] = abs(fuzzing.numbers(draw, (B, T), draw.choice(("<f8", "<f4"))))
    return found


def _weights(draw):
    n, n_in, gates = draw.randrange(1, 4), draw.randrange(1, 3), draw.choice((1, 3, 4))
    shapes = {"weight_ih": (gates * n, n_in), "weight_hh": (gates * n, n), "bias_ih": (gates * n,), "bias_hh": (gates * n,)}
    layers, ends = draw.choice((1, 1, 2)), draw.choice((("",), ("", "_reverse")))
    prefix = draw.choice(("", "", "encoder.", "a.b."))
    names = [(f"{prefix}{role}_l{i}{end}", shape) for i in range(layers) for end in ends for role, shape in shapes.items()]
    kind = draw.choice(("<f4", "<f8", ""))
    return {name: fuzzing.numbers(draw, (shape[0], n) if "_ih_l1" in name and len(shape) > 1 else shape, kind) for name, shape in names}


def _npz(content):
    def make(draw, folder):
        members = [(f"{name}.npy", fuzzing.npy(draw, array, 0.15)) for name, array in content(draw).items()]
        return _file(folder / "some.npz", fuzzing.zipped(draw, members, draw.choice((0.0, 0.0, 0.5))))

    return make


def _safetensors(draw, folder):
    arrays = {name: array.astype(draw.choice(("<f4", "<f8", "<f2"))) for name, array in _weights(draw).items()}
    return _file(folder / "some.safetensors", fuzzing.safetensors(draw, arrays))


def _torch(draw, folder):
    import torch

    arrays = {name: torch.from_numpy(array.astype("<f4")) for name, array in _weights(draw).items()}
    stream = io.BytesIO()
    torch.save(arrays, stream, _use_new_zipfile_serialization=draw.random() < 0.9)
    content = stream.getvalue()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return _file(folder / "some.pt", fuzzing.torn(draw, content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    canary = str(folder / fuzzing.CANARY)
    members = [(name, fuzzing.pickled(draw, data, canary) if name.endswith(".pkl") and draw.random() < 0.7 else data) for name, data in members]
    if draw.random() < 0.1:
        return _file(folder / "some.pt", members[0][1])
    return _file(folder / "some.pt", fuzzing.zipped(draw, members, 0.2) if draw.random() < 0.4 else fuzzing.zipped(random.Random(2), members, 0.0))


@functools.cache
def _exported(name):
    cell = cells.REGISTRY[adapters.LAYOUTS[name].cell](2, 3)
    return adapters.export_params(jax.tree.map(np.asarray, cell.init_params(jax.random.key(0))), name)


def _layout(draw, folder):
    """The parameters of a cell in a layout, some of them renamed, left out, or of another shape."""
    name = draw.choice(list(adapters.LAYOUTS))
    tree = _exported(name)
    changed = fuzzing.shaken(draw, jax.tree.map(lambda leaf: list(leaf.shape), tree)) if draw.random() < 0.7 else None
    if changed is None:
        return tree, name if draw.random() < 0.8 else draw.choice((*adapters.LAYOUTS, "", "torch"))

    def leaf(shape):
        if isinstance(shape, list) and all(type(size) is int and 0 <= size < 100 for size in shape):
            return fuzzing.numbers(draw, tuple(shape), "<f4")
        if isinstance(shape, dict):
            return {key: leaf(value) for key, value in shape.items()}
        return [leaf(value) for value in shape] if isinstance(shape, list) else shape

    return leaf(changed), name


def _text(draw, folder):
    text = "".join(draw.choice("abc \nü€") for _ in range(draw.choice((0, 1, 5, 40, 2000)))).encode()
    return (
        _file(folder / "some.txt", fuzzing.torn(draw, text) if draw.random() < 0.7 else text),
        draw.choice((1, 3, 128)),
        draw.choice((None, "abc", "abc \nü€")),
    )


# What the package writes itself, and reads again.


def _manifest(draw, folder):
    place = folder / "some"
    place.mkdir(exist_ok=True)
    _file(place / "manifest.json", fuzzing.written(draw, fuzzing.shaken(draw, {"format": 1, **ABOUT})))
    return place


ABOUT = {"point": "a.b", "code": "0" * 64, "precision": "float64", "axes": {"gain": "traced"}, "versions": {"jax": "1"}}
POINTS = [f"{i:032x}" for i in range(6)]


def _parts(draw, folder):
    """A store with a whole part, one whose name is right whatever it holds, and the record of a failure."""
    place = folder / "some"
    shutil.rmtree(place, ignore_errors=True)
    kept = store.Store(place, ABOUT)
    kept.record(POINTS[:2], {"rate": np.arange(2.0), "count": np.arange(4).reshape(2, 2)})
    count = draw.choice((1, 2, 3))
    arrays = {"point": np.array(draw.sample(POINTS, count), "S32"), "rate": fuzzing.numbers(draw, (count,), "<f8"), "count": np.ones((count, 2), int)}
    if draw.random() < 0.4:
        name = draw.choice((*arrays, "other"))
        arrays[name] = draw.choice(
            (np.zeros((count, 3)), np.zeros(()), np.zeros(count + 1), np.zeros(count, "S3"), np.zeros((0, 2)), np.zeros(count, "M8[s]"))
        )
    if draw.random() < 0.2:
        del arrays[draw.choice(list(arrays))]
    whole = fuzzing.zipped(draw, [(f"{name}.npy", fuzzing.npy(draw, array, 0.1)) for name, array in arrays.items()], 0.2)
    name = hashlib.sha256(whole).hexdigest() if draw.random() < 0.9 else draw.choice(("x", "0" * 64))
    _file(place / "parts" / f"{name}.npz", whole)
    if draw.random() < 0.5:
        fact = {"point": POINTS[5], "values": {"gain": 1.0}, "message": "ValueError: no"}
        _file(place / "failures" / f"{POINTS[5]}.json", fuzzing.written(draw, fuzzing.shaken(draw, fact)))
    return place


def _read_store(place):
    kept = store.Store(place, ABOUT)
    kept.points()
    kept.failures()
    kept.read(POINTS)
    return kept.verify()


def _toml(draw, folder):
    few = {"sweep": "forget-bias", "n": 4, "length": 10, "biases": 3, "seeds": 2}
    return _file(
        folder / "some.toml", fuzzing.toml(draw, draw.choice((few, few, few, {"sweep": "trainable-length", "lengths": [3], "treated": ["none"]})))
    )


def _row(draw, folder):
    row = comparison.Row(
        "gru, 50", (200, 0), (0.01, float("nan")), 0.17, (100, 200), (0.1, 0.01), ((-0.5,) * 2,) * 2, ((5.0, float("inf")),) * 2, 0.01, ()
    )
    tree = {"identity": {}, "row": comparison.plain(row)}
    mark = hashlib.sha256(json.dumps({}, sort_keys=True).encode()).hexdigest()[:12]
    return _file(folder / f"{mark}.json", fuzzing.written(draw, fuzzing.shaken(draw, tree)))


def _read_row(path):
    row = comparison.kept(path.parent, "gru", {}, lambda **_: 1 / 0)
    with mock.patch.object(plots, "save", return_value=PNG):
        report.write_arms([row], path.parent / "page", title="", metric="error")


def _diagnosis(draw, folder):
    return _file(folder / "diagnosis.json", fuzzing.written(draw, fuzzing.shaken(draw, DIAGNOSIS), 0.15))


def _read_diagnosis(path, save=lambda draw: PNG):
    with options.refusing():
        found = diagnosis.compare(compare_reports._read(path), DIAGNOSIS, labels=("diagnosis.json", "whole"))
    with mock.patch.object(plots, "save", save):
        report.write_comparison(found, path.parent / "page")


def _drawn_diagnosis(draw, folder):
    return _file(folder / "diagnosis.json", json.dumps(fuzzing.shaken(draw, DIAGNOSIS), default=str).encode()[: 10**6])


DIAGNOSIS = {
    "verdict": "vanishing", "reasons": ["because"], "remedies": [], "checks": [{"name": "products", "passed": True, "error": 1e-12}],
    "exponents": [-0.1, -0.2], "standard_errors": [0.01, "nan"], "lengths": [64, 50], "command": "jaxrnn diagnose",
    "horizon": {"quantiles": [0.1, 0.5, 0.9], "lags": [2.0, 6.0, "inf"], "censored": 0.0},
    "log_gain": {"per_sequence": [-8.0, "-inf"], "rate": -0.1, "rate_error": 0.01, "freedom": 7.0},
    "eigenvalue_criterion": {"median_log_radius": -0.1}, "plan": {"gradient_sequences": 8},
    "transport_by_lag": {"log_transport": [[0.0, -1.0, -2.0], [0.0, -0.5, -1.0], [0.0, -0.2, -0.5]]},
    "gradient": {"lag_share": [1.0, 0.5, 0.1], "lag_share_errors": [0.0, 0.1, 0.1]},
}  # fmt: skip


def _config(draw, folder):
    plain = {name: value for name, value in dataclasses.asdict(options.Train()).items() if name != "out"} | {"remedies": ["clipping"]}
    return _file(folder / "config.json", fuzzing.written(draw, fuzzing.shaken(draw, plain) if draw.random() < 0.9 else plain))


def _log(draw, folder):
    lines = [fuzzing.written(draw, {"step": 20 * i, "loss": 0.5, "exponents": [0.1, "-inf"]}, 0.1).replace(b"\n", b"") for i in range(5)]
    if draw.random() < 0.4:
        lines[draw.randrange(5)] = fuzzing.written(draw, fuzzing.shaken(draw, {"step": 20, "loss": 0.5})).replace(b"\n", b" ")
    whole = b"\n".join(lines) + draw.choice((b"\n", b"", b'\n{"step": 100, "lo'))
    return _file(folder / "log.jsonl", fuzzing.torn(draw, whole) if draw.random() < 0.3 else whole)


def _checkpoint(draw, folder):
    """A checkpoint with one file damaged, or with another content whose hashes are right."""
    place, whole = folder / "some", folder / "whole"
    tree = {"w": np.arange(3.0), "history": {"loss": np.zeros(2)}, "key": jax.random.key(0)}
    if not whole.exists():
        checkpoints.save(whole, 5, tree, {"batch": 3})
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    about, how = place / "5" / "about.json", draw.random()
    if how < 0.1:
        return place, tree
    if how < 0.8:
        fact = json.loads(about.read_bytes())
        old = fact.pop("sha256")
        fact = fuzzing.shaken(draw, fact)
        if isinstance(fact, dict) and draw.random() < 0.8:
            _, arrays = checkpoints._read(whole / "5")
            fact["sha256"] = checkpoints._digest(fact, arrays) if draw.random() < 0.9 else old
        about.write_bytes(fuzzing.written(draw, fact, 0.15))
    else:
        file = draw.choice(sorted(p for p in place.rglob("*") if p.is_file()))
        file.write_bytes(fuzzing.torn(draw, file.read_bytes()))
    return place, tree


# The command, and the pages.


def _words(draw, folder):
    known = {name: getattr(options, name.title().replace("-", "")) for name in cli._COMMANDS}
    flags = {name: tuple(options.flag(field.name) for field in dataclasses.fields(config)) for name, config in known.items()}
    for name, ending in (("a", ".npz"), ("b", ".toml"), ("c", ".json"), ("d", ".safetensors"), ("e", ".py"), ("f", "")):
        _file(folder / f"{name}{ending}", draw.randbytes(draw.choice((0, 30))))
    files = [
        str(folder / p)
        for p in ("a.npz", "b.toml", "c.json", "d.safetensors", "e.py", "f", "absent", "", ".", "y" * 300, "f/below", "ü", "a.npz\udcff")
    ]
    return fuzzing.words(draw, flags, files)


def _checked(config, argv):
    """``cli._call`` without long computations."""
    with options.refusing():
        options.require(config)
        if isinstance(config, (options.Train, options.Compare)):
            for given in config.remedies:
                for part in given.split("+"):
                    comparison.remedy(part)
    if isinstance(config, options.Inspect):
        return importlib.import_module("jaxrnn.cli.inspect").run(config, argv)
    if isinstance(config, options.CompareReports) and not config.out.is_absolute():
        with options.refusing():
            return len(compare_reports._read(config.a)) * 0
    return 0


def _command(argv):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), mock.patch.object(cli, "_call", _checked):
        try:
            code = cli.main(argv)
        except SystemExit as stop:
            code = stop.code
    if code not in (0, 2, None):
        raise Crash(f"exit code {code}")
    if code == 2:
        if not said.getvalue().strip() or "Traceback" in said.getvalue():
            raise Crash(f"refused without a message: {said.getvalue()[:200]!r}")
        raise ValueError(said.getvalue()[:100])


class _Tags(html.parser.HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.text += [value for name, value in attrs if name == "alt"]

    def handle_data(self, data):
        self.text.append(data)


def _strings(draw, folder):
    texts = [draw.choice((*fuzzing.HOSTILE, *fuzzing.NAMES[:-6])) + draw.choice(("", "!", *fuzzing.HOSTILE)) for _ in range(12)]
    return folder, [text or "x" for text in texts]  # what is empty is left out with its heading


def _pages(given):
    """All pages with these texts, and with harmless ones: the same elements, and every text shown."""
    folder, texts = given
    found = [_tags(folder, each) for each in (texts, [f"text {i}" for i in range(12)])]
    if found[0].tags != found[1].tags:
        raise Crash("the texts changed the elements of the page")
    shown = " ".join("".join(found[0].text).split())
    for text in texts[:8]:
        wanted = " ".join(text.replace("\ud800", "�").split())
        if wanted not in shown:
            raise Crash(f"{text!r} is not shown as it is")


def _tags(folder, t):
    row = comparison.Row(t[0], (200,), (0.01,), 0.17, (200,), (0.01,), ((-0.5,), (-0.1,)), ((5.0,), (30.0,)), 0.01, (t[1],))
    none = row._replace(name=t[2], solved=(), skipped=t[3])
    plan = sweep.Plan(len, sweep.Grid({t[4]: ("a", "b")}, np.array([[0], [1]])), t[5])
    swept = sweep.Sweep(plan.grid, {}, (store.Failure("0", {t[4]: "a"}, t[6]),), ())
    compared = diagnosis.compare({**DIAGNOSIS, "checks": [{"name": t[7], "passed": False}]}, DIAGNOSIS, labels=(t[8], t[9] + " "))
    run = {"command": t[10], "settings": {t[11]: t[0]}}
    picture = {"name": "states", "title": t[1], "caption": t[2], "alternative": t[3], "data": "data:,", "width": 1, "height": 1}
    advice = Advice(t[0], t[1], Remedy(t[2], t[3], t[4], t[5], {}))
    content = {
        "title": t[6], "verdict": "stable", "reasons": t[:4], "advice": [advice], "checks": [Check(t[7], 0.0, 1.0, False, t[8])], "failed": 1,
        "pictures": [picture], "figures": [report.Figure(t[9], t[10], t[11], t[0])], "limits": t[1:3], "run": report._run(run),
    }  # fmt: skip
    page = _Tags()
    page.feed(report._page("diagnosis.html", content).decode())
    with mock.patch.object(plots, "save", return_value=PNG):
        for file in (
            report.write_arms([row, none], folder / "page", title=t[5], metric=t[6], run=run)[0],
            report.write_sweep(swept, plan, folder / "page", run=run)[0],
            report.write_comparison(compared, folder / "page", title=t[5], run=run)[0],
        ):
            page.feed(file.read_text(encoding="utf-8"))
    return page


def _file(path, content):
    path.write_bytes(content)
    return path


READERS = {
    "npy": Reader(lambda draw, folder: _file(folder / "some.npy", fuzzing.npy(draw, _sequences(draw)["xs"])), tasks.arrays, 30),
    "npz": Reader(_npz(_sequences), tasks.arrays, 45),
    "npz of weights": Reader(_npz(_weights), adapters.inspect, 20),
    "safetensors": Reader(_safetensors, adapters.inspect, 25),
    "pt": Reader(_torch, adapters.inspect, 20),
    "layout": Reader(_layout, lambda given: adapters.import_params(*given), 10, (ValueError, TypeError), " "),
    "text": Reader(_text, lambda given: tasks.text(*given), 10),
    "manifest": Reader(_manifest, lambda place: store.Store(place, ABOUT), 30),
    "parts": Reader(_parts, _read_store, 20),
    "toml": Reader(_toml, lambda path: cli_sweep.load(str(path)), 20),
    "result": Reader(_row, _read_row, 30),
    "diagnosis": Reader(_diagnosis, _read_diagnosis, 30, (options.BadInput, ValueError)),
    "diagnosis, drawn": Reader(_diagnosis, lambda path: _read_diagnosis(path, _SAVE), 1, (options.BadInput, ValueError)),
    "config": Reader(_config, lambda path: cli_train._same_config(options.Train(out=path.parent)), 30, (options.BadInput,), "folder"),
    "log": Reader(_log, lambda path: training.json_lines(path, after=40), 30),
    "checkpoint": Reader(_checkpoint, lambda given: checkpoints.restore(given[0], given[1], {"batch": 3}), 2),
    "command line": Reader(_words, _command, 4, named=" "),
    "pages": Reader(_strings, _pages, 4),
}
