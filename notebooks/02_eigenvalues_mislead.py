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
# # 2. When eigenvalues mislead
#
# The usual criterion says: if the largest eigenvalue of the Jacobian $J_t = \partial h_t / \partial h_{t-1}$ has modulus below 1
# the gradient vanishes, if it has modulus above 1 the gradient explodes. This is true in the long run of one matrix multiplied by
# itself. A gradient is multiplied by *different* matrices and over a *finite* number of steps. What governs it is
#
# $$
# \sigma_1(J_t J_{t-1} \cdots J_{k+1}), \qquad \lambda_1 = \lim_{t \to \infty} \frac{1}{t} \ln \sigma_1(J_t \cdots J_1),
# $$
#
# the largest singular value of the product, whose exponential rate is the leading Lyapunov exponent $\lambda_1$. Below are nine
# cases in which the eigenvalues of the factors, here $\rho(J) = \max_i |\mathrm{eig}_i(J)|$, or a number that looks as innocent,
# give the wrong answer.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import bptt, cells, fixed_points, flow, linearize, lyapunov, plots, spectra, theory, unroll

jax.config.update("jax_enable_x64", True)
plt.rcParams["figure.dpi"] = 72
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"  # colours that remain distinct to colour-blind readers

# %% [markdown]
# ## 1. Both factors vanish, their product explodes
#
# $A = \begin{pmatrix} 0.5 & 2 \\ 0 & 0.5 \end{pmatrix}$ and $B = A^\top$ have spectral radius $0.5$ each. But
# $\rho(AB) = (4.5 + \sqrt{20})/2 = 4.486$: applied in turn they grow by $\frac12 \ln 4.486 = 0.7505$ nats per step.
#
# ## 2. Both factors explode, their product vanishes
#
# $\mathrm{diag}(2, 0.1)$ and $\mathrm{diag}(0.1, 2)$ have spectral radius $2$ each. Their product is $0.2 \, I$, a decay of
# $\frac12 \ln 0.2 = -0.8047$ nats per step.

# %%
A, B = jnp.array([[0.5, 2.0], [0.0, 0.5]]), jnp.array([[0.5, 0.0], [2.0, 0.5]])
C, D = jnp.diag(jnp.array([2.0, 0.1])), jnp.diag(jnp.array([0.1, 2.0]))

fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, (one, two), expected in zip(axes, ((A, B), (C, D)), (0.750488, -0.804719), strict=True):
    radius = float(spectra.spectral_radius(one))
    factors = jnp.stack([one, two] * 20)
    logs = flow.from_jacobians(factors, stride=len(factors))[:, 0]  # log of the norm of the product after 0, 1, 2, … steps
    rate = float(lyapunov.from_jacobians(jnp.stack([one, two] * 500), k=1, warmup=100).exponents[0])
    print(f"spectral radii {radius:.1f} and {float(spectra.spectral_radius(two)):.1f}, rate of the product {rate:+.6f} nats per step")
    assert abs(rate - expected) < 1e-6
    steps = np.arange(len(logs))
    ax.plot(steps, logs, color=BLUE, lw=2, label="the product")
    ax.plot(steps, np.log(radius) * steps, "--", color=RED, lw=2, label=rf"as eigenvalues say, $\rho = {radius:g}$")
    ax.axhline(0, color="0.5", lw=1)
    ax.set_xlabel("number of factors (steps)", fontsize=12)
    ax.legend(frameon=False, fontsize=11)
axes[0].set_ylabel("log norm of the product (nats)", fontsize=12)
axes[0].set_title("1. vanishing factors", fontsize=13)
title = axes[1].set_title("2. exploding factors", fontsize=13)

# %% [markdown]
# The extreme of case 1: $A = \begin{pmatrix} 0 & 2 \\ 0 & 0 \end{pmatrix}$ and $A^\top$ have no eigenvalue but zero. Fifty
# factors in turn have the norm $4^{25}$.

