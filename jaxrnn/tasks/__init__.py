"""What to learn: ``task.sample(key, batch) -> Batch(xs, targets, lengths)``, with a loss, a metric and its baseline.

Every file of this folder is read, and whatever constructor it registers is ``tasks.REGISTRY[name]`` and ``tasks.name``.
"""

import importlib
import pkgutil
from typing import Any

from jaxrnn.tasks.protocol import Above, Batch, Below, Task, accuracy, cross_entropy, mean_cross_entropy, mean_squared_error, squared_error
from jaxrnn.tasks.registry import DESCRIPTIONS, REGISTRY, Description, register
from jaxrnn.tasks.stored import arrays, digits, mnist, permuted_mnist, text

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
globals().update({name.replace("-", "_"): make for name, make in REGISTRY.items()})  # a file may bear the name of its task: the task is what is meant

__all__ = [
    "DESCRIPTIONS", "REGISTRY", "Above", "Batch", "Below", "Description", "Task", "accuracy", "arrays", "cross_entropy", "digits",
    "mean_cross_entropy", "mean_squared_error", "mnist", "permuted_mnist", "register", "squared_error", "text",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # type checkers do not see constructors that are only registered
    raise AttributeError(f"there is no task and nothing else named {name!r} in jaxrnn.tasks; tasks are {', '.join(sorted(REGISTRY))}")
