"""What `verify` dropped, and why: thousands of parts, of which few are ever read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np

from scheduler.decision import Refusal
from scheduler.joined import Joined
from scheduler.model import WaitReason
from scheduler.verify_caps import CapCheck, Flaw


class Refusals(Sequence[Refusal]):
    """What was dropped: moves first, then caps. Sentences are made when somebody asks."""

    def __init__(self, starts: list[Sequence[Refusal]], others: list[Refusal], caps: CapCheck) -> None:
        """`starts` are those that were looked at many at once, `others` those looked at one by one."""
        self._starts, self._others, self._caps = Joined(*starts), others, caps
        self._dropped = np.nonzero(caps.flaw != Flaw.NONE)[0]

    @cached_property
    def moves(self) -> tuple[Refusal, ...]:
        """Starts, stops, pauses and thaws."""
        return (*self._starts, *self._others)

    def per_action(self) -> Counter[str]:
        """How many of each action."""
        many = Counter(start=len(self._starts), cap=len(self._dropped))
        return many + Counter(refusal.action for refusal in self._others)

    def __len__(self) -> int:
        return len(self._starts) + len(self._others) + len(self._dropped)

    def __iter__(self) -> Iterator[Refusal]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Refusal: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Refusal]: ...
    def __getitem__(self, index: int | slice) -> Refusal | Sequence[Refusal]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        if at < len(self.moves):
            return self.moves[at]
        entry = int(self._dropped[at - len(self.moves)])
        part, power = self._caps.caps[entry], self._caps.flaw[entry] == Flaw.NO_WATTS
        return Refusal(
            action="cap",
            job_id=part.job_id,
            reason=self._caps.reason(entry),
            part=part,
            waits_for=WaitReason.POWER if power else WaitReason.GPUS,
        )
