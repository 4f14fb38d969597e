"""Orders for jobs, and what there is to know of one."""

from __future__ import annotations

import pytest

from scheduler.model import Intent, JobState, WaitReason
from tests.api_builders import Site, submit


class TestOrders:
    """QUEUED -> hold -> release -> (runs) -> pause -> resume -> checkpoint -> requeue -> cancel."""

    def test_each_writes_one_intent(self, site: Site) -> None:
        client = site.client("ada:user")
        job_id = submit(client)["id"]
        path = f"/v1/jobs/{job_id}"

        def order(name: str) -> tuple[int, Intent]:
            return client.post(f"{path}/{name}").status_code, site.store.jobs.get(job_id).intent

        assert order("hold") == (202, Intent.HOLD)
        assert order("hold") == (202, Intent.HOLD)
        assert order("release") == (202, Intent.RUN)
        assert order("release")[0] == 409
        assert order("pause")[0] == 409
        assert order("requeue")[0] == 409
        site.run_job(job_id)
        assert order("hold")[0] == 409
        assert order("resume")[0] == 409
        assert order("pause") == (202, Intent.PAUSE)
        assert order("resume") == (202, Intent.RUN)
        assert order("checkpoint") == (202, Intent.CHECKPOINT)
        site.store.jobs.clear_intent(job_id, Intent.CHECKPOINT)
        assert order("requeue") == (202, Intent.REQUEUE)
        assert order("cancel") == (202, Intent.CANCEL)
        assert order("cancel") == (202, Intent.CANCEL)
        assert order("pause") == (409, Intent.CANCEL)

    def test_an_ended_job_takes_no_orders(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        site.run_job(job_id)
        site.end_job(job_id)
        for name in ("cancel", "hold", "release", "pause", "resume", "requeue", "checkpoint"):
            answer = client.post(f"/v1/jobs/{job_id}/{name}")
            assert answer.status_code == 409, name
            assert "SUCCEEDED" in answer.json()["detail"]
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 409

    def test_delete_cancels(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 202
        assert site.store.jobs.get(job_id).intent is Intent.CANCEL

    def test_if_match_is_heeded(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        path = f"/v1/jobs/{job_id}/hold"
        assert client.post(path, headers={"If-Match": '"9"'}).status_code == 412
        assert client.post(path, headers={"If-Match": '"1"'}).status_code == 202

    def test_orders_wake_the_controller_and_leave_a_trace(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        client.post(f"/v1/jobs/{job_id}/hold")
        assert site.wakes == 2
        kinds = [e["kind"] for e in client.get(f"/v1/jobs/{job_id}/events").json()["items"]]
        assert kinds == ["job.submitted", "job.held"]

    def test_resume_of_a_job_that_a_price_paused_says_so(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        job = site.run_job(job_id)
        for state in (JobState.PAUSING, JobState.PAUSED):
            job, before = (
                job.but(state=state, wait_reason=WaitReason.PRICE, wait_detail="price 300 above 200"),
                job.state,
            )
            site.store.jobs.save(job, before)
        answer = client.post(f"/v1/jobs/{job_id}/resume")
        assert answer.status_code == 409
        assert "price 300 above 200" in answer.json()["detail"]


@pytest.mark.parametrize("part", ["", "/runs", "/events", "/logs", "/energy", "/why"])
def test_unknown_jobs(site: Site, part: str) -> None:
    for job_id in ("job_nope", "..%2f..%2fetc", "%00", "x" * 65):
        answer = site.client().get(f"/v1/jobs/{job_id}{part}")
        assert answer.status_code in (400, 404, 422), job_id
        assert answer.headers["content-type"] == "application/problem+json"


class TestStory:
    def test_why_in_the_queue(self, site: Site) -> None:
        client = site.client()
        first = submit(client, priority="low")["id"]
        second = submit(client, priority="high")["id"]
        job = site.store.jobs.get(first)
        site.store.jobs.save(
            job.but(wait_reason=WaitReason.POWER, wait_detail="needs 200 W, 40 W are left"), JobState.QUEUED
        )
        site.store.decisions.append(
            site.clock.now(),
            7,
            {"waits": [{"job_id": first, "reason": "waiting_for_power"}], "notes": ["short"]},
        )
        why = client.get(f"/v1/jobs/{first}/why").json()
        assert (why["position"], why["queue_length"], why["ahead"]) == (2, 2, [second])
        assert why["reason"] == "waiting_for_power"
        assert why["sentence"] == "It is number 2 of 2 in the queue: needs 200 W, 40 W are left."
        assert why["decision"]["about"] == [
            {"action": "waits", "job_id": first, "reason": "waiting_for_power"}
        ]
        assert client.get(f"/v1/jobs/{second}/why").json()["position"] == 1

    def test_why_it_waits_for_others(self, site: Site) -> None:
        client = site.client()
        first = submit(client)["id"]
        second = submit(client, depends_on=[first])["id"]
        assert client.get(f"/v1/jobs/{second}/why").json()["waits_for"] == [first]

    def test_why_of_a_running_and_an_ended_job(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        site.run_job(job_id)
        assert client.get(f"/v1/jobs/{job_id}/why").json()["sentence"] == "It is running."
        site.end_job(job_id)
        assert client.get(f"/v1/jobs/{job_id}/why").json()["sentence"] == "It succeeded: finished."

    def test_logs(self, site: Site) -> None:
        client = site.client()
        job_id = submit(client)["id"]
        assert client.get(f"/v1/jobs/{job_id}/logs").content == b""
        run_id = site.run_job(job_id).run.id  # type: ignore[union-attr]
        site.logs[run_id] = b"one\ntwo\n\xff\x1b[31m"
        whole = client.get(f"/v1/jobs/{job_id}/logs")
        assert whole.content == site.logs[run_id]
        assert whole.headers["x-log-offset"] == "14"
        part = client.get(f"/v1/jobs/{job_id}/logs?offset=4&limit=3&run={run_id}")
        assert (part.content, part.headers["x-log-offset"]) == (b"two", "7")
        assert client.get(f"/v1/jobs/{job_id}/logs?run=run_other").status_code == 404
        assert client.get(f"/v1/jobs/{job_id}/logs?offset=-1").status_code == 422
        assert [run["id"] for run in client.get(f"/v1/jobs/{job_id}/runs").json()["items"]] == [run_id]


def test_a_paused_job_that_lost_its_gpus_is_resumed_from_the_queue(site: Site) -> None:
    client = site.client()
    job_id = submit(client)["id"]
    site.run_job(job_id)
    assert client.post(f"/v1/jobs/{job_id}/pause").status_code == 202
    job = site.store.jobs.get(job_id)
    site.store.jobs.save(job.but(state=JobState.STOPPING, stop_goal=JobState.QUEUED), JobState.RUNNING)
    site.store.jobs.save(job.but(state=JobState.QUEUED, run=None), JobState.STOPPING)
    assert client.post(f"/v1/jobs/{job_id}/resume").status_code == 202
    assert site.store.jobs.get(job_id).intent is Intent.RUN


def test_a_checkpoint_does_not_undo_a_pause_that_was_just_asked_for(site: Site) -> None:
    client = site.client()
    job_id = submit(client)["id"]
    site.run_job(job_id)
    assert client.post(f"/v1/jobs/{job_id}/pause").status_code == 202
    assert client.post(f"/v1/jobs/{job_id}/checkpoint").status_code == 409
    assert site.store.jobs.get(job_id).intent is Intent.PAUSE
