"""What electricity costs and how clean it is: the stored series, and prices that a site feeds in itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import CallerDep, ServicesDep, operation_id, tell
from api.errors import Problem, problems
from api.fields import Body, Instant, Name, Number, View
from api.schemas import age_s
from api.services import Services
from power.grid.feed import Kind
from power.series import Series, Slot

router = APIRouter(tags=["grid"], generate_unique_id_function=operation_id)

BEHIND, AHEAD = timedelta(hours=24), timedelta(hours=48)
LONGEST = timedelta(days=62)
LONGEST_SLOT = timedelta(days=1)


class SeriesFilter(BaseModel):
    """From a day ago to two days ahead when nothing is asked."""

    model_config = ConfigDict(extra="forbid")

    start: Instant | None = None
    end: Instant | None = None


class SlotView(View):
    """`start <= t < end` has this value."""

    start: Instant
    end: Instant
    value: float
    source: str


class SeriesView(View):
    """A series with where it came from and how old it is. Gaps between slots are unknown, not zero."""

    kind: str = Field(examples=["price"])
    unit: str = Field(examples=["EUR/MWh"])
    source: str | None = Field(description="of the newest fetch; each slot names its own")
    attribution: str
    fetched_at: Instant | None
    age_s: float | None = Field(description="since the newest fetch, in grid time")
    resolution_s: float | None = Field(description="read from the slots")
    now: float | None = Field(description="the value at this moment; null = unknown")
    slots: list[SlotView]
    refused: list[str] = Field(description="points that the newest fetch was refused, and why")


class PointIn(Body):
    """A value from `start` to `end`; without `end` until the next point."""

    start: Instant
    end: Instant | None = None
    value: Number


class PricesIn(Body):
    """Prices per MWh in the site's currency. A bad point refuses the whole series; the stored one stays."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "contract",
                    "points": [
                        {"start": "2026-01-31T12:00:00Z", "value": 84.5},
                        {"start": "2026-01-31T13:00:00Z", "value": 91.0},
                    ],
                }
            ]
        }
    )

    points: Annotated[list[PointIn], Field(min_length=1, max_length=20_000)]
    source: Name = "local"
    attribution: Annotated[str, Field(strict=True, max_length=500)] = ""
    currency: Annotated[Name | None, Field(description="must be the site's, when given")] = None


@router.get("/v1/prices", summary="Prices, with source and age", responses=problems())
def get_prices(services: ServicesDep, query: Annotated[SeriesFilter, Query()]) -> SeriesView:
    return _series(services, Kind.PRICE, f"{services.config.site.currency}/MWh", query)


@router.get("/v1/carbon", summary="Carbon intensity, with source and age", responses=problems())
def get_carbon(services: ServicesDep, query: Annotated[SeriesFilter, Query()]) -> SeriesView:
    return _series(services, Kind.CARBON, "gCO2eq/kWh", query)


@router.post(
    "/v1/prices",
    status_code=201,
    summary="Feed in prices of your own",
    responses=problems(413, 415),
)
def post_prices(body: PricesIn, services: ServicesDep, who: CallerDep) -> SeriesView:
    series = _checked(body, services)
    now = services.clock.now()
    services.store.series.put_local(Kind.PRICE, series, now, source=body.source, attribution=body.attribution)
    tell(services, "prices.posted", source=body.source, points=len(series), by=who.name)
    window = SeriesFilter(start=series.slots[0].start, end=series.slots[-1].end)
    return _series(services, Kind.PRICE, f"{services.config.site.currency}/MWh", window)


def _series(services: Services, kind: Kind, unit: str, query: SeriesFilter) -> SeriesView:
    now = services.clock.now()
    start, end = window(query.start, query.end, now)
    answer = services.store.series.load(kind)
    slots = services.store.series.slots(kind, start, end)
    return SeriesView(
        kind=kind.value,
        unit=unit,
        source=None if answer is None else answer.source,
        attribution="" if answer is None else answer.attribution,
        fetched_at=None if answer is None else answer.fetched_at,
        age_s=None if answer is None else age_s(now, answer.fetched_at),
        resolution_s=None if answer is None else answer.series.resolution_s(),
        now=None if answer is None else answer.series.at(now),
        slots=[SlotView(start=s.start, end=s.end, value=s.value, source=s.source) for s in slots],
        refused=[] if answer is None else list(answer.refused),
    )


def window(start: datetime | None, end: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The period asked for, or from a day ago to two days ahead. Raises Problem 422."""
    first = start or (end - BEHIND - AHEAD if end else now - BEHIND)
    last = end or (start + BEHIND + AHEAD if start else now + AHEAD)
    if last <= first:
        raise Problem(422, "must be after the start", field="end")
    if last - first > LONGEST:
        raise Problem(422, f"at most {LONGEST.days} days at once", field="end")
    return first, last


def _checked(body: PricesIn, services: Services) -> Series:
    """Raises Problem 422 that names the points."""
    if body.currency is not None and body.currency != services.config.site.currency:
        raise Problem(422, f"prices here are in {services.config.site.currency}", field="currency")
    signal = services.config.price
    errors = [
        (
            f"points.{index}.value",
            f"is outside the plausible {signal.plausible_min:g} to {signal.plausible_max:g} per MWh",
        )
        for index, point in enumerate(body.points)
        if not signal.plausible_min <= point.value <= signal.plausible_max
    ]
    errors += [
        (f"points.{index + 1}.start", "must be later than the point before it")
        for index, (before, after) in enumerate(pairwise(body.points))
        if after.start <= before.start or (before.end is not None and after.start < before.end)
    ]
    errors += [
        (f"points.{index}.end", "must be after the start, by at most a day")
        for index, point in enumerate(body.points)
        if point.end is not None and not point.start < point.end <= point.start + LONGEST_SLOT
    ]
    if errors:
        raise Problem(
            422, f"{len(errors)} mistakes, first: {errors[0][0]}: {errors[0][1]}", errors=errors[:50]
        )
    if all(point.end is None for point in body.points):
        return Series.from_starts((point.start, point.value) for point in body.points)
    return Series(tuple(_slot(body.points, index) for index in range(len(body.points))))


def _slot(points: list[PointIn], index: int) -> Slot:
    point = points[index]
    following = points[index + 1].start if index + 1 < len(points) else point.start + timedelta(hours=1)
    return Slot(point.start, point.end or min(following, point.start + LONGEST_SLOT), point.value)
