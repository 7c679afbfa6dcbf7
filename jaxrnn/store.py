"""Results that survive a kill: parts that appear whole or not at all, each named by the hash of what it holds.

A folder holds ``manifest.json`` (what the points are, by which code, written once), ``parts/`` and, beside them, what failed. A part is an npz
of some points' numbers; its name is its content's SHA-256, so the listing of the folder is the manifest of the parts, and whoever reads
one knows whether it is what was written. Several processes may write at once: no file is ever changed.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrnn import _archives, _atomic

_FORMAT = 1
_POINTS = "point"  # the array of a part that says which points they are
Numbers = Mapping[str, np.ndarray]


class Failure(NamedTuple):
    """A point without a result."""

    point: str  # its name
    values: dict[str, Any]  # of its axes
    message: str


class Store:
    """Points by name (32 hexadecimal digits), and named arrays of numbers for each, in a folder.

    Args:
        folder: made where there is none.
        about: what the results depend on, as JSON can hold it: code, axes. A folder that was begun with another is refused.

    Raises:
        ValueError: the folder holds results of something else, or is no store.
        OSError: it cannot be written.

    >>> import tempfile
    >>> import numpy as np
    >>> from jaxrnn import store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept = store.Store(folder, {"code": "v1"})
    ...     kept.record([32 * "a", 32 * "b"], {"rate": np.array([0.1, 0.2])})
    ...     again = store.Store(folder, {"code": "v1"})
    ...     sorted(again.points()), again.read([32 * "b"])["rate"].tolist()
    (['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'], [0.2])
    """

    def __init__(self, folder: str | os.PathLike[str], about: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        _atomic.require_writable(self.folder)
        self._parts, self._failures = self.folder / "parts", self.folder / "failures"
        manifest, wanted = self.folder / "manifest.json", {"format": _FORMAT, **json.loads(json.dumps(dict(about)))}
        others = {path.name for path in self.folder.iterdir()} - {"parts", "failures"} if self.folder.exists() else set()
        if self._parts.is_dir() and any(self._listed()) and not manifest.exists():  # in this order: another process may be just beginning the store
            raise ValueError(f"{self.folder} holds parts, and its manifest.json is gone, which says what they are of; choose another folder")
        if not manifest.exists() and any(not name.startswith(".") for name in others):
            raise ValueError(f"{self.folder} holds files and no manifest.json: it is no store; choose another folder")
        for place in (self._parts, self._failures):
            place.mkdir(parents=True, exist_ok=True)
        if not manifest.exists():
            _atomic.write(manifest, json.dumps(wanted, indent=1).encode())
        there = _manifest(manifest)
        changed = sorted(key for key in {*there, *wanted} - {"versions"} if there.get(key) != wanted.get(key))
        if changed:
            told = "; ".join(f"{key} was {_short(there.get(key))}, is {_short(wanted.get(key))}" for key in changed)
            raise ValueError(f"{self.folder} holds results of something else: {told}. Choose another folder, or go back to what it was begun with")
        self._known: dict[str, tuple[Path, int]] = {}  # point -> its part, and its row there
        self._seen: set[str] = set()

    def points(self) -> set[str]:
        """The points that have results now, also those that others recorded meanwhile; damaged parts do not count."""
        for path in self._listed():
            if path.name not in self._seen:
                numbers = _open(path)
                if numbers is not None:
                    self._seen.add(path.name)
                    for row, name in enumerate(numbers[_POINTS].tolist()):
                        self._known.setdefault(name, (path, row))
        return set(self._known)

    def record(self, points: Sequence[str], numbers: Numbers) -> None:
        """Keep the results of some points, axis 0 of every array, all or none; returns when they are on the disk.

        Raises:
            ValueError: another number of rows. OSError: a full disk; nothing is left behind then.
        """
        for name, array in numbers.items():
            if len(array) != len(points) or name == _POINTS:
                raise ValueError(f"{name} has {len(array)} rows for {len(points)} points; it must have one each, and another name than {_POINTS!r}")
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **{_POINTS: np.asarray(points, bytes), **numbers})
        data = content.getvalue()
        _atomic.write(self._parts / f"{hashlib.sha256(data).hexdigest()}.npz", data)

    def fail(self, failure: Failure) -> None:
        """Keep that a point has no result, and why."""
        _atomic.write(self._failures / f"{failure.point}.json", json.dumps(failure._asdict()).encode())

    def failures(self) -> list[Failure]:
        """The points that failed and have no result since; ValueError where a file there is no record of a failure."""
        done = self.points()
        found = [_failure(path) for path in sorted(self._failures.glob("[!.]*.json"))]
        return [failure for failure in found if failure.point not in done]

    def read(self, points: Sequence[str]) -> dict[str, np.ndarray]:
        """The arrays of these points, in this order; NaN (0 of other kinds) for those without a result.

        Numbers that are integers in one part and floating in another become floating.

        Raises:
            OSError: a part was damaged since it was read. ValueError: a result has another shape in one part than in another.
        """
        done = self.points()
        rows: dict[Path, list[tuple[int, int]]] = {}
        for i, point in enumerate(points):
            if point in done:
                path, row = self._known[point]
                rows.setdefault(path, []).append((i, row))
        arrays: dict[str, np.ndarray] = {}
        written: dict[str, np.ndarray] = {}
        for path, pairs in rows.items():
            numbers = _open(path)
            if numbers is None:
                raise OSError(f"{path} was damaged since it was read; call verify() and run again")
            to, at = np.array(pairs).T
            for name, values in numbers.items():
                if name != _POINTS:
                    arrays[name] = _room(arrays.get(name), len(points), values, f"{path} holds {name}")
                    arrays[name][to] = values[at]
                    written.setdefault(name, np.zeros(len(points), bool))[to] = True
        for name, array in arrays.items():
            if array.dtype.kind in "fc":
                array[~written[name]] = np.nan
        return arrays

    def verify(self) -> list[str]:
        """Read every part anew; the damaged ones go to ``damaged/``, so that their points count as not computed, and their names are returned."""
        bad = [path for path in self._listed() if _open(path) is None]
        for path in bad:
            (self.folder / "damaged").mkdir(exist_ok=True)
            os.replace(path, self.folder / "damaged" / path.name)
        gone = {path.name for path in bad}
        self._seen -= gone
        self._known = {point: place for point, place in self._known.items() if place[0].name not in gone}
        return sorted(gone)

    def _listed(self) -> Iterator[Path]:
        yield from sorted(path for path in self._parts.iterdir() if path.suffix == ".npz" and not path.name.startswith("."))


def _open(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a part, its points as text; None where it is not what its name says, or no part of a store."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).hexdigest() != path.stem:
        return None
    try:
        numbers = _archives.npz(data)
        names = numbers[_POINTS].astype("S").astype(str)
        whole = names.ndim == 1 and all(array.shape[:1] == names.shape for array in numbers.values())
    except MemoryError:  # which says nothing about the part
        raise
    except Exception:  # what somebody else's bytes under a right name lead to is documented nowhere
        return None
    return {**numbers, _POINTS: names} if whole else None


def _room(array: np.ndarray | None, count: int, values: np.ndarray, what: str) -> np.ndarray:
    """An array for so many points that takes these values beside those it has."""
    if array is None:
        return np.zeros((count, *values.shape[1:]), values.dtype)
    numeric = array.dtype.kind in "biufc" and values.dtype.kind in "biufc"
    if array.shape[1:] != values.shape[1:] or not (numeric or array.dtype == values.dtype):
        forms = [f"{form.dtype}{list(form.shape[1:])}" for form in (values, array)]
        raise ValueError(f"{what} as {forms[0]} for each point, and another part as {forms[1]}; a result has one shape: keep such points apart")
    return array.astype(np.result_type(array, values), copy=False)


def _failure(path: Path) -> Failure:
    try:
        failure = Failure(**_atomic.parse(path.read_bytes()))
        if [type(part) for part in failure] != [str, dict, str]:
            raise TypeError("its fields are of other types")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a failure ({error}); remove it") from error
    return failure


def _manifest(path: Path) -> dict[str, Any]:
    try:
        found = _atomic.parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not the manifest of a store ({error}); choose another folder") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError(f"{path} is not the manifest of a store of format {_FORMAT}; choose another folder")
    return found


def _short(value: Any) -> str:
    told = json.dumps(value)
    return told if len(told) < 100 else told[:97] + "…"
