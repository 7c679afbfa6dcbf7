import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, lyapunov, parallel, unroll
from jaxrnn.cells.protocol import LEFT, RIGHT, Linear
from jaxrnn.parallel import trajectory
from tests.models import MODELS, N_HIDDEN, N_IN, noise, random_params, relative, shaken

SOME = ("gru", "lstm", "complex", "scalar", "dictionary")  # the rest of the table is slow
over_some_models = pytest.mark.parametrize(
    "model", [pytest.param(m, marks=() if m.name in SOME else pytest.mark.slow, id=m.name.replace(" ", "-")) for m in MODELS]
)
METHODS = [parallel.newton, parallel.quasi_newton]
over_methods = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)


def rotation(params, x):
    """Complex, |λ| = .999: what is far back is forgotten slowly."""
    turn = jax.lax.complex(jnp.cos(params["angle"]), jnp.sin(params["angle"]))
    return params["radius"].astype(turn.dtype) * turn, params["V"] @ x.astype(params["V"].dtype)


def gated(params, x):
    """Real and diagonal, the transition a function of the input."""
    gate = jax.nn.sigmoid(params["G"] @ x + 2)
    return gate, (1 - gate) * (params["V"] @ x)


def householder(x, width):
    """I − 2 v vᵀ / ‖v‖², shrunk."""
    v = x[:width]
    return 0.999 * (jnp.eye(width, dtype=x.dtype) - 2 * jnp.outer(v, v) / (v @ v))


def on_the_left(params, x):
    return householder(x, 3), params["V"] @ x


def on_the_right(params, x):
    return householder(x, 3), jnp.outer(params["V"] @ x, x[:3])


LINEAR = {
    "diagonal": (Linear(gated), {"G": noise(1, (4, 3)), "V": noise(2, (4, 3))}, noise(3, (4,)), 3),
    "complex": (
        Linear(rotation),
        {"radius": jnp.full(4, 0.999), "angle": noise(4, (4,)), "V": noise(5, (4, 3), np.complex128)},
        noise(6, (4,), np.complex128),
        3,
    ),
    "left": (Linear(on_the_left, LEFT), {"V": noise(7, (3, 3))}, noise(8, (3,)), 3),
    "right": (Linear(on_the_right, RIGHT), {"V": noise(9, (2, 3))}, noise(10, (2, 3)), 3),
}
for seed, (name, make) in enumerate(cells.REGISTRY.items(), 1):
    if isinstance(make(N_IN, N_HIDDEN).step, Linear):
        cell = make(N_IN, N_HIDDEN)
        params = random_params(cell, seed)
        LINEAR[name] = (cell.step, params, shaken(cell.init_state(params), 50 + seed, 0.5), N_IN)
over_linear = pytest.mark.parametrize("name", LINEAR)


def as_dtype(tree, dtype):
    convert = lambda leaf: leaf.astype(np.result_type(dtype, np.complex64) if jnp.iscomplexobj(leaf) else dtype)
    return jax.tree.map(convert, tree)


def loss(states):
    """A number that weighs every entry at every time differently."""
    weigh = lambda leaf: jnp.sum(jnp.cos(jnp.arange(float(leaf.size))).reshape(leaf.shape).astype(leaf.real.dtype) * jnp.abs(leaf) ** 2)
    return sum(weigh(leaf) for leaf in jax.tree.leaves(states))


def gradients(run, *arguments):
    return jax.grad(lambda *a: loss(run(*a)), (0, 1, 2))(*arguments)


def tanh_net(gain, n, length, driven, seed=0):
    """W N(0, g²/n), random biases and inputs, or neither."""
    driven = float(driven)
    params = {"W": gain * noise(seed, (n, n)) / np.sqrt(n), "U": driven * noise(seed + 1, (n, 2)), "b": 0.3 * driven * noise(seed + 2, (n,))}
    return params, noise(seed + 3, (n,)) / 2, noise(seed + 4, (length, 2))


def tanh_step(params, h, x):
    return jnp.tanh(params["W"] @ h + params["U"] @ x + params["b"])


@over_linear
@pytest.mark.parametrize("length", [1, 2, 7, 1000])
def test_the_associative_scan_equals_the_loop(name, length):
    step, params, state, n_in = LINEAR[name]
    xs = noise(20, (length, n_in))
    wanted = unroll.states(step, params, state, xs)
    found = parallel.associative(step, params, state, xs)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, wanted)
    assert relative(found, wanted) < 1e-12


