"""Each cell against other people's code, in single precision: 50 steps at shared random weights, states and gradients.

Every row maps our parameters into theirs inside the differentiated function, so both gradients are with respect to ours.
"""

import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import unroll
from jaxrnn.cells.gated import gru, gru_reset_before, mgu, mgu_reset_before, minimal_rnn, ugrnn
from jaxrnn.cells.independent import indrnn
from jaxrnn.cells.leaky import ctrnn, leaky
from jaxrnn.cells.lstm import LSTMState, SLSTMState, lstm, lstm_peephole, slstm
from jaxrnn.cells.ode import CoRNNState, LEMState, antisymmetric, cornn, gated_antisymmetric, lem
from jaxrnn.cells.piecewise import plrnn, shallow_plrnn
from jaxrnn.cells.protocol import Cell
from jaxrnn.cells.simple import vanilla
from tests.models import noise, relative, shaken

N_IN, N, STEPS = 3, 5, 50
KEY = jax.random.key(0)


def imported(name, bare=()):
    """A module or a skip; packages in ``bare`` are entered without running their __init__, which wants far more than the one file that is used."""
    for package in bare:
        if package not in sys.modules:
            found = importlib.util.find_spec(package)
            if found is None:
                pytest.skip(f"{package} is not installed")
            module = types.ModuleType(package)
            module.__path__ = list(found.submodule_search_locations)
            sys.modules[package] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def functional_call(module):
    """(mapped parameters, inputs) -> output of a torch module."""
    return lambda mapped, *args: imported("torch").func.functional_call(module, mapped, args)


def both(params, **names):
    """Biases as torch names them; ours is one, so the other is zero."""
    return {"weight_ih": params["W_xh"], "weight_hh": params["W_hh"], "bias_ih": params["b_h"], "bias_hh": 0 * params["b_h"], **names}


def torch_rnn(nonlinearity):
    def make():
        call = functional_call(imported("torch").nn.RNNCell(N_IN, N, nonlinearity=nonlinearity))
        return lambda p, h, x: call(both(p), x, h)

    return make


def torch_lstm():
    call = functional_call(imported("torch").nn.LSTMCell(N_IN, N))
    return lambda p, s, x: LSTMState(*call(both(p), x, tuple(s)))


def torch_gru():
    call = functional_call(imported("torch").nn.GRUCell(N_IN, N))
    return lambda p, h, x: call({"weight_ih": p["W_xh"], "weight_hh": p["W_hh"], "bias_ih": p["b_x"], "bias_hh": p["b_h"]}, x, h)


def recurrent(name, names=both, state=lambda h: h, back=lambda h: h, **choices):
    """A row of torchrecurrent: its cell, our parameters under its names, and the state there and back."""

    def make():
        call = functional_call(getattr(imported("torchrecurrent"), name)(N_IN, N, **choices))
        return lambda p, h, x: back(call(names(p), x, state(h)))

    return make


def of_minimal(p):
    return {"weight_ih": p["W_xh"], "weight_hh": p["W_hh"], "weight_mm": p["W_eh"], "bias_ih": p["b_e"], "bias_hh": p["b_h"]}


def of_independent(p):
    return {"weight_ih": p["W_xh"], "vector_u": p["u_h"], "bias_ih": p["b_h"], "bias_hh": 0 * p["b_h"]}


def of_gated_antisymmetric(p):
    return both(p, bias_hh=0 * p["b_h"][:N])


def of_cornn(p):
    return both(p, weight_ch=p["W_zh"], bias_ch=0 * p["b_h"])


def of_lem(p):
    return both(p, weight_ch=p["W_zh"], bias_hh=0 * p["b_h"][: 3 * N], bias_ch=0 * p["b_h"][:N])


def torchrecurrent_lem():
    """Theirs gives y_t the old z, the paper the new: called again with the new z, it gives the paper's y_t."""
    call = functional_call(imported("torchrecurrent").LEMCell(N_IN, N, dt=0.5))

    def step(p, s, x):
        _, z = call(of_lem(p), x, (s.y, s.z))
        return LEMState(call(of_lem(p), x, (s.y, z))[0], z)

    return step


