"""Prices and carbon in the store."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from power.grid.feed import FeedAnswer, Kind
from power.series import Series, Slot
from scheduler.store import CorruptRow, Store
from tests.store_builders import NOON, after, tamper

HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)


def answer(
    *values: float,
    start: datetime = NOON,
    step: timedelta = HOUR,
    source: str = "a",
    fetched_s: float = 0,
    kind: Kind = Kind.PRICE,
) -> FeedAnswer:
    slots = tuple(Slot(start + i * step, start + (i + 1) * step, v) for i, v in enumerate(values))
    return FeedAnswer(
        kind=kind,
        series=Series(slots),
        source=source,
        fetched_at=after(fetched_s),
        attribution=f"© {source}",
        refused=("12:00: nan",),
    )


def drawing(store: Store) -> str:
    """`60a 40b`: minutes and source of each stored slot."""
    return " ".join(
        f"{(s.end - s.start) // timedelta(minutes=1)}{s.source}{s.value:g}"
        for s in store.series.slots(Kind.PRICE)
    )


def test_nothing_is_known_before_the_first_answer(store: Store) -> None:
    assert store.series.load(Kind.PRICE) is None
    assert store.series.fetched_at(Kind.PRICE) is None
    assert store.series.age(Kind.PRICE, NOON) is None


def test_an_answer_comes_back_as_it_was(store: Store) -> None:
    given = answer(50, -12.5, 3e3)
    store.series.save(given)
    assert store.series.load(Kind.PRICE) == given
    assert store.series.load(Kind.CARBON) is None
    assert store.series.age(Kind.PRICE, after(90)) == 90


@pytest.mark.parametrize(
    ("second", "drawn"),
    [
        (answer(9, source="b", fetched_s=1), "60b9 60a2"),
        (answer(9, start=NOON + 2 * HOUR, source="b", fetched_s=1), "60a1 60a2 60b9"),
        (
            answer(8, 9, start=NOON + QUARTER, step=QUARTER, source="b", fetched_s=1),
            "15a1 15b8 15b9 15a1 60a2",
        ),
        (answer(9, start=NOON + QUARTER * 3, source="b", fetched_s=1), "45a1 60b9 15a2"),
        (answer(9, start=NOON + HOUR, source="b", fetched_s=-1), "60a1 60a2"),
        (answer(9, start=NOON + HOUR * 1.5, source="b", fetched_s=-1), "60a1 60a2 30b9"),
        (answer(source="b", fetched_s=1), "60a1 60a2"),
    ],
    ids=["newer wins", "appends", "finer inside", "across", "older loses", "older fills", "empty"],
)
def test_answers_merge_slot_by_slot(store: Store, second: FeedAnswer, drawn: str) -> None:
    store.series.save(answer(1, 2))
    store.series.save(second)
    assert drawing(store) == drawn


def test_the_newest_fetch_gives_the_source_even_without_slots(store: Store) -> None:
    store.series.save(answer(1, fetched_s=5))
    store.series.save(answer(source="late", fetched_s=3))
    loaded = store.series.load(Kind.PRICE)
    assert loaded is not None
    assert loaded.source == "a"
    store.series.save(answer(source="empty", fetched_s=9))
    assert store.series.fetched_at(Kind.PRICE) == after(9)


def test_a_posted_series_is_a_fetch_like_any_other(store: Store) -> None:
    store.series.save(answer(1, 2))
    store.series.put_local(Kind.PRICE, answer(7).series, after(9))
    assert drawing(store) == "60local7 60a2"


def test_slots_are_cut_out_by_time_and_pruned(store: Store) -> None:
    store.series.save(answer(1, 2, 3))
    assert [s.value for s in store.series.slots(Kind.PRICE, NOON + HOUR, NOON + 2 * HOUR)] == [2]
    assert store.series.prune(NOON + HOUR) == 1
    assert [s.value for s in store.series.slots(Kind.PRICE)] == [2, 3]


def test_damage_is_named(store: Store) -> None:
    store.series.save(answer(1))
    tamper(store, "UPDATE series_fetches SET refused = ''")
    with pytest.raises(CorruptRow, match=r"series_fetches row 'price', column refused: is missing"):
        store.series.load(Kind.PRICE)
