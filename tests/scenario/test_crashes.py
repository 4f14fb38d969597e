"""Processes of the daemon die by SIGKILL while jobs run: jobs, logs, caps and bills do not notice."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from power.simulated import SimulatedBackend
from tests.scenario.running_daemon import EXAMPLES, Daemon, daemon, wait_until

GPUS = 3
PRICE = 50.0
CONTROLLER, SERVER, CAPD = "scheduler.daemon", "api.server", "power.capd.server"
J_PER_KWH = 3.6e6
STEPS = 300  # of about 40 ms: long enough to outlive a restart of the daemon on an idle machine
CATCHING_UP_BYTES = 2000
# Busy as a training job is, and one line per lap; ends when told to by a file, so that no test waits for it.
BURNER = """
import os, sys, time
lap = 0
while not os.path.exists(sys.argv[1]):
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        pass
    lap += 1
    print("step", lap, flush=True)
"""
# Ignores SIGTERM, and leaves a child in a session of its own that does the same.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
print("up", flush=True)
while True:
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        pass
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path, gpus=GPUS, price=PRICE) as one:
        yield one


@pytest.fixture
def silicon(site: Daemon) -> Iterator[SimulatedBackend]:
    backend = SimulatedBackend(site.data_dir / "gpus.map")
    yield backend
    backend.close()


def burner(site: Daemon, until: Path, **job: Any) -> str:
    argv = [sys.executable, "-c", BURNER, str(until)]
    body = {"argv": argv, "gpus": 1, "workload": "resnet50", "checkpoint_grace_s": 1, **job}
    created: str = site.post("/v1/jobs", body)["id"]
    return created


def trainer(site: Daemon, steps: int, **job: Any) -> str:
    """The example's real training, small, with one log line per step."""
    argv = [sys.executable, str(EXAMPLES / "train_char_transformer.py"), "--steps", str(steps)]
    argv += ["--batch", "16", "--samples-per-report", "1"]
    created: str = site.post("/v1/jobs", {"argv": argv, "gpus": 1, "workload": "bert", **job})["id"]
    return created


def states(site: Daemon, *job_ids: str) -> set[str]:
    return {site.job(job_id)["state"] for job_id in job_ids}


def steps(site: Daemon, job_id: str) -> list[int]:
    """The numbers of the step lines in the job's whole log."""
    with site.client() as client:
        text, chunk = b"", b"-" * CATCHING_UP_BYTES
        while len(chunk) >= CATCHING_UP_BYTES:  # a quick writer would keep a reader busy for ever
            answer = client.get(f"/v1/jobs/{job_id}/logs", params={"offset": len(text)})
            chunk = answer.raise_for_status().content
            text += chunk
    return [int(number) for number in re.findall(rb"^step (\d+)", text, re.MULTILINE)]


def caps_w(silicon: SimulatedBackend) -> list[float | None]:
    return [gpu.read().enforced_cap_w for gpu in silicon.gpus()]


def billed(site: Daemon) -> tuple[float, float]:
    """(joules, money) of all GPUs, under a run or idle."""
    rows = [
        row["figures"] for row in site.get("/v1/reports/energy")["rows"] if row["kind"] in ("gpu", "idle")
    ]
    return sum(r["energy_kwh"] for r in rows) * J_PER_KWH, sum(r["cost"] or 0.0 for r in rows)


def just_written(site: Daemon, silicon: SimulatedBackend) -> tuple[float, float, float]:
    """(joules billed, their cost, joules on the GPUs' own counters) when the accounts were last written."""
    before = billed(site)
    wait_until(lambda: billed(site) != before, 15, site.tail)
    return *billed(site), sum(gpu.read().energy_j or 0.0 for gpu in silicon.gpus())


def check_bill(since: tuple[float, float, float], now: tuple[float, float, float]) -> None:
    billed_j, cost, counted_j = (after - before for before, after in zip(since, now, strict=True))
    assert counted_j > 1000
    assert billed_j == pytest.approx(counted_j, rel=0.01)
    assert cost == pytest.approx(billed_j / J_PER_KWH / 1000 * PRICE, rel=0.01)


