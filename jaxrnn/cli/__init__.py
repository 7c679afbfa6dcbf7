"""The command ``jaxrnn``: parse, call, save. Help and refused numbers come without importing JAX."""

from __future__ import annotations

import os
import sys

_NEEDS = 'the command line needs a few more packages; install them with: pip install "jaxrnn[cli]"'
_EXTRAS = {"mlxtend": "data", "safetensors": "torch", "orbax": "train", "tensorboardX": "train"}


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 whatever the verdict, 2 on bad input, 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    # Read when LAPACK is loaded. Its calls here are many and small; its threads waiting for each other cost up to ten times.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import jinja2  # noqa: F401
        import rich.console  # noqa: F401
        import tyro
    except ModuleNotFoundError as error:
        return _refuse(f"{_NEEDS} (missing: {error.name})")
    from jaxrnn.cli import options

    config = tyro.extras.subcommand_cli_from_dict(
        {"diagnose": options.Diagnose, "train": options.Train, "compare-reports": options.CompareReports, "cells": options.Cells},
        prog="jaxrnn",
        description="See, measure and repair how gradients travel through time in recurrent networks.",
        args=argv or ["--help"],
    )
    try:
        return _call(config, argv)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        return _refuse(f'{error}; install it with: pip install "jaxrnn[{extra}]"' if extra else f"{_NEEDS} (missing: {error.name})")
    except (options.BadInput, OSError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("jaxrnn: interrupted; a file is written whole or not at all", file=sys.stderr)
        return 130


def _call(config: object, argv: list[str]) -> int:
    """Check the numbers before JAX is imported, then run."""
    from jaxrnn.cli import options

    if isinstance(config, options.Diagnose):
        with options.refusing():
            options.require(config)
        from jaxrnn.cli import diagnose

        return diagnose.run(config, argv)
    if isinstance(config, options.CompareReports):
        from jaxrnn.cli import compare_reports

        return compare_reports.run(config, argv)
    if isinstance(config, options.Train):
        with options.refusing():
            options.require_within(config)
        from jaxrnn.cli import train

        return train.run(config, argv)
    assert isinstance(config, options.Cells)
    with options.refusing():
        options.require_within(config)
    from jaxrnn.cli import cells

    return cells.run(config)


def _refuse(message: str) -> int:
    print(f"jaxrnn: error: {message}", file=sys.stderr)
    return 2
