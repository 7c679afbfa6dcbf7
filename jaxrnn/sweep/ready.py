"""Sweeps that are asked for again and again, ready to run: a point, its grid, what its results are."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxrnn import cells, flow, lyapunov, remedies, tasks, theory, training
from jaxrnn.sweep.grid import Grid, grid


@dataclass(frozen=True)
class Plan:
    """What ``sweep.run`` needs, and what a page says of it."""

    point: Callable[..., Any]
    grid: Grid
    title: str
    units: Mapping[str, str] = field(default_factory=dict)  # result or axis -> unit
    batch_size: int | None = None
    compiled: bool = True
    shown: tuple[str, ...] = ()  # results to draw; () for all that are numbers
    zero_line: np.ndarray | None = None  # (m, 2), where theory has the shown result at 0, over the first two axes
    expected: str | None = None  # the result that theory expects of the shown one
    logarithmic: bool = False  # whether results are drawn so


def phase_diagram(n: int = 200, length: int = 2000, gains: int = 50, inputs: int = 20, seeds: int = 5) -> Plan:
    """λ₁ of random tanh networks over gain and input strength, where mean-field theory knows the line between forgetting and chaos.

    h_t = tanh(W h_{t−1} + x_t), W of N(0, g²/n), x_t white of standard deviation s: λ₁ = 0 at ``theory.critical_input_sd(g)`` for n → ∞.

    Args:
        n: units. length: steps, of which a tenth is left out at first. gains, inputs, seeds: values on the axes: g from 0.5 to 2.5, s from 0 to 1.9.

    Source: Molgedey, Schuchhardt, Schuster 1992.
    """
    axes = {"gain": np.linspace(0.5, 2.5, gains), "input_sd": np.linspace(0.0, 1.9, inputs), "seed": np.arange(seeds), "n": (n,), "length": (length,)}
    units = {"exponent": "nats per step", "standard_error": "nats per step", "gain": "1", "input_sd": "1"}
    gain = np.linspace(1.0, 2.5, 151)[1:]
    line = np.stack([gain, np.asarray(jax.vmap(theory.critical_input_sd)(gain))], 1)
    title = f"Leading exponent over gain and input, n = {n}, T = {length}"
    return Plan(_leading, grid(**axes), title, units, batch_size=16, shown=("exponent",), zero_line=line)


def forget_bias(n: int = 64, length: int = 400, biases: int = 25, seeds: int = 10) -> Plan:
    """Memory horizon of an untrained LSTM against the bias of its forget gate, with that of a unit of constant gate, −1/ln σ(b), beside it.

    Args:
        n: units. length: steps of white noise. biases, seeds: values on the axes: b from −2 to 6.

    Source: Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015.
    """
    axes = {"bias": np.linspace(-2.0, 6.0, biases), "seed": np.arange(seeds), "n": (n,), "length": (length,)}
    units = {"horizon": "steps", "expected": "steps", "bias": "1"}
    title = f"Memory horizon over the forget gate's bias, LSTM, n = {n}, T = {length}"
    return Plan(_memory, grid(**axes), title, units, batch_size=1, shown=("horizon",), expected="expected", logarithmic=True)


def trainable_length(
    n: int = 32,
    steps: int = 600,
    gains: int = 9,
    lengths: tuple[int, ...] = (10, 20, 40, 80),
    seeds: int = 3,
    treated: tuple[str, ...] = ("none", "clipping", "orthogonal-init+clipping"),
) -> Plan:
    """How long a sequence a tanh network learns to add over, against the gain it starts from and what is done about its gradients.

    The result is the error on sequences held out over that of the best constant: 1 where nothing was learnt.

    Args:
        n: units. steps: updates of 32 sequences. gains, seeds: values on the axes: g from 0.6 to 1.8, a factor of the remedy's own recurrent weights.
        lengths: of the sequences. treated: names in ``remedies.CATALOGUE`` joined by +, or none.

    Source: Schoenholz et al. 2017 for the idea: what is learnt reaches as far as the correlation length of the initial weights.
    """
    axes = {
        "gain": np.linspace(0.6, 1.8, gains), "length": np.asarray(lengths), "remedy": tuple(treated), "seed": np.arange(seeds),
        "n": (n,), "steps": (steps,),
    }  # fmt: skip
    units = {"error": "of the best constant's", "length": "steps", "gain": "1"}
    return Plan(_learnt, grid(**axes), f"Adding learnt over gain and length, tanh, n = {n}, {steps} updates", units, compiled=False)


READY: dict[str, Callable[..., Plan]] = {"phase-diagram": phase_diagram, "forget-bias": forget_bias, "trainable-length": trainable_length}
"""Name -> a function of sizes that gives the plan."""


def _leading(gain: Array, input_sd: Array, seed: Array, n: int, length: int, key: Array) -> dict[str, Array]:
    del seed  # the key follows from it
    of_weights, of_inputs, of_state = jax.random.split(key, 3)
    weights = gain * jax.random.normal(of_weights, (n, n)) / np.sqrt(n)
    xs = input_sd * jax.random.normal(of_inputs, (length, n))
    found = lyapunov.spectrum(_driven, weights, jax.random.normal(of_state, (n,)), xs, k=1, warmup=length // 10)
    return {"exponent": found.exponents[0], "standard_error": found.standard_errors[0]}


def _driven(weights: Array, h: Array, x: Array) -> Array:
    return jnp.tanh(weights @ h + x)


def _memory(bias: Array, seed: Array, n: int, length: int, key: Array) -> dict[str, Array]:
    del seed
    cell = cells.lstm(1, n)
    params = cell.init_params(key, forget_bias=bias)
    xs = jax.random.normal(jax.random.fold_in(key, 1), (length, 1))
    transport = flow.log_transport(cell.step, params, cell.init_state(params), xs, stride=20)
    return {"horizon": flow.horizon(transport, quantiles=(0.5,), stride=20).lags[0], "expected": -1 / jax.nn.log_sigmoid(bias)}


@functools.cache
def _trainee(remedy: str, length: int, n: int) -> tuple[tasks.Task, Any, optax.GradientTransformation]:
    """A task, its model and the optimizer, the same objects for all points that share them, so that they compile once."""
    task = tasks.adding(length)
    setup = remedies.setup("vanilla", task, n, length=length)
    for name in () if remedy == "none" else remedy.split("+"):
        setup = remedies.apply(name, setup)
    return task, setup, remedies.optimizer(setup)


def _learnt(gain: float, length: int, remedy: str, seed: int, n: int, steps: int, key: Array) -> dict[str, Any]:
    del seed
    task, setup, optimizer = _trainee(remedy, int(length), n)
    assert task.metric is not None  # adding has one
    start, data = jax.random.split(key)
    params = setup.init_params(start)
    params = {**params, "W_hh": float(gain) * params["W_hh"]}
    test = task.held_out(jax.random.key(2**31 - 1), 200)
    found = training.fit(
        setup.step, params, setup.init_state(params), task.sample, setup.loss, steps=steps, batch=32, key=data, optimizer=optimizer,
        evaluation=training.Evaluation(setup.output, task.metric, test, steps),
    )  # fmt: skip
    return {"error": found.metric[-1] / task.baseline if not found.failures else np.nan}