@pytest.mark.slow
@over_linear
def test_the_associative_scan_equals_the_loop_over_100_000_steps_in_float32(name):
    step, params, state, n_in = LINEAR[name]
    small = as_dtype((params, state, noise(21, (100_000, n_in))), np.float32)
    found, loop = parallel.associative(step, *small), unroll.states(step, *small)
    exact = unroll.states(step, *as_dtype(small, np.float64))
    # A loop that adds up 100,000 terms (linear_attention) is itself off by √T ε = 1e-5, the tree of the associative scan by 2e-7.
    assert min(relative(found, loop), relative(found, exact)) < 1e-5
    # Rounding |λ| = .999 to float32 alone moves the states by up to ε / .001, whoever computes them.
    assert relative(found, exact) < 2 * relative(loop, exact)


@over_linear
def test_derivatives_of_the_associative_scan_are_those_of_the_loop(name):
    step, params, state, n_in = LINEAR[name]
    arguments = params, state, noise(22, (40, n_in))
    found, wanted = (gradients(functools.partial(run, step), *arguments) for run in (parallel.associative, unroll.states))
    assert relative(found, wanted) < 1e-12
    tangents = shaken(jax.tree.map(jnp.zeros_like, arguments), 60, 1.0)
    pushed = [jax.jvp(functools.partial(run, step), arguments, tangents)[1] for run in (parallel.associative, unroll.states)]
    assert relative(*pushed) < 1e-12


def test_a_stack_of_linear_cells_is_solved_layer_by_layer():
    layer = lambda n_in, seed: cells.Cell(
        lambda key: {"G": noise(seed, (4, n_in)), "V": noise(seed + 1, (4, n_in))},
        lambda params: jnp.zeros(4),
        Linear(gated),
        lambda params, h, x: jnp.sin(h),
    )
    cell = cells.stack(layer(3, 30), cells.stack(layer(4, 32), layer(4, 34)))
    params = cell.init_params(jax.random.key(0))
    state, xs = shaken(cell.init_state(params), 36, 1.0), noise(37, (50, 3))
    found, wanted = (run(cell.step, params, state, xs) for run in (parallel.associative, unroll.states))
    assert relative(found, wanted) < 1e-13


def test_the_associative_scan_works_without_inputs_under_vmap_and_with_prepared_parameters():
    step = Linear(lambda a, x: (a, jnp.ones(3)), prepare=jax.nn.sigmoid)
    run = lambda logit, h: parallel.associative(step, logit, h, None, length=9)
    logits, starts = noise(40, (5, 3)), noise(41, (5, 3))
    found = jax.vmap(run)(logits, starts)
    assert relative(found, jnp.stack([unroll.states(step, a, h, None, length=9) for a, h in zip(logits, starts, strict=True)])) < 1e-14


def test_a_step_that_is_not_declared_linear_is_refused_with_the_alternative():
    layer = cells.gru(2, 2)
    for cell in (layer, cells.stack(layer, layer)):
        params = random_params(cell)
        with pytest.raises(TypeError, match=r"declares itself linear.*parallel\.newton"):
            parallel.associative(cell.step, params, cell.init_state(params), noise(45, (3, 2)))


@over_methods
@over_some_models
def test_newton_finds_the_states_and_derivatives_of_the_loop(model, method):
    arguments = model.params, model.state, model.inputs(20)

    def followed(*a):
        found = method(model.step, *a)
        return loss(found.states), found

    (_, found), gradient = jax.value_and_grad(followed, (0, 1, 2), has_aux=True)(*arguments)
    assert found.converged
    assert found.iterations <= 20
    assert relative(found.states, unroll.states(model.step, *arguments)) < 1e-11
    assert relative(gradient, gradients(functools.partial(unroll.states, model.step), *arguments)) < 1e-9


@over_methods
@over_some_models
def test_newton_in_float32_keeps_dtypes_and_is_right_to_its_rounding(model, method):
    small = model.cast(np.float32)
    found = method(small.step, small.params, small.state, small.xs)
    assert found.converged
    assert [leaf.dtype for leaf in jax.tree.leaves(found.states)] == [leaf.dtype for leaf in jax.tree.leaves(small.state)]
    assert relative(found.states, unroll.states(model.step, model.params, model.state, model.xs)) < 1e-5


