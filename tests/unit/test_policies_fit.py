"""Whatever the site and whichever the policy: what passes exceeds no limit and starts whole gangs only."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.policy.named import POLICIES, open_policy
from scheduler.snapshot import Snapshot
from scheduler.verify import verify
from tests.builders import NOW, prices
from tests.properties.test_decide_properties import check_budget
from tests.properties.worlds import snapshots


@st.composite
def worlds(draw: st.DrawFn) -> Snapshot:
    """Any site, with owners' guesses, deadlines and a day of prices."""
    world = draw(snapshots())
    count, jobs = len(world.jobs), world.jobs
    guesses = st.sampled_from((math.nan, 0.0, 600.0, 7200.0, 40_000.0))
    slack_s = st.sampled_from((math.nan, -60.0, 3600.0, 30_000.0, 90_000.0))
    columns = {
        "remaining_s": np.array([draw(guesses) for _ in range(count)], dtype=np.float64),
        "deadline_s": NOW.timestamp() + np.array([draw(slack_s) for _ in range(count)], dtype=np.float64),
    }
    curve = prices(draw(st.sampled_from(("90 20 20 60", "20 90 90 60", "50"))))
    return replace(world, prices=curve, jobs=replace(jobs, columns={**jobs.columns, **columns}))


COMMON = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
QUEUEING = ("fifo", "backfill", "uniform_cap", "uniform_cap:share=0.5", "price_threshold", "wait_awhile")


@pytest.mark.parametrize("name", [*POLICIES, "uniform_cap:share=0.5", "max_throughput:objective=fair"])
@COMMON
@given(world=worlds())
def test_no_policy_exceeds_a_limit_or_breaks_up_a_gang(name: str, world: Snapshot) -> None:
    policy = open_policy(name)
    for decision in (policy.place(world, time_limit_s=1.0), policy.caps(world)):
        kept, _ = verify(decision, world)
        check_budget(world, kept)
        for start in kept.starts:
            assert len(set(start.gpu_uuids)) == world.job(start.job_id).job.spec.gpus


@pytest.mark.parametrize("name", [*QUEUEING, "max_throughput"])
@COMMON
@given(world=worlds())
def test_a_queueing_policy_proposes_no_start_that_is_refused(name: str, world: Snapshot) -> None:
    proposal = open_policy(name).place(world, time_limit_s=1.0)
    kept, refused = verify(proposal, world)
    assert not [refusal.reason for refusal in refused if refusal.action == "start"]
    assert len(kept.starts) == len(proposal.starts)


@COMMON
@given(world=worlds(), data=st.data())
def test_the_order_of_rows_says_nothing(world: Snapshot, data: st.DataObject) -> None:
    """The same jobs in another order: the same jobs start, where their age tells them apart."""
    views = list(world.jobs)
    ages = [view.job.submitted_at for view in views]
    if len(set(ages)) < len(ages):
        return
    drawn, shuffled = world.but(jobs=views), world.but(jobs=data.draw(st.permutations(views)))
    for name in QUEUEING:
        starts = {start.job_id for start in open_policy(name).place(drawn, time_limit_s=1.0).starts}
        again = {start.job_id for start in open_policy(name).place(shuffled, time_limit_s=1.0).starts}
        assert starts == again
