"""Where a compiled program spends its time: its kernels, traced with ``jax.profiler``.

Tracing slows each kernel; compare shares and counts, not the sum with a benchmark.
"""

import collections
import re
import tempfile
from pathlib import Path

import jax

WRAPPERS = ("while", "call", "cond")  # these contain kernels


def kernels(call, runs):
    """Microseconds and launches per call of every named kernel, and microseconds in loops."""
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(runs):
                jax.block_until_ready(call())
        data = jax.profiler.ProfileData.from_file(str(next(Path(folder).rglob("*.xplane.pb"))))
        time, count, loops = collections.Counter(), collections.Counter(), 0.0
        for event in (event for plane in data.planes for line in plane.lines for event in line.events):
            if "hlo_op" not in dict(event.stats):
                continue
            if event.name.startswith("while"):
                loops += event.duration_ns / 1e3 / runs
            if not event.name.startswith(WRAPPERS):
                time[event.name] += event.duration_ns / 1e3 / runs
                count[event.name] += 1 / runs
    return time, count, loops


def meanings(compiled):
    """Name of each operation of a compiled program -> what it is: a product with its shape, a LAPACK routine, a fusion."""
    found = {}
    for name, shape, operation, rest in re.findall(r"%?([\w.-]+) = (\(?\S+(?:, \S+)*?\)?) ([\w-]+)\((.*)", compiled.as_text()):
        target = re.search(r'custom_call_target="([^"]+)"', rest)
        found[name] = target[1] if target else f"{operation} {shape.split('{')[0]}"
    return found


def top(time, share=0.9):
    """The kernels that together take ``share`` of the time in kernels: (name, microseconds, share of the time)."""
    total, seen, listed = sum(time.values()), 0.0, []
    for name, microseconds in time.most_common():
        listed.append((name, microseconds, microseconds / total))
        seen += microseconds / total
        if seen >= share:
            break
    return listed
