"""An independent implementation of the same recursion gives the same exponents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import lyapunov
from tests.models import noise

lyapax = pytest.importorskip("lyapax")


def tanh_step(weights, h, x):
    return jnp.tanh(weights @ h)


def tanh_net(n, k, gain=2.0):
    """Weights, a state that has left its beginning behind, an orthonormal frame."""
    weights = jnp.asarray(gain * noise(1, (n, n)) / np.sqrt(n))
    h = noise(2, (n,))
    for _ in range(50):
        h = np.tanh(np.asarray(weights) @ h)
    return weights, jnp.asarray(h), jnp.asarray(np.linalg.qr(noise(3, (n, k)))[0])


def theirs(weights, state, frame, length, qr_every):
    """Lyapax, started from a state and a frame through its checkpoint; it multiplies integers by floats, which strict promotion refuses."""
    k = frame.shape[1]
    with jax.numpy_dtype_promotion("standard"):
        start = lyapax.LyapunovCheckpoint(state, frame, jnp.zeros(k), 0.0, 1.0)
        run = lambda h: tanh_step(weights, h, None)
        return lyapax.lyapunov_spectrum(run, state, 1.0, length, renorm_every=qr_every, resume=start)


# λ₁ ≈ 0.1 to 0.15: the rounding of one step grows to 1e-16 · e^(0.15 · 100) = 3e-10 in the state, a hundredth of it in a mean of 100 logs.
@pytest.mark.parametrize(("n", "k", "length", "qr_every"), [(16, 16, 100, 1), (32, 32, 60, 1), (48, 8, 100, 5), (64, 1, 100, 1)])
def test_exponents_from_the_same_state_and_frame_are_those_of_lyapax(n, k, length, qr_every):
    weights, state, frame = tanh_net(n, k)
    ours = lyapunov.spectrum(tanh_step, weights, state, None, length=length, frame=frame, qr_every=qr_every)
    other = theirs(weights, state, frame, length, qr_every)
    np.testing.assert_allclose(ours.exponents, other.exponents, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.state, other.checkpoint.state, rtol=0, atol=1e-8)