# %%
N = jnp.array([[0.0, 2.0], [0.0, 0.0]])
product = np.linalg.matrix_power(np.asarray(N @ N.T), 25)
print(f"ρ(A) = {float(spectra.spectral_radius(N)):.0f}, norm of the product of 50 factors: {np.linalg.norm(product, 2):.4e}")
assert np.linalg.norm(product, 2) == 4.0**25

# %% [markdown]
# ## 3. The same eigenvalues at every step, and any rate at all
#
# Turn a matrix a little further at each step: $A_t = R(\theta)^t A_0 R(\theta)^{-t}$ with
# $A_0 = \begin{pmatrix} 0.5 & 4 \\ 0 & 0.5 \end{pmatrix}$. The eigenvalues never change. In the turning frame the product is a
# power of $R(-\theta) A_0$, so that the rate is $\ln \rho(R(-\theta) A_0)$: anything from $-0.69$ to $+1.37$ nats per step,
# depending on $\theta$.

# %%
A_0 = np.array([[0.5, 4.0], [0.0, 0.5]])
angles = np.linspace(0, np.pi / 2, 41)
rotations = lambda theta, t: np.array([[np.cos(t * theta), -np.sin(t * theta)], [np.sin(t * theta), np.cos(t * theta)]])
turned = np.stack([[rotations(a, t) @ A_0 @ rotations(a, t).T for t in range(600)] for a in angles])
measured = jax.vmap(lambda jacobians: lyapunov.from_jacobians(jacobians, k=1, warmup=100).exponents[0])(jnp.asarray(turned))
exact = [np.log(np.abs(np.linalg.eigvals(rotations(a, -1) @ A_0)).max()) for a in angles]

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
ax.axhline(0, color="0.5", lw=1)
ax.plot(angles, exact, color="k", lw=1.2, label=r"$\ln\rho(R(-\theta)A_0)$")
ax.plot(angles, measured, "o", ms=5, color=BLUE, label="measured over 500 steps")
ax.axhline(np.log(0.5), color=RED, ls="--", lw=2, label=r"as eigenvalues say, $\rho = 0.5$")
ax.set_xlabel(r"turn per step $\theta$ (radians)", fontsize=12)
ax.set_ylabel("growth rate (nats per step)", fontsize=12)
ax.legend(frameon=False, fontsize=11)

for theta, known in ((0.3, -0.693), (0.7, 0.508), (np.pi / 2, 1.370)):
    rate = np.log(np.abs(np.linalg.eigvals(rotations(theta, -1) @ A_0)).max())
    print(f"θ = {theta:.2f}: {rate:+.3f} nats per step")
    assert abs(rate - known) < 6e-4
assert np.abs(np.asarray(measured) - exact).max() < np.log(100) / 500

# %% [markdown]
# ## 4. Constant, all eigenvalues below 1, and still it explodes first
#
# A matrix that is not normal (its eigenvectors are not orthogonal) may amplify for a long time before its eigenvalues rule.
# $W = \begin{pmatrix} 0.9 & 10 \\ 0 & 0.9 \end{pmatrix}$ reaches a norm of 38.7 after 9 steps. A chain of 50 units, each of which
# keeps half of itself and passes itself on, $W = 0.5\,I + \text{shift}$, reaches $6 \cdot 10^{13}$ after 96 steps and falls below
# 1 after 210. A sequence of 100 steps never sees the eigenvalues. The Kreiss constant $K$ gives a lower bound of the peak.

# %%
short, chain = jnp.array([[0.9, 10.0], [0.0, 0.9]]), 0.5 * jnp.eye(50) + jnp.eye(50, k=1)
fig, axes = plt.subplots(1, 2, figsize=(12.5, 4.6), layout="constrained")
for ax, matrix, radius, length in zip(axes, (short, chain), (0.9, 0.5), (80, 240), strict=True):
    growth = spectra.transient_growth(matrix, length=length)
    plots.transient_growth(growth, radius=radius, kreiss=float(spectra.kreiss(matrix)), ax=ax)
    peak, below = int(jnp.argmax(growth)), int(np.flatnonzero(np.asarray(growth) >= 0)[-1]) + 1
    print(f"{len(matrix):2d} units, ρ = {radius}: largest norm {float(jnp.exp(growth[peak])):.4g} at k = {peak}, below 1 from k = {below}")
    assert (peak, below) in ((9, 63), (96, 210))
    title = ax.set_title(f"4. {len(matrix)} units", fontsize=13, pad=26)