@over_methods
def test_tangents_are_pushed_through_the_solution(method):
    params, state, xs = tanh_net(0.9, 5, 30, True)
    tangents = shaken(jax.tree.map(jnp.zeros_like, (params, state, xs)), 70, 1.0)
    run = lambda *a: method(tanh_step, *a).states
    found, wanted = (jax.jvp(f, (params, state, xs), tangents)[1] for f in (run, functools.partial(unroll.states, tanh_step)))
    assert relative(found, wanted) < 1e-12


@over_methods
def test_second_derivatives_are_those_of_the_loop(method):
    params, state, xs = tanh_net(0.9, 3, 12, True)
    hessian = lambda run: jax.hessian(lambda h: loss(run(params, h, xs)))(state)
    outer = lambda run: jax.grad(lambda p: jnp.sum(jax.grad(lambda h: loss(run(p, h, xs)))(state) ** 2))(params)
    plain, ours = functools.partial(unroll.states, tanh_step), lambda *a: method(tanh_step, *a).states
    assert relative(hessian(ours), hessian(plain)) < 1e-11
    assert relative(outer(ours), outer(plain)) < 1e-11


@over_methods
def test_newton_under_jit_and_vmap_equals_a_loop_over_sequences(method):
    params = tanh_net(0.8, 4, 1, True)[0]
    xs, starts = noise(80, (5, 30, 2)) * jnp.arange(5.0)[:, None, None], noise(81, (5, 4))
    run = lambda h, x: method(tanh_step, params, h, x)
    batched = jax.jit(jax.vmap(run))(starts, xs)
    alone = [run(h, x) for h, x in zip(starts, xs, strict=True)]
    assert relative(batched.states, jnp.stack([r.states for r in alone])) < 1e-12
    assert batched.iterations.tolist() == [int(r.iterations) for r in alone]
    pull = jax.vmap(jax.grad(lambda h, x: loss(run(h, x).states)))
    assert relative(pull(starts, xs), jax.vmap(jax.grad(lambda h, x: loss(unroll.states(tanh_step, params, h, x))))(starts, xs)) < 1e-11


@over_methods
@pytest.mark.parametrize(("n", "length"), [(1, 1), (1, 9), (6, 1)])
def test_one_step_and_one_unit_are_sequences_too(method, n, length):
    params, state, xs = tanh_net(0.9, n, length, True)
    found = method(tanh_step, params, state, xs)
    assert found.converged
    assert found.iterations <= length
    assert relative(found.states, unroll.states(tanh_step, params, state, xs)) < 1e-14


def test_a_linear_step_takes_one_iteration_even_where_it_explodes():
    for factor in (0.5, 1.0, 1.5):
        found = parallel.newton(lambda a, h, x: a * (h + x), factor, jnp.ones(3), noise(90, (200, 3)))
        assert (bool(found.converged), int(found.iterations)) == (True, 1)
        assert jnp.isnan(found.residuals[1:]).all()


@over_methods
def test_a_step_that_forgets_its_state_needs_no_iteration(method):
    found = method(lambda p, h, x: jnp.tanh(x), (), jnp.ones(2), noise(91, (50, 2)))
    assert (bool(found.converged), int(found.iterations)) == (True, 0)


@over_methods
@pytest.mark.parametrize(("gain", "driven"), [(2.0, False), (5.0, True)])
def test_chaos_is_reported_with_finite_states(method, gain, driven):
    params, state, xs = tanh_net(gain, 16, 2000, driven)
    found = method(tanh_step, params, state, xs, max_iterations=30)
    assert not found.converged
    assert int(found.iterations) == 30
    assert jnp.isfinite(found.states).all()
    wanted = unroll.states(tanh_step, params, state, xs)
    assert relative(found.states[:30], wanted[:30]) < 1e-12  # an iteration makes at least one more step exact


@over_methods
@pytest.mark.parametrize("gain", [2.0, 20.0])
def test_as_many_iterations_as_steps_suffice_for_any_chaos_in_floating_point(method, gain):
    params, state, xs = tanh_net(gain, 8, 150, False)
    found = method(tanh_step, params, state, xs, max_iterations=150)
    assert found.converged
    assert relative(found.states[:20], unroll.states(tanh_step, params, state, xs)[:20]) < 1e-6