def neural(family, name, names, mode=None, **choices):
    """A row of neuralrnn: one ``recurrence`` of its model."""

    def make():
        torch = imported("torch")
        at = f"neuralrnn.models.{family}"
        bare = ("neuralrnn", "neuralrnn.models", at)
        config = getattr(imported(f"{at}.configuration_{family}", bare), f"{name}Config")
        model = getattr(imported(f"{at}.modeling_{family}", bare), f"{name}Model")(config(input_dim=N_IN, latent_dim=N, output_dim=N, **choices))

        class Step(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = model

            def forward(self, x, z):
                return self.inner.recurrence(x[None], z[None])[0]

        call = functional_call(Step())
        return lambda p, h, x: call({f"inner.{key}": leaf for key, leaf in names(p).items()}, x, h)

    return make


def of_ctrnn(p):
    return {"input2h.weight": p["W_xh"], "input2h.bias": 0 * p["b_h"], "h2h.weight": p["W_hh"], "h2h.bias": p["b_h"]}


def of_plrnn(p):
    """One dendrite with its threshold at zero."""
    W = p["W_hh"] - p["W_hh"].diag().diag()
    return {"A": p["A"], "W": W, "h": p["b_h"], "C": p["W_xh"], "alphas": 0 * p["A"][:1] + 1, "H": 0 * p["A"][:, None]}


def of_shallow(p):
    return {"A": p["A"], "W1": p["W_lh"], "W2": p["W_hl"], "h1": p["b_h"], "h2": p["b_l"], "C": p["W_xh"]}


def xlstm_slstm():
    bare = ("xlstm", "xlstm.blocks", "xlstm.blocks.slstm", "xlstm.blocks.slstm.src", "xlstm.blocks.slstm.src.vanilla")
    torch = imported("torch")
    pointwise = imported(f"{bare[-1]}.slstm", bare).slstm_forward_pointwise

    def step(p, s, x):
        new, _ = pointwise((p["W_xh"] @ x)[None], (p["W_hh"] @ s.h)[None], p["b_h"][None], torch.stack(tuple(s))[:, None], {})
        return SLSTMState(*new[:, 0])

    return step


def linen(name, tree):
    """A row of flax.linen: its cell applied to our parameters in its tree."""

    def make():
        cell = getattr(imported("flax.linen"), name)(features=N)
        return lambda p, h, x: cell.apply({"params": tree(p)}, h, x)[0]

    return make


def dense(kernel, bias=None):
    return {"kernel": kernel.T} if bias is None else {"kernel": kernel.T, "bias": bias}


def of_linen_simple(p):
    return {"i": dense(p["W_xh"], p["b_h"]), "h": dense(p["W_hh"])}


def of_linen_gru(p):
    (W, U, b, c) = (jnp.split(p[name], 3) for name in ("W_hh", "W_xh", "b_x", "b_h"))
    inputs = {f"i{gate}": dense(U[k], b[k] + (c[k] if gate != "n" else 0)) for k, gate in enumerate("rzn")}
    return {**inputs, "hr": dense(W[0]), "hz": dense(W[1]), "hn": dense(W[2], c[2])}


def of_linen_mgu(p):
    W, U, b = (jnp.split(p[name], 2) for name in ("W_hh", "W_xh", "b_x"))
    return {"if": dense(U[0], b[0]), "in": dense(U[1], b[1]), "hf": dense(W[0]), "hn": dense(W[1], p["b_h"])}


def linen_lstm(name):
    def make():
        cell = getattr(imported("flax.linen"), name)(features=N)

        def step(p, s, x):
            W, U, b = (jnp.split(p[key], 4) for key in ("W_hh", "W_xh", "b_h"))
            tree = {f"i{gate}": dense(U[k]) for k, gate in enumerate("ifgo")} | {f"h{gate}": dense(W[k], b[k]) for k, gate in enumerate("ifgo")}
            (c, h), _ = cell.apply({"params": tree}, (s.c, s.h), x)
            return LSTMState(h, c)

        return step

    return make


def with_leaves(module, **leaves):
    """An equinox module with other arrays."""
    where = lambda tree: [getattr(tree, name) for name in leaves]
    return imported("equinox").tree_at(where, module, list(leaves.values()))


def equinox_gru():
    cell = imported("equinox").nn.GRUCell(N_IN, N, key=KEY)

    def step(p, h, x):
        bias = p["b_x"] + p["b_h"].at[2 * N :].set(0)
        return with_leaves(cell, weight_ih=p["W_xh"], weight_hh=p["W_hh"], bias=bias, bias_n=p["b_h"][2 * N :])(x, h)

    return step


def equinox_lstm():
    cell = imported("equinox").nn.LSTMCell(N_IN, N, key=KEY)
    return lambda p, s, x: LSTMState(*with_leaves(cell, weight_ih=p["W_xh"], weight_hh=p["W_hh"], bias=p["b_h"])(x, (s.h, s.c)))


def rnn_jax(name, names, **choices):
    def make():
        imported("equinox")
        cell = getattr(imported("rnn_jax.cells.vanilla", ("rnn_jax", "rnn_jax.cells")), name)(N_IN, N, key=KEY, **choices)
        return lambda p, h, x: with_leaves(cell, **names(p))(x, (h,))[1]

    return make


def of_rnn_jax(p):
    return {"w_hh": p["u_h"] if "u_h" in p else p["W_hh"], "w_ih": p["W_xh"], "b": p["b_h"]}


def haiku_gru():
    """Its z is our 1 − z: the rows of z change sign."""
    hk = imported("haiku")
    apply = hk.without_apply_rng(hk.transform(lambda x, h: hk.GRU(N)(x, h)[1])).apply

    def step(p, h, x):
        turned = lambda a: jnp.concatenate([-jnp.split(a, 3)[1], jnp.split(a, 3)[0], jnp.split(a, 3)[2]])
        return apply({"gru": {"w_i": turned(p["W_xh"]).T, "w_h": turned(p["W_hh"]).T, "b": turned(p["b_h"])}}, x, h)

    return step


class Row(NamedTuple):
    package: str
    name: str
    cell: Cell
    theirs: Callable[[], Any]  # () -> step(our params, state, x), of jax or of torch arrays


PAIR = {"state": tuple, "back": lambda s: LSTMState(*s)}
EULER = {"epsilon": 0.1, "gamma": 0.1}
OSCILLATORS = {"state": tuple, "back": lambda s: CoRNNState(*s), "dt": 0.1, "gamma": 2.7, "epsilon": 4.7}
POTENTIALS = {"dt": 0.2, "tau": 1.0, "activation": "tanh", "nonlinearity_mode": "rate"}
ROWS = [
    Row("torch", "vanilla", vanilla(N_IN, N), torch_rnn("tanh")),
    Row("torch", "vanilla relu", vanilla(N_IN, N, "relu"), torch_rnn("relu")),
    Row("torch", "lstm", lstm(N_IN, N), torch_lstm),
    Row("torch", "gru", gru(N_IN, N), torch_gru),
    Row("torchrecurrent", "lstm_peephole", lstm_peephole(N_IN, N), recurrent("PeepholeLSTMCell", lambda p: both(p, weight_ph=p["w_ch"]), **PAIR)),
    Row("torchrecurrent", "mgu_reset_before", mgu_reset_before(N_IN, N), recurrent("MGUCell")),
    Row("torchrecurrent", "minimal_rnn", minimal_rnn(N_IN, N), recurrent("MinimalRNNCell", of_minimal)),
    Row("torchrecurrent", "ugrnn", ugrnn(N_IN, N), recurrent("UGRNNCell")),
    Row("torchrecurrent", "indrnn", indrnn(N_IN, N), recurrent("IndRNNCell", of_independent, nonlinearity="relu")),
    Row("torchrecurrent", "antisymmetric", antisymmetric(N_IN, N), recurrent("AntisymmetricRNNCell", **EULER)),
    Row(
        "torchrecurrent",
        "gated_antisymmetric",
        gated_antisymmetric(N_IN, N),
        recurrent("GatedAntisymmetricRNNCell", of_gated_antisymmetric, **EULER),
    ),
    Row(
        "torchrecurrent",
        "cornn",
        cornn(N_IN, N, dt=0.1),
        recurrent("coRNNCell", of_cornn, **OSCILLATORS),
    ),
    Row("torchrecurrent", "lem", lem(N_IN, N, dt=0.5), torchrecurrent_lem),
    Row("neuralrnn", "leaky", leaky(N_IN, N, leak=0.3), neural("ctrnn", "CTRNN", of_ctrnn, alpha=0.3, activation="tanh")),
    Row("neuralrnn", "ctrnn", ctrnn(N_IN, N, dt=0.2), neural("ctrnn", "CTRNN", of_ctrnn, **POTENTIALS)),
    Row("neuralrnn", "plrnn", plrnn(N_IN, N), neural("plrnn", "DendPLRNN", of_plrnn, n_bases=1, clip_range=None, autonomous=False)),
    Row("neuralrnn", "shallow_plrnn", shallow_plrnn(N_IN, N, width=7), neural("plrnn", "ShallowPLRNN", of_shallow, hidden_dim=7, autonomous=False)),
    Row("xlstm", "slstm", slstm(N_IN, N), xlstm_slstm),
    Row("flax", "vanilla", vanilla(N_IN, N), linen("SimpleCell", of_linen_simple)),
    Row("flax", "gru", gru(N_IN, N), linen("GRUCell", of_linen_gru)),
    Row("flax", "mgu", mgu(N_IN, N), linen("MGUCell", of_linen_mgu)),
    Row("flax", "lstm", lstm(N_IN, N), linen_lstm("LSTMCell")),
    Row("flax optimized", "lstm", lstm(N_IN, N), linen_lstm("OptimizedLSTMCell")),
    Row("equinox", "gru", gru(N_IN, N), equinox_gru),
    Row("equinox", "lstm", lstm(N_IN, N), equinox_lstm),
    Row("rnn_jax", "vanilla", vanilla(N_IN, N), rnn_jax("ElmanRNNCell", of_rnn_jax, nonlinearity=jnp.tanh)),
    Row("rnn_jax", "leaky", leaky(N_IN, N, leak=0.3), rnn_jax("LeakyElmanCell", of_rnn_jax, nonlinearity=jnp.tanh, leak_rate=0.3)),
    Row("rnn_jax", "indrnn", indrnn(N_IN, N), rnn_jax("IndRNNCell", of_rnn_jax)),
    Row("haiku", "gru_reset_before", gru_reset_before(N_IN, N), haiku_gru),
]


def problem(cell):
    """Parameters but constants, a state away from zero, inputs and the coefficients of a linear functional, in float32."""
    params = cell.init_params(jax.random.key(1), gain=0.4)
    constants = params.pop("constants", None)
    params = shaken(params, 100, 0.2)
    held = {} if constants is None else {"constants": constants}
    state = jax.tree.map(lambda leaf: 0.1 + jnp.abs(leaf), shaken(cell.init_state({**params, **held}), 7, 0.3))
    coefficients = jax.tree.map(lambda leaf: noise(9, (STEPS, *leaf.shape)), state)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, held, state, 0.5 * noise(8, (STEPS, N_IN)), coefficients))


