"""Pictures say what they show, and nothing in them overlaps or is cut off."""

import io
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.text import Text

from jaxrnn import plots

T, INF = 64, np.inf
LAGS = np.arange(T + 1)
DECAY = -0.2 * LAGS
SHARE = np.exp(DECAY)
SPREAD = np.array([-1.0, 0.0, 1.0])[:, None] * np.sqrt(LAGS)
EXPONENTS = np.append(-0.02 * np.arange(30.0), [-INF, -INF])
NAMES = ["$x$ <b>long</b> " + "unit" * 20, "_h[1]", r"\frac{", "层[3]", "line\nbreak", *(f"layers[0].c[{i}]" for i in range(60))]
NOISE = np.random.default_rng(0).normal(size=(3, 20, 24, 17))
GROWTH = -np.sort(0.1 * np.arange(17) - np.abs(NOISE[0]), -1) - 0.3 * np.arange(24)[:, None]
LEAVES = ["h", "c", "_hidden_state_of_the_first_layer", "$m$", "<n>"]


def twice(draw, *arguments):
    """A picture on which two things are compared."""
    return lambda ax: draw(*arguments, label="$after$ training", ax=draw(*arguments, label="_before", ax=ax))


PICTURES = {
    "transport that vanishes": lambda ax: plots.transport(np.where(np.tri(T + 1) > 0, -0.2 * (LAGS[:, None] - LAGS), -INF), ax=ax),
    "transport that explodes, strided": lambda ax: plots.transport(np.where(np.tri(T + 1)[:, ::8] > 0, LAGS[:, None], -INF), stride=8, ax=ax),
    "transport that is dead": lambda ax: plots.transport(np.where(np.eye(5) > 0, 0.0, -INF), ax=ax),
    "gradient by lag": lambda ax: plots.gradient_by_lag(DECAY, SHARE, 1 - SHARE**2, lag_share_errors=0.1 * SHARE, truncation_lag=12, ax=ax),
    "state gradients": lambda ax: plots.state_gradients(DECAY + SPREAD, rate=-0.182, rate_error=0.003, ax=ax),
    "state gradients that die": lambda ax: plots.state_gradients(np.where(LAGS > 40, -INF, DECAY), rate=-0.3, rate_error=INF, ax=ax),
    "state gradients of huge rate": lambda ax: plots.state_gradients(DECAY, rate=-1e300, rate_error=1e300, ax=ax),
    "state gradients of unknown rate": lambda ax: plots.state_gradients(DECAY, rate=-INF, rate_error=np.nan, ax=ax),
    "eigenvalues": lambda ax: plots.eigenvalues(0.5 * (NOISE[0] + 1j * NOISE[1]).reshape(20, -1), np.arange(20), ax=ax),
    "eigenvalues, some left out": lambda ax: plots.eigenvalues(
        np.where(NOISE > 2, 99, np.where(NOISE < -2, np.nan, NOISE * 1j)).reshape(60, -1), np.full(60, 7), ax=ax
    ),
    "products": lambda ax: plots.product_singular_values(GROWTH, np.arange(24) * 5, ax=ax),
    "products that die": lambda ax: plots.product_singular_values(np.where(GROWTH < -6, -INF, GROWTH), np.arange(24) * 5, ax=ax),
    "spectrum": lambda ax: plots.lyapunov_spectrum(EXPONENTS, np.where(np.arange(32) % 3, 0.01, INF), ax=ax),
    "two spectra": twice(plots.lyapunov_spectrum, EXPONENTS, np.full(32, 0.01)),
    "blocks": lambda ax: plots.transport_blocks({(a, b): DECAY * len(a + b) / 8 for a in LEAVES[:2] for b in LEAVES[:2]}, ax=ax),
    "too many blocks": lambda ax: plots.transport_blocks({(a, b): DECAY * i - j for i, a in enumerate(LEAVES) for j, b in enumerate(LEAVES)}, ax=ax),
    "units": lambda ax: plots.units(np.geomspace(0.5, 1e-9, 2 * len(NAMES)).reshape(-1, 2).T, NAMES, ax=ax),
    "as many units as can be": lambda ax: plots.units(np.full((2, 65), 1 / 65), NAMES, top=24, ax=ax),
    "transport by lag": lambda ax: plots.transport_by_lag(DECAY + SPREAD, level=0.01, ax=ax),
    "two transports by lag": twice(plots.transport_by_lag, DECAY + SPREAD),
    "lag share": lambda ax: plots.lag_share(SHARE, ax=ax),
    "two lag shares": twice(plots.lag_share, SHARE, 0.1 * SHARE),
    "transport by lag, with its rate": lambda ax: plots.transport_by_lag(DECAY + SPREAD, rate=-0.182, rate_error=0.003, ax=ax),
    "training": lambda ax: plots.training(2 + SHARE, 3 * SHARE, ax=ax),
    "training that fails": lambda ax: plots.training(np.where(LAGS > 60, np.nan, SHARE - 0.5), np.where(LAGS > 59, INF, np.exp(9.0 * LAGS)), ax=ax),
    "training whose gradient dies": lambda ax: plots.training(SHARE, np.where(LAGS > 30, 0, SHARE), ax=ax),
}


