"""See, measure and repair how gradients travel through time in recurrent networks.

Modules are namespaces, loaded on first use: ``from jaxrnn import lyapunov; lyapunov.spectrum(...)``.
Everything accepts one protocol, a pure function ``step(params, state, x) -> state``.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "adapters",
    "bptt",
    "cells",
    "checks",
    "comparison",
    "covariant",
    "diagnosis",
    "evidence",
    "fixed_points",
    "flow",
    "initializers",
    "linearize",
    "lyapunov",
    "parallel",
    "parametrize",
    "plots",
    "remedies",
    "report",
    "spectra",
    "store",
    "sweep",
    "tasks",
    "theory",
    "training",
    "unroll",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
