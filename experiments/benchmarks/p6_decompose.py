"""P6: which (t, k) terms is ∂L/∂θ made of, vanilla cell with readout, N = 64, T = 100, a loss at every step, float64.

Competitors return the norms alone; ours returns the sums by lag, the direct part, the total and cosines beside them.
- one gradient per pair: one jitted ``jax.grad`` of L_t, traced in t and k, with ``stop_gradient`` on the parameters of every other step;
  a random sample of pairs is timed and scaled up to all T (T + 1) / 2;
- one vjp per t: the parameters broadcast over time, so that one backward pass gives all k; the forward pass is shared;
- torch: the same, with one leaf of parameters per step, through t steps only.
"""

import jax
import jax.numpy as jnp
import numpy as np
from competitors import installed
from harness import allocated, arguments, claim, interleave, log_difference, report, require, save, scaled, seconds

from jaxrnn import bptt, cells

jax.config.update("jax_enable_x64", True)

N_IN, N_OUT = 8, 4
SIZES, SAMPLE = ((64, 100),), 200
TARGET_PAIRS, TARGET_TIMES = 15.0, 2.0
LEAVES = ("W_hh", "W_xh", "b_h")  # those reached through the state
LIMITS = {"difference of logs, a gradient per pair": 1e-8, "difference of logs, a vjp per t": 1e-8, "difference of logs, torch": 1e-8}


def error(prediction, target):
    return jnp.mean((prediction - target) ** 2)


def log_norms(tree, lead):
    """Per leaf, over all axes but the first ``lead``; (…, leaves)."""
    sizes = [0.5 * jnp.log(jnp.sum(leaf**2, axis=tuple(range(lead, leaf.ndim)))) for leaf in tree]
    return jnp.stack(sizes, -1)


def leaves_of(cell_params):
    return [cell_params[name] for name in LEAVES]


def per_pair(cell, loss):
    """(params, ..., t, k) -> log norms of one term, per leaf."""

    def run(params, state, xs, targets, t, k):
        def loss_at(theta):
            held = jax.lax.stop_gradient(theta)

            def body(h, sx):
                s, x = sx
                return (h := cell.step(jax.tree.map(lambda a, b: jnp.where(s == k, a, b), theta, held), h, x)), h

            hs = jax.lax.scan(body, state, (jnp.arange(len(xs)), xs))[1]
            return loss(held, hs[t], xs[t], targets[t])

        return log_norms(leaves_of(jax.grad(loss_at)(params)), 0)

    return jax.jit(run)


def per_time(cell, loss):
    """(params, ...) -> (T, T, leaves)."""

    def run(params, state, xs, targets):
        def losses(thetas):
            def body(h, tx):
                return (h := cell.step(tx[0], h, tx[1])), h

            hs = jax.lax.scan(body, state, (thetas, xs))[1]
            return jax.vmap(loss, (None, 0, 0, 0))(params, hs, xs, targets)

        length = len(xs)
        pull = jax.vjp(losses, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length, *leaf.shape)), params))[1]
        return jax.lax.map(lambda seed: log_norms(leaves_of(pull(seed)[0]), 1), jnp.eye(length))

    return jax.jit(run)


def torch_per_time(params, state, xs, targets):
    import torch

    torch.set_num_threads(1)
    tensor = lambda a: torch.from_numpy(np.array(a))
    w, u, b = (tensor(leaf) for leaf in leaves_of(params))
    v, c = tensor(params["W_hy"]), tensor(params["b_y"])
    xs, targets, start, length = tensor(xs), tensor(targets), tensor(state), len(xs)

    def run():
        copies = [[leaf.detach().requires_grad_() for _ in range(length)] for leaf in (w, u, b)]
        h, losses = start, []
        for w_t, u_t, b_t, x, y in zip(*copies, xs, targets, strict=True):
            h = torch.tanh(w_t @ h + u_t @ x + b_t)
            losses.append(((v @ h + c - y) ** 2).mean())
        norms = np.full((length, length, len(copies)), -np.inf)
        for t, value in enumerate(losses):
            chosen = [leaf for copy in copies for leaf in copy[: t + 1]]
            found = torch._foreach_norm(torch.autograd.grad(value, chosen, retain_graph=True))
            norms[t, : t + 1] = torch.stack(found).log().reshape(len(copies), t + 1).T
        return norms

    return run


def measure(n, length, sample, aims, rounds):
    cell = cells.with_readout(cells.vanilla(N_IN, n), N_OUT)
    params = cell.init_params(jax.random.key(0))
    state = cell.init_state(params)
    xs, targets = jax.random.normal(jax.random.key(1), (length, N_IN)), jax.random.normal(jax.random.key(2), (length, N_OUT))
    loss = cells.readout_loss(cell, error)
    data = (params, state, xs, targets)
    ours = lambda *data: bptt.decompose(cell.step, *data, loss)
    t, k = np.tril_indices(length)
    chosen = np.random.default_rng(0).choice(len(t), min(sample, len(t)), replace=False)
    pairs = [(jnp.array(t[i]), jnp.array(k[i])) for i in chosen]
    pair, times = per_pair(cell, loss), per_time(cell, loss)
    calls = {
        "jaxrnn": lambda: ours(*data),
        "a gradient per pair": lambda: [pair(*data, *tk) for tk in pairs],
        "a vjp per t": lambda: times(*data),
    }
    calls |= {"torch": torch_per_time(*data)} if installed("torch") else {}
    answers = {}
    timings = interleave(calls, rounds, answers=answers)
    found = np.stack(leaves_of(answers["jaxrnn"].log_norms), -1)
    checks = {
        "difference of logs, a gradient per pair": log_difference(found[t[chosen], k[chosen]], jnp.stack(answers["a gradient per pair"])),
        "difference of logs, a vjp per t": log_difference(found, answers["a vjp per t"]),
    }
    if "torch" in calls:
        checks["difference of logs, torch"] = log_difference(found, answers["torch"])
    timings["a gradient per pair"] = scaled(timings["a gradient per pair"], len(t) / len(chosen))
    used = {
        f"bytes of {name}": sum(allocated(jax.jit(run).lower(*data).compile()).values()) for name, run in (("jaxrnn", ours), ("a vjp per t", times))
    }
    return {
        "setting": f"N={n}, T={length}",
        "sampled": {"a gradient per pair": len(chosen), "of": len(t)},
        "seconds": seconds(timings),
        "claims": [
            claim(timings, "a gradient per pair", aims and aims[0]),
            claim(timings, "a vjp per t", aims and aims[1]),
            *(claim(timings, name, None) for name in timings if name == "torch"),
        ],
        "checks": require(checks, LIMITS),
        "bytes": used,
    }


def main(given):
    sizes = ((5, 8, 6, None),) if given.smoke else tuple((*size, SAMPLE, (TARGET_PAIRS, TARGET_TIMES)) for size in SIZES)
    rows = [measure(*size, given.rounds) for size in sizes]
    report(rows)
    save("p6_decompose", rows, given, ("torch",))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0], rounds=7))
