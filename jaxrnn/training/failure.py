"""Where a training broke: at which update, in what, at which step of which sequence."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._tree import named_leaves
from jaxrnn.tasks import Batch
from jaxrnn.training.loop import Carry, Spec, forward, update

PyTree = Any


class Failure(NamedTuple):
    """The first thing that was not finite, in the order in which an update computes."""

    update: int  # from 1; the parameters are those before it
    what: str  # "input", "target", "parameter", "state", "loss", "gradient of the state", "gradient", "update"
    leaf: str  # its path, "" where there is only one
    value: float  # nan, inf or −inf
    time: int | None  # step of the sequence, from 1; of a gradient of the state (0: of h_0) the latest, where it began on its way back
    sequence: int | None  # of the batch, from 0
    seed: int | None  # from 0; None where there is but one

    def __str__(self) -> str:
        """One sentence."""
        seed = "" if self.seed is None else f" of seed {self.seed}"
        leaf = f" {self.leaf!r}" if self.leaf else ""
        place = "" if self.time is None else f" at step {self.time} of sequence {self.sequence} of its batch"
        return f"update {self.update}{seed} was not finite: the {self.what}{leaf} is {self.value}{place}"


def locate(spec: Spec, carry: Carry, key: Array, state: PyTree, sample: Callable[[Array, int], Batch], seed: int | None) -> Failure:
    """Where the last update attempted broke, computed anew from the parameters before it."""
    number = int(carry.done)
    batch = sample(jax.random.fold_in(key, number - 1), spec.batch)
    value, _, seen = jax.jit(forward, static_argnums=0)(spec, carry.params, state, batch)
    losses = _losses(spec, carry.params, seen, batch)
    at = jnp.asarray(number - 1, jnp.int32)
    _, shown = jax.jit(update, static_argnums=0)(spec, state, at, carry._replace(alive=jnp.ones((), bool)), batch)
    stages = (
        ("input", seen.xs, 1), ("target", batch.targets if batch.lengths is None else None, 1), ("parameter", carry.params, None),
        ("state", seen.states, 1), ("loss", losses, 1), ("gradient of the state", seen.gradients, 0), ("gradient", shown.gradient, None),
        ("update", shown.updates, None),
    )  # fmt: skip
    for what, tree, origin in stages:
        found = [(name, leaf, place) for name, leaf in named_leaves(tree).items() if (place := _first(leaf, origin, what)) is not None]
        if found:
            name, leaf, place = _earliest(found, origin, what)
            number_at = float(np.real(np.asarray(leaf)[tuple(place)]))
            time, row = (None, None) if origin is None else (int(place[1]) + origin, int(place[0]))
            return Failure(number, what, name, number_at, time, row, seed)
    return Failure(number, "loss", "", float(value), None, None, seed)


def _losses(spec: Spec, params: PyTree, seen: Any, batch: Batch) -> Array:
    """(B, T); zero beyond the ends."""
    values = jax.vmap(jax.vmap(spec.loss, (None, 0, 0, 0)), (None, 0, 0, 0))(params, seen.states, seen.xs, batch.targets)
    if batch.lengths is None:
        return values
    return jnp.where(jnp.arange(values.shape[1]) < batch.lengths[:, None], values, 0)


def _first(leaf: Any, origin: int | None, what: str) -> np.ndarray | None:
    """The index of the first number that is not finite; of a gradient on its way back the latest in time."""
    array = np.asarray(leaf)
    if array.dtype.kind not in "fc":
        return None
    bad = np.argwhere(~np.isfinite(array))
    if not len(bad):
        return None
    if origin is None:
        return bad[0]
    order = np.lexsort((bad[:, 0], -bad[:, 1] if what == "gradient of the state" else bad[:, 1]))
    return bad[order[0]]


def _earliest(found: list[tuple], origin: int | None, what: str) -> tuple:
    if origin is None:
        return found[0]
    late = what == "gradient of the state"
    return min(found, key=lambda item: -item[2][1] if late else item[2][1])
