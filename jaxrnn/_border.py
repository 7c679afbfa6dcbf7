"""Is what was given a step, a state and a sequence? Checked once, at trace time, with errors that say what to do."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import _tree

P = ParamSpec("P")
R = TypeVar("R")
PyTree = Any


def compiled(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate an analysis: jitted once per ``step`` and shapes, traced at the highest matmul precision.

    The checks of its arguments live in its body, so they cost nothing after the first call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def traced(*args: P.args, **kwargs: P.kwargs) -> R:
            # Half-precision passes inside a matrix product would be amplified over time by the product of Jacobians.
            with jax.default_matmul_precision("highest"):
                return function(*args, **kwargs)

        jitted = jax.jit(traced, static_argnames=static)
        names = list(inspect.signature(function).parameters)
        functions = [(name, names.index(name)) for name in ("step", "loss") if name in static]

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, i in functions:
                if name in kwargs or i < len(args):
                    require_function(name, kwargs[name] if name in kwargs else args[i])
            return jitted(*args, **kwargs)

        call.jitted = jitted  # type: ignore[attr-defined]  # the retrace tests read its cache size
        return call

    return decorate


def admit(step: Callable, params: PyTree, state: PyTree, xs: PyTree, length: int | None) -> tuple[PyTree, int]:
    """The state as strongly typed arrays and the number of steps T; raises where the protocol is broken."""
    require_function("step", step)
    _tree.layout(state)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), state)
    length = sequence_length(xs, length)
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    after = shape_of("step", step, params, state, x)
    require_same_state(state, after)
    return state, length


def shape_of(name: str, function: Callable, params: PyTree, *arguments: PyTree) -> Any:
    """What a step or a loss returns, abstractly; its own errors say for which arguments they arose."""
    try:
        return jax.eval_shape(function, params, *arguments)
    except Exception as error:
        given = "; ".join(f"{what} {_avals(value)}" for what, value in zip(("state", "x", "target"), arguments, strict=False))
        context = f"{name} could not take {given}"
        if type(error) in (TypeError, ValueError):  # subclasses may need other arguments
            raise type(error)(f"{context}: {error}") from error
        error.add_note(context)
        raise


def targets_length(xs: PyTree, targets: PyTree) -> int | None:
    """T of an autonomous map, read off its targets; None where xs tells it."""
    return None if jax.tree.leaves(xs) else next((leaf.shape[0] for leaf in jax.tree.leaves(targets) if jnp.ndim(leaf)), None)


def require_loss(loss: Callable, params: PyTree, state: PyTree, xs: PyTree, targets: PyTree, length: int) -> None:
    """Raise unless targets run over the T steps and the loss of one step is a real scalar."""
    for name, leaf in _tree.named_leaves(targets).items():
        if jnp.ndim(leaf) < 1 or leaf.shape[0] != length:
            raise ValueError(f"leaf {name!r} of targets has shape {jnp.shape(leaf)}; axis 0 must be the {length} steps of xs")
    first = lambda tree: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)
    out = shape_of("loss", loss, params, state, first(xs), first(targets))
    if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"loss(params, state, x, target) returned {out}; it must return one real number (reduce over outputs)")


def require_function(name: str, given: Any) -> None:
    """Raise TypeError unless a step or a loss is a function that can be compiled once."""
    forms = {"step": "step(params, state, x) -> state", "loss": "loss(params, state, x, target) -> scalar"}
    if not callable(given):
        raise TypeError(f"{name} must be a function {forms[name]}, given {type(given).__name__}")
    try:
        hash(given)
    except TypeError as error:
        raise TypeError(
            f"{name} of type {type(given).__name__} is not hashable, so it cannot be compiled once; "
            "pass a plain function that takes its arrays through params"
        ) from error


def require_jacobians(jacobians: Any) -> jax.Array:
    """The Jacobians as a real array (T, n, n); raises otherwise."""
    jacobians = jnp.asarray(jacobians)
    if jacobians.ndim != 3 or jacobians.shape[1] != jacobians.shape[2] or not jacobians.size:
        raise ValueError(f"jacobians have shape {jacobians.shape}; allowed is (T, n, n) with T, n at least 1")
    if not jnp.issubdtype(jacobians.dtype, jnp.floating):
        raise TypeError(f"jacobians have dtype {jacobians.dtype}; they must be real floats (split complex states into re, im)")
    return jacobians


def sequence_length(xs: PyTree, length: int | None) -> int:
    """T, from ``xs`` (time is axis 0 of every leaf) or ``length``, at least 1."""
    if length is not None and (isinstance(length, bool) or not isinstance(length, (int, np.integer))):
        raise TypeError(f"length must be an int, given {length!r} of type {type(length).__name__}")
    lengths = {}
    for name, leaf in _tree.named_leaves(xs).items():
        if not np.ndim(leaf):
            raise ValueError(f"leaf {name!r} of xs is a scalar; time must be axis 0 of every leaf of xs")
        lengths[name] = np.shape(leaf)[0]
    if not lengths and length is None:
        raise ValueError("xs is None and no length was given; pass length=T to run an autonomous map for T steps")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the leaves of xs differ in length: {lengths}; axis 0 of each must be the same T")
    steps = int(next(iter(lengths.values()))) if lengths else int(length)  # type: ignore[arg-type]
    if length is not None and length != steps:
        raise ValueError(f"length={length} but xs has {steps} steps; cut xs, or leave length out")
    if steps < 1:
        raise ValueError(f"the sequence has {steps} steps; at least 1 is needed")
    return steps


def require_same_state(before: PyTree, after: PyTree) -> None:
    """Raise TypeError unless a step returned a state of the structure, shapes and dtypes that it was given."""
    was: Any = jax.tree.structure(before)
    became: Any = jax.tree.structure(after)
    if was != became:
        raise TypeError(f"step changed the structure of the state from {was} to {became}; it must return a state like the one it is given")
    old, new = _tree.named_leaves(before), _tree.named_leaves(after)
    for name in old:
        given, found = _aval(old[name]), _aval(new[name])
        if given != found:
            raise TypeError(
                f"step changed leaf {name!r} of the state from {given} to {found}; it must keep shape and dtype "
                "(cast params, state and xs to one dtype)"
            )


def require_at(name: str, value: int, low: int, high: int | None, meaning: str) -> None:
    """Raise unless an integer option lies in [low, high]; ``meaning`` says what bounds it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, given {value!r} of type {type(value).__name__}")
    if value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name}={value} must be {allowed}, {meaning}")


def _avals(tree: PyTree) -> str:
    return ", ".join(_aval(leaf) for leaf in jax.tree.leaves(tree)) or "None"


def _aval(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"
