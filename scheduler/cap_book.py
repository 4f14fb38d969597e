"""What each GPU's cap counts as, between the moment it was lowered and the moment the silicon followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from power.arrays import Floats, Ints
from scheduler.gpu_table import GpuTable

DRIFT_W = 1.0  # limits are whole milliwatts; rounding is far below this


@dataclass(frozen=True, slots=True)
class _Lowering:
    before_w: float
    holds_until_s: float  # monotonic


class CapBook:
    """Remembers fresh lowerings: until one has settled, its GPU counts at the cap it had before.

    That alone gives the order lower, confirm, settle, raise: a raise is verified against these figures.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._lowerings: dict[str, _Lowering] = {}
        self._raised_at_s: dict[str, float] = {}
        self._unsettable: set[str] = set()
        self._last_set_w: dict[str, float] = {}
        self._noted: set[str] = set()  # set since the last look for drifts
        self._row_of: Mapping[str, int] = {}
        self._set_w: Floats = np.zeros(0)  # `_last_set_w` by row

    def note_unsettable(self, uuid: str) -> None:
        """The driver refused: this GPU counts as it is, until the daemon starts anew."""
        self._unsettable.add(uuid)

    def settable(self, uuid: str) -> bool:
        return uuid not in self._unsettable

    @property
    def unsettable(self) -> frozenset[str]:
        return frozenset(self._unsettable)

    def note_set(self, uuid: str, *, before_w: float, read_back_w: float, monotonic_s: float) -> None:
        """A set was confirmed by its read-back."""
        self._last_set_w[uuid] = read_back_w
        self._noted.add(uuid)
        if read_back_w < before_w:
            worst_w = max(before_w, self.counts_at_w(uuid, before_w, monotonic_s))
            self._lowerings[uuid] = _Lowering(worst_w, monotonic_s + self._settle_s)
        elif read_back_w > before_w:
            self._raised_at_s[uuid] = monotonic_s

    def unsettled_w(self, monotonic_s: float) -> dict[str, float]:
        """GPUs whose lowering may not be in force yet, with the cap that may still be."""
        now = {uuid: low for uuid, low in self._lowerings.items() if monotonic_s < low.holds_until_s}
        self._lowerings = now
        return {uuid: lowering.before_w for uuid, lowering in now.items()}

    def counts_at_w(self, uuid: str, confirmed_w: float, monotonic_s: float) -> float:
        """The worst of the confirmed cap and one that may still be in force."""
        lowering = self._lowerings.get(uuid)
        if lowering is None:
            return confirmed_w
        if monotonic_s >= lowering.holds_until_s:
            del self._lowerings[uuid]
            return confirmed_w
        return max(confirmed_w, lowering.before_w)

    def may_raise(self, uuid: str, monotonic_s: float) -> bool:
        """At most one raise per GPU per settle time."""
        last_s = self._raised_at_s.get(uuid)
        return last_s is None or monotonic_s - last_s >= self._settle_s

    def drifted(self, gpus: GpuTable) -> Ints:
        """Rows of GPUs whose cap somebody else has raised since it was set; told once per drift."""
        if gpus.row_of is not self._row_of:
            self._row_of, self._noted = gpus.row_of, set(self._last_set_w)
            self._set_w = np.full(len(gpus), np.inf)  # never set: nothing to drift from
        for uuid in self._noted & self._row_of.keys():
            self._set_w[self._row_of[uuid]] = self._last_set_w[uuid]
        self._noted = set()
        rows = np.nonzero(gpus.confirmed_cap_w > self._set_w + DRIFT_W)[0]
        self._set_w[rows] = gpus.confirmed_cap_w[rows]
        for row in rows.tolist():
            self._last_set_w[gpus.uuids[row]] = float(gpus.confirmed_cap_w[row])
        return rows
