"""The bound by hand: cheapest hours, caps, scarce GPUs and watts, prices below zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from power.arrays import Ints
from power.budget import Budget
from power.curve import CapCurve, prior
from power.curve_table import CurveTable
from scheduler.model import Flex
from scheduler.simulation.bound import Bound, completion_bound, cost_bound
from scheduler.simulation.model import BadInput, Scenario, StopTimes
from tests.trace_builders import cluster, limit, scenario

HOUR_S = 3600.0
AT_ONCE = StopTimes(launch_s=0.0)
CURVE = prior("NVIDIA A40", min_cap_w=100.0, max_cap_w=300.0, workload="bert")
FULL_KW = CURVE.power_w(300.0) / 1e3
IDLE_KW = CURVE.idle_w / 1e3
NEARLY = 0.01  # relative: what the search for prices of scarce things may leave, on problems this small
SLIGHTLY = 2e-3  # relative: what polygons around curves and bisections may be below the exact figure


def world(drawing: str, *, gpus: int = 4, day: str = "50", **more: object) -> Scenario:
    return scenario(drawing, gpus=gpus, day=day, **({"stop_times": AT_ONCE} | more))


def alike(what: Scenario, curve: CapCurve = CURVE) -> tuple[CurveTable, Ints]:
    """All jobs on one true curve."""
    return CurveTable.of([curve] * len(what.jobs))


def bound(what: Scenario, *, hours: float = 6.0, curve: CapCurve = CURVE, **more: object) -> Bound:
    return cost_bound(what, *alike(what, curve), until_s=hours * HOUR_S, **more)  # type: ignore[arg-type]


def least_kwh_per_hour(least_throughput: float) -> float:
    """The least energy of an hour's work, by trying every watt."""
    caps_w = np.linspace(100.0, 300.0, 20_001)
    pace = np.array([CURVE.throughput(cap) for cap in caps_w])
    power_w = np.array([CURVE.power_w(cap) for cap in caps_w])
    per_work = np.where(pace >= least_throughput, power_w / pace, np.inf)
    return float(per_work.min()) / 1e3


@pytest.mark.parametrize(
    ("job", "day", "used"),
    [
        ("a 1x3600@0 by 6h", "60 50 10 20 80 90", "1x10"),
        ("a 1x7200@0 by 6h", "60 50 10 90 80 20", "1x10 1x20"),  # broken in two
        ("a 1x7200@0 by 3h", "60 50 90 10 10 10", "1x60 1x50"),  # due before the cheap hours
        (
            "a 2x5400@0 by 6h",
            "60 50 10 90 80 20",
            "2x10 1x20",
        ),  # GPU-hours: two GPUs, half of the second hour
        ("a 1x3600@1800 by 1h", "10 50 60 90 90 90", "0.5x10 0.5x50"),  # comes in the middle of an hour
        ("a 1x7200@0 by 1.5h", "60 50 10 10 10 10", "1x60 1x50"),  # cannot be done in time: as fast as can be
        ("a 1x3600@0", "60 50 90 90 10 20", "1x10"),  # no deadline: by the common end
    ],
)
def test_a_job_at_full_speed_takes_its_cheapest_hours(job: str, day: str, used: str) -> None:
    parts = [part.split("x") for part in used.split()]
    by_hand = sum(float(gpu_hours) * float(price) for gpu_hours, price in parts) * FULL_KW / 1e3
    found = bound(world(job, day=day))
    assert found.cost == pytest.approx(by_hand, rel=1e-5)
    assert found.gap == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("flex", ["low", "mid", "high"])
def test_at_an_even_price_a_job_runs_at_the_least_energy_that_its_tier_allows(flex: str) -> None:
    found = bound(world(f"a 1x3600@0 {flex}", day="50"))
    least_kwh = least_kwh_per_hour(1.0 - Flex(flex).share)
    assert found.energy_kwh == pytest.approx(least_kwh, rel=SLIGHTLY)
    assert found.energy_kwh <= least_kwh
    assert found.cost == pytest.approx(found.energy_kwh * 50 / 1e3, rel=1e-5)


