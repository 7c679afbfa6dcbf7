"""All points of a grid: in batches, over devices and machines, kept as they come; and what came of them."""

import hashlib
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn._border import require_at
from jaxrnn.store import Failure, Store
from jaxrnn.sweep import cluster
from jaxrnn.sweep.compute import Numbers, Work, compute
from jaxrnn.sweep.grid import Grid

if TYPE_CHECKING:
    from distributed import Client
    from xarray import Dataset

PyTree = Any
Progress = Callable[[int, int, int], None]  # (points that are done or failed, of how many, failed ones among them)


class Sweep(NamedTuple):
    """What came of the points of a grid."""

    grid: Grid
    results: dict[str, np.ndarray]  # name -> (points, ...); NaN (0 where not floating) at a point without a result
    failures: tuple[Failure, ...]  # points without a result, and why
    nonfinite: tuple[int, ...]  # points whose result holds NaN or infinity

    def shaped(self, name: str) -> np.ndarray:
        """A result with one axis for each of the grid's, then its own; NaN where the grid has no point."""
        found, sizes = self.results[name], [len(values) for values in self.grid.axes.values()]
        blank = np.nan if found.dtype.kind in "fc" else 0
        full = np.full((*sizes, *found.shape[1:]), blank, found.dtype)
        full[tuple(self.grid.index.T)] = found
        return full

    def to_xarray(self, units: Mapping[str, str] | None = None) -> "Dataset":
        """The results as an ``xarray.Dataset`` with the grid's axes as dimensions, its values as coordinates.

        Args:
            units: name of a result or axis -> its unit, kept as the attribute ``units``.

        Raises:
            ModuleNotFoundError: xarray is missing (extra ``data``).
        """
        try:
            import xarray
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError('labelled arrays need xarray; install it with: pip install "jaxrnn[data]"', name="xarray") from error
        axes = self.grid.axes
        plain = {name: np.ndim(values[0]) == 0 and isinstance(_plain(values[0]), (bool, int, float, str)) for name, values in axes.items()}
        places = {name: [_plain(value) if plain[name] else i for i, value in enumerate(values)] for name, values in axes.items()}
        arrays = {name: self.shaped(name) for name in self.results}
        inner = lambda name, array: tuple(f"{name}_{i}" for i in range(array.ndim - len(axes)))
        data = xarray.Dataset({name: ((*axes, *inner(name, array)), array) for name, array in arrays.items()}, places)
        for name, unit in (units or {}).items():
            data[name].attrs["units"] = unit
        return data


