"""All that a remedy can change about a training: the model, how it starts, its loss, its optimizer."""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax
from jax import Array

from jaxrnn import cells, initializers
from jaxrnn._border import require_at
from jaxrnn._tree import leaf_name
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.remedies.penalties import Penalty
from jaxrnn.tasks import Batch, Task

PyTree = Any


class Built(NamedTuple):
    """How one of jaxrnn's own cells was made, so that it can be made otherwise."""

    cell: str  # name in ``cells.REGISTRY``
    n_in: int
    n_hidden: int
    task: Task
    length: int  # T, the lag that is to be bridged
    layers: int = 1
    choices: tuple[tuple[str, Any], ...] = ()  # of the constructor, sorted by name
    scales: tuple[tuple[str, Any], ...] = ()  # of ``init_params``, sorted by name


class Setup(NamedTuple):
    """A model that is ready to be trained. Somebody's own is one too: with ``built`` None."""

    init_params: Callable[[Array], PyTree]  # key -> θ
    init_state: Callable[[PyTree], PyTree]  # θ -> h_0
    step: Step
    output: Callable | None  # (params, state, x) -> (n_out,); None where only the loss is known
    loss: Loss  # loss(params, state, x, target) -> scalar
    optimizer: optax.GradientTransformation  # without clipping
    clip: optax.GradientTransformation | None = None  # before the optimizer
    clip_norm: float | None = None  # its threshold where it clips the norm: what a share of clipped updates is counted against
    penalty: Penalty | None = None
    truncate: int | None = None  # steps of each stretch of truncated backpropagation
    prepare: Callable[..., PyTree] | None = None  # (key, setup, params, sample) -> params, once before training
    transform: Callable[[Batch], Batch] | None = None  # what each batch of training, and none of evaluation, goes through
    built: Built | None = None


def setup(cell: str, task: Task, n_hidden: int, *, layers: int = 1, length: int, learning_rate: float = 1e-3, **choices: Any) -> Setup:
    """One of jaxrnn's own cells on a task, with a readout, ready to be trained: Adam, no clipping, no penalty.

    A recurrence that is linear in its state (LRU, S5, minGRU, …) gets a dense layer and a gelu before every layer and one hidden layer in its
    readout: between linear maps it cannot multiply what it hears, a value with its marker say.

    Args:
        cell: name in ``cells.REGISTRY``.
        task: what to learn; its sizes and loss are used.
        n_hidden: n of every layer.
        layers: how many, one above the other.
        length: T, the lag to be bridged. Some starts depend on it: the LRU's |λ| lie between e^(−10/T) and e^(−0.1/T).
        learning_rate: of Adam.
        choices: what the cell's constructor takes (``activation="relu"``) or its ``init_params`` (``forget_bias=3.0``).

    Returns:
        ``Setup``.

    Raises:
        ValueError: an unknown cell or choice, a task without targets, sizes below 1.

    >>> from jaxrnn import remedies, tasks
    >>> made = remedies.setup("lru", tasks.adding(20), 8, length=20)
    >>> sorted(made.init_params(jax.random.key(0)))[-5:]
    ['b_in', 'b_y', 'gamma_log', 'nu_log', 'theta_log']
    """
    if cell not in cells.REGISTRY:
        raise ValueError(f"unknown cell {cell!r}; allowed are {', '.join(sorted(cells.REGISTRY))}")
    if task.loss is None or not task.n_out:
        raise ValueError("the task has no targets, so there is nothing to train; give one with targets")
    require_at("length", length, 1, None, "the number of steps")
    require_at("layers", layers, 1, None, "the number of layers")
    names = inspect.signature(cells.REGISTRY[cell]).parameters
    part = lambda inside: tuple(sorted((name, value) for name, value in choices.items() if (name in names) == inside))
    built = Built(cell, task.n_in, n_hidden, task, length, layers, part(True), part(False))
    return Setup(**_model(built), optimizer=adam(learning_rate))


@functools.cache  # one object, one compilation
def adam(rate: float) -> optax.GradientTransformation:
    """``optax.adam(rate)``, the same object every time."""
    return optax.adam(rate)


