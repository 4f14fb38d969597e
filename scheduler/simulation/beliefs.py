"""What decisions believe of workloads: learned from draws as in the daemon."""

from __future__ import annotations

from typing import Final

from power.device import GpuInfo
from scheduler.learning import KNOWN_AFTER_S, CurveBook, Learned

NEWS_SHARE: Final = 0.01  # a learned demand is news from so large a change on, as a share of the one told


class Beliefs:
    """`curves` are those that decisions see. They follow what was observed when `tell` is called.

    A demand that moved by less than 1 % is not told: it is well below the curves' own error (about 5 %, see
    `power/curve.py`), and each telling writes all jobs of a workload anew.
    """

    def __init__(self) -> None:
        self.curves = CurveBook()
        self._seen = CurveBook()
        self._told: dict[tuple[str, str], Learned] = {}  # by GPU model and workload

    def observe(self, board: GpuInfo, workload: str | None, *, draw_w: float, cap_w: float) -> None:
        """One look at one board that is busy with a job of this workload."""
        self._seen.observe(board, workload, draw_w=draw_w, cap_w=cap_w, utilization=1.0)

    def tell(self) -> frozenset[str]:
        """Workloads of which something else is believed from now on ("": of jobs that name none).

        All jobs of a workload must be told at once: they share one curve.
        """
        seen = {key: self._seen.learned(key) for key in sorted(self._seen.changed)}
        self._seen.changed.clear()
        news = {key: learned for key, learned in seen.items() if _is_news(self._told.get(key), learned)}
        if news:
            self._told |= news
            self.curves = CurveBook(self._told)
        return frozenset(workload for _, workload in news)


def _is_news(told: Learned | None, seen: Learned) -> bool:
    """The first that is heard, a demand that counts as known from now on, or another demand."""
    if told is None or told.seconds < KNOWN_AFTER_S <= seen.seconds:
        return True
    return abs(seen.demand_w - told.demand_w) >= NEWS_SHARE * told.demand_w
