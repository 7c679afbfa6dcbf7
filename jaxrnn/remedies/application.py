"""A remedy carried out: the setup of a training before it, and after."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxrnn import cells, initializers
from jaxrnn._border import require_at
from jaxrnn._tree import layout, named_leaves
from jaxrnn.remedies.catalogue import executable, find
from jaxrnn.remedies.clipping import clip_by_norm
from jaxrnn.remedies.flossing import FlossFirst
from jaxrnn.remedies.forcing import Forced, FromReadout, FromTargets, Undriven, forcing_interval, forcing_weights
from jaxrnn.remedies.penalties import Flossing, Omega, Orthogonality, Penalty, Together
from jaxrnn.remedies.setups import Built, Replaced, Setup, Start, gate_bias, matches, rebuilt


class NotApplicable(ValueError):
    """A remedy does not fit this setup; the message says why."""


def apply(name: str, setup: Setup, **knobs: Any) -> Setup:
    """The setup with a remedy; the setup that was given stays as it is.

    Remedies that make another cell come first, those that change how its weights start afterwards.

    Args:
        name: key in ``remedies.CATALOGUE``.
        setup: from ``remedies.setup``, or somebody's own.
        knobs: as the catalogue lists them under ``knobs``.

    Returns:
        ``Setup``.

    Raises:
        NotApplicable: a ValueError: the remedy does not fit this setup, for the reason that is given. ValueError: an unknown name, knob or value.

    >>> from jaxrnn import remedies, tasks
    >>> made = remedies.setup("vanilla", tasks.adding(20), 8, length=20)
    >>> remedies.apply("clipping", made, threshold=0.5).clip_norm
    0.5
    >>> remedies.apply("gate-bias", made)
    Traceback (most recent call last):
    jaxrnn.remedies.application.NotApplicable: gate-bias: vanilla has no gate that keeps; try gated-cell
    """
    remedy = find(name)
    if not executable(name):
        raise NotApplicable(f"{name}: this is advice, and nothing that can be carried out on a setup")
    if set(knobs) - set(remedy.knobs):
        raise ValueError(f"{name} has no knob {', '.join(sorted(set(knobs) - set(remedy.knobs)))}; there are {', '.join(remedy.knobs)}")
    try:
        return _ACTIONS[name](setup, **({knob: default for knob, (default, _) in remedy.knobs.items()} | knobs))
    except NotApplicable as error:
        raise NotApplicable(f"{name}: {error}") from None


def _own(setup: Setup) -> Built:
    if setup.built is None:
        raise NotApplicable("it makes another of jaxrnn's own cells, and this model brought its own step")
    return setup.built


def _remade(setup: Setup, **changes: Any) -> Setup:
    built = _own(setup)
    if not isinstance(setup.init_params, Start) or isinstance(setup.step, Forced):
        raise NotApplicable("it makes another cell, which would undo a remedy applied before; apply this one first")
    return rebuilt(setup, built._replace(**changes))


def _exchanged(setup: Setup, cell: str, **scales: Any) -> Setup:
    """Another kind of cell, which starts at its own defaults."""
    built = _own(setup)
    if cell == built.cell:
        raise NotApplicable(f"the cell is {cell} already")
    return _remade(setup, cell=cell, choices=(), scales=tuple(sorted(scales.items())))


def _replaced(setup: Setup, names: tuple[str, ...], change: Callable[[Array, str, Array], Array], *, square: bool = False) -> Setup:
    """``init_params`` after which the leaves of those names are changed; each must be there and, if asked, made of square blocks."""
    names = (names,) if isinstance(names, str) else tuple(names)
    there = named_leaves(jax.eval_shape(setup.init_params, jax.random.key(0)))
    chosen = {name: leaf for name, leaf in there.items() if matches(name, names)}
    if not chosen:
        raise NotApplicable(f"it needs a leaf {' or '.join(names)} among params, which hold {', '.join(there)}; name it with the knob leaves")
    for name, leaf in chosen.items():
        if square and (len(leaf.shape) != 2 or leaf.shape[0] % leaf.shape[1]):
            raise NotApplicable(f"leaf {name!r} has shape {leaf.shape}; it needs (n, n), or gates (g·n, n) stacked along axis 0")
    return setup._replace(init_params=Replaced(setup.init_params, names, change))


def _recurrent(setup: Setup, leaves: tuple[str, ...], initializer: Callable[..., Array]) -> Setup:
    """Every square block drawn anew by ``initializer(key, n, n)``."""

    def change(key: Array, name: str, leaf: Array) -> Array:
        n = leaf.shape[1]
        blocks = [initializer(k, n, n) for k in jax.random.split(key, leaf.shape[0] // n)]
        return jnp.concatenate(blocks).astype(leaf.dtype)

    return _replaced(setup, leaves, change, square=True)


def _initialised(initializer: Callable[..., Array]) -> Callable[..., Setup]:
    return lambda setup, gain, leaves: _recurrent(setup, leaves, functools.partial(initializer, gain=gain))


def _scaled(setup: Setup, factor: float, leaves: tuple[str, ...]) -> Setup:
    return _replaced(setup, leaves, lambda key, name, leaf: leaf * jnp.asarray(factor, leaf.dtype))


def _identity(setup: Setup, gain: float, activation: str | None, leaves: tuple[str, ...]) -> Setup:
    if setup.built is not None and setup.built.cell == "vanilla" and activation is not None:
        setup = _remade(setup, choices=tuple(sorted({**dict(setup.built.choices), "activation": activation}.items())))
    return _initialised(initializers.identity)(setup, gain, leaves)


def _critical(setup: Setup, bias_sd: float, input_sd: float, activation: str | None, leaves: tuple[str, ...], biases: tuple[str, ...]) -> Setup:
    if setup.built is not None and setup.built.cell != "vanilla":
        raise NotApplicable(f"the critical gain is known for h_t = φ(W h + …), not for {setup.built.cell}")
    phi = activation or (dict(setup.built.choices).get("activation", "tanh") if setup.built else "tanh")
    if phi == "sigmoid":
        raise NotApplicable("the sigmoid, whose mean is not 0, has no critical gain; choose tanh, erf, relu or identity")
    initializer = functools.partial(initializers.critical, input_sd=input_sd, bias_sd=bias_sd, activation=phi)
    setup = _recurrent(setup, leaves, initializer)
    return setup if not bias_sd else _replaced(setup, biases, lambda key, name, leaf: bias_sd * jax.random.normal(key, leaf.shape, leaf.dtype))


def _kept(setup: Setup) -> tuple[Built, str]:
    if setup.built is None:
        raise NotApplicable("it needs one of jaxrnn's own cells with gates; this model brought its own step, so set the bias in its init_params")
    name = gate_bias(setup.built)
    if name is None:
        raise NotApplicable(f"{setup.built.cell} has no gate that keeps; try gated-cell")
    return setup.built, name


def _gate_bias(setup: Setup, bias: float | None) -> Setup:
    built, name = _kept(setup)
    keeping = math.log(max(built.length, 2)) if bias is None else bias
    rest = {scale: value for scale, value in built.scales if scale not in (name, "chrono")}
    return _remade(setup, scales=tuple(sorted((rest | {"keep": keeping}).items())))


def _chrono(setup: Setup, horizon: float | None) -> Setup:
    built, name = _kept(setup)
    horizon = float(built.length if horizon is None else horizon)
    if horizon <= 2:
        raise NotApplicable(f"horizon={horizon} must be above 2 steps: time scales are spread from 2 to it")
    rest = {scale: value for scale, value in built.scales if scale not in (name, "keep")}
    return _remade(setup, scales=tuple(sorted((rest | {"chrono": horizon}).items())))


def _living(setup: Setup, bias: float, leaves: tuple[str, ...]) -> Setup:
    phi = dict(setup.built.choices).get("activation", "tanh") if setup.built else "relu"
    if phi not in ("relu", "modrelu"):
        raise NotApplicable(f"units of {setup.built.cell} with {phi} have a slope that is never exactly zero")  # type: ignore[union-attr]
    return _replaced(setup, leaves, lambda key, name, leaf: leaf + jnp.asarray(bias, leaf.dtype))


def _gated_cell(setup: Setup, cell: str, forget_bias: float) -> Setup:
    built = _own(setup)
    if gate_bias(built) is not None:
        raise NotApplicable(f"{built.cell} has gates already; try gate-bias")
    return _exchanged(setup, cell, keep=forget_bias)


def _linear_recurrence(setup: Setup, cell: str) -> Setup:
    if isinstance(setup.step, cells.Linear):
        raise NotApplicable(f"{_own(setup).cell} is linear in its state already")
    return _exchanged(setup, cell)


def _normalised(setup: Setup, cell: str | None) -> Setup:
    built = _own(setup)
    name = f"{built.cell}_layernorm" if cell is None else cell
    if name not in cells.REGISTRY:
        raise NotApplicable(f"there is no {name}; normalised cells are {', '.join(n for n in sorted(cells.REGISTRY) if n.endswith('layernorm'))}")
    if name == built.cell:
        raise NotApplicable(f"the cell is {name} already")
    missing = [choice for choice, _ in built.choices if choice not in inspect.signature(cells.REGISTRY[name]).parameters]
    if missing:
        raise NotApplicable(f"{name} does not have the choice {', '.join(missing)} that this {built.cell} made")
    return _remade(setup, cell=name)  # the same kind of cell: it starts as this one does


@functools.cache  # one object, one compilation
def _by_value(threshold: float) -> optax.GradientTransformation:
    return optax.clip(threshold)


def _require_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be positive")


def _clipped(setup: Setup, threshold: float) -> Setup:
    _require_positive(threshold=threshold)
    return setup._replace(clip=clip_by_norm(threshold), clip_norm=threshold)


def _clipped_by_value(setup: Setup, threshold: float) -> Setup:
    _require_positive(threshold=threshold)
    return setup._replace(clip=_by_value(threshold), clip_norm=None)


def _penalised(setup: Setup, penalty: Penalty) -> Setup:
    return setup._replace(penalty=penalty if setup.penalty is None else Together((setup.penalty, penalty)))


def _omega(setup: Setup, weight: float, threshold: float | None) -> Setup:
    setup = setup if threshold is None or setup.clip is not None else _clipped(setup, threshold)
    return _penalised(setup, Omega(weight))


def _orthogonality(setup: Setup, weight: float, leaves: tuple[str, ...]) -> Setup:
    _replaced(setup, leaves, lambda key, name, leaf: leaf, square=True)  # are they there
    return _penalised(setup, Orthogonality(weight, tuple(leaves)))


def _flossing(
    setup: Setup,
    k: int | None,
    window: int | None,
    steps: int,
    batch: int,
    learning_rate: float,
    weight: float,
    every: int,
    stop: int | None,
) -> Setup:
    if not steps and not weight:
        raise ValueError("steps=0 and weight=0 ask for no flossing at all; give one of them")
    n = layout(jax.eval_shape(setup.init_state, jax.eval_shape(setup.init_params, jax.random.key(0)))).size
    k = max(1, n // 4) if k is None else k
    require_at("k", k, 1, n, "the real dimension of the state")
    window = min(55, setup.built.length if setup.built else 55) if window is None else window
    if steps:
        setup = setup._replace(prepare=FlossFirst(k, window, steps, batch, learning_rate))
    return _penalised(setup, Flossing(k, window, weight, every=every, stop=stop)) if weight else setup


def _truncated(setup: Setup, steps: int) -> Setup:
    require_at("steps", steps, 1, None, "the length of a stretch")
    return setup._replace(truncate=steps)


def _forced(setup: Setup, interval: int | None, constant: float | None, exponent: float | None, force: Callable | None) -> Setup:
    if exponent is not None and interval is None:
        interval = forcing_interval(exponent)
    forcing_weights(1, interval, constant)  # raises where they do not make sense
    if isinstance(setup.step, Forced):
        raise NotApplicable("the state is forced already")
    built = setup.built
    if built is not None and "value" not in jax.eval_shape(lambda key: built.task.sample(key, 1), jax.random.key(0)).targets:
        raise NotApplicable("the state is forced towards values, and this task asks for labels")
    if force is None:
        params = jax.eval_shape(setup.init_params, jax.random.key(0))
        state = jax.eval_shape(setup.init_state, params)
        if not {"W_hy", "b_y"} <= set(params) or getattr(state, "shape", None) != params["W_hy"].shape[1:]:
            raise NotApplicable("the data can only be turned into a state through a linear readout W_hy, b_y of the whole state; give force")
        force = FromReadout()
    output = None if setup.output is None else Undriven(setup.output)
    return setup._replace(step=Forced(setup.step, force), output=output, loss=Undriven(setup.loss), transform=FromTargets(interval, constant))


_ACTIONS: dict[str, Callable[..., Setup]] = {
    "chain-init": _initialised(initializers.chain),
    "chrono-init": _chrono,
    "clipping": _clipped,
    "critical-init": _critical,
    "flossing": _flossing,
    "forcing": _forced,
    "gate-bias": _gate_bias,
    "gated-cell": _gated_cell,
    "identity-init": _identity,
    "less-saturation": _scaled,
    "linear-recurrence": _linear_recurrence,
    "living-units": _living,
    "norm-regulariser": _omega,
    "normalisation": _normalised,
    "orthogonal-init": _initialised(initializers.orthogonal),
    "orthogonal-parametrisation": _exchanged,
    "orthogonality": _orthogonality,
    "smaller-gain": _scaled,
    "stronger-input": _scaled,
    "truncation": _truncated,
    "value-clipping": _clipped_by_value,
}
