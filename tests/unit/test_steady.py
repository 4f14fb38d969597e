"""Small raises wait, large restorations come in stages, lowerings never wait, and so caps do not flap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from power.arrays import Floats
from scheduler.cap_book import CapBook
from scheduler.cap_step import cap_step
from scheduler.decision import Decision, JobCap, Resume
from scheduler.model import Condition
from scheduler.snapshot import Snapshot
from scheduler.steady import STAGE_SHARE, steady, thawed_as_they_are
from tests.builders import frozen, gpus, job, running, snapshot

SETTLE_S = 2.0


@pytest.mark.parametrize(
    ("now_w", "wanted_w", "proposed_w"),
    [(200, 202, 200), (200, 203, 203), (200, 199.5, 199.5), (200, 200, 200), (298, 300, 300)],
)
def test_a_raise_must_be_worth_it(now_w: float, wanted_w: float, proposed_w: float) -> None:
    cap = JobCap(job_id="job_a", cap_w=wanted_w, condition=Condition.NOMINAL, cause="")
    world = snapshot(gpus(1), running(job(), 0, cap_w=now_w))
    assert steady(Decision(caps=(cap,)), world).caps[0].cap_w == proposed_w


def test_an_unknown_cap_in_force_holds_nothing() -> None:
    cap = JobCap(job_id="job_a", cap_w=202.0, condition=Condition.NOMINAL, cause="")
    world = snapshot(gpus(1), running(job(), 0, cap_w=200.0))
    world = world.but(gpus=[replace(world.gpu("gpu-0"), confirmed_cap_w=None)])
    assert steady(Decision(caps=(cap,)), world).caps[0].cap_w == 202.0


def test_a_thaw_is_at_the_cap_in_force_and_an_answer_about_nobody_stays() -> None:
    world = snapshot(gpus(1), frozen(job("f"), 0, cap_w=110.0))
    asked = (Resume(job_id="f", cap_w=300.0), Resume(job_id="gone", cap_w=300.0))
    found = thawed_as_they_are(Decision(resumes=asked), world).resumes
    assert [resume.cap_w for resume in found] == [110.0, 300.0]


def restored(*ranks: str, limit_w: float) -> Snapshot:
    """Everybody at 100 W, as after an emergency that is over."""
    jobs = [running(job(f"j{i}", flex="high", priority=p), i, cap_w=100.0) for i, p in enumerate(ranks)]
    return snapshot(gpus(len(ranks)), *jobs, limit_w=limit_w)


def test_what_an_emergency_took_comes_back_in_stages_the_most_important_first() -> None:
    world = restored("low", "high", "standard", "high", "low", "low", limit_w=1800.0)
    found = {cap.job_id: cap.cap_w for cap in steady(cap_step(world), world).caps}
    assert {key for key, cap_w in found.items() if cap_w > 100.0} == {"j1", "j3"}
    assert sum(found.values()) - 600.0 <= STAGE_SHARE * 1800.0


def test_the_first_of_a_stage_always_rises() -> None:
    jobs = [running(job(name, gpus=4, flex="high"), *range(4 * i, 4 * i + 4), cap_w=100.0)
            for i, name in enumerate("ab")]  # fmt: skip
    world = snapshot(gpus(8), *jobs, limit_w=2400.0)
    assert [cap.cap_w for cap in steady(cap_step(world), world).caps] == [300.0, 100.0]


def test_without_a_limit_nothing_is_staged() -> None:
    world = snapshot(gpus(2), *(running(job(n, flex="high"), i, cap_w=100.0) for i, n in enumerate("ab")))
    assert [cap.cap_w for cap in steady(cap_step(world), world).caps] == [300.0, 300.0]


class Loop:
    """Turns of the cap step alone: lowerings are done at once, raises where the book lets them."""

    def __init__(self, world: Snapshot) -> None:
        self.world, self.book = world, CapBook(SETTLE_S)
        self.raised_at: dict[str, list[float]] = {gpu.uuid: [] for gpu in world.gpus}
        self.caps_w: list[Floats] = []

    def turn(self, at_s: float, **changes: Any) -> None:
        world = self.world = replace(self.world, **changes)
        boards = {gpu.uuid: gpu for gpu in world.gpus}
        for cap in steady(cap_step(world), world).caps:
            for gpu in (world.gpus[int(row)] for row in world.gpu_rows(world.jobs.row_of[cap.job_id])):
                now_w = gpu.confirmed_cap_w
                assert now_w is not None
                rises = cap.cap_w > now_w
                if rises and not self.book.may_raise(gpu.uuid, at_s):
                    continue
                if cap.cap_w != now_w:
                    self.book.note_set(gpu.uuid, before_w=now_w, read_back_w=cap.cap_w, monotonic_s=at_s)
                    boards[gpu.uuid] = replace(gpu, confirmed_cap_w=cap.cap_w, accounted_w=cap.cap_w)
                if rises:
                    self.raised_at[gpu.uuid].append(at_s)
        self.world = world.but(gpus=boards.values())
        self.caps_w.append(self.world.gpus.confirmed_cap_w)


def busy_site(limit_w: float) -> Snapshot:
    jobs = [
        running(job(f"j{i}", flex="high", priority=p, workload=w), i, cap_w=150.0)
        for i, (p, w) in enumerate(
            [("low", "bert"), ("high", "resnet"), ("standard", "ncf"), ("standard", "bert"), ("low", None)]
        )
    ]
    return snapshot(gpus(5), *jobs, limit_w=limit_w)


def test_under_a_trembling_budget_and_price_caps_come_to_rest() -> None:
    loop, noise = Loop(busy_site(900.0)), np.random.default_rng(7)
    for second in range(60):
        limit_w = 900.0 - noise.uniform(0.0, 2.5)  # less than a raise is worth
        price = 80.0 + noise.uniform(-3.0, 3.0)
        loop.turn(float(second), limits_w={"site": limit_w}, price_per_mwh=price)
    late = np.array(loop.caps_w[20:])
    assert all(at < 20.0 for times in loop.raised_at.values() for at in times)
    assert (np.diff(late, axis=0) <= 0.0).all()
    assert (late.max(axis=0) - late.min(axis=0) < 3.0).all()


def test_under_a_jumping_budget_no_gpu_rises_twice_in_a_settle_time() -> None:
    loop, noise = Loop(busy_site(900.0)), np.random.default_rng(3)
    for turn in range(200):
        loop.turn(turn * 0.5, limits_w={"site": float(noise.choice([700.0, 900.0, 1300.0]))})
    assert max(map(len, loop.raised_at.values())) > 5
    for times in loop.raised_at.values():
        assert all(later - earlier >= SETTLE_S for earlier, later in pairwise(times))


def test_with_nothing_new_nothing_moves() -> None:
    loop = Loop(busy_site(900.0))
    for second in range(30):
        loop.turn(float(second))
    assert (np.array(loop.caps_w[10:]) == loop.caps_w[10]).all()
