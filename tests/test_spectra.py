import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import spectra
from tests.models import noise, relative

EPS = np.finfo(np.float64).eps


def similar_to(eigenvalues, seed=1):
    """A full matrix with these real eigenvalues: turned by a random rotation."""
    q = np.linalg.qr(np.asarray(noise(seed, (len(eigenvalues),) * 2)))[0]
    return jnp.asarray(q @ np.diag(eigenvalues) @ q.T)


def test_known_eigenvalues_come_largest_modulus_first():
    wanted = [-3.0, 2.0, -1.0, 0.5]
    found = spectra.eigenvalues(similar_to([0.5, 2.0, -3.0, -1.0]))
    assert np.abs(np.asarray(found) - np.array(wanted)).max() < 100 * EPS
    assert abs(spectra.spectral_radius(similar_to(wanted)) - 3) < 100 * EPS


def test_a_rotation_has_eigenvalues_on_the_circle():
    found = spectra.eigenvalues(2 * jnp.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]))
    assert np.abs(np.abs(found) - 2).max() < 10 * EPS
    assert np.abs(np.sort(np.angle(found)) - np.array([-0.3, 0.3])).max() < 10 * EPS


def test_known_singular_values_descend_also_of_rectangles():
    q, r = np.linalg.qr(np.asarray(noise(2, (4, 3))))[0], np.linalg.qr(np.asarray(noise(3, (3, 3))))[0]
    assert np.abs(spectra.singular_values(jnp.asarray(q @ np.diag([1.0, 5.0, 0.2]) @ r)) - np.array([5.0, 1.0, 0.2])).max() < 100 * EPS


def test_leading_axes_are_a_batch():
    matrices = noise(4, (2, 3, 4, 4))
    one = matrices[1, 2]
    assert relative(spectra.eigenvalues(matrices)[1, 2], spectra.eigenvalues(one)) < 100 * EPS
    assert relative(spectra.singular_values(matrices)[1, 2], spectra.singular_values(one)) < 100 * EPS
    assert spectra.spectral_radius(matrices).shape == (2, 3)
    assert relative(jax.vmap(spectra.spectral_radius)(matrices), spectra.spectral_radius(matrices)) < 100 * EPS


def test_a_one_by_one_matrix_is_its_own_eigenvalue():
    one = jnp.array([[-2.0]])
    assert (spectra.eigenvalues(one)[0], spectra.spectral_radius(one), spectra.singular_values(one)[0]) == (-2, 2, 2)


def test_a_nan_reaches_the_caller_and_spares_its_neighbours():
    matrices = noise(5, (2, 3, 3)).at[0, 1, 1].set(jnp.nan)
    for measure in (spectra.eigenvalues, spectra.spectral_radius, spectra.singular_values):
        found = measure(matrices)
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()


def test_float32_stays_float32():
    small = noise(6, (3, 3), np.float32)
    assert spectra.eigenvalues(small).dtype == np.complex64
    assert spectra.spectral_radius(small).dtype == spectra.singular_values(small).dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, 1e-30), (np.float32, 1e-13), (np.float32, 1e13), (np.float64, 1e150), (np.float64, 1e-150)],
)
def test_eigenvalues_of_very_large_and_very_small_matrices_are_right(dtype, scale):
    matrix = jnp.asarray(np.array([[1.0, 2.0], [3.0, 4.0]]) * scale, dtype)
    assert float(spectra.spectral_radius(matrix)) / scale == pytest.approx((5 + np.sqrt(33)) / 2, rel=1e-5)
