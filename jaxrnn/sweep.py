"""Thousands of points of a model's parameters: compiled once, in batches, over devices and machines, kept as they come.

A point is a function of named numbers; a grid says which. What a point draws at random follows from its own names and values alone, so
neither another value on an axis nor another size of the batches changes what it finds.
"""

import functools
import hashlib
import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn._border import require_at
from jaxrnn.store import Failure, Store

PyTree = Any
Progress = Callable[[int, int, int], None]  # (points that are done, of how many, failed ones among them)


@dataclass(frozen=True)
class Grid:
    """Points by their values on named axes.

    An axis that is an array is traced: one compilation for all its values. Any other is static, one compilation for each value: what
    changes shapes or code, such as a length or the name of a cell.
    """

    axes: Mapping[str, Any]  # name -> array (V, ...), traced, or tuple of V values, static
    index: np.ndarray  # (points, axes), which value of each axis

    def __len__(self) -> int:
        """How many points."""
        return len(self.index)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """The values of a point by name."""
        return {name: values[at] for (name, values), at in zip(self.axes.items(), self.index[i], strict=True)}

    def where(self, keep: Callable[..., bool]) -> "Grid":
        """The points at which ``keep(**values)`` is true."""
        return Grid(self.axes, self.index[[bool(keep(**self[i])) for i in range(len(self))]])

    @property
    def traced(self) -> tuple[str, ...]:
        """The axes whose values share one compilation."""
        return tuple(name for name, values in self.axes.items() if isinstance(values, np.ndarray))

    def names(self) -> list[str]:
        """What each point is called in a store: a hash of its axes' names and values, whatever their order and those of other points."""
        told = {name: [_told(name, value) for value in values] for name, values in self.axes.items()}
        order = sorted(range(len(self.axes)), key=lambda i: list(self.axes)[i])
        names = list(self.axes)
        lines = ("\n".join(f"{names[i]}={told[names[i]][row[i]]}" for i in order) for row in self.index)
        return [hashlib.sha256(line.encode()).hexdigest()[:32] for line in lines]


def grid(**axes: Any) -> Grid:
    """Every combination of the values of some axes, the last varying fastest.

    Args:
        axes: name -> values; an array (V, ...) is traced, any other sequence static.

    Raises:
        ValueError: no axis; an axis without values, or with one twice.

    >>> import numpy as np
    >>> from jaxrnn import sweep
    >>> points = sweep.grid(gain=np.array([0.5, 1.5]), cell=["vanilla", "gru"])
    >>> len(points), points[3], points.traced
    (4, {'gain': np.float64(1.5), 'cell': 'gru'}, ('gain',))
    """
    taken = _axes(axes)
    return Grid(taken, np.array(list(itertools.product(*(range(len(values)) for values in taken.values()))), int))


def random(points: int, *, seed: int = 0, **axes: Any) -> Grid:
    """Points at random: each axis uniform in a range, or chosen from values.

    The first points stay the same where more are asked for.

    Args:
        points: how many.
        seed: of the choice.
        axes: name -> a tuple (low, high) of two floats, uniform between; an array or list, each value as likely.

    >>> from jaxrnn import sweep
    >>> points = sweep.random(3, gain=(0.5, 2.0), length=[10, 20])
    >>> len(points), 0.5 <= points[2]["gain"] <= 2.0
    (3, np.True_)
    """
    require_at("points", points, 1, None, "how many there are")
    taken, index = {}, []
    for name, values in axes.items():
        draw = np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()[:8]]).random(points)
        if isinstance(values, tuple) and len(values) == 2 and all(isinstance(value, float) for value in values):
            taken[name] = values[0] + (values[1] - values[0]) * draw
            index.append(np.arange(points))
        else:
            taken.update(_axes({name: values}))
            index.append((draw * len(taken[name])).astype(int))
    return Grid(taken, np.stack(index, 1))


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


