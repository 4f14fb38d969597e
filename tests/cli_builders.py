"""A small server in the daemon's place that remembers what it was asked; and a job as the API shows it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JOB_ID = "job_01J9ZC2V6M8Q0T4W7X1Y3A5B6D"
OTHER_ID = "job_01J9ZC2V6M8Q0T4W7X1Y3A5ZZZ"


@dataclass
class Asked:
    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class FakeApi:
    """Answers what a test put under `METHOD path`; anything else is a 404 problem."""

    url: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, request: str, body: Any, status: int = 200) -> None:
        self.answers[request] = (status, body)


@contextmanager
def fake_api() -> Iterator[FakeApi]:
    """A running server, closed at the end."""
    fake = FakeApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(fake: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = json.loads(self.rfile.read(length)) if length else None
            fake.asked.append(Asked(self.command, self.path, sent, dict(self.headers)))
            missing = (404, {"title": "Not Found", "status": 404, "detail": "there is no such thing"})
            status, body = fake.answers.get(f"{self.command} {self.path.partition('?')[0]}", missing)
            is_text = isinstance(body, str)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            kind = (
                "text/plain"
                if is_text
                else "application/problem+json"
                if status >= 400
                else "application/json"
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(0 if status == 204 else len(data)))
            self.end_headers()
            if status != 204:
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def job(job_id: str = JOB_ID, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": job_id,
        "name": "tune",
        "owner": "ada",
        "state": "RUNNING",
        "state_since": "2026-01-31T12:00:00Z",
        "submitted_at": "2026-01-31T11:58:00Z",
        "condition": "CAPPED_PRICE",
        "condition_cause": "524 EUR/MWh is above 200",
        "wait_reason": None,
        "wait_detail": "",
        "end_reason": None,
        "exit_code": None,
        "ended_at": None,
        "argv": ["python", "train.py"],
        "gpus": 2,
        "flex": "mid",
        "pausable": True,
        "priority": "standard",
        "price_ceiling_per_mwh": 250.0,
    }
    return {**fields, **more}
