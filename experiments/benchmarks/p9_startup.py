"""P9: how long until something happens: imports, the command's help, the first diagnosis.

Every figure is from fresh processes. What an import adds is timed inside the process, once jax and optax are there: the
difference of two whole processes, each near a second, scatters by more than the target.
The first diagnosis is timed with an empty compilation cache, then again with the one that it left behind.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import arguments, save, table

MODULES = "adapters, bptt, cells, checks, diagnosis, flow, initializers, linearize, lyapunov, remedies, spectra, tasks, theory, training, unroll"
IMPORTS = {  # name: (imported before the clock starts, what is timed)
    "import jax, optax": ("", "import jax, optax"),
    "import jaxrnn": ("import jax, optax", "import jaxrnn"),
    "import all core modules": ("import jax, optax", f"from jaxrnn import {MODULES}"),
}
TARGETS = {"import jaxrnn": 0.1, "import all core modules": 0.1, "jaxrnn --help": 0.4, "diagnose, cold cache": 30.0, "diagnose, warm cache": 12.0}
DIAGNOSES = 5  # each is a cold run and a warm one

SCRIPT = Path(sys.executable).parent / "jaxrnn"
COMMAND = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "jaxrnn.cli"]
# The caller's settings of jax would change what is measured.
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}


def run(command, **environment):
    done = subprocess.run(command, env=CLEAN | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} {' '.join(command[1:])} exited with {done.returncode}:\n{done.stderr}")
    return done.stdout


def import_seconds(before, timed):
    code = f"{before}\nimport time\nstart = time.perf_counter()\n{timed}\nprint(time.perf_counter() - start)"
    return float(run([sys.executable, "-c", code]))


def help_seconds():
    start = time.perf_counter()
    run([*COMMAND, "--help"])
    return time.perf_counter() - start


def start_up(rounds):
    found = {name: [] for name in (*IMPORTS, "jaxrnn --help")}
    for i in range(rounds + 1):  # the first round fills the file cache
        for name, samples in found.items():
            seconds = import_seconds(*IMPORTS[name]) if name in IMPORTS else help_seconds()
            samples.extend([seconds] if i else [])
    return found


def diagnose(cache, out):
    start = time.perf_counter()
    run([*COMMAND, "diagnose", "--out", str(out)], JAX_COMPILATION_CACHE_DIR=str(cache))
    seconds = time.perf_counter() - start
    if not list(out.rglob("diagnosis.json")):
        raise SystemExit("jaxrnn diagnose ended without diagnosis.json")
    return seconds


def first_diagnosis(repetitions):
    found = {"diagnose, cold cache": [], "diagnose, warm cache": []}
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            for name, seconds in found.items():
                seconds.append(diagnose(Path(folder, "cache"), Path(folder, name.replace(", ", "-").replace(" ", "-"))))
    return found


def main(given):
    found = start_up(given.rounds)
    if given.smoke:
        print("smoke: the diagnoses are left out")
    else:
        found |= first_diagnosis(DIAGNOSES)
    rows = [{"name": name, "target": TARGETS.get(name), "median": statistics.median(samples), "samples": samples} for name, samples in found.items()]
    label = lambda name: f"{name}, added" if IMPORTS.get(name, ("",))[0] else name
    met = lambda row: "" if row["target"] is None else "yes" if row["median"] <= row["target"] else "NO"
    lines = [(label(r["name"]), r["median"], min(r["samples"]), max(r["samples"]), r["target"] or "", met(r)) for r in rows]
    table(("what", "median s", "min", "max", "target s", "met"), lines)
    save("p9_startup", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
