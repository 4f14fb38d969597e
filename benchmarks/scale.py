"""From 64 to 131,072 GPUs: times, gaps and memory of the three steps, as a table and a plot in docs/results/.

python -m benchmarks.scale                 the whole sweep (about ten minutes on two cores)
python -m benchmarks.scale --up-to 1024    the small sizes
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
SIZES = (  # GPUs, running jobs, pending jobs
    (64, 40, 60),
    (1024, 160, 160),
    (16384, 2500, 2500),
    (131072, 20000, 20000),
)
STEPS = ("cap", "place", "place_one_change", "plan")
REACH_S = {"cap": 0.1, "place": 1.0, "place_one_change": 0.1, "plan": 5.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--up-to", type=int, default=SIZES[-1][0], help="GPUs of the largest size")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    reports = [_measured(*size, rounds=asked.rounds) for size in SIZES if size[0] <= asked.up_to]
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "scale.json").write_text(json.dumps(reports, indent=2) + "\n")
    (asked.out / "scale.md").write_text(table(reports))
    plot(reports).savefig(asked.out / "scale.svg")


def _measured(gpus: int, running: int, pending: int, *, rounds: int) -> dict[str, Any]:
    """One size in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.decide", "--gpus", str(gpus), "--running", str(running)]
    command += ["--pending", str(pending), "--rounds", str(rounds)]
    sys.stderr.write(f"{gpus} GPUs, {running} running, {pending} pending ...\n")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def table(reports: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row per size."""
    head = ["GPUs", "running", "pending"]
    for step in STEPS:
        head += [f"{step.replace('_', ' ')} median", "p99", "gap"]
    head += ["peak memory", "monolith value", "FIFO value", "EASY value"]
    lines = [
        "# Decide, from 64 to 131,072 GPUs",
        "",
        INTRODUCTION,
        "",
        _row(head),
        _row(["---:"] * len(head)),
    ]
    lines += [_row(_cells(report)) for report in reports]
    lines += ["", growth(reports), "", "![times by size](scale.svg)", ""]
    return "\n".join(lines)


INTRODUCTION = """Written by `python -m benchmarks.scale`; the raw figures are in `scale.json`. Times are from
stored state to verified decision (snapshot, decide and verify), over twenty rounds with
churn between them. The gap is the share of the possible gain that is left: (bound − value)
/ (bound − value of keeping everything as it is), for caps the share of the bound. The last
columns are the value of what people do today over ours, on the same instance and with the
same time limit (`-`: no answer in time)."""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(report: dict[str, Any]) -> list[str]:
    asked = report["asked"]
    cells = [f"{asked['gpus']:,}", f"{asked['running']:,}", f"{asked['pending']:,}"]
    for step in STEPS:
        figures = report[step]
        cells += [
            _milliseconds(figures["median_s"]),
            _milliseconds(figures["p99_s"]),
            f"{figures['gap']:.3%}",
        ]
    cells.append(f"{report['peak_rss_bytes'] / 2**20:,.0f} MiB")
    for name in ("monolithic_cp_sat", "fifo_uniform_cap", "easy_backfill_uniform_cap"):
        ratio = report["baselines"][name]["value_ratio"]
        cells.append("-" if ratio is None else f"{ratio:.1%}")
    return cells


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def growth(reports: Sequence[dict[str, Any]]) -> str:
    """How time grew between the second-smallest thousand and the largest size, against n log n."""
    from_sizes = [report for report in reports if report["asked"]["gpus"] >= 1024]
    if len(from_sizes) < 2:
        return ""
    small, large = from_sizes[0], from_sizes[-1]
    n, m = small["asked"]["gpus"], large["asked"]["gpus"]
    allowed = m * math.log(m) / (n * math.log(n))
    grown = [
        f"{step.replace('_', ' ')} {large[step]['median_s'] / small[step]['median_s']:.0f}" for step in STEPS
    ]
    return f"From {n:,} to {m:,} GPUs n log n grows {allowed:.0f} times; time grew: {', '.join(grown)} times."


def plot(reports: Sequence[dict[str, Any]]) -> Figure:
    """Median seconds by size, both axes logarithmic; dashed: what is to be reached."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    sizes = [report["asked"]["gpus"] for report in reports]
    for step in STEPS:
        (line,) = axes.loglog(
            sizes, [report[step]["median_s"] for report in reports], marker="o", label=step.replace("_", " ")
        )
        if sizes[-1] == SIZES[-1][0]:
            axes.plot(
                sizes[-1], REACH_S[step], marker="_", markersize=18, markeredgewidth=2, color=line.get_color()
            )
    axes.set_xlabel("GPUs")
    axes.set_ylabel("seconds from stored state to verified decision (median)")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(title="bars at the right: to be reached")
    return figure


if __name__ == "__main__":
    main()
