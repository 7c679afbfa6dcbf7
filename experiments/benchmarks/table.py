"""Write README.md beside the benchmarks from what they wrote to ``results/``; nothing is timed here."""

import argparse
import json
from pathlib import Path

HERE = Path(__file__).parent
QUESTIONS = {  # file: (question, what it asks)
    "p1_spectrum": ("P1", "full Lyapunov spectrum of a tanh network, g = 2, QR at every step, float64"),
    "p2_lstm": ("P2", "full spectrum of a driven LSTM, float64"),
    "p3_leading": ("P3", "leading exponents of a wide network, float64; floor: its products of (N, N) and (N, k)"),
    "p4_ensemble": ("P4", "spectra of an ensemble under `jax.vmap`, float64"),
    "p5_transport": ("P5", "‖∂h_t/∂h_k‖ for all pairs of times, float64; floor: its products of matrices"),
    "p6_decompose": ("P6", "the (t, k) terms of ∂L/∂θ, float64"),
    "p12_sweep": ("P12", "1,000 points kept in a store; points of at least 0.1 s on Dask workers; float64"),
    "p8_training": ("P8", "one training step, forwards and backwards, float32"),
}
INTRODUCTION = """# Benchmarks

*Written by `table.py` from `results/*.json`; do not edit.*

Absolute times differ between machines and hours: a claim is a ratio inside one run. Each round times every competitor once, in an order that
turns; a ratio is the median over rounds of the ratio within a round, with quartiles. Compilation is apart. Every run checks the answers
against the competitors' before it reports a time. Competitors are called jitted, from the same state and frame, at their best setting
(`competitors.py` says how); a time marked † was taken on an even sample and scaled up. LAPACK runs on one thread, where all are fastest but
torch, which has its own. Where a target is missed, `p1_profile.py` (P1 to P5), `p5_transport.py`, `p8_profile.py` and `p8_training.py` say where
the time goes and what was tried instead; for P12 two bare processes stand beside two workers: they gain no more on this machine.

    pip install -e ".[bench]"        # and torch==2.13.0 on Python 3.11, in no extra; without it the torch rows are left out
    python experiments/benchmarks/p1_spectrum.py        # --smoke: tiny; --rounds, --out
    python experiments/benchmarks/table.py
"""


def time(value):
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def verdict(made):
    if made["target"] is None:
        return "", ""
    return f"{'≤' if made['at_most'] else '≥'} {made['target']:g}", "yes" if made["reached"] else "**no**"


def lines_of(label, row):
    """One line per claim."""
    for made in row["claims"]:
        against, (low, high) = made["against"], made["quartiles"]
        mark = "†" if row.get("sampled", {}).get(against, 0) not in (0, row.get("sampled", {}).get("of")) else ""
        ours, theirs = (time(row["seconds"][name]["median"]) for name in ("jaxrnn", against))
        word = "as long" if made["at_most"] else "as fast"
        cells = (label, row["setting"], ours, f"{against}{mark}", theirs, f"{made['ratio']:.2f}× {word} ({low:.2f}–{high:.2f})", *verdict(made))
        yield "| " + " | ".join(cells) + " |"


def common(results):
    """The table of the questions that compare times."""
    yield "| | setting | ours | against | theirs | ratio (quartiles) | target | reached |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, (label, _) in QUESTIONS.items():
        for row in results.get(name, {"rows": ()})["rows"]:
            yield from lines_of(label, row)


