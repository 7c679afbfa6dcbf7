"""The optax loop: batches in, parameters and what was seen on the way out, for one seed or many, cut and resumed anywhere."""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn._border import require_at, require_function
from jaxrnn._tree import layout
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.remedies import Penalty, clip_by_norm
from jaxrnn.tasks import Batch
from jaxrnn.training import checkpoints as store
from jaxrnn.training.evaluation import Evaluation, score
from jaxrnn.training.failure import Failure, locate
from jaxrnn.training.logs import Log
from jaxrnn.training.loop import Carry, Monitor, Spec, advance

PyTree = Any
Over = Literal["map", "vmap"]


class Checkpoints(NamedTuple):
    """Where a training is kept, so that a kill loses no more than the last interval."""

    folder: str | Path
    every: int = 100  # updates between two


class Fit(NamedTuple):
    """What ``fit`` gives back; with S seeds every array has them on axis 0."""

    params: PyTree  # after the last update; before the one that was not finite, where there was one
    optimizer_state: PyTree
    history: dict[str, PyTree]  # "loss", "gradient_norm" (steps,), each monitor's (⌊steps / every⌋, ...); NaN, 0 or False once a seed has ended
    metric: np.ndarray  # (evaluations,) at the updates ``evaluated``; NaN once a seed has ended
    evaluated: np.ndarray  # (evaluations,) numbers of updates
    solved: np.ndarray  # () int: updates made when an evaluation first found the task solved, 0: never
    done: np.ndarray  # () int: updates attempted
    failures: tuple[Failure, ...]  # of each seed that ended because something was not finite


