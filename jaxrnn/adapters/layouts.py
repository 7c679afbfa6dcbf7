"""How the parameters of another library's cell become those of a built-in one, and go back.

A layout, ours included, is a table of leaves that are laid out from blocks: one (n, columns) for each role (W_xh, W_hh, b_x, b_h) and gate.
Import and export read the blocks by one table and write them by the other.
"""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
Block = tuple[str, str]  # role, gate
Blocks = dict[Block, Any]  # (n, columns) each: n_in of W_xh, n of W_hh, 1 of a bias


class Leaf(NamedTuple):
    """Blocks as one array: gates below one another, roles side by side, the whole transposed or not; a bias alone is flat."""

    roles: tuple[str, ...]
    gates: str  # a capital: with the other sign
    transposed: bool

    def blocks(self) -> list[Block]:
        """Which blocks it holds."""
        return [(role, gate.lower()) for role in self.roles for gate in self.gates]

    def shape(self, n: int, n_in: int) -> tuple[int, ...]:
        """Its shape."""
        rows, columns = n * len(self.gates), sum(_width(role, n, n_in) for role in self.roles)
        return (rows,) if self._flat() else (columns, rows) if self.transposed else (rows, columns)

    def split(self, array: Any, n: int, n_in: int) -> Blocks:
        """The blocks of an array."""
        table, end, parts = array[:, None] if self._flat() else array.T if self.transposed else array, 0, []
        for role in self.roles:
            start, end = end, end + _width(role, n, n_in)
            parts += [table[i * n : (i + 1) * n, start:end] for i in range(len(self.gates))]
        return dict(zip(self.blocks(), self._signed(parts), strict=True))

    def join(self, blocks: Blocks, xp: ModuleType) -> Any:
        """The array of these blocks."""
        parts, gates = self._signed([blocks[block] for block in self.blocks()]), len(self.gates)
        table = xp.concatenate([xp.concatenate(parts[i : i + gates], 0) for i in range(0, len(parts), gates)], 1)
        return table[:, 0] if self._flat() else table.T if self.transposed else table

    def _flat(self) -> bool:
        return self.roles in (("b_x",), ("b_h",))

    def _signed(self, parts: list) -> list:
        return [-part if gate.isupper() else part for part, gate in zip(parts, self.gates * len(self.roles), strict=True)]


class Layout(NamedTuple):
    """Where a library's cell keeps its parameters."""

    cell: str  # the built-in cell that they become, a name in ``cells.REGISTRY``
    leaves: dict[str, Leaf]  # by name, or module/name
    is_list: bool = False  # a list in this order, instead of a dict
    numbered: bool = False  # names end in the number of the layer, _l0, _l1, …
    added: tuple[tuple[Block, float], ...] = ()  # biases that stand in the library's code


def _table(cell: str, gates: str, leaves: str, **rest: Any) -> Layout:
    """Leaves from ``name=roles`` or ``name=roles:gates``; roles are joined by +, ``.T`` says transposed."""
    table = {}
    for name, spec in (leaf.split("=") for leaf in leaves.split()):
        roles, _, own = spec.partition(":")
        table[name] = Leaf(tuple(roles.removesuffix(".T").split("+")), own or gates, roles.endswith(".T"))
    return Layout(cell, table, **rest)


def _linen(cell: str, gates: str, b_x: str, b_h: str, forget: str = "if") -> Layout:
    """Modules i⋅ and h⋅ for each gate, those of ``b_x`` and ``b_h`` with a bias."""
    module = lambda gate: forget if gate == "f" else f"i{gate}"
    leaves = [f"{module(gate)}/kernel=W_xh.T:{gate} h{gate}/kernel=W_hh.T:{gate}" for gate in gates]
    leaves += [f"{module(gate)}/bias=b_x:{gate}" for gate in b_x] + [f"h{gate}/bias=b_h:{gate}" for gate in b_h]
    return _table(cell, gates, " ".join(leaves))


_MATRICES = "W_hh=W_hh W_xh=W_xh"
_OURS = {
    "vanilla": _table("vanilla", "a", f"{_MATRICES} b_h=b_h b_x=b_x"),
    "lstm": _table("lstm", "ifgo", f"{_MATRICES} b_h=b_h b_x=b_x"),
    "gru": _table("gru", "rzn", f"{_MATRICES} b_x=b_x b_h=b_h"),
    "gru_reset_before": _table("gru_reset_before", "rzn", f"{_MATRICES} b_h=b_h"),
    "mgu": _table("mgu", "fn", f"{_MATRICES} b_x=b_x b_h=b_h:n"),
}
_OPTIONAL = {("vanilla", "b_x"), ("lstm", "b_x")}  # leaves of ours that need not be there
_UNDER_RESET = {("gru", "n"), ("mgu", "n")}  # b_h is multiplied by a gate there and b_x is not: they have no sum

