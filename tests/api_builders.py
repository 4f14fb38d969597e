"""A site of 8 simulated A40s behind the real API: real database, fake controller state and logs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.services import Services
from power.budget import Domain, PowerTree
from power.clock import FakeClock
from scheduler.config import Config
from scheduler.engines.engine import EngineError
from scheduler.ids import new_id
from scheduler.lifecycle import move
from scheduler.model import Job, JobState, Run
from scheduler.plan_state import PlanState
from scheduler.published import GpuState, PublishedState
from scheduler.store import Store, open_store

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
UUIDS = tuple(f"GPU-{n}" for n in range(8))
IDLE_W, MIN_W, MAX_W, BASE_W = 40.0, 100.0, 300.0, 200.0
SITE_IDLE_W = BASE_W + 8 * IDLE_W
ARGV = ["python", "train.py"]


@dataclass(frozen=True)
class Client:
    """Requests straight into the application, without a network and without its lifespan."""

    app: FastAPI
    headers: dict[str, str]

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._request(method, path, options))

    async def _request(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        base_url = "http://localhost:8787"
        async with httpx.AsyncClient(transport=transport, base_url=base_url, headers=self.headers) as client:
            return await client.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)


@dataclass
class Site:
    """Everything behind the API, to look at and to change."""

    store: Store
    clock: FakeClock
    state: PublishedState | None
    plan: PlanState | None = None
    logs: dict[str, bytes] = field(default_factory=dict)
    wakes: int = 0
    app: FastAPI = field(default_factory=FastAPI)
    secrets: dict[str, str] = field(default_factory=dict)

    def client(self, role: str | None = "admin") -> Client:
        """A client with a token of this role; None = without."""
        return Client(self.app, {} if role is None else {"Authorization": f"Bearer {self.secret(role)}"})

    def secret(self, name: str) -> str:
        """The token of a person: `ada:user`, or a role's own."""
        if name not in self.secrets:
            person, _, role = name.rpartition(":")
            self.secrets[name] = self.store.tokens.create(person or name, role)
        return self.secrets[name]

    def read_log(self, run_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        if run_id not in self.logs:
            raise EngineError("no such log")
        data = self.logs[run_id][offset : offset + limit]
        return data, offset + len(data)

    def wake(self) -> None:
        self.wakes += 1

    def run_job(self, job_id: str, *gpus: int) -> Job:
        """The controller starts it."""
        job = self.store.jobs.get(job_id)
        uuids = tuple(UUIDS[n] for n in gpus or range(job.spec.gpus))
        now = self.clock.now()
        run = Run(
            id=new_id("run"),
            job_id=job_id,
            attempt=job.attempts + 1,
            gpu_uuids=uuids,
            cap_w=MAX_W,
            created_at=now,
        )
        starting = move(job, JobState.STARTING, now, run=run, attempts=job.attempts + 1)
        self.store.jobs.save(starting, JobState.QUEUED)
        running = move(starting, JobState.RUNNING, now, run=replace(run, started_at=now))
        self.store.jobs.save(running, JobState.STARTING)
        self.logs.setdefault(run.id, b"")
        for gpu in self.state["gpus"] if self.state else []:
            if gpu["uuid"] in uuids:
                gpu.update({"job_id": job_id, "run_id": run.id, "accounted_w": MAX_W, "cap_w": MAX_W})
        return running

    def end_job(self, job_id: str) -> Job:
        """Its process exits with 0."""
        job = self.store.jobs.get(job_id)
        assert job.run is not None
        now = self.clock.now()
        run = replace(job.run, ended_at=now, exit_code=0, end_reason="finished")
        done = move(job, JobState.SUCCEEDED, now, run=run, exit_code=0, end_reason="finished")
        self.store.jobs.save(done, job.state)
        return done


def make_site(folder: Path, *, published: bool = True, **options: Any) -> Site:
    """`options` go to the configuration, as dictionaries by section."""
    store = open_store(f"sqlite:///{folder / 'wattmill.db'}")
    site = Site(store=store, clock=FakeClock(NOW), state=state_of() if published else None)
    config = Config.model_validate(options)
    domains = [
        Domain(name="site", limit_w=options.get("limit_w", 1e6), pue=options.get("pue", 1.0)),
        Domain(name="node", parent="site", base_load_w=BASE_W, gpu_uuids=UUIDS),
    ]
    site.app = create_app(
        Services(
            store=store,
            config=config,
            clock=site.clock,
            wake=site.wake,
            read_state=lambda: site.state,
            read_plan=lambda: site.plan,
            read_log=site.read_log,
            tree=PowerTree.of(domains),
            quote=lambda spec: [{"flex": "none", "gpus": spec.gpus}],
            console_dir=Path(__file__).parent.parent / "api" / "console",
        )
    )
    return site


def state_of(*, age_s: float = 0.0) -> PublishedState:
    """Eight empty GPUs."""
    return {
        "at": NOW.isoformat(),
        "real_at": (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat(),
        "cycle": 7,
        "controller_pid": 1,
        "backend": "simulated",
        "clock_rate": 1.0,
        "currency": "EUR",
        "degraded": [],
        "price_per_mwh": 80.0,
        "price_source": "csv",
        "price_age_s": 60.0,
        "carbon_g_per_kwh": None,
        "carbon_source": None,
        "carbon_age_s": None,
        "active_rules": [],
        "domains": [],
        "gpus": [gpu_of(n) for n in range(8)],
        "jobs": [],
        "certificates": [],
        "plan_age_s": None,
        "plan_jobs": None,
        "capd": {"alive": True},
        "counters": {},
    }


def plan_of(job_id: str) -> PlanState:
    """One slot, and a job two hours from NOW."""
    start, end = ((NOW + timedelta(hours=hour)).isoformat() for hour in (2, 3))
    return {
        "made_at": NOW.isoformat(),
        "certificate": {
            "step": "plan",
            "value": 9.0,
            "bound": None,
            "gap": 1.0,
            "solve_s": 0.1,
            "fallback": "last plan: solver killed at its time limit",
            "scope": None,
            "at": NOW.isoformat(),
        },
        "slots": [
            {
                "start": start,
                "end": end,
                "price_per_mwh": 10.0,
                "price_high_per_mwh": None,
                "gpu_h": 0.5,
                "watt_h": {"site": 0.001},
            }
        ],
        "jobs": [
            {
                "job_id": job_id,
                "start": start,
                "windows": [{"start": start, "end": end, "share": 1.0}],
                "cap_w": 200.0,
                "expected_cost": 0.25,
                "cost_now": 1.5,
            }
        ],
    }


def gpu_of(index: int) -> GpuState:
    return {
        "uuid": UUIDS[index],
        "index": index,
        "model": "NVIDIA A40",
        "node": "node",
        "power_w": 30.0,
        "cap_w": MAX_W,
        "min_cap_w": MIN_W,
        "max_cap_w": MAX_W,
        "accounted_w": IDLE_W,
        "utilization": 0.0,
        "memory_used_bytes": 0,
        "temperature_c": 40.0,
        "sm_clock_hz": 1e9,
        "throttle_reasons": [],
        "pids": [],
        "job_id": None,
        "run_id": None,
        "settable": True,
        "healthy": True,
        "cordoned": False,
        "foreign": False,
        "sample_age_s": 0.2,
        "error": None,
    }


def submit(client: Client, **fields: Any) -> dict[str, Any]:
    """Submit a one-GPU job, or as `fields` say."""
    answer = client.post("/v1/jobs", json={"argv": ARGV, "gpus": 1, **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body
