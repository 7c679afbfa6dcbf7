"""The same states without a sequential loop: an associative scan for linear cells, Newton's method for the others."""

from jaxrnn.parallel.expected import Expected, expected_iterations
from jaxrnn.parallel.linear import associative
from jaxrnn.parallel.trajectory import Newton, newton, quasi_newton

__all__ = ["Expected", "Newton", "associative", "expected_iterations", "newton", "quasi_newton"]
