"""Systems whose gradients are known, measured by the toolkit: writes docs/known-answers.md.

python -m experiments.known_answers            # about a minute; writes the page
python -m experiments.known_answers --smoke    # less: short runs and small networks, nothing written

A reference is a closed form, a published number, or what NumPy says of the same system, never a rate by this toolkit.
A tolerance is fixed beforehand where theory bounds the error;
where a run of random numbers scatters it is four of its own standard errors, to which half a unit of the last digit of a rounded reference is added.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.harness import versions
from jaxrnn import cells, flow, linearize, lyapunov, spectra, tasks, theory, unroll

PAGE = Path(__file__).parents[1] / "docs" / "known-answers.md"
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Settings:
    """How long and how wide: factors on the lengths and sizes below."""

    length: float = 1.0
    width: float = 1.0

    def steps(self, count: int) -> int:
        """A number of steps."""
        return max(20, round(self.length * count))

    def units(self, count: int) -> int:
        """A number of units."""
        return max(8, round(self.width * count))


FULL = Settings()
SMOKE = Settings(length=0.02, width=0.1)


class Answer(NamedTuple):
    """One line of the page."""

    row: int  # a group of related lines
    system: str
    quantity: str
    source: str
    reference: float
    measured: float
    allowed: str  # the rule; does not depend on the settings
    tolerance: float  # what the rule comes to

    @property
    def error(self) -> float:
        """How far the measured value lies off; 0 where both are the same infinity."""
        return 0.0 if self.measured == self.reference else abs(self.measured - self.reference)

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance


def noise(seed: int, shape: Sequence[int]) -> jax.Array:
    """Independent N(0, 1)."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def within(tolerance: float) -> tuple[str, float]:
    """A tolerance that was fixed beforehand."""
    return f"{tolerance:g}", tolerance


def scattered(error: float, rounding: float = 0.0) -> tuple[str, float]:
    """Four standard errors, and what the reference was rounded by."""
    return "4 s.e." + (f" + {rounding:g}" if rounding else ""), 4 * float(error) + rounding


def log_moduli(W: jax.Array) -> np.ndarray:
    """The logs of the moduli of the eigenvalues, descending, by LAPACK."""
    return np.sort(np.log(np.abs(np.linalg.eigvals(np.asarray(W)))))[::-1]


def tanh_net(n: int, gain: float, seed: int) -> tuple:
    """A random network at gain g, an input of its own for each unit: step, params, state."""
    cell = cells.vanilla(n, n)
    return cell.step, cell.init_params(jax.random.key(seed), gain=gain) | {"W_xh": jnp.eye(n)}, noise(seed, (n,))


def linear(settings: Settings) -> Iterator[Answer]:
    """Rows 1 to 3."""
    xs = noise(1, (40,))
    found = flow.log_transport(lambda a, h, x: a * h + 2 * x, 0.9, 0.3, xs)[40, 0]
    yield Answer(1, "h → 0.9 h + 2 x", "∂h_40/∂h_0", "elementary: 0.9⁴⁰", 0.9**40, math.exp(found), *within(1e-14))
    W = noise(0, (32, 32)) / np.sqrt(32)
    step = lambda W, h, x: W @ h
    run = lyapunov.spectrum(step, W, jnp.zeros(32), None, length=settings.steps(2100), warmup=settings.steps(100) - 1)
    source = "Oseledets 1968 for a constant map; eigenvalues by LAPACK"
    for i in (0, 15):
        yield Answer(2, "h → W h, W Gaussian, 32 units", f"λ_{i + 1} = log|eig|", source, log_moduli(W)[i], run.exponents[i], *within(2e-3))
    for dtype, tolerance in ((jnp.float64, 1e-10), (jnp.float32, 3e-4)):
        cell = cells.vanilla(1, 64, "identity", init="orthogonal")
        params = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), cell.init_params(jax.random.key(1)))
        start, length = jnp.ones(64, dtype), settings.steps(1000)
        gain = flow.log_gain(cell.step, params, start, None, length=length)
        system = f"h → Q h, Q orthogonal, {jnp.dtype(dtype).name}"
        yield Answer(3, system, "log σ₁ of a product of 1,000", "an isometry", 0.0, gain, *within(tolerance))
        rates = lyapunov.spectrum(cell.step, params, start, None, length=length).exponents
        yield Answer(3, system, "the exponent farthest from 0", "an isometry", 0.0, rates[np.argmax(np.abs(rates))], *within(tolerance))


