"""Gathers the facts for `wattmill doctor`. Reads only: sets no limit, makes no folder, changes no table."""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from api.commands.client import ApiClient, Refused, Target, Unreachable
from api.doctor import ClockFacts, DatabaseFacts, Facts, FeedFacts, FolderFacts, GpuFacts
from power.clock import SystemClock
from power.device import DeviceError
from power.grid.feed import FeedError, Kind
from power.grid.registry import FeedLimits, InvalidFeed, build_feed
from power.grid.validate import Band
from power.nvml import NvmlBackend
from scheduler.config import Config, Signal
from scheduler.layout import Layout
from scheduler.store import DatabaseTooOld, StoreError, open_store

PACKAGES = ("api", "scheduler", "telemetry", "power")
NTP_TIMEOUT_S = 3.0


def gather(config: Config, target: Target) -> Facts:
    """Look at everything once. Takes at most the feeds' deadlines and some seconds."""
    layout = Layout(config.storage.data_dir)
    gpus, nvml_error = ((), "") if config.gpus.backend == "simulated" else _gpus()
    daemon_url, daemon_error = _daemon(target)
    return Facts(
        uid=os.geteuid(),
        backend=config.gpus.backend,
        gpus=gpus,
        nvml_error=nvml_error,
        simulated=f"{config.gpus.simulated_count} x {config.gpus.simulated_model}",
        capd_user=_owner(layout.capd_socket),
        daemon_url=daemon_url,
        daemon_error=daemon_error,
        database=_database(config),
        feeds=tuple(_feeds(config)),
        folder=_folder(layout),
        clock=ClockFacts(now=datetime.now(UTC), ntp_synchronised=_ntp(), rate=config.clock.rate),
        package_homes=tuple(str(_home(name)) for name in PACKAGES),
    )


def _home(package: str) -> Path:
    module = importlib.import_module(package)
    return Path(str(module.__file__)).resolve().parent.parent


def _gpus() -> tuple[tuple[GpuFacts, ...], str]:
    backend = NvmlBackend()
    try:
        found = [(gpu.info, gpu.read()) for gpu in backend.gpus()]
    except DeviceError as error:
        return (), str(error)
    finally:
        backend.close()
    facts = [
        GpuFacts(model=i.model, cap_w=r.enforced_cap_w, min_cap_w=i.min_cap_w, max_cap_w=i.max_cap_w)
        for i, r in found
    ]
    return tuple(facts), ""


def _owner(socket: Path) -> int | None:
    try:
        return socket.stat().st_uid
    except OSError:
        return None


def _daemon(target: Target) -> tuple[str, str]:
    url, token = target.resolve()
    client = ApiClient(url, token)
    try:
        client.get("/readyz")
    except Unreachable:
        return url, f"nobody answers at {url}"
    except Refused as error:
        return url, f"{url} answers, but: {error.hint or error}"
    finally:
        client.close()
    return url, ""


def _database(config: Config) -> DatabaseFacts:
    url = config.storage.url()
    shown = without_password(url)
    version = sqlite3.sqlite_version_info[:3] if url.startswith("sqlite") else None
    facts = DatabaseFacts(url=shown, sqlite_version=version)
    if version is not None and not Path(url.removeprefix("sqlite:///")).exists():
        return replace(facts, exists=False)
    try:
        open_store(url, upgrade=False).close()
    except DatabaseTooOld as error:
        return replace(facts, outdated=str(error))
    except StoreError as error:
        return replace(facts, error=str(error))
    return facts


def without_password(url: str) -> str:
    """A database address that can be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))


def _feeds(config: Config) -> Iterator[FeedFacts]:
    for kind, signal in ((Kind.PRICE, config.price), (Kind.CARBON, config.carbon)):
        for index in range(len(signal.feeds)):
            yield _try_feed(kind, signal, index, config.site.currency)


def _try_feed(kind: Kind, signal: Signal, index: int, currency: str) -> FeedFacts:
    """One fetch of one day, within the feed's own deadline."""
    settings = signal.feeds[index]
    band = Band(low=signal.plausible_min, high=signal.plausible_max)
    limits = FeedLimits(
        deadline_s=signal.deadline_s, max_bytes=signal.max_bytes, band=band, currency=currency
    )
    began_s = time.monotonic()
    now = datetime.now(UTC)
    try:
        feed = build_feed(settings, kind, limits, SystemClock())
        answer = feed.fetch(now - timedelta(hours=12), now + timedelta(hours=12))
    except (FeedError, InvalidFeed) as error:
        took_s = time.monotonic() - began_s
        return FeedFacts(signal=kind.value, name=settings.type, took_s=took_s, error=str(error))
    took_s = time.monotonic() - began_s
    return FeedFacts(signal=kind.value, name=feed.name, took_s=took_s, points=len(answer.series))


def _folder(layout: Layout) -> FolderFacts:
    path = layout.data_dir
    if not path.exists():
        parent = next(p for p in path.absolute().parents if p.exists())
        return FolderFacts(path=str(path), mode=None, writable=os.access(parent, os.W_OK | os.X_OK))
    status = path.stat()
    token = layout.token_file
    return FolderFacts(
        path=str(path),
        mode=status.st_mode & 0o777,
        owned=status.st_uid == os.geteuid(),
        writable=os.access(path, os.W_OK | os.X_OK),
        free_bytes=shutil.disk_usage(path).free,
        token_mode=token.stat().st_mode & 0o777 if token.exists() else None,
    )


def _ntp() -> bool | None:
    """What systemd says; None where it is not there to ask."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    argv = [program, "show", "--property=NTPSynchronized", "--value"]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=NTP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(answer.stdout.strip())
