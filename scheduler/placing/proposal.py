"""From a choice to a decision: which GPUs by name, in which words, and a reason for everyone who waits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from power.arrays import Bools, Floats, Ints
from scheduler.decision import Certificate, Decision, Pause, Preempt, Resume, Start
from scheduler.decision_tables import CONDITION_CODE, CapTable
from scheduler.model import Condition, WaitReason
from scheduler.placing.boarding import Boarding, board
from scheduler.placing.build import Posed
from scheduler.placing.paths import under_any
from scheduler.placing.problem import Act, Choice
from scheduler.placing.waits import waits_for

ROOM_W = 1e-6
MOST_NAMED = 3


def propose(posed: Posed, choice: Choice) -> Decision:
    """The choice as a proposal. Who needs GPUs that have yet to come free starts on those, and is told why
    it waits."""
    boarding = board(posed, choice)
    words = _Words(posed, choice)
    resumes = words.resumes()
    certificate = Certificate(
        step="place",
        value=choice.value,
        bound=choice.bound,
        solve_s=choice.solve_s,
        fallback=choice.fallback,
        unchanged=choice.unchanged,
    )
    return Decision(
        starts=_starts(posed, choice, boarding),
        pauses=words.pauses(),
        resumes=resumes,
        preempts=words.preempts(boarding),
        caps=_lowered(posed, choice, boarding) if len(choice.start_job) or resumes else (),
        waits=waits_for(posed, choice, boarding),
        certificates=(certificate,),
        notes=tuple(words.shortage(int(c)) for c in _by_name(posed, np.nonzero(posed.short)[0])),
    )


def _by_name(posed: Posed, columns: Ints) -> list[int]:
    names = posed.problem.index.names
    return sorted(columns.tolist(), key=lambda column: names[column])


def _starts(posed: Posed, choice: Choice, boarding: Boarding) -> tuple[Start, ...]:
    ids, uuids = posed.snapshot.jobs.ids, posed.snapshot.gpus.uuids
    jobs, caps = choice.start_job.tolist(), choice.start_cap_w.tolist()
    names, begin = tuple([uuids[row] for row in boarding.gpu.tolist()]), boarding.begin.tolist()
    return tuple(
        Start(
            job_id=ids[jobs[start]],
            gpu_uuids=names[begin[start] : begin[start + 1]],
            cap_w=caps[start],
        )
        for start in boarding.order.tolist()
    )


class _Words:
    """What becomes of residents, in words."""

    def __init__(self, posed: Posed, choice: Choice) -> None:
        self._posed, self._choice = posed, choice
        self._ids = posed.snapshot.jobs.ids
        self._job = posed.problem.residents.job
        options = posed.problem.options
        self._act = options.act[choice.option]
        self._cap_w = options.cap_w[choice.option]

    def resumes(self) -> tuple[Resume, ...]:
        """Those that were frozen and run on."""
        rows = np.nonzero(self._posed.cast.frozen & (self._act == int(Act.RUN)))[0].tolist()
        return tuple(Resume(job_id=self._id(row), cap_w=float(self._cap_w[row])) for row in rows)

    def pauses(self) -> tuple[Pause, ...]:
        """Those that ran and freeze."""
        rows = np.nonzero(~self._posed.cast.frozen & (self._act == int(Act.PAUSE)))[0].tolist()
        return tuple(self._pause(row) for row in rows)

    def preempts(self, boarding: Boarding) -> tuple[Preempt, ...]:
        """Those that are stopped, each with the job that its GPUs are then kept for."""
        found = []
        for row in np.nonzero(self._act == int(Act.PREEMPT))[0].tolist():
            heirs = self._choice.start_job[boarding.heirs(int(self._job[row]))].tolist()
            found.append(
                Preempt(
                    job_id=self._id(row),
                    cause=f"stopped for jobs of higher priority: {self._named(heirs) or 'watts'}",
                    heir=self._ids[heirs[0]] if heirs else None,
                )
            )
        return tuple(found)

    def shortage(self, column: int) -> str:
        """One sentence: the domain's watts for running jobs against what their contracts need."""
        name, need_w = self._posed.problem.index.names[column], self._posed.cast.need_w[column]
        limit_w = self._posed.snapshot.domain_limit_w[column]
        return (
            f"{name} is limited to {limit_w:.0f} W: its running jobs need "
            f"{need_w:.0f} W at their contract floors, more than is left for them"
        )

    def _named(self, jobs: list[int]) -> str:
        names = ", ".join(sorted(self._ids[job] for job in jobs[:MOST_NAMED]))
        more = len(jobs) - MOST_NAMED
        return f"{names} and {more} more" if more > 0 else names

    def _id(self, resident: int) -> str:
        return self._ids[int(self._job[resident])]

    def _pause(self, row: int) -> Pause:
        posed = self._posed
        short = [c for c in self._domains(row) if posed.short[c]]
        reason = WaitReason.POWER
        if posed.cast.forced[row]:
            reason, cause = WaitReason.PRICE, posed.gate.reason(int(self._job[row]))
        elif short:
            cause = self.shortage(short[0])
        elif self._best_worth(row) <= 0:
            price = posed.snapshot.energy_price_per_mwh()
            reason, cause = (
                WaitReason.PRICE,
                f"at {price:.2f}/MWh its power costs more than its work is worth",
            )
        else:
            cause = "paused so that a job of higher priority has its watts"
        return Pause(job_id=self._id(row), cause=cause, reason=reason)

    def _domains(self, row: int) -> list[int]:
        holds, index = self._posed.problem.holds, self._posed.problem.index
        over = index.ancestors[holds.leaf[(holds.resident == row) & (holds.leaf >= 0)]]
        return sorted({int(column) for column in over.ravel() if column >= 0})

    def _best_worth(self, row: int) -> float:
        options = self._posed.problem.options
        return float(options.worth[options.resident == row].max())


