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
# # 1. From the chain rule to the heat map
#
# A recurrent network uses the same weights at every step, so one weight acts on the loss along many paths. This notebook writes
# the gradient as a sum over those paths, computes every term by hand in NumPy, computes the same terms with `jaxrnn`, checks that
# both sum to what `jax.grad` returns, and draws the terms as a heat map.
#
# The network has $n$ hidden units $h_t$, inputs $x_t$, outputs $\hat y_t$ and a squared error at every step:
#
# $$
# h_t = \tanh(W_{hh} h_{t-1} + W_{xh} x_t + b_h), \qquad
# \hat y_t = W_{hy} h_t + b_y, \qquad
# L = \sum_{t=1}^{T} L_t, \qquad L_t = \lVert \hat y_t - y_t \rVert^2 .
# $$

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import bptt, cells, flow, linearize, lyapunov, plots, unroll

jax.config.update("jax_enable_x64", True)
plt.rcParams["figure.dpi"] = 72

# %% [markdown]
# A small one: 3 units, 2 inputs, 12 steps, random weights. The biases are made different from zero so that nothing cancels by
# accident.

# %%
n, n_in, T = 3, 2, 12
cell = cells.with_readout(cells.vanilla(n_in, n), 1)
params = cell.init_params(jax.random.key(0), gain=1.2) | {"b_h": jnp.array([0.3, -0.2, 0.1]), "b_y": jnp.array([0.2])}
h_0 = cell.init_state(params)
xs = jax.random.normal(jax.random.key(1), (T, n_in))
ys = jnp.sin(jnp.arange(T))[:, None]

for name, leaf in params.items():
    print(name, leaf.shape)

# %% [markdown]
# ## The double sum
#
# The loss $L_t$ depends on $h_t$, which depends on $h_{t-1}$, and so on down to $h_0$. At each of those steps $k \le t$ the
# matrix $W_{hh}$ acted once. Write $\partial^{+} h_k / \partial W_{hh}$ for what $W_{hh}$ does at step $k$ alone, with $h_{k-1}$
# held fixed. Then
#
# $$
# \frac{\partial L}{\partial W_{hh}} = \sum_{t=1}^{T} \sum_{k=1}^{t}
# \frac{\partial L_t}{\partial \hat y_t} \frac{\partial \hat y_t}{\partial h_t} \frac{\partial h_t}{\partial h_k}
# \frac{\partial^{+} h_k}{\partial W_{hh}} ,
# \qquad
# \frac{\partial L}{\partial W_{xh}} = \sum_{t=1}^{T} \sum_{k=1}^{t}
# \frac{\partial L_t}{\partial \hat y_t} \frac{\partial \hat y_t}{\partial h_t} \frac{\partial h_t}{\partial h_k}
# \frac{\partial^{+} h_k}{\partial W_{xh}} .
# $$
#
# Some texts number the loss $t + 1$ where we write $t$; the terms are the same. The two sums differ in their last factor only.
# The factor in the middle is itself a chain rule, a product of Jacobian matrices:
#
# $$
# \frac{\partial h_t}{\partial h_k} = J_t \, J_{t-1} \cdots J_{k+1}, \qquad
# J_j = \frac{\partial h_j}{\partial h_{j-1}} = \mathrm{diag}(1 - h_j^2) \, W_{hh} .
# $$
#
# For $t = k$ the product is empty, the identity. For example $\partial h_3 / \partial h_1 = J_3 J_2$.

# %%
W_hh, W_xh, b_h, W_hy, b_y = (np.asarray(params[name]) for name in ("W_hh", "W_xh", "b_h", "W_hy", "b_y"))
x, y = np.asarray(xs), np.asarray(ys)

h = [np.asarray(h_0)]
for t in range(1, T + 1):
    h.append(np.tanh(W_hh @ h[t - 1] + W_xh @ x[t - 1] + b_h))  # x[t − 1] is x_t: Python counts from 0
J = [None] + [np.diag(1 - h[t] ** 2) @ W_hh for t in range(1, T + 1)]

by_chain = J[3] @ J[2]
two_steps = lambda h_1: cell.step(params, cell.step(params, h_1, xs[1]), xs[2])
by_jax = jax.jacfwd(two_steps)(jnp.asarray(h[1]))

print("∂h_3/∂h_1 as J_3 J_2:")
print(by_chain.round(4))
print("largest difference from jax.jacfwd through both steps:", f"{np.abs(by_chain - by_jax).max():.0e}")
assert np.abs(by_chain - by_jax).max() < 1e-14