def test_what_is_forgiven_widens_the_tier() -> None:
    strict, forgiving = bound(world("a 1x3600@0")), bound(world("a 1x3600@0"), tolerance_share=0.02)
    least_kwh = least_kwh_per_hour(0.98)
    assert forgiving.energy_kwh == pytest.approx(least_kwh, rel=SLIGHTLY)
    assert forgiving.cost < strict.cost


def test_the_latest_end_closes_the_window() -> None:
    what = world("a 1x3600@0", day="60 50 10 20 80 90")
    found = bound(what, latest_end_s=np.array([2 * HOUR_S]))
    assert found.cost == pytest.approx(FULL_KW * 50 / 1e3, rel=1e-5)


def test_below_zero_a_job_runs_long_and_draws_what_it_can() -> None:
    found = bound(world("a 1x3600@0 high by 6h", day="50 -100 -100 50 50 50"))
    assert found.cost == pytest.approx(-2 * FULL_KW * 100 / 1e3, rel=1e-5)  # two hours for one hour's work
    assert found.held_gain == pytest.approx(4 * 2 * IDLE_KW * 100 / 1e3)
    rigid = bound(world("a 1x3600@0 by 6h", day="50 -100 -100 50 50 50"))
    assert rigid.cost == pytest.approx(-FULL_KW * 100 / 1e3, rel=1e-5)


def test_scarce_gpus_push_work_into_dearer_hours() -> None:
    jobs = "a 1x3600@0 by 6h,b 1x3600@0 by 6h,c 1x3600@0 by 6h"
    day = "60 50 10 20 80 90"
    assert bound(world(jobs, gpus=3, day=day)).cost == pytest.approx(3 * 10 * FULL_KW / 1e3, rel=1e-5)
    found = bound(world(jobs, gpus=1, day=day))
    assert found.cost <= (10 + 20 + 50) * FULL_KW / 1e3 * (1 + 1e-9)
    assert found.cost == pytest.approx((10 + 20 + 50) * FULL_KW / 1e3, rel=NEARLY)


@pytest.mark.parametrize("domain", ["site", "node-0"])
def test_scarce_watts_push_work_into_dearer_hours(domain: str) -> None:
    jobs, day = "a 1x3600@0 by 6h,b 1x3600@0 by 6h", "60 50 10 20 80 90"
    one_runs_w = 1e3 * (FULL_KW + IDLE_KW)
    what = world(jobs, gpus=2, day=day, budgets=(limit(one_runs_w, domain=domain),))
    found = bound(what)
    assert found.cost <= (10 + 20) * FULL_KW / 1e3 * (1 + 1e-9)
    assert found.cost == pytest.approx((10 + 20) * FULL_KW / 1e3, rel=NEARLY)


def test_a_limit_counts_only_while_it_holds() -> None:
    jobs, day = "a 1x3600@0 by 6h,b 1x3600@0 by 6h", "60 50 10 20 80 90"
    nothing_runs: Budget = limit(2e3 * IDLE_KW, from_h=2.0, until_h=3.0)
    found = bound(world(jobs, gpus=2, day=day, budgets=(nothing_runs,)))
    assert found.cost == pytest.approx(2 * 20 * FULL_KW / 1e3, rel=NEARLY)


def test_the_site_pays_idle_gpus_hosts_and_overhead_until_the_common_end() -> None:
    what = world("a 1x3600@0 by 6h", day="60 50 10 20 80 90", gpus=4)
    site = replace(what, cluster=cluster(4, base_load_w=500.0, pue=1.2))
    always_kwh_price = (0.5 + 4 * IDLE_KW) * (60 + 50 + 10 + 20 + 80 + 90) / 1e3
    running = (FULL_KW - IDLE_KW) * 10 / 1e3
    assert bound(site).site_cost == pytest.approx(1.2 * (always_kwh_price + running), rel=1e-5)


