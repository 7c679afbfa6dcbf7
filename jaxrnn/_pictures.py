"""Which pictures a diagnosis and a comparison have, how to read each, and what it shows in words."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from jaxrnn import plots
from jaxrnn.diagnosis import Comparison
from jaxrnn.evidence import Evidence, Gradient


class Picture(NamedTuple):
    """One picture of a page."""

    name: str  # of its file, without ending
    title: str
    caption: str  # how to read it
    alternative: str  # what it shows, for those who do not see it
    png: bytes


class Omitted(NamedTuple):
    """A picture that a page does not have, and why."""

    title: str
    why: str


DIAGNOSIS = (
    "transport", "state_gradients", "gradient_by_lag", "transport_by_lag", "product_singular_values", "lyapunov_spectrum", "eigenvalues",
    "transport_blocks", "units",
)  # fmt: skip
"""The names of a diagnosis' pictures, in the order of the page."""

COMPARISON = ("compared_transport", "compared_gradient", "compared_spectrum", "training")
"""The names of a comparison's pictures."""


def of_diagnosis(e: Evidence) -> tuple[list[Picture], list[Omitted]]:
    """The pictures of a diagnosis and what was left out."""
    if not e.chosen.size:
        return [], [Omitted("All pictures", "no state is finite, so nothing was measured")]
    makers = (_transport, _state_gradients, _gradient_by_lag, _transport_by_lag, _products, _spectrum, _eigenvalues, _blocks, _units)
    made = [make(e) for make in makers]
    return [m for m in made if isinstance(m, Picture)], [m for m in made if isinstance(m, Omitted)]


def of_comparison(found: Comparison, training: tuple[Any, Any] | None = None) -> list[Picture]:
    """The pictures of a comparison; ``training`` is (loss, gradient norm) over the steps between the two."""
    a, b = found.facts
    both = f"{found.labels[0]} and {found.labels[1]}"

    def overlay(draw: Callable[[dict, str, Axes], Any]) -> Callable[[Axes], Any]:
        return lambda ax: [draw(f, label, ax) for f, label in zip((a, b), found.labels, strict=True)]

    quantiles = lambda f: _numbers(f["transport_by_lag"]["log_transport"])
    pictures = [
        _picture("compared_transport", "Transport by lag", "What is left of a perturbation after a number of steps: median and 10–90 %.",
                 f"Transport by lag, {both}: after the longest lag {_last(quantiles(a)[1])} and {_last(quantiles(b)[1])}.",
                 overlay(lambda f, label, ax: plots.transport_by_lag(quantiles(f), label=label, ax=ax))),
    ]  # fmt: skip
    if a.get("gradient") and b.get("gradient"):
        share = lambda f: _numbers(f["gradient"]["lag_share"])
        errors = lambda f: _numbers(f["gradient"]["lag_share_errors"])
        pictures.append(
            _picture("compared_gradient", "Gradient by lag", "Share of the gradient's terms at this lag or longer, with ± 2 standard errors.",
                     f"Share of the gradient at each lag or longer, {both}.",
                     overlay(lambda f, label, ax: plots.lag_share(share(f), errors(f), label=label, ax=ax)))
        )  # fmt: skip
    rates = lambda f: (_numbers(f["exponents"]), _numbers(f["standard_errors"]))
    leading = lambda f: f"{rates(f)[0][0]:.4g}" if rates(f)[0].size else "unknown"
    pictures.append(
        _picture("compared_spectrum", "Lyapunov exponents", "Rates at which perturbations grow, ± 2 standard errors; lost directions at the edge.",
                 f"Lyapunov exponents, {both}: the leading ones are {leading(a)} and {leading(b)} nats per step.",
                 overlay(lambda f, label, ax: plots.lyapunov_spectrum(*rates(f), label=label, ax=ax)))
    )  # fmt: skip
    if training is not None:
        loss, norm = (np.asarray(v, np.float64) for v in training)
        text = f"Loss and norm of its gradient over {len(loss)} updates: the loss goes from {loss[0]:.4g} to {loss[-1]:.4g}."
        draw = lambda ax: plots.training(loss, norm, ax=ax)
        pictures.append(_picture("training", "Training", "Loss on each batch, and the norm of its gradient before clipping.", text, draw))
    return pictures


