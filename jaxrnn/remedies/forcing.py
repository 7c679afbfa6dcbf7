"""Teacher forcing: a state that is pulled towards data while a model trains on a chaotic target."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import require_at
from jaxrnn.linearize import Step
from jaxrnn.tasks import Batch

PyTree = Any
Force = Callable[[PyTree, PyTree, PyTree], PyTree]  # (θ, h_{t−1}, d_{t−1}) -> the state that the data ask for


class Driven(NamedTuple):
    """An input with what the state before it is pulled to; time on axis 0 of each in a sequence."""

    x: PyTree  # x_t
    data: PyTree  # d_{t−1}
    weight: Array  # w_t in [0, 1]


@dataclass(frozen=True)
class Forced:
    """A step whose state is pulled towards data before it moves on.

    h_t = step(θ, (1 − w_t) h_{t−1} + w_t force(θ, h_{t−1}, d_{t−1}), x_t) on inputs ``Driven(x_t, d_{t−1}, w_t)``; on any other input it is
    the step itself, so that one model trains forced and is tested free.

    Where ``force`` gives all of the state from the data alone, J_t is (1 − w_t) times that of the step: w = 1 every few steps cuts the product
    (sparse forcing), a constant w damps every factor (generalised forcing).

    Source: Williams, Zipser 1989; sparse: Mikhaeil, Monfared, Durstewitz 2022; generalised: Hess, Monfared, Brenner, Durstewitz 2023.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> step = remedies.Forced(lambda a, h, x: a * h, lambda a, h, d: d)
    >>> jax.grad(lambda h: step(2.0, h, remedies.Driven(None, 1.0, 0.25)))(3.0).item()
    1.5
    """

    step: Step
    force: Force

    def __call__(self, params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        """The next state."""
        if not isinstance(x, Driven):
            return self.step(params, state, x)
        w = x.weight
        mix = lambda h, d: (1 - w) * h + w * jnp.asarray(d, h.dtype)
        return self.step(params, jax.tree.map(mix, state, self.force(params, state, x.data)), x.x)


@dataclass(frozen=True)
class Undriven:
    """An output or a loss that hears x_t where it is given ``Driven(x_t, …)``."""

    inner: Callable

    def __call__(self, params: PyTree, state: PyTree, x: PyTree, *target: PyTree) -> Array:
        """What the inner function says."""
        return self.inner(params, state, x.x if isinstance(x, Driven) else x, *target)


@dataclass(frozen=True)
class FromReadout:
    """The state nearest to h whose linear readout of the output is the data: h + W_hy⁺ (d − W_hy h − b_y).

    It forces as many directions of the state as there are outputs and leaves the others, W_hy⁺ W_hy being a projection.

    Source: Hess, Monfared, Brenner, Durstewitz 2023, section 3.2 (inversion of the observation model).

    >>> import jax.numpy as jnp
    >>> from jaxrnn import remedies
    >>> theta = {"W_hy": jnp.array([[2.0, 0.0]]), "b_y": jnp.array([1.0])}
    >>> [round(float(h), 4) for h in remedies.FromReadout()(theta, jnp.array([9.0, 7.0]), jnp.array([5.0]))]
    [2.0, 7.0]
    """

    def __call__(self, params: PyTree, state: Array, data: Array) -> Array:
        """The forced state (n,)."""
        w = params["W_hy"]
        missing = data - w @ state - params["b_y"]
        return state + w.T @ jnp.linalg.solve(w @ w.T, missing)


@dataclass(frozen=True)
class FromTargets:
    """A batch whose inputs carry the value before them: d_{t−1} = y_{t−1}, weights as ``forcing_weights``, none at t = 1."""

    interval: int | None
    constant: float | None

    def __call__(self, batch: Batch) -> Batch:
        """The forced batch."""
        value = batch.targets["value"]
        data = jnp.concatenate([jnp.zeros_like(value[:, :1]), value[:, :-1]], 1)
        weights = jnp.asarray(forcing_weights(value.shape[1], self.interval, self.constant), value.dtype)
        return batch._replace(xs=Driven(batch.xs, data, jnp.broadcast_to(weights, value.shape[:2])))


def forcing_weights(length: int, interval: int | None = None, constant: float | None = None) -> np.ndarray:
    """The weights w_1..w_T (T,): 1 at every ``interval``-th step after the first, or a constant; w_1 = 0, for there is no d_0.

    Args:
        length: T.
        interval: steps from one forced state to the next, at least 1 (1: every step).
        constant: w in [0, 1].

    Raises:
        ValueError: both or neither, or numbers outside these.

    >>> from jaxrnn import remedies
    >>> remedies.forcing_weights(6, interval=2).tolist(), remedies.forcing_weights(3, constant=0.2).tolist()
    ([0.0, 0.0, 1.0, 0.0, 1.0, 0.0], [0.0, 0.2, 0.2])
    """
    if (interval is None) == (constant is None):
        raise ValueError(f"interval={interval} and constant={constant}: give one of them")
    t = np.arange(length)
    if interval is not None:
        require_at("interval", interval, 1, None, "a number of steps")
        return np.where((t > 0) & (t % interval == 0), 1.0, 0.0)
    if not 0 <= constant <= 1:  # type: ignore[operator]
        raise ValueError(f"constant={constant} must lie in [0, 1], from free to fully forced")
    return np.where(t > 0, float(constant), 0.0)  # type: ignore[arg-type]


def forcing_interval(exponent: ArrayLike) -> int:
    """The interval round(ln 2 / λ₁), at least 1: after it a perturbation of a chaotic target has doubled.

    Args:
        exponent: λ₁ of the target in nats per step.

    Raises:
        ValueError: λ₁ ≤ 0: a target that is not chaotic needs no forcing.

    Source: Mikhaeil, Monfared, Durstewitz 2022, equation 12.

    >>> from jaxrnn import remedies
    >>> remedies.forcing_interval(0.0144)  # Lorenz's .9056 per unit of time, at steps of .0159
    48
    """
    rate = float(exponent)  # type: ignore[arg-type]
    if not rate > 0:
        raise ValueError(f"exponent={rate} must be positive: where perturbations do not grow nothing needs to be forced")
    return max(1, round(math.log(2) / rate))
