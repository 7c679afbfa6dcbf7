"""Linear, matrix-valued and orthogonal cells against other people's code, in single precision: outputs and last states of 50 steps, gradients.

Every row maps our parameters into theirs inside the differentiated function, so both gradients are with respect to ours; a parameter that
theirs does not have is left out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, unroll
from tests.models import noise, relative, shaken
from tests.test_cells_third_party import imported

N, KEYS, STATES, STEPS = 4, 5, 6, 50


def complex_of(p, name):
    return imported("torch").complex(p[f"{name}_re"], p[f"{name}_im"])


def unit(v):
    return v / v.norm(dim=-1, keepdim=True)


def lru_pytorch():
    module = imported("LRU_pytorch.LRU").LRU(N, N, N)

    def run(p, h, xs):
        names = {name: p[name] for name in ("nu_log", "theta_log", "gamma_log", "D")} | {name: complex_of(p, name) for name in "BC"}
        return imported("torch").func.functional_call(module, names, (xs, h)), None

    return run


def s5_pytorch():
    theirs, torch = imported("s5.s5_model"), imported("torch")

    def run(p, h, xs):
        rates = torch.complex(-p["log_decay"].exp(), p["omega"])
        transition, inputs = theirs.discretize_zoh(rates, complex_of(p, "B"), p["log_dt"].exp())
        y, last = theirs.apply_ssm(transition, inputs, 2 * complex_of(p, "C"), torch.zeros(N), xs, h)
        return y + xs @ p["D"].T, last

    return run


def mingru_pytorch(name, weight, order):
    """Step by step: their scan works with logarithms, which cost a digit."""

    def make():
        module, torch = getattr(imported(f"minGRU_pytorch.{name}"), name)(N), imported("torch")

        def run(p, h, xs):
            blocks, out = p["W_xh"].split(N), []
            for x in xs:
                h = torch.func.functional_call(module, {weight: torch.cat([blocks[i] for i in order])}, (x[None, None], h[None, None]))[0, 0]
                out.append(h)
            return torch.stack(out), h

        return run

    return make


def mambapy(scan):
    def make():
        theirs, torch = imported("mambapy.mamba"), imported("torch")
        config = theirs.MambaConfig(d_model=N, n_layers=1, expand_factor=1, d_state=STATES, dt_rank=N, pscan=scan)

        class Block(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = theirs.MambaBlock(config)

            def forward(self, u):
                return self.inner.ssm(u, None)

        module = Block()

        def run(p, h, xs):
            names = {"A_log": p["A_log"], "D": p["D"], "dt_proj.weight": p["W_dt"], "dt_proj.bias": p["b_dt"]}
            names["x_proj.weight"] = torch.cat([torch.eye(N), p["W_B"], p["W_C"]])
            u = (xs @ p["W_xh"].T)[None]
            return torch.func.functional_call(module, {f"inner.{name}": leaf for name, leaf in names.items()}, (u,))[0], None

        return run

    return make


def fla(path):
    return imported(f"fla.ops.{path}.naive", ("fla", "fla.ops", f"fla.ops.{path}"))


def fla_attention():
    attend, torch = fla("linear_attn").naive_recurrent_linear_attn, imported("torch")

    def run(p, h, xs):
        q, k = (1 + torch.nn.functional.elu(xs @ p[name].T) for name in ("W_q", "W_k"))
        start = (h.S.T[None, None], h.z[None, None, None])
        heads = (a[None, :, None] for a in (q, k, xs @ p["W_v"].T))
        y, (s, z) = attend(*heads, scale=1.0, initial_state=start, output_final_state=True, normalize=True)
        return y[0, :, 0], type(h)(s[0, 0].T, z[0, 0, 0])

    return run


def fla_delta(gated, beta_max):
    def make():
        theirs = fla("gated_delta_rule").naive_recurrent_gated_delta_rule if gated else fla("delta_rule").delta_rule_recurrence

        def run(p, h, xs):
            q, k, v = unit(xs @ p["W_q"].T), unit(xs @ p["W_k"].T), xs @ p["W_v"].T
            beta = beta_max * (xs @ p["w_beta"] + p["b_beta"]).sigmoid()
            if gated:
                log_alpha = (xs @ p["w_alpha"] + p["b_alpha"]).sigmoid().log()
                heads = (a[None, :, None] for a in (q, k, v, beta, log_alpha))
                y, last = theirs(*heads, scale=1.0, initial_state=h.T[None, None], output_final_state=True)
                return y[0, :, 0], last[0, 0].T
            y, last = theirs(*(a[None, None] for a in (q * KEYS**0.5, k, v, beta)), initial_state=h.T[None, None])
            return y[0, 0], last[0, 0].T

        return run

    return make


def xlstm_mlstm():
    bare = ("xlstm", "xlstm.blocks", "xlstm.blocks.mlstm")
    torch = imported("torch")
    step = imported("xlstm.blocks.mlstm.backends", bare).recurrent_step_stabilized_simple

    def run(p, h, xs):
        state, out = (h.C.T[None, None], h.n[None, None, :, None], h.m[None, None, None, None]), []
        for x in xs:
            q, k, v = ((p[name] @ x)[None, None, None] for name in ("W_q", "W_k", "W_v"))
            i, f = ((p[f"w_{gate}"] @ x + p[f"b_{gate}"])[None, None, None, None] for gate in "if")
            y, state = step(*state, q, k, v, i, f, eps=0.0)
            out.append((p["W_o"] @ x + p["b_o"]).sigmoid() * y[0, 0, 0])
        return torch.stack(out), type(h)(state[0][0, 0].T, state[1][0, 0, :, 0], state[2][0, 0, 0, 0])

    return run


def geotorch(cayley, signs=1.0):
    """Their matrix from our parameters, in a loop of their authors' (modReLU)."""

    def make():
        so, torch = imported("geotorch.so"), imported("torch")
        module = so.SO((N, N), triv="cayley" if cayley else "expm")
        module.base.copy_(torch.eye(N))

        def run(p, h, xs):
            w = module(-2 * p["A"] if cayley else p["A"]) * signs  # theirs is (I − X/2)⁻¹ (I + X/2)
            out = []
            for x in xs:
                a = w @ h + p["W_xh"] @ x
                h = a.sign() * torch.relu(a.abs() + p["b_h"])
                out.append(h)
            return torch.stack(out), h

        return run

    return make


