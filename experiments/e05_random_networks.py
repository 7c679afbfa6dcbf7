"""Random networks have the Lyapunov spectra of mean-field theory (Molgedey et al. 1992; Engelken, Wolf & Abbott 2023; Clark, arXiv 2610.12426).

    python -m experiments.e05_random_networks

h_t = tanh(W h_{t−1}), W_ij ~ N(0, g²/N), without input. For N → ∞ the variance of W h is q = g² E tanh²(√q z), z ~ N(0, 1), and

    λ₁ = ln(g √(E sech⁴(√q z))),    (1/N) Σ λ_i = ln g − ½ + E ln sech²(√q z).

At finite N the mean exponent is exactly (1/N) ln|det W| + ⟨ln φ'⟩ along the trajectory. The spectrum is extensive: dimension and entropy rate grow in
proportion to N; Clark's figures are those of one network of 4096 units at g = 3.

Settings: float64, QR at every step. λ₁: N = 400, 5 networks for each gain, 2,000 steps after 200. At g = 10 few units are unsaturated, and a
finite network lies about 8/N too low, so there N = 1600, 3 networks. Whole spectra: g = 3, N = 100, 200, 400, 5 networks each, 600 steps after 300.
The identity: N = 32, 200 steps. At g = 1.5 networks of some hundred units scatter, and some are not chaotic at all: drawn, not judged.
Reduced: N = 400 in place of 4096 for the whole spectrum (a QR of 4096 columns takes a minute a step here), whence tolerances of 3 to 5 %.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import cells, lyapunov, theory, unroll
from jaxrnn.plots.axes import COLOURS, finish


@dataclass(frozen=True)
class Settings:
    gains: tuple[float, ...] = (0.5, 0.8, 1.5, 2.0, 3.0, 5.0, 10.0)
    n: int = 400
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 2000
    warmup: int = 200
    wide: int = 1600  # at g = 10
    wide_seeds: tuple[int, ...] = (0, 1, 2)
    sizes: tuple[int, ...] = (100, 200, 400)  # of the whole spectra
    spectrum_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    spectrum_steps: int = 600
    spectrum_warmup: int = 300
    identity_n: int = 32
    identity_steps: int = 200


SMOKE = Settings(
    gains=(0.5, 2.0, 3.0), n=20, seeds=(0, 1), steps=100, warmup=20, wide=40, wide_seeds=(0,), sizes=(10,), spectrum_seeds=(0, 1),
    spectrum_steps=60, spectrum_warmup=20, identity_n=8, identity_steps=40,
)  # fmt: skip
LEADING = {1.5: 0.065217, 2.0: 0.154724, 3.0: 0.310249, 10.0: 0.856435}  # λ₁ of N → ∞, nats per step
CHAOTIC = 3.0  # the gain of the whole spectra
MEAN, DIMENSION, ENTROPY, POSITIVE = -2.272805, 0.28717, 0.025106, 0.15259  # there, per unit


def network(n, gain, seed):
    """Step, weights and a start off the symmetric point h = 0."""
    cell = cells.vanilla(1, n)
    weights, start = jax.random.split(jax.random.key(seed))
    return cell.step, cell.init_params(weights, gain=gain), jax.random.normal(start, (n,))


def exponents(n, gains, seeds, steps, warmup, k):
    """The k leading exponents of networks of n units (gains, seeds, k), in one compiled program."""

    def one(at):
        step, params, start = network(n, *at)
        return lyapunov.spectrum(step, params, start, None, length=warmup + steps, warmup=warmup, k=k).exponents

    gain, seed = np.meshgrid(np.asarray(gains, float), np.asarray(seeds), indexing="ij")
    found = jax.jit(lambda at: jax.lax.map(one, at))((jnp.asarray(gain.ravel()), jnp.asarray(seed.ravel())))
    return np.asarray(found).reshape(*gain.shape, k)


def formulas():
    """What the integrals give, against the stated values."""
    found = jax.vmap(theory.mean_field)(jnp.asarray(list(LEADING)))
    leading = dict(zip(LEADING, np.asarray(found.lyapunov), strict=True))
    mean = float(found.mean_exponent[list(LEADING).index(CHAOTIC)])
    off = max(abs(leading[g] - wanted) for g, wanted in LEADING.items())
    return Claim(
        "mean-field integrals for λ₁ and for the mean exponent",
        "λ₁ = .065217, .154724, .310249, .856435 at g = 1.5, 2, 3, 10; mean −2.272805 at g = 3",
        "each within 1e-5", f"{', '.join(f'{v:.6f}' for v in leading.values())}; mean {mean:.6f}", bool(off < 1e-5 and abs(mean - MEAN) < 1e-5),
    )  # fmt: skip


def leading(s):
    """λ₁ against theory: a claim, and the values (gains, seeds)."""
    narrow = exponents(s.n, s.gains, s.seeds, s.steps, s.warmup, 1)[..., 0]
    wide = exponents(s.wide, (10.0,), s.wide_seeds, s.steps, s.warmup, 1)[0, :, 0]
    judged = {g: (s.n, narrow[s.gains.index(g)]) for g in (2.0, 3.0)} | {10.0: (s.wide, wide)}
    good = [abs(values.mean() - LEADING[g]) < 0.015 for g, (_, values) in judged.items()]
    listed = "; ".join(f"g = {g:g}, N = {n}: {spread(v, 4)}" for g, (n, v) in judged.items())
    return Claim("λ₁ of simulated networks is that of mean-field theory", "Molgedey et al. 1992: .154724, .310249, .856435 at g = 2, 3, 10",
                 "means over the networks within .015", listed, bool(all(good))), narrow, wide  # fmt: skip


def identity(s):
    """Σ λ_i / N against the determinant and the slopes, of one network."""
    step, params, start = network(s.identity_n, CHAOTIC, 8)
    length, warmup = 2 * s.identity_steps, s.identity_steps
    mean = lyapunov.spectrum(step, params, start, None, length=length, warmup=warmup).exponents.mean()
    slopes = 1 - np.asarray(unroll.states(step, params, start, None, length=length))[warmup:] ** 2
    exact = np.linalg.slogdet(np.asarray(params["W_hh"]))[1] / s.identity_n + np.log(slopes).mean()
    return Claim("the mean exponent is (1/N) ln|det W| + ⟨ln φ'⟩ at finite N", "exact: the logarithm of a determinant", "within 1e-9",
                 f"{mean:.9f} against {exact:.9f}: {abs(mean - exact):.1e} (N = {s.identity_n})", bool(abs(mean - exact) < 1e-9))  # fmt: skip


def extensive(spectra, n):
    """Four claims on the whole spectra (seeds, n) of the largest networks."""
    per_unit = {
        "mean": spectra.mean(1),
        "dimension": np.asarray(lyapunov.kaplan_yorke(spectra)) / n,
        "entropy": np.asarray(lyapunov.entropy_rate(spectra)) / n,
        "positive": (spectra > 0).mean(1),
    }
    rows = (
        ("the mean exponent of the simulated networks", "mean", MEAN, "−2.272805 (Engelken, Wolf & Abbott 2023)", 0.02),
        ("Kaplan–Yorke dimension over N", "dimension", DIMENSION, ".28717 (Clark, N = 4096)", 0.03),
        ("entropy rate over N, nats per step", "entropy", ENTROPY, ".025106 (Clark, N = 4096)", 0.05),
        ("fraction of positive exponents", "positive", POSITIVE, ".15259 (Clark, N = 4096)", 0.03),
    )
    return [
        Claim(f"g = {CHAOTIC:g}: {statement}", published, f"mean over the networks within {tolerance:.0%}", f"N = {n}: {spread(per_unit[name], 5)}",
              bool(abs(per_unit[name].mean() / value - 1) < tolerance))
        for statement, name, value, published, tolerance in rows
    ]  # fmt: skip


def draw_leading(s, narrow, wide, ax):
    """λ₁ against the gain."""
    gains = np.geomspace(0.45, 11, 120)
    expected = np.asarray(jax.vmap(lambda g: theory.mean_field(g).lyapunov)(jnp.asarray(gains)))
    ax.axhline(0, color="0.6", lw=0.8)
    ax.plot(gains, expected, color=COLOURS[1], ls="--", label="mean-field theory, N → ∞")
    ax.plot(
        np.repeat(s.gains, len(s.seeds)), narrow.ravel(), "o", ms=5, mfc="none", color=COLOURS[0], label=f"N = {s.n}, {len(s.seeds)} networks each"
    )
    ax.plot(np.full(len(wide), 10.0), wide, "s", ms=5, mfc="none", color=COLOURS[2], label=f"N = {s.wide}, {len(wide)} networks")
    ax.set_xscale("log")
    ax.set_xticks([0.5, 1, 2, 3, 5, 10], ["0.5", "1", "2", "3", "5", "10"])
    ax.set_xticks([], minor=True)
    return finish(ax, "gain g (dimensionless)", "λ₁ (nats per step)", "Leading exponent of random tanh networks", columns=2)


def draw_spectra(spectra, ax):
    """Whole spectra of networks of several sizes against i/N."""
    for (n, values), colour in zip(spectra.items(), COLOURS[::2], strict=False):
        for i, row in enumerate(values):
            ax.plot((np.arange(n) + 0.5) / n, row, color=colour, lw=1.2, alpha=0.8, label=f"N = {n}, {len(values)} networks" if i == 0 else None)
    ax.axhline(LEADING[CHAOTIC], color=COLOURS[1], ls="--", lw=1, label=f"theory: λ₁ = {LEADING[CHAOTIC]}")
    ax.axhline(MEAN, color=COLOURS[1], ls=":", label=f"theory: mean {MEAN:.3f}")
    ax.axvline(POSITIVE, color=COLOURS[3], ls="--", lw=1, label=f"N = 4096: share of positive ones {POSITIVE:.3f}")
    ax.axhline(0, color="0.6", lw=0.8)
    ax.set_ylim(-8, 0.8)
    return finish(ax, "rank over N (dimensionless)", "Lyapunov exponent (nats per step)", f"The spectrum is extensive, g = {CHAOTIC:g}", columns=2)


def main(s):
    judged, narrow, wide = leading(s)
    spectra = {n: exponents(n, (CHAOTIC,), s.spectrum_seeds, s.spectrum_steps, s.spectrum_warmup, n)[0] for n in s.sizes}
    largest = max(s.sizes)
    claims = [formulas(), judged, identity(s), *extensive(spectra[largest], largest)]
    pictures = {"leading": lambda ax: draw_leading(s, narrow, wide, ax), "spectra": lambda ax: draw_spectra(spectra, ax)}
    numbers = {"gains": s.gains, "leading": narrow, "leading_wide_at_10": wide, "spectra": {str(n): values for n, values in spectra.items()}}
    return Found(claims, pictures, numbers)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
