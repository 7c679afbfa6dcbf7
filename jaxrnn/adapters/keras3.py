"""How recurrent layers of Keras (with its JAX backend) become a ``Bound``."""

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.adapters.chain import Frozen, Layer, Pointwise, Recurrent, bound, library
from jaxrnn.adapters.protocol import Bound

PyTree = Any
_POINTWISE = (
    "Activation", "Dense", "Dropout", "ELU", "EinsumDense", "Embedding", "GaussianDropout", "GaussianNoise", "Identity", "LayerNormalization",
    "LeakyReLU", "RMSNormalization", "ReLU", "Softmax", "UnitNormalization",
)  # fmt: skip


def keras(layer: Any, *, state: PyTree | None = None, keyed: bool = False) -> Bound:
    """The recurrence of Keras layers, built and on the JAX backend, as the four things that every analysis takes.

    Args:
        layer: a recurrent layer (``LSTM``, ``GRU``, ``SimpleRNN``, ``RNN`` of a cell or of stacked ones), a cell, or a ``Sequential`` or list of
            these with ``Embedding``, ``Dense``, ``Dropout``, norms and activations, the lowest first: ``[model.layers[0], model.layers[1]]``.
            Every recurrent layer is read at every time, whatever its ``return_sequences``.
        state: h_0 without an axis of the batch; None for the layer's initial state in the precision of the params. Several recurrent layers
            have the tuple of their states.
        keyed: x is a pair (x_t, key_t); layers are called as in training, and the key draws the masks of dropout of step t (Keras draws one mask
            for all steps: give every step the same key for that).

    Returns:
        ``Bound``; ``params`` is an ordered dictionary of the trainable variables by place and name, in Keras's order, so what was trained goes
        back by ``for variable, value in zip(layer.trainable_variables, params.values()): variable.assign(value)``. Other variables are
        frozen at their values now. ``output`` is what the last recurrent layer shows, through the layers after it. Layers of equal
        configuration share one compilation.

    Raises:
        ModuleNotFoundError: keras is not installed.
        TypeError: not a layer of Keras.
        ValueError: another backend; a layer that is not built; no recurrent layer; one that reads the future (``go_backwards``,
            ``Bidirectional``); a layer that may mix times.

    Layers compute in the precision of their dtype policy: for float64 make them with ``dtype="float64"``.

    Source: the documentation of Keras 3.

    >>> import keras
    >>> from jaxrnn import adapters
    >>> bound = adapters.keras(keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)]))
    >>> list(bound.params), [leaf.shape for leaf in bound.state]
    (['0/kernel', '0/recurrent_kernel', '0/bias', '1/kernel', '1/bias'], [(4,), (4,)])
    """
    lib = library("keras", "keras")
    if lib.backend.backend() != "jax":
        raise ValueError(
            f"Keras computes with {lib.backend.backend()}; set the environment variable KERAS_BACKEND=jax before keras is imported, load it anew"
        )
    found = list(_unfolded(lib, layer))
    params: OrderedDict[str, jax.Array] = OrderedDict()
    layers: list[Layer] = []
    states: list[PyTree] = []
    for i, one in enumerate(found):
        names = tuple(f"{i}/{name}" if len(found) > 1 else name for name in _names(one))
        params.update(zip(names, (variable.value for variable in one.trainable_variables), strict=True))
        call = _Call(_Definition(one), names, keyed)
        if _is_cell(one):
            initial = one.get_initial_state(batch_size=1)
            layers.append(Recurrent(_Cell(call, jax.tree.structure(initial))))
            states += [_plain(initial)] if state is None else []
        else:
            layers.append(Pointwise(call))
    return bound(layers, params, states, state, keyed=keyed)


