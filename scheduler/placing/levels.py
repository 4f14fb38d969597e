"""The handful of caps that a job may run at, and what each is worth: for thousands of jobs at once.

One sentence for all of it: value of work done, minus electricity and carbon, minus disruption. Money is per
hour; a positive worth means that running beats leaving the GPU idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from power.arrays import Bools, Floats, Ints
from power.curve_table import CurveTable
from scheduler.gpu_table import GpuKind
from scheduler.placing.distinct import distinct
from scheduler.worth import FULL_SHARE, scaled_to

SHARES_BETWEEN = (0.75, 0.97)  # of full speed, between the contract's floor and the top
GRID_STEPS = 64  # caps among which the knee and the cap of highest worth are sought
NOTHING_W = 1e-6


@dataclass(frozen=True)
class Boards:
    """Every curve on every kind of GPU: row `curve * kinds + kind` of `table`."""

    curves: CurveTable
    kinds: tuple[GpuKind, ...]

    @cached_property
    def table(self) -> CurveTable:
        """The curves as they are on each kind, scaled by the top cap where made for another board."""
        return CurveTable(
            tuple(scaled_to(curve, kind) for curve in self.curves.curves for kind in self.kinds)
        )

    def row(self, curve: Ints, kind: Ints) -> Ints:
        """Row in `table` of a job's curve on a kind."""
        return curve * max(1, len(self.kinds)) + kind

    @cached_property
    def grid_w(self) -> Floats:
        """rows x steps: whole watts from the least cap to the top one, where the board has them."""
        table = self.table
        steps = np.linspace(0.0, 1.0, GRID_STEPS)
        caps = table.min_cap_w[:, None] + (table.tdp_w - table.min_cap_w)[:, None] * steps
        return np.minimum(np.ceil(caps - NOTHING_W), table.tdp_w[:, None])

    @cached_property
    def grid_throughput(self) -> Floats:
        """rows x steps."""
        return self.table.throughput(self._grid_rows, self.grid_w)

    @cached_property
    def grid_extra_w(self) -> Floats:
        """rows x steps: mean draw above that of the idle board."""
        return self.table.power_w(self._grid_rows, self.grid_w) - self.table.idle_w[:, None]

    @cached_property
    def knee_w(self) -> Floats:
        """Per row: the cap of least energy per work."""
        draw_w = self.grid_extra_w + self.table.idle_w[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            per_work = np.where(self.grid_throughput > 0, draw_w / self.grid_throughput, np.inf)
        return np.take_along_axis(self.grid_w, np.argmin(per_work, axis=1)[:, None], axis=1)[:, 0]

    @cached_property
    def share_caps_w(self) -> Floats:
        """rows x shares: the caps that reach SHARES_BETWEEN."""
        rows = np.arange(len(self.table.curves))
        caps = [self.table.cap_for(rows, np.full(len(rows), share)) for share in SHARES_BETWEEN]
        return np.stack(caps, axis=1)

    @property
    def _grid_rows(self) -> Ints:
        return np.broadcast_to(np.arange(len(self.table.curves))[:, None], self.grid_w.shape)


@lru_cache(maxsize=8)
def boards_of(curves: CurveTable, kinds: tuple[GpuKind, ...]) -> Boards:
    """Kept between decisions: curves are learned slowly."""
    return Boards(curves, kinds)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What decides which caps a job may have, a row each: `board` is a row of `Boards.table`.

    `least_w` lifts the lowest cap (boards of one gang may differ); `price_per_w` is money per hour for each
    watt of cap, `price_per_gpu` for each GPU, both beyond the price of energy.
    """

    board: Ints
    floor_share: Floats
    rule_share: Floats  # NaN: no price rule
    value: Floats
    least_w: Floats | None = None
    price_per_w: Floats | None = None
    price_per_gpu: Floats | None = None

    @property
    def prices(self) -> tuple[Floats, ...]:
        """Those beyond the price of energy."""
        return tuple(price for price in (self.price_per_w, self.price_per_gpu) if price is not None)

    def only(self, rows: Ints) -> Terms:
        """Some of the rows."""
        return Terms(
            board=self.board[rows],
            floor_share=self.floor_share[rows],
            rule_share=self.rule_share[rows],
            value=self.value[rows],
            least_w=_some(self.least_w, rows),
            price_per_w=_some(self.price_per_w, rows),
            price_per_gpu=_some(self.price_per_gpu, rows),
        )


def _some(column: Floats | None, rows: Ints) -> Floats | None:
    return None if column is None else column[rows]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """terms x rungs, lowest cap first; where `there` is False the rung repeats the one before it.

    `worth` is money per hour of one GPU against the same GPU left idle; `best` the column of the highest.
    """

    cap_w: Floats
    share: Floats
    worth: Floats
    there: Bools
    best: Ints

    def only(self, rows: Ints) -> Ladder:
        """Some of the rows, or some of them more than once."""
        return Ladder(
            cap_w=self.cap_w[rows],
            share=self.share[rows],
            worth=self.worth[rows],
            there=self.there[rows],
            best=self.best[rows],
        )

    @property
    def useful(self) -> Bools:
        """Rungs that no lower one beats."""
        rungs = np.arange(self.cap_w.shape[1])
        return np.asarray(self.there & (rungs <= self.best[:, None]), dtype=bool)


def floor_w(boards: Boards, terms: Terms) -> Floats:
    """The least cap that each contract allows now, in whole watts where the board has them."""
    share = np.minimum(terms.floor_share, FULL_SHARE)
    low = _whole_w(boards, terms, boards.table.cap_for(terms.board, share))
    return low if terms.least_w is None else np.maximum(low, terms.least_w)


def top_w(boards: Boards, terms: Terms, low: Floats) -> Floats:
    """The highest cap that a price rule leaves; never below the contract. No rule: the board's."""
    ruled = np.isfinite(terms.rule_share)
    wanted = np.where(ruled, terms.rule_share, 1.0)
    cap = _whole_w(boards, terms, boards.table.cap_for(terms.board, wanted))
    return np.where(ruled, np.maximum(low, cap), np.maximum(low, boards.table.tdp_w[terms.board]))


def ladder(boards: Boards, terms: Terms, price_per_mwh: float, also_w: Floats | None = None) -> Ladder:
    """Contract floor, knee, some shares, the cap of highest worth, the top; `also_w` is one more, per row."""
    low = floor_w(boards, terms)
    high = top_w(boards, terms, low)
    first, row = distinct(terms.board, low, high, terms.value, *terms.prices)
    few = terms.only(first)
    cap_w = _caps_w(boards, few, low[first], high[first], price_per_mwh)
    rungs = _valued(boards, few, cap_w, price_per_mwh).only(row)
    if also_w is None:
        return rungs
    extra = _valued(boards, terms, np.clip(also_w, low, high)[:, None], price_per_mwh)
    return _merged(rungs, extra)


def _caps_w(boards: Boards, terms: Terms, low: Floats, high: Floats, price_per_mwh: float) -> Floats:
    between = [boards.knee_w[terms.board], *boards.share_caps_w[terms.board].T]
    between.append(_economic_w(boards, terms, low, high, price_per_mwh))
    whole = [_whole_w(boards, terms, cap) for cap in between]
    caps = np.stack([low, high, *whole], axis=1)
    return np.sort(np.clip(caps, low[:, None], high[:, None]), axis=1)


def _merged(rungs: Ladder, extra: Ladder) -> Ladder:
    """The rungs with one more each, in order of caps."""
    place = np.sum(rungs.cap_w < extra.cap_w, axis=1)[:, None]
    columns = np.arange(rungs.cap_w.shape[1] + 1)

    def insert(block: Floats, one: Floats) -> Floats:
        before = np.concatenate([block, block[:, -1:]], axis=1)
        after = np.concatenate([block[:, :1], block], axis=1)
        return np.where(columns < place, before, np.where(columns == place, one, after))

    return _ladder(
        insert(rungs.cap_w, extra.cap_w),
        insert(rungs.share, extra.share),
        insert(rungs.worth, extra.worth),
    )


def single(boards: Boards, terms: Terms, cap_w: Floats, price_per_mwh: float) -> Ladder:
    """One rung each, at exactly this cap."""
    return _valued(boards, terms, cap_w[:, None], price_per_mwh)


def _valued(boards: Boards, terms: Terms, cap_w: Floats, price_per_mwh: float) -> Ladder:
    rows = np.broadcast_to(terms.board[:, None], cap_w.shape)
    share = boards.table.throughput(rows, cap_w)
    extra_w = boards.table.power_w(rows, cap_w) - boards.table.idle_w[rows]
    worth = terms.value[:, None] * share - price_per_mwh / 1e6 * extra_w
    if terms.price_per_w is not None:
        worth = worth - terms.price_per_w[:, None] * cap_w
    if terms.price_per_gpu is not None:
        worth = worth - terms.price_per_gpu[:, None]
    return _ladder(cap_w, share, worth)


def _ladder(cap_w: Floats, share: Floats, worth: Floats) -> Ladder:
    there = np.ones(cap_w.shape, dtype=bool)
    there[:, 1:] = cap_w[:, 1:] > cap_w[:, :-1] + NOTHING_W
    rungs = cap_w.shape[1]
    best = rungs - 1 - np.argmax(worth[:, ::-1], axis=1)  # the higher cap of two equals
    first = np.where(there, np.arange(rungs), 0)
    best = np.take_along_axis(np.maximum.accumulate(first, axis=1), best[:, None], axis=1)[:, 0]
    return Ladder(cap_w=cap_w, share=share, worth=worth, there=there, best=best)


def _economic_w(boards: Boards, terms: Terms, low: Floats, high: Floats, price_per_mwh: float) -> Floats:
    """The cap on the grid at which each earns most within its limits; any where the grid has none."""
    grid = boards.grid_w[terms.board]
    worth = terms.value[:, None] * boards.grid_throughput[terms.board]
    worth -= price_per_mwh / 1e6 * boards.grid_extra_w[terms.board]
    if terms.price_per_w is not None:
        worth -= terms.price_per_w[:, None] * grid
    worth[(grid < low[:, None]) | (grid > high[:, None])] = -np.inf
    at = GRID_STEPS - 1 - np.argmax(worth[:, ::-1], axis=1)
    chosen = np.take_along_axis(grid, at[:, None], axis=1)[:, 0]
    return np.clip(chosen, low, high)


def _whole_w(boards: Boards, terms: Terms, cap_w: Floats) -> Floats:
    return np.minimum(np.ceil(cap_w - NOTHING_W), boards.table.tdp_w[terms.board])
