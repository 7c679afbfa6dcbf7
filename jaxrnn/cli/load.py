"""Options to a model and its sequences, every array in the wanted precision."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import adapters, cells, tasks
from jaxrnn.cli.options import FILES, Diagnose, unknown
from jaxrnn.tasks import Batch, Task

PyTree = Any
_LENGTH, _CHARACTERS = 100, 128  # steps of a synthetic task, and of text
_APART = 0.2  # share of stored sequences that is held out from training
_FIELDS = ("step", "params", "state", "xs", "targets", "loss", "lengths")


class Loaded(NamedTuple):
    """What is diagnosed, and on what."""

    label: str
    step: Callable
    params: PyTree
    state: PyTree
    loss: Callable | None
    batch: Batch
    output: Callable | None  # what is scored after training; None: nothing is
    task: Task | None  # None for the user's own model
    sample: Callable[[jax.Array, int], Batch]  # sequences to train on


def trains(config: Diagnose) -> bool:
    """Whether anything is to be trained, so that some sequences are held out."""
    return bool(config.train_steps or config.try_remedies)


def load(config: Diagnose) -> Loaded:
    """The model and the sequences that the options name."""
    if config.from_ is not None:
        return _own(config)
    task, _ = named_task("--data", config.data, config.length, held_out=_APART if trains(config) else 0.0, vocabulary=config.vocabulary)
    key = jax.random.key(config.seed)
    if config.weights is not None:
        bound = adapters.torch_weights(
            config.weights, config.kind, prefix=config.prefix, names=_names(config.names), layer=config.layer, direction=config.direction,
            activation=config.activation,
        )  # fmt: skip
        params, state = cast(bound.params, config.precision), cast(bound.state, config.precision)
        first = params["layers"][0] if "layers" in params else params
        if first["W_xh"].shape[1] != task.n_in:
            raise ValueError(f"--weights {config.weights} take {first['W_xh'].shape[1]} numbers a step; --data {config.data} gives {task.n_in}")
        chosen = [config.kind or "", config.prefix, "" if config.layer is None else f"layer {config.layer}", config.direction or ""]
        step, loss, output, label = bound.step, None, None, " ".join(filter(None, ["weights", *chosen, "of", config.weights.name]))
    else:
        cell = _cell(config, task)
        params = cast(cell.init_params(key, **({} if config.gain is None else {"gain": config.gain})), config.precision)
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
            raise ValueError(f"--gain {config.gain} makes weights that are not finite in {config.precision}; choose a smaller one")
        step, state, output = cell.step, cell.init_state(params), cell.output
        loss = None if task.loss is None else cells.readout_loss(cell, task.loss)
        label = f"{config.cell}, {config.layers} × {config.hidden} units"
    if trains(config) and task.sequences is not None and config.batch > task.sequences:
        raise ValueError(f"--batch {config.batch} must lie in [1, {task.sequences}], the sequences to train on: a fifth of all are held out")
    batch = task.held_out(jax.random.fold_in(key, 1), _sequences(config, task.held_out_sequences))
    if loss is None:
        batch = batch._replace(targets=None)
    if config.direction == "reverse":
        batch = batch._replace(xs=_reversed(batch.xs, batch.lengths))
    return Loaded(f"{label}, {config.data}", step, params, state, loss, cast(batch, config.precision), output, task, task.sample)


def cast(tree: PyTree, precision: str) -> PyTree:
    """Floating and complex leaves in the given precision, others as they are."""
    complex_type = {"float32": jnp.complex64, "float64": jnp.complex128}[precision]

    def one(leaf: Any) -> Any:
        kind = jnp.result_type(leaf)
        if jnp.issubdtype(kind, jnp.complexfloating):
            return jnp.asarray(leaf, complex_type)
        return jnp.asarray(leaf, precision) if jnp.issubdtype(kind, jnp.floating) else leaf

    return jax.tree.map(one, tree)


def _cell(config: Diagnose, task: Task) -> cells.Cell:
    if config.cell not in cells.REGISTRY:
        raise ValueError(f"--cell {config.cell} is unknown; allowed are {', '.join(sorted(cells.REGISTRY))}")
    make = cells.REGISTRY[config.cell]
    if config.init is not None and "init" not in inspect.signature(make).parameters:
        raise ValueError(f"--init {config.init}: --cell {config.cell} starts in one way only; leave --init out")
    choices = {} if config.init is None else {"init": config.init}
    sizes = [(config.hidden if i else task.n_in, config.hidden) for i in range(config.layers)]
    layers = [make(n_in, n, **choices) for n_in, n in sizes]
    if config.gain is not None and "gain" not in inspect.signature(layers[0].init_params).parameters:
        raise ValueError(f"--gain {config.gain}: --cell {config.cell} has no recurrent weights to scale; leave --gain out")
    cell = layers[0] if len(layers) == 1 else cells.stack(*layers)
    return cells.with_readout(cell, task.n_out) if task.loss is not None else cell


def named_task(option: str, given: str, length: int | None, *, held_out: float, vocabulary: str | None = None) -> tuple[Task, int]:
    """The task that an option names and its number of steps; without a length a synthetic one has 100, text 128, what is stored all."""
    kind, _, path = given.partition(":")
    if kind in FILES and path:
        if not Path(path).is_file():
            raise ValueError(f"{option} {given}: there is no file {path}")
        if kind != "text" and Path(path).suffix != f".{kind}":
            raise ValueError(f"{option} {given}: the file does not end in .{kind}; use npy:FILE.npy or npz:FILE.npz")
        task = tasks.text(path, length or _CHARACTERS, vocabulary, held_out) if kind == "text" else tasks.arrays(path, length, held_out)
        if held_out and task.loss is None:
            raise ValueError(f"{option} {given} holds no targets, and to train needs some; save an npz with xs and targets")
    elif given not in tasks.REGISTRY:
        allowed = f"allowed are {', '.join(sorted(tasks.REGISTRY))}, {', '.join(f'{k}:FILE' for k in FILES)}"
        raise ValueError(f"{option}: {unknown('task', given, tasks.REGISTRY, allowed)}")
    elif "held_out" in inspect.signature(tasks.REGISTRY[given]).parameters:
        task = tasks.REGISTRY[given](length, held_out)
    else:
        task = tasks.REGISTRY[given](length or _LENGTH)
    return task, jax.tree.leaves(task.sample(jax.random.key(0), 1).xs)[0].shape[1]


def _sequences(config: Diagnose, available: int | None) -> int:
    if config.sequences is not None and available is not None and config.sequences > available:
        there = "held out from training, a fifth of all" if trains(config) and config.from_ is None else "there are"
        raise ValueError(f"--sequences {config.sequences} must lie in [1, {available}], the sequences {there}")
    wanted = config.sequences or 32
    return wanted if available is None else min(wanted, available)


def _reversed(xs: PyTree, lengths: jax.Array | None) -> PyTree:
    """Sequences from their last step to their first; what pads them stays behind."""
    steps = jax.tree.leaves(xs)[0].shape[1]
    ends = jnp.full(len(jax.tree.leaves(xs)[0]), steps) if lengths is None else jnp.asarray(lengths)
    at = jnp.arange(steps)[None]
    order = jnp.where(at < ends[:, None], ends[:, None] - 1 - at, at)
    return jax.tree.map(lambda leaf: jax.vmap(lambda one, places: one[places])(leaf, order), xs)


def _names(pairs: tuple[str, ...]) -> dict[str, str] | None:
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"--names {pair} must be ROLE=NAME, such as weight_ih=encoder.weight_ih_l0")
    names = dict(pair.split("=", 1) for pair in pairs)
    if len(names) < len(pairs):
        raise ValueError(f"--names {' '.join(pairs)} gives a role twice; each role has one array")
    return names or None


def _own(config: Diagnose) -> Loaded:
    """The user's model, from the function that --from names; the current folder is searched first."""
    place = str(config.from_)
    module_name, _, name = place.partition(":")
    if not module_name or not name:
        raise ValueError(f"--from {place} must be package.module:function")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"--from {place}: importing {module_name} failed with {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"--from {place}: {module_name} has no function {name!r}")
    try:
        given = function()
    except (Exception, SystemExit) as error:
        raise ValueError(f"--from {place}: {name}() raised {type(error).__name__}: {error}") from error
    parts = dict(zip(_FIELDS, given, strict=False)) if isinstance(given, tuple) and len(given) in (4, 6) else given
    if not isinstance(parts, Mapping) or not set(_FIELDS[:4]) <= set(parts) <= set(_FIELDS):
        what = f"a dictionary of {sorted(map(str, parts))}" if isinstance(parts, Mapping) else f"a {type(given).__name__}"
        size = f" of {len(given)}" if isinstance(given, tuple) else ""
        raise ValueError(
            f"--from {place}: {name}() returned {what}{size}; allowed are (step, params, state, xs), (step, params, state, xs, targets, loss), "
            "or a dictionary of these, optionally with lengths"
        )
    parts = {field: parts.get(field) for field in _FIELDS}
    if trains(config) and parts["loss"] is None:
        raise ValueError(f"to train needs targets and loss, which {name}() does not return")
    return _batched(config, place, parts)