def spectrum_with_theory(exponents, standard_errors, *, label, ax):
    """A spectrum with all that can be drawn beside it."""
    apart = np.arange(len(exponents) - 1) % 3 > 0
    return plots.lyapunov_spectrum(exponents, standard_errors, theory=np.array(exponents) - 0.01, gaps_separated=apart, label=label, ax=ax)


X = np.linspace(-1.5, 1.5, 13)
GRID = X + 1j * X[:, None]
GAINS, SDS = np.linspace(0.1, 3, 12), np.linspace(0, 1.5, 9)
THEORY = np.log(GAINS / (1 + SDS[:, None] ** 2))
TRACKS = np.exp(1j * np.linspace(0, np.pi, 24)) * (1 - 0.03 * np.arange(24) + 0.05 * NOISE[0, :, :, 0])
RUN = np.linspace(-0.1, -1, 17) + 0.3 * NOISE[0, 0, 0] / np.sqrt(1 + LAGS[:, None])
ANGLES = np.abs(NOISE[0, :, :9, :3, None] - NOISE[0, :, :9, None, :3]).reshape(-1, 3, 3) % (np.pi / 2)
STATES = np.cumsum(NOISE[0], 0)[:, :, 0]
TERMS = np.exp(0.1 * (LAGS - LAGS[:, None])) * np.tri(T + 1) * np.cos(LAGS) / 100
WINDOWS = -np.sort(0.1 * np.arange(17) + NOISE[0], -1)

