import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, linearize, unroll
from tests.models import (
    MODELS,
    N_HIDDEN,
    N_IN,
    RECURRENCES,
    at_time,
    from_real_vector,
    noise,
    over,
    over_all,
    over_cells,
    random_params,
    real_vector,
    relative,
    shaken,
)

EPS = np.finfo(np.float64).eps
DECLARED = [m for m in MODELS + RECURRENCES if cells.structure(m.step)]
LINEAR = [m for m in MODELS + RECURRENCES if isinstance(m.step, cells.Linear)]
over_declared = over(DECLARED)
over_linear = over(LINEAR)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_every_registered_cell_is_in_the_table():
    assert set(cells.REGISTRY) <= {model.name for model in MODELS + RECURRENCES}
    assert set(cells.REGISTRY) == set(cells.DESCRIPTIONS)
    assert len(cells.REGISTRY) >= 26


def test_no_row_of_the_table_has_a_zero():
    for model in MODELS + RECURRENCES:
        assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves((model.params, model.state, model.xs))), model.name


@over_all
@dtypes
def test_a_step_keeps_structure_shapes_and_dtypes_of_the_state(model, dtype):
    model = model.cast(dtype)
    after = model.step(model.params, model.state, at_time(model.xs, 0))
    describe = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert describe(after) == describe(model.state)


@over_cells
@dtypes
def test_the_output_is_one_vector_in_the_dtype_of_the_parameters(model, dtype):
    model = model.cast(dtype)
    width = 3 if "readout" in model.name else N_HIDDEN
    out = model.cell.output(model.params, model.state, at_time(model.xs, 0))
    assert (out.shape, out.dtype) == ((width,), dtype)


@over_cells
def test_the_first_state_is_zero_in_the_dtype_of_the_parameters(model):
    model = model.cast(np.float32)
    first = model.cell.init_state(model.params)
    assert jax.tree.structure(first) == jax.tree.structure(model.state)
    assert all(leaf.dtype in (np.float32, np.complex64) and not leaf.any() for leaf in jax.tree.leaves(first))


@over_all
def test_a_jitted_step_equals_the_eager_one(model):
    x = at_time(model.xs, 0)
    # Fused code may round differently: a few units in the last place of each of some ten operations.
    assert relative(jax.jit(model.step)(model.params, model.state, x), model.step(model.params, model.state, x)) < 50 * EPS


@over_all
def test_a_batched_step_equals_a_loop(model):
    batch = 3
    states = jax.tree.map(lambda leaf: leaf + noise(5, (batch, *leaf.shape), leaf.dtype), model.state)
    xs = jax.tree.map(lambda leaf: leaf[:batch], model.xs)
    found = jax.vmap(model.step, (None, 0, 0))(model.params, states, xs)
    for i in range(batch):
        assert relative(at_time(found, i), model.step(model.params, at_time(states, i), at_time(xs, i))) < 50 * EPS


@over_all
def test_the_jacobian_equals_central_differences(model):
    x, start = at_time(model.xs, 0), real_vector(model.state)
    found = np.asarray(linearize.jacobians(model.step, model.params, model.state, jax.tree.map(lambda leaf: leaf[:1], model.xs))[0])
    shifts = 1e-5 * np.eye(len(start))  # near ε^(1/3): truncation 1e-10 × third derivative, rounding ε / 1e-5
    value = lambda v: real_vector(model.step(model.params, from_real_vector(v, model.state), x))
    wanted = np.stack([(value(start + d) - value(start - d)) / 2e-5 for d in shifts], axis=1)
    assert np.abs(found - wanted).max() < 1e-8


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def vanilla_of_elman(p, h, x, phi):
    return phi(p["W_hh"] @ h + p["W_xh"] @ x + p["b_h"])


