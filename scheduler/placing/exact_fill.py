"""Fills one node: which parts take its GPUs and as many of its watts as there are. Subset sums over whole
watts, a bit each, so that thousands of sums are one integer."""

from __future__ import annotations

from collections.abc import Sequence


def fullest(items: Sequence[tuple[int, int]], gpus: int, spare: int, room_w: int) -> list[int] | None:
    """Items (GPUs, watts) that take all of `gpus` (or up to `spare` fewer) and most watts within `room_w`.

    None where no selection does.
    """
    mask = (1 << (room_w + 1)) - 1
    reached = [[1] + [0] * gpus]  # after each item: per number of GPUs, the sums of watts
    for count, watts in items:
        last = reached[-1]
        reached.append(
            [
                sums | (last[taken - count] << watts & mask if taken >= count else 0)
                for taken, sums in enumerate(last)
            ]
        )
    for taken in range(gpus, max(0, gpus - spare) - 1, -1):
        if reached[-1][taken]:
            return _trace(items, reached, taken, reached[-1][taken].bit_length() - 1)
    return None


def _trace(items: Sequence[tuple[int, int]], reached: list[list[int]], taken: int, watts: int) -> list[int]:
    chosen: list[int] = []
    for item in range(len(items) - 1, -1, -1):
        if reached[item][taken] >> watts & 1:
            continue
        chosen.append(item)
        taken -= items[item][0]
        watts -= items[item][1]
    return chosen
