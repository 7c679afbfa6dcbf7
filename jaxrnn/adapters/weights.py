"""How a file of torch's recurrent weights becomes a built-in cell, without torch.

``read`` tells which arrays there are, ``roles`` what their names say, ``_find`` which of them is meant, ``_fitted`` whether their shapes agree.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import cells
from jaxrnn._archives import Archive, read
from jaxrnn.adapters.protocol import Bound

PyTree = Any
Layer = dict[str, str]  # role -> name of the array

GATES = {"torch-rnn": 1, "torch-gru": 3, "torch-lstm": 4}
_ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_NAME = re.compile(r"(.*)(weight|bias|(?<![a-z])[wb])_(ih|hh|hr)(.*)", re.IGNORECASE | re.DOTALL)
_KEY = re.compile(rf"({'|'.join(_ROLES)})(?:_l(\d+))?")
_SAVE = """Where the model is, save its weights with:
    import numpy as np
    np.savez("weights.npz", **{name: w.cpu().numpy() for name, w in model.state_dict().items()})"""
_FLOATS = tuple(np.dtype(d) for d in (np.float16, jnp.bfloat16, np.float32, np.float64))
_BY_HAND = 'say which array is which with names={"weight_ih": ..., "weight_hh": ..., "bias_ih": ..., "bias_hh": ...}, or "weight_ih_l0" … for layers'


def torch_weights(
    path: str | os.PathLike[str],
    kind: str | None = None,
    *,
    prefix: str = "",
    names: Mapping[str, str] | None = None,
    layer: int | None = None,
    direction: str | None = None,
    activation: str = "tanh",
) -> Bound:
    """A built-in cell with the weights of ``torch.nn.RNN``, ``GRU`` or ``LSTM`` (or their cells) from a file.

    torch-rnn: h_t = φ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh); torch-gru: gates r, z, n, with b_hn inside the reset
    product; torch-lstm: gates i, f, g, o. One layer gives the plain cell, several ``cells.stack`` of them.

    Args:
        path: an ``.npz``, ``.safetensors`` or ``.pt`` file; ``.safetensors`` needs ``pip install "jaxrnn[torch]"``, ``.pt`` needs torch, whose
            weights-only loading alone reads it: nothing is ever unpickled.
        kind: ``torch-rnn``, ``torch-gru`` or ``torch-lstm``; None: what the shape of ``weight_hh`` says, (n, n), (3n, n) or (4n, n).
        prefix: what the wanted names begin with, at their start or after a separator: ``enc`` finds ``enc_w_ih`` and
            ``model.enc.weight_ih_l0``. A name's role is read from ``weight_ih``, ``w_ih``, ``weight_hh``, ``bias_ih``, …
            in it, its layer from ``_l0``, ``_l1``, … or a number at its end, 0 without one.
        names: role -> name of the array, instead of patterns: ``{"weight_ih": "input.kernel", …}``, for several layers
            ``{"weight_ih_l0": …}``. An array that is not named is not read; biases that are not named are zero.
        layer: one layer alone, 0 the lowest; None: all.
        direction: ``forward`` or ``reverse`` half of a bidirectional network; the reverse half reads a sequence from its end, so reverse the
            sequence. Above the lowest layer each half reads both halves below, (h forward, h reverse), so such layers are taken one by one.
            With ``names`` it chooses nothing.
        activation: φ of torch-rnn, ``tanh`` or ``relu``.

    Returns:
        ``Bound``; ``state`` is zero, ``output`` is the top layer's h. Torch's two biases stay apart, ``b_x`` and ``b_h``, so that
        ``adapters.export_params`` gives back the same numbers. Weights keep their floating dtype (the widest, where they differ; half
        precisions become float32); float64 needs ``jax_enable_x64``, as everywhere in JAX.

    Raises:
        FileNotFoundError, ModuleNotFoundError: no such file; the package safetensors, or torch, is missing.
        TypeError: weights that are not real floats.
        ValueError: a file that is damaged, of another kind, with more than arrays in it, or that unpacks to far more than it is; arrays that
            are missing, ambiguous, misshapen or not finite; both directions of a bidirectional layer, or a projection (``proj_size``),
            which no built-in cell has.

    Source: the documentation of ``torch.nn.RNN``, ``torch.nn.GRU``, ``torch.nn.LSTM``, torch 2.

    >>> import tempfile
    >>> import numpy as np
    >>> from jaxrnn import adapters
    >>> draw = np.random.default_rng(0).standard_normal
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/weights.npz", enc_w_ih=draw((12, 2)), enc_w_hh=draw((12, 4)))
    ...     bound = adapters.torch_weights(f"{folder}/weights.npz", prefix="enc")
    >>> bound.state.shape, {name: leaf.shape for name, leaf in bound.params.items()}
    ((4,), {'W_hh': (12, 4), 'W_xh': (12, 2), 'b_h': (12,), 'b_x': (12,)})
    """
    _require_choices(kind, prefix, names, layer, direction, activation)
    return from_archive(open_weights(path), kind, prefix=prefix, names=names, layer=layer, direction=direction, activation=activation)


def open_weights(path: str | os.PathLike[str]) -> Archive:
    """All arrays of a file of weights."""
    return read(path, (".npz", ".safetensors", ".pt", ".pth"), _SAVE)


def from_archive(
    file: Archive,
    kind: str | None,
    *,
    prefix: str = "",
    names: Mapping[str, str] | None = None,
    layer: int | None = None,
    direction: str | None = None,
    activation: str = "tanh",
) -> Bound:
    """As ``torch_weights``, of a file already read."""
    layers = _complete(file, _find(file, prefix, layer, direction) if names is None else _named(file, names))
    kind = kind or _kind(file, layers[0], activation)
    dtype = _common_dtype(file, layers)
    fitted: list[dict[str, np.ndarray]] = []
    for one in layers:
        fitted.append(_fitted(file, one, kind, fitted[-1]["weight_hh"].shape[1] if fitted else None, dtype))
    built = [_cell(kind, activation, weights) for weights in fitted]
    cell, params = built[0] if len(built) == 1 else (cells.stack(*(c for c, _ in built)), {"layers": tuple(p for _, p in built)})
    params = jax.tree.map(jnp.asarray, params)
    return Bound(cell.step, params, cell.init_state(params), cell.output)


def _require_choices(
    kind: str | None, prefix: str, names: Mapping[str, str] | None, layer: int | None, direction: str | None, activation: str
) -> None:
    if kind is not None and kind not in GATES:
        raise ValueError(f"unknown kind {kind!r}; allowed are {', '.join(GATES)}")
    if activation not in ("tanh", "relu"):
        raise ValueError(f"unknown activation {activation!r}; torch-rnn has tanh or relu")
    if activation != "tanh" and kind not in (None, "torch-rnn"):
        raise ValueError(f"activation={activation!r} applies to torch-rnn only; the gates of {kind} are fixed: leave it out")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, given {prefix!r}")
    if names is not None and not (isinstance(names, Mapping) and all(isinstance(v, str) for pair in names.items() for v in pair)):
        raise TypeError(f"names must map roles to names of arrays, given {names!r}; {_BY_HAND}")
    if direction not in (None, "forward", "reverse"):
        raise ValueError(f"unknown direction {direction!r}; allowed are forward and reverse")
    if layer is not None and (not isinstance(layer, int) or layer < 0):
        raise ValueError(f"layer must be a number from 0, the lowest, given {layer!r}")
    if names is not None and (prefix or layer is not None):
        raise ValueError("names was given with prefix or layer; names are whole names of the wanted arrays: leave the others out")


class Role(NamedTuple):
    """What the name of an array says."""

    name: str
    module: str  # what stands before
    layer: int
    reverse: bool
    role: str  # of ``_ROLES``, or weight_hr of a projection


def roles(file: Archive) -> list[Role]:
    """Every array whose name says that it is of a recurrence."""
    found = []
    for match in filter(None, map(_NAME.fullmatch, file.arrays)):
        number = re.search(r"_l(\d+)", match[4], re.IGNORECASE) or re.search(r"(\d+)$", match[4])
        role = ("weight_" if match[2][0] in "wW" else "bias_") + match[3].lower()
        found.append(Role(match[0], match[1], int(number[1]) if number else 0, "reverse" in match[4].lower(), role))
    return found


def under(file: Archive, prefix: str) -> list[Role]:
    """Those whose module begins with a prefix, at its start or after a separator."""
    begins = re.compile(rf"(?:^|.*[^A-Za-z0-9]){re.escape(prefix)}", re.DOTALL)
    return [role for role in roles(file) if begins.match(role.module)]


def _find(file: Archive, prefix: str, layer: int | None, direction: str | None) -> dict[tuple[int, str], str]:
    """(layer, role) -> name of the one array whose name says so."""
    matches = under(file, prefix)
    where = f" under prefix {prefix!r}" if prefix else ""
    if not matches:
        wanted = "names with weight_ih (or w_ih) and weight_hh (or w_hh) in them"
        raise ValueError(f"{file.path} has no recurrent weights{where}: wanted are {wanted}, it holds {file.listed()}; {_BY_HAND}")
    for match in matches:
        if match.role.endswith("hr"):
            raise ValueError(f"{file.path} holds a projected recurrence ({match.name!r}){where}; no built-in cell has proj_size. {_otherwise()}")
    if len({match.module for match in matches}) > 1:
        raise ValueError(_ambiguous(file, [match.name for match in matches], f"more than one recurrence{where}"))
    chosen = _of_direction(file, matches, layer, direction, where)
    numbers = sorted({match.layer for match in chosen})
    if layer is not None:
        chosen = [match._replace(layer=0) for match in chosen if match.layer == layer]
        if not chosen:
            raise ValueError(f"{file.path} has no layer {layer}{where}; it has {', '.join(map(str, numbers))}")
    found: dict[tuple[int, str], list[str]] = {}
    for match in chosen:
        found.setdefault((match.layer, match.role), []).append(match.name)
    for (number, role), same in found.items():
        if len(same) > 1:
            raise ValueError(_ambiguous(file, same, f"more than one {role} of layer {number if layer is None else layer}{where}"))
    return {key: same[0] for key, same in found.items()}


def _of_direction(file: Archive, matches: list[Role], layer: int | None, direction: str | None, where: str) -> list[Role]:
    """The half of a bidirectional recurrence that is wanted; all of another."""
    backward = [match for match in matches if match.reverse]
    if not backward:
        if direction == "reverse":
            raise ValueError(f"{file.path} has no reverse direction{where}; leave direction out")
        return matches
    if direction is None:
        raise ValueError(
            f"{file.path} holds a bidirectional recurrence ({backward[0].name!r}){where}: its backward half reads the future, which no step does. "
            f"Take one half with direction='forward' or 'reverse'. {_otherwise()}"
        )
    if layer is None and any(match.layer for match in matches):
        raise ValueError(
            f"{file.path} holds a bidirectional recurrence of several layers{where}: those above the lowest read both halves below. Take them one by "
            "one, with layer=0, 1, …"
        )
    return [match for match in matches if match.reverse == (direction == "reverse")]


def _kind(file: Archive, layer: Layer, activation: str) -> str:
    """What the shape of weight_hh says that it is."""
    name = layer["weight_hh"]
    shape = file.arrays[name].shape
    found = next((kind for kind, gates in GATES.items() if len(shape) == 2 and shape[1] and shape[0] == gates * shape[1]), None)
    if found is None:
        turned = len(shape) == 2 and any(shape[1] == gates * shape[0] for gates in GATES.values())
        why = "it is laid out the other way round: save its transpose" if turned else "it is not of torch's RNN, GRU or LSTM"
        raise ValueError(f"array {name!r} of {file.path} has shape {shape}; weight_hh must be (n, n), (3 × n, n) or (4 × n, n): {why}")
    if activation != "tanh" and found != "torch-rnn":
        raise ValueError(f"activation={activation!r} applies to torch-rnn only; {file.path} holds a {found}: leave it out")
    return found


def _otherwise() -> str:
    return f"To take one forward layer alone, {_BY_HAND}"


def _ambiguous(file: Archive, candidates: list[str], what: str) -> str:
    return f"{file.path} holds {what}: {file.listed(sorted(candidates))}; choose with a prefix that only the wanted names begin with, or {_BY_HAND}"


def _named(file: Archive, names: Mapping[str, str]) -> dict[tuple[int, str], str]:
    """(layer, role) -> name of the array, as the caller says."""
    found: dict[tuple[int, str], str] = {}
    for key, name in names.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError(f"unknown role {key!r} in names; allowed are {', '.join(_ROLES)}, each with _l0, _l1, … for several layers")
        place = (int(match[2] or 0), match[1])
        if place in found:
            raise ValueError(f"names gives {match[1]} of layer {place[0]} twice, {found[place]!r} and {name!r}; keep one")
        if name not in file.arrays:
            raise ValueError(f"names gives {name!r} for {key}, which {file.path} does not hold; it holds {file.listed()}")
        found[place] = name
    return found


def _complete(file: Archive, found: dict[tuple[int, str], str]) -> list[Layer]:
    """The layers from the lowest; raises where one or its weights are missing."""
    count = 1 + max((layer for layer, _ in found), default=0)
    layers: list[Layer] = [{} for _ in range(min(count, len(found) + 1))]  # a number far too high leaves a gap among the first
    for (number, role), name in found.items():
        if number < len(layers):
            layers[number][role] = name
    wanted = _ROLES if any(role in _ROLES[2:] for _, role in found) else _ROLES[:2]
    for i, layer in enumerate(layers):
        missing = [role for role in wanted if role not in layer]
        if missing:
            have = file.listed(list(layer.values())) or "none of its arrays"
            numbered = f" (numbered up to {count - 1}, from 0)" if count > 1 else ""
            biases = "" if set(missing) & set(_ROLES[:2]) else "; biases come all or none"
            raise ValueError(
                f"{file.path} lacks {' and '.join(missing)} of layer {i}{numbered}; found for it: {have}{biases}. All it holds: {file.listed()}. "
                f"If they are there, {_BY_HAND}"
            )
    return layers


def _common_dtype(file: Archive, layers: list[Layer]) -> np.dtype:
    """The widest of the arrays' floating dtypes, at least float32."""
    chosen = {name: file.arrays[name].dtype for layer in layers for name in layer.values()}
    for name, dtype in chosen.items():
        if dtype.newbyteorder("=") not in _FLOATS:
            hint = " (which is how NumPy stores bfloat16)" if dtype.kind == "V" else ""
            allowed = ", ".join(map(str, _FLOATS))
            raise TypeError(f"array {name!r} of {file.path} has dtype {dtype}{hint}; allowed are {allowed}: save it as float32")
    return np.dtype(np.float64 if any(dtype.itemsize == 8 for dtype in chosen.values()) else np.float32)


