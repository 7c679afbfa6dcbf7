# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. Sweeps and phase diagrams
#
# Where in the space of parameters do gradients survive? That takes one computation at each of many points. This notebook runs
# such a sweep, interrupts it, resumes it, labels the results, and puts the line of theory on the map.
#
# The example: tanh networks $h_t = \tanh(W h_{t-1} + x_t)$ with $W_{ij}$ of variance $g^2/n$ and white input of standard
# deviation $s$. For $n \to \infty$ their leading exponent is zero on a line $s_c(g)$ between forgetting and chaos.

# %%
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import lyapunov, plots, sweep, theory

jax.config.update("jax_enable_x64", True)
plt.rcParams["figure.dpi"] = 72

# %% [markdown]
# ## A point and a grid
#
# A *point* is a function of named numbers. It returns arrays, one or a dictionary of them. Where it asks for a `key`, it gets a
# random key that follows from the names and values of its point alone: neither other points nor the size of the batches change
# what it finds.
#
# A *grid* is every combination of values on named axes. An axis given as an array is traced, so that all its values share one
# compilation. Any other sequence is static, one compilation for each value: what changes shapes, such as the number of units.


# %%
def point(gain, input_sd, seed, n, key):
    """The leading exponent of one random network."""
    of_weights, of_inputs = jax.random.split(key)
    weights = gain * jax.random.normal(of_weights, (n, n)) / np.sqrt(n)
    xs = input_sd * jax.random.normal(of_inputs, (400, n))
    found = lyapunov.spectrum(lambda W, h, x: jnp.tanh(W @ h + x), weights, jnp.ones(n), xs, k=1, warmup=100)
    return {"exponent": found.exponents[0], "standard_error": found.standard_errors[0]}


grid = sweep.grid(gain=np.linspace(0.5, 2.5, 13), input_sd=np.linspace(0.0, 1.8, 9), seed=np.arange(3), n=(64,))
print(f"{len(grid)} points; traced axes: {', '.join(grid.traced)}; the last point: {grid[len(grid) - 1]}")
assert len(grid) == 13 * 9 * 3

# %% [markdown]
# ## Interrupt and resume
#
# With `store=` every batch is kept as it comes, in files that appear whole or not at all. Here a callback stops the sweep after
# 100 points, as a power cut would. Run again on the same folder, the sweep computes what is missing and nothing else. The results
# are equal, to the bit, to those of a run without interruption.

# %%
folder = tempfile.TemporaryDirectory()
seen = []


def power_cut(done, points, failed):
    """Stop after a hundred points."""
    seen.append(done)
    if done >= 100:
        raise KeyboardInterrupt


try:
    sweep.run(point, grid, batch_size=39, store=folder.name, progress=power_cut)
except KeyboardInterrupt:
    print(f"interrupted after {seen[-1]} of {len(grid)} points")

again = []
resumed = sweep.run(point, grid, batch_size=39, store=folder.name, progress=lambda done, points, failed: again.append(done))
folder.cleanup()
print(f"resumed, and went on with {again[0]} of {len(grid)} points after its first batch")
print(f"{len(resumed.failures)} failures, {len(resumed.nonfinite)} results not finite")
assert seen[-1] < len(grid)
assert again[0] > seen[-1]
assert again[-1] == len(grid)

uncut = sweep.run(point, grid, batch_size=39)
same = all(np.array_equal(uncut.results[name], resumed.results[name]) for name in uncut.results)
print("equal to an uninterrupted run, bit for bit:", same)
assert same

# %% [markdown]
# ## Labelled results
#
# `to_xarray` gives the results with the axes of the grid as named dimensions, so that one can write what one means: the mean over
# seeds, at the gain nearest to 2.

# %%
data = resumed.to_xarray(units={"exponent": "nats per step", "gain": "1", "input_sd": "1"})
mean = data.exponent.mean("seed").squeeze("n", drop=True)
print("dimensions:", dict(data.sizes))
print("mean λ₁ at the gain nearest to 2, over input_sd:")
print(np.round(mean.sel(gain=2.0, method="nearest").values, 3))
assert mean.dims == ("gain", "input_sd")