_TORCH = "weight_ih=W_xh weight_hh=W_hh bias_ih=b_x bias_hh=b_h"
_TORCH_KINDS = (("rnn", "vanilla", "a"), ("gru", "gru", "rzn"), ("lstm", "lstm", "ifgo"))
_NNX = "dense_i/kernel=W_xh.T dense_h/kernel=W_hh.T"
_HAIKU_RNN = "vanilla_rnn/linear/w=W_xh.T vanilla_rnn/linear/b=b_x vanilla_rnn/linear_1/w=W_hh.T vanilla_rnn/linear_1/b=b_h"
_KERAS = "kernel=W_xh.T recurrent_kernel=W_hh.T bias=b_h"

LAYOUTS: dict[str, Layout] = {
    **{f"torch-{kind}": _table(cell, gates, _TORCH, numbered=True) for kind, cell, gates in _TORCH_KINDS},
    **{f"torch-{kind}-cell": _table(cell, gates, _TORCH) for kind, cell, gates in _TORCH_KINDS},
    "flax-simple": _table("vanilla", "a", "i/kernel=W_xh.T i/bias=b_h h/kernel=W_hh.T"),
    "flax-gru": _linen("gru", "rzn", "rzn", "n"),
    "flax-lstm": _linen("lstm", "ifgo", "", "ifgo"),
    "flax-optimized-lstm": _linen("lstm", "ifgo", "", "ifgo"),
    "flax-mgu": _linen("mgu", "fn", "fn", "n"),
    "nnx-simple": _table("vanilla", "a", f"{_NNX} dense_i/bias=b_h"),
    "nnx-gru": _table("gru", "rzn", f"{_NNX} dense_i/bias=b_x"),
    "nnx-lstm": _linen("lstm", "ifgo", "", "ifgo", forget="if_"),
    "nnx-optimized-lstm": _table("lstm", "ifgo", f"{_NNX} dense_h/bias=b_h"),
    "equinox-gru": _table("gru", "rzn", "weight_ih=W_xh weight_hh=W_hh bias=b_x bias_n=b_h:n"),
    "equinox-lstm": _table("lstm", "ifgo", "weight_ih=W_xh weight_hh=W_hh bias=b_h"),
    "haiku-rnn": _table("vanilla", "a", _HAIKU_RNN),
    "haiku-gru": _table("gru_reset_before", "Zrn", "gru/w_i=W_xh.T gru/w_h=W_hh.T gru/b=b_h"),
    "haiku-lstm": _table("lstm", "igfo", "lstm/linear/w=W_xh+W_hh.T lstm/linear/b=b_h", added=((("b_x", "f"), 1.0),)),
    "keras-simple": _table("vanilla", "a", _KERAS, is_list=True),
    "keras-gru": _table("gru", "zrn", _KERAS.replace("b_h", "b_x+b_h.T"), is_list=True),
    "keras-gru-reset-before": _table("gru_reset_before", "zrn", _KERAS, is_list=True),
    "keras-lstm": _table("lstm", "ifgo", _KERAS, is_list=True),
}
"""Name -> layout; ``LAYOUTS["haiku-gru"].cell`` is the name of the built-in cell."""


