"""Files of weights from strangers: what ``jaxrnn inspect`` finds in them, that its commands run, and what neither reads."""

import io
import json
import pickle
import shlex
import struct
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import real_gru
from jaxrnn import adapters, cli, unroll
from tests.models import relative
from tests.test_adapters import weights
from tests.test_real_gru import needs_gru

N_IN = 3


def saved(folder, arrays, name="weights.npz"):
    path = folder / name
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file(arrays, path)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        torch = pytest.importorskip("torch", reason="torch is in no extra; CI installs its small CPU build on Python 3.11")
        torch.save({"epoch": 3, "model": {name: torch.tensor(array) for name, array in arrays.items()}}, path)
    return path


def both_directions(kind="torch-gru", layers=1):
    """Weights of a bidirectional network: above the lowest layer each half reads both halves below."""
    forward, reverse = weights(kind, layers, seed=1), weights(kind, layers, seed=2)
    found = {**forward, **{f"{name}_reverse": array for name, array in reverse.items()}}
    draw = np.random.default_rng(3).standard_normal
    for name, array in found.items():
        if name.startswith("weight_ih_l1"):
            found[name] = draw((len(array), 2 * array.shape[1]))
    return found


def inspected(path, capsys):
    """What the command prints, and the commands in it."""
    assert cli.main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    return out, [shlex.split(line, comments=True) for line in out.splitlines() if line.strip().startswith("jaxrnn diagnose")]


def diagnosed(command, folder, n_in, length=12):
    """Run a command that was printed, on sequences of random numbers."""
    np.savez(folder / "SEQUENCES.npz", xs=np.random.default_rng(0).standard_normal((3, length, n_in)), lengths=np.array([length, 7, 9]))
    words = [f"npz:{folder / 'SEQUENCES.npz'}" if word == "npz:SEQUENCES.npz" else word for word in command[1:]]
    return cli.main([*words, "--out", str(folder / "out")])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_a_network_of_two_layers_is_found_and_its_command_diagnoses_it(suffix, tmp_path, capsys):
    path = saved(tmp_path, {f"encoder.{name}": array for name, array in weights("torch-lstm", 2).items()}, f"weights{suffix}")
    out, commands = inspected(path, capsys)
    prefix = "model.encoder." if suffix == ".pt" else "encoder."
    assert commands == [shlex.split(f"jaxrnn diagnose --weights {path} --kind torch-lstm --prefix {prefix} --data npz:SEQUENCES.npz")]
    assert "torch-lstm  3       5 → 4  forward     yes     float64" in out
    assert diagnosed(commands[0], tmp_path, N_IN) == 0


@needs_gru
def test_the_trained_gru_is_two_networks(capsys, tmp_path):
    out, commands = inspected(real_gru.checkpoint(), capsys)
    assert [command[command.index("--prefix") + 1] for command in commands] == ["dec_", "enc_"]
    assert out.count("torch-gru  256     256") == 2
    assert diagnosed(commands[1], tmp_path, 256, length=9) == 0


def test_directions_are_taken_apart(tmp_path, capsys):
    path = saved(tmp_path, {f"rnn.{name}": array for name, array in both_directions().items()})
    out, commands = inspected(path, capsys)
    assert "forward and reverse" in out
    assert [command[command.index("--direction") + 1] for command in commands] == ["forward", "reverse"]
    assert [diagnosed(command, tmp_path, N_IN) for command in commands] == [0, 0]
    backward = adapters.torch_weights(path, direction="reverse")
    np.testing.assert_array_equal(backward.params["W_hh"], both_directions()["weight_hh_l0_reverse"])


def test_a_reverse_half_is_diagnosed_on_sequences_read_from_their_ends(tmp_path):
    both, lengths = both_directions(), [6, 4, 5]
    reverse = {name: both[f"{name}_reverse"] for name in weights("torch-gru")}
    xs = np.random.default_rng(0).standard_normal((3, 6, N_IN))
    turned = np.stack([np.concatenate([one[:length][::-1], one[length:]]) for one, length in zip(xs, lengths, strict=True)])
    halves = ["--names", *(f"{name}={name}_reverse" for name in reverse)]
    runs = [(both, xs, ["--direction", "reverse"]), (both, xs, ["--direction", "reverse", *halves]), (reverse, turned, [])]
    found = []
    for arrays, sequences, options in runs:
        np.savez(tmp_path / "SEQUENCES.npz", xs=sequences, lengths=lengths)
        words = ["--weights", str(saved(tmp_path, arrays)), *options, "--data", f"npz:{tmp_path / 'SEQUENCES.npz'}", "--out", str(tmp_path / "out")]
        assert cli.main(["diagnose", *words]) == 0
        found.append(json.loads((tmp_path / "out" / "diagnosis.json").read_text())["exponents"])
    assert found[0] == found[1] == found[2]


