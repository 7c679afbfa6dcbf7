"""The command ``jaxrnn``: parse, call, save. Help and refused numbers come without importing JAX."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

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
    """Run the command; 0 whatever the verdict, 2 on bad input, 130 when interrupted, 143 when terminated, 1 where nobody reads what it prints."""
    argv = sys.argv[1:] if argv is None else argv
    # Read when LAPACK is loaded. Its calls here are many and small; its threads waiting for each other cost up to ten times.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without λ gets \\u03bb, not an end
    try:
        with _terminable():
            code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it can still be told that the disk is full, or that the reader has left
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, _Terminated) as stop:
        terminated = isinstance(stop, _Terminated)
        print(f"jaxrnn: {'terminated' if terminated else 'interrupted'}; a file is written whole or not at all", file=sys.stderr)
        return 143 if terminated else 130


def _run(argv: list[str]) -> int:
    """Parse and call; what is wrong with the input is said."""
    try:
        import jinja2  # noqa: F401
        import rich.console  # noqa: F401
        import tyro
    except ModuleNotFoundError as error:
        return _refuse(f"{_NEEDS} (missing: {error.name})")
    from jaxrnn.cli import options

    foreign = next((word for word in argv if any("\ud800" <= c <= "\udfff" for c in word)), None)
    if foreign is not None:
        return _refuse(f"{foreign!r} is not text in UTF-8; rename the file or folder")
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
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        return _refuse(f'{error}; install it with: pip install "jaxrnn[{extra}]"' if extra else f"{_NEEDS} (missing: {error.name})")
    except options.BadInput as error:
        return _refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = next(iter(str(error).strip().splitlines()), "no more could be had")
        lower = [options.flag(name) for name in ("hidden", "length", "lengths", "sequences", "batch", "batch_size") if hasattr(config, name)]
        return _refuse(f"out of memory ({said}); lower {' or '.join(lower) or 'the size of what was given'}")


class _Terminated(BaseException):
    """SIGTERM came: as with Ctrl-C, whoever has a file half written, workers or a display puts that in order first."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into ``_Terminated``, where this is the thread that hears it."""

    def stop(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
