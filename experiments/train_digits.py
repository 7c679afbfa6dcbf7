"""Handwritten digits read pixel by pixel: which recurrences learn them in 2,500 updates.

    python -m experiments.train_digits

64 steps, N = 64, Adam 1e-3 after clipping of the norm to 1, 32 sequences an update; accuracy on a fifth of the digits that was held out, whose
standard error is about one point.
"""

import argparse
import functools
from dataclasses import dataclass

import jax

from experiments.outcomes import show, train
from jaxrnn import cells, tasks


@dataclass(frozen=True)
class Settings:
    hidden: int = 64
    length: int | None = None
    steps: int = 2500
    batch: int = 32
    seeds: tuple[int, ...] = (101, 102, 103)
    only: str = ""


FEW = Settings(hidden=4, length=5, steps=2, batch=3, seeds=(101, 102), only="LRU")


def main(settings: Settings) -> None:
    """Print the accuracy of every seed."""
    task, n = tasks.digits(settings.length, held_out=0.2), settings.hidden
    encoded = cells.with_encoder(cells.lru(n, n, r_min=0.8, r_max=0.99), 1, n)
    gru = cells.gru(1, n)
    kept = gru._replace(init_params=functools.partial(gru.init_params, update_bias=1.0))
    recurrences = {
        "LRU, dense and gelu around": cells.with_readout(encoded, task.n_out, 2 * n),
        "expRNN, modReLU": cells.with_readout(cells.exprnn(1, n), task.n_out),
        "LSTM, forget bias 1": cells.with_readout(cells.lstm(1, n), task.n_out),
        "GRU": cells.with_readout(gru, task.n_out),
        "GRU, update bias 1": cells.with_readout(kept, task.n_out),
        "vanilla tanh": cells.with_readout(cells.vanilla(1, n), task.n_out),
        "orthogonal-init tanh": cells.with_readout(cells.vanilla(1, n, init="orthogonal"), task.n_out),
    }
    test = task.held_out(jax.random.key(0), task.held_out_sequences)
    print(f"digits, N = {n}: accuracy on {task.held_out_sequences} held out, seeds {settings.seeds}")
    for name, cell in recurrences.items():
        if settings.only in name:
            found = train(name, cell, task, steps=settings.steps, seeds=settings.seeds, every=settings.steps, batch=settings.batch, test=test)
            show(found, (settings.steps,))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--first-seed", type=int, default=Settings.seeds[0], help="of three")
    given = parser.parse_args()
    main(Settings(only=given.only, seeds=tuple(range(given.first_seed, given.first_seed + 3))))
