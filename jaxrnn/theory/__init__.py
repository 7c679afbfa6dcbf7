"""What should it be: numbers in, numbers out, to set beside what was measured."""

from jaxrnn.theory.baselines import adding_baseline, blank_asks, copy_baseline, guessing, modular_answers, variable_copy_baseline
from jaxrnn.theory.units import CurseOfMemory, antisymmetric_euler_modulus, curse_of_memory, gate_bias, gate_rate, gate_time_scale
from jaxrnn.theory.weights import (
    SLOPE_BOUNDS,
    LRURing,
    PascanuBounds,
    circular_law_exponents,
    complex_newman_exponents,
    lru_exponents,
    lru_ring,
    newman_exponents,
    newman_standard_errors,
    pascanu_bounds,
)
from jaxrnn.theory.wide import MeanField, critical_gain, critical_input_sd, mean_field

__all__ = [
    "SLOPE_BOUNDS",
    "CurseOfMemory",
    "LRURing",
    "MeanField",
    "PascanuBounds",
    "adding_baseline",
    "antisymmetric_euler_modulus",
    "blank_asks",
    "circular_law_exponents",
    "complex_newman_exponents",
    "copy_baseline",
    "critical_gain",
    "critical_input_sd",
    "curse_of_memory",
    "gate_bias",
    "gate_rate",
    "gate_time_scale",
    "guessing",
    "lru_exponents",
    "lru_ring",
    "mean_field",
    "modular_answers",
    "newman_exponents",
    "newman_standard_errors",
    "pascanu_bounds",
    "variable_copy_baseline",
]
