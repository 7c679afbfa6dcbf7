"""Parity, trained on 2 to 40 bits and asked of 40 and of 200: what eigenvalues below zero are good for.

    python -m experiments.train_parity

h_t = a(x_t) ∘ h_{t−1} + b(x_t) with 32 units and one hidden layer in the readout; the loss is at the last bit alone, lengths uniform on [2, 40].
Adam 3e-3, 64 sequences an update. With a in [0, 1] no unit can count modulo 2 (Grazzi et al. 2024). Accuracy on sequences of one length:
averaged over 2 to 40 bits it would flatter a cell that knows the short ones by heart.
"""

import argparse
from dataclasses import dataclass

import jax
import numpy as np

from experiments.outcomes import show, train
from jaxrnn import cells, tasks, training


@dataclass(frozen=True)
class Settings:
    length: int = 40
    longer: int = 200
    hidden: int = 32
    steps: int = 10_000
    batch: int = 64
    test: int = 1000
    seeds: tuple[int, ...] = tuple(range(101, 109))
    only: str = ""


FEW = Settings(length=4, longer=6, hidden=3, steps=2, batch=3, test=10, seeds=(101, 102), only="clip")


def main(settings: Settings) -> None:
    """Print the accuracy of every seed at both lengths."""
    task, longer = tasks.parity(settings.length, shortest=2), tasks.parity(settings.longer)
    beyond = longer.held_out(jax.random.key(2**31), settings.test)
    print(f"parity, trained on 2 to {settings.length} bits: accuracy of seeds {settings.seeds}")
    for transition, interval in (("clip", "[-1, 1]"), ("tanh", "(-1, 1)"), ("sigmoid", "(0, 1)")):
        if settings.only not in transition:
            continue
        cell = cells.with_readout(cells.input_diagonal(task.n_in, settings.hidden, transition), task.n_out, 2 * settings.hidden)
        test = task.held_out(jax.random.key(2**31), settings.test)
        found = train(f"a in {interval} ({transition}), {settings.length} bits", cell, task, steps=settings.steps, seeds=settings.seeds,
                      every=max(settings.steps // 5, 1), batch=settings.batch, rate=3e-3, test=test)  # fmt: skip
        show(found, tuple(int(at) for at in found.fit.evaluated[-2:]))
        one = lambda i, fit=found.fit: jax.tree.map(lambda leaf: leaf[i], fit.params)
        state = cell.init_state(one(0))
        far = [training.evaluate(cell.output, cell.step, one(i), state, beyond, task.metric) for i in range(len(settings.seeds))]
        each = " ".join(f"{v:.4f}" for v in far)
        print(f"{f'a in {interval} ({transition}), {settings.longer} bits':34s} {'':14s}: {each}   median {np.median(far):.4f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="transitions whose name holds this")
    main(Settings(only=parser.parse_args().only))
