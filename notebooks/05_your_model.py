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
# # 5. Diagnose and repair your own model
#
# You have a recurrent model in Flax or Equinox that does not learn long dependencies. This notebook takes one of each through the
# same four steps: bind, diagnose, repair, diagnose again.
#
# A diagnosis asks one question of a model and its sequences: by how many nats can a whole sequence amplify a perturbation,
#
# $$
# G = \overline{\ln \sigma_1\left( \partial h_T / \partial h_0 \right)} \; ?
# $$
#
# Its verdict is *vanishing* if the 95 % interval of $G$ lies below $-\ln 10$, *stable* within $\pm \ln 10$, *exploding* or
# *chaotic* above. "Undecided" is an answer too.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

from jaxrnn import adapters, diagnosis, initializers, plots, tasks, training

jax.config.update("jax_enable_x64", True)
plt.rcParams["figure.dpi"] = 72

# %% [markdown]
# The sequences: 16 of the task *delayed recall*, 60 steps long. Each step shows one of 8 symbols, and at the end the first one is
# asked.

# %%
task = tasks.delayed_recall(59)
batch = task.held_out(jax.random.key(0), 16)
print("inputs (sequences, steps, features):", batch.xs.shape)
print("accuracy without memory:", task.baseline)

# %% [markdown]
# ## A Flax model
#
# A simple recurrent cell of 48 tanh units and a linear readout. Its recurrent weights are somewhat small, as they often are in
# practice.
#
# `adapters.flax_nnx` returns the four things that every analysis takes: `step`, `params`, `state`, `output`. `params` has the
# structure of the model's own parameters, and `state` is $h_0$.

