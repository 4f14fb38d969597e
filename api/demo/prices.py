"""Two real days in Germany, 11 and 12 September 2023, hourly, UTC. The first evening was the year's dearest.

Day-ahead prices DE-LU, EUR/MWh: as shown by RTE eco2mix, in HewlettPackard/sustain-cluster
(commit 293fbd1, data/electricity_prices/processed/DE-LU/2023; MIT licence).
Carbon intensity DE, life cycle, gCO2eq/kWh: Electricity Maps, in the same repository
(data/carbon_intensity/DE-LU; Electricity Maps' own data terms apply).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

FIRST_HOUR = datetime(2023, 9, 11, tzinfo=UTC)
PRICE_SOURCE = "DE-LU day-ahead, 11-12 September 2023 (RTE eco2mix)"
CARBON_SOURCE = "DE life-cycle carbon, 11-12 September 2023 (Electricity Maps)"

# fmt: off
PRICES_PER_MWH = (
    96.03, 93.05, 94.75, 104.21, 146.61, 179.21, 136.44, 113.00, 95.16, 89.17, 87.67, 86.45,
    89.00, 92.53, 100.18, 132.93, 266.71, 524.27, 448.13, 223.11, 147.83, 119.94, 106.36, 105.14,
    105.87, 105.63, 106.36, 116.14, 153.57, 228.99, 146.98, 123.22, 112.33, 101.59, 96.46, 93.59,
    97.08, 99.90, 109.17, 140.41, 190.53, 284.02, 185.62, 136.62, 115.55, 93.77, 106.45, 99.90,
)

CARBON_G_PER_KWH = (
    509.90, 503.50, 508.41, 509.00, 489.65, 469.38, 427.30, 390.64, 333.66, 283.61, 260.24, 262.51,
    279.86, 323.07, 383.73, 441.45, 493.16, 518.02, 527.61, 547.12, 563.59, 576.50, 575.30, 569.47,
    576.34, 581.39, 583.30, 580.61, 565.44, 539.13, 496.14, 474.73, 445.42, 398.81, 372.47, 364.67,
    356.20, 383.40, 426.60, 476.02, 509.27, 523.57, 525.37, 532.92, 522.21, 497.81, 481.83, 480.91,
)
# fmt: on


def as_csv(values: tuple[float, ...]) -> str:
    """The replay file that a `csv` feed reads."""
    rows = [f"{FIRST_HOUR + timedelta(hours=i):%Y-%m-%dT%H:%M:%SZ},{v}" for i, v in enumerate(values)]
    return "\n".join(["time_utc,value", *rows]) + "\n"
