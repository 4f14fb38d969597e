"""The operator's price rules: above a price, cap or pause what the rule applies to. Pure.

Two thresholds (hysteresis) and a minimum dwell in either state keep a rule from flapping. An unknown
price counts as one below every threshold: a broken feed never holds jobs back for longer than the dwell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from power.series import Series
from scheduler.model import Flex, JobSpec

PRIORITY = "priority:"


class InvalidRule(ValueError):
    """A field of a rule breaks a condition; `field` names it."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(f"{field_name}: {message}")
        self.field = field_name
        self.message = message


class RuleAction(StrEnum):
    """What a rule in force does to the jobs it applies to, inside their contracts."""

    CAP = "cap"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRule:
    """In force from a price above `above_per_mwh` until one below `release_below_per_mwh`.

    `applies_to` narrows the jobs: flex tiers by name (`mid`), priority classes as `priority:low`; a job is
    meant when its tier is among the tiers named, if any, and its class among the classes named, if any.
    `throughput_share` (0..1 of uncapped) counts for `cap` only. `min_dwell_s` is in grid seconds.

    Raises:
        InvalidRule: names the field.
    """

    name: str
    above_per_mwh: float
    release_below_per_mwh: float
    min_dwell_s: float = 900.0
    action: RuleAction = RuleAction.CAP
    throughput_share: float = 0.75
    applies_to: tuple[str, ...] = ()  # empty = every job
    enabled: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "applies_to", tuple(self.applies_to))
        self._check_words()
        self._check_figures()

    def covers(self, spec: JobSpec) -> bool:
        """Whether a job of this kind is meant; its contract still decides how far it may go."""
        tiers = [word for word in self.applies_to if not word.startswith(PRIORITY)]
        classes = [word for word in self.applies_to if word.startswith(PRIORITY)]
        return (not tiers or spec.contract.flex in tiers) and (
            not classes or PRIORITY + spec.priority in classes
        )

    def _check_words(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", self.name):
            raise InvalidRule(
                "name", "1 to 64 letters, digits, `_`, `.` or `-`, starting with one of the first two"
            )
        try:
            object.__setattr__(self, "action", RuleAction(self.action))
        except ValueError as error:
            raise InvalidRule("action", f"must be `cap` or `pause`, got {ascii(self.action)[:40]}") from error
        for word in self.applies_to:
            if word not in set(Flex) and not (word.startswith(PRIORITY) and word != PRIORITY):
                raise InvalidRule(
                    "applies_to",
                    f"{ascii(word)[:40]} is neither a flex tier ({', '.join(Flex)}) nor `priority:<class>`",
                )

    def _check_figures(self) -> None:
        for name in ("above_per_mwh", "release_below_per_mwh", "min_dwell_s", "throughput_share"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidRule(name, "must be finite")
        if self.release_below_per_mwh > self.above_per_mwh:
            raise InvalidRule(
                "release_below_per_mwh",
                f"must not be above `above_per_mwh`: {self.release_below_per_mwh:g} > {self.above_per_mwh:g}",
            )
        if self.min_dwell_s < 0:
            raise InvalidRule("min_dwell_s", f"must be at least 0, got {self.min_dwell_s:g}")
        if not 0 < self.throughput_share <= 1:
            raise InvalidRule(
                "throughput_share", f"must be above 0 and at most 1, got {self.throughput_share:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleState:
    """Whether a rule is in force, and since when (grid time)."""

    active: bool
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A rule would be in force for `start <= t < end`; `highest_per_mwh` is the top known price in it."""

    start: datetime
    end: datetime
    highest_per_mwh: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """When a rule would have been in force over a series, and how much of the series' span that is."""

    activations: tuple[Activation, ...]
    active_s: float
    span_s: float

    @property
    def active_share(self) -> float:
        return self.active_s / self.span_s if self.span_s else 0.0


def evaluate(
    rules: Iterable[PriceRule], states: Mapping[str, RuleState], price_per_mwh: float | None, now: datetime
) -> tuple[dict[str, RuleState], tuple[PriceRule, ...]]:
    """The states after looking at the price now, and the rules in force, in the order given.

    A rule without a state, or disabled, is not in force; a state whose rule is gone is dropped.
    """
    after: dict[str, RuleState] = {}
    active: list[PriceRule] = []
    for rule in rules:
        if not rule.enabled:
            continue
        state = _next(rule, states.get(rule.name), price_per_mwh, now)
        if state is None:
            continue
        after[rule.name] = state
        if state.active:
            active.append(rule)
    return after, tuple(active)


def effect(active: Iterable[PriceRule], spec: JobSpec) -> tuple[float | None, str | None]:
    """What the rules in force mean for one job: (least throughput share or None, pausing rule or None)."""
    applying = [rule for rule in active if rule.covers(spec)]
    shares = [rule.throughput_share for rule in applying if rule.action is RuleAction.CAP]
    pausing = [rule.name for rule in applying if rule.action is RuleAction.PAUSE]
    return min(shares, default=None), pausing[0] if pausing else None


def preview(rule: PriceRule, prices: Series, state: RuleState | None = None) -> Preview:
    """When `rule` would be in force over `prices`, starting from `state`; gaps count as unknown price.

    An activation that the series' end cuts off ends there. A disabled rule is previewed as if enabled.
    """
    if not prices.slots:
        return Preview(activations=(), active_s=0.0, span_s=0.0)
    spans: list[tuple[datetime, datetime]] = []
    end = prices.slots[-1].end
    for start, until in pairwise((*_moments(prices), end)):
        price, at = prices.at(start), start
        while at < until:
            state = _next(rule, state, price, at)
            following = min(_wakes(rule, state, at), until)
            if state is not None and state.active:
                spans.append((at, following))
            at = following
    activations = tuple(_activation(prices, *span) for span in _joined(spans))
    active_s = sum((a.end - a.start).total_seconds() for a in activations)
    return Preview(
        activations=activations,
        active_s=active_s,
        span_s=(end - prices.slots[0].start).total_seconds(),
    )


def _next(
    rule: PriceRule, state: RuleState | None, price_per_mwh: float | None, now: datetime
) -> RuleState | None:
    known = price_per_mwh is not None and math.isfinite(price_per_mwh)
    above = known and price_per_mwh is not None and price_per_mwh > rule.above_per_mwh
    if state is None:
        # The first activation waits for no dwell: nothing was switched before it.
        return RuleState(active=True, since=now) if above else None
    if now < state.since:
        # The clock went back: the dwell starts over instead of lasting for that whole step.
        state = RuleState(active=state.active, since=now)
    below = not known or (price_per_mwh is not None and price_per_mwh < rule.release_below_per_mwh)
    wants_change = below if state.active else above
    if wants_change and (now - state.since).total_seconds() >= rule.min_dwell_s:
        return RuleState(active=not state.active, since=now)
    return state


def _moments(prices: Series) -> Sequence[datetime]:
    """Every instant at which the price changes: starts of slots and of gaps, in order."""
    found = [prices.slots[0].start]
    for before, after in pairwise(prices.slots):
        if before.end < after.start:
            found.append(before.end)
        found.append(after.start)
    return found


def _wakes(rule: PriceRule, state: RuleState | None, at: datetime) -> datetime:
    """The next instant at which the dwell alone may change the state; far away if it has passed."""
    due = at if state is None else state.since + timedelta(seconds=rule.min_dwell_s)
    return due if due > at else datetime.max.replace(tzinfo=at.tzinfo)


def _joined(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    joined: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _activation(prices: Series, start: datetime, end: datetime) -> Activation:
    inside = [slot.value for slot in prices.between(start, end)]
    return Activation(start=start, end=end, highest_per_mwh=max(inside, default=None))
