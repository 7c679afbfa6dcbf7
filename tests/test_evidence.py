"""The evidence behind the pictures, against dense products and direct gradients; and the remedies that follow from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import _measure, cells, diagnosis, evidence, linearize, remedies, unroll
from jaxrnn._words import sampled

B, T = 3, 9
CELL = cells.with_readout(cells.stack(cells.lstm(2, 3), cells.gru(3, 2)), 2)
PARAMS = CELL.init_params(jax.random.key(0), gain=1.5)
STATE = CELL.init_state(PARAMS)
XS = jax.random.normal(jax.random.key(1), (B, T, 2))
LENGTHS = np.array([9, 4, 7])
LOSS = cells.readout_loss(CELL, lambda prediction, target: target["weight"] * jnp.sum((prediction - target["value"]) ** 2))
N = 8


def targets(last):
    """Values everywhere, asked up to ``last`` (B,)."""
    weight = (np.arange(T) < np.asarray(last)[:, None]).astype(float)
    return {"value": jax.random.normal(jax.random.key(2), (B, T, 2)), "weight": jnp.asarray(weight)}


@pytest.fixture(scope="module")
def found():
    whole = diagnosis.diagnose(CELL.step, PARAMS, STATE, XS, targets=targets([9, 6, 3]), loss=LOSS)
    ragged = diagnosis.diagnose(CELL.step, PARAMS, STATE, XS, targets=targets([9, 9, 9]), loss=LOSS, lengths=LENGTHS)
    return {"whole": whole.evidence, "ragged": ragged.evidence}


def products(b, length):
    """∂h_t/∂h_0 for t = 0..length as dense products."""
    out = [np.eye(N)]
    for jacobian in np.asarray(linearize.jacobians(CELL.step, PARAMS, STATE, XS[b, :length])):
        out.append(jacobian @ out[-1])
    return out


@pytest.mark.parametrize(("case", "lengths"), [("whole", [9, 9, 9]), ("ragged", LENGTHS)])
def test_singular_values_of_products_are_those_of_the_dense_products(case, lengths, found):
    e = found[case]
    assert e.product_lags[-1] == T
    for b, length in enumerate(lengths):
        dense = products(b, length)
        for i, lag in enumerate(e.product_lags):
            if lag > length:
                assert np.isnan(e.product_log_sigma[b, i]).all()
                continue
            sigma = np.linalg.svd(dense[lag], compute_uv=False)
            known = ~np.isnan(e.product_log_sigma[b, i])
            assert (known == (sigma > N * np.finfo(float).eps * sigma[0])).all()
            np.testing.assert_allclose(np.exp(e.product_log_sigma[b, i][known]), sigma[known], rtol=1e-6, atol=1e-15)
        assert e.log_gain[b] == pytest.approx(np.log(np.linalg.svd(dense[-1], compute_uv=False)[0]))


@pytest.mark.parametrize(("case", "lengths"), [("whole", [9, 9, 9]), ("ragged", LENGTHS)])
def test_shares_of_units_are_squares_of_the_leading_singular_vectors(case, lengths, found):
    expected = np.zeros((2, N))
    for b, length in enumerate(lengths):
        left, _, right = np.linalg.svd(products(b, length)[-1])
        expected += np.stack([right[0], left[:, 0]]) ** 2 / B
    np.testing.assert_allclose(found[case].unit_shares, expected, atol=1e-10)
    assert found[case].unit_names[:4] == ("0/h[0]", "0/h[1]", "0/h[2]", "0/c[0]")


def test_the_gradient_of_the_last_loss_is_that_of_jax_grad(found):
    last = [9, 6, 3]
    logs = np.full((B, T + 1), np.nan)
    for b, s in enumerate(last):
        for t in range(s + 1):
            h = STATE if t == 0 else jax.tree.map(lambda leaf, t=t: leaf[t - 1], unroll.states(CELL.step, PARAMS, STATE, XS[b, :t]))

            def end(h, b=b, s=s, t=t):
                for u in range(t, s):
                    h = CELL.step(PARAMS, h, XS[b, u])
                return LOSS(PARAMS, h, XS[b, s - 1], jax.tree.map(lambda leaf: leaf[b, s - 1], targets(last)))

            grads = jax.tree.leaves(jax.grad(end)(h))
            logs[b, s - t] = np.log(np.sqrt(sum((np.asarray(g) ** 2).sum() for g in grads)))
    for lag in range(T + 1):
        here = logs[~np.isnan(logs[:, lag]), lag]
        expected = np.quantile(here, (0.1, 0.5, 0.9), method="inverted_cdf")
        np.testing.assert_allclose(found["whole"].gradient.log_last[:, lag], expected, atol=1e-9)


def test_the_gradient_of_the_last_loss_does_not_underflow():
    xs, ys = jnp.zeros((1, 2000, 1)), jnp.ones((1, 2000, 1))
    square = lambda a, h, x, y: jnp.sum((h - y) ** 2)
    e = diagnosis.diagnose(lambda a, h, x: a * h + x, 0.5, jnp.zeros(1), xs, targets=ys, loss=square).evidence
    np.testing.assert_allclose(np.diff(e.gradient.log_last[1]), np.log(0.5), rtol=1e-9)


def test_blocks_add_up_to_the_transport_and_name_the_parts(found):
    e = found["whole"]
    names = ("0/h", "0/c", "1")
    assert set(e.blocks) == {(a, b) for a in names for b in names}
    assert all(values.shape == (T + 1,) for values in e.blocks.values())
    assert (e.blocks["1", "0/h"][1:] == -np.inf).all()  # nothing flows from the upper layer to the lower
    dense = {lag: [] for lag in range(T + 1)}
    for b in range(B):
        for k in range(T + 1):
            product = np.eye(N)
            for t, jacobian in enumerate(np.asarray(linearize.jacobians(CELL.step, PARAMS, STATE, XS[b]))):
                product = jacobian @ product if t >= k else product
                if t >= k:
                    dense[t + 1 - k].append(np.linalg.norm(product[3:6, 3:6]) / np.sqrt(N))
    for lag in range(1, T + 1):
        assert np.exp(e.blocks["0/c", "0/c"][lag]) == pytest.approx(np.quantile(dense[lag], 0.5, method="inverted_cdf"))


def test_eigenvalues_are_those_of_the_steps_they_name(found):
    e = found["whole"]
    jacobians = np.concatenate([np.asarray(linearize.jacobians(CELL.step, PARAMS, STATE, XS[b])) for b in range(B)])
    assert e.eigenvalues.shape == (B * T, N)  # few enough for all
    np.testing.assert_array_equal(e.jacobian_steps, np.tile(np.arange(1, T + 1), B))
    for values, jacobian in zip(e.eigenvalues, jacobians, strict=True):
        np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(np.linalg.eigvals(jacobian)), atol=1e-6)


def test_ragged_sequences_give_what_each_gives_alone(found):
    alone = [diagnosis.diagnose(CELL.step, PARAMS, STATE, XS[b : b + 1, :length]).evidence for b, length in enumerate(LENGTHS)]
    np.testing.assert_allclose(found["ragged"].log_gain, [e.log_gain[0] for e in alone])
    np.testing.assert_allclose(found["ragged"].log_separation, [e.log_separation[0] for e in alone])
    total = sum(e.exponents.sum() * length for e, length in zip(alone, LENGTHS, strict=True))  # each is sorted by itself, the sum does not mind
    assert found["ragged"].exponents.sum() * LENGTHS.sum() == pytest.approx(total, rel=1e-9)


def test_products_at_one_step_only_need_no_batch_of_decompositions():
    gains = _measure.gains(CELL.step, PARAMS, STATE, XS[:, :1], jnp.ones(B, jnp.int32), lags=(1,), count=B, k=N, batch=1)
    assert gains.log_sigma.shape == (B, 1, N)


def test_larger_states_are_given_more_work_of_matrix_products_within_minutes():
    for n in (64, 128, 256, 512):
        plan = evidence.plan(32, 784, n, 5 * n * n)
        assert plan.sequences >= 8
        assert plan.transport_stride <= 100
        assert plan.seconds < 180


def test_every_remedy_says_what_it_changes_its_price_and_its_source():
    for name, remedy in remedies.CATALOGUE.items():
        assert all(len(part) > 3 for part in remedy[:3]), name
        assert remedy.source or name in ("look", "more-data")
        assert remedy.what.endswith(".")


def first_advice(cell, xs, lengths=None, **scales):
    params = cell.init_params(jax.random.key(3), **scales)
    found = diagnosis.diagnose(cell.step, params, cell.init_state(params), xs, lengths=lengths)
    return found.verdict, [advice.name for advice in found.remedies], found


NOISE = jax.random.normal(jax.random.key(4), (6, 60, 1))


def test_a_saturated_network_is_told_to_scale_its_inputs_and_not_that_its_units_are_dead():
    for scale in (50.0, 1e6):
        verdict, names, _ = first_advice(cells.vanilla(1, 16), scale * NOISE)
        assert verdict == "vanishing"
        assert names[0] == "less-saturation"
        assert "living-units" not in names


def test_a_dead_network_is_told_so_also_where_its_step_is_opaque():
    dead = lambda params, h, x: jax.nn.relu(params["W_hh"] @ h - 10)
    params = cells.vanilla(1, 8).init_params(jax.random.key(0))
    for given in ((dead, params, jnp.ones(8), NOISE), (cells.vanilla(1, 8, "relu").step, {**params, "b_h": params["b_h"] - 10}, jnp.ones(8), NOISE)):
        found = diagnosis.diagnose(*given)
        assert (found.verdict, found.remedies[0].name) == ("vanishing", "living-units")
        assert np.isnan(found.evidence.unit_shares).all()


def test_slopes_below_one_are_made_up_for_by_weights_and_not_by_less_saturation():
    verdict, names, found = first_advice(cells.vanilla(1, 32, "sigmoid"), 0.3 * NOISE, gain=1.0)
    assert verdict == "vanishing"
    order = [name for name in names if name in ("orthogonal-init", "less-saturation")]
    assert order[0] == "orthogonal-init"
    assert "times 4" in next(advice.reason for advice in found.remedies if advice.name == "orthogonal-init")


def test_relu_is_not_told_to_saturate_less():
    verdict, names, _ = first_advice(cells.vanilla(1, 32, "relu"), NOISE, gain=0.7)
    assert verdict == "vanishing"
    assert "less-saturation" not in names


def test_gated_cells_and_their_stacks_are_told_of_their_gates_and_others_of_gated_cells():
    short = (5, 60, 30, 12, 60, 44)
    for cell in (cells.lstm(1, 8), cells.stack(cells.gru(1, 8), cells.lstm(8, 6))):
        for lengths in (None, np.array(short)):
            verdict, names, _ = first_advice(cell, NOISE, lengths, gain=0.1)
            assert (verdict, names[0]) == ("vanishing", "gate-bias")
    verdict, names, found = first_advice(cells.vanilla(1, 8), NOISE, np.array(short), gain=0.5)
    assert "gate-bias" not in names
    assert found.evidence.split is not None
    assert any("over the first 5 steps, which all sequences have" in reason for reason in found.reasons)


def test_growth_is_met_by_a_gain_of_the_right_size_and_what_is_not_finite_by_a_look():
    cell = cells.vanilla(1, 8, "identity", init="orthogonal")
    verdict, names, found = first_advice(cell, NOISE, gain=1.2)
    assert (verdict, names[0]) == ("exploding", "smaller-gain")
    assert f"{1 / 1.2:.3g}" in found.remedies[0].reason
    breaks = lambda a, h, x: jnp.where(x > 2.0, jnp.nan, a * h)
    found = diagnosis.diagnose(breaks, 1.0, jnp.ones(1), jnp.zeros((3, 9, 1)).at[:, 4].set(3.0))
    assert (found.verdict, [advice.name for advice in found.remedies]) in (("undecided", ["look"]), ("stable", []))


def test_forcing_is_advised_only_where_its_interval_is_longer_than_a_step():
    W = jax.random.normal(jax.random.key(8), (60, 60)) / np.sqrt(60)
    found = diagnosis.diagnose(lambda W, h, x: jnp.tanh(W @ h + x), 3 * W, jnp.zeros(60), 0.1 * jax.random.normal(jax.random.key(9), (4, 150, 60)))
    assert found.verdict == "chaotic"
    for exponent, advised in ((0.1, True), (0.46, True), (0.47, False), (1.42, False)):
        e = found.evidence._replace(exponents=np.array([exponent]))
        assert ("forcing" in [advice.name for advice in remedies.ranked("chaotic", e)]) == advised


def test_where_one_sequence_of_many_dies_the_others_are_told_of():
    step = lambda w, h, x: jax.nn.relu(1.5 * h + x)
    xs = jnp.ones((8, 40, 1)).at[0].set(-9.0)
    found = diagnosis.diagnose(step, (), jnp.ones(1), xs)
    assert found.verdict == "undecided"
    assert any("in 1 of 8 sequences every direction dies" in said and f"{np.log(1.5):+.5f}" in said for said in found.reasons)


def test_lags_from_which_no_loss_can_come_are_not_measured_zeros():
    xs, weight = jnp.ones((2, 30, 1)), jnp.zeros((2, 30)).at[:, 12].set(1)
    loss = lambda a, h, x, y: y * jnp.sum(h)
    found = diagnosis.diagnose(lambda a, h, x: a * h + x, jnp.array(0.9), jnp.zeros(1), xs, targets=weight, loss=loss)
    said = next(reason for reason in found.reasons if "the share carried" in reason)
    assert "none by lags of 16 or more: the last loss is at step 13" in said
    one = diagnosis.diagnose(lambda a, h, x: a * h + x, jnp.array(0.9), jnp.ones(1), xs[:, :1], targets=weight[:, 12:13], loss=loss)
    assert sum(reason.count("by lags of 1 or more") for reason in one.reasons) <= 1


def test_what_is_said_of_one_step_and_of_an_opaque_step_is_a_whole_sentence():
    one = diagnosis.diagnose(lambda a, h, x: a * h + x, 0.9, jnp.ones(1), jnp.ones((1, 1, 1)))
    assert one.reasons[0].startswith("Over a whole sequence (1 steps) a gradient changes by at most a factor of 0.9")
    assert "one step of one sequence says nothing of its error" in one.reasons[0]
    assert not any("ragged" in line for line in sampled(one.evidence))
    assert any("is not declared affine, then pointwise" in line for line in sampled(one.evidence))


def test_medians_for_json_are_over_the_sequences_that_last():
    lengths = [30, 30, 30, 2]
    found = diagnosis.diagnose(lambda a, h, x: a * h + x, 0.9, jnp.zeros(1), jnp.ones((4, 30, 1)), lengths=lengths).to_dict()
    middle = [row[0] for row in found["product_singular_values"]["median_log_sigma"]]
    np.testing.assert_allclose(middle, np.asarray(found["product_singular_values"]["lags"]) * np.log(0.9), rtol=1e-6)
