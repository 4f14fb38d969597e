"""What was used and what it cost over a period, summed up as asked. The rows add up to the meter."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.dependencies import ServicesDep, operation_id
from api.errors import Problem, problems
from api.fields import Instant, View
from api.routes.job_story import BillView, bill_view
from api.services import Services
from scheduler.bill import EnergyRow
from scheduler.model import Job
from scheduler.store import NotFound

router = APIRouter(tags=["reports"], generate_unique_id_function=operation_id)

LONGEST = timedelta(days=366)
Group = Literal["kind", "job", "owner", "project", "day", "slot"]

ENERGY_COLUMNS = (
    "energy_kwh",
    "integral_kwh",
    "gpu_hours",
    "average_cap_w",
    "samples",
    "samples_per_kwh",
    "co2_g",
    "unknown_carbon_kwh",
)
COST_COLUMNS = ("energy_kwh", "cost", "unpriced_kwh", "gpu_hours", "co2_g", "slowdown_used")


class ReportFilter(BaseModel):
    """Slots that begin in `start <= t < end`; the last day when nothing is asked."""

    model_config = ConfigDict(extra="forbid")

    start: Instant | None = None
    end: Instant | None = None
    group_by: Annotated[Group, Field(description="each is split into gpu, idle and host energy")] = "job"
    format: Literal["json", "csv"] = "json"


class ReportRow(View):
    """`kind` gpu = under a job, idle = a GPU without one, host = base loads."""

    kind: str
    key: str | None = Field(description="what it is grouped by; null for energy of no job")
    name: str | None = Field(description="the job's name, when grouped by job")
    figures: BillView


class Report(View):
    """The rows' sum is `total`: the site's meter."""

    start: Instant
    end: Instant
    currency: str
    group_by: str
    rows: list[ReportRow]
    total: BillView


CSV = {"content": {"text/csv": {"schema": {"type": "string"}}}}


@router.get(
    "/v1/reports/energy",
    summary="Energy over a period",
    response_model=Report,
    responses={200: {**CSV, "description": "as asked by `format`"}, **problems()},
)
def energy_report(services: ServicesDep, query: Annotated[ReportFilter, Query()]) -> Report | Response:
    report = _report(services, query)
    return _csv(report, ENERGY_COLUMNS) if query.format == "csv" else report


@router.get(
    "/v1/reports/cost",
    summary="Cost over a period",
    response_model=Report,
    responses={200: {**CSV, "description": "as asked by `format`"}, **problems()},
)
def cost_report(services: ServicesDep, query: Annotated[ReportFilter, Query()]) -> Report | Response:
    report = _report(services, query)
    return _csv(report, COST_COLUMNS) if query.format == "csv" else report


def _report(services: Services, query: ReportFilter) -> Report:
    """Raises Problem 422."""
    now = services.clock.now()
    end = query.end or now
    start = query.start or end - timedelta(days=1)
    if not start < end <= start + LONGEST:
        raise Problem(422, f"must be after the start, by at most {LONGEST.days} days", field="end")
    rows = services.store.energy.rows(start=start, end=end)
    jobs = _jobs(services, {row.job_id for row in rows if row.job_id is not None})
    key_of = _keys(query.group_by, jobs)
    groups: dict[tuple[str, str | None], list[EnergyRow]] = {}
    for row in rows:
        groups.setdefault((row.kind, key_of(row)), []).append(row)
    return Report(
        start=start,
        end=end,
        currency=services.config.site.currency,
        group_by=query.group_by,
        rows=[
            ReportRow(kind=kind, key=key, name=_name(key, jobs), figures=bill_view(part))
            for (kind, key), part in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        ],
        total=bill_view(rows),
    )


def _keys(group_by: Group, jobs: dict[str, Job]) -> Callable[[EnergyRow], str | None]:
    def of_job(row: EnergyRow) -> Job | None:
        return jobs.get(row.job_id or "")

    keys: dict[str, Callable[[EnergyRow], str | None]] = {
        "kind": lambda row: None,
        "job": lambda row: row.job_id,
        "owner": lambda row: job.owner if (job := of_job(row)) else None,
        "project": lambda row: job.spec.project if (job := of_job(row)) else None,
        "day": lambda row: row.slot_start.astimezone(UTC).date().isoformat(),
        "slot": lambda row: _stamp(row.slot_start),
    }
    return keys[group_by]


def _jobs(services: Services, ids: Iterable[str]) -> dict[str, Job]:
    found = {}
    for job_id in ids:
        try:
            found[job_id] = services.store.jobs.get(job_id)
        except NotFound:
            continue
    return found


def _name(key: str | None, jobs: dict[str, Job]) -> str | None:
    job = jobs.get(key or "")
    return None if job is None else job.spec.name


def _csv(report: Report, columns: tuple[str, ...]) -> Response:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["start", "end", "currency", "kind", report.group_by, "name", *columns])
    whole = ReportRow(kind="total", key=None, name=None, figures=report.total)
    for row in [*report.rows, whole]:
        figures = row.figures.model_dump()
        cells = [_stamp(report.start), _stamp(report.end), report.currency, row.kind, row.key, row.name]
        writer.writerow([_cell(cell) for cell in cells] + [_cell(figures[name]) for name in columns])
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8")


def _cell(value: object) -> str:
    """A spreadsheet must not take a job's name for a formula."""
    if value is None:
        return ""
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _stamp(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
