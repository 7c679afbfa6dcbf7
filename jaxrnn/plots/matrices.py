"""What the Jacobians are: eigenvalues against the unit circle, one after the other, and how far from normal."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from jaxrnn.plots.axes import COLOURS, axes, curve, finish, given, line, ranked

_POINTS, _RADIUS = 20_000, 20.0  # eigenvalues drawn; beyond it one would shrink the unit circle to a dot
_DECADES = 8  # of a pseudospectrum told apart
_TRACKS = 16  # lines that can be followed by eye


def eigenvalues(eigenvalues: Any, times: Any, *, ax: Axes | None = None) -> Axes:
    """Eigenvalues of Jacobians in the complex plane against the unit circle, coloured by time.
    Returns the axes; of more than 20,000 points a random sample is drawn, and none beyond |λ| = 20: the title counts them.

    Args:
        eigenvalues: (P, n) complex, dimensionless, one row for each Jacobian.
        times: (P,) their times, steps.

    >>> from jaxrnn import plots
    >>> plots.eigenvalues([[0.5 + 0.5j, 0.5 - 0.5j], [30.0, 0.9]], [1, 2]).get_title().splitlines()
    ['Eigenvalues of 2 Jacobians against the unit circle', 'left out: 1 with |λ| > 20']
    """
    values = given("eigenvalues", eigenvalues, "(P, n)", dtype=np.complex128)
    P, n = values.shape
    times, finite = np.repeat(given("times", times, f"({P},)"), n), np.isfinite(values.ravel())
    near = np.flatnonzero(np.abs(np.where(finite, values.ravel(), np.inf)) <= _RADIUS)
    drawn = np.random.default_rng(0).permutation(near)[:_POINTS]  # at random, lest late times cover early ones
    points, ax = values.ravel()[drawn], axes(ax)
    look: dict[str, Any] = {"s": np.clip(8000 / max(drawn.size, 1), 4, 25), "cmap": "viridis", "lw": 0, "rasterized": True}
    dots = ax.scatter(points.real, points.imag, c=times[drawn], **look)
    if np.isfinite(times[drawn]).any():
        dots.set_clim(np.nanmin(times[drawn]) - 0.5, np.nanmax(times[drawn]) + 0.5)  # one time alone has a colour too
    ax.add_patch(Circle((0, 0), 1, fill=False, color="0.2", lw=1.2, ls="--"))
    reach = 1.1 * np.abs([points.real, points.imag]).max(initial=1)
    ax.locator_params(nbins=6)
    ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
    ax.figure.colorbar(dots, ax=ax, ticks=MaxNLocator(5, integer=True, min_n_ticks=1)).set_label("time t (steps)", fontsize=11)
    counts = {"thinned": near.size - drawn.size, f"with |λ| > {_RADIUS:g}": finite.sum() - near.size, "not finite": (~finite).sum()}
    notes = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    title = f"Eigenvalues of {P:,} Jacobian{'s' * (P != 1)} against the unit circle" + f"\nleft out: {notes}" * bool(notes)
    return finish(ax, "real part (dimensionless)", "imaginary part (dimensionless)", title)


def eigenvalue_tracks(tracks: Any, *, times: Any = None, ax: Axes | None = None) -> Axes:
    """Moduli of eigenvalues that are followed through time, against 1; coloured by how far they turn in a step.
    Returns the axes; the 16 of the largest median modulus have colours, the rest are grey.

    Args:
        tracks: (T, n) complex, dimensionless, each column one eigenvalue over time, from ``spectra.tracks``.
        times: (T,) their times, steps; 1..T by default.

    >>> from jaxrnn import plots
    >>> plots.eigenvalue_tracks([[0.9, 0.5j], [1.1, 0.4j]]).get_title()
    'Moduli of 2 eigenvalues through time'
    """
    values = given("tracks", tracks, "(T, n)", dtype=np.complex128)
    (T, n), ax = values.shape, axes(ax)
    times = given("times", 1 + np.arange(T) if times is None else times, f"({T},)")
    moduli = np.where(np.isfinite(values), np.abs(values), np.nan)
    turn = np.nan_to_num(ranked(np.where(np.isfinite(values), np.abs(np.angle(values)), np.nan), 0.5)[0])
    order = np.argsort(-np.nan_to_num(ranked(moduli, 0.5)[0], nan=-1.0), kind="stable")
    colours = ScalarMappable(Normalize(0, np.pi), colormaps["viridis"])
    ax.axhline(1, color="0.2", lw=1.2, ls="--", label="unit circle")
    if rest := order[_TRACKS:].size:
        apart = np.full((1, rest), np.nan)
        x, y = np.repeat(np.append(times, np.nan)[:, None], rest, 1), np.concatenate([moduli[:, order[_TRACKS:]], apart])
        line(ax, x.T.ravel(), y.T.ravel(), color="0.8", lw=0.8, zorder=1, label=f"{rest:,} smaller ones")
    for i in order[:_TRACKS][::-1]:
        line(ax, times, moduli[:, i], color=colours.to_rgba(turn[i]), lw=1.5)
    bar = ax.figure.colorbar(colours, ax=ax, ticks=[0, np.pi / 2, np.pi])
    bar.ax.set_yticklabels(["0", "π/2", "π"])
    bar.set_label("turn per step, median |arg λ| (radians)", fontsize=11)
    title = f"Moduli of {n:,} eigenvalue{'s' * (n != 1)} through time" + ": nothing to draw" * (not np.isfinite(moduli).any())
    return finish(ax, "time t (steps)", "modulus |λ| (dimensionless)", title, columns=2)


def pseudospectrum(points: Any, smallest_singular_values: Any, eigenvalues: Any, *, ax: Axes | None = None) -> Axes:
    """How small a change of a matrix moves an eigenvalue to each point of the plane, against the unit circle.
    Returns the axes; of a normal matrix the contours lie around the eigenvalues at the distance they name.
    Eight decades are told apart; what is below them has their darkest colour.

    Args:
        points: (a, b) complex grid, as of ``meshgrid``.
        smallest_singular_values: (a, b) σ_min(z I − A) there, dimensionless, from ``spectra.pseudospectrum``.
        eigenvalues: (n,) complex.

    >>> import numpy as np
    >>> from jaxrnn import plots
    >>> grid = np.linspace(-1, 1, 9) + 1j * np.linspace(-1, 1, 9)[:, None]
    >>> plots.pseudospectrum(grid, abs(grid), [0.0]).get_legend().get_texts()[0].get_text()
    'eigenvalues'
    """
    z = given("points", points, "(a, b)", dtype=np.complex128)
    sigma = given("smallest_singular_values", smallest_singular_values, f"({z.shape[0]}, {z.shape[1]})")
    values, ax = given("eigenvalues", eigenvalues, "(n,)", dtype=np.complex128), axes(ax)
    if not np.isfinite(z).all():
        raise ValueError("points must be finite: they are the axes of the map")
    seen = np.log10(sigma[(sigma > 0) & np.isfinite(sigma)])
    high, low = seen.max(initial=-np.inf), seen.min(initial=np.inf)
    if high > low and min(z.shape) > 1:
        low = max(low, high - _DECADES)
        logs = np.log10(np.clip(np.where(np.isfinite(sigma), sigma, np.nan), 10.0**low, None))
        levels = MaxNLocator(16, steps=[1, 2, 5, 10]).tick_values(low, high)
        filled = ax.contourf(z.real, z.imag, logs, levels=levels, cmap="Blues_r")
        ax.contour(z.real, z.imag, logs, levels=levels, colors="0.35", linewidths=0.5, linestyles="-")
        ax.figure.colorbar(filled, ax=ax).set_label("log₁₀ of the smallest change (dimensionless)", fontsize=11)
    ax.add_patch(Circle((0, 0), 1, fill=False, color="k", lw=1.4, ls="--"))
    near = values[np.isfinite(values)]
    box = {name: (np.min(part, initial=np.inf), np.max(part, initial=-np.inf)) for name, part in (("x", z.real), ("y", z.imag))}
    if not z.size:
        box = dict.fromkeys("xy", (-1.1, 1.1))
    inside = (near.real >= box["x"][0]) & (near.real <= box["x"][1]) & (near.imag >= box["y"][0]) & (near.imag <= box["y"][1])
    name = "eigenvalues" + f", {values.size - inside.sum():,} of {values.size:,} outside or not finite" * bool(inside.sum() < values.size)
    ax.plot(near.real[inside], near.imag[inside], "o", ms=4.5, mfc=COLOURS[4], mec="k", mew=0.5, ls="", label=name)
    for low, high, scale in ((*box["x"], ax.set_xlim), (*box["y"], ax.set_ylim)):
        scale((low, high) if high > low else (low - 1, low + 1))
    ax.set_aspect("equal")
    return finish(ax, "real part (dimensionless)", "imaginary part (dimensionless)", "Pseudospectrum against the unit circle")


def transient_growth(growth: Any, *, radius: float | None = None, kreiss: float | None = None, ax: Axes | None = None) -> Axes:
    """How powers of a matrix grow before its eigenvalues rule.
    Returns the axes; the powers set their limits and the Kreiss bound, not the line of the eigenvalues.

    Args:
        growth: (L + 1,) log‖Aᵏ‖₂ for k = 0..L, nats, from ``spectra.transient_growth``.
        radius: ρ, the spectral radius, dimensionless: the line k ln ρ, below which no power comes.
        kreiss: K, the Kreiss constant, dimensionless: the largest power reaches at least ln K.

    >>> from jaxrnn import plots
    >>> ax = plots.transient_growth([0.0, 1.0, 0.5], radius=0.5, kreiss=2.0)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['log‖Aᵏ‖₂', 'k ln ρ for ρ = 0.5', 'least peak, ln K = 0.693']
    """
    values, ax = given("growth", growth, "(L + 1,)"), axes(ax)
    powers = np.arange(values.size)
    ax.axhline(0, color="0.5", lw=1)
    curve(ax, powers, (values, values, values), "log‖Aᵏ‖₂")
    if radius is not None:
        drawn = 0 < radius < np.inf
        ax.axline((0, 0), slope=np.log(radius) if drawn else 0, color=COLOURS[1], ls="--" if drawn else "", label=f"k ln ρ for ρ = {radius:.4g}")
    if kreiss is not None and 0 < kreiss < np.inf:
        ax.axhline(np.log(kreiss), color=COLOURS[2], ls=":", label=f"least peak, ln K = {np.log(kreiss):.3g}")
    elif kreiss is not None:
        ax.plot([], [], " ", label="K is infinite: no power is the largest" if kreiss == np.inf else "K is unknown")
    return finish(ax, "power k (steps)", r"$\log\,\|A^k\|_2$ (nats)", "Growth of the powers before the eigenvalues rule", columns=3)
