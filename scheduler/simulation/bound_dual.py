"""Prices of GPUs and watts that make the bound tight: the outer half of its Lagrangian dual. Pure.

For any prices >= 0 of what all jobs share, the sum of the jobs' own least costs at these prices, less the
worth of all there is at these prices, is at most the cost of every schedule that keeps the limits (weak
duality). So the search may stop anywhere; what it found is a bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from power.arrays import Floats
from scheduler.simulation.bound_answers import Answers, Charge, answers
from scheduler.simulation.bound_levels import Levels
from scheduler.simulation.bound_problem import FluidJobs, FluidSite

_FIRST_STEP: Final = 0.05  # of the mean cost of a GPU-second, and of the mean price of a joule
_NEXT_STEP: Final = 0.01  # where prices are known roughly
_HIGHEST: Final = 2.0  # times the cost of a GPU-second, or of a joule, at the dearest price
_FASTER, _SLOWER = 1.5, 0.5  # where a price is still too low or too high, and where it was passed
_FIRST_GAIN: Final = 0.1  # the first step of a descent would gain this share, were the dual linear
_GAIN_DECAY: Final = 0.97
_MEMORY: Final = 0.5  # of earlier excesses: jobs move in flocks, and the mean of their moves guides better
_WITHIN: Final = 1e-9  # of what there is: an excess by rounding alone
_LEVEL_OFF: Final = 1e-5  # of the bound: gains over some steps that are not worth another
_PATIENCE: Final = 8  # steps
_SAMPLE: Final = 2_000  # jobs, by which prices are found roughly before all are asked
_WALK_STEPS, _DESCENT_STEPS = 60, 160  # with a sample, or with as few jobs


@dataclass(frozen=True)
class Tariffed:
    """What is charged: `rate` times the price, of each running GPU's draw above `free_w`."""

    rate: float = 1.0
    free_w: float = 0.0


@dataclass(frozen=True)
class SharedPrices:
    """In each slot, money per GPU-second and per joule of GPUs above idle; and the jobs' worth of work."""

    gpu_s: Floats
    ws: Floats
    worth_per_s: Floats | None = None

    def anew(self) -> SharedPrices:
        """For other jobs."""
        return replace(self, worth_per_s=None)


@dataclass(frozen=True)
class DualBound:
    """No schedule costs less than `value`, and one of those that break work at will costs `reached` (infinite
    where none was met). At `prices` jobs that each follow them alone use up to `excess_share` more of GPUs or
    watts than there is in a slot."""

    value: float
    reached: float
    prices: SharedPrices
    excess_share: float

    @property
    def gap(self) -> float | None:
        """How far the value may be from the best such schedule, as a share of it; None = not known."""
        if not np.isfinite(self.reached):
            return None
        return max(0.0, self.reached - self.value) / max(abs(self.reached), 1e-12)


@dataclass(frozen=True)
class _Shared:
    """GPU-seconds, and joules above idle, that there are in each slot; infinite without a limit."""

    gpu_s: Floats
    ws: Floats
    idle_w: float

    @classmethod
    def of(cls, site: FluidSite) -> _Shared:
        seconds, idle_w = site.slots.seconds, site.gpus * site.idle_w
        room_w = np.maximum(site.slots.room_w - idle_w, 0.0)
        return cls(site.gpus * seconds, room_w * seconds, site.idle_w)

    def worth(self, prices: SharedPrices) -> float:
        limited = np.isfinite(self.ws)
        watts = float((prices.ws[limited] * self.ws[limited]).sum())
        return float((prices.gpu_s * self.gpu_s).sum()) + watts

    def excess(self, use: Answers) -> tuple[Floats, Floats]:
        """Above what there is, of GPU-seconds and of joules; below 0 where some is left."""
        drawn_ws = use.gpu_ws - self.idle_w * use.gpu_s
        return use.gpu_s - self.gpu_s, np.where(np.isfinite(self.ws), drawn_ws - self.ws, -1.0)

    def excess_share(self, excess: tuple[Floats, Floats]) -> float:
        there = (self.gpu_s, np.where(np.isfinite(self.ws), np.maximum(self.ws, 1.0), 1.0))
        worst = max(float((over / most).max()) for over, most in zip(excess, there, strict=True))
        return worst if worst > _WITHIN else 0.0


