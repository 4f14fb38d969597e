"""What people send, and how a job looks from outside. Two small converters lead to the domain and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from api.fields import Body, Bool, Instant, Int, Label, Name, Number, Seconds, Text, View
from scheduler.model import Contract, Flex, Job, JobSpec, Run

FlexName = Literal["none", "low", "mid", "high"]
ARGV_EXAMPLE: list[JsonValue] = ["python", "train.py", "--epochs", "3"]
Argv = Annotated[list[Text], Field(min_length=1, max_length=1024)]

CONTRACT_FIELDS = frozenset({"flex", "pausable", "max_pause_s", "deadline", "price_ceiling_per_mwh"})


class JobFields(Body):
    """Everything but `argv` and `gpus`, with the defaults of a job."""

    name: Annotated[Label, Field(description="for people; need not be unique")] = ""
    cwd: Annotated[Text | None, Field(description="absolute path the program starts in")] = None
    env: Annotated[dict[Name, Text], Field(max_length=1000)] = Field(default_factory=dict)
    gpu_type: Annotated[Name | None, Field(description="part of the GPU model's name")] = None
    nodes: Annotated[Int, Field(ge=1)] = 1
    flex: Annotated[
        FlexName, Field(description="throughput we may take: none 0 %, low 10, mid 25, high 50")
    ] = "none"
    pausable: Bool = False
    max_pause_s: Annotated[Number | None, Field(ge=0)] = None
    deadline: Instant | None = None
    begin_at: Instant | None = None
    price_ceiling_per_mwh: Number | None = None
    priority: Annotated[Name, Field(description="a class of the configuration")] = "standard"
    project: Name = "default"
    workload: Annotated[Name | None, Field(description="jobs of one workload share a power curve")] = None
    estimate_s: Annotated[Seconds | None, Field(description="running time at full speed")] = None
    depends_on: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)
    checkpoint_grace_s: Seconds = 30.0
    requeue: Annotated[Bool, Field(description="start again after a lost run")] = True
    max_restarts: Annotated[Int, Field(ge=0, le=1000)] = 3
    labels: Annotated[dict[Name, Label], Field(max_length=100)] = Field(default_factory=dict)


class JobIn(JobFields):
    """A job to submit. Only `argv` and `gpus` are required."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"argv": ARGV_EXAMPLE, "gpus": 1},
                {
                    "name": "char-transformer",
                    "argv": ARGV_EXAMPLE,
                    "gpus": 2,
                    "flex": "mid",
                    "pausable": True,
                    "price_ceiling_per_mwh": 120.0,
                    "workload": "char-transformer",
                },
            ]
        }
    )

    argv: Argv
    gpus: Int

    def spec(self) -> JobSpec:
        """The domain's job. Raises InvalidJob."""
        return spec_from(self.model_dump())


class JobPatch(JobFields):
    """The fields to change; those that are left out stay. Only while the job is QUEUED."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"flex": "high", "priority": "low"}]})

    argv: Argv = Field(default_factory=lambda: ["-"])
    gpus: Int = 1

    def applied_to(self, spec: JobSpec) -> JobSpec:
        """Raises InvalidJob."""
        changes = {name: value for name, value in self.model_dump().items() if name in self.model_fields_set}
        return spec_from({**flat(spec), **changes})


def spec_from(values: dict[str, Any]) -> JobSpec:
    """From the flat fields of the API. Raises InvalidJob."""
    plain = {name: value for name, value in values.items() if name not in CONTRACT_FIELDS}
    promised = {name: value for name, value in values.items() if name in CONTRACT_FIELDS}
    contract = Contract(**{**promised, "flex": Flex(promised["flex"])})
    sequences = {name: tuple(plain[name]) for name in ("argv", "depends_on")}
    return JobSpec(**{**plain, **sequences, "contract": contract})


def flat(spec: JobSpec) -> dict[str, Any]:
    """The flat fields of the API. Inverse of `spec_from`."""
    values = asdict(spec)
    contract = values.pop("contract")
    return {**values, **contract, "flex": spec.contract.flex.value}


class RunView(View):
    """One attempt of a job."""

    id: str
    attempt: int
    gpu_uuids: list[str]
    cap_w: float = Field(description="per GPU, at launch")
    created_at: Instant
    started_at: Instant | None
    ended_at: Instant | None
    exit_code: int | None
    end_reason: str | None


class JobView(View):
    """A job and where it stands. `env` is shown only to those who may change the job."""

    id: str = Field(examples=["job_01J9ZC2V6M8Q0T4W7X1Y3A5B6D"])
    owner: str
    submitted_at: Instant
    state: str = Field(examples=["RUNNING"])
    state_since: Instant
    intent: str = Field(description="what people want of it now", examples=["run"])
    held_by_operator: bool
    revision: int = Field(description="the ETag of the job")
    run: RunView | None
    attempts: int
    wait_reason: str | None = Field(examples=["waiting_for_power"])
    wait_detail: str
    condition: str = Field(description="how a running job is throttled", examples=["CAPPED_BUDGET"])
    condition_cause: str
    condition_since: Instant | None
    paused_s: float
    checkpoint_path: str | None
    ended_at: Instant | None
    exit_code: int | None
    end_reason: str | None
    name: str
    argv: list[str]
    gpus: int
    cwd: str | None
    env: dict[str, str] | None
    gpu_type: str | None
    nodes: int
    flex: FlexName
    pausable: bool
    max_pause_s: float | None
    deadline: Instant | None
    begin_at: Instant | None
    price_ceiling_per_mwh: float | None
    priority: str
    project: str
    workload: str | None
    estimate_s: float | None
    depends_on: list[str]
    checkpoint_grace_s: float
    requeue: bool
    max_restarts: int
    labels: dict[str, str]


class JobPage(View):
    """Newest first. `next_cursor` is null on the last page."""

    items: list[JobView]
    next_cursor: str | None = None


class RunList(View):
    items: list[RunView]


class BatchIn(Body):
    """All or none of these jobs."""

    jobs: Annotated[list[JobIn], Field(min_length=1, max_length=1000)]


def view_run(run: Run) -> RunView:
    values = asdict(run)
    return RunView(
        **{name: values[name] for name in RunView.model_fields} | {"gpu_uuids": list(run.gpu_uuids)}
    )


def view_job(job: Job, *, with_env: bool = False) -> JobView:
    own = {name: getattr(job, name) for name in JobView.model_fields if hasattr(job, name)}
    spec = flat(job.spec)
    return JobView(
        **{
            **own,
            **spec,
            "run": None if job.run is None else view_run(job.run),
            "env": spec["env"] if with_env else None,
        }
    )


def etag(job: Job) -> str:
    return f'"{job.revision}"'


def age_s(now: datetime, then: datetime | None) -> float | None:
    return None if then is None else max(0.0, (now - then).total_seconds())
