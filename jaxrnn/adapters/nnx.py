"""How a recurrent module of ``flax.nnx`` becomes a ``Bound``."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from jaxrnn.adapters.chain import Advance, Frozen, Layer, Pointwise, Recurrent, bound, is_jax_function, library
from jaxrnn.adapters.protocol import Bound

PyTree = Any
Path = tuple[int | str, ...]


def flax_nnx(
    module: Any,
    *,
    state: PyTree | None = None,
    call: Callable | None = None,
    output: Callable | None = None,
    keyed: bool = False,
) -> Bound:
    """The recurrence of a ``flax.nnx`` module as the four things that every analysis takes.

    Args:
        module: a cell (``nnx.LSTMCell`` and the others, or your own that is called by ``cell(carry, x) -> (carry, y)``), ``nnx.RNN``, or
            ``nnx.Sequential`` or a list of these with ``Linear``, ``Embed``, ``Dropout``, norms and activations of jax, the lowest first:
            ``[model.encoder, model.decoder, model.readout]``.
        state: h_0, the carry; None for the cell's ``initialize_carry`` in the precision of the params. Several recurrent layers have the
            tuple of their carries.
        call: for any other module, the function that advances it, ``call(module, state, x) -> state``, a method of its class for
            instance; needs ``state``.
        output: beside ``call``, the function that reads it out, ``output(module, state, x) -> y``.
        keyed: x is a pair (x_t, key_t), whose key replaces those of the module's own streams at step t, for the masks of dropout.

    Returns:
        ``Bound``; ``params`` is ``nnx.state(module, nnx.Param)``, so what was trained goes back by ``nnx.update(module, params)``. Variables
        of other kinds (batch statistics, say) are frozen at their values now, and a warning says so. ``output`` is what the last
        recurrent layer shows, through the layers after it. Equal modules share one compilation.

    Raises:
        ModuleNotFoundError: flax is not installed.
        TypeError: not a module of nnx.
        ValueError: no recurrent layer; one that reads the future (``reverse``, ``Bidirectional``); a layer that may mix times; active
            dropout without ``keyed``.

    Source: the documentation of ``flax.nnx``, flax 0.12.

    >>> from flax import nnx
    >>> from jaxrnn import adapters
    >>> bound = adapters.flax_nnx([nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))), nnx.GRUCell(4, 5, rngs=nnx.Rngs(1))])
    >>> bound.state[0][0].shape, bound.state[1].shape
    ((4,), (5,))
    """
    nnx = library("flax.nnx", "flax")
    layers_given = list(module) if isinstance(module, (list, tuple)) else [module]
    if not layers_given or not all(isinstance(layer, nnx.Module) or is_jax_function(layer) for layer in layers_given):
        raise TypeError(f"module must be a module of flax.nnx or a list of them, given {module!r}; for flax.linen there is adapters.flax_linen")
    graph, params, streams, extras = nnx.split(module, nnx.Param, nnx.RngState, ...)
    if jax.tree.leaves(extras):
        kinds = sorted({type(variable).__name__ for _, variable in nnx.to_flat_state(extras)})
        warnings.warn(f"the variables of kind {', '.join(kinds)} are frozen at their values now: no step changes them", stacklevel=2)
    make = lambda path=(), method=None: _Call(Frozen((graph, streams, extras)), path, method)
    if call is not None:
        read = None if output is None else make(method=output)
        return bound([Recurrent(Advance(make(method=call)))], params, None, state, keyed=keyed, read=read)
    layers: list[Layer] = []
    states: list[PyTree] = []
    for path, layer in _unfolded(nnx, module, ()):
        if isinstance(layer, nnx.RNNCellBase):
            layers.append(Recurrent(make(path)))
            states += [_initial(nnx, layer)] if state is None else []
        else:
            _require_pointwise(nnx, layer, keyed)
            layers.append(Pointwise(make(path)))
    return bound(layers, params, states, state, keyed=keyed)


@dataclass(frozen=True)
class _Call:
    """A layer of a module, or a function of all of it, the variables put back."""

    static: Frozen
    path: Path
    function: Callable | None

    def __call__(self, params: PyTree, key: jax.Array | None, *args: PyTree) -> PyTree:
        graph, streams, extras = self.static.tree
        if key is not None:
            streams = _from_key(streams, key)
        layer = library("flax.nnx", "flax").merge(graph, params, streams, extras)
        for part in self.path:
            layer = getattr(layer, part) if isinstance(part, str) else layer[part]
        return layer(*args) if self.function is None else self.function(layer, *args)


def _from_key(streams: PyTree, key: jax.Array) -> PyTree:
    """The module's streams, each begun anew from the key of this step."""
    leaves, treedef = jax.tree.flatten(streams)
    is_key = [jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    fresh = [jax.random.fold_in(key, i) if found else leaf for i, (found, leaf) in enumerate(zip(is_key, leaves, strict=True))]
    return jax.tree.unflatten(treedef, fresh)


def _unfolded(nnx: Any, module: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """(path, layer) of every layer, wrappers taken off."""
    if isinstance(module, nnx.Bidirectional) or (isinstance(module, nnx.RNN) and module.reverse):
        raise ValueError(
            f"{type(module).__name__} reads its sequence from the end, which no step does; bind the cell of that direction alone, and give the "
            "analysis the reversed sequence"
        )
    if isinstance(module, nnx.RNN):
        yield from _unfolded(nnx, module.cell, (*path, "cell"))
    elif isinstance(module, nnx.Sequential):
        yield from _unfolded(nnx, list(module.layers), (*path, "layers"))
    elif isinstance(module, (list, tuple)):
        for i, layer in enumerate(module):
            yield from _unfolded(nnx, layer, (*path, i))
    else:
        yield path, module


def _initial(nnx: Any, cell: Any) -> PyTree:
    if cell.num_feature_axes != 1:
        raise ValueError(f"the carry of a {type(cell).__name__} depends on the shape of its input; give state=cell.initialize_carry(shape, rngs)")
    return cell.initialize_carry((1,), nnx.Rngs(0))


def _require_pointwise(nnx: Any, layer: Any, keyed: bool) -> None:
    if not is_jax_function(layer) and not isinstance(layer, (nnx.Linear, nnx.Embed, nnx.Dropout, nnx.LayerNorm, nnx.RMSNorm, nnx.BatchNorm)):
        raise ValueError(
            f"a {type(layer).__name__} may mix times, which no step can; allowed are recurrent cells, RNN, Sequential, lists, Linear, Embed, "
            "Dropout, norms and activations of jax: bind the recurrent layers alone, or give call= and state="
        )
    if isinstance(layer, nnx.Dropout) and layer.rate and not layer.deterministic and not keyed:
        raise ValueError("Dropout is active; call module.eval() before, or give keyed=True and pairs (x_t, key_t) as inputs")
