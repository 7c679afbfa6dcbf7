"""What the evidence says, in sentences with numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrnn.evidence import Evidence

TOLERANCE = math.log(10.0)
"""A gradient that changes by less than a factor of 10 over a whole sequence counts as stable."""

_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)  # 97.5 %, 1 to 15 degrees


def student(freedom: float) -> float:
    """Student's 97.5 % quantile; fractions of a degree are rounded down."""
    whole = int(min(freedom, 10**6))
    return _STUDENT[whole - 1] if 1 <= whole <= len(_STUDENT) else 1.96 + 2.5 / max(whole, 1) if whole else math.inf


def interval(e: Evidence) -> tuple[float, float]:
    """The 95 % interval of the log gain over a sequence of mean length, nats; infinite where the error is unknown."""
    mean = float(e.lengths.mean())
    gain, half = e.rate * mean, student(e.freedom) * e.rate_error * mean
    return (gain - half, gain + half) if np.isfinite(half) and np.isfinite(gain) else (-np.inf, np.inf)


def reasons(verdict: str, e: Evidence) -> tuple[str, ...]:
    """Sentences with numbers; each says what it measured."""
    if not e.chosen.size:
        return ("No state is finite, from the first step on: nothing can be analysed.",)
    said = [*_broken(e), *_gain(verdict, e), *_memory(e), *_criterion(verdict, e), *_rate(e), *_transient(verdict, e), *_split(e)]
    return tuple(said + _gradient(e))


def sampled(e: Evidence) -> tuple[str, ...]:
    """What was sampled, strided or left out, and why."""
    p, said = e.plan, []
    if len(e.chosen) < e.given:
        said.append(f"{len(e.chosen)} of {e.given} sequences were measured: the others were left out to save time, or have no finite state.")
    pairs = p.sequences * p.steps
    if p.exponents < p.dimension:
        said.append(f"Lyapunov exponents: the leading {p.exponents} of {p.dimension}; the rest would not change the verdict.")
    if p.jacobians < pairs:
        said.append(f"Eigenvalues: {p.jacobians} of {pairs} Jacobians, drawn at random; an eigendecomposition costs O(n³) each.")
    if p.transport_sequences < len(e.chosen) or p.transport_stride > 1:
        every = "every starting time" if p.transport_stride == 1 else f"starting times {p.transport_stride} steps apart"
        said.append(f"Transport between pairs of times: {_of(p.transport_sequences, e.given)}, {every}; all pairs cost O(T²n³) a sequence.")
    if e.gradient is not None:
        times = f"the losses of {len(e.gradient.times)} steps" if len(e.gradient.times) > 1 else "the loss of one step"
        lags = f", lags up to {p.max_lag} told apart and longer ones summed" if p.max_lag < p.steps - 1 else ""
        said.append(f"Terms of the gradient: {_of(p.gradient_sequences, e.given)}, {times}{lags}.")
    else:
        said.append("No terms of the gradient: no targets and loss were given, or states are not finite.")
    if e.split is None:
        said.append(
            "The weights' and the activation's part in the growth: not available, the step as a whole is not declared affine, then pointwise."
        )
    said.append(f"The self-checks ran on {p.check_steps} steps of the first sequence, from its stored states.")
    return tuple(said)


