"""The unitary recurrence of complex numbers: its matrix a product of cheap factors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import initializers
from jaxrnn.cells.orthogonal import modrelu
from jaxrnn.cells.protocol import Cell, PyTree, require_sizes
from jaxrnn.cells.registry import register


@register(
    equation="h_t = modReLU(D_3 R_2 F⁻¹ D_2 Π R_1 F D_1 h_{t−1} + V x_t, b), complex, y_t = W_o (Re h, Im h) + b_o",
    source="Arjovsky, Shah, Bengio 2016 (uRNN)",
)
def urnn(n_in: int, n_hidden: int) -> Cell:
    """The unitary evolution recurrence: phases, reflections, a permutation and Fourier transforms.

    h_t = modReLU(W h_{t−1} + V x_t, b), W = D_3 R_2 F⁻¹ D_2 Π R_1 F D_1; D = diag(e^{iω}), R = I − 2 v vᴴ/‖v‖², F the unitary Fourier transform.

    J_t is W times slopes whose singular values are at most 1 where b ≤ 0: products cannot grow; with b = 0 they are isometries.

    Args:
        n_in: size of an input; x may also be None.
        n_hidden: n, number of complex units; the state is h (n,) complex, of real dimension 2n.

    Returns:
        ``Cell``; ``init_params(key, input_gain=1.0)`` gives omega (3, n) ~ U(−π, π), v_re, v_im (2, n) ~ U(−1, 1), V_re, V_im (n, n_in),
        b_h (n,) zero, W_o (n, 2n), b_o (n,). The permutation Π is fixed by n.

    Raises:
        ValueError: a size below 1.

    Cost: O(n log n) a step. Where b > 0 modReLU is steep next to 0: its slope along the circle is 1 + b/|a|.

    Source: Arjovsky, Shah, Bengio 2016, equations 6–8; h_0 is zero here, a parameter there.

    >>> import jax
    >>> from jaxrnn import cells
    >>> cells.urnn(2, 3).init_params(jax.random.key(0))["omega"].shape
    (3, 3)
    """
    require_sizes(n_in=n_in, n_hidden=n_hidden)

    def init_params(key: Array, input_gain: float | Array = 1.0) -> dict[str, Array]:
        keys = jax.random.split(key, 6)
        omega = jax.random.uniform(keys[0], (3, n_hidden), minval=-math.pi, maxval=math.pi)
        v = [jax.random.uniform(k, (2, n_hidden), minval=-1.0) for k in keys[1:3]]
        inputs = [initializers.gaussian(k, n_hidden, n_in, input_gain / math.sqrt(2)) for k in keys[3:5]]
        return {
            "omega": omega,
            "v_re": v[0],
            "v_im": v[1],
            "V_re": inputs[0],
            "V_im": inputs[1],
            "b_h": jnp.zeros(n_hidden, omega.dtype),
            "W_o": initializers.gaussian(keys[5], n_hidden, 2 * n_hidden),
            "b_o": jnp.zeros(n_hidden, omega.dtype),
        }

    return Cell(init_params, _zeros, _step, _output)


@functools.cache
def permutation(n: int) -> np.ndarray:
    """The fixed permutation Π of n units, from raw bits, which NumPy keeps from version to version."""
    return np.argsort(np.random.PCG64(n).random_raw(n), kind="stable")


def _zeros(params: PyTree) -> Array:
    zero = jnp.zeros_like(params["b_h"])
    return jax.lax.complex(zero, zero)


def _reflect(v: Array, h: Array) -> Array:
    square = jnp.sum(v.real**2 + v.imag**2)
    return h - v * (jnp.vdot(v, h) * (2 / square).astype(v.dtype))


def _step(params: PyTree, h: Array, x: Array | None) -> Array:
    phases = jax.lax.complex(jnp.cos(params["omega"]), jnp.sin(params["omega"]))
    v = jax.lax.complex(params["v_re"], params["v_im"])
    h = _reflect(v[0], jnp.fft.fft(phases[0] * h, norm="ortho"))
    h = jnp.fft.ifft(phases[1] * h[permutation(len(h))], norm="ortho")
    h = phases[2] * _reflect(v[1], h)
    return modrelu(h if x is None else h + jax.lax.complex(params["V_re"] @ x, params["V_im"] @ x), params["b_h"])


def _output(params: PyTree, h: Array, x: PyTree) -> Array:
    return params["W_o"] @ jnp.concatenate([h.real, h.imag]) + params["b_o"]
