"""Input suppresses chaos in random networks (Molgedey et al. 1992; Rajan, Abbott & Sompolinsky 2010; Schuecker, Goedeke & Helias 2018).

    python -m experiments.e06_input_suppresses_chaos

h_t = tanh(W h_{t−1} + x_t), W_ij ~ N(0, g²/N). With x white of standard deviation s, mean-field theory has q = g² E tanh²(√q z) + s², z ~ N(0, 1),
and λ₁ = ½ ln(g² E sech⁴(√q z)): input drives units to where tanh is flat, and above a strength s_c the network forgets although the
same weights alone are chaotic. With x_t,i = A cos(2πft + θ_i), phases at random over the units, the same argument holds with the
distribution of √q z + A cos θ: without leak and with one step of delay no frequency f is special.

Settings: float64, N = 400, 5 networks for each point, 3,000 steps after 200; the same weights and noise for all strengths. Strengths are
multiples of s_c, and .5 and 1 at g = 1.5. Crossing: root of a straight line through the means at .9 to 1.1 s_c; its criterion is that of λ₁,
± .006, over the slope of theory there. Waves: g = 2, N = 1000, f = .0618 and .1618 per step, A = 0 to 1.5 times the amplitude at which theory has
λ₁ = 0. Neither has a short period: locked to one of 5 steps, the product of 5 Jacobians is constant, and its largest eigenvalue lies above the edge
of the circle by O(1/√N), as in any network at rest.
Reduced: Rajan et al. and Schuecker et al. treat rate equations in continuous time, where the frequency matters and where λ₁ = 0 lies beyond the
loss of local stability; in discrete time neither is so. Their finding, that input suppresses chaos from an amplitude that theory predicts,
is what is judged, with the theory of discrete time.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import lyapunov, sweep, theory
from jaxrnn.plots.axes import COLOURS, finish


@dataclass(frozen=True)
class Settings:
    n: int = 400
    steps: int = 3000
    warmup: int = 200
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    multiples: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5)  # of s_c
    wave_n: int = 1000
    frequencies: tuple[float, ...] = (0.0618, 0.1618)  # per step
    amplitudes: tuple[float, ...] = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the critical one
    batch: int = 5


SMOKE = Settings(
    n=20,
    steps=60,
    warmup=20,
    seeds=(0,),
    multiples=(0.0, 0.9, 1.0, 1.1),
    wave_n=20,
    frequencies=(0.0618, 0.1618),
    amplitudes=(0.0, 0.5, 1.5),
    batch=4,
)
LEADING = {0.5: -0.01673, 1.0: -0.14183}  # s: λ₁ at g = 1.5
CRITICAL = {1.5: (0.4314, 5e-5), 2.0: (1.279, 5e-4)}  # g: s_c, half a unit of its last digit
NEAR = (0.9, 1.1)  # multiples of s_c through which the line is drawn
WAVE_GAIN = 2.0


def driven(weights, h, x):
    return jnp.tanh(weights @ h + x)


def leading(weights, start, xs, warmup):
    return lyapunov.spectrum(driven, weights, start, xs, k=1, warmup=warmup).exponents[0]


def noisy(gain, input_sd, seed, n, steps, warmup):
    """λ₁ under white input; weights and noise follow from the seed alone."""
    of_weights, of_state, of_inputs = jax.random.split(jax.random.key(seed), 3)
    weights = gain * jax.random.normal(of_weights, (n, n)) / np.sqrt(n)
    xs = input_sd * jax.random.normal(of_inputs, (warmup + steps, n))
    return {"exponent": leading(weights, jax.random.normal(of_state, (n,)), xs, warmup)}


def waving(amplitude, frequency, seed, n, steps, warmup):
    """λ₁ under one wave for all units, each at a phase of its own."""
    of_weights, of_state, of_phases = jax.random.split(jax.random.key(seed), 3)
    weights = WAVE_GAIN * jax.random.normal(of_weights, (n, n)) / np.sqrt(n)
    phases = jax.random.uniform(of_phases, (n,), maxval=2 * np.pi)
    times = jnp.arange(warmup + steps).astype(phases.dtype)[:, None]
    xs = amplitude * jnp.cos(2 * np.pi * frequency * times + phases)
    return {"exponent": leading(weights, jax.random.normal(of_state, (n,)), xs, warmup)}


def over_strengths(s, gain):
    """Strengths s, and λ₁ (strengths, seeds), at a gain."""
    critical = CRITICAL[gain][0]
    strengths = np.array(sorted({*(round(m * critical, 6) for m in s.multiples), *(LEADING if gain == 1.5 else ())}))
    points = sweep.grid(gain=np.array([gain]), input_sd=strengths, seed=np.array(s.seeds), n=(s.n,), steps=(s.steps,), warmup=(s.warmup,))
    return strengths, sweep.run(noisy, points, batch_size=s.batch).shaped("exponent")[0, ..., 0, 0, 0]


def over_amplitudes(s, critical):
    """λ₁ (amplitudes, frequencies, seeds)."""
    axes = {"amplitude": critical * np.array(s.amplitudes), "frequency": np.array(s.frequencies), "seed": np.array(s.seeds)}
    points = sweep.grid(**axes, n=(s.wave_n,), steps=(s.steps,), warmup=(s.warmup,))
    return sweep.run(waving, points, batch_size=s.batch).shaped("exponent")[..., 0, 0, 0]


def wave_theory(amplitude, gain=WAVE_GAIN):
    """λ₁ for N → ∞ under waves at random phases: the Gaussian smeared by A cos θ, its variance by iteration."""
    z, angle = np.linspace(-8, 8, 801)[:, None], 2 * np.pi * (np.arange(64) + 0.5) / 64
    weight = np.exp(-(z**2) / 2)
    weight = weight / weight.sum() / len(angle)
    q = gain**2 / 2
    for _ in range(400):
        q = gain**2 * np.sum(weight * np.tanh(np.sqrt(q) * z + amplitude * np.cos(angle)) ** 2)
    return 0.5 * np.log(gain**2 * np.sum(weight * np.cosh(np.sqrt(q) * z + amplitude * np.cos(angle)) ** -4.0))


def critical_amplitude():
    """Where that theory has λ₁ = 0, by bisection."""
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if wave_theory(middle) > 0 else (low, middle)
    return (low + high) / 2


def expected(gain, strengths):
    """λ₁ of theory at these strengths of white input."""
    return np.asarray(jax.vmap(lambda s: theory.mean_field(gain, input_sd=s).lyapunov)(jnp.asarray(strengths)))


def formulas():
    """What the integrals give, against the stated values."""
    exponents = dict(zip(LEADING, expected(1.5, list(LEADING)), strict=True))
    strengths = dict(zip(CRITICAL, np.asarray(jax.vmap(theory.critical_input_sd)(jnp.asarray(list(CRITICAL)))), strict=True))
    good = [abs(exponents[s] - value) < 1e-5 for s, value in LEADING.items()] + [abs(strengths[g] - v) < tol for g, (v, tol) in CRITICAL.items()]
    return Claim("mean-field integrals under white input", "g = 1.5: λ₁ = −0.01673 at s = .5, −0.14183 at 1; s_c = .4314 at g = 1.5, 1.279 at g = 2",
                 "λ₁ within 1e-5, s_c to its last digit",
                 f"λ₁ = {exponents[0.5]:.5f}, {exponents[1.0]:.5f}; s_c = {strengths[1.5]:.5f}, {strengths[2.0]:.5f}", bool(all(good)))  # fmt: skip


def simulated(s, curves):
    """λ₁ at stated strengths, and at those where theory has it at 0."""
    strengths, found = curves[1.5]
    at = {value: found[list(strengths).index(value)] for value in LEADING}
    zeros = {g: found[list(strengths).index(CRITICAL[g][0])] for g, (strengths, found) in curves.items()}
    return [
        Claim("λ₁ at g = 1.5 under white input", "−0.01673 at s = .5, −0.14183 at s = 1", "means over the networks within .006",
              "; ".join(f"s = {value:g}: {spread(v, 4)}" for value, v in at.items()),
              bool(all(abs(v.mean() - LEADING[value]) < 0.006 for value, v in at.items()))),
        Claim("λ₁ = 0 at the critical strength", "s_c = .4314 at g = 1.5, 1.279 at g = 2", "means over the networks within .006 of 0",
              "; ".join(f"g = {g:g}: {spread(v, 2)}" for g, v in zeros.items()), bool(all(abs(v.mean()) < 0.006 for v in zeros.values()))),
    ]  # fmt: skip


def crossings(curves):
    """Where the simulated λ₁ changes its sign."""
    texts, good = [], []
    for gain, (strengths, found) in curves.items():
        critical = CRITICAL[gain][0]
        near = (strengths > (NEAR[0] - 1e-3) * critical) & (strengths < (NEAR[1] + 1e-3) * critical)
        lines = [np.polyfit(strengths[near], column, 1) for column in (found[near].mean(1), *found[near].T)]
        roots = [-intercept / slope for slope, intercept in lines]
        ends = expected(gain, critical * np.array(NEAR))
        tolerance = 0.006 * (NEAR[1] - NEAR[0]) * critical / (ends[0] - ends[1])
        texts.append(f"g = {gain:g}: {roots[0]:.4f} (each network: {spread(roots[1:], 4)}; allowed ± {tolerance:.3f})")
        good.append(abs(roots[0] - critical) < tolerance)
    return Claim("the strength from which the network forgets", "s_c = .4314 at g = 1.5, 1.279 at g = 2", "within .006 over the slope at s_c",
                 "; ".join(texts), bool(all(good)))  # fmt: skip


def suppressed(s, curves, waves, critical):
    """Chaos alone, none under strong input, at g = 2; and waves against their theory."""
    strengths, found = curves[2.0]
    off = np.abs(waves.mean(-1) - np.array([wave_theory(m * critical) for m in s.amplitudes])[:, None])
    listed = ", ".join(f"f = {f:g}: {off[:, i].max():.3f}" for i, f in enumerate(s.frequencies))
    alone = f"{found[0].min():+.3f} to {found[0].max():+.3f}"
    return [
        Claim("g = 2: chaotic alone, not under strong input, noise or wave", "Rajan et al. 2010; Schuecker et al. 2018",
              "λ₁ > 0 in every network without input, < 0 in every one under noise of 1.25 s_c and more and under the strongest waves",
              f"alone {alone}; under noise of sd {strengths[-1]:.3g} up to {found[-1].max():+.3f}; under waves up to {waves[-1].max():+.3f}",
              bool((found[0] > 0).all() and (found[strengths > 1.24 * CRITICAL[2.0][0]] < 0).all() and (waves[-1] < 0).all())),
        Claim("g = 2: under waves at random phases λ₁ is that of the smeared Gaussian, whatever the frequency",
              "mean-field theory in discrete time (above)",
              "means over the networks within .015 at every amplitude", f"largest deviation: {listed}; critical amplitude {critical:.3f}",
              bool((off < 0.015).all())),
    ]  # fmt: skip


def draw_noise(curves, ax):
    """λ₁ against the strength of white input."""
    ax.axhline(0, color="0.6", lw=0.8)
    for (gain, (strengths, found)), colour in zip(curves.items(), COLOURS, strict=False):
        fine = np.linspace(0, strengths[-1], 120)
        ax.plot(fine, expected(gain, fine), color=colour, ls="--", label=f"theory, g = {gain:g}: 0 at s = {CRITICAL[gain][0]:g}")
        x = np.repeat(strengths, found.shape[1])
        ax.plot(x, found.ravel(), "o", ms=3.5, mfc="none", color=colour, label=f"{found.shape[1]} networks, g = {gain:g}")
        ax.axvline(CRITICAL[gain][0], color=colour, lw=0.8, ls=":")
    return finish(ax, "standard deviation s of the input (dimensionless)", "λ₁ (nats per step)", "White input suppresses chaos", columns=2)


def draw_waves(s, waves, critical, ax):
    """λ₁ against the amplitude of waves."""
    ax.axhline(0, color="0.6", lw=0.8)
    fine = np.linspace(0, 1.02 * critical * s.amplitudes[-1], 60)
    ax.plot(fine, [wave_theory(a) for a in fine], color=COLOURS[6], ls="--", label=f"theory: 0 at A = {critical:.3f}")
    x = critical * np.repeat(s.amplitudes, len(s.seeds))
    for i, f in enumerate(s.frequencies):
        look = {"ms": 4, "mfc": "none", "color": COLOURS[i], "label": f"{len(s.seeds)} networks, f = {f:g} per step"}
        ax.plot(x + 0.01 * critical * i, waves[:, i].ravel(), "os"[i % 2], **look)  # side by side
    ax.axvline(critical, color=COLOURS[6], lw=0.8, ls=":")
    return finish(
        ax, "amplitude A of the input (dimensionless)", "λ₁ (nats per step)", f"Waves at random phases suppress chaos, g = {WAVE_GAIN:g}", columns=2
    )


def main(s):
    curves, critical = {gain: over_strengths(s, gain) for gain in CRITICAL}, critical_amplitude()
    waves = over_amplitudes(s, critical)
    claims = [formulas(), *simulated(s, curves), crossings(curves), *suppressed(s, curves, waves, critical)]
    pictures = {"noise": lambda ax: draw_noise(curves, ax), "waves": lambda ax: draw_waves(s, waves, critical, ax)}
    numbers = {f"g={g:g}": {"input_sd": strengths, "exponents": found} for g, (strengths, found) in curves.items()}
    return Found(claims, pictures, numbers | {"waves": {"amplitudes": critical * np.array(s.amplitudes), "exponents": waves}})


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