def _picture(name: str, title: str, caption: str, alternative: str, draw: Callable[[Axes], Any]) -> Picture:
    return Picture(name, title, caption, alternative, plots.save(draw))


def _transport(e: Evidence) -> Picture:
    values = np.asarray(e.transport)
    corner = values[-1, 0]
    text = f"Heat map over pairs of times: 0 on the diagonal, {_nats(corner)} from the first to the last time."
    caption = "White: a perturbation made at time k has its size at time t. Blue: it has shrunk. Red: it has grown. Mean over sequences."
    return _picture("transport", "Every pair of times", caption, text, lambda ax: plots.transport(values, stride=e.plan.transport_stride, ax=ax))


def _state_gradients(e: Evidence) -> Picture | Omitted:
    title = "The gradient on its way back"
    g = _usable(e)
    if g is None:
        return Omitted(title, _no_gradient(e))
    rate, error = (float(e.exponents[0]), float(e.standard_errors[0]))
    ends = f"{_nats(g.log_last[1, 0])} at lag 0, {_last(g.log_last[1])} at the longest"
    text = f"Log-norm of the last loss's gradient by lag: {ends}; slope of the line {rate:+.4g} nats per step."
    caption = "The last step's loss alone, followed back, beside the slope of the leading Lyapunov exponent, which it approaches over long lags."
    draw = lambda ax: plots.state_gradients(g.log_last, rate=rate, rate_error=error, ax=ax)
    return _picture("state_gradients", title, caption, text, draw)


def _gradient_by_lag(e: Evidence) -> Picture | Omitted:
    title = "Which lags the gradient comes from"
    g = _usable(e)
    if g is None:
        return Omitted(title, _no_gradient(e))
    lag = int(np.median(g.truncation_lags)) if g.truncation_lags.size else None
    half = min(math.floor(0.5 * float(e.lengths.mean())) + 1, len(g.lag_share) - 1)
    text = f"Share of the gradient by lag, on a logarithmic scale: {g.lag_share[half]:.2g} of the terms' norm lies at lags of {half} or more."
    caption = (
        "Dots: share of the terms' norm at each lag. Line: at this lag or longer. Dashed: how far truncation at this lag would turn the gradient."
    )
    end = int(np.flatnonzero(g.lag_share > 1e-16)[-1]) + 2  # beyond lies rounding
    by_lag, share, cosine, errors = (values[:end] for values in (g.log_by_lag, g.lag_share, g.cosine, g.lag_share_errors))
    draw = lambda ax: plots.gradient_by_lag(by_lag, share, cosine, lag_share_errors=errors, truncation_lag=lag, ax=ax)
    return _picture("gradient_by_lag", title, caption, text, draw)


def _transport_by_lag(e: Evidence) -> Picture:
    middle = e.horizon[1]
    until = "is not reached within the sequences" if not math.isfinite(middle) else f"is reached after {middle:.0f} steps at the median"
    text = f"Quantiles of transport by lag: {_last(e.transport_by_lag[1])} at the longest; the level 1/e {until}."
    caption = "What is left of a typical perturbation after a number of steps: median and 10–90 % over starting times and sequences."
    return _picture("transport_by_lag", "Memory by lag", caption, text, lambda ax: plots.transport_by_lag(e.transport_by_lag, ax=ax))


def _products(e: Evidence) -> Picture:
    text = (
        f"Singular values of the products from the start: the largest ends at {_nats(np.median(e.log_gain))} (median of {len(e.chosen)} sequences)."
    )
    caption = (
        "The largest bounds what any gradient can keep; the spread below it says how few directions survive. Medians and 10–90 % over sequences."
    )
    draw = lambda ax: plots.product_singular_values(e.product_log_sigma, e.product_lags, ax=ax)
    return _picture("product_singular_values", "Singular values of the products", caption, text, draw)