def random_matrices(settings: Settings) -> Iterator[Answer]:
    """Row 5."""
    published = {(2, 0.5): (-0.288608, -0.981755), (10, 0.1): (-0.051660,), (4, 1.0): (0.557966, 0.364819, 0.057966, -0.635181)}
    for (n, variance), exponents in published.items():
        length = settings.steps(20_000)
        run = lyapunov.from_jacobians(math.sqrt(variance) * noise(5, (length, n, n)))
        errors = theory.newman_standard_errors(n, length)
        for i, reference in enumerate(exponents):
            system = f"product of {n} × {n} matrices of N(0, {variance:g})"
            yield Answer(5, system, f"λ_{i + 1}", "Newman 1986", reference, run.exponents[i], *scattered(errors[i], 5e-7))


def wide_networks(settings: Settings) -> Iterator[Answer]:
    """Rows 4 and 6 to 11."""
    cell = cells.vanilla(64, 64, init="orthogonal")
    params = cell.init_params(jax.random.key(0)) | {"W_xh": jnp.eye(64)}
    xs, W = 0.5 * np.asarray(noise(4, (1000, 64))), np.asarray(params["W_hh"])
    run = lyapunov.spectrum(cell.step, params, jnp.zeros(64), jnp.asarray(xs), frame=jnp.eye(64)[:, :1])
    h, v, growth = np.zeros(64), np.eye(64)[0], 0.0
    for x in xs:
        h = np.tanh(W @ h + x)
        v = (1 - h**2) * (W @ v)
        growth, v = growth + math.log(np.linalg.norm(v)), v / np.linalg.norm(v)
    system = "orthogonal W, tanh, 64 units, input N(0, ¼)"
    yield Answer(4, system, "λ₁ over 1,000 steps: no isometry", "a loop in NumPy", growth / 1000, run.exponents[0], *within(1e-12))
    n = settings.units(200)
    step, params, start = tanh_net(n, 0.8, 6)
    run = lyapunov.spectrum(step, params, start, None, length=settings.steps(2500), warmup=settings.steps(500) - 1)
    rms = math.sqrt(np.mean((run.exponents - log_moduli(params["W_hh"])) ** 2))
    source = "at rest: log|eig(g J)| by LAPACK"
    yield Answer(6, "x → g J tanh x, g = 0.8, 200 units", "r.m.s. distance of all λ_i from log|eig|", source, 0.0, rms, *within(1e-3))
    yield from _chaos(settings)
    yield from _driven(settings)
    for variance, reference in ((0.05, 1.76095), (0.01, 1.42421)):
        found = theory.critical_gain(bias_sd=math.sqrt(variance)) ** 2
        yield Answer(11, f"critical line of tanh, σ_b² = {variance:g}", "σ_w² at χ₁ = 1", "Schoenholz et al. 2017", reference, found, *within(1e-4))


