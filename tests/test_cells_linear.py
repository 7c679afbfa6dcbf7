"""Linear, matrix-valued, orthogonal and unitary recurrences: published equations in plain NumPy, and what theory says of their Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxrnn import cells, linearize, lyapunov, spectra, unroll
from jaxrnn.cells import diagonal
from tests.models import at_time, noise, random_params, real_vector, relative, shaken

EPS = np.finfo(np.float64).eps
N_IN, N, STEPS = 3, 4, 50
sigmoid = lambda a: 1 / (1 + np.exp(-a))
softplus = lambda a: np.log1p(np.exp(a))
elu1 = lambda a: np.where(a > 0, a + 1, np.exp(a))
unit = lambda v: v / np.linalg.norm(v)


def modrelu(a, b):
    return a / np.abs(a) * np.maximum(np.abs(a) + b, 0)


def orvieto(p, h, x):
    lam = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    return lam * h + np.exp(p["gamma_log"]) * ((p["B_re"] + 1j * p["B_im"]) @ x)


def smith(p, h, x):
    lam, dt = -np.exp(p["log_decay"]) + 1j * p["omega"], np.exp(p["log_dt"])
    return np.exp(lam * dt) * h + (np.exp(lam * dt) - 1) / lam * ((p["B_re"] + 1j * p["B_im"]) @ x)


def feng_gru(p, h, x):
    z, new = np.split(p["W_xh"] @ x + p["b_h"], 2)
    return (1 - sigmoid(z)) * h + sigmoid(z) * new


def feng_lstm(p, h, x):
    f, i, new = np.split(p["W_xh"] @ x + p["b_h"], 3)
    f, i = sigmoid(f), sigmoid(i)
    return f / (f + i) * h + i / (f + i) * new


def griffin(p, h, x):
    u = p["W_xh"] @ x
    r, i = np.split(sigmoid(p["W_gates"] @ u + p["b_gates"]), 2)
    a = sigmoid(p["Lambda"]) ** (8 * r)
    return a * h + np.sqrt(1 - a**2) * (i * u)


def mamba(p, s, x):
    u = p["W_xh"] @ x
    dt = softplus(p["W_dt"] @ u + p["b_dt"])
    return np.exp(dt[:, None] * -np.exp(p["A_log"])) * s + np.outer(dt * u, p["W_B"] @ u)


def katharopoulos(p, state, x):
    s, z = state
    k = elu1(p["W_k"] @ x)
    return s + np.outer(p["W_v"] @ x, k), z + k


def schlag(p, s, x, alpha=1.0):
    k = unit(p["W_k"] @ x)
    beta = p["constants"]["beta_max"] * sigmoid(p["w_beta"] @ x + p["b_beta"])
    old = alpha * s @ k
    return alpha * s + beta * np.outer(p["W_v"] @ x - old, k)


def yang(p, s, x):
    return schlag(p, s, x, sigmoid(p["w_alpha"] @ x + p["b_alpha"]))


def beck(p, state, x):
    """With m as the paper has it; C and n are those without a stabiliser, times e^{−m}."""
    c, n, m = state
    k = p["W_k"] @ x / np.sqrt(len(p["W_k"]))
    i, f = p["w_i"] @ x + p["b_i"], np.log(sigmoid(p["w_f"] @ x + p["b_f"]))
    new = max(f + m, i)
    keep, write = np.exp(f + m - new), np.exp(i - new)
    return keep * c + write * np.outer(p["W_v"] @ x, k), keep * n + write * k, np.asarray(new)


def skew(a):
    return np.tril(a, -1) - np.tril(a, -1).T


def lezcano(p, h, x):
    return modrelu(scipy.linalg.expm(skew(p["A"])) @ h + p["W_xh"] @ x, p["b_h"])


def helfrich(p, h, x):
    s, one = skew(p["A"]), np.eye(len(h))
    return modrelu(np.linalg.inv(one + s) @ (one - s) @ np.diag(p["constants"]["signs"]) @ h + p["W_xh"] @ x, p["b_h"])


def mhammedi(p, h, x):
    for v in p["V"][::-1]:
        h = h - 2 * v * (v @ h) / (v @ v)
    return np.tanh(h + p["W_xh"] @ x + p["b_h"])


def kerg(p, h, x):
    theta = np.zeros((len(h), len(h)))
    for i, (gamma, angle) in enumerate(zip(p["gamma"], p["theta"], strict=True)):
        block = slice(2 * i, 2 * i + 2)
        theta[block, block] = gamma * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        theta[block, 2 * i + 2 :] = p["T"][block, 2 * i + 2 :]
    q = scipy.linalg.expm(skew(p["A"]))
    return modrelu(q @ theta @ q.T @ h + p["W_xh"] @ x, p["b_h"])


def arjovsky(p, h, x):
    n = len(h)
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n)
    d = [np.diag(np.exp(1j * omega)) for omega in p["omega"]]
    v = p["v_re"] + 1j * p["v_im"]
    r = [np.eye(n) - 2 * np.outer(u, u.conj()) / np.vdot(u, u).real for u in v]
    permuted = np.eye(n)[np.argsort(np.random.PCG64(n).random_raw(n))]
    w = d[2] @ r[1] @ fourier.conj().T @ d[1] @ permuted @ r[0] @ fourier @ d[0]
    return modrelu(w @ h + (p["V_re"] + 1j * p["V_im"]) @ x, p["b_h"])


PUBLISHED = {
    "lru": orvieto, "s5": smith, "mingru": feng_gru, "minlstm": feng_lstm, "rglru": griffin, "selective_ssm": mamba,
    "linear_attention": katharopoulos, "deltanet": schlag, "gated_deltanet": yang, "mlstm": beck,
    "exprnn": lezcano, "scornn": helfrich, "ornn": mhammedi, "nnrnn": kerg, "urnn": arjovsky,
}  # fmt: skip
COUNTS = {  # n units, m inputs, keys and states of n as by default; leaves as they are stored, without constants
    "lru": lambda n, m: 3 * n + 2 * n * m + 2 * n * n + n * m,
    "s5": lambda n, m: 3 * n + 2 * n * m + 2 * n * n + n * m,
    "mingru": lambda n, m: 2 * (n * m + n),
    "minlstm": lambda n, m: 3 * (n * m + n),
    "rglru": lambda n, m: n + 2 * (n * n + n) + n * m,
    "selective_ssm": lambda n, m: n * n + n * n + n + 2 * n * n + n + n * m,
    "linear_attention": lambda n, m: 3 * n * m,
    "deltanet": lambda n, m: 3 * n * m + m + 1,
    "gated_deltanet": lambda n, m: 3 * n * m + 2 * (m + 1),
    "mlstm": lambda n, m: 4 * n * m + n + 2 * (m + 1),
    "exprnn": lambda n, m: n * n + n * m + n,  # of A n(n − 1)/2 are read
    "scornn": lambda n, m: n * n + n * m + n,
    "ornn": lambda n, m: n * n + n * m + n,
    "nnrnn": lambda n, m: 2 * n * n + n + n * m + n,
    "urnn": lambda n, m: 3 * n + 4 * n + 2 * n * m + n + 2 * n * n + n,
}
over_published = pytest.mark.parametrize("name", PUBLISHED)


def case(name, length=STEPS):
    cell = cells.REGISTRY[name](N_IN, N)
    params = random_params(cell)
    return cell, params, shaken(cell.init_state(params), 7, 0.5), noise(8, (length, N_IN))


@over_published
def test_fifty_steps_equal_the_published_equations(name):
    cell, params, state, xs = case(name)
    if name == "nnrnn":  # eigenvalues inside the circle: outside, states grow without end
        params = params | {"gamma": 0.2 + 0.1 * jnp.abs(params["gamma"]), "T": 0.1 * params["T"]}
    found = unroll.states(cell.step, params, state, xs)
    plain, h = jax.tree.map(np.asarray, params), jax.tree.map(np.asarray, state)
    for t in range(STEPS):
        h = PUBLISHED[name](plain, h, np.asarray(xs[t]))
        ours = real_vector(at_time(found, t))
        assert np.abs(ours - real_vector(h)).max() < 1e-12 * max(1, np.abs(ours).max())


@over_published
def test_gradients_through_fifty_steps_are_those_of_differences(name):
    cell, params, state, xs = case(name)
    weights = jax.tree.map(lambda leaf: noise(9, (STEPS, *leaf.shape)), state)

    def value(params):
        hs = unroll.states(cell.step, params, state, xs)
        return sum(jnp.sum(w * h.real) for w, h in zip(jax.tree.leaves(weights), jax.tree.leaves(hs), strict=True)) / STEPS

    constants = params.get("constants", {})
    direction = jax.tree.map(lambda leaf: noise(10, leaf.shape), params) | (
        {"constants": jax.tree.map(jnp.zeros_like, constants)} if constants else {}
    )
    moved = lambda t: jax.tree.map(lambda leaf, d: leaf + t * d, params, direction)
    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(jax.grad(value)(params)), jax.tree.leaves(direction), strict=True))
    t = 1e-6
    difference = (value(moved(t)) - value(moved(-t))) / (2 * t)
    assert abs(slope - difference) < 1e-6 * (1 + abs(slope))


@over_published
def test_the_number_of_parameters_is_the_published_one(name):
    params = cells.REGISTRY[name](3, 6).init_params(jax.random.key(0))
    assert sum(leaf.size for key, leaf in params.items() if key != "constants") == COUNTS[name](6, 3)


def test_the_exponents_of_an_lru_are_the_logs_of_its_moduli_each_twice():
    cell, params, state, xs = case("lru", 400)
    wanted = np.sort(np.repeat(-np.exp(params["nu_log"]), 2))[::-1]
    assert relative(lyapunov.spectrum(cell.step, params, state, xs).exponents, wanted) < 0.02  # O(log κ / T) where neighbours are close
    jacobian = linearize.jacobians(cell.step, params, state, xs[:1])[0]
    assert relative(np.sort(np.log(np.abs(np.linalg.eigvals(jacobian))))[::-1], wanted) < 1e-12


def test_an_lru_starts_on_its_ring():
    params = cells.lru(2, 500, r_min=0.9, r_max=0.99).init_params(jax.random.key(0))
    modulus = np.exp(-np.exp(params["nu_log"]))
    assert 0.9 <= modulus.min() < 0.91
    assert 0.98 < modulus.max() <= 0.99
    # γ² = 1 − |λ|²: white noise of unit variance leaves each unit with the variance of its input.
    assert relative(np.exp(2 * params["gamma_log"]), 1 - modulus**2) < 1e-10
    with pytest.raises(ValueError, match="must make a ring"):
        cells.lru(2, 3, r_min=0.9, r_max=0.5)


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
def test_at_zero_pre_activation_a_minimal_gated_unit_forgets_half(name):
    cell = cells.REGISTRY[name](1, N)
    params = jax.tree.map(jnp.zeros_like, cell.init_params(jax.random.key(0)))
    found = lyapunov.spectrum(cell.step, params, jnp.ones(N), jnp.zeros((100, 1)))
    assert relative(found.exponents, np.full(N, -np.log(2))) < 1e-12


@pytest.mark.parametrize(("beta_max", "lowest"), [(1.0, 0.0), (2.0, -1.0)])
def test_the_transitions_of_a_deltanet_have_eigenvalues_one_and_one_minus_beta(beta_max, lowest):
    cell = cells.deltanet(N_IN, N, beta_max=beta_max)
    params = random_params(cell) | {"constants": {"beta_max": jnp.asarray(beta_max)}}
    for x in 10 * noise(3, (20, N_IN)):
        transition, _ = cell.step.coefficients(params, x)
        found, beta = np.linalg.eigvalsh(transition), beta_max * sigmoid(params["w_beta"] @ x + params["b_beta"])
        assert np.abs(found - np.sort([1 - beta, *np.ones(N - 1)])).max() < 1e-12
        assert (found >= lowest - 1e-12).all()
    with pytest.raises(ValueError, match="must lie in"):
        cells.deltanet(2, 3, beta_max=2.5)


@pytest.mark.parametrize("name", ["s5", "rglru", "selective_ssm", "mingru", "minlstm", "gated_deltanet", "lru"])
def test_no_transition_of_a_stable_linear_cell_grows(name):
    cell, params, _, xs = case(name)
    for x in xs:
        transition, _ = cell.step.coefficients(params, 5 * x)
        size = np.linalg.norm(transition, 2) if name == "gated_deltanet" else np.abs(transition).max()
        assert size <= 1


def test_the_frequencies_of_hippo_decay_at_one_half():
    k = np.sqrt(2 * np.arange(12) + 1.0)
    legs = -np.tril(np.outer(k, k), -1) - np.diag(np.arange(12) + 1.0)
    normal = legs + 0.5 * np.outer(k, k)  # HiPPO-LegS less a rank-one term: −1/2 plus a skew matrix
    assert np.abs(normal + normal.T + np.eye(12)).max() < 1e-12
    wanted = np.sort_complex(np.linalg.eigvals(normal))
    found = diagonal.hippo_spectrum(6)
    assert np.abs(np.sort(found.imag) - np.sort(wanted.imag)[6:]).max() < 1e-10
    assert np.abs(found.real + 0.5).max() < 1e-12


def isometric(cell, params, length=200):
    state = shaken(cell.init_state(params), 3, 1.0)
    jacobians = linearize.jacobians(cell.step, params, state, jnp.zeros((length, N_IN)))
    return float(np.abs(spectra.product_log_singular_values(jacobians)).max())


@pytest.mark.parametrize("name", ["exprnn", "scornn", "ornn"])
def test_products_of_a_linear_orthogonal_recurrence_are_isometric(name):
    cell = cells.REGISTRY[name](N_IN, 16, activation="identity")
    assert isometric(cell, random_params(cell) | cell.init_params(jax.random.key(1)) | {"b_h": jnp.zeros(16)}) < 1e-10


def test_products_of_a_unitary_recurrence_are_isometric_while_no_unit_is_cut_off():
    cell = cells.urnn(N_IN, 16)
    params = random_params(cell) | {"b_h": jnp.zeros(16)}
    assert isometric(cell, params) < 1e-10


@pytest.mark.parametrize("name", ["exprnn", "scornn", "nnrnn", "urnn"])
@pytest.mark.parametrize(("bias", "slope"), [(0.0, 1.0), (0.5, 1.0), (-0.5, 0.0)])
def test_a_state_at_rest_is_alive_while_its_bias_is_not_negative(name, bias, slope):
    cell = cells.REGISTRY[name](N_IN, N)
    params = cell.init_params(jax.random.key(0))
    params |= {"b_h": jnp.full_like(params["b_h"], bias)}
    jacobian = linearize.jacobians(cell.step, params, cell.init_state(params), None, length=1)[0]
    assert np.abs(np.linalg.svd(jacobian, compute_uv=False) - slope).max() < 1e-12


def test_a_griffin_gate_that_underflows_has_a_derivative():
    cell = cells.rglru(N_IN, N)
    params = cell.init_params(jax.random.key(0)) | {"b_gates": jnp.full(2 * N, -800.0)}
    gradient = jax.grad(lambda p: jnp.sum(unroll.states(cell.step, p, jnp.ones(N), noise(1, (3, N_IN)))))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_eigenvalues_of_a_schur_recurrence_are_its_circle_whatever_lies_above():
    cell = cells.nnrnn(N_IN, 6, activation="identity")
    params = random_params(cell)
    w = np.asarray(linearize.jacobians(cell.step, params, jnp.zeros(6), jnp.zeros((1, N_IN)))[0])
    assert relative(np.sort(np.abs(np.linalg.eigvals(w))), np.sort(np.repeat(np.abs(params["gamma"]), 2))) < 1e-8
    above = np.triu(np.asarray(params["T"]), 1)
    above[np.arange(0, 6, 2), np.arange(1, 6, 2)] = 0
    assert abs(spectra.henrici(w) * np.linalg.norm(w) - np.linalg.norm(above)) < 1e-6  # the square root of a difference
    with pytest.raises(ValueError, match="must be even"):
        cells.nnrnn(2, 3)


def test_linear_attention_averages_and_never_forgets():
    cell, params, _, xs = case("linear_attention", 20)
    start = cell.init_state(params)
    found = unroll.states(cell.step, params, start, xs)
    q, k, v = (np.asarray(xs @ params[name].T) for name in ("W_q", "W_k", "W_v"))
    weights = elu1(k) @ elu1(q[-1])
    wanted = (weights[:, None] * v).sum(0) / weights.sum()
    assert relative(cell.output(params, at_time(found, 19), xs[19]), wanted) < 1e-12
    assert (np.asarray(linearize.jacobians(cell.step, params, start, xs[:1])[0]) == np.eye(N * N + N)).all()


def test_the_stabiliser_of_an_mlstm_changes_no_output():
    cell, params, _, xs = case("mlstm", 20)
    found = unroll.states(cell.step, params, cell.init_state(params), xs)
    p, (c, n) = jax.tree.map(np.asarray, params), (np.zeros((N, N)), np.zeros(N))
    for t, x in enumerate(np.asarray(xs)):
        k, q = p["W_k"] @ x / np.sqrt(N), p["W_q"] @ x
        i, f = np.exp(p["w_i"] @ x + p["b_i"]), sigmoid(p["w_f"] @ x + p["b_f"])
        c, n = f * c + i * np.outer(p["W_v"] @ x, k), f * n + i * k
        wanted = sigmoid(p["W_o"] @ x + p["b_o"]) * (c @ q) / max(abs(n @ q), 1)
        assert relative(cell.output(params, at_time(found, t), xs[t]), wanted) < 1e-12
    huge = params | {"b_i": jnp.asarray(2000.0)}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(unroll.states(cell.step, huge, cell.init_state(huge), xs)))
