"""Torch's weights become built-in cells: against its equations in NumPy, against torch itself where there is one, and what is refused."""

import io
import pickle
import re
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import adapters, cells, linearize, lyapunov, unroll
from tests.models import relative

GATES = {"torch-rnn": 1, "torch-gru": 3, "torch-lstm": 4}
N_IN, SIZES, STEPS = 3, (5, 4, 6), 7
ROUNDING = 50 * np.finfo(float).eps  # a sum of N_IN + n products, and functions good to a few units in the last place
over_kinds = pytest.mark.parametrize("kind", GATES)


# Torch's equations, from its documentation.


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def rnn(w, h, x, phi=np.tanh):
    return phi(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"])


def gru(w, h, x):
    n = len(h)
    gate = lambda i: (w["weight_ih"][i * n : (i + 1) * n] @ x + w["bias_ih"][i * n : (i + 1) * n],
                      w["weight_hh"][i * n : (i + 1) * n] @ h + w["bias_hh"][i * n : (i + 1) * n])  # fmt: skip
    r, z = sigmoid(sum(gate(0))), sigmoid(sum(gate(1)))
    new = np.tanh(gate(2)[0] + r * gate(2)[1])
    return (1 - z) * new + z * h


def lstm(w, state, x):
    h, c = state
    n = len(h)
    a = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = (a[j * n : (j + 1) * n] for j in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


EQUATIONS = {"torch-rnn": rnn, "torch-gru": gru, "torch-lstm": lstm}


def weights(kind, layers=1, seed=0, dtype=np.float64, bias=True):
    """Random weights of torch's names and layout, biases nonzero."""
    draw = np.random.default_rng(seed).standard_normal
    out = {}
    for i, (n_in, n) in enumerate(zip((N_IN, *SIZES), SIZES[:layers], strict=False)):
        rows = GATES[kind] * n
        shapes = {"weight_ih": (rows, n_in), "weight_hh": (rows, n)} | ({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {})
        out |= {f"{role}_l{i}": (draw(shape) / np.sqrt(n)).astype(dtype) for role, shape in shapes.items()}
    return out


def reference(kind, arrays, xs, start):
    """States of every layer at every time, by a Python loop over the equations; ``start`` is one state per layer."""
    layers = [{role: arrays[f"{role}_l{i}"] for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")} for i in range(len(start))]
    states, out = list(start), []
    for x in xs:
        for i, w in enumerate(layers):
            states[i] = EQUATIONS[kind](w, states[i], x)
            x = states[i][0] if kind == "torch-lstm" else states[i]
        out.append(np.concatenate([np.ravel(s) for s in states]))
    return np.array(out)


def random_start(kind, layers, seed=9):
    draw = np.random.default_rng(seed).standard_normal
    return [tuple(draw((2, n))) if kind == "torch-lstm" else draw(n) for n in SIZES[:layers]]


def as_state(kind, start):
    """The same state as our cells hold it."""
    layers = [cells.LSTMState(*map(jnp.asarray, s)) if kind == "torch-lstm" else jnp.asarray(s) for s in start]
    return layers[0] if len(layers) == 1 else tuple(layers)


def inputs():
    return np.random.default_rng(5).standard_normal((STEPS, N_IN))


def saved(tmp_path, arrays, suffix=".npz"):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        pytest.importorskip("safetensors", reason="the package safetensors is not installed")
        from safetensors.numpy import save_file

        save_file(arrays, path)
    return path


def flat(tree):
    return np.concatenate([np.reshape(leaf, (STEPS, -1)) for leaf in jax.tree.leaves(tree)], axis=1)


@over_kinds
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_states_are_those_of_torchs_equations(kind, layers, suffix, tmp_path):
    arrays, start = weights(kind, layers), random_start(kind, layers)
    bound = adapters.torch_weights(saved(tmp_path, arrays, suffix), kind)
    states = unroll.states(bound.step, bound.params, as_state(kind, start), jnp.asarray(inputs()))
    assert relative(flat(states), reference(kind, arrays, inputs(), start)) < ROUNDING * STEPS
    assert jax.tree.structure(bound.state) == jax.tree.structure(as_state(kind, start))
    assert not any(leaf.any() for leaf in jax.tree.leaves(bound.state))
    last = jax.tree.map(lambda leaf: leaf[-1], states)
    top = last[-1] if layers > 1 else last
    np.testing.assert_array_equal(bound.output(bound.params, last, None), top.h if kind == "torch-lstm" else top)


def test_relu_is_torchs_other_activation(tmp_path):
    arrays, start = weights("torch-rnn"), random_start("torch-rnn", 1)
    bound = adapters.torch_weights(saved(tmp_path, arrays), "torch-rnn", activation="relu")
    w = {role: arrays[f"{role}_l0"] for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    wanted = rnn(w, start[0], inputs()[0], lambda a: np.maximum(a, 0))
    assert relative(bound.step(bound.params, jnp.asarray(start[0]), jnp.asarray(inputs()[0])), wanted) < ROUNDING


@over_kinds
@pytest.mark.parametrize("layers", [1, 3])
def test_jacobians_are_differences_of_torchs_equations(kind, layers, tmp_path):
    arrays, start, x = weights(kind, layers), random_start(kind, layers), inputs()[:1]
    bound = adapters.torch_weights(saved(tmp_path, arrays), kind)
    jacobian = linearize.jacobians(bound.step, bound.params, as_state(kind, start), jnp.asarray(x))[0]
    flat_start = np.concatenate([np.ravel(s) for s in start])

    def after(vector):
        parts = np.split(vector, np.cumsum([np.size(s) for s in start])[:-1])
        return reference(kind, arrays, x, [tuple(p.reshape(2, -1)) if kind == "torch-lstm" else p for p in parts])[0]

    eps = np.finfo(float).eps ** (1 / 3)  # balances truncation, eps², against rounding, ε/eps
    columns = [(after(flat_start + eps * e) - after(flat_start - eps * e)) / (2 * eps) for e in np.eye(len(flat_start))]
    assert relative(jacobian, np.array(columns).T) < 20 * eps**2


@over_kinds
def test_equal_shapes_share_one_step_whatever_the_file(kind, tmp_path):
    ours = {"torch-rnn": cells.vanilla, "torch-gru": cells.gru, "torch-lstm": cells.lstm}[kind]
    one = adapters.torch_weights(saved(tmp_path, weights(kind, seed=1)), kind)
    cell = ours(N_IN, SIZES[0])
    assert (one.step, one.output) == (cell.step, cell.output)
    three = [adapters.torch_weights(saved(tmp_path, weights(kind, 3, seed)), kind) for seed in (2, 3)]
    assert three[0].step == three[1].step
    assert hash(three[0].step) == hash(three[1].step)
    lyapunov.spectrum.jitted.clear_cache()
    for bound in three:
        lyapunov.spectrum(bound.step, bound.params, bound.state, jnp.asarray(inputs()))
    assert lyapunov.spectrum.jitted._cache_size() == 1


RENAMED = {
    "enc_w_ih": lambda role: "enc_" + role.replace("weight", "w").replace("bias", "b").removesuffix("_l0"),
    "model.enc.weight_ih_l0": lambda role: f"model.enc.{role}",
    "model/enc/W_IH": lambda role: "model/enc/" + role.replace("weight", "W").replace("bias", "B").removesuffix("_l0").upper(),
    "enc.weight_ih.0": lambda role: f"enc.{role.replace('_l0', '.0')}",
    "enc_b_ih0": lambda role: "enc_" + role.replace("weight", "w").replace("bias", "b").replace("_l0", "0"),
}


@pytest.mark.parametrize("spelling", RENAMED)
def test_a_prefix_chooses_one_recurrence_of_several(spelling, tmp_path):
    mine, other = weights("torch-gru", seed=1), weights("torch-gru", seed=2)
    rename = RENAMED[spelling]
    arrays = {rename(role): value for role, value in mine.items()}
    arrays |= {rename(role).replace("enc", "dec").replace("model", "other"): value for role, value in other.items()}
    arrays |= {"enc_emb": np.zeros((9, N_IN)), "tenc_w_ih": np.zeros((1, 1)), "fc_w": np.zeros((2, 5)), "count": np.array(3)}
    bound = adapters.torch_weights(saved(tmp_path, arrays), "torch-gru", prefix="enc")
    np.testing.assert_array_equal(bound.params["W_hh"], mine["weight_hh_l0"])
    np.testing.assert_array_equal(bound.params["W_xh"], mine["weight_ih_l0"])
    np.testing.assert_array_equal(bound.params["b_x"], mine["bias_ih_l0"])
    np.testing.assert_array_equal(bound.params["b_h"], mine["bias_hh_l0"])


def test_names_choose_arrays_whatever_they_are_called(tmp_path):
    arrays = weights("torch-lstm", 3)
    odd = {f"α/{i}": value for i, value in enumerate(arrays.values())}
    names = dict(zip(arrays, odd, strict=True))
    found = adapters.torch_weights(saved(tmp_path, odd), "torch-lstm", names=names).params
    wanted = adapters.torch_weights(saved(tmp_path, arrays), "torch-lstm").params
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    single = {role: odd[names[f"{role}_l0"]] for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    bare = adapters.torch_weights(saved(tmp_path, odd), "torch-lstm", names={role: names[f"{role}_l0"] for role in single}).params
    jax.tree.map(np.testing.assert_array_equal, bare, wanted["layers"][0])


def test_names_take_the_forward_half_of_a_bidirectional_layer(tmp_path):
    arrays = weights("torch-gru")
    both = arrays | {f"{name}_reverse": -value for name, value in arrays.items()} | {"weight_hr_l0": np.zeros((2, 5))}
    bound = adapters.torch_weights(saved(tmp_path, both), "torch-gru", names={name: name for name in arrays})
    np.testing.assert_array_equal(bound.params["W_hh"], arrays["weight_hh_l0"])


@over_kinds
def test_missing_biases_are_zero(kind, tmp_path):
    arrays = weights(kind, bias=False)
    bound = adapters.torch_weights(saved(tmp_path, arrays), kind)
    assert all(not bound.params[name].any() for name in bound.params if name.startswith("b"))
    zeros = arrays | {f"bias_{side}_l0": np.zeros(len(arrays["weight_hh_l0"])) for side in ("ih", "hh")}
    wanted = reference(kind, zeros, inputs(), random_start(kind, 1))
    states = unroll.states(bound.step, bound.params, as_state(kind, random_start(kind, 1)), jnp.asarray(inputs()))
    assert relative(flat(states), wanted) < ROUNDING * STEPS


KEPT = {"float64": "float64", "float32": "float32", "float16": "float32", "bfloat16": "float32", ">f4": "float32"}


# NumPy's own format cannot hold bfloat16: the table of bad inputs has what it does instead.
@pytest.mark.parametrize(("given", "suffix"), [(g, s) for g in KEPT for s in (".npz", ".safetensors") if (g, s) != ("bfloat16", ".npz")])
def test_the_floating_dtype_is_kept_and_halves_become_float32(given, suffix, tmp_path):
    kept = KEPT[given]
    arrays = weights("torch-gru", dtype=jnp.dtype(given))
    bound = adapters.torch_weights(saved(tmp_path, arrays, suffix), "torch-gru")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((bound.params, bound.state))} == {kept}
    np.testing.assert_array_equal(bound.params["W_hh"], arrays["weight_hh_l0"].astype(kept))
    assert bound.step(bound.params, bound.state, jnp.zeros(N_IN, kept)).dtype == kept


def test_the_widest_of_different_dtypes_is_taken(tmp_path):
    arrays = weights("torch-gru", dtype=np.float16) | {"weight_hh_l0": np.ones((15, 5))}
    assert adapters.torch_weights(saved(tmp_path, arrays), "torch-gru").params["b_x"].dtype == np.float64


# What is refused: each row spoils good weights, or the call, in one way.


def without(*names):
    return lambda arrays: {name: value for name, value in arrays.items() if name not in names}


def reshaped(name, shape):
    return lambda arrays: arrays | {name: np.ones(shape)}


def spoilt(name, index, number):
    def spoil(arrays):
        arrays[name][index] = number
        return arrays

    return spoil


def reverse(arrays):
    return arrays | {f"{name}_reverse": value for name, value in arrays.items()}


def two(arrays):
    return {f"{module}.{name}": value for name, value in arrays.items() for module in ("enc", "dec")}


GRU = {"kind": "torch-gru"}
BAD = {
    "unknown kind": (None, {"kind": "gru"}, ValueError, r"unknown kind 'gru'; allowed are torch-rnn, torch-gru, torch-lstm"),
    "unknown activation": (None, {"kind": "torch-rnn", "activation": "sigmoid"}, ValueError, r"unknown activation 'sigmoid'; .* tanh or relu"),
    "activation of a gru": (None, GRU | {"activation": "relu"}, ValueError, r"applies to torch-rnn only.*leave it out"),
    "prefix and names": (
        None, GRU | {"prefix": "enc", "names": {}}, ValueError, r"names was given with prefix or layer; .*leave the others out",
    ),
    "names no mapping": (None, GRU | {"names": ["a"]}, TypeError, r"names must map roles to names of arrays, given \['a'\]"),
    "names of numbers": (None, GRU | {"names": {"weight_ih": 3}}, TypeError, r"names must map roles"),
    "unknown role": (None, GRU | {"names": {"w": "weight_ih_l0"}}, ValueError, r"unknown role 'w' in names; allowed are weight_ih, weight_hh"),
    "named twice": (
        None, GRU | {"names": {"weight_ih": "weight_ih_l0", "weight_ih_l0": "weight_hh_l0"}}, ValueError, r"weight_ih of layer 0 twice",
    ),
    "named but absent": (
        None, GRU | {"names": {"weight_ih": "kernel"}}, ValueError, r"'kernel' for weight_ih, .* does not hold; it holds 'weight_ih_l0' \(15, 3\)",
    ),
    "names of nothing": (None, GRU | {"names": {}}, ValueError, r"lacks weight_ih and weight_hh of layer 0; found for it: none"),
    "prefix of nothing": (None, GRU | {"prefix": "dec"}, ValueError, r"no recurrent weights under prefix 'dec': wanted .* it holds 'weight_ih_l0'"),
    "no recurrent weights": (lambda a: {"kernel": np.ones(3)}, GRU, ValueError, r"no recurrent weights: wanted .* holds 'kernel' \(3,\); say which"),
    "no weight_hh": (without("weight_hh_l0"), GRU, ValueError, r"lacks weight_hh of layer 0; found for it: 'weight_ih_l0' \(15, 3\), "),
    "one bias": (without("bias_hh_l0"), GRU, ValueError, r"lacks bias_hh of layer 0.*biases come all or none"),
    "no biases above": (
        lambda a: a | without("bias_ih_l1", "bias_hh_l1")(weights("torch-gru", 2)), GRU, ValueError, r"bias_ih and bias_hh of layer 1 .* all or none",
    ),
    "layer missing": (
        lambda a: a | {"weight_ih_l2": np.ones((15, 5)), "weight_hh_l2": np.ones((15, 5))}, GRU, ValueError,
        r"lacks weight_ih and .* of layer 1 \(numbered up to 2, from 0\)",
    ),
    "layer far away": (lambda a: a | {"weight_ih_l999999999999": np.ones((15, 5))}, GRU, ValueError, r"lacks weight_ih and .* of layer 1"),
    "two modules": (two, GRU, ValueError, r"more than one recurrence: 'dec.bias_hh_l0' \(15,\), .*choose with a prefix"),
    "weight norm": (
        lambda a: a | {"weight_hh_l0_g": np.ones(15)}, GRU, ValueError, r"more than one weight_hh of layer 0: 'weight_hh_l0' .*, 'weight_hh_l0_g'",
    ),
    "bidirectional": (reverse, GRU, ValueError, r"bidirectional recurrence \('weight_ih_l0_reverse'\): .* reads the future.*names="),
    "projected": (lambda a: a | {"weight_hr_l0": np.ones((2, 5))}, GRU, ValueError, r"projected recurrence \('weight_hr_l0'\).*proj_size"),
    "a gru as lstm": (
        None, {"kind": "torch-lstm"}, ValueError, r"has shape \(15, 5\); .* 15 rows = 3 × 5, torch-lstm needs 4 × 5 = 20. Is it a torch-gru\?",
    ),
    "a gru as rnn": (None, {"kind": "torch-rnn"}, ValueError, r"15 rows = 3 × 5, torch-rnn needs 1 × 5 = 5. Is it a torch-gru\?"),
    "weight_hh of no kind": (reshaped("weight_hh_l0", (16, 5)), GRU, ValueError, r"weight_hh of torch-gru must be \(3 × n, n\): 16 is not 3 × 5"),
    "weight_hh transposed": (reshaped("weight_hh_l0", (5, 15)), GRU, ValueError, r"other way round. Save its transpose"),
    "weight_hh a vector": (reshaped("weight_hh_l0", 15), GRU, ValueError, r"'weight_hh_l0' .* has shape \(15,\); weight_hh of torch-gru must be"),
    "weight_hh empty": (reshaped("weight_hh_l0", (0, 0)), GRU, ValueError, r"has shape \(0, 0\)"),
    "weight_ih rows": (
        reshaped("weight_ih_l0", (12, 3)), GRU, ValueError, r"'weight_ih_l0' .* must be \(15, 3\): 'weight_hh_l0' \(15, 5\) makes 3 × 5 rows",
    ),
    "weight_ih a vector": (reshaped("weight_ih_l0", 15), GRU, ValueError, r"has shape \(15,\); weight_ih of torch-gru must be \(15, 'n_in'\)"),
    "bias length": (reshaped("bias_hh_l0", 5), GRU, ValueError, r"'bias_hh_l0' .* has shape \(5,\); bias_hh of torch-gru must be \(15,\)"),
    "width of layer 1": (
        lambda a: a | weights("torch-gru", 2) | {"weight_ih_l1": np.ones((12, 3))}, GRU, ValueError,
        r"'weight_ih_l1' .* must be \(12, 5\): .* the layer below 5 columns",
    ),
    "nan": (spoilt("weight_hh_l0", (3, 4), np.nan), GRU, ValueError, r"'weight_hh_l0' .* holds nan at index \(3, 4\); weights must be finite"),
    "infinity": (spoilt("bias_ih_l0", 7, -np.inf), GRU, ValueError, r"'bias_ih_l0' .* holds -inf at index \(7,\)"),
    "integers": (lambda a: a | {"weight_ih_l0": np.ones((15, 3), int)}, GRU, TypeError, r"'weight_ih_l0' .* dtype int64; allowed are float16"),
    "complex": (lambda a: a | {"weight_ih_l0": np.ones((15, 3), complex)}, GRU, TypeError, r"dtype complex128; allowed are"),
    "bfloat16 in npz": (
        lambda a: a | {"weight_ih_l0": np.ones((15, 3), jnp.bfloat16)}, GRU, TypeError, r"which is how NumPy stores bfloat16.*save it as float32",
    ),
    "pickled": (lambda a: a | {"vocabulary": np.array([{"a": 1}])}, GRU, ValueError, r"'vocabulary' holds pickled Python objects, which"),
    "empty": (lambda a: {}, GRU, ValueError, r"weights.npz holds no arrays. Where the model is, save its weights with"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_bad_weights_are_refused_with_what_to_do(case, tmp_path):
    spoil, options, error, message = BAD[case]
    arrays = weights("torch-gru")
    with pytest.raises(error, match=re.compile(message, re.DOTALL)):
        adapters.torch_weights(saved(tmp_path, spoil(arrays) if spoil else arrays), **options)


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none.npz; give the path of a file that ends in .npz, .safetensors, .pt or .pth"):
        adapters.torch_weights(tmp_path / "none.npz", "torch-gru")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        adapters.torch_weights(tmp_path, "torch-gru")
    for suffix in (".bin", ".pkl", ""):
        path = tmp_path / f"model{suffix}"
        path.write_bytes(b"\x80\x02")
        with pytest.raises(
            ValueError, match=rf"(?s)ends in '{re.escape(suffix)}'; allowed is .npz, .safetensors, .pt or .pth.*\n.*import numpy.*\n.*np.savez\("
        ):
            adapters.torch_weights(path, "torch-gru")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_every_damage_to_a_file_is_refused_in_the_same_words(suffix, tmp_path):
    whole = saved(tmp_path, weights("torch-gru"), suffix).read_bytes()
    damaged = [whole[: len(whole) * i // 16] for i in range(16)]
    damaged += [b"", b"\xff" * 200, b"\x93NUMPY\x01\x00"]
    for content in damaged:
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"damaged{suffix} is not a whole {suffix} file \(.*\); was its writing or copying cut off\? Save it again"
        ):
            adapters.torch_weights(path, "torch-gru")


def test_a_changed_byte_of_an_archive_is_refused_or_changes_nothing(tmp_path):
    path = saved(tmp_path, weights("torch-gru"))
    whole, wanted = path.read_bytes(), adapters.torch_weights(path, "torch-gru").params
    refused = 0
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = adapters.torch_weights(path, "torch-gru").params
        except ValueError as error:
            refused += "was its writing or copying cut off? Save it again" in str(error)
        else:
            jax.tree.map(np.testing.assert_array_equal, found, wanted)  # a time stamp, or what the archive says twice
    assert refused > 0.7 * len(whole) / 7


def test_an_archive_is_read_without_unpickling(tmp_path, monkeypatch):
    array, path = io.BytesIO(), tmp_path / "weights.npz"
    ran = []
    monkeypatch.setattr(pickle, "load", lambda *args, **kwargs: ran.append(args))
    np.save(array, np.array([1.0]))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight_ih_l0.npy", array.getvalue().replace(b"<f8", b"|O8"))
    with pytest.raises(ValueError, match="pickled"):
        adapters.torch_weights(path, "torch-gru")
    assert not ran


def test_safetensors_is_asked_for_only_where_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    adapters.torch_weights(saved(tmp_path, weights("torch-gru")), "torch-gru")
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"anything")
    with pytest.raises(ModuleNotFoundError, match=r'needs the package safetensors; install it with: pip install "jaxrnn\[torch\]"'):
        adapters.torch_weights(path, "torch-gru")


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(("kind", "activation"), [("torch-rnn", "tanh"), ("torch-rnn", "relu"), ("torch-gru", "tanh"), ("torch-lstm", "tanh")])
def test_states_and_jacobians_are_torchs_own(kind, layers, activation, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is in no extra; CI installs its small CPU build on Python 3.11")
    options = {"nonlinearity": activation} if kind == "torch-rnn" else {}
    torch.manual_seed(0)
    make = {"torch-rnn": torch.nn.RNN, "torch-gru": torch.nn.GRU, "torch-lstm": torch.nn.LSTM}[kind]
    net = make(N_IN, SIZES[0], layers, **options).double()
    path = saved(tmp_path, {f"rnn.{name}": w.numpy() for name, w in net.state_dict().items()}, ".safetensors")
    bound = adapters.torch_weights(path, kind, activation=activation)
    wanted, _ = net(torch.tensor(inputs()))
    states = unroll.states(bound.step, bound.params, bound.state, jnp.asarray(inputs()))
    found = jax.vmap(lambda h: bound.output(bound.params, h, None))(states)
    assert relative(found, wanted.detach().numpy()) < ROUNDING * STEPS
    h0 = torch.tensor(np.random.default_rng(3).standard_normal((1 + (kind == "torch-lstm"), layers, SIZES[0])))
    x = torch.tensor(inputs()[:1])

    def after(h):
        _, h = net(x, tuple(h) if kind == "torch-lstm" else h[0])
        return torch.stack(h) if kind == "torch-lstm" else h[None]

    jacobian = torch.autograd.functional.jacobian(after, h0).numpy()
    order = (1, 0, 2, 4, 3, 5)  # torch keeps h of all layers, then c of all; ours layer by layer
    size = h0.numel()
    start = [cells.LSTMState(*map(jnp.asarray, h0[:, i].numpy())) if kind == "torch-lstm" else jnp.asarray(h0[0, i].numpy()) for i in range(layers)]
    ours = linearize.jacobians(bound.step, bound.params, start[0] if layers == 1 else tuple(start), jnp.asarray(inputs()[:1]))[0]
    assert relative(ours, jacobian.transpose(order).reshape(size, size)) < ROUNDING * STEPS
