"""Placement, one small world per behaviour: who starts where, who waits and why."""

from __future__ import annotations

import pytest

from scheduler.decision import Decision
from scheduler.model import JobState, WaitReason
from scheduler.place import place
from scheduler.placing.fallback import place_greedily
from scheduler.snapshot import JobView, Snapshot
from tests.builders import frozen, gpus, job, running, snapshot, view

W = WaitReason


def decide(world: Snapshot) -> Decision:
    return place(world, time_limit_s=5.0)


def drawn(decision: Decision) -> str:
    """`a:01 b:2` = a starts on gpu-0 and gpu-1, b on gpu-2; pauses `-a`, resumes `+a`, preempts `!a`."""
    words = [
        f"{s.job_id}:{''.join(u.removeprefix('gpu-') for u in s.gpu_uuids)}"
        for s in sorted(decision.starts, key=lambda s: s.job_id)
    ]
    words += [f"-{p.job_id}" for p in decision.pauses]
    words += [f"+{r.job_id}" for r in decision.resumes]
    words += [f"!{p.job_id}" for p in decision.preempts]
    return " ".join(words)


def wait(decision: Decision, job_id: str) -> tuple[WaitReason, str]:
    found = next(w for w in decision.waits if w.job_id == job_id)
    return found.reason, found.detail


CASES: dict[str, Snapshot] = {
    "a:0": snapshot(gpus(1), job("a")),
    "a:12 b:0": snapshot(gpus(3), job("a", gpus=2), job("b", minutes_ago=9)),
    "b:0": snapshot(gpus(1), job("a", minutes_ago=1), job("b", minutes_ago=2)),
    "c:0": snapshot(gpus(1), job("a", minutes_ago=9), job("c", priority="high")),
    "b:23": snapshot(gpus(4), running(job("a", gpus=2)), job("b", gpus=2)),
    "": snapshot(gpus(2), running(job("a", gpus=2)), job("b", gpus=1)),
    # one node where it fits, and whole nodes stay free
    "a:3": snapshot(gpus(4), running(job("r"), 2), job("a"), nodes=2),
    "a:23": snapshot(gpus(4), running(job("r"), 0), job("a", gpus=2), nodes=2),
    "a:02": snapshot(gpus(4), running(job("r"), 1), running(job("s"), 3), job("a", gpus=2, nodes=2), nodes=2),
    "a:0123": snapshot(gpus(4), job("a", gpus=4), nodes=2),  # larger than any node: split
    "a:012": snapshot(gpus(4), job("a", gpus=3), nodes=2),
    # the right kind
    "a:1": snapshot(
        gpus(1) + gpus(1, first=1, model="Tesla V100", max_cap_w=250.0), job("a", gpu_type="v100")
    ),
    # the price
    "-a": snapshot(gpus(1), running(job("a", pausable=True, ceiling=80.0)), price=90.0),
    "+a": snapshot(gpus(1), frozen(job("a", pausable=True, ceiling=80.0)), price=70.0),
    # higher priority stops lower, never its equal
    "b:0 !a": snapshot(gpus(1), running(job("a", priority="low")), job("b", priority="high")),
}


@pytest.mark.parametrize("drawing", CASES)
def test_placement(drawing: str) -> None:
    assert drawn(decide(CASES[drawing])) == drawing


QUIET: dict[str, Snapshot] = {
    "an equal is not stopped": snapshot(gpus(2), running(job("a")), job("b", gpus=2)),
    "a young run is not stopped": snapshot(
        gpus(1), running(job("a", priority="low"), minutes_ago=0.5), job("b", priority="high")
    ),
    "who must not be requeued is not stopped": snapshot(
        gpus(1), running(job("a", priority="low", requeue=False)), job("b", priority="high")
    ),
    "hours of work without a checkpoint are not thrown away": snapshot(
        gpus(1),
        view(running(job("a", priority="standard"), minutes_ago=600), lost_work_s=600 * 60.0),
        job("b", priority="high"),
    ),
    "a rigid job above its ceiling runs on": snapshot(gpus(1), running(job("a", ceiling=80.0)), price=900.0),
    "no price, no ceiling": snapshot(gpus(1), running(job("a", pausable=True, ceiling=80.0)), price=None),
    "its pause time is used up": snapshot(
        gpus(1), running(job("a", pausable=True, max_pause_s=60.0, ceiling=80.0, paused_s=60.0)), price=90.0
    ),
    "frozen stays frozen above its ceiling": snapshot(
        gpus(1), frozen(job("a", pausable=True, ceiling=80.0)), price=90.0
    ),
    "a person's pause is not undone": snapshot(
        gpus(1), view(frozen(job("a", pausable=True)), eligible=False)
    ),
    "a rule's pause is not undone": snapshot(
        gpus(1), view(frozen(job("a", pausable=True)), rule_pause="peak")
    ),
    "cordoned": snapshot(gpus(1, cordoned=True), job("a")),
    "somebody else computes there": snapshot(gpus(1, foreign=True), job("a")),
    "unhealthy": snapshot(gpus(1, healthy=False), job("a")),
    "held": snapshot(gpus(1), view(job("a"), eligible=False)),
}


