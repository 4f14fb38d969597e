"""The Prometheus text: one table of names, unknown left out, nothing can break it."""

from __future__ import annotations

import re
from typing import Any, get_type_hints

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scheduler.published import (
    CertificateState,
    DomainState,
    GpuState,
    JobPowerState,
    PublishedState,
)
from telemetry.metrics import BY_NAME, METRICS, counter_key, render

DOMAIN: DomainState = {
    "name": "site",
    "parent": None,
    "limit_w": 2000.0,
    "base_load_w": 100.0,
    "accounted_w": 900.0,
    "draw_w": 700.0,
}
GPU: GpuState = {
    "uuid": "GPU-51",
    "index": 0,
    "model": "A40",
    "node": "node",
    "power_w": 250.0,
    "cap_w": 300.0,
    "min_cap_w": 100.0,
    "max_cap_w": 300.0,
    "accounted_w": 300.0,
    "utilization": 0.97,
    "memory_used_bytes": 1024,
    "temperature_c": 61.0,
    "sm_clock_hz": 1.7e9,
    "throttle_reasons": [],
    "pids": [1],
    "job_id": "job_1",
    "run_id": "run_1",
    "settable": True,
    "healthy": True,
    "cordoned": False,
    "foreign": False,
    "sample_age_s": 0.3,
    "error": None,
}
JOB: JobPowerState = {
    "job_id": "job_1",
    "run_id": "run_1",
    "cap_w": 300.0,
    "draw_w": 250.0,
    "throughput_share": 0.9,
    "samples_per_s": 12.5,
    "step": 3,
    "total_steps": 9,
    "promised_share": 0.1,
    "used_share": 0.061,
    "stop_lost_s": 60.0,
    "stop_cost": 0.05,
    "frozen": False,
    "condition": "CAPPED_PRICE",
    "cause": "rule spike",
}
CERTIFICATE: CertificateState = {
    "step": "place",
    "value": 9.0,
    "bound": 10.0,
    "gap": 0.1,
    "solve_s": 0.2,
    "fallback": "greedy",
    "scope": None,
    "at": "2026-01-15T12:00:00+00:00",
}
STATE: PublishedState = {
    "at": "2026-01-15T12:00:00+00:00",
    "real_at": "2026-02-01T00:00:00+00:00",
    "cycle": 42,
    "controller_pid": 7,
    "backend": "simulated",
    "clock_rate": 96.0,
    "currency": "EUR",
    "degraded": ["no_prices"],
    "price_per_mwh": -5.25,
    "price_source": "csv:prices.csv",
    "price_age_s": 60.0,
    "carbon_g_per_kwh": 380.0,
    "carbon_source": "fixed",
    "carbon_age_s": 0.0,
    "active_rules": ["spike"],
    "domains": [DOMAIN],
    "gpus": [GPU],
    "jobs": [JOB],
    "certificates": [CERTIFICATE],
    "plan_age_s": 42.0,
    "plan_jobs": 3,
    "capd": {"alive": True, "epoch": 3, "lease_age_s": 0.5, "drifts": 2},
    "counters": {"wattmill_launches_total": 5},
}


