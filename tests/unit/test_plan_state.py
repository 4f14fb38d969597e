"""The plan as its file shows it: plain JSON, unknown as null, read back as written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scheduler.decision import Certificate
from scheduler.horizon import Horizon, Outlook
from scheduler.plan_state import plan_state, read_plan
from scheduler.published import publish
from scheduler.windows import Plan, PlannedJob, ShadowPrice, Window
from tests.builders import NOW, gpus, hours, prices, snapshot

CERTIFICATE = Certificate(step="plan", value=1.0, bound=2.0, solve_s=0.1)
SLOTS = tuple(
    ShadowPrice(
        start=NOW + hours(h), end=NOW + hours(h + 1), price_per_mwh=99.0, gpu_h=0.5, watt_h={"site": 0.01}
    )
    for h in range(3)
)
JOB = PlannedJob(
    windows=(Window(start=NOW + hours(1), end=NOW + hours(2), share=1.0),),
    cap_w=220.0,
    expected_cost=1.0,
    cost_now=3.0,
)
PLAN = Plan(made_at=NOW, jobs={"job_a": JOB}, shadow=SLOTS, certificate=CERTIFICATE)
SEEN = snapshot(gpus(1), prices=prices("60 50"))


def test_what_is_published_is_what_is_read(tmp_path: Path) -> None:
    state = plan_state(PLAN, SEEN)
    assert read_plan(tmp_path / "plan.json") is None
    publish(tmp_path / "plan.json", state)
    assert read_plan(tmp_path / "plan.json") == state
    (row,) = state["jobs"]
    assert (row["start"], row["cap_w"], row["windows"][0]["share"]) == (
        JOB.windows[0].start.isoformat(),
        220.0,
        1.0,
    )


def test_prices_are_published_ones_else_the_outlooks_with_its_unpleasant_side() -> None:
    blind = plan_state(PLAN, SEEN)["slots"]
    assert [(s["price_per_mwh"], s["price_high_per_mwh"]) for s in blind] == [
        (60, None),
        (50, None),
        (None, None),
    ]
    outlook = Outlook(expected=prices("60 50 40"), high=prices("60 50 70"))
    seen = replace(SEEN, horizon=Horizon(prices=outlook))
    known = plan_state(PLAN, seen)["slots"]
    assert [(s["price_per_mwh"], s["price_high_per_mwh"]) for s in known] == [(60, 60), (50, 50), (40, 70)]


def test_a_bound_that_nobody_knows_is_null() -> None:
    unproven = replace(PLAN, certificate=replace(CERTIFICATE, bound=float("inf")))
    assert plan_state(unproven, SEEN)["certificate"]["bound"] is None
