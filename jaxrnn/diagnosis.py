"""What is wrong with this model on these sequences, how sure are we, and what to try."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checks
from jaxrnn._border import admit, require_loss, sequence_length
from jaxrnn._tree import layout, named_leaves
from jaxrnn._words import TOLERANCE, compared, interval, reasons, student
from jaxrnn.checks import Check
from jaxrnn.evidence import Evidence, Progress, gather, quantiles
from jaxrnn.flow import Loss
from jaxrnn.linearize import Step
from jaxrnn.remedies import Advice, ranked
from jaxrnn.unroll import states

PyTree = Any


class Diagnosis(NamedTuple):
    """What ``diagnose`` found."""

    verdict: str  # "vanishing", "exploding", "chaotic", "stable" or "undecided"
    reasons: tuple[str, ...]  # sentences with numbers, the most telling first
    remedies: tuple[Advice, ...]  # what to try, the most promising first, with reason, price and source; not tried here
    checks: tuple[Check, ...]  # the self-checks on this very model
    evidence: Evidence  # every number behind it

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain numbers, strings and lists for JSON; inf, −inf and NaN become strings."""
        e = self.evidence
        gradient = None if e.gradient is None else {**e.gradient._asdict(), "times": list(e.gradient.times)}
        middle = quantiles(e.product_log_sigma)[1] if len(e.chosen) else np.zeros((0, 0))
        facts = {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "remedies": [{"name": a.name, "reason": a.reason, **a.remedy._asdict()} for a in self.remedies],
            "checks": [c._asdict() for c in self.checks],
            "exponents": e.exponents,
            "standard_errors": e.standard_errors,
            "horizon": {"quantiles": [0.1, 0.5, 0.9], "lags": e.horizon, "censored": e.censored},
            "log_gain": {"per_sequence": e.log_gain, "rate": e.rate, "rate_error": e.rate_error, "freedom": e.freedom},
            "lengths": e.lengths,
            "first_nonfinite": e.first_nonfinite,
            "first_nonfinite_jacobian": e.first_nonfinite_jacobian,
            "sequences": {"given": e.given, "chosen": e.chosen},
            "log_separation": e.log_separation,
            "eigenvalue_criterion": {
                "median_log_radius": np.median(e.log_radius),
                "share_below_1": (e.log_radius < 0).mean(),
                "sampled": len(e.log_radius),
            },
            "median_log_sigma": np.median(e.log_sigma),
            "product_singular_values": {"lags": e.product_lags, "median_log_sigma": middle},
            "transport_blocks": {f"{a} -> {b}": part for (a, b), part in e.blocks.items()},
            "units": {"names": e.unit_names, "shares_at_start": e.unit_shares[0], "shares_at_end": e.unit_shares[1]},
            "growth_split": None if e.split is None else {"weights": e.split[0], "activation": e.split[1]},
            "transport_by_lag": {"quantiles": [0.1, 0.5, 0.9], "log_transport": e.transport_by_lag},
            "gradient": gradient,
            "plan": e.plan._asdict(),
        }
        return _plain(facts)