def _spectrum(e: Evidence) -> Picture:
    lost = int((e.exponents == -np.inf).sum())
    text = f"{len(e.exponents)} Lyapunov exponents, the leading {e.exponents[0]:+.4g} nats per step; {lost} directions lost."
    caption = "Rates at which independent perturbations grow (above 0) or die (below), ± 2 standard errors. Triangles at the edge: lost."
    draw = lambda ax: plots.lyapunov_spectrum(e.exponents, e.standard_errors, ax=ax)
    return _picture("lyapunov_spectrum", "Lyapunov spectrum", caption, text, draw)


def _eigenvalues(e: Evidence) -> Picture:
    inside = float((e.log_radius < 0).mean())
    text = f"Eigenvalues of {len(e.log_radius)} Jacobians against the unit circle, coloured by time: in {inside:.0%} all of them lie inside."
    caption = "The criterion of the textbook, for comparison: single steps only. It can be wrong about their product."
    draw = lambda ax: plots.eigenvalues(e.eigenvalues, e.jacobian_steps, ax=ax)
    return _picture("eigenvalues", "Eigenvalues of single steps", caption, text, draw)


def _blocks(e: Evidence) -> Picture | Omitted:
    title = "From part to part of the state"
    if not e.blocks:
        parts = len({name.split("[")[0].removeprefix("re ").removeprefix("im ") for name in e.unit_names})
        return Omitted(title, "the state has one part only" if parts == 1 else f"the state has {parts} parts, too many to tell apart")
    # At lag 0 every block is the identity or nothing; pairs that nothing ever joins are left out.
    shown = {pair: np.where(np.arange(len(v)) > 0, v, np.nan) for pair, v in e.blocks.items() if (v[1:] > -np.inf).any()}
    if not shown:
        return Omitted(title, "nothing is left after the first step")
    last = {pair: values[np.flatnonzero(~np.isnan(values))[-1]] for pair, values in shown.items()}
    best = max(last, key=lambda pair: last[pair])
    text = f"Transport by lag between the parts of the state: at the longest lag most is left from {best[0]} to {best[1]}."
    caption = "The same transport, told apart by where a perturbation is made and where it is found (median over starting times and sequences)."
    return _picture("transport_blocks", title, caption, text, lambda ax: plots.transport_blocks(shown, ax=ax))


def _units(e: Evidence) -> Picture | Omitted:
    title = "Units that carry what survives"
    if not np.isfinite(e.unit_shares).all():
        return Omitted(title, "nothing survives: the products of the Jacobians are zero or not finite")
    names = [str(e.unit_names[i]) for i in np.argmax(e.unit_shares, 1)]
    text = f"Shares of the units in the direction that survives best: largest at the start {names[0]}, at the end {names[1]}."
    caption = "Squared entries of the leading singular vectors of the whole product: where it is read at the start, where found at the end."
    return _picture("units", title, caption, text, lambda ax: plots.units(e.unit_shares, e.unit_names, ax=ax))


def _usable(e: Evidence) -> Gradient | None:
    g = e.gradient
    return g if g is not None and np.isfinite(g.lag_share).all() and g.lag_share[0] > 0 else None


def _no_gradient(e: Evidence) -> str:
    if e.gradient is not None:
        return "the terms of the gradient through the state are all zero or not finite"
    return "some states are not finite" if (e.first_nonfinite[e.chosen] > 0).any() else "no targets and loss were given"


def _last(values: np.ndarray) -> str:
    known = np.flatnonzero(~np.isnan(values))
    return _nats(values[known[-1]]) if known.size else "unknown"


def _nats(value: float) -> str:
    return f"{float(value):.3g} nats".replace("-", "−")


def _numbers(values: Any) -> np.ndarray:
    """Numbers as JSON has them, with inf and NaN as strings."""
    return np.asarray(values, dtype=object).astype(np.float64)