def _chaos(settings: Settings) -> Iterator[Answer]:
    """Rows 7 to 9: no input, gain above 1."""
    source = "Molgedey, Schuchhardt, Schuster 1992"
    for gain, reference in ((1.5, 0.065217), (2.0, 0.154724), (3.0, 0.310249), (10.0, 0.856435)):
        found = theory.mean_field(gain).lyapunov
        yield Answer(7, f"mean-field theory of tanh, g = {gain:g}", "λ₁ as N → ∞", source, reference, found, *within(1e-5))
    for gain, size, reference in ((2.0, 400, 0.154724), (3.0, 400, 0.310249), (10.0, 1600, 0.856435)):
        run = lyapunov.spectrum(*tanh_net(settings.units(size), gain, 5), None, length=settings.steps(2200), warmup=settings.steps(200) - 1, k=1)
        yield Answer(7, f"the same simulated, {size:,} units, g = {gain:g}", "λ₁", source, reference, run.exponents[0], *within(0.015))
    mean = theory.mean_field(3.0).mean_exponent
    yield Answer(8, "mean-field theory of tanh, g = 3", "mean of all λ_i as N → ∞", "Engelken, Wolf, Abbott 2023", -2.272805, mean, *within(1e-5))
    n, length, warmup = 32, 300, 100
    step, params, start = tanh_net(n, 3.0, 8)
    run = lyapunov.spectrum(step, params, start, None, length=length, warmup=warmup)
    hs = np.asarray(unroll.states(step, params, start, None, length=length))[warmup:]
    wanted = np.linalg.slogdet(np.asarray(params["W_hh"]))[1] / n + np.log1p(-(hs**2)).mean()
    system = "tanh network, 32 units, g = 3, 200 steps"
    yield Answer(8, system, "mean λ = ln|det W|/N + ⟨ln φ'⟩", "an identity", wanted, run.exponents.mean(), *within(1e-9))
    n = settings.units(400)
    run = lyapunov.spectrum(*tanh_net(n, 3.0, 9), None, length=settings.steps(900), warmup=settings.steps(300) - 1, k=2 * n // 5)
    for quantity, reference, measured, share in (
        ("Kaplan–Yorke dimension / N", 0.28717, lyapunov.kaplan_yorke(run.exponents) / n, 0.03),
        ("entropy rate / N", 0.025106, lyapunov.entropy_rate(run.exponents) / n, 0.05),
        ("share of positive exponents", 0.15259, (run.exponents > 0).sum() / n, 0.03),
    ):
        source = "data of Clark, arXiv 2610.12426, for 4,096 units"
        yield Answer(9, "tanh network, 400 units, g = 3", quantity, source, reference, measured, f"{share:.0%}", share * reference)


def _driven(settings: Settings) -> Iterator[Answer]:
    """Row 10: white input."""
    source = "Molgedey, Schuchhardt, Schuster 1992"
    for gain, reference in ((1.5, 0.4314), (2.0, 1.279)):
        found = theory.critical_input_sd(gain)
        rounding = 5e-5 if gain == 1.5 else 5e-4
        yield Answer(10, f"mean-field theory of tanh, g = {gain:g}", "input s at which λ₁ = 0", source, reference, found, *within(rounding))
    n = settings.units(400)
    for gain, sd, reference in ((1.5, 0.5, -0.01673), (1.5, 1.0, -0.14183), (1.5, 0.4314, 0.0), (2.0, 1.279, 0.0)):
        xs = sd * noise(13, (settings.steps(3200), n))
        run = lyapunov.spectrum(*tanh_net(n, gain, 10), xs, k=1, warmup=settings.steps(200) - 1)
        yield Answer(10, f"simulated, 400 units, g = {gain:g}, s = {sd:g}", "λ₁", source, reference, run.exponents[0], *within(0.006))


def gates(settings: Settings) -> Iterator[Answer]:
    """Rows 12, 13 and 15."""
    cell = cells.lstm(1, 2)
    for bias, steps, rounding in ((1.0, 3.19, 0.005), (5.0, 148.9, 0.05)):
        params = cell.init_params(jax.random.key(0), gain=0.0, forget_bias=bias)
        run = lyapunov.spectrum(cell.step, params, cell.init_state(params), None, length=100, warmup=1)
        system = f"LSTM, W_hh = 0, no input, forget bias {bias:g}"
        reference = -math.log1p(math.exp(-bias))
        yield Answer(12, system, "λ of c: ln σ(b_f)", "Gers, Schmidhuber, Cummins 2000", reference, run.exponents[0], *within(1e-12))
        yield Answer(12, system, "time scale in steps", "the same", steps, -1 / run.exponents[0], *within(rounding))
        yield Answer(12, system, "λ of h, a dead direction", "J has rank 2", -math.inf, run.exponents[3], *within(0.0))
    cell = cells.mingru(1, 8)
    params = cell.init_params(jax.random.key(0))
    params = {name: jnp.zeros_like(leaf) if name.startswith("b") else leaf for name, leaf in params.items()}
    run = lyapunov.spectrum(cell.step, params, cell.init_state(params), jnp.zeros((100, 1)))
    yield Answer(13, "minGRU, pre-activations 0", "every λ: −ln 2", "Feng et al. 2024", -math.log(2), run.exponents[-1], *within(1e-12))
    n, epsilon = 16, 0.1
    for gamma in (0.0, 0.01, 1.0):
        cell = cells.antisymmetric(0, n, epsilon=epsilon, gamma=gamma)
        params = cell.init_params(jax.random.key(3))
        jacobian = linearize.jacobians(cell.step, params, jnp.zeros(n), None, length=1)[0]
        omega = np.abs(np.linalg.eigvals(np.asarray(params["W_hh"] - params["W_hh"].T))).max()
        reference = math.hypot(1 - epsilon * gamma, epsilon * omega)
        source = "Chang, Chen, Haber, Chi 2019"
        system = f"AntisymmetricRNN at rest, ε = 0.1, γ = {gamma:g}"
        yield Answer(15, system, "√((1−εγ)² + ε²ω²)", source, reference, spectra.spectral_radius(jacobian), *within(1e-12))


def chaotic_systems(settings: Settings) -> Iterator[Answer]:
    """Row 14."""
    logistic = lambda r, x, _: r * x * (1 - x)
    run = lyapunov.spectrum(logistic, 4.0, 0.3, None, length=settings.steps(100_000), warmup=10)
    yield Answer(14, "logistic map, r = 4", "λ = ln 2", "Ulam, von Neumann 1947", math.log(2), run.exponents[0], *scattered(run.standard_errors[0]))
    henon = lambda p, s, _: jnp.array([1 - p[0] * s[0] ** 2 + s[1], p[1] * s[0]])
    run = lyapunov.spectrum(henon, (1.4, 0.3), jnp.array([0.1, 0.1]), None, length=settings.steps(100_000), warmup=10)
    yield Answer(14, "Hénon map, 1.4, 0.3", "Σ λ = ln 0.3", "det J = −0.3", math.log(0.3), run.exponents.sum(), *within(1e-12))
    source = "Sprott 2003"
    yield Answer(14, "Hénon map, 1.4, 0.3", "λ₁", source, 0.4192, run.exponents[0], *scattered(run.standard_errors[0], 5e-5))
    yield from _lorenz(settings)


def _lorenz(settings: Settings, dt: float = 0.01) -> Iterator[Answer]:
    """The Lorenz system by the classical Runge–Kutta method, rates per unit of time."""

    def slope(p: tuple, v: jax.Array) -> jax.Array:
        return jnp.array([p[0] * (v[1] - v[0]), v[0] * (p[1] - v[2]) - v[1], v[0] * v[1] - p[2] * v[2]])

    def step(p: tuple, v: jax.Array, _: None) -> jax.Array:
        k1 = slope(p, v)
        k2 = slope(p, v + dt / 2 * k1)
        k3 = slope(p, v + dt / 2 * k2)
        return v + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(p, v + dt * k3))

    length, warmup = settings.steps(200_000), settings.steps(2000)
    run = lyapunov.spectrum(step, (10.0, 28.0, 8 / 3), jnp.ones(3), None, length=length, warmup=warmup, dt=dt)
    system, source, errors = "Lorenz system, 10, 28, 8/3, per unit of time", "Sprott 2003", run.standard_errors
    # Along the flow growth telescopes: at most log of the ratio of speeds, below 400, over the time.
    edge = math.log(400) / ((length - warmup) * dt)
    yield Answer(14, system, "λ₁", source, 0.9056, run.exponents[0], *scattered(errors[0], 5e-5))
    yield Answer(14, system, "λ₂", "along the flow", 0.0, run.exponents[1], "ln 400 / time", edge)
    yield Answer(14, system, "λ₃", source, -14.572, run.exponents[2], "4 s.e. + 0.0005 + ln 400 / time", 4 * float(errors[0]) + 5e-4 + edge)
    # Truncation of the integrator: |λ₃ dt|⁵/120 a step.
    yield Answer(14, system, "Σ λ", "−(10 + 1 + 8/3)", -41 / 3, run.exponents.sum(), *within(5e-4))
    dimension = lyapunov.kaplan_yorke(run.exponents)
    allowed = "4 s.e. + 0.0005 + ln 400 / time, over 14.57"
    yield Answer(14, system, "Kaplan–Yorke dimension", source, 2.062, dimension, allowed, (4 * float(errors[0]) + edge) / 14.57 + 5e-4)


