"""What is wrong with this model on these sequences, how sure are we, and what to try."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn._border import admit, sequence_length
from jaxrnn._tree import layout, named_leaves
from jaxrnn.checks import Check
from jaxrnn.evidence import Evidence, Progress, gather, plan
from jaxrnn.flow import Loss, require_loss
from jaxrnn.linearize import Step
from jaxrnn.unroll import states

PyTree = Any

TOLERANCE = math.log(10.0)
"""A gradient that changes by less than a factor of 10 over a whole sequence counts as stable."""


class Diagnosis(NamedTuple):
    """What ``diagnose`` found."""

    verdict: str  # "vanishing", "exploding", "chaotic", "stable" or "undecided"
    reasons: tuple[str, ...]  # sentences with numbers, the most telling first
    remedies: tuple[str, ...]  # what to try, with why
    checks: tuple[Check, ...]  # the self-checks on this very model
    evidence: Evidence  # every number behind it

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain numbers, strings and lists for JSON; inf, −inf and NaN become strings."""
        e = self.evidence
        gradient = None if e.gradient is None else {**e.gradient._asdict(), "times": list(e.gradient.times)}
        facts = {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "remedies": list(self.remedies),
            "checks": [c._asdict() for c in self.checks],
            "exponents": e.exponents,
            "standard_errors": e.standard_errors,
            "horizon": {"quantiles": [0.1, 0.5, 0.9], "lags": e.horizon, "censored": e.censored},
            "log_gain": {"per_sequence": e.log_gain, "rate": e.rate, "rate_error": e.rate_error},
            "lengths": e.lengths,
            "first_nonfinite": e.first_nonfinite,
            "eigenvalue_criterion": {
                "mean_log_radius": e.log_radius.mean(),
                "share_below_1": (e.log_radius < 0).mean(),
                "sampled": len(e.log_radius),
            },
            "mean_log_sigma": e.log_sigma.mean(),
            "growth_split": None if e.split is None else {"weights": e.split[0], "activation": e.split[1]},
            "transport_by_lag": {"quantiles": [0.1, 0.5, 0.9], "log_transport": e.transport_by_lag},
            "gradient": gradient,
            "plan": e.plan._asdict(),
        }
        return _plain(facts)


