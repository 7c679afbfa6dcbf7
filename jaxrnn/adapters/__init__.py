"""How a foreign model becomes ``Bound(step, params, state, output)``: four things that every analysis takes."""

from jaxrnn.adapters.eqx import equinox
from jaxrnn.adapters.hk import haiku
from jaxrnn.adapters.inspection import Recurrence, inspect
from jaxrnn.adapters.keras3 import keras
from jaxrnn.adapters.layouts import LAYOUTS, export_params, import_params
from jaxrnn.adapters.linen import flax_linen
from jaxrnn.adapters.nnx import flax_nnx
from jaxrnn.adapters.protocol import Bound
from jaxrnn.adapters.weights import torch_weights

__all__ = [
    "LAYOUTS", "Bound", "Recurrence", "equinox", "export_params", "flax_linen", "flax_nnx", "haiku", "import_params", "inspect", "keras",
    "torch_weights",
]  # fmt: skip
