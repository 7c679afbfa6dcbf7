"""The competitors of the Lyapunov benchmarks, each called as its authors would: jitted, once an orthonormalisation, no history kept.

Each function returns ``call(params, state, frame) -> (k,) exponents`` in the order of the frame's columns or descending.
"""

import contextlib
import importlib.util
import types

import jax
import jax.numpy as jnp
import numpy as np


def tanh_step(params, h, x):
    """The network of the benchmarks, h ← tanh(W h)."""
    return jnp.tanh(params @ h)


def tanh_net(n, gain, key=0, k=None):
    """(W, a state on the attractor or near it, a random orthonormal frame)."""
    keys = jax.random.split(jax.random.key(key), 3)
    w = gain * jax.random.normal(keys[0], (n, n)) / jnp.sqrt(n)
    state = jax.lax.fori_loop(0, 100, lambda i, h: jnp.tanh(w @ h), jax.random.normal(keys[1], (n,)))
    frame = jnp.linalg.qr(jax.random.normal(keys[2], (n, n if k is None else k)))[0]
    return w, state, frame


def lyapax(length, qr_every=1):
    """``lyapunov_spectrum`` started from a given state and frame, which its checkpoint of a run allows."""
    from lyapax import LyapunovCheckpoint, lyapunov_spectrum

    def exponents(params, state, frame):
        start = LyapunovCheckpoint(state, frame, jnp.zeros(frame.shape[1], frame.dtype), 0.0, 1.0)
        step = lambda h: tanh_step(params, h, None)
        return lyapunov_spectrum(step, state, 1.0, length, renorm_every=qr_every, resume=start).exponents

    return jax.jit(exponents)


def chaotax(length):
    """``rollout_growth_spectrum``, which returns every step's growth.

    As published it cannot be jitted, for it reads a shape from a traced array; without jit it compiles at every call.
    Here that one number is made concrete.
    """
    import chaotax._lyapunov as module

    @contextlib.contextmanager
    def concrete():
        own = module.jnp
        module.jnp = types.SimpleNamespace(**vars(own) | {"array": np.array, "prod": lambda shape: int(np.prod(shape))})
        try:
            yield
        finally:
            module.jnp = own

    def exponents(params, state, frame):
        with concrete():
            growth = module.rollout_growth_spectrum(lambda h: tanh_step(params, h, None), length)(state, frame.T)
        return jnp.log(jnp.abs(growth)).mean(0)

    return jax.jit(exponents)


def plain(length, qr_every=1):
    """What one writes by hand: a scan, the Jacobian by formula, one QR every ``qr_every`` steps, which divides the length."""

    def body(carry, _):
        w, h, q, total = carry
        for _ in range(qr_every):
            h = jnp.tanh(w @ h)
            q = ((1 - h**2)[:, None] * w) @ q
        q, r = jnp.linalg.qr(q)
        return (w, h, q, total + jnp.log(jnp.abs(jnp.diagonal(r)))), None

    def exponents(params, state, frame):
        carry = (params, state, frame, jnp.zeros(frame.shape[1], frame.dtype))
        return jax.lax.scan(body, carry, None, length=length // qr_every)[0][3] / length

    return jax.jit(exponents)


def torch_loop(length, threads):
    """The same loop in torch, eager, without recording gradients."""
    import torch

    torch.set_num_threads(threads)

    @torch.no_grad()
    def exponents(params, state, frame):
        w, h, q = (torch.from_numpy(np.array(part)) for part in (params, state, frame))
        total = torch.zeros(q.shape[1], dtype=q.dtype)
        for _ in range(length):
            h = torch.tanh(w @ h)
            q, r = torch.linalg.qr(((1 - h**2)[:, None] * w) @ q)
            total += r.diagonal().abs().log()
        return (total / length).numpy()

    return exponents


def installed(name):
    """Whether a competitor can be imported; torch is in no extra."""
    return importlib.util.find_spec(name) is not None


def spectrum_competitors(length, threads=1, qr_every=1):
    """Those of a full spectrum with an orthonormalisation at every step; beside them, where ``qr_every`` > 1, those that can do it less often."""
    found = {"lyapax": lyapax(length), "chaotax": chaotax(length), "scan + QR": plain(length)}
    if qr_every > 1:
        less_often = {"lyapax": lyapax(length, qr_every), "scan + QR": plain(length, qr_every)}
        found |= {f"{name}, every {qr_every}": call for name, call in less_often.items()}
    return found | ({"torch loop": torch_loop(length, threads)} if installed("torch") else {})