def test_sweeps_bring_a_trajectory_home_that_forgets_where_it_started():
    params, state, xs = tanh_net(2.0, 32, 1600, True)
    assert lyapunov.spectrum(tanh_step, params, state, xs, k=1).exponents[0] < 0
    found = parallel.newton(tanh_step, params, state, xs)
    assert found.converged
    assert int(found.iterations) < 1600 / 16 / 2  # far fewer than the sweeps alone need
    assert relative(found.states, unroll.states(tanh_step, params, state, xs)) < 1e-11


@over_methods
def test_a_step_that_leaves_the_range_of_floats_gives_the_last_finite_iterate(method):
    logistic = lambda r, h, x: r * h * (1 - h)  # unbounded off [0, 1]
    found = method(logistic, 3.9, jnp.full(1, 0.3), None, length=1000, max_iterations=20)
    assert not found.converged
    assert jnp.isfinite(found.states).all()
    nothing = method(lambda p, h, x: h * jnp.nan, (), jnp.ones(2), None, length=5)
    assert not nothing.converged
    assert jnp.isfinite(nothing.states).all()


def test_damping_changes_the_way_not_the_solution():
    params, state, xs = tanh_net(0.9, 8, 60, True)
    found = [parallel.newton(tanh_step, params, state, xs, damping=k) for k in (0.0, 0.3, 1.0)]
    assert all(r.converged for r in found)
    assert int(found[0].iterations) < int(found[1].iterations)
    assert all(relative(r.states, found[0].states) < 1e-13 for r in found)


def test_a_good_guess_saves_iterations_and_a_bad_one_does_no_harm():
    params, state, xs = tanh_net(0.9, 8, 200, True)
    wanted = unroll.states(tanh_step, params, state, xs)
    cold = parallel.newton(tanh_step, params, state, xs)
    warm = parallel.newton(tanh_step, params, state, xs, guess=wanted + 1e-6)
    wild = parallel.newton(tanh_step, params, state, xs, guess=jnp.full_like(wanted, jnp.nan))
    assert int(warm.iterations) < int(cold.iterations)
    assert parallel.newton(tanh_step, params, state, xs, guess=wanted).iterations == 0
    assert relative(wild.states, wanted) < 1e-13


def test_the_tolerance_is_that_of_the_residual():
    params, state, xs = tanh_net(0.9, 8, 200, True)
    found = parallel.newton(tanh_step, params, state, xs, tolerance=1e-3)
    residuals = np.asarray(found.residuals)[: int(found.iterations)]
    assert residuals[-1] <= 1e-3 < residuals[-2]
    hs = jnp.concatenate([state[None], found.states])
    size = jnp.max(jnp.abs(hs), 1)
    after = jax.vmap(tanh_step, (None, 0, 0))(params, hs[:-1], xs)
    wanted = jnp.max(jnp.max(jnp.abs(hs[1:] - after), 1) / jax.lax.cummax(jnp.maximum(size[:-1], size[1:])))
    assert np.isclose(residuals[-1], wanted, rtol=0.05)


def test_integers_among_the_inputs_and_parameters_are_carried_along():
    def step(params, h, x):
        return jnp.tanh(params["table"][x["token"]] + h * params["a"]) + 0.0 * params["count"].astype(h.dtype)

    params = {"table": noise(95, (5, 3)), "a": jnp.asarray(0.5), "count": jnp.asarray(3)}
    xs = {"token": jnp.arange(12) % 5}
    grad = lambda run: jax.grad(lambda table: loss(run({**params, "table": table})))(params["table"])
    for method in METHODS:
        assert relative(grad(lambda p, m=method: m(step, p, jnp.ones(3), xs).states), grad(lambda p: unroll.states(step, p, jnp.ones(3), xs))) < 1e-12


def test_equal_shapes_compile_once_whatever_the_numbers():
    trajectory._find.jitted.clear_cache()
    for seed in range(3):
        params, state, xs = tanh_net(0.5, 4, 10, True, seed)
        parallel.newton(tanh_step, params, state, xs, damping=0.1 * seed, tolerance=10.0**-seed)
    assert trajectory._find.jitted._cache_size() == 1
    parallel.associative.jitted.clear_cache()
    step, params, state, _ = LINEAR["diagonal"]
    for seed in range(3):
        parallel.associative(step, shaken(params, seed, 1.0), state, noise(seed, (9, 3)))
    assert parallel.associative.jitted._cache_size() == 1