def positive_candidates(params, xs):
    """Theirs takes W x + 1/2 for W x where that is positive, and σ(W x) elsewhere, to have a logarithm: positive inputs and weights avoid that."""
    gates = len(params["b_h"]) - N
    at = jnp.arange(len(params["b_h"])) >= gates
    w = jnp.where(at[:, None], jnp.abs(params["W_xh"]), params["W_xh"])
    return {"W_xh": w, "b_h": jnp.where(at, 0.5, 0.0).astype(w.dtype)}, jnp.abs(xs)


def forgetful(params, xs):
    """Small angles and thresholds above zero: an isometry keeps every rounding, of the matrix above all, for all of the sequence."""
    return {**params, "A": params["A"] / 8, "b_h": -jnp.abs(params["b_h"])}, xs


class Row(NamedTuple):
    package: str
    cell: cells.Cell
    theirs: Callable[[], Any]  # () -> run(our params, state, xs) -> outputs, last state or None, of torch tensors
    starts_at_zero: bool = False
    fit: Callable = lambda params, xs: (params, xs)


ROWS = {
    "lru": Row("lru-pytorch", cells.lru(N, N), lru_pytorch),
    "s5": Row("s5-pytorch", cells.s5(N, N), s5_pytorch),
    "mingru": Row("mingru-pytorch", cells.mingru(N, N), mingru_pytorch("minGRU", "to_hidden_and_gate.weight", (1, 0)), fit=positive_candidates),
    "minlstm": Row(
        "mingru-pytorch", cells.minlstm(N, N), mingru_pytorch("minLSTM", "to_hidden_and_f_i_gate.weight", (2, 0, 1)), fit=positive_candidates
    ),
    "selective_ssm": Row("mambapy", cells.selective_ssm(N, N, STATES), mambapy(False), starts_at_zero=True),
    "selective_ssm scan": Row("mambapy", cells.selective_ssm(N, N, STATES), mambapy(True), starts_at_zero=True),
    "linear_attention": Row("fla-core", cells.linear_attention(N, N, KEYS), fla_attention),
    "deltanet": Row("fla-core", cells.deltanet(N, N, KEYS), fla_delta(False, 1.0)),
    "deltanet beta 2": Row("fla-core", cells.deltanet(N, N, KEYS, beta_max=2.0), fla_delta(False, 2.0)),
    "gated_deltanet": Row("fla-core", cells.gated_deltanet(N, N, KEYS), fla_delta(True, 1.0)),
    "mlstm": Row("xlstm", cells.mlstm(N, N), xlstm_mlstm),
    "exprnn": Row("geotorch", cells.exprnn(N, N), geotorch(False), fit=forgetful),
    "scornn": Row("geotorch", cells.scornn(N, N, negative=0), geotorch(True), fit=forgetful),
}


