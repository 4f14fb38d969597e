"""Where gangs go: one node, then one rack, then one row; whole nodes stay free. Drawn as GPUs by node.

Sites are two rows of two racks of two nodes of two GPUs: `##.. .#.. | .... ....` has racks divided by a
blank, rows by a bar; `#` is held by somebody, `.` is free, letters are starts.
"""

from __future__ import annotations

from string import ascii_lowercase

import pytest
from hypothesis import HealthCheck, assume, given, settings

from power.budget import Domain, PowerTree
from scheduler.decision import Decision
from scheduler.model import Job
from scheduler.place import place
from scheduler.placing.build import build_problem
from scheduler.placing.exact import solve_exactly
from scheduler.placing.fallback import place_greedily
from scheduler.placing.together import pull_together
from scheduler.snapshot import Snapshot
from tests.builders import gpus, job, running, snapshot
from tests.placing_check import faults, value_of
from tests.properties.worlds import snapshots

NODES, PER_NODE = 8, 2


def site() -> PowerTree:
    domains = [Domain(name="site"), *(Domain(name=f"row-{r}", parent="site") for r in range(2))]
    domains += [Domain(name=f"rack-{r}", parent=f"row-{r // 2}") for r in range(4)]
    for node in range(NODES):
        own = tuple(f"gpu-{node * PER_NODE + i}" for i in range(PER_NODE))
        domains.append(Domain(name=f"node-{node}", parent=f"rack-{node // 2}", gpu_uuids=own))
    return PowerTree.of(domains)


def world(drawing: str, *jobs: Job, limits_w: dict[str, float] | None = None) -> Snapshot:
    cells = [c for c in drawing if c in "#."]
    held = [running(job(f"held{i}"), i) for i, cell in enumerate(cells) if cell == "#"]
    return snapshot(gpus(len(cells)), *held, *jobs, power_tree=site(), limits_w=limits_w)


def drawn(decision: Decision, drawing: str) -> str:
    names = dict(zip(sorted(s.job_id for s in decision.starts), ascii_lowercase, strict=False))
    at = {int(u[4:]): names[s.job_id] for s in decision.starts for u in s.gpu_uuids}
    count, found = 0, ""
    for cell in drawing:
        found += at.get(count, cell) if cell in "#." else cell
        count += cell in "#."
    return found


CASES: list[tuple[str, tuple[Job, ...], set[str]]] = [
    # the node that it fills
    ("#... .... | .... ....", (job("a"),), {"#a.. .... | .... ...."}),
    # not into a broken node where a whole one is asked for
    ("#.#. .... | ...# #.#.", (job("a", gpus=2),), {"#.#. aa.. | ...# #.#.", "#.#. ..aa | ...# #.#.",
                                                      "#.#. .... | aa.# #.#."}),
    # a split gang in one rack
    ("#... #### | #... ....", (job("a", gpus=4),), {"#... #### | #... aaaa"}),
    # a gang over two nodes in one rack
    ("##.. ##.. | #### ....", (job("a", gpus=4, nodes=2),), {"##.. ##.. | #### aaaa"}),
    # no rack has room: one row
    ("##.. #### | ##.. ##..", (job("a", gpus=4, nodes=2),), {"##.. #### | ##aa ##aa"}),
    # two small ones share a broken node each, the whole nodes stay whole
    ("#.#. .... | .... ....", (job("a"), job("b")), {"#a#b .... | .... ....", "#b#a .... | .... ...."}),
]  # fmt: skip


@pytest.mark.parametrize(("drawing", "jobs", "expected"), CASES, ids=[drawing for drawing, _, _ in CASES])
def test_topology(drawing: str, jobs: tuple[Job, ...], expected: set[str]) -> None:
    assert drawn(place(world(drawing, *jobs), time_limit_s=5.0), drawing) in expected
    assert drawn(place_greedily(world(drawing, *jobs)), drawing) in expected


def test_watts_are_spread_over_the_domains_that_have_them() -> None:
    """Each row has watts for one rigid job beside its idle GPUs: one each, not both waiting for one."""
    rows = {"row-0": 8 * 45.0 + 200.0, "row-1": 8 * 45.0 + 200.0}
    decision = place(world(".... .... | .... ....", job("a"), job("b"), limits_w=rows), time_limit_s=5.0)
    homes = {int(s.gpu_uuids[0][4:]) // 8 for s in decision.starts}
    assert homes == {0, 1}


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(snapshots())
def test_pulling_gangs_together_breaks_no_rule_and_costs_nothing(any_world: Snapshot) -> None:
    problem = build_problem(any_world).problem
    choice = solve_exactly(problem, time_limit_s=2.0)
    assume(choice is not None)
    assert choice is not None
    near = pull_together(problem, choice)
    assert faults(problem, near) == []
    assert value_of(problem, near) == pytest.approx(value_of(problem, choice))
    assert near.start_job.tolist() == choice.start_job.tolist()
