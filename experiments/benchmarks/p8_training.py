"""P8: one training step, forwards and backwards: B = 64, T = 400, N = 128, I = 16, float32, through the public path.

Ours is ``jax.grad`` of a loss on ``unroll.states`` under ``vmap``. All compute the gradient, by all weights, of the mean square of the
outputs h_1..h_T from the same weights where their formats allow (torch keeps two biases, nnx and equinox initialise their own: the work
is the same). "scan" is ours without the declaration of the cell: what one writes by hand.

Tried instead of computing z_t anew in each backward step, in ms beside that (LSTM 184, GRU 130, vanilla 46, on a busy machine where torch
took 173, 188, 59): z kept by the forward pass, 162, 146, 50, and T times 5 N, 7 N, N numbers of memory; z of 20 steps at once, 178 to 198, 158, 57;
chunks of 100 steps, 198, 151, 54. For vanilla tanh the derivative is read off h_t, and z is not needed.
"""

import jax
import jax.numpy as jnp
import numpy as np
from competitors import installed
from harness import allocated, arguments, claim, fastest, interleave, report, require, save, seconds

from jaxrnn import cells, unroll

N_IN, BATCH, LENGTH, N = 16, 64, 400, 128
TARGETS = {"vanilla": 1.5, "lstm": 1.15, "gru": 1.15}
LIMITS = {"relative difference of the gradients from the scan's": 1e-4}


def undeclared(step):
    """The same step without its declaration."""
    return lambda params, h, x: step(params, h, x)


def gradient(step, output, state, every=None):
    def loss(params, xs):
        hs = jax.vmap(lambda x: unroll.states(step, params, state, x, checkpoint_every=every))(xs)
        return jnp.mean(output(hs) ** 2)

    return jax.jit(jax.grad(loss))


def shown(hs):
    """What a cell shows of its states."""
    return hs.h if hasattr(hs, "h") else hs


def torch_step(name, xs):
    import torch

    kind = {"vanilla": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
    net, given = kind(N_IN, N, batch_first=True), torch.from_numpy(np.array(xs))

    def run():
        net.zero_grad()
        net(given)[0].square().mean().backward()
        return next(net.parameters()).grad.numpy()

    return run


def nnx_step(name, xs):
    from flax import nnx

    kind = {"vanilla": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[name]
    net = nnx.RNN(kind(N_IN, N, rngs=nnx.Rngs(0)))
    graph, params, rest = nnx.split(net, nnx.Param, ...)
    zero = jnp.zeros((xs.shape[0], N))
    start = (zero, zero) if name == "lstm" else zero
    run = jax.jit(jax.grad(lambda params, xs: jnp.mean(nnx.merge(graph, params, rest)(xs, initial_carry=start) ** 2)))
    return lambda: run(params, xs)


def equinox_step(name, xs):
    import equinox as eqx

    if name == "vanilla":
        return None  # equinox has no such cell
    net = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[name](N_IN, N, key=jax.random.key(0))
    zero = jnp.zeros(N)
    start = (zero, zero) if name == "lstm" else zero

    def loss(net, xs):
        def body(carry, x):
            carry = net(x, carry)
            return carry, carry[0] if name == "lstm" else carry

        return jnp.mean(jax.vmap(lambda x: jax.lax.scan(body, start, x)[1])(xs) ** 2)

    run = eqx.filter_jit(eqx.filter_grad(loss))
    return lambda: run(net, xs)


def relative(found, wanted):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)


def measure(name, target, batch, length, rounds):
    cell = cells.REGISTRY[name](N_IN, N)
    params = cell.init_params(jax.random.key(0))
    state = cell.init_state(params)
    xs = jax.random.normal(jax.random.key(1), (batch, length, N_IN))
    ours, scan = gradient(cell.step, shown, state), gradient(undeclared(cell.step), shown, state)
    programs = {"jaxrnn": lambda: ours(params, xs), "scan": lambda: scan(params, xs)}
    for package, make in (("torch", torch_step), ("flax", nnx_step), ("equinox", equinox_step)):
        if installed(package) and (program := make(name, xs)):
            programs[package] = program
    timings = interleave(programs, rounds)
    checks = {"relative difference of the gradients from the scan's": relative(ours(params, xs), scan(params, xs))}
    memory = {name: allocated(f.lower(params, xs).compile())["temporaries"] for name, f in (("jaxrnn", ours), ("scan", scan))}
    return {
        "setting": f"{name}, B={batch}, T={length}, N={N}",
        "seconds": seconds(timings),
        "claims": [claim(timings, fastest(timings), target), claim(timings, "scan", None)],
        "checks": require(checks, LIMITS),
        "bytes": {f"temporaries, {who}": used for who, used in memory.items()},
    }


def main(given):
    sizes = (2, 10) if given.smoke else (BATCH, LENGTH)
    rows = [measure(name, None if given.smoke else target, *sizes, given.rounds) for name, target in TARGETS.items()]
    report(rows)
    save("p8_training", rows, given, ("torch", "flax", "equinox"))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