def _fitted(file: Archive, layer: Layer, kind: str, below: int | None, dtype: np.dtype) -> dict[str, np.ndarray]:
    """The arrays of one layer by role, biases included; raises where shapes or numbers are wrong. ``below``: n of the layer below."""
    recurrent = file.arrays[layer["weight_hh"]].shape
    if len(recurrent) != 2 or 0 in recurrent or recurrent[0] != GATES[kind] * recurrent[1]:
        raise ValueError(f"array {layer['weight_hh']!r} of {file.path} {_misfit(recurrent, kind)}")
    rows, n = recurrent
    given = file.arrays[layer["weight_ih"]].shape
    width = below if below is not None else given[1] if len(given) == 2 else "n_in"
    wanted = {"weight_ih": (rows, width), "weight_hh": recurrent, "bias_ih": (rows,), "bias_hh": (rows,)}
    for role, name in layer.items():
        if file.arrays[name].shape != wanted[role]:
            why = f"{layer['weight_hh']!r} {recurrent} makes {GATES[kind]} × {n} rows" + (f", the layer below {below} columns" if below else "")
            raise ValueError(f"array {name!r} of {file.path} has shape {file.arrays[name].shape}; {role} of {kind} must be {wanted[role]}: {why}")
    weights = {role: file.arrays[name].astype(dtype) for role, name in layer.items()}
    for role, values in weights.items():
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise ValueError(f"array {layer[role]!r} of {file.path} holds {values[at]} at index {at}; weights must be finite: save them anew")
    return {role: weights.get(role, np.zeros(rows, dtype)) for role in _ROLES}


