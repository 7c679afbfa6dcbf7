"""P3: the leading k = 8 exponents of a tanh network of N = 2,048, T = 500, orthonormalised every 10 steps, float64.

The floor is the least that any method must do: T products of (N, N) and (N, k). Memory must be O(N k): the compiled program is
searched for (N, N) values that are not W itself handed on.
"""

import collections
import re

import jax
import jax.numpy as jnp
from competitors import lyapax, tanh_net, tanh_step
from harness import allocated, arguments, claim, interleave, report, require, save, seconds

from jaxrnn import lyapunov

jax.config.update("jax_enable_x64", True)

SIZES = ((2_048, 8, 500, 10),)  # (N, k, T, qr_every)
TARGET = 2.0
SHORT = 40
HANDED_ON = {"parameter", "get-tuple-element", "copy", "bitcast", "transpose"}  # W itself, perhaps laid out otherwise
LIMITS = {"difference after a short run": 1e-10}


def products(length):
    """The floor: nothing but the products."""

    def run(w, frame):
        return jax.lax.scan(lambda v, _: (w @ v, None), frame, None, length=length)[0]

    return jax.jit(run)


def square_values(compiled, n):
    """How often each operation of the compiled program yields an (n, n) array."""
    return collections.Counter(re.findall(rf"= f64\[{n},{n}\]\S* ([\w-]+)\(", compiled.as_text()))


def measure(n, k, length, qr_every, target, rounds):
    gain = 2.0
    params, state, frame = tanh_net(n, gain, k=k)

    def ours(params, state, frame, length=length):
        return lyapunov.spectrum(tanh_step, params, state, None, length=length, frame=frame, qr_every=qr_every)

    short = min(SHORT, length)
    difference = jnp.abs(ours(params, state, frame, short).exponents - lyapax(short, qr_every)(params, state, frame))
    compiled = jax.jit(ours).lower(params, state, frame).compile()
    made = square_values(compiled, n)
    used = allocated(compiled)
    floor, theirs = products(length), lyapax(length, qr_every)
    unit = params / gain  # spectral radius 1: the floor's product neither over- nor underflows
    programs = {
        "jaxrnn": lambda: ours(params, state, frame),
        "lyapax": lambda: theirs(params, state, frame),
        "floor: products": lambda: floor(unit, frame),
    }
    timings = interleave(programs, rounds)
    checks = {
        "difference after a short run": float(jnp.max(difference)),
        "(N, N) values made by the compiled program": sum(count for name, count in made.items() if name not in HANDED_ON),
        "operations that yield (N, N)": ", ".join(f"{name} {count}" for name, count in made.items()),
        "allocated / (N k)": sum(used.values()) / (8 * n * k),
    }
    return {
        "setting": f"N={n:,}, k={k}, T={length}, QR every {qr_every}",
        "seconds": seconds(timings),
        "claims": [claim(timings, "floor: products", target, at_most=True), claim(timings, "lyapax", None)],
        "checks": require(checks, LIMITS | {"(N, N) values made by the compiled program": 0, "allocated / (N k)": 50}),
        "bytes": used,
    }


def main(given):
    sizes = ((40, 2, 40, 10, None),) if given.smoke else tuple((*size, TARGET) for size in SIZES)
    rows = [measure(*size, given.rounds) for size in sizes]
    report(rows)
    save("p3_leading", rows, given, ("lyapax",))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=7))
