"""How far from normal is a matrix, and what does it do before its eigenvalues rule."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import compiled, require_at
from jaxrnn._frames import rescale
from jaxrnn.spectra.lapack import as_complex, require_square, schur_form
from jaxrnn.spectra.values import spectral_radius


@jax.jit
def henrici(matrices: Array) -> Array:
    """Henrici's departure from normality of matrices (..., n, n), relative to the Frobenius norm, as (...).

    ‖N‖_F / ‖A‖_F, N the strictly upper triangle of a Schur form A = U (Λ + N) Uᴴ: √(1 − Σ|λ_i|² / ‖A‖_F²), 0 for a normal
    matrix and 1 for a nilpotent one. Read off the Schur form itself: the difference of squares loses half the digits.

    Raises:
        ValueError: if the last two axes differ.

    Cost: one Schur decomposition each, O(n³) in LAPACK, the host's as for ``eigenvalues``.

    Source: Henrici 1962; Trefethen, Embree 2005, chapter 48.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> [round(float(d), 6) for d in spectra.henrici(jnp.array([[[0., 1.], [-1., 0.]], [[0., 1.], [0., 0.]]]))]
    [0.0, 1.0]
    """
    matrices = require_square(matrices)
    largest = jnp.max(jnp.abs(matrices), axis=(-2, -1), keepdims=True)
    scaled = matrices / jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    schur = schur_form(scaled)
    size = jnp.linalg.norm(schur, axis=(-2, -1))
    return jnp.linalg.norm(jnp.triu(schur, 1), axis=(-2, -1)) / jnp.where(size == 0, 1, size)


@compiled("batch")
def pseudospectrum(matrix: Array, points: Array, *, batch: int = 32) -> Array:
    """Smallest singular values of z I − A at points z of the plane: z lies in the ε-pseudospectrum where it is below ε.

    σ_min(z I − A) = 1 / ‖(z I − A)⁻¹‖₂ = the smallest ‖E‖₂ for which z is an eigenvalue of A + E.

    Args:
        matrix: A (n, n).
        points: z, complex of any shape, e.g. a grid.
        batch: how many are decomposed side by side.

    Returns:
        Real, of the shape of ``points``.

    Raises:
        ValueError: A is not square.

    Cost: a Schur form, then one SVD of a triangular matrix per point, O(n³) each.

    Source: Trefethen, Embree 2005, chapter 39.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> [round(float(s), 4) for s in spectra.pseudospectrum(jnp.diag(jnp.array([1.0, 3.0])), jnp.array([1.0, 1.5, 2.0 + 1.0j]))]
    [0.0, 0.5, 1.4142]
    """
    matrix = require_square(matrix)
    schur = schur_form(matrix)
    eye = jnp.eye(matrix.shape[-1], dtype=schur.dtype)
    smallest = lambda z: jnp.linalg.svd(z * eye - schur, compute_uv=False)[-1]
    points = as_complex(jnp.asarray(points)).astype(schur.dtype)
    return jax.lax.map(smallest, points.ravel(), batch_size=batch).reshape(points.shape)


@compiled("angles", "radii", "rounds")
def kreiss(matrix: Array, *, angles: int = 48, radii: int = 24, rounds: int = 6) -> Array:
    """The Kreiss constant K(A) = sup_{|z| > 1} (|z| − 1) ‖(z I − A)⁻¹‖₂: how far powers of A grow before they decay.

    K ≤ sup_k ‖Aᵏ‖₂ ≤ e n K. It is 1 for a normal matrix of spectral radius below 1, and infinite where ρ(A) > 1.

    Args:
        matrix: A (n, n).
        angles, radii: size of the grid of z, |z| − 1 spaced evenly in logs from 1e-6 to 10 (1 + ‖A‖).
        rounds: how often the grid is drawn again, four times finer, around its best point.

    Returns:
        Scalar: the largest value found, a lower bound that the refinement makes tight where the grid met the right hill; NaN
        where the matrix is not finite.

    Raises:
        ValueError: A is not square, or a size of the grid is below its least.

    Cost: angles · radii · (rounds + 1) singular value decompositions, O(n³) each.

    Source: Kreiss 1962; Trefethen, Embree 2005, chapter 18.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> round(float(spectra.kreiss(jnp.diag(jnp.array([0.9, -0.5])))), 3)
    1.0
    """
    matrix = require_square(matrix)
    for name, size, least in (("angles", angles, 4), ("radii", radii, 4), ("rounds", rounds, 0)):
        require_at(name, size, least, None, "a size of the grid")
    radius = spectral_radius(matrix)
    real = radius.dtype
    low, high = jnp.log(jnp.asarray(1e-6, real)), jnp.log(10 * (1 + jnp.linalg.norm(matrix))).astype(real)
    across, around = jnp.linspace(-1, 1, radii, dtype=real), jnp.linspace(-1, 1, angles, dtype=real)

    def look(carry: tuple, _: None) -> tuple[tuple, None]:
        best, log_r, angle, half_r, half_a = carry
        r, a = jnp.meshgrid(jnp.clip(log_r + half_r * across, low, high), angle + half_a * around)
        z = jax.lax.complex((1 + jnp.exp(r)) * jnp.cos(a), (1 + jnp.exp(r)) * jnp.sin(a))
        sigma = pseudospectrum(matrix, z)
        value = jnp.exp(r) / sigma
        at = jnp.argmax(value)
        better = value.ravel()[at] > best
        pick = lambda new, old: jnp.where(better, new.ravel()[at], old)
        return (pick(value, best), pick(r, log_r), pick(a, angle), half_r / 4, half_a / 4), None

    start = (jnp.ones((), real), (low + high) / 2, jnp.zeros((), real), (high - low) / 2, jnp.asarray(jnp.pi, real))
    best = jax.lax.scan(look, start, None, length=rounds + 1)[0][0]
    outside = radius > 1 + 16 * matrix.shape[0] * jnp.finfo(real).eps  # by more than the rounding of an eigenvalue
    found = jnp.where(outside, jnp.inf, best)  # |z| → ∞ gives the 1 that the search starts from
    return jnp.where(jnp.isnan(radius), jnp.nan, found)


@compiled("length")
def transient_growth(matrix: Array, *, length: int) -> Array:
    """log‖Aᵏ‖₂ for k = 0..length, nats: what a constant Jacobian does before its eigenvalues rule.

    Args:
        matrix: A (n, n).
        length: the largest power.

    Returns:
        (length + 1,); −inf from where A^k is zero. Nothing over- or underflows on the way.

    Raises:
        ValueError: A is not square, or length below 1.

    Cost: a product and an SVD per power, O(length n³).

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> growth = spectra.transient_growth(jnp.array([[0.9, 10.0], [0.0, 0.9]]), length=80)
    >>> int(growth.argmax()), round(float(jnp.exp(growth.max())), 3), int(jnp.argmax(growth < 0))
    (9, 38.746, 63)
    """
    matrix = require_square(matrix)
    require_at("length", length, 1, None, "the largest power")

    def body(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        power, log = carry
        power, grown = rescale(matrix @ power, (0, 1))
        log = log + grown
        sigma = jnp.linalg.svd(power, compute_uv=False)[0]
        return (power, log), log + jnp.where(log == -jnp.inf, 0, jnp.log(jnp.where(sigma == 0, 1, sigma)))

    unit, log = rescale(jnp.eye(matrix.shape[0], dtype=matrix.dtype), (0, 1))
    _, growth = jax.lax.scan(body, (unit, log), None, length=length)
    return jnp.concatenate([jnp.zeros(1, growth.dtype), growth])