def of_jax(run, params, coefficients):
    """States, and the gradient of a linear functional of them."""

    def functional(params):
        states = run(params)
        return sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (coefficients, states)), strict=True)), states

    gradient, states = jax.jit(jax.grad(functional, has_aux=True))(params)
    return states, gradient


def of_torch(step, params, state, xs, coefficients):
    """The same of a step on torch tensors."""
    torch = imported("torch")
    tensor = lambda leaf: torch.tensor(np.asarray(leaf))
    params = {key: tensor(leaf).requires_grad_() for key, leaf in params.items()}
    h, states = jax.tree.map(tensor, state), []
    for x in tensor(xs):
        h = step(params, h, x)
        states.append(h)
    states = jax.tree.map(lambda *leaves: torch.stack(leaves), *states)
    sum((tensor(a) * b).sum() for a, b in zip(*map(jax.tree.leaves, (coefficients, states)), strict=True)).backward()
    return jax.tree.map(lambda leaf: leaf.detach().numpy(), states), {key: leaf.grad.numpy() for key, leaf in params.items()}


def errors(row):
    """Largest deviations of states and of gradients, each relative to the largest entry."""
    theirs = row.theirs()
    params, held, state, xs, coefficients = problem(row.cell)
    found = of_jax(lambda p: unroll.states(row.cell.step, {**p, **held}, state, xs), params, coefficients)
    if row.package in ("flax", "flax optimized", "equinox", "rnn_jax", "haiku"):
        scanned = lambda p: jax.lax.scan(lambda h, x: (theirs(p, h, x),) * 2, state, xs)[1]
        with jax.numpy_dtype_promotion("standard"):
            wanted = of_jax(scanned, params, coefficients)
    else:
        wanted = of_torch(theirs, params, state, xs, coefficients)
    return relative(found[0], wanted[0]), max(relative(found[1][key], wanted[1][key]) for key in params)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.package} {row.name}".replace(" ", "-"))
def test_states_and_gradients_of_fifty_steps_equal_those_of_other_code(row):
    states, gradients = errors(row)
    assert states < 1e-5
    assert gradients < 1e-5
