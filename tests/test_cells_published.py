"""Each cell against a NumPy transcription of the published equations, which shares no code with it."""

import inspect
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, unroll
from jaxrnn.cells.gated import gru, gru_reset_before, mgu, mgu_reset_before, minimal_rnn, ugrnn
from jaxrnn.cells.independent import indrnn
from jaxrnn.cells.leaky import ctrnn, leaky
from jaxrnn.cells.lmu import lmu
from jaxrnn.cells.lstm import lstm, lstm_layernorm, lstm_peephole, slstm
from jaxrnn.cells.ode import antisymmetric, cornn, gated_antisymmetric, lem
from jaxrnn.cells.piecewise import plrnn, shallow_plrnn
from jaxrnn.cells.simple import vanilla
from tests.models import noise, relative, shaken

EPS = np.finfo(np.float64).eps
N_IN, N, STEPS = 3, 4, 50


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def tanh(a):
    return np.tanh(a)


def relu(a):
    return a * (a.real > 0)


def series_erf(a):
    """erf by its Maclaurin series, for small arguments; SciPy's takes no dual numbers."""
    return 2 / math.sqrt(math.pi) * sum((-1) ** k * a ** (2 * k + 1) / (math.factorial(k) * (2 * k + 1)) for k in range(60))


def norm(v):
    return (v - v.mean()) / np.sqrt(((v - v.mean()) ** 2).mean() + 1e-5)


def parts(p, count):
    """Gate by gate: W h + U x + b as a function of h and x."""
    blocks = zip(*(np.split(p[name], count) for name in ("W_hh", "W_xh", "b_h")), strict=True)
    return [lambda h, x, W=W, U=U, b=b: W @ h + U @ x + b for W, U, b in blocks]


def elman(phi):
    return lambda p, h, x: phi(p["W_hh"] @ h + p["W_xh"] @ x + p["b_h"])


def gers_2000_forget(p, state, x):
    h, c = state
    i, f, g, o = (gate(h, x) for gate in parts(p, 4))
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gers_2000_peephole(p, state, x):
    h, c = state
    i, f, g, o = (gate(h, x) for gate in parts(p, 4))
    w_i, w_f, w_o = np.split(p["w_ch"], 3)
    new = sigmoid(f + w_f * c) * c + sigmoid(i + w_i * c) * tanh(g)
    return sigmoid(o + w_o * new) * tanh(new), new


