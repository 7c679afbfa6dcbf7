"""The recorder in somebody's own loop: it changes nothing, and what it keeps is what our own analyses say."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import cells, flow, training
from jaxrnn.tasks import Batch
from jaxrnn.training import monitors
from tests.models import noise, random_params, relative

STEPS, BATCH, N_IN, N = 7, 3, 2, 4
CELL = cells.lstm(N_IN, N)
XS = noise(1, (BATCH, STEPS, N_IN))
TARGETS = noise(2, (BATCH, STEPS, N))


def squares(params, state, x, target):
    return jnp.sum((state.h - target) ** 2)


def mean_loss(params, nudges):
    """One's own loop: zeros are added to the states, to be differentiated by."""

    def one(xs, targets, nudges):
        def advance(h, at):
            x, target, e = at
            h = jax.tree.map(jnp.add, CELL.step(params, h, x), e)
            return h, squares(params, h, x, target)

        return jax.lax.scan(advance, CELL.init_state(params), (xs, targets, nudges))[1].sum()

    return jax.vmap(one)(XS, TARGETS, nudges).mean()


PARAMS = random_params(CELL)
NUDGES = jax.tree.map(lambda leaf: jnp.zeros((BATCH, STEPS, *leaf.shape)), CELL.init_state(PARAMS))


def trained(optimizer, updates):
    def update(carry, _):
        params, state = carry
        loss, (gradient, probe) = jax.value_and_grad(mean_loss, (0, 1))(params, NUDGES)
        changes, state = optimizer.update(gradient, state, params, probe=probe)
        return (optax.apply_updates(params, changes), state), loss

    with jax.numpy_dtype_promotion("standard"):  # adam raises a float to an integer power
        return jax.jit(lambda: jax.lax.scan(update, (PARAMS, optimizer.init(PARAMS)), length=updates))()


def test_training_goes_bit_for_bit_as_without_it():
    bare = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    (params, state), losses = trained(optax.chain(training.recorder(length=STEPS), bare), 50)
    (without, _), alone = trained(optax.with_extra_args_support(bare), 50)
    assert np.array_equal(losses, alone)
    assert all(np.array_equal(params[name], without[name]) for name in without)
    assert training.recorded(state).updates == 50


def test_the_profile_is_the_gradient_of_every_state():
    (_, state), _ = trained(training.recorder(length=STEPS), 1)
    each = jax.vmap(lambda xs, targets: flow.state_gradients(CELL.step, PARAMS, CELL.init_state(PARAMS), xs, targets, squares).states)(XS, TARGETS)
    each = jnp.concatenate(each, -1)[:, 1:]
    assert relative(training.recorded(state).log_profile, 0.5 * jnp.log(jnp.mean(jnp.sum(each**2, -1), 0))) < 1e-12


def test_the_profile_is_that_of_the_monitor_in_our_loop():
    fit = training.fit(
        CELL.step, PARAMS, CELL.init_state(PARAMS), lambda key, size: Batch(XS, TARGETS), squares, steps=1, batch=BATCH, key=jax.random.key(0),
        monitors={"profile": monitors.profile()}, optimizer=optax.sgd(1e-3),
    )  # fmt: skip
    (_, state), _ = trained(training.recorder(length=STEPS), 1)
    found = training.recorded(state)
    assert relative(found.log_profile, fit.history["profile"][0, 1:]) < 1e-12
    assert found.norm == pytest.approx(float(fit.history["gradient_norm"][0]), rel=1e-12)


def seen(optimizer, sizes, dtype=np.float64):
    state = optimizer.init(jnp.zeros(4, dtype))
    for size in sizes:
        _, state = optimizer.update(jnp.full(4, size / 2, dtype), state, jnp.zeros(4, dtype))
    return training.recorded(state)


