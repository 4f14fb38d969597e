"""Runs the demonstration from start to bill, and cleans up whatever happens."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.live import Live
from rich.text import Text

from api.commands.client import ApiClient, CommandError, Refused, Unreachable
from api.commands.tables import terminal
from api.demo import scenario, view
from api.demo.daemon import DemoDaemon, processes_of, remove_folder
from api.demo.judge import Seen, Verdict, judge, seen
from api.demo.machine import choose_site, examples_folder, job_argv, measure_speed
from api.demo.prices import PRICE_SOURCE
from api.demo.receipt import Receipt, receipt
from api.demo.restore import read_limits, restore_limits
from api.demo.story import happenings, status_line

LOOK_EVERY_S = 1.0
STATUS_EVERY_S = 10.0
PATIENCE_S = 20.0  # the daemon may be silent this long
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass
class Stage:
    """Where the demonstration speaks: a live screen for people, plain lines for a log."""

    unattended: bool
    told: list[str] = field(default_factory=list)
    looks: list[Seen] = field(default_factory=list)
    jobs: tuple[scenario.DemoJob, ...] = ()
    note: str = ""
    live: Live | None = None
    status_s: float = 0.0
    left: list[int] = field(default_factory=list)  # processes that survived the clean-up

    def tell(self, line: str) -> None:
        stamped = view.stamp(self.looks[-1].at, line) if self.looks else line
        self.told.append(stamped)
        if self.live is None:
            terminal().print(Text(stamped))
        self.refresh()

    def look(self, now: Seen) -> None:
        before = self.looks[-1] if self.looks else None
        self.looks.append(now)
        for line in happenings(before, now):
            self.tell(line)
        if self.live is None and time.monotonic() - self.status_s >= STATUS_EVERY_S:
            self.status_s = time.monotonic()
            terminal().print(Text(view.stamp(now.at, status_line(now))))
        self.refresh()

    def refresh(self) -> None:
        if self.live is not None:
            self.live.update(view.live(self.looks, self.jobs, self.told, self.note), refresh=True)


def run_demo(*, unattended: bool, rate: float, gpus: str) -> int:
    """Returns the exit code: with `unattended` 1 when a promise was broken; 130 after Ctrl-C."""
    stage = Stage(unattended)
    try:
        with _ctrl_c_raises():
            return _run(stage, rate, gpus)
    except KeyboardInterrupt:
        if not stage.left:
            terminal().print("stopped; nothing is left running")
        return 130


def _run(stage: Stage, rate: float, gpus: str) -> int:
    examples = examples_folder()
    site, found = choose_site(gpus)
    stage.tell(f"GPUs: {found}")
    folder = Path(tempfile.mkdtemp(prefix="wattmill-demo-"))
    daemon = DemoDaemon(folder, site, rate)
    limits = read_limits() if site.backend == "nvml" else {}
    try:
        with _screen(stage):
            stage.tell("measuring how fast this machine trains")
            speed = measure_speed(examples, folder)
            stage.jobs = scenario.plan_jobs(speed, gpus=site.count, rate=rate)
            stage.tell(f"{speed.steps_per_s:.1f} steps/s on one of {speed.cores:g} cores")
            daemon.start()
            ids, client = _submit(stage, daemon, site, examples)
            jobs = _watch(stage, client, ids)
            receipts = _bills(stage, client, jobs, ids)
            client.close()
        return _conclude(stage, receipts, jobs, ids, speed.cores)
    finally:
        _clean_up(stage, daemon, folder, limits)


@contextlib.contextmanager
def _screen(stage: Stage) -> Iterator[None]:
    console = terminal()
    if stage.unattended or not console.is_terminal:
        yield
        return
    with Live(console=console, auto_refresh=False, transient=True) as stage.live:
        try:
            yield
        finally:
            stage.live = None


def _submit(
    stage: Stage, daemon: DemoDaemon, site: scenario.Site, examples: Path
) -> tuple[dict[str, str], ApiClient]:
    """Roles by job id, and the client."""
    stage.tell("starting the daemon")
    client = daemon.wait_ready()
    stage.note = f"console: {client.url}   token: {daemon.layout.token_file}"
    stage.tell(stage.note)
    stage.tell(f"replaying {PRICE_SOURCE}; budget {site.limit_w:.0f} W")
    client.post("/v1/policies", scenario.price_rule())
    ids = {}
    for job in stage.jobs:
        answer = client.post("/v1/jobs", scenario.job_body(job, job_argv(examples, job)))
        ids[answer["id"]] = job.role
        stage.tell(f"submitted {job.role}: {job.gpus} GPU(s), {job.steps} steps, {job.promise}")
    return ids, client


def _watch(stage: Stage, client: ApiClient, ids: dict[str, str]) -> list[dict[str, Any]]:
    """Look every second until all jobs have ended. Returns them as they ended.

    Raises:
        CommandError: the daemon went silent. Jobs that take too long are cancelled and count as failed.
    """
    began_s = heard_s = time.monotonic()
    cancelled = False
    while True:
        try:
            jobs = [job for job in client.get("/v1/jobs", limit=100)["items"] if job["id"] in ids]
            stage.look(seen(client.get("/v1/power/state"), jobs, ids))
            heard_s = time.monotonic()
        except (Refused, Unreachable) as error:
            if time.monotonic() - heard_s > PATIENCE_S:
                raise CommandError(f"the daemon went silent: {error}") from error
            jobs = []
        if len(jobs) == len(ids) and all(job["state"] in ENDED for job in jobs):
            return jobs
        if not cancelled and time.monotonic() - began_s > scenario.RUN_LIMIT_S:
            cancelled = True
            stage.tell(f"jobs still run after {scenario.RUN_LIMIT_S:.0f} s: cancelling them")
            for job in jobs:
                with contextlib.suppress(Refused):
                    client.post(f"/v1/jobs/{job['id']}/cancel")
        time.sleep(LOOK_EVERY_S)


def _bills(stage: Stage, client: ApiClient, jobs: list[dict[str, Any]], ids: dict[str, str]) -> list[Receipt]:
    """In the order of submission."""
    time.sleep(2 * LOOK_EVERY_S)  # the last joules are booked a cycle after the end
    receipts = []
    for job in sorted(jobs, key=lambda job: job["submitted_at"]):
        bill = client.get(f"/v1/jobs/{job['id']}/energy")["total"]
        uncapped_w = _uncapped_w(stage.looks, ids[job["id"]], job["gpus"])
        receipts.append(receipt(ids[job["id"]], job, bill, uncapped_w=uncapped_w))
    return receipts


def _uncapped_w(looks: list[Seen], role: str, gpus: int) -> float | None:
    """Mean draw of one GPU of the job while nothing throttled it; its first and last looks are left out."""
    seen_w = [
        job.draw_w / gpus
        for look in looks
        if (job := look.job(role)) is not None
        and job.state == "RUNNING"
        and job.condition == "NOMINAL"
        and job.samples_per_s
        and job.draw_w is not None
    ][2:-2]
    return sum(seen_w) / len(seen_w) if seen_w else None


def _conclude(
    stage: Stage, receipts: list[Receipt], jobs: list[dict[str, Any]], ids: dict[str, str], cores: float
) -> int:
    console = terminal()
    console.print()
    console.print(view.bill(receipts, "EUR", cores))
    ends = {ids[job["id"]]: job["state"] for job in jobs}
    found: list[Verdict] = judge(stage.looks, ends)
    console.print()
    console.print(view.verdicts(found))
    return 1 if stage.unattended and not all(v.kept for v in found) else 0


def _clean_up(stage: Stage, daemon: DemoDaemon, folder: Path, limits: dict[str, float]) -> None:
    """Bounded, and deaf to further Ctrl-C: half a clean-up would leave something running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stage.tell("stopping the daemon")
    for process in daemon.stop(stage.tell):
        stage.tell(f"had to kill {process}")
    for gpu in restore_limits(limits, folder):
        stage.tell(f"its former limit could not be restored: {gpu}")
    stage.left = list(processes_of(folder))
    if stage.left:
        stage.tell(f"STILL RUNNING, could not be killed: {stage.left}")
    remove_folder(folder)


@contextlib.contextmanager
def _ctrl_c_raises() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demonstration as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
