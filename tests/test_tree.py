import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import _tree, cells, linearize
from tests.models import from_real_vector, over_models, real_vector, relative

MIXED = {"a": jnp.float32([1.0, 2.0]), "z": jnp.asarray([[3 + 4j]]), "s": jnp.asarray(5.0)}


@over_models
def test_a_state_becomes_a_vector_and_comes_back(model):
    lay = _tree.layout(model.state)
    vector = lay.ravel(model.state)
    assert vector.shape == (lay.size,)
    assert (np.asarray(vector) == real_vector(model.state)).all()
    back = lay.unravel(vector)
    assert jax.tree.structure(back) == jax.tree.structure(model.state)
    assert relative(back, model.state) == 0
    assert relative(from_real_vector(vector, model.state), model.state) == 0


def test_a_mixed_state_is_a_vector_of_its_widest_dtype_and_keeps_its_dtypes():
    lay = _tree.layout(MIXED)
    vector = lay.ravel(MIXED)
    assert (vector.dtype, vector.tolist()) == (np.float64, [1, 2, 5, 3, 4])
    back = lay.unravel(vector)
    assert {name: (leaf.dtype, leaf.shape) for name, leaf in back.items()} == {name: (leaf.dtype, leaf.shape) for name, leaf in MIXED.items()}


def test_every_leaf_has_its_slice_by_path():
    state = {"layers": (cells.LSTMState(jnp.ones(2), jnp.ones(2)), jnp.ones(3, complex)), "x": jnp.ones(())}
    assert _tree.layout(state).slices == {"layers/0/h": slice(0, 2), "layers/0/c": slice(2, 4), "layers/1": slice(4, 10), "x": slice(10, 11)}
    assert _tree.layout(jnp.ones(2)).names == ("h",)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_analysed_in_float32(dtype):
    lay = _tree.layout({"h": jnp.ones(2, dtype)})
    assert lay.dtype == np.float32
    assert lay.unravel(jnp.float32([0.1, 0.2]))["h"].dtype == dtype


def test_a_complex_step_is_linearised_in_its_real_coordinates():
    # z -> conj(z) is nowhere holomorphic; in (re, im) it is the reflection diag(1, −1).
    found = linearize.jacobians(lambda p, z, x: jnp.conj(z), None, jnp.array([1 + 2j]), None, length=1)
    assert found[0].tolist() == [[1, 0], [0, -1]]


def test_python_numbers_are_states_too():
    assert _tree.layout(0.5).size == 1
    assert _tree.layout(0.5 + 1j).size == 2
