"""The command ``jaxrnn``: parse, call, save. Help and refused numbers come without importing JAX."""

from __future__ import annotations

import importlib
import os
import sys

_NEEDS = 'the command line needs a few more packages; install them with: pip install "jaxrnn[cli]"'
_COMMANDS = ("diagnose", "train", "compare", "compare-reports", "sweep", "inspect", "cells", "tasks")
"""The options of ``a-b`` are the dataclass ``options.AB``, its work is ``cli.a_b.run(config, argv)``."""

_EXTRAS = {
    "mlxtend": "data",
    "safetensors": "torch",
    "orbax": "train",
    "tensorboardX": "train",
    "distributed": "cluster",
    "dask": "cluster",
    "xarray": "data",
}


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
        {name: getattr(options, name.title().replace("-", "")) for name in _COMMANDS},
        prog="jaxrnn",
        description="See, measure and repair how gradients travel through time in recurrent networks.",
        args=argv or ["--help"],
    )
    try:
        return _call(config, argv)
    except ModuleNotFoundError as error:
        if "install" in str(error):
            return _refuse(str(error))
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

    with options.refusing():
        options.require(config)
    command = next(name for name in _COMMANDS if isinstance(config, getattr(options, name.title().replace("-", ""))))
    return importlib.import_module(f"jaxrnn.cli.{command.replace('-', '_')}").run(config, argv)


def _refuse(message: str) -> int:
    print(f"jaxrnn: error: {message}", file=sys.stderr)
    return 2
