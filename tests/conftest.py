"""Settings that jax reads when it is imported, so they are set before anything else; and the filter that they need."""

import os
import re
from pathlib import Path

_DEVICES = re.search(r"--xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
# LAPACK on several forced host devices deadlocks jax 0.10.0–0.11.0 on CPU unless NPROC is at least twice their number.
os.environ.setdefault("NPROC", str(2 * int(_DEVICES[1])) if _DEVICES else "4")
# Threads of OpenBLAS that wait for each other while other workers run made eigvals and svd of 100 × 100 ten times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

if os.environ["JAX_ENABLE_X64"] == "1":  # the tests of single precision have a run of their own
    collect_ignore = ["test_single_precision.py"]


def pytest_configure(config):
    # Two workers may race for one cache entry: who reads it half written compiles anew, and nothing is wrong.
    for verb in ("reading", "writing"):
        config.addinivalue_line("filterwarnings", f"ignore:Error {verb} persistent compilation cache entry:UserWarning")


_MAPS = Path("/proc/self/maps")
_tests_run = 0


def pytest_runtest_teardown():
    """Forget compiled programs before a process holds too many: Linux allows 65,530 mapped regions, and XLA dies at the next one."""
    global _tests_run
    _tests_run += 1
    if _tests_run % 20 == 0 and _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 25_000:
        import jax

        jax.clear_caches()