def fit(
    step: Step,
    params: PyTree,
    state: PyTree,
    sample: Callable[[Array, int], Batch],
    loss: Loss,
    *,
    steps: int,
    batch: int,
    key: Array,
    optimizer: optax.GradientTransformation | None = None,
    penalty: Penalty | None = None,
    truncate: int | None = None,
    monitors: Mapping[str, Monitor] | None = None,
    evaluation: Evaluation | None = None,
    nonfinite: Literal["stop", "skip"] = "stop",
    over: Over = "map",
    chunk: int = 50,
    checkpoints: Checkpoints | None = None,
    log: Log | None = None,
) -> Fit:
    """Parameters trained by stochastic gradients through the whole sequences, under observation.

    θ ← θ + optimizer(∂/∂θ [(1/B) Σ_b Σ_{t ≤ T_b} loss(θ, h_t, x_t, y_t) + penalty(θ)]).

    Args:
        step, params, state: the model, with h_0 as for ``unroll.states``.
        sample: ``(key, batch) -> tasks.Batch``, e.g. a task's. Update i (from 0) gets ``jax.random.fold_in(key, i)``: its data do not depend
            on how many there are, or on where a run was cut. Drawn inside the compiled loop where it can be traced, else on the host.
        loss: ``loss(params, state, x, target) -> scalar``.
        steps: how many updates.
        batch: B.
        key: all randomness; the same key gives the same parameters. Keys (S,) train S seeds: every leaf of ``params`` then has them on axis 0.
        optimizer: an optax transformation; by default the global norm is clipped to 1, then Adam of rate 1e-3.
        penalty: added to the loss; see ``remedies``.
        truncate: truncated backpropagation, steps of a stretch that gradients do not leave; None: the whole sequence.
        monitors: name -> ``Monitor``; see ``training.monitors``.
        evaluation: a metric on sequences held out, every so often, and whether to stop where it says that the task is solved.
        nonfinite: "stop" ends a seed before the first update whose loss, gradient or result is not finite and says where it began; "skip"
            leaves that update out and goes on.
        over: seeds one after the other ("map") or side by side ("vmap"); ``faster`` measures which is quicker.
        chunk: most updates between two looks at the numbers; each chunk is one compiled loop.
        checkpoints: kept there; where the folder has one of this training, training goes on from it, bit for bit as if it had not stopped.
        log: called after each chunk as ``log(updates made, values)``: "loss" (mean over the chunk), "gradient_norm" (median), a monitor's last, of
            a Boolean one its share, and "metric" where there was an evaluation.

    Returns:
        ``Fit``.

    Raises:
        ValueError: a number below 1; a checkpoint that is corrupt or of another training; whatever ``sample`` raises. TypeError: params
            that have no derivative, keys and params that do not fit.

    Cost: ``steps`` forward and backward passes over B sequences; O(B T n) memory. Monitors that read ∂L/∂h_t add O(B T n) each.

    >>> import jax, optax
    >>> from jaxrnn import cells, tasks, training
    >>> task, cell = tasks.adding(10), cells.with_readout(cells.gru(2, 8), 1)
    >>> params = cell.init_params(jax.random.key(0))
    >>> loss = cells.readout_loss(cell, task.loss)
    >>> found = training.fit(cell.step, params, cell.init_state(params), task.sample, loss, steps=3, batch=4, key=jax.random.key(1))
    >>> found.history["loss"].shape, found.failures
    ((3,), ())
    """
    for name, value in (("steps", steps), ("batch", batch), ("chunk", chunk)):
        require_at(name, value, 1, None, "a number of updates or sequences")
    seeds, params = _admit(step, params, loss, key, truncate, nonfinite, over)
    many = seeds is not None
    traced = _traceable(sample, key[0] if many else key, batch)
    spec = Spec(step, loss, sample if traced else None, batch, optimizer or default_optimizer(), penalty, truncate,
                tuple(sorted((monitors or {}).items())), nonfinite == "skip")  # fmt: skip
    run = _Run(spec, key, state, seeds, over if many else None, chunk, sample)
    carry = _start(spec, params, seeds)
    kept = _Kept(carry, _unseen(run, carry), [], [], np.zeros(seeds or (), np.int32))
    facts = {} if checkpoints is None else _facts(run, evaluation, carry)
    if checkpoints is not None:
        require_at("checkpoints.every", checkpoints.every, 1, None, "a number of updates")
        kept = _restored(checkpoints, kept, facts)
    while kept.updates < steps and bool(np.any(kept.carry.alive)):
        kept = _advance(run, kept, _stop(kept.updates, steps, chunk, evaluation, checkpoints), steps, evaluation, log)
        at = kept.updates
        if checkpoints is not None and (at % checkpoints.every == 0 or at >= steps or not np.any(kept.carry.alive)):
            store.save(Path(checkpoints.folder), at, kept.tree(), facts)
    return _result(run, kept)


@functools.cache  # one object, one compilation
def default_optimizer(rate: float = 1e-3, clip: float = 1.0) -> optax.GradientTransformation:
    """Adam after clipping of the global norm."""
    return optax.chain(clip_by_norm(clip), optax.adam(rate))


class _Run(NamedTuple):
    """What does not change during a training."""

    spec: Spec
    key: Array
    state: PyTree
    seeds: int | None
    over: Over | None
    chunk: int
    sample: Callable


class _Kept(NamedTuple):
    """What a training is at some update; all of it goes into a checkpoint."""

    carry: Carry
    history: dict[str, PyTree]  # name -> array with the updates on axis 0, or 1 behind the seeds
    metric: list[np.ndarray]
    evaluated: list[int]
    solved: np.ndarray

    @property
    def updates(self) -> int:
        """Made by the seed that went furthest."""
        return int(np.max(self.carry.done))

    def tree(self) -> dict[str, PyTree]:
        """For a checkpoint."""
        metric = np.asarray(self.metric, np.float64)
        rest = {"metric": metric, "evaluated": np.asarray(self.evaluated, np.int64)}
        return {"carry": self.carry, "solved": self.solved, "history": {**rest, "seen": self.history}}


