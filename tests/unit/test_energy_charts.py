"""Energy-Charts: recorded answers, and answers bent in every way that has been seen or feared."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from power.clock import FakeClock
from power.grid.energy_charts import EnergyCharts, parse_carbon, parse_price
from power.grid.feed import FeedError, Kind
from power.grid.validate import CARBON_BAND, PRICE_BAND
from tests.feed_builders import hostile_server

HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
START = datetime(2025, 11, 20, tzinfo=UTC)


def answer(values: list[Any], *, step: timedelta = QUARTER, **changes: Any) -> bytes:
    first, step_s = int(START.timestamp()), int(step.total_seconds())
    times = [first + i * step_s for i in range(len(values))]
    return json.dumps({"unix_seconds": times, "price": values, "unit": "EUR / MWh", **changes}).encode()


def feed(body: bytes | Callable[[str], bytes], kind: Kind = Kind.PRICE, **options: Any) -> EnergyCharts:
    fetch = body if callable(body) else lambda url: body
    area = "DE-LU" if kind is Kind.PRICE else "de"
    return EnergyCharts(kind, area=area, clock=FakeClock(START), fetch=fetch, **options)


class TestRecorded:
    def test_two_days_of_prices(self, data_dir: Path) -> None:
        body = (data_dir / "grid/raw_responses/energy_charts/price_DE-LU_20241210_11.json").read_bytes()
        parsed = parse_price(body, PRICE_BAND)
        assert len(parsed.series) == 48
        assert parsed.refused == ()
        assert parsed.series.resolution_s() == 3600
        assert parsed.series.slots[0].start == datetime(2024, 12, 9, 23, tzinfo=UTC)
        assert parsed.series.at(datetime(2024, 12, 11, 16, 30, tzinfo=UTC)) == 445.08
        assert parsed.attribution.startswith("CC BY 4.0")

    def test_carbon_takes_the_measured_value_and_then_the_forecast(self, data_dir: Path) -> None:
        body = (data_dir / "grid/raw_responses/shape_examples/energy_charts_co2eq.json").read_bytes()
        parsed = parse_carbon(body, CARBON_BAND)
        assert [slot.value for slot in parsed.series] == [491.5, 497.4, 502.6, 505.0, 508.0]
        assert parsed.series.resolution_s() == 900


class TestUnits:
    @pytest.mark.parametrize(
        "unit", ["EUR / MWh", "EUR/MWh", " eur /\tMWh ", "EUR / megawatt_hour", "EUR/megawatthour"]
    )
    def test_known_spellings(self, unit: str) -> None:
        assert len(parse_price(answer([1.0], unit=unit), PRICE_BAND).series) == 1

    @pytest.mark.parametrize(
        "unit", ["EUR/kWh", "ct/kWh", "USD/MWh", "EUR/MW", "", None, 5, ["EUR/MWh"], "EUR/MWh;x"]
    )
    def test_anything_else_is_refused_whole(self, unit: object) -> None:
        with pytest.raises(FeedError, match="unknown unit"):
            parse_price(answer([1.0], unit=unit), PRICE_BAND)

    def test_a_missing_unit_is_refused(self) -> None:
        with pytest.raises(FeedError, match="unknown unit"):
            parse_price(b'{"unix_seconds": [0], "price": [1]}', PRICE_BAND)

    def test_another_currency_than_the_sites_is_refused(self) -> None:
        with pytest.raises(FeedError, match="in EUR, the site's currency is SEK"):
            parse_price(answer([1.0]), PRICE_BAND, currency="SEK")

    def test_a_unit_of_carbon_that_is_no_gram_per_kwh_is_refused(self) -> None:
        body = b'{"unix_seconds": [1763596800], "co2eq": [400], "co2eq_forecast": [null], "unit": "lb/MWh"}'
        with pytest.raises(FeedError, match="unknown unit"):
            parse_carbon(body, CARBON_BAND)


class TestPoints:
    @pytest.mark.parametrize(
        ("literal", "why"),
        [
            ("NaN", "not finite"),
            ("Infinity", "not finite"),
            ("-Infinity", "not finite"),
            ("1e999", "not finite"),
            ("1e308", "outside"),
            ("-1e9", "outside"),
            ("1" + "0" * 400, "outside"),
            ('"12"', "not a number but str"),
            ('""', "not a number but str"),
            ("true", "not a number but bool"),
            ("null", "no value"),
            ("[1]", "not a number but list"),
            ("{}", "not a number but dict"),
        ],
    )
    def test_a_bad_value_is_refused_alone(self, literal: str, why: str) -> None:
        body = answer([10.0, 12345.0, 30.0]).replace(b"12345.0", literal.encode())
        parsed = parse_price(body, PRICE_BAND)
        assert [slot.value for slot in parsed.series] == [10.0, 30.0]
        assert len(parsed.refused) == 1
        assert parsed.refused[0].startswith("2025-11-20T00:15:00Z: ")
        assert why in parsed.refused[0]

    def test_a_refused_point_leaves_a_gap_and_not_a_longer_neighbour(self) -> None:
        series = parse_price(answer([1.0, None, 3.0, 4.0]), PRICE_BAND).series
        assert series.at(START + timedelta(minutes=14)) == 1.0
        assert series.at(START + timedelta(minutes=16)) is None

    @pytest.mark.parametrize("value", [-500.0, 0.0, 0, 4000.0, 5000, -0.01])
    def test_extreme_and_negative_prices_are_normal(self, value: float) -> None:
        assert parse_price(answer([value, 1.0]), PRICE_BAND).series.at(START) == value

    @pytest.mark.parametrize("time", ['"1763596800"', "true", "null", "1.5", "-5", "99999999999", "1e30"])
    def test_a_bad_time_is_refused_alone(self, time: str) -> None:
        body = answer([10.0, 20.0]).replace(str(int(START.timestamp())).encode(), time.encode())
        parsed = parse_price(body, PRICE_BAND)
        assert [slot.value for slot in parsed.series] == [20.0]
        assert len(parsed.refused) == 1

    def test_no_good_point_is_an_error_that_shows_the_first(self) -> None:
        with pytest.raises(FeedError, match=r"no good point among 2; the first: .*00:00Z: not a number"):
            parse_price(answer(["a", "b"]), PRICE_BAND)

    def test_nothing_published_is_an_error(self) -> None:
        with pytest.raises(FeedError, match="no good point among 0"):
            parse_price(answer([]), PRICE_BAND)


class TestResolution:
    def test_quarters(self) -> None:
        assert parse_price(answer([1.0] * 8), PRICE_BAND).series.resolution_s() == 900

    def test_the_last_slot_is_as_long_as_the_one_before(self) -> None:
        assert parse_price(answer([1.0, 2.0], step=HOUR), PRICE_BAND).series.slots[-1].end == START + 2 * HOUR

    def test_hours_may_turn_into_quarters_inside_an_answer(self) -> None:
        first = int(START.timestamp())
        times = [first + i * 3600 for i in range(24)] + [first + 86400 + i * 900 for i in range(96)]
        body = json.dumps({"unix_seconds": times, "price": [float(i) for i in range(120)], "unit": "EUR/MWh"})
        slots = parse_price(body.encode(), PRICE_BAND).series.slots
        assert {slot.duration_s for slot in slots[:24]} == {3600}
        assert {slot.duration_s for slot in slots[24:]} == {900}


class TestShapes:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"42",
            b'"text"',
            b"{",
            b"\xff\xfe",
            b"[" * 200_000,
            b"{}",
            b'{"unit":"EUR/MWh"}',
            b'{"unit":"EUR/MWh","unix_seconds":[1],"price":{}}',
            b'{"unit":"EUR/MWh","unix_seconds":"1","price":[1]}',
            b'{"unit":"EUR/MWh","unix_seconds":[1,2],"price":[1]}',
            b'{"unit":"EUR/MWh","unix_seconds":[' + b"9" * 5000 + b'],"price":[1]}',
        ],
        ids=lambda body: repr(body[:40]),
    )
    def test_another_shape_is_an_error_and_no_crash(self, body: bytes) -> None:
        with pytest.raises(FeedError):
            parse_price(body, PRICE_BAND)
        with pytest.raises(FeedError):
            parse_carbon(body, CARBON_BAND)

    def test_too_many_points_are_refused_whole(self) -> None:
        with pytest.raises(FeedError, match="more than 50000"):
            parse_price(answer([1.0] * 50_001), PRICE_BAND)


class TestFetch:
    def test_gives_whole_slots_that_touch_the_interval(self) -> None:
        got = feed(answer([1.0, 2.0, 3.0, 4.0], license_info="CC BY 4.0")).fetch(
            START + timedelta(minutes=20), START + timedelta(minutes=31)
        )
        assert [(slot.start, slot.value) for slot in got.series] == [
            (START + QUARTER, 2.0),
            (START + 2 * QUARTER, 3.0),
        ]
        assert (got.source, got.fetched_at, got.attribution) == ("energy_charts:DE-LU", START, "CC BY 4.0")

    def test_an_answer_for_another_time_is_an_error(self) -> None:
        with pytest.raises(FeedError, match="energy_charts:DE-LU: nothing for"):
            feed(answer([1.0])).fetch(START + timedelta(days=3), START + timedelta(days=4))

    def test_errors_name_the_feed(self) -> None:
        with pytest.raises(FeedError, match="energy_charts:DE-LU: not JSON"):
            feed(b"oops").fetch(START, START + HOUR)

    def test_asks_for_the_local_days_around_the_interval(self) -> None:
        asked: list[str] = []

        def record(url: str) -> bytes:
            asked.append(url)
            return answer([1.0])

        feed(record).fetch(START, START + timedelta(hours=24))
        assert asked == ["https://api.energy-charts.info/price?bzn=DE-LU&start=2025-11-20&end=2025-11-21"]

    def test_carbon_is_asked_by_country(self) -> None:
        carbon = feed(b"", kind=Kind.CARBON)
        assert carbon.url(START, START + HOUR) == "https://api.energy-charts.info/co2eq?country=de"

    def test_an_area_cannot_change_the_query(self) -> None:
        sly = EnergyCharts(Kind.PRICE, area="DE&end=1#", clock=FakeClock(START))
        assert "bzn=DE%26end%3D1%23&start" in sly.url(START, START + HOUR)

    def test_the_default_way_out_reaches_no_loopback(self) -> None:
        with hostile_server() as server:
            local = EnergyCharts(
                Kind.PRICE, area="DE-LU", clock=FakeClock(START), base_url=server.url("", scheme="https")
            )
            with pytest.raises(FeedError, match="not a public address"):
                local.fetch(START, START + HOUR)
            assert server.hits == []
