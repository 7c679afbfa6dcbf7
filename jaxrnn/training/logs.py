"""Where do the numbers of a run go while it runs: every log is a function ``log(step, values)``."""

import errno
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrnn import _atomic

Log = Callable[[int, Mapping[str, Any]], None]  # after ``step`` updates, values by name: numbers, arrays, nested dictionaries and tuples of them


def json_lines(path: str | Path, after: int = 0) -> Log:
    """A log of one JSON object a line, ``{"step": 20, "loss": 0.7}``; inf, −inf and NaN become strings, arrays become lists.

    Args:
        path: of the file; its folder is made where there is none.
        after: the step that a run goes on from. Lines up to it stay; later ones, and one that a kill cut off, are dropped. 0: begin anew.

    Returns:
        ``log(step, values)``. Each line is handed to the system whole, so that a kill loses none that was logged.

    Raises:
        OSError: the file cannot be written. ValueError: a whole line of the file is not of such a log.

    >>> import pathlib, tempfile
    >>> from jaxrnn import training
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "log.jsonl"
    ...     log = training.json_lines(path)
    ...     log(20, {"loss": 0.5, "exponents": [0.25, float("-inf")]})
    ...     log(40, {"loss": 0.25})
    ...     log = training.json_lines(path, after=20)
    ...     print(path.read_text(), end="")
    {"step": 20, "loss": 0.5, "exponents": [0.25, "-inf"]}
    """
    path = Path(path)
    _atomic.require_writable(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    _atomic.write(path, _kept(path, after) if after and path.exists() else b"")

    def log(step: int, values: Mapping[str, Any]) -> None:
        line = json.dumps({"step": int(step), **_plain(values)}, ensure_ascii=False, allow_nan=False) + "\n"
        with open(path, "ab", buffering=0) as file:
            before, data = os.fstat(file.fileno()).st_size, line.encode()
            if file.write(data) < len(data):  # the disk is full; half a line would spoil the next
                file.truncate(before)
                raise OSError(errno.ENOSPC, "no space left for a line of the log", str(path))

    return log


def tensorboard(folder: str | Path, after: int = 0) -> Log:
    """A log for TensorBoard: numbers as scalars, arrays as histograms of what is finite in them.

    Args:
        folder: of the event files; made where there is none.
        after: the step that a run goes on from; TensorBoard hides what the folder has of later ones. 0: hide nothing.

    Returns:
        ``log(step, values)``, written out at each call.

    Raises:
        ModuleNotFoundError: tensorboardX is not installed.
    """
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def log(step: int, values: Mapping[str, Any]) -> None:
        for name, value in _flat("", values):
            array = np.asarray(value, np.float64)
            finite = array[np.isfinite(array)]
            if array.ndim == 0:
                writer.add_scalar(name, float(array), int(step))
            elif finite.size:
                writer.add_histogram(name, finite, int(step))
        writer.flush()

    return log


def both(*logs: Log) -> Log:
    """A log that hands everything to each of these."""

    def log(step: int, values: Mapping[str, Any]) -> None:
        for one in logs:
            one(step, values)

    return log


def _kept(path: Path, after: int) -> bytes:
    """The whole lines of a log up to a step."""
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        del lines[-1]
    try:
        return b"".join(line for line in lines if _atomic.parse(line)["step"] <= after)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a log of JSON lines with steps ({type(error).__name__}: {error}); give another path") from error


def _plain(value: Any) -> Any:
    """Nested numbers as JSON takes them."""
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    """Arrays and numbers by path."""
    value = value._asdict() if hasattr(value, "_asdict") else value
    if isinstance(value, tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [row for name, v in value.items() for row in _flat(f"{prefix}/{name}" if prefix else str(name), v)]
