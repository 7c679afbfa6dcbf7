"""Cells of flax, Equinox, Haiku and Keras as four things: against the library's own unroll, against ours with the same weights, and what is refused.

Biases and first states are random everywhere: zeros hide mistakes.
"""

import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import adapters, bptt, cells, diagnosis, flow, linearize, lyapunov, training, unroll
from jaxrnn.tasks import Batch
from tests.models import noise, relative, shaken

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    nn = pytest.importorskip("flax.linen")
    nnx = pytest.importorskip("flax.nnx")
    eqx = pytest.importorskip("equinox")
    hk = pytest.importorskip("haiku")
    keras = pytest.importorskip("keras")

N_IN, N, STEPS = 3, 4, 50
KEY = jax.random.key(0)
XS = noise(1, (STEPS, N_IN), np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _as_elsewhere():
    """The libraries mix dtypes, as their users may."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class Foreign(NamedTuple):
    """A cell of a library, its random parameters, and how the library itself runs it."""

    bind: Callable  # (params) -> Bound
    params: Any
    unroll: Callable  # (params, carry, xs) -> what it shows at every time
    weights: Callable = lambda params: params  # params -> the tree that a layout names
    is_keras: bool = False


def linen(make):
    def row():
        cell = make()
        params = shaken(cell.init(KEY, cell.initialize_carry(KEY, (N_IN,)), XS[0])["params"], 10, 0.5)
        run = lambda p, carry, xs: nn.RNN(cell).apply({"params": {"cell": p}}, xs, initial_carry=carry)
        return Foreign(lambda p: adapters.flax_linen(make(), {"params": p}), params, run)

    return row


def from_nnx(make):
    def row():
        cell = make(nnx.Rngs(0))
        graph, params, rest = nnx.split(cell, nnx.Param, ...)
        run = lambda p, carry, xs: nnx.RNN(nnx.merge(graph, p, rest))(xs, initial_carry=carry)
        weights = lambda p: nnx.to_pure_dict(p)
        return Foreign(lambda p: adapters.flax_nnx(nnx.merge(graph, p, rest)), shaken(params, 20, 0.5), run, weights)

    return row


def from_equinox(make):
    def row():
        params, static = eqx.partition(make(), eqx.is_inexact_array)
        params = shaken(jax.tree.map(lambda leaf: leaf.astype(np.float32), params), 30, 0.5)

        def run(p, carry, xs):
            cell, shown = eqx.combine(p, static), []
            for x in xs:
                carry = cell(x, carry)
                shown.append(carry[0] if isinstance(carry, tuple) else carry)
            return jnp.stack(shown)

        names = ("weight_ih", "weight_hh", "bias", "bias_n")
        weights = lambda p: {name: getattr(p, name) for name in names if getattr(p, name, None) is not None}
        return Foreign(lambda p: adapters.equinox(eqx.combine(p, static)), params, run, weights)

    return row


def from_haiku(make):
    def row():
        net = hk.without_apply_rng(hk.transform(lambda xs, carry: hk.dynamic_unroll(make(), xs, carry)[0]))
        carry = hk.transform(lambda: make().initial_state(None)).apply({}, None)
        params = shaken(net.init(KEY, XS, carry), 40, 0.5)
        return Foreign(lambda p: adapters.haiku(make, p), params, lambda p, carry, xs: net.apply(p, xs, carry))

    return row


def from_keras(make):
    def row():
        layer = make()
        layer.build((None, None, N_IN))
        params = shaken(adapters.keras(layer).params, 50, 0.5)

        def assigned(p):
            for variable, value in zip(layer.trainable_variables, p.values(), strict=True):
                variable.assign(value)
            return layer

        run = lambda p, carry, xs: assigned(p)(xs[None], initial_state=[leaf[None] for leaf in jax.tree.leaves(carry)])[0]
        return Foreign(lambda p: adapters.keras(assigned(p)), params, run, lambda p: list(p.values()), True)

    return row


h_only, swapped = lambda s: s, lambda s: cells.LSTMState(s[1], s[0])
straight = lambda s: cells.LSTMState(*s)
ROWS: dict[str, tuple[Callable, str, Callable, Callable]] = {  # row, layout, our cell, their state -> ours
    "linen simple": (linen(lambda: nn.SimpleCell(N)), "flax-simple", cells.vanilla, h_only),
    "linen gru": (linen(lambda: nn.GRUCell(N)), "flax-gru", cells.gru, h_only),
    "linen mgu": (linen(lambda: nn.MGUCell(N)), "flax-mgu", cells.REGISTRY["mgu"], h_only),
    "linen lstm": (linen(lambda: nn.LSTMCell(N)), "flax-lstm", cells.lstm, swapped),
    "linen optimized lstm": (linen(lambda: nn.OptimizedLSTMCell(N)), "flax-optimized-lstm", cells.lstm, swapped),
    "nnx simple": (from_nnx(lambda rngs: nnx.SimpleCell(N_IN, N, rngs=rngs)), "nnx-simple", cells.vanilla, h_only),
    "nnx gru": (from_nnx(lambda rngs: nnx.GRUCell(N_IN, N, rngs=rngs)), "nnx-gru", cells.gru, h_only),
    "nnx lstm": (from_nnx(lambda rngs: nnx.LSTMCell(N_IN, N, rngs=rngs)), "nnx-lstm", cells.lstm, swapped),
    "nnx optimized lstm": (from_nnx(lambda rngs: nnx.OptimizedLSTMCell(N_IN, N, rngs=rngs)), "nnx-optimized-lstm", cells.lstm, swapped),
    "equinox gru": (from_equinox(lambda: eqx.nn.GRUCell(N_IN, N, key=KEY)), "equinox-gru", cells.gru, h_only),
    "equinox lstm": (from_equinox(lambda: eqx.nn.LSTMCell(N_IN, N, key=KEY)), "equinox-lstm", cells.lstm, straight),
    "haiku simple": (from_haiku(lambda: hk.VanillaRNN(N)), "haiku-rnn", lambda n_in, n: cells.vanilla(n_in, n, "relu"), h_only),
    "haiku gru": (from_haiku(lambda: hk.GRU(N)), "haiku-gru", cells.REGISTRY["gru_reset_before"], h_only),
    "haiku lstm": (from_haiku(lambda: hk.LSTM(N)), "haiku-lstm", cells.lstm, straight),
    "keras simple": (from_keras(lambda: keras.layers.SimpleRNN(N, return_sequences=True)), "keras-simple", cells.vanilla, h_only),
    "keras gru": (from_keras(lambda: keras.layers.GRU(N, return_sequences=True)), "keras-gru", cells.gru, h_only),
    "keras gru, reset before": (
        from_keras(lambda: keras.layers.GRU(N, return_sequences=True, reset_after=False)),
        "keras-gru-reset-before", cells.REGISTRY["gru_reset_before"], h_only,
    ),
    "keras lstm": (from_keras(lambda: keras.layers.LSTM(N, return_sequences=True)), "keras-lstm", cells.lstm, straight),
}  # fmt: skip
over_rows = pytest.mark.parametrize("name", ROWS)


def started(bound):
    """The same model from a random state."""
    return bound._replace(state=jax.tree.map(lambda leaf: noise(7, leaf.shape, leaf.dtype) / 2, bound.state))


def shown(bound, xs):
    hs = unroll.states(bound.step, bound.params, bound.state, xs)
    return jax.vmap(bound.output, (None, 0, 0))(bound.params, hs, xs)


@over_rows
def test_states_are_those_of_the_librarys_own_unroll(name):
    foreign = ROWS[name][0]()
    bound = started(foreign.bind(foreign.params))
    assert relative(shown(bound, XS), foreign.unroll(foreign.params, bound.state, XS)) < 1e-5


def squares(output):
    return lambda params, state, x, target: jnp.sum((output(params, state, x) - target) ** 2)


@over_rows
def test_jacobians_and_totals_are_ours_with_the_same_weights(name):
    make, layout, cell_of, to_ours = ROWS[name]
    foreign, cell = make(), cell_of(N_IN, N)
    bound = started(foreign.bind(foreign.params))
    into_ours = lambda params: adapters.import_params(foreign.weights(params), layout)
    params, state, targets = into_ours(bound.params), to_ours(bound.state), noise(3, (STEPS, N), np.float32)

    order = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(to_ours(places(bound.state)))])  # of their coordinates in ours
    theirs = linearize.jacobians(bound.step, bound.params, bound.state, XS)[:, order][:, :, order]
    ours = linearize.jacobians(cell.step, params, state, XS)
    assert relative(theirs, ours) < 1e-5

    total = bptt.decompose(bound.step, bound.params, bound.state, XS, targets, squares(bound.output)).total
    of_ours = bptt.decompose(cell.step, params, state, XS, targets, squares(cell.output)).total
    assert relative(total, jax.vjp(into_ours, bound.params)[1](of_ours)[0]) < 1e-5

    if len(params["b_h"]) > N:  # gates in another order are another model
        turned = jax.tree.map(lambda leaf: jnp.roll(leaf, N, axis=0), params)
        assert relative(theirs, linearize.jacobians(cell.step, turned, state, XS)) > 1e-2


def places(tree):
    """A tree whose entries count its coordinates."""
    leaves, treedef = jax.tree.flatten(tree)
    ends = np.cumsum([leaf.size for leaf in leaves])
    return jax.tree.unflatten(treedef, [np.arange(end - leaf.size, end).reshape(leaf.shape) for leaf, end in zip(leaves, ends, strict=True)])


@over_rows
def test_an_equal_model_bound_again_compiles_nothing(name):
    lyapunov.spectrum.jitted.clear_cache()
    for seed in range(2):
        foreign = ROWS[name][0]()
        bound = foreign.bind(shaken(foreign.params, seed, 0.1))
        lyapunov.spectrum(bound.step, bound.params, bound.state, XS[:4])
    assert lyapunov.spectrum.jitted._cache_size() == 1


# Whole models: layers one after another.


def linen_model():
    layers = [nn.Dense(3), nn.RNN(nn.LSTMCell(N)), nn.relu, nn.RNN(nn.GRUCell(5)), nn.Dropout(0.5, deterministic=True), nn.LayerNorm(), nn.Dense(2)]
    model = nn.Sequential(layers)
    variables = model.init(KEY, XS)
    return adapters.flax_linen(model, variables), lambda p, xs: model.apply({"params": p}, xs)


def linen_compact():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.Dense(2)(nn.RNN(nn.GRUCell(5))(nn.RNN(nn.LSTMCell(N), name="unused")(xs)))

    model = Model()
    parts = {"LSTMCell_0": nn.LSTMCell(N), "GRUCell_0": nn.GRUCell(5), "Dense_0": nn.Dense(2)}
    return adapters.flax_linen(parts, model.init(KEY, XS)), lambda p, xs: model.apply({"params": p}, xs)


def linen_bound():
    class Model(nn.Module):
        def setup(self):
            self.encoder = nn.RNN(nn.LSTMCell(N))

        def __call__(self, xs):
            return self.encoder(xs)

    model = Model()
    bound = adapters.flax_linen(model.bind(model.init(KEY, XS)).encoder)
    return bound, lambda p, xs: model.apply({"params": {"encoder": p}}, xs)


def nnx_model():
    rngs = nnx.Rngs(0)
    layers = (
        nnx.RNN(nnx.LSTMCell(N_IN, N, rngs=rngs)),
        nnx.relu,
        nnx.RNN(nnx.GRUCell(N, 5, rngs=rngs)),
        nnx.Dropout(0.5, rngs=rngs),
        nnx.Linear(5, 2, rngs=rngs),
    )
    model = nnx.Sequential(*layers)
    model.eval()

    def run(p, xs):
        nnx.update(model, p)
        return model(xs)

    return adapters.flax_nnx(model), run


def equinox_model():
    model = [
        eqx.nn.LSTMCell(N_IN, N, key=KEY),
        jax.nn.relu,
        eqx.nn.GRUCell(N, 5, key=KEY),
        eqx.nn.Dropout(0.5, inference=True),
        eqx.nn.Linear(5, 2, key=KEY),
    ]
    model = jax.tree.map(lambda leaf: leaf.astype(np.float32) if eqx.is_inexact_array(leaf) else leaf, model)

    def run(p, xs):
        lstm, relu, gru, _, linear = eqx.combine(p, model)
        low, high, out = (jnp.zeros(N, np.float32),) * 2, jnp.zeros(5, np.float32), []
        for x in xs:
            low = lstm(x, low)
            high = gru(relu(low[0]), high)
            out.append(linear(high))
        return jnp.stack(out)

    return adapters.equinox(model), run


def deep_core():
    return hk.DeepRNN([hk.LSTM(N), jax.nn.relu, hk.GRU(5), hk.Linear(2)])


def haiku_model():
    def forward(xs):
        core = deep_core()
        return hk.dynamic_unroll(core, xs, core.initial_state(None))[0]

    net = hk.without_apply_rng(hk.transform(forward))
    return adapters.haiku(deep_core, net.init(KEY, XS)), net.apply


def keras_model():
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Input((None, N_IN)), layers.LSTM(N, return_sequences=True), layers.ReLU(), layers.RNN([layers.GRUCell(4), layers.LSTMCell(5)], True),
         layers.Dropout(0.5), layers.TimeDistributed(layers.Dense(2))]
    )  # fmt: skip

    def run(p, xs):
        for variable, value in zip(model.trainable_variables, p.values(), strict=True):
            variable.assign(value)
        return model(xs[None])[0]

    return adapters.keras(model), run


MODELS = [linen_model, linen_compact, linen_bound, nnx_model, equinox_model, haiku_model, keras_model]
over_models = pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)


@over_models
def test_whole_models_say_what_the_library_says(make):
    bound, run = make()
    assert relative(shown(bound, XS), run(bound.params, XS)) < 1e-5


def squashed(key, batch):
    """Sequences and, at every time, a bounded function of what came."""
    xs = jax.random.normal(key, (batch, 10, N_IN), np.float32)
    return Batch(xs, jnp.tanh(xs[..., :1]))


def first_error(prediction, target):
    return jnp.mean((prediction[:1] - target) ** 2)


@over_models
def test_what_training_returns_goes_back_into_the_model(make):
    bound, run = make()
    loss = cells.readout_loss(bound, first_error)
    trained = training.fit(*bound[:3], squashed, loss, steps=40, batch=16, key=KEY, optimizer=optax.adam(3e-2))
    assert trained.history["loss"][-5:].mean() < 0.8 * trained.history["loss"][:5].mean()
    after = bound._replace(params=trained.params)
    assert jax.tree.structure(trained.params) == jax.tree.structure(bound.params)
    assert relative(shown(after, XS), run(trained.params, XS)) < 1e-5


@pytest.mark.parametrize("make", [haiku_model, keras_model], ids=lambda make: make.__name__)  # the README has the others
def test_one_line_diagnoses_a_whole_model(make):
    bound, _ = make()
    found = diagnosis.diagnose(*bound[:3], noise(5, (4, 20, N_IN), np.float32))
    assert found.verdict in ("vanishing", "stable")
    assert all(check.passed is not False for check in found.checks)


# Random numbers, and what is frozen.


def dropping(library, rate=0.5):
    if library == "linen":
        model = nn.Sequential([nn.Dropout(rate, deterministic=False), nn.RNN(nn.GRUCell(N))])
        variables = model.init({"params": KEY, "dropout": KEY}, XS)
        return lambda **keyed: adapters.flax_linen(model, variables, **keyed)
    if library == "nnx":
        model = nnx.Sequential(nnx.Dropout(rate, rngs=nnx.Rngs(0)), nnx.RNN(nnx.GRUCell(N_IN, N, rngs=nnx.Rngs(0))))
        return lambda **keyed: adapters.flax_nnx(model, **keyed)
    return lambda **keyed: adapters.equinox([eqx.nn.Dropout(rate), eqx.nn.GRUCell(N_IN, N, dtype=np.float32, key=KEY)], **keyed)


@pytest.mark.parametrize("library", ["linen", "nnx", "equinox"])
def test_masks_of_dropout_are_those_of_the_keys_among_the_inputs(library):
    make = dropping(library)
    with pytest.raises(ValueError, match="Dropout is active"):
        make()
    bound, plain = make(keyed=True), dropping(library, 0.0)()
    keys = jax.random.split(KEY, STEPS)
    one = linearize.input_jacobians(lambda p, h, x: bound.step(p, h, (x, KEY)), bound.params, bound.state, XS[:1])[0]
    dead = jnp.abs(one).max(0) == 0
    assert not jnp.array_equal(shown(bound, (XS, keys)), shown(bound, (XS, jax.random.split(jax.random.key(1), STEPS))))
    assert jnp.array_equal(shown(bound, (XS, keys)), shown(bound, (XS, keys)))
    masked = jnp.where(dead, 0, 2 * XS[0])  # what is kept is doubled
    assert relative(bound.step(bound.params, bound.state, (XS[0], KEY)), plain.step(bound.params, plain.state, masked)) < 1e-6
    if library == "nnx":
        pairs = jnp.stack([XS, -XS]), jax.random.split(KEY, (2, STEPS))
        assert all(check.passed is not False for check in diagnosis.diagnose(*bound[:3], pairs).checks)


def test_keras_drops_by_the_keys_too_and_not_without():
    layer = keras.layers.GRU(N, dropout=0.3, recurrent_dropout=0.3, return_sequences=True)
    layer.build((None, None, N_IN))
    assert relative(shown(adapters.keras(layer), XS), layer(XS[None])[0]) < 1e-5
    bound = adapters.keras(layer, keyed=True)
    keys = jax.random.split(KEY, STEPS)
    assert jnp.array_equal(shown(bound, (XS, keys)), shown(bound, (XS, keys)))
    assert relative(shown(bound, (XS, keys)), shown(bound, (XS, keys[::-1]))) > 1e-2


class Normed(nn.RNNCellBase):
    """A cell with batch statistics, which no step may change."""

    @nn.compact
    def __call__(self, carry, x):
        a = nn.BatchNorm(use_running_average=False, axis_name=None)(nn.Dense(N)(x)[None])[0]
        carry = jnp.tanh(a + nn.Dense(N)(carry))
        return carry, carry

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros(N)

    num_feature_axes = 1


def test_collections_beside_the_params_are_frozen_and_said_so():
    cell = Normed()
    variables = cell.init(KEY, jnp.zeros(N), XS[0])
    with pytest.warns(UserWarning, match="batch_stats are frozen"):
        bound = adapters.flax_linen(cell, variables)
    (after, _), _ = cell.apply(variables, bound.state, XS[0], mutable=["batch_stats"])
    assert relative(bound.step(bound.params, bound.state, XS[0]), after) < 1e-6
    with pytest.warns(UserWarning, match="frozen"):
        again = adapters.flax_linen(Normed(), jax.tree.map(jnp.copy, variables))
    with pytest.warns(UserWarning, match="frozen"):
        other = adapters.flax_linen(cell, {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf + 1, variables["batch_stats"])})
    assert bound.step == again.step != other.step


# Models of one's own, by the functions that advance them and read them out.


class Own(eqx.Module):
    slow: eqx.nn.GRUCell
    fast: eqx.nn.LSTMCell
    readout: eqx.nn.Linear

    def advance(self, state, x):
        fast = self.fast(x, state["fast"])
        return {"slow": self.slow(fast[0], state["slow"]), "fast": fast}

    def read(self, state, x):
        return self.readout(jnp.concatenate([state["slow"], state["fast"][0]]))


def test_a_module_of_several_cells_is_bound_by_its_own_functions():
    model = Own(eqx.nn.GRUCell(N, 2, key=KEY), eqx.nn.LSTMCell(N_IN, N, key=KEY), eqx.nn.Linear(N + 2, 1, key=KEY))
    state = {"slow": jnp.zeros(2), "fast": (jnp.zeros(N), jnp.zeros(N))}
    bound = adapters.equinox(model, state=state, call=Own.advance, output=Own.read)
    for x in XS:
        state = model.advance(state, x)
    last = jax.tree.map(lambda leaf: leaf[-1], unroll.states(*bound[:3], XS))
    assert relative(last, state) < 1e-12
    assert relative(bound.output(bound.params, state, XS[-1]), model.read(state, XS[-1])) < 1e-12
    assert flow.log_transport(*bound[:3], XS).shape == (STEPS + 1, STEPS + 1)


class Twice(nn.Module):
    def setup(self):
        self.cell, self.readout = nn.GRUCell(N), nn.Dense(1)

    def advance(self, h, x):
        return self.cell(self.cell(h, x)[0], x)[0]

    def read(self, h, x):
        return self.readout(h)

    def __call__(self, h, x):
        return self.read(self.advance(h, x), x)


class TwiceHaiku(hk.Module):
    def advance(self, h, x):
        core = hk.GRU(N)
        return core(x, core(x, h)[1])[1]


class TwiceNnx(nnx.Module):
    def __init__(self, rngs):
        self.cell = nnx.GRUCell(N_IN, N, rngs=rngs)

    def advance(self, h, x):
        return self.cell(self.cell(h, x)[0], x)[0]


def test_modules_of_ones_own_in_the_other_libraries():
    zeros = jnp.zeros(N, np.float32)
    model = Twice()
    variables = model.init(KEY, zeros, XS[0])
    bound = adapters.flax_linen(model, variables, state=zeros, call="advance", output="read")
    wanted = model.apply(variables, zeros, XS[0], method="advance")
    assert relative(bound.step(bound.params, zeros, XS[0]), wanted) < 1e-6
    assert relative(bound.output(bound.params, wanted, XS[0]), model.apply(variables, zeros, XS[0])) < 1e-6
    assert bound.step == adapters.flax_linen(Twice(), variables, state=zeros, call="advance").step
    module = TwiceNnx(nnx.Rngs(0))
    assert (
        relative(
            adapters.flax_nnx(module, state=zeros, call=TwiceNnx.advance).step(nnx.state(module, nnx.Param), zeros, XS[0]),
            module.advance(zeros, XS[0]),
        )
        < 1e-6
    )
    net = hk.without_apply_rng(hk.transform(lambda h, x: TwiceHaiku().advance(h, x)))
    params = net.init(KEY, zeros, XS[0])
    assert (
        relative(adapters.haiku(TwiceHaiku, params, state=zeros, call=TwiceHaiku.advance).step(params, zeros, XS[0]), net.apply(params, zeros, XS[0]))
        < 1e-6
    )


def test_a_core_inside_another_module_is_found_behind_its_prefix():
    class Net(hk.Module):
        def __init__(self):
            super().__init__(name="net")
            self.core = hk.LSTM(N)

        def __call__(self, xs):
            return hk.dynamic_unroll(self.core, xs, self.core.initial_state(None))[0]

    net = hk.without_apply_rng(hk.transform(lambda xs: Net()(xs)))
    params = net.init(KEY, XS)
    with pytest.raises(ValueError, match="nothing named lstm; they have 'net/~/lstm/linear': give the prefix"):
        adapters.haiku(lambda: hk.LSTM(N), params)
    assert relative(shown(adapters.haiku(lambda: hk.LSTM(N), params, prefix="net/~/"), XS), net.apply(params, XS)) < 1e-6


def test_an_output_that_is_no_part_of_the_state_must_be_said():
    class Loud(nn.GRUCell):
        @nn.compact
        def __call__(self, carry, x):
            return carry, 2 * carry

    bound = adapters.flax_linen(Loud(N), {"params": {"unused": jnp.zeros(1)}})
    with pytest.raises(ValueError, match=r"not one of the leaves of its state.*bound\._replace\(output="):
        bound.output(bound.params, bound.state, XS[0])


# What is refused.


def built(layer, shape=(None, None, N_IN)):
    layer.build(shape)
    return layer


REFUSED: dict[str, tuple[Callable, type[Exception], str]] = {
    "linen: not a module": (lambda: adapters.flax_linen(3, {"params": {}}), TypeError, "a module of flax.linen or a dictionary of them, given 3"),
    "linen: nnx": (lambda: adapters.flax_linen(nnx.GRUCell(2, 3, rngs=nnx.Rngs(0))), TypeError, "for flax.nnx there is adapters.flax_nnx"),
    "linen: no variables": (lambda: adapters.flax_linen(nn.GRUCell(N)), ValueError, "variables must be what init returned"),
    "linen: params alone": (lambda: adapters.flax_linen(nn.GRUCell(N), {"hn": 1}), ValueError, "given 'hn'"),
    "linen: other params": (
        lambda: adapters.flax_linen(nn.RNN(nn.GRUCell(N)), {"params": {"GRUCell_0": {"a": 1.0}}}),
        ValueError, "lack cell of GRUCell; at the top there are 'GRUCell_0'",
    ),
    "linen: empty params": (lambda: adapters.flax_linen(nn.GRUCell(N), {"params": {}}), ValueError, "have no params of GRUCell"),
    "linen: both directions": (
        lambda: adapters.flax_linen(nn.Bidirectional(nn.RNN(nn.GRUCell(N)), nn.RNN(nn.GRUCell(N))), {"params": {}}), ValueError, "from the end",
    ),
    "linen: reverse": (lambda: adapters.flax_linen(nn.RNN(nn.GRUCell(N), reverse=True), {"params": {}}), ValueError, "from the end"),
    "linen: convolution": (lambda: adapters.flax_linen(nn.Conv(3, (3,)), {"params": {"kernel": 1.0}}), ValueError, "a Conv may mix times"),
    "linen: own function": (
        lambda: adapters.flax_linen(nn.Sequential([nn.RNN(nn.GRUCell(N)), lambda h: h[-1]]), {"params": {"layers_0": {"cell": {"a": 1.0}}}}),
        ValueError, "may mix times",
    ),
    "linen: nothing recurrent": (lambda: adapters.flax_linen(nn.Dense(3), {"params": {"kernel": 1.0}}), ValueError, "no recurrent layer"),
    "linen: two-dimensional": (
        lambda: adapters.flax_linen(nn.ConvLSTMCell(3, (3,)), {"params": {"hh": 1.0}}), ValueError, "depends on the shape of its input; give state=",
    ),
    "linen: call without state": (lambda: adapters.flax_linen(nn.Dense(3), {"params": {"kernel": 1.0}}, call="f"), ValueError, "needs state="),
    "nnx: not a module": (lambda: adapters.flax_nnx([]), TypeError, "a module of flax.nnx or a list of them"),
    "nnx: linen": (lambda: adapters.flax_nnx(nn.GRUCell(3)), TypeError, "for flax.linen there is adapters.flax_linen"),
    "nnx: both directions": (
        lambda: adapters.flax_nnx(nnx.Bidirectional(*(nnx.RNN(nnx.GRUCell(2, 3, rngs=nnx.Rngs(0))) for _ in range(2)))), ValueError, "from the end",
    ),
    "nnx: convolution": (lambda: adapters.flax_nnx([nnx.Conv(2, 3, 3, rngs=nnx.Rngs(0))]), ValueError, "a Conv may mix times"),
    "nnx: nothing recurrent": (lambda: adapters.flax_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0))), ValueError, "no recurrent layer"),
    "equinox: not a module": (lambda: adapters.equinox(jnp.tanh), TypeError, "holds no floating arrays"),
    "equinox: nothing recurrent": (lambda: adapters.equinox(eqx.nn.Linear(2, 3, key=KEY)), ValueError, "no recurrent layer"),
    "equinox: call without state": (lambda: adapters.equinox(eqx.nn.Linear(2, 3, key=KEY), call=jnp.add), ValueError, "needs state="),
    "haiku: no function": (lambda: adapters.haiku({}, {}), TypeError, "a function that makes the core"),
    "haiku: nothing recurrent": (lambda: adapters.haiku(lambda: hk.Linear(3), {"linear": {}}), ValueError, "no recurrent layer"),
    "keras: not a layer": (lambda: adapters.keras("lstm"), TypeError, "a layer of Keras or a list of them"),
    "keras: not built": (lambda: adapters.keras(keras.layers.LSTM(3)), ValueError, "is not built"),
    "keras: both directions": (lambda: adapters.keras(built(keras.layers.Bidirectional(keras.layers.GRU(3)))), ValueError, "from the end"),
    "keras: backwards": (lambda: adapters.keras(built(keras.layers.GRU(3, go_backwards=True))), ValueError, "from the end"),
    "keras: convolution": (lambda: adapters.keras(built(keras.layers.Conv1D(3, 3))), ValueError, "a Conv1D, may mix times"),
    "keras: nothing recurrent": (lambda: adapters.keras(built(keras.layers.Dense(3), (None, N_IN))), ValueError, "no recurrent layer"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_bound_is_refused_with_what_to_do(case):
    call, kind, message = REFUSED[case]
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_keras_computes_in_the_precision_of_its_layer():
    bound = adapters.keras(built(keras.layers.GRU(N)))
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), bound.params)
    with pytest.raises(ValueError, match=r"kernel is float64, but layer gru_cell.* computes in float32; make it with dtype='float64'"):
        bound.step(wide, bound.state, XS[0])
    exact = adapters.keras(built(keras.layers.GRU(N, dtype="float64")))
    assert unroll.states(*exact[:3], noise(1, (5, N_IN))).dtype == np.float64


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="Keras computes with torch; set the environment variable KERAS_BACKEND=jax"):
        adapters.keras(keras.layers.GRU(3))


@pytest.mark.parametrize(
    ("adapter", "package", "extra"),
    [
        ("flax_linen", "flax", "flax"),
        ("flax_nnx", "flax", "flax"),
        ("equinox", "equinox", "equinox"),
        ("haiku", "haiku", "haiku"),
        ("keras", "keras", "keras"),
    ],
)
def test_a_missing_library_is_one_sentence(adapter, package, extra, monkeypatch):
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    arguments = [None] * (2 if adapter == "haiku" else 1)
    with pytest.raises(ModuleNotFoundError, match=re.escape(f'needs the package {package}; install it with: pip install "jaxrnn[{extra}]"')):
        getattr(adapters, adapter)(*arguments)
