"""P1: the full Lyapunov spectrum of an autonomous tanh network, g = 2, float64, orthonormalised at every step, and at every second.

Competitors start from the same state and frame, and return the exponents alone; ours returns standard errors beside them.
At every second step the condition of the pushed frame, e^(2(λ_1 − λ_n)), leaves the smallest exponents fewer digits, so that the
answers may differ by ten times as much; there is a claim against the fastest at every step, and one against the fastest at every second.
Answers are compared after ``SHORT`` steps, before chaos lets programs that round differently part, and on a stored trajectory
with the mean of ln|det J_t|.
"""

import jax
import jax.numpy as jnp
from competitors import spectrum_competitors, tanh_net, tanh_step
from harness import arguments, claim, fastest, interleave, report, require, save, seconds

from jaxrnn import lyapunov, unroll

jax.config.update("jax_enable_x64", True)

# (N, T, blocks for the standard errors, each of which ends with a Householder QR, steps between orthonormalisations, target)
SIZES = ((32, 20_000, 32, 1, 1.5), (128, 2_000, 32, 1, 2.5), (128, 2_000, 32, 2, None), (512, 100, 8, 1, 1.5))
SHORT = 40
STORED = 1000  # steps of the stored trajectory on which the sum of the exponents is compared
LIMITS = {"difference after a short run": 1e-10, "difference of Σλ and mean ln|det J|": 1e-9}
LESS_OFTEN = LIMITS | {"difference after a short run": 1e-9}


def on_stored(params, h, stored):
    """The step on a stored trajectory: its value and Jacobian are those of the stored state, whatever the rounding before."""
    return tanh_step(params, stored + (h - jax.lax.stop_gradient(h)), None)


def logdet_difference(params, state, frame, length, **settings):
    hs = unroll.states(tanh_step, params, state, None, length=length)
    before = jnp.concatenate([state[None], hs[:-1]])
    found = lyapunov.spectrum(on_stored, params, state, before, frame=frame, **settings)
    slopes = jnp.log1p(-(jnp.tanh(before @ params.T) ** 2)).sum(1).mean()
    return float(jnp.abs(found.exponents.sum() - slopes - jnp.linalg.slogdet(params)[1]))


def short_difference(params, state, frame, length, **settings):
    ours = lyapunov.spectrum(tanh_step, params, state, None, length=length, frame=frame, **settings).exponents
    descending = lambda values: -jnp.sort(-jnp.asarray(values))
    theirs = {name: descending(call(params, state, frame)) for name, call in spectrum_competitors(length).items()}
    return {name: float(jnp.max(jnp.abs(ours - value))) for name, value in theirs.items()}


def measure(n, length, blocks, qr_every, target, rounds):
    params, state, frame = tanh_net(n, 2.0)
    settings = {"blocks": blocks, "qr_every": qr_every}
    short = short_difference(params, state, frame, min(SHORT, length), **settings)
    checks = {
        "difference after a short run": max(short.values()),
        "difference of Σλ and mean ln|det J|": logdet_difference(params, state, frame, min(STORED, length), **settings),
    }
    competitors = spectrum_competitors(length, threads=1 if n < 512 else 2, qr_every=qr_every)
    less_often = [name for name in competitors if "every" in name]
    programs = {"jaxrnn": lambda: lyapunov.spectrum(tanh_step, params, state, None, length=length, frame=frame, **settings)}
    programs |= {name: lambda call=call: call(params, state, frame) for name, call in competitors.items()}
    timings = interleave(programs, rounds)
    claims = [claim(timings, fastest(timings, *less_often), target)]
    if less_often:
        claims.append(claim(timings, min(less_often, key=lambda name: timings[name].median), None))
    return {
        "setting": f"N={n}, T={length:,}" + (f", QR every {qr_every}" if qr_every > 1 else ""),
        "seconds": seconds(timings),
        "claims": claims,
        "checks": require(checks, LESS_OFTEN if less_often else LIMITS),
    }


def main(given):
    sizes = ((6, 20, 4, 1, None), (6, 20, 4, 2, None)) if given.smoke else SIZES
    rows = [measure(*size, given.rounds) for size in sizes]
    report(rows)
    save("p1_spectrum", rows, given, ("lyapax", "chaotax", "torch"))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=5))
