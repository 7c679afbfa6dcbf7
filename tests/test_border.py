"""Bad input is refused where it enters, with what was given and what is allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import bptt, cells, flow, initializers, linearize, lyapunov, spectra, theory, unroll

CELL = cells.vanilla(2, 4)
PARAMS = CELL.init_params(jax.random.key(0))
H, XS, YS = jnp.zeros(4), jnp.ones((5, 2)), jnp.zeros((5, 4))
TRANSPORT = jnp.zeros((6, 6))


def squares(params, h, x, y):
    return jnp.sum((h - y) ** 2)


def halve(params, h, x):
    return jax.tree.map(lambda leaf: leaf / 2, h)


class Unhashable:
    __hash__ = None

    def __call__(self, params, h, x):
        return h


def run(step=halve, state=H, xs=None, length=5):
    return lambda: unroll.states(step, None, state, xs, length=length)


def spectrum(**options):
    return lambda: lyapunov.spectrum(CELL.step, PARAMS, H, XS, **options)


def decompose(targets=YS, loss=squares, **options):
    return lambda: bptt.decompose(CELL.step, PARAMS, H, XS, targets, loss, **options)


def gradients(targets=YS, loss=squares):
    return lambda: flow.state_gradients(CELL.step, PARAMS, H, XS, targets, loss)


def push(vectors):
    return lambda: linearize.push(CELL.step, PARAMS, H, XS[0], vectors)


BAD = {
    # the sequence
    "no steps in xs": (run(xs=jnp.ones((0, 2)), length=None), ValueError, r"has 0 steps; at least 1"),
    "length zero": (run(length=0), ValueError, r"has 0 steps; at least 1"),
    "negative length": (run(length=-3), ValueError, r"has -3 steps; at least 1"),
    "leaves of different lengths": (run(xs={"a": jnp.ones(3), "b": jnp.ones(4)}, length=None), ValueError, r"differ in length: {'a': 3, 'b': 4}"),
    "a scalar leaf in xs": (run(xs={"a": jnp.ones(3), "b": jnp.ones(())}, length=None), ValueError, r"'b' of xs is a scalar; time must be axis 0"),
    "neither xs nor length": (run(length=None), ValueError, r"xs is None and no length was given; pass length=T"),
    "length unlike xs": (run(xs=XS, length=4), ValueError, r"length=4 but xs has 5 steps"),
    "length a float": (run(length=5.0), TypeError, r"length must be an int, given 5.0 of type float"),
    # the state
    "an integer leaf": (
        run(state={"h": H, "count": jnp.zeros((), int)}),
        TypeError,
        r"'count' of the state has dtype int64; only floating and complex",
    ),
    "a nested integer leaf": (run(state=({"n": jnp.zeros(2, int)}, H)), TypeError, r"'0/n' of the state has dtype int64"),
    "a boolean leaf": (run(state=jnp.array([True])), TypeError, r"'h' of the state has dtype bool"),
    "no leaf": (run(state={}), ValueError, r"state has no entries \(leaves: \[\]\)"),
    "leaves of size zero": (run(state={"h": jnp.zeros(0)}), ValueError, r"state has no entries \(leaves: \[\('h', \(0,\)\)\]\)"),
    # the step
    "another structure": (run(step=lambda p, h, x: (h, h)), TypeError, r"changed the structure of the state from"),
    "another shape": (run(step=lambda p, h, x: h[:2]), TypeError, r"changed leaf 'h' of the state from float64\[4\] to float64\[2\]"),
    "another dtype": (run(step=lambda p, h, x: h.astype(jnp.float32)), TypeError, r"'h' of the state from float64\[4\] to float32\[4\]"),
    "a step that is no function": (lambda: lyapunov.spectrum(3, None, H, None, length=2), TypeError, r"step must be a function .* given int"),
    "no step": (lambda: linearize.jacobians(None, None, H, None, length=2), TypeError, r"step must be a function .* given NoneType"),
    "a step without hash": (lambda: flow.log_transport(Unhashable(), None, H, None, length=2), TypeError, r"Unhashable is not hashable"),
    "no checkpoint": (
        lambda: unroll.states(halve, None, H, None, length=4, checkpoint_every=0),
        ValueError,
        r"checkpoint_every=0 must be at least 1",
    ),
    # lyapunov
    "k too large": (
        lambda: lyapunov.spectrum(halve, None, jnp.zeros(64), None, length=2, k=70),
        ValueError,
        r"^k=70 must be in \[1, 64\], the real dimension of the state",
    ),
    "k zero": (spectrum(k=0), ValueError, r"k=0 must be in \[1, 4\]"),
    "k a float": (spectrum(k=2.0), TypeError, r"k must be an int, given 2.0 of type float"),
    "warmup of all steps": (spectrum(warmup=5), ValueError, r"warmup=5 must be in \[0, 4\], fewer than the 5 steps"),
    "warmup negative": (spectrum(warmup=-1), ValueError, r"warmup=-1 must be in \[0, 4\]"),
    "qr_every zero": (spectrum(qr_every=0), ValueError, r"qr_every=0 must be at least 1"),
    "blocks zero": (spectrum(blocks=0), ValueError, r"blocks=0 must be at least 1"),
    "frame of other rows": (spectrum(frame=jnp.eye(3)), ValueError, r"frame is float64\[3, 3\]; it must be float64\[4, 3\]"),
    "frame unlike k": (spectrum(frame=jnp.eye(4), k=2), ValueError, r"frame is float64\[4, 4\]; it must be float64\[4, 2\]"),
    "frame too wide": (spectrum(frame=jnp.ones((4, 5))), ValueError, r"k=5 must be in \[1, 4\]"),
    "frame of another dtype": (spectrum(frame=jnp.eye(4, dtype=jnp.float32)), ValueError, r"frame is float32\[4, 4\]; it must be float64\[4, 4\]"),
    "jacobians of one step": (lambda: lyapunov.from_jacobians(jnp.eye(3)), ValueError, r"shape \(3, 3\); allowed is \(T, n, n\)"),
    "jacobians not square": (lambda: lyapunov.from_jacobians(jnp.ones((5, 2, 3))), ValueError, r"shape \(5, 2, 3\); allowed is \(T, n, n\)"),
    "no jacobians": (lambda: lyapunov.from_jacobians(jnp.ones((0, 2, 2))), ValueError, r"T, n at least 1"),
    "complex jacobians": (lambda: lyapunov.from_jacobians(jnp.ones((5, 2, 2), complex)), TypeError, r"dtype complex128; they must be real"),
    "integer jacobians": (lambda: lyapunov.from_jacobians(jnp.ones((5, 2, 2), int)), TypeError, r"dtype int64; they must be real"),
    # linearize
    "vectors of another length": (push(jnp.ones(3)), ValueError, r"shape \(3,\); allowed are \(4,\) and \(4, k\)"),
    "vectors with three axes": (push(jnp.ones((4, 1, 1))), ValueError, r"shape \(4, 1, 1\); allowed are"),
    "vectors of another dtype": (push(jnp.ones(4, jnp.float32)), TypeError, r"vectors have dtype float32; the state's real coordinates have float64"),
    "covectors of another length": (
        lambda: linearize.pull(CELL.step, PARAMS, H, XS[0], jnp.ones((2, 4))),
        ValueError,
        r"shape \(2, 4\); allowed are \(4,\) and \(4, k\)",
    ),
    "input jacobians without input": (
        lambda: linearize.input_jacobians(halve, None, H, None, length=3),
        ValueError,
        r"no input Jacobians; pass inputs",
    ),
    "integer input": (lambda: linearize.input_jacobians(halve, None, H, jnp.ones(3, int)), TypeError, r"'h' of the input has dtype int64"),
    # flow and bptt
    "stride zero": (lambda: flow.log_transport(CELL.step, PARAMS, H, XS, stride=0), ValueError, r"stride=0 must be at least 1"),
    "transport of jacobians not square": (lambda: flow.from_jacobians(jnp.ones((5, 2, 3))), ValueError, r"shape \(5, 2, 3\); allowed is"),
    "transport of complex jacobians": (lambda: flow.from_jacobians(jnp.ones((5, 2, 2), complex)), TypeError, r"dtype complex128; they must be real"),
    "transport of integer jacobians": (lambda: flow.from_jacobians(jnp.ones((5, 2, 2), int)), TypeError, r"dtype int64; they must be real"),
    "a horizon of stride zero": (lambda: flow.horizon(TRANSPORT, stride=0), ValueError, r"stride=0 must be at least 1"),
    "transport with other columns": (lambda: flow.horizon(TRANSPORT, stride=2), ValueError, r"has 6 columns; stride=2 over T=5 gives 3"),
    "transport of one axis": (lambda: flow.horizon(jnp.zeros(4)), ValueError, r"shape \(4,\); allowed are \(T \+ 1, K\) and \(B, T \+ 1, K\)"),
    "a loss of vectors": (gradients(loss=lambda p, h, x, y: h - y), TypeError, r"must return one real number"),
    "a complex loss": (gradients(loss=lambda p, h, x, y: jnp.sum(h).astype(complex)), TypeError, r"must return one real number"),
    "too few targets": (gradients(targets=YS[:4]), ValueError, r"targets has shape \(4, 4\); axis 0 must be the 5 steps of xs"),
    "a scalar target": (gradients(targets={"y": YS, "mask": jnp.ones(())}), ValueError, r"'mask'.* of targets has shape \(\); axis 0"),
    "decomposing a loss of vectors": (decompose(loss=lambda p, h, x, y: h - y), TypeError, r"must return one real number"),
    "decomposing too many targets": (decompose(targets=jnp.zeros((6, 4))), ValueError, r"targets has shape \(6, 4\); axis 0 must be the 5 steps"),
    "max_lag of all steps": (decompose(max_lag=5), ValueError, r"max_lag=5 must be in \[0, 4\], the longest lag of 5 steps"),
    "max_lag negative": (decompose(max_lag=-1), ValueError, r"max_lag=-1 must be in \[0, 4\]"),
    "time zero": (decompose(times=(0, 1)), ValueError, r"times=\(0, 1\) must be distinct and lie in \[1, 5\]"),
    "time beyond": (decompose(times=(6,)), ValueError, r"times=\(6,\) must be distinct and lie in \[1, 5\]"),
    "time twice": (decompose(times=(2, 2)), ValueError, r"times=\(2, 2\) must be distinct"),
    "no times": (decompose(times=()), ValueError, r"times=\(\) must be distinct and lie in \[1, 5\]"),
    "integer parameters": (
        lambda: bptt.decompose(halve, {"n": jnp.ones(2, int)}, H, XS, YS, squares),
        TypeError,
        r"'n' of the params has dtype int64",
    ),
    "cosine zero": (lambda: bptt.truncation_lag(bptt.Decomposition(*[jnp.ones(2)] * 6), 0.0), ValueError, r"cosine=0.0 must lie in \(0, 1\]"),
    "cosine above one": (lambda: bptt.truncation_lag(bptt.Decomposition(*[jnp.ones(2)] * 6), 1.5), ValueError, r"cosine=1.5 must lie in \(0, 1\]"),
    "a gradient that is not finite": (lambda: bptt.truncation_lag(bptt.Decomposition(*[jnp.full(2, jnp.nan)] * 6)), ValueError, r"not finite"),
    # spectra and theory
    "eigenvalues of a rectangle": (lambda: spectra.eigenvalues(jnp.ones((2, 3))), ValueError, r"shape \(2, 3\); the last two axes must be equal"),
    "eigenvalues of a vector": (lambda: spectra.spectral_radius(jnp.ones(3)), ValueError, r"shape \(3,\); the last two axes must be equal"),
    "bounds of a rectangle": (lambda: theory.pascanu_bounds(jnp.ones((2, 3))), ValueError, r"shape \(2, 3\); the recurrent matrix must be square"),
    # cells
    "an unknown activation": (
        lambda: cells.vanilla(1, 2, "swish"),
        ValueError,
        r"unknown activation 'swish'; allowed are erf, identity, relu, sigmoid, tanh",
    ),
    "an unknown init": (lambda: cells.gru(1, 2, init="ones"), ValueError, r"unknown init 'ones'; allowed are chain, gaussian, identity, orthogonal"),
    "an unknown initializer": (lambda: initializers.named("ones"), ValueError, r"unknown init 'ones'; allowed are"),
    "a fractional size": (lambda: cells.lstm(1, 2.0), TypeError, r"n_hidden must be an int, given 2.0 of type float"),
    "negative inputs": (lambda: cells.gru(-1, 2), ValueError, r"n_in=-1 must be at least 0"),
    "a readout of nothing": (lambda: cells.with_readout(CELL, 0), ValueError, r"n_out=0 must be at least 1"),
    "a readout twice": (
        lambda: cells.with_readout(cells.with_readout(CELL, 2), 2).init_params(jax.random.key(0)),
        TypeError,
        r"params are a dict without 'W_hy'",
    ),
    "a stack of nothing": (lambda: cells.stack(), ValueError, r"stack of no cells; give at least one"),
    "a stack that does not fit": (
        lambda: cells.stack(cells.lstm(1, 3), cells.gru(4, 2)).init_params(jax.random.key(0)),
        ValueError,
        r"layer 1 of the stack cannot take the output of layer 0, of shape \(3,\); make its n_in 3",
    ),
} | {f"{name} of no units": (lambda make=make: make(1, 0), ValueError, r"n_hidden=0 must be at least 1") for name, make in cells.REGISTRY.items()}


@pytest.mark.parametrize("name", BAD, ids=lambda name: name.replace(" ", "-"))
def test_bad_input_is_refused_with_what_is_allowed(name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "analysis",
    [linearize.jacobians, linearize.input_jacobians, lyapunov.spectrum, flow.log_transport, flow.log_transport_blocks, flow.log_gain],
    ids=lambda analysis: analysis.__name__,
)
def test_every_analysis_refuses_an_integer_state_and_a_step_that_changes_it(analysis):
    with pytest.raises(TypeError, match="'h' of the state has dtype int"):
        analysis(halve, None, np.zeros(3, int), XS)
    with pytest.raises(TypeError, match=r"from float64\[4\] to float64\[3\]"):
        analysis(lambda p, h, x: h[1:], None, H, XS)


@pytest.mark.parametrize("analysis", [flow.state_gradients, bptt.decompose], ids=lambda analysis: analysis.__name__)
def test_every_gradient_refuses_an_integer_state_and_a_step_that_changes_it(analysis):
    with pytest.raises(TypeError, match="'h' of the state has dtype int"):
        analysis(halve, None, np.zeros(3, int), XS, YS, squares)
    with pytest.raises(TypeError, match=r"from float64\[4\] to float64\[3\]"):
        analysis(lambda p, h, x: h[1:], None, H, XS, YS, squares)


def test_errors_of_tracing_keep_their_kind_and_say_for_which_arguments_they_arose():
    branch = lambda params, h, x: jnp.tanh(h) if h.sum() > 0 else h
    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        unroll.states(branch, (), jnp.ones(2), jnp.ones((3, 1)))
    assert "step could not take state float64[2]; x float64[1]" in caught.value.__notes__


def test_leaves_with_the_same_path_are_refused():
    with pytest.raises(ValueError, match="are not distinct"):
        unroll.states(lambda params, h, x: h, (), {"a": {"b": jnp.ones(2)}, "a/b": jnp.ones(3)}, None, length=2)
