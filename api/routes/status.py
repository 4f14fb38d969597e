"""How the daemon is: for people, for probes and for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from api.dependencies import ServicesDep, current_state, operation_id
from api.errors import Problem, problems
from api.fields import Instant, View
from api.services import Services
from scheduler.plan_state import PlannedJobState, PlanSlotState
from scheduler.published import CertificateState, PublishedState
from scheduler.store import StoreError
from telemetry.metrics import CONTENT_TYPE, render

router = APIRouter(tags=["status"], generate_unique_id_function=operation_id)

OLDEST_STATE_S = 10.0


class ControllerView(View):
    """`alive` = it published within the last seconds."""

    alive: bool
    age_s: float | None = Field(description="real seconds since it last published")
    pid: int | None
    cycle: int | None


class SignalView(View):
    value: float | None
    unit: str
    source: str | None
    age_s: float | None


class GpuCounts(View):
    total: int
    busy: int
    healthy: int
    cordoned: int


class StatusView(View):
    """Everything at a glance. `degraded` names each fallback that is in use now."""

    version: str
    at: Instant = Field(description="grid time")
    real_at: Instant
    clock_rate: float = Field(description="grid seconds per real second")
    currency: str
    backend: str | None = Field(description="nvml or simulated")
    controller: ControllerView
    degraded: list[str]
    price: SignalView
    carbon: SignalView
    active_rules: list[str]
    gpus: GpuCounts
    jobs: dict[str, int] = Field(description="how many in each state")
    capd: dict[str, Any]
    certificates: list[CertificateState]


class PlanView(View):
    """The newest plan, with its bound and gap; null and empty until the first one."""

    at: Instant
    made_at: Instant | None = Field(description="grid time at which the plan was made")
    certificate: CertificateState | None
    degraded: list[str]
    active_rules: list[str]
    waiting: list[dict[str, Any]] = Field(description="jobs that do not run now, and why")
    slots: list[PlanSlotState] = Field(
        description="prices per MWh, expected and high, and what one more GPU-hour and one more watt for an"
        " hour would be worth"
    )
    jobs: list[PlannedJobState] = Field(
        description="when each job that can wait should run, at which cap per GPU, and what that costs"
    )


class Health(View):
    status: str


@router.get("/v1/status", summary="Everything at a glance", responses=problems())
def status(services: ServicesDep) -> StatusView:
    state = services.read_state()
    age = state_age_s(state)
    alive = age is not None and age <= OLDEST_STATE_S
    currency = services.config.site.currency
    gpus = [] if state is None else state["gpus"]
    counts = services.store.jobs.count()
    return StatusView(
        version=installed_version(),
        at=services.clock.now(),
        real_at=datetime.now(UTC),
        clock_rate=services.clock.rate,
        currency=currency,
        backend=None if state is None else state["backend"],
        controller=ControllerView(
            alive=alive,
            age_s=age,
            pid=None if state is None else state["controller_pid"],
            cycle=None if state is None else state["cycle"],
        ),
        degraded=[*([] if alive else ["controller_down"]), *([] if state is None else state["degraded"])],
        price=SignalView(
            value=_get(state, "price_per_mwh"),
            unit=f"{currency}/MWh",
            source=_get(state, "price_source"),
            age_s=_get(state, "price_age_s"),
        ),
        carbon=SignalView(
            value=_get(state, "carbon_g_per_kwh"),
            unit="gCO2eq/kWh",
            source=_get(state, "carbon_source"),
            age_s=_get(state, "carbon_age_s"),
        ),
        active_rules=[] if state is None else state["active_rules"],
        gpus=GpuCounts(
            total=len(gpus) or len(services.tree.gpu_uuids()),
            busy=sum(gpu["job_id"] is not None for gpu in gpus),
            healthy=sum(gpu["healthy"] for gpu in gpus),
            cordoned=sum(gpu["cordoned"] for gpu in gpus),
        ),
        jobs={name.value: count for name, count in counts.items()},
        capd={} if state is None else dict(state["capd"]),
        certificates=[] if state is None else state["certificates"],
    )


@router.get("/v1/plan", summary="The current plan and its bound", responses=problems(503))
def plan(services: ServicesDep) -> PlanView:
    state, made = current_state(services), services.read_plan()
    return PlanView(
        at=state["at"],
        made_at=None if made is None else made["made_at"],
        certificate=None if made is None else made["certificate"],
        degraded=state["degraded"],
        active_rules=state["active_rules"],
        waiting=[
            {"job_id": job.id, "reason": job.wait_reason.value, "detail": job.wait_detail}
            for job in services.store.jobs.active()
            if job.wait_reason is not None
        ],
        slots=[] if made is None else made["slots"],
        jobs=[] if made is None else made["jobs"],
    )


@router.get("/livez", summary="The server runs")
async def livez() -> Health:
    return Health(status="ok")


@router.get("/readyz", summary="The controller, its state and the database answer", responses=problems(503))
def readyz(services: ServicesDep) -> Health:
    missing = not_ready(services)
    if missing:
        raise Problem(503, f"not ready: {', '.join(missing)}", headers={"Retry-After": "2"})
    return Health(status="ok")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "metrics"},
        **problems(),
    },
)
def metrics(services: ServicesDep) -> Response:
    return Response(render(services.read_state() or {}), headers={"Content-Type": CONTENT_TYPE})


def not_ready(services: Services) -> list[str]:
    """What does not answer; empty = ready."""
    missing = []
    age = state_age_s(services.read_state())
    if age is None or age > OLDEST_STATE_S:
        missing.append("controller")
    try:
        services.store.events.last_id()
    except StoreError:
        missing.append("database")
    return missing


def state_age_s(state: PublishedState | None) -> float | None:
    """Real seconds since the controller published; None when it never did."""
    if state is None:
        return None
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(state["real_at"])).total_seconds())


def installed_version() -> str:
    try:
        return version("wattmill")
    except PackageNotFoundError:  # a checkout that was not installed
        return "0+checkout"


def _get(state: Mapping[str, Any] | None, key: str) -> Any:
    return None if state is None else state.get(key)
