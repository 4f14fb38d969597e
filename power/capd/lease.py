"""Who may set limits now, and until when. Monotonic seconds are passed in; no clock, no I/O."""

from __future__ import annotations


class Lease:
    """One controller at a time, named by an epoch that only grows.

    A lease that ran out is gone for good: a controller that was stopped and continued finds its
    epoch refused, and must take a new one and look at the limits before it sets any.
    """

    def __init__(self, lease_s: float, *, epoch: int, now_s: float) -> None:
        self.lease_s = lease_s
        self.epoch = epoch
        self._held = False
        self._deadline_s = now_s + lease_s  # a controller has this long to appear

    def take(self, now_s: float) -> int:
        """A new epoch, live from now; every earlier one is stale."""
        self.epoch += 1
        self._held = True
        self._deadline_s = now_s + self.lease_s
        return self.epoch

    def renew(self, now_s: float) -> None:
        """Only for the holder: ask `admits` first."""
        self._deadline_s = now_s + self.lease_s

    def admits(self, epoch: int, now_s: float) -> bool:
        """Whether a set of this epoch may be carried out now."""
        return self._held and epoch == self.epoch and now_s < self._deadline_s

    def expired(self, now_s: float) -> bool:
        """Whether nobody holds it, for longer than a lease lasts."""
        return now_s >= self._deadline_s

    def remaining_s(self, now_s: float) -> float:
        return max(0.0, self._deadline_s - now_s)
