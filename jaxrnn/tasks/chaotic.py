"""Chaotic series to be forecast one step ahead."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._border import require_at
from jaxrnn.tasks.parts import values
from jaxrnn.tasks.protocol import Batch, Task
from jaxrnn.tasks.registry import register

Advance = Callable[[Array], Array]

# Hénon (1976), a = 1.4, b = 0.3. Mean and standard deviation: float64, 1,000 orbits of 10⁶ steps after 1,000.
_A, _B = 1.4, 0.3
_HENON_MEAN, _HENON_SD = 0.25695, 0.72096
# Lorenz (1963), σ = 10, ρ = 28, β = 8/3. Likewise: RK4 with dt = 0.01, 500 orbits of 2,000 time units after 200; x and y are symmetric about 0.
_LORENZ_MEAN, _LORENZ_SD = (0.0, 0.0, 23.552), (7.925, 9.011, 8.621)
_DT, _SUBSTEPS = 0.01, 5


@register(variant="next x of the Hénon map from its x alone, standardised", source="Hénon 1976")
def henon(length: int) -> Task:
    """The next x of the Hénon map where only x is seen: x_{t+1} = 1 − 1.4 x_t² + 0.3 x_{t−1}.

    x is standardised; each step asks for the next with weight 1/(T − 1), except the first, before which nothing was seen.
    Two steps of memory make it exact. ``baseline`` is that of the map with the unseen x_{t−1} at its mean, 0.3² = 0.09: the
    best guess from x_t alone, E[x_{t+1} | x_t], has no closed form and errs by 0.071 (measured, 10⁸ steps in 4,000 bins).

    Args:
        length: T, at least 2.

    Returns:
        ``Task``: n_in 1, n_out 1; mean squared error, solved below 0.001.

    Raises:
        ValueError: length below 2.

    Source: Hénon 1976; from one coordinate: Takens 1981.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> batch = tasks.henon(20).sample(jax.random.key(0), 3)
    >>> batch.xs.shape, bool((batch.targets["value"][:, :-1] == batch.xs[:, 1:]).all())
    ((3, 20, 1), True)
    """
    require_at("length", length, 2, None, "the number of steps")

    def advance(state: Array) -> Array:
        x, before = state[..., 0], state[..., 1]
        return jnp.stack([1 - _A * x**2 + _B * before, x], -1)

    def draw(key: Array, batch: int) -> Batch:
        series = _orbit(advance, 0.1 * _start(key, batch, 2), length + 1, warm_up=200)[..., :1]
        return _forecast((series - _HENON_MEAN) / _HENON_SD, first=1)

    def oracle(batch: Batch) -> Array:
        x = batch.xs * _HENON_SD + _HENON_MEAN
        before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        return (advance(jnp.concatenate([x, before], -1))[..., :1] - _HENON_MEAN) / _HENON_SD

    def guess(batch: Batch) -> Array:
        x = batch.xs * _HENON_SD + _HENON_MEAN
        return (advance(jnp.concatenate([x, jnp.full_like(x, _HENON_MEAN)], -1))[..., :1] - _HENON_MEAN) / _HENON_SD

    return values(draw, 1, 1, oracle, guess=guess, baseline=_B**2, solved=1e-3)


@register(variant="Lorenz's x, y, z after 0.05 units of time from those now, standardised", source="Lorenz 1963")
def lorenz(length: int) -> Task:
    """The state of the Lorenz system 0.05 units of time ahead: ẋ = 10(y − x), ẏ = x(28 − z) − y, ż = xy − 8z/3.

    All three coordinates are seen, standardised, sampled every 0.05 units (five steps of RK4 with dt = 0.01, which define the
    system here); each step asks for the next with weight 1/T. The map is nonlinear but needs no memory: the task is to learn
    it. ``baseline`` is that of the best constant, the variance 1; to repeat what is seen errs by 0.134. Each batch begins with
    2,500 steps of RK4 that are not shown, so that sequences start anywhere on the attractor.

    Args:
        length: T, at least 1.

    Returns:
        ``Task``: n_in 3, n_out 3; mean squared error, solved below 0.001.

    Raises:
        ValueError: length below 1.

    Source: Lorenz 1963.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> tasks.lorenz(20).sample(jax.random.key(0), 3).xs.shape
    (3, 20, 3)
    """
    require_at("length", length, 1, None, "the number of steps")

    def slope(state: Array) -> Array:
        x, y, z = state[..., 0], state[..., 1], state[..., 2]
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)

    def runge_kutta(state: Array, _: None) -> tuple[Array, None]:
        k1 = slope(state)
        k2 = slope(state + _DT / 2 * k1)
        k3 = slope(state + _DT / 2 * k2)
        k4 = slope(state + _DT * k3)
        return state + _DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    def advance(state: Array) -> Array:
        return jax.lax.scan(runge_kutta, state, None, _SUBSTEPS)[0]

    def draw(key: Array, batch: int) -> Batch:
        mean, sd = (jnp.asarray(np.array(what), float) for what in (_LORENZ_MEAN, _LORENZ_SD))
        # From this box the variance is stationary within 0.001 after 22 units of time (200,000 orbits), from a smaller one much later.
        start = 20 * _start(key, batch, 3) + mean
        return _forecast((_orbit(advance, start, length + 1, warm_up=500) - mean) / sd, first=0)

    def oracle(batch: Batch) -> Array:
        mean, sd = (jnp.asarray(np.array(what), float) for what in (_LORENZ_MEAN, _LORENZ_SD))
        return (advance(batch.xs * sd + mean) - mean) / sd

    return values(draw, 3, 3, oracle, guess=0.0, baseline=1.0, solved=1e-3)


def _start(key: Array, batch: int, size: int) -> Array:
    """Points (B, size) in [−1, 1), multiples of 2⁻²⁰: chaos would make much of a rounding that a compiler does in its own way."""
    whole = jax.random.randint(key, (batch, size), -(2**20), 2**20, jnp.int32)
    return whole.astype(float) / 2**20


def _orbit(advance: Advance, start: Array, length: int, *, warm_up: int) -> Array:
    """``length`` states (B, length, n) after ``warm_up`` others, which lead to the attractor and mix on it."""
    visit = lambda state, _: (advance(state),) * 2
    settled = jax.lax.scan(lambda state, _: (advance(state), None), start, None, warm_up)[0]
    return jax.lax.scan(visit, settled, None, length)[1].swapaxes(0, 1)


def _forecast(series: Array, *, first: int) -> Batch:
    """The series (B, T + 1, n) as inputs, each step asking for the next from step ``first`` on."""
    batch, length = series.shape[0], series.shape[1] - 1
    weight = jnp.zeros((batch, length), float).at[:, first:].set(1 / (length - first))
    return Batch(series[:, :-1], {"value": series[:, 1:], "weight": weight})
