"""Weights to start from. Each is ``initializer(key, n_out, n_in, gain) -> (n_out, n_in)`` in the default float dtype."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import theory


def gaussian(key: Array, n_out: int, n_in: int, gain: float | Array = 1.0) -> Array:
    """Independent N(0, gain²/n_in); a square one has its eigenvalues in the disc of radius ``gain`` (Girko 1985).

    >>> import jax
    >>> from jaxrnn import initializers
    >>> initializers.gaussian(jax.random.key(0), 3, 2).shape
    (3, 2)
    """
    return gain * jax.random.normal(key, (n_out, n_in)) / jnp.sqrt(float(n_in))


def orthogonal(key: Array, n_out: int, n_in: int, gain: float | Array = 1.0) -> Array:
    """``gain`` times a Haar-distributed matrix with orthonormal rows or columns (Saxe, McClelland, Ganguli 2014).

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import initializers
    >>> w = initializers.orthogonal(jax.random.key(0), 4, 4)
    >>> bool(jnp.allclose(w @ w.T, jnp.eye(4), atol=1e-5))
    True
    """
    big, small = max(n_out, n_in), min(n_out, n_in)
    q, r = jnp.linalg.qr(jax.random.normal(key, (big, small)))
    # QR alone is not Haar: LAPACK's sign convention is undone by the signs of R's diagonal (Mezzadri 2007, eq. 5.12).
    q = q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)
    return gain * (q if n_out >= n_in else q.T)


def identity(key: Array, n_out: int, n_in: int, gain: float | Array = 1.0) -> Array:
    """``gain`` times the identity (Le, Jaitly, Hinton 2015: the IRNN's recurrent matrix); the key is not used.

    >>> from jaxrnn import initializers
    >>> initializers.identity(None, 2, 2, 0.5).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    del key
    return gain * jnp.eye(n_out, n_in)


def uniform(key: Array, n_out: int, n_in: int, gain: float | Array = 1.0) -> Array:
    """Independent U(±gain/√n_in), of variance gain²/3n_in: what torch's layers start from.

    >>> import jax
    >>> from jaxrnn import initializers
    >>> bool(abs(initializers.uniform(jax.random.key(0), 3, 4)).max() <= 0.5)
    True
    """
    return gain * jax.random.uniform(key, (n_out, n_in), minval=-1.0, maxval=1.0) / jnp.sqrt(float(n_in))


def positive_definite(key: Array, n_out: int, n_in: int, gain: float | Array = 1.0) -> Array:
    """``gain`` times (I + RᵀR/n) over its largest eigenvalue, R of N(0, 1): one slow direction (Talathi, Vartak 2016).

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import initializers
    >>> eigenvalues = jnp.linalg.eigvalsh(initializers.positive_definite(jax.random.key(0), 4, 4))
    >>> bool(eigenvalues[0] > 0), round(float(eigenvalues[-1]), 5)
    (True, 1.0)
    """
    if n_out != n_in:
        raise ValueError(f"positive_definite is for square weights, not ({n_out}, {n_in}); choose another init")
    r = jax.random.normal(key, (n_in, n_in))
    w = jnp.eye(n_in) + r.T @ r / n_in
    return gain * w / jnp.linalg.eigvalsh(w)[-1]


def chain(key: Array, n_out: int, n_in: int, gain: float | Array = 1.0) -> Array:
    """``gain`` times a feed-forward chain, W[i+1, i] = gain; the key is not used.

    As far from normal as a matrix can be: every eigenvalue is 0, yet ‖Wˢ‖ = gainˢ for s < n, and Wⁿ = 0 (Ganguli, Huh, Sompolinsky 2008;
    Kerg et al. 2019).

    >>> from jaxrnn import initializers
    >>> initializers.chain(None, 3, 3, 0.5).tolist()
    [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]
    """
    del key
    return gain * jnp.eye(n_out, n_in, k=-1)


def critical(
    key: Array,
    n_out: int,
    n_in: int,
    gain: float | Array = 1.0,
    *,
    input_sd: float | Array = 0.0,
    bias_sd: float | Array = 0.0,
    activation: str = "tanh",
) -> Array:
    """Independent N(0, gain² g_c²/n_in), g_c the gain at which a wide network neither forgets nor amplifies (Schoenholz et al. 2017).

    Args:
        key, n_out, n_in, gain: as for the others; at gain 1 the λ₁ of a wide network is 0.
        input_sd, bias_sd, activation: what drives the units, and φ, as for ``theory.critical_gain``.

    >>> import jax
    >>> from jaxrnn import initializers
    >>> w = initializers.critical(jax.random.key(0), 400, 400, bias_sd=0.05**0.5)
    >>> round(float((w**2).sum() / 400), 1)  # 1.761
    1.8
    """
    return gaussian(key, n_out, n_in, gain * theory.critical_gain(input_sd, bias_sd, activation))


def gates(
    key: Array, recurrent: Callable[..., Array], count: int, n_in: int, n_hidden: int, gain: float | Array, input_gain: float | Array
) -> tuple[Array, Array]:
    """Weights of ``count`` gates stacked along axis 0: W_hh (count n, n), each block drawn by itself, and W_xh (count n, n_in), Gaussian.

    >>> import jax
    >>> from jaxrnn import initializers
    >>> [w.shape for w in initializers.gates(jax.random.key(0), initializers.orthogonal, 4, 2, 3, 1.0, 1.0)]
    [(12, 3), (12, 2)]
    """
    *keys, key_xh = jax.random.split(key, count + 1)
    w_hh = jnp.concatenate([recurrent(k, n_hidden, n_hidden, gain) for k in keys])
    return w_hh, gaussian(key_xh, count * n_hidden, n_in, input_gain)


def chrono(key: Array, n: int, horizon: float | Array) -> Array:
    """Biases ln U(1, T_max − 1) of gates that keep: their time scales 1 + e^b lie evenly up to T_max (Tallec, Ollivier 2018).

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn import initializers
    >>> scales = 1 + jnp.exp(initializers.chrono(jax.random.key(0), 1000, 100.0))
    >>> bool(scales.min() >= 2), bool(98 < scales.max() <= 100)
    (True, True)
    """
    return jnp.log(jax.random.uniform(key, (n,), minval=1.0, maxval=horizon - 1))


REGISTRY: dict[str, Callable[..., Array]] = {
    "chain": chain,
    "gaussian": gaussian,
    "orthogonal": orthogonal,
    "identity": identity,
    "uniform": uniform,
    "positive_definite": positive_definite,
}


def named(name: str) -> Callable[..., Array]:
    """The initializer of that name; ValueError lists the names that there are."""
    if name not in REGISTRY:
        raise ValueError(f"unknown init {name!r}; allowed are {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]