def _batched(config: Diagnose, place: str, parts: dict[str, Any]) -> Loaded:
    """The user's model with as many sequences and steps as asked for."""
    for name in ("xs", "targets"):
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(parts[name])]
        if any(len(shape) < 2 for shape in shapes) or (name == "xs" and not shapes):
            raise ValueError(f"--from {place}: the leaves of {name} have the shapes {shapes}; axes 0 and 1 of each must be sequences and time")
    count, steps = jnp.shape(jax.tree.leaves(parts["xs"])[0])[:2]
    if config.length is not None and config.length > steps:
        raise ValueError(f"--length {config.length} must lie in [1, {steps}], the steps of the sequences")
    chosen = slice(0, _sequences(config, count))
    cut = lambda tree: jax.tree.map(lambda leaf: leaf[chosen, : config.length], tree)
    lengths = parts["lengths"] if parts["lengths"] is None else jnp.minimum(jnp.asarray(parts["lengths"])[chosen], config.length or steps)
    batch = cast(Batch(cut(parts["xs"]), cut(parts["targets"]), lengths), config.precision)

    def sample(key: jax.Array, size: int) -> Batch:
        at = jax.random.randint(key, (size,), 0, len(jax.tree.leaves(batch.xs)[0]))
        return jax.tree.map(lambda leaf: leaf[at], batch)

    params, state = cast(parts["params"], config.precision), cast(parts["state"], config.precision)
    if callable(parts["step"]):
        try:  # once, outside any analysis: what it raises is the user's to see
            jax.eval_shape(parts["step"], params, state, jax.tree.map(lambda leaf: leaf[0, 0], batch.xs))
        except Exception as error:
            raise ValueError(f"--from {place}: step(params, state, x) raised {type(error).__name__}: {error}") from error
    return Loaded(place, parts["step"], params, state, parts["loss"], batch, None, None, sample)
