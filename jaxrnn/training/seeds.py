"""Are seeds trained faster one after the other or side by side, on this machine, with this model."""

import time
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.tasks import Batch
from jaxrnn.training.fit import Over, fit

PyTree = Any
_UPDATES = 10  # of each measurement


def faster(
    step: Step, params: PyTree, state: PyTree, sample: Callable[[Array, int], Batch], loss: Loss, *, batch: int, key: Array, **options: Any
) -> Over:
    """Which ``over`` of ``fit`` is quicker: "map" or "vmap", by training a few updates in both ways.

    On a CPU one after the other is mostly quicker, since the weights of all seeds do not fit a cache; on a GPU side by side.

    Args:
        step, params, state, sample, loss, batch, key: as for ``fit``, with seeds on axis 0 of params and key.
        options: what else ``fit`` will be given, so that the same program is measured: ``optimizer``, ``penalty``, ``monitors``, …

    Returns:
        "map" or "vmap". What is compiled for the answer is used by ``fit`` again.

    Raises:
        As ``fit``.

    Cost: both are compiled, and 80 updates of every seed are made.

    >>> import jax
    >>> from jaxrnn import cells, tasks, training
    >>> task, cell = tasks.adding(10), cells.with_readout(cells.gru(2, 4), 1)
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> params = jax.vmap(cell.init_params)(keys)
    >>> model = (cell.step, params, cell.init_state(jax.tree.map(lambda leaf: leaf[0], params)), task.sample, cells.readout_loss(cell, task.loss))
    >>> training.faster(*model, batch=4, key=keys) in ("map", "vmap")
    True
    """

    def seconds(over: Over) -> float:
        run = lambda: fit(step, params, state, sample, loss, steps=_UPDATES, batch=batch, key=key, over=over, **options)
        jax.block_until_ready(run().params)  # compiles
        times = []
        for _ in range(3):
            start = time.perf_counter()
            jax.block_until_ready(run().params)
            times.append(time.perf_counter() - start)
        return min(times)

    return "map" if seconds("map") <= seconds("vmap") else "vmap"
