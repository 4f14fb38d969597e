"""Machines and their GPUs, and taking them out of service."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from pydantic import Field

from api.dependencies import CallerDep, PathName, ServicesDep, current_state, operation_id, tell
from api.errors import problems
from api.fields import Body, Label, View
from api.services import Services
from scheduler.published import GpuState
from scheduler.store import Mark, NotFound

router = APIRouter(tags=["nodes"], generate_unique_id_function=operation_id)


class NodeView(View):
    """A power domain that GPUs hang on."""

    name: str
    gpus: list[str]
    gpus_busy: int | None
    base_load_w: float
    limit_w: float | None
    accounted_w: float | None
    draw_w: float | None
    cordoned: bool = Field(description="takes no new jobs")
    draining: bool = Field(description="its jobs are being moved away, too")
    reason: str


class NodeList(View):
    items: list[NodeView]


class GpuView(GpuState):
    """A GPU as the controller sees it, with the newest cordon marks."""

    draining: bool


class GpuList(View):
    items: list[GpuView]


class MarkIn(Body):
    """Why, for those who come after you."""

    reason: Label = ""


class MarkView(View):
    name: str
    cordoned: bool
    draining: bool
    reason: str


@router.get("/v1/nodes", summary="Machines", responses=problems())
def list_nodes(services: ServicesDep) -> NodeList:
    state = services.read_state()
    marks = _marks(services)
    rows = {} if state is None else {row["name"]: row for row in state["domains"]}
    busy = [] if state is None else [gpu["uuid"] for gpu in state["gpus"] if gpu["job_id"] is not None]
    views = []
    for domain in services.tree.domains.values():
        if not domain.gpu_uuids:
            continue
        row, mark = rows.get(domain.name), marks.get(domain.name)
        views.append(
            NodeView(
                name=domain.name,
                gpus=list(domain.gpu_uuids),
                gpus_busy=None if state is None else sum(uuid in busy for uuid in domain.gpu_uuids),
                base_load_w=domain.base_load_w,
                limit_w=None if row is None else row["limit_w"],
                accounted_w=None if row is None else row["accounted_w"],
                draw_w=None if row is None else row["draw_w"],
                cordoned=mark is not None,
                draining=mark is not None and mark.drain,
                reason="" if mark is None else mark.reason,
            )
        )
    return NodeList(items=views)


@router.get("/v1/gpus", summary="GPUs with their draw, cap and state", responses=problems(503))
def list_gpus(services: ServicesDep) -> GpuList:
    marks = _marks(services)
    views: list[GpuView] = []
    for gpu in current_state(services)["gpus"]:
        found = [marks[name] for name in (gpu["uuid"], gpu["node"]) if name in marks]
        marked: GpuState = {**gpu, "cordoned": bool(found)}
        views.append(GpuView(**marked, draining=any(mark.drain for mark in found)))
    return GpuList(items=views)


def _register(kind: str, path: str, known: Callable[[Services], set[str]]) -> None:
    """The three orders for one kind of thing: a node by its name, or a GPU by its UUID."""

    def mark(name: str, services: Services, who: str, *, drain: bool, reason: str) -> MarkView:
        if name not in known(services):
            raise NotFound(kind, name)
        services.store.nodes.cordon(name, drain=drain, reason=reason, at=services.clock.now())
        order = "drained" if drain else "cordoned"
        tell(services, f"{kind}.{order}", name=name, reason=reason, by=who)
        return MarkView(name=name, cordoned=True, draining=drain, reason=reason)

    def cordon(name: PathName, services: ServicesDep, who: CallerDep, body: MarkIn | None = None) -> MarkView:
        return mark(name, services, who.name, drain=False, reason=body.reason if body else "")

    def drain(name: PathName, services: ServicesDep, who: CallerDep, body: MarkIn | None = None) -> MarkView:
        return mark(name, services, who.name, drain=True, reason=body.reason if body else "")

    def uncordon(name: PathName, services: ServicesDep, who: CallerDep) -> MarkView:
        if name not in known(services):
            raise NotFound(kind, name)
        if name in services.store.nodes.cordoned():
            services.store.nodes.uncordon(name)
            tell(services, f"{kind}.uncordoned", name=name, by=who.name)
        return MarkView(name=name, cordoned=False, draining=False, reason="")

    orders: list[tuple[Callable[..., MarkView], str]] = [
        (cordon, "Take no new jobs"),
        (drain, "Take no new jobs, and move those away that run"),
        (uncordon, "Back into service"),
    ]
    for endpoint, summary in orders:
        order = endpoint.__name__
        endpoint.__name__ = f"{order}_{kind}"
        router.add_api_route(
            f"{path}/{order}",
            endpoint,
            methods=["POST"],
            summary=f"{summary} ({kind})",
            responses=problems(404, 413, 415),
        )


def _node_names(services: Services) -> set[str]:
    return {domain.name for domain in services.tree.domains.values() if domain.gpu_uuids}


_register("node", "/v1/nodes/{name}", _node_names)
_register("gpu", "/v1/gpus/{name}", lambda services: set(services.tree.gpu_uuids()))


def _marks(services: Services) -> dict[str, Mark]:
    return {mark.name: mark for mark in services.store.nodes.marks()}
