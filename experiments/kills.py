"""Does a training survive `kill -9`: is what a killed and resumed training ends with, bit for bit, what one that nobody stopped ends with?

    python -m experiments.kills

A GRU learns to add. One training runs to its end without checkpoints; each other one is killed once, at a random moment or amid a save, and
resumed by another process. Compared are the bytes of all parameters, of the optimizer's state and of the history of every update.
"""

import argparse
import dataclasses
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from jaxrnn import cells, tasks, training


@dataclasses.dataclass(frozen=True)
class Settings:
    kills: int = 20
    updates: int = 1000
    every: int = 25  # updates between checkpoints
    chunk: int = 25  # and between two lines of a training, of which one is waited for
    n: int = 32
    length: int = 50
    batch: int = 32
    amid_save: float = 0.4  # share of the kills
    seed: int = 0


FEW = Settings(kills=5, updates=120, every=20, chunk=10, n=8, length=20, batch=8)


def train(s, folder, result):
    """One training, in a process of its own: a line for each chunk, and at its end a file."""
    task, cell = tasks.adding(s.length), cells.with_readout(cells.gru(2, s.n), 1)
    params = cell.init_params(jax.random.key(s.seed))
    found = training.fit(
        cell.step, params, cell.init_state(params), task.sample, cells.readout_loss(cell, task.loss),
        steps=s.updates, batch=s.batch, key=jax.random.key(s.seed + 1), chunk=s.chunk,
        checkpoints=training.Checkpoints(folder, s.every) if folder else None,
        monitors={"norm": training.monitors.update_ratio(every=3)},  # a history that checkpoints cut at uneven places
        log=lambda step, values: print(step, flush=True),
    )  # fmt: skip
    np.savez(result, *map(np.asarray, jax.tree.leaves((found.params, found.optimizer_state, found.history))))


def start(s, folder, result):
    """A training in another process."""
    command = [sys.executable, "-m", "experiments.kills", "--train", json.dumps(dataclasses.asdict(s)), str(folder or ""), str(result)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)


def finish(process):
    """The first update that the process told of; raises where it failed."""
    lines = process.communicate()[0].split()
    if process.returncode:
        raise RuntimeError(f"a training ended with {process.returncode}; see its message above")
    return int(lines[0]) if lines else 0


def saving(folder):
    return any(name.suffix == ".part" for name in folder.iterdir()) if folder.is_dir() else False


def killed(s, folder, result, draw):
    """The last update that a training told of before it was killed, and whether it was saving."""
    with start(s, folder, result) as process:
        wanted, amid = draw.randrange(2, s.updates // s.chunk), draw.random() < s.amid_save
        told, times = 0, []
        for _ in range(wanted):
            told = int(process.stdout.readline())
            times.append(time.monotonic())
        if amid:
            while not saving(folder) and process.poll() is None:
                time.sleep(1e-4)
            time.sleep(draw.uniform(0, 0.02))
        else:
            time.sleep(draw.uniform(0, times[-1] - times[-2]))  # until the next line, about
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    return (int(rest[-1]) if rest else told), saving(folder)


def kept(folder):
    return max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=0) if folder.is_dir() else 0


def same(a, b):
    """Are two files the same arrays, bit for bit?"""
    with np.load(a) as a, np.load(b) as b:
        alike = lambda x, y: x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        return a.files == b.files and all(alike(a[name], b[name]) for name in a.files)


def main(s):
    draw = random.Random(s.seed)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        with start(s, None, place / "whole.npz") as process:
            finish(process)
        print(f"{s.updates} updates, a checkpoint every {s.every}; killed after update ..., resumed from checkpoint ...:")
        for i in range(s.kills):
            folder, result = place / str(i), place / f"{i}.npz"
            told, amid = killed(s, folder, result, draw)
            at = kept(folder)
            with start(s, folder, result) as process:
                first = finish(process)
            right = same(place / "whole.npz", result) and told - at <= s.every and first in (at + s.chunk, 0)  # 0: nothing was left to do
            row = {"killed": told, "saving": amid, "resumed": at, "lost": told - at, "right": right}
            rows.append(row)
            print("{killed:6}{0}  resumed from {resumed:6}  {lost:4} lost  {1}".format(
                " amid a save" if amid else "", "the same bits" if right else "WRONG", **row), flush=True)  # fmt: skip
    whole, amid = (sum(row[name] for row in rows) for name in ("right", "saving"))
    print(f"{whole} of {s.kills} the same, with at most an interval lost; {amid} were killed amid a save")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few kills of a short training")
    parser.add_argument("--train", nargs=3, metavar=("SETTINGS", "FOLDER", "RESULT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        train(Settings(**json.loads(given.train[0])), *given.train[1:])
    else:
        sys.exit(any(not row["right"] for row in main(FEW if given.smoke else Settings())))