def _lowered(posed: Posed, choice: Choice, boarding: Boarding) -> CapTable:
    """Lowerings without which the starts and resumes would not fit. Never a raise."""
    problem, cast = posed.problem, posed.cast
    act, cap_w = problem.options.act[choice.option], problem.options.cap_w[choice.option]
    tight = _overdrawn(posed, choice, boarding) & ~posed.short
    under = under_any(problem.index, tight)
    holds = problem.holds
    touched = np.zeros(len(act), dtype=bool)
    inside = holds.leaf >= 0
    touched[holds.resident[inside & under[holds.leaf]]] = True
    runs = (act == int(Act.RUN)) & ~cast.frozen & cast.settable
    rows = np.nonzero(runs & touched & (cap_w < cast.now_w))[0]
    return CapTable(
        ids=posed.snapshot.jobs.ids,
        job=problem.residents.job[rows],
        cap_w=cap_w[rows],
        condition=np.full(len(rows), CONDITION_CODE[Condition.CAPPED_BUDGET]),
        cause=_Lowered(tuple(cast.now_w[rows].tolist()), tuple(cap_w[rows].tolist())),
        entry=np.arange(len(rows)),
    )


@dataclass(frozen=True)
class _Lowered:
    """The sentence for each lowering, by entry."""

    now_w: tuple[float, ...]
    cap_w: tuple[float, ...]

    def __call__(self, entry: int) -> str:
        now_w, cap_w = self.now_w[entry], self.cap_w[entry]
        return f"lowered from {now_w:.0f} to {cap_w:.0f} W so that more can run under the budget"


def _overdrawn(posed: Posed, choice: Choice, boarding: Boarding) -> Bools:
    """Domains that could not take the starts and resumes while everyone else keeps the present cap."""
    snapshot, gpus = posed.snapshot, posed.snapshot.gpus
    counts_w: Floats = gpus.accounted_w.copy()
    options, cast = posed.problem.options, posed.cast
    thawed = np.nonzero(cast.frozen & (options.act[choice.option] == int(Act.RUN)))[0]
    for row in thawed.tolist():
        rows = snapshot.gpu_rows(int(posed.problem.residents.job[row]))
        counts_w[rows] = np.maximum(counts_w[rows], options.cap_w[choice.option[row]])
    taken = boarding.gpu
    cap_w = np.repeat(choice.start_cap_w, np.diff(boarding.begin))
    present_w = np.where(gpus.held[taken], 0.0, counts_w[taken])  # a run that holds one leaves first
    counts_w[taken] = np.maximum(present_w, cap_w)
    used_w = posed.problem.index.under(gpus.leaf, counts_w)
    return np.asarray(used_w > snapshot.domain_gpu_w + ROOM_W, dtype=bool)
