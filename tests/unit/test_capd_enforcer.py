"""What capd does to GPUs: look first, set only for the leader, bring all down when nobody leads."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from power.capd.enforcer import Enforcer
from power.capd.protocol import Code, Refused
from power.clock import FakeClock
from tests.capd_builders import FakeGpu, enforcer_of, journal_lines


def a_clock() -> FakeClock:
    return FakeClock(datetime(2026, 1, 1, tzinfo=UTC))


async def refused_code(enforcer: Enforcer, epoch: int, uuid: str, cap: int) -> Code:
    with pytest.raises(Refused) as caught:
        await enforcer.set(epoch, uuid, cap, pid=1)
    return caught.value.code


def test_looks_at_every_limit_before_anything_else(tmp_path: Path) -> None:
    gpu = FakeGpu(0, cap_w=250.0)
    asyncio.run(enforcer_of(tmp_path, gpu).start())
    assert gpu.log == ["read"]
    [line] = journal_lines(tmp_path)
    assert line["event"] == "start"
    assert line["gpus"] == {"GPU-0": {"cap": 250000, "min": 100000, "max": 300000}}


def test_set_reads_before_and_back_and_is_written_down(tmp_path: Path) -> None:
    gpu = FakeGpu(0)
    enforcer = enforcer_of(tmp_path, gpu)

    async def story() -> None:
        outcome = await enforcer.set(enforcer.take(7), "GPU-0", 150_000, pid=7)
        assert (outcome.asked, outcome.before, outcome.read_back) == (150_000, 300_000, 150_000)

    asyncio.run(story())
    line = journal_lines(tmp_path)[-1]
    assert {k: line[k] for k in ("who", "epoch", "uuid", "old", "asked", "read_back")} == {
        "who": "pid 7",
        "epoch": 1,
        "uuid": "GPU-0",
        "old": 300_000,
        "asked": 150_000,
        "read_back": 150_000,
    }
    assert isinstance(line["latency_us"], int)


@pytest.mark.parametrize(("asked", "sent_w"), [(1, 100.0), (10**9, 300.0), (123_456, 123.456)])
def test_only_values_within_the_boards_range_are_sent(tmp_path: Path, asked: int, sent_w: float) -> None:
    gpu = FakeGpu(0)
    enforcer = enforcer_of(tmp_path, gpu)
    asyncio.run(enforcer.set(enforcer.take(1), "GPU-0", asked, pid=1))
    assert gpu.writes == [sent_w]


def test_stale_epochs_and_unknown_gpus_are_refused(tmp_path: Path) -> None:
    clock, gpu = a_clock(), FakeGpu(0)
    enforcer = enforcer_of(tmp_path, gpu, clock=clock)

    async def story() -> None:
        assert await refused_code(enforcer, 0, "GPU-0", 150_000) is Code.STALE_EPOCH  # nobody leads yet
        old = enforcer.take(1)
        new = enforcer.take(2)
        assert await refused_code(enforcer, old, "GPU-0", 150_000) is Code.STALE_EPOCH
        assert await refused_code(enforcer, new, "GPU-9", 150_000) is Code.NOT_ALLOWED
        clock.advance(10.0)
        assert await refused_code(enforcer, new, "GPU-0", 150_000) is Code.STALE_EPOCH
        with pytest.raises(Refused):
            enforcer.renew(new)  # a lease that ran out is not brought back

    asyncio.run(story())
    assert gpu.writes == []


def test_epochs_go_on_where_a_dead_capd_left_off(tmp_path: Path) -> None:
    first = enforcer_of(tmp_path, FakeGpu(0))
    assert [first.take(1), first.take(1)] == [1, 2]
    second = enforcer_of(tmp_path, FakeGpu(0))
    assert second.take(1) == 3


def test_lost_lease_brings_caps_down_and_only_down(tmp_path: Path) -> None:
    clock = a_clock()
    high, low, lost = FakeGpu(0, cap_w=280.0), FakeGpu(1, cap_w=110.0), FakeGpu(2)
    lost.lost = True
    fail_safe = {"GPU-0": 150_000, "GPU-1": 150_000, "GPU-2": 150_000}
    enforcer = enforcer_of(tmp_path, high, low, lost, clock=clock, fail_safe=fail_safe)

    async def story() -> None:
        enforcer.take(1)
        await enforcer.lower_all()  # not due: the guard on the lane says so
        assert high.writes == []
        clock.advance(10.0)
        await enforcer.lower_all()
        await enforcer.lower_all()

    asyncio.run(story())
    assert (high.cap_w, high.writes) == (150.0, [150.0])
    assert (low.cap_w, low.writes) == (110.0, [])
    events = [line["event"] for line in journal_lines(tmp_path)]
    assert events.count("lease_lost") == 1


def test_unreadable_limit_is_lowered_once_seen_high_and_left_once_seen_low(tmp_path: Path) -> None:
    clock = a_clock()
    high, low = FakeGpu(0), FakeGpu(1, cap_w=100.0)
    enforcer = enforcer_of(tmp_path, high, low, clock=clock, fail_safe={"GPU-0": 150_000, "GPU-1": 150_000})

    async def story() -> None:
        await enforcer.start()
        high.unreadable = low.unreadable = True
        clock.advance(10.0)
        await enforcer.lower_all()

    asyncio.run(story())
    assert (high.cap_w, low.cap_w) == (150.0, 100.0)


def test_hanging_gpu_costs_one_timeout_and_then_nothing(tmp_path: Path) -> None:
    stuck, fine = FakeGpu(0), FakeGpu(1)
    enforcer = enforcer_of(tmp_path, stuck, fine, call_timeout_s=0.2)

    async def story() -> None:
        epoch = enforcer.take(1)
        stuck.go.clear()
        began_s = time.monotonic()
        code, outcome = await asyncio.gather(
            refused_code(enforcer, epoch, "GPU-0", 150_000), enforcer.set(epoch, "GPU-1", 150_000, pid=1)
        )
        assert code is Code.TIMEOUT
        assert outcome.read_back == 150_000
        await asyncio.sleep(0.05)
        assert await refused_code(enforcer, epoch, "GPU-0", 150_000) is Code.BUSY
        assert time.monotonic() - began_s < 1.0
        stuck.go.set()

    asyncio.run(story())


def test_raise_that_hung_past_its_lease_is_not_carried_out(tmp_path: Path) -> None:
    clock, gpu = a_clock(), FakeGpu(0, cap_w=150.0)
    enforcer = enforcer_of(tmp_path, gpu, clock=clock, call_timeout_s=0.1)

    async def story() -> None:
        epoch = enforcer.take(1)
        gpu.go.clear()  # it hangs while reading, before the set
        assert await refused_code(enforcer, epoch, "GPU-0", 300_000) is Code.TIMEOUT
        clock.advance(10.0)
        gpu.go.set()
        await asyncio.sleep(0.1)

    asyncio.run(story())
    assert gpu.writes == []


def test_refusals_of_the_board_have_their_own_codes(tmp_path: Path) -> None:
    gpu = FakeGpu(0)
    enforcer = enforcer_of(tmp_path, gpu)

    async def story() -> None:
        epoch = enforcer.take(1)
        gpu.forbidden = True
        assert await refused_code(enforcer, epoch, "GPU-0", 150_000) is Code.NOT_PERMITTED
        assert (await enforcer.read_all())["GPU-0"]["cap"] == 300_000
        gpu.lost = True
        assert await refused_code(enforcer, epoch, "GPU-0", 150_000) is Code.GPU_LOST
        assert (await enforcer.read_all())["GPU-0"] == {
            "cap": None,
            "min": 100_000,
            "max": 300_000,
            "error": "gpu_lost",
        }

    asyncio.run(story())
    assert journal_lines(tmp_path)[-1]["error"] == "GPU-0: no right to set"


def test_silent_board_shows_in_the_read_back(tmp_path: Path) -> None:
    gpu = FakeGpu(0)
    gpu.silent = True
    enforcer = enforcer_of(tmp_path, gpu)
    outcome = asyncio.run(enforcer.set(enforcer.take(1), "GPU-0", 150_000, pid=1))
    assert (outcome.asked, outcome.read_back) == (150_000, 300_000)


def test_without_a_journal_caps_fall_but_never_rise(tmp_path: Path) -> None:
    gpu = FakeGpu(0, cap_w=200.0)
    enforcer = enforcer_of(tmp_path, gpu)
    (tmp_path / "journal.jsonl").mkdir()

    async def story() -> None:
        epoch = enforcer.take(1)
        assert (await enforcer.set(epoch, "GPU-0", 150_000, pid=1)).read_back == 150_000
        assert await refused_code(enforcer, epoch, "GPU-0", 250_000) is Code.JOURNAL
        (tmp_path / "journal.jsonl").rmdir()
        assert (await enforcer.set(epoch, "GPU-0", 250_000, pid=1)).read_back == 250_000

    asyncio.run(story())
