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
# # 3. Lyapunov exponents from zero
#
# Gradients through time are multiplied by products of Jacobians $J_T \cdots J_2 J_1$. Such a product has $n$ singular values, and
# each grows or decays exponentially. Their rates are the Lyapunov exponents
#
# $$
# \lambda_i = \lim_{T \to \infty} \frac{1}{T} \ln \sigma_i(J_T \cdots J_1), \qquad \lambda_1 \ge \lambda_2 \ge \dots \ge \lambda_n ,
# $$
#
# in nats per step. This notebook computes them by hand, then with `jaxrnn`, and compares both with systems whose exponents are
# known.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import lyapunov, plots, spectra, theory

jax.config.update("jax_enable_x64", True)
plt.rcParams["figure.dpi"] = 72
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"  # colours that remain distinct to colour-blind readers

# %% [markdown]
# ## Why not simply multiply
#
# Take random matrices of 64 units with entries of variance $g^2/n$ and multiply them. The numbers soon leave the range that a
# computer can hold: about $10^{\pm 38}$ in single precision, $10^{\pm 308}$ in double. Whoever takes a Frobenius norm, a sum of
# squares, leaves it after half as many steps.

# %%
rng = np.random.default_rng(0)
n, T = 64, 1200
matrices = rng.normal(size=(T, n, n)) / np.sqrt(n)
fig, ax = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
ends = {}
for gain, colour in ((3.0, RED), (0.5, BLUE)):
    for dtype, style in ((np.float32, "-"), (np.float64, "--")):
        product, logs = np.eye(n, dtype=dtype), []
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            for matrix in matrices:
                product = (gain * matrix).astype(dtype) @ product
                if not np.isfinite(product).all() or not product.any():
                    break
                logs.append(np.log(np.abs(product).max()))
        ends[gain, dtype] = len(logs) + 1
        ax.plot(np.arange(1, len(logs) + 1), logs, style, color=colour, lw=2, label=f"gain {gain:g}, {np.dtype(dtype).name}")
        ax.plot(len(logs), logs[-1], "X", ms=9, color=colour)
        print(f"gain {gain:g}, {np.dtype(dtype).name}: {'overflows' if gain > 1 else 'is zero'} at step {ends[gain, dtype]}")
ax.set_xlabel("number of factors (steps)", fontsize=12)
ax.set_ylabel("log of the largest entry (nats)", fontsize=12)
ax.set_title("Explicit products end (crosses)", fontsize=13)
ax.legend(frameon=False, fontsize=11)
assert 75 < ends[3.0, np.float32] < 90
assert 620 < ends[3.0, np.float64] < 680

# %% [markdown]
# Dividing by the norm at every step saves the largest singular value, and only that one. The small ones drown: a double holds 16
# digits, so that everything below $10^{-16} \sigma_1$ is rounding. For 20 units and 60 steps the singular value decomposition of
# the explicit product already misses the smallest rate by more than 1 nat per step.

# %%
few = rng.normal(size=(60, 20, 20)) / np.sqrt(20)
direct = np.eye(20)
for matrix in few:
    direct = matrix @ direct
by_svd = np.log(np.linalg.svd(direct, compute_uv=False)) / len(few)
right = np.asarray(spectra.product_log_singular_values(jnp.asarray(few)).logs) / len(few)
print(f"smallest rate: {by_svd[-1]:.3f} from the explicit product, {right[-1]:.3f} in truth")
assert abs(by_svd[0] - right[0]) < 1e-10
assert by_svd[-1] > right[-1] + 1

