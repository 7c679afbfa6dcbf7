"""The library as a guest in another program: default configuration, none of this suite's settings."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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
            if module.name not in ("cli", "plots", "_pictures", "_sweep_page", "report"):  # the sinks draw
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


@pytest.mark.slow
def test_a_diagnosis_leaves_the_process_as_it_was():
    out = guest(
        """
        import logging, os, pathlib, signal, sys, threading, warnings
        import jax, jax.numpy as jnp, matplotlib.figure, numpy as np, optax, scipy.linalg, scipy.special, scipy.stats

        def native():
            tasks = pathlib.Path("/proc/self/task")
            names = [(task / "comm").read_text().strip() for task in tasks.iterdir()] if tasks.exists() else []
            return sorted(name for name in names if not name.startswith(("tf_", "llvm")))  # XLA's own pools grow as it needs them

        def snapshot():
            return dict(
                config=dict(jax.config.values), environment=dict(os.environ), directory=os.getcwd(), path=sys.path[:],
                threads=[thread.name for thread in threading.enumerate()], native=native(), warnings=list(warnings.filters),
                handlers=list(logging.root.handlers), level=logging.root.level, random=str(np.random.get_state()), errors=np.geterr(),
                signals={number: signal.getsignal(number) for number in signal.valid_signals()}, hooks=(sys.excepthook, sys.meta_path[:]),
                drawing=dict(dict.items(matplotlib.rcParams)),
            )

        jax.block_until_ready(jax.jit(lambda a: jax.lax.scan(lambda h, _: (jnp.linalg.qr(a @ h)[0], jnp.linalg.svd(h)[1]), a, length=3))(jnp.eye(3)))
        before, loaded = snapshot(), set(sys.modules)
        import jaxrnn
        for name in jaxrnn.__all__:
            getattr(jaxrnn, name)
        cell = jaxrnn.cells.gru(2, 3)
        params = cell.init_params(jax.random.key(0))
        jaxrnn.diagnosis.diagnose(cell.step, params, cell.init_state(params), jax.random.normal(jax.random.key(1), (4, 20, 2)))
        after = snapshot()
        changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        assert not changed, changed
        packages = lambda names: {name.partition(".")[0] for name in names}
        foreign = packages(sys.modules) - packages(loaded) - set(sys.stdlib_module_names) - {"jaxrnn"}
        assert not foreign, foreign
        """
    )
    assert out == ""


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
def test_where_the_answer_is_minus_infinity_or_nothing_moves_debug_nans_stays_silent(x64):
    out = guest(
        f"""
        import jax, jax.numpy as jnp
        from jaxrnn import bptt, cells, flow, linearize, lyapunov, spectra, unroll
        jax.config.update("jax_enable_x64", {x64})
        jax.config.update("jax_debug_nans", True)
        jax.config.update("jax_numpy_dtype_promotion", "strict")
        kind = jnp.float64 if {x64} else jnp.float32
        square = lambda params, h, x, y: jnp.sum((h - y) ** 2)
        xs, ys = jax.random.normal(jax.random.key(1), (2, 6, 2), kind), jnp.zeros((2, 6, 3), kind)

        def dead(cell):
            params = cell.init_params(jax.random.key(0))
            return cell, {{**params, "b_h": jnp.full_like(params["b_h"], -100.0)}}

        def still(cell):
            return cell, jax.tree.map(jnp.zeros_like, cell.init_params(jax.random.key(0)))

        for cell, params in (dead(cells.vanilla(2, 3, "relu")), still(cells.vanilla(2, 3)), still(cells.gru(2, 3))):
            params = jax.tree.map(lambda leaf: leaf.astype(kind), params)

            def analyse(params, xs, ys):
                h = jnp.full(3, 0.5, kind)
                jacobians = linearize.jacobians(cell.step, params, h, xs)
                return dict(
                    states=unroll.states(cell.step, params, h, xs, checkpoint_every=2),
                    exponents=lyapunov.spectrum(cell.step, params, h, xs).exponents,
                    transport=flow.log_transport(cell.step, params, h, xs),
                    terms=bptt.decompose(cell.step, params, h, xs, ys, square),
                    gradients=flow.state_gradients(cell.step, params, h, xs, ys, square),
                    eigenvalues=spectra.eigenvalues(jacobians),
                    singular=spectra.product_log_singular_values(jacobians),
                )

            ready = jax.device_put((params, xs, ys))
            with jax.transfer_guard("disallow"):
                found = jax.block_until_ready(jax.jit(jax.vmap(analyse, (None, 0, 0)))(*ready))
            if cell.step != cells.gru(2, 3).step:
                assert (found["exponents"] == -jnp.inf).all()
            floats = {{leaf.dtype for leaf in jax.tree.leaves(found) if jnp.issubdtype(leaf.dtype, jnp.floating)}}
            assert floats == {{jnp.dtype(kind)}}, floats
        """
    )
    assert out == ""


def test_exponents_are_differentiated_inside_the_callers_checkpoint():
    out = guest(
        """
        import jax, jax.numpy as jnp
        from jaxrnn import cells, lyapunov
        cell = cells.gru(2, 3)
        params = cell.init_params(jax.random.key(0))
        xs = jax.random.normal(jax.random.key(1), (2, 6, 2))

        def mean(params):
            one = lambda xs: lyapunov.spectrum(cell.step, params, cell.init_state(params), xs, k=2).exponents
            return jax.vmap(one)(xs).sum()

        with jax.debug_nans(True):
            plain = jax.jit(jax.grad(mean))(params)
            again = jax.jit(jax.grad(jax.checkpoint(mean)))(params)
        for name in plain:
            assert jnp.allclose(plain[name], again[name], rtol=1e-4, atol=1e-5), name
        """
    )
    assert out == ""
