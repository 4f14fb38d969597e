"""The caps of one second: who gets which watts, and what each job is told."""

from __future__ import annotations

import pytest

from scheduler.cap_step import cap_step
from scheduler.decision import Decision, JobCap
from scheduler.model import Condition, JobState, WaitReason
from scheduler.verify import verify
from tests.builders import frozen, gpus, job, running, snapshot, view


def caps(decision: Decision) -> dict[str, JobCap]:
    return {cap.job_id: cap for cap in decision.caps}


def test_with_watts_to_spare_everybody_is_at_full_speed() -> None:
    decision = cap_step(snapshot(gpus(2), running(job("a"), 0), running(job("b", flex="high"), 1)))
    assert [(c.cap_w, c.condition) for c in decision.caps] == [(300.0, Condition.NOMINAL)] * 2
    assert decision.notes == ()


def test_a_budget_slows_who_promised_flexibility_and_never_the_rigid_one() -> None:
    world = snapshot(
        gpus(2), running(job("rigid"), 0), running(job("flexible", flex="high"), 1), limit_w=350.0
    )
    found = caps(cap_step(world))
    assert view(job()).curve.throughput(found["rigid"].cap_w) >= 0.999
    assert found["rigid"].condition is Condition.NOMINAL
    assert found["flexible"].condition is Condition.CAPPED_BUDGET
    assert found["flexible"].cause == ("site, limited to 350 W, leaves it 120 W per GPU, 60.7% of its speed")
    assert sum(c.cap_w for c in found.values()) <= 350.0


def test_floors_that_do_not_fit_break_in_reverse_order_of_priority() -> None:
    world = snapshot(
        gpus(2),
        running(job("high", priority="high"), 0),
        running(job("low", priority="low"), 1),
        limit_w=350.0,
    )
    decision = cap_step(world)
    found = caps(decision)
    assert found["low"].condition is Condition.EMERGENCY
    assert found["high"].condition is Condition.NOMINAL
    assert "its contract needs 230 W" in found["low"].cause
    assert decision.notes == ("site: contract of low broken, 120 W instead of 230 W per GPU",)
    assert not decision.pauses
    assert not decision.preempts


def test_where_not_even_least_caps_fit_the_pausable_pause_and_then_others_stop() -> None:
    world = snapshot(
        gpus(3),
        running(job("a", pausable=True), 0),
        running(job("b", priority="low"), 1),
        running(job("c", priority="high"), 2),
        limit_w=200.0,
    )
    decision = cap_step(world)
    assert [(p.job_id, p.reason) for p in decision.pauses] == [("a", WaitReason.POWER)]
    assert [p.job_id for p in decision.preempts] == ["b"]
    assert "site lacks 100 W even at the boards' least caps; must pause or stop: b, a" in decision.notes


def test_what_is_already_leaving_calls_for_no_further_stop() -> None:
    """It still counts at its old cap; when that has settled, the others fit."""
    leaving = running(job("a", priority="low"), 0, state=JobState.STOPPING)
    pausing = running(job("p", pausable=True), 1, state=JobState.PAUSING).but(wait_reason=WaitReason.POWER)
    (left,) = gpus(1, first=2, settling=True, accounted_w=300.0, draw_w=250.0)
    world = snapshot(
        (*gpus(2), left, *gpus(1, first=3)), leaving, pausing, running(job("c"), 3), limit_w=240.0
    )
    decision = cap_step(world)
    assert (decision.pauses, decision.preempts) == ((), ())
    assert caps(decision)["c"].cap_w == 100.0


def test_an_emptied_gpu_still_draws_its_idle_watts() -> None:
    world = snapshot(gpus(3), *(running(job(n), i) for i, n in enumerate("abc")), limit_w=200.0)
    assert len(cap_step(world).preempts) == 2  # 245 W with one stopped: the second must go, too


def test_one_large_stop_spares_the_small_ones() -> None:
    world = snapshot(
        gpus(5),
        running(job("small", priority="low"), 0),
        running(job("large", gpus=4), 1, 2, 3, 4),
        limit_w=300.0,
    )
    assert [p.job_id for p in cap_step(world).preempts] == ["large"]


def test_a_freeze_that_freed_too_little_becomes_a_stop() -> None:
    world = snapshot(
        gpus(2), frozen(job("a", pausable=True), 0), running(job("b", priority="high"), 1), limit_w=150.0
    )
    assert [p.job_id for p in cap_step(world).preempts] == ["a"]


