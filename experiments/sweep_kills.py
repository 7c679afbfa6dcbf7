"""Does a sweep survive `kill -9` and a second writer: the same bits, no point lost, none computed again after it was recorded?

    python -m experiments.sweep_kills

Exponents of random networks. One sweep runs to its end undisturbed; another is killed at random moments and called again until it is done; a third
runs on two Dask workers, of which one is killed now and then. Compared are the bytes of all results; no point may stand in two parts of a store.
Then two processes write one store after another together, for a minute; there a point that both were at may stand in two parts, with the same bits.
"""

import argparse
import collections
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from jaxrnn import sweep
from jaxrnn.store import Store
from jaxrnn.sweep.ready import phase_diagram


@dataclasses.dataclass(frozen=True)
class Settings:
    kills: int = 20  # of the sweep's process
    of_workers: int = 10
    n: int = 60
    length: int = 2000
    gains: int = 40
    inputs: int = 10
    seeds: int = 3
    batch: int = 4
    seed: int = 0
    together: float = 60.0  # seconds that two processes share their stores


FEW = Settings(together=4.0, kills=2, of_workers=1, n=8, length=100, gains=10, inputs=4, seeds=2, batch=2)


def plan(s):
    return phase_diagram(s.n, s.length, s.gains, s.inputs, s.seeds)


def compute(s, folder, **how):
    """The whole sweep, or what a store lacks of it."""
    wanted = plan(s)
    return sweep.run(wanted.point, wanted.grid, batch_size=s.batch, store=folder, **how)


def outcome(s, folder, whole):
    """Whether a store holds what the undisturbed sweep found, each point once."""
    wanted = plan(s)
    store = Store(folder, sweep.about(wanted.point, wanted.grid))
    found = store.read(wanted.grid.names())
    same = all(np.asarray(found[name]).tobytes() == values.tobytes() for name, values in whole.results.items())
    counts = collections.Counter(name for part in Path(folder, "parts").glob("*.npz") for name in np.load(part)["point"].tolist())
    again = sum(count - 1 for count in counts.values())
    told = "the same bits" if same else "OTHER BITS"
    return f"{told}, {len(counts)} of {len(wanted.grid)} points, {again} in two parts, {len(store.verify())} damaged"


def killed(s, folder, draw):
    """The sweep in a process of its own, killed at random moments while it records, until it is done; how many kills met it at work."""
    kills, command = 0, [sys.executable, "-m", "experiments.sweep_kills", "--compute", json.dumps(dataclasses.asdict(s)), str(folder)]
    parts = folder / "parts"
    recorded = lambda: len(list(parts.glob("[!.]*.npz"))) if parts.exists() else 0
    every = len(plan(s).grid) / s.batch / (s.kills + 1)  # parts between two kills, about
    while True:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
        goal = recorded() + draw.uniform(0.2, 1.0) * every if kills < s.kills else np.inf
        while process.poll() is None and recorded() < goal:
            time.sleep(draw.uniform(0.001, 0.01))
        if process.poll() is not None:
            assert process.returncode == 0, process.returncode
            return kills
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1


def without_workers(s, folder, draw):
    """The sweep on two workers, one of which is killed now and then; how many were."""
    from distributed import Client, LocalCluster

    kills, done = [], threading.Event()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:

        def assassin():
            while len(kills) < s.of_workers and not done.wait(draw.uniform(0.5, 3.0)):
                alive = [worker.process.process.pid for worker in list(cluster.workers.values()) if worker.process and worker.process.process]
                if alive:
                    os.kill(draw.choice(alive), signal.SIGKILL)
                    kills.append(1)

        thread = threading.Thread(target=assassin)
        thread.start()
        found = compute(s, folder, client=client)
        done.set()
        thread.join()
    assert not found.failures, found.failures[:3]
    return len(kills)


def write_on(s, folder):
    """One store after another, until the time is over."""
    began, i = time.perf_counter(), 0
    while time.perf_counter() - began < s.together:
        compute(s, Path(folder, str(i)))
        i += 1


def together(s, folder, whole):
    """Two processes that write the same stores at the same time; what stands in them."""
    command = [sys.executable, "-m", "experiments.sweep_kills", "--write-on", json.dumps(dataclasses.asdict(s)), str(folder)]
    writers = [subprocess.Popen(command, cwd=Path(__file__).parents[1]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    return collections.Counter(outcome(s, at, whole) for at in folder.iterdir())


def main(s):
    """Print what became of each sweep."""
    draw = random.Random(s.seed)
    whole = compute(s, None)
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "killed"), Path(folder, "workers")
        began = time.perf_counter()
        print(f"{killed(s, one, draw)} kills of the process: {outcome(s, one, whole)}; {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        print(f"{without_workers(s, two, draw)} kills of workers: {outcome(s, two, whole)}; {time.perf_counter() - began:.0f} s")
        part = sorted((one / "parts").glob("*.npz"))[3]
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(bytes(content))
        store = Store(one, sweep.about(plan(s).point, plan(s).grid))
        print(f"a changed byte: {len(store.verify())} part put aside, {len(store.points())} points left; ", end="")
        compute(s, one)
        print(f"and again: {outcome(s, one, whole)}")
        few = dataclasses.replace(s, gains=max(s.gains // 4, 1))
        for found, stores in together(few, Path(folder, "together"), compute(few, None)).items():
            print(f"two writers, {s.together:.0f} s, {stores} stores: {found}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compute", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write-on", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compute:
        compute(Settings(**json.loads(given.compute[0])), given.compute[1])
    elif given.write_on:
        write_on(Settings(**json.loads(given.write_on[0])), given.write_on[1])
    else:
        main(Settings())
