"""Contracts for the jobs of a trace that has none: tiers by their share of GPU-hours, and deadlines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from power.arrays import Floats
from scheduler.model import Contract, Flex
from scheduler.simulation.model import BadInput
from scheduler.simulation.shares import deal, parse_shares
from scheduler.simulation.trace import TraceRow

DEFAULT_SHARES: Final = "none:0.2,low:0.3,mid:0.3,high:0.2"
DEFAULT_DEADLINE: Final = "2x+12h"
MOST_FACTOR: Final = 100.0
MOST_CONSTANT_S: Final = 366 * 86400.0
_UNIT_S: Final = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_DEADLINE: Final = re.compile(r"(?:([\d.]+)x)?(?:(?:^|(?<=x)\+)([\d.]+)([mhd]))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineRule:
    """Due `factor` times the true running time at full speed plus `constant_s` after the submission.

    Where `factor` is below 1, a long job cannot be on time, whoever schedules it.
    """

    factor: float = 0.0
    constant_s: float = 0.0

    def due(self, submitted_at: datetime, work_s: float) -> datetime:
        return submitted_at + timedelta(seconds=self.factor * work_s + self.constant_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractMix:
    """Tiers by their share of GPU-hours (together 1), which of them may be paused, and when those are due."""

    shares: Mapping[Flex, float]
    pausable: frozenset[Flex] = frozenset({Flex.HIGH})
    deadline: DeadlineRule | None = field(default_factory=lambda: parse_deadline(DEFAULT_DEADLINE))


def parse_contracts(text: str) -> dict[Flex, float]:
    """`none:0.2,low:0.3,mid:0.3,high:0.2` -> share of GPU-hours by tier.

    Raises:
        BadInput: names the part and what is wanted.
    """
    shares = parse_shares(text, option="contracts", names=[tier.value for tier in Flex])
    return {Flex(name): share for name, share in shares.items()}


def parse_pausable(text: str) -> frozenset[Flex]:
    """`high` or `mid,high` -> the tiers whose jobs may be paused; empty = none of them.

    Raises:
        BadInput: names the word that is no tier.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in set(Flex):
            raise BadInput(f"pausable: {ascii(word)[:60]} is no tier; the tiers are {', '.join(Flex)}")
    return frozenset(Flex(word) for word in words)


def parse_deadline(text: str) -> DeadlineRule:
    """`2x`, `12h`, `2x+12h` or `1.5x+30m`: times the running time, plus minutes, hours or days.

    Raises:
        BadInput: it is none of these, or 0, or beyond 100 times or a year.
    """
    found = _DEADLINE.fullmatch(text.replace(" ", ""))
    try:
        if not found or not any(found.groups()):
            raise ValueError(text)
        factor = float(found[1] or 0.0)
        constant_s = float(found[2] or 0.0) * _UNIT_S[found[3] or "h"]
    except ValueError:
        raise BadInput(
            f"deadline: {ascii(text)[:60]} cannot be read, write 2x, 12h, 2x+12h or 1.5x+30m"
        ) from None
    if not (factor <= MOST_FACTOR and constant_s <= MOST_CONSTANT_S and factor + constant_s > 0):
        raise BadInput(f"deadline: {text} must be above 0, at most {MOST_FACTOR:g}x and 366d")
    return DeadlineRule(factor=factor, constant_s=constant_s)


def contracts_of(rows: Sequence[TraceRow], mix: ContractMix, draws: Floats) -> list[Contract]:
    """A contract per row; tiers hold their shares of the GPU-hours of all rows (see `deal`).

    Deadlines go by the true running time, since that is what its owner can be promised; the estimate that
    policies see is another figure.

    Args:
        draws: per row, uniform in 0..1.
    """
    gpu_h = np.array([row.gpu_h for row in rows], dtype=np.float64)
    shares = {tier.value: share for tier, share in mix.shares.items()}
    tiers = [Flex(name) for name in deal(gpu_h, shares, draws)]
    return [_contract(row, tier, mix) for row, tier in zip(rows, tiers, strict=True)]


def _contract(row: TraceRow, tier: Flex, mix: ContractMix) -> Contract:
    if tier not in mix.pausable:
        return Contract(flex=tier)
    due = None if mix.deadline is None else mix.deadline.due(row.submitted_at, row.duration_s)
    return Contract(flex=tier, pausable=True, deadline=due)
