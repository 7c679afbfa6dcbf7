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
        "Keep units in the range where the activation is steep: smaller inputs, biases or weights, or normalised activations.",
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
        "scales the weights' part of every J_t by the same factor",
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
        "statistics",
    ),
    "look": Remedy(
        "Look at the step or the sequences that the reasons name.",
        "nothing: until the state and its Jacobians are finite and alive, no rate can be given",
        "none",
        "statistics",
    ),
}
"""Name -> remedy; what each changes in the Jacobians, its price and its source."""


def ranked(verdict: str, e: Evidence) -> tuple[Advice, ...]:
    """The remedies that fit a verdict, those first that address most of the measured growth.

    A remedy is placed by the rate, in nats per step, that it can take out of the measured growth or decay: the weights'
    or the activation's part along a typical perturbation (``flow.growth_split``), or all of it for another
    architecture. None has been tried on the model here.

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
    longest = float(e.lengths.max())
    wanted = f"over {longest:.0f} steps a rate of {-1 / longest:.2g} nats per step would keep a factor of 1/e"
    bias = f"ln {longest:.0f} = {math.log(max(longest, 2)):.1f}"
    all_of_it = -e.rate if np.isfinite(e.rate) else math.inf
    if e.split is None:
        return [
            (3, "gate-bias", f"if the cell has gates, a bias of {bias} suits sequences of this length"),
            (
                2,
                "orthogonal-init",
                "it takes the recurrent weights' part out of the decay, if they have one (this step declares no structure to measure it by)",
            ),
            (1, "gated-cell", f"if it has none; {wanted}"),
        ]
    weights, activation = e.split
    slopes = f"the slopes contribute {activation:+.3g} of {weights + activation:+.3g} nats per step"
    matrix = f"the weights contribute {weights:+.3g} of {weights + activation:+.3g} nats per step"
    if e.slope_bound is None:
        gates = f"gates and slopes contribute {activation:+.3g} nats per step along a typical perturbation; a bias of {bias} suits this length"
        return [(all_of_it, "gate-bias", gates), (0, "norm-regulariser", "it acts on the directions that the loss uses")]
    offers = [(all_of_it, "gated-cell", wanted), (all_of_it, "linear-recurrence", f"{wanted}; no slope multiplies the state")]
    if activation == -np.inf:
        return [(math.inf, "living-units", "the slopes are exactly zero: units are dead along the way"), *offers]
    if activation < 0:
        offers.append((-activation, "less-saturation", slopes))
    if weights < -1e-3:
        offers += [(-weights, "orthogonal-init", matrix), (-weights, "orthogonal-parametrisation", matrix)]
    return [
        *offers,
        (0, "norm-regulariser", "it acts on the directions that the loss uses"),
        (0, "flossing", "it acts on the leading exponents, at moderate gain"),
    ]


def _against_growth(e: Evidence) -> list[tuple[float, str, str]]:
    reason = (
        f"a factor of e^(−{e.rate:.3g}) = {math.exp(-e.rate):.3g} on every Jacobian would bring the rate to zero" if 0 < e.rate < 50 else "it grows"
    )
    offers = [(3, "smaller-gain", reason)]
    if e.slope_bound is not None:
        offers.append((2, "orthogonal-init", "singular values of 1 bound every step by the activation's largest slope"))
    return [*offers, (1, "clipping", "it keeps training finite meanwhile")]


def _against_chaos(e: Evidence) -> list[tuple[float, str, str]]:
    top = float(e.exponents[0])
    every = f"ln 2 / λ₁ = {math.log(2) / top:.0f} steps" if top > 0 else "ln 2 / λ₁ steps"
    return [
        (5, "smaller-gain", f"the leading exponent is {top:+.3g} nats per step; below the critical gain it is negative"),
        (4, "stronger-input", "input that is strong against the recurrent drive suppresses chaos"),
        (3, "flossing", "it moves the leading exponents to zero, at moderate gain"),
        (2, "forcing", f"if the target is chaotic too: force about every {every}"),
        (1, "clipping", "it keeps training finite meanwhile"),
    ]


def _towards_a_verdict(e: Evidence) -> list[tuple[float, str, str]]:
    if not e.chosen.size or e.first_nonfinite_jacobian.any():
        return [(1, "look", "the state or a Jacobian is not finite at the step named above")]
    if (e.log_gain == -np.inf).any():
        return [(1, "look", "the product is exactly zero in some sequences (.evidence.log_gain): dead units, or inputs that reset the state")]
    return [(1, "more-data", "the 95 % interval crosses the border of what counts as stable")]
