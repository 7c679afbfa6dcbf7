"""P1 to P5, where the time goes: the kernels of ``lyapunov.spectrum``, of a plain scan with one QR a step, and of ``flow.log_transport``.

Per setting, the named kernels that take 90 % of the time in kernels, and their sums by kind: LAPACK routines, products, the rest
(among which XLA's fused products and reductions on CPU, named ynn: three quarters of P5).

What was tried beside the panels of 32 columns, in µs a step, LAPACK on one thread (plain scan with QR: 537 at N = 128, 18,700 at 512):
- Householder's QR at every step: that is the plain scan;
- N = 128: one panel, CholeskyQR of the whole, 384; panels of 64, 351; of 32, 337; of 16, 372. N = 512: 10,500 to 11,900 whatever the panels;
- the small products with the left side laid out anew: at N = 32 12.7 instead of 15.6, so it is kept there; 347 instead of 342 at N = 128;
- an orthonormalisation every second step: 206 at N = 128, 2.6 times as fast as the fastest at every step, with answers to 4e-10.
At N = 128 the products alone, 4 n³ operations a step, take 175 of the 337 at the speed that XLA reaches on one core; the target, 215, leaves 40 for
everything else. P2 does the same work beside its pushes. In P4 at k = 32 the loop of jitted calls already has the quick panels that the target
was set against.
"""

import collections

import jax
import jax.numpy as jnp
from competitors import plain, tanh_net, tanh_step
from harness import arguments, save, table
from profiling import kernels, meanings, top

from jaxrnn import cells, flow, lyapunov

jax.config.update("jax_enable_x64", True)

# name: (N, T, k, QR every, seeds or None)
TANH = {
    "P1 N=32": (32, 2_000, 32, 1, None),
    "P1 N=128": (128, 200, 128, 1, None),
    "P1 N=512": (512, 10, 512, 1, None),
    "P3 N=2,048": (2_048, 50, 8, 10, None),
    "P4 k=1": (32, 200, 1, 1, 256),
    "P4 k=32": (32, 50, 32, 1, 256),
}
SMOKE = {"P1 N=6": (6, 10, 6, 1, None), "P4 k=2": (4, 10, 2, 1, 3)}
RUNS = 3


def tanh_programs(n, length, k, qr_every, seeds):
    nets = [tanh_net(n, 2.0, key=i, k=k) for i in range(seeds or 1)]
    given = nets[0] if seeds is None else tuple(jnp.stack(parts) for parts in zip(*nets, strict=True))

    def ours(w, h, q):
        return lyapunov.spectrum(tanh_step, w, h, None, length=length, frame=q, qr_every=qr_every)

    programs = {"jaxrnn": ours} | ({"scan + QR": plain(length)} if k == n and seeds is None else {})
    return {name: jax.jit(run if seeds is None else jax.vmap(run)) for name, run in programs.items()}, given


def lstm_programs(n, length):
    cell = cells.lstm(8, n)
    params = cell.init_params(jax.random.key(0))
    given = (params, cell.init_state(params), jax.random.normal(jax.random.key(1), (length, 8)))
    return {"jaxrnn": jax.jit(lambda p, h, xs: lyapunov.spectrum(cell.step, p, h, xs))}, given


def transport_programs(n, length):
    cell = cells.vanilla(8, n)
    params = cell.init_params(jax.random.key(0))
    given = (params, cell.init_state(params), jax.random.normal(jax.random.key(1), (length, 8)))
    return {"jaxrnn": jax.jit(lambda p, h, xs: flow.log_transport(cell.step, p, h, xs))}, given


def kind(meaning):
    if meaning.startswith(("lapack", "blas")):
        return meaning
    return "products" if meaning.startswith("dot") else "the rest"


def measure(setting, programs, given, runs):
    rows = []
    for name, run in programs.items():
        compiled = run.lower(*given).compile()
        time, count, loops = kernels(lambda compiled=compiled: compiled(*given), runs)
        known = meanings(compiled)
        by_kind = collections.Counter()
        for kernel, us in time.items():
            by_kind[kind(known.get(kernel, kernel))] += us
        print(f"\n{setting}, {name}: {sum(time.values()) / 1e3:.1f} ms in kernels, {loops / 1e3:.1f} ms in loops")
        shown = [(kernel, known.get(kernel, ""), us, count[kernel], share) for kernel, us, share in top(time)]
        table(("kernel", "what", "µs per call", "launches", "share"), shown)
        shares = {key: us / sum(time.values()) for key, us in by_kind.most_common()}
        print("by kind: " + ", ".join(f"{key} {share:.0%}" for key, share in shares.items()))
        rows.append({"setting": setting, "program": name, "kernels": shown, "by_kind": shares, "us": sum(time.values()), "us_in_loops": loops})
    return rows


def main(given):
    runs = 1 if given.smoke else RUNS
    rows = [row for name, setting in (SMOKE if given.smoke else TANH).items() for row in measure(name, *tanh_programs(*setting), runs)]
    rows += measure("P2 LSTM", *lstm_programs(*((3, 10) if given.smoke else (64, 200))), runs)
    rows += measure("P5", *transport_programs(*((3, 10) if given.smoke else (64, 200))), runs)
    save("p1_profile", rows, given)


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