@functools.cache
def _chained(clip: optax.GradientTransformation, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(clip, optimizer)


def optimizer(setup: Setup) -> optax.GradientTransformation:
    """Clipping, then the optimizer; equal setups give one object.

    >>> from jaxrnn import remedies, tasks
    >>> made = remedies.setup("vanilla", tasks.adding(20), 8, length=20)
    >>> clipped = remedies.apply("clipping", made)
    >>> remedies.optimizer(made) is made.optimizer, remedies.optimizer(clipped) is remedies.optimizer(clipped)
    (True, True)
    """
    return setup.optimizer if setup.clip is None else _chained(setup.clip, setup.optimizer)


def rebuilt(setup: Setup, built: Built) -> Setup:
    """The same training of a cell that is made otherwise.

    >>> from jaxrnn import remedies, tasks
    >>> made = remedies.setup("vanilla", tasks.adding(20), 8, length=20)
    >>> sorted(remedies.setups.rebuilt(made, made.built._replace(cell="lstm")).init_params(jax.random.key(0)))
    ['W_hh', 'W_hy', 'W_xh', 'b_h', 'b_y']
    """
    return setup._replace(**_model(built))


def _model(built: Built) -> dict[str, Any]:
    """The fields of a ``Setup`` that are the model's; ValueError where its scales do not fit the cell."""
    cell = made(built)
    init_params = Start(cell, built)
    try:
        jax.eval_shape(init_params, jax.random.key(0))
    except TypeError as error:
        allowed = sorted({*_parameters(cells.REGISTRY[built.cell])[2:], *_parameters(_bare(built).init_params)[1:]})
        raise ValueError(f"{built.cell} cannot start with {dict(built.scales)}; its choices are {', '.join(allowed)}") from error
    loss = cells.readout_loss(cell, built.task.loss)  # type: ignore[arg-type]
    return dict(init_params=init_params, init_state=cell.init_state, step=cell.step, output=cell.output, loss=loss, built=built)


def made(built: Built) -> cells.Cell:
    """The cell with encoder, layers and readout."""
    bare, n = _bare(built), built.n_hidden
    linear = isinstance(bare.step, cells.Linear)

    def layer(n_in: int) -> cells.Cell:
        if not linear:
            return cells.REGISTRY[built.cell](n_in, n, **dict(built.choices))
        inner = cells.REGISTRY[built.cell](n, n, **{**_good_practice(built), **dict(built.choices)})
        return cells.with_encoder(inner, n_in, n)

    stacked = [layer(built.n_in if i == 0 else n) for i in range(built.layers)]
    cell = stacked[0] if built.layers == 1 else cells.stack(*stacked)
    return cells.with_readout(cell, built.task.n_out, 2 * n if linear else None)


def _bare(built: Built) -> cells.Cell:
    return cells.REGISTRY[built.cell](built.n_in, built.n_hidden, **dict(built.choices))


def _good_practice(built: Built) -> dict[str, Any]:
    """Choices that depend on the length, where nobody made them."""
    if built.cell != "lru" or {"r_min", "r_max"} & set(dict(built.choices)):
        return {}
    return {"r_min": math.exp(-10 / built.length), "r_max": math.exp(-0.1 / built.length)}


KEEPING = {"mingru": -1, "mgu_reset_before": -1}
"""The sign of the gate's bias that keeps: +1 but for gates that write."""


def gate_bias(built: Built) -> str | None:
    """The name of the scale that is the bias of the gate that keeps, or None: no such gate.

    >>> from jaxrnn import remedies, tasks
    >>> [remedies.setups.gate_bias(remedies.setup(name, tasks.adding(9), 4, length=9).built) for name in ("lstm", "gru", "mingru", "vanilla")]
    ['forget_bias', 'update_bias', 'update_bias', None]
    """
    named = {"mingru": "update_bias", "minlstm": "forget_bias"}
    names = _parameters(_bare(built).init_params)
    return named.get(built.cell) or next((name for name in ("forget_bias", "update_bias") if name in names), None)


def _parameters(function: Callable) -> list[str]:
    return list(inspect.signature(function).parameters)


@dataclass(frozen=True, eq=False)
class Start:
    """``init_params`` of a built cell at its scales."""

    cell: cells.Cell
    built: Built

    def __call__(self, key: Array) -> PyTree:
        """θ; of the scales ``keep`` is the bias of the gate that keeps, whatever its name and sign, and ``chrono`` draws it."""
        scales = dict(self.built.scales)
        name, sign = gate_bias(self.built), KEEPING.get(self.built.cell, 1)
        if name is not None and "keep" in scales:
            scales[name] = sign * scales.pop("keep")
        if name is not None and "chrono" in scales and "chrono" not in _parameters(_bare(self.built).init_params):
            scales[name] = sign * initializers.chrono(jax.random.fold_in(key, 1), self.built.n_hidden, scales.pop("chrono"))
        return self.cell.init_params(key, **scales)


@dataclass(frozen=True, eq=False)
class Replaced:
    """``init_params`` after which some leaves are made anew: ``change(key, name, leaf) -> leaf``."""

    inner: Callable[[Array], PyTree]
    names: tuple[str, ...]
    change: Callable[[Array, str, Array], Array]

    def __call__(self, key: Array) -> PyTree:
        """θ."""
        paths, treedef = jax.tree_util.tree_flatten_with_path(self.inner(key))
        keys = jax.random.split(jax.random.fold_in(key, 2), len(paths))
        names = [leaf_name(path) for path, _ in paths]
        leaves = [self.change(k, name, leaf) if matches(name, self.names) else leaf for k, name, (_, leaf) in zip(keys, names, paths, strict=True)]
        return jax.tree.unflatten(treedef, leaves)


def matches(name: str, names: tuple[str, ...]) -> bool:
    """Whether a leaf's path, or the last part of it, is among the names."""
    return name in names or name.split("/")[-1] in names
