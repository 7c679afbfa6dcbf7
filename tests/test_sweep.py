"""A sweep is the loop over its points: whatever the batches, the other points, the devices and the interruptions."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells, lyapunov, sweep
from jaxrnn.store import Store

GAINS = np.linspace(0.5, 2.0, 5)


def rate(gain, input_sd, n, key):
    """λ₁ of a random network under white noise."""
    draw = jax.random.normal(key, (n, n)) * gain / np.sqrt(n)
    xs = input_sd * jax.random.normal(jax.random.fold_in(key, 1), (40, n))
    found = lyapunov.spectrum(lambda W, h, x: jnp.tanh(W @ h + x), draw, jnp.zeros(n), xs, k=2, warmup=10)
    return {"exponents": found.exponents, "draw": jax.random.normal(key)}


def points(**more):
    return sweep.grid(**{"gain": GAINS, "input_sd": np.array([0.1, 1.0]), "n": (3, 5)} | more)


@pytest.fixture(scope="module")
def whole():
    return sweep.run(rate, points(), batch_size=4)


def test_a_sweep_is_the_loop_over_its_points(whole):
    for i in (0, 7, 19):
        alone = sweep.run(rate, sweep.Grid(whole.grid.axes, whole.grid.index[i : i + 1]), batch_size=1)
        np.testing.assert_allclose(whole.results["exponents"][i], alone.results["exponents"][0], rtol=1e-10)
        assert whole.results["draw"][i] == alone.results["draw"][0]
    assert whole.shaped("exponents").shape == (5, 2, 2, 2)
    assert whole.failures == whole.nonfinite == ()
    assert whole.shaped("exponents")[-1, 0].mean() > whole.shaped("exponents")[0, 0].mean()


@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_size_of_the_batches_changes_no_point(size, whole):
    found = sweep.run(rate, points(), batch_size=size).results
    np.testing.assert_array_equal(found["draw"], whole.results["draw"])
    np.testing.assert_allclose(found["exponents"], whole.results["exponents"], rtol=1e-10)


def test_other_values_on_an_axis_or_another_order_of_axes_change_no_point(whole):
    more = sweep.run(rate, points(gain=np.append(GAINS, 3.0)), batch_size=4)
    np.testing.assert_array_equal(more.shaped("exponents")[:5], whole.shaped("exponents"))
    turned = sweep.grid(n=(3, 5), input_sd=np.array([0.1, 1.0]), gain=GAINS)
    assert set(turned.names()) == set(points().names())


def test_traced_axes_share_a_compilation_and_static_ones_do_not():
    traces = []

    def count(gain, n):
        traces.append(n)
        return gain * jnp.ones(n).sum()

    sweep.run(count, sweep.grid(gain=np.linspace(0, 1, 50), n=(1, 2, 3)), batch_size=8)
    assert sorted(traces) == [1, 2, 3]


def test_an_axis_may_hold_arrays():
    found = sweep.run(lambda w: w @ w, sweep.grid(w=np.arange(6.0).reshape(3, 2)))
    assert found.results["result"].tolist() == [1.0, 13.0, 41.0]


def test_labelled_results_know_their_axes_and_units(whole):
    data = whole.to_xarray({"exponents": "nats per step"})
    assert data["exponents"].dims == ("gain", "input_sd", "n", "exponents_0")
    assert data["exponents"].attrs["units"] == "nats per step"
    picked = data["exponents"].sel(gain=GAINS[2], input_sd=1.0, n=5)
    np.testing.assert_array_equal(picked, whole.shaped("exponents")[2, 1, 1])


def test_filters_leave_points_out():
    kept = points().where(lambda gain, input_sd, n: gain > 1 and n == 3)
    assert len(kept) == 6
    assert np.isnan(sweep.run(rate, kept).shaped("exponents")[0]).all()


def test_points_at_random_lie_in_their_ranges_and_stay_where_more_are_asked_for():
    few, many = (sweep.random(size, seed=3, gain=(0.5, 2.0), n=[3, 5]) for size in (10, 1000))
    assert [few[i] for i in range(10)] == [many[i] for i in range(10)]
    gains = many.axes["gain"]
    assert 0.5 <= gains.min() < 0.51
    assert 1.99 < gains.max() < 2.0
    assert 400 < sum(many[i]["n"] == 3 for i in range(1000)) < 600


class Told(Exception):
    pass


def refuse(gain):
    if gain > 1.9:
        raise Told("no such gain\nand more")
    return np.asarray(gain)


def by_the_host(gain):
    return jnp.where(gain < 0.6, jnp.nan, jax.pure_callback(refuse, jax.ShapeDtypeStruct((), gain.dtype), gain, vmap_method="sequential"))


@pytest.mark.parametrize("compiled", [True, False])
def test_a_point_that_raises_and_one_without_a_number_are_listed_and_the_others_arrive(compiled, tmp_path):
    found = sweep.run(by_the_host, sweep.grid(gain=GAINS), batch_size=3, compiled=compiled, store=str(tmp_path / "store"))
    np.testing.assert_array_equal(found.results["result"], [np.nan, *GAINS[1:4], np.nan])
    assert found.nonfinite == (0,)
    [failure] = found.failures
    assert failure.values == {"gain": 2.0}
    assert "no such gain" in failure.message or "callback" in failure.message
    assert Store(tmp_path / "store", sweep.about(by_the_host, sweep.grid(gain=GAINS))).failures() == [failure]


def test_what_cannot_be_traced_fails_with_its_message_once():
    calls = []

    def untraceable(gain):
        calls.append(1)
        return float(gain)

    found = sweep.run(untraceable, sweep.grid(gain=GAINS))
    assert len(found.failures) == 5
    assert "ConcretizationTypeError" in found.failures[0].message
    assert len(calls) <= 6
    assert sweep.run(untraceable, sweep.grid(gain=GAINS), compiled=False).results["result"].tolist() == GAINS.tolist()


def test_an_interrupted_sweep_goes_on_with_what_is_missing(tmp_path, whole):
    class Stop(Exception):
        pass

    def stop(done, total, failed):
        assert (total, failed) == (20, 0)
        if done >= 8:
            raise Stop

    with pytest.raises(Stop):
        sweep.run(rate, points(), batch_size=4, store=str(tmp_path), progress=stop)
    computed = []
    found = sweep.run(rate, points(), batch_size=4, store=str(tmp_path), progress=lambda *counts: computed.append(counts))
    assert [done for done, *_ in computed] == [10, 14, 18, 20] or computed[-1] == (20, 20, 0)
    np.testing.assert_array_equal(found.results["exponents"], whole.results["exponents"])
    assert sweep.run(rate, points(), store=str(tmp_path), progress=pytest.fail).results["draw"].tolist() == whole.results["draw"].tolist()


def test_a_store_of_another_point_is_refused(tmp_path):
    sweep.run(lambda gain: gain, sweep.grid(gain=GAINS), store=str(tmp_path))
    with pytest.raises(ValueError, match="holds results of something else: code was"):
        sweep.run(lambda gain: 2 * gain, sweep.grid(gain=GAINS), store=str(tmp_path))


def test_a_suggested_size_is_one_that_was_measured():
    assert sweep.suggest_batch_size(rate, points(), sizes=(1, 4)) in (1, 4)


BAD = {
    "no axis": (lambda: sweep.grid(), "needs at least one axis"),
    "no values": (lambda: sweep.grid(gain=[]), "axis gain has no values"),
    "twice": (lambda: sweep.grid(gain=np.array([1.0, 1.0])), "axis gain has a value twice"),
    "key": (lambda: sweep.grid(key=[1]), "no axis may be called key"),
    "nameless function": (lambda: sweep.grid(cell=[lambda: 0]), "has no name that another process could know"),
    "nameless object": (lambda: sweep.grid(cell=[object()]), "another one in every process"),
    "no points": (lambda: sweep.random(0, gain=(0.0, 1.0)), "points=0"),
    "other names": (lambda: sweep.run(rate, sweep.grid(gain=GAINS)), "the axes are gain, and point takes gain, input_sd, n, key"),
    "batches of none": (lambda: sweep.run(rate, points(), batch_size=0), "batch_size=0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_grids_are_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_cells_are_values_of_a_static_axis():
    def norm(cell, gain, key):
        made = cell(2, 3)
        return jnp.abs(made.init_params(key, gain=gain)["W_hh"]).max()

    found = sweep.run(norm, sweep.grid(cell=(cells.vanilla, cells.gru), gain=np.array([1.0, 2.0])))
    assert (found.shaped("result")[:, 1] > found.shaped("result")[:, 0]).sum() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_devices_change_no_point(count, whole):
    script = f"""
        import jax, numpy as np
        from jaxrnn import sweep
        from tests.test_sweep import points, rate
        assert len(jax.devices()) == {count}
        found = sweep.run(rate, points(), batch_size=4, devices=jax.devices())
        print(found.results["exponents"].tobytes().hex())
    """
    env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "NPROC": str(2 * count)}
    env["PYTHONPATH"] = str(Path(jaxrnn.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.frombuffer(bytes.fromhex(done.stdout.strip())).reshape(20, 2), whole.results["exponents"], rtol=1e-10)


def test_a_median_beyond_what_was_measured_is_marked_on_the_upper_edge():
    from jaxrnn import plots

    ax = plots.sweep_lines([0.0, 1.0, 2.0], [[[1.0, 2.0], [3.0, np.inf], [np.inf, np.inf]]])
    told = [line for line in ax.lines if line.get_label() == "median beyond what was measured"]
    assert [line.get_xdata().tolist() for line in told] == [[2.0]]


def test_a_grid_is_every_combination_the_last_varying_fastest_and_not_more_than_fit():
    found = sweep.grid(a=[1, 2], b=[3], c=[4, 5, 6])
    assert found.index.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 0], [1, 0, 1], [1, 0, 2]]
    with pytest.raises(ValueError, match=r"the axes have 10000 × 10000 combinations; at most 10000000 are a grid"):
        sweep.grid(a=np.arange(10_000), b=np.arange(10_000))
