"""A daemon of the demonstration's own, in a folder of its own; and proof at the end that nothing is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import api
from api.commands.client import ApiClient, CommandError, Refused, Unreachable
from api.demo.prices import CARBON_G_PER_KWH, PRICES_PER_MWH, as_csv
from api.demo.scenario import Site, config_toml
from scheduler.layout import Layout

READY_S = 60.0
CANCEL_S = 20.0
STOP_S = 45.0
GONE_S = 10.0
MARK = "DEMO_OF_WATTMILL"  # in the environment of the daemon and of what inherits from it
CLOCK_AHEAD_S = 4.0  # the day starts this long after the daemon is asked to: it needs as long to come up


class DemoDaemon:
    """`wattmill serve` as a process in its own session, so that Ctrl-C reaches only the demonstration."""

    def __init__(self, folder: Path, site: Site, rate: float) -> None:
        self.folder = folder
        self.layout = Layout(folder / "data")
        self.log_file = folder / "serve.log"
        self._config = folder / "wattmill.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self._site = site
        self._rate = rate

    def start(self) -> None:
        """Write the files and start the process."""
        prices, carbon = self.folder / "prices.csv", self.folder / "carbon.csv"
        prices.write_text(as_csv(PRICES_PER_MWH))
        carbon.write_text(as_csv(CARBON_G_PER_KWH))
        self._config.write_text(
            config_toml(
                self._site,
                data_dir=str(self.layout.data_dir),
                price_csv=str(prices),
                carbon_csv=str(carbon),
                port=_free_port(),
                rate=self._rate,
                real_start=datetime.now(UTC) + timedelta(seconds=CLOCK_AHEAD_S),
            )
        )
        env = {k: v for k, v in os.environ.items() if not k.startswith("WATTMILL_")}
        env[MARK] = str(self.folder)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "--config", str(self._config), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
                cwd=Path(str(api.__file__)).resolve().parent.parent,
            )

    def wait_ready(self) -> ApiClient:
        """A client, once the daemon answers.

        Raises:
            CommandError: it ended, or is not ready in a minute; the message ends with its log.
        """
        end_s = time.monotonic() + READY_S
        why = "it never answered"
        while time.monotonic() < end_s:
            if not self.alive:
                raise CommandError(f"the daemon ended at its start:\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                url = self.layout.address_file.read_text().strip()
                client = ApiClient(url, self.layout.token_file.read_text().strip())
                try:
                    client.get("/readyz")
                    return client
                except (Refused, Unreachable) as error:
                    why = str(getattr(error, "hint", "") or error)
                    client.close()
            time.sleep(0.2)
        raise CommandError(f"the daemon is not ready after {READY_S:.0f} s: {why}\n{self.log_tail()}")

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def stop(self, tell: Callable[[str], None]) -> list[str]:
        """Cancel the jobs, stop the daemon, make sure. Returns what had to be killed."""
        if self._process is None:
            return []
        if self.alive:
            self._cancel_jobs(tell)
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        _wait_until_gone(self.folder, GONE_S)
        leftover = [f"{pid} {_name(pid)}" for pid in processes_of(self.folder)]
        for _ in range(3):  # a killed shim's children are found in the next round
            pids = list(processes_of(self.folder))
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not pids or _wait_until_gone(self.folder, 3.0):
                break
        self._process.wait()
        return leftover

    def _cancel_jobs(self, tell: Callable[[str], None]) -> None:
        """Ask for all at once, then wait for their end. A daemon that does not answer is stopped anyway."""
        try:
            url = self.layout.address_file.read_text().strip()
            token = self.layout.token_file.read_text().strip()
        except OSError:
            return
        client = ApiClient(url, token)
        try:
            asked = False
            end_s = time.monotonic() + CANCEL_S
            while time.monotonic() < end_s:
                jobs = [job for job in client.get("/v1/jobs", limit=100)["items"] if not _ended(job["state"])]
                if not jobs:
                    return
                if not asked:
                    tell(f"stopping {len(jobs)} job(s)")
                    for job in jobs:
                        with contextlib.suppress(Refused):
                            client.post(f"/v1/jobs/{job['id']}/cancel")
                    asked = True
                time.sleep(0.3)
        except CommandError as error:
            tell(f"the daemon does not answer: {error}")
        finally:
            client.close()


def _ended(state: str) -> bool:
    return state in ("SUCCEEDED", "FAILED", "CANCELLED")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_of(folder: Path) -> Iterator[int]:
    """Every live process of the demonstration: it has the folder in its environment, or is a Python with it
    among its arguments. Someone's `tail -f` in there is not ours.
    """
    mark = os.fsencode(folder)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            is_python = os.path.basename(argv[0]).startswith(b"python")
            if (is_python and any(mark in part for part in argv)) or mark in (entry / "environ").read_bytes():
                yield int(entry.name)


def _wait_until_gone(folder: Path, limit_s: float) -> bool:
    end_s = time.monotonic() + limit_s
    while any(True for _ in processes_of(folder)):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.1)
    return True


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return "(gone)"


def remove_folder(folder: Path) -> None:
    """Also what a dying process wrote a moment ago."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.2)
