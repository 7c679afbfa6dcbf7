"""Verdicts on systems whose answer is known, and what the reasons must say."""

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, diagnosis


class System(NamedTuple):
    """A model, its sequences and what must be said of it."""

    step: Any
    params: Any
    state: Any
    xs: Any
    verdict: str
    length: int | None = None
    said: str = ""  # part of a reason


def linear(W, h, x):
    """h ← W h."""
    return W @ h


def given(params, h, x):
    """h ← x h: the inputs are the Jacobians."""
    return x @ h


def tanh_map(W, h, x):
    """h ← tanh(W h + x)."""
    return jnp.tanh(W @ h + x)


def gaussian(n, gain, key=0):
    return gain * jax.random.normal(jax.random.key(key), (n, n)) / np.sqrt(n)


def orthogonal(n):
    return jnp.linalg.qr(jax.random.normal(jax.random.key(0), (n, n)))[0]


def noise(shape, sd=1.0):
    return sd * jax.random.normal(jax.random.key(7), shape)


def rotated(theta, T):
    """Counterexample 3: A_t = R(θ)^t A R(θ)^−t, the same eigenvalues at every t."""
    A = np.array([[0.5, 4.0], [0.0, 0.5]])
    out = []
    for t in range(1, T + 1):
        c, s = np.cos(t * theta), np.sin(t * theta)
        R = np.array([[c, -s], [s, c]])
        out.append(R @ A @ R.T)
    return jnp.asarray(np.stack(out))[None]


def cell_system(cell, xs, verdict, said="", bias=None, **scales):
    params = cell.init_params(jax.random.key(1), **scales)
    if bias is not None:
        params = {**params, "b_h": params["b_h"] + bias}
    return System(cell.step, params, cell.init_state(params), xs, verdict, said=said)


A, B = jnp.array([[0.5, 2.0], [0.0, 0.5]]), jnp.array([[0.5, 0.0], [2.0, 0.5]])
D, E = jnp.diag(jnp.array([2.0, 0.1])), jnp.diag(jnp.array([0.1, 2.0]))
two = jnp.array([0.6, 0.8])
n = 32

lstm_bias_5 = cells.lstm(1, n)
SYSTEMS = {
    "contracting linear": System(linear, 0.9 * orthogonal(n), jnp.ones(n), None, "vanishing", 100),
    "orthogonal linear": System(linear, orthogonal(n), jnp.ones(n), None, "stable", 100),
    "unstable linear": System(linear, 1.1 * orthogonal(n), jnp.ones(n), None, "exploding", 100),
    "unstable linear at rest": System(linear, 1.1 * orthogonal(n), jnp.zeros(n), None, "exploding", 100),
    "tanh net, g = 0.5": System(tanh_map, gaussian(n, 0.5), jnp.zeros(n), noise((2, 60, n), 0.3), "vanishing"),
    "tanh net, g = 3": System(tanh_map, gaussian(100, 3.0), noise((100,)), noise((4, 200, 100), 0.0), "chaotic", None, "bounded"),
    "tanh net, g = 3, at rest": System(tanh_map, gaussian(n, 3.0), jnp.zeros(n), jnp.zeros((2, 60, n)), "exploding"),
    "counterexample 1: products of contracting factors grow": System(given, (), two, jnp.stack([B, A] * 50)[None], "exploding", None, "disagrees"),
    "counterexample 1, nilpotent": System(
        given, (), two, jnp.stack([jnp.array([[0.0, 0.0], [2.0, 0.0]]), jnp.array([[0.0, 2.0], [0.0, 0.0]])] * 50)[None], "exploding", None, "disagrees"
    ),
    "counterexample 2: products of expanding factors shrink": System(given, (), two, jnp.stack([D, E] * 50)[None], "vanishing", None, "disagrees"),
    "counterexample 3, θ = 0.3": System(given, (), two, rotated(0.3, 100), "vanishing"),
    "counterexample 3, θ = 0.7": System(given, (), two, rotated(0.7, 100), "exploding", None, "disagrees"),
    "counterexample 3, θ = π/2": System(given, (), two, rotated(np.pi / 2, 100), "exploding", None, "disagrees"),
    "counterexample 4: transient growth before the decay": System(
        linear, jnp.array([[0.9, 10.0], [0.0, 0.9]]), two, None, "vanishing", 200, "Transient growth"
    ),
    "counterexample 5: σ₁ = 1.5 at every step": System(linear, jnp.array([[0.0, 1.5], [0.5, 0.0]]), two, None, "vanishing", 100),
    "counterexample 6: w = 4 at its fixed point": System(tanh_map, jnp.full((1, 1), 4.0), jnp.ones(1), jnp.zeros((1, 50, 1)), "vanishing"),
    "counterexample 6: input suppresses chaos": System(tanh_map, gaussian(100, 1.5), noise((100,)), noise((4, 200, 100)), "vanishing"),
    "LSTM, forget bias 5, T = 64": cell_system(lstm_bias_5, noise((8, 64, 1), 0.3), "stable", gain=0.1, forget_bias=5.0),
    "LSTM, forget bias 1, same": cell_system(lstm_bias_5, noise((8, 64, 1), 0.3), "vanishing", gain=0.1, forget_bias=1.0),
    "marginal: gains of random sign": System(given, (), jnp.ones(1), jnp.exp(noise((6, 100, 1, 1))), "undecided"),
    "dead ReLU net": cell_system(cells.vanilla(1, n, "relu"), noise((4, 30, 1), 0.1), "vanishing", "exactly zero", bias=-5.0),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_verdict_and_reasons_of_a_known_system(name):
    s = SYSTEMS[name]
    found = diagnosis.diagnose(s.step, s.params, s.state, s.xs, length=s.length)
    assert found.verdict == s.verdict, found.reasons
    assert any(s.said in reason for reason in found.reasons), found.reasons
    assert all(check.passed for check in found.checks), found.checks
    json.dumps(found.to_dict(), allow_nan=False)
