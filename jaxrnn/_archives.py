"""Which arrays does a file hold: read whole, nothing unpickled."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

# The format's names; bfloat16 is what its own NumPy reader cannot take.
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "C64": np.complex64, "BOOL": np.bool_}
_DTYPES |= {f"{letter}{bits}": np.dtype(f"{kind}{bits // 8}") for letter, kind in (("I", "i"), ("U", "u")) for bits in (8, 16, 32, 64)}
_LISTED = 12  # as many arrays as a message can name and still be read


class Archive(NamedTuple):
    """Named arrays and where they came from."""

    path: Path
    arrays: dict[str, np.ndarray]

    def listed(self, names: list[str] | None = None) -> str:
        """Arrays with their shapes, for messages; all of them by default."""
        names = list(self.arrays) if names is None else names
        shown = ", ".join(f"{name!r} {self.arrays[name].shape}" for name in names[:_LISTED])
        return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def read(path: str | os.PathLike[str], suffixes: tuple[str, ...], save: str) -> Archive:
    """All arrays of an ``.npy`` (one, named ``""``), ``.npz`` or ``.safetensors`` file, whichever of these ``suffixes`` allow.

    ``save`` tells the user how to write such a file.

    Raises:
        FileNotFoundError, OSError: there is no such file, or it may not be read.
        ModuleNotFoundError: the file needs the package safetensors.
        ValueError: another kind of file, one that is damaged or empty, or one that holds pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the path of a file that ends in {_either(suffixes)}")
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{path} ends in {path.suffix!r}; allowed is {_either(suffixes)}. {save}")
    if suffix == ".safetensors":
        _require_safetensors(path)
    content = path.read_bytes()
    try:
        arrays = _READERS[suffix](content)
    except _Refused as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # which exceptions damaged bytes lead to is documented nowhere
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is not a whole {suffix} file ({what}); was its writing or copying cut off? Save it again") from error
    if not arrays:
        raise ValueError(f"{path} holds no arrays. {save}")
    return Archive(path, arrays)


def _either(suffixes: tuple[str, ...]) -> str:
    return " or ".join(suffixes)


class _Refused(Exception):
    """The file is whole, and yet not read."""


def _npz(content: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                # Read to its end first: only then is the checksum compared, and a damaged header could ask for any amount of memory.
                name, data = member.removesuffix(".npy"), archive.read(member)
                arrays[name] = _npy(name, data)
    return arrays


def _npy(name: str, data: bytes) -> np.ndarray:
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise _Refused(f"array {name!r} holds pickled Python objects, which could run any code; save arrays of numbers only") from error


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    from safetensors import deserialize

    arrays = {}
    for name, entry in deserialize(content):
        if entry["dtype"] not in _DTYPES:
            raise _Refused(f"array {name!r} has dtype {entry['dtype']}; allowed are {', '.join(_DTYPES)}: save it as float32")
        arrays[name] = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _require_safetensors(path: Path) -> None:
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError as error:
        message = f'reading {path} needs the package safetensors; install it with: pip install "jaxrnn[torch]"'
        raise ModuleNotFoundError(message, name="safetensors") from error


_READERS: dict[str, Callable[[bytes], dict[str, np.ndarray]]] = {
    ".npy": lambda content: {"": _npy("", content)},
    ".npz": _npz,
    ".safetensors": _safetensors,
}
