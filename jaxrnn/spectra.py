"""Eigenvalues and singular values of Jacobians and of their products, and how far from normal they are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._border import compiled, require_at, require_jacobians
from jaxrnn._frames import orthonormalise, rescale


class ProductSingularValues(NamedTuple):
    """Singular values of a product of matrices."""

    logs: Array  # (n,) log σ_i(J_T ⋯ J_1), nats, descending; −inf where the product is singular
    change: Array  # (n,) by how much the last sweep changed each, nats: a measure of what is still wrong


@jax.jit
def eigenvalues(matrices: Array) -> Array:
    """Eigenvalues of square matrices, largest modulus first.

    Args:
        matrices: (..., n, n), for instance ``linearize.jacobians``.

    Returns:
        (..., n) complex, by descending modulus.

    Raises:
        ValueError: if the last two axes differ.

    Cost: O(n³) each, one LAPACK call per matrix (about 80 ms at n = 256): stride over time where T is long. They say
    nothing of a product of different matrices (see the README's counterexamples). NaN where a matrix is not finite.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> print(abs(spectra.eigenvalues(jnp.array([[0., 4.], [-1., 0.]]))).round(5))
    [2. 2.]
    """
    matrices = _require_square(matrices)
    largest = jnp.max(jnp.abs(matrices), axis=(-2, -1), keepdims=True)
    # LAPACK rescales very large and very small matrices, and jax 0.10 does not undo it (float32: beyond about 1e±12).
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    values = jnp.linalg.eigvals(matrices / scale)
    values = values * scale[..., 0].astype(values.dtype)
    order = jnp.argsort(-jnp.abs(values), axis=-1)
    return jnp.take_along_axis(values, order, -1)


@jax.jit
def spectral_radius(matrices: Array) -> Array:
    """ρ = max|eigenvalue| of square matrices (..., n, n), as (...); cost and caveats as ``eigenvalues``.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> float(spectra.spectral_radius(jnp.diag(jnp.array([-3., 2.]))))
    3.0
    """
    return jnp.abs(eigenvalues(matrices))[..., 0]


@jax.jit
def singular_values(matrices: Array) -> Array:
    """Singular values of matrices (..., m, n), descending, as (..., min(m, n)).

    Cost: O(n³) each, one LAPACK call per matrix. Not for explicit products of many factors: the small ones drown.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> [round(float(s), 6) for s in spectra.singular_values(jnp.array([[0., 4.], [-1., 0.]]))]
    [4.0, 1.0]
    """
    return jnp.linalg.svd(jnp.asarray(matrices), compute_uv=False)


@compiled("sweeps")
def product_log_singular_values(jacobians: Array, *, sweeps: int = 3) -> ProductSingularValues:
    """All singular values of the product J_T ⋯ J_1 in logs, the small ones too, at any T.

    J_t Q_{t−1} = Q_t R_t from Q_0 = V: where V holds the right singular vectors, the product of the triangular R_t is
    diagonal, so log σ_i = Σ_t ln|R_t,ii|. V comes from the singular value decomposition of the rescaled product, which
    is right as far as rounding carries, and then from ``sweeps`` passes back with J_tᵀ and forth again: each multiplies
    what is wrong between i and j by (σ_j/σ_i)². The product itself would overflow or drown its small directions.

    Args:
        jacobians: (T, n, n) real, J_t at index t − 1.
        sweeps: passes back and forth, at least 1.

    Returns:
        ``ProductSingularValues``.

    Raises:
        ValueError, TypeError: on shapes other than (T, n, n) with T ≥ 1, and on dtypes that are not real floats.

    Cost: (1 + 2·sweeps) passes of T products and T QR decompositions, O(sweeps T n³); memory that of the Jacobians.
    Singular values that lie close together converge slowly, but their sum and their size do not suffer: ``change``
    tells.

    Source: the product eigenvalue problem, e.g. Golub, Sølna, Van Dooren 2000; for long-time singular values of
    trajectories, Dieci, Elia 2008.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> found = spectra.product_log_singular_values(jnp.tile(jnp.array([[0.5, 1.0], [0.0, 0.01]]), (400, 1, 1)))
    >>> [round(float(v) / 400, 3) for v in found.logs]  # their sum is ln det = 400 ln 0.005; float64 ends at e^−745
    [-0.691, -4.607]
    """
    jacobians = require_jacobians(jacobians)
    require_at("sweeps", sweeps, 1, None, "the number of passes back and forth")
    n = jacobians.shape[1]
    product, _ = jax.lax.scan(lambda p, j: (rescale(j @ p, (0, 1))[0], None), jnp.eye(n, dtype=jacobians.dtype), jacobians)
    start = jnp.linalg.svd(product)[2].T

    def push(frame: Array, matrices: Array) -> tuple[Array, Array]:
        """The frame at the end and its log growth on the way."""

        def body(carry: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], None]:
            done = orthonormalise(j @ carry[0])
            return (done.frame, carry[1] + done.log_growth), None

        return jax.lax.scan(body, (frame, jnp.zeros(n, frame.dtype)), matrices)[0]

    def sweep(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        frame, logs, _before = carry
        back = push(frame, jnp.swapaxes(jacobians[::-1], 1, 2))[0]
        frame, new = push(back, jacobians)
        return (frame, new, logs), None

    frame, logs = push(start, jacobians)
    (_, logs, before), _ = jax.lax.scan(sweep, (frame, logs, logs), None, length=sweeps)
    order = jnp.argsort(-logs)
    same = logs == before  # also −inf, whose difference would be NaN
    change = jnp.where(same, 0, jnp.abs(logs - jnp.where(same, 0, before)))
    return ProductSingularValues(logs[order], change[order])


@jax.jit
def henrici(matrices: Array) -> Array:
    """Henrici's departure from normality of matrices (..., n, n), relative to the Frobenius norm, as (...).

    ‖N‖_F / ‖A‖_F, N the strictly upper triangle of a Schur form A = U (Λ + N) Uᴴ: √(1 − Σ|λ_i|² / ‖A‖_F²), 0 for a normal
    matrix and 1 for a nilpotent one. Read off the Schur form itself: the difference of squares loses half the digits.

    Raises:
        ValueError: if the last two axes differ.

    Cost: one Schur decomposition each, O(n³) in LAPACK: on the CPU only.

    Source: Henrici 1962; Trefethen, Embree 2005, chapter 48.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> [round(float(d), 6) for d in spectra.henrici(jnp.array([[[0., 1.], [-1., 0.]], [[0., 1.], [0., 0.]]]))]
    [0.0, 1.0]
    """
    matrices = _require_square(matrices)
    largest = jnp.max(jnp.abs(matrices), axis=(-2, -1), keepdims=True)
    scaled = matrices / jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    schur = _complex_schur(scaled)
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
    matrix = _require_square(matrix)
    schur = _complex_schur(matrix)
    eye = jnp.eye(matrix.shape[-1], dtype=schur.dtype)
    smallest = lambda z: jnp.linalg.svd(z * eye - schur, compute_uv=False)[-1]
    points = _complex(jnp.asarray(points)).astype(schur.dtype)
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
        Scalar: the largest value found, a lower bound that the refinement makes tight where the grid met the right hill.

    Raises:
        ValueError: A is not square, or a size of the grid is below its least.

    Cost: angles · radii · (rounds + 1) singular value decompositions, O(n³) each.

    Source: Kreiss 1962; Trefethen, Embree 2005, chapter 18.

    >>> import jax.numpy as jnp
    >>> from jaxrnn import spectra
    >>> round(float(spectra.kreiss(jnp.diag(jnp.array([0.9, -0.5])))), 3)
    1.0
    """
    matrix = _require_square(matrix)
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
    return jnp.where(outside, jnp.inf, best)  # |z| → ∞ gives the 1 that the search starts from


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
    matrix = _require_square(matrix)
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


def _complex_schur(matrices: Array) -> Array:
    """Upper triangular T of A = U T Uᴴ."""
    return jax.lax.linalg.schur(_complex(matrices), compute_schur_vectors=False)[0]


def _complex(values: Array) -> Array:
    """The same numbers as complex ones of the same precision."""
    values = values if jnp.issubdtype(values.dtype, jnp.inexact) else values.astype(jnp.float32)
    return values if jnp.iscomplexobj(values) else jax.lax.complex(values, jnp.zeros_like(values))


def _require_square(matrices: Array) -> Array:
    matrices = jnp.asarray(matrices)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"matrices have shape {matrices.shape}; the last two axes must be equal (..., n, n)")
    return matrices
