"""What does every reader do with files that are almost valid: take them, refuse them with a message, or crash?

    python -m experiments.fuzz

Each reader of the package is given inputs made from valid ones by mutations that know their structure (tests/fuzzing.py), from a seed. Taken counts
what gave a result; refused, what raised one of the errors that the reader documents, with the file's name in its message. Everything else is a
crash: another error, a warning, code that an input brought along and that ran, a file outside the folder, more than 2 s of one processor, or more
than 600 MB more than before. An input that crashes is kept, and is made again by its reader, seed and number: `--reader npz --seed 0 --only 1234`.
"""

import argparse
import collections
import dataclasses
import faulthandler
import importlib.util
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.fuzz_readers import READERS, Reader
from tests import fuzzing

SECONDS, BYTES = 2.0, 600e6  # what one input may take
LACKING = {"pt": "torch", "safetensors": "safetensors", "checkpoint": "orbax"}  # packages that some readers need
LIMIT = 8 * 2**30  # of address space, which the process may take beyond what it has once everything is imported


@dataclasses.dataclass(frozen=True)
class Settings:
    inputs: int = 200_000  # over all readers, in the proportions of ``READERS``
    seed: int = 0
    readers: tuple[str, ...] = ()  # () for all
    seconds: float = 1e9  # after which no further reader begins


SMOKE = Settings(inputs=1500)


@dataclasses.dataclass
class Tally:
    """What came of the inputs of one reader."""

    inputs: int = 0
    taken: int = 0
    refused: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    crashes: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0  # of this process
    longest: float = 0.0
    memory: float = 0.0  # bytes that one input added to the most that the process ever held


def tried(reader: Reader, name: str, seed: int, number: int, folder: Path, tally: Tally) -> None:
    """One input, made, read and judged; what it did is counted in ``tally``."""
    draw = random.Random(f"{name} {seed} {number}")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        given = reader.make(draw, folder)
    before, began = held(), time.process_time()
    wrong = ""
    tally.inputs += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(given)
        tally.taken += 1
    except reader.errors as error:
        tally.refused[type(error).__name__] += 1
        path = next((part for part in (given if isinstance(given, tuple) else (given,)) if isinstance(part, Path)), None)
        wanted = reader.named or (path.name if path is not None else "")
        if type(error) not in reader.errors or wanted not in str(error):
            wrong = f"{type(error).__name__} whose message does not say {wanted!r}: {str(error)[:300]!r}"
    except BaseException as error:  # a panic in Rust is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        wrong = "".join(traceback.format_exception_only(error))[:300] + "".join(traceback.format_tb(error.__traceback__)[-2:])
    spent = time.process_time() - began
    grown = held() - before
    tally.longest, tally.memory = max(tally.longest, spent), max(tally.memory, grown)
    if not wrong and spent > SECONDS:
        wrong = f"{spent:.1f} s"
    if not wrong and grown > BYTES:
        wrong = f"{grown / 1e6:.0f} MB"
    if os.environ.pop(fuzzing.CANARY, None) or (folder / fuzzing.CANARY).exists():
        wrong = "code that an input brought along ran"
    if wrong:
        tally.crashes.append(f"{name}, seed {seed}, input {number}: {wrong}")
        _keep(given, name, seed, number)


def held() -> float:
    """The most bytes that this process ever held."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _keep(given: Any, name: str, seed: int, number: int) -> None:
    """A copy of what was read, where it is a file."""
    place = Path(tempfile.gettempdir()) / "fuzz-crashes"
    place.mkdir(exist_ok=True)
    path = given if isinstance(given, Path) else given[0] if isinstance(given, tuple) and isinstance(given[0], Path) else None
    if path is not None and path.is_file() and path.stat().st_size < 10**6:
        shutil.copy(path, place / f"{name.replace(' ', '-')}-{seed}-{number}{path.suffix}")


def campaign(name: str, count: int, seed: int = 0, first: int = 0) -> Tally:
    """So many inputs of one reader, in a folder of its own in memory, where the system has one."""
    reader, tally = READERS[name], Tally()
    began = time.process_time()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as outside:
        folder = Path(outside) / "deep" / "folder"
        folder.mkdir(parents=True)
        tried(reader, name, seed, -1, folder, Tally())  # compiles and imports what is needed
        for number in range(first, first + count):
            tried(reader, name, seed, number, folder, tally)
        stray = [path for path in (*Path(outside).iterdir(), *(Path(outside) / "deep").iterdir(), Path("/tmp/escape")) if path.exists()]
        stray = [str(path) for path in stray if path.name not in ("deep", "folder")]
        if stray:
            tally.crashes.append(f"{name}: written outside the folder: {stray}")
    tally.seconds = time.process_time() - began
    return tally


def readers() -> list[str]:
    """The readers whose packages are installed."""
    return [name for name in READERS if importlib.util.find_spec(LACKING.get(name, "jax"))]


def main(s: Settings) -> dict[str, Tally]:
    """Print what came of each reader."""
    faulthandler.enable()
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT, resource.getrlimit(resource.RLIMIT_AS)[1]))
    jax.config.update("jax_enable_x64", True)
    names = [name for name in s.readers or readers()]
    whole = sum(READERS[name].weight for name in names)
    began, found = time.monotonic(), {}
    print(f"{'reader':18} {'inputs':>8} {'taken':>8} {'refused':>8} {'crashes':>8} {'s':>7} {'longest':>8} {'MB':>6}  refusals by kind")
    for name in names:
        if time.monotonic() - began > s.seconds:
            print(f"{name:18} not begun: the time was over")
            continue
        t = found[name] = campaign(name, -(-s.inputs * READERS[name].weight // whole), s.seed)
        kinds = ", ".join(f"{kind} {count}" for kind, count in t.refused.most_common())
        counts = (t.inputs, t.taken, t.refused.total(), len(t.crashes))
        print(f"{name:18} {' '.join(f'{count:8}' for count in counts)} {t.seconds:7.1f} {t.longest:8.3f} {t.memory / 1e6:6.0f}  {kinds}", flush=True)
        alike = {crash.split(": ", 1)[-1][:60]: crash for crash in t.crashes}
        for crash in list(alike.values())[:8]:
            print(f"    {crash}")
    total = sum(t.inputs for t in found.values())
    print(f"{total} inputs, {sum(len(t.crashes) for t in found.values())} crashes")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few inputs of every reader")
    parser.add_argument("--inputs", type=int, default=Settings.inputs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", nargs="*", default=[], help=f"one or more of {', '.join(READERS)}")
    parser.add_argument("--only", type=int, help="one input, by its number")
    given = parser.parse_args()
    if given.only is not None:
        print(*campaign(given.reader[0], 1, given.seed, given.only).crashes or ["no crash"], sep="\n")
    else:
        chosen = SMOKE if given.smoke else Settings(inputs=given.inputs, seed=given.seed, readers=tuple(given.reader))
        sys.exit(any(tally.crashes for tally in main(chosen).values()))
