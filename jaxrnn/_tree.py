"""How a state pytree becomes one real vector and back, and which slice is which leaf.

Complex leaves count as (re, im): an analysis that treats a non-holomorphic step as holomorphic is silently wrong,
so everything above this floor works in real coordinates.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PyTree = Any

_ELSEWHERE = {"state": " (close over it, or pass it in xs)", "params": " (close over it)"}


class Layout(NamedTuple):
    """Where each leaf of a pytree sits in its real vector of length ``size``."""

    treedef: Any
    names: tuple[str, ...]  # path of each leaf, "h" for a bare array
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]
    dtype: np.dtype  # of the vector: the widest real dtype of the leaves, at least float32

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of real coordinates of each leaf."""
        return tuple(math.prod(s) * (1 + _is_complex(d)) for s, d in zip(self.shapes, self.dtypes, strict=True))

    @property
    def size(self) -> int:
        """The real dimension n."""
        return sum(self.widths)

    @property
    def eps(self) -> float:
        """The coarsest rounding among the leaves: that of the arithmetic the step does."""
        return max(float(jnp.finfo(d).eps) for d in self.dtypes)

    @property
    def slices(self) -> dict[str, slice]:
        """Slice of the vector that each leaf occupies, by name."""
        stops = np.cumsum(self.widths).tolist()
        return {m: slice(b - w, b) for m, w, b in zip(self.names, self.widths, stops, strict=True)}

    def unravel(self, vector: Array) -> PyTree:
        """The pytree whose real coordinates are ``vector`` (n,)."""
        leaves = []
        for s, shape, dtype in zip(self.slices.values(), self.shapes, self.dtypes, strict=True):
            part = vector[s]
            if _is_complex(dtype):
                re, im = jnp.split(part, 2)
                part = jax.lax.complex(*(p.astype(_real(dtype)) for p in (re, im)))
            leaves.append(part.astype(dtype).reshape(shape))
        return jax.tree.unflatten(self.treedef, leaves)

    def ravel(self, tree: PyTree) -> Array:
        """The real coordinates (n,) of a pytree of this layout."""
        parts = []
        for leaf in jax.tree.leaves(tree):
            flat = jnp.ravel(leaf)
            parts += [flat.real, flat.imag] if _is_complex(flat.dtype) else [flat]
        return jnp.concatenate([p.astype(self.dtype) for p in parts])

    def coordinate_names(self) -> tuple[str, ...]:
        """A name for each of the n real coordinates: leaf and place, and for complex leaves ``re`` or ``im``."""
        names: list[str] = []
        for leaf, shape, dtype in zip(self.names, self.shapes, self.dtypes, strict=True):
            units = [f"{leaf}[{', '.join(map(str, at))}]" if at else leaf for at in np.ndindex(shape)]
            names += [f"{part} {unit}" for part in ("re", "im") for unit in units] if _is_complex(dtype) else units
        return tuple(names)


def layout(tree: PyTree, what: str = "state") -> Layout:
    """The layout of a pytree of floating or complex leaves; other leaves are refused by their path."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(tree)
    names = tuple(leaf_name(path) for path, _ in paths)
    leaves = [leaf for _, leaf in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"the paths of the leaves of the {what} are not distinct: {sorted(names)}; rename keys that contain '/'")
    dtypes = tuple(jax.dtypes.result_type(leaf) if hasattr(leaf, "dtype") else np.dtype(type(leaf)) for leaf in leaves)
    for name, dtype in zip(names, dtypes, strict=True):
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"leaf {name!r} of the {what} has dtype {dtype}; only floating and complex leaves have derivatives: "
                f"cast it to a float, or keep it out of the {what}{_ELSEWHERE.get(what, '')}"
            )
    shapes = tuple(tuple(np.shape(leaf)) for leaf in leaves)
    if not sum(math.prod(s) for s in shapes):
        raise ValueError(f"the {what} has no entries (leaves: {list(zip(names, shapes, strict=True))}); give at least one number")
    dtype = np.result_type(np.float32, *(_real(d) for d in dtypes))
    return Layout(treedef, names, shapes, dtypes, dtype)


def leaf_name(path: tuple) -> str:
    """A path as people write it: ``layers/0/h``; a bare array is ``h``."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "h"


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves of a pytree by name."""
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _is_complex(dtype: np.dtype) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def _real(dtype: np.dtype) -> np.dtype:
    return np.dtype(jnp.finfo(dtype).dtype)