def _advance(run: _Run, kept: _Kept, to: int, steps: int, evaluation: Evaluation | None, log: Log | None) -> _Kept:
    """Updates up to number ``to``, what was seen, and where it is due an evaluation."""
    first = kept.updates
    count = to - first
    batches = None if run.spec.sample is not None else _drawn(run, first, count)
    whole = functools.partial(jnp.asarray, dtype=jnp.int32)
    carry, seen = advance(run.spec, kept.carry, run.key, run.state, whole(first), whole(count), batches, chunk=run.chunk, over=run.over)
    axis = 0 if run.seeds is None else 1
    rows = {"loss": count, "gradient_norm": count} | {name: to // m.every - first // m.every for name, m in run.spec.monitors}
    cut = {name: jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[(slice(None),) * axis + (slice(n),)], seen[name]) for name, n in rows.items()}
    join = lambda old, new: np.concatenate([old, new], axis)
    kept = kept._replace(carry=carry, history=jax.tree.map(join, kept.history, cut))
    values = {"loss": np.mean(cut["loss"], axis), "gradient_norm": np.median(cut["gradient_norm"], axis)}
    told = lambda leaf: leaf.mean(axis) if leaf.dtype == bool else leaf.take(-1, axis)
    values |= {name: jax.tree.map(told, cut[name]) for name, _ in run.spec.monitors if rows[name]}
    if evaluation is not None and (to % evaluation.every == 0 or to >= steps):
        kept, values["metric"] = _evaluated(run, kept, to, evaluation)
    if log is not None:
        log(to, values)
    return kept


def _unseen(run: _Run, carry: Carry) -> dict[str, PyTree]:
    """The history before the first update: arrays without rows."""
    batches = None if run.spec.sample is not None else _drawn(run, 0, 1)
    zero = jnp.zeros((), jnp.int32)
    part = functools.partial(advance, run.spec, chunk=run.chunk, over=run.over)
    seen = jax.eval_shape(part, carry, run.key, run.state, zero, zero, batches)[1]
    axis = 0 if run.seeds is None else 1
    return jax.tree.map(lambda leaf: np.zeros((*leaf.shape[:axis], 0, *leaf.shape[axis + 1 :]), leaf.dtype), seen)


def _evaluated(run: _Run, kept: _Kept, to: int, evaluation: Evaluation) -> tuple[_Kept, np.ndarray]:
    carry = kept.carry
    value = np.asarray(score(evaluation, run.spec.step, carry.params, run.state, over=run.over), np.float64)
    value = np.where(np.asarray(carry.alive), value, np.nan)
    good = np.vectorize(lambda v: not math.isnan(v) and bool(evaluation.solved(v)), otypes=[bool])(value)
    solved = np.where(good & (kept.solved == 0), to, kept.solved).astype(np.int32)
    if evaluation.stop:
        carry = carry._replace(alive=carry.alive & jnp.asarray(solved == 0))
    return kept._replace(carry=carry, metric=[*kept.metric, value], evaluated=[*kept.evaluated, to], solved=solved), value


def _stop(done: int, steps: int, chunk: int, evaluation: Evaluation | None, checkpoints: Checkpoints | None) -> int:
    """The next update after which somebody wants to look."""
    marks = [done + chunk, steps] + [done - done % e.every + e.every for e in (evaluation, checkpoints) if e is not None]
    return min(marks)


def _drawn(run: _Run, first: int, count: int) -> PyTree:
    """Batches that only the host can draw, (chunk, B, ...), or (S, chunk, B, ...); the last stands in beyond ``count``."""

    def rows(key: Array) -> PyTree:
        part = [run.sample(jax.random.fold_in(key, first + i), run.spec.batch) for i in range(count)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *part, *[part[-1]] * (run.chunk - count))

    return rows(run.key) if run.seeds is None else jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(rows, run.key))


def _admit(step: Step, params: PyTree, loss: Loss, key: Array, truncate: int | None, nonfinite: str, over: str) -> tuple[int | None, PyTree]:
    """The number of seeds (None: one, without an axis) and the parameters as strongly typed arrays."""
    require_function("step", step)
    require_function("loss", loss)
    for name, value, allowed in (("nonfinite", nonfinite, ("stop", "skip")), ("over", over, ("map", "vmap"))):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} must be {' or '.join(map(repr, allowed))}")
    if truncate is not None:
        require_at("truncate", truncate, 1, None, "the number of steps that a gradient may go back")
    layout(params, "params")
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), params)
    if key.ndim == 0:
        return None, params
    seeds = len(key)
    if key.ndim > 1 or not seeds or any(leaf.ndim < 1 or leaf.shape[0] != seeds for leaf in jax.tree.leaves(params)):
        shapes = sorted({leaf.shape for leaf in jax.tree.leaves(params)})
        raise ValueError(f"key has shape {key.shape}, so that every leaf of params needs {key.shape} on axis 0; their shapes are {shapes}")
    return seeds, params


