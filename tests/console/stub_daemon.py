"""A daemon that only answers: the console's files, and JSON as the API would send it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from api.demo.prices import FIRST_HOUR, PRICES_PER_MWH
from api.web_page import POLICY

CONSOLE = Path(__file__).resolve().parents[2] / "api" / "console"
TOKEN = "wm_secret"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HOSTILE_NAME = "<img src=x onerror=\"document.title='pwned'\">"


@dataclass
class StubDaemon:
    """What it answers; tests change the fields."""

    url: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    refuse_with: int | None = None
    seconds: int = 0
    outside: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if self.refuse_with is not None:
            return self.refuse_with, {"title": "Service Unavailable", "detail": "no cycle has run yet"}
        if path.startswith("/v1/power/state"):
            self.seconds += 2
            return 200, advance(self.state, self.seconds)
        if path.startswith("/v1/jobs"):
            return 200, {"items": self.jobs, "next_cursor": None}
        if path.startswith("/v1/prices"):
            return 200, {"slots": price_slots(), "source": "csv"}
        return 200, {}


@contextmanager
def stub_daemon() -> Iterator[StubDaemon]:
    daemon = StubDaemon(state=state(), jobs=jobs())
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(daemon))
    daemon.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield daemon
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(daemon: StubDaemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/v1/"):
                allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, body = daemon.answer(self.path) if allowed else (401, {"title": "Unauthorized"})
                self._send(status, "application/json", json.dumps(body).encode())
                return
            name = self.path.partition("?")[0].lstrip("/") or "index.html"
            file = CONSOLE / name
            if not file.is_file():
                self._send(404, "text/plain", b"")
                return
            self._send(200, TYPES[file.suffix], file.read_bytes())

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def price_slots() -> list[dict[str, Any]]:
    starts = [FIRST_HOUR + timedelta(hours=hour) for hour in range(len(PRICES_PER_MWH))]
    return [
        {"start": s.isoformat(), "end": (s + timedelta(hours=1)).isoformat(), "value": v}
        for s, v in zip(starts, PRICES_PER_MWH, strict=True)
    ]


def advance(now: dict[str, Any], seconds: int) -> dict[str, Any]:
    """The same site a little later: times move, draws waver."""
    at = datetime(2023, 9, 11, 17, 20, tzinfo=UTC) + timedelta(seconds=seconds * 300)
    waver = 25 * math.sin(seconds / 7)
    domains = [{**d, "draw_w": d["draw_w"] + waver} for d in now["domains"]]
    return {**now, "at": at.isoformat(), "real_at": datetime.now(UTC).isoformat(), "domains": domains}


def state() -> dict[str, Any]:
    return {
        "at": "2023-09-11T17:20:00Z",
        "real_at": "2026-01-01T00:00:00Z",
        "cycle": 812,
        "controller_pid": 4711,
        "backend": "simulated",
        "clock_rate": 300.0,
        "currency": "EUR",
        "degraded": [],
        "price_per_mwh": 524.27,
        "price_source": "csv prices.csv",
        "price_age_s": 31.0,
        "carbon_g_per_kwh": 518.0,
        "carbon_source": "csv carbon.csv",
        "carbon_age_s": 60.0,
        "active_rules": ["evening-spike"],
        "domains": [
            domain("site", None, 1850.0, 0.0, 1207.0, 981.0),
            domain("node", "site", None, 300.0, 1207.0, 981.0),
        ],
        "gpus": [gpu(i) for i in range(8)],
        "jobs": [
            power("job_rigid", 300.0, 261.0, 96.4, 0.0, 0.0, "NOMINAL", ""),
            power(
                "job_flexible",
                141.0,
                274.0,
                101.2,
                0.5,
                0.213,
                "CAPPED_PRICE",
                "rule evening-spike: 524.27 EUR/MWh is above 200; throughput held at 55 %",
            ),
            power("job_pausable", 300.0, 45.0, None, 0.1, 0.012, "NOMINAL", "", frozen=True),
        ],
        "certificates": [],
        "capd": {"alive": True},
        "counters": {},
    }


def domain(
    name: str, parent: str | None, limit_w: float | None, base_w: float, worst_w: float, draw_w: float
) -> dict[str, Any]:
    return {
        "name": name,
        "parent": parent,
        "limit_w": limit_w,
        "base_load_w": base_w,
        "accounted_w": worst_w,
        "draw_w": draw_w,
    }


def gpu(index: int) -> dict[str, Any]:
    holder = {0: "job_rigid", 1: "job_flexible", 2: "job_flexible", 3: "job_pausable"}.get(index)
    cap_w, power_w = {0: (300.0, 261.0), 1: (141.0, 137.5), 2: (141.0, 136.5), 3: (300.0, 45.0)}.get(
        index, (300.0, 22.0)
    )
    return {
        "uuid": f"GPU-51{index:06d}",
        "index": index,
        "model": "A40",
        "node": "node",
        "power_w": power_w,
        "cap_w": cap_w,
        "min_cap_w": 100.0,
        "max_cap_w": 300.0,
        "accounted_w": cap_w if holder else 37.0,
        "utilization": {0: 0.99, 1: 0.54, 2: 0.55}.get(index, 0.0),
        "memory_used_bytes": 0,
        "temperature_c": 30.0 + power_w / 9,
        "sm_clock_hz": 1.3e9,
        "throttle_reasons": [],
        "pids": [],
        "job_id": holder,
        "run_id": None,
        "settable": True,
        "healthy": index != 7,
        "cordoned": index == 6,
        "foreign": False,
        "sample_age_s": 0.4,
        "error": "GPU is lost: it counts at its maximum" if index == 7 else None,
    }


def power(
    job_id: str,
    cap_w: float,
    draw_w: float,
    samples_per_s: float | None,
    promised: float,
    used: float,
    condition: str,
    cause: str,
    *,
    frozen: bool = False,
) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "run_id": f"run_{job_id}",
        "cap_w": cap_w,
        "draw_w": draw_w,
        "throughput_share": 0.55 if condition == "CAPPED_PRICE" else 1.0,
        "samples_per_s": samples_per_s,
        "step": 430,
        "total_steps": 1000,
        "promised_share": promised,
        "used_share": used,
        "stop_lost_s": 60.0,
        "stop_cost": 0.05,
        "frozen": frozen,
        "condition": condition,
        "cause": cause,
    }


def jobs() -> list[dict[str, Any]]:
    return [
        job("job_rigid", "rigid", "RUNNING", gpus=1),
        job("job_flexible", "flexible", "RUNNING", gpus=2, condition="CAPPED_PRICE"),
        job(
            "job_pausable",
            "pausable",
            "PAUSED",
            gpus=1,
            condition_cause="524.27 EUR/MWh is above its ceiling of 250",
        ),
        job(
            "job_waiting",
            "llm-finetune",
            "QUEUED",
            gpus=8,
            wait_reason="waiting_for_gpus",
            wait_detail="needs 8 GPUs, 2 are free; 1 is cordoned, 1 is lost",
        ),
        job("job_hostile", HOSTILE_NAME, "SUCCEEDED", gpus=1, ended_at="2023-09-11T16:42:10Z"),
        job("job_failed", "sweep-17", "FAILED", gpus=1, end_reason="finished", exit_code=1),
    ]


def job(job_id: str, name: str, state_: str, *, gpus: int, **more: Any) -> dict[str, Any]:
    fields = {
        "id": job_id,
        "name": name,
        "owner": "ada",
        "argv": ["python", "train.py"],
        "state": state_,
        "gpus": gpus,
        "condition": "NOMINAL",
        "condition_cause": "",
        "wait_reason": None,
        "wait_detail": "",
        "end_reason": None,
        "exit_code": None,
        "ended_at": None,
    }
    return {**fields, **more}
