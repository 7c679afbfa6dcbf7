"""Exponents to a wanted standard error, in compiled stretches that a host loop continues exactly."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn._border import require_at, sequence_length
from jaxrnn.linearize import Step
from jaxrnn.lyapunov.batch_means import integrated_autocorrelation, standard_error
from jaxrnn.lyapunov.exponents import spectrum
from jaxrnn.lyapunov.recursion import Spectrum

PyTree = Any
Progress = Callable[[int, np.ndarray, np.ndarray], Any]
_BLOCKS = 16  # of a stretch
_KEPT = 1024  # blocks on the host before neighbours are joined


class Converged(NamedTuple):
    """What ``until`` ended with."""

    spectrum: Spectrum  # of all steps together; its ``state`` and ``frame`` go on from the end
    converged: bool  # whether every living exponent reached its standard error; otherwise the steps or the inputs ended, or a value is NaN
    steps: int  # that were counted, after the warm-up
    autocorrelation: np.ndarray  # (k,) integrated autocorrelation time of the growth, steps, at the resolution of the batches; NaN where lost


def until(
    step: Step,
    params: PyTree,
    state: PyTree,
    inputs: PyTree | Callable[[int, int], PyTree],
    *,
    standard_error: ArrayLike,
    k: int | None = None,
    warmup: int = 0,
    frame: Array | None = None,
    qr_every: int = 1,
    batches: int = 32,
    stretch: int = 1024,
    longest: int = 1_000_000,
    dt: float = 1.0,
    progress: Progress | None = None,
) -> Converged:
    """The k leading exponents, run until each has a wanted standard error.

    The trajectory is run in stretches by ``spectrum``, each from the state and frame that the last one ended with, and the growth
    of all blocks is kept. At lengths that grow by a quarter each, never before there are ``batches`` batches, the standard error
    is that of the means of ``batches`` to 2·``batches`` equal batches, times √τ where τ > 1 is their integrated autocorrelation: batches
    that remember each other are worth fewer.

    Args:
        step, params, state, k, warmup, frame, qr_every, dt: as in ``spectrum``.
        inputs: what drives: None for an autonomous map; ``inputs(start, count)``, which returns x_{start+1}..x_{start+count}; or all of
            xs, whose end ends the run.
        standard_error: wanted, nats per unit of time; a number, or (k,) in the order of the exponents, inf for what does not matter.
        batches: at least so many batches, 20 or more: with few, an error that looks small by chance stops the run. With 10, the
            truth lay within 2 errors in 79 % of cases instead of 95.
        stretch: steps of a compiled stretch; rounded up to a multiple of 16 · ``qr_every``.
        longest: counted steps at most.
        progress: called after each stretch with the counted steps, the exponents (k,) and their standard errors (k,).

    Returns:
        ``Converged``; what the rule could not reach is told by ``converged``, never hidden. Its ``spectrum`` counts as many blocks as
        there are batches.

    Raises:
        ValueError: a standard error that is not positive, fewer than 20 batches, and as ``spectrum``.

    Cost: that of ``spectrum``; memory flat in the number of steps. A host function: it looks at numbers.

    Source: batch means under sequential stopping: Glynn, Whitt 1992, Ann. Appl. Probab. 2, 180; Jones et al. 2006, JASA 101, 1537.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import lyapunov
    >>> draw = lambda start, count: jnp.exp(jax.random.normal(jax.random.fold_in(jax.random.key(0), start), (count, 1)))
    >>> found = lyapunov.until(lambda p, h, x: x * h, (), jnp.ones(1), draw, standard_error=0.02)
    >>> found.converged, found.steps > 1024, abs(float(found.spectrum.exponents[0])) < 0.06  # 1 / 0.02² steps at least; E ln x = 0
    (True, True, True)
    """
    require_at("batches", batches, 20, None, "the number of batches that an error is taken from")
    for name, value in (("stretch", stretch), ("longest", longest), ("qr_every", qr_every)):
        require_at(name, value, 1, None, "a number of steps")
    require_at("warmup", warmup, 0, None, "a number of steps")
    wanted = np.asarray(standard_error, float)
    if not (wanted > 0).all():
        raise ValueError(f"standard_error={standard_error} must be positive, nats per unit of time")
    draw, available = _source(inputs)
    unit = _BLOCKS * qr_every
    stretch, longest = -(-stretch // unit) * unit, min(longest, available - warmup)
    require_at("warmup", warmup, 0, warmup + longest - 1, "fewer than the steps of the inputs")

    blocks, done, look, found = _Blocks(), 0, 0.0, None
    while done < longest:
        count = min(stretch, longest - done)
        first = warmup if found is None else 0
        start = 0 if found is None else warmup + done
        part = draw(start, first + count)
        options: dict[str, Any] = {"length": first + count, "k": k, "warmup": first, "frame": frame, "qr_every": qr_every, "blocks": _BLOCKS}
        found = spectrum(step, params, state, part, **options)
        state, frame, k = found.state, found.frame, None
        blocks.add(found, count)
        done += count
        merged, ready = blocks.merged(batches, dt, state, frame)
        if wanted.shape not in ((), merged.spectrum.exponents.shape):
            raise ValueError(f"standard_error has shape {wanted.shape}; allowed are a number and {merged.spectrum.exponents.shape}, one per exponent")
        if progress is not None:
            progress(done, np.asarray(merged.spectrum.exponents), np.asarray(merged.spectrum.standard_errors))
        if np.isnan(merged.spectrum.exponents).any():
            return merged
        if ready and (done >= look or done == longest):
            look = done * 1.25
            if _reached(merged.spectrum, wanted):
                return merged._replace(converged=True)
    return merged


class _Blocks:
    """The growth of all steps so far, on the host, in blocks of equal length; neighbours are joined when there are too many."""

    def __init__(self) -> None:
        self.growth: list[np.ndarray] = []
        self.length = 0  # steps of each block
        self.open: Any = 0.0  # growth of the block that is not full yet
        self.open_steps = 0
        self.lost: Any = 0  # these two in the order of the frame's columns
        self.rounding: Any = 0.0
        self.steps = 0

    def add(self, found: Spectrum, count: int) -> None:
        """Take over one stretch."""
        growth, steps = np.asarray(found.block_growth, np.float64), np.asarray(found.block_steps)
        self.length = self.length or int(steps[0])
        for part, size in zip(growth, steps.tolist(), strict=True):
            self.open, self.open_steps = self.open + part, self.open_steps + size
            if self.open_steps >= self.length:
                self.growth.append(self.open)
                self.open, self.open_steps = 0.0, 0
        # A spectrum is sorted by its rates: back to the frame's columns.
        place = np.argsort(_order(growth.sum(0)))
        self.lost = self.lost + np.asarray(found.lost)[place]
        self.rounding = self.rounding + np.asarray(found.rounding, np.float64)[place] * count
        self.steps += count
        if len(self.growth) > _KEPT:
            if len(self.growth) % 2:
                self.open, self.open_steps = self.open + self.growth.pop(), self.open_steps + self.length
            self.growth = [a + b for a, b in zip(self.growth[::2], self.growth[1::2], strict=True)]
            self.length *= 2

    def merged(self, batches: int, dt: float, state: PyTree, frame: Array) -> tuple[Converged, bool]:
        """The spectrum of all steps, and whether there are ``batches`` batches; what fills none is a last block, which no error is taken from."""
        size = max(1, len(self.growth) // batches)
        count = len(self.growth) // size
        full = [np.sum(self.growth[i * size : (i + 1) * size], 0) for i in range(count)]
        rest = sum(self.growth[count * size :], np.zeros_like(self.rounding)) + self.open
        left = self.steps - count * size * self.length
        growth = np.array([*full, *([rest] if left else [])])
        steps = np.array([size * self.length] * count + ([left] if left else []))
        dead = np.asarray(np.isneginf(growth).any(0))
        rates = np.where(dead, -np.inf, growth.sum(0) / self.steps) / dt
        each = np.where(dead, 0, growth[:count]) / (size * self.length) / dt
        error = np.asarray(standard_error(jnp.asarray(each), jnp.full(count, 1 / count)), float)
        errors = error * np.sqrt(1 - left / self.steps)
        factor = np.asarray(integrated_autocorrelation(jnp.asarray(each)), float) if count > 1 else errors
        errors, time = np.where(dead, np.inf, errors), np.where(dead, np.nan, factor * size * self.length)
        rounding = np.where(dead, np.inf, self.rounding / self.steps / dt)
        order = _order(rates)
        fields: Any = (rates[order], errors[order], self.lost[order], rounding[order], growth, steps, state, frame)  # NumPy's: they are on the host
        return Converged(Spectrum._make(fields), False, self.steps, time[order]), count >= batches


def _order(rates: np.ndarray) -> np.ndarray:
    """Columns by descending rate."""
    return np.argsort(-rates, kind="stable")


def _reached(found: Spectrum, wanted: np.ndarray) -> bool:
    living = np.isfinite(found.exponents)
    return bool(np.all(np.where(living, found.standard_errors <= wanted, True)))


def _source(inputs: PyTree | Callable[[int, int], PyTree]) -> tuple[Callable[[int, int], PyTree], int]:
    """A function that gives the inputs of some steps, and how many there are."""
    if callable(inputs):
        return inputs, np.iinfo(np.int32).max
    if inputs is None:
        return lambda start, count: None, np.iinfo(np.int32).max
    cut = lambda start, count: jax.tree.map(lambda leaf: leaf[start : start + count], inputs)
    return cut, sequence_length(inputs, None)
