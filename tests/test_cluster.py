"""A sweep over Dask workers, real processes on this machine, is the sweep without them; workers that die take no point with them but their killer."""

import os
import re
import signal

import numpy as np
import pytest

from jaxrnn import sweep
from jaxrnn.sweep import cluster
from jaxrnn.sweep.compute import Work
from tests.test_sweep import points, rate

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")]


def test_two_workers_change_no_point(tmp_path):
    whole = sweep.run(rate, points(), batch_size=4)
    found = sweep.run(rate, points(), batch_size=4, client=2, store=tmp_path)
    np.testing.assert_array_equal(found.results["exponents"], whole.results["exponents"])
    np.testing.assert_array_equal(sweep.run(rate, points(), store=tmp_path, progress=pytest.fail).results["draw"], whole.results["draw"])


def dangerous(i):
    """Most points are harmless."""
    if i == 500:
        os.kill(os.getpid(), signal.SIGKILL)
    if i == 100:
        raise ValueError("no such point")
    return np.nan if i == 700 else np.sqrt(i)


def test_of_1000_points_one_raises_one_is_no_number_one_kills_its_worker_and_the_others_arrive(tmp_path):
    grid = sweep.grid(i=np.arange(1000))
    found = sweep.run(dangerous, grid, client=2, store=tmp_path, compiled=False)
    told = {failure.values["i"]: failure.message for failure in found.failures}
    assert told == {100: "ValueError: no such point", 500: "KilledWorker: it ended 3 workers, alone as well"}
    assert found.nonfinite == (700,)
    arrived = np.delete(np.arange(1000), [100, 500, 700])
    np.testing.assert_array_equal(found.results["result"][arrived], np.sqrt(arrived))


def test_a_batch_with_a_killer_in_it_loses_the_killer_alone():
    work = Work(kill_at_two, ("a", "b", "c", "d"), (), {"x": np.arange(4.0)}, 0, False)
    with cluster.connected(1) as client:
        found = {part.names: (numbers, messages) for part, numbers, messages in cluster.remote(client, [work])}
    assert found[("c",)] == ({}, ["KilledWorker: it ended 3 workers, alone as well"])
    assert [float(found[(name,)][0]["result"][0]) for name in "abd"] == [0.0, 1.0, 3.0]


def kill_at_two(x):
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.asarray(x)


def test_devices_belong_to_the_workers():
    with pytest.raises(ValueError, match="client and devices were both given"):
        sweep.run(rate, points(), client=1, devices=[])


def test_kills_of_the_process_and_of_a_worker_lose_nothing(capsys):
    from experiments import sweep_kills

    sweep_kills.main(sweep_kills.FEW)
    lines = capsys.readouterr().out.splitlines()
    assert re.match("[12] kills of the process: the same bits, 80 of 80 points, 0 in two parts, 0 damaged", lines[0])
    assert "kills of workers: the same bits, 80 of 80 points, 0 in two parts, 0 damaged" in lines[1]
    assert lines[2].startswith(
        "a changed byte: 1 part put aside, 78 points left; and again: the same bits, 80 of 80 points, 0 in two parts, 0 damaged"
    )
