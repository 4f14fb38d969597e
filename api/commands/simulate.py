"""`wattmill simulate`: a job trace against recorded prices, under several policies."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.commands.client import CommandError
from api.commands.tables import duration, figure, print_json, share, table, terminal
from power.grid.validate import EARLIEST, LATEST

DEFAULT_POLICIES = ("fifo", "backfill", "uniform_cap", "price_threshold", "wait_awhile", "wattmill")


def simulate(
    jobs: Annotated[
        Path,
        typer.Option(
            "--jobs", exists=True, dir_okay=False, help="Trace: CSV with job_id,submit_s,gpus,duration_s."
        ),
    ],
    prices: Annotated[
        Path,
        typer.Option("--prices", exists=True, dir_okay=False, help="CSV time_utc,value in money per MWh."),
    ],
    out: Annotated[
        Path, typer.Option("--out", file_okay=False, help="Folder for tables, plots and summary.json.")
    ],
    carbon: Annotated[Path | None, typer.Option("--carbon", help="CSV time_utc,value in g/kWh.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="NAME or NAME:OPTION=VALUE,...; again for more. Default: six of them."),
    ] = None,
    cluster: Annotated[Path | None, typer.Option("--cluster", help="TOML, as in examples/clusters.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Without --cluster: so many of one kind.")] = 256,
    model: Annotated[str, typer.Option(help="Without --cluster: their model.")] = "NVIDIA A100",
    start: Annotated[
        str | None,
        typer.Option(help="When the trace's second 0 is (UTC). Default: five weeks into the prices."),
    ] = None,
    days: Annotated[str | None, typer.Option(help="FROM-TO, days of the trace, as 0-7.")] = None,
    vc: Annotated[str | None, typer.Option(help="Only jobs of this virtual cluster of the trace.")] = None,
    contracts: Annotated[
        str, typer.Option(help="Flex tiers by share of GPU-hours.")
    ] = "none:0.2,low:0.3,mid:0.3,high:0.2",
    pausable: Annotated[str, typer.Option(help="Tiers whose jobs may be paused, comma between.")] = "high",
    deadline: Annotated[
        str, typer.Option(help="Of pausable jobs: factor of the running time plus time, or `none`.")
    ] = "2x+12h",
    estimate_error: Annotated[float, typer.Option(min=0, max=2, help="Sigma of owners' guesses.")] = 0.3,
    budget: Annotated[
        str | None,
        typer.Option(help="Watts (250kW), per cent of the uncapped peak (70%), or a CSV schedule."),
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="Money per GPU-hour by class, as standard=0.03; the least is above 0.")
    ] = None,
    place_every_s: Annotated[
        float, typer.Option(min=1, max=86400, help="Least simulated time between placements.")
    ] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Policies simulated side by side.")] = 2,
    plots: Annotated[bool, typer.Option(help="Draw them; needs the extra `results`.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="The summary as JSON, in place of the table.")
    ] = False,
) -> None:
    """Replay a trace of jobs against recorded prices through the daemon's decisions and other policies."""
    from scheduler.simulation.clusters import load_cluster, uniform_cluster
    from scheduler.simulation.model import BadInput, Cadence
    from scheduler.simulation.plots import need_matplotlib
    from scheduler.simulation.results import write_results
    from scheduler.simulation.scenarios import ScenarioOptions
    from scheduler.simulation.study import run_study

    try:
        if plots:
            need_matplotlib()  # to be heard of before hours of simulation
        options = ScenarioOptions(
            trace=jobs,
            prices=prices,
            carbon=carbon,
            cluster=load_cluster(cluster) if cluster else uniform_cluster(gpus=gpus, model=model),
            start=_start(start, prices),
            days=None if days is None else _days(days),
            vc=vc,
            contracts=contracts,
            pausable=pausable,
            deadline=None if deadline == "none" else deadline,
            estimate_error=estimate_error,
            budget=budget,
            seed=seed,
            cadence=Cadence(place_s=place_every_s),
            value_per_gpu_h=None if value is None else _values(value),
        )
        with _Bars(policy or DEFAULT_POLICIES) as bars:
            study = run_study(options, policy or DEFAULT_POLICIES, processes=processes, watch=bars.show)
        written = write_results(out, study.outcomes, study.bound, study.inputs, with_plots=plots)
    except (BadInput, ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    summary = json.loads(written[-1].read_text())
    if as_json:
        print_json(summary)
    else:
        terminal().print(_table(summary))
        terminal().print(f"{len(written)} files in {out}")


class _Bars:
    """A bar per policy, on stderr, where somebody watches."""

    def __init__(self, policies: Sequence[str]) -> None:
        columns = (
            TextColumn("{task.description:>16}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        console = terminal(to_stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks = {name: self._progress.add_task(name, total=1.0) for name in policies}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, shares: Mapping[str, float]) -> None:
        for name, done in shares.items():
            self._progress.update(self._tasks[name], completed=done)


def _start(text: str | None, prices: Path) -> datetime:
    """Five weeks of prices lie before the default: forecasts look back on them."""
    if text is not None:
        return _moment(text, "--start")
    try:
        with prices.open(newline="", encoding="utf-8") as file:
            first = next(iter(csv.DictReader(file)), None)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{prices} is no CSV file in UTF-8: {error}") from error
    if first is None or not first.get("time_utc"):
        raise ValueError(f"{prices}: no first row with a `time_utc`, so --start must be given")
    at = _moment(first["time_utc"], f"{prices}: the first `time_utc`")
    return (at + timedelta(days=36)).replace(hour=0, minute=0, second=0, microsecond=0)


def _moment(text: str, what: str) -> datetime:
    """A time without a zone is UTC."""
    try:
        at = datetime.fromisoformat(text.strip())
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        if not EARLIEST <= at <= LATEST:
            raise ValueError(text)
    except ValueError as error:
        raise ValueError(
            f"{what} must be a time such as 2023-06-01T00:00Z, in the years 2000 to 2099, got {text!r}"
        ) from error
    return at.astimezone(UTC)


def _days(text: str) -> tuple[float, float]:
    first, dash, last = text.partition("-")
    try:
        days = float(first), float(last)
    except ValueError:
        dash = ""
    if not dash or not 0 <= days[0] < days[1]:
        raise ValueError(f"--days must be FROM-TO with FROM below TO, such as 0-7, got {text!r}")
    return days


def _values(text: str) -> dict[str, float]:
    """`standard=0.03,high=0.1` over the defaults of the configuration."""
    values = {"low": 0.5, "standard": 1.5, "high": 4.0}
    for item in text.split(","):
        name, _, worth = (part.strip() for part in item.partition("="))
        if name not in values:
            raise ValueError(f"--value: {item!r} names none of the classes {', '.join(values)}")
        try:
            values[name] = float(worth)
        except ValueError as error:
            raise ValueError(f"--value: {item!r} is not CLASS=MONEY") from error
        if not 0 < values[name] < math.inf:
            raise ValueError(f"--value: {item!r} must be above 0")
    return values


def _table(summary: dict[str, Any]) -> Table:
    """A line per policy: money, energy, time, promises."""
    rows = []
    for name, found in summary["policies"].items():
        rows.append(
            (
                name,
                figure(found["gpu_cost"]),
                figure(found["cost"]),
                figure(found["energy_kwh"], digits=0),
                duration(found["mean_jct_s"]),
                duration(found["p99_jct_s"]),
                figure(found["mean_slowdown"]),
                f"{found['deadlines_missed']} of {found['deadlines']}",
                str(found["contracts_broken_beyond_tolerance"]),
                share(found["saving_captured"]),
                figure(found["budget_excess_caps_ws"], digits=0),
            )
        )
    columns = [
        *("policy", "GPU cost", "site cost", "kWh", "mean JCT", "p99 JCT", "slowdown"),
        *("late", "broken", "saving captured", "excess Ws"),
    ]
    return table(columns, rows, right=range(1, len(columns)))