# %% [markdown]
# ## By hand: push a frame, orthonormalise, add logarithms
#
# The way out (Benettin and others, 1980): carry $n$ orthonormal vectors $Q$ instead of the product. At each step push them by
# $J_t$ and orthonormalise again,
#
# $$
# J_t Q_{t-1} = Q_t R_t, \qquad \lambda_i \approx \frac{1}{T} \sum_{t=1}^{T} \ln |R_{t,ii}| .
# $$
#
# The diagonal of $R_t$ holds by how much each direction grew in this step. Only logarithms are added, nothing overflows, and each
# direction keeps its digits. For independent Gaussian matrices Newman (1986) knows the answer, with $\psi$ the digamma function:
# $\lambda_i = \frac12 \left[ \ln\frac{2 g^2}{n} + \psi\left(\frac{n - i + 1}{2}\right) \right]$.

# %%
n, T = 12, 4000
jacobians = rng.normal(size=(T, n, n)) / np.sqrt(n)
Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
sums = np.zeros(n)
for J in jacobians:
    Q, R = np.linalg.qr(J @ Q)
    sums += np.log(np.abs(np.diag(R)))
by_hand = np.sort(sums / T)[::-1]

found = lyapunov.from_jacobians(jnp.asarray(jacobians))
newman = np.asarray(theory.newman_exponents(n, 1 / np.sqrt(n)))
errors = np.asarray(found.standard_errors)
print("by hand against lyapunov.from_jacobians, largest difference:", f"{np.abs(by_hand - found.exponents).max():.4f}")
print("against theory, in standard errors:", np.round((np.asarray(found.exponents) - newman) / errors, 1))
assert np.abs(by_hand - found.exponents).max() < 50 / T  # other starting frames: O(1/T)
assert np.abs((found.exponents - newman) / errors).max() < 4

fig, ax = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
ax = plots.lyapunov_spectrum(found.exponents, errors, theory=newman, ax=ax)

# %% [markdown]
# ## Standard errors
#
# An exponent is a mean over time and has an error. `jaxrnn` cuts the run into blocks and takes the error from the scatter of the
# block means. Whether such an error is right can be tested: repeat the measurement, and count how often the truth lies within two
# standard errors. It should be about 95 %. The error contains a factor for the memory from block to block, estimated from the
# same blocks. Independent matrices have no such memory, and there the factor errs on the safe side.

# %%
runs = jax.random.normal(jax.random.key(0), (300, 1000, 4, 4)) / 2
repeated = jax.vmap(lambda J: lyapunov.from_jacobians(J, k=1))(runs)
z = np.asarray((repeated.exponents - theory.newman_exponents(4, 0.5)[0]) / repeated.standard_errors)[:, 0]
scatter, told = float(repeated.exponents.std()), float(repeated.standard_errors.mean())
print(f"scatter of 300 exponents {scatter:.4f}, mean standard error {told:.4f}")
print(f"share within two standard errors: {np.mean(np.abs(z) < 2):.1%}")
assert abs(told / scatter - 1) < 0.15
assert 0.9 < np.mean(np.abs(z) < 2) < 0.99

# %% [markdown]
# ## Two classical maps
#
# `lyapunov.spectrum` takes any function `step(params, state, x) -> state` and pushes the frame through it, without forming a
# Jacobian. The logistic map $h_t = r h_{t-1}(1 - h_{t-1})$ has $\lambda = \ln 2$ at $r = 4$. For other $r$ it is periodic
# ($\lambda < 0$) or chaotic ($\lambda > 0$), in windows that follow each other closely.

# %%
logistic = lambda r, h, x: r * h * (1 - h)
values = jnp.linspace(2.8, 4.0, 601)
rate = jax.vmap(lambda r: lyapunov.spectrum(logistic, r, jnp.array(0.3), None, length=3000, warmup=500).exponents[0])(values)
orbit = lyapunov.spectrum(logistic, 4.0, jnp.array(0.3), None, length=50_000, warmup=100)