# %% [markdown]
# What eigenvalues hide, the pseudospectrum shows: the points $z$ where a small change of the matrix would put an eigenvalue, that
# is where the smallest singular value of $zI - W$ is tiny. For the chain it fills a disc of radius about 1 around its single
# eigenvalue $0.5$, far beyond the unit circle.

# %%
line = np.linspace(-1.2, 2.0, 65)
grid = line + 1j * (line[:, None] - 0.4)
fig, ax = plt.subplots(figsize=(7, 5.2), layout="constrained")
ax = plots.pseudospectrum(grid, spectra.pseudospectrum(chain, jnp.asarray(grid)), np.full(50, 0.5), ax=ax)
at = float(spectra.pseudospectrum(chain, jnp.array([1.3 + 0j]))[0])
print(f"a change of the matrix by {at:.0e} is enough for an eigenvalue at 1.3")
assert at < 1e-5

# %% [markdown]
# ## 5. The other way round: a norm above 1 at every step, and decay
#
# Nor do the singular values of the factors decide. $W = \begin{pmatrix} 0 & 1.5 \\ 0.5 & 0 \end{pmatrix}$ has $\sigma_1 = 1.5$ at
# every step, but what is amplified in one step is damped in the next: it decays at $\frac12 \ln 0.75 = -0.1438$. The bound
# $\lVert J_t \rVert \le \sigma_1$ of Pascanu, Mikolov and Bengio (2013) says what is *sufficient* for vanishing ($\sigma_1 < 1$)
# and *necessary* for exploding ($\sigma_1 > 1$), no more.

# %%
swap = jnp.array([[0.0, 1.5], [0.5, 0.0]])
logs = flow.from_jacobians(jnp.stack([swap] * 40), stride=40)[:, 0]
rate = float(lyapunov.from_jacobians(jnp.stack([swap] * 1000), k=1, warmup=100).exponents[0])
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
steps = np.arange(41)
ax.axhline(0, color="0.5", lw=1)
ax.plot(steps, np.log(1.5) * steps, ":", color=GREEN, lw=2, label=r"if every step grew by $\sigma_1 = 1.5$")
ax.plot(steps, logs, color=BLUE, lw=2, label="the product")
ax.set_xlabel("number of factors (steps)", fontsize=12)
ax.set_ylabel("log norm of the product (nats)", fontsize=12)
ax.set_title("5. expanding at every step, shrinking in the long run", fontsize=13)
ax.legend(frameon=False, fontsize=11)

print(f"σ₁ = {float(spectra.singular_values(swap)[0]):.1f}, ρ = {float(spectra.spectral_radius(swap)):.3f}, rate {rate:+.4f} nats per step")
assert abs(rate + 0.1438) < 5e-5

# %% [markdown]
# ## 6. Weights are not Jacobians
#
# It is common to read the criterion off the weights. A single unit $h_t = \tanh(4 h_{t-1})$ has the weight 4 and rests at a point
# where its slope is $0.0054$. A network of 200 units at gain $g = 1.5$ has weights of spectral radius near 1.5, and driven by
# white input of standard deviation 1 it forgets: mean-field theory expects $\lambda_1 = -0.142$.

# %%
unit = lambda w, h, x: jnp.tanh(w * h)
rest = fixed_points.find(unit, jnp.array([4.0]), jnp.array([[2.0]]))
slope = float(linearize.jacobians(unit, jnp.array([4.0]), rest.points[0], None, length=1)[0, 0, 0])
print(f"one unit of weight 4: at rest at h = {float(rest.points[0, 0]):.4f}, slope there {slope:.5f}")
assert abs(slope - 0.00539) < 5e-6

