"""Which arrays does a file hold: read whole, nothing unpickled."""

import importlib
import io
import math
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

# The format's names; bfloat16 is what its own NumPy reader cannot take.
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "C64": np.complex64, "BOOL": np.bool_}
_DTYPES |= {f"{letter}{bits}": np.dtype(f"{kind}{bits // 8}") for letter, kind in (("I", "i"), ("U", "u")) for bits in (8, 16, 32, 64)}
_LISTED = 12  # as many arrays as a message can name and still be read
_UNPACKED, _RATIO = 4 * 2**30, 20  # bytes an archive may unpack to, whatever its own size, and how often its own size beyond
_ITEMS = 2**48  # of an array without bytes, where a size of 0 counts as 1
_SAFE_TORCH = "2.6"  # before it, weights-only loading could be made to run code (CVE-2025-32434)
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


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
    """All arrays of an ``.npy`` (one, named ``""``), ``.npz``, ``.safetensors`` or ``.pt`` file, whichever of these ``suffixes`` allow.

    A ``.pt`` (or ``.pth``) is read by torch's own weights-only loading, the tensors of nested dictionaries by the names on the way joined by dots.

    ``save`` tells the user how to write such a file.

    Raises:
        FileNotFoundError, OSError: there is no such file, or it may not be read.
        ModuleNotFoundError: the file needs the package safetensors, or torch.
        ValueError: another kind of file, one that is damaged or empty, that holds pickled objects, or that would unpack to far more than it is.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the path of a file that ends in {_either(suffixes)}")
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{path} ends in {path.suffix!r}; allowed is {_either(suffixes)}. {save}")
    if suffix == ".safetensors":
        _require_package(path, "safetensors", 'install it with: pip install "jaxrnn[torch]"')
    if suffix in (".pt", ".pth"):
        _require_package(path, "torch", f"install torch, or save a file that needs none. {save}")
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
    return ", ".join(suffixes[:-1]) + " or " * (len(suffixes) > 1) + suffixes[-1]


class _Refused(Exception):
    """The file is whole, and yet not read."""


def _require_small(content: bytes) -> None:
    """Refuse a zip file that says it unpacks to very much more than it is, before anything is unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _require_within(content, sum(member.file_size for member in archive.infolist()))


def _require_within(content: bytes, unpacked: int) -> None:
    if unpacked > max(_UNPACKED, _RATIO * len(content)):
        raise _Refused(
            f"the file of {len(content) / 1e6:.3g} MB unpacks to {unpacked / 1e9:.3g} GB; at most {_UNPACKED / 1e9:.2g} GB, or {_RATIO} times the "
            "file, are read: save its arrays whole, without compression"
        )


def npz(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file; raises whatever damaged bytes lead to."""
    _require_small(content)
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                name = member.removesuffix(".npy")
                arrays[name] = _npy(name, archive.read(member))  # to its end: only then is the checksum compared
    return arrays


def _npy(name: str, data: bytes) -> np.ndarray:
    """One array, a view of its bytes: a header that asks for more than there is allocates nothing."""
    stream = io.BytesIO(data)
    shape, fortran, dtype = _NPY_HEADERS[np.lib.format.read_magic(stream)](stream)
    if dtype.hasobject:
        raise _Refused(f"array {name!r} holds pickled Python objects, which could run any code; save arrays of numbers only")
    wanted, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    # NumPy works out a size of −1, and where items have no bytes the process dies of that division by 0; beside a 0 sizes may be beyond its integers.
    if wanted != there or min(shape, default=0) < 0 or math.prod(max(size, 1) for size in shape) > _ITEMS:
        raise ValueError(f"array {name!r} of shape {shape} and dtype {dtype} takes {wanted} bytes, and there are {there}")
    return np.ndarray(shape, dtype, data, stream.tell(), order="F" if fortran else "C")


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    from safetensors import deserialize

    arrays = {}
    for name, entry in deserialize(content):
        if entry["dtype"] not in _DTYPES:
            raise _Refused(f"array {name!r} has dtype {entry['dtype']}; allowed are {', '.join(_DTYPES)}: save it as float32")
        arrays[name] = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _torch(content: bytes) -> dict[str, np.ndarray]:
    import torch

    if torch.__version__ < _SAFE_TORCH:
        raise _Refused(f"the weights-only loading of torch {torch.__version__} can be made to run code; install torch {_SAFE_TORCH} or later")
    if zipfile.is_zipfile(io.BytesIO(content)):
        _require_small(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what else the unpickler might not support
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "TorchScript" not in str(error):
            raise
        raise _Refused(
            "torch's weights-only loading refuses it: it is damaged, or holds more than tensors, which could run any code. "
            "Where the model is, save model.state_dict() alone"
        ) from error
    tensors = dict(_tensors(found, "", set()))
    _require_within(content, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))  # one number may be repeated without end
    return {name: _array(name, tensor) for name, tensor in tensors.items()}


def _tensors(tree: object, name: str, entered: set[int]) -> Iterator[tuple[str, Any]]:
    """Dense tensors of nested dictionaries, with their names; a dictionary that is met again, be it in itself, is not entered again."""
    import torch

    if isinstance(tree, Mapping) and id(tree) not in entered:
        entered.add(id(tree))
        for key, value in tree.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key), entered)
    elif isinstance(tree, torch.Tensor) and tree.layout == torch.strided and not tree.is_quantized:
        yield name, tree


def _array(name: str, tensor: Any) -> np.ndarray:
    import torch

    try:
        if tensor.dtype == torch.bfloat16:  # by way of integers: torch's own conversion knows NumPy's dtypes only
            return tensor.detach().view(torch.int16).numpy().view(jnp.bfloat16)
        return tensor.numpy(force=True)
    except (TypeError, NotImplementedError) as error:
        raise _Refused(f"array {name!r} cannot be read ({error}): save it as float32") from error


def _require_package(path: Path, package: str, otherwise: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {path} needs the package {package}; {otherwise}", name=package) from error


_READERS: dict[str, Callable[[bytes], dict[str, np.ndarray]]] = {
    ".npy": lambda content: {"": _npy("", content)},
    ".npz": npz,
    ".safetensors": _safetensors,
    ".pt": _torch,
    ".pth": _torch,
}
