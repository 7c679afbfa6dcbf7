"""Where did a run stop, and with which numbers: one folder a step, written whole by orbax, read only where every bit is the saved one.

A folder ``120/`` appears by one rename, so that a kill leaves all of it or nothing under that name; the folders before it go afterwards. It holds
``arrays/``, which orbax reads without this library too, and ``about.json``: what run that is, and the SHA-256 of everything.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._atomic import parse, require_writable
from jaxrnn._border import require_at
from jaxrnn._tree import leaf_name

PyTree = Any

_STEP = re.compile(r"0|[1-9][0-9]*")
_LEFT = re.compile(r"[0-9]+\.(part|removed)")  # names that only a kill leaves
_ABOUT, _ARRAYS = "about.json", "arrays"
_FREE = "history/"  # leaves whose shapes grow with the run
_ANOTHER = "give another folder, or the settings of that run"


def save(folder: Path, step: int, tree: PyTree, facts: Mapping[str, Any], *, keep: int = 2) -> None:
    """Keep a run as it is after ``step``, whole or not at all; a kill at any moment leaves this checkpoint or the one before it.

    Args:
        folder: of this run alone, and of one process at a time; made where there is none. Each checkpoint is a folder in it named by its step.
        step: at least 0, above every step kept there.
        tree: numpy and jax arrays, numbers and typed random keys in any pytree; ``None`` and arrays without entries too.
        facts: what makes this run this run and no other (shapes, batch, seed), as JSON takes it.
        keep: the newest so many stay, those before them are removed.

    Raises:
        ModuleNotFoundError: orbax is not installed. OSError: the folder cannot be written.
        ValueError: the folder has this step or a later one; step or keep too low; two leaves of one path. TypeError: a leaf of another kind,
            or facts that JSON does not take.

    Costs about 50 ms for a small network, most of it for orbax's files, and half a second once to import orbax. Not synchronised with the
    disk: a power cut, other than a kill, may damage the newest, which ``restore`` then refuses.

    >>> import jax, tempfile
    >>> from jaxrnn.training import checkpoints
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints.save(folder, 120, {"w": jax.numpy.ones(2), "key": jax.random.key(0)}, {"batch": 32})
    ...     step, tree = checkpoints.restore(folder, {"w": jax.numpy.zeros(2), "key": jax.random.key(9)}, {"batch": 32})
    >>> step, tree["w"].tolist()
    (120, [1.0, 1.0])
    """
    import orbax.checkpoint as ocp

    require_at("step", step, 0, None, "a number of updates")
    require_at("keep", keep, 1, None, "a number of checkpoints")
    folder = Path(folder).absolute()
    leaves = _named(tree)
    arrays = {name: _array(name, leaf) for name, leaf in leaves.items()}
    about = {"step": int(step), "facts": _as_json(facts), "leaves": {name: _described(leaf) for name, leaf in leaves.items()}}
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = _steps(folder)
    if kept and kept[-1] >= step:
        raise ValueError(f"{folder} has a checkpoint of step {kept[-1]}, so none of step {step} can follow; go on from that one, or {_ANOTHER}")
    for left in folder.iterdir():
        if _LEFT.fullmatch(left.name):
            shutil.rmtree(left)
    part = folder / f"{step}.part"
    stored = {name: array for name, array in arrays.items() if array.size}  # orbax has no arrays without entries, and no empty trees
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(part / _ARRAYS, args=ocp.args.PyTreeSave({**stored, "": np.asarray(step)}))
    about = {**about, "files": _hashes(part / _ARRAYS)}
    (part / _ABOUT).write_text(json.dumps({"sha256": _digest(about, arrays), **about}, indent=1))
    part.rename(folder / str(step))
    for old in kept[: len(kept) + 1 - keep]:
        if (folder / str(old) / _ABOUT).is_file():
            # Renamed first: what a kill leaves half removed is then no step any more.
            shutil.rmtree((folder / str(old)).rename(folder / f"{old}.removed"))


def restore(folder: Path, like: PyTree | None, facts: Mapping[str, Any]) -> tuple[int, PyTree] | None:
    """The newest checkpoint of a run as (step, tree), bit for bit as it was saved; ``None`` where the folder has none.

    Args:
        folder: as for ``save``; what a killed ``save`` left in it is not looked at.
        like: a pytree of the structure that was saved; arrays or ``jax.ShapeDtypeStruct``. Leaves must agree in dtype and shape, under the top key
            "history" in dtype alone. ``None`` takes what there is.
        facts: as for ``save``; must be those that were saved.

    Returns:
        The step, and a tree as ``like`` whose leaves are jax arrays (strongly typed) where ``like`` has them, random keys where it has them, else
        numpy arrays; for ``like=None`` a dictionary of numpy arrays and random keys by path.

    Raises:
        ModuleNotFoundError: orbax is not installed.
        ValueError: the newest checkpoint is damaged, of another run, or of another structure; the message says what to do.
    """
    import orbax.checkpoint  # noqa: F401  # missing, it is missed before a run and not at its first checkpoint

    folder = Path(folder).absolute()
    kept = _steps(folder)
    if not kept:
        return None
    path = folder / str(kept[-1])
    try:
        about, arrays = _read(path)
    except Exception as error:  # what damaged bytes lead to is documented nowhere
        before = f"go on from step {kept[-2]}" if len(kept) > 1 else "begin anew"
        what = f"is damaged, or was not written by this library ({type(error).__name__}: {error})"
        raise ValueError(f"checkpoint {path} {what}; remove it to {before}, or give another folder") from error
    _require_same_run(path, about["facts"], _as_json(facts))
    if like is None:
        return kept[-1], {name: _leaf(arrays[name], dtype, None) for name, (dtype, _) in about["leaves"].items()}
    wanted = _named(like)
    _require_same_leaves(path, about["leaves"], {name: _described(leaf) for name, leaf in wanted.items()})
    leaves = [_leaf(arrays[name], about["leaves"][name][0], leaf) for name, leaf in wanted.items()]
    return kept[-1], jax.tree.unflatten(jax.tree.structure(like), leaves)


def latest(folder: Path) -> int:
    """The step of the newest checkpoint of a folder, 0 where it has none; it is not read.

    >>> import pathlib
    >>> from jaxrnn.training import checkpoints
    >>> checkpoints.latest(pathlib.Path("nowhere"))
    0
    """
    return max(_steps(Path(folder)), default=0)


def _steps(folder: Path) -> list[int]:
    """What is kept, the newest last."""
    return sorted(int(p.name) for p in folder.iterdir() if _STEP.fullmatch(p.name) and p.is_dir()) if folder.is_dir() else []


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is known about a checkpoint and its arrays; raises anything where a bit has changed."""
    import orbax.checkpoint as ocp

    about = parse((path / _ABOUT).read_bytes())
    # Before orbax reads them: on damaged files its threads complain aloud.
    if about["files"] != _hashes(path / _ARRAYS):
        raise ValueError("its files are not those that were saved: their SHA-256 differ")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        stored = checkpointer.restore(path / _ARRAYS, args=ocp.args.PyTreeRestore())
    arrays = {name: stored[name] if name in stored else np.zeros(shape, _numpy(dtype)) for name, (dtype, shape) in about["leaves"].items()}
    if about.pop("sha256") != _digest(about, arrays) or about["step"] != int(path.name):
        raise ValueError("what it holds is not what was saved: its SHA-256 differs")
    for name, (dtype, shape) in about["leaves"].items():  # whoever changed it may have told the right SHA-256 of it
        if (arrays[name].dtype, list(arrays[name].shape)) != (_numpy(dtype), shape):
            raise ValueError(f"leaf {name!r} is {arrays[name].dtype}{list(arrays[name].shape)}, not {dtype}{shape} as it says")
    if not isinstance(about["facts"], dict):
        raise ValueError("what it says of its run is no table")
    return about, arrays


