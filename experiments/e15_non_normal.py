"""Matrices that are not normal: transients, bounds, memory (Henrici 1962; Trefethen & Embree 2005; Ganguli et al. 2008; Kerg et al. 2019).

    python -m experiments.e15_non_normal

Of a normal W, ‖Wᵏ‖₂ = ρᵏ. Otherwise powers may grow for long before the spectral radius ρ rules. What bounds them:

    K ≤ sup_k ‖Wᵏ‖₂ ≤ e n K,  K = sup_{|z|>1} (|z| − 1) ‖(zI − W)⁻¹‖₂  (Kreiss; Trefethen & Embree 2005, ch. 18)
    ‖Wᵏ‖₂ ≤ Σ_{j<n} (k over j) ρ^{k−j} ‖N‖₂ʲ,  W = U(Λ + N)Uᴴ, N strictly upper triangular  (Henrici 1962)

Under noise of variance 1 in every unit, C = Σ_k WᵏWᵏᵀ, a pulse along v is remembered after k steps to J(k) = vᵀWᵏᵀC⁻¹Wᵏv (Ganguli, Huh &
Sompolinsky 2008). The sum J of J(k) over k is 1 for every normal W and every v of length 1, and at most n for any W: over an orthonormal set of v
the sums add to n. A delay line W_{i+1,i} = √α, v the first unit, has J(k) = α^k(α − 1)/(α^{k+1} − 1) for k < n, and J → n as α grows.
Kerg et al. 2019 parametrise W by its Schur form: rotations in planes, and T above them, which leaves the eigenvalues where they are and
makes transients and memory.

Settings: float64. [[.9, 10], [0, .9]]; .5 I + shift, n = 50; a Gaussian matrix scaled to ρ = .95, a random triangular one of diagonal .8, a symmetric
one of ρ = .95, n = 50 (seed 0); powers up to 400. Schur cells: n = 16, modulus .95, T Gaussian of standard deviation 0 to .4, 5 seeds.
Nothing is reduced: no network is trained here (Kerg et al. train theirs).
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from scipy.special import gammaln, logsumexp

from experiments.reproduction import Claim, Found, command
from jaxrnn import cells, linearize, plots, spectra
from jaxrnn.plots.axes import COLOURS, finish


@dataclass(frozen=True)
class Settings:
    n: int = 50
    powers: int = 400
    angles: int = 48  # of the grid on which the Kreiss constant is sought
    radii: int = 24
    toeplitz: tuple[int, ...] = (20, 30, 40, 50)
    distances: tuple[float, ...] = (0.7, 0.8)  # |z − .5| of the points in the plane
    grid: int = 80  # points on an axis of the picture
    units: int = 16  # of the Schur cells
    strengths: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    growth: float = 100.0  # α of the longest memory


SMOKE = Settings(n=6, powers=60, angles=12, radii=8, toeplitz=(5, 6), grid=6, units=4, strengths=(0.0, 0.2, 0.4), seeds=(0,))
SHEAR = np.array([[0.9, 10.0], [0.0, 0.9]])
MODULUS = 0.95


def shift(n):
    return 0.5 * np.eye(n) + np.eye(n, k=1)


def matrices(n):
    """Name -> W, from normal to as far from it as can be."""
    random = np.random.default_rng(0)
    gaussian, symmetric = random.standard_normal((2, n, n))
    symmetric = symmetric + symmetric.T
    scaled = lambda W: MODULUS * W / np.abs(np.linalg.eigvals(W)).max()
    triangular = 0.8 * np.eye(n) + np.triu(random.standard_normal((n, n)), 1) / math.sqrt(n)
    return {"shear": SHEAR, "shift": shift(n), "triangular": triangular, "Gaussian": scaled(gaussian), "symmetric": scaled(symmetric)}


def departure(W):
    """The strictly upper triangle of a Schur form."""
    return np.triu(scipy.linalg.schur(W, output="complex")[0], 1)


def henrici_bound(W, powers):
    """Logs of Henrici's bound on ‖Wᵏ‖₂ for k = 0..powers, nats."""
    size, rho = np.linalg.norm(departure(W), 2), np.abs(np.linalg.eigvals(W)).max()
    k, j = np.arange(powers + 1)[:, None], np.arange(len(W))[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = gammaln(k + 1) - gammaln(j + 1) - gammaln(np.maximum(k - j, 0) + 1) + (k - j) * np.log(rho) + j * np.log(size)
    return logsumexp(np.where((j <= k) & ((size > 0) | (j == 0)), np.where(j == 0, k * np.log(rho), logs), -np.inf), axis=1)


def known_transients():
    """The stated numbers."""
    shear, chain = (np.asarray(spectra.transient_growth(jnp.asarray(W), length=230)) for W in (SHEAR, shift(50)))
    below = lambda growth: int(np.flatnonzero(growth >= 0)[-1]) + 1
    places = (int(shear.argmax()), below(shear), int(chain.argmax()), below(chain))
    peaks, sigma = (math.exp(shear.max()), math.exp(chain.max())), float(spectra.singular_values(jnp.asarray(shift(50)))[0])
    return Claim(
        "a map of spectral radius below 1 amplifies at first",
        "38.746 at k = 9, below 1 from 63; n = 50: σ₁ = 1.4994, 5.98e13 at 96, below 1 from 210",
        "38.746 within 5e-4, σ₁ within 5e-5, 5.98e13 within .1 %, the four k exactly",
        f"{peaks[0]:.4f} at k = {places[0]}, below 1 from {places[1]}; σ₁ = {sigma:.5f}, {peaks[1]:.4g} at {places[2]}, below 1 from {places[3]}",
        abs(peaks[0] - 38.746) < 5e-4 and abs(sigma - 1.4994) < 5e-5 and abs(peaks[1] / 5.98e13 - 1) < 1e-3 and places == (9, 63, 96, 210),
    )  # fmt: skip


def bounds(s):
    """Kreiss's and Henrici's bounds on all matrices; what the picture needs of the shift."""
    texts, kreiss_good, henrici_texts, henrici_good, seen = [], [], [], [], {}
    for name, W in matrices(s.n).items():
        growth = np.asarray(spectra.transient_growth(jnp.asarray(W), length=s.powers))
        K = float(spectra.kreiss(jnp.asarray(W), angles=s.angles, radii=s.radii))
        top, bound = float(growth.max()), henrici_bound(W, s.powers)
        kreiss_good.append(math.log(K) <= top + 1e-9 and top <= 1 + math.log(len(W) * K))
        texts.append(f"{name} K = {K:.4g}, sup = {math.exp(top):.4g}")
        measure, exact = float(spectra.henrici(jnp.asarray(W))), float(np.linalg.norm(departure(W)) / np.linalg.norm(W))
        henrici_good.append(bool(np.all(growth <= bound + 1e-9)) and abs(measure - exact) < 1e-12)
        henrici_texts.append(f"{name} {measure:.3f}")
        seen[name] = (growth, K, bound)
    normal = abs(np.linalg.norm(departure(matrices(s.n)["symmetric"]))) < 1e-12 * s.n
    return [
        Claim("Kreiss: K ≤ sup_k ‖Wᵏ‖₂ ≤ e n K", "Trefethen & Embree 2005, ch. 18", "both for all five matrices, rounding 1e-9", "; ".join(texts),
              all(kreiss_good)),
        Claim("Henrici: powers are bounded by ρ and the departure from normality", "Henrici 1962; equality of ‖N‖_F with the measured departure",
              f"for all five matrices and k ≤ {s.powers}; spectra.henrici within 1e-12 of ‖N‖_F/‖W‖_F of an independent Schur form; 0 if symmetric",
              "departures: " + ", ".join(henrici_texts), all(henrici_good) and bool(normal)),
    ], seen["shift"]  # fmt: skip


def toeplitz(s):
    """How small a change of .5 I + shift makes z an eigenvalue, against n."""
    found = np.array(
        [[float(spectra.pseudospectrum(jnp.asarray(shift(n)), jnp.asarray([0.5 + c + 0j]))[0]) for n in s.toeplitz] for c in s.distances]
    )
    slopes = [float(np.polyfit(s.toeplitz, np.log(row), 1)[0]) for row in found]
    good = [abs(slope / math.log(c) - 1) < 0.01 for slope, c in zip(slopes, s.distances, strict=True)]
    listed = ", ".join(f"{slope:.4f} against ln {c:g} = {math.log(c):.4f}" for slope, c in zip(slopes, s.distances, strict=True))
    return Claim("a change of .5 I + shift that is exponentially small in n puts an eigenvalue at any z with |z − .5| < 1, also beyond 1",
                 "Trefethen & Embree 2005, ch. 7: σ_min(zI − A) ~ |z − .5|ⁿ inside the symbol curve",
                 f"slope of ln σ_min against n = {', '.join(map(str, s.toeplitz))} within 1 % of ln|z − .5|", listed, all(good))  # fmt: skip


def summed(W, inner):
    """Σ_k Wᵏ inner Wᵏᵀ, by doubling."""
    total, power = inner, W
    for _ in range(14):
        total, power = total + power @ total @ power.T, power @ power
    return total


def memory(W):
    """J over all k, as a matrix: vᵀ J v is the memory of a pulse along v."""
    return summed(W.T, np.linalg.inv(summed(W, np.eye(len(W)))))


def memory_curve(W, v, lags):
    """J(k) for k < lags."""
    inverse, found = np.linalg.inv(summed(W, np.eye(len(W)))), []
    for _ in range(lags):
        found.append(v @ inverse @ v)
        v = W @ v
    return np.array(found)


def delay_line(n, alpha):
    return math.sqrt(alpha) * np.eye(n, k=-1)


def line_curve(n, alpha):
    """J(k) of a delay line in closed form, written so that nothing overflows."""
    decay = alpha ** -np.arange(1.0, n + 1)
    return (1 - 1 / alpha) / (1 - decay)


def fisher(s):
    """Memory of normal matrices, of any, and of delay lines."""
    given, first = matrices(s.n), np.eye(s.n)[0]
    normal = memory(given["symmetric"])
    rotation = MODULUS * np.linalg.qr(np.random.default_rng(1).standard_normal((s.n, s.n)))[0]
    off = max(np.abs(J - np.eye(s.n)).max() for J in (normal, memory(rotation)))
    traces = {name: np.trace(memory(given[name])) for name in ("Gaussian", "triangular", "symmetric")}
    largest = {name: np.linalg.eigvalsh(memory(given[name]))[-1] for name in traces}
    lines = {alpha: memory_curve(delay_line(s.n, alpha), first, s.n) for alpha in (1.5, 4.0, s.growth)}
    apart = max(np.abs(curve - line_curve(s.n, alpha)).max() for alpha, curve in lines.items())
    total = lines[s.growth].sum()
    return [
        Claim("the memory of a normal network is 1, whatever its weights and the pulse", "Ganguli et al. 2008: J = 1 (in units of 1/noise variance)",
              "J within 1e-9 of the identity, a symmetric matrix and a scaled rotation", f"largest deviation {off:.1e}", bool(off < 1e-9)),
        Claim("no network remembers more than n; a delay line that amplifies comes close",
              "Ganguli et al. 2008: J ≤ n, trace of J = n; the formula above",
              f"traces within 1e-6 n of n, largest eigenvalue ≤ n; curves within 1e-10 of the formula; J ≥ .98 n at α = {s.growth:g}",
              f"largest J: {', '.join(f'{name} {v:.3g}' for name, v in largest.items())}; curves {apart:.1e}; delay line {total:.3f} of n = {s.n}",
              bool(all(abs(t / s.n - 1) < 1e-6 for t in traces.values()) and max(largest.values()) <= s.n * (1 + 1e-9)
                   and apart < 1e-10 and total > 0.98 * s.n)),
    ], lines  # fmt: skip


def schur_cells(s):
    """W of the cells of Kerg et al. by the strength of T and seed: (strengths, seeds, n, n)."""
    cell = cells.nnrnn(1, s.units, "identity")

    def matrix(strength, seed):
        weights, upper, basis = jax.random.split(jax.random.key(seed), 3)
        params = cell.init_params(weights, gain=MODULUS)
        # At its own start P turns the same planes as Θ: a random one hides the triangle.
        normal = lambda key: jax.random.normal(key, (s.units, s.units))
        params = params | {"T": strength * normal(upper), "A": normal(basis)}
        return linearize.jacobians(cell.step, params, cell.init_state(params), None, length=1)[0]

    each = jax.vmap(jax.vmap(matrix, (None, 0)), (0, None))
    return np.asarray(jax.jit(each)(jnp.asarray(s.strengths), jnp.asarray(s.seeds)))


def transients(s):
    """What T does to the cells of Kerg et al."""
    found = schur_cells(s)
    radii = np.asarray(spectra.spectral_radius(jnp.asarray(found)))
    growth = np.asarray(jax.vmap(jax.vmap(lambda W: spectra.transient_growth(W, length=s.powers)))(jnp.asarray(found)))
    above = growth > 1e-9  # T = 0 is a multiple of a rotation: log‖Wᵏ‖ = k log .95 but for rounding
    last = np.where(above.any(-1), growth.shape[-1] - above[..., ::-1].argmax(-1), 1)  # from this k on below 1 for good
    best = np.array([[np.linalg.eigvalsh(memory(W))[-1] for W in row] for row in found])
    rises = lambda values: (np.diff(values, axis=0) > 0).all()
    peaks = growth.max(-1)
    listed = lambda values: ", ".join(f"{v:.3g}" for v in values.mean(1))
    return Claim(
        "a triangular part of the Schur form lengthens transients and memory and leaves the eigenvalues", "Kerg et al. 2019, §2 and 3",
        "ρ within 1e-3 of .95; in every seed the k from which ‖Wᵏ‖ stays below 1 and J rise with T, its peak does not fall; 1, 1, 1 at T = 0",
        f"T of sd {', '.join(map(str, s.strengths))}: below 1 from {listed(last)}; peak {listed(np.exp(peaks))}; J {listed(best)};"
        f" ρ off by {np.abs(radii - MODULUS).max():.1e} ({len(s.seeds)} seeds)",
        bool(np.abs(radii - MODULUS).max() < 1e-3 and rises(last) and rises(best) and (np.diff(peaks, axis=0) >= 0).all()
             and (last[0] == 1).all() and np.abs(peaks[0]).max() < 1e-9 and np.abs(best[0] - 1).max() < 1e-9),
    ), {"growth": growth, "memory": best}, found[:, 0]  # fmt: skip


def draw_growth(n, growth, K, bound, ax):
    """Powers of .5 I + shift between their bounds."""
    plots.transient_growth(growth, radius=0.5, kreiss=K, ax=ax)
    limits = ax.get_ylim()
    ax.axhline(1 + math.log(n * K), color=COLOURS[2], label=f"greatest peak, 1 + ln nK = {1 + math.log(n * K):.3g}")
    ax.plot(np.arange(len(bound)), bound, color=COLOURS[3], ls="-.", label="Henrici's bound")
    ax.set_ylim(limits[0], 1.15 * (1 + math.log(n * K)))
    ax.set_xlim(0, len(growth) - 1)
    title = f".5 I + shift, n = {n}: growth of the powers between its bounds"
    return finish(ax, "power k (steps)", "log‖Aᵏ‖₂ (nats)", title, columns=2)


def draw_plane(s, ax):
    """The pseudospectrum of .5 I + shift."""
    x, y = np.meshgrid(np.linspace(-1.1, 1.9, s.grid), np.linspace(-1.5, 1.5, s.grid))
    z = x + 1j * y
    sigma = spectra.pseudospectrum(jnp.asarray(shift(s.n)), jnp.asarray(z))
    return plots.pseudospectrum(z, sigma, np.full(s.n, 0.5), ax=ax)


def draw_memory(s, lines, schur, ax):
    """Memory curves of a normal cell, of one with T, and of delay lines."""
    lags = np.arange(s.n)
    for W, strength, colour in ((schur[0], s.strengths[0], COLOURS[0]), (schur[-1], s.strengths[-1], COLOURS[1])):
        direction = np.linalg.eigh(memory(W))[1][:, -1]
        curve, total = memory_curve(W, direction, s.n), direction @ memory(W) @ direction
        ax.plot(lags, curve, color=colour, label=f"Schur cell, T of sd {strength:g}: sum {total:.2f}")
    for (alpha, curve), colour in zip(lines.items(), COLOURS[2:5], strict=True):
        ax.plot(lags, curve, color=colour, label=f"delay line, α = {alpha:g}: sum {curve.sum():.2f}")
        ax.plot(lags, line_curve(s.n, alpha), color=COLOURS[6], ls=":", lw=1)
    ax.plot([], [], color=COLOURS[6], ls=":", lw=1, label="formula")
    ax.set(yscale="log", ylim=(1e-3, 2))
    return finish(
        ax, "lag k (steps)", "J(k) (1 / variance of the noise)", f"Memory under noise; delay lines of n = {s.n}, cells of n = {s.units}", columns=2
    )


def main(s):
    bounded, (growth, K, bound) = bounds(s)
    remembered, lines = fisher(s)
    lengthened, numbers, schur = transients(s)
    claims = [known_transients(), *bounded, toeplitz(s), *remembered, lengthened]
    pictures = {
        "growth": lambda ax: draw_growth(s.n, growth, K, bound, ax),
        "pseudospectrum": lambda ax: draw_plane(s, ax),
        "memory": lambda ax: draw_memory(s, lines, schur, ax),
    }
    return Found(claims, pictures, numbers | {"shift_growth": growth, "shift_kreiss": K, "memory_curves": {f"{a:g}": c for a, c in lines.items()}})


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
