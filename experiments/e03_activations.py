"""Activations: what φ' adds to the decay, saturation, and what bounds say (Glorot & Bengio 2010; Pascanu, Mikolov & Bengio 2013).

    python -m experiments.e03_activations

h_t = φ(W h_{t−1} + x_t): J_t = diag(φ'(a_t)) W, so ‖J_t‖₂ ≤ γ σ₁(W), γ = sup|φ'|: 1 for tanh, relu and identity, ¼ for the sigmoid, 2/√π for erf.
γ σ₁ < 1 is sufficient for gradients to vanish, γ σ₁ > 1 only necessary for them to explode (Pascanu et al. 2013, §2.2). The growth of a perturbation
splits into that by the weights and that by φ' (``flow.growth_split``). Under white input, for N → ∞, the part of φ' is ½ ln E φ'(√q z)², z ~ N(0, 1),
q = g² E φ(√q z)² + s²: W has mean 0, so that this holds for the sigmoid and relu as well.
Glorot & Bengio 2010: through a layer of independent weights the variance of back-propagated gradients is multiplied by n Var W: by 1/3 with
their "standard" U[−1/√n, 1/√n], by 1 with their "normalised" U[−√6/√(2n), √6/√(2n)], in the linear regime of tanh.

Settings: float64, white input of standard deviation 1 for every unit, 200 steps after 50, 5 seeds. Bounds: N = 200, W Gaussian of variance g²/N at
9 gains from .25 to 4, and orthogonal times .9/γ and 1.5/γ. Parts of the growth: N = 600, the Gaussian ones (at g = 4 few units are unsaturated, and
200 of them lie off by .03). Relu is judged against theory for g ≤ 1.25 only: from √2 on its states grow without bound.
Glorot & Bengio: 5 layers of 1000 units as theirs, input of standard deviation .1, 300 gradients, 5 seeds.
Reduced: Glorot & Bengio train on images; here it is their statement about the initial gradients, on white input.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import cells, flow, linearize, lyapunov, spectra, theory, unroll
from jaxrnn.cells.simple import ACTIVATIONS
from jaxrnn.plots.axes import COLOURS, finish


@dataclass(frozen=True)
class Settings:
    activations: tuple[str, ...] = ("tanh", "sigmoid", "relu", "erf", "identity")  # the first two and the last are needed
    n: int = 200  # of the networks whose bounds are judged
    wide: int = 600  # of those whose parts of growth are
    gains: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 200
    warmup: int = 50
    input_sd: float = 1.0
    depth: int = 5
    width: int = 1000
    gradients: int = 300


SMOKE = Settings(
    activations=("tanh", "sigmoid", "identity"), n=10, wide=20, gains=(0.25, 1.0, 4.0), seeds=(0,), steps=20, warmup=5, width=20, depth=3, gradients=5
)
ORTHOGONAL = (0.9, 1.5)  # γ σ₁ of the orthogonal networks
EDGES = np.linspace(0, 1, 41)  # of the histograms of φ'/γ
SATURATED = 0.1  # φ'/γ below which a unit counts as saturated
RELU_LIMIT = 1.25  # gain up to which relu is judged


class Drawn(NamedTuple):
    """The random numbers of all seeds, drawn once for all activations."""

    weights: np.ndarray  # (2, seeds, n, n), Gaussian of variance 1/n and orthogonal
    starts: np.ndarray  # (seeds, n)
    inputs: np.ndarray  # (seeds, T, n)


def drawn(s, n):
    random, seeds = np.random.default_rng(s.seeds), len(s.seeds)
    normal = random.standard_normal((seeds, n, n))
    shape = (seeds, s.warmup + s.steps, n)
    return Drawn(np.stack([normal / np.sqrt(n), np.linalg.qr(normal)[0]]), random.standard_normal((seeds, n)), random.normal(0, s.input_sd, shape))


def network(activation, s, numbers, gain, seed, kind):
    """Step, weights, states h_{t−1} and inputs after the warm-up."""
    n = numbers.starts.shape[-1]
    step = cells.vanilla(n, n, activation).step
    params = {"W_hh": gain * numbers.weights[kind, seed], "W_xh": jnp.eye(n), "b_h": jnp.zeros(n)}
    hs = unroll.states(step, params, numbers.starts[seed], numbers.inputs[seed])
    return step, params, hs[s.warmup - 1 : -1], numbers.inputs[seed, s.warmup :]


def slopes_along(activation, params, hs, xs):
    """φ'(a_t) (T, n)."""
    before = hs @ params["W_hh"].T + xs
    return jax.jvp(ACTIVATIONS[activation], (before,), (jnp.ones_like(before),))[1]


