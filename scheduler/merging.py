"""Two proposals into one: the caps of every second, and the placement whenever the solver has answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from scheduler.decision import Decision, Preempt, Start, Wait
from scheduler.joined import Joined


def merged(
    caps: Decision,
    placement: Decision | None,
    pending: Iterable[Start] = (),
    gated: Iterable[Wait] = (),
    stops: tuple[Preempt, ...] = (),
) -> Decision:
    """The cap step's caps, pauses and notes; the placement's moves.

    The placement's own cap levels served to find room; once a job runs, the cap step alone sets its cap.
    `pending` are starts of an earlier placement that wait for room; `gated` are jobs that may not start at
    all; `stops` are asked for by an operator. A pause or preemption asked for twice is asked for once.
    """
    caps = replace(caps, preempts=caps.preempts + stops)
    if placement is None:
        return replace(caps, starts=tuple(pending), waits=tuple(gated))
    waiting = tuple(pending)
    known = {start.job_id for start in waiting}
    stopped = {p.job_id for p in caps.pauses} | {p.job_id for p in caps.preempts}
    return replace(
        caps,
        starts=waiting + tuple(s for s in placement.starts if s.job_id not in known),
        resumes=tuple(r for r in placement.resumes if r.job_id not in stopped),
        pauses=caps.pauses + tuple(p for p in placement.pauses if p.job_id not in stopped),
        preempts=caps.preempts + tuple(p for p in placement.preempts if p.job_id not in stopped),
        waits=Joined.of(tuple(gated), placement.waits),
        certificates=caps.certificates + placement.certificates,
        notes=caps.notes + placement.notes,
    )