def bounds(settings: Settings) -> Iterator[Answer]:
    """Rows 16 and 17."""
    for activation, gamma in (("tanh", 1.0), ("sigmoid", 0.25)):
        cell = cells.vanilla(2, 16, activation)
        params = cell.init_params(jax.random.key(1), gain=2.0)
        jacobians = linearize.jacobians(cell.step, params, jnp.zeros(16), noise(9, (settings.steps(1000), 2)))
        bound = gamma * np.linalg.norm(np.asarray(params["W_hh"]), 2)
        excess = max(float(spectra.singular_values(jacobians)[:, 0].max()) / bound - 1, 0.0)
        source = "Pascanu, Mikolov, Bengio 2013"
        yield Answer(16, f"{activation} network, 16 units, 1,000 steps", "how far ‖J_t‖₂ exceeds γ σ₁(W)", source, 0.0, excess, *within(1e-14))
    yield Answer(
        17,
        "copy, 100 blanks",
        "baseline 10 ln 8/(T + 20)",
        "Arjovsky, Shah, Bengio 2016",
        10 * math.log(8) / 120,
        tasks.copy(100).baseline,
        *within(EPS),
    )
    rows: tuple[tuple[str, str, float, Callable], ...] = (
        ("adding, the sum", "mean squared error of a constant guess", 1 / 6, lambda: tasks.adding(100).baseline),
        ("adding, the mean", "mean squared error of a constant guess", 1 / 24, lambda: tasks.adding_mean(100).baseline),
        ("temporal order, 4 classes", "loss of a guess, nats", math.log(4), lambda: tasks.temporal_order(100).loss_baseline),
        ("parity", "loss of a guess, nats", math.log(2), lambda: tasks.parity(100).loss_baseline),
    )
    for system, quantity, reference, measure in rows:
        source = "the variance of the target" if "error" in quantity else "the entropy of the answer"
        yield Answer(17, system, quantity, source, reference, measure(), *within(4 * EPS))


