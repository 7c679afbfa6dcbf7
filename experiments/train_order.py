"""Temporal order, T = 50, as Pascanu, Mikolov and Bengio trained it: plain, with clipping, and with their Ω besides.

    python -m experiments.train_order

Vanilla tanh network of 50 units, recurrent gain .95, input and readout weights of sd .1, constant SGD .01, 20 sequences an update. A seed has
solved the task where it is right on more than 99 % of 2,000 sequences. Ω here is summed over time and averaged over sequences, weight 2.
"""

import argparse
from dataclasses import dataclass

import jax
import numpy as np
import optax

from experiments.outcomes import train
from jaxrnn import cells, remedies, spectra, tasks


@dataclass(frozen=True)
class Settings:
    length: int = 50
    hidden: int = 50
    steps: int = 20_000
    every: int = 1000
    rate: float = 0.01
    weight: float = 2.0
    test: int = 2000
    seeds: tuple[int, ...] = tuple(range(101, 111))
    only: str = ""


FEW = Settings(length=10, hidden=4, steps=4, every=2, test=10, seeds=(101, 102), only="clip and")


def main(settings: Settings) -> None:
    """Print for each arm how many seeds have solved the task, and when."""
    task = tasks.temporal_order(settings.length)
    cell = cells.with_readout(cells.vanilla(task.n_in, settings.hidden), task.n_out)
    scales = {"gain": 0.95, "input_gain": 0.1 * task.n_in**0.5, "readout_gain": 0.1 * settings.hidden**0.5}
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(settings.rate))
    arms = {
        "clip and Ω": (clipped, remedies.Omega(settings.weight)),
        "clip": (clipped, None),
        "plain": (optax.sgd(settings.rate), None),
    }
    test = task.held_out(jax.random.key(2**31), settings.test)
    print(f"temporal order, T = {settings.length}, N = {settings.hidden}, seeds {settings.seeds}")
    for name, (optimizer, penalty) in arms.items():
        if settings.only not in name:
            continue
        found = train(
            name, cell, task, steps=settings.steps, seeds=settings.seeds, every=settings.every, batch=20, optimizer=optimizer, penalty=penalty,
            scales=scales, test=test,
        )  # fmt: skip
        solved = lambda by, fit=found.fit: int(((fit.solved > 0) & (fit.solved <= by)).sum())
        marks = sorted({settings.steps // 2, settings.steps})
        radius = spectra.spectral_radius(found.fit.params["W_hh"])
        print(f"{name:12s} solved: {', '.join(f'{solved(m)}/{len(settings.seeds)} by {m}' for m in marks)}; at {[int(s) for s in found.fit.solved]}; "
              f"final accuracy {np.round(found.metric_at(settings.steps), 3).tolist()}; spectral radius {np.round(np.asarray(radius), 2).tolist()}; "
              f"{1e3 * found.seconds_per_step:.2f} ms a step", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="arms whose name holds this")
    parser.add_argument("--weight", type=float, default=Settings.weight, help="of Ω")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--first-seed", type=int, default=Settings.seeds[0], help="of ten")
    given = parser.parse_args()
    seeds = tuple(range(given.first_seed, given.first_seed + 10))
    main(Settings(only=given.only, weight=given.weight, steps=given.steps, seeds=seeds))
