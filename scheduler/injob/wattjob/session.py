"""What one process of a job has been asked for and has answered."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from typing import Any

from wattjob import ranks
from wattjob.channel import Channel

REPORT_EVERY_S = 0.1
_NOTHING, _CHECKPOINT, _STOP, _LEAVE = 0, 1, 2, 3


class Session:
    """Without a channel every call does nothing.

    Args:
        active: the job runs under wattmill; true on all of its ranks or on none.
        channel: rank 0's connection to its shim.
    """

    def __init__(self, *, active: bool, channel: Channel | None) -> None:
        self._active = active
        self._channel = channel
        self._owner = os.getpid()
        self._request = 0  # number of the newest request heard
        self._answered = 0  # number of the newest request that should_checkpoint said True to
        self._asked = _NOTHING  # heard, not yet answered by True from should_checkpoint
        self._stop_agreed = False
        self._signalled = False
        self._asked_for_handler = False
        self._report: dict[str, Any] | None = None
        self._reported_s = float("-inf")

    @classmethod
    def from_environment(cls) -> Session:
        path = os.environ.get("WATTMILL_CONTROL")
        if not path:
            return cls(active=False, channel=None)
        channel = Channel(path) if os.environ.get("RANK", "0") == "0" else None
        session = cls(active=True, channel=channel)
        if channel is not None:
            atexit.register(session.flush)
        return session

    def progress(self, step: int, total: int | None, samples: float | None) -> None:
        if self._channel is None or not ranks.is_first():
            return
        self._report = {"type": "progress", "step": int(step), "total": total, "samples": samples}
        if time.monotonic() >= self._reported_s + REPORT_EVERY_S or step == total:
            self.flush()

    def flush(self) -> None:
        """Send the newest report, unless it would have to wait."""
        if self._channel is not None and self._report is not None and self._channel.send(self._report):
            self._report, self._reported_s = None, time.monotonic()

    def should_checkpoint(self) -> bool:
        if not self._active:
            return False
        self._hold_sigterm()
        self._listen()
        asked = ranks.agree(self._wish())
        if asked == _LEAVE:  # on every rank at once, or the others would wait for it in their next step
            self._die()
        if asked == _NOTHING or self._stop_agreed:
            return False
        self._answered, self._asked = self._request, _NOTHING
        self._stop_agreed = asked == _STOP
        return True

    def saved(self, path: str) -> None:
        if self._channel is not None and ranks.is_first():
            self.flush()
            self._channel.send({"type": "saved", "path": str(path), "request": self._answered}, wait=True)
        if self._stop_agreed and self._signalled and not ranks.several():
            self._die()

    def _wish(self) -> int:
        """This rank's own view, for `ranks.agree`."""
        if self._signalled:
            return _LEAVE if self._stop_agreed else _STOP
        return self._asked

    def _listen(self) -> None:
        for message in self._channel.receive() if self._channel is not None else ():
            request = message.get("checkpoint")
            if isinstance(request, int) and request > self._request:
                self._request = request
                self._asked = max(self._asked, _STOP if message.get("stop") else _CHECKPOINT)

    def _hold_sigterm(self) -> None:
        """Once, and only where nobody else handles the signal: let it wait for the checkpoint."""
        if self._asked_for_handler or threading.current_thread() is not threading.main_thread():
            return
        self._asked_for_handler = True
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._note_sigterm)

    def _note_sigterm(self, _signum: int, _frame: object) -> None:
        self._signalled = True
        if os.getpid() != self._owner:  # a forked data loader has no checkpoint to wait for
            self._die()

    def _die(self) -> None:
        self.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
