"""A drain empties a node or a GPU, and loses no work."""

from __future__ import annotations

import pytest

from scheduler.drain import drained
from scheduler.model import Job
from tests.builders import job, running, tree


@pytest.mark.parametrize(
    ("one", "draining", "stops"),
    [
        (running(job(), 0), {"gpu-0"}, True),
        (running(job(), 0), {"node-0"}, True),
        (running(job(), 3), {"node-0"}, False),
        (running(job(), 3), {"site"}, True),
        (running(job(gpus=2), 1, 2), {"gpu-2"}, True),
        (running(job(requeue=False), 0), {"gpu-0"}, False),
        (job(), {"gpu-0"}, False),
        (running(job(), 0), set(), False),
    ],
)
def test_who_is_stopped(one: Job, draining: set[str], stops: bool) -> None:
    found = drained([one], frozenset(draining), tree(4, nodes=2))
    assert bool(found) is stops
    assert all("drained" in stop.cause for stop in found)
