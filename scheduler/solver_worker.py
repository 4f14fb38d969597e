"""A warm child process that solves placements beside the control loop, and is killed at its time limit.

Solving never shares an interpreter with the loop. A child that overruns, crashes or cannot start is
replaced, and the greedy answer stands in for it, named in the certificate.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from multiprocessing.connection import Connection

from power.series import Series
from scheduler.decision import Decision
from scheduler.greedy import place_greedily
from scheduler.snapshot import JobView, Snapshot
from scheduler.windows import Plan

log = logging.getLogger("wattmill.solver")

START_LIMIT_S = 30.0  # importing the solver on a busy machine
GRACE_S = 1.0  # beyond the time limit, for pickling and reading the answer
PLAN_EVERY_S = 300.0  # grid seconds that a plan serves while the prices stay the same
STOP_PATIENCE_S = 2.0

_READY = b"ready"


class SolverWorker:
    """Submit a snapshot, poll for the decision. Neither blocks. One question at a time; a newer one waits."""

    def __init__(
        self, time_limit_s: float, *, grace_s: float = GRACE_S, plan_every_s: float = PLAN_EVERY_S
    ) -> None:
        self._time_limit_s = time_limit_s
        self._plan_every_s = plan_every_s
        self._grace_s = grace_s
        self._asked: Snapshot | None = None
        self._next: tuple[str, Snapshot] | None = None
        self._sender: threading.Thread | None = None
        self._ready = False
        self._since_s = 0.0  # monotonic: when the child became ready, or the question was asked
        self._start()

    @property
    def busy(self) -> bool:
        """A question is open."""
        return self._asked is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def submit(self, kind: str, snapshot: Snapshot) -> None:
        """Ask for a `place` decision. While one is being solved, the newest question waits its turn."""
        if kind != "place":
            raise ValueError(f"the solver knows `place`, not {kind!r}")
        if self._asked is not None:
            self._next = (kind, snapshot)
            return
        self._asked, self._since_s = snapshot, time.monotonic()
        self._send(pickle.dumps((kind, snapshot, self._time_limit_s)))

    def poll(self) -> Decision | None:
        """The answer, once, when there is one: the solver's, or the greedy one where it failed."""
        if self._connection.closed:
            return None
        answer = self._read()
        if answer is None and self._asked is not None:
            why = self._failure()
            if why is not None:
                answer = self._stand_in(self._asked, why)
        if answer is None:
            return None
        self._asked = None
        if self._next is not None:
            (kind, snapshot), self._next = self._next, None
            self.submit(kind, snapshot)
        return answer

    def close(self) -> None:
        """Stop the child and wait for it. Safe to call twice."""
        self._kill()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._plan_every_s), name="wattmill-solver", daemon=True
        )
        self._process.start()
        theirs.close()
        self._ready, self._since_s = False, time.monotonic()

    def _kill(self) -> None:
        if self._connection.closed:
            return
        self._process.kill()
        self._process.join()
        if self._sender is not None:
            self._sender.join(STOP_PATIENCE_S)  # its write fails once the child is gone
        self._connection.close()
        self._process.close()

    def _send(self, question: bytes) -> None:
        """In a thread: a pipe holds 64 KiB, and a child that is still starting reads nothing."""
        connection = self._connection

        def deliver() -> None:
            with contextlib.suppress(OSError):  # the child died; `poll` notices
                connection.send_bytes(question)

        self._sender = threading.Thread(target=deliver, name="wattmill-solver-send", daemon=True)
        self._sender.start()

    def _read(self) -> Decision | None:
        try:
            while self._connection.poll():
                message = self._connection.recv_bytes()
                if message == _READY:
                    self._ready, self._since_s = True, time.monotonic()
                    continue
                answer: Decision = pickle.loads(message)
                return answer if self._asked is not None else None
        except (EOFError, OSError):
            return None
        return None

    def _failure(self) -> str | None:
        """Why the open question will get no answer from this child; None = it still may."""
        if not self._process.is_alive():
            return f"solver ended with exit code {self._process.exitcode}"
        waited_s = time.monotonic() - self._since_s
        if not self._ready:
            return f"solver did not start within {START_LIMIT_S:.0f} s" if waited_s > START_LIMIT_S else None
        if waited_s > self._time_limit_s + self._grace_s:
            return "solver killed at its time limit"
        return None

    def _stand_in(self, snapshot: Snapshot, why: str) -> Decision:
        log.warning("%s; the greedy placement stands in", why)
        self._kill()
        self._start()
        return place_greedily(snapshot, fallback=f"greedy: {why}")


def _serve(connection: Connection, plan_every_s: float) -> None:
    """The child: answers one question after the other until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    from scheduler.place import place  # the slow imports belong to the child, before it says it is ready
    from scheduler.plan import deferrable, make_plan

    planner = _Planner(deferrable, make_plan, plan_every_s)
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(_READY)
        while True:
            _, snapshot, time_limit_s = pickle.loads(connection.recv_bytes())
            began_s = time.monotonic()
            plan = planner.plan_for(snapshot, time_limit_s=time_limit_s / 2)
            left_s = max(0.0, time_limit_s - (time.monotonic() - began_s))
            decision = place(snapshot, time_limit_s=left_s, plan=plan)
            if plan is not None and planner.fresh:
                decision = replace(decision, certificates=(plan.certificate, *decision.certificates))
            connection.send_bytes(pickle.dumps(decision))


class _Planner:
    """Keeps the plan while it serves: until the prices change, it ages, or the deferrable jobs change."""

    def __init__(
        self,
        deferrable: Callable[[Snapshot], list[JobView]],
        make_plan: Callable[..., Plan],
        plan_every_s: float,
    ) -> None:
        self._plan_every_s = plan_every_s
        self._deferrable = deferrable
        self._make_plan = make_plan
        self._plan: Plan | None = None
        self._made_for: tuple[Series, frozenset[str]] | None = None
        self.fresh = False

    def plan_for(self, snapshot: Snapshot, *, time_limit_s: float) -> Plan | None:
        """None where nothing can be deferred, or no prices are known."""
        jobs = frozenset(view.job.id for view in self._deferrable(snapshot))
        made_for = (snapshot.prices, jobs)
        self.fresh = False
        if not jobs or not snapshot.prices.slots:
            self._plan = self._made_for = None
        elif self._plan is None or self._made_for != made_for or self._is_old(snapshot.now):
            self._plan, self._made_for = self._make_plan(snapshot, time_limit_s=time_limit_s), made_for
            self.fresh = True
        return self._plan

    def _is_old(self, now: datetime) -> bool:
        return self._plan is None or (now - self._plan.made_at).total_seconds() > self._plan_every_s