def diagnose(
    step: Step,
    params: PyTree,
    state: PyTree,
    xs: PyTree,
    *,
    targets: PyTree = None,
    loss: Loss | None = None,
    length: int | None = None,
    lengths: Any = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Whether the gradients of a recurrent model vanish or explode on these sequences, how fast, and how sure.

    The verdict rests on G = T̄ Σ_b log σ₁(∂h_T/∂h_0)_b / Σ_b T_b, the log gain in nats over a whole sequence (mean
    length T̄), and on its 95 % interval G ± t·se: se between sequences, or between 8 blocks of time where there is one
    sequence or all take the same trajectory; t Student's quantile.

    - ``vanishing``: the interval lies below −ln 10, or the product is exactly zero in more than half of the sequences;
    - ``stable``: it lies in [−ln 10, ln 10];
    - above ln 10: ``chaotic`` if in most sequences the dynamics folds (a perturbation as large as the states, along the
      direction of largest gain, grows by less than half the log gain) while the states stay bounded (over the second
      half log‖h_t‖ grows by less than half of G/T̄ a step) and move (by more than 1e-6 of their size);
      else ``exploding``;
    - ``undecided``: the interval crosses ±ln 10 or is unknown, the product is zero in some but at most half of the
      sequences, a Jacobian is not finite, or no state is finite.

    Args:
        step: ``step(params, state, x) -> state``.
        params: its parameters, floating or complex leaves where a loss is given.
        state: h_0, one unbatched state for all sequences.
        xs: (B, T, ...) on every leaf, B sequences; None for an autonomous map (then B = 1).
        targets: (B, T, ...) on every leaf, with ``loss``; may carry a mask.
        loss: ``loss(params, state, x, target) -> scalar``; without one the gradient's terms are left out.
        length: T where ``xs`` is None.
        lengths: (B,) number of valid steps of each sequence where they are ragged; what lies beyond is not read.
        progress: called as ``progress(what, i, total)`` before each stage.

    Returns:
        ``Diagnosis``. A state that becomes non-finite on the way is reported; the steps before it are analysed.

    Raises:
        ValueError: NaN or infinity in the sequences, targets or params (the place is named); shapes that do not fit.
        TypeError: the protocol is broken (see ``unroll.states``), or ``targets`` without ``loss``.

    Cost: ``evidence.plan`` tells before, and what was sampled or strided; seconds at n = 64, T = 64, B = 32. A host
    function: not for use under jit.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import cells, diagnosis
    >>> cell = cells.vanilla(1, 16)
    >>> params = cell.init_params(jax.random.key(0), gain=0.5)
    >>> xs = jax.random.normal(jax.random.key(1), (4, 50, 1))
    >>> diagnosis.diagnose(cell.step, params, cell.init_state(params), xs).verdict
    'vanishing'
    """
    state, lengths = _admit(step, params, state, xs, targets, loss, length, lengths)
    found = gather(step, params, state, xs, targets, loss, lengths, progress or (lambda what, i, total: None))
    verdict = _verdict(found)
    proofs = _self_checks(step, params, state, xs, targets, loss, found)
    return Diagnosis(verdict, reasons(verdict, found), ranked(verdict, found), proofs, found)


class Change(NamedTuple):
    """One quantity of two diagnoses."""

    name: str
    unit: str
    a: float
    b: float
    a_error: float  # standard errors; NaN where there is none
    b_error: float
    clear: bool | None  # whether there is a difference, by Welch's test at 5 %; None without errors


class Comparison(NamedTuple):
    """Two diagnoses side by side."""

    labels: tuple[str, str]
    verdicts: tuple[str, str]
    changes: tuple[Change, ...]
    sentences: tuple[str, ...]  # the most telling first
    facts: tuple[dict[str, Any], dict[str, Any]]  # both as ``Diagnosis.to_dict`` has them

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain numbers, strings and lists for JSON; inf, −inf and NaN become strings."""
        rows = [change._asdict() for change in self.changes]
        return _plain({"labels": list(self.labels), "verdicts": list(self.verdicts), "changes": rows, "sentences": list(self.sentences)})


def compare(a: "Diagnosis | dict[str, Any]", b: "Diagnosis | dict[str, Any]", *, labels: tuple[str, str] = ("before", "after")) -> Comparison:
    """What differs between two diagnoses: before and after training, or model against model.

    Args:
        a, b: diagnoses, or what ``Diagnosis.to_dict`` made of them (a ``diagnosis.json``).
        labels: what to call them.

    Returns:
        ``Comparison``. A difference is called clear where Welch's test rejects at 5 % that there is none, the two taken as
        independent, and it exceeds rounding; between a finite value and −inf it always is.

    Raises:
        TypeError: an argument is neither. ValueError: a dictionary lacks what a diagnosis has.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import diagnosis
    >>> shrink = lambda a, h, x: a * h + x
    >>> a, b = (diagnosis.diagnose(shrink, rate, jnp.zeros(1), jnp.ones((2, 30, 1))) for rate in (0.5, 0.999))
    >>> diagnosis.compare(a, b).sentences[0]
    'The verdict changes: before vanishing, after stable.'
    """
    facts = tuple(_facts(given, label) for given, label in zip((a, b), labels, strict=True))
    rows = [_quantities(f, label) for f, label in zip(facts, labels, strict=True)]
    changes = [
        Change(name, unit, x, y, xe, ye, _clear(x, y, xe, ye, (xf, yf))) for (name, unit, x, xe, xf), (_, _, y, ye, yf) in zip(*rows, strict=True)
    ]
    changes = [c for c in changes if not (math.isnan(c.a) and math.isnan(c.b))]
    verdicts = (str(facts[0]["verdict"]), str(facts[1]["verdict"]))
    return Comparison(labels, verdicts, tuple(changes), compared(labels, verdicts, changes, facts), (facts[0], facts[1]))


def _facts(given: Any, label: str) -> dict[str, Any]:
    if isinstance(given, Diagnosis):
        return given.to_dict()
    if not isinstance(given, dict):
        raise TypeError(f"{label} is of type {type(given).__name__}; give a Diagnosis or what its to_dict() returns")
    missing = [
        key for key in ("verdict", "exponents", "standard_errors", "horizon", "log_gain", "lengths", "transport_by_lag", "plan") if key not in given
    ]
    if missing:
        raise ValueError(f"{label} is no diagnosis: it lacks {', '.join(missing)}")
    return given


def _quantities(f: dict[str, Any], label: str) -> list[tuple[str, str, float, float, float]]:
    """(name, unit, value, standard error, its degrees of freedom) of what two diagnoses are compared by."""
    try:
        return _read(f)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{label} is no whole diagnosis ({type(error).__name__}: {error}); write it again") from error


def _read(f: dict[str, Any]) -> list[tuple[str, str, float, float, float]]:
    _require_whole(f)
    mean = float(np.mean(f["lengths"])) if f["lengths"] else math.nan
    first = lambda values: float(values[0]) if values else math.nan
    gain, free = f["log_gain"], float(f["log_gain"].get("freedom", math.inf))
    rows = [
        ("log gain over a sequence", "nats", float(gain["rate"]) * mean, float(gain["rate_error"]) * mean, free),
        ("leading Lyapunov exponent", "nats per step", first(f["exponents"]), first(f["standard_errors"]), free),
        ("memory horizon, median", "steps", float(f["horizon"]["lags"][1]), math.nan, 0.0),
        ("median log largest |eigenvalue|", "nats per step", float(f["eigenvalue_criterion"]["median_log_radius"]), math.nan, 0.0),
    ]
    g = f.get("gradient")
    for part in (0.1, 0.5):
        lag = math.floor(part * mean) + 1 if g else 0
        known = g is not None and lag < len(g["lag_share"])
        share, error = (float(g["lag_share"][lag]), float(g["lag_share_errors"][lag])) if known and g else (math.nan, math.nan)
        rows.append(
            (f"share of the gradient beyond {part:.0%} of the length", "of its terms' norm", share, error, f["plan"]["gradient_sequences"] - 1.0)
        )
    return rows


def _require_whole(f: dict[str, Any]) -> None:
    """Raise one of several errors unless what the sentences and the pictures of a comparison read has the form that they need."""
    array = lambda values: np.asarray(values, dtype=object).astype(np.float64)
    if not isinstance(f["verdict"], str):
        raise TypeError(f"the verdict is {f['verdict']!r}")
    lengths, exponents, errors = array(f["lengths"]), array(f["exponents"]), array(f["standard_errors"])
    if lengths.ndim != 1 or not ((lengths >= 0) & (lengths <= 1e15)).all():
        raise ValueError("lengths must be numbers of steps")
    transport = array(f["transport_by_lag"]["log_transport"])
    if any((np.isfinite(values) & (abs(values) > 1e100)).any() for values in (exponents, errors, transport)):
        raise ValueError("rates beyond 1e100 are no rates, and cannot be drawn")
    pairs = [(exponents, errors)]
    if f.get("gradient"):
        pairs.append((array(f["gradient"]["lag_share"]), array(f["gradient"]["lag_share_errors"])))
    if transport.ndim != 2 or len(transport) != 3 or any(values.ndim != 1 or values.shape != its.shape for values, its in pairs):
        raise ValueError("quantiles must be three rows, and each value must have its error")
    if not all(isinstance(check["name"], str) and isinstance(check["passed"], bool) for check in f.get("checks", ())):
        raise TypeError("each check must have a name, and say whether it passed")


def _clear(a: float, b: float, a_error: float, b_error: float, freedom: tuple[float, float]) -> bool | None:
    """Whether two values differ, by Welch's test at 5 % (its degrees of freedom between those of the two errors and their sum)."""
    if math.isnan(a) or math.isnan(b):
        return None
    if not (math.isfinite(a) and math.isfinite(b)):
        return a != b
    if not (math.isfinite(a_error) and math.isfinite(b_error)):
        return None
    if abs(b - a) <= 1e-9 * max(abs(a), abs(b)):
        return False  # rounding
    scale = max(abs(a_error), abs(b_error)) or 1.0  # so that squares do not overflow
    squares = [(error / scale) ** 2 for error in (a_error, b_error)]
    below = sum(square**2 / max(free, 1e-9) for square, free in zip(squares, freedom, strict=True))
    degrees = sum(squares) ** 2 / below if below > 0 else math.inf
    return abs(b - a) > student(degrees) * math.sqrt(sum(squares)) * scale


def _admit(step, params, state, xs, targets, loss, length, lengths) -> tuple[PyTree, np.ndarray]:
    """The arguments checked: state as arrays, lengths (B,)."""
    leaves = named_leaves(xs)
    for name, leaf in leaves.items():
        if np.ndim(leaf) < 2:
            raise ValueError(
                f"leaf {name!r} of xs has shape {np.shape(leaf)}; axes 0 and 1 must be sequences and time: add a batch axis with x[None]"
            )
    batches = {name: np.shape(leaf)[0] for name, leaf in leaves.items()}
    if len(set(batches.values())) > 1 or 0 in batches.values():
        raise ValueError(f"the leaves of xs hold different or no sequences: {batches}; axis 0 of each must be the same B ≥ 1")
    count = next(iter(batches.values()), 1)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    length = sequence_length(first, length)
    if lengths is not None and not leaves:
        raise ValueError("lengths were given but xs is None; pass length=T")
    lengths = np.full(count, length) if lengths is None else np.asarray(lengths)
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu" or lengths.min() < 1 or lengths.max() > length:
        raise ValueError(f"lengths={lengths.tolist()} must be {count} integers in [1, {length}], the valid steps of each sequence")
    state, _ = admit(step, params, state, first, length)
    if (targets is None) != (loss is None):
        raise TypeError("targets and loss go together: give both, or neither")
    if loss is not None:
        if xs is None:
            raise ValueError("a loss needs sequences: xs is None; pass inputs (B, T, ...)")
        layout(params, "params")
        for name, leaf in named_leaves(targets).items():
            if np.ndim(leaf) < 2 or np.shape(leaf)[0] != count:
                raise ValueError(f"leaf {name!r} of targets has shape {np.shape(leaf)}; it must begin with ({count}, {length}), sequences and time")
        require_loss(loss, params, state, first, jax.tree.map(lambda leaf: leaf[0], targets), length)
    valid = np.arange(length)[None] < lengths[:, None]
    for what, tree, mask in (("xs", xs, valid), ("targets", targets, valid), ("params", params, None), ("state", state, None)):
        _require_finite(what, tree, mask)
    return state, lengths.astype(np.int32)


def _require_finite(what: str, tree: PyTree, mask: np.ndarray | None) -> None:
    for name, leaf in named_leaves(tree).items():
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):  # before NumPy sees it: it knows no PRNG keys
            continue
        values = np.asarray(leaf)
        bad = ~np.isfinite(values)
        if mask is not None:
            bad &= mask.reshape(mask.shape + (1,) * (values.ndim - 2))
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            place = f"sequence {at[0]}, step {at[1] + 1} (index {at})" if mask is not None else f"index {at}"
            raise ValueError(f"leaf {name!r} of {what} holds {values[at]} at {place}; all numbers given must be finite: clean or mask them")


