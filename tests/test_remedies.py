"""Penalties against plain loops and finite differences; what every remedy of the catalogue does to a setup."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import cells, flow, initializers, linearize, lyapunov, remedies, tasks, unroll
from jaxrnn.remedies.penalties import ratios
from tests.models import MODELS, at_time, noise, of_distance, random_params, real_vector, relative, shaken

EPS = np.finfo(np.float64).eps
BATCH, STEPS = 3, 7
_KINDS = [model for model in MODELS if model.name in ("vanilla", "lstm", "complex", "dictionary")]
_marks = lambda model: () if model.name == "complex" else (pytest.mark.slow,)
over_kinds = pytest.mark.parametrize("model", [pytest.param(model, id=model.name, marks=_marks(model)) for model in _KINDS])


def seen(model, lengths=None):
    """One pass of a model over random sequences, with the gradients of a loss at every step."""
    xs = jax.tree.map(lambda leaf: noise(60, (BATCH, STEPS, *leaf.shape[1:]), leaf.dtype), model.xs)
    hs, gradients = _run(model.step, model.params, model.state, xs, noise(61, (BATCH, STEPS)))
    return remedies.Pass(xs, model.state, hs, gradients, lengths, jnp.int32(0))


@functools.partial(jax.jit, static_argnums=0)
def _run(step, params, state, xs, targets):
    gradients = jax.vmap(lambda x, y: flow.state_gradients(step, params, state, x, y, of_distance).states)(xs, targets)
    return jax.vmap(lambda x: unroll.states(step, params, state, x))(xs), gradients


def value_and_gradient(penalty, model, given):
    """Of a penalty by params, in one program."""
    return jax.jit(jax.value_and_grad(lambda p, given: penalty(model.step, p, given)))(model.params, given)


def plain_omega(model, params, given, counted):
    """Ω by a Python loop over dense Jacobians at the states that are given."""
    total = 0.0
    for b in range(BATCH):
        for k in range(STEPS):
            if not counted[b][k]:
                continue
            h = model.state if k == 0 else at_time(at_time(given.states, b), k - 1)
            x = jax.tree.map(lambda leaf, b=b, k=k: leaf[b, k : k + 1], given.xs)
            jacobian = np.asarray(linearize.jacobians(model.step, params, h, x)[0])
            g = real_vector(jax.tree.map(lambda leaf, b=b, k=k: jnp.conj(leaf[b, k + 1]), given.gradients))
            total += (np.linalg.norm(g @ jacobian) / np.linalg.norm(g) - 1) ** 2
    return total / BATCH


@over_kinds
def test_omega_is_its_equation_and_its_gradient_that_of_the_immediate_jacobians(model):
    given, penalty = seen(model), remedies.Omega(0.7)
    everywhere = np.ones((BATCH, STEPS), bool)
    value, gradient = value_and_gradient(penalty, model, given)
    assert float(value) == pytest.approx(0.7 * plain_omega(model, model.params, given, everywhere), rel=1e-12)
    direction = shaken(jax.tree.map(jnp.zeros_like, model.params), 7, 1.0)
    moved = lambda size: jax.tree.map(lambda leaf, d: leaf + size * d, model.params, direction)
    wanted = 0.7 * (plain_omega(model, moved(1e-5), given, everywhere) - plain_omega(model, moved(-1e-5), given, everywhere)) / 2e-5
    # JAX's gradient g of a complex leaf gives df = Re Σ g dθ.
    found = sum(jnp.sum((g * d).real) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    assert float(found) == pytest.approx(wanted, rel=1e-6)


def test_steps_without_a_gradient_and_beyond_the_end_do_not_count_whatever_stands_there():
    model = next(m for m in MODELS if m.name == "vanilla")
    given = seen(model, lengths=jnp.array([7, 4, 1]))
    silent = given.gradients.at[0, 3].set(0).at[0, 5].set(jnp.inf).at[1, 5:].set(jnp.nan)
    given = given._replace(gradients=silent, states=given.states.at[1, 4:].set(jnp.nan))
    counted = np.arange(1, STEPS + 1) <= np.array([[7], [4], [1]])
    counted[0, [2, 4]] = False
    found, counts = jax.jit(ratios, static_argnums=0)(model.step, model.params, given)
    assert (np.asarray(counts) == counted).all()
    assert (found[~counts] == 1).all()
    value, gradient = value_and_gradient(remedies.Omega(1.0), model, given)
    assert float(value) == pytest.approx(plain_omega(model, model.params, given, counted), rel=1e-12)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_dead_units_and_tiny_gradients_leave_omega_finite():
    step = lambda p, h, x: jax.nn.relu(p * h - 5 * x)
    ones, two = jnp.ones((1, 2, 3)), jnp.ones((1, 3, 3))
    given = remedies.Pass(ones[..., :1], jnp.ones(3), ones, 1e-200 * two, None, jnp.int32(0))
    value, slope = jax.jit(jax.value_and_grad(lambda p: remedies.Omega(1.0)(step, p, given)))(2.0)
    assert (float(value), float(slope)) == (2.0, 0.0)  # both ratios are 0
    alive = lambda p: remedies.Omega(1.0)(lambda p, h, x: p * h, p, given)  # Σ over 2 steps of (p − 1)², squares of 1e−200 or not
    assert float(jax.jit(jax.grad(alive))(2.0)) == pytest.approx(4.0, rel=1e-14)


@over_kinds
def test_flossing_is_the_mean_square_of_the_leading_exponents_and_its_gradient_that_of_differences(model):
    given, k, window = seen(model), 2, 5
    penalty = remedies.Flossing(k, window, weight=0.5, sequences=2)
    short = [jax.tree.map(lambda leaf, b=b: leaf[b, :window], given.xs) for b in range(2)]
    rates = np.stack([lyapunov.spectrum(model.step, model.params, model.state, xs, k=k).exponents for xs in short])
    value, gradient = value_and_gradient(penalty, model, given)
    assert float(value) == pytest.approx(0.5 * np.mean(rates**2), rel=1e-12)
    direction = shaken(jax.tree.map(jnp.zeros_like, model.params), 8, 1.0)
    run = jax.jit(lambda p: penalty(model.step, p, given))
    moved = lambda size: run(jax.tree.map(lambda leaf, d: leaf + size * d, model.params, direction))
    found = sum(jnp.sum((g * d).real) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    assert float(found) == pytest.approx(float(moved(1e-5) - moved(-1e-5)) / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.slow
def test_flossing_of_sequences_that_end_within_the_window_takes_the_steps_that_there_are():
    model = next(m for m in MODELS if m.name == "vanilla")
    given = seen(model)
    run = jax.jit(lambda p, xs: remedies.leading_exponents(model.step, p, model.state, xs, k=2, window=6, lengths=jnp.array([7, 4, 2])))
    found = run(model.params, given.xs)
    for b, length in enumerate((6, 4, 2)):
        wanted = lyapunov.spectrum(model.step, model.params, model.state, given.xs[b, :length], k=2).exponents
        assert relative(found[b], wanted) < 1e-12


def test_the_schedule_of_flossing_switches_it_off():
    model = next(m for m in MODELS if m.name == "vanilla")
    penalty = remedies.Flossing(2, 5, every=3, start=4, stop=10)
    run, given = jax.jit(jax.grad(lambda p, given: penalty(model.step, p, given))), seen(model)
    on = [bool(jnp.any(run(model.params, given._replace(update=jnp.int32(i)))["W_hh"] != 0)) for i in range(12)]
    assert [i for i, hit in enumerate(on) if hit] == [4, 7]


def test_directions_that_died_have_no_part_in_flossing():
    step = lambda p, h, x: jnp.stack([p["a"] * h[0], 0 * h[1]])
    xs, params = jnp.ones((1, 4, 1)), {"a": jnp.array(0.5)}
    given = remedies.Pass(xs, jnp.ones(2), jnp.ones((1, 4, 2)), jnp.ones((1, 5, 2)), None, jnp.int32(0))
    value, gradient = jax.jit(jax.value_and_grad(lambda p: remedies.Flossing(2, 4)(step, p, given)))(params)
    assert np.isfinite(value)
    assert np.isfinite(gradient["a"])
    assert gradient["a"] < 0  # towards a = 1


@pytest.mark.slow
def test_flossing_before_training_brings_the_exponents_near_zero():
    cell = cells.vanilla(4, 12)
    params = cell.init_params(jax.random.key(0), gain=0.7, input_gain=0.1)
    sample = lambda key, batch: tasks.Batch(jax.random.normal(key, (batch, 12, 4)), None)
    found = remedies.floss(cell.step, params, jnp.zeros(12), sample, k=4, window=12, steps=150, key=jax.random.key(1), learning_rate=3e-3)
    assert found.exponents.shape == (150, 4)
    assert found.finite.all()
    size = np.abs(found.exponents).mean(1)
    assert size[-20:].mean() < size[:20].mean() / 3
    assert relative(found.exponents[0], lyapunov.spectrum(cell.step, params, jnp.zeros(12), sample(jax.random.fold_in(jax.random.key(1), 0), 1).xs[0],
                                                          k=4).exponents) < 1e-9  # fmt: skip


def test_orthogonality_is_zero_for_orthogonal_gates_alone():
    cell = cells.lstm(2, 4)
    orthogonal, shifted = cell.init_params(jax.random.key(0)), random_params(cell)
    penalty = remedies.Orthogonality(0.5)
    blocks = np.split(np.asarray(shifted["W_hh"]), 4)
    assert penalty(cell.step, orthogonal, None) < 100 * EPS
    assert float(penalty(cell.step, shifted, None)) == pytest.approx(0.5 * sum(np.sum((w.T @ w - np.eye(4)) ** 2) for w in blocks), rel=1e-12)
    with pytest.raises(ValueError, match=r"no leaf of params is named W; there are W_hh, W_xh, b_h"):
        remedies.Orthogonality(leaves=("W",))(cell.step, orthogonal, None)
    with pytest.raises(ValueError, match=r"'W_xh' has shape \(16, 3\)"):
        remedies.Orthogonality(leaves=("W_xh",))(cell.step, {"W_xh": jnp.ones((16, 3))}, None)


@pytest.mark.parametrize("penalty", [remedies.Omega(), remedies.Flossing(2, 3), remedies.Orthogonality()])
def test_equal_penalties_are_equal_and_hashable(penalty):
    again = type(penalty)(**dataclasses.asdict(penalty))
    assert (hash(again), again) == (hash(penalty), penalty)
    assert remedies.Together((penalty,)) == remedies.Together((again,))


# Forcing


def test_a_fully_forced_step_cuts_the_product_and_a_constant_share_damps_it():
    cell = cells.gru(2, 3)
    params, h, x = random_params(cell), noise(1, (3,)), noise(2, (2,))
    step = remedies.Forced(cell.step, lambda params, state, data: data)
    jacobian = lambda weight: jax.jacfwd(lambda h: step(params, h, remedies.Driven(x, h0, weight)))(h)
    h0 = noise(3, (3,))
    assert (jacobian(1.0) == 0).all()
    free = jax.jacfwd(lambda h: cell.step(params, h, x))(0.7 * h + 0.3 * h0)
    assert relative(jacobian(0.3), 0.7 * free) < 50 * EPS
    assert relative(step(params, h, x), cell.step(params, h, x)) == 0  # on plain inputs it runs free


def test_forcing_through_a_readout_makes_it_say_the_data_and_kills_as_many_directions():
    cell = cells.with_readout(cells.vanilla(2, 5), 2)
    params, h, data = random_params(cell), noise(1, (5,)), noise(2, (2,))
    forced = remedies.FromReadout()(params, h, data)
    assert relative(cell.output(params, forced, None), data) < 1e-12
    step = remedies.Forced(cell.step, remedies.FromReadout())
    jacobian = jax.jacfwd(lambda h: step(params, h, remedies.Driven(jnp.zeros(2), data, 1.0)))(h)
    assert np.linalg.matrix_rank(np.asarray(jacobian), tol=1e-10) == 3


def test_forcing_weights_need_an_interval_or_a_share():
    for given in ({}, {"interval": 2, "constant": 0.5}, {"interval": 0}, {"constant": 1.5}):
        with pytest.raises(ValueError, match=r"interval|constant"):
            remedies.forcing_weights(5, **given)
    assert remedies.forcing_interval(2.0) == 1
    with pytest.raises(ValueError, match="must be positive"):
        remedies.forcing_interval(-0.1)


def test_a_forced_setup_trains_on_driven_inputs_and_speaks_freely():
    made = remedies.apply("forcing", vanilla(), interval=3)
    batch = tasks.adding(12).sample(jax.random.key(0), 2)
    driven = made.transform(batch)
    assert driven.xs.weight[0].tolist() == remedies.forcing_weights(12, interval=3).tolist()
    assert (driven.xs.data[:, 1:] == batch.targets["value"][:, :-1]).all()
    params = made.init_params(jax.random.key(0))
    run = jax.jit(lambda xs: unroll.states(made.step, params, made.init_state(params), xs))
    hs, free = run(at_time(driven.xs, 0)), run(batch.xs[0])
    assert relative(hs[:3], free[:3]) < 50 * EPS  # two compiled programs
    assert relative(hs[3:], free[3:]) > 1e-6
    assert made.output(params, hs[-1], at_time(at_time(driven.xs, 0), -1)).shape == (1,)


# Initialisers


def test_a_chain_transports_for_as_many_steps_as_it_has_units():
    w = np.asarray(initializers.chain(None, 6, 6, 1.5))
    assert not np.linalg.eigvals(w).any()
    assert np.linalg.norm(np.linalg.matrix_power(w, 5), 2) == pytest.approx(1.5**5)
    assert not np.linalg.matrix_power(w, 6).any()


def test_a_critical_matrix_is_what_a_critical_vanilla_cell_starts_from():
    key = jax.random.split(jax.random.key(3))[0]
    wanted = cells.vanilla(2, 50, init="critical").init_params(jax.random.key(3), bias_sd=0.3)["W_hh"]
    assert relative(initializers.critical(key, 50, 50, bias_sd=0.3), wanted) == 0


# The switchboard


def vanilla(cell="vanilla", **choices):
    return remedies.setup(cell, tasks.adding(12), 8, length=12, **choices)


EXECUTABLE = [name for name in remedies.CATALOGUE if remedies.executable(name)]
KNOBS = {"forcing": {"interval": 3}, "flossing": {"steps": 2}}


@pytest.mark.parametrize("name", remedies.CATALOGUE)
def test_every_remedy_says_what_it_changes_its_price_its_source_and_its_knobs(name):
    remedy = remedies.CATALOGUE[name]
    assert all(len(part) > 3 for part in remedy[:3])
    assert remedy.what.endswith(".")
    assert remedy.source or not remedy.knobs
    assert all(len(meaning) > 3 and not meaning.endswith(".") for _, meaning in remedy.knobs.values())


def test_advice_that_is_not_executable_says_so():
    assert set(remedies.CATALOGUE) - set(EXECUTABLE) == {"more-data", "look"}
    with pytest.raises(remedies.NotApplicable, match="more-data: this is advice"):
        remedies.apply("more-data", vanilla())
    with pytest.raises(ValueError, match=r"unknown remedy 'prayer'; allowed are chain-init, .*value-clipping"):
        remedies.apply("prayer", vanilla())
    with pytest.raises(ValueError, match="clipping has no knob norm; there are threshold"):
        remedies.apply("clipping", vanilla(), norm=1.0)


def starts(made):
    """The parameters that a setup starts from."""
    return made.init_params(jax.random.key(5))


def singular(made):
    return np.linalg.svd(np.asarray(starts(made)["W_hh"]), compute_uv=False)


CHANGES = {  # remedy -> what the setup after it shows, given the one before
    "gated-cell": lambda old, new: new.built.cell == "lstm" and "b_h" in starts(new) and starts(new)["b_h"][8:16].tolist() == [1.0] * 8,
    "linear-recurrence": lambda old, new: isinstance(new.step, cells.Linear) and {"W_in", "W_hidden"} <= set(starts(new)),
    "orthogonal-init": lambda old, new: np.abs(singular(new) - 1).max() < 1e-12,
    "orthogonal-parametrisation": lambda old, new: new.built.cell == "exprnn" and "A" in starts(new),
    "less-saturation": lambda old, new: relative(starts(new)["W_xh"], 0.3 * starts(old)["W_xh"]) < EPS,
    "norm-regulariser": lambda old, new: new.penalty == remedies.Omega(2.0) and new.clip_norm == 1.0,
    "flossing": lambda old, new: new.prepare == remedies.FlossFirst(2, 12, 2, 1, 1e-3) and new.penalty is None,
    "clipping": lambda old, new: new.clip_norm == 1.0 and new.clip is not None,
    "value-clipping": lambda old, new: new.clip_norm is None and new.clip is not None,
    "smaller-gain": lambda old, new: relative(starts(new)["W_hh"], 0.5 * starts(old)["W_hh"]) == 0,
    "stronger-input": lambda old, new: relative(starts(new)["W_xh"], 3 * starts(old)["W_xh"]) < EPS,
    "forcing": lambda old, new: isinstance(new.step, remedies.Forced) and new.transform is not None,
    "truncation": lambda old, new: new.truncate == 20,
    "identity-init": lambda old, new: (starts(new)["W_hh"] == np.eye(8)).all() and dict(new.built.choices) == {"activation": "relu"},
    "critical-init": lambda old, new: starts(new)["b_h"].all() and relative(starts(new)["W_hh"], starts(old)["W_hh"]) > 0,
    "chain-init": lambda old, new: (starts(new)["W_hh"] == np.eye(8, k=-1)).all(),
    "orthogonality": lambda old, new: new.penalty == remedies.Orthogonality(0.01),
    "normalisation": lambda old, new: new.built.cell == "vanilla_layernorm" and "s_h" in starts(new),
}
REFUSED = {
    "gate-bias": "vanilla has no gate that keeps",
    "chrono-init": "vanilla has no gate that keeps",
    "living-units": "with tanh have a slope that is never exactly zero",
}


def gradient_shapes(made):
    """Shapes of the gradient of the loss of one batch, traced and not run."""
    batch = jax.eval_shape(lambda key: (made.transform or (lambda b: b))(made.built.task.sample(key, 2)), jax.random.key(0))

    def total(params, batch):
        def one(x, y):
            hs = unroll.states(made.step, params, made.init_state(params), x)
            return jnp.sum(jax.vmap(made.loss, (None, 0, 0, 0))(params, hs, x, y))

        return jnp.sum(jax.vmap(one)(batch.xs, batch.targets))

    return jax.eval_shape(jax.grad(total), jax.eval_shape(made.init_params, jax.random.key(0)), batch)


@pytest.mark.parametrize("name", EXECUTABLE)
def test_every_remedy_changes_what_it_says_or_says_why_not(name):
    old = vanilla()
    if name in REFUSED:
        with pytest.raises(remedies.NotApplicable, match=f"^{name}: .*{REFUSED[name]}"):
            remedies.apply(name, old)
        return
    new = remedies.apply(name, old, **KNOBS.get(name, {}))
    assert CHANGES[name](old, new)
    params = starts(new)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}
    assert jax.tree.map(jnp.shape, gradient_shapes(new)) == jax.tree.map(jnp.shape, params)
    touched = {"truncation": "truncate", "clipping": "clip", "value-clipping": "clip", "norm-regulariser": "clip"}.get(name)
    assert all(getattr(new, field) is getattr(old, field) for field in ("optimizer", "truncate", "clip") if field != touched)


@pytest.mark.parametrize("name", EXECUTABLE)
def test_every_remedy_fits_an_own_model_or_says_that_it_needs_one_of_ours(name):
    init = lambda key: {"core": {"U": jax.random.normal(key, (12, 4))}, "in": jnp.ones((12, 2)), "bias": jnp.zeros(4), "out": jnp.ones(4)}
    step = lambda p, h, x: jnp.tanh((p["core"]["U"] @ h + p["in"] @ x).reshape(3, 4).sum(0) + p["bias"])
    loss = lambda p, h, x, y: y["weight"] * (p["out"] @ h - y["value"][0]) ** 2
    own = remedies.Setup(init, lambda p: jnp.zeros(4, p["bias"].dtype), step, None, loss, optax.sgd(0.1))
    knobs = {**KNOBS.get(name, {}), **({"force": lambda p, h, d: h} if name == "forcing" else {})}
    wanted = {"less-saturation": ("in",), "stronger-input": ("in",), "living-units": ("bias",)}.get(name, ("U",))
    knobs |= {"leaves": wanted} if "leaves" in remedies.CATALOGUE[name].knobs else {}
    knobs |= {"biases": ("bias",)} if name == "critical-init" else {}
    if name in ("gated-cell", "linear-recurrence", "orthogonal-parametrisation", "normalisation", "gate-bias", "chrono-init"):
        with pytest.raises(remedies.NotApplicable, match="this model brought its own step"):
            remedies.apply(name, own, **knobs)
        return
    new = remedies.apply(name, own, **knobs)
    changed = [field for field, a, b in zip(own._fields, own, new, strict=True) if a is not b]
    assert changed
    if name == "orthogonal-init":
        blocks = starts(new)["core"]["U"].reshape(3, 4, 4)
        assert relative(blocks @ jnp.swapaxes(blocks, 1, 2), jnp.stack([jnp.eye(4)] * 3)) < 100 * EPS
    if "leaves" in knobs and changed == ["init_params"]:
        with pytest.raises(remedies.NotApplicable, match="it needs a leaf W_no among params, which hold bias, core/U, in, out"):
            remedies.apply(name, own, **{**knobs, "leaves": ("W_no",)})


@pytest.mark.parametrize(
    ("cell", "at", "sign"), [("lstm", slice(8, 16), 1), ("gru", slice(8, 16), 1), ("mingru", slice(0, 8), -1), ("mgu_reset_before", slice(0, 8), -1)]
)
def test_gates_that_keep_are_opened_whatever_their_name_and_sign(cell, at, sign):
    bias = lambda made: np.asarray(starts(made).get("b_x", starts(made)["b_h"]))[at]
    opened, spread = (remedies.apply(name, vanilla(cell)) for name in ("gate-bias", "chrono-init"))
    assert np.allclose(bias(opened), sign * np.log(12))
    scales = 1 + np.exp(sign * bias(spread))
    assert (scales >= 2).all()
    assert (scales <= 12).all()
    assert len(set(scales)) == 8


def test_remedies_compose_and_those_that_make_another_cell_come_first():
    made = remedies.apply("orthogonal-init", remedies.apply("normalisation", vanilla()))
    assert np.abs(singular(made) - 1).max() < 1e-12
    kept = remedies.apply("normalisation", remedies.apply("gate-bias", vanilla("lstm")))
    assert np.allclose(starts(kept)["b_h"][8:16], np.log(12))
    with pytest.raises(remedies.NotApplicable, match="would undo a remedy applied before; apply this one first"):
        remedies.apply("normalisation", remedies.apply("orthogonal-init", vanilla()))
    both = remedies.apply("orthogonality", remedies.apply("norm-regulariser", remedies.apply("clipping", vanilla(), threshold=0.5)))
    assert both.penalty == remedies.Together((remedies.Omega(2.0), remedies.Orthogonality(0.01)))
    assert both.clip_norm == 0.5  # that of the user stays


def test_flossing_during_training_is_a_penalty_with_a_schedule():
    made = remedies.apply("flossing", vanilla(), steps=0, weight=0.1, every=5, stop=100, k=3)
    assert made.prepare is None
    assert made.penalty == remedies.Flossing(3, 12, 0.1, every=5, stop=100)
    with pytest.raises(ValueError, match="no flossing at all"):
        remedies.apply("flossing", vanilla(), steps=0)
    with pytest.raises(ValueError, match=r"k=9 must be in \[1, 8\]"):
        remedies.apply("flossing", vanilla(), k=9)


def test_a_prepared_setup_flosses_its_own_params():
    made = remedies.apply("flossing", vanilla(), steps=3, k=2)
    params = starts(made)
    after = made.prepare(jax.random.key(0), made, params, made.built.task.sample)
    assert relative(after["W_hy"], params["W_hy"]) == 0
    assert 0 < relative(after["W_hh"], params["W_hh"]) < 0.1


def test_equal_setups_share_what_is_compiled():
    one, two = (remedies.apply("clipping", vanilla("lru", layers=2)) for _ in range(2))
    for field in ("step", "output", "loss", "optimizer", "clip"):
        assert getattr(one, field) == getattr(two, field), field
    assert remedies.optimizer(one) is remedies.optimizer(two)


@pytest.mark.parametrize("cell", ["lru", "mingru", "input_diagonal", "deltanet"])
def test_linear_recurrences_hear_and_speak_through_nonlinear_layers(cell):
    made = remedies.setup(cell, tasks.adding(12), 8, layers=2, length=12)
    params = starts(made)
    assert all("W_in" in layer for layer in params["layers"])
    assert params["W_hidden"].shape == (16, 8)
    assert jax.tree.map(jnp.shape, gradient_shapes(made)) == jax.tree.map(jnp.shape, params)


def test_the_rings_of_an_lru_follow_the_length_unless_somebody_chose():
    radius = lambda made: np.exp(-np.exp(np.asarray(starts(made)["nu_log"])))
    assert (radius(vanilla("lru")) >= np.exp(-10 / 12)).all()
    assert (radius(vanilla("lru", r_min=0.1, r_max=0.2)) <= 0.2).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vanilla("elman"), "unknown cell 'elman'; allowed are antisymmetric"),
        (lambda: vanilla(forget_bias=1.0), r"vanilla cannot start with \{'forget_bias': 1.0\}; its choices are activation, bias_sd, gain"),
        (lambda: remedies.setup("vanilla", tasks.adding(12)._replace(loss=None), 8, length=12), "the task has no targets"),
        (lambda: remedies.setup("vanilla", tasks.adding(12), 8, length=0), "length=0 must be at least 1"),
        (lambda: remedies.apply("clipping", vanilla(), threshold=0.0), "threshold=0.0 must be positive"),
        (lambda: remedies.apply("chrono-init", vanilla("lstm"), horizon=2.0), "must be above 2"),
        (lambda: remedies.apply("gated-cell", vanilla("gru")), "gru has gates already"),
        (lambda: remedies.apply("linear-recurrence", vanilla("lru")), "is linear in its state already"),
        (
            lambda: remedies.apply("normalisation", vanilla("gru")),
            "there is no gru_layernorm; normalised cells are lstm_layernorm",
        ),
        (lambda: remedies.apply("normalisation", vanilla(activation="relu")), "does not have the choice activation that this vanilla made"),
        (lambda: remedies.apply("normalisation", vanilla("vanilla_layernorm"), cell="vanilla_layernorm"), "is vanilla_layernorm already"),
        (lambda: remedies.apply("critical-init", vanilla("lstm")), "not for lstm"),
        (lambda: remedies.apply("critical-init", vanilla(activation="sigmoid")), "has no critical gain"),
        (lambda: remedies.apply("orthogonal-init", vanilla("lru")), "it needs a leaf W_hh among params"),
        (lambda: remedies.apply("orthogonal-init", vanilla(), leaves=("W_hy",)), r"has shape \(1, 8\); it needs \(n, n\)"),
        (lambda: remedies.apply("forcing", remedies.setup("vanilla", tasks.copy(3), 8, length=3), interval=2), "asks for labels"),
        (lambda: remedies.apply("forcing", vanilla("lstm"), interval=2), "give force"),
        (lambda: remedies.apply("forcing", vanilla()), "give one of them"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(make, message):
    with pytest.raises(ValueError, match=message):
        make()
