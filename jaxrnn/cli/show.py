"""What the commands say in the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxrnn import _arms_page, report
from jaxrnn.comparison import Row
from jaxrnn.diagnosis import Comparison, Diagnosis

_COLORS = {"stable": "green", "undecided": "yellow"}


def plan(p: Any) -> str:
    """What will be computed, and what it will cost."""
    pairs = p.sequences * p.steps
    return (
        f"Plan: {p.sequences} sequences of {p.steps} steps, state of dimension {p.dimension}; {p.exponents} exponents; "
        f"eigenvalues of {p.jacobians} of {pairs} Jacobians; transport in {p.transport_sequences} sequences, every "
        f"{p.transport_stride} steps; gradient terms in {p.gradient_sequences} sequences, at most {p.gradient_times} times, "
        f"{p.max_lag + 1} lags. Roughly {max(p.seconds, 1):.0f} s and {max(p.bytes / 1e9, 0.1):.1f} GB, compilation apart."
    )


def diagnosis(label: str, found: Diagnosis) -> None:
    """The verdict, its reasons, the remedies and the self-checks."""
    e = found.evidence
    console = Console(highlight=False)
    color = _COLORS.get(found.verdict, "red")
    steps = f"{e.given_steps} steps" + (f" ({e.plan.steps} analysed)" if e.plan.steps < e.given_steps else "")
    console.print(f"{label}, {e.given} sequence{'s' * (e.given != 1)} of {steps}: {found.verdict}", markup=False, style=f"bold {color}")
    table = Table("quantity", "value", "± std. error", "unit")
    for row in report.figures(e):
        table.add_row(*row)
    console.print(table)
    for reason in found.reasons:
        console.print(f"• {reason}", markup=False)
    if found.remedies:
        console.print("What may help, the most promising first:")
        for advice in found.remedies:
            console.print(f"→ {advice}", markup=False)
    table = Table("self-check", "error", "allowed", "", "what was compared")
    for c in found.checks:
        table.add_row(c.name, f"{c.error:.1e}", f"{c.allowed:.1e}", "[green]passed[/green]" if c.passed else "[bold red]FAILED[/bold red]", c.detail)
    console.print(table)


def rows(found: Sequence[Row], metric: str) -> None:
    """What came of each arm of a comparison."""
    lines = _arms_page.table(found)
    console = Console(highlight=False)
    if lines:
        table = Table("", "solved", "95 %", "after", "metric", "λ₁", "horizon", "ms", padding=(0, 1, 0, 0), box=None)
        for line in lines:
            table.add_row(line.name, line.solved, line.interval, line.updates, line.final, line.exponent, line.horizon, line.cost)
        console.print(table)
        console.print(
            "solved: seeds, with Wilson's interval of their share; after: so many updates, median of those; "
            f"metric: {metric}, median at the end, {', '.join(dict.fromkeys(line.baseline for line in lines))} without memory; "
            "λ₁ (nats per step) and horizon (steps): medians before → after training; ms: per update of one seed.",
            style="dim",
        )
    for row in found:
        if row.skipped:
            console.print(f"• not run: {row.name}: {row.skipped}", markup=False)
        for failure in row.failures:
            console.print(f"• {row.name}: {failure}", markup=False)


def comparison(found: Comparison, details: tuple[str, ...] = ()) -> None:
    """What differs."""
    console = Console(highlight=False)
    for sentence in (*found.sentences, *details):
        console.print(f"• {sentence}", markup=False)
