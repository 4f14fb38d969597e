"""What decisions of a simulation are told of what was learned, and when."""

from __future__ import annotations

from scheduler.policy.named import open_policy
from scheduler.simulation.beliefs import Beliefs
from scheduler.simulation.run import simulate
from tests.trace_builders import Noted, cluster, scenario

A40 = cluster(1).boards[0]


def looks(beliefs: Beliefs, *, draw_w: float, times: int = 1) -> None:
    for _ in range(times):
        beliefs.observe(A40, "bert", draw_w=draw_w, cap_w=A40.max_cap_w)


def test_a_demand_is_told_when_it_is_first_heard_of_and_then_once_it_moved_by_a_per_cent() -> None:
    beliefs = Beliefs()
    looks(beliefs, draw_w=150.0)
    assert beliefs.tell() == {"bert"}
    told_w = beliefs.curves.curve(A40, "bert").demand_w
    untold = 0
    for _ in range(25):  # its demand falls towards 150 W; not yet seen for so long that it counts as known
        looks(beliefs, draw_w=150.0)
        news, now_w = beliefs.tell(), beliefs.curves.curve(A40, "bert").demand_w
        if news:
            assert abs(now_w - told_w) >= 0.01 * told_w
        else:
            assert now_w == told_w
            untold += 1
        told_w = now_w
    assert 0 < untold < 25


def test_a_demand_that_counts_as_known_from_now_on_is_told_however_little_it_moved() -> None:
    beliefs = Beliefs()
    looks(beliefs, draw_w=150.0, times=29)
    beliefs.tell()
    assert not beliefs.curves.known(A40, "bert")
    looks(beliefs, draw_w=150.0)
    assert beliefs.tell() == {"bert"}
    assert beliefs.curves.known(A40, "bert")
    assert beliefs.tell() == frozenset()


def test_all_jobs_of_a_workload_share_one_curve_whatever_was_learned_meanwhile() -> None:
    drawing = "\n".join(f"j{i} 1x{9000 + 700 * i}@{i * 1500} high by 30h" for i in range(12))
    noted = Noted(open_policy("wattmill"))
    simulate(scenario(drawing, gpus=8, day="50 80 30 90"), noted)
    demands_w = [{view.curve.demand_w for view in snapshot.jobs} for snapshot, _ in noted.placed]
    assert max(map(len, demands_w)) == 1
    assert len(set.union(*demands_w)) > 1
