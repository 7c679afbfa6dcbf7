import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import lyapunov
from tests.models import noise


def product(p, h, x):
    return x @ h


def draws(key, n, scale=0.5):
    """A source of independent Gaussian matrices."""
    return lambda start, count: scale * jax.random.normal(jax.random.fold_in(jax.random.key(key), start), (count, n, n))


@pytest.mark.slow
def test_it_stops_at_the_wanted_error_and_not_much_later():
    seen = []
    progress = lambda steps, exponents, errors: seen.append((steps, exponents.copy(), errors.copy()))
    found = lyapunov.until(product, (), jnp.ones(3), draws(0, 3), standard_error=0.01, stretch=256, progress=progress)
    assert found.converged
    assert (found.spectrum.standard_errors <= 0.01).all()
    steps = [s for s, *_ in seen]
    assert steps == list(range(256, found.steps + 1, 256))
    assert len(found.spectrum.block_steps) >= 32
    assert found.spectrum.block_steps.sum() == found.steps
    # The exact error falls as σ/√T; the run is within the granularity of its looks of where the error is reached.
    exact = np.array([np.sqrt(v / 4) for v in (0.9348, 1.6449, 4.9348)])  # √(ψ₁((n−i+1)/2) / 4), n = 3
    assert found.steps < 2 * (exact.max() / 0.01) ** 2


@pytest.mark.slow
def test_it_is_one_run_cut_into_stretches():
    xs = 0.5 * noise(1, (1000, 4, 4))
    found = lyapunov.until(product, (), jnp.ones(4), xs, standard_error=1e-9, warmup=100, stretch=160)
    assert not found.converged
    assert found.steps == 900
    whole = lyapunov.spectrum(product, (), jnp.ones(4), xs, warmup=100)
    np.testing.assert_allclose(found.spectrum.exponents, whole.exponents, rtol=1e-10)
    np.testing.assert_allclose(found.spectrum.frame, whole.frame, atol=1e-10)
    np.testing.assert_allclose(found.spectrum.state, whole.state, rtol=1e-12)
    # Batches of other lengths than the blocks of the long run: errors of one kind, within their own scatter.
    assert (np.abs(np.log(found.spectrum.standard_errors / whole.standard_errors)) < 0.8).all()


def test_an_autonomous_map_runs_as_long_as_it_is_let():
    logistic = lambda r, x, _: r * x * (1 - x)
    found = lyapunov.until(logistic, 4.0, jnp.array([0.3]), None, standard_error=1e-3, warmup=50, longest=40_000)
    assert abs(found.spectrum.exponents[0] - np.log(2)) < 4 * found.spectrum.standard_errors[0]
    assert found.steps <= 40_000


def test_a_standard_error_may_be_asked_of_some_exponents_only():
    loose = lyapunov.until(product, (), jnp.ones(3), draws(2, 3), standard_error=[0.03, np.inf, np.inf], stretch=256)
    tight = lyapunov.until(product, (), jnp.ones(3), draws(2, 3), standard_error=0.03, stretch=256)
    assert loose.converged
    assert tight.converged
    assert loose.steps <= tight.steps
    assert loose.spectrum.standard_errors[0] <= 0.03


def test_a_lost_direction_does_not_keep_it_from_ending():
    W = jnp.diag(jnp.array([1.0, 0.5, 0.0]))
    found = lyapunov.until(lambda p, h, x: jnp.exp(x) * (W @ h), (), jnp.ones(3), noise(3, (8192,)), standard_error=0.05)
    assert found.converged
    assert found.spectrum.exponents[2] == -np.inf
    assert found.spectrum.lost[2] > 0
    assert np.isnan(found.autocorrelation[2])


def test_a_nan_ends_the_run_and_is_told():
    xs = noise(4, (5000, 2, 2)).at[700].set(np.nan)
    found = lyapunov.until(product, (), jnp.ones(2), xs, standard_error=1e-6, stretch=320)
    assert not found.converged
    assert found.steps <= 960
    assert np.isnan(found.spectrum.exponents).any()