class _Definition(Frozen):
    """A built layer; those of one class and configuration, names apart, and of equal frozen variables are equal."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.frozen = [variable.value for variable in layer.non_trainable_variables]
        self.seeds = [variable.path.endswith("seed_generator_state") for variable in layer.non_trainable_variables]
        configuration = json.dumps(_nameless(layer.get_config()), sort_keys=True, default=repr)
        values = [value for value, is_seed in zip(self.frozen, self.seeds, strict=True) if not is_seed]
        super().__init__((type(layer), configuration, values, [str(variable.dtype) for variable in layer.trainable_variables]))


@dataclass(frozen=True)
class _Call:
    """A layer at one sequence, all its variables put in."""

    definition: _Definition
    names: tuple[str, ...]
    keyed: bool

    def __call__(self, params: PyTree, key: jax.Array | None, x: PyTree, *states: PyTree) -> PyTree:
        layer, frozen = self.definition.layer, list(self.definition.frozen)
        weights = [params[name] for name in self.names]
        for name, weight in zip(self.names, weights, strict=True):
            if weight.dtype != layer.compute_dtype:
                raise ValueError(
                    f"{name} is {weight.dtype}, but layer {layer.name} computes in {layer.compute_dtype}; make it with dtype={str(weight.dtype)!r}"
                )
        for i, is_seed in enumerate(self.definition.seeds):
            if is_seed and key is not None:
                frozen[i] = jax.random.bits(jax.random.fold_in(key, i), (2,), jnp.uint32)
        training = {"training": self.keyed} if layer._call_has_training_arg else {}
        _forget_masks(layer)
        result, _ = layer.stateless_call(weights, frozen, *jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (x, *states)), **training)
        _forget_masks(layer)
        leaves, treedef = jax.tree.flatten(result)
        first = {id(leaf): leaf[0] for leaf in leaves}  # what is one array in two places stays one
        return jax.tree.unflatten(treedef, [first[id(leaf)] for leaf in leaves])


@dataclass(frozen=True)
class _Cell:
    """A cell, which takes its input first and returns its output first, its states as lists."""

    call: _Call
    lists: Any

    def __call__(self, params: PyTree, key: jax.Array | None, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        leaves, treedef = jax.tree.flatten(state)
        y, after = self.call(params, key, x, jax.tree.unflatten(self.lists, leaves))
        return jax.tree.unflatten(treedef, jax.tree.leaves(after)), y


def _unfolded(lib: Any, layer: Any) -> Iterator[Any]:
    """Every layer, wrappers taken off."""
    if isinstance(layer, (list, tuple)):
        for one in layer:
            yield from _unfolded(lib, one)
        return
    if not isinstance(layer, lib.layers.Layer):
        raise TypeError(f"layer must be a layer of Keras or a list of them, given {layer!r}")
    if isinstance(layer, lib.Sequential):
        yield from _unfolded(lib, layer.layers)
    elif isinstance(layer, lib.layers.InputLayer):
        return
    elif not layer.built:
        raise ValueError(f"layer {layer.name} is not built, so it has no weights; call it on data once, or layer.build((None, None, n_in))")
    elif isinstance(layer, lib.layers.Bidirectional) or getattr(layer, "go_backwards", False):
        halves = "layer.forward_layer alone, or of layer.backward_layer" if isinstance(layer, lib.layers.Bidirectional) else "layer.cell alone, and"
        raise ValueError(f"layer {layer.name} reads its sequence from the end, which no step does; bind {halves} the cell with the reversed sequence")
    elif isinstance(layer, lib.layers.RNN):
        yield layer.cell
    elif isinstance(layer, lib.layers.TimeDistributed):
        yield from _unfolded(lib, layer.layer)
    elif _is_cell(layer) or type(layer).__name__ in _POINTWISE:
        yield layer
    else:
        raise ValueError(
            f"layer {layer.name}, a {type(layer).__name__}, may mix times, which no step can; allowed beside recurrent layers and cells are "
            f"{', '.join(_POINTWISE)}, Sequential and lists of these: bind the recurrent layers alone"
        )


def _is_cell(layer: Any) -> bool:
    return hasattr(layer, "state_size")


def _names(layer: Any) -> list[str]:
    """Names of the trainable variables, each once, in Keras's order."""
    if hasattr(layer, "cells"):
        return [f"{i}/{name}" for i, cell in enumerate(layer.cells) for name in _names(cell)]
    names = [variable.name for variable in layer.trainable_variables]
    return names if len(set(names)) == len(names) else [f"{i}/{name}" for i, name in enumerate(names)]


def _plain(initial: PyTree) -> PyTree:
    """A state without the axis of the batch: the array where it is one, tuples for lists."""
    if isinstance(initial, (list, tuple)):
        return _plain(initial[0]) if len(initial) == 1 else tuple(map(_plain, initial))
    return initial[0]


def _nameless(configuration: Any) -> Any:
    if isinstance(configuration, dict):
        return {key: _nameless(value) for key, value in configuration.items() if key != "name"}
    return [_nameless(value) for value in configuration] if isinstance(configuration, (list, tuple)) else configuration


def _forget_masks(layer: Any) -> None:
    """Masks of dropout are kept from call to call, which across two traces would be one trace's value in another."""
    for cell in getattr(layer, "cells", [layer]):
        if hasattr(cell, "reset_dropout_mask"):
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()
