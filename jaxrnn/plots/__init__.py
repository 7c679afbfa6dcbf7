"""Arrays to axes. Every function draws on ``ax`` or on a figure of its own, and returns the axes; it knows no cell.

NaN is not drawn; a logarithm of −inf is a triangle on the lower edge, counted in the legend.
"""

from jaxrnn.plots.arms import exponents_moved, learning_curves, solved_shares
from jaxrnn.plots.axes import save
from jaxrnn.plots.gradients import (
    contribution_by_lag,
    contributions,
    gradient_by_lag,
    input_gradients,
    lag_share,
    long_lag_signal,
    state_gradients,
    training,
)
from jaxrnn.plots.matrices import eigenvalue_tracks, eigenvalues, pseudospectrum, transient_growth
from jaxrnn.plots.memory import log_condition, product_singular_values, transport, transport_blocks, transport_by_lag, units
from jaxrnn.plots.rates import convergence, finite_time, lyapunov_spectrum, phase_diagram
from jaxrnn.plots.states import angles, fixed_points
from jaxrnn.plots.sweeps import sweep_lines, sweep_map

__all__ = [
    "angles",
    "contribution_by_lag",
    "contributions",
    "convergence",
    "eigenvalue_tracks",
    "eigenvalues",
    "exponents_moved",
    "finite_time",
    "fixed_points",
    "gradient_by_lag",
    "input_gradients",
    "lag_share",
    "learning_curves",
    "log_condition",
    "long_lag_signal",
    "lyapunov_spectrum",
    "phase_diagram",
    "product_singular_values",
    "pseudospectrum",
    "save",
    "solved_shares",
    "state_gradients",
    "sweep_lines",
    "sweep_map",
    "training",
    "transient_growth",
    "transport",
    "transport_blocks",
    "transport_by_lag",
    "units",
]
