"""What to learn: ``task.sample(key, batch) -> Batch(xs, targets, lengths)``, with a loss, a metric and its baseline."""

from collections.abc import Callable

from jaxrnn.tasks.protocol import Batch, Task, accuracy, cross_entropy, mean_squared_error, squared_error
from jaxrnn.tasks.stored import arrays, digits, mnist, permuted_mnist, text
from jaxrnn.tasks.synthetic import adding, copy, mean_cross_entropy

REGISTRY: dict[str, Callable[..., Task]] = {
    "adding": adding,
    "copy": copy,
    "digits": digits,
    "mnist": mnist,
    "permuted-mnist": permuted_mnist,
}
"""Name -> constructor; ``text`` and ``arrays`` read a file."""

__all__ = [
    "REGISTRY", "Batch", "Task", "accuracy", "adding", "arrays", "copy", "cross_entropy", "digits", "mean_cross_entropy",
    "mean_squared_error", "mnist", "permuted_mnist", "squared_error", "text",
]  # fmt: skip
