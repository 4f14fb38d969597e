"""The socket: who may ask, what a broken peer can do (nothing), and the client on the other end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from power.capd.client import CapClient, CapdUnavailable, EpochLost
from power.unix_path import short_path
from tests.capd_builders import FakeGpu, enforcer_of, serving


def with_client(folder: Path, story: Callable[[CapClient], None], *gpus: FakeGpu, **options: Any) -> None:
    """Run a blocking story against a capd that this process serves."""

    async def both() -> None:
        async with serving(enforcer_of(folder, *gpus, **options), folder):
            client = CapClient(folder / "capd.sock")
            try:
                await asyncio.to_thread(story, client)
            finally:
                client.close()

    asyncio.run(both())


async def exchange(folder: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Send raw lines on one connection and read what comes until it ends or falls silent."""
    with short_path(folder / "capd.sock") as name:
        reader, writer = await asyncio.open_unix_connection(name)
    writer.write(b"".join(lines))
    answers = []
    try:
        while line := await asyncio.wait_for(reader.readline(), 0.3):
            answers.append(json.loads(line))
    except TimeoutError:
        pass
    writer.close()
    await writer.wait_closed()
    return answers


def test_client_leads_sets_and_reads(tmp_path: Path) -> None:
    first, second = FakeGpu(0), FakeGpu(1)

    def story(client: CapClient) -> None:
        status = client.hello()
        assert (status.epoch, status.uuids, status.lease_s) == (0, ("GPU-0", "GPU-1"), 10.0)
        client.renew()  # the first renewal takes the lead
        assert client.epoch == 1
        results = client.set_caps([("GPU-0", 150.0), ("GPU-9", 150.0), ("GPU-1", 120.5)])
        assert [(r.uuid, r.read_back_w, r.error) for r in results] == [
            ("GPU-0", 150.0, None),
            ("GPU-9", None, "not_allowed"),
            ("GPU-1", 120.5, None),
        ]
        assert [r.confirmed for r in results] == [True, False, True]
        assert client.read_caps()["GPU-1"].cap_w == 120.5
        assert client.set_caps([]) == []

    with_client(tmp_path, story, first, second)
    assert (first.cap_w, second.cap_w) == (150.0, 120.5)


def test_a_second_leader_ends_the_first(tmp_path: Path) -> None:
    def story(first: CapClient) -> None:
        first.take_epoch()
        second = CapClient(tmp_path / "capd.sock")
        second.take_epoch()
        with pytest.raises(EpochLost):
            first.set_caps([("GPU-0", 300.0)])
        with pytest.raises(EpochLost):
            first.set_caps([("GPU-0", 300.0)])  # until it renews, nothing can be set
        second.renew()
        assert second.set_caps([("GPU-0", 150.0)])[0].confirmed
        second.close()

    with_client(tmp_path, story, FakeGpu(0))


def test_lease_lost_brings_caps_down_and_the_leader_back_only_by_a_new_epoch(tmp_path: Path) -> None:
    gpu = FakeGpu(0)

    def story(client: CapClient) -> None:
        client.take_epoch()
        client.set_caps([("GPU-0", 250.0)])
        deadline_s = time.monotonic() + 5.0
        while gpu.cap_w > 100.0 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert gpu.cap_w == 100.0
        assert client.hello().fail_safe
        with pytest.raises(EpochLost):
            client.renew()
        client.renew()
        assert client.epoch == 2
        assert client.set_caps([("GPU-0", 250.0)])[0].confirmed
        assert not client.hello().fail_safe

    with_client(tmp_path, story, gpu, lease_s=0.3)


def test_hanging_gpu_delays_nobody_elses_cap_for_long(tmp_path: Path) -> None:
    stuck, fine = FakeGpu(0), FakeGpu(1)

    def story(client: CapClient) -> None:
        client.take_epoch()
        stuck.go.clear()
        began_s = time.monotonic()
        for expected in ("timeout", "busy"):
            results = client.set_caps([("GPU-0", 150.0), ("GPU-1", 140.0)])
            assert [r.error for r in results] == [expected, None]
            time.sleep(0.05)
        assert time.monotonic() - began_s < 1.5
        stuck.go.set()

    with_client(tmp_path, story, stuck, fine)