@dataclass(frozen=True)
class _Problem:
    jobs: FluidJobs
    levels: Levels
    site: FluidSite
    what: Tariffed

    def asked(self, prices: SharedPrices) -> tuple[DualBound, tuple[Floats, Floats]]:
        """The bound at these prices, and the excess of what the jobs would use."""
        shared, site = _Shared.of(self.site), self.site
        charge = _charge(site, self.what, prices)
        use = answers(self.jobs, self.levels, site.slots.edges_s, charge, prices.worth_per_s)
        excess = shared.excess(use)
        above_ws = use.gpu_ws - self.what.free_w * use.gpu_s
        cost = self.what.rate * float((site.slots.price_per_ws * above_ws).sum())
        over = shared.excess_share(excess)
        found = DualBound(
            value=float((use.least_cost * self.jobs.gpus).sum()) - shared.worth(prices),
            reached=float(np.inf) if over > 0 else cost,
            prices=replace(prices, worth_per_s=use.worth_per_s),
            excess_share=over,
        )
        return found, excess

    def sampled(self) -> _Problem:
        """Some of the jobs, met at even steps through the work of all in their order; each stands for the
        work between two steps, so that all time is covered and large jobs stand for themselves."""
        jobs = self.jobs
        size_s = np.cumsum(jobs.gpus * jobs.work_s)
        between_s = float(size_s[-1]) / _SAMPLE
        met = np.searchsorted(size_s, between_s * (np.arange(_SAMPLE) + 0.5))
        rows, times = np.unique(met, return_counts=True)
        some = jobs.only(rows)
        return replace(self, jobs=replace(some, gpus=times * between_s / some.work_s))


def dual_bound(
    jobs: FluidJobs,
    levels: Levels,
    site: FluidSite,
    what: Tariffed,
    *,
    steps: int,
    first: SharedPrices | None = None,
) -> DualBound:
    """The best bound met on at most `steps` steps with all jobs, from `first` (found roughly, if not given).

    A few jobs cost little, and so may take as many steps as a sample.

    Raises:
        ValueError: less than one step.
    """
    if steps < 1:
        raise ValueError(f"a bound takes at least one step, got {steps}")
    problem, none = _Problem(jobs, levels, site, what), np.zeros(len(site.slots.seconds))
    free, _ = problem.asked(SharedPrices(none, none))
    if free.excess_share == 0 or steps == 1:
        return free
    if len(jobs) <= _SAMPLE:
        return _better(free, _sought(problem, first or free.prices))
    if first is None:
        first = _sought(problem.sampled(), free.prices.anew()).prices.anew()
    best = _walked(problem, first, share=_NEXT_STEP, steps=steps - 1)
    if best.value <= free.value:  # a sample may be scarcer than all jobs are
        best = _walked(problem, free.prices, share=_FIRST_STEP, steps=steps)
    return _better(free, best)


def _sought(problem: _Problem, prices: SharedPrices) -> DualBound:
    found = _walked(problem, prices, share=_FIRST_STEP, steps=_WALK_STEPS)
    return _better(found, _descended(problem, found.prices, steps=_DESCENT_STEPS))


def _walked(problem: _Problem, prices: SharedPrices, *, share: float, steps: int) -> DualBound:
    """Each price has its own step, which grows while the price moves one way and shrinks where it turns
    (Riedmiller and Braun's Rprop, IEEE ICNN 1993): scarce hours are few, and differ in size. It gets close
    from anywhere, but comes to rest where jobs move in flocks.

    `share` is that of the first step, of the mean cost of what is priced.
    """
    walk = _Walk.starting(problem, share)
    best, excess = problem.asked(prices)
    found, reached = best, [best.value]
    for _ in range(steps - 1):
        walk, prices = walk.next(found.prices, excess)
        found, excess = problem.asked(prices)
        best = _better(best, found)
        reached.append(best.value)
        if _levelled_off(reached):
            break
    return best


