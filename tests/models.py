"""The tables of models that the properties run over, and the few independent tools that the properties need.

``MODELS`` has one of each kind, and every property of every analysis runs over it; ``RECURRENCES`` has the rest of the registry and variants,
over which the properties of a cell and the self-checks run: registering a cell adds its row. Every row has random nonzero biases and a random nonzero
state: zeros hide mistakes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells

STEPS = 6  # 21 terms (t, k)
N_IN = 2
N_HIDDEN = 4


class Model(NamedTuple):
    name: str
    step: Any
    params: Any
    state: Any
    xs: Any  # STEPS inputs
    cell: cells.Cell | None  # None for a foreign step

    def inputs(self, length):
        """Random inputs of another length."""
        return jax.tree.map(lambda leaf: noise(77, (length, *leaf.shape[1:]), leaf.dtype), self.xs)

    def cast(self, dtype):
        """The same model in another real precision."""
        convert = lambda tree: jax.tree.map(lambda leaf: leaf.astype(_cast(leaf.dtype, dtype)), tree)
        return self._replace(params=convert(self.params), state=convert(self.state), xs=convert(self.xs))


def noise(seed, shape, dtype=np.float64):
    """Independent N(0, 1) numbers of a real or complex dtype."""
    draws = np.random.default_rng(seed).standard_normal((2, *shape))
    return jnp.asarray(draws[0] + 1j * draws[1] if jnp.issubdtype(dtype, jnp.complexfloating) else draws[0], dtype)


def shaken(tree, seed, size):
    """A pytree with noise of that size added to every entry."""
    leaves, treedef = jax.tree.flatten(tree)
    moved = [leaf + size * noise(seed + i, jnp.shape(leaf), leaf.dtype) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(treedef, moved)


def random_params(cell, seed=1, **scales):
    """A cell's parameters, biases included, away from zero."""
    return shaken(cell.init_params(jax.random.key(seed), **scales), 100 * seed, 0.3)


def modulus_relu(params, z, x):
    """A complex step that is not holomorphic: a tanh of the modulus, the phase kept (Arjovsky, Shah, Bengio 2016)."""
    a = params["W"] @ z + params["V"] @ x.astype(z.dtype)
    r = jnp.sqrt(a.real**2 + a.imag**2)
    return a * (jnp.tanh(r + params["b"]) / r).astype(z.dtype)


def leaky_scalar(params, h, x):
    """A state that is one number."""
    return params["a"] * h + (1 - params["a"]) * jnp.tanh(params["w"] * h + x + params["b"])


def memory_and_clock(params, state, x):
    """A dictionary of a matrix, a vector and a number, coupled; inputs in a dictionary too."""
    key = jnp.tanh(params["U"] @ state["v"] + x["drive"])
    gate = jax.nn.sigmoid(state["phase"] + x["gate"])
    memory = gate * state["M"] + (1 - gate) * jnp.outer(key, params["r"])
    vector = jnp.tanh(memory @ params["r"] + 0.5 * state["v"])
    return {"M": memory, "v": vector, "phase": jnp.sin(state["phase"]) + params["b"] * jnp.sum(key)}


def _cast(old, new):
    return np.result_type(new, np.complex64) if jnp.issubdtype(old, jnp.complexfloating) else new


def _of_cell(name, cell, seed, **scales):
    params = random_params(cell, seed, **scales)
    state = shaken(cell.init_state(params), 1000 + seed, 0.5)
    return Model(name, cell.step, params, state, noise(2000 + seed, (STEPS, N_IN)), cell)


