"""Who learns to copy over a lag of 100 steps, and what a frozen orthogonal matrix says about it.

    python -m experiments.train_copy

Adam 1e-3 after clipping of the norm to 1, 32 sequences an update. Cells that preserve norms are looked at after 500 updates, the others
after 2,000. The control is an orthogonal recurrence whose matrix is never trained: where it succeeds as well, a norm-preserving spectrum
at the start suffices, and nothing is shown about learning on the orthogonal group.
"""

import argparse
from dataclasses import dataclass

import jax
import optax

from experiments.outcomes import show, train
from jaxrnn import cells, tasks, training


@dataclass(frozen=True)
class Settings:
    lag: int = 100
    hidden: int = 128
    batch: int = 32
    quick: int = 500
    slow: int = 2000
    seeds: tuple[int, ...] = (101, 102, 103)
    only: str = ""


FEW = Settings(lag=5, hidden=6, batch=3, quick=2, slow=2, seeds=(101, 102), only="frozen")


def frozen(leaf: str) -> optax.GradientTransformation:
    """The usual optimizer, and one leaf that stays what it was."""
    label = lambda params: {name: "kept" if name == leaf else "trained" for name in params}
    return optax.multi_transform({"kept": optax.set_to_zero(), "trained": training.default_optimizer()}, label)


def main(settings: Settings) -> None:
    """Print loss over baseline of every seed."""
    task = tasks.copy(settings.lag)
    n_in, n = task.n_in, settings.hidden
    recurrences = {
        "expRNN, modReLU": (cells.exprnn(n_in, n), settings.quick, None),
        "Cayley, linear": (cells.scornn(n_in, n, activation="identity"), settings.quick, None),
        "LRU, radii .99 to .9999": (cells.lru(n_in, n, r_min=0.99, r_max=0.9999), settings.quick, None),
        "expRNN, its matrix frozen": (cells.exprnn(n_in, n), settings.quick, frozen("A")),
        "orthogonal-init tanh": (cells.vanilla(n_in, n, init="orthogonal"), settings.slow, None),
        "vanilla tanh": (cells.vanilla(n_in, n), settings.slow, None),
        "LSTM, forget bias 1": (cells.lstm(n_in, n), settings.slow, None),
    }
    print(f"copy, lag {settings.lag}, N = {n}: loss / {task.baseline:.4f} of seeds {settings.seeds}")
    for name, (cell, steps, optimizer) in recurrences.items():
        if settings.only in name:
            cell = cells.with_readout(cell, task.n_out)
            test = task.held_out(jax.random.key(2**31), 200)
            found = train(
                name, cell, task, steps=steps, seeds=settings.seeds, every=min(steps, 500), batch=settings.batch, optimizer=optimizer, test=test
            )
            show(found, tuple(dict.fromkeys((min(steps, 500), steps))), task.baseline)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name holds this")
    main(Settings(only=parser.parse_args().only))
