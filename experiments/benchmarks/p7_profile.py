"""P7, where the time goes: the kernels of ``flow.state_gradients`` and of ``jax.value_and_grad`` in its worst case.

Vanilla, N = 64, T = 200, one sequence. Traced with ``jax.profiler``, which slows each kernel; compare counts, shares and
the difference, not the sum with ``p7_state_gradients.py``. Settles the one miss of P7: the backward loop runs one
kernel more a step, the one that stores ∂L/∂h_t.
"""

import jax
import jax.numpy as jnp
from harness import arguments, save, table
from profiling import kernels, top

from jaxrnn import cells, flow, unroll

N_IN, N_HIDDEN, LENGTH, N_OUT = 8, 64, 200, 4


def error(prediction, target):
    return jnp.mean((prediction - target) ** 2)


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
        listed = [(kernel, us, count[kernel], share) for kernel, us, share in top(time)]
        table(("kernel", "µs per call", "launches per call", "share"), listed)
    print()
    table(("program", "µs in kernels", "µs in loops", "kernels per step", "of these, stores"), rows)
    save("p7_profile", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__))