# %%
small = nnx.initializers.variance_scaling(0.5, "fan_in", "normal")
recurrent = nnx.RNN(nnx.SimpleCell(8, 48, recurrent_kernel_init=small, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
model = nnx.Sequential(recurrent, nnx.Linear(48, 8, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(1)))
bound = adapters.flax_nnx(model)

before = diagnosis.diagnose(bound.step, bound.params, bound.state, batch.xs)
print("verdict:", before.verdict)
for reason in before.reasons:
    print("-", reason)
assert before.verdict == "vanishing"

# %% [markdown]
# Each diagnosis checks itself on the model at hand: the growth of all directions must sum to the determinant, products with
# Jacobians must equal the dense ones, and so on. A verdict whose checks fail is worth nothing. (With `targets=` and `loss=` it
# also says which lags the gradient of the loss comes from, and checks that its terms sum to `jax.grad`.)

# %%
for check in before.checks:
    print("passed" if check.passed else "FAILED", "|", check.name)
assert all(check.passed for check in before.checks)

# %% [markdown]
# ## What to try
#
# The remedies come ranked by how much of the measured decay they could take out, with a reason for this model, a price and a
# source. None has been tried yet.

# %%
for advice in before.remedies:
    print(f"{advice.name}\n    {advice.remedy.what}\n    why here: {advice.reason}\n    price: {advice.remedy.price}")
names = [advice.name for advice in before.remedies]
assert "gated-cell" in names
assert "orthogonal-init" in names

# %% [markdown]
# ## Repair, and diagnose again
#
# The parameters are a pytree, so a repair is a change of leaves, and the second diagnosis compiles nothing. First
# **orthogonal-init**: the recurrent matrix becomes orthogonal, and only the slopes of $\tanh$ are left to shrink a perturbation.
# Then **less-saturation** as well: smaller input weights keep the units where $\tanh$ is steep. Its price is that less of the
# input is heard, so we do it in two strengths.

# %%
orthogonal = initializers.orthogonal(jax.random.key(1), 48, 48)
diagnoses = {"as it is": before}
for label, factor in (("orthogonal", 1.0), ("orthogonal, inputs × 0.3", 0.3), ("orthogonal, inputs × 0.1", 0.1)):
    nnx.update(model, bound.params)  # the original weights
    cell = model.layers[0].cell
    cell.dense_h.kernel[...] = orthogonal
    cell.dense_i.kernel[...] = factor * cell.dense_i.kernel[...]
    repaired = nnx.state(model, nnx.Param)
    diagnoses[label] = diagnosis.diagnose(bound.step, repaired, bound.state, batch.xs)

for label, found in diagnoses.items():
    gain = found.evidence.rate * 60
    print(f"{label:25s} {found.verdict:10s} log gain {gain:+7.2f} nats, median horizon {found.evidence.horizon[1]:.0f} steps")
gains = [found.evidence.rate for found in diagnoses.values()]
assert np.all(np.diff(gains) > 0)
assert diagnoses["orthogonal"].verdict == "vanishing"
assert diagnoses["orthogonal, inputs × 0.1"].verdict == "stable"

# %% [markdown]
# One remedy was not enough, and the numbers say so: an orthogonal start took more than half of the decay away and left it
# vanishing. `diagnosis.compare` puts two diagnoses beside each other and says which differences are clear, by Welch's test.

# %%
change = diagnosis.compare(before, diagnoses["orthogonal, inputs × 0.1"], labels=("before", "after"))
for sentence in change.sentences:
    print("-", sentence)
assert change.verdicts == ("vanishing", "stable")

fig, ax = plt.subplots(figsize=(7.8, 4.8), layout="constrained")
for label, found in diagnoses.items():
    plots.transport_by_lag(found.evidence.transport_by_lag, label=label, ax=ax)
ax.set_ylim(-15, 1)
title = ax.set_title("What is left of a perturbation: median, 10–90 %", fontsize=13, pad=80)

# %% [markdown]
# ## An Equinox model
#
# A list of layers is a model, the lowest first: a GRU cell of 32 units and a linear readout. In Equinox's GRU the gate $z$ keeps
# the state,
#
# $$
# h_t = (1 - z_t) \circ \tilde h_t + z_t \circ h_{t-1}, \qquad z_t = \sigma(W_z x_t + U_z h_{t-1} + b_z),
# $$
#
# and its bias stands in the second third of `bias`. The remedy *gate-bias* starts it at $b_z = \ln 60 = 4.1$, so that the memory
# keeps $\sigma(4.1) = 0.984$ per step.

# %%
layers = [eqx.nn.GRUCell(8, 32, key=jax.random.key(0)), eqx.nn.Linear(32, 8, key=jax.random.key(1))]
gru = adapters.equinox(layers)
closed = diagnosis.diagnose(gru.step, gru.params, gru.state, batch.xs)
print("as it is:", closed.verdict)
for advice in closed.remedies[:2]:
    print(f"advice: {advice.name}; {advice.reason}")

bias = gru.params[0].bias
opened = eqx.tree_at(lambda parts: parts[0].bias, gru.params, bias.at[32:64].set(np.log(60)))
opened_found = diagnosis.diagnose(gru.step, opened, gru.state, batch.xs)
print("gate open:", opened_found.verdict)
for sentence in diagnosis.compare(closed, opened_found, labels=("as it is", "gate open")).sentences[:3]:
    print("-", sentence)
assert (closed.verdict, opened_found.verdict) == ("vanishing", "stable")

# %% [markdown]
# ## Does it learn now?
#
# A bound model can be trained by `training.fit`, or by a loop of your own: `params` is what it was. Both GRUs get the same 600
# updates on the same data.

# %%
loss = lambda params, state, x, target: task.loss(gru.output(params, state, x), target)
watch = training.Evaluation(gru.output, task.metric, task.held_out(jax.random.key(2), 500), every=50)
optimizer = training.default_optimizer(1e-2)
fits = {}
for label, start in (("as it is", gru.params), ("gate open", opened)):
    fits[label] = training.fit(
        gru.step, start, gru.state, task.sample, loss, steps=600, batch=32, key=jax.random.key(3), optimizer=optimizer, evaluation=watch
    )
    print(f"{label:10s} accuracy {fits[label].metric[-1]:.3f}, chance {task.baseline:.3f}")

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for (label, fit), colour, marker in zip(fits.items(), ("#D55E00", "#0072B2"), "so", strict=True):
    ax.plot(fit.evaluated, fit.metric, marker=marker, color=colour, label=label)
ax.axhline(task.baseline, color="0.4", ls="--", label="chance")
ax.set_ylim(0, 1.03)
ax.set_xlabel("updates", fontsize=12)
ax.set_ylabel("accuracy on 500 sequences apart", fontsize=12)
ax.set_title("Delayed recall over 59 steps, GRU of 32 units", fontsize=13)
ax.legend(frameon=False, fontsize=11)
assert fits["gate open"].metric[-1] > 0.9
assert fits["as it is"].metric[-1] < 0.25

# %% [markdown]
# What was trained goes back into the library's own model, and computes the same there.

# %%
trained = eqx.combine(fits["gate open"].params, layers)
h = jnp.zeros(32)
for x in batch.xs[0]:
    h = trained[0](x, h)
answer = int(jnp.argmax(trained[1](h)))
print(f"the trained Equinox model says symbol {answer}, the first one was {int(jnp.argmax(batch.xs[0, 0]))}")
assert answer == int(jnp.argmax(batch.xs[0, 0]))

# %% [markdown]
# ## With your own model
#
# * Bind it: `adapters.flax_nnx`, `flax_linen`, `equinox`, `haiku`, `keras`; or write `step(params, state, x) -> state`.
# * Give sequences like those it will meet. The verdict is about a model *on its data*.
# * Change one thing, diagnose again, compare; then train. `jaxrnn diagnose --try-remedies` trains every remedy that can be
#   carried out, and `report.write(diagnosis, folder)` makes a page of all the pictures.
