"""The command ``jaxrnn``: parse, call, save. Help and refused numbers come without importing JAX."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jaxrnn.diagnosis import Diagnosis

_NEEDS = 'the command line needs a few more packages; install them with: pip install "jaxrnn[cli]"'


@dataclass
class Diagnose:
    """Say whether the gradients of a recurrent network vanish or explode on real sequences, how fast, over which lags, and how sure that is."""

    cell: str = "vanilla"
    """Recurrence; `jaxrnn cells` lists them."""
    hidden: int = 64
    """Units per layer."""
    layers: int = 1
    """Layers, each fed the output of the one below."""
    init: str | None = None
    """Recurrent weights: gaussian, orthogonal, identity. [default: the cell's]"""
    gain: float | None = None
    """Factor on the recurrent weights. [default: 1]"""
    data: Literal["digits"] = "digits"
    """digits: scikit-learn's handwritten digits, one of 64 pixels a step, classified at the last step."""
    length: int | None = None
    """Take the first steps of each sequence only. [default: all]"""
    sequences: int = 32
    """How many sequences; the error bars come from between them."""
    seed: int = 0
    """Seed of the weights and of the choice of sequences."""
    precision: Literal["float64", "float32"] = "float64"
    """Arithmetic of the analysis."""
    out: Path = Path("jaxrnn-diagnosis")
    """Folder for diagnosis.json, transport.png and gradient_by_lag.png."""


@dataclass
class Cells:
    """List the recurrences there are."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 whatever the verdict, 2 on bad input, 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    # Read when LAPACK is loaded. Its calls here are many and small; its threads waiting for each other cost up to ten times.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import rich.console  # noqa: F401
        import tyro
    except ModuleNotFoundError as error:
        return _refuse(f"{_NEEDS} (missing: {error.name})")
    config = tyro.extras.subcommand_cli_from_dict(
        {"diagnose": Diagnose, "cells": Cells},
        prog="jaxrnn",
        description="See, measure and repair how gradients travel through time in recurrent networks.",
        args=argv or ["--help"],
    )
    try:
        return _cells() if isinstance(config, Cells) else _diagnose(config, argv)
    except KeyboardInterrupt:
        print("jaxrnn: interrupted; nothing was written before the work was done", file=sys.stderr)
        return 130


def _refuse(message: str) -> int:
    print(f"jaxrnn: error: {message}", file=sys.stderr)
    return 2


def _cells() -> int:
    from jaxrnn import cells

    for name, constructor in cells.REGISTRY.items():
        print(f"{name:10} {(constructor.__doc__ or '').splitlines()[0]}")
    return 0


def _diagnose(config: Diagnose, argv: list[str]) -> int:
    from jaxrnn import _atomic

    try:
        _require(config)
        _atomic.require_writable(config.out)
        _configure(config.precision)
        model, batch = _model(config)
    except ModuleNotFoundError as error:
        return _refuse(f"{_NEEDS} (missing: {error.name})")
    except (ValueError, TypeError, OSError) as error:
        return _refuse(str(error))
    found = _run(config, model, batch)
    try:
        _save(config, argv, found)
    except OSError as error:
        return _refuse(f"could not write to {config.out}: {error}")
    _show(config, found)
    print(config.out)
    return 0


def _require(config: Diagnose) -> None:
    """Raise ValueError on numbers outside what is allowed."""
    for name, low, high in (("hidden", 1, 4096), ("layers", 1, 64), ("sequences", 1, 1797), ("length", 1, 64), ("seed", 0, 2**32 - 1)):
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name} {value} must lie in [{low}, {high}]")
    if config.gain is not None and not (math.isfinite(config.gain) and config.gain >= 0):
        raise ValueError(f"--gain {config.gain} must be a finite number, at least 0")


def _configure(precision: str) -> None:
    """Precision and compilation cache of this process; the library itself never touches jax.config."""
    import jax

    jax.config.update("jax_enable_x64", precision == "float64")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "jaxrnn"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _model(config: Diagnose) -> tuple[tuple, tuple]:
    """(step, params, state, loss) and (xs, targets), every array in the wanted precision."""
    import jax

    from jaxrnn import cells

    if config.cell not in cells.REGISTRY:
        raise ValueError(f"--cell {config.cell} is unknown; allowed are {', '.join(sorted(cells.REGISTRY))}")
    choices = {} if config.init is None else {"init": config.init}
    sizes = [(1 if i == 0 else config.hidden, config.hidden) for i in range(config.layers)]
    layers = [cells.REGISTRY[config.cell](n_in, n, **choices) for n_in, n in sizes]
    cell = cells.with_readout(layers[0] if len(layers) == 1 else cells.stack(*layers), 10)
    scales = {} if config.gain is None else {"gain": config.gain}
    params = cell.init_params(jax.random.key(config.seed), **scales)
    params = jax.tree.map(lambda leaf: leaf.astype(config.precision), params)
    if not all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
        raise ValueError(f"--gain {config.gain} makes weights that are not finite in {config.precision}; choose a smaller one")
    model = (cell.step, params, cell.init_state(params), cells.readout_loss(cell, _weighted_cross_entropy))
    return model, _digits(config)


def _digits(config: Diagnose) -> tuple[Any, Any]:
    """Rows of pixels in [0, 1], (B, T, 1), and the digit, weighted 1 at the last step and 0 before."""
    import jax.numpy as jnp
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = np.random.default_rng(config.seed).permutation(len(data.data))[: config.sequences]
    pixels = data.data[chosen, : config.length or 64, None] / 16.0
    count, length = pixels.shape[:2]
    weight = np.zeros((count, length))
    weight[:, -1] = 1
    label = np.repeat(data.target[chosen, None], length, 1)
    cast = lambda values: jnp.asarray(values, config.precision)
    return cast(pixels), {"label": jnp.asarray(label, jnp.int32), "weight": cast(weight)}


def _weighted_cross_entropy(logits: Any, target: Any) -> Any:
    import optax

    return target["weight"] * optax.softmax_cross_entropy_with_integer_labels(logits, target["label"])


def _run(config: Diagnose, model: tuple, batch: tuple) -> Diagnosis:
    """The diagnosis, with the plan and a progress display on the error stream."""
    import jax
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from jaxrnn import _tree, diagnosis, evidence

    (step, params, state, loss), (xs, targets) = model, batch
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    plan = evidence.plan(xs.shape[0], xs.shape[1], _tree.layout(state).size, size, xs.dtype.itemsize)
    console = Console(stderr=True)
    console.print(f"[dim]{_plan_text(plan)}[/dim]", highlight=False)
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("states", total=None)
        report = lambda what, i, total: bar.update(task, description=what, completed=i, total=total)
        return diagnosis.diagnose(step, params, state, xs, targets=targets, loss=loss, progress=report)


def _plan_text(plan: Any) -> str:
    pairs = plan.sequences * plan.steps
    return (
        f"Plan: {plan.sequences} sequences of {plan.steps} steps, state of dimension {plan.dimension}; {plan.exponents} exponents; "
        f"eigenvalues of {plan.jacobians} of {pairs} Jacobians; transport in {plan.transport_sequences} sequences, every "
        f"{plan.transport_stride} steps; gradient terms in {plan.gradient_sequences} sequences, at most {plan.gradient_times} times, "
        f"{plan.max_lag + 1} lags. Roughly {max(plan.seconds, 1):.0f} s and {max(plan.bytes / 1e9, 0.1):.1f} GB, compilation apart."
    )


def _save(config: Diagnose, argv: list[str], found: Diagnosis) -> None:
    """All files are made in memory first, then appear whole."""
    import jaxrnn
    from jaxrnn import _atomic, plots

    e = found.evidence
    files = {"transport.png": plots.save(lambda ax: plots.transport(e.transport, stride=e.plan.transport_stride, ax=ax))}
    if e.gradient is not None:
        g = e.gradient
        lag = int(sorted(g.truncation_lags)[len(g.truncation_lags) // 2]) if g.truncation_lags.size else None
        draw = lambda ax: plots.gradient_by_lag(g.log_by_lag, g.lag_share, g.cosine, lag_share_errors=g.lag_share_errors, truncation_lag=lag, ax=ax)
        files["gradient_by_lag.png"] = plots.save(draw)
    packages = ("jax", "jaxlib", "numpy", "optax", "scikit-learn")
    run = {
        "command": shlex.join(["jaxrnn", *argv]),
        "settings": {**asdict(config), "out": str(config.out)},
        "versions": {"jaxrnn": jaxrnn.__version__, "python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}},
    }
    files["diagnosis.json"] = json.dumps({**found.to_dict(), **run}, indent=1, allow_nan=False).encode()
    config.out.mkdir(parents=True, exist_ok=True)
    if "gradient_by_lag.png" not in files:
        (config.out / "gradient_by_lag.png").unlink(missing_ok=True)  # an earlier run's would not belong to this one
    for name, content in files.items():
        _atomic.write(config.out / name, content)


def _show(config: Diagnose, found: Diagnosis) -> None:
    """The verdict, its reasons and the self-checks, in the terminal."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    e = found.evidence
    console = Console(highlight=False)
    color = {"stable": "green", "undecided": "yellow"}.get(found.verdict, "red")
    console.print(
        f"[bold]{config.cell}[/bold], {config.layers} × {config.hidden} units, {config.data}, {e.given} sequences of {e.plan.steps} steps: "
        f"[bold {color}]{found.verdict}[/bold {color}]"
    )
    table = Table("quantity", "value", "± std. error", "unit")
    mean = float(e.lengths.mean()) if e.lengths.size else 0.0
    table.add_row("log gain over a sequence", f"{e.rate * mean:+.3f}", f"{e.rate_error * mean:.3f}", "nats")
    for i in range(min(3, len(e.exponents))):
        table.add_row(f"Lyapunov exponent {i + 1}", f"{e.exponents[i]:+.5f}", f"{e.standard_errors[i]:.5f}", "nats per step")
    table.add_row("memory horizon, median", _steps(e.horizon[1]), "", "steps")
    table.add_row("median log largest |eigenvalue|", f"{np.median(e.log_radius):+.4f}", "", "nats per step")
    console.print(table)
    for reason in found.reasons:
        console.print(f"• {reason}", markup=False)
    if found.remedies:
        console.print("What may help:")
        for remedy in found.remedies:
            console.print(f"→ {remedy}", markup=False)
    table = Table("self-check", "error", "allowed", "", "what was compared")
    for c in found.checks:
        table.add_row(c.name, f"{c.error:.1e}", f"{c.allowed:.1e}", "[green]passed[/green]" if c.passed else "[bold red]FAILED[/bold red]", c.detail)
    console.print(table)


def _steps(lag: float) -> str:
    return "beyond the sequence" if math.isinf(lag) else f"{lag:.0f}"


if __name__ == "__main__":
    sys.exit(main())