n, drive = 200, 1.0
net = cells.vanilla(n, n)
params = net.init_params(jax.random.key(4), gain=1.5) | {"W_xh": jnp.eye(n)}
xs = drive * jax.random.normal(jax.random.key(5), (1100, n))
found = lyapunov.spectrum(net.step, params, jnp.zeros(n), xs, k=1, warmup=100)
expected = float(theory.mean_field(1.5, drive).lyapunov)
of_weights = np.linalg.eigvals(params["W_hh"])
of_steps = spectra.eigenvalues(linearize.jacobians(net.step, params, jnp.zeros(n), xs[:20])[10:])
told = f"{float(found.exponents[0]):+.3f} ± {float(found.standard_errors[0]):.3f}"
print(f"ρ(W_hh) = {np.abs(of_weights).max():.2f}, λ₁ = {told}, theory {expected:+.3f}")
assert np.abs(of_weights).max() > 1.4
assert abs(found.exponents[0] - expected) < 0.02

fig, ax = plt.subplots(figsize=(6.6, 4.8), layout="constrained")
ax.plot(of_weights.real, of_weights.imag, "o", ms=4, mfc="none", color=RED, label=r"of $W_{hh}$")
ax.plot(np.ravel(of_steps).real, np.ravel(of_steps).imag, ".", ms=2.5, color=BLUE, label=r"of ten Jacobians $J_t$")
ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="k", ls="--"))
ax.set_aspect("equal")
ax.set_xlabel("real part (dimensionless)", fontsize=12)
ax.set_ylabel("imaginary part (dimensionless)", fontsize=12)
ax.set_title("6. eigenvalues, and the unit circle", fontsize=13)
legend = ax.legend(frameon=False, fontsize=11, loc="upper left", bbox_to_anchor=(1, 1), markerscale=2)

# %% [markdown]
# ## 7. The mean is not typical
#
# Let each factor be 2 or 0.4 with equal chance. The mean factor is 1.2, so the mean of a product of 100 is
# $1.2^{100} = 8.3 \cdot 10^{7}$. The median is $0.8^{50} = 1.4 \cdot 10^{-5}$. What adds up is the logarithm. Six tenths of the
# mean come from products with 83 twos or more, whose probability is $7 \cdot 10^{-12}$: no sample holds one. So report quantiles
# of log-norms, never a mean of norms.

# %%
factors = jnp.where(jax.random.bernoulli(jax.random.key(7), 0.5, (100, 20_000)), 2.0, 0.4)
logs = np.asarray(jnp.log(factors).sum(0))
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
values, counts = np.unique(logs.round(6), return_counts=True)
ax.bar(values, counts / len(logs), width=1.3, color=BLUE)
ax.axvline(50 * np.log(0.8), color="k", ls="--", label="median")
ax.axvline(100 * np.log(1.2), color=RED, ls="-.", label="log of the mean")
ax.set_xlabel("log of the product of 100 factors (nats)", fontsize=12)
ax.set_ylabel("share of 20,000 products", fontsize=12)
ax.set_title("7. mean and median of a product", fontsize=13)
ax.legend(frameon=False, fontsize=11)

print(f"median {np.exp(np.median(logs)):.2e}, mean {1.2**100:.2e}, share of products above the mean: {np.mean(logs > 100 * np.log(1.2)):.5f}")
assert abs(np.median(logs) - 50 * np.log(0.8)) < 1e-9
assert np.mean(np.exp(logs)) < 0.5 * 1.2**100

# %% [markdown]
# ## 8. A healthy gradient may hold no long lag at all
#
# With a loss at every step the short lags dominate $\partial L / \partial W$. Here no Jacobian has a norm above $0.5$: whatever
# is 50 steps away contributes less than $10^{-12}$ of the terms, and the norm of the gradient shows nothing of it. Measure per
# lag.

