"""How large is ∂h_t/∂h_k for every pair of times, ∂L/∂h_t for every t, and how far back does the state remember."""

from jaxrnn.flow.directions import Directions, GrowthSplit, growth_split, leading_directions
from jaxrnn.flow.gradients import Loss, Slope, StateGradients, input_gradients, nudged, slope, state_gradients
from jaxrnn.flow.memory import Horizon, horizon
from jaxrnn.flow.transport import Probed, end_product, from_jacobians, log_gain, log_transport, log_transport_blocks, transport_by_probes

__all__ = [
    "Directions",
    "GrowthSplit",
    "Horizon",
    "Loss",
    "Probed",
    "Slope",
    "StateGradients",
    "end_product",
    "from_jacobians",
    "growth_split",
    "horizon",
    "input_gradients",
    "leading_directions",
    "log_gain",
    "log_transport",
    "log_transport_blocks",
    "nudged",
    "slope",
    "state_gradients",
    "transport_by_probes",
]
