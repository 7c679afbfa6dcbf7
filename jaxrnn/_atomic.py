"""How a file appears whole or not at all, and is read so."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

_DEPTH = 64  # nesting of JSON; no file of ours comes near


def write(path: Path, content: bytes) -> None:
    """Write a file so that readers, also after a kill or a full disk, find all of it or what was there before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def parse(content: bytes) -> Any:
    """What a JSON file holds; ValueError, which says why, where it is cut, is no text, or is nested so deeply that no one could walk through it."""
    try:
        found = json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    require_shallow(found)
    return found


def require_shallow(tree: Any) -> None:
    """Raise ValueError unless nested dictionaries and lists can be walked through."""
    if not _within(tree, _DEPTH):
        raise ValueError(f"it is nested more than {_DEPTH} deep")


def _within(tree: Any, depth: int) -> bool:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return depth >= 0 and all(_within(part, depth - 1) for part in inner)


def require_writable(folder: Path) -> None:
    """Raise OSError unless the folder, or the nearest one above it that exists, is a folder one may write to."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists() or p.is_symlink())
    if not existing.is_dir():
        what = "is a file" if existing.exists() else "is a link to what is not there"
        raise NotADirectoryError(f"{folder} cannot be a folder: {existing} {what}")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise PermissionError(f"{existing} is not writable ({error.strerror}); choose another folder") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