# %%
model = cells.with_readout(cells.vanilla(2, 16, init="orthogonal"), 1)
params = model.init_params(jax.random.key(8), gain=0.5)
loss = cells.readout_loss(model, lambda prediction, target: jnp.sum((prediction - target) ** 2))
xs, ys = jax.random.normal(jax.random.key(9), (100, 2)), jax.random.normal(jax.random.key(10), (100, 1))
parts = bptt.decompose(model.step, params, model.init_state(params), xs, ys, loss)
norms = {name: float(jnp.linalg.norm(leaf)) for name, leaf in parts.total.items()}
print("norms of the gradient:", {name: round(norm, 2) for name, norm in norms.items()})
print(f"share of its terms at lags of 50 and more: {float(parts.lag_share[50]):.0e}")
assert norms["W_hh"] > 0.1 * norms["W_hy"]
assert 0 < parts.lag_share[50] < 1e-12

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
ax = plots.lag_share(parts.lag_share, ax=ax)
title = ax.set_title("8. share of the gradient's terms at this lag or longer ones", fontsize=13)

# %% [markdown]
# ## 9. An exponent near zero is not the end
#
# One linear unit $h_t = \lambda h_{t-1} + x_t$ under white input. As $\lambda \to 1$ its exponent $\ln \lambda$ tends to 0,
# neither vanishing nor exploding. But the derivative of the state by its own decay has the variance
#
# $$
# E \left( \frac{dh}{d\lambda} \right)^2 = \frac{1 + \lambda^2}{(1 - \lambda^2)^3} ,
# $$
#
# 264 at $\lambda = 0.9$ and 251,256 at $0.99$. Zucchet and Orvieto (2024) call it the curse of memory: the longer the memory, the
# more a small change of the weights matters, although no gradient explodes through time.

# %%
decays = jnp.array([0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99])
noise = jax.random.normal(jax.random.key(11), (2000, 500))  # 500 units, which differ in their input
last = lambda decay: unroll.states(lambda p, h, x: p * h + x, decay, jnp.zeros(500), noise)[-1]
derivative = jax.vmap(lambda decay: jax.jvp(last, (decay,), (jnp.ones(()),))[1])(decays)
simulated = np.mean(np.asarray(derivative) ** 2, 1)
known = np.asarray(theory.curse_of_memory(decays).sensitivity)

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
ax.plot(-jnp.log(decays), known, "k-", label=r"$(1+\lambda^2)/(1-\lambda^2)^3$")
ax.plot(-jnp.log(decays), simulated, "o", color=BLUE, label="500 simulated units")
ax.set(xscale="log", yscale="log")
ax.invert_xaxis()
ax.set_xlabel(r"decay rate $-\ln\lambda$ (nats per step)", fontsize=12)
ax.set_ylabel(r"$E\,(dh/d\lambda)^2$", fontsize=12)
ax.set_title("9. the curse of memory", fontsize=13)
ax.legend(frameon=False, fontsize=11)

for decay, one, other in zip(decays, simulated, known, strict=True):
    print(f"λ = {decay:.2f}: simulated {one:12,.1f}, exact {other:12,.1f}")
assert np.abs(simulated / known - 1).max() < 4 * np.sqrt(2 / 500)

# %% [markdown]
# ## What to use instead
#
# | question | quantity | call |
# |---|---|---|
# | does the gradient vanish or explode in the long run? | Lyapunov exponents, with their errors | `lyapunov.spectrum` |
# | what happens over *these* steps? | log singular values of the product | `flow.log_transport`, `spectra.product_log_singular_values` |
# | which lags does the gradient hear? | its terms $(t, k)$, by lag | `bptt.decompose` |
# | what happens before the eigenvalues rule? | transient growth, Kreiss constant, pseudospectrum | `spectra.transient_growth`, `.kreiss` |
# | how sensitive is a long memory? | variance of the derivative | `theory.curse_of_memory` |
#
# `diagnosis.diagnose` prints the eigenvalue criterion beside its verdict and says where the two disagree.
