"""Jobs in the store: submitting, wishes of people, reading. Each test runs on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from scheduler.ids import is_id
from scheduler.lifecycle import move
from scheduler.model import Intent, InvalidJob, JobState
from scheduler.store import (
    AlreadyTerminal,
    CorruptRow,
    IdempotencyConflict,
    InvalidCursor,
    NotFound,
    StaleRevision,
    Store,
)
from scheduler.store.cursor import make_cursor
from tests.store_builders import NOON, a_spec, after, full_spec, running, started, submitted, tamper


def test_a_job_comes_back_as_it_was_submitted(store: Store) -> None:
    job, created = store.jobs.submit(full_spec(), "ada", NOON)
    assert created
    assert is_id("job", job.id)
    assert store.jobs.get(job.id) == job
    assert job.spec == full_spec()


def test_times_come_back_as_aware_utc(store: Store) -> None:
    tokyo = datetime(2026, 3, 1, 21, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    job, _ = store.jobs.submit(a_spec(begin_at=tokyo), "ada", tokyo)
    found = store.jobs.get(job.id)
    for when in (found.submitted_at, found.state_since, found.spec.begin_at):
        assert when == tokyo
        assert when is not None
        assert when.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        store.jobs.submit(a_spec(), "ada", datetime(2026, 3, 1))  # noqa: DTZ001
    assert store.jobs.active() == []


def test_text_that_a_database_cannot_hold_is_refused(store: Store) -> None:
    with pytest.raises(InvalidJob, match="project"):
        store.jobs.submit(a_spec(project="a\0b"), "ada", NOON)
    with pytest.raises(InvalidJob, match="idempotency_key"):
        store.jobs.submit(a_spec(), "ada", NOON, "\ud800")


# Idempotency


def test_the_same_key_gives_the_same_job(store: Store) -> None:
    first, created = store.jobs.submit(a_spec(estimate_s=60), "ada", NOON, "k")
    again, created_again = store.jobs.submit(a_spec(estimate_s=60.0), "ada", after(9), "k")
    assert (created, created_again) == (True, False)
    assert again == first


def test_the_same_key_with_another_job_is_a_conflict(store: Store) -> None:
    store.jobs.submit(a_spec(), "ada", NOON, "k")
    with pytest.raises(IdempotencyConflict):
        store.jobs.submit(a_spec(gpus=4), "ada", NOON, "k")
    assert len(store.jobs.active()) == 1


def test_keys_belong_to_their_owner(store: Store) -> None:
    hers, _ = store.jobs.submit(a_spec(), "ada", NOON, "k")
    his, created = store.jobs.submit(a_spec(gpus=4), "bob", NOON, "k")
    assert created
    assert his.id != hers.id


def test_a_key_is_remembered_after_the_job_was_changed_and_ended(store: Store) -> None:
    job, _ = store.jobs.submit(a_spec(), "ada", NOON, "k")
    store.jobs.patch(job.id, a_spec(gpus=8), 1)
    store.jobs.save(move(job, JobState.CANCELLED, after(1)), JobState.QUEUED)
    again, created = store.jobs.submit(a_spec(), "ada", NOON, "k")
    assert not created
    assert (again.id, again.state, again.spec.gpus) == (job.id, JobState.CANCELLED, 8)


def test_fifty_threads_with_one_key_make_one_job(store: Store) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: store.jobs.submit(a_spec(), "ada", NOON, "k"), range(50)))
    assert len({job.id for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert len(store.jobs.active()) == 1


def test_a_batch_is_stored_in_order_and_repeats_as_one(store: Store) -> None:
    specs = [a_spec(name=str(n)) for n in range(3)]
    made, created = store.jobs.submit_many(specs, "ada", NOON, "k")
    again, created_again = store.jobs.submit_many(specs, "ada", NOON, "k")
    assert (created, created_again) == (True, False)
    assert [job.id for job in again] == [job.id for job in made]
    assert [job.spec.name for job in store.jobs.active()] == ["0", "1", "2"]
    for other in (specs[:2], [*specs, a_spec()], specs[::-1]):
        with pytest.raises(IdempotencyConflict):
            store.jobs.submit_many(other, "ada", NOON, "k")


def test_a_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(InvalidJob):
        store.jobs.submit_many([a_spec(), a_spec(project="\0")], "ada", NOON)
    assert store.jobs.active() == []


# Pages


def test_pages_are_newest_first_and_unmoved_by_new_jobs(store: Store) -> None:
    ids = [submitted(store).id for _ in range(5)]
    first = store.jobs.page(limit=2)
    submitted(store)
    second = store.jobs.page(limit=2, cursor=first.next_cursor)
    third = store.jobs.page(limit=2, cursor=second.next_cursor)
    assert [job.id for job in first.items + second.items + third.items] == ids[::-1]
    assert third.next_cursor is None


def test_pages_are_filtered(store: Store) -> None:
    a = store.jobs.submit(a_spec(project="p"), "ada", NOON)[0]
    b = store.jobs.submit(a_spec(), "bob", NOON)[0]
    c = running(store)
    assert [j.id for j in store.jobs.page(project="p").items] == [a.id]
    assert [j.id for j in store.jobs.page(owner="bob").items] == [b.id]
    assert [j.id for j in store.jobs.page(states=[JobState.RUNNING]).items] == [c.id]
    assert store.jobs.page(states=[]).items == []


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "42", "%%%", "ä", "a" * 5000, make_cursor("decisions", 1), make_cursor("jobs", 1)[:-2], "\0"],
)
def test_a_garbage_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        store.jobs.page(cursor=cursor)


# What people want


def test_an_intent_raises_the_revision_once(store: Store) -> None:
    job = submitted(store)
    held = store.jobs.set_intent(job.id, Intent.HOLD, expected_revision=1, by_operator=True)
    assert (held.intent, held.held_by_operator, held.revision) == (Intent.HOLD, True, 2)
    assert store.jobs.set_intent(job.id, Intent.HOLD, by_operator=True).revision == 2
    released = store.jobs.set_intent(job.id, Intent.RUN)
    assert (released.intent, released.held_by_operator, released.revision) == (Intent.RUN, False, 3)


def test_a_stale_revision_changes_nothing(store: Store) -> None:
    job = submitted(store)
    store.jobs.set_intent(job.id, Intent.HOLD)
    with pytest.raises(StaleRevision):
        store.jobs.set_intent(job.id, Intent.CANCEL, expected_revision=1)
    with pytest.raises(StaleRevision):
        store.jobs.patch(job.id, a_spec(gpus=1), 1)
    assert store.jobs.get(job.id).spec.gpus == 2


def test_a_cancel_is_not_taken_back(store: Store) -> None:
    job = running(store)
    store.jobs.set_intent(job.id, Intent.CANCEL)
    store.jobs.set_intent(job.id, Intent.CANCEL)
    with pytest.raises(AlreadyTerminal, match="being cancelled"):
        store.jobs.set_intent(job.id, Intent.RUN)


def test_an_ended_job_takes_no_wishes(store: Store) -> None:
    job = submitted(store)
    store.jobs.save(move(job, JobState.CANCELLED, after(1)), JobState.QUEUED)
    with pytest.raises(AlreadyTerminal):
        store.jobs.set_intent(job.id, Intent.CANCEL)
    with pytest.raises(AlreadyTerminal):
        store.jobs.patch(job.id, a_spec(), 1)


def test_a_one_shot_intent_is_cleared_only_if_it_still_stands(store: Store) -> None:
    job = running(store)
    store.jobs.set_intent(job.id, Intent.CHECKPOINT)
    store.jobs.set_intent(job.id, Intent.CANCEL)
    assert not store.jobs.clear_intent(job.id, Intent.CHECKPOINT)
    assert store.jobs.get(job.id).intent is Intent.CANCEL
    other = running(store)
    store.jobs.set_intent(other.id, Intent.CHECKPOINT)
    assert store.jobs.clear_intent(other.id, Intent.CHECKPOINT)
    assert store.jobs.get(other.id).intent is Intent.RUN


def test_a_patch_replaces_the_specification(store: Store) -> None:
    job = submitted(store)
    patched = store.jobs.patch(job.id, a_spec(gpus=8, project="q"), 1)
    assert (patched.spec.gpus, patched.revision) == (8, 2)
    assert [j.id for j in store.jobs.page(project="q").items] == [job.id]


@pytest.mark.parametrize("id", ["job_none", "", "'; DROP TABLE jobs; --"])
def test_an_unknown_job_is_not_found(store: Store, id: str) -> None:
    for call in (
        lambda: store.jobs.get(id),
        lambda: store.jobs.set_intent(id, Intent.RUN),
        lambda: store.jobs.patch(id, a_spec(), 1),
        lambda: store.jobs.runs(id),
    ):
        with pytest.raises(NotFound):
            call()


def test_states_and_counts(store: Store) -> None:
    a, b = submitted(store), running(store)
    assert store.jobs.states([a.id, b.id, "job_x"]) == {a.id: JobState.QUEUED, b.id: JobState.RUNNING}
    assert store.jobs.count() == {JobState.QUEUED: 1, JobState.RUNNING: 1}


# Damage


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("spec", ""),
        ("spec", "{"),
        ("spec", "[]"),
        ("spec", "{}"),
        ("spec", '{"argv": ["a"], "gpus": 0, "contract": {"flex": "none"}}'),
        ("spec", '{"argv": ["a"], "gpus": 1, "contract": {"flex": "none"}, "surprise": 1}'),
        ("state", "DREAMING"),
        ("intent", "rest"),
        ("run_id", "run_gone"),
    ],
)
def test_a_damaged_row_is_named_and_never_guessed(store: Store, column: str, value: str) -> None:
    job = submitted(store)
    tamper(store, f"UPDATE jobs SET {column} = :value", value=value)
    with pytest.raises(CorruptRow) as caught:
        store.jobs.get(job.id)
    assert job.id in str(caught.value)
    assert caught.value.column == column


def test_a_damaged_run_is_named(store: Store) -> None:
    job = started(store, submitted(store))
    tamper(store, "UPDATE runs SET gpu_uuids = 'null'")
    with pytest.raises(CorruptRow, match="gpu_uuids"):
        store.jobs.active()
    assert job.run is not None