fig, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
ax.axhline(0, color="0.5", lw=1)
ax.plot(values, np.clip(rate, -2, None), lw=0.9, color=BLUE)
ax.plot(4, np.log(2), "o", color=RED, label=r"$\ln 2$ at $r = 4$")
ax.set_ylim(-2, 0.9)
ax.set_xlabel("parameter $r$ (dimensionless)", fontsize=12)
ax.set_ylabel("Lyapunov exponent (nats per step)", fontsize=12)
ax.set_title("Logistic map (cut at −2)", fontsize=13)
ax.legend(frameon=False, fontsize=11, loc="lower right")

print(f"logistic map at r = 4: {float(orbit.exponents[0]):.5f} ± {float(orbit.standard_errors[0]):.5f}, ln 2 = {np.log(2):.5f}")
assert abs(orbit.exponents[0] - np.log(2)) < 4 * orbit.standard_errors[0]

# %% [markdown]
# The Hénon map $(u, v) \mapsto (1 - 1.4 u^2 + v,\; 0.3 u)$ has two exponents. Each step shrinks areas by exactly 0.3, so that
# $\lambda_1 + \lambda_2 = \ln 0.3$ must hold to rounding: the determinant is a check that needs no reference. The dimension of
# its attractor by the formula of Kaplan and Yorke is $1 + \lambda_1 / |\lambda_2|$.

# %%
henon = lambda p, h, x: jnp.array([1 - p[0] * h[0] ** 2 + h[1], p[1] * h[0]])
orbit = lyapunov.spectrum(henon, jnp.array([1.4, 0.3]), jnp.array([0.1, 0.1]), None, length=50_000, warmup=1000)
lead, fall = orbit.exponents
print(f"Hénon map: λ₁ = {float(lead):.4f} ± {float(orbit.standard_errors[0]):.4f} (known: 0.4192), λ₂ = {float(fall):.4f}")
print(f"λ₁ + λ₂ − ln 0.3 = {float(lead + fall - np.log(0.3)):.0e}, dimension {float(lyapunov.kaplan_yorke(orbit.exponents)):.3f}")
assert abs(lead + fall - np.log(0.3)) < 1e-12
assert abs(lead - 0.4192) < 0.00005 + 4 * orbit.standard_errors[0]

# %% [markdown]
# ## Random networks against mean-field theory
#
# The network $h_t = \tanh(W h_{t-1})$, with $W_{ij}$ of variance $g^2/n$, forgets for $g < 1$ and is chaotic for $g > 1$ when
# $n \to \infty$. There the pre-activations are Gaussian of variance $q$, and (Molgedey, Schuchhardt, Schuster 1992)
#
# $$
# q = g^2 \, E \tanh^2(\sqrt q z), \qquad \lambda_1 = \ln \left( g \sqrt{E \, \mathrm{sech}^4(\sqrt q z)} \right), \qquad z \sim N(0, 1).
# $$
#
# White input of standard deviation $s$ adds $s^2$ to $q$. It drives the units into saturation, where their slopes are small:
# strong input suppresses chaos. A gradient that explodes in the free network can vanish in the same network under input.

# %%
n, steps = 200, 800
W = jax.random.normal(jax.random.key(1), (n, n)) / np.sqrt(n)
start, noise = jax.random.normal(jax.random.key(2), (n,)), jax.random.normal(jax.random.key(3), (steps, n))
tanh_step = lambda weights, h, x: jnp.tanh(weights @ h + x)
leading = lambda gain, sd: lyapunov.spectrum(tanh_step, gain * W, start, sd * noise, k=1, warmup=200)

gains, sds = np.array([0.6, 0.9, 1.2, 1.6, 2.0, 2.5, 3.0]), np.array([0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8])
free, driven = [leading(g, 0.0) for g in gains], [leading(2.0, s) for s in sds]

