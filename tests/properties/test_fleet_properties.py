"""However a fleet came to hold its jobs: its picture is the one that the jobs themselves would give."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from power.curve import prior
from scheduler.snapshot import GpuView, JobView
from tests.builders import gpus, job, running, view
from tests.fleet_builders import fleet, picture

GPUS = 5
CURVES = [prior("A40", min_cap_w=100, max_cap_w=300, workload=w) for w in ("bert", "ncf", None)]

names = st.sampled_from([f"job_{letter}" for letter in "abcdefgh"])


@st.composite
def views(draw: st.DrawFn) -> JobView:
    """A queued or running job; runs may claim GPUs that others claim, and one that is gone."""
    what = job(
        draw(names), minutes_ago=draw(st.integers(0, 3)), gpu_type=draw(st.sampled_from([None, "a40"]))
    )
    held = draw(st.lists(st.integers(0, GPUS), max_size=3, unique=True))
    return view(
        running(what, *held) if held else what,
        curve=draw(st.sampled_from(CURVES)),
        remaining_s=draw(st.sampled_from([None, 60.0])),
        rule_cap_share=draw(st.sampled_from([None, 0.6])),
        rule_pause=draw(st.sampled_from([None, "peak"])),
        eligible=draw(st.booleans()),
    )


class Changes(RuleBasedStateMachine):
    """Jobs come, change and go."""

    def __init__(self) -> None:
        super().__init__()
        self.site = fleet(GPUS)
        self.here: dict[str, JobView] = {}

    @rule(what=views())
    def put(self, what: JobView) -> None:
        self.site.put_job(what)
        self.here[what.job.id] = what

    @rule(name=names)
    def drop(self, name: str) -> None:
        if self.here.pop(name, None) is not None:
            self.site.drop_job(name)

    @invariant()
    def the_picture_is_that_of_the_jobs(self) -> None:
        seen = picture(self.site)
        assert {item.job.id: item for item in seen.jobs} == self.here
        assert [seen.jobs.row_of[name] for name in seen.jobs.ids] == list(range(len(self.here)))
        assert [gpu.run_id for gpu in seen.gpus] == [self.expected(gpu) for gpu in gpus(GPUS)]
        for row, item in enumerate(seen.jobs):
            own = [seen.gpus[int(r)] for r in seen.gpu_rows(row)]
            assert all(item.job.run is not None and gpu.run_id == item.job.run.id for gpu in own)
        assert seen.but(jobs=tuple(seen.jobs)).complete.tolist() == seen.complete.tolist()

    def expected(self, gpu: GpuView) -> str | None:
        """The run of the oldest job that claims it."""
        runs = [
            (v.job.submitted_at, v.job.id, v.job.run) for v in self.here.values() if v.job.run is not None
        ]
        claims = [(at, name, run.id) for at, name, run in runs if gpu.uuid in run.gpu_uuids]
        return min(claims)[2] if claims else None


TestChanges = Changes.TestCase
TestChanges.settings = settings(deadline=None, max_examples=60, stateful_step_count=25)


def test_values_that_nobody_has_any_more_are_thrown_out() -> None:
    site = fleet(1)
    for number in range(2000):
        site.put_job(view(job("a"), curve=replace(CURVES[0], demand_w=100.0 + number / 100)))
        seen = picture(site)
        assert seen.jobs[0].curve.demand_w == 100.0 + number / 100
    assert len(seen.jobs.curves.curves) < 1000
