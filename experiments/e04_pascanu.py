"""Walls in the error surface, bounds from σ₁(W), clipping and Ω (Pascanu, Mikolov & Bengio 2013).

    python -m experiments.e04_pascanu

(a) One unit, h_t = w σ(h_{t−1}) + b, h_0 = ½, 50 steps, E = (σ(h_50) − .7)² (§ 2.3 and fig. 6). The surface has a wall where h_0 is an unstable
fixed point: b = ½ − w σ(½), w > 1/σ'(½) = 4.26. On it r = w σ'(½) and ‖∇E‖ = 2 |σ(½) − .7| σ'(½) √(1 + σ(½)²) (r^50 − 1)/(r − 1). Gradient descent
of rate .01 with and without the norm clipped to 1 from 16 points on the floor, .2 above the wall.

(b) ‖J_t‖₂ ≤ γ σ₁(W), γ = 1 (tanh), ¼ (sigmoid): γ σ₁ < 1 is sufficient for vanishing, γ σ₁ > 1 only necessary for exploding (§ 2.1 and 2.2). Gaussian
W (N = 50) scaled to γ σ₁, white input of standard deviation .2, gain of the product of 200 Jacobians.

(c) Temporal order, T = 50 (§ 4.1): vanilla tanh network of 50 units, recurrent gain .95, input and readout weights of standard deviation .1, constant
SGD of rate .01, 20 sequences an update; plain, clipped to 1, clipped with Ω summed over time, weight 2. A seed has solved the task where it is right
on more than 99 % of 2,000 sequences. All in float64.
Reduced: in (c) one length and 10 seeds of 10,000 updates, where the paper has lengths to 200 and 5 million; hence "solved by then", not "ever".
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.outcomes import train
from experiments.reproduction import Claim, Found, command, spread
from jaxrnn import cells, flow, linearize, remedies, spectra, tasks, theory
from jaxrnn.plots.axes import COLOURS, finish


@dataclass(frozen=True)
class Settings:
    steps: int = 50  # of the one unit
    walls: tuple[float, ...] = (4.5, 5.0, 5.5, 6.0)  # w at which the wall is looked at
    starts: int = 16
    descents: int = 5000
    grid: int = 241  # points of the surface along each axis
    n: int = 50
    product: int = 200  # Jacobians
    scales: tuple[float, ...] = (0.5, 0.8, 0.95, 1.05, 1.25, 1.5, 1.8, 2.5, 4.0)  # γ σ₁
    networks: tuple[int, ...] = (0, 1, 2, 3, 4)
    length: int = 50
    hidden: int = 50
    updates: int = 10_000
    every: int = 500
    rate: float = 0.01
    weight: float = 2.0
    test: int = 2000
    seeds: tuple[int, ...] = tuple(range(201, 211))


SMOKE = Settings(
    walls=(5.0, 6.0), starts=4, descents=50, grid=11, n=4, product=10, scales=(0.5, 1.5, 4.0), networks=(0, 1), length=10, hidden=4, updates=2,
    every=1, test=10, seeds=(201, 202),
)  # fmt: skip
BOX = ((4.2, 6.6), (-3.8, -2.0))  # of w and b in the picture
TARGET, FIRST, DESCENT, THRESHOLD = 0.7, 0.5, 0.01, 1.0
ARMS = ("plain", "clip", "clip and Ω")


ATTEMPTS = (
    "--weight 4: Ω solves it in 8 of the 10 seeds, clipping alone in 4, plain in 0: all bounds are met, but see the next.",
    "--weight 4 --seeds 101 to 110: 6, 3 and 0 of 10.",
    "Float32 and weight 2, an earlier run of the same seeds: 8, 2 and 0 of 10 by 10,000 updates; clipping alone 7 of 10 by 20,000.",
    "What these say: over all runs at 10,000 updates Ω solves 29 of 40, clipping alone 13 of 40, plain 0 of 40: the published order, and a share with"
    " Ω a little below the 8 in 10 that were asked for. Ten seeds tell .7 from .8 in no run.",
)


def logistic(v):
    return 1 / (1 + np.exp(-v))


SLOPE = logistic(FIRST) * (1 - logistic(FIRST))


def error(point, steps):
    """E at (w, b)."""
    w, b = point
    h = jax.lax.scan(lambda h, _: (w * jax.nn.sigmoid(h) + b, None), jnp.full_like(w, FIRST), None, length=steps)[0]
    return (jax.nn.sigmoid(h) - TARGET) ** 2


def wall(w):
    """The b at which h_0 is a fixed point."""
    return FIRST - w * logistic(FIRST)


def reach(w, steps):
    """∂h_T/∂b on the wall: Σ_{j < T} r^j."""
    r = w * SLOPE
    return (r**steps - 1) / (r - 1)


def cliff(s):
    """Where the wall is, how high the gradient stands on it."""
    look = jax.jit(jax.vmap(jax.value_and_grad(lambda point: error(point, s.steps))))
    seen = lambda w, b: look(jnp.stack([jnp.full(np.size(b), w), jnp.atleast_1d(jnp.asarray(b))], 1))
    norm = lambda w, b: np.linalg.norm(np.asarray(seen(w, b)[1]), axis=1)
    jumps, ratios, errors = [], [], []
    for w in s.walls:
        near = 10 / reach(w, s.steps)  # that far off, h_50 has left h_0 by about 10
        sides = np.asarray(seen(w, wall(w) + near * np.array([-1, 1]))[0])
        jumps.append(float(sides[0] - sides[1]))
        predicted = 2 * abs(logistic(FIRST) - TARGET) * SLOPE * np.hypot(1, logistic(FIRST)) * reach(w, s.steps)
        on_it = float(norm(w, wall(w))[0])
        errors.append(abs(on_it / predicted - 1))
        around = wall(w) + np.concatenate([np.linspace(-0.5, -0.05, 19), np.linspace(0.05, 0.5, 19)])
        ratios.append(on_it / float(np.median(norm(w, around))))
    steep = [ratio for w, ratio in zip(s.walls, ratios, strict=True) if w >= 5.5]
    listed = ", ".join(map(str, s.walls))
    claims = [
        Claim("the surface has a wall, where theory has h_0 as an unstable fixed point", "fig. 6: a wall in the error surface of one unit",
              f"E jumps by more than .1 within 10/|∂h_50/∂b| on either side of b = ½ − w σ(½), at w = {listed}",
              f"jumps {', '.join(f'{v:.2f}' for v in jumps)}", min(jumps) > 0.1),
        Claim("on the wall the gradient is many orders of magnitude larger than beside it", "§ 2.3: when gradients explode so does the curvature",
              "‖∇E‖ within 1e-3 of the formula at each w; at w ≥ 5.5 at least 1e4 times its median at .05 to .5 off the wall",
              f"relative errors at most {max(errors):.1e}; ratios {', '.join(f'{v:.1e}' for v in ratios)} at w = {listed}",
              max(errors) < 1e-3 and min(steep) >= 1e4),
    ]  # fmt: skip
    return claims, {"walls": s.walls, "jumps": jumps, "gradient_ratios": ratios}


def descents(s):
    """Paths (starts, updates + 1, 2) of gradient descent, plain and clipped, and the errors at their ends."""
    w = np.linspace(5, 6.5, s.starts)
    starts = jnp.asarray(np.stack([w, wall(w) + 0.2], 1))
    slope = jax.grad(lambda point: error(point, s.steps))

    def path(start, threshold):
        def update(point, _):
            gradient = slope(point)
            after = point - DESCENT * gradient * jnp.minimum(1, threshold / jnp.linalg.norm(gradient))
            return after, after

        points = jax.lax.scan(update, start, None, length=s.descents)[1]
        return jnp.concatenate([start[None], points])

    paths = {name: jax.jit(jax.vmap(lambda at, c=c: path(at, c)))(starts) for name, c in (("plain", jnp.inf), ("clip", THRESHOLD))}
    last = {name: np.asarray(jax.vmap(lambda point: error(point, s.steps))(points[:, -1])) for name, points in paths.items()}
    return {name: np.asarray(points) for name, points in paths.items()}, last


def thrown(s, paths, last):
    """Whether the wall throws descent off, and whether clipping keeps it."""
    longest = {name: np.linalg.norm(np.diff(points, axis=1), axis=2).max(1) for name, points in paths.items()}
    off, need = int(((longest["plain"] > 1) & (last["plain"] > 0.05)).sum()), 3 * s.starts // 4
    return Claim("the wall throws gradient descent far off; with its norm clipped it goes on along the floor", "fig. 6 and § 3.2",
                 f"plain: at least {need} of {s.starts} starts make a step longer than 1 and end at E > .05; clipped: all end at E < .01",
                 f"plain: {off} of {s.starts}, longest step {longest['plain'].max():.3g}, median E at the end {np.median(last['plain']):.2g};"
                 f" clipped: longest step {longest['clip'].max():.2g}, E at most {last['clip'].max():.1g}",
                 bool(off >= need and last["clip"].max() < 0.01))  # fmt: skip


def bounded(s):
    """Largest ‖J_t‖ over its bound, and rate of the product, (scales, networks) for each activation."""
    found = {}
    for activation in ("tanh", "sigmoid"):
        cell, gamma = cells.vanilla(s.n, s.n, activation=activation), theory.SLOPE_BOUNDS[activation]

        def one(at, cell=cell, gamma=gamma):
            scale, seed = at
            of_weights, of_inputs = jax.random.split(jax.random.key(seed))
            params = cell.init_params(of_weights, input_gain=0.2)
            params = params | {"W_hh": scale / gamma * params["W_hh"] / theory.pascanu_bounds(params["W_hh"]).largest_singular_value}
            xs = jax.random.normal(of_inputs, (s.product, s.n))
            bounds = theory.pascanu_bounds(params["W_hh"], gamma)
            state = cell.init_state(params)
            largest = spectra.singular_values(linearize.jacobians(cell.step, params, state, xs))[:, 0].max()
            rate = flow.log_gain(cell.step, params, state, xs) / s.product
            return jnp.log(largest) - bounds.log_step_bound, rate, bounds.must_vanish

        axes = np.meshgrid(np.asarray(s.scales), np.asarray(s.networks), indexing="ij")
        parts = jax.jit(lambda at, one=one: jax.lax.map(one, at))(tuple(jnp.asarray(axis.ravel()) for axis in axes))
        found[activation] = tuple(np.asarray(part).reshape(axes[0].shape) for part in parts)
    return found


def judged(s, found):
    """The two conditions."""
    scales, rates = np.asarray(s.scales), {name: part[1] for name, part in found.items()}
    over = max(float(part[0].max()) for part in found.values())
    small, middle, large = scales < 1, (scales > 1) & (scales < 2), scales >= 4
    surplus = max(float((rate - np.log(scales)[:, None]).max()) for rate in rates.values())
    must = all(bool((part[2] == small[:, None]).all()) for part in found.values())
    calm = max(float(rate[middle].max()) for rate in rates.values())
    wild = float(rates["tanh"][large].max())
    count = small.sum() * len(s.networks) * len(rates)
    return [
        Claim("γ σ₁ < 1 is sufficient for vanishing", "§ 2.1: σ₁ < 1/γ is sufficient; γ = 1 (tanh), ¼ (sigmoid)",
              "‖J_t‖₂ ≤ γ σ₁ at every step, and every product with γ σ₁ < 1 shrinks at a rate of at most ln(γ σ₁) (both up to 1e-9)",
              f"ln ‖J_t‖ − ln γσ₁ at most {over:.1e}; rate − ln γσ₁ at most {surplus:.2g} over all, {count} networks with γσ₁ < 1",
              over < 1e-9 and surplus < 1e-9 and must),
        Claim("γ σ₁ > 1 is necessary for exploding, not sufficient", "§ 2.1: σ₁ > 1/γ is a necessary condition",
              "every network with 1 < γ σ₁ < 2 vanishes, its gain over the product below 0; at γ σ₁ = 4 some tanh network has a gain above 0",
              f"largest rates {calm:+.3f} at 1 < γσ₁ < 2, {wild:+.3f} at 4 (nats per step)", calm < 0 < wild),
    ]  # fmt: skip


def arms(s):
    """Outcomes of training on temporal order."""
    task = tasks.temporal_order(s.length)
    cell = cells.with_readout(cells.vanilla(task.n_in, s.hidden), task.n_out)
    scales = {"gain": 0.95, "input_gain": 0.1 * task.n_in**0.5, "readout_gain": 0.1 * s.hidden**0.5}
    clipped = optax.chain(remedies.clip_by_norm(THRESHOLD), optax.sgd(s.rate))
    options = {"steps": s.updates, "seeds": s.seeds, "every": s.every, "batch": 20, "scales": scales}
    options |= {"test": task.held_out(jax.random.key(2**31), s.test)}
    found = {}
    for name, optimizer, penalty in zip(ARMS, (optax.sgd(s.rate), clipped, clipped), (None, None, remedies.Omega(s.weight)), strict=True):
        found[name] = train(name, cell, task, optimizer=optimizer, penalty=penalty, **options)
        print(f"{name}: solved at {found[name].fit.solved}; {1e3 * found[name].seconds_per_step:.2f} ms an update and seed", flush=True)
    return found


def order(s, found):
    """How many seeds solve the task, and what the weights became."""
    count, many = {name: int((one.fit.solved > 0).sum()) for name, one in found.items()}, len(s.seeds)
    radius = {name: np.asarray(spectra.spectral_radius(one.fit.params["W_hh"])) for name, one in found.items()}
    told = "; ".join(f"{name} {k} of {many}" for name, k in count.items())
    radii = "; ".join(f"{name} {spread(values)}" for name, values in radius.items())
    claim = Claim(f"plain SGD fails at T = {s.length}, clipping helps, clipping with Ω solves it",
                  "§ 4.1, success rate against T: plain SGD fails first, clipping later, clipping with Ω last",
                  f"by {s.updates} updates: with Ω at least 8 in 10 seeds; clipping alone not below plain and at least 4 in 10 below Ω; plain at most"
                  " 1 in 10", f"{told}; spectral radius at the end: {radii}",
                  count["clip and Ω"] >= 0.8 * many and count["plain"] <= count["clip"] <= count["clip and Ω"] - 0.4 * many
                  and count["plain"] <= 0.1 * many)  # fmt: skip
    return claim, {"solved": count, "spectral_radius": radius, "accuracy": {name: one.fit.metric for name, one in found.items()}}


def surface(s):
    """E over the box, for the picture."""
    ws, bs = (np.linspace(*ends, s.grid) for ends in BOX)
    rows = jax.jit(jax.vmap(jax.vmap(lambda w, b: error((w, b), s.steps), (0, None)), (None, 0)))
    return ws, bs, np.asarray(rows(jnp.asarray(ws), jnp.asarray(bs)))


def draw_surface(s, ground, paths, ax):
    """E over (w, b), the wall of theory, one start with and without clipping."""
    ws, bs, values = ground
    mesh = ax.pcolormesh(ws, bs, values, cmap="Greys", vmin=0, vmax=0.5, rasterized=True)
    ax.figure.colorbar(mesh, ax=ax).set_label("error E (dimensionless)", fontsize=11)
    at = np.linspace(1 / SLOPE, BOX[0][1], 50)
    ax.plot(at, wall(at), "--", color=COLOURS[4], lw=1.5, label="wall of theory, b = ½ − w σ(½)")
    i = len(paths["plain"]) // 3
    for name, colour, label in (("plain", COLOURS[1], "plain, until thrown off"), ("clip", COLOURS[0], "norm clipped to 1")):
        points = paths[name][i]
        away = np.flatnonzero(np.linalg.norm(np.diff(points, axis=0), axis=1) > 0.5)
        points = points[: away[0] + 2] if away.size else points
        ax.plot(*points.T, color=colour, lw=1.6, label=label)
        ax.plot(*points[0], "o", color=colour, ms=5)
        ax.plot(*points[-1], "*", color=colour, ms=11)
    ax.set(xlim=BOX[0], ylim=BOX[1])
    return finish(ax, "w (dimensionless)", "b (dimensionless)", "One unit, 50 steps; start: dot, end: star", columns=2)


def draw_bounds(s, found, ax):
    """Rates of the products against their bound."""
    for (name, (_, rate, _)), colour, marker in zip(found.items(), COLOURS, "os", strict=False):
        label = f"{name}, γ = {theory.SLOPE_BOUNDS[name]:g}"
        ax.plot(np.repeat(s.scales, len(s.networks)), rate.ravel(), marker, ms=4, mfc="none", color=colour, label=label)
    at = np.geomspace(s.scales[0], s.scales[-1], 100)
    ax.plot(at, np.log(at), color="0.2", lw=1.5, label="bound ln γσ₁")
    ax.axhline(0, color="0.6", lw=0.8)
    ax.axvline(1, color="0.6", lw=0.8)
    ax.set_xscale("log")
    ax.set_xticks((0.5, 1, 2, 4), ("0.5", "1", "2", "4"))
    ax.minorticks_off()
    return finish(ax, "γ σ₁(W) (dimensionless)", "rate of the product (nats per step)", f"Products of {s.product} Jacobians, N = {s.n}", columns=3)


def draw_order(s, found, ax):
    """Accuracy of each seed thin, the median thick."""
    for (name, one), colour in zip(found.items(), (COLOURS[1], COLOURS[0], COLOURS[2]), strict=True):
        ax.plot(one.fit.evaluated, one.fit.metric.T, color=colour, lw=0.6, alpha=0.5)
        ax.plot(one.fit.evaluated, np.median(one.fit.metric, 0), color=colour, lw=2.2, label=name)
    ax.axhline(0.25, color="0.4", ls=(0, (5, 4)), lw=1, label="guessing")
    return finish(ax, "training (updates)", "accuracy (share of sequences)", f"Temporal order, T = {s.length}: medians and seeds", columns=4)


def main(s):
    walls, numbers = cliff(s)
    paths, last = descents(s)
    bounds, outcomes = bounded(s), arms(s)
    claim, trained = order(s, outcomes)
    pictures = {
        "surface": lambda ax: draw_surface(s, surface(s), paths, ax), "bounds": lambda ax: draw_bounds(s, bounds, ax),
        "order": lambda ax: draw_order(s, outcomes, ax),
    }  # fmt: skip
    numbers |= {"ends": last, "scales": s.scales, "rates": {name: part[1] for name, part in bounds.items()}} | trained
    return Found([*walls, thrown(s, paths, last), *judged(s, bounds), claim], pictures, numbers, ATTEMPTS)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