def _verdict(e: Evidence) -> str:
    """The rule in the docstring of ``diagnose``."""
    dead = e.log_gain == -np.inf
    if not e.log_gain.size or np.isnan(e.log_gain).any():
        return "undecided"
    if dead.mean() > 0.5:
        return "vanishing"
    low, high = interval(e)
    if high < -TOLERANCE:
        return "vanishing"
    if low > TOLERANCE:
        folds = e.log_separation < 0.5 * e.log_gain
        bounded = (e.state_rate < 0.5 * e.rate) & (e.movement > 1e-6) & (e.first_nonfinite[e.chosen] == 0)
        return "chaotic" if (folds & bounded).mean() > 0.5 else "exploding"
    return "stable" if low >= -TOLERANCE and high <= TOLERANCE else "undecided"


def _self_checks(step, params, state, xs, targets, loss, e: Evidence) -> tuple[Check, ...]:
    """The checks on a stretch at the end of the first sequence that has one, from the stored state there."""
    if not e.chosen.size:
        return ()
    b, stop = int(e.chosen[0]), int(e.lengths[0])
    start = max(0, stop - e.plan.check_steps)
    x = jax.tree.map(lambda leaf: leaf[b], xs)
    if start:
        before = states(step, params, state, jax.tree.map(lambda leaf: leaf[:start], x), length=start)
        state = jax.tree.map(lambda leaf: leaf[-1], before)
    x = jax.tree.map(lambda leaf: leaf[start:stop], x)
    whole = {"length": stop - start}
    run = [check(step, params, state, x, **whole) for check in (checks.determinants, checks.products, checks.bounds)]
    if e.gradient is not None:
        y = jax.tree.map(lambda leaf: leaf[b, start:stop], targets)
        times = tuple(t - start for t in e.gradient.times if start < t <= stop)
        run.insert(0, checks.terms(step, params, state, x, y, loss, times=times or None))
    return tuple(run)


def _plain(value: Any) -> Any:
    """Nested numbers as JSON takes them."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