PICTURES |= {
    "spectrum with theory": lambda ax: spectrum_with_theory(EXPONENTS, np.full(32, 0.01), label=None, ax=ax),
    "two spectra with theory": twice(spectrum_with_theory, EXPONENTS, np.full(32, 0.01)),
    "windows": lambda ax: plots.finite_time(WINDOWS.reshape(-1, 17), window=25, exponents=WINDOWS.mean((0, 1)), ax=ax),
    "windows, some lost": lambda ax: plots.finite_time(np.where(WINDOWS < -1, -INF, WINDOWS)[0], window=1, ax=ax),
    "windows of many": lambda ax: plots.finite_time(np.tile(NOISE[0, 0, :, :1], 600), window=10_000, ax=ax),
    "one window": lambda ax: plots.finite_time(WINDOWS[0, :1], window=1000, ax=ax),
    "convergence": lambda ax: plots.convergence(256 * (1 + LAGS), RUN, 1 / np.sqrt(1 + LAGS[:, None]) + 0 * RUN, wanted=0.05, theory=RUN[-1], ax=ax),
    "convergence of one": lambda ax: plots.convergence(
        10.0 ** np.arange(9), -(0.5 ** np.arange(9)), 0.5 ** np.arange(9), wanted=0.01, theory=0, ax=ax
    ),
    "convergence of a few steps": lambda ax: plots.convergence(1 + np.arange(3), np.zeros((3, 2)), np.full((3, 2), INF), ax=ax),
    "convergence of what dies": lambda ax: plots.convergence(1 + np.arange(9), np.where(np.arange(9) > 3, -INF, -1.0), np.full(9, 0.1), ax=ax),
    "pseudospectrum": lambda ax: plots.pseudospectrum(GRID, np.abs(GRID) ** 3, np.array([0, 0.1j, 5]), ax=ax),
    "pseudospectrum with a zero": lambda ax: plots.pseudospectrum(2 * GRID, np.abs(GRID) ** 9, np.array([0, np.nan]), ax=ax),
    "pseudospectrum far away": lambda ax: plots.pseudospectrum(1e5 * GRID + 3e6, np.where(X > 0, np.nan, np.abs(GRID)), np.zeros(2), ax=ax),
    "powers": lambda ax: plots.transient_growth(np.sqrt(LAGS) + DECAY, radius=0.9, kreiss=3.2, ax=ax),
    "powers that die": lambda ax: plots.transient_growth(np.where(LAGS > 9, -INF, LAGS), radius=0.0, kreiss=1e300, ax=ax),
    "powers that explode": lambda ax: plots.transient_growth(10.0 * LAGS, radius=np.exp(10), kreiss=INF, ax=ax),
    "tracks": lambda ax: plots.eigenvalue_tracks(TRACKS, ax=ax),
    "a few tracks, some broken": lambda ax: plots.eigenvalue_tracks(
        np.where(NOISE[0, :, :4, 0] > 1, np.nan, TRACKS[:, :4]), times=5 * np.arange(20), ax=ax
    ),
    "condition": lambda ax: plots.log_condition(0.9 * LAGS, LAGS, rate=0.9, rate_error=0.01, ax=ax),
    "condition of what is singular": lambda ax: plots.log_condition(np.where(LAGS > 40, INF, LAGS), LAGS, eps=1.2e-7, ax=ax),
    "angles": lambda ax: plots.angles(ANGLES, ax=ax),
    "angles, some unknown": lambda ax: plots.angles(np.where(ANGLES > 1.5, np.nan, ANGLES)[:, :2, :2], ax=ax),
    "fixed points": lambda ax: plots.fixed_points(STATES[::4], np.arange(5) % 2 > 0, trajectory=STATES, slow=STATES[:3] + 1, ax=ax),
    "fixed points on a line": lambda ax: plots.fixed_points([[0.0], [1e9]], [True, False], trajectory=np.ones((1, 1)), ax=ax),
    "no fixed point": lambda ax: plots.fixed_points(np.zeros((0, 24)), [], slow=np.zeros((0, 24)), ax=ax),
    "input gradients": lambda ax: plots.input_gradients(-DECAY + SPREAD, rate=-0.2, rate_error=0.01, ax=ax),
    "contributions": lambda ax: plots.contributions(TERMS, ax=ax),
    "contributions to the last loss": lambda ax: plots.contributions(TERMS[-1:], times=[T + 1], ax=ax),
    "contributions to a few": lambda ax: plots.contributions(TERMS[::7] * 1e-6, times=1 + np.arange(T + 1)[::7], ax=ax),
    "contribution by lag": lambda ax: plots.contribution_by_lag(TERMS / TERMS.sum(), ax=ax),
    "signal": lambda ax: plots.long_lag_signal(SHARE, 3 * np.sqrt(SHARE), batch=1024, ax=ax),
    "signal that is not seen": lambda ax: plots.long_lag_signal(np.where(LAGS > 20, 0, SHARE), 1e-9, ax=ax),
    "phases": lambda ax: plots.phase_diagram(GAINS, SDS, THEORY, ax=ax),
    "phases, measured": lambda ax: plots.phase_diagram(
        GAINS, SDS, np.where(THEORY < -2, -INF, THEORY), measured=[[0.5, 0.5, -INF], [1, 1, -0.7], [2, 0.5, 0.5]], ax=ax
    ),
    "phases without chaos": lambda ax: plots.phase_diagram(GAINS, SDS, -np.abs(THEORY) - 1, ax=ax),
}


