"""Cells made of cells: layers, an encoder before the recurrence, and a readout beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.protocol import Cell, Linear, PyTree, Structure, require_sizes


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


def with_encoder(cell: Cell, n_in: int, width: int, activation: str = "gelu") -> Cell:
    """A cell that hears a nonlinear map of its input.

    h_t = step(θ, h_{t−1}, φ(W_in x_t + b_in)), and the output likewise. What the step declares of its structure stays: J_t is that of the
    cell. A recurrence that is linear in state and input cannot multiply two parts of an input; behind an encoder it can.

    Args:
        cell: any cell whose params are a dict.
        n_in: size of x; x may also be None, as an input of zeros.
        width: m, the cell's own n_in. In a stack, give the encoder to the lowest layer.
        activation: φ, one of ``gelu``, ``relu``, ``tanh``.

    Returns:
        ``Cell`` whose params hold the cell's and ``W_in`` (m, n_in) with entries N(0, encoder_gain²/n_in), ``b_in`` zero;
        ``init_params(key, encoder_gain=1.0, **scales)``.

    Raises:
        ValueError: unknown activation, a size below 1; (from ``init_params``) a cell of another n_in.
        TypeError: (from ``init_params``) the cell's params are not a dict or have a ``W_in`` already.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells
    >>> cell = cells.with_encoder(cells.lru(8, 4), 2, 8)
    >>> cell.step(cell.init_params(jax.random.key(0)), jnp.zeros(4, complex), jnp.ones(2)).shape, isinstance(cell.step, cells.Linear)
    ((4,), True)
    """
    require_sizes(n_in=n_in, width=width)
    if activation not in _NONLINEAR:
        raise ValueError(f"unknown activation {activation!r}; allowed are {', '.join(sorted(_NONLINEAR))}")

    def init_params(key: Array, encoder_gain: float | Array = 1.0, **scales: Any) -> PyTree:
        key_cell, key_in = jax.random.split(key)
        params = cell.init_params(key_cell, **scales)
        _require_room(params, "W_in", "with_encoder")
        w_in = initializers.gaussian(key_in, width, n_in, encoder_gain)
        try:
            jax.eval_shape(cell.step, params, jax.eval_shape(cell.init_state, params), jax.ShapeDtypeStruct((width,), w_in.dtype))
        except (TypeError, ValueError) as error:
            raise ValueError(f"the cell cannot take what the encoder puts out, of shape ({width},); make its n_in {width}") from error
        return {**params, "W_in": w_in, "b_in": jnp.zeros(width, w_in.dtype)}

    return Cell(init_params, cell.init_state, _encoded(cell.step, activation), Encoded(cell.output, activation))


def with_readout(cell: Cell, n_out: int, n_hidden: int | None = None) -> Cell:
    """A cell with a readout of its output: linear, or with one hidden layer.

    ŷ_t = W_hy output(θ, h_t, x_t) + b_y, or with ``n_hidden`` ŷ_t = W_hy gelu(W_hidden output(θ, h_t, x_t) + b_hidden) + b_y. The
    recurrence, its state and its ``step`` stay as they are: what is read out is no part of the dynamics.

    Args:
        cell: any cell whose params are a dict.
        n_out: size of ŷ.
        n_hidden: units of the hidden layer; None: none.

    Returns:
        ``Cell`` whose params hold the cell's and ``W_hy`` (n_out, m) with entries N(0, readout_gain²/m), ``b_y`` zero, and where there is
        a hidden layer ``W_hidden`` (n_hidden, m') of N(0, 1/m'), ``b_hidden`` zero; ``init_params(key, readout_gain=1.0, **scales)``.

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
    if n_hidden is not None:
        require_sizes(n_hidden=n_hidden)

    def init_params(key: Array, readout_gain: float | Array = 1.0, **scales: Any) -> PyTree:
        key_cell, key_hy = jax.random.split(key)
        params = cell.init_params(key_cell, **scales)
        _require_room(params, "W_hy", "with_readout")
        width = jax.eval_shape(lambda p: cell.output(p, cell.init_state(p), None), params).shape[0]
        if n_hidden is not None:
            w_hidden = initializers.gaussian(jax.random.fold_in(key_hy, 1), n_hidden, width)
            params, width = {**params, "W_hidden": w_hidden, "b_hidden": jnp.zeros(n_hidden, w_hidden.dtype)}, n_hidden
        w_hy = initializers.gaussian(key_hy, n_out, width, readout_gain)
        return {**params, "W_hy": w_hy, "b_y": jnp.zeros(n_out, w_hy.dtype)}

    return Cell(init_params, cell.init_state, cell.step, Readout(cell.output if n_hidden is None else Hidden(cell.output)))


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
class Hidden:
    """gelu(W_hidden output + b_hidden)."""

    inner: Callable

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> Array:
        """What the hidden layer of a readout says (n_hidden,)."""
        return jax.nn.gelu(params["W_hidden"] @ self.inner(params, state, x) + params["b_hidden"])


@dataclass(frozen=True)
class Encoded:
    """A step, an affine map or an output f(θ, h, x) at the encoded input φ(W_in x + b_in)."""

    inner: Callable
    activation: str

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        """f(θ, h_t, φ(W_in x_t + b_in))."""
        return self.inner(params, state, _encode(params, x, self.activation))


@dataclass(frozen=True)
class EncodedCoefficients:
    """The coefficients (A_t, b_t) of a linear step at the encoded input."""

    inner: Callable
    activation: str

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """(A_t, b_t)."""
        return self.inner(params, _encode(params, x, self.activation))


@dataclass(frozen=True)
class EncodedPreparation:
    """What a step computes from θ once, the encoder's weights kept beside it."""

    inner: Callable

    def __call__(self, params: PyTree) -> PyTree:
        """The θ that the encoded step takes."""
        return {**self.inner(params), "W_in": params["W_in"], "b_in": params["b_in"]}


@dataclass(frozen=True)
class ReadoutLoss:
    """fn(output(θ, h, x), y)."""

    output: Callable
    fn: Callable[[Array, PyTree], Array]

    def __call__(self, params: PyTree, state: PyTree, x: PyTree, target: PyTree) -> Array:
        """L_t."""
        return self.fn(self.output(params, state, x), target)


_NONLINEAR: dict[str, Callable[[Array], Array]] = {"gelu": jax.nn.gelu, "relu": jax.nn.relu, "tanh": jnp.tanh}


def _encode(params: PyTree, x: Array | None, activation: str) -> Array:
    return _NONLINEAR[activation](params["b_in"] if x is None else params["W_in"] @ x + params["b_in"])


def _encoded(step: Callable, activation: str) -> Callable:
    """The step at the encoded input, declared as the step is."""
    if isinstance(step, StackStep):
        raise ValueError("an encoder before a stack hides its layers; give the encoder to the lowest layer: stack(with_encoder(cell, …), …)")
    if not isinstance(step, (Structure, Linear)):
        return Encoded(step, activation)
    prepare = None if step.prepare is None else EncodedPreparation(step.prepare)
    if isinstance(step, Linear):
        return replace(step, coefficients=EncodedCoefficients(step.coefficients, activation), prepare=prepare)
    return replace(step, affine=Encoded(step.affine, activation), prepare=prepare)


def _require_room(params: PyTree, name: str, by: str) -> None:
    """Raise unless params are a dict that does not hold that name."""
    if not isinstance(params, Mapping) or name in params:
        raise TypeError(f"{by} needs a cell whose params are a dict without {name!r}; these are {jax.tree.structure(params)}")


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
