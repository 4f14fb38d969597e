"""CSV replay and fixed values, and building feeds from configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from power.clock import FakeClock
from power.grid.energy_charts import EnergyCharts
from power.grid.feed import FeedError, Kind
from power.grid.fixed import FixedFeed
from power.grid.registry import FeedLimits, InvalidFeed, build_chain, build_feed
from power.grid.replay import ReplayFeed
from power.grid.validate import PRICE_BAND

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = datetime(2026, 1, 15, tzinfo=UTC)
CLOCK = FakeClock(START)
LIMITS = FeedLimits(band=PRICE_BAND)


@dataclass(frozen=True)
class Settings:
    type: str
    zone: str = "DE-LU"
    country: str = "de"
    path: Path | None = None
    value: float | None = None


def replay(tmp_path: Path, *rows: str, header: str = "time_utc,value") -> ReplayFeed:
    path = tmp_path / "prices.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return ReplayFeed(path, Kind.PRICE, clock=CLOCK)


class TestRecordedDays:
    """Local days of 23, 24 and 25 hours, by UTC instants."""

    def slots(self, data_dir: Path, first: datetime, last: datetime) -> list[float]:
        path = data_dir / "grid/prices/SE4_dayahead_15min_2025-10_2026-04.csv"
        answer = ReplayFeed(path, Kind.PRICE, clock=CLOCK).fetch(first, last)
        assert answer.refused == ()
        assert {slot.duration_s for slot in answer.series} == {900}
        assert answer.series.slots[0].start == first
        assert answer.series.slots[-1].end == last
        return [slot.value for slot in answer.series]

    def test_the_autumn_day_has_100_quarters(self, data_dir: Path) -> None:
        first, last = datetime(2025, 10, 25, 22, tzinfo=UTC), datetime(2025, 10, 26, 23, tzinfo=UTC)
        assert len(self.slots(data_dir, first, last)) == 100

    def test_the_spring_day_has_92_quarters(self, data_dir: Path) -> None:
        first, last = datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)
        assert len(self.slots(data_dir, first, last)) == 92

    def test_a_year_with_hundreds_of_negative_hours(self, data_dir: Path) -> None:
        path = data_dir / "grid/prices/DE-LU_dayahead_60min_2023.csv"
        feed = ReplayFeed(path, Kind.PRICE, clock=CLOCK)
        year = feed.fetch(datetime(2022, 12, 31, 23, tzinfo=UTC), datetime(2023, 12, 31, 23, tzinfo=UTC))
        values = [slot.value for slot in year.series]
        assert (len(values), min(values), sum(v < 0 for v in values)) == (8760, -500.0, 301)
        assert year.refused == ()

    def test_rows_of_the_repeated_hour_as_once_published(self, data_dir: Path, tmp_path: Path) -> None:
        """Wrong rows carried the same instants as the right ones that followed: the later row wins."""
        lines = (
            data_dir / "grid/raw_responses/elprisetjustnu/SE4_20251026_dst_fallback_rows.csv"
        ).read_text()
        cells = [line.split(",") for line in lines.splitlines()]
        when, price = cells[0].index("time_start"), cells[0].index("EUR_per_kWh")
        rows = [f"{row[when]},{float(row[price]) * 1000}" for row in cells[1:]]
        feed = replay(tmp_path, *rows)
        answer = feed.fetch(datetime(2025, 10, 25, 20, tzinfo=UTC), datetime(2025, 10, 27, tzinfo=UTC))
        assert (len(rows), len(answer.series), len(answer.refused)) == (24, 21, 3)
        assert all("given twice" in line for line in answer.refused)
        assert answer.series.at(datetime(2025, 10, 26, 1, tzinfo=UTC)) == pytest.approx(2.88)


class TestReplay:
    def test_reads_values_with_any_offset(self, tmp_path: Path) -> None:
        feed = replay(tmp_path, "2026-01-15T00:00:00Z,1", "2026-01-15T02:00:00+01:00,-2.5")
        series = feed.fetch(START, START + DAY).series
        assert [(slot.start, slot.value) for slot in series] == [(START, 1.0), (START + HOUR, -2.5)]

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ("2026-01-15T02:00:00Z,nan", "not finite"),
            ("2026-01-15T02:00:00Z,inf", "not finite"),
            ("2026-01-15T02:00:00Z,1e308", "outside"),
            ("2026-01-15T02:00:00Z,abc", "not a number but str"),
            ("2026-01-15T02:00:00Z,1_000", "not a number but str"),
            ("2026-01-15T02:00:00Z,١٢", "not a number but str"),
            ("2026-01-15T02:00:00Z,", "no value"),
            ("2026-01-15T02:00:00Z,1,2", "not a time"),
            ("2026-01-15T02:00:00Z", "not a time"),
            ("2026-01-15T02:00:00,5", "without a zone"),
            ("yesterday,5", "not a time"),
            ("9999-12-31T23:00:00-23:00,5", "out of range"),
            ("0001-01-01T00:00:00+14:00,5", "out of range"),
            ("2026-01-15T00:00:00Z,7", "given twice"),
        ],
    )
    def test_a_bad_row_is_refused_alone(self, tmp_path: Path, row: str, why: str) -> None:
        good = [f"2026-01-15T0{hour}:00:00Z,{hour}" for hour in (0, 1, 3, 4)]
        answer = replay(tmp_path, *good[:2], row, *good[2:]).fetch(START, START + DAY)
        assert [slot.start.hour for slot in answer.series] == [0, 1, 3, 4]
        assert answer.series.at(START + 2 * HOUR) is None
        assert len(answer.refused) == 1
        assert why in answer.refused[0]

    @pytest.mark.parametrize("header", ["", "time,value", "value,time_utc", "time_utc;value", "\x00"])
    def test_another_header_is_refused(self, tmp_path: Path, header: str) -> None:
        with pytest.raises(FeedError, match="first line must be"):
            replay(tmp_path, "2026-01-15T00:00:00Z,1", header=header).fetch(START, START + DAY)

    def test_a_byte_order_mark_is_no_part_of_the_header(self, tmp_path: Path) -> None:
        feed = replay(tmp_path, "2026-01-15T00:00:00Z,1", header="\ufefftime_utc,value")
        assert len(feed.fetch(START, START + DAY).series) == 1

    def test_a_time_that_was_not_recorded_says_what_is(self, tmp_path: Path) -> None:
        feed = replay(tmp_path, "2026-01-15T00:00:00Z,1")
        with pytest.raises(FeedError, match=r"prices\.csv covers 2026-01-15.*nothing of 2027"):
            feed.fetch(START.replace(year=2027), START.replace(year=2027) + DAY)

    def test_no_file_an_empty_one_and_no_good_row_are_errors(self, tmp_path: Path) -> None:
        with pytest.raises(FeedError, match="No such file"):
            ReplayFeed(tmp_path / "none.csv", Kind.PRICE, clock=CLOCK).fetch(START, START + DAY)
        with pytest.raises(FeedError, match="no good point among 0"):
            replay(tmp_path).fetch(START, START + DAY)
        with pytest.raises(FeedError, match="no good point among 1"):
            replay(tmp_path, "2026-01-15T00:00:00Z,x").fetch(START, START + DAY)

    def test_bytes_that_are_no_text_are_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "b.csv"
        path.write_bytes(b"time_utc,value\n\xff\xff")
        with pytest.raises(FeedError, match="not UTF-8"):
            ReplayFeed(path, Kind.PRICE, clock=CLOCK).fetch(START, START + DAY)

    def test_a_pipe_a_device_or_a_folder_is_refused_unread(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
            with pytest.raises(FeedError, match=r"not a regular file|Is a directory"):
                ReplayFeed(path, Kind.PRICE, clock=CLOCK).fetch(START, START + DAY)

    def test_a_changed_file_is_read_again(self, tmp_path: Path) -> None:
        feed = replay(tmp_path, "2026-01-15T00:00:00Z,1")
        assert feed.fetch(START, START + DAY).series.at(START) == 1.0
        assert feed.fetch(START, START + DAY).series.at(START) == 1.0
        path = tmp_path / "prices.csv"
        path.write_text("time_utc,value\n2026-01-15T00:00:00Z,22\n")
        assert feed.fetch(START, START + DAY).series.at(START) == 22.0


class TestFixed:
    def test_hours_on_the_full_hour(self) -> None:
        answer = FixedFeed(90.0, Kind.PRICE, clock=CLOCK).fetch(
            START + timedelta(minutes=20), START + 2 * HOUR
        )
        assert [slot.start for slot in answer.series] == [START, START + HOUR]
        assert answer.series.at(START + timedelta(minutes=90)) == 90.0

    def test_the_same_time_always_has_the_same_slot(self) -> None:
        feed = FixedFeed(90.0, Kind.PRICE, clock=CLOCK)
        early = feed.fetch(START, START + DAY).series
        late = feed.fetch(START + timedelta(minutes=61), START + DAY).series
        assert set(late.slots) <= set(early.slots)

    @pytest.mark.parametrize("length", [timedelta(0), -DAY, timedelta(days=4000)])
    def test_no_time_or_too_much_is_an_error(self, length: timedelta) -> None:
        with pytest.raises(FeedError):
            FixedFeed(90.0, Kind.PRICE, clock=CLOCK).fetch(START, START + length)

    def test_not_a_number(self) -> None:
        with pytest.raises(FeedError):
            FixedFeed(float("nan"), Kind.PRICE, clock=CLOCK)


class TestRegistry:
    def test_each_type_builds_its_feed(self, tmp_path: Path) -> None:
        charts = build_feed(Settings("energy_charts"), Kind.PRICE, LIMITS, CLOCK)
        assert isinstance(charts, EnergyCharts)
        assert charts.name == "energy_charts:DE-LU"
        assert build_feed(Settings("energy_charts"), Kind.CARBON, LIMITS, CLOCK).name == "energy_charts:de"
        csv = build_feed(Settings("csv", path=tmp_path / "p.csv"), Kind.PRICE, LIMITS, CLOCK)
        assert isinstance(csv, ReplayFeed)
        assert isinstance(build_feed(Settings("fixed", value=0.0), Kind.CARBON, LIMITS, CLOCK), FixedFeed)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (Settings("crystal_ball"), "unknown feed type 'crystal_ball'; known: csv, energy_charts, fixed"),
            (Settings("csv"), "needs `path`"),
            (Settings("fixed"), "needs `value`"),
            (Settings("fixed", value=1e9), "outside -1000 .. 10000"),
            (Settings("fixed", value=float("nan")), "outside"),
        ],
    )
    def test_what_cannot_be_built_says_why(self, settings: Settings, message: str) -> None:
        with pytest.raises(InvalidFeed, match=message):
            build_feed(settings, Kind.PRICE, LIMITS, CLOCK)

    def test_a_chain_keeps_the_order(self) -> None:
        chain = build_chain(
            [Settings("energy_charts"), Settings("fixed", value=1)], Kind.PRICE, LIMITS, CLOCK
        )
        assert chain is not None
        assert chain.name == "energy_charts:DE-LU > fixed"
        assert build_chain([], Kind.PRICE, LIMITS, CLOCK) is None
