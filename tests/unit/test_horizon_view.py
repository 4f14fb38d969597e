"""What the plan is told of the next two days, turn by turn, and what a database that is away leaves of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from power.budget import Budget
from power.grid.feed import FeedAnswer, Kind
from power.series import Series
from scheduler.bill import EnergyRow
from scheduler.config import Config, Control, Site
from scheduler.horizon import AHEAD, Outlook
from scheduler.horizon_view import HorizonView
from scheduler.observation import Observation, Wishes
from scheduler.signal_view import SeriesView
from scheduler.slotting import QUARTER
from scheduler.store import Store, StoreUnavailable, open_store
from tests.builders import NOW, hours, prices, tree

DAY = timedelta(days=1)
CONTROL = Control(headroom_w=100.0)
PUBLISHED = prices("10 20 30 40", start=NOW, step_h=6.0)
TARGET = Budget(id="b", domain="site", limit_w=900.0, start=NOW + hours(20), end=NOW + hours(22))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'wattmill.db'}") as opened:
        yield opened


def seen(*, price: Series = PUBLISHED, after_h: float = 0.0, budgets: tuple[Budget, ...] = ()) -> Observation:
    now = NOW + hours(after_h)
    return Observation(
        cycle=1,
        now=now,
        monotonic_s=0.0,
        samples={},
        statuses={},
        wishes=Wishes(budgets=budgets),
        price=SeriesView(kind=Kind.PRICE, series=price, value_now=price.at(now)),
        carbon=SeriesView(kind=Kind.CARBON),
        active_rules=(),
        degraded=(),
    )


def horizon_view(store: Store, **settings: Any) -> HorizonView:
    """`settings` go to the sections by name."""
    return HorizonView(Config(control=CONTROL, **settings), store, tree(1))


def remember(store: Store, series: Series) -> None:
    store.series.save(FeedAnswer(kind=Kind.PRICE, series=series, source="test", fetched_at=NOW))


def test_published_prices_and_behind_them_a_forecast_from_stored_ones(store: Store) -> None:
    remember(store, prices(" ".join(["10 20 30 40"] * 21), start=NOW - 21 * DAY, step_h=6.0))
    found = horizon_view(store).at(seen())
    assert [slot.value for slot in found.prices.expected][:8] == pytest.approx([10.0, 20.0, 30.0, 40.0] * 2)
    assert found.prices.expected.slots[-1].end == NOW + AHEAD + hours(1)
    assert found.carbon == Outlook()


def test_without_a_price_for_now_there_is_no_outlook(store: Store) -> None:
    remember(store, prices(" ".join(["10 20 30 40"] * 21), start=NOW - 21 * DAY, step_h=6.0))
    assert horizon_view(store).at(seen(price=Series())).prices == Outlook()


def test_it_is_kept_for_the_hour_and_follows_the_series(store: Store) -> None:
    view = horizon_view(store)
    first = view.at(seen()).prices
    assert view.at(seen(after_h=0.9)).prices is first
    assert view.at(seen(after_h=1.0)).prices is not first
    fresh = replace(PUBLISHED, slots=PUBLISHED.slots[:-1])
    assert view.at(seen(price=fresh)).prices.expected.slots[-1].end == fresh.slots[-1].end


def test_budgets_to_come_are_net_of_the_headroom(store: Store) -> None:
    view = horizon_view(store)
    small = replace(TARGET, id="c", limit_w=50.0)
    limits = {b.id: (b.limit_w, b.start) for b in view.at(seen(budgets=(TARGET, small))).budgets}
    assert limits == {"b": (800.0, TARGET.start), "c": (0.0, TARGET.start)}


def test_budgets_of_the_next_two_days_are_read_and_no_others(store: Store) -> None:
    now = replace(TARGET, id="now", start=NOW - hours(1), end=None)
    for budget in (
        now,
        TARGET,
        replace(TARGET, id="past", start=NOW - hours(3), end=NOW),
        replace(TARGET, id="far", start=NOW + AHEAD, end=None),
    ):
        store.budgets.add(budget)
    assert [b.id for b in store.budgets.list(at=NOW, until=NOW + AHEAD)] == ["now", "b"]
    assert [b.id for b in store.budgets.list(at=NOW)] == ["now"]


def test_settings_go_in_as_they_are(store: Store) -> None:
    plain = horizon_view(store).at(seen())
    assert (plain.ramp_w_per_min, plain.demand_charge_per_kw, plain.month_peak_w) == (math.inf, 0.0, 0.0)
    control = CONTROL.model_copy(update={"ramp_w_per_min": 500.0})
    config = Config(control=control, site=Site(demand_charge_per_kw=12.0))
    asked = HorizonView(config, store, tree(1)).at(seen())
    assert (asked.ramp_w_per_min, asked.demand_charge_per_kw) == (500.0, 12.0)


def test_the_months_peak_is_read_where_it_costs_something(store: Store) -> None:
    start = NOW - hours(1)
    row = EnergyRow(kind="idle", gpu_uuid="gpu-0", slot_start=start, slot_end=start + QUARTER, energy_j=90e3)
    store.energy.upsert([row])
    priced = horizon_view(store, site=Site(demand_charge_per_kw=12.0))
    assert [priced.at(seen()).month_peak_w for _ in range(31)][-1] == pytest.approx(100.0)
    assert horizon_view(store).at(seen()).month_peak_w == 0.0


class _Away:
    """A part of a store whose database is away."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailable("away")


def test_with_the_database_away_what_is_published_remains(store: Store) -> None:
    remember(store, prices(" ".join(["10 20 30 40"] * 21), start=NOW - 21 * DAY, step_h=6.0))
    view = horizon_view(store, site=Site(demand_charge_per_kw=12.0))
    series, energy = store.series, store.energy
    store.series, store.energy = _Away(), _Away()  # type: ignore[assignment]
    assert view.at(seen()).prices.expected == PUBLISHED
    store.series, store.energy = series, energy
    assert len(view.at(seen()).prices.expected) > len(PUBLISHED)
