"""Energy-Charts (Fraunhofer ISE): day-ahead prices and carbon intensity for Europe, without a key.

Parsing is pure. The unit string of prices is not stable, so it is compared without spaces against a
known list; the resolution (60 or 15 minutes, by zone and date) is read from the timestamps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from power.clock import Clock
from power.grid.feed import FeedAnswer, FeedError, Kind
from power.grid.http import get
from power.grid.validate import CARBON_BAND, PRICE_BAND, Band, check_points, compact_unit, whole_slots
from power.series import Series

BASE_URL = "https://api.energy-charts.info"
CURRENCY = "EUR"
PRICE_UNITS = frozenset({"eur/mwh", "eur/megawatt_hour", "eur/megawatthour"})
CARBON_UNITS = frozenset({"gco2eq/kwh", "g/kwh", "gco2e/kwh", "gco2/kwh"})
MAX_POINTS = 50_000
LOCAL_TIME_AHEAD = timedelta(hours=3)  # no zone it serves is further east of UTC

Fetch = Callable[[str], bytes]
"""URL -> body. Raises FeedError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """An answer's good points, what was refused, and the licence that came with it."""

    series: Series
    refused: tuple[str, ...]
    attribution: str


class EnergyCharts:
    """One kind for one bidding zone (prices) or country (carbon)."""

    def __init__(
        self,
        kind: Kind,
        *,
        area: str,
        clock: Clock,
        currency: str = CURRENCY,
        band: Band | None = None,
        deadline_s: float = 10.0,
        max_bytes: int = 2 * 1024 * 1024,
        fetch: Fetch | None = None,
        base_url: str = BASE_URL,
    ) -> None:
        self.kind = kind
        self.name = f"energy_charts:{area}"
        self._area = area
        self._clock = clock
        self._currency = currency
        self._band = band or (PRICE_BAND if kind is Kind.PRICE else CARBON_BAND)
        self._fetch = fetch or (lambda url: get(url, deadline_s=deadline_s, max_bytes=max_bytes))
        self._base_url = base_url.rstrip("/")

    def fetch(self, start: datetime, end: datetime) -> FeedAnswer:
        """See `Feed.fetch`. Whole slots that touch the asked interval."""
        body = self._fetch(self.url(start, end))
        try:
            if self.kind is Kind.PRICE:
                parsed = parse_price(body, self._band, currency=self._currency)
            else:
                parsed = parse_carbon(body, self._band)
        except FeedError as error:
            raise FeedError(f"{self.name}: {error}") from error
        series = whole_slots(parsed.series, start, end)
        if not series.slots:
            raise FeedError(f"{self.name}: nothing for {start.isoformat()} .. {end.isoformat()}")
        return FeedAnswer(
            kind=self.kind,
            series=series,
            source=self.name,
            fetched_at=self._clock.now(),
            attribution=parsed.attribution,
            refused=parsed.refused,
        )

    def url(self, start: datetime, end: datetime) -> str:
        """Dates are local days of the zone, both included; the UTC dates around them are asked for."""
        if self.kind is Kind.CARBON:
            return f"{self._base_url}/co2eq?{urlencode({'country': self._area})}"
        first = start.astimezone(UTC).date()
        last = (end.astimezone(UTC) - timedelta(seconds=1) + LOCAL_TIME_AHEAD).date()
        query = urlencode({"bzn": self._area, "start": first.isoformat(), "end": last.isoformat()})
        return f"{self._base_url}/price?{query}"


def parse_price(body: bytes, band: Band, *, currency: str = CURRENCY) -> Parsed:
    """Money per MWh from an answer of `/price`.

    Raises:
        FeedError: not the documented shape, an unknown unit, another currency, or no good point at all.
    """
    answer = _object(body)
    unit = compact_unit(answer.get("unit"))
    if unit not in PRICE_UNITS:
        raise FeedError(f"unknown unit {ascii(answer.get('unit'))[:40]}")
    if currency != CURRENCY:
        raise FeedError(f"prices are in {CURRENCY}, the site's currency is {currency}")
    return _checked(answer, _column(answer, "price"), band)


def parse_carbon(body: bytes, band: Band) -> Parsed:
    """Grams of CO2 equivalent per kWh from an answer of `/co2eq`: measured where known, else forecast.

    Raises:
        FeedError: not the documented shape, an unknown unit, or no good point at all.
    """
    answer = _object(body)
    if "unit" in answer and compact_unit(answer["unit"]) not in CARBON_UNITS:
        raise FeedError(f"unknown unit {ascii(answer['unit'])[:40]}")
    measured, forecast = _column(answer, "co2eq"), _column(answer, "co2eq_forecast")
    if len(measured) != len(forecast):
        raise FeedError(f"{len(measured)} measured values but {len(forecast)} forecast ones")
    values = [m if m is not None else f for m, f in zip(measured, forecast, strict=True)]
    return _checked(answer, values, band)


def _checked(answer: dict[str, Any], values: Sequence[object], band: Band) -> Parsed:
    times = _column(answer, "unix_seconds")
    if len(times) != len(values):
        raise FeedError(f"{len(times)} times but {len(values)} values")
    if len(times) > MAX_POINTS:
        raise FeedError(f"{len(times)} points, more than {MAX_POINTS}")
    checked = check_points(zip(map(_time, times), values, strict=True), band)
    if not checked.series.slots:
        first = f"; the first: {checked.refused[0]}" if checked.refused else ""
        raise FeedError(f"no good point among {len(times)}{first}")
    licence = answer.get("license_info")
    attribution = licence[:500] if isinstance(licence, str) else ""
    return Parsed(series=checked.series, refused=checked.refused, attribution=attribution)


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"not JSON: {type(error).__name__}") from error
    if not isinstance(answer, dict):
        raise FeedError(f"expected a JSON object, got {type(answer).__name__}")
    return answer


def _column(answer: dict[str, Any], name: str) -> list[object]:
    column = answer.get(name)
    if not isinstance(column, list):
        raise FeedError(f"no list `{name}` in the answer")
    return column


def _time(value: object) -> object:
    """A unix second as a UTC time; anything else as it came, to be refused by name."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**33:
        return value
    return datetime.fromtimestamp(value, UTC)