@pytest.mark.parametrize("reason", QUIET)
def test_nothing_is_started_or_stopped_because(reason: str) -> None:
    assert drawn(decide(QUIET[reason])) == ""


def test_a_price_rule_pauses_pausable_jobs_only() -> None:
    pausable = view(running(job("a", pausable=True), 0), rule_pause="peak")
    rigid = view(running(job("b"), 1), rule_pause="peak")
    decision = decide(snapshot(gpus(2), pausable, rigid, price=200.0))
    assert drawn(decision) == "-a"
    assert decision.pauses[0].cause == "price rule peak pauses it at 200.00/MWh"
    assert decision.pauses[0].reason is W.PRICE


def test_pause_time_used_up_thaws_it_in_spite_of_the_price() -> None:
    over = frozen(job("a", pausable=True, max_pause_s=60.0, ceiling=80.0), minutes_ago=2)
    assert drawn(decide(snapshot(gpus(1), over, price=900.0))) == "+a"


def test_a_spike_that_costs_more_than_the_work_is_worth_pauses_who_can_pause() -> None:
    world = snapshot(
        gpus(3), running(job("a", pausable=True), 0), running(job("b"), 1), job("c"), price=50_000.0
    )
    decision = decide(world)
    assert drawn(decision) == "-a"
    assert wait(decision, "c")[0] is W.PRICE
    assert "costs more than its work is worth" in wait(decision, "c")[1]


@pytest.mark.parametrize(
    ("world", "reason", "detail"),
    [
        (
            snapshot(gpus(2), running(job("r")), job("a", gpus=2)),
            W.GPUS,
            "needs 2 GPUs, 1 is free",
        ),
        (
            snapshot(gpus(4), running(job("r"), 0), running(job("s"), 2), job("a", gpus=2), nodes=2),
            W.GPUS,
            "needs 2 GPUs, the fullest node has 1 free of 2 in all",
        ),
        (
            snapshot(gpus(8), job("a", gpus=1_000_000)),
            W.UNSATISFIABLE,
            "asks for 1000000 GPUs, the largest that can ever fit is 8",
        ),
        (
            snapshot(gpus(1), job("a", gpu_type="H100")),
            W.UNSATISFIABLE,
            "asks for a GPU of type 'H100'; there is NVIDIA A40",
        ),
        (
            snapshot(gpus(4), job("a", gpus=4, nodes=4), nodes=2),
            W.UNSATISFIABLE,
            "asks for 4 nodes with 1 GPU each, which no set of nodes has; the largest single node has 2",
        ),
        (
            snapshot(gpus(1, cordoned=True) + gpus(1, first=1), job("a", gpus=2)),
            W.NODE_MAINTENANCE,
            "needs 2 GPUs; 1 of 2 are cordoned, unhealthy or used by others, 1 left",
        ),
        (
            snapshot(gpus(4), running(job("r")), job("a"), limit_w=480.0),
            W.POWER,
            "needs 230 W at its contract floor, site has 160 W left; would fit with 70 W more in site",
        ),
        (
            snapshot(gpus(1), job("a", ceiling=80.0), price=90.0),
            W.PRICE,
            "the price is 90.00/MWh, above its ceiling of 80.00/MWh",
        ),
        (
            snapshot(gpus(1), job("b", minutes_ago=5), job("a")),
            W.LOWER_PRIORITY,
            "needs 1 GPU, 0 are free after jobs of higher worth or age",
        ),
        (
            snapshot(gpus(1), running(job("r"), state=JobState.STOPPING), job("a")),
            W.GPUS,
            "its GPU comes free when r has stopped",
        ),
    ],
)
def test_a_waiting_job_is_told_why_with_figures(world: Snapshot, reason: WaitReason, detail: str) -> None:
    assert wait(decide(world), "a") == (reason, detail)
    assert wait(place_greedily(world), "a")[0] in (reason, W.GPUS)


def test_running_jobs_give_way_to_their_floors_so_that_more_can_run() -> None:
    world = snapshot(gpus(2), running(job("r", flex="high"), 0), job("a", flex="high"), limit_w=400.0)
    decision = decide(world)
    assert drawn(decision) == "a:1"
    assert [(c.job_id, c.cap_w < 300.0) for c in decision.caps] == [("r", True)]
    assert decision.caps[0].cap_w + decision.starts[0].cap_w <= 400.0


