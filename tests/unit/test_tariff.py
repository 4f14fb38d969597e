"""What a kWh costs: energy, adders, tax."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from power.series import Series, Slot
from power.tariff import PLAIN, Tariff

START = datetime(2026, 1, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("tariff", "energy_per_mwh", "expected_per_mwh"),
    [
        (PLAIN, 90.0, 90.0),
        (PLAIN, -500.0, -500.0),
        (PLAIN, 0.0, 0.0),
        (Tariff(network_per_mwh=30, levies_per_mwh=10), 90.0, 130.0),
        (Tariff(network_per_mwh=30, tax_share=0.19), 70.0, 119.0),
        (Tariff(network_per_mwh=30), -50.0, -20.0),
        (Tariff(network_per_mwh=30, tax_share=0.5), -50.0, -30.0),
    ],
)
def test_adders_come_on_the_energy_and_tax_on_all(
    tariff: Tariff, energy_per_mwh: float, expected_per_mwh: float
) -> None:
    assert tariff.price_per_mwh(energy_per_mwh) == pytest.approx(expected_per_mwh)
    assert tariff.price_per_kwh(energy_per_mwh) == pytest.approx(expected_per_mwh / 1000)


def test_a_megawatt_hour_of_joules_costs_the_price_of_a_megawatt_hour() -> None:
    assert PLAIN.cost(3.6e9, 90.0) == pytest.approx(90.0)
    assert Tariff(network_per_mwh=10).cost(3.6e6, 90.0) == pytest.approx(0.1)


def test_a_series_keeps_its_slots_and_gaps() -> None:
    energy = Series((Slot(START, START + HOUR, 50.0), Slot(START + 2 * HOUR, START + 3 * HOUR, -50.0)))
    full = Tariff(levies_per_mwh=20).prices(energy)
    assert [(slot.start, slot.end, slot.value) for slot in full] == [
        (START, START + HOUR, 70.0),
        (START + 2 * HOUR, START + 3 * HOUR, -30.0),
    ]


@pytest.mark.parametrize(
    "values", [{"network_per_mwh": float("nan")}, {"levies_per_mwh": float("inf")}, {"tax_share": -0.1}]
)
def test_figures_that_are_none_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Tariff(**values)
