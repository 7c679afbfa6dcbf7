"""P10: how many Newton iterations does a trajectory take, beside λ₁ and T, and what do the parallel unrolls cost beside the loop?

tanh networks h_t = tanh(W h_{t−1} + U x_t + b), W of variance g²/N, float64: driven (U and x standard normal, b a third of it) and
autonomous (U = b = 0). Iterations are those of ``parallel.newton`` (dense) and ``parallel.quasi_newton`` (diagonal) to the default
tolerance, at most MOST, over SEEDS networks; times are of the first of them, and of ``unroll.states`` (loop).
Target: the iterations at T = 400 are at most 1.5 times those at T = 100 for g ≤ .8, with the dense Jacobians.

Then the associative scan of linear recurrences, diagonal and with matrices, at T = 100,000 against ``unroll.states``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from harness import arguments, interleave, ratio, save, seconds, table

from jaxrnn import lyapunov, parallel, unroll
from jaxrnn.cells.protocol import LEFT, Linear

jax.config.update("jax_enable_x64", True)

N = 32
GAINS = (0.5, 0.8, 1.0, 1.5, 2.0)
LENGTHS = (100, 400, 1600)
SEEDS = 3
MOST = 400
TARGET = 1.5
METHODS = {"dense": parallel.newton, "diagonal": parallel.quasi_newton}


def step(params, h, x):
    return jnp.tanh(params["W"] @ h + params["U"] @ x + params["b"])


def network(gain, n, length, driven, seed):
    random = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape))
    params = {"W": gain * draw(n, n) / n**0.5, "U": driven * draw(n, 2), "b": driven * draw(n) / 3}
    return params, draw(n) / 2, draw(length, 2)


def count(gain, n, length, driven, seeds, most):
    """Iterations of both methods over seeds, λ₁ and what it predicts."""
    found = {name: [] for name in ("exponents", "expected", *METHODS, *(f"{name} converged" for name in METHODS))}
    for seed in range(seeds):
        params, state, xs = network(gain, n, length, driven, seed)
        exponent = float(lyapunov.spectrum(step, params, state, xs, k=1).exponents[0])
        found["exponents"].append(exponent)
        found["expected"].append(float(parallel.expected_iterations(exponent, length, n).iterations))
        for name, method in METHODS.items():
            result = method(step, params, state, xs, max_iterations=most)
            found[name].append(int(result.iterations))
            found[f"{name} converged"].append(bool(result.converged))
    return found


def measure(gain, n, length, driven, seeds, most, rounds):
    found = count(gain, n, length, driven, seeds, most)
    params, state, xs = network(gain, n, length, driven, 0)
    loop = jax.jit(lambda: unroll.states(step, params, state, xs))
    calls = {"loop": loop, **{name: lambda m=m: m(step, params, state, xs, max_iterations=most).states for name, m in METHODS.items()}}
    timings = interleave(calls, rounds, least=0.01)
    return {
        "kind": "newton",
        "driven": driven,
        "g": gain,
        "N": n,
        "T": length,
        "most": most,
        **found,
        "seconds": seconds(timings),
        "ratio": {name: ratio(timings, name, "loop") for name in METHODS},
    }


def linear(name, length, rounds):
    """The associative scan against the loop."""
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape))
    if name == "diagonal, n = 256":
        cell = Linear(lambda p, x: (jax.nn.sigmoid(p["G"] @ x + 2), p["V"] @ x))
        params, state = {"G": draw(256, 2), "V": draw(256, 2)}, draw(256)
    else:
        cell = Linear(lambda p, x: (0.9 * jnp.eye(8) - 0.1 * jnp.tanh(jnp.einsum("ijk,k->ij", p["A"], x)), p["V"] @ x), LEFT)
        params, state = {"A": draw(8, 8, 2), "V": draw(8, 2)}, draw(8)
    xs = draw(length, 2)
    runs = {"loop": unroll.states, "associative": parallel.associative}
    calls = {key: jax.jit(lambda p, s, x, run=run: run(cell, p, s, x)) for key, run in runs.items()}
    timings = interleave({key: lambda f=f: f(params, state, xs) for key, f in calls.items()}, rounds)
    ours, theirs = (calls[key](params, state, xs) for key in ("associative", "loop"))
    return {
        "kind": "linear",
        "name": name,
        "T": length,
        "seconds": seconds(timings),
        "ratio": ratio(timings, "associative", "loop"),
        "difference": float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs))),
    }


def growth(rows):
    """Iterations at the second length over those at the first, for each g and kind."""
    short, long = sorted({row["T"] for row in rows})[:2]
    by = {(row["driven"], row["g"], row["T"]): max(row["dense"]) for row in rows}
    times = lambda driven, g: {"growth": by[driven, g, long] / by[driven, g, short], "target": TARGET if g <= 0.8 else None}
    return [{"kind": "growth", "driven": driven, "g": g, **times(driven, g)} for driven, g, length in by if length == short]


def main(given):
    gains, lengths, seeds, most = ((0.5, 2.0), (10, 20), 1, 30) if given.smoke else (GAINS, LENGTHS, SEEDS, MOST)
    n = 4 if given.smoke else N
    rows = [measure(g, n, length, driven, seeds, most, given.rounds) for driven in (1.0, 0.0) for g in gains for length in lengths]
    shown = lambda row, name: f"{max(row[name])}{'' if all(row[f'{name} converged']) else ' not converged'}"
    headers = ("driven", "g", "T", "λ₁", "dense", "expected", "diagonal", "loop ms", "dense ms", "diagonal ms")
    table(
        headers,
        [
            (
                bool(row["driven"]),
                row["g"],
                row["T"],
                float(np.mean(row["exponents"])),
                shown(row, "dense"),
                max(row["expected"]),
                shown(row, "diagonal"),
                *(1e3 * row["seconds"][name]["median"] for name in ("loop", *METHODS)),
            )
            for row in rows
        ],
    )
    grown = growth(rows)
    print()
    for row in grown:
        reached = "" if row["target"] is None else f", target ≤ {row['target']}: {'reached' if row['growth'] <= row['target'] else 'NOT reached'}"
        print(f"{'driven' if row['driven'] else 'autonomous'} g = {row['g']}: iterations grow {row['growth']:.2f} times{reached}")
    scans = [linear(name, 1000 if given.smoke else 100_000, given.rounds) for name in ("diagonal, n = 256", "matrices, d = 8")]
    print()
    headers = ("linear", "T", "loop ms", "associative ms", "ratio", "difference")
    milliseconds = lambda row: [1e3 * timing["median"] for timing in row["seconds"].values()]
    table(headers, [(row["name"], row["T"], *milliseconds(row), row["ratio"][0], row["difference"]) for row in scans])
    save("p10_newton", [*rows, *grown, *scans], given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=5))
