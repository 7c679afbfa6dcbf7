"""How a foreign model becomes ``Bound(step, params, state, output)``: four things that every analysis takes."""

from jaxrnn.adapters.equinox import equinox
from jaxrnn.adapters.flax_linen import flax_linen
from jaxrnn.adapters.flax_nnx import flax_nnx
from jaxrnn.adapters.haiku import haiku
from jaxrnn.adapters.keras import keras
from jaxrnn.adapters.protocol import Bound
from jaxrnn.adapters.weights import torch_weights

__all__ = ["Bound", "equinox", "flax_linen", "flax_nnx", "haiku", "keras", "torch_weights"]