def lstm_of_gers(p, state, x):
    h, c = state
    blocks = zip(np.split(p["W_hh"], 4), np.split(p["W_xh"], 4), np.split(p["b_h"], 4), strict=True)
    i, f, g, o = (W @ h + U @ x + b for W, U, b in blocks)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_of_cudnn(p, h, x):
    (Wr, Wz, Wn), (Ur, Uz, Un) = np.split(p["W_hh"], 3), np.split(p["W_xh"], 3)
    (br, bz, bn), (cr, cz, cn) = np.split(p["b_x"], 3), np.split(p["b_h"], 3)
    r = sigmoid(Ur @ x + br + Wr @ h + cr)
    z = sigmoid(Uz @ x + bz + Wz @ h + cz)
    n = np.tanh(Un @ x + bn + r * (Wn @ h + cn))
    return (1 - z) * n + z * h


PUBLISHED = {
    "tanh": (cells.vanilla(3, 5), lambda p, h, x: vanilla_of_elman(p, h, x, np.tanh)),
    "relu": (cells.vanilla(3, 5, "relu"), lambda p, h, x: vanilla_of_elman(p, h, x, lambda a: np.maximum(a, 0))),
    "sigmoid": (cells.vanilla(3, 5, "sigmoid"), lambda p, h, x: vanilla_of_elman(p, h, x, sigmoid)),
    "identity": (cells.vanilla(3, 5, "identity"), lambda p, h, x: vanilla_of_elman(p, h, x, lambda a: a)),
    "lstm": (cells.lstm(3, 5), lstm_of_gers),
    "gru": (cells.gru(3, 5), gru_of_cudnn),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_fifty_steps_equal_the_published_equations(name):
    cell, published = PUBLISHED[name]
    # gain .5 keeps the trajectory out of chaos, where two correct programs part.
    params = random_params(cell, gain=0.5, input_gain=0.5)
    params["W_hh"] = params["W_hh"] / (1 + jnp.linalg.norm(params["W_hh"], 2))
    state, xs = shaken(cell.init_state(params), 7, 0.5), noise(8, (50, 3))
    found = unroll.states(cell.step, params, state, xs)
    plain, h = {key: np.asarray(leaf) for key, leaf in params.items()}, jax.tree.map(np.asarray, state)
    for t in range(50):
        h = published(plain, h, np.asarray(xs[t]))
        assert np.abs(real_vector(at_time(found, t)) - real_vector(h)).max() < 1e-13


def test_without_input_the_input_weights_have_no_part():
    for name, make in cells.REGISTRY.items():
        cell = make(N_IN, N_HIDDEN)
        params = random_params(cell)
        state = shaken(cell.init_state(params), 3, 0.5)
        assert relative(cell.step(params, state, None), cell.step(params, state, jnp.zeros(N_IN))) < EPS, name


@over_declared
def test_affine_then_pointwise_is_the_step(model):
    (declared, params), x = cells.prepared(model.step, model.params), at_time(model.xs, 0)
    found = declared.pointwise(params, declared.affine(params, model.state, x))
    assert relative(found, model.step(model.params, model.state, x)) == 0


@over_declared
def test_the_affine_part_has_one_jacobian_at_all_states_and_inputs(model):
    declared, params = cells.prepared(model.step, model.params)
    matrix = jax.jacfwd(declared.affine, 1)
    here = matrix(params, model.state, at_time(model.xs, 0))
    there = matrix(params, shaken(model.state, 9, 2.0), at_time(model.xs, 1))
    assert relative(here, there) == 0


@over_declared
def test_the_pointwise_part_does_not_mix_units(model):
    (declared, params), x = cells.prepared(model.step, model.params), at_time(model.xs, 0)
    z = declared.affine(params, model.state, x)
    for block in jax.tree.leaves(jax.jacfwd(declared.pointwise, 1)(params, z)):
        for gate in np.split(np.asarray(block), block.shape[1] // N_HIDDEN, axis=1):
            assert (gate == np.diag(np.diag(gate))).all()


@over(DECLARED)
def test_the_declared_backward_pass_is_that_of_a_plain_scan_in_both_modes_and_both_orders(model):
    xs, direction = model.inputs(7), jax.tree.map(jnp.ones_like, model.params)

    def plain(params, state, xs):
        return jax.lax.scan(lambda h, x: (model.step(params, h, x),) * 2, state, xs)[1]

    def ours(params, state, xs):
        return unroll.states(model.step, params, state, xs, checkpoint_every=3)

    size = lambda run: lambda *given: sum(jnp.sum(jnp.sin(jnp.abs(leaf) ** 2)) for leaf in jax.tree.leaves(run(*given)))
    grads = lambda run: jax.grad(size(run), (0, 1, 2))(model.params, model.state, xs)
    curvature = lambda run: jax.grad(lambda p: jax.jvp(lambda p: size(run)(p, model.state, xs), (p,), (direction,))[1])(model.params)
    assert relative(ours(model.params, model.state, xs), plain(model.params, model.state, xs)) < 50 * EPS
    assert relative(grads(ours), grads(plain)) < 1e-12
    assert relative(curvature(ours), curvature(plain)) < 1e-11


@over_linear
def test_a_step_that_is_declared_linear_is_linear_and_its_transitions_compose(model):
    step, params = cells.prepared(model.step, model.params)
    (a, drive), (b, _) = (step.coefficients(params, at_time(model.xs, i)) for i in (0, 1))
    act, compose = step.product
    moved = jax.tree.map(jnp.add, act(a, model.state), drive)
    assert relative(moved, model.step(model.params, model.state, at_time(model.xs, 0))) < 10 * EPS
    assert relative(act(compose(b, a), model.state), act(b, act(a, model.state))) < 50 * EPS
    assert jax.tree.map(jnp.shape, drive) == jax.tree.map(jnp.shape, model.state)


@over_declared
def test_the_slope_bound_bounds_every_jacobian(model):
    gamma = cells.structure(model.step).slope_bound
    if model.name.startswith("vanilla"):
        assert gamma is not None
    if gamma is not None:
        declared, params = cells.prepared(model.step, model.params)
        matrix = np.asarray(jax.jacfwd(declared.affine, 1)(params, model.state, at_time(model.xs, 0)))
        found = np.linalg.norm(linearize.jacobians(model.step, model.params, model.state, model.inputs(40)), 2, axis=(1, 2))
        assert found.max() <= gamma * np.linalg.norm(matrix, 2) * (1 + 10 * EPS)


def test_a_step_without_declaration_has_no_structure():
    assert cells.structure(cells.stack(cells.gru(1, 2)).step) is None
    assert cells.structure(np.tanh) is None


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        (cells.vanilla(3, 5), 5 * 5 + 5 * 3 + 5),
        (cells.lstm(3, 5), 4 * (5 * 5 + 5 * 3 + 5)),
        (cells.gru(3, 5), 3 * (5 * 5 + 5 * 3 + 2 * 5)),
        (cells.stack(cells.gru(3, 5), cells.vanilla(5, 2)), 3 * (25 + 15 + 10) + 4 + 10 + 2),
        (cells.with_readout(cells.vanilla(3, 5), 2), 45 + 2 * 5 + 2),
        (cells.with_readout(cells.vanilla(3, 5), 2, 7), 45 + 7 * 5 + 7 + 2 * 7 + 2),
        (cells.with_encoder(cells.vanilla(3, 5), 4, 3), 45 + 3 * 4 + 3),
        (cells.vanilla_layernorm(3, 5), 5 * 5 + 5 * 3 + 5 + 5),
        (cells.input_diagonal(3, 5), 2 * (5 * 3 + 5)),
    ],
)
def test_the_number_of_parameters_is_that_of_the_equations(cell, count):
    params = cell.init_params(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_a_stack_feeds_each_layer_with_the_output_below():
    lower, upper = cells.lstm(2, 3), cells.gru(3, 4)
    cell = cells.stack(lower, upper)
    params = random_params(cell)
    state, x = shaken(cell.init_state(params), 4, 0.5), noise(5, (2,))
    first = lower.step(params["layers"][0], state[0], x)
    second = upper.step(params["layers"][1], state[1], first.h)
    assert relative(cell.step(params, state, x), (first, second)) == 0
    assert relative(cell.output(params, state, x), state[1]) == 0


def test_a_readout_leaves_the_recurrence_alone():
    inner = cells.gru(2, 3)
    cell = cells.with_readout(inner, 2)
    params, h = random_params(cell), noise(3, (3,))
    assert cell.step is inner.step
    assert relative(cell.output(params, h, None), params["W_hy"] @ h + params["b_y"]) == 0


def test_an_encoder_hands_the_recurrence_a_nonlinear_map_of_its_input():
    inner = cells.lru(4, 3)
    cell = cells.with_encoder(inner, 2, 4, "tanh")
    params, h, x = random_params(cell), noise(3, (3,), np.complex128), noise(4, (2,))
    heard = np.tanh(params["W_in"] @ x + params["b_in"])
    assert isinstance(cell.step, cells.Linear)
    assert relative(cell.step(params, h, x), inner.step(params, h, heard)) < 10 * EPS
    assert relative(cell.output(params, h, x), inner.output(params, h, heard)) < 10 * EPS
    with pytest.raises(ValueError, match="make its n_in 5"):
        cells.with_encoder(inner, 2, 5).init_params(jax.random.key(0))
    with pytest.raises(ValueError, match="give the encoder to the lowest layer"):
        cells.with_encoder(cells.stack(inner), 2, 4)


def test_a_hidden_layer_of_a_readout_is_its_equation():
    cell = cells.with_readout(cells.gru(2, 3), 2, 5)
    params, h = random_params(cell), noise(3, (3,))
    hidden = jax.nn.gelu(params["W_hidden"] @ h + params["b_hidden"])
    assert relative(cell.output(params, h, None), params["W_hy"] @ hidden + params["b_y"]) == 0


def test_a_normalised_preactivation_does_not_hear_the_scale_of_its_weights():
    cell = cells.vanilla_layernorm(2, 8)
    params, h, x = random_params(cell), noise(3, (8,)), noise(4, (2,))
    louder = {name: leaf * (100 if name.startswith("W") else 1) for name, leaf in params.items()}
    assert relative(cell.step(louder, h, x), cell.step(params, h, x)) < 1e-5  # the 1e-5 beside the variance


@pytest.mark.parametrize(("transition", "low"), [("sigmoid", 0), ("tanh", -1), ("clip", -1)])
def test_transitions_stay_within_their_bounds_and_the_clip_passes_the_gradient_on(transition, low):
    cell = cells.input_diagonal(2, 64, transition)
    params = random_params(cell, transition_gain=2.0)
    a = lambda params: cell.step.coefficients(params, noise(1, (2,)))[0]
    assert (a(params) >= low).all()
    assert (a(params) <= 1).all()
    assert ((a(params) < 0).any()) == (low < 0)
    slopes = jax.grad(lambda p: jnp.sum(a(p)))(params)["b_h"][:64]
    assert (slopes == 1).all() if transition == "clip" else (slopes < 1).all()


@pytest.mark.parametrize("init", ["orthogonal", "gaussian", "identity"])
@pytest.mark.parametrize("name", ["vanilla", "lstm", "gru"])
def test_gains_scale_the_weights_they_name(name, init):
    cell, key = cells.REGISTRY[name](3, 8, init=init), jax.random.key(1)
    one, other = cell.init_params(key), cell.init_params(key, gain=2.0, input_gain=3.0)
    assert relative(other["W_hh"], 2 * one["W_hh"]) < 10 * EPS
    assert relative(other["W_xh"], 3 * one["W_xh"]) < 10 * EPS


@pytest.mark.parametrize(("name", "gates"), [("vanilla", 1), ("lstm", 4), ("gru", 3)])
def test_every_gate_of_an_orthogonal_cell_is_orthogonal(name, gates):
    weights = cells.REGISTRY[name](3, 8, init="orthogonal").init_params(jax.random.key(2))["W_hh"]
    blocks = np.split(np.asarray(weights), gates)
    assert all(np.abs(W @ W.T - np.eye(8)).max() < 100 * EPS for W in blocks)
    assert all(np.abs(a - b).max() > 0.1 for a in blocks for b in blocks if a is not b)


def test_the_forget_and_update_biases_go_to_their_gates():
    forget = cells.lstm(1, 2).init_params(jax.random.key(0), forget_bias=5.0)["b_h"]
    update = cells.gru(1, 2).init_params(jax.random.key(0), update_bias=3.0)
    assert forget.tolist() == [0, 0, 5, 5, 0, 0, 0, 0]
    assert update["b_x"].tolist() == [0, 0, 3, 3, 0, 0]
    assert update["b_h"].tolist() == [0] * 6
