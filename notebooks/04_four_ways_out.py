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
# # 4. Four ways out
#
# A perturbation of $h_k$ arrives at $h_t$ as $J_t \cdots J_{k+1}$ times itself. To remember for $T$ steps, some directions of
# this product must neither fade nor grow. Four ideas make it so:
#
# 1. **gates**: a memory whose Jacobian is the gate itself, $\partial c_t / \partial c_{t-1} = \mathrm{diag}(f_t)$, near 1 where
#    the gate is open;
# 2. **orthogonality**: weights all of whose singular values are 1, for ever;
# 3. **linear recurrences**: a diagonal Jacobian that does not depend on the input, its moduli chosen near 1;
# 4. **flossing**: any network, its leading Lyapunov exponents pushed to 0 by gradient descent before training.
#
# We look at the product under each of them, compare with what theory says, and train briefly.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import cells, flow, lyapunov, parallel, plots, remedies, tasks, theory, training, unroll

jax.config.update("jax_enable_x64", True)
plt.rcParams["figure.dpi"] = 72
COLOURS = dict(zip(("vanilla", "gates", "orthogonal", "linear", "flossed"), ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))

# %% [markdown]
# ## Where we start: a tanh network that forgets
#
# 32 units, recurrent weights of variance $1/n$, white input. The *horizon* is the number of steps after which the size of
# $\partial h_t / \partial h_k$ has fallen below $1/e$ for good.

# %%
n, T = 32, 400
xs = jax.random.normal(jax.random.key(0), (T, 8))
vanilla = cells.vanilla(8, n)
params = vanilla.init_params(jax.random.key(1), input_gain=0.5)
transport = {"vanilla": flow.log_transport(vanilla.step, params, vanilla.init_state(params), xs, stride=20)}
exponent = lyapunov.spectrum(vanilla.step, params, vanilla.init_state(params), xs, k=1, warmup=20)
horizon = flow.horizon(transport["vanilla"], stride=20)
print(f"tanh network: λ₁ = {float(exponent.exponents[0]):+.3f} ± {float(exponent.standard_errors[0]):.3f} nats per step,", end=" ")
print(f"median horizon {float(horizon.lags[1]):.0f} steps")
assert float(horizon.lags[1]) < 10

# %% [markdown]
# ## 1. Gates: a bias is a time scale
#
# In an LSTM without recurrent weights the memory decays at $\ln \sigma(b_f)$ per step, where $b_f$ is the bias of the forget
# gate, so it lasts $-1/\ln\sigma(b_f)$ steps: 3.2 at $b_f = 1$, 149 at $b_f = 5$. Input moves the gates up and down, and what
# closes a gate for one step is lost, so that noise shortens the memory. Recurrent weights feed the memory back to itself, which
# lengthens it. We start LSTMs at each bias, without and with recurrent weights, and measure their horizons.

# %%
lstm = cells.lstm(8, n)
biases = np.linspace(-1, 5, 7)


def horizon_at(bias, gain, input_gain):
    """The median horizon of an untrained LSTM, steps."""
    weights = lstm.init_params(jax.random.key(3), gain=gain, input_gain=input_gain, forget_bias=bias)
    return float(flow.horizon(flow.log_transport(lstm.step, weights, lstm.init_state(weights), xs, stride=20), stride=20).lags[1])


alone = np.array([horizon_at(b, 0.0, 0.1) for b in biases])
whole = np.array([horizon_at(b, 1.0, 2.0) for b in biases])
fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
ax.plot(biases, theory.gate_time_scale(biases), "k-", lw=1.5, label=r"one gate alone, $-1/\ln\sigma(b_f)$")
ax.plot(biases, alone, "o", color=COLOURS["gates"], label="LSTM, no recurrent weights, weak input")
ax.plot(biases, whole, "s", color="#E69F00", label="LSTM, orthogonal recurrent weights, strong input")
ax.set_yscale("log")
ax.set_xlabel("bias of the forget gate $b_f$ (dimensionless)", fontsize=12)
ax.set_ylabel("memory (steps)", fontsize=12)
ax.set_title("A gate's bias sets how long it remembers", fontsize=13)
ax.legend(frameon=False, fontsize=11)

