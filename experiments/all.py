"""Run every numbered script, each in a process of its own, and say what came of them.

python -m experiments.all --smoke
python -m experiments.all
"""

import argparse
import subprocess
import sys
import time

from experiments.reproduction import HERE, LIMIT

SCRIPTS = tuple(path.stem for path in sorted(HERE.glob("e[0-9][0-9]_*.py")))


def main(smoke: bool) -> int:
    """The number of scripts that did not end well."""
    outcomes = {}
    for name in SCRIPTS:
        print(f"\n== {name}", flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", f"experiments.{name}", *(["--smoke"] if smoke else [])]
        try:
            status = subprocess.run(command, cwd=HERE.parent, timeout=2 * 60 * LIMIT).returncode
        except subprocess.TimeoutExpired:
            status = f"gave up after {2 * LIMIT} minutes"
        outcomes[name] = (status, time.perf_counter() - started)
    print()
    for name, (status, seconds) in outcomes.items():
        print(f"{name:28s} {seconds:7.0f} s  {'ok' if status == 0 else f'failed: {status}'}")
    return sum(status != 0 for status, _ in outcomes.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny settings")
    sys.exit(min(main(parser.parse_args().smoke), 1))