def degenerate(lags, n, value):
    """Every picture of arrays that are filled with one value."""
    full = lambda *shape: np.full(shape, value)
    count = lambda size: 1 + np.arange(size)
    return {
        "transport": lambda ax: plots.transport(full(lags, lags), ax=ax),
        "gradient": lambda ax: plots.gradient_by_lag(*full(3, lags), lag_share_errors=full(lags), truncation_lag=0, ax=ax),
        "mean gradient": lambda ax: plots.state_gradients(full(lags), rate=value, rate_error=abs(value), ax=ax),
        "gradients": lambda ax: plots.state_gradients(full(3, lags), rate=-0.1, rate_error=INF, ax=ax),
        "eigenvalues": lambda ax: plots.eigenvalues(full(lags, n), full(lags), ax=ax),
        "products": lambda ax: plots.product_singular_values(full(n, lags, n), np.arange(lags), ax=ax),
        "spectrum": lambda ax: plots.lyapunov_spectrum(full(n), np.abs(full(n)), ax=ax),
        "blocks": lambda ax: plots.transport_blocks({("h", str(i)): full(lags) for i in range(n)}, ax=ax),
        "units": lambda ax: plots.units(full(2, n), ["h"] * n, ax=ax),
        "by lag": lambda ax: plots.transport_by_lag(full(3, lags), ax=ax),
        "share": lambda ax: plots.lag_share(full(lags), np.abs(full(lags)), ax=ax),
        "training": lambda ax: plots.training(full(lags), full(lags), ax=ax),
        "by lag with its rate": lambda ax: plots.transport_by_lag(full(3, lags), rate=value, rate_error=abs(value), ax=ax),
        "spectrum with theory": lambda ax: plots.lyapunov_spectrum(
            full(n), np.abs(full(n)), theory=full(n), gaps_separated=np.zeros(max(n - 1, 0)), ax=ax
        ),
        "windows": lambda ax: plots.finite_time(full(lags, n), window=1, exponents=full(n), ax=ax),
        "convergence": lambda ax: plots.convergence(full(lags), full(lags, n), np.abs(full(lags, n)), wanted=abs(value), theory=full(n), ax=ax),
        "convergence of one": lambda ax: plots.convergence(count(lags), full(lags), np.abs(full(lags)), wanted=0.1, ax=ax),
        "pseudospectrum": lambda ax: plots.pseudospectrum(GRID[:lags, :n], np.abs(full(lags, n)), full(n), ax=ax),
        "powers": lambda ax: plots.transient_growth(full(lags), radius=abs(value), kreiss=abs(value), ax=ax),
        "tracks": lambda ax: plots.eigenvalue_tracks(full(lags, n), ax=ax),
        "condition": lambda ax: plots.log_condition(full(lags), count(lags), rate=value, rate_error=abs(value), ax=ax),
        "angles": lambda ax: plots.angles(full(lags, n, n), ax=ax),
        "fixed points": lambda ax: plots.fixed_points(full(n, lags), np.arange(n) % 2, trajectory=full(lags, lags), slow=full(n, lags), ax=ax),
        "input gradients": lambda ax: plots.input_gradients(full(lags), rate=value, rate_error=abs(value), ax=ax),
        "contributions": lambda ax: plots.contributions(full(lags, lags), ax=ax),
        "contribution by lag": lambda ax: plots.contribution_by_lag(full(n, lags), times=count(n), ax=ax),
        "signal": lambda ax: plots.long_lag_signal(full(lags), full(lags), batch=2, ax=ax),
        "phases": lambda ax: plots.phase_diagram(count(n), np.arange(lags), full(lags, n), measured=full(n, 3), ax=ax),
    }


VALUES = [(0, 0, 0.0), (1, 1, 0.0), (1, 1, np.nan), *((2, 1, value) for value in (0.5, np.nan, -INF, INF, 1e5, -1e5, 1e300, -1e300))]
PICTURES |= {f"{name} of {lags} lags, {n} units, {value}": f for lags, n, value in VALUES for name, f in degenerate(lags, n, value).items()}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_labels_with_units_and_its_text_is_legible_and_neither_cut_nor_overlapped(name):
    ax = PICTURES[name](None)
    figure = ax.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    assert ax.get_title()
    for each in figure.axes:
        assert "(" in each.get_ylabel()
        assert each is not ax or "(" in each.get_xlabel()
    legend = ax.get_legend()
    if legend is not None:
        assert not legend.get_window_extent(renderer).padded(-2).overlaps(ax.get_window_extent(renderer)), "the legend hides data"
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and _shown(t, figure)]
    for text in texts:
        smallest = text.get_fontsize() * (0.7 if text.get_parse_math() and {*"^_"} & {*text.get_text()} else 1)
        assert smallest * 600 / (7 * 72) >= 9, f"{text.get_text()} is too small in a picture 600 pixels wide"
    boxes = [t.get_window_extent(renderer) for t in texts]
    frame = figure.bbox.padded(1)
    for i, a in enumerate(boxes):
        assert frame.x0 <= a.x0 < a.x1 <= frame.x1, texts[i]
        assert frame.y0 <= a.y0 < a.y1 <= frame.y1, texts[i]
        for j, b in enumerate(boxes[:i]):
            assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1), (texts[i], texts[j])


