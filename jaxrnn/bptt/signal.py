"""What does each term contribute to the gradient they sum to, and does a batch hear its long lags through the noise."""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import admit, compiled, require_at, require_loss, targets_length
from jaxrnn._frames import rescale
from jaxrnn._tree import layout
from jaxrnn.bptt.terms import Run, beyond, over_lags, place, rows_of
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step, in_coordinates
from jaxrnn.unroll import preceding, states

PyTree = Any


def contributions(
    step: Step, params: PyTree, state: PyTree, xs: PyTree, targets: PyTree, loss: Loss, *, times: tuple[int, ...] | None = None
) -> Array:
    """What each term (t, k) contributes along the gradient that they all sum to; the contributions sum to 1.

    c(t, k) = ⟨term(t, k), g⟩ / ‖g‖², g = Σ_{t,k} term(t, k) over all leaves of the parameters. Norms of terms add up to more than the norm of
    their sum; these do not: a negative one says that the term was outvoted. ⟨term(t, k), g⟩ = u_{t,k} · (∂⁺h_k/∂θ · g) needs no
    gradient of any single term.

    Args:
        step, params, state, xs, targets, loss, times: as in ``decompose``; complex leaves count as (re, im).

    Returns:
        (S, T) at [index of t, k − 1], 0 for k > t; NaN where g is zero, or a term overflows beside it.

    Raises:
        As ``decompose``. Cost: S · T / 2 pulls through one step; memory O(S T + size of θ).

    >>> import jax.numpy as jnp
    >>> from jaxrnn import bptt
    >>> last = lambda a, h, x, weight: weight * h
    >>> shares = bptt.contributions(lambda a, h, x: a * h + x, 0.5, 0.0, jnp.ones(3), jnp.array([0.0, 0.0, 1.0]), last)
    >>> print(shares.round(3))  # ∂h_3/∂a = h_2 + a h_1 + a² h_0
    [[0.   0.   0.  ]
     [0.   0.   0.  ]
     [0.   0.25 0.75]]
    """
    times = None if times is None else tuple(operator.index(t) for t in times)
    return _contributions(step, params, state, xs, targets, loss, times=times)


class LongLag(NamedTuple):
    """How much of the expected gradient comes over long lags, beside the noise between sequences."""

    signal: Array  # (lags,) norm of the expected gradient from lags ≥ ℓ; 0 where its unbiased square came out negative: not seen
    square: Array  # (lags,) that unbiased square, which may be negative
    square_errors: Array  # (lags,) its standard error, by the jackknife over sequences
    noise: Array  # scalar, √E‖g_b − E g‖², of the gradient of one sequence
    batch: Array  # (lags,) noise² / signal²: in batches of fewer sequences, noise outweighs what comes from these lags; inf where not seen


@jax.jit
def long_lag_signal(by_lag: PyTree) -> LongLag:
    """Whether a batch of sequences can hear its long lags through the noise of its gradient.

    With s_b(ℓ) = Σ_{lag ≥ ℓ} of sequence b, ‖E s(ℓ)‖² is estimated by the mean of ⟨s_a, s_b⟩ over pairs a ≠ b, which is unbiased, and the noise
    by E‖g_b‖² − ‖E g‖², g = s(0).

    Args:
        by_lag: ``by_lag`` of a vmapped ``decompose``, leaves (B, lags, ...), B ≥ 3 independent sequences; leaves without gradient
            through the state only add zeros.

    Returns:
        ``LongLag``. Where square < 2 square_errors, no signal is proven at these lags.

    Raises:
        ValueError: fewer than 3 sequences.

    Cost: O(lags B² size of θ); memory as what is given.

    Source: noise against signal as in McCandlish et al. 2018 (the simple noise scale), here by lag.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import bptt
    >>> found = bptt.long_lag_signal(1 + jax.random.normal(jax.random.key(0), (500, 2, 1)))  # two lags, mean 1 and noise 1 each
    >>> [round(float(v)) for v in found.signal], round(float(found.noise) ** 2)
    ([2, 1], 2)
    """
    leaves = jax.tree.leaves(by_lag)
    count = leaves[0].shape[0]
    require_at("the number of sequences B", count, 3, None, "the leading axis of by_lag")
    gram: Any = 0
    for leaf in leaves:
        flat = leaf.reshape(*leaf.shape[:2], -1)
        tails = jnp.cumsum(flat[:, ::-1], 1)[:, ::-1]
        gram = gram + jnp.einsum("alp,blp->lab", jnp.conj(tails), tails, precision="highest").real
    apart = gram - jnp.eye(count, dtype=gram.dtype) * gram
    rows = apart.sum(2)
    square = rows.sum(1) / (count * (count - 1))
    without = (rows.sum(1)[:, None] - 2 * rows) / ((count - 1) * (count - 2))
    errors = jnp.sqrt((count - 1) / count * jnp.sum((without - without.mean(1, keepdims=True)) ** 2, 1))
    noise = jnp.trace(gram[0]) / count - square[0]
    seen = square > 0
    batch = jnp.where(seen, noise / jnp.where(seen, square, 1), jnp.inf)
    return LongLag(jnp.sqrt(jnp.where(seen, square, 0)), square, errors, jnp.sqrt(jnp.maximum(noise, 0)), batch)


@compiled("step", "loss", "times")
def _contributions(step, params, state, xs, targets, loss, *, times) -> Array:
    state, length = admit(step, params, state, xs, targets_length(xs, targets))
    require_loss(loss, params, state, xs, targets, length)
    layout(params, "params")
    lay, t = layout(state), rows_of(times, length)
    hs = states(step, params, state, xs, length=length)
    run = Run(step, params, lay, jax.vmap(lay.ravel)(preceding(state, hs)), xs)
    at = jax.tree.map(lambda leaf: leaf[t], (jax.vmap(lay.ravel)(hs), xs, targets))
    unit, log = rescale(jax.vmap(jax.grad(lambda v, x, y: loss(params, lay.unravel(v), x, y)))(*at), (1,))
    log = log - jnp.max(jnp.where(jnp.isfinite(log), log, -jnp.inf), initial=jnp.finfo(lay.dtype).min)  # the scale of the loss does not matter
    whole = beyond(run, t, unit, log, length)[0]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)).astype(lay.dtype) for leaf in jax.tree.leaves(whole)]))
    whole = jax.tree.map(lambda leaf: leaf / largest.astype(leaf.dtype), whole)

    def along(v: Array, x: PyTree) -> Array:
        # JAX's gradient of a complex leaf is the conjugate of its direction.
        return jax.jvp(lambda theta: in_coordinates(step, theta, lay, x)(v), (params,), (jax.tree.map(jnp.conj, whole),))[1]

    met = jax.vmap(along)(run.before, xs)  # (T, n) ∂⁺h_k/∂θ · g
    size = jnp.stack([jnp.sum(jnp.abs(leaf) ** 2).astype(lay.dtype) for leaf in jax.tree.leaves(whole)]).sum()

    def terms(k: Array, unit: Array, log: Array) -> tuple[PyTree, PyTree]:
        return jnp.exp(log) * jnp.sum(unit * met[k], 1), ()

    _, (values, _) = over_lags(run, t, unit, log, length, terms)
    signed = place(values, t, length) / size / largest
    return jnp.where(jnp.asarray(t)[:, None] >= jnp.arange(length), signed, 0)
