"""What all adapters share: the layers of a foreign model, one fed the output of the one below, become one step and one output."""

import hashlib
import importlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.adapters.protocol import Bound

PyTree = Any


@dataclass(frozen=True)
class Recurrent:
    """A layer with a state."""

    call: Callable  # (params, key, h_{t−1}, x_t) -> (h_t, y_t)


@dataclass(frozen=True)
class Pointwise:
    """A layer that sees one time at a time."""

    call: Callable  # (params, key, x_t) -> y_t


Layer = Recurrent | Pointwise


@dataclass(frozen=True)
class Advance:
    """What a user's function of a model advances: it returns the state alone."""

    call: Callable  # (params, key, h_{t−1}, x_t) -> h_t

    def __call__(self, params: PyTree, key: Array | None, state: PyTree, x: PyTree) -> tuple[PyTree, None]:
        """(h_t, nothing to read out)."""
        return self.call(params, key, state, x), None


@dataclass(frozen=True)
class Function:
    """A function without parameters as a layer."""

    function: Callable

    def __call__(self, params: PyTree, key: Array | None, x: PyTree) -> PyTree:
        """y_t."""
        return self.function(x)


class Frozen:
    """A tree of whatever a library keeps beside its parameters; equal trees are equal and have one hash, arrays by their bytes.

    What has no hash is equal to itself alone.
    """

    def __init__(self, tree: PyTree) -> None:
        leaves, treedef = jax.tree.flatten(tree)
        self.tree = tree
        self._key = (_hashable(treedef), *map(_leaf_key, leaves))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key

    def __repr__(self) -> str:
        return f"Frozen({self.tree!r})"


@dataclass(frozen=True)
class Step:
    """(params, h_{t−1}, x_t) -> h_t through all layers up to the last recurrent one; equal where the layers are."""

    layers: tuple[Layer, ...]
    keyed: bool = False

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        """The next state."""
        return self.advance(params, state, x)[0]

    def advance(self, params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        """h_t and what the last recurrent layer puts out."""
        x, keys = _keys(self, x)
        before = iter((state,) if _recurrences(self.layers) == 1 else state)
        after = []
        for layer, key in zip(self.layers[: _top(self.layers) + 1], keys, strict=False):
            if isinstance(layer, Recurrent):
                h, x = layer.call(params, key, next(before), x)
                after.append(h)
            else:
                x = layer.call(params, key, x)
        return (after[0] if len(after) == 1 else tuple(after)), x


@dataclass(frozen=True)
class Output:
    """(params, h_t, x_t) -> y_t: what the last recurrent layer shows, through the layers after it."""

    step: Step

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> Array:
        """y_t."""
        shown = _shown(self.step, params, state, x)
        for layer, key in list(zip(self.step.layers, _keys(self.step, x)[1], strict=True))[_top(self.step.layers) + 1 :]:
            shown = layer.call(params, key, shown)
        return shown


@dataclass(frozen=True)
class Read:
    """(params, h_t, x_t) -> y_t by a function of the model."""

    call: Callable  # (params, key, h_t, x_t) -> y_t
    keyed: bool

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> Array:
        """y_t."""
        return self.call(params, x[1], state, x[0]) if self.keyed else self.call(params, None, state, x)


def bound(
    layers: Sequence[Layer], params: PyTree, states: Sequence[PyTree] | None, given: PyTree | None, *, keyed: bool, read: Callable | None = None
) -> Bound:
    """The four things, h_0 ``given`` or the library's own ``states`` of the recurrent layers in the precision of the params."""
    if not _recurrences(layers):
        raise ValueError("there is no recurrent layer here, so nothing travels through time; give a recurrent cell or layer, or call= and state=")
    if states is None and given is None:
        raise ValueError("call= needs state=, the h_0 that it advances")
    step = Step(tuple(layers), keyed)
    output = Output(step) if read is None else Read(read, keyed)
    if given is None and states is not None:
        given = _in_precision_of(params, states[0] if len(states) == 1 else tuple(states))
    return Bound(step, params, jax.tree.map(jnp.asarray, given), output)


def library(name: str, extra: str) -> ModuleType:
    """A module of another library, or one sentence about how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ModuleNotFoundError(
            f'this adapter needs the package {package}; install it with: pip install "jaxrnn[{extra}]"', name=package
        ) from error


def is_jax_function(layer: Any) -> bool:
    """Whether it is an activation of jax itself, which sees one time at a time; a function of the user's may pick steps of a sequence."""
    return callable(layer) and hasattr(layer, "__name__") and str(layer.__module__).partition(".")[0] in ("jax", "flax")


def _top(layers: Sequence[Layer]) -> int:
    return max(i for i, layer in enumerate(layers) if isinstance(layer, Recurrent))


def _recurrences(layers: Sequence[Layer]) -> int:
    return sum(isinstance(layer, Recurrent) for layer in layers)


def _keys(step: Step, x: PyTree) -> tuple[PyTree, Sequence[Array | None]]:
    """The input, and a key for every layer."""
    if not step.keyed:
        return x, [None] * len(step.layers)
    x, key = x
    return x, [jax.random.fold_in(key, i) for i in range(len(step.layers))]


def _shown(step: Step, params: PyTree, state: PyTree, x: PyTree) -> Array:
    """The leaf of h_t that the last recurrent layer puts out, found where the traced step returns one value in both places."""
    jaxpr = jax.make_jaxpr(step.advance)(params, state, x).jaxpr
    leaves = jax.tree.leaves(state)
    after, shown = jaxpr.outvars[: len(leaves)], jaxpr.outvars[len(leaves) :]
    for variable, leaf in zip(after, leaves, strict=True):
        if len(shown) == 1 and variable is shown[0]:
            return leaf
    raise ValueError(
        "what the last recurrent layer puts out is not one of the leaves of its state, and an output must be a function of the state: "
        "say which with bound._replace(output=function), function(params, state, x) at module level"
    )


def _in_precision_of(params: PyTree, state: PyTree) -> PyTree:
    kinds = [kind for kind in map(jnp.result_type, jax.tree.leaves(params)) if jnp.issubdtype(kind, jnp.floating)]
    widest = jnp.result_type(*kinds) if kinds else None
    cast = lambda leaf: leaf.astype(widest) if widest is not None and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
    return jax.tree.map(lambda leaf: cast(jnp.asarray(leaf)), state)


def _leaf_key(leaf: Any) -> Hashable:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return "key", _leaf_key(jax.random.key_data(leaf))
    if isinstance(leaf, (jax.Array, np.ndarray)):
        content = np.asarray(leaf)
        return "array", content.shape, str(content.dtype), hashlib.sha256(np.ascontiguousarray(content).tobytes()).digest()
    return type(leaf), _hashable(leaf)


def _hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return _Itself(value)
    return value


@dataclass(frozen=True, eq=False)
class _Itself:
    """Something without a hash, equal to itself alone; held, so that its place in memory is not given to another."""

    value: Any = field(repr=False)

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value