for b in (1.0, 3.0, 5.0):
    i = np.searchsorted(biases, b)
    print(f"b_f = {b:.0f}: one gate {float(theory.gate_time_scale(b)):6.1f} steps; LSTM {alone[i]:4.0f} without recurrence, {whole[i]:4.0f} with it")
assert abs(theory.gate_time_scale(5.0) - 148.9) < 0.05
assert np.all(np.diff(alone) >= 0)
assert whole[-1] > 20 * whole[0]

weights = lstm.init_params(jax.random.key(3), input_gain=0.5, forget_bias=float(theory.gate_bias(200)))
transport["gates"] = flow.log_transport(lstm.step, weights, lstm.init_state(weights), xs, stride=20)

# %% [markdown]
# ## 2. Orthogonality: an isometry, if the activation lets it
#
# With $W$ orthogonal every singular value of a linear network's product is 1 after any number of steps. With $\tanh$ the slopes
# $1 - h_t^2 \le 1$ still take something away at each step. The exponential RNN keeps its matrix orthogonal during training,
# $W = \exp(A - A^\top)$, and uses modReLU, whose slopes are 0 or 1.

# %%
kinds = {
    "orthogonal and linear": cells.vanilla(8, n, activation="identity", init="orthogonal"),
    "orthogonal and tanh": cells.vanilla(8, n, init="orthogonal"),
    "exponential RNN, modReLU": cells.exprnn(8, n),
}
found = {}
for name, cell in kinds.items():
    weights = cell.init_params(jax.random.key(4), input_gain=0.5)
    found[name] = float(lyapunov.spectrum(cell.step, weights, cell.init_state(weights), xs, k=1).exponents[0])
    print(f"{name:25s} λ₁ = {found[name]:+.4f} nats per step")
assert abs(found["orthogonal and linear"]) < 1e-12
assert found["orthogonal and tanh"] < -0.02
assert abs(found["exponential RNN, modReLU"]) < 1e-12
transport["orthogonal"] = flow.log_transport(cell.step, weights, cell.init_state(weights), xs, stride=20)

# %% [markdown]
# ## 3. Linear recurrences: exponents by design
#
# In a linear recurrent unit $h_t = \lambda \circ h_{t-1} + \gamma \circ B x_t$ with complex $\lambda$. The Jacobian is
# $\mathrm{diag}(\lambda)$ whatever the input, so the exponents are $\ln|\lambda_i|$ exactly, each twice in real coordinates. One
# starts the moduli on a ring near the unit circle. The nonlinear layers come before and after. And since the recurrence is
# linear, all states can be computed in parallel by an associative scan instead of a loop.

# %%
lru = cells.lru(8, n, r_min=0.9, r_max=0.999)
weights = lru.init_params(jax.random.key(5))
designed = np.sort(np.repeat(-np.exp(np.asarray(weights["nu_log"])), 2))[::-1]
measured = lyapunov.spectrum(lru.step, weights, lru.init_state(weights), None, length=4000, warmup=2000).exponents
print(f"largest |measured − ln|λ||: {np.abs(measured - designed).max():.0e} nats per step")
assert np.abs(measured - designed).max() < 1e-3

looped = unroll.states(lru.step, weights, lru.init_state(weights), xs)
scanned = parallel.associative(lru.step, weights, lru.init_state(weights), xs)
print(f"loop against associative scan: {float(jnp.abs(looped - scanned).max()):.0e}")
assert jnp.abs(looped - scanned).max() < 1e-12
transport["linear"] = flow.log_transport(lru.step, weights, lru.init_state(weights), xs, stride=20)

# %% [markdown]
# ## 4. Flossing: move the exponents themselves
#
# Gradient flossing (Engelken 2023) takes any network and minimises $\frac1k \sum_{i \le k} \lambda_i^2$ over a short window,
# before the task is seen. The exponents are differentiable through the QR decompositions that compute them. Here the half of the
# exponents that lead, over 40 steps, on the tanh network from above.