def _traceable(sample: Callable, key: Array, batch: int) -> bool:
    try:
        jax.eval_shape(lambda key: sample(key, batch), key)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError):
        return False
    return True


def _start(spec: Spec, params: PyTree, seeds: int | None) -> Carry:
    shape = () if seeds is None else (seeds,)
    with jax.numpy_dtype_promotion("standard"):
        optimizer = spec.optimizer.init(params) if seeds is None else jax.vmap(spec.optimizer.init)(params)
    return Carry(params, optimizer, jnp.ones(shape, bool), jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool))


def _restored(checkpoints: Checkpoints, kept: _Kept, facts: dict[str, Any]) -> _Kept:
    found = store.restore(Path(checkpoints.folder), kept.tree(), facts)
    if found is None:
        return kept
    tree = found[1]
    rest = tree["history"]
    evaluated = [int(v) for v in rest["evaluated"]]
    carry = jax.tree.map(jnp.asarray, tree["carry"])
    return _Kept(carry, rest["seen"], list(np.asarray(rest["metric"])), evaluated, np.asarray(tree["solved"]))


def _facts(run: _Run, evaluation: Evaluation | None, start: Carry) -> dict[str, Any]:
    """What makes it this training and no other, as far as it can be told; the number of updates may grow.

    Functions have no identity that outlives a process: they are known by their names, the optimizer and the data by what they first do.
    """
    one = lambda tree: tree if run.seeds is None else jax.tree.map(lambda leaf: leaf[0], tree)
    params = one(start.params)
    with jax.numpy_dtype_promotion("standard"):
        moved = run.spec.optimizer.update(jax.tree.map(jnp.ones_like, params), one(start.optimizer), params)[0]
    first = run.sample(jax.random.fold_in(one(run.key), 0), run.spec.batch)
    name = lambda f: None if f is None else getattr(f, "__qualname__", type(f).__qualname__)
    spec = run.spec
    monitors = {n: [name(m.measure), m.every] for n, m in spec.monitors}
    return {
        "key": np.asarray(jax.random.key_data(run.key)).tolist(), "batch": spec.batch, "step": name(spec.step), "loss": name(spec.loss),
        "sample": name(run.sample), "penalty": None if spec.penalty is None else repr(spec.penalty), "truncate": spec.truncate,
        "monitors": monitors, "nonfinite": "skip" if spec.skip else "stop", "over": run.over,
        "evaluation": None if evaluation is None else [evaluation.every, evaluation.stop],
        "params": _digest(start.params), "optimizer": _digest(moved), "data": _digest(first),
    }  # fmt: skip


def _digest(tree: PyTree) -> str:
    """Of the bytes of all leaves."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()[:16]


def _result(run: _Run, kept: _Kept) -> Fit:
    carry = kept.carry
    metric = np.asarray(kept.metric, np.float64).reshape(len(kept.metric), *np.shape(kept.solved))
    failures = []
    for i in np.flatnonzero(~np.atleast_1d(np.asarray(carry.finite))):
        pick = lambda tree, i=i: tree if run.seeds is None else jax.tree.map(lambda leaf: leaf[i], tree)
        one = pick(carry)
        failures.append(locate(run.spec, one, pick(run.key), run.state, run.sample, None if run.seeds is None else int(i)))
    return Fit(carry.params, carry.optimizer, kept.history, metric.T, np.asarray(kept.evaluated, np.int64), kept.solved, np.asarray(carry.done),
               tuple(failures))  # fmt: skip
