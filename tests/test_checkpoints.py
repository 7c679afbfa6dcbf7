"""Checkpoints: whole or not at all, the same bits, and refused where they are damaged or another run's."""

import json
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import cells, tasks, training
from jaxrnn.training import checkpoints

pytest.importorskip("orbax.checkpoint", reason="checkpoints come with the extra train")
FACTS = {"batch": 32, "rates": [0.5, 1.0]}
equal = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


class Pair(NamedTuple):
    a: object
    b: object


def tree(scale=1.0):
    params = {"W": scale * jnp.arange(6.0).reshape(2, 3), "b": jnp.zeros(3, jnp.float32)}
    return {
        "params": params, "optimizer": optax.adam(1e-3).init(params), "nothing": None, "empty": jnp.zeros((0, 3)), "count": np.int64(7),
        "pair": Pair(jnp.array([True, False]), jnp.array([1.5 + 2j, -1j])), "history": {"loss": np.arange(5.0) * scale},
    }  # fmt: skip


def test_everything_comes_back_bit_for_bit(tmp_path):
    checkpoints.save(tmp_path, 20, tree(np.pi), FACTS)
    step, found = checkpoints.restore(tmp_path, tree(), FACTS)
    assert step == checkpoints.latest(tmp_path) == 20
    assert jax.tree.structure(found) == jax.tree.structure(tree())
    equal(found, tree(np.pi))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(tree()), strict=True):
        assert (a.dtype, isinstance(a, jax.Array)) == (b.dtype, isinstance(b, jax.Array))


def test_bits_that_compare_equal_or_never_are_kept(tmp_path):
    odd = {
        "zero": np.array([-0.0, 0.0], np.float32), "nan": np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32),
        "half": jnp.array([-0.0, jnp.nan, 1], jnp.bfloat16), "none": jnp.zeros((2, 0), jnp.bfloat16), "number": -0.0,
    }  # fmt: skip
    checkpoints.save(tmp_path, 1, odd, {"nan": np.nan, 1: (2, None)})
    found = checkpoints.restore(tmp_path, odd, {"nan": np.nan, 1: (2, None)})[1]
    assert {name: np.asarray(leaf).tobytes() for name, leaf in found.items()} == {name: np.asarray(leaf).tobytes() for name, leaf in odd.items()}


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_random_keys_come_back_with_their_generator(kind, tmp_path):
    keys = jax.random.split(jax.random.key(3, impl=kind), 2)
    checkpoints.save(tmp_path, 1, {"keys": keys}, {})
    found = checkpoints.restore(tmp_path, {"keys": keys}, {})[1]["keys"]
    np.testing.assert_array_equal(jax.random.bits(found[1]), jax.random.bits(keys[1]))