def limits(activation, s, numbers, gain, seed, kind):
    """What the bounds are judged by."""
    step, params, hs, xs = network(activation, s, numbers, gain, seed, kind)
    W, slopes = params["W_hh"], slopes_along(activation, params, hs, xs)
    jacobians = linearize.jacobians(step, params, hs[0], xs)
    return {
        "off": jnp.max(jnp.abs(jacobians - slopes[:, :, None] * W)) / jnp.max(jnp.abs(W)),
        "bound": theory.pascanu_bounds(W, theory.SLOPE_BOUNDS[activation]).log_step_bound,
        "exponent": lyapunov.spectrum(step, params, hs[0], xs, k=1).exponents[0],
        "largest_step": jnp.log(jnp.max(spectra.singular_values(jacobians)[:, 0])),
        "rate": flow.log_gain(step, params, hs[0], xs) / s.steps,
    }


def growth(activation, s, numbers, gain, seed):
    """The two parts of the growth, and how saturated the units are."""
    step, params, hs, xs = network(activation, s, numbers, gain, seed, 0)
    slopes, split = slopes_along(activation, params, hs, xs) / theory.SLOPE_BOUNDS[activation], flow.growth_split(step, params, hs[0], xs)
    return {
        "weights": split.weights,
        "activation": split.activation,
        "exponent": lyapunov.spectrum(step, params, hs[0], xs, k=1).exponents[0],
        "saturated": jnp.mean(slopes < SATURATED),
        "histogram": jnp.histogram(slopes, jnp.asarray(EDGES))[0] / slopes.size,
    }


def over(function, numbers, *axes):
    """function(numbers, …) of arrays of one shape, point by point in one compiled program: leaves (*shape, ...)."""
    run = jax.jit(lambda numbers, at: jax.lax.map(lambda one: function(numbers, *one), at))
    found = run(jax.tree.map(jnp.asarray, numbers), tuple(jnp.asarray(axis.ravel()) for axis in axes))
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(*axes[0].shape, *leaf.shape[1:]), found)


def all_limits(s, numbers, activation):
    """Of Gaussian networks (gains, seeds), and of orthogonal ones (factors, seeds)."""
    gains = np.array([*s.gains, *(factor / theory.SLOPE_BOUNDS[activation] for factor in ORTHOGONAL)])
    gain, seed = np.meshgrid(gains, np.arange(len(s.seeds)), indexing="ij")
    kind = np.broadcast_to((np.arange(len(gains)) >= len(s.gains)).astype(int)[:, None], gain.shape)
    found = over(functools.partial(limits, activation, s), numbers, gain, seed, kind)
    return tuple({name: values[part] for name, values in found.items()} for part in (slice(len(s.gains)), slice(len(s.gains), None)))


def slope_part(activation, gain, input_sd):
    """½ ln E φ'(√q z)² of N → ∞."""
    if activation == "identity":
        return 0.0
    if activation != "sigmoid":
        return float(theory.mean_field(gain, input_sd, activation=activation).lyapunov) - np.log(gain)
    z = np.linspace(-8, 8, 2001)
    weight = np.exp(-(z**2) / 2)
    weight, q = weight / weight.sum(), input_sd**2
    sigmoid = lambda q: 1 / (1 + np.exp(-np.sqrt(q) * z))
    for _ in range(200):
        q = gain**2 * weight @ sigmoid(q) ** 2 + input_sd**2
    return float(0.5 * np.log(weight @ (sigmoid(q) * (1 - sigmoid(q))) ** 2))


