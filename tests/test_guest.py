"""The library as a guest in another program: default configuration, none of this suite's settings."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jaxrnn

OURS = ("NPROC", "JAX_ENABLE_X64", "JAX_NUMPY_DTYPE_PROMOTION", "MPLBACKEND")


def guest(script):
    """What a script prints in a fresh process."""
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    env["PYTHONPATH"] = str(Path(jaxrnn.__file__).parents[1])
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(script)], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_every_module_changes_nothing_and_says_nothing():
    out = guest(
        """
        import importlib, os, pkgutil, sys, warnings
        import jax
        config, environment = dict(jax.config.values), dict(os.environ)
        import jaxrnn
        assert "jaxrnn.flow" not in sys.modules
        for module in pkgutil.iter_modules(jaxrnn.__path__):
            if module.name not in ("cli", "plots", "_pictures", "report"):  # the sinks draw
                room = importlib.import_module(f"jaxrnn.{module.name}")
                for inner in pkgutil.iter_modules(getattr(room, "__path__", ())):
                    importlib.import_module(f"{room.__name__}.{inner.name}")
        assert dict(jax.config.values) == config
        assert dict(os.environ) == environment
        heavy = {"tyro", "rich", "sklearn", "matplotlib"} & {name.split(".")[0] for name in sys.modules}
        assert not heavy, heavy
        """
    )
    assert out == ""


def test_analyses_work_in_float32_inside_the_callers_jit_and_vmap_and_debug_nans():
    out = guest(
        """
        import jax, jax.numpy as jnp
        from jaxrnn import bptt, cells, flow, lyapunov, unroll
        jax.config.update("jax_debug_nans", True)
        cell = cells.with_readout(cells.lstm(2, 3), 1)
        params = cell.init_params(jax.random.key(0))
        loss = cells.readout_loss(cell, lambda prediction, target: jnp.sum((prediction - target) ** 2))
        xs, ys = jax.random.normal(jax.random.key(1), (2, 7, 2)), jnp.zeros((2, 7, 1))

        @jax.jit
        @jax.vmap
        def analyse(xs, ys):
            h = cell.init_state(params)
            return (
                lyapunov.spectrum(cell.step, params, h, xs, k=2).exponents,
                flow.log_transport(cell.step, params, h, xs, stride=2),
                bptt.decompose(cell.step, params, h, xs, ys, loss).total,
                flow.state_gradients(cell.step, params, h, xs, ys, loss).params,
            )

        exponents, transport, total, gradient = jax.block_until_ready(analyse(xs, ys))
        assert {leaf.dtype.name for leaf in jax.tree.leaves((exponents, transport, total, gradient))} == {"float32"}
        assert jnp.isfinite(exponents).all()

        def whole(params):
            hs = jax.vmap(lambda xs: unroll.states(cell.step, params, cell.init_state(params), xs))(xs)
            return jax.vmap(jax.vmap(loss, (None, 0, 0, 0)), (None, 0, 0, 0))(params, hs, xs, ys).sum()

        plain = jax.jit(jax.grad(whole))(params)
        for name in plain:
            scale = 1e-5 * float(jnp.abs(plain[name]).max())
            assert jnp.abs(total[name].sum(0) - plain[name]).max() <= scale, name
            assert jnp.abs(gradient[name].sum(0) - plain[name]).max() <= scale, name
        """
    )
    assert out == ""
