"""P2: the full Lyapunov spectrum of a driven LSTM, N = 64 (n = 128 real dimensions: h and c), T = 2,000, float64.

lyapax and chaotax take neither inputs nor a state of two leaves; the competitor is what one writes without a toolkit: a scan,
``jax.jacfwd`` of the step on the flattened state, one QR a step; and, beside the target, the same with the frame pushed by
``jax.jvp`` instead of a Jacobian formed.
"""

import jax
import jax.numpy as jnp
from harness import arguments, claim, interleave, report, require, save, seconds
from jax.flatten_util import ravel_pytree

from jaxrnn import cells, lyapunov

jax.config.update("jax_enable_x64", True)

N_IN, SIZES, TARGET = 8, ((64, 2_000),), 2.0
SHORT = 100
LIMITS = {"difference after a short run": 1e-10}


def jacobian(flat_step, v, q, x):
    """J q by the dense Jacobian."""
    j, v = jax.jacfwd(flat_step, has_aux=True)(v, x)
    return v, j @ q


def pushes(flat_step, v, q, x):
    """J q by one tangent per column."""
    push = lambda column: jax.jvp(lambda v: flat_step(v, x), (v,), (column,), has_aux=True)[1:]
    columns, v = jax.vmap(push, 1, (1, None))(q)
    return v, columns


def plain(cell, state, advance):
    unravel = ravel_pytree(state)[1]

    def exponents(params, state, xs, frame):
        def flat_step(v, x):
            new = ravel_pytree(cell.step(params, unravel(v), x))[0]
            return new, new

        def body(carry, x):
            v, q, total = carry
            v, q = advance(flat_step, v, q, x)
            q, r = jnp.linalg.qr(q)
            return (v, q, total + jnp.log(jnp.abs(jnp.diagonal(r)))), None

        carry = (ravel_pytree(state)[0], frame, jnp.zeros(frame.shape[1]))
        return jax.lax.scan(body, carry, xs)[0][2] / len(xs)

    return jax.jit(exponents)


def measure(n, length, target, rounds):
    cell = cells.lstm(N_IN, n)
    params = cell.init_params(jax.random.key(0))
    state = cell.init_state(params)
    xs = jax.random.normal(jax.random.key(1), (length, N_IN))
    # A few steps first: from the zero state the map is not yet typical.
    start = lyapunov.spectrum(cell.step, params, state, xs[:20])
    state, frame = start.state, start.frame
    by_hand, by_pushes = plain(cell, state, jacobian), plain(cell, state, pushes)
    ours = lambda xs: lyapunov.spectrum(cell.step, params, state, xs, frame=frame)
    differ = lambda found, theirs: float(jnp.max(jnp.abs(found.exponents + jnp.sort(-theirs))))
    brief = xs[:SHORT]
    checks = {"difference after a short run": differ(ours(brief), by_hand(params, state, brief, frame))}
    programs = {
        "jaxrnn": lambda: ours(xs),
        "scan + jacfwd + QR": lambda: by_hand(params, state, xs, frame),
        "scan + jvp + QR": lambda: by_pushes(params, state, xs, frame),
    }
    answers = {}
    timings = interleave(programs, rounds, answers=answers)
    checks["difference after the whole run"] = differ(answers["jaxrnn"], answers["scan + jacfwd + QR"])
    return {
        "setting": f"LSTM, N={n}, T={length:,}",
        "seconds": seconds(timings),
        "claims": [claim(timings, "scan + jacfwd + QR", target), claim(timings, "scan + jvp + QR", None)],
        "checks": require(checks, LIMITS),
    }


def main(given):
    sizes = ((3, 30, None),) if given.smoke else tuple((*size, TARGET) for size in SIZES)
    rows = [measure(*size, given.rounds) for size in sizes]
    report(rows)
    save("p2_lstm", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