def import_params(theirs: PyTree, layout: str) -> PyTree:
    """The parameters of a built-in cell from those of another library's: gates reordered, matrices transposed, no number changed.

    ``theirs`` is, for

    - torch-rnn, torch-gru, torch-lstm: the ``state_dict()`` of the module, weight_ih_l0 …; several layers become those of ``cells.stack``;
    - torch-rnn-cell, torch-gru-cell, torch-lstm-cell: that of the cell, weight_ih …;
    - flax-simple, flax-gru, flax-lstm, flax-optimized-lstm, flax-mgu: ``variables["params"]`` of the linen cell;
    - nnx-simple, nnx-gru, nnx-lstm, nnx-optimized-lstm: ``nnx.to_pure_dict(nnx.state(cell, nnx.Param))``;
    - equinox-gru, equinox-lstm: ``{name: a for name, a in vars(cell).items() if eqx.is_array(a)}``;
    - haiku-rnn, haiku-gru, haiku-lstm: the params of the core alone, ``{"lstm/linear": {"w": …, "b": …}}``;
    - keras-simple, keras-lstm, keras-gru: ``layer.get_weights()``; a GRU with one bias, ``reset_after=False``, is keras-gru-reset-before.

    Two biases stay apart, b_x beside b_h, also the 1 that Haiku's LSTM adds to its forget gate in code: ``export_params`` gives back every bit.
    The activations are those of the built-in cell (haiku-rnn: ``cells.vanilla(n_in, n, "relu")``).

    Args:
        theirs: as above; arrays of NumPy or JAX, or tensors of torch.
        layout: a name in ``adapters.LAYOUTS``, whose ``.cell`` names the built-in cell.

    Returns:
        As from the cell's ``init_params``; arrays of NumPy where none was JAX's, of the dtype given.

    Raises:
        TypeError: no dict (for keras: no list). ValueError: an unknown layout; names that are missing or too many; an array of another shape.

    Source: the code of torch 2.13, flax 0.12, equinox 0.13, dm-haiku 0.0.16, keras 3.

    >>> import numpy as np
    >>> from jaxrnn import adapters
    >>> theirs = [np.ones((2, 9)), np.ones((3, 9)), np.arange(9.0)]  # gates z, r, h
    >>> adapters.import_params(theirs, "keras-gru")["b_h"].tolist()  # r, z, n
    [3.0, 4.0, 5.0, 0.0, 1.0, 2.0, 6.0, 7.0, 8.0]
    """
    here = _named(layout, isinstance(theirs, list | tuple) and len(theirs) == 3 and np.ndim(theirs[2]) == 1)
    arrays, xp = _arrays(_flat(theirs, here, layout))
    tables = [here.leaves]
    if here.numbered:
        count = sum(bool(re.fullmatch(r"weight_hh_l\d+", name)) for name in arrays)
        tables = [{f"{name}_l{i}": leaf for name, leaf in here.leaves.items()} for i in range(max(count, 1))]
    _require_names(arrays, {name for table in tables for name in table}, layout)
    layers = []
    for table in tables:
        blocks = _read(arrays, table, layout)
        one = xp.ones_like(next(iter(blocks.values()))[:, :1])
        blocks |= {block: value * one for block, value in here.added}
        ours = {name: leaf for name, leaf in _OURS[here.cell].leaves.items() if (here.cell, name) not in _OPTIONAL or blocks.keys() & leaf.blocks()}
        layers.append(_write(blocks, ours, here.cell, layout, xp))
    return layers[0] if len(layers) == 1 else {"layers": tuple(layers)}


def export_params(ours: PyTree, layout: str) -> PyTree:
    """The parameters of another library's cell from those of a built-in one: ``import_params`` backwards.

    Into a module they go by the library's own ways: ``module.load_state_dict({k: torch.from_numpy(np.array(a)) for k, a in theirs.items()})``,
    ``cell.apply({"params": theirs}, …)`` of linen, ``nnx.update(cell, theirs)``, ``eqx.tree_at(lambda c: [getattr(c, k) for k in theirs], cell,
    list(theirs.values()))``, ``transformed.apply(theirs, …)`` of Haiku, ``layer.set_weights(theirs)``.

    Where the other cell has one bias for our two it is their sum: the same function, to rounding.

    Args:
        ours: as from the ``init_params`` of the layout's cell; torch-rnn, torch-gru, torch-lstm also take those of a ``cells.stack`` of them.
        layout: as in ``import_params``.

    Returns:
        As ``theirs`` there; arrays of NumPy where none was JAX's.

    Raises:
        As ``import_params``; ValueError: a bias that the other cell has no place for, as b_h of n in nnx-gru, is not zero.

    >>> import jax
    >>> from jaxrnn import adapters, cells
    >>> theirs = adapters.export_params(cells.gru(2, 3).init_params(jax.random.key(0)), "equinox-gru")
    >>> {name: leaf.shape for name, leaf in theirs.items()}
    {'weight_ih': (9, 2), 'weight_hh': (9, 3), 'bias': (9,), 'bias_n': (3,)}
    """
    if not isinstance(ours, Mapping):
        raise TypeError(f"ours must be a dict, the params of a cell, given {type(ours).__name__}")
    here = _named(layout, "b_x" not in ours)
    layers = ours.get("layers", (ours,))
    if len(layers) > 1 and not here.numbered:
        raise ValueError(f"{layout} is one cell, given are {len(layers)} layers; export each of params['layers']")
    theirs: dict[str, Any] = {}
    for i, layer in enumerate(layers):
        arrays, xp = _arrays(layer)
        table = {name: leaf for name, leaf in _OURS[here.cell].leaves.items() if name in arrays or (here.cell, name) not in _OPTIONAL}
        _require_names(arrays, set(table), f"the cell {here.cell}")
        blocks = _read(arrays, table, f"the cell {here.cell}")
        zero = xp.zeros_like(next(iter(blocks.values()))[:, :1])
        blocks |= {block: blocks.get(block, zero) - value for block, value in here.added}
        built = _write(blocks, here.leaves, here.cell, layout, xp)
        theirs |= {f"{name}_l{i}": array for name, array in built.items()} if here.numbered else built
    return list(theirs.values()) if here.is_list else _nested(theirs)


def _named(layout: str, resets_before: bool) -> Layout:
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; allowed are {', '.join(LAYOUTS)}")
    return LAYOUTS["keras-gru-reset-before" if layout == "keras-gru" and resets_before else layout]