def compared(labels: tuple[str, str], verdicts: tuple[str, str], changes: Sequence[Any], facts: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """What differs between two diagnoses, in sentences: the verdict, cautions, and one for each change that both know."""
    one, two = labels
    same = verdicts[0] == verdicts[1]
    said = [f"The verdict stays: {verdicts[0]}." if same else f"The verdict changes: {one} {verdicts[0]}, {two} {verdicts[1]}."]
    lengths = [float(np.mean(f["lengths"])) if f["lengths"] else math.nan for f in facts]
    if lengths[0] != lengths[1]:
        said.append(
            f"The sequences differ in length ({lengths[0]:.4g} and {lengths[1]:.4g} steps): compare rates per step, not gains over a sequence."
        )
    for label, f in zip(labels, facts, strict=True):
        failed = [check["name"] for check in f.get("checks", ()) if not check["passed"]]
        if failed:
            said.append(f"Self-checks failed {label}: {', '.join(failed)}; do not trust its numbers.")
    for c in changes:
        if math.isnan(c.a) or math.isnan(c.b):
            continue
        errors = [f" ± {e:.2g}" if math.isfinite(e) else "" for e in (c.a_error, c.b_error)]
        how = {True: "a clear difference", False: "no clear difference", None: "no error known"}[c.clear]
        text = f"{c.name[0].upper()}{c.name[1:]}: {one} {c.a:.4g}{errors[0]}, {two} {c.b:.4g}{errors[1]} {c.unit}"
        said.append(f"{text} ({how}).")
    return tuple(said)


def _broken(e: Evidence) -> list[str]:
    said = []
    bad = e.first_nonfinite[e.first_nonfinite > 0]
    if bad.size:
        where = f"In {bad.size} of {e.given} sequences the state is not finite from some step on, first from step {bad.min()}"
        said.append(f"{where}; only the steps before were analysed.")
    if e.first_nonfinite_jacobian.any():
        b = int(np.argmax(e.first_nonfinite_jacobian > 0))
        said.append(
            f"In {(e.first_nonfinite_jacobian > 0).sum()} of {e.given} sequences a Jacobian is not finite though the state is, "
            f"first in sequence {e.chosen[b]} at step {e.first_nonfinite_jacobian[b]}: no rate can be given."
        )
    return said


def _gain(verdict: str, e: Evidence) -> list[str]:
    count, mean = len(e.chosen), float(e.lengths.mean())
    dead = int((e.log_gain == -np.inf).sum())
    said = []
    if np.isfinite(e.rate):
        alone = "one sequence" if count == 1 else "all sequences take the same trajectory"
        source = f"standard error between blocks of time: {alone}" if e.one_trajectory else f"standard error between {_of(count, e.given)}"
        gain = e.rate * mean
        error = (
            f" ± {e.rate_error * mean:.3f} nats, {source}"
            if np.isfinite(e.rate_error)
            else " nats; one step of one sequence says nothing of its error"
        )
        said.append(
            f"Over a whole sequence ({mean:.4g} steps) a gradient changes by at most a factor of {_factor(gain)} (log gain {gain:+.3f}{error})."
        )
    if dead:
        said.append(f"In {dead} of {count} sequences the product of Jacobians is exactly zero: no gradient reaches the start.")
    if verdict == "chaotic":
        said.append("The states stay bounded and large perturbations saturate while small ones grow: the dynamics is chaotic, the gradient explodes.")
    elif verdict == "exploding" and e.lengths.max() > 1:
        if (e.movement <= 1e-6).mean() > 0.5:
            said.append("The states rest at an unstable point.")
        elif np.median(e.state_rate) > 0.5 * e.rate:
            said.append(f"The states grow too, by {np.median(e.state_rate):+.4f} nats per step.")
    return said


def _rate(e: Evidence) -> list[str]:
    top, error = e.exponents[0], e.standard_errors[0]
    if np.isnan(top):
        return []
    dead = e.log_gain == -np.inf
    if top == -np.inf and not dead.all():
        living = e.log_gain[~dead].sum() / e.lengths[~dead].sum()
        some = f"in {dead.sum()} of {len(dead)} sequences every direction dies on the way" if dead.any() else "a random perturbation dies on the way"
        return [f"Leading Lyapunov exponent −inf over all sequences: {some}; the largest gain of the others is {living:+.5f} nats per step."]
    if top == -np.inf:
        return ["Leading Lyapunov exponent −inf: every direction dies on the way (dead units or singular Jacobians)."]
    scale = f"a factor of e {'lost' if top < 0 else 'gained'} every {1 / abs(top):.3g} steps" if top else "no change"
    said = [f"Leading Lyapunov exponent {top:+.5f} ± {error:.5f} nats per step: {scale}."]
    if (e.rate - top) * float(e.lengths.mean()) > 1:  # a random frame in n dimensions starts up to ½ ln n below its leading direction
        said[0] += f" That is of a random perturbation, of which little lies along the direction that does best; that one has {e.rate:+.5f}."
    lost = int((e.exponents == -np.inf).sum())
    if lost:
        said.append(f"{lost} of the {len(e.exponents)} leading directions died or drowned (exponent −inf): one singular Jacobian is enough.")
    return said


def _memory(e: Evidence) -> list[str]:
    low, mid, high = e.horizon
    if np.isnan(mid):
        return []
    until = "beyond the end of the sequences" if math.isinf(mid) else f"{mid:.0f} steps"
    spread = f"10–90 % {_lag(low)} to {_lag(high)}; " if not math.isinf(low) else ""
    return [
        f"Memory horizon of a typical perturbation (transport below 1/e for good): median {until}, {spread}"
        f"{e.censored:.0%} of the starting times last to the end ({_of(e.plan.transport_sequences, e.given)})."
    ]


def _criterion(verdict: str, e: Evidence) -> list[str]:
    """The criterion of the textbook, and whether it is right here."""
    middle = float(np.median(e.log_radius))
    if np.isnan(middle):
        return []
    total = middle * float(e.lengths.mean())
    says = "vanishing" if total < -TOLERANCE else "exploding" if total > TOLERANCE else "stable"
    text = (
        f"Eigenvalue criterion: the largest |eigenvalue| of J_t is below 1 at {(e.log_radius < 0).mean():.0%} of {len(e.log_radius)} sampled steps "
        f"(median log {middle:+.4f}), which would mean {says}."
    )
    actual = "exploding" if verdict == "chaotic" else verdict
    if actual == "undecided":
        return [text]
    if says == actual:
        return [text + " It agrees with the verdict here."]
    return [
        f"{text} It disagrees with the verdict, {verdict}: "
        "a product of Jacobians is governed by its singular values, not by the eigenvalues of the factors."
    ]


def _transient(verdict: str, e: Evidence) -> list[str]:
    peak = np.where(np.isnan(e.transport_by_lag[1]), -np.inf, e.transport_by_lag[1])
    if verdict in ("chaotic", "exploding") or not np.max(peak) > 1:
        return []
    lag = int(np.argmax(peak))
    with np.errstate(invalid="ignore"):
        nonnormal = np.median(e.log_sigma - e.log_radius) > 0.01
    why = (
        "the Jacobians are not normal, which eigenvalues do not show"
        if nonnormal
        else "the Jacobians differ from one part of the sequence to another"
    )
    return [f"Transient growth: before it decays, a perturbation typically grows by a factor of {_factor(peak[lag])} (at lag {lag}); {why}."]


def _split(e: Evidence) -> list[str]:
    if e.split is None or e.slope_bound is None or not np.isfinite(e.split).all():
        return []  # of a gated cell the affine part is a matter of how gates and state are written down
    weights, activation = e.split
    share = f": {activation / (weights + activation):.0%} of the decay is the activation's" if weights < -1e-9 > activation else ""
    share = ": all of the decay is the activation's" if weights >= -1e-9 and weights + activation < -1e-9 else share
    where = "" if len(set(e.lengths)) == 1 else f" (over the first {e.lengths.min()} steps, which all sequences have)"
    return [
        f"Along a typical perturbation the weights contribute {weights:+.4f} and the slopes of the activation {activation:+.4f} "
        f"nats per step{where}{share}."
    ]


def _gradient(e: Evidence) -> list[str]:
    g, mean = e.gradient, float(e.lengths.mean())
    if g is None:
        return []
    if not np.isfinite(g.lag_share).all() or g.lag_share[0] == 0:
        return ["The terms of the gradient through the state are all zero or not finite: no share by lag can be given."]
    apart = e.plan.max_lag if e.plan.max_lag < e.plan.steps - 1 else None  # beyond it lags are summed, not told apart
    shares = []
    latest = max(g.times)  # no term reaches further back than from the last loss to the first step
    lags = {math.floor(part * mean) + 1: part for part in (0.5, 0.1, 0.01)}  # of equal lags the smallest part
    for lag, part in sorted(lags.items()):
        if apart is not None and lag > apart + 1:
            shares.append(f"unknown beyond {part:.0%} of the length (lags above {apart} were not told apart)")
        elif lag < min(latest, len(g.lag_share)):
            share, error = g.lag_share[lag], g.lag_share_errors[lag]
            shares.append(f"{share:.3g}{'' if math.isinf(error) else f' ± {error:.1g}'} by lags of {lag} or more (beyond {part:.0%} of the length)")
        else:
            shares.append(f"none by lags of {lag} or more: the last loss is at step {latest}")
    where = f"{_of(e.plan.gradient_sequences, e.given)}, losses of {len(g.times)} of {e.plan.steps} steps"
    said = [f"Of the gradient of the loss (sum of the norms of its terms; {where}) the share carried is " + ", ".join(shares) + "."]
    if g.truncation_lags.size:
        lag = int(np.median(g.truncation_lags))
        beyond = g.lag_share[lag + 1] if lag + 1 < len(g.lag_share) else 0.0
        text = f"Truncated at lag {lag} the gradient still has cosine 0.99 with the full one; {beyond:.2g} of the terms' norm lies beyond."
        said.append(
            text
            if apart is None or lag <= apart
            else f"Truncated at lag {apart}, the longest told apart, the gradient has a cosine below 0.99 with the full one."
        )
    return said


def _of(count: int, given: int) -> str:
    return f"{count} of {given} sequences" if count < given else f"{count} sequence{'s' * (count > 1)}"


def _lag(value: float) -> str:
    return "beyond the end" if math.isinf(value) else f"{value:.0f}"


def _factor(log: float) -> str:
    """e^log for people, also where it overflows."""
    return f"{math.exp(log):.3g}" if abs(log) < 600 else f"10^{log / math.log(10):.0f}"