def _descended(problem: _Problem, prices: SharedPrices, *, steps: int) -> DualBound:
    """Subgradients with memory, as in `scheduler/plan/bound.py`; joules weigh as GPU-seconds do."""
    best, excess = problem.asked(prices)
    found, typical_w = best, float(problem.levels.power_w.mean())
    lately = np.array([excess[0], excess[1] / typical_w])
    for step in range(steps - 1):
        lately = _MEMORY * lately + (1.0 - _MEMORY) * np.array([excess[0], excess[1] / typical_w])
        now = np.array([found.prices.gpu_s, found.prices.ws * typical_w])
        along = np.where((now <= 0) & (lately < 0), 0.0, lately)
        length = float((along**2).sum())
        if length <= 0:
            break
        gain = _FIRST_GAIN * _GAIN_DECAY**step * abs(best.value)
        gpu_s, ws = np.maximum(0.0, now + gain / length * along)
        found, excess = problem.asked(replace(found.prices, gpu_s=gpu_s, ws=ws / typical_w))
        best = _better(best, found)
    return best


def _better(one: DualBound, other: DualBound) -> DualBound:
    """The higher bound, with the cheaper schedule of both."""
    higher = other if other.value > one.value else one
    return replace(higher, reached=min(one.reached, other.reached))


def _levelled_off(reached: list[float]) -> bool:
    if len(reached) <= _PATIENCE:
        return False
    return reached[-1] - reached[-1 - _PATIENCE] <= _LEVEL_OFF * abs(reached[-1])


def _charge(site: FluidSite, what: Tariffed, prices: SharedPrices) -> Charge:
    """Price and shared prices as one: joules above idle are joules less the idle ones of the time."""
    price = what.rate * site.slots.price_per_ws
    return Charge(
        per_ws=price + prices.ws, per_s=prices.gpu_s - price * what.free_w - prices.ws * site.idle_w
    )


@dataclass(frozen=True)
class _Walk:
    """Per price: the size of its next step, and which way it moved last."""

    size: tuple[Floats, Floats]
    way: tuple[Floats, Floats]
    highest: tuple[float, float]  # beyond it a price says that the limits cannot be kept, not where to yield

    @classmethod
    def starting(cls, problem: _Problem, share: float) -> _Walk:
        price_per_ws = np.abs(problem.what.rate * problem.site.slots.price_per_ws)
        mean, dearest = max(float(price_per_ws.mean()), 1e-15), max(float(price_per_ws.max()), 1e-15)
        typical_w = float(problem.levels.power_w.mean())
        none = np.zeros(len(price_per_ws))
        return cls(
            size=(none + share * mean * typical_w, none + share * mean),
            way=(none, none),
            highest=(_HIGHEST * dearest * typical_w, _HIGHEST * dearest),
        )

    def next(self, prices: SharedPrices, excess: tuple[Floats, Floats]) -> tuple[_Walk, SharedPrices]:
        sizes, ways, moved = [], [], []
        both = zip(self.size, self.way, excess, (prices.gpu_s, prices.ws), self.highest, strict=True)
        for size, way, over, price, highest in both:
            now = np.sign(over)
            size = size * np.where(now * way > 0, _FASTER, np.where(now * way < 0, _SLOWER, 1.0))
            sizes.append(size)
            ways.append(np.where((price > 0) | (now > 0), now, 0.0))
            moved.append(np.clip(price + now * size, 0.0, highest))
        walk = replace(self, size=(sizes[0], sizes[1]), way=(ways[0], ways[1]))
        return walk, replace(prices, gpu_s=moved[0], ws=moved[1])
