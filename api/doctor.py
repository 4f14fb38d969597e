"""What `wattmill doctor` concludes. Pure: facts in, findings out; `doctor_probes.py` gathers the facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

SQLITE_WAL_FIXED = (3, 51, 3)
OLDEST_CREDIBLE_YEAR = 2025
LITTLE_FREE_BYTES = 1 << 30
SLOW_FEED_S = 5.0


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was found, and what to do when that is not as it should be."""

    check: str
    level: Level
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU as its driver describes it."""

    model: str
    cap_w: float | None
    min_cap_w: float
    max_cap_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """`error`: it cannot be used; `outdated`: it can, after an upgrade."""

    url: str  # without its password
    error: str = ""
    outdated: str = ""
    sqlite_version: tuple[int, int, int] | None = None
    exists: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFacts:
    """One try at one feed."""

    signal: str  # price | carbon
    name: str
    took_s: float
    points: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """`mode` is the permission bits; None where the thing does not exist yet."""

    path: str
    mode: int | None
    owned: bool = True
    writable: bool = True
    free_bytes: int = 0
    token_mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFacts:
    now: datetime
    ntp_synchronised: bool | None = None  # None = this machine does not say
    rate: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything `doctor` looked at."""

    uid: int
    backend: str  # as configured: auto | nvml | simulated
    nvml_error: str = ""
    gpus: tuple[GpuFacts, ...] = ()
    simulated: str = ""  # "8 x A40"
    capd_user: int | None = None  # uid of the enforcer that runs now
    daemon_error: str = ""
    daemon_url: str = ""
    database: DatabaseFacts = field(default_factory=lambda: DatabaseFacts(url=""))
    feeds: tuple[FeedFacts, ...] = ()
    folder: FolderFacts = field(default_factory=lambda: FolderFacts(path="", mode=None))
    clock: ClockFacts = field(default_factory=lambda: ClockFacts(now=datetime.now(UTC)))
    package_homes: tuple[str, ...] = ()  # folders that our packages were imported from


def checks(facts: Facts) -> list[Finding]:
    """Every finding, in the order a person should read them."""
    return [
        _packages(facts),
        *_gpus(facts),
        _rights(facts),
        _folder(facts.folder),
        *_token(facts.folder),
        *_database(facts.database),
        *_feeds(facts.feeds),
        _clock(facts.clock),
        _users(facts.uid),
        _daemon(facts),
    ]


def worst(findings: list[Finding]) -> Level:
    order = (Level.OK, Level.WARN, Level.FAIL)
    return max((f.level for f in findings), key=order.index, default=Level.OK)


def _finding(check: str, level: Level, found: str, todo: str = "") -> Finding:
    return Finding(check=check, level=level, found=found, todo=todo)


def _packages(facts: Facts) -> Finding:
    homes = facts.package_homes
    if len(set(homes)) <= 1:
        return _finding("code", Level.OK, f"all packages come from {homes[0] if homes else 'one folder'}")
    return _finding(
        "code",
        Level.FAIL,
        f"packages come from different folders: {', '.join(sorted(set(homes)))}",
        "another package of the same name is in the way: give wattmill its own virtual environment",
    )


def _gpus(facts: Facts) -> Iterator[Finding]:
    if facts.backend == "simulated":
        yield _finding("gpus", Level.OK, f"{facts.simulated}, simulated, because the config says so")
    elif facts.gpus:
        models = sorted({g.model for g in facts.gpus})
        yield _finding("gpus", Level.OK, f"{len(facts.gpus)} through NVML: {', '.join(models)}")
        unknown = sum(g.cap_w is None for g in facts.gpus)
        if unknown:
            yield _finding(
                "power limits",
                Level.WARN,
                f"{unknown} of {len(facts.gpus)} GPUs do not report a power limit",
                "they count at their maximum; look at `nvidia-smi -q -d POWER`",
            )
    elif facts.backend == "nvml":
        yield _finding(
            "gpus",
            Level.FAIL,
            f"none, though the config wants NVML: {facts.nvml_error or 'the driver lists none'}",
            'install the NVIDIA driver, or set `backend = "auto"` or "simulated" under [gpus]',
        )
    else:
        reason = facts.nvml_error or "the driver lists none"
        yield _finding(
            "gpus",
            Level.WARN,
            f"no NVIDIA GPU ({reason}); {facts.simulated} simulated instead",
            "nothing, to try wattmill out; for real GPUs install the NVIDIA driver",
        )


def _rights(facts: Facts) -> Finding:
    """By the user alone: a limit is never set to find out whether it can be."""
    if facts.backend == "simulated" or not facts.gpus:
        return _finding("right to set limits", Level.OK, "simulated limits can always be set")
    if facts.capd_user == 0:
        return _finding("right to set limits", Level.OK, "the enforcer runs as root")
    if facts.uid == 0:
        found = "this user is root; the driver may still refuse inside a container"
        return _finding("right to set limits", Level.OK, found)
    return _finding(
        "right to set limits",
        Level.WARN,
        f"user {facts.uid} may read the GPUs but not set their limits",
        "run `wattmill serve` as root for caps; without, jobs are paused and placed under the budget only",
    )