def ba_2016(p, state, x):
    h, c = state
    i, f, g, o = np.split(p["s_h"] * norm(p["W_hh"] @ h) + p["s_x"] * norm(p["W_xh"] @ x) + p["b_h"], 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(p["s_c"] * norm(c) + p["b_c"]), c


def beck_2024(forget):
    """Without the stabiliser: c e^m and n e^m are what the plain equations carry."""

    def step(p, state, x):
        h, c, n, m = state
        i, f, g, o = (gate(h, x) for gate in parts(p, 4))
        plain_c, plain_n = c * np.exp(m), n * np.exp(m)
        plain_c, plain_n = forget(f) * plain_c + np.exp(i) * tanh(g), forget(f) * plain_n + np.exp(i)
        a, b = np.log(forget(f)) + m, i
        m = np.where(a.real > b.real, a, b)
        return sigmoid(o) * plain_c / plain_n, plain_c * np.exp(-m), plain_n * np.exp(-m), m

    return step


def cho_2014_after(p, h, x):
    (Wr, Wz, Wn), (Ur, Uz, Un) = np.split(p["W_hh"], 3), np.split(p["W_xh"], 3)
    (br, bz, bn), (cr, cz, cn) = np.split(p["b_x"], 3), np.split(p["b_h"], 3)
    r, z = sigmoid(Ur @ x + br + Wr @ h + cr), sigmoid(Uz @ x + bz + Wz @ h + cz)
    return (1 - z) * tanh(Un @ x + bn + r * (Wn @ h + cn)) + z * h


def cho_2014(p, h, x):
    r, z, n = parts(p, 3)
    r, z = sigmoid(r(h, x)), sigmoid(z(h, x))
    return z * h + (1 - z) * tanh(n(r * h, x))


def zhou_2016(p, h, x):
    f, n = parts(p, 2)
    f = sigmoid(f(h, x))
    return (1 - f) * h + f * tanh(n(f * h, x))


def zhou_2016_of_flax(p, h, x):
    (Wf, Wn), (Uf, Un), (bf, bn) = (np.split(p[name], 2) for name in ("W_hh", "W_xh", "b_x"))
    f = sigmoid(Uf @ x + bf + Wf @ h)
    return (1 - f) * tanh(Un @ x + bn + f * (Wn @ h + p["b_h"])) + f * h


def chen_2017(p, h, x):
    z = tanh(p["W_xh"] @ x + p["b_e"])
    u = sigmoid(p["W_hh"] @ h + p["W_eh"] @ z + p["b_h"])
    return u * h + (1 - u) * z


def collins_2017(p, h, x):
    c, g = (gate(h, x) for gate in parts(p, 2))
    return sigmoid(g) * h + (1 - sigmoid(g)) * tanh(c)


def jaeger_2007(p, h, x):
    alpha = p["constants"]["leak"]
    return (1 - alpha) * h + alpha * elman(tanh)(p, h, x)


def funahashi_1993(p, v, x):
    rate = -v + p["W_hh"] @ tanh(v) + p["W_xh"] @ x + p["b_h"]
    return v + p["constants"]["dt"] / p["constants"]["tau"] * rate


def li_2018(p, h, x):
    return relu(p["u_h"] * h + p["W_xh"] @ x + p["b_h"])


def chang_2019(p, h, x):
    M = p["W_hh"] - p["W_hh"].T - p["constants"]["gamma"] * np.eye(len(h))
    return h + p["constants"]["epsilon"] * tanh(M @ h + p["W_xh"] @ x + p["b_h"])


def chang_2019_gated(p, h, x):
    M = p["W_hh"] - p["W_hh"].T - p["constants"]["gamma"] * np.eye(len(h))
    (V_z, V_h), (b_z, b_h) = np.split(p["W_xh"], 2), np.split(p["b_h"], 2)
    return h + p["constants"]["epsilon"] * sigmoid(M @ h + V_z @ x + b_z) * tanh(M @ h + V_h @ x + b_h)


def rusch_2021(p, state, x):
    (y, z), k = state, p["constants"]
    z = z + k["dt"] * (tanh(p["W_hh"] @ y + p["W_zh"] @ z + p["W_xh"] @ x + p["b_h"]) - k["gamma"] * y - k["epsilon"] * z)
    return y + k["dt"] * z, z


def rusch_2022(p, state, x):
    (y, z), dt = state, p["constants"]["dt"]
    (W_2, W_1, W_z), (V_2, V_1, V_z, V_y), (b_2, b_1, b_z, b_y) = np.split(p["W_hh"], 3), np.split(p["W_xh"], 4), np.split(p["b_h"], 4)
    step, bar = dt * sigmoid(W_1 @ y + V_1 @ x + b_1), dt * sigmoid(W_2 @ y + V_2 @ x + b_2)
    z = (1 - step) * z + step * tanh(W_z @ y + V_z @ x + b_z)
    return (1 - bar) * y + bar * tanh(p["W_zh"] @ z + V_y @ x + b_y), z


def voelker_2019(p, state, x):
    (h, m), k = state, p["constants"]
    m = k["A"] @ m + k["B"] * (p["e_x"] @ x + p["e_h"] @ h + p["e_m"] @ m)
    return tanh(p["W_xh"] @ x + p["W_hh"] @ h + p["W_mh"] @ m), m


def durstewitz_2017(p, z, x):
    W = p["W_hh"] - np.diag(np.diag(p["W_hh"]))
    return np.diag(p["A"]) @ z + W @ relu(z) + p["b_h"] + p["W_xh"] @ x


def hess_2023(p, z, x):
    return np.diag(p["A"]) @ z + p["W_lh"] @ relu(p["W_hl"] @ z + p["b_l"]) + p["b_h"] + p["W_xh"] @ x


PUBLISHED = {
    "vanilla erf": (vanilla(N_IN, N, "erf"), elman(series_erf)),
    "lstm": (lstm(N_IN, N), gers_2000_forget),
    "lstm_peephole": (lstm_peephole(N_IN, N), gers_2000_peephole),
    "lstm_layernorm": (lstm_layernorm(N_IN, N), ba_2016),
    "slstm": (slstm(N_IN, N), beck_2024(sigmoid)),
    "slstm exp": (slstm(N_IN, N, forget="exp"), beck_2024(np.exp)),
    "gru": (gru(N_IN, N), cho_2014_after),
    "gru_reset_before": (gru_reset_before(N_IN, N), cho_2014),
    "mgu": (mgu(N_IN, N), zhou_2016_of_flax),
    "mgu_reset_before": (mgu_reset_before(N_IN, N), zhou_2016),
    "minimal_rnn": (minimal_rnn(N_IN, N), chen_2017),
    "ugrnn": (ugrnn(N_IN, N), collins_2017),
    "leaky": (leaky(N_IN, N, leak=0.3), jaeger_2007),
    "ctrnn": (ctrnn(N_IN, N), funahashi_1993),
    "indrnn": (indrnn(N_IN, N), li_2018),
    "antisymmetric": (antisymmetric(N_IN, N), chang_2019),
    "gated_antisymmetric": (gated_antisymmetric(N_IN, N), chang_2019_gated),
    "cornn": (cornn(N_IN, N), rusch_2021),
    "lem": (lem(N_IN, N), rusch_2022),
    "lmu": (lmu(N_IN, N, memory=6, theta=10.0), voelker_2019),
    "plrnn": (plrnn(N_IN, N), durstewitz_2017),
    "shallow_plrnn": (shallow_plrnn(N_IN, N, width=6), hess_2023),
}
CONSTRUCTORS = {make.__name__: make for make in (
    lstm, lstm_peephole, lstm_layernorm, slstm, gru, gru_reset_before, mgu, mgu_reset_before, minimal_rnn, ugrnn, leaky, ctrnn, indrnn,
    antisymmetric, gated_antisymmetric, cornn, lem, lmu, plrnn, shallow_plrnn,
)}  # fmt: skip
over_published = pytest.mark.parametrize("name", PUBLISHED)
over_constructors = pytest.mark.parametrize("name", CONSTRUCTORS)


def weights(cell, seed=1, size=0.2, **scales):
    """Random parameters away from zero, small enough not to be chaotic; the constants as they are."""
    params = cell.init_params(jax.random.key(seed), **{"gain": 0.4, **scales})
    return {**shaken(params, 100 * seed, size), **({"constants": params["constants"]} if "constants" in params else {})}


def problem(name):
    """Cell, transcription, parameters, a positive state, inputs, and the coefficients of a linear functional of all states."""
    cell, published = PUBLISHED[name]
    params = weights(cell)
    state = jax.tree.map(lambda leaf: 0.1 + jnp.abs(leaf), shaken(cell.init_state(params), 7, 0.3))
    return SimpleNamespace(
        cell=cell, published=published, params=params, state=state, xs=0.5 * noise(8, (STEPS, N_IN)),
        coefficients=jax.tree.map(lambda leaf: noise(9, (STEPS, *leaf.shape)), state),
    )  # fmt: skip


def transcribed(p, params):
    """The states that the transcription gives, (STEPS, n)."""
    h, out = jax.tree.map(np.asarray, p.state), []
    for x in np.asarray(p.xs):
        h = p.published(params, h, x)
        out.append(np.concatenate(jax.tree.leaves(h)))
    return np.stack(out)


@over_published
def test_fifty_steps_equal_the_published_equations(name):
    p = problem(name)
    found = unroll.states(p.cell.step, p.params, p.state, p.xs)
    found = np.concatenate(jax.tree.leaves(found), axis=1)
    assert np.abs(found - transcribed(p, jax.tree.map(np.asarray, p.params))).max() < 1e-12


@over_published
def test_the_gradient_equals_complex_steps_of_the_published_equations(name):
    p = problem(name)
    functional = lambda params: sum(
        jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (p.coefficients, unroll.states(p.cell.step, params, p.state, p.xs))), strict=True)
    )
    found, plain = jax.jit(jax.grad(functional))(p.params), jax.tree.map(np.asarray, p.params)
    coefficients = np.concatenate(jax.tree.leaves(p.coefficients), axis=1)
    for key in set(plain) - {"constants"}:
        wanted = np.zeros_like(plain[key])
        for index in np.ndindex(wanted.shape):
            moved = plain[key].astype(complex)
            moved[index] += 1e-30j  # the imaginary part of an analytic function is its derivative times this, without cancellation
            wanted[index] = (coefficients * transcribed(p, {**plain, key: moved})).sum().imag / 1e-30
        assert relative(found[key], wanted) < 1e-11, key
    assert all(not leaf.any() for leaf in jax.tree.leaves(found.get("constants", {})))


