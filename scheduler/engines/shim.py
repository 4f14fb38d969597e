"""The parent of one job: starts it, keeps its output, carries out wishes, and outlives the daemon.

Run by file path as `python -I -S shim.py LOCK_DESCRIPTOR RUN_FOLDER`, so it may use the standard library and
its neighbours here only. It leaves `exit.json` when, and not before, every process of the run is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import select
import signal
import sys
import time
import traceback
from typing import Any

if not __package__:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from scheduler.engines import process_identity as identity
from scheduler.engines import run_folder
from scheduler.engines.job_control import JobControl, utc_now
from scheduler.engines.job_log import JobLog
from scheduler.engines.job_start import HANDLED_SIGNALS, become_job
from scheduler.engines.process_identity import Process
from scheduler.engines.run_processes import RunProcesses
from scheduler.engines.run_wish import RunWish

POLL_S = 0.2
ENDING_POLL_S = 0.05
LEFTOVER_GRACE_S = 5.0  # for what a job leaves behind when it ends by itself
STUCK_AFTER_S = 30.0
_PR_SET_CHILD_SUBREAPER, _PR_SET_NAME = 36, 15


class Shim:
    """One run. Single-threaded: everything happens in the loop of `run`."""

    def __init__(self, folder: int, launch: dict[str, Any]) -> None:
        self._folder = folder
        self._launch = launch
        self._poller = select.poll()
        self._wake = self._catch_signals()
        self._control = JobControl(folder, self._poller)
        self._processes = RunProcesses(folder, launch["run_id"])
        self._log: JobLog | None = None
        self._wish = RunWish(folder, float(launch["grace_s"]))
        self._checkpoint_seq = 0
        self._requests = 0
        self._child = 0
        self._start_pipe: int | None = None
        self._start_error = b""
        self._exit_code: int | None = None  # set when the child was reaped
        self._told_to_stop = False  # by SIGTERM to the shim itself
        self._stopped_at_s: float | None = None
        self._left_behind_at_s: float | None = None  # the child has ended, others of the run live on
        self._look_at_s = 0.0
        self._was_killed = False
        self._stuck = False

    def record(self) -> None:
        """Write who we are, and once the job's process is up, who that is. Raises OSError."""
        me, child = identity.read_process(os.getpid()), None
        if self._child and self._start_pipe is None:
            child = identity.read_process(self._child)
        record = {
            "boot_id": identity.boot_id(),
            "pid": os.getpid(),
            "start_time": me.start_time if me else 0,
            "run_id": self._launch["run_id"],
            "child_pid": child.pid if child else None,
            "child_start_time": child.start_time if child else None,
            "started_at": utc_now(),
        }
        run_folder.write_json(self._folder, run_folder.SHIM, record, durable=True)

    def run(self) -> None:
        """From start to `exit.json`."""
        self._wish.read()
        if self._wish.wanted == "stop":
            self._leave("never_started", "stopped before its process started")
            return
        self._spawn()
        while not self._ended():
            self._wait()
            self._reap()
            self._wish.read()
            self._follow_wish()
            with contextlib.suppress(OSError):  # a full disk must not end the run
                self._control.write_progress()
        if self._start_pipe is not None:
            self._hear_start(self._start_pipe)
        if self._log is not None:
            self._log.pump()
        error = self._start_error.decode(errors="replace") or None
        reason = "launch_failed" if error else "exited" if self._stopped_at_s is None else "stopped"
        self._leave(reason, error)

    def abandon(self, error: str) -> None:
        """A bug of ours must not leave a job without a parent: end it and say why."""
        while left := self._processes.alive():
            for process in left:
                identity.send(process, signal.SIGKILL)
            time.sleep(ENDING_POLL_S)
            self._reap()
        self._leave("shim_failed", error)

    def _wait(self) -> None:
        ending = self._stopped_at_s is not None or self._exit_code is not None
        for descriptor, _ in self._poller.poll(1000 * (ENDING_POLL_S if ending else POLL_S)):
            if self._log is not None and descriptor == self._log.pipe:
                self._log.pump()
                if self._log.pipe is None:
                    self._poller.unregister(descriptor)
            elif descriptor == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            elif descriptor == self._start_pipe:
                self._hear_start(descriptor)
            else:
                self._control.handle(descriptor)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._child:
                self._exit_code = os.waitstatus_to_exitcode(status)

    def _follow_wish(self) -> None:
        if self._stopped_at_s is not None or self._exit_code is not None:
            return
        folder_is_gone = os.fstat(self._folder).st_nlink == 0  # then nobody can ever stop this run again
        if self._wish.wanted == "stop" or self._told_to_stop or folder_is_gone:
            self._stop()
            return
        if self._wish.wanted == "freeze":
            self._processes.keep_frozen()
        elif self._processes.frozen:
            self._thaw()
        if self._wish.checkpoint_seq > self._checkpoint_seq:
            self._checkpoint_seq = self._wish.checkpoint_seq
            self._ask_checkpoint(stop=False)

    def _ask_checkpoint(self, *, stop: bool) -> None:
        self._requests += 1
        self._control.ask_checkpoint(self._requests, stop=stop)

    def _thaw(self) -> None:
        self._processes.thaw()
        self._control.forget_rate()

    def _stop(self) -> None:
        self._stopped_at_s = time.monotonic()
        self._ask_checkpoint(stop=True)
        try:
            os.killpg(self._child, signal.SIGTERM)  # not reaped yet, so the number is still its own
        except ProcessLookupError:  # forked, but not yet the leader of its own group
            os.kill(self._child, signal.SIGTERM)
        self._thaw()  # a stopped process would not hear its SIGTERM

    def _kill_at_s(self) -> float:
        if self._stopped_at_s is not None:
            return self._stopped_at_s + self._wish.grace_s
        return math.inf if self._left_behind_at_s is None else self._left_behind_at_s + LEFTOVER_GRACE_S

    def _ended(self) -> bool:
        """One step of ending the run; True when no process of it is left."""
        now_s, kill_at_s = time.monotonic(), self._kill_at_s()
        if now_s < self._look_at_s or (self._exit_code is None and now_s < kill_at_s):
            return False
        self._look_at_s = now_s + ENDING_POLL_S
        left = self._processes.alive()
        if not left and self._exit_code is not None:
            return True
        if now_s >= kill_at_s:
            self._was_killed = True
            for process in left:
                identity.send(process, signal.SIGKILL)
            if now_s > kill_at_s + STUCK_AFTER_S and not self._stuck:
                self._report_stuck([process.pid for process in left])
        elif self._left_behind_at_s is None:
            self._left_behind_at_s = now_s
            self._dismiss(left)
        return False

    def _dismiss(self, left: list[Process]) -> None:
        """SIGTERM for what outlived the job's first process, unless it got one with that process's group."""
        for process in left:
            if self._stopped_at_s is None or process.group != self._child:
                identity.send(process, signal.SIGTERM)
        self._thaw()

    def _report_stuck(self, pids: list[int]) -> None:
        self._stuck = True
        with contextlib.suppress(OSError):
            run_folder.write_json(self._folder, run_folder.STUCK, {"pids": pids, "since": utc_now()})

    def _spawn(self) -> None:
        log_pipe, job_output = os.pipe2(os.O_CLOEXEC)
        self._start_pipe, report = os.pipe2(os.O_CLOEXEC)
        log_file = run_folder.open_append(self._folder, run_folder.LOG)
        self._log = JobLog(self._folder, log_pipe, log_file, int(self._launch["log_cap_bytes"]))
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        self._child = os.fork()
        if self._child == 0:
            become_job(self._launch, job_output, report)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        os.close(job_output)
        os.close(report)
        self._poller.register(log_pipe, select.POLLIN)
        self._poller.register(self._start_pipe, select.POLLIN)

    def _hear_start(self, pipe: int) -> None:
        """The pipe closes by itself when the job's program took over; text in it says why it did not."""
        while said := os.read(pipe, 4096):  # whoever writes, goes right after
            self._start_error += said
        self._poller.unregister(pipe)
        os.close(pipe)
        self._start_pipe = None
        if self._start_error and self._log is not None:
            self._log.note(self._start_error.decode(errors="replace"))
        with contextlib.suppress(OSError):
            self.record()

    def _leave(self, reason: str, error: str | None) -> None:
        last_word = {"exit_code": self._exit_code, "reason": reason, "error": error, "ended_at": utc_now()}
        last_word["killed"] = self._was_killed
        while os.fstat(self._folder).st_nlink > 0:  # without these the run would count as lost: insist
            try:
                self._control.write_progress(now=True)
                if self._log is not None:
                    self._log.write_size()
                run_folder.write_json(self._folder, run_folder.EXIT, last_word, durable=True)
            except OSError:
                time.sleep(1.0)
                continue
            break
        run_folder.remove(self._folder, run_folder.CONTROL)

    def _catch_signals(self) -> int:
        def note(signum: int, _frame: object) -> None:
            self._told_to_stop |= signum == signal.SIGTERM

        wake, poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(poke, warn_on_full_buffer=False)
        for signum in HANDLED_SIGNALS:
            signal.signal(signum, note)
        self._poller.register(wake, select.POLLIN)
        return wake


def main() -> None:
    """Fork once more, so that the daemon is nobody's parent here, and tell it when the shim is recorded."""
    lock, path = int(sys.argv[1]), sys.argv[2]
    os.set_inheritable(lock, False)  # ours for as long as we live: the proof that a shim is, or may come, up
    listen, tell = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(tell)
        os._exit(0 if os.read(listen, 1) else 1)
    os.setsid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    libc.prctl(_PR_SET_NAME, b"wattmill-shim", 0, 0, 0)
    folder = run_folder.open_folder(path)
    launch = run_folder.read_json(folder, run_folder.LAUNCH)
    if launch is None:
        raise ValueError(f"no {run_folder.LAUNCH} in {path}")
    shim = Shim(folder, launch)
    shim.record()
    os.write(tell, b"1")
    os.close(tell)
    try:
        shim.run()
    except Exception as error:
        traceback.print_exc()
        shim.abandon(f"the shim failed: {error!r}")
        raise


if __name__ == "__main__":
    main()