def _require_same_run(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    shown = lambda facts, name: json.dumps(facts[name], ensure_ascii=False, sort_keys=True) if name in facts else "not given"  # NaN is NaN
    pairs = {name: (shown(there, name), shown(here, name)) for name in {**there, **here}}
    differences = [f"{name} is {was} there and {now} here" for name, (was, now) in pairs.items() if was != now]
    if differences:
        raise ValueError(f"checkpoint {path} is of another run: {'; '.join(differences)}; {_ANOTHER}")


def _require_same_leaves(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    seen = lambda name, form: [form[0], None if name.startswith(_FREE) else form[1]]
    shown = lambda forms, name: f"{forms[name][0]}{forms[name][1]}" if name in forms else "missing"
    for name in {**there, **here}:
        if name not in there or name not in here or seen(name, there[name]) != seen(name, here[name]):
            raise ValueError(
                f"checkpoint {path} is of another structure: leaf {name!r} is {shown(there, name)} there and {shown(here, name)} here; {_ANOTHER}"
            )


def _named(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {leaf_name(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(f"the paths of the leaves are not distinct: {sorted(leaf_name(path) for path, _ in leaves)}; rename keys that contain '/'")
    return named


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _array(name: str, leaf: Any) -> np.ndarray:
    """The numbers of a leaf; for keys, of their data."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise TypeError(f"leaf {name!r} has dtype {array.dtype}; a checkpoint holds numbers, Booleans and random keys (text belongs into facts)")
    return array


def _described(leaf: Any) -> list:
    """The dtype and the shape of a leaf as JSON takes them; for keys, of their data, with the generator's name."""
    if _is_key(leaf):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return [f"{data.dtype} of key {_generator(leaf)}", list(data.shape)]
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return [str(leaf.dtype), list(leaf.shape)]


def _generator(leaf: Any) -> str:
    return str(jax.random.key_impl(leaf if isinstance(leaf, jax.Array) else jnp.empty((), leaf.dtype)))


def _leaf(array: np.ndarray, dtype: str, like: Any) -> Any:
    """A leaf as it was before ``_array``."""
    _, _, generator = dtype.partition(" of key ")
    if generator:
        return jax.random.wrap_key_data(jnp.array(array), impl=generator)
    return jnp.array(array) if isinstance(like, jax.Array) else array


def _numpy(dtype: str) -> np.dtype:
    return jnp.dtype(dtype.partition(" of key ")[0])


def _as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from a file."""
    return json.loads(json.dumps(dict(facts)))


def _digest(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """Of every bit that comes back: step, facts, and the paths, dtypes, shapes and bytes of the leaves."""
    sha = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        sha.update(f"{name}:{arrays[name].dtype}:{arrays[name].shape}:".encode())
        sha.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
