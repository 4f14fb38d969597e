"""What a kilowatt-hour costs in a slot: the energy price plus what comes on top. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from power.series import Series, Slot

JOULES_PER_KWH = 3.6e6
JOULES_PER_MWH = 3.6e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Adders in the site's currency: `(energy + network + levies) * (1 + tax)`.

    A negative energy price stays negative as far as the adders leave it so: nothing is clamped at zero.

    Raises:
        ValueError: a value that is not finite, or a negative tax share.
    """

    network_per_mwh: float = 0.0
    levies_per_mwh: float = 0.0
    tax_share: float = 0.0  # 0.19 = 19 %, on everything

    def __post_init__(self) -> None:
        for name in ("network_per_mwh", "levies_per_mwh", "tax_share"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if self.tax_share < 0:
            raise ValueError(f"tax_share must be at least 0, got {self.tax_share}")

    def price_per_mwh(self, energy_per_mwh: float) -> float:
        """What a MWh costs in all, from the price of the energy alone."""
        return (energy_per_mwh + self.network_per_mwh + self.levies_per_mwh) * (1.0 + self.tax_share)

    def price_per_kwh(self, energy_per_mwh: float) -> float:
        """The same per kWh."""
        return self.price_per_mwh(energy_per_mwh) / 1e3

    def cost(self, energy_j: float, energy_per_mwh: float) -> float:
        """Money for `energy_j` joules drawn while the energy price was `energy_per_mwh`."""
        return energy_j / JOULES_PER_MWH * self.price_per_mwh(energy_per_mwh)

    def prices(self, energy: Series) -> Series:
        """The series of energy prices with the adders in each slot; gaps stay gaps."""
        return Series(tuple(Slot(s.start, s.end, self.price_per_mwh(s.value)) for s in energy))


PLAIN = Tariff()
"""Energy alone: no adders, no tax."""
