"""The training loop under observation: ``fit``, what it looks at on the way, where it keeps itself, and where it broke."""

from jaxrnn.training import monitors
from jaxrnn.training.checkpoints import latest, restore, save
from jaxrnn.training.evaluation import Evaluation, evaluate
from jaxrnn.training.failure import Failure
from jaxrnn.training.fit import Checkpoints, Fit, default_optimizer, fit
from jaxrnn.training.logs import Log, both, json_lines, tensorboard
from jaxrnn.training.loop import Monitor, Seen
from jaxrnn.training.recording import Record, Recorded, recorded, recorder
from jaxrnn.training.seeds import faster

__all__ = [
    "Checkpoints", "Evaluation", "Failure", "Fit", "Log", "Monitor", "Record", "Recorded", "Seen", "both", "default_optimizer", "evaluate", "faster",
    "fit", "json_lines", "latest", "monitors", "recorded", "recorder", "restore", "save", "tensorboard",
]  # fmt: skip
