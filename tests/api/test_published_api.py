"""What is published of the API, and what it says of the daemon: OpenAPI, status, probes, reports, tokens."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.auth import ACCESS
from scheduler.bill import EnergyRow
from tests.api_builders import NOW, Site, make_site, plan_of, state_of, submit


class TestOpenApi:
    @pytest.fixture
    def document(self, site: Site) -> dict[str, Any]:
        body: dict[str, Any] = site.client("viewer").get("/openapi.json").json()
        return body

    def test_every_operation_says_what_it_does_and_how_it_refuses(self, document: dict[str, Any]) -> None:
        names = []
        for path, item in document["paths"].items():
            for method, operation in item.items():
                where = f"{method} {path}"
                assert operation["summary"], where
                names.append(operation["operationId"])
                assert operation["x-role"] == ACCESS[path][method.upper()].name.lower(), where
                if operation["security"] == []:
                    continue
                for status in ("400", "401", "403", "422", "500"):
                    content = operation["responses"][status]["content"]
                    assert list(content) == ["application/problem+json"], where
        assert len(names) == len(set(names))

    def test_it_covers_the_access_table(self, document: dict[str, Any]) -> None:
        documented = {(p, m.upper()) for p, item in document["paths"].items() for m in item}
        listed = {(p, m) for p, methods in ACCESS.items() for m in methods}
        assert documented == listed - {("/openapi.json", "GET")}

    def test_references_lead_somewhere_and_schemas_are_schemas(self, document: dict[str, Any]) -> None:
        known = document["components"]["schemas"]
        for schema in known.values():
            Draft202012Validator.check_schema(schema)
        for reference in _references(document):
            assert reference.removeprefix("#/components/schemas/") in known, reference

    def test_examples_of_bodies_are_accepted(self, site: Site, document: dict[str, Any]) -> None:
        client = site.client()
        bodies = {
            ("/v1/jobs", "JobIn"): 201,
            ("/v1/jobs:plan", "JobIn"): 200,
            ("/v1/power/budgets", "BudgetIn"): 201,
            ("/v1/power/targets", "TargetIn"): 201,
            ("/v1/power/override", "OverrideIn"): 201,
            ("/v1/prices", "PricesIn"): 201,
            ("/v1/policies", "RuleIn"): 201,
            ("/v1/tokens", "TokenIn"): 201,
        }
        for (path, schema), status in bodies.items():
            for example in document["components"]["schemas"][schema]["examples"]:
                answer = client.post(path, json=example)
                assert answer.status_code == status, (path, answer.text)

    def test_answers_match_their_schemas(self, site: Site, document: dict[str, Any]) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        site.run_job(job_id)
        client.post("/v1/power/budgets", json={"domain": "site", "limit_w": 2000})
        site.store.energy.upsert(_rows(job_id))
        site.plan = plan_of(job_id)
        skipped = ("/v1/events", "/metrics", "/v1/policies/{name}", "/v1/jobs/{job_id}/logs")
        for path, item in document["paths"].items():
            if "get" not in item or path in skipped:
                continue
            answer = client.get(path.replace("{job_id}", job_id))
            assert answer.status_code == 200, path
            schema = item["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            whole = {**schema, "components": document["components"]}
            Draft202012Validator(whole).validate(answer.json())


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [r for value in part.values() for r in _references(value)]
    return [r for value in part for r in _references(value)] if isinstance(part, list) else []


class TestStatus:
    def test_at_a_glance(self, site: Site) -> None:
        client = site.client("viewer")
        running = submit(site.client())["id"]
        site.run_job(running)
        submit(site.client())
        body = client.get("/v1/status").json()
        assert (body["controller"]["alive"], body["degraded"]) == (True, [])
        assert body["jobs"] == {"RUNNING": 1, "QUEUED": 1}
        assert body["gpus"] == {"total": 8, "busy": 1, "healthy": 8, "cordoned": 0}
        assert body["price"] == {"value": 80, "unit": "EUR/MWh", "source": "csv", "age_s": 60}
        assert client.get("/v1/power/state").json()["cycle"] == 7

    def test_the_plan_before_the_first_one(self, site: Site) -> None:
        body = site.client("viewer").get("/v1/plan").json()
        assert (body["made_at"], body["certificate"], body["slots"], body["jobs"]) == (None, None, [], [])

    def test_the_plan(self, site: Site) -> None:
        job_id = submit(site.client())["id"]
        site.plan = plan_of(job_id)
        body = site.client("viewer").get("/v1/plan").json()
        assert body["made_at"] == NOW.isoformat().replace("+00:00", "Z")
        assert {name: body[name] for name in ("certificate", "slots", "jobs")} == {
            name: site.plan[name] for name in ("certificate", "slots", "jobs")
        }

    def test_why_shows_a_jobs_part_of_the_plan_until_it_ended(self, site: Site) -> None:
        client = site.client()
        planned, other = submit(client)["id"], submit(client)["id"]
        site.plan = plan_of(planned)
        assert client.get(f"/v1/jobs/{other}/why").json()["plan"] is None
        part = client.get(f"/v1/jobs/{planned}/why").json()["plan"]
        assert (part["start"], part["expected_cost"], part["cost_now"]) == (
            (NOW + timedelta(hours=2)).isoformat(),
            0.25,
            1.5,
        )
        site.run_job(planned)
        site.end_job(planned)
        assert client.get(f"/v1/jobs/{planned}/why").json()["plan"] is None

    def test_a_controller_that_fell_silent(self, site: Site) -> None:
        site.state = state_of(age_s=60)
        body = site.client().get("/v1/status").json()
        assert body["controller"]["alive"] is False
        assert "controller_down" in body["degraded"]
        ready = site.client(None).get("/readyz")
        assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
        assert site.client(None).get("/livez").status_code == 200

    def test_before_the_first_cycle(self, tmp_path: Path) -> None:
        site = make_site(tmp_path, published=False)
        client = site.client()
        assert client.get("/v1/status").status_code == 200
        assert client.get("/v1/power/state").status_code == 503
        assert client.get("/v1/plan").status_code == 503
        assert client.get("/metrics").status_code == 200
        assert site.client(None).get("/readyz").status_code == 503

    def test_ready(self, site: Site) -> None:
        assert site.client(None).get("/readyz").json() == {"status": "ok"}

    def test_metrics(self, site: Site) -> None:
        answer = site.client("viewer").get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        assert 'wattmill_gpu_power_watts{gpu="GPU-0"' in answer.text

    def test_decisions_page(self, site: Site) -> None:
        for cycle in range(3):
            site.store.decisions.append(NOW, cycle, {"notes": [str(cycle)]})
        first = site.client().get("/v1/power/decisions?limit=2").json()
        assert [d["cycle"] for d in first["items"]] == [2, 1]
        rest = site.client().get(f"/v1/power/decisions?limit=2&cursor={first['next_cursor']}").json()
        assert [d["cycle"] for d in rest["items"]] == [0]


def test_the_console_is_served_without_a_token(site: Site) -> None:
    client = site.client(None)
    page = client.get("/")
    assert "<title>wattmill</title>" in page.text
    assert client.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    assert client.get("/js/main.js").headers["content-type"].startswith("text/javascript")
    for path in ("/../auth.py", "/%2e%2e/auth.py", "/js/%2e%2e/%2e%2e/auth.py", "/auth.py", "/js"):
        assert client.get(path).status_code in (401, 404), path


def _rows(job_id: str | None) -> list[EnergyRow]:
    """One kWh per kind: 0.9 in a priced slot, 0.1 in one without a price."""
    quarter = timedelta(minutes=15)
    start = NOW - timedelta(hours=1)
    rows = []
    for kind in ("gpu", "idle", "host"):
        mine = {"job_id": job_id, "run_id": "run_1"} if kind == "gpu" else {}
        common: dict[str, Any] = {
            "kind": kind,
            "gpu_uuid": "GPU-0",
            "running_s": 900.0,
            "work_s": 810.0,
            **mine,
        }
        rows += [
            EnergyRow(
                slot_start=start, slot_end=start + quarter, energy_j=3.24e6, price_per_mwh=100.0, **common
            ),
            EnergyRow(slot_start=start + quarter, slot_end=start + 2 * quarter, energy_j=0.36e6, **common),
        ]
    return rows


class TestBills:
    def test_of_a_job(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client, flex="low")["id"]
        site.run_job(job_id)
        site.store.energy.upsert(_rows(job_id))
        body = client.get(f"/v1/jobs/{job_id}/energy").json()
        total = body["total"]
        assert total["energy_kwh"] == pytest.approx(1.0)
        assert total["cost"] == pytest.approx(0.09)
        assert total["unpriced_kwh"] == pytest.approx(0.1)
        assert total["slowdown_used"] == pytest.approx(0.1)
        assert total["slowdown_promised"] == pytest.approx(0.1)
        assert total["co2_g"] is None
        assert (body["final"], body["currency"], len(body["runs"])) == (False, "EUR", 1)
        assert body["unthrottled"]["label"] == "estimate"

    @pytest.mark.parametrize("group_by", ["kind", "job", "owner", "project", "day", "slot"])
    def test_reports_add_up_to_the_meter(self, site: Site, group_by: str) -> None:
        client = site.client("ada:user")
        site.store.energy.upsert(_rows(submit(client, name="=HYPERLINK()", project="p")["id"]))
        for name in ("energy", "cost"):
            body = client.get(f"/v1/reports/{name}?group_by={group_by}").json()
            assert sum(row["figures"]["energy_kwh"] for row in body["rows"]) == pytest.approx(3.0)
            assert body["total"]["energy_kwh"] == pytest.approx(3.0)
            assert body["total"]["cost"] == pytest.approx(0.27)
        keys = {row["key"] for row in body["rows"] if row["kind"] == "gpu"}
        expected = {"kind": None, "owner": "ada", "project": "p", "day": "2026-01-15"}
        assert group_by not in expected or keys == {expected[group_by]}

    def test_csv_is_safe_to_open(self, site: Site) -> None:
        client = site.client()
        site.store.energy.upsert(_rows(submit(client, name="=HYPERLINK()")["id"]))
        answer = client.get("/v1/reports/cost?format=csv")
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["kind"] for row in rows] == ["gpu", "host", "idle", "total"]
        assert rows[0]["name"] == "'=HYPERLINK()"
        assert float(rows[-1]["cost"]) == pytest.approx(0.27)

    @pytest.mark.parametrize(
        "query", ["group_by=x", "format=pdf", "start=2027-01-01T00:00:00Z", "start=2001-01-01T00:00:00Z"]
    )
    def test_bad_questions(self, site: Site, query: str) -> None:
        assert site.client().get(f"/v1/reports/cost?{query}").status_code == 422


class TestTokens:
    def test_life(self, site: Site) -> None:
        admin = site.client()
        made = admin.post("/v1/tokens", json={"name": "ada", "role": "user", "expires_in_s": 60})
        body = made.json()
        secret = body["secret"]
        assert body["role"] == "user"
        site.secrets["new"] = secret
        assert site.client("new").get("/v1/jobs").status_code == 200
        listed = admin.get("/v1/tokens")
        assert {token["name"] for token in listed.json()["items"]} == {"admin", "ada"}
        assert secret not in listed.text
        assert admin.delete(f"/v1/tokens/{body['id']}").status_code == 204
        assert site.client("new").get("/v1/jobs").status_code == 401

    def test_the_last_admin_cannot_lock_everybody_out(self, site: Site) -> None:
        own = site.secret("admin").partition(".")[0]
        assert site.client().delete(f"/v1/tokens/{own}").status_code == 409
        assert site.client().delete("/v1/tokens/token_nope").status_code in (404, 409)

    @pytest.mark.parametrize(
        "change",
        [{"role": "root"}, {"expires_in_s": 0}, {"expires_in_s": 1e12}, {"name": ""}, {"scope": "x"}],
    )
    def test_mistakes(self, site: Site, change: dict[str, Any]) -> None:
        assert (
            site.client().post("/v1/tokens", json={"name": "a", "role": "user", **change}).status_code == 422
        )

    def test_secrets_stay_out_of_events_and_the_database(self, site: Site) -> None:
        secret = site.client().post("/v1/tokens", json={"name": "a", "role": "user"}).json()["secret"]
        assert all(secret not in str(event) for event in site.store.events.after(0))
        path = site.store.database.sqlite_path
        assert path is not None
        assert secret.partition(".")[2].encode() not in path.read_bytes()
