"""What mends it."""

from jaxrnn.remedies.advice import Advice, ranked
from jaxrnn.remedies.catalogue import CATALOGUE, Remedy
from jaxrnn.remedies.flossing import Flossed, FlossFirst, floss
from jaxrnn.remedies.forcing import Driven, Forced, FromReadout, FromTargets, forcing_interval, forcing_weights
from jaxrnn.remedies.penalties import Flossing, Omega, Orthogonality, Pass, Penalty, Together
from jaxrnn.remedies.setups import Built, Setup, optimizer, setup
