"""P7: what does ∂L/∂h_t for all t cost beside the parameter gradient alone?

``flow.state_gradients`` gives both; the competitor is ``jax.value_and_grad`` of the same loss on ``unroll.states``.
Target: at most 1.15 times its time, and extra memory O(T n).

The gradient by h_t is that by a zero added to it; of a step that is declared affine, then pointwise, the addition is declared with it.
"""

import jax
import jax.numpy as jnp
from harness import arguments, interleave, ratio, save, table

from jaxrnn import cells, flow, unroll

N_IN, N_OUT = 8, 4
SIZES = ((64, 200), (128, 400))  # (N, T)
BATCHES = (None, 16)  # None: one sequence without vmap
TARGET = 1.15
CELLS = ("vanilla", "gru", "lstm")


def error(prediction, target):
    return jnp.mean((prediction - target) ** 2)


def difference(a, b):
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))


def memory(compiled):
    """Bytes that a compiled program allocates: temporaries and outputs."""
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes


def measure(name, n, length, batch, rounds):
    cell = cells.with_readout(cells.REGISTRY[name](N_IN, n), N_OUT)
    params = cell.init_params(jax.random.key(0))
    state = cell.init_state(params)
    shape = (length,) if batch is None else (batch, length)
    xs = jax.random.normal(jax.random.key(1), (*shape, N_IN))
    targets = jax.random.normal(jax.random.key(2), (*shape, N_OUT))
    loss = cells.readout_loss(cell, error)

    def ours(params, xs, targets):
        return flow.state_gradients(cell.step, params, state, xs, targets, loss)

    def total(params, xs, targets):
        hs = unroll.states(cell.step, params, state, xs)
        return jnp.sum(jax.vmap(loss, (None, 0, 0, 0))(params, hs, xs, targets))

    # Under vmap both give one parameter gradient per sequence.
    batched = lambda function: jax.jit(function if batch is None else jax.vmap(function, (None, 0, 0)))
    functions = {"state_gradients": batched(ours), "value_and_grad": batched(jax.value_and_grad(total))}
    timings = interleave({key: lambda f=f: f(params, xs, targets) for key, f in functions.items()}, rounds)
    middle, low, high = ratio(timings, "state_gradients", "value_and_grad")
    used = {key: memory(function.lower(params, xs, targets).compile()) for key, function in functions.items()}
    got, wanted = (function(params, xs, targets) for function in functions.values())
    dimension = sum(leaf.size for leaf in jax.tree.leaves(state))
    trajectory = (length + 1) * dimension * 4 * (batch or 1)
    return {
        "cell": name,
        "N": n,
        "T": length,
        "batch": batch,
        "seconds": {key: timing._asdict() for key, timing in timings.items()},
        "ratio": {"median": middle, "quartiles": [low, high]},
        "bytes": used,
        "extra_trajectories": (used["state_gradients"] - used["value_and_grad"]) / trajectory,
        "relative_difference": max(jax.tree.leaves(jax.tree.map(difference, got.params, wanted[1]))),
    }


def line(row):
    ours, theirs = (1e3 * timing["median"] for timing in row["seconds"].values())
    quartiles = "{:.2f} to {:.2f}".format(*row["ratio"]["quartiles"])
    settings = (row[key] for key in ("cell", "N", "T", "batch"))
    return (*settings, ours, theirs, row["ratio"]["median"], quartiles, row["extra_trajectories"], row["relative_difference"])


def main(given):
    sizes, batches = (((4, 6),), (None, 2)) if given.smoke else (SIZES, BATCHES)
    rows = [measure(name, n, length, batch, given.rounds) for name in CELLS for n, length in sizes for batch in batches]
    headers = ("cell", "N", "T", "batch", "ours ms", "theirs ms", "ratio", "quartiles", "extra / ((T+1)·n·B)", "difference")
    table(headers, [line(row) for row in rows])
    print(f"at most {TARGET} times: {sum(row['ratio']['median'] <= TARGET for row in rows)} of {len(rows)}")
    save("p7_state_gradients", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
