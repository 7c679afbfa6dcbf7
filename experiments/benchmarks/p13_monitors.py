"""P13: what does it cost to watch a training: the gradient of every state at every step, or leading exponents every 20?

``training.fit`` with ``monitors.profile()`` and with ``monitors.exponents(4, every=20)`` beside the same training without monitors, adding,
B = 32, T = 200, N = 128, float32. Target: at most 15 % more time each. The parameters at the end must be the same.
"""

import jax
import numpy as np
from harness import arguments, interleave, ratio, save, table

from jaxrnn import cells, tasks, training
from jaxrnn.training import monitors

BATCH, LENGTH, N, STEPS = 32, 200, 128, 20
TARGET = 1.15
CELLS = ("vanilla", "gru", "lstm")


def measure(name, n, length, batch, steps, rounds):
    task = tasks.adding(length)
    cell = cells.with_readout(cells.REGISTRY[name](task.n_in, n), task.n_out)
    params = cell.init_params(jax.random.key(0))
    model = (cell.step, params, cell.init_state(params), task.sample, cells.readout_loss(cell, task.loss))
    seen = {
        "none": {},
        "profile": {"profile": monitors.profile()},
        "exponents": {"rates": monitors.exponents(min(4, n), every=steps)},
    }
    run = lambda which: training.fit(*model, steps=steps, batch=batch, key=jax.random.key(1), monitors=which, chunk=steps)
    answers = {}
    timings = interleave({key: lambda which=which: run(which) for key, which in seen.items()}, rounds, answers=answers)
    for fit in answers.values():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), fit.params, answers["none"].params)
    ratios = {key: ratio(timings, key, "none") for key in ("profile", "exponents")}
    return {
        "cell": name, "N": n, "T": length, "batch": batch, "steps": steps, "seconds": {key: timing._asdict() for key, timing in timings.items()},
        "ratios": {key: {"median": middle, "quartiles": [low, high]} for key, (middle, low, high) in ratios.items()},
    }  # fmt: skip


def line(row):
    times = [1e3 * timing["median"] / row["steps"] for timing in row["seconds"].values()]
    shown = ["{:.3f} ({:.2f} to {:.2f})".format(found["median"], *found["quartiles"]) for found in row["ratios"].values()]
    return (row["cell"], row["N"], row["T"], row["batch"], *times, *shown)


def main(given):
    sizes = (4, 12, 3, 2) if given.smoke else (N, LENGTH, BATCH, STEPS)
    rows = [measure(name, *sizes, given.rounds) for name in CELLS]
    headers = ("cell", "N", "T", "batch", "ms a step", "with profile", "with exponents", "ratio, profile", "ratio, exponents")
    table(headers, [line(row) for row in rows])
    all_ratios = [found["median"] for row in rows for found in row["ratios"].values()]
    print(f"at most {TARGET} times: {sum(r <= TARGET for r in all_ratios)} of {len(all_ratios)}")
    save("p13_monitors", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
