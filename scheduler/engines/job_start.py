"""From the fork of a shim to the program of its job. Standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any, NoReturn

HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)  # by the shim


def become_job(launch: dict[str, Any], output: int, report: int) -> NoReturn:
    """In the fork: own session and environment, then the job's program. `report` hears why it failed."""
    exit_code, doing = 127, "start the process"
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.set_wakeup_fd(-1)
        for signum in (*HANDLED_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        doing = f"enter the working directory {launch['cwd']!r}"
        os.chdir(launch["cwd"])
        doing = f"start {launch['argv'][0]!r}"
        os.execvpe(launch["argv"][0], launch["argv"], launch["env"])
    except BaseException as error:  # noqa: BLE001 - nothing may return into the shim's loop
        exit_code = 127 if isinstance(error, FileNotFoundError) else 126
        with contextlib.suppress(OSError):
            os.write(report, f"cannot {doing}: {getattr(error, 'strerror', None) or error}".encode()[:4000])
    os._exit(exit_code)
