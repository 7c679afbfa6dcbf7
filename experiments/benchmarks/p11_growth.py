"""P11: how FLOPs, memory and time of P1, P5 and P6 grow as T and n double, against the exponents that the docstrings state.

FLOPs are counted from the jaxpr without running anything (``counting.py``), at n large enough that lower orders vanish; the count of one
pass of every loop is compared with XLA's cost analysis of the compiled program. Memory is what the compiled program allocates:
temporaries and outputs. Time is measured from n = 512 on.
"""

import math

import jax
import jax.numpy as jnp
from competitors import tanh_step
from counting import count
from harness import allocated, arguments, interleave, save, table

from jaxrnn import bptt, cells, flow, lyapunov

jax.config.update("jax_enable_x64", True)

N_IN, N_OUT = 8, 4
CLOSE, WITHIN = 0.02, 0.25  # of the exponent of FLOPs at the counted size; of the predicted factor in time
# name: (stated power of T, stated power of n in FLOPs, in memory; sizes (T, n) where FLOPs are counted, memory read, time taken)
STATED = {
    "lyapunov.spectrum": ((1, 3), (0, 2), (64, 4096), (40, 128), (8, 512)),
    "flow.log_transport": ((2, 3), (1, 2), (2048, 1024), (100, 128), (16, 512)),
    "bptt.decompose": ((2, 2), (1, 2), (1024, 2048), (50, 128), (64, 512)),
}
SMOKE = {name: (*stated[:2], (64, 256), (8, 16), (4, 16)) for name, stated in STATED.items()}


def error(prediction, target):
    return jnp.mean((prediction - target) ** 2)


def data(name, length, n):
    """(function, arguments) of an analysis at one size."""
    key = jax.random.key(0)
    if name == "lyapunov.spectrum":
        w, h = 2 * jax.random.normal(key, (n, n)) / math.sqrt(n), jax.random.normal(key, (n,))
        frame = jnp.linalg.qr(jax.random.normal(key, (n, n)))[0]
        return (lambda w, h, q: lyapunov.spectrum(tanh_step, w, h, None, length=length, frame=q, blocks=1)), (w, h, frame)
    cell = cells.with_readout(cells.vanilla(N_IN, n), N_OUT)
    params = cell.init_params(key)
    xs = jax.random.normal(key, (length, N_IN))
    if name == "flow.log_transport":
        return (lambda p, h, xs: flow.log_transport(cell.step, p, h, xs)), (params, cell.init_state(params), xs)
    loss = cells.readout_loss(cell, error)
    run = lambda p, h, xs, ys: bptt.decompose(cell.step, p, h, xs, ys, loss)
    return run, (params, cell.init_state(params), xs, jnp.zeros((length, N_OUT)))


def shapes(name, length, n):
    """The same without numbers."""
    small, values = data(name, length, 2)
    grow = lambda leaf: jax.ShapeDtypeStruct(tuple(n if size == 2 else size for size in leaf.shape), leaf.dtype)
    return small, jax.tree.map(grow, values)


def flops(name, length, n, **options):
    function, given = shapes(name, length, n)
    found = count(function, *given, **options)
    return found["products"] + found["lapack"]


def memory(name, length, n):
    function, given = data(name, length, n)
    return sum(allocated(jax.jit(function).lower(*given).compile()).values())


def exponents(measure, name, length, n):
    """log2 of the growth as T doubles and as n doubles."""
    base = measure(name, length, n)
    return math.log2(measure(name, 2 * length, n) / base), math.log2(measure(name, length, 2 * n) / base)


def loop_body(name, length, n):
    """Our count of products and elementwise operations with every loop body once, as XLA counts, over XLA's own."""
    function, given = data(name, length, n)
    found = count(function, *given, once=True)
    analysis = jax.jit(function).lower(*given).compile().cost_analysis()
    return (found["products"] + found["elementwise"]) / analysis["flops"]


def times(name, length, n, rounds):
    """Factors in time as T and as n double: medians of ratios within a round; and the median seconds of the smallest."""
    calls = {}
    for label, size in {"base": (length, n), "2T": (2 * length, n), "2n": (length, 2 * n)}.items():
        function, given = data(name, *size)
        compiled = jax.jit(function)
        calls[label] = lambda compiled=compiled, given=given: compiled(*given)
    timings = interleave(calls, rounds)
    within = lambda label: sorted(a / b for a, b in zip(timings[label].samples, timings["base"].samples, strict=True))[rounds // 2]
    return within("2T"), within("2n"), timings["base"].median


def measure(name, stated, rounds):
    powers, bytes_powers, counted_at, memory_at, timed_at = stated
    found = exponents(flops, name, *counted_at)
    grown = exponents(memory, name, *memory_at)
    factor_t, factor_n, base = times(name, *timed_at, rounds)
    # What the FLOPs of the very sizes predict: at n = 512 lower orders are not yet nothing.
    predicted = tuple(2**power for power in exponents(flops, name, *timed_at))
    near = lambda power, stated: abs(power - stated) <= CLOSE
    below = lambda power, stated: power <= stated + 0.1
    return {
        "name": name,
        "flops": {"T": found[0], "n": found[1], "stated": powers, "at": counted_at, "reached": all(map(near, found, powers))},
        "bytes": {"T": grown[0], "n": grown[1], "stated at most": bytes_powers, "at": memory_at, "reached": all(map(below, grown, bytes_powers))},
        "time": {
            "T": factor_t,
            "n": factor_n,
            "predicted": predicted,
            "at": timed_at,
            "seconds": base,
            "reached": all(abs(a / b - 1) <= WITHIN for a, b in zip((factor_t, factor_n), predicted, strict=True)),
        },
        "our count over XLA's, loop bodies once": loop_body(name, *memory_at),
    }


def main(given):
    rows = [measure(name, stated, given.rounds) for name, stated in (SMOKE if given.smoke else STATED).items()]
    text = lambda power: f"{power:.3f}"
    yes = lambda reached: "yes" if reached else "NO"
    print("exponents of FLOPs (products and LAPACK)")
    cells_of = lambda row, key: (text(row[key]["T"]), text(row[key]["n"]))
    headers = ("", "T", "n", "stated", "reached")
    table(headers, [(row["name"], *cells_of(row, "flops"), row["flops"]["stated"], yes(row["flops"]["reached"])) for row in rows])
    print("\nexponents of the memory allocated")
    table(headers, [(row["name"], *cells_of(row, "bytes"), row["bytes"]["stated at most"], yes(row["bytes"]["reached"])) for row in rows])
    print("\nfactors in time as T and n double, and those of the FLOPs at the same sizes")
    shown = lambda row: " × ".join(f"{value:.2f}" for value in row["time"]["predicted"])
    table(("", "2T", "2n", "predicted", "reached"), [(row["name"], *cells_of(row, "time"), shown(row), yes(row["time"]["reached"])) for row in rows])
    print("\nour count over XLA's, loop bodies once and without LAPACK (before and after fusion: elementwise work differs)")
    table(("", "ratio"), [(row["name"], row["our count over XLA's, loop bodies once"]) for row in rows])
    save("p11_growth", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=5))