def test_no_capd_is_capd_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CapdUnavailable):
        CapClient(tmp_path / "nowhere" / "capd.sock").hello()
    with pytest.raises(CapdUnavailable):
        CapClient(tmp_path / "capd.sock").renew()


def test_client_connects_again_after_capd_came_back(tmp_path: Path) -> None:
    client = CapClient(tmp_path / "capd.sock")

    async def life(story: Callable[[], None]) -> None:
        async with serving(enforcer_of(tmp_path, FakeGpu(0)), tmp_path):
            await asyncio.to_thread(story)

    asyncio.run(life(client.renew))
    with pytest.raises(CapdUnavailable):
        client.renew()

    def after() -> None:
        with pytest.raises(EpochLost):
            client.renew()
        client.renew()
        assert client.epoch == 2

    asyncio.run(life(after))
    client.close()


def test_quit_is_answered(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(enforcer_of(tmp_path, FakeGpu(0)), tmp_path) as server:
            await asyncio.to_thread(CapClient(tmp_path / "capd.sock").quit)
            await asyncio.wait_for(server.quitting.wait(), 2.0)

    asyncio.run(story())


def test_malformed_lines_get_an_error_each_and_lose_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(enforcer_of(tmp_path, FakeGpu(0)), tmp_path):
            answers = await exchange(
                tmp_path,
                b"nonsense\n",
                b'{"verb":"take"}\n',
                b'{"verb":"set","epoch":1,"uuid":"GPU-0","cap_milliwatt":1.5}\n',
                b'{"verb":"set","epoch":1,"uuid":"GPU-0","cap_milliwatt":150000}\n',
            )
        assert [a.get("error") for a in answers] == ["malformed", None, "malformed", None]
        assert answers[-1]["read_back"] == 150000

    asyncio.run(story())


def test_overlong_line_ends_its_connection_and_no_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(enforcer_of(tmp_path, FakeGpu(0)), tmp_path):
            answers = await exchange(
                tmp_path, b'{"verb":"hello"}\n', b"x" * 200_000, b"\n", b'{"verb":"hello"}\n'
            )
            assert [a.get("error") for a in answers] == [None, "malformed"]
            assert (await exchange(tmp_path, b'{"verb":"hello"}\n'))[0]["ok"]

    asyncio.run(story())


def test_what_a_vanished_client_asked_for_is_done(tmp_path: Path) -> None:
    gpu = FakeGpu(0)

    async def story() -> None:
        async with serving(enforcer_of(tmp_path, gpu), tmp_path):
            with short_path(tmp_path / "capd.sock") as name:
                _, writer = await asyncio.open_unix_connection(name)
            gpu.go.clear()
            writer.write(
                b'{"verb":"take"}\n{"verb":"set","epoch":1,"uuid":"GPU-0","cap_milliwatt":150000}\n{"ver'
            )
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await asyncio.sleep(0.05)
            gpu.go.set()
            await asyncio.sleep(0.1)
            assert (await exchange(tmp_path, b'{"verb":"hello"}\n'))[0]["epoch"] == 1

    asyncio.run(story())
    assert gpu.cap_w == 150.0


def test_other_users_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        enforcer = enforcer_of(tmp_path, FakeGpu(0))
        async with serving(enforcer, tmp_path, peer_uids=frozenset({4_000_000})):
            answers = await exchange(tmp_path, b'{"verb":"take"}\n')
        assert [a["error"] for a in answers] == ["forbidden"]
        assert enforcer.lease.epoch == 0

    asyncio.run(story())


def test_too_many_connections_are_turned_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(enforcer_of(tmp_path, FakeGpu(0)), tmp_path):
            with short_path(tmp_path / "capd.sock") as name:
                held = [await asyncio.open_unix_connection(name) for _ in range(32)]
            await asyncio.sleep(0.05)
            assert (await exchange(tmp_path, b'{"verb":"hello"}\n'))[0]["error"] == "crowded"
            for _, writer in held:
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(0.05)
            assert (await exchange(tmp_path, b'{"verb":"hello"}\n'))[0]["ok"]

    asyncio.run(story())


def test_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(enforcer_of(tmp_path, FakeGpu(0)), tmp_path):
            assert (tmp_path / "capd.sock").stat().st_mode & 0o777 == 0o600

    asyncio.run(story())
