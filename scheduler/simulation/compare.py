"""What each policy saved of what could be saved, and how far it stayed from the bound. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scheduler.simulation.bound import Bound
from scheduler.simulation.measures import CANNOT_WAIT, Measures

BASELINE: Final = "backfill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One policy against the baseline and the bound. None = cannot be said.

    `saving_captured` is (baseline - policy) / (baseline - bound) of the cost of busy GPUs, 1 at the bound and
    below 0 for a policy dearer than the baseline; `saving_captured_site` the same of the whole meter. Regret
    is policy - bound, `_share` of the bound. The changes are (policy - baseline) / baseline: -0.1 is a tenth
    less. `at_equal_contracts`: every job ended, by its deadline and within its tier and tolerance. A bound is
    one for such policies alone: a saving of the others is in part paid for by promises.
    """

    saving_captured: float | None
    saving_captured_site: float | None
    regret_cost: float | None
    regret_cost_share: float | None
    regret_site_cost: float | None
    regret_site_cost_share: float | None
    regret_jct: float | None  # seconds of mean completion time
    regret_jct_share: float | None
    gpu_cost_change: float | None
    cost_change: float | None
    energy_change: float | None
    mean_jct_change: float | None
    mean_jct_cannot_wait_change: float | None
    at_equal_contracts: bool


def compare(measures: Mapping[str, Measures], bound: Bound | None = None) -> dict[str, Comparison]:
    """Each policy, in the order given. The baseline is the policy named `backfill`, if there is one."""
    baseline = measures.get(BASELINE)
    return {name: _comparison(ours, baseline, bound) for name, ours in measures.items()}


def _comparison(ours: Measures, baseline: Measures | None, bound: Bound | None) -> Comparison:
    least, least_site = (None, None) if bound is None else (bound.cost, bound.site_cost)
    least_jct_s = None if bound is None else bound.mean_jct_s
    from_gpu, from_site = (None, None) if baseline is None else (baseline.gpu_cost, baseline.cost)
    from_kwh, from_jct_s = (None, None) if baseline is None else (baseline.energy_kwh, baseline.mean_jct_s)
    from_prompt_s = None if baseline is None else baseline.groups[CANNOT_WAIT].mean_jct_s
    return Comparison(
        saving_captured=_captured(ours.gpu_cost, from_gpu, least),
        saving_captured_site=_captured(ours.cost, from_site, least_site),
        regret_cost=_known(ours.gpu_cost, least),
        regret_cost_share=_share(ours.gpu_cost, least),
        regret_site_cost=_known(ours.cost, least_site),
        regret_site_cost_share=_share(ours.cost, least_site),
        regret_jct=_known(ours.mean_jct_s, least_jct_s),
        regret_jct_share=_share(ours.mean_jct_s, least_jct_s),
        gpu_cost_change=_share(ours.gpu_cost, from_gpu),
        cost_change=_share(ours.cost, from_site),
        energy_change=_share(ours.energy_kwh, from_kwh),
        mean_jct_change=_share(ours.mean_jct_s, from_jct_s),
        mean_jct_cannot_wait_change=_share(ours.groups[CANNOT_WAIT].mean_jct_s, from_prompt_s),
        at_equal_contracts=not (
            ours.unfinished or ours.deadlines_missed or ours.contracts_broken_beyond_tolerance
        ),
    )


def _captured(ours: float, baseline: float | None, bound: float | None) -> float | None:
    if baseline is None or bound is None:
        return None
    possible = baseline - bound
    return _finite((baseline - ours) / possible) if possible > 0 else None


def _known(ours: float, other: float | None) -> float | None:
    return None if other is None else _finite(ours - other)


def _share(ours: float, other: float | None) -> float | None:
    """(ours - other) / other; None unless the other is above 0."""
    return _finite((ours - other) / other) if other is not None and other > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