def test_norms_are_those_of_the_last_updates_the_oldest_first():
    for count in (0, 2, 3, 4, 8):
        sizes = np.arange(1.0, count + 1)
        found = seen(training.recorder(2.0, history=3), sizes)
        assert np.allclose(found.log_norms, np.log(sizes[-3:]), rtol=1e-15, atol=1e-15)
        assert found.updates == count
        if count:
            assert found.share == (sizes > 2).mean()
            assert found.norm == pytest.approx(count, rel=1e-15)
    assert np.isnan(seen(training.recorder(), []).norm)


def test_norms_beyond_the_squares_of_float32_are_kept_and_zero_is_minus_infinity():
    found = seen(training.recorder(), [1e30, 1e-30, 0.0], np.float32)
    assert np.allclose(found.log_norms, [np.log(1e30), np.log(1e-30), -np.inf], rtol=1e-6)
    assert (found.nonfinite, found.first_nonfinite) == (0, None)


def test_what_is_not_finite_is_counted_from_the_first():
    found = seen(training.recorder(), [1.0, np.inf, 1.0, np.nan])
    assert (found.nonfinite, found.first_nonfinite) == (2, 2)
    assert np.isposinf(found.log_norms[1])
    assert np.isnan(found.log_norms[3])
    assert found.share == 0.25  # infinity is above, NaN is nowhere


def test_it_works_wherever_optax_nests_it():
    inner = lambda rate=1e-2: optax.chain(training.recorder(threshold=0.5), optax.sgd(rate))
    labels = lambda params: {"a": "ours", "b": "theirs"}
    places = [
        optax.inject_hyperparams(inner)(rate=1e-2),
        optax.multi_transform({"ours": inner(), "theirs": optax.sgd(1e-2)}, labels),
        optax.masked(inner(), {"a": True, "b": False}),
        optax.MultiSteps(inner(), every_k_schedule=1),
        optax.apply_if_finite(inner(), 3),
        optax.chain(optax.inject_hyperparams(training.recorder, static_args=("history", "length"))(threshold=0.5), optax.sgd(1e-2)),
    ]
    params = {"a": jnp.ones(3), "b": jnp.zeros(2)}
    gradient = {"a": jnp.array([2.0, 0.0, 0.0]), "b": jnp.zeros(2)}
    for optimizer in places:
        state = optimizer.init(params)
        with jax.numpy_dtype_promotion("standard"):  # MultiSteps adds float32 to float64
            updates, state = jax.jit(optimizer.update)(gradient, state, params)
        found = training.recorded(state)
        assert (found.updates, found.share) == (1, 1.0)
        assert found.norm == pytest.approx(2.0)
        assert np.allclose(updates["a"], [-0.02, 0, 0])


def test_several_seeds_have_a_record_each():
    optimizer = optax.chain(training.recorder(1.5), optax.sgd(0.1))
    state = jax.vmap(optimizer.init)(jnp.zeros((2, 1)))
    _, state = jax.vmap(optimizer.update)(jnp.array([[1.0], [2.0]]), state)
    each = [training.recorded(jax.tree.map(lambda leaf, i=i: leaf[i], state)) for i in range(2)]
    assert [found.share for found in each] == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"that of \(2,\) optimizers"):
        training.recorded(state)


def test_what_it_cannot_do_is_said():
    with pytest.raises(ValueError, match="no record; put"):
        training.recorded(optax.adam(1e-3).init(jnp.zeros(2)))
    with pytest.raises(ValueError, match="2 records"):
        training.recorded((training.recorder().init(jnp.zeros(2)),) * 2)
    with pytest.raises(ValueError, match="history=0"):
        training.recorder(history=0)
    for length in (None, 5):
        optimizer = training.recorder(length=length)
        with pytest.raises(ValueError, match=r"leaves of a probe are \(B, T"):
            optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), probe=jnp.ones((1, 4, 2)))


