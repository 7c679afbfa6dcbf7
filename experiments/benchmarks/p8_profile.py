"""P8, where the time goes: the kernels of one training step through ``unroll.states`` and of the plain scan, by kind.

Per cell, the named kernels that take 90 % of the time in kernels. Products are XLA's, with the few reductions that bear the same name (ynn):
of ``W h`` forwards, again backwards for z_t,
``Wᵀ δz`` backwards, and one for every 20 steps of ``δz hᵀ``; at 64 rows they reach a quarter of the speed of a product of 1,024, and torch
does three of the four.
"""

import collections

import jax
from harness import arguments, save, table
from p8_training import BATCH, LENGTH, N_IN, N, gradient, shown, undeclared
from profiling import kernels, meanings, top

from jaxrnn import cells

CELLS = ("vanilla", "lstm", "gru")


def kind(meaning, name):
    if meaning.startswith("dot") or name.startswith("ynn"):
        return "products"
    return "copies and stores" if any(word in name for word in ("copy", "slice", "broadcast", "transpose", "concatenate")) else "pointwise"


def measure(name, batch, length, runs):
    cell = cells.REGISTRY[name](N_IN, N)
    params = cell.init_params(jax.random.key(0))
    state = cell.init_state(params)
    xs = jax.random.normal(jax.random.key(1), (batch, length, N_IN))
    rows = []
    for program, step in (("jaxrnn", cell.step), ("scan", undeclared(cell.step))):
        compiled = gradient(step, shown, state).lower(params, xs).compile()
        time, count, loops = kernels(lambda compiled=compiled: compiled(params, xs), runs)
        known = meanings(compiled)
        by_kind = collections.Counter()
        for kernel, us in time.items():
            by_kind[kind(known.get(kernel, ""), kernel)] += us
        total = sum(time.values())
        print(f"\n{name}, {program}: {total / 1e3:.1f} ms in kernels, {loops / 1e3:.1f} ms in loops")
        listed = [(kernel, known.get(kernel, ""), us, count[kernel], share) for kernel, us, share in top(time)]
        table(("kernel", "what", "µs per call", "launches", "share"), listed)
        shares = {key: us / total for key, us in by_kind.most_common()}
        print("by kind: " + ", ".join(f"{key} {share:.0%}" for key, share in shares.items()))
        rows.append({"cell": name, "program": program, "us": total, "by_kind": shares, "kernels": listed})
    return rows


def main(given):
    sizes = (2, 10, 1) if given.smoke else (BATCH, LENGTH, 3)
    rows = [row for name in CELLS for row in measure(name, *sizes)]
    save("p8_profile", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
