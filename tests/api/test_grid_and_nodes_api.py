"""Prices, price rules, and taking machines out of service."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from power.grid.feed import Kind
from power.series import Series
from tests.api_builders import NOW, UUIDS, Site, make_site, submit


class TestPrices:
    def test_what_is_stored_is_shown_with_source_and_age(self, site: Site) -> None:
        points = [(NOW + timedelta(hours=n), 50.0 + n) for n in range(4)]
        site.store.series.put_local(Kind.PRICE, Series.from_starts(points), NOW, "feed", "by someone")
        site.clock.advance(90)
        body = site.client("viewer").get("/v1/prices").json()
        assert (body["unit"], body["source"], body["attribution"]) == ("EUR/MWh", "feed", "by someone")
        assert (body["age_s"], body["resolution_s"], body["now"]) == (90, 3600, 50)
        assert [slot["value"] for slot in body["slots"]] == [50, 51, 52, 53]
        part = site.client().get("/v1/prices?start=2026-01-15T13:30:00Z&end=2026-01-15T14:00:00Z").json()
        assert [slot["value"] for slot in part["slots"]] == [51]

    def test_none_yet(self, site: Site) -> None:
        for path in ("/v1/prices", "/v1/carbon"):
            body = site.client().get(path).json()
            assert (body["slots"], body["now"], body["source"]) == ([], None, None)

    def test_own_prices(self, site: Site) -> None:
        points = [
            {"start": "2026-01-15T12:00:00Z", "value": -20},
            {"start": "2026-01-15T13:00:00+00:00", "value": 4000.5},
        ]
        answer = site.client("operator").post("/v1/prices", json={"points": points, "source": "contract"})
        assert answer.status_code == 201
        assert [(s["value"], s["source"]) for s in answer.json()["slots"]] == [
            (-20, "contract"),
            (4000.5, "contract"),
        ]
        assert site.wakes == 1

    @pytest.mark.parametrize(
        ("points", "field"),
        [
            ([], "points"),
            ([("12:00", 1e9)], "points.0.value"),
            ([("12:00", 50), ("13:00", -5000)], "points.1.value"),
            ([("13:00", 50), ("12:00", 50)], "points.1.start"),
            ([("12:00", 50), ("12:00", 50)], "points.1.start"),
        ],
    )
    def test_a_bad_point_refuses_all_and_the_stored_series_stays(
        self, site: Site, points: list[tuple[str, float]], field: str
    ) -> None:
        kept = Series.from_starts([(NOW, 77.0)])
        site.store.series.put_local(Kind.PRICE, kept, NOW)
        body = [{"start": f"2026-01-15T{at}:00Z", "value": value} for at, value in points]
        answer = site.client().post("/v1/prices", json={"points": body})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field
        stored = site.store.series.load(Kind.PRICE)
        assert stored is not None
        assert stored.series == kept

    def test_another_currency(self, site: Site) -> None:
        points = [{"start": "2026-01-15T12:00:00Z", "value": 5}]
        answer = site.client().post("/v1/prices", json={"points": points, "currency": "USD"})
        assert answer.status_code == 422

    @pytest.mark.parametrize(
        "query",
        ["start=x", "end=2026-01-01", "from=1", "start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z"],
    )
    def test_bad_periods(self, site: Site, query: str) -> None:
        assert site.client().get(f"/v1/prices?{query}").status_code == 422


RULE = {
    "name": "peak",
    "above_per_mwh": 150,
    "release_below_per_mwh": 120,
    "applies_to": ["mid", "priority:low"],
}


class TestPolicies:
    def test_life_of_a_rule(self, site: Site) -> None:
        client = site.client("operator")
        made = client.post("/v1/policies", json=RULE)
        assert made.status_code == 201
        assert client.post("/v1/policies", json=RULE).status_code == 409
        assert client.get("/v1/policies/peak").json()["action"] == "cap"
        change = {k: v for k, v in RULE.items() if k != "name"} | {"action": "pause"}
        assert client.put("/v1/policies/peak", json=change).json()["action"] == "pause"
        assert [r["name"] for r in client.get("/v1/policies").json()["items"]] == ["peak"]
        assert client.delete("/v1/policies/peak").status_code == 204
        assert site.wakes == 3

    def test_unknown(self, site: Site) -> None:
        client = site.client()
        change = {k: v for k, v in RULE.items() if k != "name"}
        for answer in (
            client.get("/v1/policies/nope"),
            client.put("/v1/policies/nope", json=change),
            client.delete("/v1/policies/nope"),
        ):
            assert answer.status_code == 404

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"release_below_per_mwh": 151}, "release_below_per_mwh"),
            ({"throughput_share": 0}, "throughput_share"),
            ({"action": "explode"}, "action"),
            ({"applies_to": ["fast"]}, "applies_to"),
            ({"applies_to": ["priority:urgent"]}, "applies_to"),
            ({"name": "../x"}, "name"),
        ],
    )
    def test_mistakes(self, site: Site, change: dict[str, Any], field: str) -> None:
        answer = site.client().post("/v1/policies", json=RULE | change)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field

    def test_preview(self, site: Site) -> None:
        client = site.client()
        covered = submit(client, flex="mid", priority="low")["id"]
        submit(client, flex="none")
        points = [(NOW + timedelta(hours=n), price) for n, price in enumerate([100.0, 200.0, 130.0, 100.0])]
        site.store.series.put_local(Kind.PRICE, Series.from_starts(points), NOW)
        body = client.post("/v1/policies:preview", json=RULE).json()
        assert body["activations"] == [
            {"start": "2026-01-15T13:00:00Z", "end": "2026-01-15T15:00:00Z", "highest_per_mwh": 200}
        ]
        assert (body["active_share"], body["covers"]) == (0.5, [covered])
        assert site.store.policies.list() == []


class TestNodes:
    def test_cordon_and_back(self, site: Site) -> None:
        client = site.client("operator")
        marked = client.post("/v1/nodes/node/cordon", json={"reason": "fan"})
        assert marked.json() == {"name": "node", "cordoned": True, "draining": False, "reason": "fan"}
        (node,) = client.get("/v1/nodes").json()["items"]
        assert (node["cordoned"], node["reason"], len(node["gpus"])) == (True, "fan", 8)
        assert all(gpu["cordoned"] for gpu in client.get("/v1/gpus").json()["items"])
        for _ in range(2):
            assert client.post("/v1/nodes/node/uncordon").status_code == 200
        assert not any(gpu["cordoned"] for gpu in client.get("/v1/gpus").json()["items"])

    def test_drain_one_gpu(self, site: Site) -> None:
        client = site.client()
        assert client.post(f"/v1/gpus/{UUIDS[3]}/drain").json()["draining"] is True
        draining = [gpu["uuid"] for gpu in client.get("/v1/gpus").json()["items"] if gpu["draining"]]
        assert draining == [UUIDS[3]]

    def test_unknown(self, site: Site) -> None:
        client = site.client()
        for path in ("/v1/nodes/site", f"/v1/nodes/{UUIDS[0]}", "/v1/gpus/node", "/v1/gpus/GPU-99"):
            for order in ("cordon", "drain", "uncordon"):
                assert client.post(f"{path}/{order}").status_code == 404

    def test_before_the_first_cycle(self, tmp_path: Path) -> None:
        client = make_site(tmp_path, published=False).client()
        assert client.get("/v1/gpus").status_code == 503
        assert client.get("/v1/nodes").status_code == 200