def test_the_newest_two_are_kept_and_what_a_kill_left_is_cleared(tmp_path):
    (tmp_path / "30.part").mkdir()
    (tmp_path / "5.removed").mkdir()
    assert checkpoints.restore(tmp_path, tree(), FACTS) is None
    for step in (10, 20, 30):
        checkpoints.save(tmp_path, step, tree(step), FACTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["20", "30"]
    with pytest.raises(ValueError, match="has a checkpoint of step 30, so none of step 30 can follow"):
        checkpoints.save(tmp_path, 30, tree(), FACTS)


def test_a_history_may_have_grown(tmp_path):
    checkpoints.save(tmp_path, 1, tree(), FACTS)
    like = {**tree(), "history": {"loss": np.zeros(0)}}
    assert checkpoints.restore(tmp_path, like, FACTS)[1]["history"]["loss"].shape == (5,)


@pytest.mark.parametrize(
    ("like", "facts", "message"),
    [
        (tree(), {**FACTS, "batch": 64}, "is of another run: batch is 32 there and 64 here; give another folder"),
        (tree(), {"batch": 32}, r"is of another run: rates is \[0.5, 1.0\] there and not given here"),
        ({**tree(), "count": np.zeros(2, np.int64)}, FACTS, r"is of another structure: leaf 'count' is int64\[\] there and int64\[2\] here"),
        ({k: v for k, v in tree().items() if k != "empty"}, FACTS, r"leaf 'empty' is float64\[0, 3\] there and missing here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(like, facts, message, tmp_path):
    checkpoints.save(tmp_path, 20, tree(), FACTS)
    with pytest.raises(ValueError, match=message):
        checkpoints.restore(tmp_path, like, facts)


def test_a_byte_changed_or_cut_anywhere_is_refused(tmp_path):
    checkpoints.save(tmp_path / "whole", 10, tree(2.0), FACTS)
    checkpoints.save(tmp_path / "whole", 20, tree(), FACTS)
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole" / "20").rglob("*") if p.is_file())
    draw = np.random.default_rng(0)
    for file in files:
        for cut in (False, True):
            shutil.copytree(tmp_path / "whole", tmp_path / "hurt")
            content = bytearray((tmp_path / "hurt" / file).read_bytes())
            if not content:
                shutil.rmtree(tmp_path / "hurt")
                continue
            at = int(draw.integers(len(content)))
            content[at] ^= 0x10
            (tmp_path / "hurt" / file).write_bytes(bytes(content[:at]) if cut else bytes(content))
            with pytest.raises(ValueError, match=r"hurt/20 is (damaged|of another).*(remove it to go on from step 10|give another folder)"):
                checkpoints.restore(tmp_path / "hurt", tree(), FACTS)
            shutil.rmtree(tmp_path / "hurt")


def test_a_leaf_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(TypeError, match="leaf 'name' has dtype <U3"):
        checkpoints.save(tmp_path, 1, {"name": np.array("abc")}, {})


TASK = tasks.adding(8)
CELL = cells.with_readout(cells.gru(2, 5), 1)
PARAMS = CELL.init_params(jax.random.key(0))


def train(folder=None, steps=12, every=4, log=None, key=None, many=False, task=TASK, start=PARAMS, rate=1e-3):
    keys = jax.random.split(jax.random.key(1), 2)
    params = jax.vmap(CELL.init_params)(keys) if many else start
    evaluation = training.Evaluation(CELL.output, TASK.metric, TASK.held_out(jax.random.key(9), 20), 5)
    return training.fit(
        CELL.step, params, CELL.init_state(PARAMS), task.sample, cells.readout_loss(CELL, TASK.loss), steps=steps, batch=3, chunk=3, log=log,
        optimizer=training.default_optimizer(rate),
        key=keys if many else keys[0] if key is None else key, monitors={"ratio": training.monitors.update_ratio(3)}, evaluation=evaluation,
        checkpoints=None if folder is None else training.Checkpoints(folder, every),
    )  # fmt: skip


def interrupted(folder, after, **options):
    def log(done, values):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder, log=log, **options)


@pytest.mark.parametrize("many", [False, True])
def test_a_training_goes_on_bit_for_bit(many, tmp_path):
    interrupted(tmp_path, 6, many=many)
    assert checkpoints.latest(tmp_path) == 4
    equal(train(tmp_path, many=many), train(many=many))
    done = []
    equal(train(tmp_path, many=many, log=lambda step, values: done.append(step)).params, train(many=many).params)
    assert done == []  # it was complete


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    train(tmp_path, steps=4)
    others = {"key": jax.random.key(5), "task": tasks.adding(9), "start": jax.tree.map(jnp.sin, PARAMS), "rate": 2e-3}
    for (option, value), fact in zip(others.items(), ("key", "data", "params", "optimizer"), strict=True):
        with pytest.raises(ValueError, match=rf"is of another run: .*{fact} is .* there and .* here; .*give another folder"):
            train(tmp_path, **{option: value})


def test_a_log_of_json_lines_is_cut_where_a_run_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    log = training.json_lines(path)
    for step in (1, 2, 3):
        log(step, {"loss": np.float32(0.5), "nested": {"rates": np.array([1.0, -np.inf])}, "norm": np.nan})
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')
    training.json_lines(path, after=2)(3, {"loss": 1.0})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[0] == {"step": 1, "loss": 0.5, "nested": {"rates": [1.0, "-inf"]}, "norm": "nan"}
    path.write_text("something else\n")
    with pytest.raises(ValueError, match="is not a log of JSON lines with steps"):
        training.json_lines(path, after=2)


def test_tensorboard_gets_the_same_calls(tmp_path):
    pytest.importorskip("tensorboardX")
    log = training.both(training.tensorboard(tmp_path / "events"), training.json_lines(tmp_path / "log.jsonl"))
    log(1, {"loss": 0.5, "rates": {"exponents": np.array([1.0, np.nan])}})
    assert any(p.stat().st_size for p in (tmp_path / "events").iterdir())
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_killed_training_goes_on_bit_for_bit(capsys):
    from experiments import kills

    kills.main(kills.FEW)
    out = capsys.readouterr().out
    assert out.count("the same bits") == kills.FEW.kills, out


@pytest.mark.parametrize("line", [b"[" * 100_000, b"[1]", b'"step"', b'{"step": "2"}', b"{" + b'"a":{' * 90 + b"}" * 91, b"\xff"])
def test_a_line_that_is_of_no_log_is_refused(line, tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"log.jsonl is not a log of JSON lines with steps \(.*\); give another path"):
        training.json_lines(tmp_path / "log.jsonl", after=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("facts", []),
        ("leaves", {"w": [None, [3]]}),
        ("leaves", {"w": ["float32", [3]]}),
        ("leaves", {"w": ["float64", [4]]}),
        ("leaves", []),
        ("step", 6),
    ],
)
def test_a_checkpoint_that_says_what_is_not_so_with_a_right_digest_is_refused(name, value, tmp_path):
    checkpoints.save(tmp_path, 5, {"w": np.arange(3.0)}, FACTS)
    path = tmp_path / "5" / "about.json"
    about = {**json.loads(path.read_bytes()), name: value}
    del about["sha256"]
    about["sha256"] = checkpoints._digest(about, {"w": np.arange(3.0)})
    path.write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"checkpoint .*/5 is damaged, or was not written by this library \(.*\); remove it to begin anew"):
        checkpoints.restore(tmp_path, None, FACTS)