# %%
sample = lambda key, batch: tasks.Batch(jax.random.normal(key, (batch, 40, 8)), None)
flossed = remedies.floss(vanilla.step, params, vanilla.init_state(params), sample, k=16, window=40, steps=200, key=jax.random.key(6))
spectra_of = [lyapunov.spectrum(vanilla.step, p, vanilla.init_state(p), xs, warmup=20) for p in (params, flossed.params)]
fig, ax = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
for label, spectrum in zip(("before flossing", "after flossing the leading 16"), spectra_of, strict=True):
    plots.lyapunov_spectrum(spectrum.exponents, spectrum.standard_errors, label=label, ax=ax)
ax.axhline(0, color="0.5", lw=1)
ax.set_ylim(-2.5, 0.2)
title = ax.set_title("Exponents on input that flossing has not seen", fontsize=13, pad=44)

mean = [float(jnp.abs(s.exponents[:16]).mean()) for s in spectra_of]
print(f"mean |λ| of the leading 16: {mean[0]:.3f} before, {mean[1]:.3f} after; λ₁ {float(spectra_of[1].exponents[0]):+.3f} nats per step")
assert mean[1] < 0.5 * mean[0]
transport["flossed"] = flow.log_transport(vanilla.step, flossed.params, vanilla.init_state(params), xs, stride=20)

# %% [markdown]
# ## All of them beside each other
#
# The median over starting times $k$ of the size of $\partial h_t / \partial h_k$, before any training. The tanh network falls out
# of the picture.

# %%
fig, ax = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
starts = np.arange(0, T + 1, 20)
at_100 = {}
for (name, values), style in zip(transport.items(), ("-", "--", "-.", (0, (5, 1)), ":"), strict=True):
    by_lag = [np.median([values[k + lag, i] for i, k in enumerate(starts) if k + lag <= T]) for lag in range(121)]
    ax.plot(by_lag, color=COLOURS[name], ls=style, lw=2, label=name)
    at_100[name] = by_lag[100]
    print(f"{name:10s} log transport over 100 steps: {at_100[name]:+7.2f} nats")
ax.axhline(-1, color="0.5", lw=1, ls=":")
ax.set_ylim(-16, 3)
ax.set_xlabel("lag $t - k$ (steps)", fontsize=12)
ax.set_ylabel(r"median $\log(\|\partial h_t/\partial h_k\|_F/\sqrt{n})$ (nats)", fontsize=12)
ax.legend(frameon=False, fontsize=11, loc="lower left")
assert at_100["vanilla"] < -15
assert all(value > at_100["vanilla"] + 5 for name, value in at_100.items() if name != "vanilla")

# %% [markdown]
# ## Does it help to learn?
#
# A short test. *Delayed recall*: name the first of 41 random symbols, 40 steps later; chance is 1 in 8. The four networks below
# get 480 updates of 32 sequences, with the gradient clipped to norm 1. One seed each: enough to see the difference from chance,
# not to rank them. Beside the accuracy stand the part of the last loss's gradient that arrives 40 steps earlier
# (`monitors.profile` records it during training), and the horizon on a sequence apart.
#
# Read the horizon of the flossed network with care: it is about all directions together, and after training most of them decay.
# The gradient that the task needs travels along the few that do not.
#
# The linear recurrence gets another task, to *copy* two symbols after 30 blank steps. It treats every time alike and cannot
# select one symbol among others of the same kind, which is what gates do.

# %%
recall = tasks.delayed_recall(40)
options = {
    "vanilla": ("vanilla", {"learning_rate": 2e-3}, ()),
    "gates": ("lstm", {"learning_rate": 5e-3, "forget_bias": float(theory.gate_bias(60))}, ()),
    "orthogonal": ("exprnn", {"learning_rate": 2e-3}, ()),
    "flossed": ("vanilla", {"learning_rate": 2e-3}, (("flossing", {"k": 16, "steps": 200}),)),
}
curves, rows = {}, {}
for name, (kind, choices, treatment) in options.items():
    setup = remedies.apply("clipping", remedies.setup(kind, recall, n, length=41, **choices))
    for remedy, knobs in treatment:
        setup = remedies.apply(remedy, setup, **knobs)
    start = setup.init_params(jax.random.key(0))
    state = setup.init_state(start)
    before = start if setup.prepare is None else setup.prepare(jax.random.key(5), setup, start, recall.sample)
    test = recall.held_out(jax.random.key(99), 256)
    watch = training.Evaluation(setup.output, recall.metric, test, every=60)
    fit = training.fit(
        setup.step, before, state, recall.sample, setup.loss, steps=480, batch=32, key=jax.random.key(1),
        optimizer=remedies.optimizer(setup), evaluation=watch, monitors={"profile": training.monitors.profile()},
    )  # fmt: skip
    profile = fit.history["profile"]  # log of the norm of ∂L/∂h_t for t = 0..T, at the first update and at the last
    arrived = [float(row[1] - row[-1]) / np.log(10) for row in (profile[0], profile[-1])]
    horizons = [float(flow.horizon(flow.log_transport(setup.step, p, state, test.xs[0])).lags[1]) for p in (before, fit.params)]
    curves[name], rows[name] = fit.metric, (fit.metric[-1], *arrived, *horizons)