def errors(row):
    """Largest deviations of outputs and last state, and of gradients, each relative to the largest entry."""
    theirs = row.theirs()
    params = row.cell.init_params(jax.random.key(1))
    held = {"constants": params.pop("constants")} if "constants" in params else {}
    params, xs = row.fit(shaken(params, 100, 0.2), 0.3 * noise(8, (STEPS, N)))
    state = row.cell.init_state({**params, **held})
    state = state if row.starts_at_zero else jax.tree.map(lambda leaf: leaf + jnp.abs(noise(7, leaf.shape)).astype(leaf.dtype), state)
    params, held, xs, state = jax.tree.map(_single, (params, held, xs, state))
    wanted, wanted_gradient = of_torch(theirs, params, state, xs)

    def ours(params):
        params = {**params, **held}
        states = unroll.states(row.cell.step, params, state, xs)
        last = None if wanted[1] is None else jax.tree.map(lambda leaf: leaf[-1], states)
        found = jax.vmap(row.cell.output, (None, 0, 0))(params, states, xs), last
        return sum(jnp.sum(jnp.sin(jnp.real(leaf))) for leaf in jax.tree.leaves(found)), found

    gradient, found = jax.jit(jax.grad(ours, has_aux=True))(params)
    assert set(wanted_gradient) >= set(params) - {"b_h"}
    return relative(found, wanted), max(relative(gradient[name], leaf) for name, leaf in wanted_gradient.items())


def _single(leaf):
    return leaf.astype(np.complex64 if jnp.iscomplexobj(leaf) else np.float32)


def of_torch(run, params, state, xs):
    """What theirs gives, and the gradient of a sum of sines of it by those of our parameters that it reads."""
    torch = imported("torch")
    tensor = lambda leaf: torch.tensor(np.asarray(leaf))
    params = {name: tensor(leaf).requires_grad_() for name, leaf in params.items()}
    found = run(params, jax.tree.map(tensor, state), tensor(xs))
    real = lambda leaf: leaf.real if leaf.is_complex() else leaf
    sum(real(leaf).sin().sum() for leaf in jax.tree.leaves(found)).backward()
    gradient = {name: leaf.grad.numpy() for name, leaf in params.items() if leaf.grad is not None}
    return jax.tree.map(lambda leaf: leaf.detach().numpy(), found), gradient


@pytest.mark.parametrize("name", ROWS)
def test_outputs_states_and_gradients_of_fifty_steps_equal_those_of_other_code(name):
    values, gradients = errors(ROWS[name])
    assert values < 1e-5
    assert gradients < 1e-5
