"""Small placements, proven: prices by linear programming, then every answer near their bound, best first.

The model counts starts instead of naming nodes (`exact_model`). Its prices (`exact_dual`) give a bound;
whatever loses less than a budget against it is listed (`exact_search`), with a budget that grows until there
is an answer. The best answer that can be put on nodes (`exact_pack`) is taken. Where the best cannot, the
model is posed again with every node by itself.
"""

from __future__ import annotations

import time

import numpy as np

from power.arrays import Floats, Ints
from scheduler.placing.exact_branch import Branching
from scheduler.placing.exact_model import CountModel, count_model
from scheduler.placing.exact_nodes import NodeModel
from scheduler.placing.exact_pack import Packing, Site, Start, pack, pack_most
from scheduler.placing.exact_search import Answers
from scheduler.placing.exact_zones import TooLargeError, coarse_zones
from scheduler.placing.problem import Choice, PlacementProblem

PROVEN_GAP = 1e-4  # of (bound - unchanged): below it an answer counts as optimal, as is usual
SMALLEST_GAIN = 1e-6  # money per hour: gains below count as this in the proof
MOST_POOLS = 64
MOST_OFFERS = 12_000
MOST_PACKED = 4  # answers that are tried on nodes for each budget
NODES_BUILD_S = 0.05  # what it takes to pose a problem node by node; with less time it is left
NEAR_SHARE = 1e-3  # of (bound - unchanged): what a column may lose at first and still be posed node by node
MORE_BUDGET = 8.0  # times as much where that has no answer


def small_enough(problem: PlacementProblem) -> bool:
    """Whether it is worth trying to solve the problem exactly."""
    return len(problem.pools) <= MOST_POOLS and len(problem.offers.group) <= MOST_OFFERS


def solve_exactly(problem: PlacementProblem, *, time_limit_s: float) -> Choice | None:
    """The best placement, optimal where `(bound - value) <= PROVEN_GAP * (bound - unchanged)`, else with that
    gap; None without an answer in time, and for what is too large."""
    began_s = time.perf_counter()
    if time_limit_s <= 0.0 or not small_enough(problem):
        return None
    try:
        model = count_model(problem, coarse_zones(problem))
    except TooLargeError:
        return None
    until_s = began_s + time_limit_s
    best = _Best(model, until_s)
    unchanged = float(problem.options.worth[problem.options.unchanged].sum())
    proof = Branching(model, best.take, PROVEN_GAP / 2.0, until_s).run(unchanged)
    if proof.search is None:
        return None
    bound = _node_by_node(problem, proof.bound, best, unchanged)
    if best.option is None:
        return None
    prices = _domain_prices(model, proof.search.price)
    return _choice(problem, best, max(bound, best.value), unchanged, prices, time.perf_counter() - began_s)


class _Best:
    """The best answer so far that nodes can take."""

    def __init__(self, model: CountModel, until_s: float) -> None:
        self.until_s = until_s
        self.model, self.site = model, Site(model.problem, model.zones)
        self.value = -np.inf
        self.option: Ints | None = None
        self.starts: tuple[Start, ...] = ()

    def take(self, answers: Answers, above: float) -> float | None:
        """The first of the answers that nodes can take and that is worth more; its value."""
        ways, problem = self.model.ways, self.model.problem
        for answer in range(min(len(answers), MOST_PACKED)):
            if answers.value[answer] <= max(above, self.value) or time.perf_counter() > self.until_s:
                return None
            taken = answers.taken(answer)
            option = np.array([c - len(ways.group) for c, _ in taken if c >= len(ways.group)], dtype=np.int64)
            option = option[np.argsort(problem.options.resident[option], kind="stable")]
            starts = tuple(
                self.site.start(int(ways.offer[column]), ways.parts[column].tolist())
                for column, count in taken
                if column < len(ways.group)
                for _ in range(count)
            )
            if pack(self.site, option, starts):
                self.keep(option, starts)
                return self.value
            if answer == 0 and self._sound(option):
                self.keep(option, pack_most(self.site, option, starts))
        return None

    def _sound(self, option: Ints) -> bool:
        return Packing(self.site, option).sound

    def keep(self, option: Ints, starts: tuple[Start, ...]) -> None:
        """Keeps this answer if it is the best."""
        problem = self.model.problem
        worth = sum(float(problem.offers.worth[s.offer] * problem.groups.gpus[s.group]) for s in starts)
        value = worth + float(problem.options.worth[option].sum())
        if value > self.value:
            self.value, self.option, self.starts = value, option, starts


def _node_by_node(problem: PlacementProblem, bound: float, best: _Best, unchanged: float) -> float:
    """The bound; where the best found so far is not proven, with CP-SAT's answer and bound.

    First among what loses next to nothing, then among what could still beat the answer.
    """
    nodes: NodeModel | None = None
    budget = 0.0
    while True:
        tolerance = PROVEN_GAP * max(bound - unchanged, SMALLEST_GAIN)
        left_s = best.until_s - time.perf_counter()
        if bound - best.value <= tolerance or left_s <= NODES_BUILD_S:
            return bound
        if nodes is None:
            nodes = NodeModel(problem)
            bound = min(bound, max(nodes.relaxed.bound, best.value))
            continue
        top = nodes.relaxed.bound
        needed = top - best.value - tolerance / 2.0
        if budget and needed <= budget:
            return bound
        near = NEAR_SHARE * tolerance / PROVEN_GAP if not budget else MORE_BUDGET * budget
        budget = needed if budget and np.isfinite(needed) else min(needed, near)
        hint = None if best.option is None else nodes.amounts(best.option, best.starts)
        found = nodes.relaxed.solve(budget, hint, known=bound, tolerance=tolerance / 2.0, time_limit_s=left_s)
        if found is not None:
            best.keep(*nodes.answer(found.amounts))
            bound = min(bound, max(found.bound, top - budget, best.value))
        elif budget > top - unchanged:
            return bound


def _domain_prices(model: CountModel, price: Floats) -> Floats:
    per_domain = np.zeros(len(model.problem.index.names))
    for row, domains in enumerate(model.rows.domains):
        per_domain[domains] += price[row]
    return per_domain


def _choice(
    problem: PlacementProblem, best: _Best, bound: float, unchanged: float, prices: Floats, solve_s: float
) -> Choice:
    """The oldest of each group start, at its highest cap first."""
    groups, caps = problem.groups, problem.offers.cap_w
    starts = sorted(best.starts, key=lambda s: (s.group, -caps[s.offer]))
    jobs, pools, gpus, ends, used = [], [], [], [0], np.zeros(len(groups), dtype=np.int64)
    for start in starts:
        jobs.append(int(groups.member[groups.member_start[start.group] + used[start.group]]))
        used[start.group] += 1
        for pool in sorted({part.pool for part in start.parts}):
            pools.append(pool)
            gpus.append(sum(part.gpus for part in start.parts if part.pool == pool))
        ends.append(len(pools))
    return Choice(
        option=best.option if best.option is not None else np.zeros(0, dtype=np.int64),
        start_job=np.array(jobs, dtype=np.int64),
        start_group=np.array([start.group for start in starts], dtype=np.int64),
        start_cap_w=np.array([caps[start.offer] for start in starts], dtype=np.float64),
        part_start=np.array(ends, dtype=np.int64),
        part_pool=np.array(pools, dtype=np.int64),
        part_gpus=np.array(gpus, dtype=np.int64),
        value=best.value,
        bound=bound,
        unchanged=unchanged,
        domain_price=prices,
        solve_s=solve_s,
    )
