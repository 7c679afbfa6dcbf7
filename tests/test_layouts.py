"""Parameters of other libraries' cells as ours and back: every bit, the same states, and what is refused.

Each library's own unroll is compared with ours in ``test_foreign``, too; here its weights go back into a module of its own.
"""

import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import adapters, cells, lyapunov, unroll
from jaxrnn.adapters import LAYOUTS, export_params, import_params
from tests.models import relative, shaken

os.environ.setdefault("KERAS_BACKEND", "jax")
N_IN, N, STEPS = 3, 4, 50
DRAW = np.random.default_rng(0).standard_normal
XS = DRAW((STEPS, N_IN))
MATRICES = ("W_hh", "W_xh")
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def own(cell, seed=1, **kwargs):
    """Random parameters of one of our cells, nonzero biases."""
    made = cells.REGISTRY[cell](N_IN, N, **kwargs)
    params = {name: np.array(leaf, np.float64) for name, leaf in shaken(made.init_params(jax.random.key(seed)), 10 * seed, 0.5).items()}
    return made, params


def followed(cell, params, xs=XS):
    return unroll.states(cell.step, params, cell.init_state(params), xs)


def theirs_of(layout):
    """Random parameters in that layout."""
    shapes = jax.tree.map(jnp.shape, export_params(representable(layout), layout), is_leaf=lambda leaf: isinstance(leaf, np.ndarray))
    return jax.tree.map(lambda shape: DRAW(shape), shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))


def representable(layout):
    _, params = own(LAYOUTS[layout].cell)
    if layout == "nnx-gru":  # its candidate has no recurrent bias
        params["b_h"][-N:] = 0
    return params


def bits(tree):
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in leaves]


@each_layout
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_theirs_as_ours_and_back_is_theirs_bit_for_bit(layout, dtype):
    theirs = jax.tree.map(lambda leaf: leaf.astype(dtype), theirs_of(layout))
    jax.tree.leaves(theirs)[-1][..., :2] = -0.0, 0.0
    ours = import_params(theirs, layout)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype(dtype)}
    assert bits(export_params(ours, layout)) == bits(theirs)


@each_layout
def test_ours_as_theirs_and_back_is_the_same_function(layout):
    params = representable(layout)
    cell = cells.REGISTRY[LAYOUTS[layout].cell](N_IN, N)
    if LAYOUTS[layout].cell in ("vanilla", "lstm"):
        params["b_x"] = DRAW(params["b_h"].shape)
    again = import_params(export_params(params, layout), layout)
    assert relative(followed(cell, again), followed(cell, params)) < 1e-12


@each_layout
def test_arrays_of_jax_under_jit_become_the_same(layout):
    theirs = theirs_of(layout)
    ours = jax.jit(lambda tree: import_params(tree, layout))(theirs)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(import_params(theirs, layout)))
    assert bits(ours) == bits(import_params(theirs, layout))
    if layout == "nnx-gru":
        with pytest.raises(ValueError, match="not known under jit"):
            jax.jit(lambda tree: export_params(tree, layout))(ours)
    else:
        assert bits(jax.jit(lambda tree: export_params(tree, layout))(ours)) == bits(theirs)


def test_gradients_of_ours_go_back_by_the_transpose():
    params = theirs_of("haiku-gru")
    cell = cells.REGISTRY["gru_reset_before"](N_IN, N)
    loss = lambda theirs: jnp.sum(followed(cell, import_params(theirs, "haiku-gru")) ** 2)
    inner = jax.grad(lambda ours: jnp.sum(followed(cell, ours) ** 2))(import_params(params, "haiku-gru"))
    assert relative(jax.grad(loss)(params), export_params(inner, "haiku-gru")) < 1e-12


def run_linen(name, theirs):
    nn = library("flax.linen")
    cell = getattr(nn, name)(N, param_dtype=jnp.float64)
    return nn.RNN(cell).apply({"params": {"cell": theirs}}, XS)


