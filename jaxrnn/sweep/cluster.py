"""Batches on the workers of a Dask cluster, what kills workers told apart from what does not."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jaxrnn.sweep.compute import Numbers, Work, compute

if TYPE_CHECKING:
    from distributed import Client

TRIES = 3  # workers that a task may kill before it is given up on


@contextlib.contextmanager
def connected(client: "Client | str | int") -> Iterator["Client"]:
    """A client: the one given, one of the scheduler at an address, or of so many workers started here and stopped at the end."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('a sweep over workers needs dask; install it with: pip install "jaxrnn[cluster]"', name=error.name) from error
    if isinstance(client, int):
        settings = {"distributed.scheduler.allowed-failures": TRIES - 1, "distributed.scheduler.worker-saturation": 1.0}
        with (
            dask.config.set(settings),
            LocalCluster(n_workers=client, threads_per_worker=1, processes=True, dashboard_address=":0", env=_ENVIRONMENT) as cluster,
            Client(cluster) as found,
        ):
            yield found
    elif isinstance(client, str):
        with Client(client) as found:
            yield found
    else:
        yield client


_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "NPROC": "2"}  # a worker is one of many on its machine


def remote(client: "Client", works: Sequence[Work]) -> Iterator[tuple[Work, Numbers, list[str | None]]]:
    """Every work with its results as they come; lost workers' work is done again elsewhere, points that kill them are given up on and told.

    A batch that is given up on is cut into its points; a point that is given up on beside others is tried again with nothing beside it, as
    a worker's death is blamed on all that it had.
    """
    from distributed import KilledWorker, as_completed

    submit = lambda work: client.submit(compute, work, pure=False)
    waiting = {submit(work): work for work in works}
    suspects: list[Work] = []
    arriving = as_completed(list(waiting))
    for future in arriving:
        work = waiting.pop(future)
        try:
            yield (work, *future.result())
        except KilledWorker:
            if len(work.names) == 1:
                suspects.append(work)
                continue
            for row in range(len(work.names)):
                again = submit(work.one(row))
                waiting[again] = work.one(row)
                arriving.add(again)
    for work in suspects:
        try:
            yield (work, *submit(work).result())
        except KilledWorker:
            yield work, {}, [f"KilledWorker: it ended {TRIES} workers, alone as well"]