def bounded(found):
    """Pascanu's bound, and what follows from it and what does not."""
    both = lambda name, activation: np.concatenate([part[name].ravel() for part in found[activation]])
    excess = {a: float((both("largest_step", a) - both("bound", a)).max()) for a in found}
    off = max(float(both("off", a).max()) for a in found)
    below = {a: found[a][1]["rate"][0] - found[a][1]["bound"][0] for a in found}
    bent = [a for a in found if a != "identity"]
    tame = {a: int(((both("bound", a) > 0) & (both("exponent", a) < -0.1)).sum()) for a in bent}
    wild = {a: int((both("exponent", a) > 0).sum()) for a in found}
    against = sum(int(((both("bound", a) <= 0) & (both("exponent", a) > 0)).sum()) for a in found)
    count, listed = len(both("bound", "tanh")), ", ".join(f"{a} {v}" for a, v in tame.items())
    return [
        Claim("J_t = diag(φ') W, and no ‖J_t‖₂ exceeds γ σ₁(W)", "Pascanu et al. 2013, §2.2; γ = 1 (tanh), ¼ (sigmoid)",
              "all steps of all networks of every activation: J_t within 1e-12 of diag(φ') W, ln‖J_t‖₂ ≤ ln γσ₁ + 1e-12",
              f"J_t off by {off:.0e}; ln‖J_t‖₂ − ln γσ₁ at most {', '.join(f'{a} {v:+.4f}' for a, v in excess.items())} ({count} networks each)",
              off < 1e-12 and max(excess.values()) < 1e-12),
        Claim("γ σ₁ < 1 is sufficient for gradients to vanish", "Pascanu et al. 2013, §2.2",
              f"orthogonal W with γσ₁ = {ORTHOGONAL[0]}: (1/T) ln‖∂h_T/∂h_0‖ ≤ ln {ORTHOGONAL[0]} in every network",
              "rate less ln γσ₁ at most: " + ", ".join(f"{a} {v.max():+.3f}" for a, v in below.items()),
              bool(max(v.max() for v in below.values()) < 1e-12)),
        Claim("γ σ₁ > 1 is necessary, not sufficient, for them to explode", "Pascanu et al. 2013, §2.2",
              "no network with γσ₁ ≤ 1 has λ₁ > 0; every activation but identity has some with γσ₁ > 1 and λ₁ < −.1",
              f"against the first: {against} of {sum(wild.values())} with λ₁ > 0; γσ₁ > 1 and λ₁ < −.1: "
              f"{listed} of {count} each", against == 0 and min(tame.values()) > 0),
    ]  # fmt: skip


def parts(s, gaussian):
    """The two parts of the growth."""
    off = max(float(np.abs(v["weights"] + v["activation"] - v["exponent"]).max()) for v in gaussian.values())
    mean = {a: v["activation"].mean(1) for a, v in gaussian.items()}
    share = gaussian["tanh"]["saturated"].mean(1)
    signs = (
        np.abs(gaussian["identity"]["activation"]).max() < 1e-12 and gaussian["sigmoid"]["activation"].max() < -np.log(4)
        and gaussian["tanh"]["activation"].max() < 0 and (np.diff(mean["tanh"]) < 0).all() and (np.diff(share) > 0).all()
    )  # fmt: skip
    expected = {a: np.array([slope_part(a, g, s.input_sd) for g in s.gains]) for a in gaussian}
    judged = {a: np.asarray(s.gains) <= (RELU_LIMIT if a == "relu" else np.inf) for a in gaussian}
    apart = {a: float(np.abs(mean[a] - expected[a])[judged[a]].max()) for a in gaussian}
    return [
        Claim("weights and φ' sum to λ₁; tanh takes more the larger the gain, the sigmoid always more than ln 4",
              "Pascanu et al. 2013, §2.2; saturation",
              "sum within 1e-9 of λ₁; identity 0; sigmoid below −ln 4, tanh below 0 in every network, tanh's mean falling and its saturated share"
              " rising from gain to gain",
              f"sum off by {off:.0e}; g = {s.gains[0]} to {s.gains[-1]}: tanh {mean['tanh'][0]:.3f} to {mean['tanh'][-1]:.3f}, sigmoid"
              f" {mean['sigmoid'][0]:.3f} to {mean['sigmoid'][-1]:.3f}; saturated tanh units {share[0]:.1%} to {share[-1]:.1%}",
              bool(off < 1e-9 and signs)),
        Claim("the part of φ' is ½ ln E φ'² of mean-field theory", "theory for N → ∞ (Schoenholz et al. 2017 for tanh and erf)",
              f"means over the networks within .02 at every gain (relu: g ≤ {RELU_LIMIT})",
              f"largest deviation: {', '.join(f'{a} {v:.4f}' for a, v in apart.items())} ({len(s.seeds)} networks each)", max(apart.values()) < 0.02),
    ], expected  # fmt: skip


