"""All processes of one run, as its shim finds, stops, continues and ends them. Standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from scheduler.engines import process_identity as identity
from scheduler.engines import run_folder
from scheduler.engines.process_identity import Process

RESCAN_FROZEN_S = 1.0


class RunProcesses:
    """For use in the shim itself: it is the subreaper, so whatever its job starts stays below it."""

    def __init__(self, folder: int, run_id: str) -> None:
        self.frozen = False
        self._folder = folder
        self._run_id = run_id
        self._held: list[Process] = []
        self._rescan_at_s = 0.0
        self._environments: dict[tuple[int, int], bool] = {}

    def alive(self) -> list[Process]:
        """All below us, and all whose environment names this run, with all below those."""
        table = identity.all_processes()
        mine = {process.pid: process for process in identity.descendants(table, [os.getpid()])}
        strays = [p for p in table.values() if p.pid not in mine and self._names_this_run(p)]
        mine.update((process.pid, process) for process in strays)
        mine.update((p.pid, p) for p in identity.descendants(table, [stray.pid for stray in strays]))
        return [process for process in mine.values() if not process.gone and process.pid != os.getpid()]

    def keep_frozen(self) -> None:
        """Stop every process, and again those that another let continue. Call it at each look."""
        now_s = time.monotonic()
        if not self.frozen or now_s >= self._rescan_at_s:
            with contextlib.suppress(OSError):
                run_folder.touch(self._folder, run_folder.FROZEN)
            self._held = self.alive()
            # the first look may miss what was just being forked: scan again at the next one
            self._rescan_at_s = now_s + (RESCAN_FROZEN_S if self.frozen else 0.0)
            self.frozen = True
        for process in self._held:
            now = identity.read_process(process.pid)
            if now is not None and not now.stopped:
                identity.send(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let every process continue, whoever stopped it."""
        run_folder.remove(self._folder, run_folder.FROZEN)
        self.frozen, self._held = False, []
        for process in self.alive():
            identity.send(process, signal.SIGCONT)

    def _names_this_run(self, process: Process) -> bool:
        key = (process.pid, process.start_time)
        if key not in self._environments:
            self._environments[key] = self._claimed(process.pid)
        return self._environments[key]

    def _claimed(self, pid: int) -> bool:
        claim = identity.environment_claim(pid)
        return claim is not None and claim.means(self._run_id, os.fstat(self._folder))
