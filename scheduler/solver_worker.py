"""A warm child process that answers one kind of question beside the control loop, killed at its time limit.

Solving never shares an interpreter with the loop. A child that overruns, crashes or cannot start is replaced,
and its stand-in answers, who says why.
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
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeAlias, TypeVar

from scheduler.planning import Question

log = logging.getLogger("wattmill.solver")

START_LIMIT_S = 30.0  # importing the solver on a busy machine
GRACE_S = 1.0  # beyond the time limit, for pickling and reading the answer
STOP_PATIENCE_S = 2.0

_READY = b"ready"

Answer = TypeVar("Answer")
Solver: TypeAlias = Callable[[Question, float], Answer]
"""(question, time limit in seconds) -> answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[Answer]):
    """What a worker does. `open_solver` runs in the child, slow imports included; it must be importable.

    `stand_in(question, why)` answers here, at once, where the child did not.
    """

    name: str  # place | plan
    open_solver: Callable[[], Solver[Answer]]
    stand_in: Callable[[Question, str], Answer]


class SolverWorker(Generic[Answer]):
    """Submit a question, poll for the answer. Neither blocks. One question at a time; a newer one waits."""

    def __init__(self, task: Task[Answer], time_limit_s: float, *, grace_s: float = GRACE_S) -> None:
        self._task = task
        self._time_limit_s = time_limit_s
        self._grace_s = grace_s
        self._asked: Question | None = None
        self._next: Question | None = None
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

    def submit(self, question: Question) -> None:
        """Ask. While one question is being solved, the newest other one waits its turn."""
        if self._asked is not None:
            self._next = question
            return
        self._asked, self._since_s = question, time.monotonic()
        self._send(question.message)

    def poll(self) -> Answer | None:
        """The answer, once, when there is one: the solver's, or its stand-in's where it failed."""
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
            question, self._next = self._next, None
            self.submit(question)
        return answer

    def close(self) -> None:
        """Stop the child and wait for it. Safe to call twice."""
        self._kill()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self._task.open_solver, self._time_limit_s),
            name=f"wattmill-{self._task.name}",
            daemon=True,
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

    def _send(self, message: bytes) -> None:
        """In a thread: a pipe holds 64 KiB, and a child that is still starting reads nothing."""
        connection = self._connection

        def deliver() -> None:
            with contextlib.suppress(OSError):  # the child died; `poll` notices
                connection.send_bytes(message)

        self._sender = threading.Thread(target=deliver, name=f"wattmill-{self._task.name}-send", daemon=True)
        self._sender.start()

    def _read(self) -> Answer | None:
        try:
            while self._connection.poll():
                message = self._connection.recv_bytes()
                if message == _READY:
                    self._ready, self._since_s = True, time.monotonic()
                    continue
                answer: Answer = pickle.loads(message)
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

    def _stand_in(self, question: Question, why: str) -> Answer:
        log.warning("%s: %s; its stand-in answers", self._task.name, why)
        self._kill()
        self._start()
        return self._task.stand_in(question, why)


def _serve(connection: Connection, open_solver: Callable[[], Solver[object]], time_limit_s: float) -> None:
    """The child: answers one question after the other until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    solve = open_solver()
    with contextlib.suppress(EOFError, OSError):
        connection.send_bytes(_READY)
        while True:
            question = pickle.loads(connection.recv_bytes())
            connection.send_bytes(pickle.dumps(solve(question, time_limit_s)))
