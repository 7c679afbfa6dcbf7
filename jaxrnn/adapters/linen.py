"""How a recurrent module of ``flax.linen`` becomes a ``Bound``."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jaxrnn.adapters.chain import Advance, Frozen, Function, Layer, Pointwise, Recurrent, bound, is_jax_function, library
from jaxrnn.adapters.protocol import Bound

PyTree = Any
Path = tuple[str, ...]


def flax_linen(
    module: Any,
    variables: Mapping[str, PyTree] | None = None,
    *,
    state: PyTree | None = None,
    call: str | Callable | None = None,
    output: str | Callable | None = None,
    keyed: bool = False,
) -> Bound:
    """The recurrence of a ``flax.linen`` module with its variables, as the four things that every analysis takes.

    Args:
        module: a cell (``LSTMCell`` and the others, or your own that is called by ``cell(carry, x) -> (carry, y)``), ``RNN``, or
            ``Sequential`` of these with ``Dense``, ``Embed``, ``Dropout``, norms and activations of jax; a bound module
            (``model.bind(variables).encoder``) brings its variables. Layers of a compact module: a dictionary from their names in its
            params, the lowest first, ``{"LSTMCell_0": nn.LSTMCell(8), "Dense_0": nn.Dense(2)}``.
        variables: what ``init`` returned, ``{"params": …}``. Collections beside the params (batch statistics, say) are frozen at their
            values now, and a warning says so: no step changes them.
        state: h_0, the carry; None for the cell's ``initialize_carry`` in the precision of the params. Several recurrent layers have the
            tuple of their carries.
        call: for any other module, the method (or its name) that advances it, ``call(module, state, x) -> state``; needs ``state``.
        output: beside ``call``, the method that reads it out, ``output(module, state, x) -> y``.
        keyed: x is a pair (x_t, key_t), whose key feeds the random numbers of step t, the masks of dropout.

    Returns:
        ``Bound``; ``params`` is ``variables["params"]`` with its structure, so what was trained goes back as it is. ``output`` is what the
        last recurrent layer shows, through the layers after it. Equal modules share one compilation.

    Raises:
        ModuleNotFoundError: flax is not installed.
        TypeError: not a module of linen.
        ValueError: no recurrent layer; one that reads the future (``reverse``, ``Bidirectional``); a layer that may mix times; active
            dropout without ``keyed``; variables that are missing.

    Source: the documentation of ``flax.linen``, flax 0.12.

    >>> import flax.linen as nn
    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import adapters
    >>> model = nn.Sequential([nn.RNN(nn.LSTMCell(4)), nn.Dense(2)])
    >>> bound = adapters.flax_linen(model, model.init(jax.random.key(0), jnp.zeros((5, 3), "float32")))
    >>> [leaf.shape for leaf in bound.state], bound.output(bound.params, bound.state, jnp.zeros(3, "float32")).shape
    ([(4,), (4,)], (2,))
    """
    nn = library("flax.linen", "flax")
    named = module if isinstance(module, Mapping) else {"": module}
    if not named or not all(isinstance(layer, nn.Module) or is_jax_function(layer) for layer in named.values()):
        raise TypeError(f"module must be a module of flax.linen or a dictionary of them, given {module!r}; for flax.nnx there is adapters.flax_nnx")
    if getattr(module, "scope", None) is not None and variables is None:
        module, variables = module.unbind()
        named = {"": module}
    if not isinstance(variables, Mapping) or "params" not in variables:
        given = ", ".join(map(repr, variables)) if isinstance(variables, Mapping) else f"a {type(variables).__name__}"
        raise ValueError(f'variables must be what init returned, {{"params": …}}, given {given}; or give a bound module')
    params = variables["params"]
    extras = {name: tree for name, tree in variables.items() if name != "params" and jax.tree.leaves(tree)}
    if extras:
        warnings.warn(f"the collections {', '.join(sorted(extras))} are frozen at their values now: no step changes them", stacklevel=2)
    make = lambda layer, path=(), method=None: _Apply(Frozen(layer), path, Frozen(_below(extras, path)), method)
    if call is not None:
        read = None if output is None else make(module, method=output)
        return bound([Recurrent(Advance(make(module, method=call)))], params, None, state, keyed=keyed, read=read)
    layers: list[Layer] = []
    states: list[PyTree] = []
    for path, layer in (found for name, part in named.items() for found in _unfolded(nn, part, (name,) if name else ())):
        is_cell = isinstance(layer, nn.RNNCellBase)
        if not is_cell:
            _require_pointwise(nn, layer, keyed)
        _require_variables(params, path, layer, nn)
        if is_cell:
            layers.append(Recurrent(make(layer, path)))
            states += [_initial(layer)] if state is None else []
        else:
            layers.append(Pointwise(make(layer, path) if isinstance(layer, nn.Module) else Function(layer)))
    return bound(layers, params, states, state, keyed=keyed)


@dataclass(frozen=True)
class _Apply:
    """A method of a module, its params at their place in the tree."""

    module: Frozen
    path: Path
    extras: Frozen
    method: str | Callable | None

    def __call__(self, params: PyTree, key: jax.Array | None, *args: PyTree) -> PyTree:
        extras = self.extras.tree
        rngs = None if key is None else {"params": key}  # what linen falls back to, whatever the name of the stream
        variables = {"params": _at(params, self.path), **extras}
        found = self.module.tree.apply(variables, *args, rngs=rngs, mutable=list(extras) or False, method=self.method)
        return found[0] if extras else found


def _unfolded(nn: Any, module: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """(path, layer) of every layer, wrappers taken off."""
    if isinstance(module, nn.Bidirectional) or (isinstance(module, nn.RNN) and module.reverse):
        raise ValueError(
            f"{type(module).__name__} reads its sequence from the end, which no step does; bind the cell of that direction alone, with its own "
            "variables, and give the analysis the reversed sequence"
        )
    if isinstance(module, nn.RNN):
        yield from _unfolded(nn, module.cell, (*path, "cell"))
    elif isinstance(module, nn.Sequential):
        for i, layer in enumerate(module.layers):
            yield from _unfolded(nn, layer, (*path, f"layers_{i}"))
    else:
        yield path, module


def _initial(cell: Any) -> PyTree:
    if cell.num_feature_axes != 1:
        raise ValueError(f"the carry of a {type(cell).__name__} depends on the shape of its input; give state=cell.initialize_carry(key, shape)")
    return cell.initialize_carry(jax.random.key(0), (1,))


def _require_pointwise(nn: Any, layer: Any, keyed: bool) -> None:
    if not is_jax_function(layer) and not isinstance(layer, (nn.Dense, nn.Embed, nn.Dropout, nn.LayerNorm, nn.RMSNorm, nn.BatchNorm)):
        raise ValueError(
            f"a {type(layer).__name__} may mix times, which no step can; allowed are recurrent cells, RNN, Sequential, Dense, Embed, Dropout, norms "
            "and activations of jax: bind the recurrent layers alone, or give call= and state="
        )
    if isinstance(layer, nn.Dropout) and layer.rate and not layer.deterministic and not keyed:
        raise ValueError("Dropout is active; make it with deterministic=True, or give keyed=True and pairs (x_t, key_t) as inputs")


def _require_variables(params: PyTree, path: Path, layer: Any, nn: Any) -> None:
    if is_jax_function(layer) or isinstance(layer, nn.Dropout):
        return
    for i, name in enumerate(path):
        there = _at(params, path[:i])
        if name not in there:
            where = f"under {'/'.join(path[:i])}" if i else "at the top"
            raise ValueError(f"variables lack {'/'.join(path)} of {type(layer).__name__}; {where} there are {', '.join(map(repr, there)) or 'none'}")
    if not _at(params, path):
        raise ValueError(f"variables have no params of {type(layer).__name__}{' at ' + '/'.join(path) if path else ''}; give what its init returned")


def _at(tree: PyTree, path: Path) -> PyTree:
    for name in path:
        tree = tree.get(name, {})
    return tree


def _below(collections: Mapping[str, PyTree], path: Path) -> dict[str, PyTree]:
    """What every collection has at a path."""
    found = {name: _at(tree, path) for name, tree in collections.items()}
    return {name: tree for name, tree in found.items() if tree}
