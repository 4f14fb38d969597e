"""Small raises wait, lowerings never do."""

from __future__ import annotations

import pytest

from scheduler.decision import Decision, JobCap
from scheduler.model import Condition
from scheduler.steady import steady
from tests.builders import gpus, job, running, snapshot


@pytest.mark.parametrize(
    ("now_w", "wanted_w", "proposed_w"),
    [(200, 202, 200), (200, 203, 203), (200, 199.5, 199.5), (200, 200, 200), (298, 300, 300)],
)
def test_a_raise_must_be_worth_it(now_w: float, wanted_w: float, proposed_w: float) -> None:
    cap = JobCap(job_id="job_a", cap_w=wanted_w, condition=Condition.NOMINAL, cause="")
    world = snapshot(gpus(1), running(job(), 0, cap_w=now_w))
    assert steady(Decision(caps=(cap,)), world).caps[0].cap_w == proposed_w