def _shown(text, figure):
    """Ticks outside the limits, and those of a twin's hidden axis, exist but are not drawn."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            drawn = {id(label) for tick in axis._update_ticks() for label in (tick.label1, tick.label2) if label.get_visible()}
            labels = {id(label) for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
            if id(text) in labels and not (axis.get_visible() and id(text) in drawn):
                return False
    return True


def said(ax):
    """The texts of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


REFUSED = {
    r"log_transport has shape \(3,\); allowed is \(T \+ 1, K\)": lambda: plots.transport(np.zeros(3)),
    r"cosine has shape \(2,\); allowed is \(3,\)": lambda: plots.gradient_by_lag(np.zeros(3), np.ones(3), np.ones(2)),
    r"log_gradient has shape \(2, 4\); allowed is \(T \+ 1,\) or \(3, T \+ 1\)": lambda: plots.state_gradients(np.zeros((2, 4))),
    r"times has shape \(3,\); allowed is \(2,\)": lambda: plots.eigenvalues(np.zeros((2, 4)), np.zeros(3)),
    r"log_sigma has shape \(2, 4\); allowed is \(B, L, k\)": lambda: plots.product_singular_values(np.zeros((2, 4)), np.zeros(4)),
    r"lags has shape \(3,\); allowed is \(4,\)": lambda: plots.product_singular_values(np.zeros((2, 4, 1)), np.zeros(3)),
    r"standard_errors has shape \(\); allowed is \(2,\)": lambda: plots.lyapunov_spectrum(np.zeros(2), 0.1),
    r"blocks\[\('h', 'c'\)\] has shape \(1, 2\); allowed is \(T \+ 1,\)": lambda: plots.transport_blocks({("h", "c"): np.zeros((1, 2))}),
    r"shares has shape \(3, 2\); allowed is \(2, n\)": lambda: plots.units(np.zeros((3, 2)), ["a", "b"]),
    r"names has shape \(1,\); allowed is \(2,\)": lambda: plots.units(np.zeros((2, 2)), ["a"]),
    r"top=25 must lie in \[1, 24\]": lambda: plots.units(np.zeros((2, 2)), ["a", "b"], top=25),
    r"quantiles has shape \(2, 4\); allowed is \(3, T \+ 1\)": lambda: plots.transport_by_lag(np.zeros((2, 4))),
    "level=0 must be positive": lambda: plots.transport_by_lag(np.zeros((3, 4)), level=0),
    r"share has shape \(1, 4\); allowed is \(lags,\)": lambda: plots.lag_share(np.zeros((1, 4))),
    r"errors has shape \(3,\); allowed is \(4,\)": lambda: plots.lag_share(np.zeros(4), np.zeros(3)),
    r"gradient_norm has shape \(3,\); allowed is \(4,\)": lambda: plots.training(np.zeros(4), np.zeros(3)),
    r"theory has shape \(3,\); allowed is \(2,\)": lambda: plots.lyapunov_spectrum(np.zeros(2), np.zeros(2), theory=np.zeros(3)),
    r"gaps_separated has shape \(2,\); allowed is \(1,\)": lambda: plots.lyapunov_spectrum(np.zeros(2), np.zeros(2), gaps_separated=np.zeros(2)),
    r"windows has shape \(4,\); allowed is \(W, k\)": lambda: plots.finite_time(np.zeros(4), window=2),
    r"standard_errors has shape \(3, 1\); allowed is \(3, 2\)": lambda: plots.convergence(np.ones(3), np.ones((3, 2)), np.ones((3, 1))),
    r"wanted has shape \(3,\); allowed is \(\) or \(2,\)": lambda: plots.convergence(*map(np.ones, (3, (3, 2), (3, 2))), wanted=np.ones(3)),
    r"smallest_singular_values has shape \(3,\); allowed is \(13, 13\)": lambda: plots.pseudospectrum(GRID, np.zeros(3), np.zeros(1)),
    "points must be finite": lambda: plots.pseudospectrum(np.nan * GRID, np.abs(GRID), np.zeros(1)),
    r"growth has shape \(1, 4\); allowed is \(L \+ 1,\)": lambda: plots.transient_growth(np.zeros((1, 4))),
    r"tracks has shape \(4,\); allowed is \(T, n\)": lambda: plots.eigenvalue_tracks(np.zeros(4)),
    "eps=0 must lie in": lambda: plots.log_condition(np.zeros(2), np.ones(2), eps=0),
    r"angles has shape \(2, 2\); allowed is \(W, k, k\)": lambda: plots.angles(np.zeros((2, 2))),
    r"angles has shape \(2, 2, 3\); allowed is \(W, 2, 2\)": lambda: plots.angles(np.zeros((2, 2, 3))),
    r"trajectory has shape \(5, 3\); allowed is \(T, 4\)": lambda: plots.fixed_points(np.zeros((1, 4)), [True], trajectory=np.zeros((5, 3))),
    r"log_norms has shape \(2, 4\); allowed is \(T,\) or \(3, T\)": lambda: plots.input_gradients(np.zeros((2, 4))),
    r"signed has shape \(2, 4\): give the times of its 2 rows": lambda: plots.contributions(np.zeros((2, 4))),
    "times must be finite and ascend": lambda: plots.contribution_by_lag(np.zeros((2, 4)), times=[3, 2]),
    r"noise has shape \(3,\); allowed is \(\) or \(4,\)": lambda: plots.long_lag_signal(np.zeros(4), np.zeros(3)),
    "batch=0 must be at least 1": lambda: plots.long_lag_signal(np.zeros(4), 1.0, batch=0),
    r"lyapunov has shape \(12, 9\); allowed is \(9, 12\)": lambda: plots.phase_diagram(GAINS, SDS, THEORY.T),
    "gains must be finite and ascend": lambda: plots.phase_diagram(GAINS[::-1], SDS, THEORY),
}