@over_constructors
def test_constructors_accept_no_input_and_no_inputs(name):
    cell, empty = CONSTRUCTORS[name](N_IN, N), CONSTRUCTORS[name](0, N)
    params = weights(cell)
    state = jax.tree.map(lambda leaf: 0.1 + jnp.abs(leaf), shaken(cell.init_state(params), 7, 0.3))
    assert relative(cell.step(params, state, None), cell.step(params, state, jnp.zeros(N_IN))) < EPS
    params = empty.init_params(jax.random.key(0))
    assert relative(empty.step(params, state, jnp.zeros(0)), empty.step(params, state, None)) < EPS


@over_constructors
def test_cells_of_other_sizes_and_constants_share_one_step(name):
    make = CONSTRUCTORS[name]
    other = {key: 0.5 for key in ("leak", "dt", "tau", "epsilon", "gamma", "theta") if key in inspect.signature(make).parameters}
    assert make(2, 3).step is make(n_hidden=5, n_in=1, **other).step
    assert make(2, 3).output is make(1, 5).output


@over_constructors
def test_a_cell_stays_in_float32(name):
    cell = CONSTRUCTORS[name](N_IN, N)
    params, state = (jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree) for tree in (weights(cell), cell.init_state(weights(cell))))
    state = cell.init_state(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((state, cell.step(params, state, jnp.ones(N_IN, jnp.float32))))} == {jnp.dtype("float32")}
    assert not any(leaf.any() for leaf in jax.tree.leaves(state))