GROUPS = (linear, wide_networks, random_matrices, gates, chaotic_systems, bounds)


def main(settings: Settings) -> list[Answer]:
    """Every answer, by row."""
    found = [answer._replace(reference=float(answer.reference), measured=float(answer.measured)) for group in GROUPS for answer in group(settings)]
    return sorted(found, key=lambda answer: answer.row)


HEADING = """# Known answers

*Written by `python -m experiments.known_answers`; do not edit.*

Systems whose rates, bounds or losses are known without this toolkit, and what it says of them, in float64 unless the line says otherwise. A
reference is a closed form, a published number, or what NumPy says of the same system. A tolerance of
one number was fixed beforehand; "4 s.e." is four standard errors of the run itself,
plus half a unit of the last digit of a reference that was published rounded. Rates are in nats per step unless the line says otherwise.

| row | system | quantity | reference | measured | error | tolerance | source |
|---|---|---|---|---|---|---|---|
"""


def page(answers: Sequence[Answer], seconds: float) -> str:
    """The page as Markdown."""
    safe = lambda text: text.replace("|", "\\|")
    lines = []
    for a in answers:
        tolerance = a.allowed if a.allowed == f"{a.tolerance:g}" else f"{a.allowed} = {a.tolerance:.2g}"
        numbers = (f"{a.reference:.7g}", f"{a.measured:.7g}", f"{a.error:.2g}" if a.holds else f"**{a.error:.2g}**", tolerance)
        lines.append("| " + " | ".join(map(safe, (str(a.row), a.system, a.quantity, *numbers, a.source))) + " |")
    held = sum(a.holds for a in answers)
    said = ", ".join(f"{name} {version}" for name, version in versions().items() if name in ("python", "jax", "jaxlib", "numpy"))
    return f"{HEADING}{chr(10).join(lines)}\n\n{held} of {len(answers)} within tolerance; {seconds:.0f} s on two CPU cores; {said}.\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="short runs and small networks, nothing written")
    smoke = parser.parse_args().smoke
    jax.config.update("jax_enable_x64", True)
    started = time.perf_counter()
    answers = main(SMOKE if smoke else FULL)
    seconds = time.perf_counter() - started
    for a in answers:
        print(f"{'holds' if a.holds else 'FAILS'} {a.row:2d} {a.system}: {a.quantity} {a.reference:.7g} {a.measured:.7g} ± {a.tolerance:.2g}")
    print(f"{seconds:.1f} s")
    if not smoke:
        PAGE.write_text(page(answers, seconds), encoding="utf-8")
        sys.exit(not all(a.holds for a in answers))
