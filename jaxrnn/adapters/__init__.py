"""How a foreign model becomes ``Bound(step, params, state, output)``: four things that every analysis takes."""

from jaxrnn.adapters.protocol import Bound
from jaxrnn.adapters.weights import torch_weights

__all__ = ["Bound", "torch_weights"]