def _folder(folder: FolderFacts) -> Finding:
    if folder.mode is None:
        level = Level.OK if folder.writable else Level.FAIL
        todo = "" if folder.writable else "choose another `storage.data_dir`, or create it"
        state = "will be made at the first start" if folder.writable else "cannot be made by this user"
        return _finding("data folder", level, f"{folder.path} {state}", todo)
    if not folder.writable:
        todo = "give this user the folder, or choose another `storage.data_dir`"
        return _finding("data folder", Level.FAIL, f"{folder.path} is not writable", todo)
    if folder.mode & 0o077 or not folder.owned:
        found = f"{folder.path} has mode {folder.mode:04o}" + ("" if folder.owned else " and another owner")
        return _finding("data folder", Level.WARN, found, f"chmod 700 {folder.path}")
    if folder.free_bytes < LITTLE_FREE_BYTES:
        found = f"{folder.path} has only {folder.free_bytes / 2**20:.0f} MiB left"
        return _finding("data folder", Level.WARN, found, "free some space: logs and checkpoints need it")
    return _finding("data folder", Level.OK, f"{folder.path}, {folder.free_bytes / 2**30:.0f} GiB free")


def _token(folder: FolderFacts) -> Iterator[Finding]:
    if folder.token_mode is not None and folder.token_mode & 0o077:
        yield _finding(
            "token",
            Level.FAIL,
            f"others can read the admin token: mode {folder.token_mode:04o}",
            "chmod 600 it, then make a new one: `wattmill token create`, `wattmill token revoke`",
        )


def _database(database: DatabaseFacts) -> Iterator[Finding]:
    if database.error:
        todo = "start the database server, or correct `storage.database_url`"
        yield _finding("database", Level.FAIL, f"{database.url}: {database.error}", todo)
    elif not database.exists:
        yield _finding("database", Level.OK, f"{database.url} will be made at the first start")
    elif database.outdated:
        todo = "`wattmill db upgrade`, or just start `wattmill serve`"
        yield _finding("database", Level.WARN, database.outdated, todo)
    else:
        yield _finding("database", Level.OK, f"{database.url} answers and is up to date")
    version = database.sqlite_version
    if version is not None:
        text = ".".join(str(part) for part in version)
        note = "" if version >= SQLITE_WAL_FIXED else "; its WAL mode can lose data, so it is not used"
        yield _finding("sqlite", Level.OK, f"{text}, rollback journal, every commit synced{note}")


def _feeds(feeds: tuple[FeedFacts, ...]) -> Iterator[Finding]:
    for signal in ("price", "carbon"):
        own = [f for f in feeds if f.signal == signal]
        if not own and signal == "price":
            found = "no feed configured: plans are price-blind"
            yield _finding(signal, Level.WARN, found, "add one under [[price.feeds]]")
        elif not own:
            yield _finding(signal, Level.OK, "no feed configured")
        answered = any(not f.error for f in own)
        for feed in own:
            yield _feed(feed, level_if_down=Level.WARN, others_answer=answered)


def _feed(feed: FeedFacts, *, level_if_down: Level, others_answer: bool) -> Finding:
    if feed.error:
        todo = (
            "the next feed answers instead"
            if others_answer
            else "check the network; the last good series stays"
        )
        return _finding(feed.signal, level_if_down, f"{feed.name}: {feed.error}", todo)
    found = f"{feed.name}: {feed.points} points in {feed.took_s:.1f} s"
    if feed.took_s > SLOW_FEED_S:
        return _finding(feed.signal, Level.WARN, found, "slow; a second feed would take over when it fails")
    return _finding(feed.signal, Level.OK, found)


def _clock(clock: ClockFacts) -> Finding:
    shown = clock.now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if clock.now.year < OLDEST_CREDIBLE_YEAR:
        return _finding(
            "clock", Level.FAIL, f"{shown} cannot be right", "set the clock; prices are by the hour"
        )
    if clock.ntp_synchronised is False:
        todo = "start a time service (systemd-timesyncd, chrony): bills and prices follow this clock"
        return _finding("clock", Level.WARN, f"{shown}, not synchronised", todo)
    known = "synchronised" if clock.ntp_synchronised else "synchronisation unknown"
    if clock.rate != 1.0:
        found = f"{shown}, {known}; grid time runs {clock.rate:g} times as fast"
        return _finding("clock", Level.WARN, found, "for demonstrations only: remove [clock] in production")
    return _finding("clock", Level.OK, f"{shown}, {known}")


def _users(uid: int) -> Finding:
    if uid != 0:
        return _finding("users", Level.OK, f"one user: every job runs as user {uid}, who owns the daemon")
    return _finding(
        "users",
        Level.WARN,
        "one user, and it is root: every job runs as root",
        "fine for yourself; let nobody else submit, or run the daemon as a plain user",
    )


def _daemon(facts: Facts) -> Finding:
    if facts.daemon_error:
        return _finding("daemon", Level.WARN, facts.daemon_error, "start it with `wattmill serve`")
    return _finding("daemon", Level.OK, f"answers at {facts.daemon_url}")
