"""Submitting, listing, changing and ordering jobs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api_builders import ARGV, Site, make_site, submit

FULL: dict[str, Any] = {
    "name": "näme",
    "argv": ["sh", "-c", "echo; $( ) \n --", ""],
    "gpus": 4,
    "cwd": "/srv",
    "env": {"A": "1"},
    "gpu_type": "a40",
    "nodes": 1,
    "flex": "mid",
    "pausable": True,
    "max_pause_s": 60,
    "deadline": "2026-01-16T12:00:00+01:00",
    "begin_at": "2026-01-15T13:00:00Z",
    "price_ceiling_per_mwh": -5,
    "priority": "high",
    "project": "física",
    "workload": "gpt",
    "estimate_s": 3600,
    "depends_on": [],
    "checkpoint_grace_s": 5,
    "requeue": False,
    "max_restarts": 0,
    "labels": {"k": "v"},
}


def test_submit_gives_back_what_was_sent_and_where_it_is(site: Site) -> None:
    answer = site.client("ada:user").post("/v1/jobs", json=FULL)
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
    assert answer.headers["etag"] == '"1"'
    assert {name: body[name] for name in FULL} == FULL | {"deadline": "2026-01-16T11:00:00Z"}
    assert (body["owner"], body["state"], body["run"]) == ("ada", "QUEUED", None)
    assert site.wakes == 1
    assert site.store.jobs.get(body["id"]).spec.argv == tuple(FULL["argv"])


def test_only_argv_and_gpus_are_required(site: Site) -> None:
    body = submit(site.client())
    assert (body["flex"], body["priority"], body["requeue"]) == ("none", "standard", True)


class TestIdempotency:
    def test_the_same_body_gives_the_same_job(self, site: Site) -> None:
        client, key = site.client(), {"Idempotency-Key": "k-1"}
        first = client.post("/v1/jobs", json={"argv": ARGV, "gpus": 2}, headers=key)
        again = client.post("/v1/jobs", json={"gpus": 2, "argv": ARGV, "flex": "none"}, headers=key)
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json()["id"] == first.json()["id"]
        assert again.headers["idempotency-replayed"] == "true"

    def test_another_body_is_refused_and_nothing_is_lost(self, site: Site) -> None:
        client, key = site.client(), {"Idempotency-Key": "k-1"}
        client.post("/v1/jobs", json={"argv": ARGV, "gpus": 2}, headers=key)
        answer = client.post("/v1/jobs", json={"argv": ARGV, "gpus": 3}, headers=key)
        assert answer.status_code == 422
        assert "Idempotency-Key" in answer.json()["detail"]
        assert len(client.get("/v1/jobs").json()["items"]) == 1

    def test_keys_belong_to_their_owner(self, site: Site) -> None:
        key = {"Idempotency-Key": "k-1"}
        ids = {
            site.client(who).post("/v1/jobs", json={"argv": ARGV, "gpus": n}, headers=key).json()["id"]
            for n, who in enumerate(("ada:user", "bob:user"), start=1)
        }
        assert len(ids) == 2

    def test_twenty_at_once_are_one_job(self, site: Site) -> None:
        client = site.client()

        def send(_: int) -> tuple[int, str]:
            answer = client.post(
                "/v1/jobs", json={"argv": ARGV, "gpus": 1}, headers={"Idempotency-Key": "same"}
            )
            return answer.status_code, answer.json()["id"]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(20)))
        assert sorted(status for status, _ in answers) == [200] * 19 + [201]
        assert len({job_id for _, job_id in answers}) == 1
        assert len(site.store.jobs.page().items) == 1

    @pytest.mark.parametrize("key", ["", "x" * 201, "with space", "ü"])
    def test_bad_keys(self, site: Site, key: str) -> None:
        headers = {"Idempotency-Key": key.encode()}
        answer = site.client().post("/v1/jobs", json={"argv": ARGV, "gpus": 1}, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


class TestWhatCanNeverRun:
    @pytest.mark.parametrize(
        ("fields", "field", "says"),
        [
            ({"gpus": 1_000_000}, "gpus", "asks for 1000000 GPUs; the largest job that fits is 8"),
            ({"gpus": 9}, "gpus", "the largest job that fits is 8"),
            ({"gpus": 0}, "gpus", "must be at least 1"),
            ({"gpus": -1}, "gpus", "must be at least 1"),
            ({"gpu_type": "H100"}, "gpu_type", "NVIDIA A40"),
            ({"gpus": 2, "nodes": 2}, "nodes", "there are 1"),
            ({"gpus": 3, "nodes": 2}, "nodes", "evenly"),
            ({"priority": "urgent"}, "priority", "low, standard, high"),
            ({"cwd": "relative"}, "cwd", "absolute"),
            ({"deadline": "2026-01-15T11:59:59Z"}, "deadline", "passed"),
            ({"depends_on": ["job_unknown"]}, "depends_on.0", "no such job"),
            ({"argv": []}, "argv", "at least 1"),
            ({"argv": [""]}, "argv", "program"),
            ({"env": {"CUDA_VISIBLE_DEVICES": "0"}}, "env", "set by wattmill"),
        ],
    )
    def test_is_refused_by_name(self, site: Site, fields: dict[str, Any], field: str, says: str) -> None:
        answer = site.client().post("/v1/jobs", json={"argv": ARGV, "gpus": 1, **fields})
        assert answer.status_code == 422
        body = answer.json()
        assert [error["field"] for error in body["errors"]] == [field]
        assert says in body["detail"]
        assert site.store.jobs.page().items == []

    def test_power_limits_count(self, tmp_path: Path) -> None:
        # base 200 + 8 x 40 idle = 520; each loaded GPU adds 60: three fit under 700, four do not
        site = make_site(tmp_path, limit_w=700.0)
        answer = site.client().post("/v1/jobs", json={"argv": ARGV, "gpus": 4})
        assert "fits under the configured power limits is 3" in answer.json()["detail"]
        submit(site.client(), gpus=3)

    def test_before_the_controller_spoke_the_tree_decides(self, tmp_path: Path) -> None:
        site = make_site(tmp_path, published=False)
        assert site.client().post("/v1/jobs", json={"argv": ARGV, "gpus": 9}).status_code == 422
        submit(site.client(), gpus=8)


class TestBatch:
    def test_all(self, site: Site) -> None:
        jobs = [{"argv": ARGV, "gpus": n} for n in (1, 2, 3)]
        answer = site.client().post("/v1/jobs:batch", json={"jobs": jobs})
        assert answer.status_code == 201
        assert [job["gpus"] for job in answer.json()["items"]] == [1, 2, 3]

    def test_or_none(self, site: Site) -> None:
        jobs = [{"argv": ARGV, "gpus": 1}, {"argv": ARGV, "gpus": 99}]
        answer = site.client().post("/v1/jobs:batch", json={"jobs": jobs})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "jobs.1.gpus"
        assert site.store.jobs.page().items == []

    def test_repeated(self, site: Site) -> None:
        body = {"jobs": [{"argv": ARGV, "gpus": 1}] * 3}
        client, key = site.client(), {"Idempotency-Key": "b"}
        first = client.post("/v1/jobs:batch", json=body, headers=key).json()
        again = client.post("/v1/jobs:batch", json=body, headers=key)
        assert again.status_code == 200
        assert again.json() == first


def test_a_plan_stores_nothing(site: Site) -> None:
    answer = site.client("viewer").post("/v1/jobs:plan", json={"argv": ARGV, "gpus": 2})
    assert answer.json() == {"quotes": [{"flex": "none", "gpus": 2}]}
    assert site.store.jobs.page().items == []
    assert site.client().post("/v1/jobs:plan", json={"argv": ARGV, "gpus": 99}).status_code == 422


class TestLists:
    def test_pages_follow_each_other(self, site: Site) -> None:
        client = site.client()
        ids = [submit(client, name=str(n))["id"] for n in range(5)]
        seen, cursor = [], None
        while True:
            page = client.get("/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
            seen += [job["id"] for job in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == ids[::-1]

    def test_filters(self, site: Site) -> None:
        client = site.client()
        running = submit(client, project="p")["id"]
        site.run_job(running)
        submit(client)
        assert [j["id"] for j in client.get("/v1/jobs?state=RUNNING").json()["items"]] == [running]
        assert len(client.get("/v1/jobs?state=RUNNING&state=QUEUED").json()["items"]) == 2
        assert [j["id"] for j in client.get("/v1/jobs?project=p").json()["items"]] == [running]
        assert client.get("/v1/jobs").json()["items"][0]["env"] is None

    @pytest.mark.parametrize(
        "query", ["state=NOPE", "limit=0", "limit=501", "limit=x", "cursor=zz", "stat=RUNNING"]
    )
    def test_bad_queries(self, site: Site, query: str) -> None:
        answer = site.client().get(f"/v1/jobs?{query}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"].startswith(query.partition("=")[0])


class TestPatch:
    def test_changes_what_is_named_and_nothing_else(self, site: Site) -> None:
        client = site.client()
        job = submit(client, flex="low", workload="gpt", gpus=2)
        answer = client.patch(
            f"/v1/jobs/{job['id']}", json={"flex": "high", "workload": None}, headers={"If-Match": '"1"'}
        )
        assert answer.status_code == 200
        assert answer.headers["etag"] == '"2"'
        changed = answer.json()
        assert (changed["flex"], changed["workload"], changed["gpus"]) == ("high", None, 2)

    def test_needs_the_newest_etag(self, site: Site) -> None:
        client = site.client()
        path = f"/v1/jobs/{submit(client)['id']}"
        assert client.patch(path, json={"name": "a"}).status_code == 428
        assert client.patch(path, json={"name": "a"}, headers={"If-Match": '"1"'}).status_code == 200
        assert client.patch(path, json={"name": "b"}, headers={"If-Match": '"1"'}).status_code == 412
        assert client.patch(path, json={"name": "b"}, headers={"If-Match": "zz"}).status_code == 412
        assert client.patch(path, json={"name": "c"}, headers={"If-Match": "*"}).json()["name"] == "c"

    def test_only_while_queued(self, site: Site) -> None:
        client = site.client()
        job = submit(client)
        site.run_job(job["id"])
        answer = client.patch(f"/v1/jobs/{job['id']}", json={"name": "b"}, headers={"If-Match": '"1"'})
        assert answer.status_code == 409
        assert "RUNNING" in answer.json()["detail"]

    def test_the_result_must_be_a_job(self, site: Site) -> None:
        client = site.client()
        path = f"/v1/jobs/{submit(client)['id']}"
        changes: list[dict[str, Any]] = [{"gpus": 99}, {"gpus": 0}, {"argv": []}, {"gpus": None}, {"id": "x"}]
        for change in changes:
            assert client.patch(path, json=change, headers={"If-Match": "*"}).status_code == 422, change