# %% [markdown]
# ## Every term by hand
#
# A loop over $t$, and inside it a loop over $k = t, t-1, \dots, 1$ that multiplies one more Jacobian each time. With
# $\delta = \frac{\partial L_t}{\partial \hat y_t} \frac{\partial \hat y_t}{\partial h_t} \frac{\partial h_t}{\partial h_k} \mathrm{diag}(1 - h_k^2)$,
# a row vector, the term $(t, k)$ is the outer product $\delta^\top h_{k-1}^\top$ for $W_{hh}$ and $\delta^\top x_k^\top$ for
# $W_{xh}$.

# %%
terms_hh = np.zeros((T, T, n, n))
terms_xh = np.zeros((T, T, n, n_in))
for t in range(1, T + 1):
    to_state = 2 * (W_hy @ h[t] + b_y - y[t - 1]) @ W_hy  # ∂L_t/∂ŷ_t ∂ŷ_t/∂h_t
    product = np.eye(n)  # ∂h_t/∂h_t
    for k in range(t, 0, -1):
        delta = (to_state @ product) * (1 - h[k] ** 2)
        terms_hh[t - 1, k - 1] = np.outer(delta, h[k - 1])
        terms_xh[t - 1, k - 1] = np.outer(delta, x[k - 1])
        product = product @ J[k]  # now ∂h_t/∂h_{k−1}

squared = lambda prediction, target: jnp.sum((prediction - target) ** 2)
loss = cells.readout_loss(cell, squared)


def total_loss(p):
    """The sum of the losses over all steps."""
    states = unroll.states(cell.step, p, h_0, xs)
    return jnp.sum(jax.vmap(loss, (None, 0, 0, 0))(p, states, xs, ys))


gradient = jax.grad(total_loss)(params)
for name, terms in (("W_hh", terms_hh), ("W_xh", terms_xh)):
    off = np.abs(terms.sum((0, 1)) - gradient[name]).max()
    print(f"{T * (T + 1) // 2} terms of ∂L/∂{name} sum to jax.grad within {off:.0e}")
    assert off < 1e-12

# %% [markdown]
# ## The same terms with `jaxrnn`
#
# `bptt.decompose` does this for every parameter of any `step(params, state, x) -> state`, without forming a single product of
# matrices. It returns the logarithm of the size of each term, because a product of many Jacobians soon leaves the range of
# floating point numbers.

# %%
parts = bptt.decompose(cell.step, params, h_0, xs, ys, loss)

for name, terms in (("W_hh", terms_hh), ("W_xh", terms_xh)):
    sizes = np.linalg.norm(terms, axis=(2, 3))
    there = sizes > 0
    off_terms = np.abs(np.exp(parts.log_norms[name]) - sizes)[there].max()
    off_total = np.abs(parts.total[name] - gradient[name]).max()
    print(f"{name}: sizes of the terms agree within {off_terms:.0e}, their sum with jax.grad within {off_total:.0e}")
    assert off_terms < 1e-12
    assert off_total < 1e-12

# %% [markdown]
# ## The heat map
#
# Row $t$ is the step whose loss is differentiated, column $k$ the step at which the weight acted. The diagonal is the direct
# effect; the further to the left, the longer the lag $t - k$ that the error had to travel. The terms of $W_{hh}$ at $k = 1$ are
# exactly zero, because $h_0 = 0$, and are left blank.

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharey=True)
shown = [np.where(np.isfinite(parts.log_norms[name]), parts.log_norms[name], np.nan) / np.log(10) for name in ("W_hh", "W_xh")]
low, high = min(np.nanmin(s) for s in shown), max(np.nanmax(s) for s in shown)
for ax, name, values in zip(axes, ("W_{hh}", "W_{xh}"), shown, strict=True):
    mesh = ax.pcolormesh(np.arange(1, T + 1), np.arange(1, T + 1), values, vmin=low, vmax=high, cmap="viridis")
    ax.set_title(rf"terms of $\partial L/\partial {name}$", fontsize=13)
    ax.set_xlabel("step $k$ at which the weight acts (steps)", fontsize=12)
    ax.set_xticks(range(1, T + 1))
    ax.set_yticks(range(1, T + 1))
axes[0].set_ylabel("step $t$ of the loss (steps)", fontsize=12)
axes[0].invert_yaxis()
fig.colorbar(mesh, ax=axes).set_label(r"$\log_{10}$ of the term's norm (dimensionless)", fontsize=12)

lags = np.subtract.outer(np.arange(T), np.arange(T))
near, far = (np.nanmean(shown[1][lags == lag]) for lag in (0, 8))
print(f"mean log10 norm of the terms of W_xh at lag 0: {near:+.2f}, at lag 8: {far:+.2f}")
assert far < near - 1