fig, axes = plt.subplots(1, 2, figsize=(11.5, 4.4), layout="constrained")
fine = (np.linspace(0.5, 3.1, 100), np.linspace(0, 1.9, 100))
in_theory = (jax.vmap(lambda g: theory.mean_field(g).lyapunov)(fine[0]), jax.vmap(lambda s: theory.mean_field(2.0, s).lyapunov)(fine[1]))
for ax, at, curve, x, runs in zip(axes, fine, in_theory, (gains, sds), (free, driven), strict=True):
    ax.axhline(0, color="0.5", lw=1)
    ax.plot(at, curve, "k-", lw=1.5, label="mean-field theory")
    shown = np.array([float(run.exponents[0]) for run in runs]), np.array([2 * float(run.standard_errors[0]) for run in runs])
    ax.errorbar(x, *shown, fmt="o", color=BLUE, capsize=3, label="200 units, ± 2 errors")
axes[0].set_xlabel("gain $g$ (dimensionless)", fontsize=12)
axes[0].set_title("without input", fontsize=13)
axes[1].set_xlabel("standard deviation $s$ of the input (dimensionless)", fontsize=12)
axes[1].set_title("gain 2 under white input", fontsize=13)
axes[0].set_ylabel("leading exponent (nats per step)", fontsize=12)
axes[0].legend(frameon=False, fontsize=11, loc="lower right")
critical = float(theory.critical_input_sd(2.0))
axes[1].axvline(critical, color=RED, ls="--", label=f"chaos ends at s = {critical:.3f}")
axes[1].legend(frameon=False, fontsize=11, loc="lower left")

for name, x, runs in (("g", gains, free), ("s", sds, driven)):
    print(f"{name}:", *(f"{value:6.1f}" for value in x))
    print("λ₁", *(f"{float(run.exponents[0]):+6.3f}" for run in runs))
assert abs(critical - 1.279) < 1e-3
assert abs(free[4].exponents[0] - theory.mean_field(2.0).lyapunov) < 0.06
assert free[2].exponents[0] < 0.005
assert driven[0].exponents[0] > 0.05 > -0.05 > driven[-1].exponents[0]
assert all(abs(run.exponents[0] - theory.mean_field(2.0, s).lyapunov) < 0.03 for s, run in zip(sds[1:], driven[1:], strict=True))

# %% [markdown]
# Just above $g = 1$ a network of 200 units need not be chaotic yet, whatever the theory of infinite width says: at $g = 1.2$ this
# one is not.
#
# ## The whole spectrum
#
# Leading exponents tell whether a gradient survives; the others tell along how many directions. In a chaotic network of 100 units
# at $g = 3$ only a few directions grow. The sum of all exponents is again known exactly, from the determinant of $W$ and the
# slopes of the units: $\sum_i \lambda_i = \ln|\det W| + \sum_i \langle \ln(1 - h_i^2) \rangle$.

# %%
n = 100
weights = 3 * W[:n, :n] * np.sqrt(200 / n)
chaotic = lyapunov.spectrum(tanh_step, weights, start[:n], jnp.zeros((700, n)), warmup=200)
positive = int((chaotic.exponents > 0).sum())
print(f"{positive} of {n} exponents are positive; dimension {float(lyapunov.kaplan_yorke(chaotic.exponents)):.1f},", end=" ")
print(f"entropy rate {float(lyapunov.entropy_rate(chaotic.exponents)):.2f} nats per step")
assert 5 < positive < 30

fig, ax = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
ax = plots.lyapunov_spectrum(chaotic.exponents, chaotic.standard_errors, ax=ax)
line = ax.axhline(0, color="0.5", lw=1)
mean = float(chaotic.exponents.mean())
print(f"mean of all exponents {mean:.3f}, mean-field theory {float(theory.mean_field(3.0).mean_exponent):.3f} nats per step")
assert abs(mean - theory.mean_field(3.0).mean_exponent) < 0.15

# %% [markdown]
# ## What to keep
#
# * Never form a long product. Carry an orthonormal frame and add logarithms.
# * An exponent without an error is half a result. `lyapunov.until` runs until a wanted error is reached.
# * Chaotic systems need double precision; single precision carries $\lambda_1$ of forgetting ones.
# * The exponent belongs to the network *and its input*.
