"""The three steps of a decision at any size, against what people do today. Prints one JSON object.

python -m benchmarks.decide --gpus 64 --running 40 --pending 60
python -m benchmarks.decide --gpus 131072 --running 20000 --pending 20000

Every round changes the site (sensors read anew, jobs end and arrive) and times the whole way from stored
state to verified decision: snapshot with all accounting, decide, verify. `gap` is the share of the possible
gain that is left: (bound - value) / (bound - value of keeping everything as it is); for caps the share of
the bound. `place` puts the whole queue to the site as it stands; `place_steady` and `place_one_change` follow
a placement that took effect, so that little is left to gain.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.baselines import Answer, easy_uniform, fifo_uniform
from benchmarks.cluster import fresh_jobs, synthetic_site
from benchmarks.monolith import monolithic_cp_sat
from benchmarks.world import World, quantile
from scheduler.cap_step import cap_step
from scheduler.decision import Certificate, Decision
from scheduler.place import Placement, place
from scheduler.placing.build import build_problem
from scheduler.plan import make_plan
from scheduler.snapshot import Snapshot
from scheduler.steady import steady
from scheduler.verify import verify
from scheduler.windows import Plan

CHURN_SHARE = 0.005  # of the running jobs end between two rounds, and as many arrive
BASELINE_ROUNDS = 3
SHORT_QUEUE, SHORT_PLAN_S, LONG_PLAN_S = 1000, 0.9, 4.5


@dataclass
class Timings:
    """One step over all rounds."""

    seconds: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    gaps: list[float] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    counts: dict[str, list[float]] = field(default_factory=dict)

    def add(self, certificate: Certificate, parts: dict[str, float], **counts: float) -> None:
        """One round: seconds of each part, and the certificate of what was decided."""
        self.seconds.append(sum(parts.values()))
        for name, seconds in parts.items():
            self.parts.setdefault(name, []).append(seconds)
        for name, count in counts.items():
            self.counts.setdefault(name, []).append(count)
        self.gaps.append(certificate.gap)
        if certificate.fallback is not None:
            self.fallbacks.append(certificate.fallback)

    def summary(self) -> dict[str, Any]:
        """Medians, the worst in a hundred, and what answered."""
        return {
            "median_s": round(quantile(self.seconds, 0.5), 5),
            "p99_s": round(quantile(self.seconds, 0.99), 5),
            "gap": round(quantile(self.gaps, 0.5), 7),
            "gap_max": round(max(self.gaps), 7),
            "fallbacks": {name: self.fallbacks.count(name) for name in sorted(set(self.fallbacks))},
            "rounds": len(self.seconds),
            "parts_median_s": {name: round(quantile(v, 0.5), 5) for name, v in self.parts.items()},
            **{f"{name}_median": quantile(v, 0.5) for name, v in self.counts.items()},
        }


class _Watch:
    """Seconds of named parts, one after the other."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._last_s = time.perf_counter()

    def lap(self, name: str) -> None:
        now_s = time.perf_counter()
        self.parts[name] = now_s - self._last_s
        self._last_s = now_s


def cap_rounds(world: World, rounds: int) -> Timings:
    """The step of every second: new readings, new caps, verified."""
    timings = Timings()
    for number in range(rounds + 1):
        world.churn(max(1, int(CHURN_SHARE * world.running())), [])
        watch = _Watch()
        snapshot = world.snapshot()
        watch.lap("snapshot")
        decision = steady(cap_step(snapshot), snapshot)
        watch.lap("decide")
        kept, refused = verify(decision, snapshot)
        watch.lap("verify")
        if number > 0:  # the first builds the tables that all others reuse
            timings.add(
                decision.certificates[0],
                watch.parts,
                caps=len(kept.caps),
                refused=len(refused),
                binding_domains=_tight_domains(snapshot, decision),
            )
        world.apply(kept, tuple(refused), snapshot)
    return timings


def _tight_domains(snapshot: Snapshot, decision: Decision) -> int:
    """Domains that the caps fill to within a thousandth."""
    cap_w = snapshot.gpus.accounted_w.copy()
    rows = {cap.job_id: cap.cap_w for cap in decision.caps}
    for job_id, cap in rows.items():
        cap_w[snapshot.gpu_rows(snapshot.jobs.row_of[job_id])] = cap
    used_w = snapshot.tree.index.under(snapshot.gpus.leaf, cap_w)
    room_w = snapshot.domain_gpu_w
    return int((used_w >= 0.999 * room_w).sum())


def backlog_rounds(world: World, rounds: int, *, time_limit_s: float) -> Timings:
    """The whole queue against the site as it stands, from nothing: no decision took effect in between."""
    timings = Timings()
    for _ in range(rounds):
        _churn(world)
        certificate, parts, _ = _decided(world, Placement(), time_limit_s)
        timings.add(certificate, parts)
    return timings


def place_rounds(world: World, rounds: int, *, time_limit_s: float) -> tuple[Timings, Timings]:
    """(after churn, after one single change) on a site whose last placement took effect; what it knew is
    kept, as in the daemon. Little is left to gain then, and the gap is the share of that little."""
    full, single = Timings(), Timings()
    placement = Placement()
    _place(world, placement, time_limit_s)
    for number in range(rounds):
        _churn(world)
        full.add(*_place(world, placement, time_limit_s))
        if number % 2:
            world.churn(1, [])
        else:
            world.churn(0, fresh_jobs(world.chance, 1))
        single.add(*_place(world, placement, time_limit_s))
    return full, single