def test_a_price_rule_lowers_no_further_than_the_contract() -> None:
    world = snapshot(
        gpus(3),
        view(running(job("mid", flex="mid"), 0), rule_cap_share=0.8),
        view(running(job("low", flex="low"), 1), rule_cap_share=0.5),
        view(running(job("none"), 2), rule_cap_share=0.5),
        price=180.0,
    )
    found = caps(cap_step(world))
    curve = view(job()).curve
    assert curve.throughput(found["mid"].cap_w) == pytest.approx(0.8, abs=0.01)
    assert curve.throughput(found["low"].cap_w) == pytest.approx(0.9, abs=0.01)
    assert curve.throughput(found["none"].cap_w) >= 0.999
    assert found["mid"].condition is Condition.CAPPED_PRICE
    assert found["mid"].cause.startswith("a price rule allows 80% at 180.00/MWh: ")
    assert found["none"].condition is Condition.NOMINAL


def test_the_price_alone_caps_only_where_watts_cost_more_than_they_bring() -> None:
    flexible = running(job("a", flex="high", priority="low"))
    assert caps(cap_step(snapshot(gpus(1), flexible, price=100.0)))["a"].cap_w >= 200.0
    dear = caps(cap_step(snapshot(gpus(1), flexible, price=4000.0)))["a"]
    assert dear.cap_w < 180.0
    assert dear.condition is Condition.CAPPED_PRICE
    assert "more watts would cost more than they bring at 4000.00/MWh" in dear.cause


def test_a_negative_price_raises_nothing_over_the_budget() -> None:
    world = snapshot(
        gpus(2), *(running(job(n, flex="high"), i) for i, n in enumerate("ab")), limit_w=400.0, price=-500.0
    )
    assert sum(c.cap_w for c in cap_step(world).caps) <= 400.0


def test_what_cannot_be_steered_keeps_its_watts() -> None:
    """An empty GPU, a foreign one, one that cannot be set and a stale one stay as accounted."""
    boards = (
        *gpus(1, first=0),
        *gpus(1, first=1),  # empty: 45 W
        *gpus(1, first=2, foreign=True, accounted_w=300.0),
        *gpus(1, first=3, settable=False),
        *gpus(1, first=4, healthy=False),
    )
    world = snapshot(
        boards,
        running(job("a", flex="high"), 0),
        running(job("fixed"), 3),
        running(job("lost"), 4),
        limit_w=1100.0,
    )
    decision = cap_step(world)
    assert list(caps(decision)) == ["a"]
    assert caps(decision)["a"].cap_w == pytest.approx(1100.0 - 45.0 - 3 * 300.0)


def test_frozen_pausing_and_stopping_jobs_take_the_least() -> None:
    world = snapshot(
        gpus(3),
        frozen(job("frozen"), 0, cap_w=300.0),
        running(job("pausing"), 1, state=JobState.PAUSING),
        running(job("busy", flex="high"), 2),
        limit_w=500.0,
    )
    found = caps(cap_step(world))
    assert found["frozen"].cap_w == found["pausing"].cap_w == 100.0
    assert found["busy"].cap_w == 300.0


def test_all_ranks_of_a_job_get_one_cap_and_every_domain_holds() -> None:
    world = snapshot(
        gpus(4),
        running(job("gang", gpus=2, flex="high"), 0, 2),
        running(job("solo", flex="high"), 1),
        nodes=2,
        limits_w={"node-0": 330.0},
    )
    found = caps(cap_step(world))
    assert found["gang"].cap_w + found["solo"].cap_w <= 330.0


def test_nothing_runs_nothing_to_do() -> None:
    decision = cap_step(snapshot(gpus(2), job("queued"), limit_w=10.0))
    assert (tuple(decision.caps), decision.pauses, decision.preempts) == ((), (), ())
    assert decision.certificates[0].step == "cap"


def test_what_it_proposes_passes_verify_once_lowerings_are_confirmed() -> None:
    jobs = [running(job(n, flex="high"), i, cap_w=150.0) for i, n in enumerate("abc")]
    world = snapshot(gpus(3), *jobs, limit_w=600.0)
    kept, refused = verify(cap_step(world), world)
    assert not refused
    assert sum(c.cap_w for c in kept.caps) == pytest.approx(600.0, abs=0.1)