def answers(results):
    """What was checked and what was allocated."""
    for name, (label, question) in QUESTIONS.items():
        if name in results:
            yield f"\n**{label}**, {question}.\n"
        for row in results.get(name, {"rows": ()})["rows"]:
            found = row["checks"] | {key: f"{value / 2**20:.1f} MiB" for key, value in row.get("bytes", {}).items()}
            text = "; ".join(f"{key} {value:.1g}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items())
            yield f"- {row['setting']}: {text}."


def gradients(found):
    """P7 in two sentences."""
    rows = found["rows"]
    ratios = [row["ratio"]["median"] for row in rows]
    over = [
        f"{row['cell']} N={row['N']} T={row['T']} batch={row['batch']} ({row['ratio']['median']:.2f})"
        for row in rows
        if row["ratio"]["median"] > 1.15
    ]
    yield "\n**P7**, ∂L/∂h_t for all t with the parameter gradient, against `jax.value_and_grad` alone; at most 1.15 times its time.\n"
    yield f"- {len(rows) - len(over)} of {len(rows)} settings reached; ratios {min(ratios):.2f} to {max(ratios):.2f}."
    if over:
        yield f"- Above: {', '.join(over)}."


def long_training(found):
    """P8's memory line by line."""
    yield "\n**P8**, peak memory of a process that trains one step; at most 4 GB.\n"
    for row in found["rows"]:
        reached = "reached" if row["reached"] else "**not reached**"
        yield f"- {row['cell']}, T = {row['T']:,}, B = 4, N = 128: {row['bytes'] / 1e9:.2f} GB, {time(row['seconds'])}: {reached}."


def start_up(found):
    """P9 line by line."""
    yield "\n**P9**, how long until something happens, in fresh processes.\n"
    for row in found["rows"]:
        target = (
            "" if row["target"] is None else f"; target ≤ {row['target']:g} s: {'reached' if row['median'] <= row['target'] else '**not reached**'}"
        )
        yield f"- {row['name']}: {time(row['median'])}{target}."


def iterations(found):
    """P10 as a table, and what the linear cells gain or lose."""
    rows = {kind: [row for row in found["rows"] if row["kind"] == kind] for kind in ("newton", "growth", "linear")}
    yield "\n**P10**, iterations of Newton's method on whole trajectories of tanh networks (the most over seeds), float64; times of one seed.\n"
    yield "| | g | N | T | λ₁ | dense | expected from λ₁ | diagonal | loop | dense | diagonal |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    kind = lambda row: "driven" if row["driven"] else "autonomous"
    for row in rows["newton"]:
        counts = {name: f"{max(row[name])}{'' if all(row[f'{name} converged']) else ' (not converged)'}" for name in ("dense", "diagonal")}
        measured = (counts["dense"], f"{max(row['expected']):.0f}", counts["diagonal"])
        times = (time(row["seconds"][name]["median"]) for name in ("loop", "dense", "diagonal"))
        low, high = min(row["exponents"]), max(row["exponents"])
        yield f"| {kind(row)} | {row['g']} | {row['N']} | {row['T']} | {low:.3f} to {high:.3f} | {' | '.join((*measured, *times))} |"
    yield ""
    for row in rows["growth"]:
        held = "" if row["target"] is None else f"; target ≤ {row['target']:g}: {'reached' if row['growth'] <= row['target'] else '**not reached**'}"
        yield f"- {kind(row)}, g = {row['g']}: {row['growth']:.2f} times the iterations at four times the shortest T{held}."
    for row in rows["linear"]:
        middle, low, high = row["ratio"]
        took = f"{middle:.2f} times as long as the loop ({low:.2f}–{high:.2f}); difference {row['difference']:.1g}"
        yield f"- associative scan, {row['name']}, T = {row['T']}: {took}."


def growth(found):
    """P11 as a table."""
    yield "\n**P11**, growth as T and n double: exponents of FLOPs and of memory, factors in time.\n"
    yield "| | FLOPs: T, n (stated) | | memory: T, n (stated at most) | | time: 2T, 2n (predicted) | |"
    yield "|---|---|---|---|---|---|---|"
    pair = lambda part: f"{part['T']:.2f}, {part['n']:.2f}"
    yes = lambda part: "yes" if part["reached"] else "**no**"
    stated = lambda values: ", ".join(f"{value:.3g}" for value in values)
    for row in found["rows"]:
        parts = (row["flops"], "stated"), (row["bytes"], "stated at most"), (row["time"], "predicted")
        cells = [f"{pair(part)} ({stated(part[key])}) | {yes(part)}" for part, key in parts]
        yield f"| `{row['name']}` | {' | '.join(cells)} |"


def watching(found):
    """P13 line by line."""
    yield "\n**P13**, a training that is watched, against the same without monitors; at most 1.15 times its time.\n"
    for row in found["rows"]:
        setting = f"{row['cell']}, N = {row['N']}, T = {row['T']}, B = {row['batch']}"
        told = lambda made: f"{made['median']:.3f} ({made['quartiles'][0]:.2f}–{made['quartiles'][1]:.2f})"
        shown = "; ".join(f"{key} {told(made)}" for key, made in row["ratios"].items())
        yield f"- {setting}: {shown}: {'reached' if max(made['median'] for made in row['ratios'].values()) <= 1.15 else '**not reached**'}."


def measured_with(results):
    """The versions that each file was measured with, said once where they agree."""
    yield "\n## Measured with\n"
    seen = {}
    for name, found in results.items():
        seen.setdefault(json.dumps({k: v for k, v in found["versions"].items() if k not in ("lyapax", "chaotax", "torch")}), []).append(name)
    for versions, names in seen.items():
        parts = ", ".join(f"{key} {value}" for key, value in json.loads(versions).items())
        yield f"- {', '.join(names)}: {parts}."
    others = {key: value for found in results.values() for key, value in found["versions"].items() if key in ("lyapax", "chaotax", "torch")}
    if others:
        yield f"- competitors: {', '.join(f'{key} {value}' for key, value in others.items())}."


def text(folder):
    """The whole page."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    lines = [INTRODUCTION, *common(results), "\n## What was checked in the same run, and memory", *answers(results), "\n## Other questions"]
    for name, write in (
        ("p7_state_gradients", gradients),
        ("p8_long", long_training),
        ("p9_startup", start_up),
        ("p10_newton", iterations),
        ("p11_growth", growth),
        ("p13_monitors", watching),
    ):
        lines += write(results[name]) if name in results else ()
    return "\n".join([*lines, *measured_with(results)]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the JSON files")
    parser.add_argument("--out", type=Path, default=HERE / "README.md")
    given = parser.parse_args()
    given.out.write_text(text(given.results))