UNDECLARED = {"lstm_layernorm", "gru_reset_before", "mgu_reset_before", "ctrnn", "lem", "plrnn", "shallow_plrnn"}


@over_constructors
def test_the_declaration_is_affine_then_pointwise(name):
    cell = CONSTRUCTORS[name](N_IN, N)
    declared = cells.structure(cell.step)
    assert (declared is None) == (name in UNDECLARED)
    if declared is None:
        return
    params = weights(cell) if declared.prepare is None else declared.prepare(weights(cell))
    matrices = [jax.jacfwd(declared.affine, 1)(params, shaken(cell.init_state(weights(cell)), seed, 2.0), noise(seed, (N_IN,))) for seed in (1, 2)]
    assert relative(*matrices) == 0
    z = declared.affine(params, shaken(cell.init_state(weights(cell)), 3, 1.0), noise(3, (N_IN,)))
    for block in jax.tree.leaves(jax.jacfwd(declared.pointwise, 1)(params, z)):
        for gate in np.split(np.asarray(block), block.shape[1] // N, axis=1):
            assert (gate == np.diag(np.diag(gate))).all()


COUNTS = {  # n units, m inputs; leaves as they are stored, without constants
    "lstm": lambda n, m: 4 * (n * n + n * m + n),
    "lstm_peephole": lambda n, m: 4 * (n * n + n * m + n) + 3 * n,
    "lstm_layernorm": lambda n, m: 4 * (n * n + n * m + n) + 8 * n + 2 * n,
    "slstm": lambda n, m: 4 * (n * n + n * m + n),
    "gru": lambda n, m: 3 * (n * n + n * m + 2 * n),
    "gru_reset_before": lambda n, m: 3 * (n * n + n * m + n),
    "mgu": lambda n, m: 2 * (n * n + n * m + n) + n,
    "mgu_reset_before": lambda n, m: 2 * (n * n + n * m + n),
    "minimal_rnn": lambda n, m: 2 * n * n + n * m + 2 * n,
    "ugrnn": lambda n, m: 2 * (n * n + n * m + n),
    "leaky": lambda n, m: n * n + n * m + n,
    "ctrnn": lambda n, m: n * n + n * m + n,
    "indrnn": lambda n, m: n + n * m + n,
    "antisymmetric": lambda n, m: n * n + n * m + n,
    "gated_antisymmetric": lambda n, m: n * n + 2 * (n * m + n),
    "cornn": lambda n, m: 2 * n * n + n * m + n,
    "lem": lambda n, m: 4 * (n * n + n * m + n),
    "lmu": lambda n, m: 2 * n * n + n * m + m + 2 * n,
    "plrnn": lambda n, m: n + n * n + n * m + n,
    "shallow_plrnn": lambda n, m: n + 2 * n * n + n * m + 2 * n,
}
IDENTIFIABLE = {  # where fewer are published than stored: an antisymmetric matrix, and one without diagonal beside a diagonal one
    "antisymmetric": lambda n, m: n * (n - 1) // 2 + n * m + n,
    "gated_antisymmetric": lambda n, m: n * (n - 1) // 2 + 2 * (n * m + n),
    "plrnn": lambda n, m: n * n + n * m + n,
}


@over_constructors
def test_the_number_of_parameters_is_that_of_the_equations(name):
    params = CONSTRUCTORS[name](3, 5).init_params(jax.random.key(0))
    assert sum(leaf.size for key, leaf in params.items() if key != "constants") == COUNTS[name](5, 3)


@pytest.mark.parametrize("name", IDENTIFIABLE)
def test_the_number_of_parameters_that_count_is_the_published_one(name):
    cell = CONSTRUCTORS[name](N_IN, N)
    params = weights(cell)
    derivative = jax.vmap(jax.jacrev(cell.step), (None, 0, 0))(params, noise(1, (60, N)), noise(2, (60, N_IN)))
    rows = np.concatenate([np.asarray(leaf).reshape(60 * N, -1) for key, leaf in derivative.items() if key != "constants"], axis=1)
    assert np.linalg.matrix_rank(rows) == IDENTIFIABLE[name](N, N_IN)