# %% [markdown]
# ## The phase diagram
#
# Colour is the mean of three networks of 64 units. The full line is where the measured exponent is zero, the dashed one where
# mean-field theory of infinitely wide networks has it,
#
# $$
# g^2 \, E \, \mathrm{sech}^4(\sqrt q z) = 1, \qquad q = g^2 \, E \tanh^2(\sqrt q z) + s_c^2 , \qquad z \sim N(0, 1).
# $$
#
# The measured line lies at somewhat larger gains: 64 units are few, and chaos sets in later than at infinite width.

# %%
gains = np.linspace(1.0, 2.5, 61)[1:]
line = np.stack([gains, np.asarray(jax.vmap(theory.critical_input_sd)(gains))], 1)
fig, ax = plt.subplots(figsize=(7.6, 5), layout="constrained")
labels = ("gain g (dimensionless)", "input standard deviation s (dimensionless)", "leading exponent λ₁ (nats per step)")
ax = plots.sweep_map(data.gain.values, data.input_sd.values, mean.values, labels=labels, expected=line, ax=ax)

expected = jax.vmap(lambda g: jax.vmap(lambda s: theory.mean_field(g, s).lyapunov)(data.input_sd.values))(data.gain.values)
off = np.abs(mean.values - np.asarray(expected))
driven = off[:, 3:]  # input of 0.675 and more
print(f"against mean-field theory: median difference {np.median(off):.3f}, at input of 0.675 and more at most {driven.max():.3f} nats per step")
assert abs(theory.critical_input_sd(2.0) - 1.279) < 1e-3
assert driven.max() < 0.08

# %% [markdown]
# ## A static axis: how wide is wide
#
# The same point over the number of units, which changes shapes and is therefore static. With width the exponent settles at the
# theory's value, and the scatter between networks falls.

# %%
widths = (8, 16, 32, 64, 128)
wider = sweep.run(point, sweep.grid(gain=np.array([2.0]), input_sd=np.array([0.5]), seed=np.arange(12), n=widths), batch_size=12)
by_width = wider.shaped("exponent")[0, 0].T  # (widths, seeds)
limit = float(theory.mean_field(2.0, 0.5).lyapunov)

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
labels = ("units n (dimensionless)", "leading exponent λ₁ (nats per step)")
ax = plots.sweep_lines(
    np.array(widths, float), by_width[None], labels=labels, names=["12 networks, g = 2, s = 0.5"], expected=[limit] * len(widths), ax=ax
)
ax.set_xscale("log", base=2)
ax.set_xticks(widths, [str(width) for width in widths])

for width, exponents in zip(widths, by_width, strict=True):
    print(f"n = {width:3d}: λ₁ = {exponents.mean():+.3f}, scatter between networks {exponents.std():.3f}; theory {limit:+.3f} nats per step")
assert by_width[-1].std() < 0.5 * by_width[0].std()
assert abs(by_width[-1].mean() - limit) < 0.03

# %% [markdown]
# ## Points that fail
#
# A point that raises is listed with its message, and the others arrive. A result that is not finite is kept and listed too. In a
# sweep of thousands of points neither may be lost silently, nor stop the rest.


# %%
def fragile(width):
    """One divided by the width, which must not be negative."""
    if width < 0:
        raise ValueError(f"a width of {width} makes no sense")
    return jnp.ones(()) / width


found = sweep.run(fragile, sweep.grid(width=[2, 0, -1, 4]), compiled=False)
for failure in found.failures:
    print("failed:", failure.values, "|", failure.message)
print("not finite:", [found.grid[i] for i in found.nonfinite])
print("results by name:", sorted(found.results))
assert len(found.failures) == 1
assert len(found.nonfinite) == 1

# %% [markdown]
# ## Larger ones
#
# * `sweep.run(..., client=8)` computes in 8 processes of this machine, `client="tcp://HOST:PORT"` on a Dask cluster. The results
#   are the same.
# * `sweep.random(points, gain=(0.5, 2.5), ...)` draws points instead of a grid.
# * `jaxrnn sweep phase-diagram --out phases` makes the diagram above from 5,000 networks of 200 units, and `--resume` goes on
#   after a kill.
# * `docs/sweeps.md` says what is stored, sent and lost at a million points.