def test_an_equinox_loop_with_a_probe():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        eqx = pytest.importorskip("equinox")
    cell = eqx.nn.GRUCell(N_IN, N, key=jax.random.key(0))
    optimizer = optax.chain(training.recorder(length=STEPS), optax.adam(1e-2))
    state = optimizer.init(eqx.filter(cell, eqx.is_array))

    def loss(cell, e):  # e: zeros (B, T, n)
        def one(xs, targets, e):
            def step(h, at):
                h = cell(at[0], h) + at[2]
                return h, jnp.sum((h - at[1]) ** 2)

            return jax.lax.scan(step, jnp.zeros(N), (xs, targets, e))[1].sum()

        return jax.vmap(one)(XS, TARGETS, e).mean()

    @eqx.filter_jit
    def update(cell, state):
        gradient, probe = eqx.filter_grad(lambda both: loss(*both))((cell, jnp.zeros((BATCH, STEPS, N))))
        changes, state = optimizer.update(gradient, state, eqx.filter(cell, eqx.is_array), probe=probe)
        return eqx.apply_updates(cell, changes), state

    with jax.numpy_dtype_promotion("standard"):
        after, state = update(cell, state)
        params, static = eqx.partition(cell, eqx.is_array)
        step = lambda p, h, x: eqx.combine(p, static)(x, h)
        error = lambda p, h, x, y: jnp.sum((h - y) ** 2)
        each = jax.vmap(lambda xs, ys: flow.state_gradients(step, params, jnp.zeros(N), xs, ys, error).states)(XS, TARGETS)
    assert relative(training.recorded(state).log_profile, 0.5 * jnp.log(jnp.mean(jnp.sum(each[:, 1:] ** 2, -1), 0))) < 1e-12
    assert not np.array_equal(after.weight_hh, cell.weight_hh)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_nnx_loop_has_the_same_losses_with_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nnx = pytest.importorskip("flax.nnx")

    def losses(tx):
        model = nnx.RNN(nnx.GRUCell(N_IN, N, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

        @nnx.jit
        def update(model, optimizer):
            loss, gradient = nnx.value_and_grad(lambda model: jnp.mean((model(XS) - TARGETS) ** 2))(model)
            optimizer.update(model, gradient)
            return loss

        with jax.numpy_dtype_promotion("standard"):
            return [float(update(model, optimizer)) for _ in range(50)], optimizer

    bare = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    with_it, optimizer = losses(optax.chain(training.recorder(threshold=0.1), bare))
    assert with_it == losses(bare)[0]
    assert with_it[-1] < with_it[0]
    found = training.recorded(optimizer.opt_state)
    assert found.updates == 50
    assert 0 < found.share <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_linen_loop_with_perturb_as_its_probe():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn = pytest.importorskip("flax.linen")

    class Model(nn.Module):
        @nn.compact
        def __call__(self, h, x):
            h, _ = nn.GRUCell(N, param_dtype=jnp.float64)(h, x)
            h = self.perturb("h", h)
            return h, h

    scanned = nn.scan(Model, variable_broadcast="params", variable_axes={"perturbations": 1}, split_rngs={"params": False}, in_axes=1, out_axes=1)()
    start = jnp.zeros((BATCH, N))
    with jax.numpy_dtype_promotion("standard"):
        variables = scanned.init(jax.random.key(0), start, XS)
        loss = lambda v: jnp.sum((scanned.apply(v, start, XS)[1] - TARGETS) ** 2) / BATCH
        gradient = jax.grad(loss)(dict(variables))
        optimizer = training.recorder(length=STEPS)
        state = optimizer.update(gradient["params"], optimizer.init(variables["params"]), probe=gradient["perturbations"])[1]
        params = variables["params"]["GRUCell_0"]
        step = lambda p, h, x: nn.GRUCell(N, param_dtype=jnp.float64).apply({"params": p}, h, x)[0]
        error = lambda p, h, x, y: jnp.sum((h - y) ** 2)
        each = jax.vmap(lambda xs, ys: flow.state_gradients(step, params, jnp.zeros(N), xs, ys, error).states)(XS, TARGETS)
    assert relative(training.recorded(state).log_profile, 0.5 * jnp.log(jnp.mean(jnp.sum(each[:, 1:] ** 2, -1), 0))) < 1e-12
