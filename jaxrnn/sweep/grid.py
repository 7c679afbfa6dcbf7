"""Which points a sweep has: every combination of some values, or points at random."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxrnn._border import require_at

_MOST = 10**7  # points; the indices of more fill gigabytes


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
        ValueError: no axis; an axis without values, or with one twice; more than ten million combinations.

    >>> import numpy as np
    >>> from jaxrnn import sweep
    >>> points = sweep.grid(gain=np.array([0.5, 1.5]), cell=["vanilla", "gru"])
    >>> len(points), points[3], points.traced
    (4, {'gain': np.float64(1.5), 'cell': 'gru'}, ('gain',))
    """
    taken = _axes(axes)
    sizes = [len(values) for values in taken.values()]
    if math.prod(sizes) > _MOST:
        raise ValueError(
            f"the axes have {' × '.join(map(str, sizes))} combinations; at most {_MOST} are a grid: give fewer values, or points at random"
        )
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    return Grid(taken, np.arange(math.prod(sizes))[:, None] // np.array(strides) % np.array(sizes))


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
