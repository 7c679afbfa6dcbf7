"""Pictures say what they show, and nothing in them overlaps or is cut off."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from jaxrnn import plots

T = 64
LAGS = np.arange(T)
PICTURES = {
    "transport that vanishes": lambda ax: plots.transport(
        np.where(np.tri(T + 1) > 0, -0.2 * (np.arange(T + 1)[:, None] - np.arange(T + 1)), -np.inf), ax=ax
    ),
    "transport that explodes, strided": lambda ax: plots.transport(
        np.where(np.tri(T + 1)[:, ::8] > 0, np.arange(T + 1.0)[:, None], -np.inf), stride=8, ax=ax
    ),
    "transport that is dead": lambda ax: plots.transport(np.where(np.eye(5) > 0, 0.0, -np.inf), ax=ax),
    "transport of one step": lambda ax: plots.transport(np.array([[0.0, -np.inf], [-1.0, 0.0]]), ax=ax),
    "gradient by lag": lambda ax: plots.gradient_by_lag(
        -0.2 * LAGS, np.exp(-0.2 * LAGS), 1 - np.exp(-0.4 * LAGS), lag_share_errors=0.1 * np.exp(-0.2 * LAGS), truncation_lag=12, ax=ax
    ),
    "gradient of one lag": lambda ax: plots.gradient_by_lag(np.zeros(1), np.ones(1), np.ones(1), ax=ax),
    "gradient that is zero": lambda ax: plots.gradient_by_lag(np.full(4, -np.inf), np.zeros(4), np.ones(4), ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_labels_with_units_and_no_text_is_cut_or_overlaps(name):
    ax = PICTURES[name](None)
    figure = ax.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    assert "(" in ax.get_xlabel()
    assert "(" in ax.get_ylabel()
    assert ax.get_title()
    frame = figure.bbox
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    boxes = [t.get_window_extent(renderer) for t in texts if _shown(t, figure)]
    for box in boxes:
        assert frame.x0 - 1 <= box.x0
        assert box.x1 <= frame.x1 + 1
        assert frame.y0 - 1 <= box.y0
        assert box.y1 <= frame.y1 + 1
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1)


def _shown(text, figure):
    """Ticks outside the limits exist, but are not drawn."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            drawn = {id(label) for tick in axis._update_ticks() for label in (tick.label1, tick.label2) if label.get_visible()}
            labels = {id(label) for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
            if id(text) in labels and id(text) not in drawn:
                return False
    return True


def test_pairs_that_cannot_be_are_masked_and_colours_are_centred_on_the_isometry():
    ax = plots.transport(np.array([[0.0, -np.inf], [-3.0, 0.0]]))
    mesh = ax.collections[0]
    assert mesh.get_array().mask.tolist() == [[False, True], [False, False]]
    assert mesh.norm.vmin == -mesh.norm.vmax == -3


def test_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\); allowed is \(T \+ 1, K\)"):
        plots.transport(np.zeros(3))


def test_saving_gives_a_png():
    assert plots.save(PICTURES["gradient by lag"]).startswith(b"\x89PNG")