def samples(state: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels, as Prometheus' own parser reads them."""
    found = {}
    for family in text_string_to_metric_families(render(state).decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def test_a_full_state_comes_out_under_its_names() -> None:
    found = samples(STATE)
    gpu = (("gpu", "GPU-51"), ("index", "0"), ("model", "A40"), ("node", "node"))
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("wattmill_price_per_mwh", (("currency", "EUR"), ("source", "csv:prices.csv"))): -5.25,
        ("wattmill_degraded", (("state", "no_prices"),)): 1,
        ("wattmill_price_rule_active", (("rule", "spike"),)): 1,
        ("wattmill_domain_limit_watts", (("domain", "site"),)): 2000,
        ("wattmill_gpu_power_watts", gpu): 250,
        ("wattmill_gpu_settable", gpu): 1,
        ("wattmill_gpu_foreign", gpu): 0,
        ("wattmill_job_condition", (("condition", "CAPPED_PRICE"), ("job", "job_1"))): 1,
        ("wattmill_job_slowdown_used_ratio", (("job", "job_1"),)): 0.061,
        ("wattmill_decision_fallback", (("fallback", "greedy"), ("step", "place"))): 1,
        ("wattmill_plan_age_seconds", ()): 42,
        ("wattmill_plan_jobs", ()): 3,
        ("wattmill_capd_alive", ()): 1,
        ("wattmill_cap_drifts_total", ()): 2,
        ("wattmill_cycles_total", ()): 42,
        ("wattmill_launches_total", ()): 5,
        ("wattmill_state_timestamp_seconds", ()): 1769904000,
        ("wattmill_unlisted_counters", ()): 0,
    }
    assert expected.items() <= found.items()


def test_what_is_unknown_is_left_out_and_not_zero() -> None:
    found = samples(
        {
            **STATE,
            "price_per_mwh": None,
            "domains": [{**DOMAIN, "limit_w": None, "draw_w": None}],
            "gpus": [{**GPU, "power_w": None, "cap_w": float("nan"), "temperature_c": float("inf")}],
        }
    )
    names = {name for name, _ in found}
    assert not names & {
        "wattmill_price_per_mwh",
        "wattmill_domain_limit_watts",
        "wattmill_domain_draw_watts",
        "wattmill_gpu_power_watts",
        "wattmill_gpu_cap_watts",
        "wattmill_gpu_temperature_celsius",
    }


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"gpus": None, "jobs": None, "domains": None, "capd": None, "counters": None},
        {"gpus": [{}], "jobs": [{}], "domains": [{}], "certificates": [{}], "capd": {}},
        {"at": "yesterday", "real_at": 5, "price_per_mwh": "12", "cycle": None},
        {"counters": {"": 1, "{": 2, "wattmill_x_total": 3, "wattmill_launches_total{": 4}},
    ],
)
def test_no_state_breaks_it(state: dict[str, Any]) -> None:
    samples(state)


def test_a_counter_that_the_table_lacks_is_counted_and_not_shown() -> None:
    found = samples({"counters": {"wattmill_nonsense_total": 1, "wattmill_launches_total": 2}})
    assert found == {("wattmill_unlisted_counters", ()): 1, ("wattmill_launches_total", ()): 2}


def test_text_from_outside_cannot_forge_a_line() -> None:
    evil = 'a"} 1\nwattmill_capd_alive 0\\'
    found = samples(
        {"active_rules": [evil], "counters": {counter_key("wattmill_runs_ended_total", reason=evil): 3}}
    )
    assert found[("wattmill_price_rule_active", (("rule", evil),))] == 1
    assert found[("wattmill_runs_ended_total", (("reason", evil),))] == 3
    assert ("wattmill_capd_alive", ()) not in found


def test_counter_keys_are_of_the_table() -> None:
    assert counter_key("wattmill_launches_total") == "wattmill_launches_total"
    key = counter_key("wattmill_feed_fetches_total", result="ok", kind="price")
    assert key == 'wattmill_feed_fetches_total{kind="price",result="ok"}'
    for name, labels in (
        ("wattmill_nonsense_total", {}),
        ("wattmill_launches_total", {"x": "y"}),
        ("wattmill_runs_ended_total", {}),
        ("wattmill_capd_alive", {}),
    ):
        with pytest.raises(KeyError):
            counter_key(name, **labels)


class TestTable:
    def test_names_follow_the_rules_of_prometheus(self) -> None:
        assert len(BY_NAME) == len(METRICS)
        for spec in METRICS:
            assert re.fullmatch(r"wattmill_[a-z0-9_]+", spec.name)
            assert spec.name.endswith("_total") == (spec.type == "counter")
            assert spec.help
            assert not spec.help.endswith(".")

    def test_every_source_is_a_column_of_the_published_state(self) -> None:
        groups: dict[str, Any] = {
            "": PublishedState,
            "domains": DomainState,
            "gpus": GpuState,
            "jobs": JobPowerState,
            "certificates": CertificateState,
        }
        for spec in METRICS:
            group, dot, column = spec.source.partition(".")
            if dot and group != "capd":
                assert column in get_type_hints(groups[group]), spec.source

    def test_every_gauge_has_a_value_in_a_full_state(self) -> None:
        shown = {name for name, _ in samples(STATE)}
        assert {spec.name for spec in METRICS if spec.type == "gauge"} <= shown
