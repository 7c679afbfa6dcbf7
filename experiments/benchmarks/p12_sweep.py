"""P12: what does it cost to keep a sweep, and what do two workers bring?

1,000 points (λ₁ of a driven tanh network) by ``sweep.run`` into a store beside the same batches under ``jax.vmap`` alone, at most 1.1 times its
time; and points of at least 0.1 s by two Dask workers of one thread each beside one such worker, at least 1.6 times as fast, and beside this process
with all its threads. What the machine itself gives is measured in the same rounds: the same batches by two bare processes, no Dask, no messages,
beside one; and two alternatives: fewer, larger tasks, and more of them.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile

import jax
import numpy as np
from harness import arguments, claim, interleave, report, require, save, seconds

from jaxrnn import sweep
from jaxrnn.sweep.compute import bits, compute
from jaxrnn.sweep.ready import phase_diagram
from jaxrnn.sweep.run import works

jax.config.update("jax_enable_x64", True)


def alone(plan, size):
    """The batches of a sweep under vmap, nothing kept: their inputs made beforehand, a function that runs them."""
    batches = [(work.traced, np.stack([bits(name) for name in work.names])) for work in split(plan, size)]
    static = dict(next(split(plan, size)).static)
    program = jax.jit(jax.vmap(lambda traced, bits: plan.point(**traced, **static, key=jax.random.wrap_key_data(bits))))
    return lambda: np.concatenate([program(*batch)["exponent"] for batch in batches])


def split(plan, size):
    return works(plan.point, plan.grid, plan.grid.names(), range(len(plan.grid)), size, True)


def kept(plan, size):
    """The sweep into a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return sweep.run(plan.point, plan.grid, batch_size=size, store=folder).results["exponent"]


def of_a_store(plan, size, rounds):
    answers = {}
    timings = interleave({"jaxrnn": lambda: kept(plan, size), "vmap alone": alone(plan, size)}, rounds, answers=answers)
    checks = require({"largest difference": float(np.abs(answers["jaxrnn"] - answers["vmap alone"]).max())}, {"largest difference": 0.0})
    setting = f"{len(plan.grid):,} points with a store"
    return {"setting": setting, "seconds": seconds(timings), "claims": [claim(timings, "vmap alone", 1.1, at_most=True)], "checks": checks}


ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}


def bare(share):
    """One process's share of the batches, computed in turn; what comes back is small."""
    jax.config.update("jax_enable_x64", True)
    return [compute(work)[0] for work in share]


@contextlib.contextmanager
def processes(count):
    """So many processes of one thread each, without Dask."""
    kept = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)  # read when a process starts
    try:
        with concurrent.futures.ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def of_workers(plan, rounds, size=1):
    from distributed import Client, LocalCluster

    run = lambda **how: sweep.run(plan.point, plan.grid, batch_size=size, **how).results["exponent"]
    start = lambda count: LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0", env=ONE_THREAD)
    works_of = list(split(plan, size))
    halves = [works_of[::2], works_of[1::2]]
    with contextlib.ExitStack() as stack:
        two, one = (stack.enter_context(Client(stack.enter_context(start(count)))) for count in (2, 1))
        for client in (two, one):  # every worker compiles before anything is timed
            for address in client.scheduler_info()["workers"]:
                client.submit(compute, works_of[0], workers=[address], pure=False).result()
        pair, single = (stack.enter_context(processes(count)) for count in (2, 1))
        for pool in (pair, single):
            list(pool.map(bare, [works_of[:2]] * 4))
        answers = {}
        ways = {
            "jaxrnn": lambda: run(client=two), "one worker": lambda: run(client=one), "this process": run,
            "two bare processes": lambda: list(pair.map(bare, halves)), "one bare process": lambda: list(single.map(bare, [works_of])),
        }  # fmt: skip
        timings = interleave(ways, rounds, answers=answers)
    checks = require({"largest difference": float(np.abs(answers["jaxrnn"] - answers["one worker"]).max())}, {"largest difference": 0.0})
    each = timings["one worker"].median / len(plan.grid)
    setting = f"2 workers, {len(plan.grid)} points of {each:.2f} s in batches of {size}"
    ceiling = claim(timings, "one bare process", None, ours="two bare processes")
    claims = [claim(timings, "one worker", 1.6), claim(timings, "this process", None), claim(timings, "two bare processes", None, at_most=True)]
    checks["what two bare processes gain over one, the machine's ceiling"] = (
        f"{ceiling['ratio']:.2f} ({ceiling['quartiles'][0]:.2f} to {ceiling['quartiles'][1]:.2f})"
    )
    return {"setting": setting, "seconds": seconds(timings), "claims": claims, "checks": checks}


def main(given):
    small, large = (dict(n=4, length=20), dict(n=4, length=50)) if given.smoke else (dict(n=32, length=1000), dict(n=200, length=12000))
    points = dict(gains=2, inputs=2, seeds=2) if given.smoke else dict(gains=20, inputs=10, seeds=5)
    few = dict(gains=2, inputs=2, seeds=2) if given.smoke else dict(gains=6, inputs=2, seeds=2)
    many = few if given.smoke else dict(gains=9, inputs=2, seeds=2)
    rows = [
        of_a_store(phase_diagram(**small, **points), 4 if given.smoke else 50, given.rounds),
        of_workers(phase_diagram(**large, **few), given.rounds),
        of_workers(phase_diagram(**large, **few), given.rounds, size=2 if given.smoke else 6),
        of_workers(phase_diagram(**large, **many), given.rounds),
    ]
    report(rows)
    save("p12_sweep", rows, given, ("dask", "distributed"))


if __name__ == "__main__":
    main(arguments(__doc__.partition("\n")[0]))