@pytest.mark.parametrize("message", REFUSED)
def test_the_wrong_shape_is_refused_with_what_is_allowed(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


@pytest.mark.parametrize("name", [name for name in PICTURES if name.startswith("two ")])
def test_what_is_compared_has_two_names_drawn_literally_and_two_colours(name):
    ax = PICTURES[name](None)
    for label in (" _before", "$after$ training"):
        assert any(text.startswith(label) for text in said(ax))
    assert not any(text.get_parse_math() for text in ax.get_legend().get_texts())
    handles, labels = ax.get_legend_handles_labels()
    colours = {label: (handle[0] if isinstance(handle, tuple) else handle).get_color() for handle, label in zip(handles, labels, strict=True)}
    assert colours[" _before"] != colours["$after$ training"]


def test_pairs_that_cannot_be_are_masked_and_colours_are_centred_on_the_isometry():
    ax = plots.transport(np.array([[0.0, -INF], [-3.0, 0.0]]))
    mesh = ax.collections[0]
    assert mesh.get_array().mask.tolist() == [[False, True], [False, False]]
    assert mesh.norm.vmin == -mesh.norm.vmax == -3


def test_the_line_of_the_leading_exponent_has_its_slope_and_passes_through_the_mean_of_the_data():
    values = np.where(LAGS > 40, -INF, DECAY + np.sin(LAGS))
    ax = plots.state_gradients(values, rate=-0.3, rate_error=0.01)
    (line,) = (line for line in ax.get_lines() if str(line.get_label()).startswith("slope"))
    assert line.get_slope() == -0.3
    assert line.get_xy1() == (20, values[:41].mean())
    assert said(ax) == ["mean over sequences: 24 of 65 exactly zero", "slope λ₁ = −0.3 ± 0.01 nats per step"]
    assert -9.5 < ax.get_ylim()[0] < ax.get_ylim()[1] < 2


def test_eigenvalues_lie_beside_a_round_unit_circle_and_those_left_out_are_counted():
    ax = PICTURES["eigenvalues, some left out"](None)
    (circle,) = (patch for patch in ax.patches if isinstance(patch, Circle))
    assert (circle.center, circle.radius, ax.get_aspect()) == ((0, 0), 1, 1)
    (dots,) = (c for c in ax.collections if isinstance(c, PathCollection))
    near = int((np.abs(NOISE) <= 2).sum())
    assert len(dots.get_offsets()) == min(near, 20_000)
    numbers = (60, near - 20_000, (NOISE > 2).sum(), (NOISE < -2).sum())
    counted = "Eigenvalues of {:,} Jacobians against the unit circle\nleft out: {:,} thinned, {:,} with |λ| > 20, {:,} not finite"
    assert ax.get_title() == counted.format(*numbers)
    for low, high in (ax.get_xlim(), ax.get_ylim()):
        assert low <= -1.1
        assert high >= 1.1


def test_a_median_of_products_needs_half_of_the_sequences_and_counts_exact_zeros():
    values = np.array([[0.0, -1.0, -2.0, np.nan], [0.0, -3.0, np.nan, np.nan], [0.0, -INF, np.nan, np.nan]])[:, :, None]
    ax = plots.product_singular_values(values, [0, 1, 2, 3])
    np.testing.assert_array_equal(ax.get_lines()[1].get_ydata(), [0, -3, np.nan, np.nan])
    assert said(plots.product_singular_values(np.full((1, 4, 100), -INF), [0, 1, 2, 3])) == [
        f"σ{i}: 4 of 4 exactly zero" for i in ("₁", "₂", "₄", "₈", "₁₆")
    ]


def test_lost_directions_are_triangles_on_the_edge_and_counted():
    ax = PICTURES["spectrum"](None)
    (lost,) = (line for line in ax.get_lines() if line.get_marker() == "v")
    assert lost.get_xdata().tolist() == [31, 32]
    assert said(ax) == ["2 of 32 lost"]


def test_sixteen_blocks_are_drawn_the_strongest_after_lag_0():
    curves = {("h", str(i)): [0.0, -float(i)] for i in range(20)}
    ax = plots.transport_blocks(dict(reversed(curves.items())))
    assert said(ax) == [f"h → {i}" for i in reversed(range(16))]
    assert "4 of 20 pairs left out" in ax.get_title()
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.get_lines() if len(line.get_xdata()) == 2}) == 16


