"""Cells × remedies × lengths on one task: who solves it, after how many updates, at what cost, and what became of the exponents."""

import functools
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _atomic, flow, lyapunov, remedies, tasks, training
from jaxrnn._border import require_at
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.remedies import Advice, NotApplicable, Setup
from jaxrnn.tasks import Batch, Task
from jaxrnn.training import Monitor

PyTree = Any
Progress = Callable[[str, int, Mapping[str, Any]], None]  # (arm, updates made, what training's log gets)
_STRIDE = 10  # of the starting times of a horizon
_AS_IT_IS = "as it is"
_SEQUENCES = 4  # that exponents and horizons are measured on, of each seed


class Budget(NamedTuple):
    """What every arm is given alike."""

    steps: int = 2000
    batch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    every: int = 200  # updates between two evaluations
    test: int = 1000  # sequences apart that the metric is taken on


class Arm(NamedTuple):
    """One combination."""

    cell: str
    remedies: tuple[str, ...]  # applied in this order; () for none. NAME of ``remedies.CATALOGUE``, or NAME:KNOB=VALUE,KNOB=VALUE
    length: int

    @property
    def name(self) -> str:
        """As it is shown."""
        return " + ".join((self.cell, *self.remedies)) + f", {self.length}"


class Row(NamedTuple):
    """What came of an arm, over S seeds."""

    name: str
    solved: tuple[int, ...]  # (S,) updates after which an evaluation first found the task solved, 0: never
    metric: tuple[float, ...]  # (S,) when the seed ended; NaN where it failed
    baseline: float  # the metric without memory
    evaluated: tuple[int, ...]  # (E,) updates
    median: tuple[float, ...]  # (E,) of the metric over seeds
    exponent: tuple[tuple[float, ...], tuple[float, ...]]  # (S,) λ₁ before and after training, nats per step
    horizon: tuple[tuple[float, ...], tuple[float, ...]]  # (S,) median memory horizon before and after, steps; inf: longer than the sequences
    seconds_per_step: float  # of one seed, compilation and evaluation included
    failures: tuple[str, ...]  # sentences
    skipped: str = ""  # why it was not run

    @property
    def successes(self) -> int:
        """How many seeds solved the task."""
        return sum(s > 0 for s in self.solved)


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: (p̂ + z²/2n ± z √(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n).

    Args:
        successes, trials: k of n.
        z: quantile of the normal distribution.

    Raises:
        ValueError: k outside [0, n], no trials.

    Source: Wilson 1927; Brown, Cai, DasGupta 2001.

    >>> from jaxrnn import comparison
    >>> [round(end, 3) for end in comparison.wilson(5, 5)]
    [0.566, 1.0]
    """
    require_at("trials", trials, 1, None, "a number of seeds")
    require_at("successes", successes, 0, trials, "the number of trials")
    share = successes / trials
    middle, half = share + z**2 / (2 * trials), z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = ((middle + sign * half) / (1 + z**2 / trials) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def arms(cells: Iterable[str], given: Iterable[tuple[str, ...]], lengths: Iterable[int]) -> tuple[Arm, ...]:
    """Every combination, lengths outermost, then cells.

    >>> from jaxrnn import comparison
    >>> [arm.name for arm in comparison.arms(["gru"], [(), ("clipping",)], [50])]
    ['gru, 50', 'gru + clipping, 50']
    """
    given = tuple(given)
    return tuple(Arm(cell, names, length) for length in lengths for cell in cells for names in given)


def run(
    todo: Iterable[Arm], task: Callable[[int], Task], n_hidden: int, budget: Budget, folder: str | Path, *,
    learning_rate: float = 1e-3, progress: Progress | None = None,
) -> tuple[Row, ...]:  # fmt: skip
    """Train every arm from the same seeds on the same data and keep each result as it comes.

    Args:
        todo: what to run; a combination that does not fit (a forget bias for a cell without gates) becomes a row that says why.
        task: length -> ``Task``, e.g. ``tasks.REGISTRY["adding"]``.
        n_hidden: units of every cell.
        budget: updates, seeds, batch and evaluations of each.
        folder: results are kept there, one file an arm, and checkpoints of the arm that runs: called again with the same arguments, what is done is
            read and what was cut goes on.
        learning_rate: of Adam.
        progress: called after each chunk of updates.

    Returns:
        One ``Row`` for each arm, in order.

    Raises:
        ValueError: numbers below 1, unknown names, a result in ``folder`` that cannot be read. ModuleNotFoundError: orbax is missing
            (extra ``train``).

    Cost: arms × seeds × steps updates.
    """
    folder = Path(folder)
    rows = []
    for arm in todo:
        try:
            setup = prepared(arm, task(arm.length), n_hidden, learning_rate)
        except NotApplicable as error:
            rows.append(_skipped(arm.name, str(error)))
            continue
        identity = {"arm": arm._asdict(), "hidden": n_hidden, "learning_rate": learning_rate, "budget": budget._asdict(), "task": _task_name(task)}
        rows.append(kept(folder, arm.name, identity, functools.partial(train, arm.name, setup, task(arm.length), budget, progress=progress)))
    return tuple(rows)


def attempt(
    advice: Iterable[Advice], setup: Setup, task: Task, budget: Budget, *, minutes: float = math.inf, progress: Progress | None = None
) -> tuple[Row, ...]:
    """A diagnosed model as it is, then with each remedy of the advice, the most promising first, all from the same seeds on the same data.

    Args:
        advice: ``Diagnosis.remedies``.
        setup: the model as it would be trained; every attempt has one remedy more.
        task: what to learn.
        budget: the same for all.
        minutes: no attempt begins after so long; one that has begun is finished.
        progress: called after each chunk of updates.

    Returns:
        The row "as it is", and one for each piece of advice, in order; what cannot be carried out, and what there was no time for, says so.

    Raises:
        As ``training.fit``.
    """
    began = time.monotonic()
    rows = [train(_AS_IT_IS, setup, task, budget, progress=progress)]
    for one in advice:
        if not remedies.executable(one.name):
            continue
        try:
            mended = remedies.apply(one.name, setup)
        except NotApplicable as error:
            rows.append(_skipped(one.name, str(error)))
            continue
        late = time.monotonic() - began > 60 * minutes
        rows.append(_skipped(one.name, f"the {minutes:g} minutes were over") if late else train(one.name, mended, task, budget, progress=progress))
    return tuple(rows)


def own(
    step: Step, params: PyTree, state: PyTree, loss: Loss, sample: Callable[[Array, int], Batch], held_out: Batch, *, learning_rate: float = 1e-3
) -> tuple[Setup, Task]:
    """Somebody's own model and sequences as a setup and a task: every seed starts from the same parameters and differs in its data.

    Adam of ``learning_rate`` after clipping of the norm to 1. The metric is the mean of Σ_t loss over ``held_out``, each sequence to its own end;
    nothing counts as solved. Inputs are pairs (x_t, y_t), so that a loss can be taken where a cell would read out.
    """
    paired = lambda batch: batch._replace(xs=(batch.xs, batch.targets))
    count = len(jax.tree.leaves(held_out.xs)[0])

    def value(losses: Array, targets: PyTree) -> Array:
        size, length = losses.shape[:2]
        counted = True if held_out.lengths is None else jnp.arange(length) < held_out.lengths[:size, None]
        return jnp.sum(jnp.where(counted, losses[..., 0], 0)) / size

    optimizer, clip = remedies.adam(learning_rate), remedies.clip_by_norm(1.0)
    setup = Setup(_Always(params), _Always(state), _First(step), _Told(loss), _Told(loss, scalar=True), optimizer, clip, 1.0)
    draw = lambda key, batch: paired(sample(key, batch))
    task = Task(draw, lambda key, batch: paired(jax.tree.map(lambda leaf: leaf[:batch], held_out)), 0, 1, None, value, "loss of a sequence", math.nan,
                lambda metric: False, None, count)  # fmt: skip
    return setup, task


@dataclass(frozen=True, eq=False)
class _Always:
    tree: PyTree

    def __call__(self, given: Any) -> PyTree:
        return self.tree


@dataclass(frozen=True)
class _First:
    step: Step

    def __call__(self, params: PyTree, state: PyTree, x: tuple[PyTree, PyTree]) -> PyTree:
        return self.step(params, state, x[0])


@dataclass(frozen=True)
class _Told:
    """The loss of a step whose target came with its input; (1,) where it stands for what is read out."""

    loss: Loss
    scalar: bool = False

    def __call__(self, params: PyTree, state: PyTree, x: tuple[PyTree, PyTree], *target: PyTree) -> Array:
        value = self.loss(params, state, *x)
        return value if self.scalar else value[None]


def prepared(arm: Arm, task: Task, n_hidden: int, learning_rate: float = 1e-3) -> Setup:
    """The setup of an arm; NotApplicable where its remedies do not fit its cell."""
    setup = remedies.setup(arm.cell, task, n_hidden, length=arm.length, learning_rate=learning_rate)
    for given in arm.remedies:
        name, knobs = remedy(given)
        setup = remedies.apply(name, setup, **knobs)
    return setup


def remedy(given: str) -> tuple[str, dict[str, Any]]:
    """Name and knobs of ``NAME`` or ``NAME:KNOB=VALUE,KNOB=VALUE``.

    ValueError where a part is not KNOB=VALUE; values are read as JSON where they can be, else as text.

    >>> from jaxrnn import comparison
    >>> comparison.remedy("flossing:k=4,window=20"), comparison.remedy("gated-cell:cell=gru")
    (('flossing', {'k': 4, 'window': 20}), ('gated-cell', {'cell': 'gru'}))
    """
    name, _, rest = given.partition(":")
    knobs: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        knob, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{given!r} must be NAME or NAME:KNOB=VALUE,KNOB=VALUE; {part!r} has no value")
        try:
            knobs[knob] = json.loads(value)
        except (ValueError, RecursionError):
            knobs[knob] = value
    return name, knobs


def kept(folder: Path, name: str, identity: dict[str, Any], work: Callable[..., Row]) -> Row:
    """The result of ``work(folder=…)``, from its file where there is one of this identity."""
    mark = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    path, place = folder / f"{mark}.json", folder / f"{mark}.checkpoints"
    if path.exists():
        try:
            return _row(_atomic.parse(path.read_bytes())["row"])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path} is not a result of a comparison ({type(error).__name__}: {error}); remove it to run {name!r} again") from error
    folder.mkdir(parents=True, exist_ok=True)
    row = work(folder=place)
    _atomic.write(path, json.dumps({"identity": identity, "row": plain(row)}, indent=1, allow_nan=False).encode())
    shutil.rmtree(place, ignore_errors=True)
    return row


def train(
    name: str, setup: Setup, task: Task, budget: Budget, *, folder: Path | None = None, progress: Progress | None = None,
    monitors: Mapping[str, Monitor] | None = None, stop: bool = False,
) -> Row:  # fmt: skip
    """Train one setup from every seed of a budget, with its exponents and horizons before and after.

    Args:
        name: of the row.
        setup: the model with its remedies.
        task: what to learn.
        budget: updates, seeds, batch and evaluations.
        folder: of checkpoints; None: none are kept.
        progress: called after each chunk of updates.
        monitors: for ``training.fit``; ``progress`` hears of them.
        stop: a seed ends where it has solved the task.
    """
    keys = jax.vmap(jax.random.key)(jnp.asarray(budget.seeds, jnp.uint32))
    params = _started(setup, task, keys)
    state = setup.init_state(_seed(params, 0))
    test = task.held_out(jax.random.key(2**31 - 1), budget.test if task.held_out_sequences is None else min(budget.test, task.held_out_sequences))
    evaluation = training.Evaluation(setup.output, task.metric, test, budget.every, task.solved, stop)  # type: ignore[arg-type]
    before = measured(setup, params, state, test)
    began, resumed = time.perf_counter(), 0 if folder is None else training.latest(folder)
    fit = training.fit(
        setup.step, params, state, _sample(setup, task), setup.loss, steps=budget.steps, batch=budget.batch,
        key=jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), optimizer=remedies.optimizer(setup), penalty=setup.penalty,
        truncate=setup.truncate, monitors=monitors, evaluation=evaluation,
        log=None if progress is None else functools.partial(progress, name),
        checkpoints=None if folder is None else training.Checkpoints(folder, budget.every),
    )  # fmt: skip
    seconds = (time.perf_counter() - began) / max(int(np.sum(fit.done - np.minimum(fit.done, resumed))), 1)
    after = measured(setup, fit.params, state, test)
    floats = lambda values: tuple(float(v) for v in values)
    median = [np.median(known) if (known := column[~np.isnan(column)]).size else np.nan for column in fit.metric.T]
    return Row(
        name, tuple(int(s) for s in fit.solved), floats(_last(fit)), float(task.baseline), tuple(int(e) for e in fit.evaluated),
        floats(median), (floats(before[0]), floats(after[0])), (floats(before[1]), floats(after[1])), seconds,
        tuple(str(failure) for failure in fit.failures),
    )  # fmt: skip


def _last(fit: training.Fit) -> np.ndarray:
    """The last metric of every seed (S,), that at which it ended where it solved the task; NaN of one that failed."""
    failed = {failure.seed for failure in fit.failures}
    known = [row[~np.isnan(row)] for row in fit.metric]
    return np.array([row[-1] if row.size and i not in failed else np.nan for i, row in enumerate(known)])


def measured(setup: Setup, params: PyTree, state: PyTree, test: Batch) -> tuple[np.ndarray, np.ndarray]:
    """λ₁ and the median memory horizon of every seed (S,), on the first sequences of a batch; of ragged ones up to the shortest end."""
    length = jax.tree.leaves(test.xs)[0].shape[1] if test.lengths is None else int(test.lengths[:_SEQUENCES].min())
    xs = jax.tree.map(lambda leaf: leaf[:_SEQUENCES, :length], test.xs)
    count = len(jax.tree.leaves(params)[0])
    stride = min(_STRIDE, length)
    found = [_rates(setup.step, _seed(params, i), state, xs, stride=stride) for i in range(count)]
    horizons = [float(flow.horizon(transport, quantiles=(0.5,), stride=stride).lags[0]) for _, transport in found]
    return np.array([float(rate) for rate, _ in found]), np.array(horizons)


@functools.partial(jax.jit, static_argnames=("step", "stride"))
def _rates(step: Callable, params: PyTree, state: PyTree, xs: PyTree, *, stride: int) -> tuple[Array, Array]:
    exponent = lambda x: lyapunov.spectrum(step, params, state, x, k=1, blocks=1).exponents[0]
    transport = lambda x: flow.log_transport(step, params, state, x, stride=stride)
    return jnp.mean(jax.lax.map(exponent, xs)), jax.lax.map(transport, xs)


def _started(setup: Setup, task: Task, keys: Array) -> PyTree:
    """Parameters with the seeds on axis 0, after whatever a remedy does before training."""
    params = [setup.init_params(key) for key in keys]
    if setup.prepare is not None:
        params = [setup.prepare(jax.random.fold_in(key, 2), setup, one, task.sample) for key, one in zip(keys, params, strict=True)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def _sample(setup: Setup, task: Task) -> Callable[[Array, int], Batch]:
    if setup.transform is None:
        return task.sample
    return lambda key, batch: setup.transform(task.sample(key, batch))  # type: ignore[misc]


def _seed(params: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[i], params)


def _task_name(task: Callable[[int], Task]) -> str:
    names = {make: name for name, make in tasks.REGISTRY.items()}
    return names.get(task, getattr(task, "__qualname__", type(task).__qualname__))


def _skipped(name: str, why: str) -> Row:
    return Row(name, (), (), math.nan, (), (), ((), ()), ((), ()), math.nan, (), why)


def plain(row: Row) -> dict[str, Any]:
    """A row as JSON takes it; inf, −inf and NaN become strings."""
    return _plain(row._asdict())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _row(given: dict[str, Any]) -> Row:
    """A row out of its file; raises one of several errors where it is none."""
    back = lambda values: tuple(map(float, values))
    read: dict[str, Any] = {n: back(given[n]) for n in ("metric", "median")} | {n: float(given[n]) for n in ("baseline", "seconds_per_step")}
    read |= {name: (back(before), back(after)) for name in ("exponent", "horizon") for before, after in [given[name]]}
    row = Row(**{**given, **read, **{name: tuple(given[name]) for name in ("solved", "evaluated", "failures")}})
    seeds, counts = {len(values) for values in (row.solved, row.metric, *row.exponent, *row.horizon)}, (*row.solved, *row.evaluated)
    whole = len(seeds) == 1 and len(row.evaluated) == len(row.median) and all(type(count) is int and 0 <= count <= 2**53 for count in counts)
    if not whole or {type(text) for text in (row.name, row.skipped, *row.failures)} != {str}:
        raise ValueError("its fields are of other types or sizes")
    return row
