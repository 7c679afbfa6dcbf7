"""At what rates do perturbations of the state grow: Lyapunov exponents of driven and autonomous recurrences."""

from jaxrnn.lyapunov.convergence import Converged, until
from jaxrnn.lyapunov.exponents import adjoint, conditional, finite_time, from_jacobians, spectrum
from jaxrnn.lyapunov.interval import suggest_interval
from jaxrnn.lyapunov.recursion import Spectrum
from jaxrnn.lyapunov.summary import Gaps, autocorrelation_time, entropy_rate, gaps, kaplan_yorke

__all__ = [
    "Converged",
    "Gaps",
    "Spectrum",
    "adjoint",
    "autocorrelation_time",
    "conditional",
    "entropy_rate",
    "finite_time",
    "from_jacobians",
    "gaps",
    "kaplan_yorke",
    "spectrum",
    "suggest_interval",
    "until",
]