def test_names_of_units_are_drawn_as_they_are():
    labels = PICTURES["units"](None).get_yticklabels()
    assert [label.get_text() for label in labels[:5]] == ["$x$ <b>long…unitunitunit", "_h[1]", r"\frac{", r"\u5c42[3]", r"line\nbreak"]
    assert not any(label.get_parse_math() for label in labels)


def test_the_level_of_forgetting_is_drawn_once():
    ax = PICTURES["two transports by lag"](None)
    assert said(ax) == ["forgotten below 1/e", " _before", "$after$ training"]
    assert [line.get_ydata()[0] for line in ax.get_lines() if line.get_linestyle() == ":"] == [math.log(1 / math.e)]


def test_the_first_step_that_is_not_finite_is_marked():
    ax = PICTURES["training that fails"](None)
    assert [text.get_text() for text in ax.texts] == ["not finite at step 60"]
    assert [other.get_yscale() for other in ax.figure.axes] == ["linear", "log"]


def test_neighbours_that_are_not_told_apart_are_joined_and_theory_is_a_line():
    ax = plots.lyapunov_spectrum([0.1, 0.0, -0.1, -INF], np.full(4, 0.1), theory=[0.2, 0.0, -0.2, -INF], gaps_separated=[False, True, False])
    assert said(ax) == ["1 of 4 lost", "1 of 3 neighbours joined, not told apart", "theory"]
    joined, theory = (next(line for line in ax.get_lines() if str(line.get_label()).startswith(name)) for name in ("1 of 3", "theory"))
    np.testing.assert_array_equal(joined.get_ydata(), [0.1, 0.0, np.nan])  # nothing is joined to what was lost
    np.testing.assert_array_equal(theory.get_ydata(), [0.2, 0.0, -0.2, np.nan])