def _table():
    built = {name: cells.REGISTRY[name](N_IN, N_HIDDEN) for name in ("vanilla", "gru", "lstm")}
    built |= {f"vanilla {phi}": cells.vanilla(N_IN, N_HIDDEN, phi) for phi in ("relu", "sigmoid", "identity")}
    built |= {f"vanilla {init}": cells.vanilla(N_IN, N_HIDDEN, init=init) for init in ("orthogonal", "identity")}
    built["stack"] = cells.stack(cells.lstm(N_IN, 3), cells.gru(3, N_HIDDEN))
    built["vanilla with readout"] = cells.with_readout(cells.vanilla(N_IN, N_HIDDEN), 3)
    built["stack with readout"] = cells.with_readout(built["stack"], 3)
    built["encoded vanilla"] = cells.with_encoder(cells.vanilla(3, N_HIDDEN), N_IN, 3)
    built["encoded lru with deep readout"] = cells.with_readout(cells.with_encoder(cells.lru(5, N_HIDDEN), N_IN, 5), 3, 6)
    built["encoded exprnn"] = cells.with_encoder(cells.exprnn(3, N_HIDDEN), N_IN, 3, "tanh")
    built["input_diagonal clip"] = cells.input_diagonal(N_IN, N_HIDDEN, "clip")
    rows = [_of_cell(name, cell, seed) for seed, (name, cell) in enumerate(built.items(), 1)]
    rows.append(_of_cell("lstm forget 3", built["lstm"], 50, forget_bias=3.0))
    number = lambda value: jnp.asarray(value, jnp.float64)
    rows.append(
        Model(
            "complex",
            modulus_relu,
            {"W": noise(1, (3, 3), np.complex128) / 2, "V": noise(2, (3, N_IN), np.complex128) / 2, "b": 0.2 * noise(3, (3,))},
            noise(4, (3,), np.complex128),
            noise(5, (STEPS, N_IN)),
            None,
        )
    )
    rows.append(Model("scalar", leaky_scalar, {"a": number(0.7), "w": number(1.3), "b": number(0.2)}, number(0.4), noise(6, (STEPS,)), None))
    rows.append(
        Model(
            "dictionary",
            memory_and_clock,
            {"U": noise(7, (2, 2)), "r": noise(8, (2,)), "b": number(0.3)},
            {"M": noise(9, (2, 2)), "v": noise(10, (2,)), "phase": number(0.6)},
            {"drive": noise(11, (STEPS, 2)), "gate": noise(12, (STEPS,))},
            None,
        )
    )
    return rows


# One of each kind for the properties of every analysis; what differs from one of these in a number, an activation or a layer, and all other
# recurrences, for the properties of a cell and the self-checks.
_KINDS = {"vanilla", "vanilla relu", "gru", "lstm", "stack", "stack with readout", "complex", "scalar", "dictionary"}
_ALL = _table()
_NAMES = {model.name for model in _ALL}
MODELS = [model for model in _ALL if model.name in _KINDS]
RECURRENCES = [model for model in _ALL if model.name not in _KINDS]
RECURRENCES += [_of_cell(name, make(N_IN, N_HIDDEN), seed) for seed, (name, make) in enumerate(cells.REGISTRY.items(), 1) if name not in _NAMES]
_SLOW = {"gru", "stack", *(model.name for model in RECURRENCES)}  # not where tests must be quick


def over(models):
    """Parametrise a test over models; one of each kind runs always, the others with the slow tests."""
    mark = lambda model: (pytest.mark.slow,) if model.name in _SLOW else ()
    return pytest.mark.parametrize("model", [pytest.param(model, id=model.name.replace(" ", "-"), marks=mark(model)) for model in models])


over_models = over(MODELS)
over_recurrences = over(RECURRENCES)
over_all = over(MODELS + RECURRENCES)
over_cells = over([model for model in MODELS + RECURRENCES if model.cell])


def real_vector(tree):
    """A state as one real NumPy vector, leaf by leaf, (re, im) of a complex leaf side by side."""
    parts = []
    for leaf in jax.tree.leaves(tree):
        flat = np.ravel(np.asarray(leaf))
        parts += [flat.real, flat.imag] if np.iscomplexobj(flat) else [flat]
    return np.concatenate(parts)


def from_real_vector(vector, like):
    """The inverse of ``real_vector``."""
    leaves, treedef = jax.tree.flatten(like)
    out, at = [], 0
    for leaf in leaves:
        size, dtype = leaf.size, leaf.dtype
        if jnp.issubdtype(dtype, jnp.complexfloating):
            flat, at = jax.lax.complex(*jnp.split(jnp.asarray(vector[at : at + 2 * size]), 2)), at + 2 * size
        else:
            flat, at = vector[at : at + size], at + size
        out.append(jnp.asarray(flat, dtype).reshape(leaf.shape))
    return jax.tree.unflatten(treedef, out)


def at_time(tree, i):
    """One row of a pytree with time on axis 0."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def trajectory(step, params, state, xs, length):
    """h_0..h_T by a Python loop."""
    out = [state]
    for i in range(length):
        out.append(step(params, out[-1], at_time(xs, i)))
    return out


def of_distance(params, state, x, target):
    """A loss that reaches every leaf of the state, the parameters directly, and a target."""
    distance = sum(jnp.sum(jnp.abs(leaf - target.astype(leaf.dtype)) ** 2) for leaf in jax.tree.leaves(state))
    weight = sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(params))
    return 0.5 * distance + 0.01 * weight


def relative(found, wanted, scale=None):
    """Largest deviation over all leaves, relative to the largest entry of what was wanted, or to ``scale``."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    deviation = max(np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0) for a, b in pairs)
    scale = max(np.max(np.abs(np.asarray(b)), initial=0) for b in jax.tree.leaves(wanted)) if scale is None else scale
    return float(deviation / scale) if deviation else 0.0