def glorot(s):
    """By what a layer multiplies the variance of back-propagated gradients, for both initialisations."""

    def ratios(random, limit):
        layers, h, slopes = limit * random.uniform(-1, 1, (s.depth, s.width, s.width)), 0.1 * random.standard_normal((s.gradients, s.width)), []
        for W in layers:
            h = np.tanh(h @ W.T)
            slopes.append(1 - h**2)
        gradient, variances = random.standard_normal(h.shape), []
        for W, slope in zip(layers[::-1], slopes[::-1], strict=True):
            gradient = (gradient * slope) @ W
            variances.append(np.mean(gradient**2))
        return np.array(variances[1:]) / np.array(variances[:-1])

    limits = (1 / np.sqrt(s.width), np.sqrt(6 / (2 * s.width)))
    found = np.array([[ratios(np.random.default_rng(seed), limit) for seed in s.seeds] for limit in limits])
    standard, normalised = found.mean(-1)
    return Claim("independent layers multiply the variance of gradients by n Var W", "Glorot & Bengio 2010, §4.2: 1/3 standard, 1 normalised",
                 "means over layers and seeds within .01 of 1/3 and .03 of 1", f"standard {spread(standard, 4)}, normalised {spread(normalised, 4)}",
                 bool(abs(standard.mean() - 1 / 3) < 0.01 and abs(normalised.mean() - 1) < 0.03)), found  # fmt: skip


def draw_parts(s, gaussian, expected, ax):
    """The part of φ' against the gain."""
    for (name, values), colour in zip(gaussian.items(), COLOURS, strict=False):
        every = values["activation"]
        ax.plot(np.repeat(s.gains, every.shape[1]), every.ravel(), "o", ms=3.5, mfc="none", color=colour, label=f"{name}, {every.shape[1]} networks")
        ax.plot(s.gains, expected[name], color=colour, ls="--", lw=1.2)
    ax.plot([], [], color="0.3", ls="--", lw=1.2, label="½ ln E φ'²")
    ax.axhline(-np.log(4), color="0.6", lw=0.8, ls=":", label="−ln 4")
    ax.set_xscale("log")
    ax.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    ax.set_xticks([], minor=True)
    return finish(ax, "gain g (dimensionless)", "part of φ' in the growth (nats per step)", "What the activation adds to the decay", columns=3)


def draw_saturation(s, gaussian, ax):
    """The distribution of φ'/γ of tanh and of the sigmoid at some gains."""
    chosen = [i for i, g in enumerate(s.gains) if g in (0.25, 1.0, 2.0, 4.0)]
    for name, style in (("tanh", "-"), ("sigmoid", "--")):
        values, share = (gaussian[name][key].mean(1) for key in ("histogram", "saturated"))
        for i, colour in zip(chosen, COLOURS, strict=False):
            label = f"{name}, g = {s.gains[i]:g}: {share[i]:.0%} below {SATURATED}"
            ax.stairs(values[i], EDGES, color=colour, ls=style, lw=1.3, label=label)
    ax.axvline(SATURATED, color="0.6", lw=0.8, ls=":")
    ax.set_yscale("log")
    return finish(ax, "slope φ'/γ (dimensionless)", "share of units and steps (dimensionless)", "Saturation", columns=2)


def draw_bounds(found, ax):
    """λ₁ against Pascanu's bound."""
    ends = np.array([np.inf, -np.inf])
    for (name, both), colour in zip(found.items(), COLOURS, strict=False):
        for part, marker in zip(both, "os", strict=True):
            x, y = part["bound"].ravel(), part["exponent"].ravel()
            ends = np.array([min(ends[0], x.min(), y.min()), max(ends[1], x.max())])
            ax.plot(x, y, marker, ms=4, mfc="none", color=colour, ls="", label=name if marker == "o" else None)
    ax.plot([], [], "s", ms=4, mfc="none", color="0.4", label="orthogonal W")
    ax.plot(ends, ends, color=COLOURS[6], lw=1, ls="--", label="λ₁ = ln γσ₁")
    ax.axhline(0, color="0.6", lw=0.8)
    ax.axvline(0, color="0.6", lw=0.8)
    return finish(ax, "bound ln γσ₁(W) (nats per step)", "λ₁ (nats per step)", "Above 0 the bound says nothing of the sign of λ₁", columns=4)


def main(s):
    narrow, wide = drawn(s, s.n), drawn(s, s.wide)
    found = {activation: all_limits(s, narrow, activation) for activation in s.activations}
    points = np.meshgrid(s.gains, np.arange(len(s.seeds)), indexing="ij")
    gaussian = {activation: over(functools.partial(growth, activation, s), wide, *points) for activation in s.activations}
    split, expected = parts(s, gaussian)
    layers, ratios = glorot(s)
    pictures = {
        "parts": lambda ax: draw_parts(s, gaussian, expected, ax),
        "saturation": lambda ax: draw_saturation(s, gaussian, ax),
        "bounds": lambda ax: draw_bounds(found, ax),
    }
    numbers = {"gains": s.gains, "variance_ratios": ratios}
    numbers |= {name: {a: values[name] for a, values in gaussian.items()} for name in ("weights", "activation", "exponent", "saturated")}
    return Found([*bounded(found), *split, layers], pictures, numbers)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