def test_above_the_lowest_layer_directions_are_taken_layer_by_layer(tmp_path, capsys):
    path = saved(tmp_path, both_directions(layers=2))
    with pytest.raises(ValueError, match=r"bidirectional recurrence of several layers: those above the lowest read both halves below.*layer=0, 1"):
        adapters.torch_weights(path, direction="forward")
    with pytest.raises(ValueError, match=r"has no layer 2; it has 0, 1"):
        adapters.torch_weights(path, direction="forward", layer=2)
    _, commands = inspected(path, capsys)
    wanted = [["--layer", str(layer), "--direction", direction] for layer in (0, 1) for direction in ("forward", "reverse")]
    assert [command[6:10] for command in commands] == wanted
    assert diagnosed(commands[3], tmp_path, 10) == 0


def test_one_layer_of_a_stack_is_that_layer(tmp_path):
    arrays = weights("torch-gru", 2)
    bound = adapters.torch_weights(saved(tmp_path, arrays), layer=1)
    np.testing.assert_array_equal(bound.params["W_xh"], arrays["weight_ih_l1"])
    assert bound.state.shape == (4,)


def test_no_direction_and_no_other_layer_where_there_is_none(tmp_path):
    path = saved(tmp_path, weights("torch-gru"))
    for options, message in [
        ({"direction": "reverse"}, "has no reverse direction; leave direction out"),
        ({"direction": "up"}, "unknown direction 'up'; allowed are forward and reverse"),
        ({"layer": -1}, "layer must be a number from 0, the lowest, given -1"),
        ({"activation": "relu"}, "applies to torch-rnn only; .* holds a torch-gru: leave it out"),
    ]:
        with pytest.raises(ValueError, match=message):
            adapters.torch_weights(path, **options)


@pytest.mark.parametrize("kind", ["torch-rnn", "torch-gru", "torch-lstm"])
def test_the_kind_is_read_from_the_shapes(kind, tmp_path):
    path = saved(tmp_path, weights(kind))
    assert adapters.torch_weights(path).step == adapters.torch_weights(path, kind).step


def test_a_module_that_no_prefix_tells_apart_is_named_array_by_array(tmp_path, capsys):
    path = saved(tmp_path, {**weights("torch-gru"), **{f"decoder.{name}": array for name, array in weights("torch-gru").items()}})
    _, commands = inspected(path, capsys)
    assert "weight_hh_l0=weight_hh_l0" in commands[0]
    assert diagnosed(commands[0], tmp_path, N_IN) == 0
    assert commands[1][6:8] == ["--prefix", "decoder."]


@pytest.mark.parametrize("module", ["[/b].", "-x.", ":warning:.", "a b'c."])
def test_a_command_survives_whatever_a_module_is_called(module, tmp_path, capsys):
    out, commands = inspected(saved(tmp_path, {f"{module}{name}": array for name, array in weights("torch-gru").items()}), capsys)
    assert f"\n{module}\n" in out
    assert diagnosed(commands[0], tmp_path, N_IN) == 0


def test_names_do_not_command_the_terminal(tmp_path, capsys):
    out, commands = inspected(saved(tmp_path, {f"\x1b[31m.{name}": array for name, array in weights("torch-gru").items()}), capsys)
    assert "\x1b" not in out
    assert not commands
    assert r"prefix='\x1b[31m.')" in out


def test_an_ambiguous_module_that_no_prefix_tells_apart_has_no_command(tmp_path, capsys):
    normed = weights("torch-gru") | {"weight_hh_l0_g": np.ones((15, 5))}
    out, commands = inspected(saved(tmp_path, normed | {f"decoder.{name}": array for name, array in weights("torch-gru").items()}), capsys)
    assert [command[7] for command in commands] == ["decoder."]
    assert "not as it is: " in out


def test_what_cannot_be_taken_is_listed_with_why(tmp_path, capsys):
    spoilt = weights("torch-gru")
    spoilt["weight_hh_l0"][3, 4] = spoilt["bias_ih_l0"][0] = np.nan
    projected = {**weights("torch-lstm"), "weight_hr_l0": np.ones((2, 5))}
    odd = {"weight_ih_l0": np.ones((10, 3)), "weight_hh_l0": np.ones((10, 5))}
    parts = {"a": spoilt, "b": projected, "c": odd}
    path = saved(tmp_path, {f"{module}.{name}": array for module, arrays in parts.items() for name, array in arrays.items()})
    out, commands = inspected(path, capsys)
    assert not commands
    for words in (
        "'a.weight_hh_l0' has 1 of 75 numbers that are not finite, the first nan at index (3, 4)", "'a.bias_ih_l0' has 1 of 15 numbers",
        "no built-in cell has proj_size", "weight_hh must be (n, n), (3 × n, n) or (4 × n, n)",
    ):  # fmt: skip
        assert words in out
    assert diagnosed(["jaxrnn", "diagnose", "--weights", str(path), "--prefix", "a.", "--data", "npz:SEQUENCES.npz"], tmp_path, N_IN) == 2
    assert "holds nan at index (3, 4); weights must be finite" in capsys.readouterr().err


