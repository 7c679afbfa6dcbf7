"""``jaxrnn cells``: the recurrences, read from their registry alone."""

import math

import jax
from rich.console import Console
from rich.table import Table

from jaxrnn import cells, flow
from jaxrnn._tree import layout
from jaxrnn.cli.options import Cells, refusing, unknown

_N_IN = 8
_STRIDE = 4  # of the starting times of the horizon


def run(config: Cells, argv: list[str]) -> int:
    """Print the table; 0."""
    del argv
    with refusing():
        names = config.names or tuple(sorted(cells.REGISTRY))
        for name in names:
            if name not in cells.REGISTRY:
                raise ValueError(unknown("cell", name, cells.REGISTRY, "see jaxrnn cells"))
    console = Console(highlight=False)
    table = Table("cell", "equation", "source", "state", "horizon", box=None, pad_edge=False)
    with console.status("") as status:
        for name in names:
            status.update(f"measuring {name}")
            size, horizon = measure(name, config)
            table.add_row(name, *cells.DESCRIPTIONS[name], str(size), horizon)
    console.print(table)
    console.print(
        f"\nstate: real numbers in the state of {config.hidden} units. horizon: steps after which a perturbation has fallen to 1/e for good,"
        f" median over starting times, at initialisation, driven by {config.length} steps of white noise ({_N_IN} inputs, sd 1, seed {config.seed})."
    )
    return 0


def measure(name: str, config: Cells) -> tuple[int, str]:
    """The real dimension of the state and the horizon at initialisation, in steps."""
    key = jax.random.key(config.seed)
    cell = cells.REGISTRY[name](_N_IN, config.hidden)
    params = cell.init_params(key)
    state = cell.init_state(params)
    xs = jax.random.normal(jax.random.fold_in(key, 1), (config.length, _N_IN))
    transport = flow.log_transport(cell.step, params, state, xs, stride=_STRIDE)
    lag = float(flow.horizon(transport, quantiles=(0.5,), stride=_STRIDE).lags[0])
    return layout(state).size, f"> {config.length}" if math.isinf(lag) else f"{lag:.0f}"
