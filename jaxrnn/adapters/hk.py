"""How a recurrent core of Haiku becomes a ``Bound``."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jaxrnn.adapters.chain import Advance, Frozen, Layer, Pointwise, Recurrent, bound, library
from jaxrnn.adapters.protocol import Bound

PyTree = Any


def haiku(
    make: Callable[[], Any],
    params: Mapping[str, PyTree],
    extras: Mapping[str, PyTree] | None = None,
    *,
    prefix: str = "",
    state: PyTree | None = None,
    call: Callable | None = None,
    output: Callable | None = None,
    keyed: bool = False,
) -> Bound:
    """The recurrence of a Haiku core as the four things that every analysis takes.

    Args:
        make: a function without arguments that makes the core, as modules of Haiku live inside a transform: ``lambda: hk.LSTM(8)``, any
            ``hk.RNNCore``, ``hk.DeepRNN``, or a list of cores and of layers that see one time (``hk.Linear``, functions), the lowest
            first. The same function, not one like it, shares a compilation.
        params: what ``init`` returned, the names included.
        extras: the state that ``hk.transform_with_state`` keeps, frozen at its values now, and a warning says so: no step changes it.
        prefix: what stands in the params before the names of the core, ``my_net/~/`` where it was made in the constructor of a module.
        state: h_0; None for the core's ``initial_state`` in the precision of the params. Several cores have the tuple of their states.
        call: for any other module that ``make`` makes, the method that advances it, ``call(module, state, x) -> state``; needs ``state``.
        output: beside ``call``, the method that reads it out, ``output(module, state, x) -> y``.
        keyed: x is a pair (x_t, key_t), whose key is where ``hk.next_rng_key()`` begins at step t.

    Returns:
        ``Bound``; ``params`` is as given, so what was trained goes back as it is. ``output`` is what the last core shows, through the
        layers after it.

    Raises:
        ModuleNotFoundError: dm-haiku is not installed.
        TypeError: ``make`` is not a function.
        ValueError: no core; params without its names.

    Source: the documentation of dm-haiku 0.0.17.

    >>> import haiku as hk
    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import adapters
    >>> make = lambda: hk.LSTM(4)
    >>> net = hk.transform(lambda xs: hk.dynamic_unroll(core := make(), xs, core.initial_state(None))[0])
    >>> bound = adapters.haiku(make, net.init(jax.random.key(0), jnp.zeros((5, 3))))
    >>> bound.state.hidden.shape
    (4,)
    """
    hk = library("haiku", "haiku")
    if not callable(make) or isinstance(make, hk.Module):
        raise TypeError(f"make must be a function that makes the core, such as lambda: hk.LSTM(8), given {make!r}")
    if extras and jax.tree.leaves(extras):
        warnings.warn(f"the state of {', '.join(sorted(extras))} is frozen at its values now: no step changes it", stacklevel=2)
    inside = _Inside(prefix, Frozen(dict(extras or {})))
    if call is not None:
        read = None if output is None else _Method(inside, make, output)
        return bound([Recurrent(Advance(_Method(inside, make, call)))], params, None, state, keyed=keyed, read=read)
    layers: list[Layer] = []
    states: list[PyTree] = []
    for i, (name, initial) in enumerate(inside(params, None, lambda: [_described(hk, layer) for layer in _unfolded(hk, make())])):
        if name and not any(f"{key}/".startswith(f"{prefix}{name}/") for key in params):
            raise ValueError(
                f"params have nothing named {prefix}{name}; they have {', '.join(map(repr, params))}: give the prefix that stands before {name}"
            )
        layer = _Layer(inside, make, i)
        layers.append(Pointwise(layer) if initial is None else Recurrent(_Core(layer)))
        states += [] if initial is None or state is not None else [initial]
    return bound(layers, params, states, state, keyed=keyed)


@dataclass(frozen=True)
class _Inside:
    """Runs a function inside a transform, its modules' names found behind a prefix."""

    prefix: str
    extras: Frozen

    def __call__(self, params: Mapping[str, PyTree], key: jax.Array | None, function: Callable, *args: PyTree) -> Any:
        cut = lambda tree: {name.removeprefix(self.prefix): leaves for name, leaves in tree.items() if name.startswith(self.prefix)}
        transformed = library("haiku", "haiku").transform_with_state(function)
        return transformed.apply(cut(params), cut(self.extras.tree), key, *args)[0]


@dataclass(frozen=True)
class _Layer:
    """One layer of what ``make`` makes; all are made, so that their names are those they had."""

    inside: _Inside
    make: Callable
    index: int

    def __call__(self, params: PyTree, key: jax.Array | None, *args: PyTree) -> PyTree:
        return self.inside(params, key, lambda *args: _unfolded(library("haiku", "haiku"), self.make())[self.index](*args), *args)


@dataclass(frozen=True)
class _Core:
    """A core, which takes its input first and returns its output first."""

    layer: _Layer

    def __call__(self, params: PyTree, key: jax.Array | None, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        y, state = self.layer(params, key, x, state)
        return state, y


@dataclass(frozen=True)
class _Method:
    """A function of the module that ``make`` makes."""

    inside: _Inside
    make: Callable
    function: Callable

    def __call__(self, params: PyTree, key: jax.Array | None, state: PyTree, x: PyTree) -> PyTree:
        return self.inside(params, key, lambda state, x: self.function(self.make(), state, x), state, x)


def _unfolded(hk: Any, made: Any) -> list[Any]:
    """The layers, those of a ``DeepRNN`` taken out of it."""
    layers = made if isinstance(made, (list, tuple)) else [made]
    return [inner for layer in layers for inner in (_unfolded(hk, layer.layers) if isinstance(layer, hk.DeepRNN) else [layer])]


def _described(hk: Any, layer: Any) -> tuple[str, PyTree | None]:
    """Its name in the params, "" where that is not known, and the state it starts from, None where it has none."""
    name = layer.module_name if isinstance(layer, (hk.VanillaRNN, hk.GRU, hk.LSTM, hk.Linear)) else ""
    return name, layer.initial_state(None) if isinstance(layer, hk.RNNCore) else None
