"""P8, memory: one training step at T = 100,000, B = 4, N = 128, float32, must stay below 4 GB.

Each cell runs in a process of its own, whose peak resident memory is read at its end.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

from harness import arguments, save, table

CELLS, BATCH, LENGTH, N_IN, N = ("vanilla", "lstm"), 4, 100_000, 16, 128
LIMIT = 4e9  # bytes


def child(name, length):
    """Train one step and print seconds and bytes."""
    import jax
    import jax.numpy as jnp
    import optax
    from p8_training import shown

    from jaxrnn import cells, unroll

    cell = cells.REGISTRY[name](N_IN, N)
    params = cell.init_params(jax.random.key(0))
    state = cell.init_state(params)
    xs = jax.random.normal(jax.random.key(1), (BATCH, length, N_IN))
    adam = optax.adam(1e-3)

    @jax.jit
    def train(params, memory, xs):
        loss = lambda p: jnp.mean(shown(jax.vmap(lambda x: unroll.states(cell.step, p, state, x))(xs)) ** 2)
        value, gradient = jax.value_and_grad(loss)(params)
        updates, memory = adam.update(gradient, memory)
        return optax.apply_updates(params, updates), memory, value

    memory = adam.init(params)
    _, _, value = jax.block_until_ready(train(params, memory, xs))
    start = time.perf_counter()
    jax.block_until_ready(train(params, memory, xs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.perf_counter() - start, "bytes": peak, "finite": bool(jnp.isfinite(value))}))


def main(given):
    rows = []
    for name in CELLS:
        length = 100 if given.smoke else LENGTH
        ran = subprocess.run([sys.executable, __file__, "--child", name, str(length)], capture_output=True, text=True, check=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        rows.append({"cell": name, "T": length, "limit": LIMIT, "reached": found["finite"] and found["bytes"] < LIMIT, **found})
    shown = [(row["cell"], row["T"], row["seconds"], row["bytes"] / 1e9, row["reached"]) for row in rows]
    table(("cell", "T", "seconds a step", "peak GB", "below 4 GB"), shown)
    save("p8_long", rows, given)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--child", nargs=2)
    wanted, _ = parser.parse_known_args()
    if wanted.child:
        child(wanted.child[0], int(wanted.child[1]))
    else:
        main(arguments(__doc__.partition("\n")[0]))
