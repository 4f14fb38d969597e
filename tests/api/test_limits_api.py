"""Budgets, targets and overrides: what is accepted, what is refused with which figure, whom it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.limits import floor_of, stopped_by, unsatisfiable
from power.budget import Domain, PowerTree
from scheduler.model import JobSpec
from tests.api_builders import (
    BASE_W,
    IDLE_W,
    MIN_W,
    SITE_IDLE_W,
    UUIDS,
    Site,
    gpu_of,
    make_site,
    state_of,
    submit,
)

SITE = {"domain": "site"}


class TestBudgets:
    def test_a_new_one_replaces_the_standing_one(self, site: Site) -> None:
        client = site.client("operator")
        first = client.post("/v1/power/budgets", json={**SITE, "limit_w": 2000})
        assert first.status_code == 201
        assert first.json()["pauses"] == []
        site.clock.advance(60)
        second = client.post("/v1/power/budgets", json={**SITE, "limit_w": 1500}).json()
        listed = client.get("/v1/power/budgets").json()["items"]
        assert [(b["id"], b["limit_w"], b["holds_now"]) for b in listed] == [(second["id"], 1500, True)]
        assert len(client.get("/v1/power/budgets?include_past=true").json()["items"]) == 2
        domains = {d["name"]: d for d in client.get("/v1/power/domains").json()["items"]}
        assert domains["site"]["limit_w"] == 1500
        assert domains["site"]["idle_w"] == SITE_IDLE_W
        assert site.wakes == 2

    def test_below_idle_and_base_is_refused_with_the_figure(self, site: Site) -> None:
        answer = site.client().post("/v1/power/budgets", json={**SITE, "limit_w": SITE_IDLE_W - 1})
        assert answer.status_code == 422
        detail = answer.json()["detail"]
        for figure in ("519 W", "520 W", "200 W base load", "320 W for 8 idle GPUs"):
            assert figure in detail
        assert site.store.budgets.list() == []
        assert (
            site.client().post("/v1/power/budgets", json={**SITE, "limit_w": SITE_IDLE_W}).status_code == 201
        )

    def test_headroom_is_kept(self, tmp_path: Path) -> None:
        site = make_site(tmp_path, control={"headroom_w": 100.0})
        answer = site.client().post("/v1/power/budgets", json={**SITE, "limit_w": SITE_IDLE_W + 50})
        assert answer.status_code == 422
        assert "100 W headroom" in answer.json()["detail"]

    def test_overhead_is_named_where_the_meter_counts_it(self, tmp_path: Path) -> None:
        site = make_site(tmp_path, pue=1.25)
        answer = site.client().post("/v1/power/budgets", json={**SITE, "limit_w": SITE_IDLE_W})
        assert answer.status_code == 422
        assert f"{SITE_IDLE_W * 1.25:.0f} W (" in answer.json()["detail"]
        assert "idle GPUs, times 1.25 overhead)" in answer.json()["detail"]

    def test_idle_counts_for_loaded_gpus_too(self, site: Site) -> None:
        site.run_job(submit(site.client(), gpus=8)["id"])
        answer = site.client().post("/v1/power/budgets", json={**SITE, "limit_w": 300})
        assert answer.status_code == 422

    def test_below_the_floors_names_whom_it_stops(self, site: Site) -> None:
        # four jobs of two GPUs: floor 200 + 8 x 100 = 1000; each stopped job frees 2 x (100 - 40)
        client = site.client()
        ids: dict[str, str] = {}
        for n, (name, priority) in enumerate(
            [("old", "standard"), ("low", "low"), ("young", "standard"), ("high", "high")]
        ):
            site.clock.advance(1)
            ids[name] = submit(client, gpus=2, priority=priority)["id"]
            site.run_job(ids[name], 2 * n, 2 * n + 1)
        # no GPU is empty now, so idle comes from the model's own curve: 30 W and 15 W margin
        for limit_w, names in (
            (1000, []),
            (950, ["low"]),
            (800, ["low", "young"]),
            (700, ["low", "young", "old"]),
        ):
            answer = client.post("/v1/power/budgets", json={**SITE, "limit_w": limit_w})
            assert answer.status_code == 201
            assert answer.json()["pauses"] == [ids[name] for name in names], limit_w

    def test_for_a_time(self, site: Site) -> None:
        client = site.client()
        body = {**SITE, "limit_w": 900, "start": "2026-01-16T00:00:00Z", "end": "2026-01-16T01:00:00+01:00"}
        answer = client.post("/v1/power/budgets", json=body)
        assert answer.status_code == 422, "01:00+01:00 is the start"
        answer = client.post("/v1/power/budgets", json=body | {"end": "2026-01-16T02:00:00+01:00"})
        assert (answer.json()["end"], answer.json()["holds_now"]) == ("2026-01-16T01:00:00Z", False)

    @pytest.mark.parametrize(
        ("body", "status", "field"),
        [
            ({"domain": "moon", "limit_w": 900}, 404, "domain"),
            ({"limit_w": 900}, 422, "domain"),
            ({"domain": "site"}, 422, "limit_w"),
            ({**SITE, "limit_w": 900, "end": "2026-01-15T11:00:00Z"}, 422, "end"),
            ({**SITE, "limit_w": 900, "watts": 1}, 422, "watts"),
        ],
    )
    def test_mistakes(self, site: Site, body: dict[str, Any], status: int, field: str) -> None:
        answer = site.client().post("/v1/power/budgets", json=body)
        assert answer.status_code == status
        assert answer.json()["errors"][0]["field"] == field

    def test_each_kind_is_removed_by_its_own_path(self, site: Site) -> None:
        client = site.client()
        budget = client.post("/v1/power/budgets", json={**SITE, "limit_w": 900}).json()["id"]
        end = "2026-01-15T13:00:00Z"
        target = client.post(
            "/v1/power/targets", json={**SITE, "limit_w": 800, "end": end, "correlation_id": "e"}
        )
        assert (target.json()["source"], target.json()["correlation_id"]) == ("target", "e")
        assert client.delete(f"/v1/power/targets/{budget}").status_code == 404
        assert client.delete(f"/v1/power/targets/{target.json()['id']}").status_code == 204
        assert client.delete(f"/v1/power/budgets/{budget}").status_code == 204
        assert client.delete(f"/v1/power/budgets/{budget}").status_code == 404
        assert site.store.budgets.list() == []

    def test_an_override_ends_by_itself_and_a_new_one_replaces_it(self, site: Site) -> None:
        client = site.client()
        site.clock.rate = 60.0
        client.post("/v1/power/override", json={**SITE, "limit_w": 600, "ttl_s": 10})
        second = client.post("/v1/power/override", json={**SITE, "limit_w": 700, "ttl_s": 10}).json()
        assert second["end"] == "2026-01-15T12:10:00Z", "ten real seconds are ten minutes of grid time here"
        assert [b.id for b in site.store.budgets.list()] == [second["id"]]
        site.clock.advance(11)
        assert client.get("/v1/power/override").json()["items"] == []


class TestFigures:
    """The pure part, on trees that the API's site does not have."""

    def test_floor(self) -> None:
        state = state_of()
        state["gpus"][0].update({"job_id": "job_a", "accounted_w": 300.0})
        state["gpus"][1].update({"healthy": False, "accounted_w": 300.0})
        state["gpus"][2].update({"foreign": True, "accounted_w": 250.0})
        tree = PowerTree.of([Domain(name="n", base_load_w=BASE_W, gpu_uuids=UUIDS)])
        floor = floor_of("n", tree, state, 15.0)
        assert floor.empty_total_w == BASE_W + 8 * IDLE_W
        assert floor.loaded_total_w == BASE_W + 5 * IDLE_W + 2 * MIN_W + 300.0

    def test_limits_nest(self) -> None:
        tree = PowerTree.of(
            [
                Domain(name="site", limit_w=1e6),
                Domain(name="a", parent="site", limit_w=4 * IDLE_W + 60, gpu_uuids=UUIDS[:4]),
                Domain(name="b", parent="site", gpu_uuids=UUIDS[4:]),
            ]
        )
        spec = JobSpec(argv=("x",), gpus=6)
        assert unsatisfiable(spec, tree, state_of(), 0.0) == (
            "gpus",
            "asks for 6 GPUs; the largest job that fits under the configured power limits is 5",
        )

    def test_nothing_is_stopped_where_nothing_runs(self) -> None:
        tree = PowerTree.of([Domain(name="n", gpu_uuids=UUIDS)])
        state = state_of()
        state["gpus"] = [gpu_of(n) for n in range(8)]
        assert stopped_by(1.0, "n", tree=tree, state=state, jobs=[], value_of={}, idle_margin_w=0) == []
