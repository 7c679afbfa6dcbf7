import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, linearize, unroll
from tests.models import STEPS, at_time, from_real_vector, noise, over_models, random_params, real_vector, relative, trajectory

EPS = np.finfo(np.float64).eps


def dense(model):
    return linearize.jacobians(model.step, model.params, model.state, model.xs)


@over_models
def test_push_is_the_dense_jacobian_times_vectors(model):
    J = dense(model)[0]
    for vectors in (noise(1, J.shape[:1]), noise(2, (len(J), 3))):
        after, found = linearize.push(model.step, model.params, model.state, at_time(model.xs, 0), vectors)
        assert found.shape == vectors.shape
        assert relative(found, J @ vectors) < 10 * len(J) * EPS
        assert relative(after, model.step(model.params, model.state, at_time(model.xs, 0))) < 50 * EPS


@over_models
def test_pull_is_the_transposed_dense_jacobian_times_covectors(model):
    J = dense(model)[0]
    for covectors in (noise(3, J.shape[:1]), noise(4, (len(J), 3))):
        after, found = linearize.pull(model.step, model.params, model.state, at_time(model.xs, 0), covectors)
        assert found.shape == covectors.shape
        assert relative(found, J.T @ covectors) < 10 * len(J) * EPS
        assert relative(after, model.step(model.params, model.state, at_time(model.xs, 0))) < 50 * EPS


@over_models
def test_jacobians_are_taken_along_the_trajectory(model):
    path = trajectory(model.step, model.params, model.state, model.xs, STEPS)
    value = lambda v, h, x: linearize.in_coordinates(model.step, model.params, linearize.layout(h), x)(v)
    t = STEPS - 1
    wanted = jax.jacrev(value)(jnp.asarray(real_vector(path[t])), path[t], at_time(model.xs, t))
    assert relative(dense(model)[t], wanted) < 1e-12


@over_models
def test_a_product_of_jacobians_is_the_jacobian_of_the_whole(model):
    J, like = dense(model), model.state

    @jax.jit
    def last(v):
        out = unroll.states(model.step, model.params, v, model.xs)
        return at_time(out, -1)

    start, size = real_vector(like), 1e-5
    product = np.linalg.multi_dot(list(np.asarray(J)[::-1]))
    for i in range(len(start)):
        shift = size * np.eye(len(start))[i]
        there, back = (real_vector(last(from_real_vector(start + s * shift, like))) for s in (1, -1))
        # Central differences of a composition: truncation is size² times a third derivative that grows like the product's cube.
        assert np.abs((there - back) / (2 * size) - product[:, i]).max() < 1e-8 * max(1, np.abs(product).max()) ** 3


@over_models
def test_input_jacobians_equal_reverse_mode(model):
    found = linearize.input_jacobians(model.step, model.params, model.state, model.xs)
    x = at_time(model.xs, 0)
    n, n_in = len(real_vector(model.state)), len(real_vector(x))
    assert found.shape == (STEPS, n, n_in)
    lay, inputs = linearize.layout(model.state), linearize.layout(x)
    wanted = jax.jacrev(lambda v: lay.ravel(model.step(model.params, model.state, inputs.unravel(v))))(inputs.ravel(x))
    assert relative(found[0], wanted) < 1e-13


def test_input_jacobians_of_a_vanilla_cell_are_its_weights_times_the_slopes():
    cell = cells.vanilla(2, 3)
    params, xs = random_params(cell), noise(5, (4, 2))
    hs = unroll.states(cell.step, params, jnp.zeros(3), xs)
    found = linearize.input_jacobians(cell.step, params, jnp.zeros(3), xs)
    assert relative(found, (1 - hs**2)[:, :, None] * params["W_xh"]) < 20 * EPS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@over_models
def test_jacobians_keep_the_precision_of_the_state(model, dtype):
    assert dense(model.cast(dtype)).dtype == dtype


def test_vmap_equals_a_loop_over_sequences():
    cell = cells.gru(2, 3)
    params, xs = random_params(cell), noise(6, (3, 5, 2))
    found = jax.vmap(lambda x: linearize.jacobians(cell.step, params, jnp.zeros(3), x))(xs)
    assert relative(found[1], linearize.jacobians(cell.step, params, jnp.zeros(3), xs[1])) < 50 * EPS
