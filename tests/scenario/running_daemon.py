"""A whole daemon on loopback for a test: its own data folder, port, prices and simulated GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
READY_S = 40.0


class Daemon:
    """`wattmill serve` in a subprocess, and a client for it."""

    def __init__(self, folder: Path, *, gpus: int, price: float, env: dict[str, str], backend: str) -> None:
        self.data_dir = folder / "data"
        self._first_price: float | None = price
        self.log = folder / "serve.log"
        self._env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **env}
        self._config = folder / "wattmill.toml"
        self._config.write_text(_config(self.data_dir, gpus, backend))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.data_dir / "run" / "address").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "--config", str(self._config), "serve"],
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        wait_until(self._ready, READY_S, self.tail)
        if self._first_price is not None:
            self.set_price(self._first_price)
            self._first_price = None

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    @property
    def token(self) -> str:
        return (self.data_dir / "token").read_text().strip()

    def client(self, token: str | None = None) -> httpx.Client:
        address = (self.data_dir / "run" / "address").read_text().strip()
        return httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {token or self.token}"},
            timeout=10,
            trust_env=False,
        )

    def get(self, path: str, **params: Any) -> Any:
        with self.client() as client:
            answer = client.get(path, params=params)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def post(self, path: str, body: Any = None, *, expect: int | None = None, **headers: str) -> Any:
        with self.client() as client:
            answer = client.post(path, json=body, headers=headers)
        if expect is None:
            assert answer.is_success, (path, answer.status_code, answer.text)
        else:
            assert answer.status_code == expect, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"serve ended with {self.process.returncode}:\n{self.tail()}")
        try:
            with self.client() as client:
                return client.get("/readyz").status_code == 200
        except (httpx.TransportError, FileNotFoundError):
            return False

    # --- what tests ask of it ---------------------------------------------------------------------------

    def set_price(self, price_per_mwh: float) -> None:
        """From now on, for two hours, electricity costs this."""
        now = datetime.now(UTC)
        point = {
            "start": now.isoformat(),
            "end": (now + timedelta(hours=2)).isoformat(),
            "value": price_per_mwh,
        }
        self.post("/v1/prices", {"points": [point]})

    def submit(self, *, steps: int, **job: Any) -> str:
        """A real training job of the examples; returns its id."""
        script = "train_ddp.py" if job.get("gpus", 1) > 1 else "train_char_transformer.py"
        argv = [sys.executable, str(EXAMPLES / script), "--steps", str(steps)]
        created: str = self.post("/v1/jobs", {"argv": argv, "gpus": 1, **job})["id"]
        return created

    def job(self, job_id: str) -> Any:
        return self.get(f"/v1/jobs/{job_id}")

    def state(self) -> Any:
        return self.get("/v1/power/state")

    def pids(self, module: str) -> list[int]:
        """Processes of this daemon that run `python -m MODULE`, by their command line."""
        marker = str(self.data_dir)
        return [pid for pid, line in _command_lines() if module in line and marker in line]

    def kill(self, module: str) -> None:
        for pid in self.pids(module):
            os.kill(pid, signal.SIGKILL)

    def job_pids(self, job_id: str) -> set[int]:
        """Processes that carry the job's id in their environment."""
        return pids_with_environ(f"WATTMILL_JOB_ID={job_id}")

    def end_everything(self) -> None:
        """Cancel all jobs, stop the daemon, and kill what is left of this folder."""
        try:
            for row in self.get("/v1/jobs")["items"]:
                if row["state"] not in ("SUCCEEDED", "FAILED", "CANCELLED"):
                    self.post(f"/v1/jobs/{row['id']}/cancel")
            wait_until(lambda: not pids_with_environ(f"WATTMILL_RUN_DIR={self.data_dir}"), 20)
        except (AssertionError, httpx.TransportError, FileNotFoundError, TimeoutError):
            pass
        self.stop()
        left = {pid for pid, line in _command_lines() if str(self.data_dir) in line}
        for pid in left | pids_with_environ(f"WATTMILL_RUN_DIR={self.data_dir}"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@contextmanager
def daemon(
    folder: Path,
    *,
    gpus: int = 4,
    price: float = 50.0,
    env: dict[str, str] | None = None,
    backend: str = "simulated",
) -> Iterator[Daemon]:
    """A running daemon; on leaving, nothing of it is left."""
    one = Daemon(folder, gpus=gpus, price=price, env=env or {}, backend=backend)
    try:
        one.start()
        yield one
    finally:
        one.end_everything()


def wait_until(
    condition: Callable[[], Any], timeout_s: float, story: Callable[[], str] = lambda: ""
) -> float:
    """Poll until `condition` is truthy; returns the seconds it took. Raises TimeoutError with the story."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise TimeoutError(f"not within {timeout_s} s\n{story()}")
        time.sleep(0.1)
    return time.monotonic() - began_s


def pids_with_environ(prefix: str) -> set[int]:
    """Processes one of whose environment variables begins with `prefix`."""
    found = set()
    wanted = prefix.encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(variable.startswith(wanted) for variable in variables):
            found.add(int(entry.name))
    return found


def _command_lines() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            yield int(entry.name), line


def _config(data_dir: Path, gpus: int, backend: str) -> str:
    return f"""
[storage]
data_dir = "{data_dir}"
[server]
port = 0
[gpus]
backend = "{backend}"
simulated_count = {gpus}
[control]
place_period_s = 5
min_run_s = 5
[price]
feeds = []
[carbon]
feeds = [{{type = "fixed", value = 400.0}}]
[[domains]]
name = "site"
base_load_w = 200.0
limit_w = 2400.0
[[domains]]
name = "node"
parent = "site"
base_load_w = 200.0
"""