print("            accuracy   log10 ‖∂L/∂h_1‖/‖∂L/∂h_41‖    median horizon (steps)")
print("                        before → after                before → after")
told = lambda steps: f"{steps:.0f}" if np.isfinite(steps) else "> 40"
for name, (accuracy, one, two, early, late) in rows.items():
    print(f"{name:10s} {accuracy:8.2f}   {one:10.2f} → {two:5.2f} {told(early):>19} → {told(late)}")
assert rows["vanilla"][0] < 0.3
assert rows["gates"][0] > 0.8
assert rows["orthogonal"][0] > 0.8
assert rows["flossed"][0] > rows["vanilla"][0] + 0.2
assert rows["vanilla"][1] < -3 < rows["flossed"][1]
assert rows["vanilla"][3] < 10
assert min(rows[name][3] for name in ("gates", "orthogonal", "flossed")) > rows["vanilla"][3]

# %%
copying = tasks.copy(30, items=2)
setup = remedies.apply("clipping", remedies.setup("lru", copying, n, length=34, learning_rate=3e-3))
start = setup.init_params(jax.random.key(0))
watch = training.Evaluation(setup.output, copying.metric, copying.held_out(jax.random.key(99), 128), every=60)
fit = training.fit(
    setup.step, start, setup.init_state(start), copying.sample, setup.loss, steps=480, batch=32, key=jax.random.key(1),
    optimizer=remedies.optimizer(setup), evaluation=watch,
)  # fmt: skip
errors = {"linear": fit.metric / copying.baseline}
print(f"copying, linear recurrence: {errors['linear'][-1]:.4f} of the loss without memory after 480 updates")
assert errors["linear"][-1] < 0.1

fig, axes = plt.subplots(1, 2, figsize=(11.5, 4.3), layout="constrained")
for ax, lines in zip(axes, (curves, errors), strict=True):
    for name, values in lines.items():
        ax.plot(60 * np.arange(1, len(values) + 1), values, "o-", color=COLOURS[name], label=name)
    ax.set_xlabel("updates", fontsize=12)
axes[0].axhline(1 / 8, color="0.5", ls=":", label="chance")
axes[0].set_ylim(0, 1.02)
axes[0].set_ylabel("accuracy", fontsize=12)
axes[0].set_title("delayed recall over 40 steps", fontsize=13)
axes[1].axhline(1, color="0.5", ls=":", label="without memory")
axes[1].set_yscale("log")
axes[1].set_ylabel("loss / loss without memory", fontsize=12)
axes[1].set_title("copying over 30 blank steps", fontsize=13)
for ax in axes:
    ax.legend(frameon=False, fontsize=10, loc="best")

# %% [markdown]
# ## What to keep
#
# | way | what it does to the product | price |
# |---|---|---|
# | gates | the memory's block is $\mathrm{diag}(f_t)$; bias $b_f$ gives $-1/\ln\sigma(b_f)$ steps | more parameters |
# | orthogonality | singular values of $W$ stay 1; the slopes decide the rest | cannot forget on purpose |
# | linear recurrence | exponents are $\ln\lvert\lambda_i\rvert$, by choice | nonlinearity must come from elsewhere |
# | flossing | moves the leading exponents to 0 | QR decompositions; moderate gains only |
#
# The catalogue with sources and knobs is `remedies.CATALOGUE`; `experiments/` holds longer trainings with several seeds.
