"""Which remedies fit what was measured, and why."""

import math
from typing import NamedTuple

import numpy as np

from jaxrnn.evidence import Evidence
from jaxrnn.remedies.catalogue import CATALOGUE, Remedy


class Advice(NamedTuple):
    """A remedy for this model."""

    name: str  # key in ``CATALOGUE``
    reason: str  # why here, in numbers where there are some
    remedy: Remedy

    def __str__(self) -> str:
        """What to do and why."""
        return f"{self.remedy.what} Why here: {self.reason}."


def ranked(verdict: str, e: Evidence) -> tuple[Advice, ...]:
    """The remedies that fit a verdict, those first that address most of the measured growth.

    Against decay a remedy is placed by the rate, in nats per step, that it can take out of it at most: what the weights
    lose, or the slopes lose against their bound, along a typical perturbation (``flow.growth_split``); another architecture
    could take out all of it and counts half, because it costs most. Where the step is opaque, and against growth, the order is fixed.
    None has been tried on the model here.

    >>> from jaxrnn import remedies
    >>> remedies.CATALOGUE["clipping"].changes[:7]
    'nothing'
    """
    found = {"vanishing": _against_decay, "exploding": _against_growth, "chaotic": _against_chaos, "undecided": _towards_a_verdict}.get(verdict)
    if found is None:
        return ()
    offers = sorted(found(e), key=lambda offer: -offer[0])  # stable: equal offers keep their order
    return tuple(Advice(name, reason, CATALOGUE[name]) for _, name, reason in offers)


def _against_decay(e: Evidence) -> list[tuple[float, str, str]]:
    longest, decay = float(e.lengths.max()), -e.rate
    wanted = f"over {longest:.0f} steps a rate of {-1 / longest:.2g} nats per step would keep a factor of 1/e"
    bias = f"the longest of these sequences asks for a bias of ln {longest:.0f} = {math.log(max(longest, 2)):.1f}"
    dead = int((e.log_gain == -np.inf).sum())
    offers: list[tuple[float, str, str]] = []
    if dead and (e.split is None or e.dies):
        reason = f"in {dead} of {len(e.log_gain)} sequences the product is exactly zero: units are dead along the way"
        offers.append((math.inf, "living-units", reason))
    if e.gated:
        offers.append((decay, "gate-bias", bias))
    elif e.split is None or e.slope_bound is None:
        opaque = (
            "its structure is not declared, so the parts of weights and slopes are not known"
            if e.split is None
            else "it is not one activation of an affine map, so that weights and slopes do not come apart"
        )
        offers += [(3, "gated-cell", f"if it has no gates: {wanted}"), (2, "gate-bias", f"if it has gates: {bias}"), (1, "orthogonal-init", opaque)]
    else:
        offers += _for_one_activation(*e.split, e.slope_bound, e.dies)
        offers += [(decay / 2, "gated-cell", wanted), (decay / 2, "linear-recurrence", f"{wanted}; no slope multiplies the state")]
    if e.gated is not None and not dead:
        offers.append((0, "norm-regulariser", "it acts on the directions that the loss uses"))
    return offers


def _for_one_activation(weights: float, activation: float, bound: float, dies: bool) -> list[tuple[float, str, str]]:
    """What less saturation and better weights can take out of the decay of h_t = φ(W h_{t−1} + …), sup|φ'| = ``bound``."""
    offers: list[tuple[float, str, str]] = []
    saturated = math.log(bound) - activation  # the rest of the activation's part lies in its bound
    part = f"{activation:+.3g}".replace("-inf", "−inf")
    if saturated > 1e-3 and not dies:  # the slopes of ReLU do not change with the size of what goes in
        offers.append(
            (saturated, "less-saturation", f"the slopes contribute {part} nats per step; at their steepest it would be {math.log(bound):.3g}")
        )
    gain = f" (times {1 / bound:.3g}, which makes up for slopes of at most {bound:.3g})" if bound < 1 else ""
    lost = -weights - math.log(bound) if math.isfinite(weights) else 0.0
    if lost > 1e-3:
        reason = f"the weights contribute {weights:+.3g} nats per step; orthogonal ones contribute 0{gain}"
        offers += [(lost, "orthogonal-init", reason), (lost, "orthogonal-parametrisation", reason)]
    return offers


def _against_growth(e: Evidence) -> list[tuple[float, str, str]]:
    if e.gated is False and 0 < e.rate < 50:
        reason = f"without gates, weights times e^(−{e.rate:.3g}) = {math.exp(-e.rate):.3g} bring the rate to about zero"
    else:
        reason = f"perturbations grow by {e.rate:+.3g} nats per step" if np.isfinite(e.rate) else "perturbations grow"
    offers: list[tuple[float, str, str]] = [(3, "smaller-gain", reason)]
    if e.slope_bound is not None:
        offers.append((2, "orthogonal-init", "singular values of 1 bound every step by the activation's largest slope"))
    return [*offers, (1, "clipping", "it keeps training finite meanwhile")]


def _against_chaos(e: Evidence) -> list[tuple[float, str, str]]:
    top = float(e.exponents[0])
    critical = "; below the critical gain it is negative" if e.gated is False else ""
    offers: list[tuple[float, str, str]] = [
        (5, "smaller-gain", f"the leading exponent is {top:+.3g} nats per step{critical}"),
        (4, "stronger-input", "input that is strong against the recurrent drive suppresses chaos"),
        (3, "flossing", "it moves the leading exponents to zero, at moderate gain"),
        (1, "clipping", "it keeps training finite meanwhile"),
    ]
    every = math.log(2) / top if top > 0 else 0.0
    return offers + [(2, "forcing", f"if the target is chaotic too: force about every ln 2 / λ₁ = {every:.0f} steps")] * (every >= 1.5)


def _towards_a_verdict(e: Evidence) -> list[tuple[float, str, str]]:
    if not e.chosen.size or e.first_nonfinite_jacobian.any() or (e.first_nonfinite > 0).any():
        return [(1.0, "look", "the state or a Jacobian is not finite at the step named above")]
    if (e.log_gain == -np.inf).any():
        return [(1.0, "look", "the product is exactly zero in some sequences (.evidence.log_gain): dead units, or inputs that reset the state")]
    crosses = "the 95 % interval crosses the border of what counts as stable"
    return [(1.0, "more-data", crosses if np.isfinite(e.rate_error) else "from one step of one sequence no error can be told")]
