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
    "training": lambda ax: plots.training(2 + SHARE, 3 * SHARE, ax=ax),
    "training that fails": lambda ax: plots.training(np.where(LAGS > 60, np.nan, SHARE - 0.5), np.where(LAGS > 59, INF, np.exp(9.0 * LAGS)), ax=ax),
    "training whose gradient dies": lambda ax: plots.training(SHARE, np.where(LAGS > 30, 0, SHARE), ax=ax),
}


def degenerate(lags, n, value):
    """Every picture of arrays that are filled with one value."""
    full = lambda *shape: np.full(shape, value)
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


def test_saving_gives_a_png_and_drawing_needs_no_pyplot():
    assert plots.save(PICTURES["gradient by lag"]).startswith(b"\x89PNG")
    ax = Figure().add_subplot()
    assert PICTURES["units"](ax) is ax
    ax.figure.savefig(io.BytesIO())
