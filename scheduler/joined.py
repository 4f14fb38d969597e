"""Sequences read one after the other, as one: long tables are passed on without being copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar, overload

Item = TypeVar("Item")


class Joined(Sequence[Item]):
    """The parts in their order; empty ones are left out."""

    def __init__(self, *parts: Sequence[Item]) -> None:
        self.parts = tuple(part for part in parts if len(part))

    @classmethod
    def of(cls, *parts: Sequence[Item]) -> Sequence[Item]:
        """The same, as it is where there is only one."""
        joined = cls(*parts)
        return joined.parts[0] if len(joined.parts) == 1 else joined

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self.parts)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return tuple(self)[index]
        at = range(len(self))[index]
        for part in self.parts:
            if at < len(part):
                return part[at]
            at -= len(part)
        raise IndexError(index)
