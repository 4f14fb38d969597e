"""What the fleet remembers of GPUs and jobs, and that a picture taken of it stays as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest

from power.readings import Readings
from scheduler.fleet import Kept
from tests.builders import job, running, tree, view
from tests.capd_builders import reading
from tests.fleet_builders import SETTLING_S, fleet, look, picture


def test_an_empty_gpu_counts_at_its_draw_and_margin_and_a_held_one_at_its_cap() -> None:
    site = fleet(2)
    site.put_job(view(running(job("a"), 1)))
    empty, held = picture(site).gpus
    assert (empty.accounted_w, empty.run_id, empty.free) == (55.0, None, True)
    assert (held.accounted_w, held.run_id, held.free) == (300.0, "run_a", False)


def test_idle_draw_is_remembered_while_a_gpu_is_busy() -> None:
    site = fleet(1)
    assert picture(site).gpus[0].idle_w == 55.0
    site.put_job(view(running(job("a"))))
    look(site, at_s=1.0, power_w=250.0, pids=(1,))
    assert picture(site, at_s=1.0).gpus[0].idle_w == 55.0


def test_a_board_never_seen_idle_is_reckoned_by_its_model() -> None:
    site = fleet(1)
    look(site, at_s=0.0, power_w=250.0, pids=(1,))
    assert picture(site).gpus[0].idle_w == 31.0 + 15.0


def test_a_gpu_that_a_run_left_is_settling_for_a_while() -> None:
    site = fleet(1)
    site.put_job(view(running(job("a"))))
    picture(site, at_s=10.0)
    site.drop_job("a")
    assert [picture(site, at_s=at_s).gpus[0].settling for at_s in (12.0, 10.0 + SETTLING_S)] == [True, False]


def test_a_gpu_without_a_fresh_reading_counts_at_its_maximum() -> None:
    site = fleet(2)
    site.put_readings(Readings.of([(None, 0.0)]), np.array([1]))
    sound, lost = picture(site, at_s=1.0).gpus
    assert (sound.healthy, lost.healthy) == (True, False)
    assert (lost.accounted_w, lost.confirmed_cap_w, lost.draw_w) == (300.0, None, None)
    assert not any(gpu.healthy for gpu in picture(site, at_s=60.0).gpus)


def test_a_nonsense_draw_is_no_draw() -> None:
    site = fleet(1)
    site.put_readings(Readings.of([(reading(power_w=math.nan), 0.0)]))
    gpu = picture(site).gpus[0]
    assert (gpu.healthy, gpu.draw_w) == (False, None)


def test_marks_are_told_whole_each_time() -> None:
    site = fleet(3)
    site.mark_cordoned(["gpu-0", "somewhere-else"])
    site.mark_fixed(["gpu-1"])
    assert [(g.cordoned, g.settable) for g in picture(site).gpus] == [
        (True, True),
        (False, False),
        (False, True),
    ]
    site.mark_cordoned(["gpu-2"])
    site.mark_fixed([])
    assert [(g.cordoned, g.settable) for g in picture(site).gpus] == [
        (False, True),
        (False, True),
        (True, True),
    ]


def test_a_lowering_counts_at_the_old_cap_until_it_has_settled() -> None:
    site = fleet(1)
    site.put_job(view(running(job("a"))))
    look(site, at_s=0.0, power_w=120.0, enforced_cap_w=150.0, pids=(1,))
    site.mark_unsettled({"gpu-0": 280.0})
    assert (picture(site).gpus[0].accounted_w, picture(site).gpus[0].confirmed_cap_w) == (280.0, 150.0)
    site.mark_unsettled({})
    assert picture(site).gpus[0].accounted_w == 150.0


def test_a_kept_gpu_counts_at_the_cap_of_the_start_it_waits_for() -> None:
    site = fleet(2)
    site.put_job(view(job("a")))
    site.mark_kept({"gpu-0": Kept("a", 200.0)})
    seen = picture(site)
    assert [(g.reserved_for, g.accounted_w) for g in seen.gpus] == [("a", 200.0), (None, 55.0)]
    assert seen.gpus.free.tolist() == [False, True]


def test_of_two_runs_on_one_gpu_the_older_job_holds_it_until_it_ends() -> None:
    site = fleet(2)
    site.put_job(view(running(job("young", minutes_ago=1), 0)))
    site.put_job(view(running(job("old", gpus=2, minutes_ago=9), 0, 1)))
    assert [gpu.run_id for gpu in picture(site).gpus] == ["run_old", "run_old"]
    site.drop_job("old")
    assert [gpu.run_id for gpu in picture(site).gpus] == ["run_young", None]


def test_a_run_on_a_gpu_that_is_gone_holds_the_others() -> None:
    site = fleet(1, power_tree=tree(2))
    site.put_job(view(running(job("a", gpus=2))))
    seen = picture(site)
    assert seen.gpus[0].run_id == "run_a"
    assert not seen.complete[0]


def test_a_picture_does_not_change_with_the_fleet() -> None:
    site = fleet(2)
    site.put_job(view(running(job("a"), 0)))
    site.put_job(view(job("b"), rule_pause="peak"))
    before = picture(site)
    told = (list(before.gpus), list(before.jobs), dict(before.jobs.row_of), before.job("b"))
    site.drop_job("a")
    site.put_job(view(running(job("b"), 1), floor_share=0.5))
    site.mark_cordoned(["gpu-0"])
    look(site, at_s=1.0, power_w=99.0)
    picture(site, at_s=1.0)
    assert told == (list(before.gpus), list(before.jobs), dict(before.jobs.row_of), before.job("b"))


def test_an_unknown_job_cannot_be_dropped() -> None:
    with pytest.raises(KeyError):
        fleet(1).drop_job("x")
