"""The eigenvalue criterion at work, and nine ways in which it fails (Pascanu et al. 2013; Trefethen & Embree 2005; Zucchet & Orvieto 2024).

    python -m experiments.e02_eigenvalues

The textbook says: gradients vanish where the largest |eigenvalue| of the Jacobian is below 1, and explode where it is above. For a constant
normal J this is exact at every lag. The nine claims after the first are small systems, known in closed form, in which it misleads: because
eigenvalues of factors are not those of products (1 to 3, 5), because a matrix that is not normal grows first (4), because weights are not
Jacobians (6), because a mean is not typical (7), because a sum hides its summands (8), and because a rate near 0 is not the end of the trouble (9).
What decides are the singular values of J_t ⋯ J_{k+1}, whose rates are the Lyapunov exponents.

Settings: float64; the matrices are written out below. 1,000 factors (40,000 where the frame turns, since its rate oscillates by O(1 / T)), 3 tanh
networks of 400 units over 3,000 steps under white noise of standard deviation 1, 4,001 products of 100 random factors, 20,000 and 1,000 linear units.
Sources: 4 is Trefethen & Embree 2005, ch. 14 to 16; 6 Molgedey, Schuchhardt & Schuster 1992; 8 Pascanu, Mikolov & Bengio 2013; 9 Zucchet & Orvieto
2024. 1, 2, 3, 5 and 7 are elementary: the numbers follow from the matrices in closed form. Nothing is reduced.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import bptt, cells, linearize, lyapunov, spectra, theory, unroll
from jaxrnn.plots.axes import COLOURS, finish


@dataclass(frozen=True)
class Settings:
    n: int = 32  # of the normal matrices
    radii: tuple[float, ...] = (0.8, 0.95, 1.05, 1.2)
    lag: int = 400  # over which the normal matrices are applied
    factors: int = 1000  # of the periodic products
    turning: int = 40_000  # factors of the turning one
    units: int = 400  # of the tanh network under noise
    steps: int = 3000
    seeds: tuple[int, ...] = (0, 1, 2)
    runs: int = 4001  # products of random factors
    linear_units: tuple[int, ...] = (20_000, 1000)
    drawn: int = 60  # lag up to which the picture of products goes


SMOKE = Settings(n=4, lag=40, factors=100, turning=200, units=20, steps=100, seeds=(0,), runs=401, linear_units=(200, 50), drawn=20)
ANGLES = {0.3: -0.693, 0.7: 0.508, math.pi / 2: 1.370}  # θ: rate of counterexample 3
SHEAR = np.array([[0.9, 10.0], [0.0, 0.9]])
SHIFT = 0.5 * np.eye(50) + np.eye(50, k=1)
SWAP = np.array([[0.0, 1.5], [0.5, 0.0]])
COIN = (2.0, 0.4)  # the factors of counterexample 7
CURSE = {0.9: (263.89, 0.005), 0.99: (2.5126e5, 5.0)}  # λ: E(dh/dλ)², half a unit of its last digit


def periodic(factors, count):
    """``count`` factors, in turn."""
    return jnp.asarray(np.stack([np.asarray(factors[i % len(factors)], float) for i in range(count)]))


def turning(theta, count):
    """R(tθ) A R(tθ)ᵀ: the same eigenvalues at every t."""
    cosine, sine = np.cos(theta * np.arange(count)), np.sin(theta * np.arange(count))
    rotations = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    return jnp.asarray(rotations @ np.array([[0.5, 4.0], [0.0, 0.5]]) @ np.swapaxes(rotations, 1, 2))


def rates(*sequences):
    """The leading exponent of each sequence of factors, all of one length, the first half of it not counted."""
    one = lambda jacobians: lyapunov.from_jacobians(jacobians, k=1, warmup=len(jacobians) // 2).exponents[0]
    return np.asarray(jax.vmap(one)(jnp.stack(sequences))).tolist()


def radius(jacobians):
    """The largest |eigenvalue| of any factor."""
    return float(np.abs(np.linalg.eigvals(np.asarray(jacobians))).max())


def normal(n, largest, seed):
    """A normal matrix: rotations by random angles, shrunk, in a random orthonormal basis; its largest |eigenvalue| is given."""
    random = np.random.default_rng(seed)
    moduli, angles = largest * np.linspace(1, 0.2, n // 2), random.uniform(0, np.pi, n // 2)
    blocks = np.zeros((n, n))
    for i, (r, a) in enumerate(zip(moduli, angles, strict=True)):
        blocks[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = r * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    basis = np.linalg.qr(random.standard_normal((n, n)))[0]
    return jnp.asarray(basis @ blocks @ basis.T)


def at_work(s):
    """The criterion where it is exact."""
    lags, worst, ends = np.arange(s.lag + 1), 0.0, []
    for seed, largest in enumerate(s.radii):
        growth = np.asarray(spectra.transient_growth(normal(s.n, largest, seed), length=s.lag))
        worst = max(worst, float(np.abs(growth - lags * math.log(largest)).max()))
        ends.append(growth[-1] / s.lag)
    right = all(np.sign(end) == np.sign(math.log(r)) for end, r in zip(ends, s.radii, strict=True))
    return Claim(
        "a constant normal J vanishes or explodes as its largest |eigenvalue| ρ is below or above 1, at every lag",
        "Pascanu 2013, §2.1; exact: ‖Jᵏ‖₂ = ρᵏ",
        f"log‖Jᵏ‖₂ = k log ρ within 1e-10 for k ≤ {s.lag}, and the sign of the rate is that of log ρ",
        f"ρ = {', '.join(map(str, s.radii))}: rates {', '.join(f'{end:+.4f}' for end in ends)}; largest error {worst:.1e}",
        worst < 1e-10 and right,
    )  # fmt: skip


def products(s):
    """Counterexamples 1, 2, 3 and 5: eigenvalues of factors say nothing of products."""
    A, N = np.array([[0.5, 2.0], [0.0, 0.5]]), np.array([[0.0, 2.0], [0.0, 0.0]])
    sheared, explode = periodic([A.T, A], s.factors), periodic([np.diag([2.0, 0.1]), np.diag([0.1, 2.0])], s.factors)
    power = float(spectra.product_log_singular_values(periodic([N.T, N], 50)).logs[0])
    r1, r2, r5 = rates(sheared, explode, periodic([SWAP], s.factors))
    turned = dict(zip(ANGLES, rates(*(turning(theta, s.turning) for theta in ANGLES)), strict=True))
    listed = ", ".join(f"{found:+.4f} at {theta:.3g}" for theta, found in turned.items())
    rho = [radius(sheared), radius(periodic([N.T, N], 2)), radius(explode), radius(turning(0.7, 50)), radius(jnp.asarray(SWAP))]
    sigma = float(spectra.singular_values(jnp.asarray(SWAP))[0])
    off = max(abs(found - ANGLES[theta]) for theta, found in turned.items())
    return [
        Claim("1: factors whose eigenvalues vanish explode together (A, Aᵀ, A, …)",
              "ρ = .5, +0.750488 per step; nilpotent: ρ = 0, ‖(AB)²⁵‖ = 1.1259e15",
              "rate within 5e-7, ‖(AB)²⁵‖ within 5e10; every ρ within 1e-7",
              f"ρ = {rho[0]:.7f}, rate {r1:+.7f}; ρ = {rho[1]:.1f}, {math.exp(power):.5g}",
              abs(r1 - 0.750488) < 5e-7 and abs(math.exp(power) - 1.1259e15) < 5e10 and abs(rho[0] - 0.5) < 1e-7 and rho[1] < 1e-7),
        Claim("2: factors whose eigenvalues explode vanish together (diagonal)", "ρ = 2, −0.804719 per step", "rate within 5e-7, ρ = 2",
              f"ρ = {rho[2]:g}, rate {r2:+.7f}", abs(r2 + 0.804719) < 5e-7 and rho[2] == 2),
        Claim("3: the same eigenvalues at every step, and any rate (a turning frame)", "ρ = .5; −0.693 at θ = .3, +0.508 at .7, +1.370 at π/2",
              "rates within 5.1e-4 (their last digit); ρ within 1e-6",
              f"ρ = {rho[3]:.7f}; {listed}", off < 5.1e-4 and abs(rho[3] - 0.5) < 1e-6),
        Claim("5: a norm above 1 at every step, and decay", "σ₁ = 1.5, ρ = .866, −0.1438 per step",
              "σ₁ within 1e-12, ρ within 5e-4, rate within 5e-5", f"σ₁ = {sigma:.4f}, ρ = {rho[4]:.4f}, rate {r5:+.5f}",
              abs(sigma - 1.5) < 1e-12 and abs(rho[4] - 0.866) < 5e-4 and abs(r5 + 0.1438) < 5e-5),
    ]  # fmt: skip


def transients():
    """Counterexample 4: constant, but not normal."""
    shear, shift = (np.asarray(spectra.transient_growth(jnp.asarray(W), length=230)) for W in (SHEAR, SHIFT))
    below = lambda growth: int(np.flatnonzero(growth >= 0)[-1]) + 1
    sigma = float(spectra.singular_values(jnp.asarray(SHIFT))[0])
    peak, high = math.exp(shear.max()), math.exp(shift.max())
    places = (int(shear.argmax()), below(shear), int(shift.argmax()), below(shift))
    return Claim(
        "4: a vanishing map that is not normal amplifies at first",
        "38.746 at k = 9, below 1 from 63; .5 I + shift, n = 50: σ₁ = 1.4994, 5.98e13 at 96, below 1 from 210",
        "38.746 within 5e-4, σ₁ within 5e-5, 5.98e13 within .1 %, the four k exactly",
        f"{peak:.4f} at k = {places[0]}, below 1 from {places[1]}; σ₁ = {sigma:.5f}, {high:.4g} at {places[2]}, below 1 from {places[3]}",
        abs(peak - 38.746) < 5e-4 and abs(sigma - 1.4994) < 5e-5 and abs(high / 5.98e13 - 1) < 1e-3 and places == (9, 63, 96, 210),
    ), shear, shift  # fmt: skip


def weights(s):
    """Counterexample 6: weights are not Jacobians."""
    cell = cells.vanilla(1, 1)
    params = {"W_hh": jnp.full((1, 1), 4.0), "W_xh": jnp.zeros((1, 1)), "b_h": jnp.zeros(1)}
    slope = float(linearize.jacobians(cell.step, params, jnp.ones(1), None, length=50)[-1, 0, 0])
    wide = cells.vanilla(s.units, s.units)

    def leading(key):
        random, noise = jax.random.split(key)
        params = wide.init_params(random, gain=1.5) | {"W_xh": jnp.eye(s.units)}
        xs = jax.random.normal(noise, (s.steps + 100, s.units))
        return lyapunov.spectrum(wide.step, params, jnp.zeros(s.units), xs, k=1, warmup=100).exponents[0]

    found = np.asarray(jax.lax.map(leading, jnp.stack([jax.random.key(seed) for seed in s.seeds])))
    return Claim("6: weights are not Jacobians: tanh with weight 4 rests, a network of gain 1.5 under noise forgets",
                 "slope .00539 at w = 4; λ₁ = −0.142 (−0.14183) at g = 1.5, input sd 1", "slope within 5e-6, mean λ₁ within .006 of −0.14183",
                 f"slope {slope:.6f}; λ₁ = {spread(found)}", abs(slope - 0.00539) < 5e-6 and bool(abs(found.mean() + 0.14183) < 0.006))  # fmt: skip


def coins(s):
    """Counterexample 7: logs of the products of 1 to 100 random factors, (runs, 100)."""
    heads = np.random.default_rng(7).integers(2, size=(s.runs, 100))
    logs = np.cumsum(np.where(heads, math.log(COIN[0]), math.log(COIN[1])), axis=1)
    count = np.arange(101)
    chances = np.array([math.comb(100, k) for k in count], float) / 2.0**100
    mean = float(chances @ (COIN[0] ** count * COIN[1] ** (100.0 - count)))
    median, low, high = (math.exp(q) for q in np.quantile(logs[:, -1], [0.5, 0.05, 0.95]))
    sampled = float(np.exp(logs[:, -1]).mean())
    return Claim("7: the mean of a product is not typical: factors 2 and .4, evenly likely, 100 steps", "mean 8.3e7, median 1.4e-5",
                 f"exact mean within .05e7, median of {s.runs} products within .05e-5, their own mean below half of the exact one",
                 f"mean {mean:.3g}, median {median:.3g} (90 % of the products within {low:.1g} and {high:.1g}), mean of the sample {sampled:.2g}",
                 abs(mean - 8.3e7) < 5e5 and abs(median - 1.4e-5) < 5e-7 and sampled < mean / 2), logs  # fmt: skip


def hidden_lags():
    """Counterexample 8: a healthy gradient without any long lag."""
    n, length, random = 16, 100, np.random.default_rng(8)
    cell = cells.with_readout(cells.vanilla(2, n), 1)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape))
    recurrent = 0.5 * np.linalg.qr(random.standard_normal((n, n)))[0]  # no Jacobian has a norm above .5
    params = {"W_hh": jnp.asarray(recurrent), "W_xh": draw(n, 2) / np.sqrt(2), "b_h": jnp.zeros(n), "W_hy": draw(1, n) / 4, "b_y": jnp.zeros(1)}
    loss = cells.readout_loss(cell, lambda prediction, target: jnp.sum((prediction - target) ** 2))
    xs, targets = draw(length, 2), draw(length, 1)
    parts = bptt.decompose(cell.step, params, jnp.zeros(n), xs, targets, loss)
    ratio = float(jnp.linalg.norm(parts.total["W_hh"]) / jnp.linalg.norm(parts.total["W_hy"]))
    share = float(parts.lag_share[50])
    return Claim("8: ‖∂L/∂W‖ stays healthy while long lags have vanished", "short lags dominate the sum (Pascanu 2013, §2.1): measure per lag",
                 "‖∂L/∂W_hh‖ above a tenth of the readout's, which needs no memory; share of lags from 50 on above 0 and below 1e-12",
                 f"{ratio:.2f} of the readout's; share {share:.1e}", ratio > 0.1 and 0 < share < 1e-12)  # fmt: skip


def curse(s):
    """Counterexample 9: the derivative by the decay diverges as the rate goes to 0."""
    step = lambda p, h, x: p * h + x
    texts, good = [], []
    for (decay, (wanted, digits)), units in zip(CURSE.items(), s.linear_units, strict=True):
        known = float(theory.curse_of_memory(decay).sensitivity)
        # Until e^−20 of the start is left.
        xs = jnp.asarray(np.random.default_rng(9).standard_normal((round(20 / (1 - decay)), units)))
        slope = jax.jvp(lambda p, xs=xs, units=units: unroll.states(step, p, jnp.zeros(units), xs)[-1], (jnp.asarray(decay),), (jnp.ones(()),))[1]
        square, error = float(jnp.mean(slope**2)), 4 * math.sqrt(2 / units)
        texts.append(f"λ₁ = {math.log(decay):+.4f}: formula {known:.5g}, {units} units {square:.4g}")
        good.append(abs(known - wanted) < digits and abs(square / wanted - 1) < error)
    return Claim("9: λ₁ near 0 is not the end: E(dh/dλ)² of h ← λh + x diverges",
                 "Zucchet & Orvieto 2024: (1+λ²)/(1−λ²)³, 263.89 at λ = .9 and 2.5126e5 at .99",
                 "formula within half a unit of the last digit; simulation within 4 standard errors, 4√(2/units)",
                 "; ".join(texts), all(good))  # fmt: skip


def time_varying(s, ax):
    """log‖product‖ of factors that change, and what their eigenvalues say."""
    A = np.array([[0.5, 2.0], [0.0, 0.5]])
    cases = {
        "1: A, Aᵀ, A, …": periodic([A.T, A], s.drawn),
        "2: diag(2, .1), diag(.1, 2), …": periodic([np.diag([2.0, 0.1]), np.diag([0.1, 2.0])], s.drawn),
        "3: turning by .7": turning(0.7, s.drawn),
    }
    lags = np.arange(s.drawn + 1)
    for (name, jacobians), colour in zip(cases.items(), COLOURS, strict=False):
        product, norms = np.eye(2), [0.0]
        for jacobian in np.asarray(jacobians):
            product = jacobian @ product
            norms.append(math.log(np.linalg.norm(product, 2)))
        predicted = math.log(radius(jacobians[:2]))
        ax.plot(lags, norms, color=colour, label=name)
        # Two of the three predictions coincide: dashes of different lengths keep both visible.
        ax.plot(lags, lags * predicted, color=colour, ls=(0, (4, 2 + 2 * COLOURS.index(colour))), label=f"its eigenvalues: {predicted:+.3f} per step")
    ax.axhline(0, color="0.6", lw=0.8)
    return finish(ax, "lag (steps)", "log‖product‖₂ (nats)", "Products against the eigenvalues of their factors", columns=2)


def constant(shear, shift, ax):
    """log‖Wᵏ‖ of constant matrices, and what their eigenvalues say."""
    swap = np.asarray(spectra.transient_growth(jnp.asarray(SWAP), length=len(shear) - 1))
    lags = np.arange(len(shear))
    rows = (("4: [[.9, 10], [0, .9]]", shear, 0.9), ("4: .5 I + shift, n = 50", shift, 0.5), ("5: [[0, 1.5], [.5, 0]]", swap, 0.75**0.5))
    for (name, growth, rho), colour in zip(rows, COLOURS, strict=False):
        ax.plot(lags, growth, color=colour, label=name)
        ax.plot(lags, lags * math.log(rho), color=colour, ls="--", label=f"its eigenvalues: k log {rho:.3g}")
    ax.axhline(0, color="0.6", lw=0.8)
    ax.set_ylim(-45, 35)
    return finish(ax, "lag k (steps)", "log‖Wᵏ‖₂ (nats)", "Constant matrices before their eigenvalues rule", columns=2)


def typical(logs, ax):
    """Quantiles of the products of random factors, and the log of their mean."""
    lags = np.arange(1, 101)
    low, middle, high = np.quantile(logs, [0.05, 0.5, 0.95], axis=0)
    ax.fill_between(lags, low, high, color=COLOURS[0], alpha=0.25, lw=0, label="90 % of the products")
    ax.plot(lags, middle, color=COLOURS[0], label="median")
    ax.plot(lags, lags * math.log(1.2), color=COLOURS[1], ls="--", label="log of the mean, k ln 1.2")
    ax.plot(lags, np.log(np.exp(logs).mean(0)), color=COLOURS[2], label=f"log of the mean of {len(logs)} products")
    ax.axhline(0, color="0.6", lw=0.8)
    return finish(ax, "lag k (steps)", "log of the product (nats)", "Factors 2 and 0.4, evenly likely: the mean is not typical", columns=2)


def main(s):
    one, two, three, five = products(s)
    four, shear, shift = transients()
    seven, logs = coins(s)
    claims = [at_work(s), one, two, three, four, five, weights(s), seven, hidden_lags(), curse(s)]
    pictures = {
        "products": lambda ax: time_varying(s, ax),
        "constant": lambda ax: constant(shear, shift, ax),
        "typical": lambda ax: typical(logs, ax),
    }
    numbers = {"log_powers_shear": shear, "log_powers_shift": shift, "coin_quantiles": np.quantile(logs, [0.05, 0.5, 0.95], axis=0)}
    return Found(claims, pictures, numbers)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
