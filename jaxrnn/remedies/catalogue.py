"""Every remedy that there is: what it changes in the Jacobians, its knobs, its price and its source."""

from typing import Any, NamedTuple


class Remedy(NamedTuple):
    """Something to try."""

    what: str  # in one sentence
    changes: str  # what it does to the Jacobians
    price: str  # what it costs
    source: str  # author, year
    knobs: dict[str, tuple[Any, str]]  # name -> (default, what it means): the options of ``apply``; empty for advice that cannot be executed


_WEIGHTS = (("W_hh",), "names of the recurrent weights: square, or gates stacked along axis 0")
_GAIN = (1.0, "factor of the matrix")

CATALOGUE: dict[str, Remedy] = {
    "gate-bias": Remedy(
        "Start the forget (LSTM) or update (GRU) gate open: a bias about the logarithm of the longest lag.",
        "the block of the memory becomes diag(σ(bias)): it keeps e^(−1/lag) a step",
        "no parameters; short memories are forgotten more slowly at first",
        "Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015; Tallec, Ollivier 2018",
        {"bias": (None, "of the gate that keeps; None: the logarithm of the length")},
    ),
    "gated-cell": Remedy(
        "Use a gated cell (LSTM, GRU) with a positive forget bias.",
        "adds a path whose Jacobian is the gate itself, near the identity where the gate is open",
        "three to four times the parameters and time per step",
        "Hochreiter, Schmidhuber 1997; Cho et al. 2014",
        {"cell": ("lstm", "its name in cells.REGISTRY"), "forget_bias": (1.0, "of the gate that keeps")},
    ),
    "linear-recurrence": Remedy(
        "Use a diagonal linear recurrence with eigenvalues near the unit circle, and nonlinear layers around it.",
        "J_t = diag(λ), the same at every step: its singular values are |λ|, whatever the input",
        "another architecture: the nonlinearity must come before and after the recurrence",
        "Orvieto et al. 2023",
        {"cell": ("lru", "its name in cells.REGISTRY; encoder and readout come with it")},
    ),
    "orthogonal-init": Remedy(
        "Start from an orthogonal (or, with ReLU, identity) recurrent matrix.",
        "all singular values of the weights are 1: only the activation's slopes are left to shrink a perturbation",
        "none at the start; training may leave it",
        "Saxe, McClelland, Ganguli 2014; Le, Jaitly, Hinton 2015",
        {"gain": _GAIN, "leaves": _WEIGHTS},
    ),
    "orthogonal-parametrisation": Remedy(
        "Keep the recurrent matrix orthogonal during training.",
        "as an orthogonal start, and training cannot leave it",
        "a matrix exponential or solve per update; cannot forget on purpose without a gate",
        "Arjovsky, Shah, Bengio 2016; Lezcano-Casado, Martínez-Rubio 2019",
        {"cell": ("exprnn", "its name in cells.REGISTRY")},
    ),
    "less-saturation": Remedy(
        "Keep units in the range where the activation is steep: inputs scaled to about 1, smaller biases or weights, or normalised activations.",
        "raises the slopes φ' in J_t = diag(φ') W towards their bound",
        "a more linear network; smaller input weights also carry less of the input",
        "LeCun et al. 1998; Pascanu, Mikolov, Bengio 2013",
        {"factor": (0.3, "of the input weights"), "leaves": (("W_xh",), "names of the weights to scale")},
    ),
    "living-units": Remedy(
        "Keep units alive: smaller negative biases, or an activation whose slope is never exactly zero.",
        "a unit of slope zero is a zero row of J_t; a product through zero stays zero",
        "none to speak of",
        "Maas, Hannun, Ng 2013; Le, Jaitly, Hinton 2015",
        {"bias": (0.1, "added to the biases"), "leaves": (("b_h",), "names of the biases")},
    ),
    "norm-regulariser": Remedy(
        "Add Pascanu's Ω to the loss, which asks that ∂L/∂h_t keeps its norm from step to step.",
        "pushes ‖∂L/∂h_{t+1} J_{t+1}‖ / ‖∂L/∂h_{t+1}‖ towards 1 along the directions that the loss uses",
        "one more pass back through time, and a weight to tune; gradients may explode, so clip",
        "Pascanu, Mikolov, Bengio 2013, equation 9",
        {"weight": (2.0, "of Ω, summed over time"), "threshold": (1.0, "of the norm of the gradient; None: no clipping")},
    ),
    "flossing": Remedy(
        "Push the leading Lyapunov exponents towards zero before or during training (gradient flossing).",
        "acts on the growth rates of the product itself",
        "a QR per step in the loss; helps up to moderate gain only",
        "Engelken 2023",
        {
            "k": (None, "how many exponents; None: a quarter of the state"),
            "window": (None, "steps; None: the length, at most 55"),
            "steps": (500, "updates of flossing alone, before training; 0: none"),
            "batch": (1, "sequences of one such update"),
            "learning_rate": (1e-3, "of Adam before training"),
            "weight": (0.0, "of the mean λ² in the loss during training; 0: none"),
            "every": (10, "updates of training from one with it to the next"),
            "stop": (None, "the update of training from which it is off; None: never"),
        },
    ),
    "clipping": Remedy(
        "Clip the norm of the gradient.",
        "nothing: it rescales the sum, so that training stays finite; it does not bring long lags back",
        "none; where most gradients are clipped the direction is that of the largest terms",
        "Pascanu, Mikolov, Bengio 2013",
        {"threshold": (1.0, "largest norm of the whole gradient")},
    ),
    "smaller-gain": Remedy(
        "Scale the recurrent weights down.",
        "in a cell without gates, scales the weights' part of every J_t by the same factor; in a gated one, that of the gates and the candidate",
        "shorter memory in the directions that already decay",
        "Sompolinsky, Crisanti, Sommers 1988",
        {"factor": (0.5, "of the recurrent weights"), "leaves": _WEIGHTS},
    ),
    "stronger-input": Remedy(
        "Drive the network harder: a larger input scale.",
        "saturates the units, which lowers the slopes in J_t and with them the leading exponent",
        "saturation also shortens memory",
        "Molgedey, Schuchhardt, Schuster 1992; Engelken, Wolf, Abbott 2023",
        {"factor": (3.0, "of the input weights"), "leaves": (("W_xh",), "names of the weights to scale")},
    ),
    "forcing": Remedy(
        "Where the target itself is chaotic, force the state towards the data every few steps (sparse teacher forcing).",
        "cuts the product at the forced steps; the interval should be about ln 2 over the leading exponent",
        "the free-running network is not trained beyond the interval",
        "Mikhaeil, Monfared, Durstewitz 2022",
        {
            "interval": (None, "steps between forced states; round(ln 2 / λ₁) of the target"),
            "constant": (None, "instead, the share of every state that is forced"),
            "exponent": (None, "instead, λ₁ of the target in nats per step, which gives the interval"),
            "force": (None, "force(params, state, data) -> state; None: the readout inverted"),
        },
    ),
    "value-clipping": Remedy(
        "Clip every entry of the gradient.",
        "nothing: as clipping by the norm, and it turns the gradient towards the diagonals",
        "none; the direction is no longer that of the gradient",
        "Mikolov 2012, section 3.2.2",
        {"threshold": (1.0, "largest absolute value of an entry")},
    ),
    "truncation": Remedy(
        "Backpropagate through stretches of a few steps only (truncated backpropagation through time).",
        "cuts the product at the border of every stretch: no ∂h_t/∂h_k longer than one is in the gradient",
        "biased: lags beyond a stretch are learned by chance; bptt.truncation_lag says where little is lost",
        "Williams, Peng 1990",
        {"steps": (20, "of a stretch")},
    ),
    "identity-init": Remedy(
        "Start from the identity, with ReLU units where the cell lets one choose (IRNN).",
        "W = gain · I: J_t is diagonal with entries 0 and gain, and an active unit keeps its gradient exactly",
        "the start is at the edge of explosion: clip; large activations",
        "Le, Jaitly, Hinton 2015",
        {"gain": _GAIN, "activation": ("relu", "of a vanilla cell; None: as it is"), "leaves": _WEIGHTS},
    ),
    "critical-init": Remedy(
        "Start at the gain at which a wide random network neither forgets nor amplifies.",
        "N(0, g²/n) with χ = g² E φ'² = 1: the mean square growth of a perturbation is 1 a step, λ₁ = 0 as n → ∞",
        "holds on average and for wide networks: single directions still grow and decay at rates of order 1/√n and more",
        "Schoenholz et al. 2017; Chen, Pennington, Schoenholz 2018",
        {
            "bias_sd": (0.05**0.5, "standard deviation of the biases"),
            "input_sd": (0.0, "standard deviation of what the input adds to the pre-activations"),
            "activation": (None, "tanh, erf, relu or identity; None: the cell's own"),
            "leaves": _WEIGHTS,
            "biases": (("b_h",), "names of the biases"),
        },
    ),
    "chrono-init": Remedy(
        "Start with gates whose time scales are spread evenly up to the longest lag.",
        "the block of the memory becomes diag(σ(b)), 1 − σ(b) = 1/τ with τ uniform on [2, T]",
        "units that start slow learn short lags more slowly",
        "Tallec, Ollivier 2018",
        {"horizon": (None, "longest time scale in steps; None: the length")},
    ),
    "chain-init": Remedy(
        "Start from a feed-forward chain, W[i+1, i] = gain: memory by transport instead of by eigenvalues.",
        "every eigenvalue is 0 and every singular value but one is gain: ‖W^s‖ = gain^s until s = n, then 0",
        "nothing is remembered beyond n steps; with gain > 1 transients grow",
        "Ganguli, Huh, Sompolinsky 2008; Kerg et al. 2019",
        {"gain": _GAIN, "leaves": _WEIGHTS},
    ),
    "orthogonality": Remedy(
        "Add ‖WᵀW − I‖² to the loss.",
        "pulls the singular values of the weights towards 1; slopes still shrink a perturbation",
        "O(n³) per update, a weight to tune; to forget and to amplify costs loss",
        "Vorontsov, Trabelsi, Kadoury, Pal 2017",
        {"weight": (0.01, "of ‖WᵀW − I‖_F² in the loss"), "leaves": _WEIGHTS},
    ),
    "normalisation": Remedy(
        "Normalise what goes into the units (layer normalisation).",
        "J_t is divided by the spread of the pre-activations, whatever the scale of the weights; two directions of it are killed a step",
        "a mean and a variance per step; without gates small pre-activations are amplified, so it may explode",
        "Ba, Kiros, Hinton 2016",
        {"cell": (None, "the normalised cell; None: the layernorm variant of this one")},
    ),
    "more-data": Remedy(
        "Measure more, or longer, sequences.",
        "nothing: it narrows the interval",
        "time in proportion; the standard error falls with the square root of their number",
        "",
        {},
    ),
    "look": Remedy(
        "Look at the step or the sequences that the reasons name.",
        "nothing: until the state and its Jacobians are finite and alive, no rate can be given",
        "none",
        "",
        {},
    ),
}
"""Name -> remedy; what each changes in the Jacobians, its price, its source and its knobs."""


def executable(name: str) -> bool:
    """Whether ``apply`` can carry a remedy out; ValueError for a name that is not in the catalogue.

    >>> from jaxrnn import remedies
    >>> remedies.executable("clipping"), remedies.executable("more-data")
    (True, False)
    """
    return bool(find(name).knobs)


def find(name: str) -> Remedy:
    """The remedy of that name; ValueError lists the names that there are."""
    if name not in CATALOGUE:
        raise ValueError(f"unknown remedy {name!r}; allowed are {', '.join(sorted(CATALOGUE))}")
    return CATALOGUE[name]