def test_every_job_launches_once_at_no_less_than_the_least_cap_draws() -> None:
    day = "60 50 10 20 80 90"
    quick, slow = (
        bound(world("a 1x3600@0 by 6h", day=day, stop_times=StopTimes(launch_s=s, restart_s=99.0))).cost
        for s in (0.0, 36.0)
    )
    assert slow - quick == pytest.approx(CURVE.power_w(100.0) / 1e3 * 0.01 * 10 / 1e3, rel=1e-6)


@pytest.mark.parametrize("until_s", [9000.0, 9000.0000004, 9000.0000006])
def test_an_end_between_two_microseconds_is_as_good_as_any(until_s: float) -> None:
    what = world("a 1x3600@0, b 1x7200@10 high by 5h", day="50 20 90 10")
    found, even = (bound(what, hours=end_s / 3600.0) for end_s in (until_s, 9000.0))
    assert found.cost == pytest.approx(even.cost)
    assert found.site_cost == pytest.approx(even.site_cost)


def test_hours_without_a_price_are_free_and_said_to_be() -> None:
    what = world("a 1x3600@0 by 6h", day="60 50 10 20 80 90")
    short = replace(what, prices=what.prices.between(what.start, what.prices.slots[3].start))
    found = bound(short)
    assert found.cost == pytest.approx(0.0, abs=1e-9)
    assert any("3.0 h until the common end have no price" in note for note in found.notes)


@pytest.mark.parametrize(
    ("boards", "columns", "message"),
    [
        (4, 2, "needs a curve and a latest end for each of 1 jobs"),
        (1, 1, "job a needs 2 GPUs, test has 1"),
    ],
)
def test_what_cannot_be_bounded_is_said(boards: int, columns: int, message: str) -> None:
    what = world("a 2x3600@0", gpus=boards)
    with pytest.raises(BadInput, match=message):
        cost_bound(what, CurveTable((CURVE,)), np.zeros(columns, dtype=np.int64))


def test_several_kinds_of_gpus_are_refused_by_name() -> None:
    what = world("a 1x3600@0", gpus=2)
    first, second = what.cluster.boards
    mixed = replace(what.cluster, boards=(first, replace(second, model="V100")))
    with pytest.raises(BadInput, match=r"one kind, found A40 \(100-300 W\), V100 \(100-300 W\)"):
        bound(replace(what, cluster=mixed))


@pytest.mark.parametrize(
    ("jobs", "gpus", "mean_s"),
    [
        ("a 1x600@0,b 1x1200@0", 2, 900.0),  # each on its own GPU
        ("a 1x600@0,b 1x1200@0", 1, (600 + 1800) / 2),  # the shorter one first
        ("a 1x1200@0,b 1x60@600", 1, (1260 + 60) / 2),  # preempted
        ("a 2x600@0,b 2x600@0", 2, (600 + 1200) / 2),  # gangs as wide as the site
    ],
)
def test_the_least_mean_completion_time(jobs: str, gpus: int, mean_s: float) -> None:
    assert completion_bound(world(jobs, gpus=gpus)) == pytest.approx(mean_s)


def test_at_less_energy_jobs_take_longer() -> None:
    what = world("a 1x3600@0,b 1x3600@0")
    full_kwh = 2 * FULL_KW
    least_kwh = 2 * least_kwh_per_hour(0.0)

    def mean_s(energy_kwh: float) -> float:
        return completion_bound(what, *alike(what), energy_kwh=energy_kwh)

    assert mean_s(full_kwh) == pytest.approx(3600.0, rel=1e-9)
    between = mean_s((full_kwh + least_kwh) / 2)
    assert 3600.0 < between < mean_s(least_kwh * 1.001) < np.inf
    assert mean_s(least_kwh * 0.99) == np.inf


def test_equal_energy_needs_curves() -> None:
    with pytest.raises(BadInput, match="needs the true curves"):
        completion_bound(world("a 1x3600@0"), energy_kwh=1.0)
