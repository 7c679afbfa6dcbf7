"""P5: ‖∂h_t/∂h_k‖ for every pair of times, vanilla cell driven by noise, N = 64 T = 200 and N = 128 T = 500, float64.

Competitors differentiate the trajectory with respect to zeros added to every state, h_0 included, and take norms.
- ``jax.jacrev`` and ``jax.jacfwd`` of the whole trajectory hold (T N)² doubles: 1.3 GB at the first size, 33 GB at the second, where
  they cannot run.
- "jacrev, a time at once" pulls back the N outputs of one time after the other; torch does so too, through t steps only.
  Where that is too long, a sample of times evenly spread is timed and scaled up (the setting says how many).
The floor is ours without everything but the matrix products: J_t times the products from the times that have begun. At N = 128 it is
not a sixth of "jacrev, a time at once", so that no method by these products can be 12 times as fast as that. At N = 64 ``jax.jacrev``, which
fills 4 GB, took 1.5 to 2.9 s from run to run, the floor 140 ms, ours 210 to 250: 7 to 12 times as fast. Tried instead, N = 64: rescaling
at every step (247 ms instead of 213), one block of all starting times (each step touches pairs k > t: twice the products). Norms of all pairs
from halves, ⟨P(t,m)ᵀP(t,m), P(m,k)P(m,k)ᵀ⟩, would take T n³ log T + T² n² operations, at half the digits where directions cancel.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from competitors import installed
from harness import allocated, arguments, claim, interleave, log_difference, report, require, save, scaled, seconds

from jaxrnn import cells, flow, linearize

jax.config.update("jax_enable_x64", True)

N_IN = 8
SIZES = ((64, 200, 200, 10), (128, 500, 10, 5))  # (N, T, how many times t jacrev is timed on where a time is taken at once, torch)
WHOLE = 2 << 30  # bytes of a whole Jacobian that competitors are given
TARGET_JACREV, TARGET_FLOOR = 12.0, 2.0
GROUPS = 20  # of steps with one width in the floor: the mean width of the group
LIMITS = {"difference of logs from jacrev": 1e-8, "difference of logs from torch": 1e-8}


def trajectory(cell, params, state, xs):
    """(nudges of h_0..h_{T−1}) -> h_1..h_T."""

    def run(nudges):
        def body(h, xe):
            x, nudge = xe
            h = cell.step(params, h + nudge, x)
            return h, h

        return jax.lax.scan(body, state, (xs, nudges))[1]

    return run


def log_norms(blocks, axes):
    return 0.5 * jnp.log(jnp.sum(blocks**2, axis=axes) / blocks.shape[axes[0]])


def whole(mode, cell, length, n):
    """All pairs from one Jacobian (T, n, T, n): (T, T), row t − 1, column k."""

    def run(params, state, xs):
        return log_norms(mode(trajectory(cell, params, state, xs))(jnp.zeros((length, n))), (1, 3))

    return jax.jit(run)


def by_time(cell, length, n):
    """All k of the chosen times t, one t after the other: (times, T)."""

    def run(params, state, xs, times):
        pull = jax.vjp(trajectory(cell, params, state, xs), jnp.zeros((length, n)))[1]

        def one(t):
            seeds = jnp.zeros((n, length, n)).at[:, t].set(jnp.eye(n))
            return log_norms(jax.vmap(pull)(seeds)[0], (0, 2))

        return jax.lax.map(one, times)

    return jax.jit(run)


def torch_by_time(params, state, xs, times):
    """The same in torch: the graph is recorded once, each time pulls N cotangents through the steps before it."""
    import torch

    torch.set_num_threads(1)
    w, u, b = (torch.from_numpy(np.array(params[name])) for name in ("W_hh", "W_xh", "b_h"))
    inputs = torch.from_numpy(np.array(xs)) @ u.T + b
    nudges = [torch.zeros(len(w), dtype=w.dtype, requires_grad=True) for _ in range(len(xs))]
    start = torch.from_numpy(np.array(state))
    eye = torch.eye(len(w), dtype=w.dtype)

    def run():
        h, hs = start, []
        for x, nudge in zip(inputs, nudges, strict=True):
            h = torch.tanh(w @ (h + nudge) + x)
            hs.append(h)
        rows = np.full((len(times), len(xs)), -np.inf)
        for row, t in zip(rows, times, strict=True):
            blocks = torch.autograd.grad(hs[t], nudges[: t + 1], eye, is_grads_batched=True, retain_graph=True)
            row[: t + 1] = (torch.stack(blocks).norm(dim=(1, 2)) / math.sqrt(len(w))).log()
        return rows

    return run


def floor(length):
    """The matrix products alone: J_t (n, n) times (n, n · starts), starts the mean of each group of steps."""
    groups = np.array_split(np.arange(length), min(GROUPS, length))

    def run(jacobians):
        ends = []
        for steps in groups:
            n = jacobians.shape[1]
            starts = round(float(steps.mean())) + 1  # at step t (from 0) the starts 0..t have begun
            ones = jnp.full((n, starts * n), jacobians[0, 0, 0])  # not a constant, so nothing is computed at compile time
            ends.append(jax.lax.scan(lambda v, j: (j @ v, None), ones, jacobians[steps[0] : steps[-1] + 1])[0][0, 0])
        return jnp.stack(ends)

    return jax.jit(run)


def spread(length, count):
    """``count`` times t − 1 in the middle of equal parts of 0..T − 1."""
    return np.arange(length) if count >= length else np.unique(((np.arange(count) + 0.5) * length / count).astype(int))


def measure(n, length, sampled, by_torch, targets, rounds):
    cell = cells.vanilla(N_IN, n)
    params = cell.init_params(jax.random.key(0), gain=1.5)
    state = cell.init_state(params)
    xs = jax.random.normal(jax.random.key(1), (length, N_IN))
    times, torch_times = spread(length, sampled), spread(length, by_torch)

    def ours(params, state, xs):
        return flow.log_transport(cell.step, params, state, xs)

    jacobians = linearize.jacobians(cell.step, params, state, xs)
    programs = {"jaxrnn": ours, "floor: products": floor(length), "jacrev, a time at once": by_time(cell, length, n)}
    given = {"floor: products": (jacobians,), "jacrev, a time at once": (params, state, xs, jnp.asarray(times))}
    fits = 8 * (length * n) ** 2 <= WHOLE
    if fits:
        programs |= {"jax.jacrev": whole(jax.jacrev, cell, length, n), "jax.jacfwd": whole(jax.jacfwd, cell, length, n)}
    arguments_of = lambda name: given.get(name, (params, state, xs))
    calls = {name: lambda name=name: programs[name](*arguments_of(name)) for name in programs}
    calls |= {"torch.autograd": torch_by_time(params, state, xs, torch_times)} if installed("torch") else {}
    answers = {}
    timings = interleave(calls, rounds, answers=answers)
    pairs = np.tri(length, dtype=bool)  # rows t = 1..T, columns k = 0..t − 1
    found = np.where(pairs, np.asarray(answers["jaxrnn"])[1:, :length], -np.inf)
    checks = {"difference of logs from jacrev": log_difference(found[times], answers["jacrev, a time at once"])}
    if fits:
        checks["difference of logs from jax.jacrev"] = log_difference(found, answers["jax.jacrev"])
    if "torch.autograd" in calls:
        checks["difference of logs from torch"] = log_difference(found[torch_times], answers["torch.autograd"])
    parts = {"jacrev, a time at once": length / len(times), "torch.autograd": length / len(torch_times)}
    timings = {name: scaled(timing, parts.get(name, 1)) for name, timing in timings.items()}
    used = {
        f"bytes of {name}": sum(allocated(jax.jit(programs[name]).lower(*arguments_of(name)).compile()).values())
        for name in programs
        if name != "floor: products"
    }
    reverse = "jax.jacrev" if fits else "jacrev, a time at once"
    others = [name for name in timings if name not in ("jaxrnn", "floor: products", reverse)]
    return {
        "setting": f"N={n}, T={length}",
        "sampled": {"jacrev, a time at once": len(times), "torch.autograd": len(torch_times), "of": length},
        "seconds": seconds(timings),
        "claims": [
            claim(timings, reverse, targets and targets[0]),
            claim(timings, "floor: products", targets and targets[1], at_most=True),
            *(claim(timings, name, None) for name in others),
        ],
        "checks": require(checks, LIMITS),
        "bytes": used | ({} if fits else {"bytes that a whole Jacobian would take": 8 * (length * n) ** 2}),
    }


def main(given):
    sizes = ((4, 12, 12, 3, None), (4, 12, 3, 2, None)) if given.smoke else tuple((*size, (TARGET_JACREV, TARGET_FLOOR)) for size in SIZES)
    rows = [measure(*size, given.rounds) for size in sizes]
    report(rows)
    save("p5_transport", rows, given, ("torch",))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=5))
