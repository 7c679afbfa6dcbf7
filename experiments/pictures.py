"""The pictures of the documentation, each from a real run of the command or, where it draws none, of the library.

    python -m experiments.pictures

Two runs on the handwritten digits: the default, and an LSTM before and after training. With chromium on the machine, the pages too.
Then measurements against theory: independent Gaussian Jacobians, their non-normality, wide random networks, the terms of a gradient.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import bptt, cells, cli, lyapunov, plots, spectra, theory

DOCS = Path(__file__).parents[1] / "docs" / "pictures"


@dataclass(frozen=True)
class Settings:
    plain: tuple[str, ...] = ("diagnose",)
    trained: tuple[str, ...] = ("diagnose", "--cell", "lstm", "--hidden", "32", "--train-steps", "400")
    width: int = 1180  # of the pages, pixels
    out: Path = DOCS
    n: int = 16  # units of the Gaussian Jacobians
    length: int = 4000  # of their product, steps
    wide: int = 200  # units of the wide random networks
    steps: int = 400  # of each of them, and 100 more to warm up
    gains: tuple[float, ...] = (0.5, 1.2, 2.0, 2.8)
    input_sds: tuple[float, ...] = (0.1, 0.6, 1.1)


def spectrum_against_theory(s):
    """Newman's exponents of independent Gaussian Jacobians, and the pseudospectrum of one of them."""
    sigma = 0.9 / s.n**0.5
    jacobians = sigma * jax.random.normal(jax.random.key(0), (s.length, s.n, s.n))
    found = lyapunov.from_jacobians(jacobians)
    expected, apart = theory.newman_exponents(s.n, sigma), lyapunov.gaps(found).separated
    line = np.linspace(-1.5, 1.5, 121)
    grid = line + 1j * line[:, None]
    smallest = spectra.pseudospectrum(jacobians[0], grid)
    return {
        "spectrum_against_theory": lambda ax: plots.lyapunov_spectrum(
            found.exponents, found.standard_errors, theory=expected, gaps_separated=apart, ax=ax
        ),
        "pseudospectrum": lambda ax: plots.pseudospectrum(grid, smallest, spectra.eigenvalues(jacobians[0]), ax=ax),
    }


def random_step(weights, h, x):
    """A wide random network."""
    return jnp.tanh(weights @ h + x)


def phase_diagram(s):
    """The edge of chaos under drive, by mean-field theory and measured."""
    gains, input_sds = np.linspace(0.1, 3, 59), np.linspace(0, 1.4, 43)
    expected = jax.vmap(lambda sd: jax.vmap(lambda g: theory.mean_field(g, sd).lyapunov)(jnp.asarray(gains)))(jnp.asarray(input_sds))
    weights, inputs = (jax.random.normal(jax.random.key(i), (size, s.wide)) for i, size in enumerate((s.wide, s.steps + 100)))
    measured = []
    for gain in s.gains:
        for sd in s.input_sds:
            found = lyapunov.spectrum(random_step, gain * weights / s.wide**0.5, jnp.zeros(s.wide), sd * inputs, k=1, warmup=100)
            measured.append((gain, sd, float(found.exponents[0])))
    return {"phase_diagram": lambda ax: plots.phase_diagram(gains, input_sds, expected, measured=measured, ax=ax)}


def squared_error(prediction, target):
    """The loss of a running sum."""
    return jnp.sum((prediction - target) ** 2)


def contributions():
    """What each term adds to one gradient of an LSTM that should sum its inputs."""
    cell = cells.with_readout(cells.lstm(1, 16), 1)
    params, xs = cell.init_params(jax.random.key(0)), jax.random.normal(jax.random.key(1), (60, 1))
    signed = bptt.contributions(cell.step, params, cell.init_state(params), xs, jnp.cumsum(xs, 0) / 5, cells.readout_loss(cell, squared_error))
    draws = {"contributions": plots.contributions, "contribution_by_lag": plots.contribution_by_lag}
    return {name: lambda ax, draw=draw: draw(signed, ax=ax) for name, draw in draws.items()}


def page(path, out, width, height):
    """What a browser shows of a page, as a PNG."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}")
        command = ["chromium", *flags, f"--window-size={width},{height}", f"--screenshot={out}", path.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def main(settings=Settings()):
    settings.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # so that the pages name no folder of this machine
        plain, trained = Path("plain"), Path("trained")
        for command, out in ((settings.plain, plain), (settings.trained, trained)):
            if cli.main([*command, "--out", str(out)]):
                return 1
        made = [*plain.glob("*.png"), trained / "before" / "transport_blocks.png", *trained.glob("*.png")]
        for picture in made:
            shutil.copyfile(picture, settings.out / picture.name)
        if shutil.which("chromium"):
            page(plain / "report.html", settings.out / "report.png", settings.width, 1900)
            page(trained / "comparison.html", settings.out / "comparison.png", settings.width, 1900)
    with jax.enable_x64(True):
        for name, draw in (spectrum_against_theory(settings) | phase_diagram(settings) | contributions()).items():
            (settings.out / f"{name}.png").write_bytes(plots.save(draw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
