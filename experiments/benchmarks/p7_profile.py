"""P7, where the time goes: the kernels of ``flow.state_gradients`` and of ``jax.value_and_grad`` in its worst case.

Vanilla, N = 64, T = 200, one sequence. Traced with ``jax.profiler``, which slows each kernel; compare counts, shares and
the difference, not the sum with ``p7_state_gradients.py``. Settles the one miss of P7: the backward loop runs one
kernel more a step, the one that stores ∂L/∂h_t.
"""

import collections
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from harness import arguments, save, table

from jaxrnn import cells, flow, unroll

N_IN, N_HIDDEN, LENGTH, N_OUT = 8, 64, 200, 4
WRAPPERS = ("ThunkExecutor", "while", "call", "PjRt", "Execute", "end:")  # these contain kernels, or wait for them


def error(prediction, target):
    return jnp.mean((prediction - target) ** 2)


def kernels(call, runs):
    """Microseconds and launches per call of every named kernel."""
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(runs):
                jax.block_until_ready(call())
        data = jax.profiler.ProfileData.from_file(str(next(Path(folder).rglob("*.xplane.pb"))))
        time, count, loops = collections.Counter(), collections.Counter(), 0.0
        for line in (line for plane in data.planes for line in plane.lines if "XLAPjRtCpuClient" in line.name):
            for event in line.events:
                if event.name.startswith("while"):
                    loops += event.duration_ns / 1e3 / runs
                if not event.name.startswith(WRAPPERS):
                    time[event.name] += event.duration_ns / 1e3 / runs
                    count[event.name] += 1 / runs
    return time, count, loops


def main(given):
    length = 20 if given.smoke else LENGTH
    cell = cells.with_readout(cells.vanilla(N_IN, N_HIDDEN), N_OUT)
    params = cell.init_params(jax.random.key(0))
    state = cell.init_state(params)
    xs, targets = jax.random.normal(jax.random.key(1), (length, N_IN)), jnp.zeros((length, N_OUT))
    loss = cells.readout_loss(cell, error)

    def total(params):
        hs = unroll.states(cell.step, params, state, xs)
        return jnp.sum(jax.vmap(loss, (None, 0, 0, 0))(params, hs, xs, targets))

    alone = jax.jit(jax.value_and_grad(total))
    programs = {
        "state_gradients": lambda: flow.state_gradients(cell.step, params, state, xs, targets, loss),
        "value_and_grad": lambda: alone(params),
    }
    rows = []
    for name, call in programs.items():
        time, count, loops = kernels(call, 2 if given.smoke else 40)
        in_loops = {k: v for k, v in time.items() if count[k] > length / 2}
        launches = sum(round(count[k] / length) for k in in_loops)
        stores = sum(round(count[k] / length) for k in in_loops if "dynamic-update-slice" in k)
        rows.append((name, sum(time.values()), loops, launches, stores))
        print(f"\n{name}: the kernels that take 90 % of the time in kernels")
        seen, listed = 0.0, []
        for kernel, us in time.most_common():
            listed.append((kernel, us, count[kernel], us / sum(time.values())))
            seen += us / sum(time.values())
            if seen >= 0.9:
                break
        table(("kernel", "µs per call", "launches per call", "share"), listed)
    print()
    table(("program", "µs in kernels", "µs in loops", "kernels per step", "of these, stores"), rows)
    save("p7_profile", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__))