def test_a_flexible_job_starts_low_where_a_rigid_one_must_wait() -> None:
    assert drawn(decide(snapshot(gpus(1), job("a", flex="high"), limit_w=150.0))) == "a:0"
    assert drawn(decide(snapshot(gpus(1), job("a", flex="none"), limit_w=150.0))) == ""


@pytest.mark.parametrize(("price", "limit_w"), [(-300.0, 250.0), (-300.0, 1000.0)])
def test_a_negative_price_never_lifts_a_start_over_the_budget(price: float, limit_w: float) -> None:
    decision = decide(
        snapshot(gpus(2), job("a", flex="high"), job("b", flex="high"), limit_w=limit_w, price=price)
    )
    assert sum(s.cap_w for s in decision.starts) + 45.0 * (2 - len(decision.starts)) <= limit_w


def test_a_gpu_whose_limit_cannot_be_set_counts_at_its_maximum() -> None:
    assert drawn(decide(snapshot(gpus(1, settable=False), job("a", flex="high"), limit_w=299.0))) == ""
    decision = decide(snapshot(gpus(1, settable=False), job("a", flex="high"), limit_w=300.0))
    assert [s.cap_w for s in decision.starts] == [300.0]


def test_every_level_of_the_tree_holds() -> None:
    jobs = [job(f"j{i}", flex="high") for i in range(4)]
    world = snapshot(gpus(4), *jobs, nodes=2, limits_w={"node-0": 250.0, "site": 700.0})
    caps = {uuid: s.cap_w for s in decide(world).starts for uuid in s.gpu_uuids}
    loads = {f"gpu-{i}": caps.get(f"gpu-{i}", 45.0) for i in range(4)}
    used = world.tree.usage_w(loads)
    assert used["node-0"] <= 250.0
    assert used["site"] <= 700.0
    assert len(caps) == 4


def test_the_heir_of_a_stopped_job_waits_for_its_gpus_and_no_second_job_is_stopped() -> None:
    first = decide(
        snapshot(
            gpus(2),
            *(running(job(n, priority="low"), i) for i, n in enumerate("xy")),
            job("h", priority="high"),
        )
    )
    assert len(first.preempts) == 1
    assert first.preempts[0].cause == "stopped for jobs of higher priority: h"
    assert wait(first, "h")[0] is W.GPUS
    stopping = running(job("x", priority="low"), 0, state=JobState.STOPPING)
    second = decide(
        snapshot(gpus(2), stopping, running(job("y", priority="low"), 1), job("h", priority="high"))
    )
    assert drawn(second) == "h:0"  # the GPU that x is leaving
    assert wait(second, "h") == (W.GPUS, "its GPU comes free when x has stopped")


def test_watts_promised_to_a_start_are_not_counted_against_it() -> None:
    world = snapshot(gpus(2, accounted_w=300.0), job("a", gpus=2, flex="none"), limit_w=600.0)
    assert drawn(decide(world)) == "a:01"


def test_no_time_gives_the_greedy_answer_by_name() -> None:
    decision = place(snapshot(gpus(1), job("a")), time_limit_s=0.0)
    assert drawn(decision) == "a:0"
    assert decision.certificates[0].fallback == "greedy"


def test_small_instances_are_solved_exactly() -> None:
    jobs = [job(f"j{i}", gpus=1 + i % 3, flex="mid", priority=("low", "high")[i % 2]) for i in range(10)]
    certificate = decide(snapshot(gpus(8), *jobs, limit_w=1400.0, nodes=2)).certificates[0]
    assert certificate.fallback is None
    assert certificate.gap <= 1e-3


def test_the_joint_answer_beats_the_greedy_one_where_order_misleads() -> None:
    """Greedy fills the node with the older small job; together, the wide one is worth more."""
    world = snapshot(gpus(4), job("small", minutes_ago=60), job("wide", gpus=4, minutes_ago=1))
    assert drawn(place_greedily(world)) == "small:0"
    assert drawn(decide(world)) == "wide:0123"


def test_a_budget_below_the_floors_starts_nobody_and_says_which_domain_is_short() -> None:
    world = snapshot(
        gpus(3), running(job("a"), 0), running(job("b"), 1), job("c", flex="high"), limit_w=400.0
    )
    decision = decide(world)
    assert decision.starts == ()
    assert decision.preempts == ()
    assert "site is limited to 400 W" in decision.notes[0]
    assert wait(decision, "c")[0] is W.POWER


def test_of_many_alike_the_oldest_start() -> None:
    views: list[JobView] = [view(job(f"j{i:02}", minutes_ago=i)) for i in range(40)]
    started = {s.job_id for s in decide(snapshot(gpus(5), *views)).starts}
    assert started == {"j39", "j38", "j37", "j36", "j35"}