def diagnose(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    targets: PyTree = None,
    loss: Loss | None = None,
    length: int | None = None,
    lengths: Any = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Whether the gradients of a recurrent model vanish or explode on these sequences, how fast, and how sure.

    The verdict rests on G = T̄ Σ_b log σ₁(∂h_T/∂h_0)_b / Σ_b T_b, the log gain in nats over a whole sequence (mean
    length T̄), and on ± 2 standard errors of it, between sequences (B ≥ 2) or blocks of time (B = 1):

    - ``vanishing``: G + 2 se < −ln 10, or the product is exactly zero in more than half of the sequences;
    - ``stable``: the whole interval lies in [−ln 10, ln 10];
    - G − 2 se > ln 10: ``chaotic`` if in most sequences the states stay bounded (over the second half log‖h_t‖ grows
      by less than half of G/T̄ a step) and move (by more than 1e-6 of their size), else ``exploding``;
    - ``undecided``: the interval crosses ±ln 10, the error is unknown, or no state is finite.

    Args:
        step: ``step(params, state, x) -> state``.
        params: its parameters, floating or complex leaves where a loss is given.
        state: h_0, one unbatched state for all sequences.
        xs: (B, T, ...) on every leaf, B sequences; None for an autonomous map (then B = 1).
        targets: (B, T, ...) on every leaf, with ``loss``; may carry a mask.
        loss: ``loss(params, state, x, target) -> scalar``; without one the gradient's terms are left out.
        length: T where ``xs`` is None.
        lengths: (B,) number of valid steps of each sequence where they are ragged; what lies beyond is not read.
        progress: called as ``progress(what, i, total)`` before each stage.

    Returns:
        ``Diagnosis``. A state that becomes non-finite on the way is reported; the steps before it are analysed.

    Raises:
        ValueError: NaN or infinity in the sequences, targets or params (the place is named); shapes that do not fit.
        TypeError: the protocol is broken (see ``unroll.states``), or ``targets`` without ``loss``.

    Cost: ``evidence.plan`` tells before, and what was sampled or strided; seconds at n = 64, T = 64, B = 32. A host
    function: not for use under jit.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells, diagnosis
    >>> cell = cells.vanilla(1, 16)
    >>> params = cell.init_params(jax.random.key(0), gain=0.5)
    >>> xs = jax.random.normal(jax.random.key(1), (4, 50, 1))
    >>> diagnosis.diagnose(cell.step, params, cell.init_state(params), xs).verdict
    'vanishing'
    """
    state, length, lengths = _admit(step, params, state, xs, targets, loss, length, lengths)
    progress = progress or (lambda what, i, total: None)
    size = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params)) if loss is not None else 0
    lay = layout(state)
    todo = plan(len(lengths), length, lay.size, size, lay.dtype.itemsize)
    progress("states", 0, 6)
    found = gather(step, params, state, xs, targets, loss, length, lengths, todo, progress)
    verdict = _verdict(found)
    return Diagnosis(verdict, _reasons(verdict, found), _remedies(verdict, found), _self_checks(step, params, state, xs, targets, loss, found), found)


def _admit(step, params, state, xs, targets, loss, length, lengths) -> tuple[PyTree, int, np.ndarray]:
    """The arguments checked: state as arrays, T, lengths (B,)."""
    leaves = named_leaves(xs)
    for name, leaf in leaves.items():
        if np.ndim(leaf) < 2:
            raise ValueError(
                f"leaf {name!r} of xs has shape {np.shape(leaf)}; axes 0 and 1 must be sequences and time: add a batch axis with x[None]"
            )
    batches = {name: np.shape(leaf)[0] for name, leaf in leaves.items()}
    if len(set(batches.values())) > 1 or 0 in batches.values():
        raise ValueError(f"the leaves of xs hold different or no sequences: {batches}; axis 0 of each must be the same B ≥ 1")
    count = next(iter(batches.values()), 1)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    length = sequence_length(first, length)
    if lengths is not None and not leaves:
        raise ValueError("lengths were given but xs is None; pass length=T")
    lengths = np.full(count, length) if lengths is None else np.asarray(lengths)
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > length:
        raise ValueError(f"lengths={lengths.tolist()} must be {count} integers in [1, {length}], the valid steps of each sequence")
    state, _ = admit(step, params, state, first, length)
    if (targets is None) != (loss is None):
        raise TypeError("targets and loss go together: give both, or neither")
    if loss is not None:
        if xs is None:
            raise ValueError("a loss needs sequences: xs is None; pass inputs (B, T, ...)")
        layout(params, "params")
        for name, leaf in named_leaves(targets).items():
            if np.ndim(leaf) < 2 or np.shape(leaf)[0] != count:
                raise ValueError(f"leaf {name!r} of targets has shape {np.shape(leaf)}; it must begin with ({count}, {length}), sequences and time")
        require_loss(loss, params, state, first, jax.tree.map(lambda leaf: leaf[0], targets), length)
    valid = np.arange(length)[None] < lengths[:, None]
    for what, tree, mask in (("xs", xs, valid), ("targets", targets, valid), ("params", params, None), ("state", state, None)):
        _require_finite(what, tree, mask)
    return state, length, lengths.astype(np.int32)


def _require_finite(what: str, tree: PyTree, mask: np.ndarray | None) -> None:
    for name, leaf in named_leaves(tree).items():
        values = np.asarray(leaf)
        if not jnp.issubdtype(values.dtype, jnp.inexact):
            continue
        bad = ~np.isfinite(values)
        if mask is not None:
            bad &= mask.reshape(mask.shape + (1,) * (values.ndim - 2))
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            place = f"sequence {at[0]}, step {at[1] + 1} (index {at})" if mask is not None else f"index {at}"
            raise ValueError(f"leaf {name!r} of {what} holds {values[at]} at {place}; all numbers given must be finite: clean or mask them")


def _verdict(e: Evidence) -> str:
    """The rule in the docstring of ``diagnose``."""
    gains = e.log_gain[e.lengths > 0]
    if not gains.size:
        return "undecided"
    if (gains == -np.inf).mean() > 0.5:
        return "vanishing"
    low, high = _interval(e)
    if high < -TOLERANCE:
        return "vanishing"
    if low > TOLERANCE:
        bounded = (e.state_rate < 0.5 * e.rate) & (e.movement > 1e-6) & (e.first_nonfinite == 0)
        return "chaotic" if bounded.mean() > 0.5 else "exploding"
    return "stable" if low >= -TOLERANCE and high <= TOLERANCE else "undecided"


def _interval(e: Evidence) -> tuple[float, float]:
    """G ∓ 2 standard errors, nats; infinite where the error is unknown."""
    mean = float(e.lengths[e.lengths > 0].mean())
    gain, half = e.rate * mean, 2 * e.rate_error * mean
    return (gain - half, gain + half) if np.isfinite(half) and np.isfinite(gain) else (-np.inf, np.inf)


def _reasons(verdict: str, e: Evidence) -> tuple[str, ...]:
    """Sentences with numbers; each says what it measured."""
    if not (e.lengths > 0).any():
        return ("No state is finite, from the first step on: nothing can be analysed.",)
    said = [*_gain_reasons(e), *_rate_reasons(e), *_criterion_reasons(verdict, e)]
    if verdict == "chaotic":
        said.insert(1, "The states stay bounded while perturbations grow: the dynamics is chaotic (locally unstable), the gradient explodes.")
    if verdict == "exploding":
        rest = bool((e.movement <= 1e-6).mean() > 0.5)
        said.insert(1, "The states rest at an unstable point." if rest else f"The states grow too, by {np.median(e.state_rate):+.4f} nats per step.")
    peak = e.transport_by_lag[1]
    if verdict in ("vanishing", "stable", "undecided") and np.max(peak) > 1:
        lag = int(np.argmax(peak))
        said.append(
            f"Transient growth: before it decays, a perturbation typically grows by a factor of {_factor(peak[lag])} (at lag {lag}). "
            "The Jacobians are not normal; eigenvalues do not show this."
        )
    if e.split is not None and np.isfinite(e.split).all():
        weights, activation = e.split
        share = "all of it, against the weights" if weights > 0 else f"{activation / (weights + activation):.0%} of it"
        decay = f"; of the decay, the slopes are {share}" if weights + activation < 0 else ""
        said.append(
            f"Along a typical perturbation the affine part (weights, state carried over) contributes {weights:+.4f} "
            f"and the slopes of activations and gates {activation:+.4f} nats per step{decay}."
        )
    if e.gradient is not None:
        said += _gradient_reasons(e)
    bad = e.first_nonfinite[e.first_nonfinite > 0]
    if bad.size:
        said.insert(
            0,
            f"In {bad.size} of {len(e.lengths)} sequences the state is not finite from some step on, first from step {bad.min()}; "
            "only the steps before were analysed.",
        )
    return tuple(said)


def _gain_reasons(e: Evidence) -> list[str]:
    count, mean = int((e.lengths > 0).sum()), float(e.lengths[e.lengths > 0].mean())
    dead = int((e.log_gain == -np.inf).sum())
    source = f"standard error between {count} sequences" if count > 1 else "standard error from blocks of time: one sequence"
    said = []
    if np.isfinite(e.rate):
        gain = e.rate * mean
        said.append(
            f"Over a whole sequence ({mean:.4g} steps) a gradient changes by at most a factor of {_factor(gain)} "
            f"(log gain {gain:+.3f} ± {e.rate_error * mean:.3f} nats, {source})."
        )
    if dead:
        said.append(f"In {dead} of {count} sequences the product of Jacobians is exactly zero: no gradient reaches the start.")
    return said


def _rate_reasons(e: Evidence) -> list[str]:
    top, error = e.exponents[0], e.standard_errors[0]
    if top == -np.inf:
        said = ["Leading Lyapunov exponent −inf: every direction dies on the way (dead units or singular Jacobians)."]
    else:
        scale = f"a factor of e {'lost' if top < 0 else 'gained'} every {1 / abs(top):.3g} steps" if top else "no change"
        said = [f"Leading Lyapunov exponent {top:+.5f} ± {error:.5f} nats per step: {scale}."]
    lost = int((e.exponents == -np.inf).sum())
    if 0 < lost < len(e.exponents):
        said.append(f"{lost} of the {len(e.exponents)} leading directions died or drowned in rounding (exponent −inf).")
    low, mid, high = e.horizon
    until = "beyond the end of the sequences" if math.isinf(mid) else f"{mid:.0f} steps"
    said.append(
        f"Memory horizon of a typical perturbation (transport below 1/e for good): median {until}, "
        f"10–90 % {_lag(low)} to {_lag(high)}; {e.censored:.0%} of the starting times last to the end."
    )
    return said


def _criterion_reasons(verdict: str, e: Evidence) -> list[str]:
    """The criterion of the textbook, and whether it is right here."""
    mean = float(e.lengths[e.lengths > 0].mean())
    finite = e.log_radius[np.isfinite(e.log_radius)]
    total = finite.mean() * mean if len(finite) == len(e.log_radius) else -np.inf
    says = "vanishing" if total < -TOLERANCE else "exploding" if total > TOLERANCE else "stable"
    text = (
        f"Eigenvalue criterion: the largest |eigenvalue| of J_t is below 1 at {(e.log_radius < 0).mean():.0%} of {len(e.log_radius)} sampled steps "
        f"(mean log {total / mean:+.4f} per step), which would mean {says}."
    )
    actual = "exploding" if verdict == "chaotic" else verdict
    if actual == "undecided":
        return [text]
    if says == actual:
        return [text + " It agrees with the verdict here."]
    return [
        text + f" It disagrees with the verdict, {verdict}: "
        "a product of Jacobians is governed by its singular values, not by the eigenvalues of the factors."
    ]


def _gradient_reasons(e: Evidence) -> list[str]:
    g, T = e.gradient, e.plan.steps
    assert g is not None
    if not np.isfinite(g.lag_share).all() or g.lag_share[0] == 0:
        return ["The terms of the gradient through the state are all zero or not finite: no share by lag can be given."]
    shares = []
    for part in (0.01, 0.1, 0.5):
        lag = min(math.floor(part * T) + 1, len(g.lag_share) - 1)
        error = "" if math.isinf(g.lag_share_errors[lag]) else f" ± {g.lag_share_errors[lag]:.1g}"
        shares.append(f"{g.lag_share[lag]:.3g}{error} by lags of {lag} or more (beyond {part:.0%} of the length)")
    said = ["Of the gradient of the loss (sum of the norms of its terms) the share carried is " + ", ".join(shares) + "."]
    if g.truncation_lags.size:
        lag = int(np.median(g.truncation_lags))
        beyond = g.lag_share[min(lag + 1, len(g.lag_share) - 1)] if lag + 1 < len(g.lag_share) else 0.0
        said.append(f"Truncated at lag {lag} the gradient still has cosine 0.99 with the full one; {beyond:.2g} of the terms' norm lies beyond.")
    return said


def _remedies(verdict: str, e: Evidence) -> tuple[str, ...]:
    """What to try, with why, from what was measured; it is not tried here."""
    if verdict == "vanishing":
        return tuple(_against_decay(e))
    return {
        "exploding": (
            "a smaller recurrent gain, or an orthogonal initialisation: largest singular value 1 bounds every step by the activation's slope",
            "clipping the gradient's norm: it keeps training finite, it does not bring long lags back",
        ),
        "chaotic": (
            "a smaller recurrent gain or stronger input: both lower the leading exponent",
            "clipping the gradient's norm, and truncating where the error has grown by e: beyond that the gradient is noise",
        ),
        "undecided": ("more or longer sequences: the standard error falls with their square root",),
        "stable": (),
    }[verdict]


def _against_decay(e: Evidence) -> list[str]:
    gates = "a larger bias of the forget (LSTM) or update (GRU) gate, about the logarithm of the longest lag: the memory decays at ln σ(bias) a step"
    orthogonal = "an orthogonal or identity recurrent initialisation: it takes the weights' part out of the decay"
    gated = "a gated cell with a positive forget bias: its memory decays at ln σ(bias) a step, whatever the weights"
    if e.split is None:
        return [gates + " (if the cell has gates)", orthogonal, gated + " (if it has none)"]
    if e.slope_bound is None:
        return [gates]
    weights, activation = e.split
    slopes = "smaller inputs (less saturation), or an activation of slope 1: the slopes cause most of the decay here"
    return [slopes] * (activation < weights) + [orthogonal] * (weights < 0) + [gated]


def _self_checks(step, params, state, xs, targets, loss, e: Evidence) -> tuple[Check, ...]:
    """The checks on a stretch at the end of the first sequence that has one, from the stored state there."""
    usable = np.flatnonzero(e.lengths > 0)
    if not usable.size:
        return ()
    b = int(usable[0])
    stop = int(e.lengths[b])
    start = max(0, stop - e.plan.check_steps)
    x = jax.tree.map(lambda leaf: leaf[b], xs)
    if start:
        before = states(step, params, state, jax.tree.map(lambda leaf: leaf[:start], x), length=start)
        state = jax.tree.map(lambda leaf: leaf[-1], before)
    x = jax.tree.map(lambda leaf: leaf[start:stop], x)
    whole = {"length": stop - start}
    run = [check(step, params, state, x, **whole) for check in (checks.determinants, checks.products, checks.bounds)]
    if e.gradient is not None:
        y = jax.tree.map(lambda leaf: leaf[b, start:stop], targets)
        times = tuple(t - start for t in e.gradient.times if start < t <= stop)
        run.insert(0, checks.terms(step, params, state, x, y, loss, times=times or None))
    return tuple(run)


def _lag(value: float) -> str:
    return "beyond the end" if math.isinf(value) else f"{value:.0f}"


def _factor(log: float) -> str:
    """e^log for people, also where it overflows."""
    return f"{math.exp(log):.3g}" if abs(log) < 600 else f"10^{log / math.log(10):.0f}"


def _plain(value: Any) -> Any:
    """Nested numbers as JSON takes them."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
