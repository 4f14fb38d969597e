"""The folder of one run: its file names, and reading and writing them safely.

A job runs as the same user and may swap any file here for a link or a FIFO, so every open goes through the
folder's descriptor, follows no link, never blocks and accepts regular files only. Standard library only:
the shim loads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any

LAUNCH = "launch.json"  # by the engine, once: what to run
LOCK = "shim.lock"  # held by whoever may still become, or is, the shim
SHIM = "shim.json"  # by the shim: who it is and which process it started
WANTED = "wanted.json"  # by the engine: the wish for this run
PROGRESS = "progress.json"
CHECKPOINT = "checkpoint.json"
EXIT = "exit.json"  # last word on the run
STUCK = "stuck.json"  # processes that survive SIGKILL
FROZEN = "frozen"  # marker: nobody may let this run's processes continue
CONTROL = "control.sock"
LOG = "job.log"
LOG_SIZE = "log.json"
SHIM_LOG = "shim.log"

_JSON_LIMIT_BYTES = 16 * 1024 * 1024
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def open_folder(path: str | os.PathLike[str]) -> int:
    """A descriptor for the other functions here; the caller closes it. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_regular(folder: int, name: str) -> int | None:
    """Open for reading; None when there is no such regular file."""
    try:
        handle = os.open(name, os.O_RDONLY | _SAFE, dir_fd=folder)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    return None


def open_append(folder: int, name: str) -> int:
    """Create and open for appending; raises OSError when the name is taken."""
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _SAFE, 0o600, dir_fd=folder)


def read_json(folder: int, name: str) -> dict[str, Any] | None:
    """The object in a file; None when it is absent, not a regular file or not a JSON object."""
    handle = open_regular(folder, name)
    if handle is None:
        return None
    with open(handle, "rb") as file:
        try:
            value = json.loads(file.read(_JSON_LIMIT_BYTES))
        except (ValueError, RecursionError, OSError):
            return None
    return value if isinstance(value, dict) else None


def write_json(folder: int, name: str, value: dict[str, Any], *, durable: bool = False) -> None:
    """Replace a file as a whole; with `durable` it outlives a power cut. Raises OSError."""
    temporary = _write_beside(folder, name, value, durable)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    if durable:
        os.fsync(folder)


def create_json(folder: int, name: str, value: dict[str, Any]) -> None:
    """Write a file that must not exist yet, whole and durable. Raises FileExistsError, OSError."""
    temporary = _write_beside(folder, name, value, durable=True)
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.unlink(temporary, dir_fd=folder)
    os.fsync(folder)


def exists(folder: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def remove(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def touch(folder: int, name: str) -> None:
    """Create an empty marker; one that is there already is fine."""
    with contextlib.suppress(FileExistsError):
        os.close(open_append(folder, name))


def _write_beside(folder: int, name: str, value: dict[str, Any], durable: bool) -> str:
    temporary = f".{name}.{os.getpid()}"
    remove(folder, temporary)
    handle = open_append(folder, temporary)
    with open(handle, "wb") as file:
        file.write(json.dumps(value).encode())
        if durable:
            file.flush()
            os.fsync(handle)
    return temporary
