"""Recorded prices for a simulation, and all its inputs put together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from power.grid.feed import Kind
from scheduler.model import Flex
from scheduler.simulation.clusters import uniform_cluster
from scheduler.simulation.model import BadInput, Cluster, Scenario, SimulatedJob
from scheduler.simulation.scenarios import ScenarioOptions, scenario_of
from scheduler.simulation.series_files import first_gap, read_series
from tests.builders import hours, prices

START = datetime(2023, 6, 1, tzinfo=UTC)
END = START + timedelta(days=2)


def price_file(folder: Path, start: datetime, values: list[float | None], name: str = "prices.csv") -> Path:
    """Hourly values from `start`; None = the hour is missing."""
    path = folder / name
    rows = [
        f"{(start + hours(i)).isoformat().replace('+00:00', 'Z')},{value}"
        for i, value in enumerate(values)
        if value is not None
    ]
    path.write_text("\n".join(["time_utc,value", *rows]) + "\n")
    return path


class TestSeries:
    def test_it_covers_the_days_and_brings_what_lies_before_and_behind(self, tmp_path: Path) -> None:
        path = price_file(tmp_path, START - timedelta(days=40), [float(i % 24) for i in range(24 * 60)])
        series = read_series(path, Kind.PRICE, start=START, end=END, until=END + hours(5))
        assert series.slots[0].start == START - timedelta(days=35)
        assert series.slots[-1].end == END + hours(5)
        assert series.at(START + hours(7.5)) == 7.0

    def test_it_may_end_before_the_simulation_does(self, tmp_path: Path) -> None:
        path = price_file(tmp_path, START, [50.0] * 48)
        assert read_series(path, Kind.PRICE, start=START, end=END, until=END + hours(99)).slots[-1].end == END

    @pytest.mark.parametrize(
        ("start", "values", "gap"),
        [
            (START + hours(1), [50.0] * 60, "2023-06-01T00:00:00.00:00 to 2023-06-01T01:00"),
            (START, [50.0] * 47, "2023-06-02T23:00:00.00:00 to 2023-06-03T00:00"),
            (START, [50.0] * 20 + [None] * 3 + [50.0] * 30, "2023-06-01T20:00:00.00:00 to 2023-06-01T23:00"),
        ],
    )
    def test_the_first_gap_is_named(
        self, tmp_path: Path, start: datetime, values: list[float | None], gap: str
    ) -> None:
        with pytest.raises(BadInput, match=f"does not cover .*no price from {gap}"):
            read_series(price_file(tmp_path, start, values), Kind.PRICE, start=START, end=END)

    def test_a_point_that_cannot_be_used_is_named(self, tmp_path: Path) -> None:
        path = price_file(tmp_path, START, [50.0, 99999.0, *[50.0] * 46])
        with pytest.raises(BadInput, match=r"1 point\(s\) cannot be used.*\n.*T01:00:00Z: 99999 is outside"):
            read_series(path, Kind.PRICE, start=START, end=END)

    @pytest.mark.parametrize(
        ("text", "said"),
        [("when,what\n", "first line must be"), ("time_utc,value\n2019-01-01T00:00Z,5\n", "nothing of")],
    )
    def test_a_file_that_cannot_serve_is_refused(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "prices.csv"
        path.write_text(text)
        with pytest.raises(BadInput, match=said) as error:
            read_series(path, Kind.PRICE, start=START, end=END)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        ("row", "gap"),
        [("1 2 3 4", None), ("1 2 3", None), ("1 - 3 4", (1, 2)), ("1 2 - - 5", (2, 4)), ("- 2 3 4", (0, 1))],
    )
    def test_gaps_are_found(self, row: str, gap: tuple[int, int] | None) -> None:
        found = first_gap(prices(row, start=START), START, START + hours(len(row.split())))
        assert found == (None if gap is None else (START + hours(gap[0]), START + hours(gap[1])))


class TestScenario:
    def options(self, folder: Path, **changes: Any) -> ScenarioOptions:
        """Two days of 240 jobs, a job of 64 GPUs among them, on 16 A100s."""
        rows = [
            f"job_{i:03},{i * 700},{1 + i % 8},{600 + 37 * i},{'red' if i % 3 else 'blue'}"
            for i in range(239)
        ]
        trace = folder / "trace.csv"
        trace.write_text(
            "\n".join(["job_id,submit_s,gpus,duration_s,vc", *rows, "wide,170000,64,3600,red"]) + "\n"
        )
        fields: dict[str, Any] = {
            "trace": trace,
            "prices": price_file(folder, START - timedelta(days=36), [40.0] * 24 * 50),
            "cluster": uniform_cluster(gpus=16, model="NVIDIA A100"),
            "start": START,
            "seed": 3,
        }
        return ScenarioOptions(**(fields | changes))

    def jobs(self, folder: Path, **changes: Any) -> dict[str, SimulatedJob]:
        return {job.id: job for job in scenario_of(self.options(folder, **changes)).jobs}

    def test_it_is_put_together_from_plain_arguments(self, tmp_path: Path) -> None:
        carbon = price_file(tmp_path, START, [300.0] * 48, name="carbon.csv")
        scenario = scenario_of(
            self.options(tmp_path, carbon=carbon, budget="50%", peak_w=20_000.0, headroom_w=50.0)
        )
        assert (scenario.start, scenario.end) == (START, END)
        assert len(scenario.jobs) == 239
        assert [budget.limit_w for budget in scenario.budgets] == [10_000.0]
        assert scenario.prices.at(END + hours(1)) == 40.0
        assert scenario.carbon.at(START) == 300.0
        assert scenario.headroom_w == 50.0
        assert scenario.value_per_gpu_h == {"low": 0.5, "standard": 1.5, "high": 4.0}
        assert scenario.notes == (
            "left out: 1 jobs (64 GPU-hours) that ask for more than 16 GPUs, the largest gang",
        )

    def test_jobs_say_what_their_owners_know_of_them(self, tmp_path: Path) -> None:
        jobs = self.jobs(tmp_path)
        assert {job.spec.contract.flex for job in jobs.values()} == set(Flex)
        for number, job in enumerate(jobs.values()):
            spec = job.spec
            assert (spec.gpus, job.work_s) == (1 + number % 8, 600 + 37 * number)
            assert spec.project == ("red" if number % 3 else "blue")
            assert spec.priority == "standard"
            assert spec.estimate_s is not None
            assert spec.estimate_s != job.work_s
            if spec.contract.pausable:
                due_s = 2 * job.work_s + 12 * 3600
                assert spec.contract.deadline == job.submitted_at + timedelta(seconds=due_s)

    def test_a_job_with_a_deadline_always_has_an_estimate(self, tmp_path: Path) -> None:
        for job in self.jobs(tmp_path, no_estimate=1.0).values():
            assert (job.spec.estimate_s is not None) == (job.spec.contract.deadline is not None)

    def test_one_seed_makes_one_scenario(self, tmp_path: Path) -> None:
        assert self.jobs(tmp_path) == self.jobs(tmp_path)
        assert self.jobs(tmp_path) != self.jobs(tmp_path, seed=4)

    @pytest.mark.parametrize(
        ("changes", "may_differ"),
        [
            ({"contracts": "none:0.5,high:0.5"}, {"contract"}),
            ({"deadline": "9x"}, {"contract"}),
            ({"estimate_error": 0.6}, {"estimate_s"}),
            ({"no_estimate": 0.5}, {"estimate_s"}),
            ({"workloads": "bert:0.5,ncf:0.5"}, {"workload"}),
            ({"priority": "low"}, {"priority"}),
            ({"cluster": uniform_cluster(gpus=4, model="NVIDIA A40")}, {"contract"}),
            ({"days": (1.0, 2.0)}, {"contract"}),
            ({"vc": "blue"}, {"contract"}),
        ],
    )
    def test_one_option_reshuffles_nothing_else(
        self, tmp_path: Path, changes: dict[str, Any], may_differ: set[str]
    ) -> None:
        before, after = self.jobs(tmp_path), self.jobs(tmp_path, **changes)
        differs = {
            name
            for job_id, job in after.items()
            for name in ("contract", "estimate_s", "workload", "priority", "project", "gpus")
            if getattr(job.spec, name) != getattr(before[job_id].spec, name)
        }
        assert after
        assert differs == may_differ

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"priority": "urgent"}, "'urgent' is no class; the classes are low, standard, high"),
            ({"seed": -1}, "seed"),
            ({"contracts": "none:1,low:1"}, "contracts"),
            ({"estimate_error": -1.0}, "estimate error"),
            ({"budget": "10%"}, "peak"),
            ({"days": (9.0, 10.0)}, "no job is left"),
            ({"start": START + timedelta(days=90)}, "nothing of"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(BadInput, match=said):
            scenario_of(self.options(tmp_path, **changes))

    def test_values_may_be_given_by_class(self, tmp_path: Path) -> None:
        scenario = scenario_of(self.options(tmp_path, priority="bulk", value_per_gpu_h={"bulk": 0.1}))
        assert scenario.value_per_gpu_h == {"bulk": 0.1}


class TestRecordedDays:
    def test_a_week_of_a_real_cluster_meets_the_prices_of_its_own_days(self, data_dir: Path) -> None:
        cluster: Cluster = uniform_cluster(gpus=512, model="NVIDIA A100")
        options = ScenarioOptions(
            trace=data_dir / "jobs/msitp_2021_days_0-30.csv",
            prices=data_dir / "grid/prices/DE-LU_dayahead_60min_2023.csv",
            carbon=data_dir / "grid/carbon/DE_lca_60min_2023.csv",
            cluster=cluster,
            start=START,
            days=(7.0, 14.0),
            vc="cluster04",
        )
        scenario: Scenario = scenario_of(options)
        submitted = [job.submitted_at for job in scenario.jobs]
        assert scenario.start == START + timedelta(days=7)
        assert submitted == sorted(submitted)
        assert scenario.start <= submitted[0] <= submitted[-1] < scenario.end
        assert first_gap(scenario.carbon, scenario.start, scenario.end) is None
        assert len(scenario.notes) == 2
        with pytest.raises(BadInput, match=r"does not cover|nothing of"):
            scenario_of(replace(options, start=datetime(2023, 12, 20, tzinfo=UTC)))
