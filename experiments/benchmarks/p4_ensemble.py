"""P4: an ensemble of 256 tanh networks, N = 32, T = 1,000, g = 2, float64; k = 1 and k = 32 exponents of each.

Ours is ``lyapunov.spectrum`` under ``jax.vmap``; competitors are a Python loop of its compiled calls and lyapax under ``jax.vmap``.
"""

import jax
import jax.numpy as jnp
from competitors import lyapax, tanh_net, tanh_step
from harness import arguments, claim, interleave, report, require, save, seconds

from jaxrnn import lyapunov

jax.config.update("jax_enable_x64", True)

SETTINGS = ((256, 32, 1_000, 1, 1.8), (256, 32, 1_000, 32, 1.2))  # (seeds, N, T, k, target against the loop)
SHORT = 40
LIMITS = {"difference from lyapax after a short run": 1e-10, "difference of vmap and loop after a short run": 1e-10}


def measure(count, n, length, k, target, rounds):
    nets = [tanh_net(n, 2.0, key=i, k=k) for i in range(count)]
    stacked = tuple(jnp.stack(parts) for parts in zip(*nets, strict=True))

    def one(params, state, frame, length=length):
        return lyapunov.spectrum(tanh_step, params, state, None, length=length, frame=frame)

    together = jax.jit(jax.vmap(one))
    theirs = jax.jit(jax.vmap(lyapax(length)))
    short = min(SHORT, length)
    brief = jax.vmap(lambda *net: one(*net, length=short).exponents)(*stacked)
    others = {
        "difference from lyapax after a short run": jax.vmap(lyapax(short))(*stacked),
        "difference of vmap and loop after a short run": jnp.stack([one(*net, length=short).exponents for net in nets]),
    }
    timings = interleave(
        {
            "jaxrnn": lambda: together(*stacked),
            "loop of ours": lambda: [one(*net) for net in nets],
            "lyapax under vmap": lambda: theirs(*stacked),
        },
        rounds,
    )
    checks = {name: float(jnp.max(jnp.abs(brief - values))) for name, values in others.items()}
    return {
        "setting": f"{count} × N={n}, T={length:,}, k={k}",
        "seconds": seconds(timings),
        "claims": [claim(timings, "loop of ours", target), claim(timings, "lyapax under vmap", None)],
        "checks": require(checks, LIMITS),
    }


def main(given):
    settings = ((3, 4, 20, 1, None), (3, 4, 20, 4, None)) if given.smoke else SETTINGS
    rows = [measure(*setting, given.rounds) for setting in settings]
    report(rows)
    save("p4_ensemble", rows, given, ("lyapax",))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=5))