def test_a_file_without_recurrences_says_what_it_holds(tmp_path, capsys):
    path = saved(tmp_path, {"table": np.ones(3)})
    assert cli.main(["inspect", str(path)]) == 0
    assert "holds no recurrent weights" in (out := capsys.readouterr().out)
    assert "'table' (3,)" in out


# What nobody should read.


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def boastful(folder):
    """An array whose header says 40 GB."""
    path, content = folder / "weights.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 5000)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight_hh_l0.npy", content.getvalue() + bytes(800))
    return path


def repeated(folder):
    """A tensor of 100 GB that is one number again and again."""
    import torch

    path = folder / "model.pt"
    torch.save({"weight_ih_l0": torch.ones(3, 3), "weight_hh_l0": torch.ones(1).expand(25000, 10**6)}, path)
    return path


def scripted(folder):
    path = saved(folder, weights("torch-gru"), "model.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/constants.pkl", pickle.dumps(()))
    return path


def without_data(folder):
    import torch

    path = folder / "model.pt"
    torch.save({"weight_hh_l0": torch.ones(5, 5, device="meta")}, path)
    return path


def truncated(folder, name="weights.npz"):
    path = saved(folder, weights("torch-gru"), name)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def garbage(folder, name="weights.npz"):
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight_ih_l0.npy", b"\x00garbage\xff" * 99)
    return path


def pickled(folder):
    path, content = folder / "weights.npz", io.BytesIO()
    np.save(content, np.array([Canary(folder / "canary")], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight_ih_l0.npy", content.getvalue())
    return path


def malicious(folder):
    path = folder / "model.pt"
    path.write_bytes(pickle.dumps({"weight_ih_l0": Canary(folder / "canary")}, protocol=2))
    return path


def malicious_zip(folder):
    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"weight_ih_l0": Canary(folder / "canary")}, protocol=2))
        archive.writestr("model/version", b"3\n")
    return path


def bomb(folder, name="weights.npz"):
    """An archive that says that it unpacks to 100 GB; the sizes are in the directory at its end."""
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(25):
            archive.writestr(f"weight_ih_l{i}.npy", bytes(4096))
    content = bytearray(path.read_bytes())
    at = -1
    while (at := content.find(b"PK\x01\x02", at + 1)) >= 0:
        content[at + 24 : at + 28] = struct.pack("<I", 4 * 10**9)
    path.write_bytes(bytes(content))
    return path


STRANGE = {
    "truncated": (truncated, r"weights.npz is not a whole .npz file \(BadZipFile: .*\); was its writing or copying cut off\? Save it again"),
    "garbage": (garbage, r"weights.npz is not a whole .npz file"),
    "header of 40 GB": (boastful, r"'weight_hh_l0' of shape \(1000000, 5000\) and dtype float64 takes 40000000000 bytes, and there are 800"),
    "pickled": (pickled, r"array 'weight_ih_l0' holds pickled Python objects, which could run any code; save arrays of numbers only"),
    "100 GB": (
        bomb,
        r"the file of 0.00\d* MB unpacks to 100 GB; at most 4.3 GB, or 20 times the file, are read: save its arrays whole, without compression",
    ),
}
STRANGE_TO_TORCH = {
    "malicious": (malicious, r"torch's weights-only loading refuses it: .* could run any code. Where the model is, save model.state_dict\(\) alone"),
    "malicious zip": (malicious_zip, r"torch's weights-only loading refuses it|is not a whole .pt file"),
    "scripted": (scripted, r"torch's weights-only loading refuses it: .* Where the model is, save model.state_dict\(\) alone"),
    "truncated": (lambda folder: truncated(folder, "model.pt"), r"model.pt is not a whole .pt file \(.*\); was its writing or copying cut off"),
    "repeated": (repeated, r"the file of 0.00\d* MB unpacks to 100 GB; at most 4.3 GB"),
    "without data": (without_data, r"array 'weight_hh_l0' cannot be read \(.*meta.*\): save it as float32"),
    "garbage": (lambda folder: garbage(folder, "model.pt"), r"model.pt is not a whole .pt file"),
    "100 GB": (lambda folder: bomb(folder, "model.pt"), r"unpacks to 100 GB"),
}
over_commands = pytest.mark.parametrize(
    "command", [["inspect"], ["diagnose", "--data", "npz:SEQUENCES.npz", "--weights"]], ids=["inspect", "diagnose"]
)


