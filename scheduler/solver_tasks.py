"""What the two solver workers do, in their own processes, and who stands in for them in the loop's.

OR-Tools is imported by the children alone, before they say that they are ready.
"""

from __future__ import annotations

import math
from dataclasses import replace

from scheduler.decision import Certificate, Decision, Wait
from scheduler.model import WaitReason
from scheduler.placing.fallback import place_greedily
from scheduler.planning import Basis, Planned, Planning, Question, kept, needs_plan, unplanned
from scheduler.snapshot import Snapshot
from scheduler.solver_worker import Solver, Task

MOST_GPUS_IN_LOOP = 2_000  # on a larger site the greedy placement would hold up the loop itself
NOT_PLANNED_YET = "its window is being planned"


def open_place() -> Solver[Decision]:
    """Placements under the last plan. Jobs that no plan has looked at yet wait for the one in the making."""
    from scheduler.place import Placement
    from scheduler.plan import deferrable

    placement = Placement()

    def solve(question: Question, time_limit_s: float) -> Decision:
        snapshot, plan = question.snapshot, question.last.plan if question.last is not None else None
        new = unplanned(deferrable(snapshot), question) if question.awaits_plan else frozenset()
        decision = placement.decide(held_back(snapshot, new), time_limit_s=time_limit_s, plan=plan)
        if not new:
            return decision
        waits = (Wait(job_id=i, reason=WaitReason.PRICE, detail=NOT_PLANNED_YET) for i in sorted(new))
        return replace(decision, waits=(*decision.waits, *waits))

    return solve


def open_plan() -> Solver[Planning]:
    """A plan where one is needed, made from the last one on."""
    from scheduler.plan import deferrable, make_plan

    def solve(question: Question, time_limit_s: float) -> Planning:
        snapshot, last = question.snapshot, question.last
        basis = Basis.of(snapshot, deferrable(snapshot))
        if not needs_plan(basis, last, snapshot.now, question.plan_every_s):
            return Planning()
        previous = None if last is None else last.plan
        return Planning(Planned(make_plan(snapshot, time_limit_s=time_limit_s, previous=previous), basis))

    return solve


def held_back(snapshot: Snapshot, job_ids: frozenset[str]) -> Snapshot:
    """The same picture with these jobs not eligible to start."""
    if not job_ids:
        return snapshot
    jobs = snapshot.jobs
    eligible = jobs.bools("eligible").copy()
    eligible[[jobs.row_of[job_id] for job_id in job_ids]] = False
    return replace(snapshot, jobs=replace(jobs, columns={**jobs.columns, "eligible": eligible}))


def placed_simply(question: Question, why: str) -> Decision:
    """Greedily; on a large site not at all, and everything stays as it is. Without a bound then."""
    count = len(question.snapshot.gpus)
    if count <= MOST_GPUS_IN_LOOP:
        plan = question.last.plan if question.last is not None else None
        return place_greedily(question.snapshot, plan, fallback=f"greedy: {why}")
    fallback = f"nothing placed: {why}, and {count} GPUs are too many for the loop itself"
    certificate = Certificate(step="place", value=0.0, bound=math.inf, solve_s=0.0, fallback=fallback)
    return Decision(certificates=(certificate,))


PLACE: Task[Decision] = Task(name="place", open_solver=open_place, stand_in=placed_simply)
PLAN: Task[Planning] = Task(name="plan", open_solver=open_plan, stand_in=kept)
