"""A private PostgreSQL server for tests: a Unix socket, a folder of its own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

BINARIES = Path(os.environ.get("WATTMILL_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))
START_TIMEOUT_S = 30.0


class PostgresServer:
    """Durability is off: for tests of behaviour, never of crashes."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wm-pg-", dir="/tmp"))
        self._as_user: dict[str, Any] = {"cwd": self.folder}
        if os.getuid() == 0:  # the server refuses to run as root
            account = _account()
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._as_user |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        data = self.folder / "data"
        self._run(
            "initdb", "-D", data, "-U", "wattmill", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        settings = ("fsync=off", "full_page_writes=off", "max_connections=120", "timezone=Europe/Berlin")
        command = [str(BINARIES / "postgres"), "-D", str(data), "-k", str(self.folder), "-h", ""]
        command += [part for setting in settings for part in ("-c", setting)]
        self._log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=self._log,
            **self._as_user,
        )
        self._wait()
        self._databases = 0

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://wattmill@/{name}?host={self.folder}"

    def stop(self) -> None:
        self._process.send_signal(3)  # SIGQUIT: at once
        self._process.wait(60)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _address(self, database: str) -> str:
        return f"host={self.folder} user=wattmill dbname={database}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run([BINARIES / program, *arguments], check=True, capture_output=True, **self._as_user)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self._address("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)


def available() -> bool:
    return (BINARIES / "postgres").exists()


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("root needs an account `postgres` or `nobody` to run the server as")