def run(
    point: Callable[..., PyTree],
    grid: Grid,
    *,
    batch_size: int | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    client: "Client | str | int | None" = None,
    devices: Sequence[jax.Device] | None = None,
    compiled: bool = True,
    progress: Progress | None = None,
) -> Sweep:
    """The results of all points of a grid, in batches under ``jax.vmap``; what a store has already is not computed again.

    Args:
        point: ``point(**values) -> arrays``, one or a dictionary of them, the same shapes at every point. Where it has a parameter ``key``, it gets
            a random key that follows from the names and values of its point alone.
        grid: which points; the values of traced axes are arrays inside ``point``, those of static ones what was given.
        batch_size: points computed at once, by default 64 or what there are; ``suggest_batch_size`` measures it. A last batch is filled up, so
            that all run the same program.
        store: where results are kept, part by part: a folder or a ``Store``; None: in memory.
        client: Dask workers for the batches: a ``distributed.Client``, the address of a scheduler, or how many to start on this machine. A lost
            worker's batch is done again elsewhere; a point that keeps killing workers is given up on and listed.
        devices: local devices to spread a batch over; None: the default one.
        compiled: whether ``point`` may be traced; otherwise it is called point by point, as it is.
        progress: called after every batch.

    Returns:
        ``Sweep``. A point that raises is listed with its message; the others arrive.

    Raises:
        ValueError: a point that takes other parameters; a store of another point or other axes.
        OSError: the store cannot be written.
        ModuleNotFoundError: dask is missing.

    >>> import jax.numpy as jnp, numpy as np
    >>> from jaxrnn import lyapunov, sweep
    >>> def rate(gain, n):
    ...     return {"rate": lyapunov.spectrum(lambda p, h, x: p * h, gain, jnp.ones(n), None, length=8).exponents[0]}
    >>> found = sweep.run(rate, sweep.grid(gain=np.array([0.5, 2.0]), n=(1, 2)))
    >>> np.round(found.shaped("rate"), 4).tolist()
    [[-0.6931, -0.6931], [0.6931, 0.6931]]
    """
    _require_parameters(point, grid)
    size = min(64, max(len(grid), 1)) if batch_size is None else batch_size
    require_at("batch_size", size, 1, None, "points at once")
    if devices is not None:
        if client is not None:
            raise ValueError("client and devices were both given; the workers of a client use their own devices: leave devices out")
        size = -(-size // len(devices)) * len(devices)
    names = grid.names()
    row = {name: i for i, name in enumerate(names)}
    kept = store if isinstance(store, Store) or store is None else Store(store, about(point, grid))
    there = set() if kept is None else kept.points()
    missing = [i for i, name in enumerate(names) if name not in there]
    done = len(names) - len(missing)
    found: dict[str, Numbers] = {}
    failures: list[Failure] = []
    for work, numbers, messages in _results(works(point, grid, names, missing, size, compiled), client, devices):
        good = [i for i, told in enumerate(messages) if told is None]
        if good and kept is not None:
            kept.record([work.names[i] for i in good], {name: values[good] for name, values in numbers.items()})
        elif good:
            found |= {work.names[i]: {name: values[i] for name, values in numbers.items()} for i in good}
        for name, told in zip(work.names, messages, strict=True):
            if told is not None:
                failures.append(Failure(name, {axis: _plain(value) for axis, value in grid[row[name]].items()}, told))
                if kept is not None:
                    kept.fail(failures[-1])
        done += len(work.names)
        if progress is not None:
            progress(done, len(grid), len(failures))
    results = _gathered(found, names) if kept is None else kept.read(names)
    without = {row[failure.point] for failure in failures}
    return Sweep(grid, results, tuple(failures), tuple(i for i in _nonfinite(results) if i not in without))


def suggest_batch_size(point: Callable[..., PyTree], grid: Grid, sizes: Sequence[int] = (1, 4, 16, 64, 256), repetitions: int = 3) -> int:
    """The size of batches with the most points per second, measured on the first points of the grid; a host function, compilation apart.

    Larger is not always faster: weights of their own for every point may leave the cache.
    """
    _require_parameters(point, grid)
    rates = {}
    for size in sorted({min(size, len(grid)) for size in sizes}):
        work = next(works(point, grid, grid.names(), range(len(grid)), size, True))
        times = []
        for _ in range(repetitions + 1):
            start = time.perf_counter()
            _, messages = compute(work)
            times.append(time.perf_counter() - start)
        if any(messages):
            raise ValueError(f"a point raised: {next(filter(None, messages))}")
        rates[size] = len(work.names) / min(times[1:])
    return max(rates, key=lambda size: rates[size])


def about(point: Callable, grid: Grid) -> dict[str, Any]:
    """What the results of a sweep depend on, for its store: the point's own source (not that of what it calls), precision, axes; and versions.

    Versions are told only: another version does not make a store another one.
    """
    try:
        code = inspect.getsource(point)
    except (OSError, TypeError):
        code = repr(getattr(getattr(point, "__code__", None), "co_code", None))
    return {
        "point": f"{getattr(point, '__module__', '')}.{getattr(point, '__qualname__', type(point).__name__)}",
        "code": hashlib.sha256(code.encode()).hexdigest(),
        "precision": str(jnp.result_type(float)),
        "axes": {name: "traced" if name in grid.traced else "static" for name in sorted(grid.axes)},
        "versions": {"jaxrnn": jaxrnn.__version__, "jax": jax.__version__, "numpy": np.__version__},
    }


def _require_parameters(point: Callable, grid: Grid) -> None:
    parameters = inspect.signature(point).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    taken = {parameter.name for parameter in parameters} - {"key"}
    needed = {parameter.name for parameter in parameters if parameter.default is parameter.empty} - {"key"}
    if not needed <= set(grid.axes) <= taken:
        raise ValueError(
            f"the axes are {', '.join(grid.axes)}, and point takes {', '.join(p.name for p in parameters)}; they must have the same names"
        )


def works(point: Callable, grid: Grid, names: Sequence[str], rows: Sequence[int], size: int, compiled: bool) -> Iterator[Work]:
    """Rows in groups of equal static values, cut to the size."""
    axes = list(grid.axes)
    static, traced = [name for name in axes if name not in grid.traced], grid.traced
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        groups.setdefault(tuple(grid.index[row, [axes.index(name) for name in static]]), []).append(row)
    for group in groups.values():
        given = tuple((name, grid[group[0]][name]) for name in static)
        for at in range(0, len(group), size if compiled else 1):
            part = group[at : at + (size if compiled else 1)]
            values = {name: grid.axes[name][grid.index[part, axes.index(name)]] for name in traced}
            yield Work(point, tuple(names[row] for row in part), given, values, size if compiled else 0, bool(jnp.result_type(float) == np.float64))


def _results(
    works: Iterator[Work], client: "Client | str | int | None", devices: Sequence[jax.Device] | None
) -> Iterator[tuple[Work, Numbers, list[str | None]]]:
    if client is None:
        yield from ((work, *compute(work, devices)) for work in works)
    else:
        with cluster.connected(client) as connection:
            yield from cluster.remote(connection, list(works))


def _nonfinite(results: Mapping[str, np.ndarray]) -> list[int]:
    bad = [~np.isfinite(values.reshape(len(values), -1)).all(1) for values in results.values() if values.dtype.kind in "fc"]
    return np.flatnonzero(np.any(bad, 0)).tolist() if bad else []


def _gathered(found: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> dict[str, np.ndarray]:
    if not found:
        return {}
    first = next(iter(found.values()))
    blank = {name: np.full_like(value, np.nan) if value.dtype.kind in "fc" else np.zeros_like(value) for name, value in first.items()}
    return {name: np.stack([found.get(point, blank)[name] for point in names]) for name in first}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value if isinstance(value, (bool, int, float, str)) else repr(value)