def test_bars_of_windows_are_quantiles_and_those_of_lost_rates_leave_the_picture_below():
    values = np.column_stack([np.linspace(-1, 0, 11), np.append(-INF, np.linspace(-0.9, 0, 10))])
    ax = plots.finite_time(values, window=3)
    extremes, most = (np.array(bars.get_segments())[..., 1] for bars in ax.collections)
    np.testing.assert_allclose(extremes[0], [-1, 0])
    np.testing.assert_allclose(most[0], [-0.9, -0.1])  # ranks ⌈0.1·11⌉ = 2 and ⌈0.9·11⌉ = 10 of 11
    assert extremes[1, 0] < ax.get_ylim()[0]
    assert said(ax) == ["1 of 22 rates lost"]


def test_the_sum_by_lag_reaches_what_all_contributions_sum_to_whatever_their_times():
    ax = plots.contribution_by_lag([[0.5, 0.0, 0.0], [0.1, -0.2, 0.6]], times=[1, 3])
    (sums,) = (line for line in ax.get_lines() if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(sums.get_ydata(), [1.1, 0.9, 1.0])


def test_contributions_after_their_loss_are_masked_and_colours_are_per_cent_centred_on_0():
    mesh = plots.contributions([[0.3, 0.0], [-0.2, 0.9]]).collections[0]
    assert mesh.get_array().mask.tolist() == [[False, True], [False, False]]
    assert mesh.norm.vmin == -mesh.norm.vmax == -90


def test_noise_is_that_of_the_batch_and_wins_where_the_signal_stays_below():
    ax = plots.long_lag_signal([4.0, 0.5, 2.0, 0.9, 0.0], 3.0, batch=9)
    assert said(ax) == ["signal: 1 of 5 not seen", "noise of a batch of 9", "noise wins from lag 3 on"]
    assert ax.get_lines()[1].get_ydata().tolist() == [1.0] * 5
    assert not any("wins" in text for text in said(plots.long_lag_signal([2.0, 2.0], 1.0)))


def test_measured_exponents_have_the_colours_of_the_map_and_the_line_of_theory_lies_between_the_signs():
    ax = plots.phase_diagram([1, 2, 3], [0, 1], [[-1, 1, 3], [-1, 1, 3]], measured=[[1, 0, -1], [2, 1, np.nan]])
    mesh, line, dots = ax.collections
    assert dots.norm is mesh.norm
    assert dots.get_offsets().tolist() == [[1, 0]]
    np.testing.assert_allclose(line.get_paths()[0].vertices[:, 0], 1.5)
    assert said(ax) == ["λ₁ = 0 in theory", "1 measured, 1 not finite"]


def test_a_projection_keeps_distances_in_the_plane_of_the_points_and_shares_their_scale():
    square = np.array([[0, 0], [3, 0], [3, 1], [0, 1]]) @ np.linalg.qr(NOISE[0, :2, :5, 0].T)[0].T
    ax = plots.fixed_points(square, np.ones(4))
    x, y = next(line for line in ax.get_lines() if line.get_label() == "4 stable").get_data()
    distances = np.abs(np.subtract.outer(x + 1j * y, x + 1j * y))
    np.testing.assert_allclose(distances, np.linalg.norm(square[:, None] - square, axis=-1), atol=1e-12)
    assert "90 % of the variance" in ax.get_xlabel()
    assert ax.get_aspect() == 1


def test_contours_of_a_normal_matrix_lie_at_the_distance_they_name():
    ax = plots.pseudospectrum(GRID, np.abs(GRID), [0.0])
    drawn = ax.collections[1]
    for level, path in zip(drawn.levels, drawn.get_paths(), strict=True):
        if 0.2 < 10**level < 1.5:
            np.testing.assert_allclose(np.linalg.norm(path.vertices, axis=1), 10**level, rtol=0.15)


def test_moduli_of_the_sixteen_largest_tracks_are_coloured():
    ax = plots.eigenvalue_tracks(np.arange(20) + np.zeros((3, 1)))
    heights = {line.get_ydata()[0] for line in ax.get_lines() if len(line.get_ydata()) == 3}
    assert heights == set(range(4, 20))
    assert said(ax) == ["unit circle", "4 smaller ones"]


def test_saving_gives_a_png_and_drawing_needs_no_pyplot():
    assert plots.save(PICTURES["gradient by lag"]).startswith(b"\x89PNG")
    ax = Figure().add_subplot()
    assert PICTURES["units"](ax) is ax
    ax.figure.savefig(io.BytesIO())