def _misfit(shape: tuple[int, ...], kind: str) -> str:
    """Why recurrent weights of that shape are not those of the kind, and of which kind they may be."""
    said = f"has shape {shape}; weight_hh of {kind} must be ({GATES[kind]} × n, n)"
    if len(shape) != 2 or 0 in shape:
        return said
    rows, n = shape
    other = next((name for name, gates in GATES.items() if rows == gates * n), None)
    if other:
        return f"{said}: it has {rows} rows = {GATES[other]} × {n}, {kind} needs {GATES[kind]} × {n} = {GATES[kind] * n}. Is it a {other}?"
    if n in [gates * rows for gates in GATES.values()]:
        return f"{said}: it is laid out the other way round. Save its transpose"
    return f"{said}: {rows} is not {GATES[kind]} × {n}"


def _cell(kind: str, activation: str, weights: dict[str, np.ndarray]) -> tuple[cells.Cell, PyTree]:
    """A built-in cell and its params, the two biases apart."""
    n_in, n = weights["weight_ih"].shape[1], weights["weight_hh"].shape[1]
    params = {"W_hh": weights["weight_hh"], "W_xh": weights["weight_ih"], "b_x": weights["bias_ih"], "b_h": weights["bias_hh"]}
    if kind == "torch-rnn":
        return cells.vanilla(n_in, n, activation), params
    return (cells.gru if kind == "torch-gru" else cells.lstm)(n_in, n), params