def _flat(theirs: PyTree, here: Layout, layout: str) -> dict[str, Any]:
    """Arrays by name, or module/name."""
    if here.is_list:
        if not isinstance(theirs, list | tuple):
            raise TypeError(f"{layout} is the list of layer.get_weights(), given {type(theirs).__name__}")
        if len(theirs) != len(here.leaves):
            raise ValueError(f"{layout} is {', '.join(here.leaves)}, given are {len(theirs)} arrays; for a layer without bias append one of zeros")
        return dict(zip(here.leaves, theirs, strict=True))
    if not isinstance(theirs, Mapping):
        raise TypeError(f"{layout} is a dict from {', '.join(here.leaves)}, given {type(theirs).__name__}")
    pairs = ((f"{name}/{inner}", leaf) for name, tree in theirs.items() if isinstance(tree, Mapping) for inner, leaf in tree.items())
    return {name: leaf for name, leaf in theirs.items() if not isinstance(leaf, Mapping)} | dict(pairs)


def _nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        module, _, inner = name.rpartition("/")
        (tree.setdefault(module, {}) if module else tree)[inner] = array
    return tree


def _arrays(leaves: Mapping[str, Any]) -> tuple[dict[str, Any], ModuleType]:
    """Leaves as arrays, and the module that computes with them: JAX would round float64 of NumPy's where x64 is off."""
    outside = lambda leaf: np.asarray(leaf.detach().cpu() if hasattr(leaf, "detach") else leaf)
    arrays = {name: leaf if isinstance(leaf, jax.Array) else outside(leaf) for name, leaf in leaves.items()}
    return arrays, jnp if any(isinstance(leaf, jax.Array) for leaf in arrays.values()) else np


def _require_names(arrays: Mapping[str, Any], wanted: set[str], what: str) -> None:
    missing, extra = sorted(wanted - arrays.keys()), sorted(arrays.keys() - wanted)
    if missing or extra:
        said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(extra)} too many"] * bool(extra)
        raise ValueError(
            f"what is given for {what} {' and '.join(said)}; wanted are {', '.join(sorted(wanted))}: take the entries of the cell alone, "
            "and zeros for a bias that it does without"
        )


def _read(arrays: Mapping[str, Any], table: Mapping[str, Leaf], what: str) -> Blocks:
    """The blocks of all leaves, once their shapes agree."""

    def columns(role: str) -> int:
        name, leaf = next((name, leaf) for name, leaf in table.items() if role in leaf.roles)
        shape = arrays[name].shape
        if len(shape) != 2:
            raise ValueError(f"{name} of {what} has shape {shape}; it must be a matrix")
        rows, both = shape[::-1] if leaf.transposed else shape
        n = rows // len(leaf.gates)
        return both if len(leaf.roles) == 1 else n if role == "W_hh" else both - n

    n, n_in = columns("W_hh"), columns("W_xh")
    blocks: Blocks = {}
    for name, leaf in table.items():
        if arrays[name].shape != leaf.shape(n, n_in):
            raise ValueError(
                f"{name} of {what} has shape {arrays[name].shape}; it must be {leaf.shape(n, n_in)} with {n} units and {n_in} inputs, as the weights "
                "say: is it another layout, or the transpose?"
            )
        blocks |= leaf.split(arrays[name], n, n_in)
    return blocks


def _write(blocks: Blocks, table: Mapping[str, Leaf], cell: str, what: str, xp: ModuleType) -> dict[str, Any]:
    """The leaves made of these blocks; a bias without a place is added to its twin, a place without a bias is zero."""
    places = [block for leaf in table.values() for block in leaf.blocks()]
    zero = xp.zeros_like(next(iter(blocks.values()))[:, :1])
    full = {block: blocks.get(block, zero) for block in places}
    for (role, gate), bias in blocks.items():
        if (role, gate) in full:
            continue
        if (cell, gate) in _UNDER_RESET:
            _require_zero(bias, f"{role} of gate {gate}", what)
            continue
        twin = ("b_h" if role == "b_x" else "b_x", gate)
        full[twin] = xp.where(bias == 0, full[twin], full[twin] + bias)  # a + 0 would take the sign of a zero
    return {name: leaf.join(full, xp) for name, leaf in table.items()}


def _require_zero(bias: Any, name: str, what: str) -> None:
    if isinstance(bias, jax.core.Tracer):
        raise ValueError(f"{what} has no place for {name}, and whether it is zero is not known under jit; export outside of it")
    if np.any(np.asarray(bias) != 0):
        raise ValueError(f"{what} has no place for {name}, which is under the reset gate and not zero; set it to zero, or choose another layout")


def _width(role: str, n: int, n_in: int) -> int:
    return {"W_xh": n_in, "W_hh": n}.get(role, 1)