@over_methods
def test_bad_options_are_refused_with_what_is_allowed(method):
    params, state, xs = tanh_net(0.5, 4, 10, True)
    run = functools.partial(method, tanh_step, params, state, xs)
    with pytest.raises(ValueError, match="max_iterations=0 must be at least 1"):
        run(max_iterations=0)
    with pytest.raises(ValueError, match=r"damping=1.5 must be one number in \[0, 1"):
        run(damping=1.5)
    with pytest.raises(ValueError, match=r"tolerance=-1.0 must be one number"):
        run(tolerance=-1.0)
    with pytest.raises(ValueError, match=r"guess .* leading axis T"):
        run(guess=jnp.zeros((9, 4)))
    with pytest.raises(TypeError, match="step must be a function"):
        method(3, params, state, xs)
    with pytest.raises(ValueError, match="length=3 but xs has 10 steps"):
        run(length=3)
    with pytest.raises(TypeError, match="only floating and complex leaves"):
        method(tanh_step, params, jnp.zeros(4, int), xs)


def test_the_expected_iterations_follow_the_sum_of_the_growth():
    expected = lambda exponent, length: float(parallel.expected_iterations(exponent, length, 32).iterations)
    slope, offset = parallel.expected.SLOPE, parallel.expected.OFFSET
    assert np.isclose(expected(-1.0, 10_000), expected(-1.0, 1000))
    assert np.isclose(expected(-1.0, 1000), offset - slope * np.log(1 - np.exp(-1.0)))
    assert np.isclose(expected(0.0, 10_000) - expected(0.0, 1000), slope * np.log(10))
    assert np.isclose(expected(1e-9, 1000), expected(0.0, 1000))
    assert np.isclose(expected(0.01, 2000) - expected(0.01, 1000), 0.01 * slope * 1000, rtol=1e-4)
    assert expected(0.5, 1600) == offset + 1600 / 16  # the sweeps alone
    assert expected(-3.0, 1) == 1


def test_few_multiplications_at_a_time_do_not_pay():
    assert parallel.expected_iterations(-0.5, 10_000, 32).pays
    assert not parallel.expected_iterations(-0.5, 10_000, 32, lanes=1000.0).pays
    with pytest.raises(ValueError, match="length=0"):
        parallel.expected_iterations(-0.5, 0, 32)


@pytest.mark.slow
@pytest.mark.parametrize("driven", [True, False])
@pytest.mark.parametrize("gain", [0.5, 0.8, 1.0, 1.5, 2.0])
def test_the_expected_iterations_are_those_needed_to_a_factor_of_two(gain, driven):
    length = 400
    params, state, xs = tanh_net(gain, 32, length, driven, seed=1)
    needed = int(parallel.newton(tanh_step, params, state, xs, max_iterations=length).iterations)
    exponent = lyapunov.spectrum(tanh_step, params, state, xs, k=1).exponents[0]
    expected = float(parallel.expected_iterations(exponent, length, 32).iterations)
    assert 1 / 2 < needed / expected < 2


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["vanilla", "gru", "lstm"])
def test_newton_equals_the_loop_over_10_000_steps(name, dtype):
    cell = cells.REGISTRY[name](2, 32)
    params = shaken(cell.init_params(jax.random.key(1), gain=0.9), 5, 0.03)
    params = {key: 0.3 * noise(i, leaf.shape) if key.startswith("b") else leaf for i, (key, leaf) in enumerate(params.items())}
    arguments = as_dtype((params, shaken(cell.init_state(params), 7, 0.5), noise(9, (10_000, 2))), dtype)
    found = parallel.newton(cell.step, *arguments)
    assert found.converged
    assert int(found.iterations) < 10
    assert relative(found.states, unroll.states(cell.step, *arguments)) < 1e-5
    ours = gradients(lambda *a: parallel.newton(cell.step, *a).states, *arguments)
    wanted = gradients(functools.partial(unroll.states, cell.step), *arguments)
    for part, of in zip(ours, wanted, strict=True):
        assert relative(part, of) < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_the_diagonal_takes_less_memory_than_the_dense_jacobians(method):
    params, state, xs = tanh_net(0.8, 32, 1000, True)
    compiled = jax.jit(lambda *a: method(tanh_step, *a).states).lower(params, state, xs).compile()
    dense = 1000 * 32 * 32 * 8
    assert (compiled.memory_analysis().temp_size_in_bytes < dense) == (method is parallel.quasi_newton)
