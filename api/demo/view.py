"""The demonstration on a terminal: what is happening now, and at the end the bill."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.commands.tables import NONE, figure, share, state_text, table, watts
from api.demo.judge import JobSeen, Seen, Verdict
from api.demo.prices import FIRST_HOUR, PRICES_PER_MWH
from api.demo.receipt import Receipt
from api.demo.scenario import CAP_ABOVE_PER_MWH, CEILING_PER_MWH, DemoJob

BLOCKS = "▁▂▃▄▅▆▇█"
HISTORY = 60
TOLD = 7


def live(looks: Sequence[Seen], jobs: Sequence[DemoJob], told: Sequence[str], note: str) -> RenderableType:
    """The whole screen."""
    if not looks:
        return Group(Text(note, style="bold"), *(Text(f"  {line}", style="dim") for line in told[-TOLD:]))
    now = looks[-1]
    return Group(
        Text.assemble(("wattmill demo", "bold"), f"   {now.at:%a %d %b %Y  %H:%M} UTC"),
        Text(note, style="dim"),
        Text(""),
        _power(looks),
        _price(now),
        Text(""),
        _jobs(now, jobs),
        Text(""),
        *(Text(f"  {line}", style="dim") for line in told[-TOLD:]),
        Text("  Ctrl-C stops everything and leaves nothing behind.", style="dim italic"),
    )


def _power(looks: Sequence[Seen]) -> RenderableType:
    now = looks[-1]
    limit_w = now.limit_w or max(look.accounted_w for look in looks)
    bar = ProgressBar(
        total=limit_w,
        completed=min(limit_w, now.draw_w or 0.0),
        width=26,
        complete_style="red" if now.over_domain else "green",
        finished_style="green",
    )
    figures = Text.assemble((watts(now.draw_w), "bold"), f" of {watts(now.limit_w)}")
    figures.append(f", worst case {watts(now.accounted_w)}", style="dim")
    row = Table.grid(padding=(0, 2))
    row.add_row(Text("power ", style="dim"), bar, figures)
    history = [look.draw_w for look in looks[-HISTORY:] if look.draw_w is not None]
    return Group(row, Text.assemble("        ", (spark(history, 0.0, limit_w), "green")))


def _price(now: Seen) -> Text:
    hour = int((now.at - FIRST_HOUR).total_seconds() // 3600)
    line = Text.assemble(("price   ", "dim"))
    blocks = spark(PRICES_PER_MWH, 0.0, max(PRICES_PER_MWH))
    for index, block in enumerate(blocks):
        price = PRICES_PER_MWH[index]
        style = "red" if price > CEILING_PER_MWH else "yellow" if price > CAP_ABOVE_PER_MWH else "cyan"
        line.append(
            block, style=f"{style} reverse" if index == hour else style if index > hour else f"{style} dim"
        )
    price_now = now.price_per_mwh
    hot = price_now is not None and price_now > CAP_ABOVE_PER_MWH
    line.append(f"  {figure(price_now)} EUR/MWh", style="bold red" if hot else "bold")
    return line.append(f"   {figure(now.carbon_g_per_kwh, 'g CO2/kWh', 0)}", style="dim")


def spark(values: Sequence[float], low: float, high: float) -> str:
    """One block per value between `low` and `high`."""
    span = max(high - low, 1e-9)
    return "".join(BLOCKS[max(0, min(7, int((v - low) / span * 7.999)))] for v in values)


def _jobs(now: Seen, jobs: Sequence[DemoJob]) -> Table:
    columns = ("JOB", "STATE", "CAP/GPU", "SPEED", "SAMPLES/S", "SLOWER", "DONE")
    rows = [_job_row(plan, now.job(plan.role)) for plan in jobs]
    return table(columns, rows, right=(2, 3, 4, 5, 6))


def _job_row(plan: DemoJob, job: JobSeen | None) -> tuple[object, ...]:
    """`SPEED` is of uncapped, by the power curve at its cap; `SLOWER` the part of its work lost so far."""
    gpus = f", {plan.gpus} GPUs" if plan.gpus > 1 else ""
    name = Text.assemble(plan.role, (f"{gpus}\n{plan.promise}", "dim"))
    if job is None:
        return (name, *([NONE] * 6))
    running = job.state == "RUNNING"
    done = NONE
    if job.state == "SUCCEEDED":
        done = "100 %"
    elif job.total_steps and job.step is not None:
        done = f"{100 * job.step // job.total_steps} %"
    return (
        name,
        _state(job),
        watts(job.cap_w) if running else NONE,
        f"{job.throughput_share:.0%}" if running and job.throughput_share is not None else NONE,
        figure(job.samples_per_s, digits=0) if running else NONE,
        share(job.used_share),
        done,
    )


def _state(job: JobSeen) -> Text:
    shown = state_text(job.state)
    if job.state == "RUNNING" and job.condition != "NOMINAL":
        shown.append(f"\n{job.condition.lower().replace('_', ' by ')}", style="yellow")
    return shown


def bill(receipts: Sequence[Receipt], currency: str, cores: float) -> RenderableType:
    """The receipts, measured and estimated side by side, with their sums."""
    measured = ("JOB", "KWH", currency, "KG CO2", "MEAN CAP", "SLOWER", "PAUSED")
    columns = (*measured, "KWH*", f"{currency}*", "KG CO2*")
    shown = table(columns, [_bill_row(r) for r in (*receipts, _total(receipts))], right=range(1, 10))
    note = (
        "Measured by the GPUs' energy counters, at the price and carbon of each hour.\n"
        "* Estimate, no measurement: the same work without caps and pauses, each job at its own draw"
        " before any throttle, at the prices it would then have met.\n"
        f"The jobs share {cores:g} CPU cores here: when one is throttled, the others speed up."
    )
    saving = _saving(receipts, currency)
    return Group(Text("The bill", style="bold"), shown, Text(""), saving, Text(note, style="dim"))


def _bill_row(r: Receipt) -> tuple[str, ...]:
    return (
        r.role,
        figure(r.energy_kwh),
        figure(r.cost, digits=3),
        figure(r.co2_kg),
        watts(r.average_cap_w),
        share(r.slowdown_used),
        f"{r.paused_s / 3600:.1f} h" if r.paused_s else NONE,
        figure(r.estimated_kwh),
        figure(r.estimated_cost, digits=3),
        figure(r.estimated_co2_kg),
    )


def _total(receipts: Sequence[Receipt]) -> Receipt:
    def total(name: str) -> float | None:
        values = [getattr(r, name) for r in receipts]
        return None if any(v is None for v in values) else sum(values)

    return Receipt(
        role="all",
        energy_kwh=total("energy_kwh") or 0.0,
        cost=total("cost"),
        co2_kg=total("co2_kg"),
        gpu_hours=total("gpu_hours") or 0.0,
        average_cap_w=None,
        slowdown_used=None,
        paused_s=0.0,
        estimated_kwh=total("estimated_kwh"),
        estimated_cost=total("estimated_cost"),
        estimated_co2_kg=total("estimated_co2_kg"),
    )


def _saving(receipts: Sequence[Receipt], currency: str) -> Text:
    total = _total(receipts)
    if total.cost is None or not total.estimated_cost:
        return Text("")
    saved = total.estimated_cost - total.cost
    word = "less" if saved >= 0 else "more"
    part = abs(saved) / abs(total.estimated_cost)
    line = f"{abs(saved):.3f} {currency} ({part:.0%}) {word} than the estimate without throttling."
    return Text(line, style="bold")


def verdicts(found: Sequence[Verdict]) -> RenderableType:
    return Group(
        *(
            Text.assemble(
                ("kept   " if v.kept else "BROKEN ", "green" if v.kept else "bold red"),
                f"{v.promise}: {v.shown_by}",
            )
            for v in found
        )
    )


def stamp(at: datetime, line: str) -> str:
    return f"{at:%H:%M}  {line}"
