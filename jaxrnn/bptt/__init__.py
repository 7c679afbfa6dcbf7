"""Which (t, k) terms is ∂L/∂θ made of: how large is each, how much comes by which lag, where may it be truncated."""

from jaxrnn.bptt.signal import LongLag, contributions, long_lag_signal
from jaxrnn.bptt.terms import Decomposition, decompose, truncation_lag

__all__ = ["Decomposition", "LongLag", "contributions", "decompose", "long_lag_signal", "truncation_lag"]