def test_correlated_growth_counts_for_less():
    a, length = 0.999, 2**15
    chain = np.zeros(length)
    pushes = np.sqrt(1 - a**2) * np.asarray(noise(5, (length,)))
    for t in range(1, length):
        chain[t] = a * chain[t - 1] + pushes[t]
    model = (lambda p, h, x: jnp.exp(x) * h, (), jnp.ones(1))
    found = lyapunov.until(*model, jnp.asarray(chain), standard_error=1e-9, stretch=length // 2)
    plain = lyapunov.spectrum(*model, jnp.asarray(chain), blocks=len(found.spectrum.block_steps))
    # τ = 2000 steps, batches of 1000: neighbours remember each other, plain batch means do not know it.
    means = found.spectrum.block_growth[:, 0] / found.spectrum.block_steps
    assert found.spectrum.standard_errors[0] > 1.2 * np.std(means, ddof=1) / np.sqrt(len(means))
    assert abs(found.spectrum.standard_errors[0] - plain.standard_errors[0]) < 1e-9
    assert found.autocorrelation[0] > 500


@pytest.mark.slow
def test_memory_on_the_host_stays_flat_and_no_step_is_dropped():
    found = lyapunov.until(product, (), jnp.ones(2), draws(6, 2), standard_error=1e-12, stretch=16, longest=16 * 200)
    assert found.steps == found.spectrum.block_steps.sum() == 3200
    assert len(found.spectrum.block_steps) < 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"standard_error": 0.0}, "must be positive"),
        ({"batches": 10}, "batches=10 must be at least 20"),
        ({"stretch": 0}, "stretch=0 must be at least 1"),
        ({"warmup": 60}, r"warmup=60 must be in \[0, 49\]"),
        ({"k": 3}, r"k=3 must be in \[1, 2\]"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lyapunov.until(product, (), jnp.ones(2), noise(7, (50, 2, 2)), **{"standard_error": 0.1} | options)


@pytest.mark.slow
def test_errors_stay_true_where_blocks_have_been_joined():
    # 16 blocks of 1 step a stretch: joined four times on the way to 20,000 steps.
    noises = lambda seed: lambda start, count: jnp.exp(jax.random.normal(jax.random.fold_in(jax.random.key(seed), start), (count, 1)))
    model = (lambda p, h, x: x * h, (), jnp.ones(1))
    runs = [lyapunov.until(*model, noises(seed), standard_error=1e-9, stretch=16 * 40, longest=16 * 40 * 70).spectrum for seed in range(30)]
    steps = np.asarray(runs[0].block_steps)
    assert len(set(steps[:-1])) == 1  # equal batches, but for what is left over
    assert steps[-1] <= 2 * steps[0]
    errors = np.array([run.standard_errors[0] for run in runs]) * np.sqrt(steps.sum())
    assert abs(errors.mean() - 1) < 0.2  # batches of independent numbers of sd 1, and √τ of their chance correlation


def test_lost_and_rounding_belong_to_their_exponents():
    xs = np.full((4096, 2), 0.9)
    xs[500, 0], xs[1500, 1] = 0, 0
    model = (lambda p, h, x: x * h, (), jnp.ones(2))
    found = lyapunov.until(*model, jnp.asarray(xs), standard_error=1e-3, frame=jnp.eye(2), dt=0.5)
    whole = lyapunov.spectrum(*model, jnp.asarray(xs), frame=jnp.eye(2), dt=0.5)
    assert found.spectrum.exponents[0] == -np.inf
    assert (found.spectrum.lost > 0).tolist() == np.isneginf(found.spectrum.exponents).tolist()
    assert np.isposinf(found.spectrum.rounding).tolist() == np.isneginf(found.spectrum.exponents).tolist()
    assert whole.exponents.tolist() == [-np.inf, -np.inf]
    growing = lyapunov.until(lambda a, h, x: a * h, jnp.array([0.5, 0.9]), jnp.ones(2), None, standard_error=1e-3, dt=0.01)
    once = lyapunov.spectrum(lambda a, h, x: a * h, jnp.array([0.5, 0.9]), jnp.ones(2), None, length=2048, dt=0.01)
    np.testing.assert_allclose(growing.spectrum.rounding, once.rounding, rtol=0.5)


def test_as_many_errors_as_exponents():
    with pytest.raises(ValueError, match=r"standard_error has shape \(3,\); allowed are a number and \(2,\)"):
        lyapunov.until(product, (), jnp.ones(2), draws(8, 2), standard_error=[0.1, 0.1, 0.1])
