"""Why each waiting job waits: one reason from the closed list and one sentence with figures.

One answer per kin: a queue of twenty thousand has a few hundred.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np

from scheduler.decision_tables import WaitTable
from scheduler.model import WaitReason
from scheduler.placing.boarding import Boarding
from scheduler.placing.build import Posed
from scheduler.placing.problem import Choice
from scheduler.placing.reservation import NO_JOB, Seat
from scheduler.placing.scene import Scene
from scheduler.placing.why_never import Never
from scheduler.placing.why_now import Reason, WhyNow


def waits_for(posed: Posed, choice: Choice, boarding: Boarding) -> WaitTable:
    """A wait for every eligible job that does not start at once; others have their reason from the gate."""
    queue, ids = posed.queue, posed.snapshot.jobs.ids
    at_once = np.zeros(len(posed.snapshot.jobs), dtype=bool)
    at_once[choice.start_job[~boarding.late]] = True
    entry = np.nonzero(~at_once[queue.job])[0]
    speaker = _Speaker(posed, choice, boarding)
    own = np.isin(queue.job[entry], np.array(speaker.special, dtype=np.int64))
    kin_of = queue.kin_of[entry]
    told = np.full(len(queue.kin), -1, dtype=np.int64)
    for kin in np.unique(kin_of[~own]).tolist():
        told[kin] = speaker.say(speaker.of_kin(kin))
    answer = told[kin_of]
    at = np.nonzero(own)[0]
    alone = zip(queue.job[entry[at]].tolist(), kin_of[at].tolist(), strict=True)
    answer[at] = [speaker.say(speaker.of_job(row, kin)) for row, kin in alone]
    return WaitTable(
        job_ids=tuple([ids[row] for row in queue.job[entry].tolist()]),
        answer=answer,
        answers=tuple(speaker.answers),
    )


class _Speaker:
    """Finds each reason once. `special` jobs have one of their own, whatever their like are told."""

    def __init__(self, posed: Posed, choice: Choice, boarding: Boarding) -> None:
        self._posed, self._boarding = posed, boarding
        self._gpus = np.diff(boarding.begin).tolist()  # by start
        late = np.nonzero(boarding.late)[0]
        self._late = dict(zip(choice.start_job[late].tolist(), late.tolist(), strict=True))
        self._never = Never(posed)
        self._now = WhyNow(posed, Scene(posed, choice))
        self._seats = {int(posed.queue.job[seat.entry]): seat for seat in posed.reservation.seats}
        self.special = [*posed.price_held, *self._late, *self._seats]
        self.answers: list[Reason] = []
        self._known: dict[Reason, int] = {}

    def say(self, reason: Reason) -> int:
        """Index of this answer."""
        if reason not in self._known:
            self._known[reason] = len(self.answers)
            self.answers.append(reason)
        return self._known[reason]

    def of_kin(self, kin: int) -> Reason:
        """What all of a kin are told."""
        return self._never.reason(kin) or self._now.reason(kin)

    def of_job(self, row: int, kin: int) -> Reason:
        """What this job is told: that it can never start, its price, whose GPUs it gets, its seat."""
        never = self._never.reason(kin)
        if never is not None:
            return never
        if row in self._posed.price_held:
            return WaitReason.PRICE, self._posed.price_held[row]
        if row in self._late:
            return WaitReason.GPUS, self._coming(row)
        reason, detail = self._now.reason(kin)
        if reason not in (WaitReason.GPUS, WaitReason.LOWER_PRIORITY):
            return reason, detail
        return reason, f"{detail}; {self._seat(self._seats[row])}"

    def _coming(self, row: int) -> str:
        start, ids = self._late[row], self._posed.snapshot.jobs.ids
        names = ", ".join(sorted([ids[owner] for owner in self._boarding.owners.get(start, ())])) or "others"
        gpus = self._gpus[start]
        come = "GPU comes" if gpus == 1 else f"{gpus} GPUs come"
        return f"its {come} free when {names} has stopped"

    def _seat(self, seat: Seat) -> str:
        nodes = "a node is" if len(seat.pools) == 1 else f"{len(seat.pools)} nodes are"
        if not math.isfinite(seat.start_s):
            return f"{nodes} being drained for it"
        if seat.last == NO_JOB:
            return f"{nodes} kept for it"
        at = datetime.fromtimestamp(seat.start_s, UTC)
        same_day = at.date() == self._posed.snapshot.now.date()
        when = f"{at:%H:%M}" if same_day else f"{at:%Y-%m-%d %H:%M}"
        return f"reserved to start about {when} UTC when {self._posed.snapshot.jobs.ids[seat.last]} ends"
