"""Weights to start from. Each is ``initializer(key, n_out, n_in, gain) -> (n_out, n_in)`` in the default float dtype."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


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


REGISTRY: dict[str, Callable[..., Array]] = {"gaussian": gaussian, "orthogonal": orthogonal, "identity": identity}


def named(name: str) -> Callable[..., Array]:
    """The initializer of that name; ValueError lists the names that there are."""
    if name not in REGISTRY:
        raise ValueError(f"unknown init {name!r}; allowed are {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]
