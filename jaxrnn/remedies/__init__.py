"""What mends it: the catalogue, what of it fits a diagnosis, and a switchboard that carries it out on a setup.

``setup("vanilla", task, 128, length=100)`` is a model ready to be trained, somebody's own is a ``Setup(...)``; ``apply("clipping", setup)`` is the
same with a remedy, whose knobs ``CATALOGUE["clipping"].knobs`` lists.
"""

from jaxrnn.remedies.advice import Advice, ranked
from jaxrnn.remedies.application import NotApplicable, apply
from jaxrnn.remedies.catalogue import CATALOGUE, Remedy, executable
from jaxrnn.remedies.clipping import clip_by_norm, safe_norm
from jaxrnn.remedies.flossing import Flossed, FlossFirst, floss
from jaxrnn.remedies.forcing import Driven, Forced, FromReadout, FromTargets, forcing_interval, forcing_weights
from jaxrnn.remedies.penalties import Flossing, Omega, Orthogonality, Pass, Penalty, Together, leading_exponents
from jaxrnn.remedies.setups import Built, Setup, adam, optimizer, setup

__all__ = [
    "CATALOGUE", "Advice", "Built", "Driven", "FlossFirst", "Flossed", "Flossing", "Forced", "FromReadout", "FromTargets", "NotApplicable",
    "Omega", "Orthogonality", "Pass", "Penalty", "Remedy", "Setup", "Together", "adam", "apply", "clip_by_norm", "executable", "floss",
    "forcing_interval", "forcing_weights", "leading_exponents", "optimizer", "ranked", "safe_norm", "setup",
]  # fmt: skip
