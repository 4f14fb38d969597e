"""The small aggregates: budgets, policies, nodes, events, decisions, tokens, samples, curves."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from power.budget import Budget
from scheduler.policy.price_rule import PriceRule
from scheduler.stop_costs import StopCost
from scheduler.store import CorruptRow, Event, InvalidCursor, NotFound, Role, SampleRow, Store
from tests.store_builders import NOON, after, tamper


def a_budget(id: str = "budget_1", start_s: float = 0, end_s: float | None = None, **more: object) -> Budget:
    end = None if end_s is None else after(end_s)
    values = {"id": id, "domain": "site", "limit_w": 1000.0, "start": after(start_s), "end": end}
    return Budget(**{**values, **more})  # type: ignore[arg-type]


# Budgets


def test_budgets_come_back_and_hold_half_open(store: Store) -> None:
    target = a_budget("b", 10, 20, source="target", correlation_id="event-7")
    for budget in (a_budget("a"), target):
        store.budgets.add(budget)
    assert store.budgets.list() == [a_budget("a"), target]
    assert store.budgets.get("b") == target
    held = {s: [b.id for b in store.budgets.list(at=after(s))] for s in (-1, 0, 10, 20)}
    assert held == {-1: [], 0: ["a"], 10: ["a", "b"], 20: ["a"]}
    assert store.budgets.list(source="target") == [target]
    store.budgets.remove("b")
    with pytest.raises(NotFound):
        store.budgets.remove("b")
    with pytest.raises(NotFound):
        store.budgets.get("b")


@pytest.mark.parametrize("limit_w", [math.nan, math.inf, -1.0])
def test_a_limit_that_is_none_is_refused(store: Store, limit_w: float) -> None:
    with pytest.raises(ValueError, match="limit_w"):
        store.budgets.add(a_budget(limit_w=limit_w))
    with pytest.raises(ValueError, match="limit_w"):
        store.budgets.replace_limit("site", limit_w, NOON)
    with pytest.raises(ValueError, match="end"):
        store.budgets.add(a_budget(end_s=0))


def test_a_new_limit_ends_the_one_in_force_and_nothing_else(store: Store) -> None:
    store.budgets.add(a_budget("other", domain="node"))
    store.budgets.add(a_budget("target", source="target"))
    store.budgets.add(a_budget("coming", 500))
    first = store.budgets.replace_limit("site", 900, NOON)
    second = store.budgets.replace_limit("site", 800, after(10))
    third = store.budgets.replace_limit("site", 700, after(10))
    ends = {b.id: b.end for b in store.budgets.list()}
    assert ends == {"other": None, "target": None, "coming": None, first.id: after(10), third.id: None}
    assert second.id not in ends
    assert store.budgets.prune(after(10)) == 1


def test_changes_at_the_same_moment_leave_one_limit(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.budgets.replace_limit("site", 100 + n, NOON), range(8)))
    assert len(store.budgets.list()) == 1


def test_of_changes_that_overtake_each_other_the_lowest_holds_until_the_next(store: Store) -> None:
    store.budgets.replace_limit("site", 107, after(7))
    store.budgets.replace_limit("site", 105, after(5))
    assert [b.limit_w for b in store.budgets.list(at=after(8))] == [105, 107]
    store.budgets.replace_limit("site", 200, after(9))
    assert [b.limit_w for b in store.budgets.list(at=after(9))] == [200]


# Policies


def test_rules_are_kept_by_name(store: Store) -> None:
    rule = PriceRule(
        name="peak", above_per_mwh=90, release_below_per_mwh=70, applies_to=("mid", "priority:low")
    )
    store.policies.put(rule)
    store.policies.put(PriceRule(name="base", above_per_mwh=5, release_below_per_mwh=-5))
    assert [r.name for r in store.policies.list()] == ["base", "peak"]
    assert store.policies.get("peak") == rule
    store.policies.put(PriceRule(name="peak", above_per_mwh=10, release_below_per_mwh=1, enabled=False))
    assert not store.policies.get("peak").enabled
    store.policies.delete("peak")
    for call in (store.policies.delete, store.policies.get):
        with pytest.raises(NotFound):
            call("peak")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "r", "colour": "red"}'])
def test_a_damaged_rule_is_named(store: Store, text: str) -> None:
    store.policies.put(PriceRule(name="r", above_per_mwh=1, release_below_per_mwh=1))
    tamper(store, "UPDATE policies SET rule = :text", text=text)
    with pytest.raises(CorruptRow, match="policies row 'r', column rule"):
        store.policies.list()


# Nodes


def test_cordons_and_drains(store: Store) -> None:
    store.nodes.cordon("GPU-a", at=NOON)
    store.nodes.cordon("node", drain=True, reason="fan", at=NOON)
    assert store.nodes.cordoned() == {"GPU-a", "node"}
    assert store.nodes.draining() == {"node"}
    store.nodes.cordon("node", at=after(1))
    assert store.nodes.draining() == set()
    assert [(m.name, m.at) for m in store.nodes.marks()] == [("GPU-a", NOON), ("node", after(1))]
    store.nodes.uncordon("node")
    with pytest.raises(NotFound):
        store.nodes.uncordon("node")


# Events


def test_events_are_read_on_from_the_last_id(store: Store) -> None:
    assert store.events.last_id() == 0
    event = Event(
        kind="job.state", at=NOON, job_id="job_1", run_id="run_1", data={"to": "RUNNING", "n": [1.5]}
    )
    store.events.append(event)
    store.events.append(
        Event(kind="budget.added", at=after(1)), Event(kind="job.state", at=after(2), job_id="job_2")
    )
    first, *rest = store.events.after(0)
    assert (first.kind, first.at, first.job_id, first.run_id) == ("job.state", NOON, "job_1", "run_1")
    assert first.data == event.data
    assert store.events.after(first.id) == rest
    assert store.events.after(0, limit=1) == [first]
    assert [e.job_id for e in store.events.after(0, job_id="job_2")] == ["job_2"]
    assert store.events.last_id() == rest[-1].id


def test_ids_of_pruned_events_never_come_back(store: Store) -> None:
    store.events.append(Event(kind="a", at=NOON), Event(kind="b", at=after(1)))
    last = store.events.last_id()
    assert store.events.prune(after(99)) == 2
    store.events.append(Event(kind="c", at=after(2)))
    assert store.events.last_id() > last


def test_a_reader_that_follows_the_log_misses_nothing(store: Store) -> None:
    """Ids appear in their order even while many write at once."""
    seen: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(store.events.append, Event(kind=str(n), at=NOON)) for n in range(60)]
        while not all(w.done() for w in writers) or store.events.after(seen[-1] if seen else 0):
            seen += [e.id for e in store.events.after(seen[-1] if seen else 0, limit=7)]
    assert len(seen) == len(set(seen)) == 60


# Decisions


def test_decisions_are_paged_newest_first(store: Store) -> None:
    for cycle in range(3):
        store.decisions.append(after(cycle), cycle, {"caps": [{"job_id": "j", "cap_w": 200.5}]})
    page = store.decisions.page(limit=2)
    rest = store.decisions.page(limit=2, cursor=page.next_cursor)
    assert [d.cycle for d in page.items + rest.items] == [2, 1, 0]
    assert rest.next_cursor is None
    assert page.items[0].summary == {"caps": [{"job_id": "j", "cap_w": 200.5}]}
    with pytest.raises(InvalidCursor):
        store.decisions.page(cursor="zzz")
    with pytest.raises(ValueError):
        store.decisions.append(NOON, 1, {"gap": math.inf})
    assert store.decisions.prune(after(2)) == 2


# Tokens


def test_a_secret_opens_until_it_expires_or_is_revoked(store: Store) -> None:
    secret = store.tokens.create("ci", "operator", expires=after(60), at=NOON)
    token = store.tokens.find(secret, at=after(59))
    assert token is not None
    assert (token.name, token.role, token.expires_at) == ("ci", Role.OPERATOR, after(60))
    assert secret.startswith(token.id)
    assert store.tokens.find(secret, at=after(60)) is None
    store.tokens.revoke(token.id, at=after(1))
    store.tokens.revoke(token.id, at=after(5))
    assert store.tokens.find(secret, at=after(2)) is None
    assert [t.revoked_at for t in store.tokens.list()] == [after(1)]
    with pytest.raises(NotFound):
        store.tokens.revoke("token_x")


def test_the_database_holds_no_secret(store: Store) -> None:
    secret = store.tokens.create("ci", Role.ADMIN)
    with store.database.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM tokens").one()
    assert secret.partition(".")[2] not in str(row)


@pytest.mark.parametrize("change", ["", "x", "token_", "\0", "ä", "\ud800"])
def test_another_secret_opens_nothing(store: Store, change: str) -> None:
    secret = store.tokens.create("ci", Role.ADMIN)
    assert store.tokens.find(secret.partition(".")[0] + "." + change) is None
    assert store.tokens.find(change) is None
    assert store.tokens.find(secret + "x") is None


def test_an_unknown_role_is_refused(store: Store) -> None:
    with pytest.raises(ValueError):
        store.tokens.create("ci", "root")
    assert Role.VIEWER.rank < Role.USER.rank < Role.OPERATOR.rank < Role.ADMIN.rank


# Samples and curves


def test_samples_are_cut_out_by_time_job_and_gpu(store: Store) -> None:
    rows = [
        SampleRow(gpu_uuid=gpu, at=after(10 * n), span_s=10, job_id="job_1" if n else None, power_w=100.5 + n)
        for n in range(3)
        for gpu in ("GPU-a", "GPU-b")
    ]
    store.samples.append(rows)
    store.samples.append(rows[:1])
    assert store.samples.between(NOON, after(100)) == rows
    assert store.samples.between(after(10), after(20)) == rows[2:4]
    assert store.samples.between(NOON, after(100), job_id="job_1", gpu_uuid="GPU-b") == rows[3::2]
    assert store.samples.prune(after(20)) == 4


def test_curves_are_kept_by_model_and_workload(store: Store) -> None:
    assert store.curves.get("A40", "gpt") is None
    store.curves.put("A40", "gpt", {"demand_w": 210.5})
    store.curves.put("A40", "gpt", {"demand_w": 220.5})
    store.curves.put("A40", "", {})
    assert store.curves.get("A40", "gpt") == {"demand_w": 220.5}
    assert set(store.curves.all()) == {("A40", "gpt"), ("A40", "")}
    tamper(store, "UPDATE curves SET curve = 'x' WHERE workload = 'gpt'")
    with pytest.raises(CorruptRow, match="curves row 'A40/gpt', column curve"):
        store.curves.all()


def test_pruning_forgets_history_and_keeps_bills(store: Store) -> None:
    store.events.append(Event(kind="a", at=NOON))
    store.decisions.append(NOON, 1, {})
    store.samples.append([SampleRow(gpu_uuid="GPU-a", at=NOON, span_s=10)])
    assert store.prune(after(1)) == {"events": 1, "decisions": 1, "samples": 1, "series": 0, "budgets": 0}


# Stop costs


def test_stop_costs_are_kept_by_workload_or_job(store: Store) -> None:
    gpt = StopCost(checkpoint_s=7.5, checkpoints=2, restart_s=30.25, restarts=3, saves_on_request=True)
    store.stop_costs.save({("gpt", ""): StopCost(), ("", "job_1"): StopCost(), ("", "job_2"): gpt}, (), NOON)
    store.stop_costs.save({("gpt", ""): gpt}, ["job_1", "job_9"], after(5))
    assert store.stop_costs.all() == {("gpt", ""): gpt, ("", "job_2"): gpt}
    store.stop_costs.save({("gp\0t", ""): StopCost()}, (), after(6))
    assert store.stop_costs.all()[("gpt", "")] == StopCost()
    tamper(store, "UPDATE stop_costs SET restart_s = -1 WHERE workload = 'gpt'")
    with pytest.raises(CorruptRow, match="stop_costs"):
        store.stop_costs.all()
