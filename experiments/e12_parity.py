"""Linear recurrences learn parity where eigenvalues may be negative, and only there (Grazzi et al. 2024).

    python -m experiments.e12_parity

h_t = a(x_t) ∘ h_{t−1} + b(x_t): the Jacobian is diagonal, its eigenvalues a(x_t) are set by the input. With a in [0, 1] no finite number of layers
in finite precision tells whether a sequence of any length holds an odd number of ones; one unit with a = −1 on one symbol and 1 on the other does.
Grazzi et al. extend a from [0, 1] to [−1, 1] in Mamba and DeltaNet, train on at most 40 bits and ask up to 256.

Settings: 32 units, one hidden layer of 64 in the readout, Adam 3e-3 after clipping of the norm to 1, 64 sequences an update, lengths uniform on
[2, 40], the loss at the last bit alone, float32. a = σ(z) in (0, 1); a = tanh z in (−1, 1); a = z clipped to [−1, 1], straight through.
Accuracy on 1,000 sequences (standard error of guessing .016), read out after each of these lengths: averaged over 2 to 40 bits it would flatter a
cell that knows the short ones by heart.
Reduced: one diagonal layer instead of two layers of Mamba or DeltaNet, longest length 200 instead of 256, 10,000 updates; the paper gives the best
of three seeds, here all eight count.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.outcomes import train
from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import cells, tasks, unroll
from jaxrnn.plots.axes import COLOURS, finish


@dataclass(frozen=True)
class Settings:
    lengths: tuple[int, ...] = (2, 5, 10, 20, 40, 70, 100, 140, 200)  # asked, ascending; ``trained`` is among them
    trained: int = 40
    hidden: int = 32
    steps: int = 10_000
    batch: int = 64
    test: int = 1000
    rate: float = 3e-3
    seeds: tuple[int, ...] = tuple(range(101, 109))


SMOKE = Settings(lengths=(2, 4, 6), trained=4, hidden=3, steps=2, batch=3, test=10, seeds=(101, 102))
INTERVALS = {"clip": "[−1, 1] (clipped)", "tanh": "(−1, 1) (tanh)", "sigmoid": "(0, 1) (sigmoid)"}
CHANCE = 0.5


def accuracies(cell, params, s):
    """Of each seed at every length (longest, seeds): the readout of step t is its answer to the first t bits."""
    task = tasks.parity(s.lengths[-1])
    test = task.held_out(jax.random.key(2**31 + 1), s.test)

    def right(params, x, target):
        states = unroll.states(cell.step, params, cell.init_state(params), x)
        return jnp.argmax(jax.vmap(cell.output, (None, 0, 0))(params, states, x), 1).astype(jnp.int32) == target["label"]

    each = lambda one: jnp.mean(jax.vmap(right, (None, 0, 0))(one, test.xs, test.targets), 0, dtype=test.xs.dtype)
    return np.asarray(jax.jit(lambda every: jax.lax.map(each, every))(params)).T


def eigenvalues(cell, params, n_in):
    """Of each seed, symbol and unit, as the step applies them: the change of h_t where h_{t−1} rises from 0 to 1."""
    n = params["b_h"].shape[1] // 2
    change = lambda p, x: cell.step(p, jnp.ones(n, p["b_h"].dtype), x) - cell.step(p, jnp.zeros(n, p["b_h"].dtype), x)
    symbols = jnp.eye(n_in, dtype=params["b_h"].dtype)
    return np.asarray(jax.vmap(lambda p: jax.vmap(lambda x: change(p, x))(symbols))(params))


def trained(s, transition):
    """Accuracy (lengths, seeds) and learned eigenvalues of one interval."""
    task = tasks.parity(s.trained, shortest=2)
    cell = cells.with_readout(cells.input_diagonal(task.n_in, s.hidden, transition), task.n_out, 2 * s.hidden)
    found = train(
        transition, cell, task, steps=s.steps, seeds=s.seeds, every=max(s.steps // 5, 1), batch=s.batch, rate=s.rate,
        test=task.held_out(jax.random.key(2**31), s.test),
    )  # fmt: skip
    params = found.fit.params
    right = accuracies(cell, params, s)[np.asarray(s.lengths) - 1]
    print(f"{transition}: {1e3 * found.seconds_per_step:.1f} ms an update and seed; medians {np.round(np.median(right, 1), 3)}", flush=True)
    return right, eigenvalues(cell, params, task.n_in)


def outcomes(s, right):
    """What was learned, and what becomes of it at other lengths."""
    at = {length: i for i, length in enumerate(s.lengths)}
    here, far = at[s.trained], at[s.lengths[-1]]
    all_of = lambda values: ", ".join(f"{v:.3f}" for v in sorted(values))
    clip, tanh, sigmoid = (right[name] for name in ("clip", "tanh", "sigmoid"))
    need = -(-3 * len(s.seeds) // 4)
    guesses = np.abs(sigmoid[[here, far]] - CHANCE)
    told = "Grazzi et al. 2024, fig. 1 and theorem 1: "
    return [
        Claim(f"with a in [−1, 1] the network learns parity of {s.trained} bits", told + "range [−1, 1] solves parity, 3 of 3 seeds",
              f"accuracy at {s.trained} bits above .99 in every seed, clipped and tanh",
              f"clipped {all_of(clip[here])}; tanh {all_of(tanh[here])}", bool(min(clip[here].min(), tanh[here].min()) > 0.99)),
        Claim(f"what it learned mostly serves at {s.lengths[-1]} bits", told + "perfect up to 256 bits after training on at most 40",
              f"clipped: median at {s.lengths[-1]} bits above .95, at least {need} of {len(s.seeds)} seeds above .9",
              f"median {np.median(clip[far]):.3f}: {all_of(clip[far])}; tanh, not judged: {all_of(tanh[far])}",
              bool(np.median(clip[far]) > 0.95 and (clip[far] > 0.9).sum() >= need)),
        Claim("with a in [0, 1] it stays at chance", told + "range [0, 1] is no better than random guessing",
              f"accuracy at {s.trained} and at {s.lengths[-1]} bits within .05 of .5 (3 standard errors of guessing) in every seed",
              f"{s.trained} bits: {all_of(sigmoid[here])}, {spread(sigmoid[here])}; {s.lengths[-1]} bits: {all_of(sigmoid[far])}",
              bool(guesses.max() <= 0.05)),
    ]  # fmt: skip


def mechanism(eigen):
    """The unit that counts: its eigenvalues on the two symbols have opposite signs and moduli near 1."""
    product = {name: a.prod(1).min(1) for name, a in eigen.items()}  # seeds
    kept = np.concatenate([product["clip"], product["tanh"]])
    return Claim("a network that counts has a unit whose eigenvalue is near −1 on one symbol and near 1 on the other",
                 "Grazzi et al. 2024, § 4.1: the construction h_t = (−1)^{x_t} h_{t−1}",
                 "min over units of a(0) a(1) below −.9 in every seed, clipped and tanh; above 0 with the sigmoid",
                 f"clipped and tanh at most {kept.max():.3f}; sigmoid at least {product['sigmoid'].min():.1e}",
                 bool(kept.max() < -0.9 and product["sigmoid"].min() > 0))  # fmt: skip


def draw_accuracy(s, right, ax):
    """Each seed thin, the median thick."""
    for (name, interval), colour in zip(INTERVALS.items(), COLOURS, strict=False):
        ax.plot(s.lengths, right[name], color=colour, lw=0.6, alpha=0.5)
        ax.plot(s.lengths, np.median(right[name], 1), "o-", ms=4, lw=2, color=colour, label=f"a in {interval}")
    ax.axhline(CHANCE, color="0.4", ls=(0, (5, 4)), lw=1, label="guessing")
    ax.axvline(s.trained, color="0.4", ls=":", lw=1.2, label=f"longest of training, {s.trained}")
    ax.set(xscale="log", ylim=(0.4, 1.03))
    ax.set_xticks(s.lengths, [str(v) for v in s.lengths])
    ax.minorticks_off()
    return finish(ax, "length of the sequence (bits)", "accuracy (share of sequences)", "Parity: medians and seeds", columns=3)


def draw_eigenvalues(eigen, ax):
    """What each unit does on the two symbols, all seeds."""
    for (name, interval), colour, marker in zip(INTERVALS.items(), COLOURS, "osv", strict=False):
        a = np.clip(eigen[name], -1, 1)
        ax.plot(a[:, 0].ravel(), a[:, 1].ravel(), marker, ms=4, ls="", mfc="none", color=colour, label=f"a in {interval}")
    ax.plot([1, -1], [-1, 1], "*", ms=15, color="0.2", mfc="none", ls="", label="counts modulo 2")
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
    return finish(ax, "eigenvalue on symbol 0 (dimensionless)", "eigenvalue on symbol 1 (dimensionless)", "Learned eigenvalues", columns=2)


def main(s):
    found = {name: trained(s, name) for name in INTERVALS}
    right, eigen = ({name: pair[i] for name, pair in found.items()} for i in (0, 1))
    pictures = {"accuracy": lambda ax: draw_accuracy(s, right, ax), "eigenvalues": lambda ax: draw_eigenvalues(eigen, ax)}
    return Found([*outcomes(s, right), mechanism(eigen)], pictures, {"lengths": s.lengths, "accuracy": right, "eigenvalues": eigen})


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE, precision="float32")
