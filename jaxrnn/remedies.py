"""What mends it: the catalogue of remedies, and which of them fit what was measured."""

import math
from typing import NamedTuple

import numpy as np

from jaxrnn.evidence import Evidence


class Remedy(NamedTuple):
    """Something to try."""

    what: str  # in one sentence
    changes: str  # what it does to the Jacobians
    price: str  # what it costs
    source: str  # author, year


class Advice(NamedTuple):
    """A remedy for this model."""

    name: str  # key in ``CATALOGUE``
    reason: str  # why here, in numbers where there are some
    remedy: Remedy

    def __str__(self) -> str:
        """What to do and why."""
        return f"{self.remedy.what} Why here: {self.reason}."


CATALOGUE: dict[str, Remedy] = {
    "gate-bias": Remedy(
        "Start the forget (LSTM) or update (GRU) gate open: a bias about the logarithm of the longest lag.",
        "the block of the memory becomes diag(σ(bias)): it keeps e^(−1/lag) a step",
        "no parameters; short memories are forgotten more slowly at first",
        "Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015; Tallec, Ollivier 2018",
    ),
    "gated-cell": Remedy(
        "Use a gated cell (LSTM, GRU) with a positive forget bias.",
        "adds a path whose Jacobian is the gate itself, near the identity where the gate is open",
        "three to four times the parameters and time per step",
        "Hochreiter, Schmidhuber 1997; Cho et al. 2014",
    ),
    "linear-recurrence": Remedy(
        "Use a diagonal linear recurrence with eigenvalues near the unit circle, and nonlinear layers around it.",
        "J_t = diag(λ), the same at every step: its singular values are |λ|, whatever the input",
        "another architecture: the nonlinearity must come before and after the recurrence",
        "Orvieto et al. 2023",
    ),
    "orthogonal-init": Remedy(
        "Start from an orthogonal (or, with ReLU, identity) recurrent matrix.",
        "all singular values of the weights are 1: only the activation's slopes are left to shrink a perturbation",
        "none at the start; training may leave it",
        "Saxe, McClelland, Ganguli 2014; Le, Jaitly, Hinton 2015",
    ),
    "orthogonal-parametrisation": Remedy(
        "Keep the recurrent matrix orthogonal during training.",
        "as an orthogonal start, and training cannot leave it",
        "a matrix exponential or solve per update; cannot forget on purpose without a gate",
        "Arjovsky, Shah, Bengio 2016; Lezcano-Casado, Martínez-Rubio 2019",
    ),
    "less-saturation": Remedy(
        "Keep units in the range where the activation is steep: inputs scaled to about 1, smaller biases or weights, or normalised activations.",
        "raises the slopes φ' in J_t = diag(φ') W towards their bound",
        "a more linear network; smaller input weights also carry less of the input",
        "LeCun et al. 1998; Pascanu, Mikolov, Bengio 2013",
    ),
    "living-units": Remedy(
        "Keep units alive: smaller negative biases, or an activation whose slope is never exactly zero.",
        "a unit of slope zero is a zero row of J_t; a product through zero stays zero",
        "none to speak of",
        "Maas, Hannun, Ng 2013; Le, Jaitly, Hinton 2015",
    ),
    "norm-regulariser": Remedy(
        "Add Pascanu's Ω to the loss, which asks that ∂L/∂h_t keeps its norm from step to step.",
        "pushes ‖∂L/∂h_{t+1} J_{t+1}‖ / ‖∂L/∂h_{t+1}‖ towards 1 along the directions that the loss uses",
        "one more pass back through time, and a weight to tune; gradients may explode, so clip",
        "Pascanu, Mikolov, Bengio 2013, equation 9",
    ),
    "flossing": Remedy(
        "Push the leading Lyapunov exponents towards zero before or during training (gradient flossing).",
        "acts on the growth rates of the product itself",
        "a QR per step in the loss; helps up to moderate gain only",
        "Engelken 2023",
    ),
    "clipping": Remedy(
        "Clip the norm of the gradient.",
        "nothing: it rescales the sum, so that training stays finite; it does not bring long lags back",
        "none; where most gradients are clipped the direction is that of the largest terms",
        "Pascanu, Mikolov, Bengio 2013",
    ),
    "smaller-gain": Remedy(
        "Scale the recurrent weights down.",
        "in a cell without gates, scales the weights' part of every J_t by the same factor; in a gated one, that of the gates and the candidate",
        "shorter memory in the directions that already decay",
        "Sompolinsky, Crisanti, Sommers 1988",
    ),
    "stronger-input": Remedy(
        "Drive the network harder: a larger input scale.",
        "saturates the units, which lowers the slopes in J_t and with them the leading exponent",
        "saturation also shortens memory",
        "Molgedey, Schuchhardt, Schuster 1992; Engelken, Wolf, Abbott 2023",
    ),
    "forcing": Remedy(
        "Where the target itself is chaotic, force the state towards the data every few steps (sparse teacher forcing).",
        "cuts the product at the forced steps; the interval should be about ln 2 over the leading exponent",
        "the free-running network is not trained beyond the interval",
        "Mikhaeil, Monfared, Durstewitz 2022",
    ),
    "more-data": Remedy(
        "Measure more, or longer, sequences.",
        "nothing: it narrows the interval",
        "time in proportion; the standard error falls with the square root of their number",
        "",
    ),
    "look": Remedy(
        "Look at the step or the sequences that the reasons name.",
        "nothing: until the state and its Jacobians are finite and alive, no rate can be given",
        "none",
        "",
    ),
}
"""Name -> remedy; what each changes in the Jacobians, its price and its source."""


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
