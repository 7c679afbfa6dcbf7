"""Cells made of cells: layers, and a linear readout beside the recurrence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, PyTree, require_sizes


def stack(*layers: Cell) -> Cell:
    """Layers, each fed the output of the one below.

    s_t^l = step_l(θ_l, s_{t−1}^l, y_t^{l−1}), y_t^l = output_l(θ_l, s_t^l, y_t^{l−1}), y_t^0 = x_t.

    Args:
        layers: cells, the lowest first.

    Returns:
        ``Cell``; params are ``{"layers": (θ_1, θ_2, …)}``, the state is the tuple of the layers' states, and
        ``init_params(key, **scales)`` hands the scales to every layer.

    Raises:
        ValueError: no layer, or (from ``init_params``) a layer that cannot take the output of the one below.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.stack(cells.lstm(2, 3), cells.gru(3, 4))
    >>> params = cell.init_params(jax.random.key(0))
    >>> [s.shape for s in jax.tree.leaves(cell.init_state(params))]
    [(3,), (3,), (4,)]
    """
    if not layers:
        raise ValueError("stack of no cells; give at least one")

    def init_params(key: Array, **scales: Any) -> PyTree:
        keys = jax.random.split(key, len(layers))
        params = {"layers": tuple(cell.init_params(k, **scales) for k, cell in zip(keys, layers, strict=True))}
        _require_fit(layers, params)
        return params

    def init_state(params: PyTree) -> PyTree:
        return tuple(cell.init_state(p) for cell, p in zip(layers, params["layers"], strict=True))

    steps, outputs = tuple(c.step for c in layers), tuple(c.output for c in layers)
    return Cell(init_params, init_state, StackStep(steps, outputs), StackOutput(outputs))


def from_function(step: Callable, init_params: Callable[..., PyTree], init_state: Callable[[PyTree], PyTree], output: Callable | None = None) -> Cell:
    """A cell out of one's own functions, to be stacked, read out and trained like the others.

    Args:
        step: ``step(params, state, x) -> state``; module-level or otherwise the same object every time, so that it compiles once.
        init_params: ``init_params(key, **scales) -> params``.
        init_state: ``init_state(params) -> h_0``.
        output: ``output(params, state, x) -> (n_out,)``; None where the state is one vector that is shown as it is.

    Raises:
        TypeError: something is not a function.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells
    >>> decay = lambda p, h, x: p["a"] * h + x
    >>> cell = cells.from_function(decay, lambda key: {"a": jnp.full(2, 0.5)}, lambda p: jnp.zeros(2))
    >>> cell.step(cell.init_params(jax.random.key(0)), jnp.ones(2), jnp.ones(2)).tolist()
    [1.5, 1.5]
    """
    cell = Cell(init_params, init_state, step, _shown if output is None else output)
    for name, function in cell._asdict().items():
        if not callable(function):
            raise TypeError(f"{name} must be a function, given {type(function).__name__}")
    return cell


def _shown(params: PyTree, state: PyTree, x: PyTree) -> Array:
    return state


def with_readout(cell: Cell, n_out: int) -> Cell:
    """A cell with a linear readout of its output.

    ŷ_t = W_hy output(θ, h_t, x_t) + b_y. The recurrence, its state and its ``step`` stay as they are: what is read
    out is no part of the dynamics.

    Args:
        cell: any cell whose params are a dict.
        n_out: size of ŷ.

    Returns:
        ``Cell`` whose params hold the cell's and ``W_hy`` (n_out, m) with entries N(0, readout_gain²/m), ``b_y`` zero;
        ``init_params(key, readout_gain=1.0, **scales)``.

    Raises:
        TypeError: (from ``init_params``) the cell's params are not a dict or have a ``W_hy`` already.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cell = cells.with_readout(cells.vanilla(2, 3), 5)
    >>> params = cell.init_params(jax.random.key(0))
    >>> cell.output(params, cell.init_state(params), None).shape
    (5,)
    """
    require_sizes(n_out=n_out)

    def init_params(key: Array, readout_gain: float | Array = 1.0, **scales: Any) -> PyTree:
        key_cell, key_hy = jax.random.split(key)
        params = cell.init_params(key_cell, **scales)
        if not isinstance(params, Mapping) or "W_hy" in params:
            raise TypeError(f"with_readout needs a cell whose params are a dict without 'W_hy'; these are {jax.tree.structure(params)}")
        width = jax.eval_shape(lambda p: cell.output(p, cell.init_state(p), None), params).shape[0]
        w_hy = initializers.gaussian(key_hy, n_out, width, readout_gain)
        return {**params, "W_hy": w_hy, "b_y": jnp.zeros(n_out, w_hy.dtype)}

    return Cell(init_params, cell.init_state, cell.step, Readout(cell.output))


def readout_loss(cell: Cell, fn: Callable[[Array, PyTree], Array]) -> "ReadoutLoss":
    """The loss of what a cell reads out, in the form the analyses take: ``loss(params, state, x, target) -> scalar``.

    L_t = fn(output(θ, h_t, x_t), y_t). Equal cells and functions give equal losses, so they compile once.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells
    >>> cell = cells.vanilla(1, 2)
    >>> loss = cells.readout_loss(cell, jnp.vdot)
    >>> float(loss({}, jnp.array([1., 2.]), None, jnp.array([3., 4.])))
    11.0
    """
    return ReadoutLoss(cell.output, fn)


@dataclass(frozen=True)
class StackStep:
    """The step of a stack; equal where its layers' are."""

    steps: tuple[Callable, ...]
    outputs: tuple[Callable, ...]

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        """The next state of every layer."""
        new = []
        for step, output, theta, h in zip(self.steps, self.outputs, params["layers"], state, strict=True):
            h = step(theta, h, x)
            x = output(theta, h, x)
            new.append(h)
        return tuple(new)


@dataclass(frozen=True)
class StackOutput:
    """The output of the top layer."""

    outputs: tuple[Callable, ...]

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> Array:
        """y_t^top."""
        for output, theta, h in zip(self.outputs, params["layers"], state, strict=True):
            x = output(theta, h, x)
        return x


@dataclass(frozen=True)
class Readout:
    """ŷ = W_hy output + b_y."""

    inner: Callable

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> Array:
        """ŷ_t (n_out,)."""
        return params["W_hy"] @ self.inner(params, state, x) + params["b_y"]


@dataclass(frozen=True)
class ReadoutLoss:
    """fn(output(θ, h, x), y)."""

    output: Callable
    fn: Callable[[Array, PyTree], Array]

    def __call__(self, params: PyTree, state: PyTree, x: PyTree, target: PyTree) -> Array:
        """L_t."""
        return self.fn(self.output(params, state, x), target)


def _require_fit(layers: tuple[Cell, ...], params: PyTree) -> None:
    """Raise where a layer cannot take what the one below puts out."""
    x: Any = None
    for i, (cell, theta) in enumerate(zip(layers, params["layers"], strict=True)):
        state = jax.eval_shape(cell.init_state, theta)
        if i:
            try:
                jax.eval_shape(cell.step, theta, state, x)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"layer {i} of the stack cannot take the output of layer {i - 1}, of shape {x.shape}; make its n_in {x.shape[0]}"
                ) from error
        x = jax.eval_shape(cell.output, theta, state, x)