def run(
    point: Callable[..., PyTree],
    grid: Grid,
    *,
    batch_size: int | None = None,
    store: Store | str | None = None,
    devices: Sequence[jax.Device] | None = None,
    compiled: bool = True,
    progress: Progress | None = None,
) -> Sweep:
    """The results of all points of a grid, in batches under ``jax.vmap``; what a store has already is not computed again.

    Args:
        point: ``point(**values) -> arrays``, one or a dictionary of them, the same shapes at every point. Where it has a parameter ``key``, it gets a
            random key that follows from the names and values of its point alone.
        grid: which points; the values of traced axes are arrays inside ``point``, those of static ones what was given.
        batch_size: points computed at once, by default 64 or what there are; ``suggest_batch_size`` measures it. A last batch is filled up, so that
            all run the same program.
        store: where results are kept, part by part, a folder or a ``Store``; None: in memory.
        devices: local devices to spread a batch over; None: the default one.
        compiled: whether ``point`` may be traced; otherwise it is called point by point, as it is.
        progress: called after every batch.

    Returns:
        ``Sweep``. A point that raises is listed with its message; the others arrive.

    Raises:
        ValueError: a point that takes other parameters; a store of another point or other axes.
        OSError: the store cannot be written.

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
        size = -(-size // len(devices)) * len(devices)
    names = grid.names()
    kept = Store(store, about(point, grid)) if isinstance(store, str) else store
    done = set() if kept is None else kept.points()
    found: dict[str, dict[str, np.ndarray]] = {}
    failures: dict[str, Failure] = {}
    for rows in _batches(grid, [i for i, name in enumerate(names) if name not in done], size if compiled else 1):
        numbers, messages = _compute(point, grid, names, rows, size, devices, compiled)
        good = [k for k, message in enumerate(messages) if message is None]
        if good:
            taken = {name: values[good] for name, values in numbers.items()}
            if kept is None:
                found.update({names[rows[k]]: {name: values[k] for name, values in numbers.items()} for k in good})
            else:
                kept.record([names[rows[k]] for k in good], taken)
        for k, message in enumerate(messages):
            if message is not None:
                failure = Failure(names[rows[k]], {name: _plain(value) for name, value in grid[rows[k]].items()}, message)
                failures[failure.point] = failure
                if kept is not None:
                    kept.fail(failure)
        done |= {names[rows[k]] for k in good}
        if progress is not None:
            progress(len(done) + len(failures), len(grid), len(failures))
    results = kept.read(names) if kept is not None else _gathered(found, names)
    bad = [np.any(~np.isfinite(values.reshape(len(values), -1)), 1) for values in results.values() if values.dtype.kind in "fc" and len(values)]
    without = {i for i, name in enumerate(names) if name in failures}
    nonfinite = tuple(int(i) for i in np.flatnonzero(np.any(bad, 0)) if i not in without) if bad else ()
    return Sweep(grid, results, tuple(failures.values()), nonfinite)


def suggest_batch_size(point: Callable[..., PyTree], grid: Grid, sizes: Sequence[int] = (1, 4, 16, 64, 256), repetitions: int = 3) -> int:
    """The size of batches with the most points per second, measured on the first points of the grid; a host function, compilation apart.

    Larger is not always faster: weights of their own for every point may leave the cache.
    """
    rates, names = {}, grid.names()
    group = next(_batches(grid, range(len(grid)), len(grid)))
    for size in sorted({min(size, len(group)) for size in sizes}):
        times = []
        for _ in range(repetitions + 1):
            start = time.perf_counter()
            _, messages = _compute(point, grid, names, group[:size], size, None, True)
            times.append(time.perf_counter() - start)
        if any(messages):
            raise ValueError(f"a point raised: {next(filter(None, messages))}")
        rates[size] = size / min(times[1:])
    return max(rates, key=lambda size: rates[size])


def about(point: Callable, grid: Grid) -> dict[str, Any]:
    """What the results of a sweep depend on, for its store: the point's own code, the names of the axes; and versions, which are told only."""
    try:
        code = inspect.getsource(point)
    except (OSError, TypeError):
        code = repr(getattr(getattr(point, "__code__", None), "co_code", None))
    return {
        "point": f"{getattr(point, '__module__', '')}.{getattr(point, '__qualname__', type(point).__name__)}",
        "code": hashlib.sha256(code.encode()).hexdigest(),
        "axes": {name: "traced" if name in grid.traced else "static" for name in sorted(grid.axes)},
        "versions": {"jaxrnn": jaxrnn.__version__, "jax": jax.__version__, "numpy": np.__version__},
    }


def _axes(axes: Mapping[str, Any]) -> dict[str, Any]:
    if not axes:
        raise ValueError("a grid needs at least one axis, name=values")
    taken = {}
    for name, values in axes.items():
        if name == "key":
            raise ValueError("no axis may be called key: that is the random key which a point is given")
        taken[name] = np.asarray(values) if isinstance(values, (np.ndarray, jax.Array)) else tuple(values)
        told = [_told(name, value) for value in taken[name]]
        if not told:
            raise ValueError(f"axis {name} has no values")
        if len(set(told)) < len(told):
            raise ValueError(f"axis {name} has a value twice: {next(one for one in told if told.count(one) > 1)}")
    return taken