def refused(make, message, command, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    np.savez(folder / "SEQUENCES.npz", xs=np.zeros((2, 4, N_IN)))
    path = make(folder)
    with pytest.raises((ValueError, ModuleNotFoundError), match=message):
        adapters.torch_weights(path)
    assert cli.main([*command, str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxrnn: error: ")
    assert not (folder / "canary").exists()
    return said


@over_commands
@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_archive_is_refused(case, command, tmp_path, capsys, monkeypatch):
    refused(*STRANGE[case], command, tmp_path, capsys, monkeypatch)


@over_commands
@pytest.mark.parametrize("case", STRANGE_TO_TORCH)
def test_a_strange_file_of_torchs_is_refused(case, command, tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch", reason="torch is in no extra; CI installs its small CPU build on Python 3.11")
    refused(*STRANGE_TO_TORCH[case], command, tmp_path, capsys, monkeypatch)


@over_commands
def test_without_torch_its_files_are_refused_with_what_to_do_instead(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refused(malicious, "needs the package torch; install torch, or save a file that needs none", command, tmp_path, capsys, monkeypatch)
    assert "np.savez(" in said


def test_a_torch_whose_loading_is_not_safe_is_not_used(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is in no extra; CI installs its small CPU build on Python 3.11")
    path = saved(tmp_path, weights("torch-gru"), "model.pt")
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.5.1"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was used"))
    with pytest.raises(ValueError, match=r"weights-only loading of torch 2.5.1 can be made to run code; install torch 2.6 or later"):
        adapters.torch_weights(path)


def test_a_dictionary_within_itself_is_read_once(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is in no extra; CI installs its small CPU build on Python 3.11")
    tree = {name: torch.tensor(array) for name, array in weights("torch-gru").items()}
    tree["self"] = tree
    torch.save(tree, tmp_path / "model.pt")
    np.testing.assert_array_equal(adapters.torch_weights(tmp_path / "model.pt").params["W_hh"], weights("torch-gru")["weight_hh_l0"])


def test_bfloat16_is_said_and_its_nan_found(tmp_path):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    arrays = weights("torch-gru", dtype=jnp.bfloat16)
    assert adapters.inspect(saved(tmp_path, arrays, "weights.safetensors"))[0].dtypes == ("bfloat16",)
    arrays["weight_hh_l0"][3, 4] = np.nan
    problems = adapters.inspect(saved(tmp_path, arrays, "weights.safetensors"))[0].problems
    assert "'weight_hh_l0' has 1 of 75 numbers that are not finite, the first nan at index (3, 4)" in problems


def test_tensors_of_every_precision_come_as_they_are(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is in no extra; CI installs its small CPU build on Python 3.11")
    net = torch.nn.GRU(N_IN, 5)
    path = tmp_path / "model.pth"
    for dtype, kept in ((torch.bfloat16, "float32"), (torch.float16, "float32"), (torch.float64, "float64")):
        torch.save(net.to(dtype).state_dict(), path)
        assert adapters.inspect(path)[0].dtypes == (str(dtype).removeprefix("torch."),)
        bound = adapters.torch_weights(path)
        assert bound.params["W_hh"].dtype == kept
        np.testing.assert_array_equal(bound.params["W_hh"], net.weight_hh_l0.detach().to(torch.float64).numpy())


def test_the_reverse_half_of_torchs_own_network_is_the_reverse_half(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is in no extra; CI installs its small CPU build on Python 3.11")
    net, xs = torch.nn.GRU(N_IN, 5, num_layers=2, bidirectional=True).double(), np.random.default_rng(0).standard_normal((9, N_IN))
    path = tmp_path / "model.pt"
    torch.save(net.state_dict(), path)
    take = lambda layer, direction: adapters.torch_weights(path, layer=layer, direction=direction)
    run = lambda bound, xs: unroll.states(bound.step, bound.params, bound.state, jnp.asarray(xs))
    for layer in range(2):
        forward, reverse = run(take(layer, "forward"), xs), run(take(layer, "reverse"), xs[::-1])[::-1]
        xs = jnp.concatenate([forward, reverse], axis=-1)
    assert relative(xs, net(torch.tensor(np.random.default_rng(0).standard_normal((9, N_IN))))[0].detach().numpy()) < 1e-12
    assert jax.tree.leaves(xs)[0].shape == (9, 10)
