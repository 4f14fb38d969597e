"""Every Prometheus metric of wattmill, in one table; `metrics.py` renders it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: its name carries the unit, `labels` are in order.

    `source` is where its value stands in the published state, `list.column` or `.column`; without one the
    value is worked out below, or counted by name in the state's `counters`.
    """

    name: str
    type: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()
    source: str = ""


_GPU = ("gpu", "index", "model", "node")
_JOB = ("job",)

METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "wattmill_state_timestamp_seconds", "gauge", "Unix time at which the controller published this state"
    ),
    MetricSpec("wattmill_grid_timestamp_seconds", "gauge", "Grid time of this state, Unix seconds"),
    MetricSpec(
        "wattmill_clock_rate", "gauge", "Grid seconds per real second; 1 in production", source=".clock_rate"
    ),
    MetricSpec(
        "wattmill_controller_info", "gauge", "Always 1; how the controller runs", ("backend", "currency")
    ),
    MetricSpec("wattmill_degraded", "gauge", "1 while this fallback is in use", ("state",)),
    MetricSpec("wattmill_price_per_mwh", "gauge", "Energy price now, money per MWh", ("currency", "source")),
    MetricSpec(
        "wattmill_price_age_seconds",
        "gauge",
        "Grid seconds since the price's source answered",
        source=".price_age_s",
    ),
    MetricSpec(
        "wattmill_carbon_grams_per_kwh", "gauge", "Average carbon intensity now, CO2 equivalent", ("source",)
    ),
    MetricSpec("wattmill_price_rule_active", "gauge", "1 while this price rule is in force", ("rule",)),
    MetricSpec(
        "wattmill_domain_limit_watts",
        "gauge",
        "Limit of a power domain now; absent = none",
        ("domain",),
        source="domains.limit_w",
    ),
    MetricSpec(
        "wattmill_domain_base_load_watts",
        "gauge",
        "Watts that are always drawn in a domain",
        ("domain",),
        source="domains.base_load_w",
    ),
    MetricSpec(
        "wattmill_domain_accounted_watts",
        "gauge",
        "Worst case: base loads, and GPUs at confirmed caps",
        ("domain",),
        source="domains.accounted_w",
    ),
    MetricSpec(
        "wattmill_domain_draw_watts",
        "gauge",
        "Measured GPUs plus base loads",
        ("domain",),
        source="domains.draw_w",
    ),
    MetricSpec("wattmill_gpu_power_watts", "gauge", "Measured draw of a GPU", _GPU, source="gpus.power_w"),
    MetricSpec(
        "wattmill_gpu_cap_watts", "gauge", "Confirmed power limit of a GPU", _GPU, source="gpus.cap_w"
    ),
    MetricSpec(
        "wattmill_gpu_accounted_watts",
        "gauge",
        "What a GPU counts against budgets",
        _GPU,
        source="gpus.accounted_w",
    ),
    MetricSpec(
        "wattmill_gpu_utilization_ratio",
        "gauge",
        "Share of time with a kernel running, 0 to 1",
        _GPU,
        source="gpus.utilization",
    ),
    MetricSpec(
        "wattmill_gpu_memory_used_bytes", "gauge", "GPU memory in use", _GPU, source="gpus.memory_used_bytes"
    ),
    MetricSpec(
        "wattmill_gpu_temperature_celsius", "gauge", "GPU temperature", _GPU, source="gpus.temperature_c"
    ),
    MetricSpec(
        "wattmill_gpu_sm_clock_hertz",
        "gauge",
        "Clock of the streaming multiprocessors",
        _GPU,
        source="gpus.sm_clock_hz",
    ),
    MetricSpec(
        "wattmill_gpu_sample_age_seconds",
        "gauge",
        "Age of the last good reading of a GPU",
        _GPU,
        source="gpus.sample_age_s",
    ),
    MetricSpec(
        "wattmill_gpu_settable",
        "gauge",
        "1 if the power limit of a GPU can be set",
        _GPU,
        source="gpus.settable",
    ),
    MetricSpec("wattmill_gpu_healthy", "gauge", "1 if a GPU can be read", _GPU, source="gpus.healthy"),
    MetricSpec(
        "wattmill_gpu_cordoned", "gauge", "1 if a GPU takes no new jobs", _GPU, source="gpus.cordoned"
    ),
    MetricSpec(
        "wattmill_gpu_foreign",
        "gauge",
        "1 if a process that is not a job uses a GPU",
        _GPU,
        source="gpus.foreign",
    ),
    MetricSpec(
        "wattmill_job_cap_watts", "gauge", "Cap of each GPU of a running job", _JOB, source="jobs.cap_w"
    ),
    MetricSpec(
        "wattmill_job_draw_watts", "gauge", "Measured draw of all GPUs of a job", _JOB, source="jobs.draw_w"
    ),
    MetricSpec(
        "wattmill_job_throughput_ratio",
        "gauge",
        "Throughput at its cap, of uncapped, by its curve",
        _JOB,
        source="jobs.throughput_share",
    ),
    MetricSpec(
        "wattmill_job_samples_per_second",
        "gauge",
        "Progress as the job itself reports it",
        _JOB,
        source="jobs.samples_per_s",
    ),
    MetricSpec(
        "wattmill_job_slowdown_promised_ratio",
        "gauge",
        "Slowdown that the job's contract allows",
        _JOB,
        source="jobs.promised_share",
    ),
    MetricSpec(
        "wattmill_job_slowdown_used_ratio",
        "gauge",
        "Slowdown so far over its running time",
        _JOB,
        source="jobs.used_share",
    ),
    MetricSpec(
        "wattmill_job_frozen", "gauge", "1 while a job is paused in place", _JOB, source="jobs.frozen"
    ),
    MetricSpec("wattmill_job_condition", "gauge", "1 for the condition a job is in", ("job", "condition")),
    MetricSpec(
        "wattmill_decision_value",
        "gauge",
        "Value of the last answer, money per hour; plan: money",
        ("step",),
        source="certificates.value",
    ),
    MetricSpec(
        "wattmill_decision_bound",
        "gauge",
        "What no answer can beat, in the same unit",
        ("step",),
        source="certificates.bound",
    ),
    MetricSpec(
        "wattmill_decision_gap_ratio",
        "gauge",
        "Share of the possible gain that the answer leaves",
        ("step",),
        source="certificates.gap",
    ),
    MetricSpec(
        "wattmill_decision_solve_seconds",
        "gauge",
        "Time that the last answer took",
        ("step",),
        source="certificates.solve_s",
    ),
    MetricSpec(
        "wattmill_decision_fallback",
        "gauge",
        "1 if a simpler method gave the last answer",
        ("step", "fallback"),
    ),
    MetricSpec(
        "wattmill_plan_age_seconds",
        "gauge",
        "Grid seconds since the newest plan was made",
        source=".plan_age_s",
    ),
    MetricSpec(
        "wattmill_plan_jobs", "gauge", "Jobs to which the newest plan gives a time", source=".plan_jobs"
    ),
    MetricSpec("wattmill_capd_alive", "gauge", "1 if the enforcer answers", source="capd.alive"),
    MetricSpec(
        "wattmill_capd_epoch",
        "gauge",
        "Epoch of the controller that holds the enforcer's lease",
        source="capd.epoch",
    ),
    MetricSpec(
        "wattmill_capd_lease_age_seconds",
        "gauge",
        "Time since the lease was renewed",
        source="capd.lease_age_s",
    ),
    MetricSpec("wattmill_cycles_total", "counter", "Turns of the control loop", source=".cycle"),
    MetricSpec("wattmill_cycle_overruns_total", "counter", "Turns that took longer than the period"),
    MetricSpec("wattmill_cycle_faults_total", "counter", "Faults that a turn survived, by kind", ("fault",)),
    MetricSpec("wattmill_cap_sets_total", "counter", "Power limits asked of the enforcer"),
    MetricSpec("wattmill_cap_set_errors_total", "counter", "Power limits that were refused or not confirmed"),
    MetricSpec(
        "wattmill_cap_drifts_total",
        "counter",
        "Power limits that someone else had changed",
        source="capd.drifts",
    ),
    MetricSpec(
        "wattmill_decision_refusals_total", "counter", "Parts of decisions dropped before acting", ("action",)
    ),
    MetricSpec("wattmill_solver_fallbacks_total", "counter", "Answers by a simpler method", ("step",)),
    MetricSpec("wattmill_launches_total", "counter", "Runs launched"),
    MetricSpec("wattmill_launch_failures_total", "counter", "Runs that did not come up"),
    MetricSpec("wattmill_pauses_total", "counter", "Jobs paused"),
    MetricSpec("wattmill_resumes_total", "counter", "Jobs resumed"),
    MetricSpec("wattmill_preemptions_total", "counter", "Jobs stopped for others"),
    MetricSpec("wattmill_runs_ended_total", "counter", "Runs that ended, by reason", ("reason",)),
    MetricSpec(
        "wattmill_budget_exceeded_seconds_total", "counter", "Time a domain drew above its limit", ("domain",)
    ),
    MetricSpec("wattmill_energy_joules_total", "counter", "Energy that jobs' GPUs have drawn, grid time"),
    MetricSpec("wattmill_energy_cost_total", "counter", "What that energy cost at prices of 0 and above"),
    MetricSpec("wattmill_feed_fetches_total", "counter", "Fetches of a signal", ("kind", "result")),
    MetricSpec(
        "wattmill_feed_refused_points_total", "counter", "Points of a signal that were refused", ("kind",)
    ),
    MetricSpec("wattmill_store_errors_total", "counter", "Database calls that failed"),
    MetricSpec(
        "wattmill_unlisted_counters", "gauge", "Published counters that this table lacks; a bug if not 0"
    ),
)

BY_NAME = {spec.name: spec for spec in METRICS}


def counter_key(name: str, **labels: str) -> str:
    """How a counter is written in the published state: `name{label="value"}`, labels in the table's order.

    Raises:
        KeyError: the table has no such counter, or the labels are not its labels.
    """
    spec = BY_NAME[name]
    if spec.type != "counter" or set(labels) != set(spec.labels):
        raise KeyError(f"{name} is no counter with labels {sorted(labels)}")
    inside = ",".join(f'{label}="{_escaped(labels[label])}"' for label in spec.labels)
    return f"{name}{{{inside}}}" if inside else name


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
