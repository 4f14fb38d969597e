"""From options to outcomes: several policies on one scenario, in one process or more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scheduler.policy.policy import UnknownPolicy
from scheduler.simulation.clusters import uniform_cluster
from scheduler.simulation.model import BadInput
from scheduler.simulation.results import write_results
from scheduler.simulation.study import Study, latest_ends_s, run_study, uncapped_peak_w
from tests.simulate_builders import GPUS, JOBS, Inputs

TWO = ("backfill", "wattmill")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.in_folder(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def study(inputs: Inputs) -> Study:
    return run_study(inputs.options(), TWO)


def written(study: Study, folder: Path) -> dict[str, bytes]:
    """All result files but the one that tells how long it took."""
    files = write_results(folder, study.outcomes, study.bound, study.inputs, with_plots=False)
    return {path.name: path.read_bytes() for path in files if path.name != "timing.json"}


def test_all_policies_have_the_same_jobs_and_the_bound_is_below_them(study: Study) -> None:
    assert [outcome.policy for outcome in study.outcomes] == list(TWO)
    assert all(outcome.scenario == study.scenario for outcome in study.outcomes)
    assert all(np.isfinite(outcome.jobs.ended_s).all() for outcome in study.outcomes)
    assert study.bound is not None
    assert 0 < study.bound.cost < min(outcome.jobs.cost.sum() for outcome in study.outcomes)


def test_two_processes_give_what_one_gives(study: Study, inputs: Inputs, tmp_path: Path) -> None:
    shares: list[Mapping[str, float]] = []
    apart = run_study(inputs.options(), TWO, processes=2, watch=shares.append)
    for one, other in zip(study.outcomes, apart.outcomes, strict=True):
        for part in ("jobs", "power"):
            for name, column in vars(getattr(one, part)).items():
                assert np.array_equal(column, getattr(getattr(other, part), name), equal_nan=True), name
    assert written(study, tmp_path / "one") == written(apart, tmp_path / "two")
    assert shares[-1] == dict.fromkeys(TWO, 1.0)


def test_a_policy_named_twice_runs_once_and_is_told_of_until_it_is_through(inputs: Inputs) -> None:
    shares: list[Mapping[str, float]] = []
    study = run_study(inputs.options(days=(0.0, 0.05)), ("fifo", "backfill", "fifo"), watch=shares.append)
    assert [outcome.policy for outcome in study.outcomes] == ["fifo", "backfill"]
    assert shares[-1] == {"fifo": 1.0, "backfill": 1.0}


def test_without_the_reference_there_is_no_bound(inputs: Inputs) -> None:
    study = run_study(inputs.options(days=(0.0, 0.05)), ("fifo",))
    assert study.bound is None
    assert "no bound: it needs `backfill`" in str(study.inputs["notes"])


def test_a_site_of_two_kinds_has_results_without_a_bound(inputs: Inputs) -> None:
    one = uniform_cluster(gpus=8, model="A40")
    boards = (*one.boards[:4], *(replace(board, model="V100") for board in one.boards[4:]))
    options = replace(inputs.options(days=(0.0, 0.05)), cluster=replace(one, name="mixed", boards=boards))
    study = run_study(options, ("backfill",))
    assert np.isfinite(study.outcomes[0].jobs.ended_s).all()
    assert study.bound is None
    assert "no bound: it is for GPUs of one kind, and mixed has 2" in str(study.inputs["notes"])


def test_a_budget_in_per_cent_is_of_the_uncapped_peak(inputs: Inputs, study: Study) -> None:
    options = inputs.options(days=(0.0, 0.1), patience_s=86400.0)
    peak_w = uncapped_peak_w(replace(options, budget="70%"))
    assert peak_w == uncapped_peak_w(options)
    limited = run_study(replace(options, budget="70%"), ("uniform_cap",))
    assert [budget.limit_w for budget in limited.scenario.budgets] == [pytest.approx(0.7 * peak_w)]
    for outcome in limited.outcomes:
        assert outcome.power.limit_w[0] == pytest.approx(0.7 * peak_w)
        assert outcome.power.excess_caps_w.max() == 0.0
    assert limited.inputs["peak_w"] == peak_w


def test_so_is_one_in_a_schedule(inputs: Inputs, tmp_path: Path) -> None:
    options, schedule = inputs.options(days=(0.0, 0.1)), tmp_path / "budget.csv"
    schedule.write_text("start_utc,limit_w\n2023-06-01T01:00Z,80%\n2023-06-01T02:00Z,90%\n")
    limited = run_study(replace(options, budget=str(schedule)), ("uniform_cap",))
    shares = [budget.limit_w / uncapped_peak_w(options) for budget in limited.scenario.budgets]
    assert shares == pytest.approx([0.8, 0.9])


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        (("backfill", "wattmil"), "no policy 'wattmil'; there are fifo, backfill"),
        (("backfill", "uniform_cap:level=1"), "has no option 'level'; it has share"),
        (("backfill", "uniform_cap:share=2"), "share must be above 0 and at most 1"),
    ],
)
def test_a_wrong_policy_is_heard_of_before_anything_runs(
    inputs: Inputs, policies: tuple[str, ...], told: str
) -> None:
    shares: list[Mapping[str, float]] = []
    with pytest.raises(UnknownPolicy, match=told):
        run_study(inputs.options(), policies, watch=shares.append)
    assert shares == []


def test_a_file_that_is_bad_is_named(inputs: Inputs, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("job_id,submit_s,gpus,duration_s\na,0,none,60\n")
    with pytest.raises(BadInput, match=r"bad\.csv.*line 2.*gpus"):
        run_study(replace(inputs.options(), trace=bad), TWO)


def test_the_inputs_say_enough_to_do_it_again(study: Study, inputs: Inputs) -> None:
    told = study.inputs
    assert told["jobs"] == JOBS
    assert told["cluster"] == {"name": f"{GPUS} x A40", "gpus": GPUS}
    assert told["policies"] == list(TWO)
    files = told["files"]
    assert isinstance(files, dict)
    assert files["trace"]["name"] == inputs.trace.name
    assert len(files["prices"]["sha256"]) == 64


def test_the_latest_end_binds_only_who_cannot_wait(study: Study) -> None:
    reference, latest_s = study.outcomes[0], latest_ends_s(study.outcomes[0])
    pausable = np.array([job.spec.contract.pausable for job in study.scenario.jobs])
    assert pausable.any()
    assert not pausable.all()
    assert np.isinf(latest_s[pausable]).all()
    assert (latest_s[~pausable] > reference.jobs.ended_s[~pausable]).all()
