"""The whole story through the real HTTP API: three real torch jobs, a budget cut, a price spike, the bill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from power.simulated import create_map
from tests.fake_nvml_build import fake_nvml_env
from tests.scenario.observed import Meter, duty
from tests.scenario.running_daemon import Daemon, daemon, wait_until

CHEAP, DEAR, CEILING = 20.0, 150.0, 100.0
GPUS = 4
BASE_W = 400.0
BUDGET_W, HALF_W = 2400.0, 1200.0
WRITTEN_WITHIN_S = 6.0  # the meter writes every five seconds


@contextmanager
def simulated(folder: Path) -> Iterator[Daemon]:
    with daemon(folder, gpus=GPUS, price=50.0) as one:
        yield one


@contextmanager
def nvml(folder: Path, library: Path) -> Iterator[Daemon]:
    """The real pynvml over the fake library; a `gpu-sim` of the test's own plays the silicon."""
    data_dir = folder / "data"
    data_dir.mkdir()
    create_map(data_dir / "gpus.map", count=GPUS, model="A40", seed=1)
    options = f"--map {data_dir / 'gpus.map'} --count {GPUS} --model A40 --seed 1"
    silicon = subprocess.Popen([sys.executable, "-m", "power.gpu_sim", *options.split()])
    try:
        with daemon(
            folder, price=50.0, backend="nvml", env=fake_nvml_env(library, data_dir / "gpus.map")
        ) as one:
            yield one
    finally:
        os.kill(silicon.pid, signal.SIGTERM)
        silicon.wait(10)


@pytest.fixture(params=["simulated", "nvml"])
def site(request: pytest.FixtureRequest, tmp_path: Path, fake_nvml_dir: Path) -> Iterator[Daemon]:
    with simulated(tmp_path) if request.param == "simulated" else nvml(tmp_path, fake_nvml_dir) as one:
        assert one.state()["backend"] == request.param
        yield one


def caps_w(state: Any) -> float:
    """The sum of confirmed caps of loaded GPUs, with base loads and idle GPUs: what counts at the site."""
    return float(next(d["accounted_w"] for d in state["domains"] if d["name"] == "site"))


def cap_of(state: Any, job_id: str) -> float:
    return min(gpu["cap_w"] for gpu in state["gpus"] if gpu["job_id"] == job_id)


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_budget_cut_price_spike_and_bill(site: Daemon) -> None:
    price = [50.0]
    meter = Meter(site.data_dir / "gpus.map", lambda: price[0])
    meter.start()
    rigid = site.submit(steps=450, name="rigid", workload="bert", priority="high")
    flexible = site.submit(steps=350, name="flexible", gpus=2, flex="high", workload="bert")
    pausable = site.submit(
        steps=300,
        name="pausable",
        flex="mid",
        pausable=True,
        price_ceiling_per_mwh=CEILING,
        workload="resnet50",
    )
    everyone = (rigid, flexible, pausable)

    def all_in(*states: str) -> bool:
        return all(site.job(job_id)["state"] in states for job_id in everyone)

    wait_until(lambda: all_in("RUNNING"), 40, site.tail)
    wait_until(lambda: len(reporting(site)) == 3, 60, site.tail)
    before = {job_id: duty(site.job_pids(job_id)) for job_id in (rigid, flexible)}
    assert before[flexible] > 0.95

    # An operator halves the budget: caps are under it within five seconds, and the flexible job slows.
    site.post("/v1/power/budgets", {"domain": "site", "limit_w": HALF_W})
    took_s = wait_until(lambda: caps_w(site.state()) <= HALF_W, 5, site.tail)
    assert took_s <= 5
    wait_until(lambda: cap_of(site.state(), flexible) < 250, 5, site.tail)
    cut = {job_id: duty(site.job_pids(job_id)) for job_id in (rigid, flexible)}
    assert cut[flexible] < 0.9 * before[flexible]
    assert cut[rigid] > 0.97

    # The price passes the ceiling: the pausable job pauses, the rigid one never slows.
    site.set_price(DEAR)
    price[0] = DEAR
    wait_until(lambda: site.job(pausable)["state"] == "PAUSED", 15, site.tail)
    assert duty(site.job_pids(pausable)) < 0.1
    assert site.job(pausable)["wait_reason"] == "waiting_for_price"
    assert duty(site.job_pids(rigid)) > 0.97
    assert caps_w(site.state()) <= HALF_W

    # The price falls and the budget is back: all finish.
    site.set_price(CHEAP)
    price[0] = CHEAP
    wait_until(lambda: site.job(pausable)["state"] == "RUNNING", 15, site.tail)
    site.post("/v1/power/budgets", {"domain": "site", "limit_w": BUDGET_W})
    wait_until(lambda: all_in("SUCCEEDED", "FAILED"), 240, site.tail)
    assert all_in("SUCCEEDED"), site.tail()
    check_bill(site, meter, everyone)


def reporting(site: Daemon) -> list[str]:
    """Jobs that have reported samples."""
    return [row["job_id"] for row in site.state()["jobs"] if row["samples_per_s"]]


def check_bill(site: Daemon, meter: Meter, everyone: tuple[str, ...]) -> None:
    """The bill adds up to the integral of power x price that the test measured by itself, within 1 %."""
    ended_j, ended_cost = meter.energy_j, meter.cost
    time.sleep(WRITTEN_WITHIN_S)  # idle boards go on drawing: the bill is as of a moment in between
    total = billed(site)
    meter.stop()
    assert 0.99 * ended_j <= total["energy_kwh"] * 3.6e6 <= 1.01 * meter.energy_j
    assert 0.99 * ended_cost <= total["cost"] <= 1.01 * meter.cost
    for job_id in everyone:
        bill = site.get(f"/v1/jobs/{job_id}/energy")["total"]
        assert abs(bill["counter_vs_integral"]) < 0.01
        assert bill["samples"] > 0
        assert bill["co2_g"] == pytest.approx(bill["energy_kwh"] * 400.0, rel=1e-6)
        assert bill["slowdown_used"] <= bill["slowdown_promised"] + 0.01


def billed(site: Daemon) -> dict[str, float]:
    """Energy and cost of all GPUs, under a run or idle."""
    rows = [row for row in site.get("/v1/reports/energy")["rows"] if row["kind"] in ("gpu", "idle")]
    return {name: sum(row["figures"][name] or 0.0 for row in rows) for name in ("energy_kwh", "cost")}
