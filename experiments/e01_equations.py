"""The gradient as a double sum over times: by hand, by the toolkit, by jax.grad (Werbos 1990; Pascanu, Mikolov & Bengio 2013).

    python -m experiments.e01_equations

A network of 3 tanh units reads 2 inputs for a few steps, ŷ_t = W_hy h_t + b_y, L = Σ_t (ŷ_t − y_t)². Loops in NumPy write out

    ∂L/∂W_hh = Σ_t Σ_{k ≤ t} ∂L_t/∂ŷ_t ∂ŷ_t/∂h_t ∂h_t/∂h_k ∂⁺h_k/∂W_hh,   ∂h_t/∂h_k = J_t ⋯ J_{k+1},   J_t = diag(1 − h_t²) W_hh

term by term, and the same with W_xh, where ∂⁺h_k/∂W is what W does at step k alone. The last claims take the textbook's conclusion for
what it is: with a constant Jacobian the sign of log|largest eigenvalue| decides, and a derivative of tanh below 1 adds to the decay. (Where it
fails: e02.)
Nothing is reduced.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reproduction import Claim, Found, command
from jaxrnn import bptt, cells, flow, linearize, plots, spectra, unroll


@dataclass(frozen=True)
class Settings:
    length: int = 12
    gain: float = 1.2
    lag: int = 400  # over which a constant Jacobian is applied
    radii: tuple[float, ...] = (0.8, 0.95, 1.05, 1.2)
    seed: int = 0


SMOKE = Settings(length=4, lag=40)
N, N_IN, N_OUT = 3, 2, 1


def squared(prediction, target):
    return jnp.sum((prediction - target) ** 2)


def by_hand(params, h, xs, ys):
    """Terms (t, k, row, column) of ∂L/∂W_hh and of ∂L/∂W_xh, and ∂h_t/∂h_k as (t, k, N, N), in NumPy loops."""
    W, V, b = (np.asarray(params[name]) for name in ("W_hh", "W_xh", "b_h"))
    R, c = np.asarray(params["W_hy"]), np.asarray(params["b_y"])
    states = [np.asarray(h)]
    for x in xs:
        states.append(np.tanh(W @ states[-1] + V @ x + b))
    T = len(xs)
    jacobian = [None] + [np.diag(1 - states[t] ** 2) @ W for t in range(1, T + 1)]
    hidden, inputs = np.zeros((T, T, *W.shape)), np.zeros((T, T, *V.shape))
    transport = np.zeros((T + 1, T + 1, N, N))
    transport[0, 0] = np.eye(N)
    for t in range(1, T + 1):
        dL_dh = 2 * (R @ states[t] + c - ys[t - 1]) @ R  # ∂L_t/∂ŷ_t ∂ŷ_t/∂h_t
        product = np.eye(N)  # ∂h_t/∂h_t
        for k in range(t, -1, -1):
            transport[t, k] = product
            if k == 0:
                break
            delta = (dL_dh @ product) * (1 - states[k] ** 2)  # through φ' of step k
            hidden[t - 1, k - 1], inputs[t - 1, k - 1] = np.outer(delta, states[k - 1]), np.outer(delta, xs[k - 1])
            product = product @ jacobian[k]  # ∂h_t/∂h_{k−1}
    return hidden, inputs, transport


def largest(difference):
    return float(np.max(np.abs(np.asarray(difference))))


def sums(s):
    """The first three claims, and a picture of the terms."""
    cell = cells.with_readout(cells.vanilla(N_IN, N), N_OUT)
    weights, data, noise = jax.random.split(jax.random.key(s.seed), 3)
    params = cell.init_params(weights, gain=s.gain)
    params = params | {name: 0.3 * jax.random.normal(jax.random.fold_in(noise, i), params[name].shape) for i, name in enumerate(("b_h", "b_y"))}
    h, xs = cell.init_state(params), jax.random.normal(data, (s.length, N_IN))
    ys, loss = jnp.sin(jnp.arange(s.length))[:, None], cells.readout_loss(cell, squared)
    whole = jax.grad(lambda p: sum_of_losses(cell, loss, p, h, xs, ys))(params)
    parts = bptt.decompose(cell.step, params, h, xs, ys, loss)
    hidden, inputs, transport = by_hand(params, h, np.asarray(xs), np.asarray(ys))
    norms = {"W_hh": np.linalg.norm(hidden, axis=(2, 3)), "W_xh": np.linalg.norm(inputs, axis=(2, 3))}
    errors = {
        name: max(largest(term.sum((0, 1)) - whole[name]), largest(parts.total[name] - whole[name])) / norms[name].sum()
        for name, term in (("W_hh", hidden), ("W_xh", inputs))
    }
    lower = np.tril(np.ones((s.length, s.length), bool))
    some = lower & (norms["W_hh"] > 0) & (norms["W_xh"] > 0)  # h_0 = 0 makes the terms of W_hh at k = 1 exactly zero
    apart = max(largest(parts.log_norms[name][some] - np.log(norms[name][some])) for name in norms)
    J = linearize.jacobians(cell.step, params, h, xs)
    product = jnp.eye(N)
    for j in J:
        product = j @ product
    whole_map = jax.jacfwd(lambda at: unroll.states(cell.step, params, at, xs)[-1])(h)
    scale = np.linalg.norm(product)
    chain = max(largest(product - whole_map), largest(transport[s.length, 0] - whole_map)) / scale
    logs = flow.log_transport(cell.step, params, h, xs)
    reached = np.tril(np.ones(transport.shape[:2], bool))
    frobenius = np.log(np.linalg.norm(transport[reached], axis=(1, 2)) / np.sqrt(N))
    pairs = largest(np.asarray(logs)[reached] - frobenius)
    claims = [
        Claim("the terms (t, k) sum to ∂L/∂W_hh and to ∂L/∂W_xh", "Pascanu 2013, eq. 3–5, for both matrices",
              "loops and bptt.decompose within 1e-12 of jax.grad, relative to the sum of the terms' norms",
              f"{errors['W_hh']:.1e} and {errors['W_xh']:.1e}", max(errors.values()) < 1e-12),
        Claim("the size of each term is what decompose says", "the summands of the same equations", "logs of the norms within 1e-10, all pairs k ≤ t",
              f"{apart:.1e} over {int(some.sum())} pairs", apart < 1e-10),
        Claim("∂h_t/∂h_k is the product of the Jacobians", "Pascanu 2013, eq. 5",
              "jax.jacfwd of the unrolled map, product of linearize.jacobians, loops: within 1e-12; flow.log_transport 1e-10 for all pairs",
              f"{chain:.1e}; {pairs:.1e}", chain < 1e-12 and pairs < 1e-10),
    ]  # fmt: skip
    pictures = {"transport": lambda ax: plots.transport(logs, ax=ax), "terms": lambda ax: draw_terms(np.asarray(parts.log_norms["W_hh"]), ax)}
    return claims, pictures, {"log_norms": parts.log_norms}


def draw_terms(logs, ax):
    """The terms of ∂L/∂W_hh; h_0 = 0 leaves nothing at k = 1."""
    times = np.arange(1, len(logs) + 1)
    mesh = ax.pcolormesh(times, times, np.ma.masked_invalid(logs), cmap="cividis")
    ax.set_facecolor("0.85")
    ax.invert_yaxis()
    ax.set(xlabel="step k at which W_hh acts", ylabel="step t of the loss", title="Terms (t, k) of ∂L/∂W_hh; grey: exactly zero")
    ax.figure.colorbar(mesh, ax=ax).set_label("log norm of the term (nats)")


def sum_of_losses(cell, loss, params, h, xs, ys):
    states = unroll.states(cell.step, params, h, xs)
    return jnp.sum(jax.vmap(lambda state, x, y: loss(params, state, x, y))(states, xs, ys))


def criterion(s):
    """The eigenvalue criterion on constant Jacobians, and what tanh adds."""
    W = jax.random.normal(jax.random.key(s.seed + 1), (N, N))
    W = W / spectra.spectral_radius(W)
    rates, slowed = [], []
    for radius in s.radii:
        constant = jnp.broadcast_to(radius * W, (s.lag, N, N))
        logs = spectra.product_log_singular_values(constant).logs
        rates.append(float(logs[0]) / s.lag)
        cell = cells.vanilla(N_IN, N)
        params = cell.init_params(jax.random.key(0)) | {"W_hh": radius * W}
        xs = jax.random.normal(jax.random.key(2), (s.lag, N_IN))
        slowed.append(float(spectra.product_log_singular_values(linearize.jacobians(cell.step, params, cell.init_state(params), xs)).logs[0]) / s.lag)
    expected = np.log(s.radii)
    condition = float(jnp.linalg.cond(jnp.linalg.eig(W)[1]))
    bound = np.log(condition) / s.lag  # ρᵏ ≤ ‖Wᵏ‖ ≤ κ(V) ρᵏ
    signs = all(np.sign(rate) == np.sign(e) for rate, e in zip(rates, expected, strict=True))
    within = all(-1e-12 <= rate - e <= bound + 1e-12 for rate, e in zip(rates, expected, strict=True))
    listed = lambda values: ", ".join(f"{v:+.4f}" for v in values)
    return [
        Claim("a constant J vanishes or explodes as its largest |eigenvalue| is below or above 1", "the textbook; Pascanu 2013, §2.1",
              f"rate over {s.lag} steps has the sign of log|λ₁| and exceeds it by at most log κ(V) / {s.lag} = {bound:.1e}",
              f"|λ₁| = {', '.join(map(str, s.radii))}: rates {listed(rates)}", bool(signs and within)),
        Claim("the activation's derivative, at most 1, adds to the decay", "the textbook; Pascanu 2013, §2.1 (γ = 1 for tanh)",
              "with tanh between, driven by white input, every rate lies below that of the constant J", listed(slowed),
              bool(np.all(np.array(slowed) < np.array(rates)))),
    ], {"rates": rates, "with_tanh": slowed, "radii": s.radii}  # fmt: skip


def main(s):
    claims, pictures, numbers = sums(s)
    more, rates = criterion(s)
    return Found([*claims, *more], pictures, numbers | rates)


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
