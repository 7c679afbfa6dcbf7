"""One batch of points, here or on another machine: what it needs, what came of it."""

import functools
import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

PyTree = Any
Numbers = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Work:
    """Points of equal static values, and all that is needed to compute them in another process."""

    point: Callable
    names: tuple[str, ...]  # of the points
    static: tuple[tuple[str, Any], ...]
    traced: dict[str, np.ndarray]  # name -> (points, ...)
    size: int  # of the batch that it is filled up to; 0: point by point, untraced
    x64: bool

    def one(self, row: int) -> "Work":
        """One of its points, to be filled up to the same size."""
        return replace(self, names=self.names[row : row + 1], traced={name: values[row : row + 1] for name, values in self.traced.items()})


def compute(work: Work, devices: Sequence[jax.Device] | None = None) -> tuple[Numbers, list[str | None]]:
    """The results of every point, axis 0, and for each the message of what it raised, or None; zeros where it raised.

    Where a batch raises its points are computed one by one, filled up to the same size, so by the same program.
    """
    with jax.enable_x64(work.x64):
        try:
            numbers = _batch(work, devices) if work.size else _untraced(work)
            return numbers, [None] * len(work.names)
        except Exception as error:  # whatever a user's function raises
            if len(work.names) == 1:
                return {}, [message(error)]
    alone = [compute(work.one(row), devices) for row in range(len(work.names))]
    blank = next(({name: np.zeros_like(values) for name, values in numbers.items()} for numbers, _ in alone if numbers), {})
    return joined([numbers or blank for numbers, _ in alone]), [told for _, [told] in alone]


def joined(parts: Sequence[Numbers]) -> Numbers:
    """Results of several batches as those of one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def message(error: BaseException) -> str:
    """An error in one line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else 'no message'}"


def _batch(work: Work, devices: Sequence[jax.Device] | None) -> Numbers:
    count = len(work.names)
    fill = lambda array: np.concatenate([array, np.repeat(array[-1:], work.size - count, 0)])
    given = {name: fill(values) for name, values in work.traced.items()}, fill(np.stack([bits(name) for name in work.names]))
    if devices is not None:
        mesh = jax.sharding.Mesh(np.asarray(devices), ("points",))
        given = jax.device_put(given, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("points")))
    return {name: values[:count] for name, values in _flat(jax.device_get(_program(work.point, work.static)(*given))).items()}


@functools.lru_cache(64)
def _program(point: Callable, static: tuple) -> Callable:
    return jax.jit(jax.vmap(lambda traced, words: point(**traced, **dict(static), **_key(point, words))))


def _untraced(work: Work) -> Numbers:
    [name] = work.names
    values = {axis: given[0] for axis, given in work.traced.items()}
    return {name: leaf[None] for name, leaf in _flat(work.point(**values, **dict(work.static), **_key(work.point, bits(name)))).items()}


def bits(name: str) -> np.ndarray:
    """64 bits of a random key, from a point's name."""
    return np.frombuffer(hashlib.sha256(f"key {name}".encode()).digest()[:8], np.uint32)


def _key(point: Callable, words: Any) -> dict[str, Any]:
    """The random key, for a point that takes one."""
    takes = "key" in inspect.signature(point).parameters
    return {"key": jax.random.wrap_key_data(jax.numpy.asarray(words), impl="threefry2x32")} if takes else {}


def _flat(found: PyTree) -> Numbers:
    """Arrays by name; one alone is called result."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(found)
    return {jax.tree_util.keystr(path, simple=True, separator="/") or "result": np.asarray(leaf) for path, leaf in leaves}