def _churn(world: World) -> None:
    changes = max(1, int(CHURN_SHARE * world.running()))
    world.churn(changes, fresh_jobs(world.chance, changes))


def _decided(
    world: World, placement: Placement, time_limit_s: float
) -> tuple[Certificate, dict[str, float], Callable[[], None]]:
    """One placement, timed; and how it takes effect."""
    watch = _Watch()
    snapshot = world.snapshot()
    watch.lap("snapshot")
    decision = placement.decide(snapshot, time_limit_s=time_limit_s)
    watch.lap("decide")
    kept, refused = verify(decision, snapshot)
    watch.lap("verify")

    def take_effect() -> None:
        world.apply(kept, tuple(refused), snapshot)

    return decision.certificates[0], watch.parts, take_effect


def _place(world: World, placement: Placement, time_limit_s: float) -> tuple[Certificate, dict[str, float]]:
    """One placement, timed, that takes effect, and the caps of the next second with it."""
    certificate, parts, take_effect = _decided(world, placement, time_limit_s)
    take_effect()
    settled = world.snapshot()
    caps, lost = verify(steady(cap_step(settled), settled), settled)
    world.apply(caps, tuple(lost), settled)
    return certificate, parts


def plan_rounds(world: World, rounds: int, *, time_limit_s: float) -> Timings:
    """Every pending job can wait; each plan starts from the last."""
    timings = Timings()
    plan: Plan | None = None
    for number in range(rounds + 1):
        changes = max(1, int(CHURN_SHARE * world.running()))
        world.churn(changes, fresh_jobs(world.chance, changes, deferrable=True))
        watch = _Watch()
        snapshot = world.snapshot()
        watch.lap("snapshot")
        plan = make_plan(snapshot, time_limit_s=time_limit_s, previous=plan)
        watch.lap("decide")
        if number > 0 or rounds == 1:
            timings.add(plan.certificate, watch.parts, jobs=len(plan.jobs))
    return timings


def baselines(world: World, *, time_limit_s: float) -> dict[str, Any]:
    """Each on the same instance as ours; in a forked child, so that their memory is their own."""
    found: dict[str, list[tuple[float, float | None]]] = {}
    for _ in range(BASELINE_ROUNDS):
        _churn(world)
        snapshot = world.snapshot()
        ours = place(snapshot, time_limit_s=time_limit_s)
        answers = _in_child(functools.partial(_answers, snapshot, time_limit_s))
        value = ours.certificates[0].value
        for name, answer in answers.items():
            ratio = None if answer["value"] is None or not value else answer["value"] / value
            found.setdefault(name, []).append((answer["seconds"], ratio))
    return {name: _baseline(rows) for name, rows in found.items()}


def _answers(snapshot: Snapshot, time_limit_s: float) -> dict[str, Any]:
    problem = build_problem(snapshot).problem
    methods: dict[str, Callable[[], Answer]] = {
        "monolithic_cp_sat": lambda: monolithic_cp_sat(problem, time_limit_s=time_limit_s),
        "fifo_uniform_cap": lambda: fifo_uniform(snapshot, problem),
        "easy_backfill_uniform_cap": lambda: easy_uniform(snapshot, problem),
    }
    return {name: asdict(method()) for name, method in methods.items()}


def _baseline(rows: list[tuple[float, float | None]]) -> dict[str, Any]:
    ratios = [ratio for _, ratio in rows if ratio is not None]
    return {
        "median_s": round(quantile([seconds for seconds, _ in rows], 0.5), 4),
        "value_ratio": round(quantile(ratios, 0.5), 4) if ratios else None,  # None: no answer in time
    }


def _in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(work()))
    child.start()
    answer: dict[str, Any] = ours.recv()
    child.join()
    return answer


def measure(
    *,
    gpus: int,
    running: int,
    pending: int,
    seed: int,
    rounds: int,
    time_limit_s: float,
    plan_limit_s: float | None,
) -> dict[str, Any]:
    """The whole report."""
    plan_limit_s = plan_limit_s or (SHORT_PLAN_S if pending <= SHORT_QUEUE else LONG_PLAN_S)
    size = {"gpus": gpus, "running": running, "pending": pending, "seed": seed}
    site = synthetic_site(gpus=gpus, running=running, pending=pending, seed=seed)
    world = World(site, seed=seed)
    cap = cap_rounds(world, rounds)
    place_all = backlog_rounds(world, rounds, time_limit_s=time_limit_s)
    full, single = place_rounds(world, rounds, time_limit_s=time_limit_s)
    del world
    waiting = World(
        synthetic_site(gpus=gpus, running=running, pending=pending, seed=seed, deferrable=True), seed=seed
    )
    plan = plan_rounds(waiting, rounds, time_limit_s=plan_limit_s)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    del waiting
    return {
        "asked": {**size, "rounds": rounds, "time_limit_s": time_limit_s, "plan_limit_s": plan_limit_s},
        "cap": cap.summary(),
        "place": place_all.summary(),
        "place_steady": full.summary(),
        "place_one_change": single.summary(),
        "plan": plan.summary(),
        "peak_rss_bytes": peak_bytes,
        "baselines": baselines(World(site, seed=seed), time_limit_s=time_limit_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--running", type=int, default=40)
    parser.add_argument("--pending", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--time-limit-s", type=float, default=2.0)
    parser.add_argument("--plan-limit-s", type=float, default=None, help="0.9 for a short queue, else 4.5")
    report = measure(**vars(parser.parse_args()))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