# %% [markdown]
# ## Why it fades: the product of Jacobians
#
# Of all the factors of a term only $\partial h_t / \partial h_k$ depends on the lag. `flow.log_transport` gives its size for all
# pairs, $\log\left(\lVert \partial h_t/\partial h_k \rVert_F / \sqrt n\right)$, which is 0 for an isometry. Here it is for 32
# units and 60 steps of white input, at two gains $g$ of the weights ($W_{hh}$ has entries of variance $g^2 / n$).

# %%
wide = cells.vanilla(n_in, 32)
inputs = 0.3 * jax.random.normal(jax.random.key(2), (60, n_in))
fig, axes = plt.subplots(1, 2, figsize=(12.5, 5), layout="constrained")
fading = {}
for ax, gain in zip(axes, (0.8, 1.8), strict=True):
    weights = wide.init_params(jax.random.key(3), gain=gain)
    transport = flow.log_transport(wide.step, weights, wide.init_state(weights), inputs)
    plots.transport(transport, ax=ax)
    ax.set_title(f"gain {gain}", fontsize=13)
    fading[gain] = float(transport[-1, 0])
    print(f"gain {gain}: log transport over all 60 steps {fading[gain]:+.1f} nats, a factor of {np.exp(fading[gain]):.1e}")
assert fading[0.8] < -10
assert fading[1.8] > 5

# %% [markdown]
# ## Two causes: the weights and the activation
#
# The textbook's argument: with a constant Jacobian $J$ the product $J^{t-k}$ tends to zero if its largest eigenvalue has modulus
# below 1 and grows without bound if it has modulus above 1. And the derivative of $\tanh$ is at most 1, so that the activation
# can only take away. Both are seen by comparing a linear network with a tanh network of the same weights, scaled to a spectral
# radius $\rho$. The rate is the leading Lyapunov exponent, the growth per step of a perturbation (notebook 3).

# %%
linear, tanh = cells.vanilla(n_in, 32, activation="identity"), cells.vanilla(n_in, 32)
base = linear.init_params(jax.random.key(4))
radius = np.abs(np.linalg.eigvals(base["W_hh"])).max()
long = jax.random.normal(jax.random.key(5), (2000, n_in))
radii = np.array([0.7, 0.85, 0.95, 1.0, 1.05, 1.15, 1.3])
rates = {"linear": [], "tanh": []}
for rho in radii:
    scaled = base | {"W_hh": rho / radius * base["W_hh"]}
    for name, each in (("linear", linear), ("tanh", tanh)):
        start = jnp.zeros(32)
        drive = None if name == "linear" else long  # the Jacobian of the linear network does not depend on the input
        found = lyapunov.spectrum(each.step, scaled, start, drive, length=2000, k=1, warmup=100)
        rates[name].append(float(found.exponents[0]))

fig, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
ax.axhline(0, color="0.5", lw=1)
ax.plot(radii, np.log(radii), "k--", label=r"$\ln\rho$")
ax.plot(radii, rates["linear"], "o", color="#0072B2", label="linear network")
ax.plot(radii, rates["tanh"], "s", color="#D55E00", label="tanh network, white input")
ax.set_xlabel(r"spectral radius $\rho$ of $W_{hh}$ (dimensionless)", fontsize=12)
ax.set_ylabel("growth rate (nats per step)", fontsize=12)
ax.legend(frameon=False, fontsize=11)

assert np.abs(np.array(rates["linear"]) - np.log(radii)).max() < 5e-3
assert np.all(np.array(rates["tanh"]) < np.array(rates["linear"]))
print("rates of the linear network:", np.round(rates["linear"], 3))
print("rates of the tanh network:  ", np.round(rates["tanh"], 3))

# %% [markdown]
# The linear network follows $\ln \rho$. The tanh network lies below it everywhere, and vanishes even at $\rho = 1.3$: the slopes
# $1 - h_t^2$ take part of the growth away. `flow.growth_split` says which part.

# %%
scaled = base | {"W_hh": 1.3 / radius * base["W_hh"]}
split = flow.growth_split(tanh.step, scaled, jnp.zeros(32), long)
print(f"weights {split.weights:+.3f}, activation {split.activation:+.3f}, together {split.weights + split.activation:+.3f} nats per step")
assert split.activation < 0
slopes = linearize.jacobians(tanh.step, scaled, jnp.zeros(32), long[:50])
assert np.linalg.norm(slopes, 2, axis=(1, 2)).max() <= np.linalg.norm(scaled["W_hh"], 2)

# %% [markdown]
# ## What to keep
#
# * The gradient is an exact sum over pairs $(t, k)$, and each term can be computed and looked at.
# * The lag enters through $J_t \cdots J_{k+1}$ alone. If that product fades, the long lags fall silent while the sum may look
#   healthy.
# * With a constant Jacobian, the eigenvalues decide in the long run. Jacobians of a trained or driven network are not constant,
#   and not normal: notebook 2 shows nine ways in which their eigenvalues then mislead.
