"""Adding over 500 steps by recurrences from differential equations: LEM (Rusch et al. 2022) and coRNN (Rusch & Mishra 2021).

    python -m experiments.e10_oscillators

The sum of two marked numbers among 500, 1/6 without memory. As in the published code: 128 units, 50 sequences an update, Adam without clipping, test
error on 1,000 sequences every 100 updates; LEM with rate .0026 and Δt = .0242, coRNN with rate .02, Δt = .06, γ = 66, ε = 15 (the defaults of the
code, whose own length is 100). The code's log for LEM at T = 2,000 falls below .05 at update 1,800 and below .01 at 1,900. A tanh network of the
same size with Adam .001 after clipping stands beside them. Judged besides: what each does to a gradient before it is trained, over all 500 steps; the
sources bound it from both sides by powers of Δt. Reduced: T = 500 instead of 2,000 to 10,000, two seeds each, 2,000 updates instead of 30,000.
"""

from dataclasses import dataclass

import jax
import numpy as np
import optax

from experiments.outcomes import train
from experiments.reproduction import Claim, Found, command
from jaxrnn import cells, flow, tasks, training
from jaxrnn.plots.axes import COLOURS

LEM, CORNN, TANH = "LEM", "coRNN", "tanh, Gaussian"


@dataclass(frozen=True)
class Settings:
    length: int = 500
    hidden: int = 128
    batch: int = 50
    cells: tuple[str, ...] = (CORNN, LEM, TANH)
    updates: int = 2000
    every: int = 100
    test: int = 1000
    seeds: tuple[int, ...] = (101, 102)
    cornn: tuple[float, ...] = (0.06, 66.0, 15.0, 0.02)  # Δt, γ, ε, rate
    stride: int = 50  # of the starting times of transport


SMOKE = Settings(length=6, hidden=4, batch=3, cells=(LEM,), updates=2, every=1, test=10, stride=2)
SOLVED = 0.05
ATTEMPTS = (
    "--cells LEM --updates 4000: below .05 at update 2,300 in both seeds, .0041 and .0046 at best: it learns as published, 300 to 500 updates later"
    " than the one run of the published log; the bound of 2,000 updates left no room for another start.",
    "--cells coRNN --cornn 0.016 94.5 9.5 0.02, the numbers of the paper instead of the code's defaults: .170 and .169 at best, as without memory.",
    "What transport says of coRNN: 153 nats are lost over 500 steps before training. Its linear part alone, y″ = −γ y − ε y′ in steps of Δt, loses"
    " 161, and 41 with the numbers of the paper: gradients over all steps drown in single precision, or nearly, until the weights have changed that.",
)


def models(s):
    """Name -> (recurrence, optimizer)."""
    n, (dt, gamma, epsilon, rate) = s.hidden, s.cornn
    return {
        LEM: (cells.lem(2, n, dt=0.0242), optax.adam(0.0026)),
        CORNN: (cells.cornn(2, n, dt=dt, gamma=gamma, epsilon=epsilon), optax.adam(rate)),
        TANH: (cells.vanilla(2, n), training.default_optimizer(0.001)),
    }


def transport(s, cell, xs):
    """log‖∂h_T/∂h_k‖ at the start of training, for k = 0, stride, … (T included)."""
    params = cell.init_params(jax.random.key(s.seeds[0]))
    logs = jax.jit(lambda x: flow.log_transport(cell.step, params, cell.init_state(params), x, stride=s.stride))(xs)
    return np.asarray(logs, float)[-1]


def first_below(updates, errors, level):
    """The update of the first test error below the level, or inf."""
    return float(updates[np.argmax(errors < level)]) if (errors < level).any() else np.inf


def run(s):
    """Name -> test errors of every seed over updates, and transport at the start."""
    task = tasks.adding(s.length)
    xs = task.sample(jax.random.key(5), 1).xs[0]
    found = {}
    for name in s.cells:
        cell, optimizer = models(s)[name]
        whole = cells.with_readout(cell, task.n_out)
        test = task.held_out(jax.random.key(2**31), s.test)
        one = train(name, whole, task, steps=s.updates, seeds=s.seeds, every=s.every, batch=s.batch, optimizer=optimizer, test=test)
        errors = np.nan_to_num(np.asarray(one.fit.metric, float), nan=np.inf)
        found[name] = {"updates": np.asarray(one.fit.evaluated), "errors": errors, "log_transport": transport(s, cell, xs)}
        print(
            f"{name:16s} best {errors.min(1).round(4).tolist()}, last {errors[:, -1].round(4).tolist()}, {1e3 * one.seconds_per_step:.0f} ms",
            flush=True,
        )
    return found


def claims_of(found, length):
    claims = []
    for name, source, by in ((LEM, "Rusch 2022, figure 1, and the code's log: below .05 by update 1,900 at T = 2,000", 2000),
                             (CORNN, "Rusch & Mishra 2021, figure 1: within a few hundred to 2,000 updates at T = 500", 2000)):  # fmt: skip
        if name in found:
            times = [first_below(found[name]["updates"], errors, SOLVED) for errors in found[name]["errors"]]
            claims.append(Claim(f"{name} learns to add over {length} steps", source, f"test error below {SOLVED} by update {by:,}, every seed",
                                f"first below at {[int(t) if np.isfinite(t) else 'never' for t in times]}, best "
                                f"{[float(f'{v:.2g}') for v in found[name]['errors'].min(1)]}", max(times) <= by))  # fmt: skip
    if TANH in found:
        best = found[TANH]["errors"].min(1)
        claims.append(Claim("a tanh network does not", "both sources, figure 1", "test error never below .1, any seed",
                            f"best {np.round(best, 3).tolist()}", bool((best > 0.1).all())))  # fmt: skip
    if LEM in found:
        lost = {name: float(one["log_transport"][0]) for name, one in found.items()}
        claims.append(Claim("LEM's gradients decay at Δt a step, not at 1 a step", "Rusch 2022, propositions 4.1 and 4.2: bounds in powers of Δt",
                            f"at the start LEM loses less than Δt T = {0.0242 * length:.1f} nats over {length} steps",
                            "; ".join(f"{name} {v:+.1f}" for name, v in lost.items()), lost[LEM] > -0.0242 * length))  # fmt: skip
    return claims


def main(s):
    found = run(s)

    def learning(ax):
        for i, (name, one) in enumerate(found.items()):
            ax.plot(one["updates"], one["errors"].T, color=COLOURS[i], alpha=0.8, label=[name, *[None] * (len(one["errors"]) - 1)])
        ax.axhline(SOLVED, ls=":", color="0.4", label=f"{SOLVED}")
        ax.set(yscale="log", xlabel="updates", ylabel="mean squared error (1/6 without memory)")
        ax.set_title(f"Adding over {s.length} steps", fontsize=12)
        ax.legend(frameon=False)

    def reach(ax):
        for i, (name, one) in enumerate(found.items()):
            lags = s.length - s.stride * np.arange(len(one["log_transport"]))
            ax.plot(lags, one["log_transport"], "o-", color=COLOURS[i], ms=4, label=name)
        ax.set(xlabel="lag T − k (steps)", ylabel="log(‖∂h_T/∂h_k‖ / √n) before training (nats)")
        ax.set_title("What is left of a gradient before training", fontsize=12)
        ax.legend(frameon=False)

    return Found(claims_of(found, s.length), {"learning": learning, "transport": reach}, found, ATTEMPTS)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE, precision="float32")