def run_nnx(name, theirs):
    nnx = library("flax.nnx")
    cell = getattr(nnx, name)(N_IN, N, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    nnx.update(cell, theirs)
    start = jnp.zeros(N)
    return nnx.RNN(cell)(XS, initial_carry=(start, start) if "LSTM" in name else start)


def run_equinox(name, theirs):
    eqx = library("equinox")
    cell = getattr(eqx.nn, name)(N_IN, N, key=jax.random.key(0))
    cell = eqx.tree_at(lambda c: [getattr(c, k) for k in theirs], cell, list(theirs.values()))
    h, shown = (jnp.zeros(N), jnp.zeros(N)) if name == "LSTMCell" else jnp.zeros(N), []
    for x in XS:
        h = cell(x, h)
        shown.append(h[0] if isinstance(h, tuple) else h)
    return jnp.stack(shown)


def run_haiku(name, theirs):
    hk = library("haiku")

    def forward(xs):
        core = getattr(hk, name)(N)
        return hk.dynamic_unroll(core, xs, jax.tree.map(lambda leaf: leaf.astype(xs.dtype), core.initial_state(None)))[0]

    return hk.without_apply_rng(hk.transform(forward)).apply(theirs, XS)


def run_keras(name, theirs, **kwargs):
    keras = library("keras")
    layer = getattr(keras.layers, name)(N, return_sequences=True, **kwargs)
    layer.build((None, None, N_IN))
    layer.set_weights(theirs)
    return np.asarray(layer(XS[None].astype(np.float32))[0])  # it computes in float32 whatever it is told


def run_torch(name, theirs):
    torch = library("torch")
    module = getattr(torch.nn, name)(N_IN, N, dtype=torch.float64)
    module.load_state_dict({k: torch.from_numpy(np.array(a)) for k, a in theirs.items()})
    with torch.no_grad():
        if not name.endswith("Cell"):
            return module(torch.from_numpy(XS))[0].numpy()
        h, shown = None, []
        for x in torch.from_numpy(XS):
            h = module(x, h)
            shown.append(h[0] if isinstance(h, tuple) else h)
        return torch.stack(shown).numpy()


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


RUNS = {
    "torch-rnn": (run_torch, "RNN"), "torch-gru": (run_torch, "GRU"), "torch-lstm": (run_torch, "LSTM"),
    "torch-rnn-cell": (run_torch, "RNNCell"), "torch-gru-cell": (run_torch, "GRUCell"), "torch-lstm-cell": (run_torch, "LSTMCell"),
    "flax-simple": (run_linen, "SimpleCell"), "flax-gru": (run_linen, "GRUCell"), "flax-lstm": (run_linen, "LSTMCell"),
    "flax-optimized-lstm": (run_linen, "OptimizedLSTMCell"), "flax-mgu": (run_linen, "MGUCell"),
    "nnx-simple": (run_nnx, "SimpleCell"), "nnx-gru": (run_nnx, "GRUCell"), "nnx-lstm": (run_nnx, "LSTMCell"),
    "nnx-optimized-lstm": (run_nnx, "OptimizedLSTMCell"),
    "equinox-gru": (run_equinox, "GRUCell"), "equinox-lstm": (run_equinox, "LSTMCell"),
    "haiku-rnn": (run_haiku, "VanillaRNN"), "haiku-gru": (run_haiku, "GRU"), "haiku-lstm": (run_haiku, "LSTM"),
    "keras-simple": (run_keras, "SimpleRNN"), "keras-gru": (run_keras, "GRU"), "keras-lstm": (run_keras, "LSTM"),
    "keras-gru-reset-before": (lambda name, theirs: run_keras(name, theirs, reset_after=False), "GRU"),
}  # fmt: skip


@each_layout
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_our_weights_in_their_module_run_as_ours(layout):
    run, name = RUNS[layout]
    params = representable(layout)
    cell = cells.REGISTRY[LAYOUTS[layout].cell](N_IN, N, **({"activation": "relu"} if layout == "haiku-rnn" else {}))
    if layout == "haiku-rnn":
        params["W_hh"] /= 2 * np.linalg.norm(params["W_hh"], 2)  # ReLU units shall not explode
    with jax.numpy_dtype_promotion("standard"):
        theirs = run(name, export_params(params, layout))
    shown = lambda params: jax.tree.leaves(followed(cell, params))[0]
    assert relative(theirs, shown(params)) < (1e-5 if theirs.dtype == np.float32 else 1e-12)
    gates = len(params["W_hh"]) // N
    for i in range(gates - 1):  # gates i and i + 1 swapped are another model
        order = np.arange(gates)
        order[[i, i + 1]] = i + 1, i
        rows = (order[:, None] * N + np.arange(N)).ravel()
        swapped = {name: leaf[rows] if len(leaf) == len(rows) else leaf for name, leaf in params.items()}
        assert relative(theirs, shown(swapped)) > 1e-3


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_layers_of_torch_come_back_bit_for_bit_also_through_a_file(kind, tmp_path):
    torch = library("torch")
    module, layout = getattr(torch.nn, kind)(N_IN, N, num_layers=2, dtype=torch.float64), f"torch-{kind.lower()}"
    before = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    np.savez(tmp_path / "weights.npz", **before)
    bound = adapters.torch_weights(tmp_path / "weights.npz", layout)
    for params in (import_params(module.state_dict(), layout), import_params(dict(module.named_parameters()), layout), bound.params):
        after = export_params(params, layout)
        assert bits({name: after[name] for name in before}) == bits(before)
    top = jax.tree.leaves(unroll.states(bound.step, import_params(before, layout), bound.state, XS)[1])[0]
    assert relative(top, module(torch.from_numpy(XS))[0].detach().numpy()) < 1e-12


def test_jacobians_computed_in_torch_have_the_exponents_of_its_weights(tmp_path):
    torch = library("torch")
    cell = torch.nn.GRUCell(N_IN, N, dtype=torch.float64)
    inputs = torch.from_numpy(XS)

    state, jacobians = torch.zeros(N, dtype=torch.float64), []
    for x in inputs:
        jacobians.append(torch.func.jacrev(lambda h, x=x: cell(x, h))(state))
        state = cell(x, state).detach()
    found = lyapunov.from_jacobians(torch.stack(jacobians).detach().numpy())

    np.savez(tmp_path / "weights.npz", **{name: w.detach().numpy() for name, w in cell.state_dict().items()})
    bound = adapters.torch_weights(tmp_path / "weights.npz", "torch-gru")
    assert relative(found.exponents, lyapunov.spectrum(bound.step, bound.params, bound.state, XS).exponents) < 1e-10


def test_where_biases_have_no_sum_that_is_said():
    _, params = own("gru")
    with pytest.raises(ValueError, match=r"nnx-gru has no place for b_h of gate n, .* set it to zero"):
        export_params(params, "nnx-gru")


@pytest.mark.parametrize(
    ("change", "layout", "error", "said"),
    [
        (lambda t: t, "torch", ValueError, r"unknown layout 'torch'; allowed are torch-rnn, "),
        (lambda t: {k: t[k] for k in sorted(t)[1:]}, "torch-lstm", ValueError, "lacks bias_hh_l0; wanted are .*zeros for a bias"),
        (lambda t: {**t, "weight_ih_l0_reverse": t["weight_ih_l0"]}, "torch-lstm", ValueError, "has weight_ih_l0_reverse too many"),
        (lambda t: t, "torch-gru", ValueError, r"weight_ih_l0 of torch-gru has shape \(16, 3\); it must be \(12, 3\) with 4"),
        (lambda t: {**t, "bias_hh_l0": np.ones(3)}, "torch-lstm", ValueError, r"bias_hh_l0 of torch-lstm has shape \(3,\); it must be \(16,\)"),
        (lambda t: {**t, "weight_hh_l0": np.ones(16)}, "torch-lstm", ValueError, r"weight_hh_l0 of torch-lstm has shape \(16,\).* a matrix"),
        (lambda t: list(t.values()), "torch-lstm", TypeError, "torch-lstm is a dict from weight_ih"),
        (lambda t: t, "keras-lstm", TypeError, "is the list of layer.get_weights"),
        (lambda t: list(t.values()), "keras-lstm", ValueError, "is kernel, recurrent_kernel, bias, given are 4 arrays"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_theirs_is_said(change, layout, error, said):
    with pytest.raises(error, match=said):
        import_params(change(theirs_of("torch-lstm")), layout)


def test_what_is_wrong_with_ours_is_said():
    params = representable("torch-lstm")
    with pytest.raises(TypeError, match="must be a dict"):
        export_params(list(params.values()), "torch-lstm")
    with pytest.raises(ValueError, match="given for the cell lstm has W_hy too many"):
        export_params({**params, "W_hy": np.ones((1, N))}, "torch-lstm")
    with pytest.raises(ValueError, match="one cell, given are 2 layers"):
        export_params({"layers": (params, params)}, "flax-lstm")
