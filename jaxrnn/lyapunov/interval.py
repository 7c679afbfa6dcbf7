"""How many steps may lie between two orthonormalisations."""

from typing import Any

import jax
import numpy as np

from jaxrnn._border import admit, require_at
from jaxrnn._tree import layout
from jaxrnn.linearize import Step
from jaxrnn.lyapunov.exponents import spectrum

PyTree = Any


def suggest_interval(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    length: int | None = None,
    k: int | None = None,
    error: float = 1e-9,
    probe: int = 200,
) -> int:
    """How many steps may lie between two orthonormalisations: the ``qr_every`` for ``spectrum``.

    Pushed m steps, a frame gets the condition number κ(m) ≈ exp(max − min over columns of their log growth), and its
    smallest direction is known to about ε·κ(m). The largest m with ε·κ(m) ≤ ``error`` over every stretch of the probe, and no
    growth that could overflow.

    Args:
        step, params, state, xs, length, k: as for ``spectrum``.
        error: of the log growth of an interval, nats.
        probe: how many first steps to look at; they should be typical. Half of them turn the frame first.

    Returns:
        m ≥ 1, a Python int: this looks at numbers, so it is a host function and not for use under jit. 1 where a
        direction was lost or float32 does not carry ``error`` at all.

    Raises:
        As ``spectrum``; ValueError: error not in (0, 1), probe below 2.

    Cost: the spectrum of ``probe`` steps.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> lyapunov.suggest_interval(lambda a, h, x: a * h, jnp.array([0.5, 0.01], jnp.float32), jnp.ones(2, jnp.float32), None, length=100, error=1e-4)
    1
    """
    if not 0 < error < 1:
        raise ValueError(f"error={error} must lie in (0, 1), nats per interval")
    require_at("probe", probe, 2, None, "the number of steps to look at")
    state, length = admit(step, params, state, xs, length)
    T = min(probe, length)
    seen = jax.tree.map(lambda leaf: leaf[:T], xs)
    found = spectrum(step, params, state, seen, length=T, k=k, warmup=T // 2, blocks=T)
    if bool((found.lost > 0).any()) or not bool(np.isfinite(found.block_growth).all()):
        return 1
    growth = np.concatenate([np.zeros((1, found.frame.shape[1])), np.cumsum(np.asarray(found.block_growth, np.float64), 0)])
    lay = layout(state)
    allowed, largest = np.log(error / lay.eps), 0.25 * np.log(np.finfo(lay.dtype).max)
    for m in range(1, len(growth)):
        window = growth[m:] - growth[:-m]
        if (window.max(1) - window.min(1)).max() > allowed or np.abs(window).max() > largest:
            return max(1, m - 1)
    return len(growth) - 1
