"""Every remedy that there is: what it changes in the Jacobians, its knobs, its price and its source."""

from typing import NamedTuple


class Remedy(NamedTuple):
    """Something to try."""

    what: str  # in one sentence
    changes: str  # what it does to the Jacobians
    price: str  # what it costs
    source: str  # author, year


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
