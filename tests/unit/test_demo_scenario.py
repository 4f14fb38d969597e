"""The demonstration's plan and its verdicts: real prices in, honest answers out."""

from __future__ import annotations

import csv
import os
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path

import pytest

from api.demo import prices, scenario
from api.demo.machine import usable_cores
from api.schemas import JobIn
from power.series import Series
from scheduler.config import load_config
from scheduler.policy.price_rule import PriceRule, RuleAction, preview

SITE = scenario.Site(backend="simulated", count=8, model="A40", max_cap_w=300.0)
SPEED = scenario.Speed(steps_per_s=6.0, cores=2)
HOUR = timedelta(hours=1)


def series() -> Series:
    values = enumerate(prices.PRICES_PER_MWH)
    return Series.from_starts((prices.FIRST_HOUR + hour * HOUR, value) for hour, value in values)


@pytest.mark.parametrize(
    ("file", "figures"),
    [
        ("prices/DE-LU_dayahead_60min_2023.csv", prices.PRICES_PER_MWH),
        ("carbon/DE_lca_60min_2023.csv", prices.CARBON_G_PER_KWH),
    ],
)
def test_the_figures_are_those_of_the_real_days(
    data_dir: Path, file: str, figures: tuple[float, ...]
) -> None:
    with (data_dir / "grid" / file).open() as rows:
        real = {row["time_utc"]: float(row["value"]) for row in csv.DictReader(rows)}
    hours = [prices.FIRST_HOUR + hour * HOUR for hour in range(len(figures))]
    assert [real[f"{hour:%Y-%m-%dT%H:%M:%SZ}"] for hour in hours] == list(figures)


@pytest.mark.parametrize("rate", [scenario.DEFAULT_RATE, scenario.FASTEST_RATE])
def test_prices_above_both_thresholds_last_thirty_real_seconds(rate: float) -> None:
    from_spike = series().between(scenario.SPIKE_START, scenario.REPLAY_END)
    capped = list(takewhile(lambda slot: slot.value > scenario.CAP_ABOVE_PER_MWH, from_spike))
    paused = list(takewhile(lambda slot: slot.value > scenario.CEILING_PER_MWH, from_spike))
    assert capped[-1].end == scenario.SPIKE_END
    assert sum(slot.duration_s for slot in capped) / rate >= 30
    assert sum(slot.duration_s for slot in paused) / rate >= 30
    assert (scenario.SPIKE_START - scenario.START).total_seconds() / rate >= scenario.STARTUP_S + 20


def test_the_rule_is_valid_and_in_force_exactly_in_the_spike() -> None:
    fields = scenario.price_rule()
    rule = PriceRule(**{**fields, "action": RuleAction(fields["action"])})
    first = preview(rule, series().between(scenario.START, scenario.REPLAY_END)).activations[0]
    assert (first.start, first.end) == (scenario.SPIKE_START, scenario.SPIKE_END)


@pytest.mark.parametrize(("gpus", "gang"), [(3, 1), (4, 2), (8, 2)])
def test_the_three_jobs_are_accepted_by_the_api_and_fit_side_by_side(gpus: int, gang: int) -> None:
    jobs = scenario.plan_jobs(SPEED, gpus=gpus)
    specs = [JobIn(**scenario.job_body(job, ["python", "train.py"])).spec() for job in jobs]
    assert [spec.gpus for spec in specs] == [1, gang, 1]
    assert sum(spec.gpus for spec in specs) <= gpus
    assert [spec.contract.flex.share for spec in specs] == [0.0, 0.5, 0.1]
    assert specs[2].contract.price_ceiling_per_mwh == scenario.CEILING_PER_MWH


def test_a_faster_machine_and_a_slower_clock_get_more_steps() -> None:
    base = [job.steps for job in scenario.plan_jobs(SPEED, gpus=8)]
    faster = [job.steps for job in scenario.plan_jobs(replace(SPEED, steps_per_s=60.0), gpus=8)]
    more_cores = [job.steps for job in scenario.plan_jobs(replace(SPEED, cores=16), gpus=8)]
    slow_clock = [job.steps for job in scenario.plan_jobs(SPEED, gpus=8, rate=100.0)]
    for other in (faster, more_cores, slow_clock):
        assert all(a > b for a, b in zip(other, base, strict=True))


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 1.5), ("max 100000", None), ("", None)])
def test_a_container_with_a_quota_has_fewer_cores(tmp_path: Path, quota: str, cores: float | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    bound = float(len(os.sched_getaffinity(0)))
    assert usable_cores(file) == (bound if cores is None else min(bound, cores))


def test_jobs_outlive_the_spike_on_this_plan() -> None:
    """At its planned speed each job still has work when the spike is over."""
    rigid, flexible, pausable = scenario.plan_jobs(replace(SPEED, cores=16), gpus=8)
    until_end_s = (scenario.SPIKE_END - scenario.START).total_seconds() / scenario.DEFAULT_RATE
    trained_s = until_end_s - scenario.STARTUP_S
    assert rigid.steps / SPEED.steps_per_s > trained_s
    assert flexible.steps < rigid.steps
    assert pausable.steps < flexible.steps


def test_the_configuration_is_valid_and_its_budget_has_room_for_all(tmp_path: Path) -> None:
    file = tmp_path / "wattmill.toml"
    text = scenario.config_toml(
        SITE,
        data_dir=str(tmp_path / 'a "quoted" folder'),
        price_csv="/p.csv",
        carbon_csv="/c.csv",
        port=4242,
        rate=300.0,
        real_start=datetime(2026, 1, 1, tzinfo=UTC),
    )
    file.write_text(text)
    config = load_config(file)
    assert tomllib.loads(text)["clock"]["rate"] == config.clock.rate == 300.0
    assert config.storage.data_dir == tmp_path / 'a "quoted" folder'
    assert config.domains[0].limit_w == SITE.limit_w
    assert 4 * 300.0 + scenario.BASE_LOAD_W < SITE.limit_w < 8 * 300.0
