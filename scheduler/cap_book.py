"""What each GPU's cap counts as, between the moment it was lowered and the moment the silicon followed."""

from __future__ import annotations

from dataclasses import dataclass

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

    def note_unsettable(self, uuid: str) -> None:
        """The driver refused: this GPU counts as it is, until the daemon starts anew."""
        self._unsettable.add(uuid)

    def settable(self, uuid: str) -> bool:
        return uuid not in self._unsettable

    def note_set(self, uuid: str, *, before_w: float, read_back_w: float, monotonic_s: float) -> None:
        """A set was confirmed by its read-back."""
        self._last_set_w[uuid] = read_back_w
        if read_back_w < before_w:
            worst_w = max(before_w, self.counts_at_w(uuid, before_w, monotonic_s))
            self._lowerings[uuid] = _Lowering(worst_w, monotonic_s + self._settle_s)
        elif read_back_w > before_w:
            self._raised_at_s[uuid] = monotonic_s

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

    def drifted(self, uuid: str, confirmed_w: float) -> bool:
        """Somebody else has raised the cap since it was set; told once per drift."""
        set_w = self._last_set_w.get(uuid)
        if set_w is None or confirmed_w <= set_w + DRIFT_W:
            return False
        self._last_set_w[uuid] = confirmed_w
        return True
