"""How a recurrent module of Equinox becomes a ``Bound``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.adapters.chain import Advance, Frozen, Layer, Pointwise, Recurrent, bound, library
from jaxrnn.adapters.protocol import Bound

PyTree = Any


def equinox(
    module: Any,
    *,
    state: PyTree | None = None,
    call: Callable | None = None,
    output: Callable | None = None,
    keyed: bool = False,
) -> Bound:
    """The recurrence of an Equinox module as the four things that every analysis takes.

    Args:
        module: a cell (``eqx.nn.GRUCell``, ``LSTMCell``, or your own that has a ``hidden_size`` and is called by ``cell(x, state) -> state``),
            or a list or ``eqx.nn.Sequential`` of cells and of layers that see one time (``Linear``, ``Dropout``, functions), the lowest
            first, each fed what the one below shows: its state, or the first part of one that is a tuple.
        state: h_0; None for zeros in the precision of the params. Several cells have the tuple of their states.
        call: for any other module, the function that advances it, ``call(module, state, x) -> state``, a method of its class for
            instance; needs ``state``.
        output: beside ``call``, the function that reads it out, ``output(module, state, x) -> y``.
        keyed: x is a pair (x_t, key_t), whose key feeds the masks of dropout at step t; ``call`` and ``output`` then take ``key=``.

    Returns:
        ``Bound``; ``params`` is the module with floating arrays alone, so what was trained goes back by ``eqx.combine(params, module)``.
        Other arrays are frozen at their values now. ``output`` is what the last cell shows, through the layers after it. Equal modules
        share one compilation.

    Raises:
        ModuleNotFoundError: equinox is not installed.
        TypeError: nothing with arrays in it.
        ValueError: no recurrent layer; active dropout without ``keyed``.

    Source: the documentation of Equinox 0.13.

    >>> import equinox as eqx
    >>> import jax
    >>> from jaxrnn import adapters
    >>> bound = adapters.equinox([eqx.nn.LSTMCell(3, 4, key=jax.random.key(0)), jax.nn.relu, eqx.nn.GRUCell(4, 5, key=jax.random.key(1))])
    >>> bound.state[0][0].shape, bound.state[1].shape
    ((4,), (5,))
    """
    eqx = library("equinox", "equinox")
    params, static = eqx.partition(module, eqx.is_inexact_array)
    if not jax.tree.leaves(params):
        raise TypeError(f"module must be a module of Equinox or a list of them, given {module!r}, which holds no floating arrays")
    make = lambda path=(), method=None, key=False: _Call(Frozen(static), path, method, key)
    if call is not None:
        read = None if output is None else make(method=output, key=keyed)
        return bound([Recurrent(Advance(make(method=call, key=keyed)))], params, None, state, keyed=keyed, read=read)
    layers: list[Layer] = []
    states: list[PyTree] = []
    dtype = jnp.result_type(*jax.tree.leaves(params))
    for path, layer in _unfolded(eqx, module, ()):
        if hasattr(layer, "hidden_size"):
            layers.append(Recurrent(_Cell(make(path))))
            zeros = jnp.zeros(layer.hidden_size, dtype)
            states.append((zeros, zeros) if isinstance(layer, eqx.nn.LSTMCell) else zeros)
        else:
            is_dropout = isinstance(layer, eqx.nn.Dropout)
            if is_dropout and layer.p and not layer.inference and not keyed:
                raise ValueError("Dropout is active; give eqx.nn.inference_mode(module), or keyed=True and pairs (x_t, key_t) as inputs")
            layers.append(Pointwise(make(path, key=is_dropout)))
    return bound(layers, params, states, state, keyed=keyed)


@dataclass(frozen=True)
class _Call:
    """A layer of a module, or a function of all of it, the arrays put back."""

    static: Frozen
    path: tuple[int, ...]
    function: Callable | None
    takes_key: bool

    def __call__(self, params: PyTree, key: jax.Array | None, *args: PyTree) -> PyTree:
        layer = library("equinox", "equinox").combine(params, self.static.tree)
        for i in self.path:
            layer = layer[i]
        if self.function is not None:
            args = (layer, *args)
        keys = {"key": key} if self.takes_key else {}
        return (self.function or layer)(*args, **keys)


@dataclass(frozen=True)
class _Cell:
    """A cell, which takes its input first and returns its state alone."""

    call: _Call

    def __call__(self, params: PyTree, key: jax.Array | None, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        state = self.call(params, key, x, state)
        return state, state[0] if isinstance(state, (tuple, list)) else state


def _unfolded(eqx: Any, module: Any, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any]]:
    """(path, layer) of every layer, lists taken apart."""
    if isinstance(module, (Sequence, eqx.nn.Sequential)):
        for i, layer in enumerate(module):
            yield from _unfolded(eqx, layer, (*path, i))
    else:
        yield path, module