def cycles_on(site: Daemon, seconds: float = 30.0) -> None:
    """Wait until a controller publishes that has read everything anew."""
    died = time.time()
    wait_until(lambda: (site.data_dir / "run/state.json").stat().st_mtime > died + 1, seconds, site.tail)
    wait_until(site._ready, seconds, site.tail)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_controller_and_server_cost_neither_jobs_nor_joules(
    site: Daemon, silicon: SimulatedBackend
) -> None:
    since = just_written(site, silicon)
    jobs = [trainer(site, steps=STEPS, name=f"t{index}") for index in range(GPUS)]
    wait_until(lambda: all(len(steps(site, job_id)) > 5 for job_id in jobs), 60, site.tail)
    pids = [site.job_pids(job_id) for job_id in jobs]
    dead = set(site.pids(CONTROLLER) + site.pids(SERVER))
    assert len(dead) >= 2
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    cycles_on(site)
    assert not dead & set(site.pids(CONTROLLER) + site.pids(SERVER))
    assert [site.job_pids(job_id) for job_id in jobs] == pids
    assert states(site, *jobs) == {"RUNNING"}
    wait_until(lambda: states(site, *jobs) <= {"SUCCEEDED", "FAILED"}, 150, site.tail)
    assert states(site, *jobs) == {"SUCCEEDED"}
    for job_id in jobs:
        assert steps(site, job_id) == list(range(1, STEPS + 1))
        runs = site.get(f"/v1/jobs/{job_id}/runs")["items"]
        assert len(runs) == 1
        total = site.get(f"/v1/jobs/{job_id}/energy")["total"]
        assert total["samples"] == pytest.approx(STEPS * 16, rel=0.02)
    check_bill(since, just_written(site, silicon))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_new_daemon_adopts_what_the_killed_one_left(
    site: Daemon, silicon: SimulatedBackend, tmp_path: Path
) -> None:
    since = just_written(site, silicon)
    early, late = tmp_path / "early", tmp_path / "late"
    ends_alone = burner(site, early, name="ends while nobody looks")
    jobs = [burner(site, late) for _ in range(2)]
    wait_until(lambda: all(len(steps(site, job_id)) > 5 for job_id in [*jobs, ends_alone]), 30, site.tail)
    pids = [site.job_pids(job_id) for job_id in jobs]
    before = caps_w(silicon)
    assert site.process is not None
    site.process.kill()
    site.process.wait()
    for module in (CONTROLLER, SERVER, CAPD):
        site.kill(module)
    wait_until(lambda: not any(site.pids(m) for m in (CONTROLLER, SERVER, CAPD)), 5)
    time.sleep(1)
    early.touch()
    time.sleep(3)
    assert caps_w(silicon) == before
    site.start()
    cycles_on(site)
    assert states(site, *jobs) == {"RUNNING"}
    wait_until(lambda: states(site, ends_alone) == {"SUCCEEDED"}, 10, site.tail)
    assert [site.job_pids(job_id) for job_id in jobs] == pids
    late.touch()
    wait_until(lambda: states(site, *jobs) == {"SUCCEEDED"}, 20, site.tail)
    for job_id in [*jobs, ends_alone]:
        numbers = steps(site, job_id)
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(site.get(f"/v1/jobs/{job_id}/runs")["items"]) == 1
    check_bill(since, just_written(site, silicon))


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_killed_supervisor_leaves_nobody_in_the_way_of_the_next(site: Daemon) -> None:
    assert site.process is not None
    site.process.kill()
    site.process.wait()
    wait_until(lambda: not site.pids(CONTROLLER) and not site.pids(SERVER), 10, site.tail)
    (old_capd,) = site.pids(CAPD)  # somebody must bring the caps down if no controller comes
    site.start()
    cycles_on(site)
    assert [len(site.pids(module)) for module in (CONTROLLER, SERVER, CAPD)] == [1, 1, 1]
    assert site.pids(CAPD) != [old_capd]


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_killed_capd_leaves_the_caps_and_comes_back_reading_first(
    site: Daemon, silicon: SimulatedBackend, tmp_path: Path
) -> None:
    job = burner(site, tmp_path / "end", flex="high")
    wait_until(lambda: states(site, job) == {"RUNNING"}, 30, site.tail)
    site.post("/v1/power/budgets", {"domain": "site", "limit_w": 700.0})
    wait_until(lambda: accounted_w(site) <= 700, 10, site.tail)
    wait_until(lambda: site.state()["jobs"], 10)
    time.sleep(3)
    before, journal = caps_w(silicon), site.data_dir / "caps.journal"
    (old,) = site.pids(CAPD)
    size = journal.stat().st_size
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{old}").exists(), 5)
    assert caps_w(silicon) == before
    site.post("/v1/power/budgets", {"domain": "site", "limit_w": 650.0})
    wait_until(lambda: site.pids(CAPD), 10, site.tail)
    wait_until(lambda: site.get("/v1/status")["capd"]["alive"], 10, site.tail)
    wait_until(lambda: accounted_w(site) <= 650, 10, site.tail)
    with journal.open() as lines:
        lines.seek(size)
        events = [json.loads(line) for line in lines if line.strip()]
    assert events[0]["event"] == "start"
    assert [row["cap"] / 1000 for row in events[0]["gpus"].values()] == before
    assert next(e["event"] for e in events if e["event"] != "start") == "take"
    after = [cap_w for cap_w in caps_w(silicon) if cap_w is not None]
    assert sum(after) < sum(cap_w for cap_w in before if cap_w is not None)
    assert states(site, job) == {"RUNNING"}


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_cancelling_a_job_that_will_not_go(site: Daemon, silicon: SimulatedBackend) -> None:
    argv = [sys.executable, "-c", STUBBORN]
    job = site.post("/v1/jobs", {"argv": argv, "gpus": 1, "checkpoint_grace_s": 1})["id"]
    wait_until(lambda: states(site, job) == {"RUNNING"} and len(site.job_pids(job)) == 2, 30, site.tail)
    (uuid,) = site.job(job)["run"]["gpu_uuids"]
    asked_s = time.monotonic()
    site.post(f"/v1/jobs/{job}/cancel")
    wait_until(lambda: states(site, job) == {"CANCELLED"}, 15, site.tail)
    assert time.monotonic() - asked_s >= 1.0
    assert not site.job_pids(job)

    def proven_empty() -> bool:
        (gpu,) = (gpu for gpu in site.state()["gpus"] if gpu["uuid"] == uuid)
        return gpu["job_id"] is None and not gpu["foreign"] and gpu["pids"] == [] and gpu["accounted_w"] < 100

    wait_until(proven_empty, 10, lambda: json.dumps(site.state()["gpus"]))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_checkpoint_pause_resume_and_requeue_of_a_real_job(site: Daemon) -> None:
    job = trainer(site, steps=100_000, pausable=True, checkpoint_grace_s=15)
    wait_until(lambda: len(steps(site, job)) > 5, 60, site.tail)
    site.post(f"/v1/jobs/{job}/checkpoint")
    wait_until(lambda: site.job(job)["checkpoint_path"], 15, site.tail)

    site.post(f"/v1/jobs/{job}/pause")
    wait_until(lambda: states(site, job) == {"PAUSED"}, 10, site.tail)
    assert site.job(job)["wait_reason"] == "held_by_user"
    held = len(steps(site, job))
    time.sleep(3)
    assert len(steps(site, job)) == held
    site.post(f"/v1/jobs/{job}/resume")
    wait_until(lambda: len(steps(site, job)) > held, 15, site.tail)
    assert states(site, job) == {"RUNNING"}

    first = site.job(job)["run"]["id"]
    site.post(f"/v1/jobs/{job}/requeue")
    wait_until(
        lambda: (site.job(job)["run"] or {}).get("id") not in (None, first) and steps(site, job),
        60,
        site.tail,
    )
    runs = {run["id"]: run for run in site.get(f"/v1/jobs/{job}/runs")["items"]}
    assert len(runs) == 2
    assert runs[first]["end_reason"] == "requeued"
    wait_until(lambda: steps(site, job), 40, site.tail)
    assert steps(site, job)[0] > 1  # it went on from its checkpoint


def accounted_w(site: Daemon) -> float:
    return float(next(d["accounted_w"] for d in site.state()["domains"] if d["name"] == "site"))