def _told(name: str, value: Any) -> str:
    """A value in words that are the same in every process: numbers exactly, whatever their precision."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return float(value).hex()
    if isinstance(value, np.ndarray):
        return f"{value.shape} {hashlib.sha256(np.ascontiguousarray(value, np.result_type(value, np.float64)).tobytes()).hexdigest()}"
    if callable(value) and hasattr(value, "__qualname__"):
        told = f"{value.__module__}.{value.__qualname__}"
        if "<" in told:
            raise ValueError(f"a value of axis {name} is {told}, which has no name that another process could know; define it at module level")
        return told
    told = repr(value)
    if " at 0x" in told:
        raise ValueError(f"a value of axis {name} is {told}, which is another one in every process; give it a __repr__ that tells its content")
    return told


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


def _batches(grid: Grid, rows: Sequence[int], size: int) -> Iterator[list[int]]:
    """Rows in groups of equal static values, cut to the size."""
    static = [i for i, name in enumerate(grid.axes) if name not in grid.traced]
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        groups.setdefault(tuple(grid.index[row, static]), []).append(row)
    for group in groups.values():
        yield from (group[at : at + size] for at in range(0, len(group), size))


def _compute(
    point: Callable, grid: Grid, names: list[str], rows: list[int], size: int, devices: Sequence[jax.Device] | None, compiled: bool
) -> tuple[dict[str, np.ndarray], list[str | None]]:
    """The results of some rows with equal static values, and what each raised, if it did."""
    if not compiled:
        [row] = rows
        try:
            return _flat(point(**grid[row], **_key(point, names[row])), 1), [None]
        except Exception as error:  # whatever a user's function raises
            return {}, [_message(error)]
    static = tuple((name, value) for name, value in grid[rows[0]].items() if name not in grid.traced)
    try:
        return _batch(point, static, grid, names, rows, size, devices), [None] * len(rows)
    except Exception as error:
        if len(rows) == 1:
            return {}, [_message(error)]
    alone = [_compute(point, grid, names, [row], size, devices, compiled) for row in rows]  # filled up to the same size: the same program
    good = [numbers for numbers, [message] in alone if message is None]
    if not good:
        return {}, [message for _, [message] in alone]
    blank = {name: np.zeros_like(values) for name, values in good[0].items()}
    joined = {name: np.concatenate([(numbers or blank)[name] for numbers, _ in alone]) for name in blank}
    return joined, [message for _, [message] in alone]


def _batch(
    point: Callable, static: tuple, grid: Grid, names: list[str], rows: list[int], size: int, devices: Sequence[jax.Device] | None
) -> dict[str, np.ndarray]:
    filled = [*rows, *[rows[-1]] * (size - len(rows))]
    traced = {name: grid.axes[name][grid.index[filled, list(grid.axes).index(name)]] for name in grid.traced}
    bits = np.stack([_bits(names[row]) for row in filled])
    if devices is not None:
        mesh = jax.sharding.Mesh(np.asarray(devices), ("points",))
        place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("points"))
        traced, bits = jax.device_put((traced, bits), place)
    numbers = jax.device_get(_program(point, static)(traced, bits))
    return {name: values[: len(rows)] for name, values in _flat(numbers, 0).items()}


@functools.lru_cache(64)
def _program(point: Callable, static: tuple) -> Callable:
    takes_key = "key" in inspect.signature(point).parameters

    def one(traced: dict[str, Any], bits: Any) -> PyTree:
        key = {"key": jax.random.wrap_key_data(bits, impl="threefry2x32")} if takes_key else {}
        return point(**traced, **dict(static), **key)

    return jax.jit(jax.vmap(one))


def _bits(name: str) -> np.ndarray:
    """64 bits of a random key, from a point's name."""
    return np.frombuffer(hashlib.sha256(f"key {name}".encode()).digest()[:8], np.uint32)


def _key(point: Callable, name: str) -> dict[str, Any]:
    takes_key = "key" in inspect.signature(point).parameters
    return {"key": jax.random.wrap_key_data(jnp.asarray(_bits(name)), impl="threefry2x32")} if takes_key else {}


def _flat(found: PyTree, new_axes: int) -> dict[str, np.ndarray]:
    """Named arrays, with ``new_axes`` axes of length 1 before theirs."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(found)
    return {jax.tree_util.keystr(path, simple=True, separator="/") or "result": np.asarray(leaf)[(None,) * new_axes] for path, leaf in leaves}


def _gathered(found: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> dict[str, np.ndarray]:
    if not found:
        return {}
    first = next(iter(found.values()))
    blank = {name: np.full_like(value, np.nan) if value.dtype.kind in "fc" else np.zeros_like(value) for name, value in first.items()}
    return {name: np.stack([found.get(point, blank)[name] for point in names]) for name in first}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value if isinstance(value, (bool, int, float, str)) else repr(value)


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
