"""The command line as a person or a script meets it, against a small server that remembers requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.cli import main
from tests.cli_builders import JOB_ID, OTHER_ID, FakeApi, fake_api, job


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with fake_api() as fake:
        monkeypatch.setenv("WATTMILL_URL", fake.url)
        monkeypatch.setenv("WATTMILL_TOKEN", "wm_secret")
        yield fake


# --- submit and plan --------------------------------------------------------------------------------------


def test_submit_sends_the_whole_contract(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST /v1/jobs", job(state="QUEUED", condition="NOMINAL"), 201)
    line = "submit --gpus 2 --flex mid --pausable --max-pause 2h --price-ceiling 90 --env A=1 --key k1"
    code = main([*line.split(), "--", "python", "train.py", "--json", "--gpus", "9"])
    assert code == 0
    (asked,) = api.asked
    assert asked.body == {
        "argv": ["python", "train.py", "--json", "--gpus", "9"],
        "gpus": 2,
        "name": "",
        "flex": "mid",
        "pausable": True,
        "max_pause_s": 7200.0,
        "price_ceiling_per_mwh": 90.0,
        "priority": "standard",
        "project": "default",
        "nodes": 1,
        "env": {"A": "1"},
        "cwd": str(Path.cwd()),
        "requeue": True,
    }
    assert asked.headers["Idempotency-Key"] == "k1"
    assert asked.headers["Authorization"] == "Bearer wm_secret"
    assert JOB_ID in capsys.readouterr().out


def test_options_after_the_program_are_the_programs(api: FakeApi) -> None:
    api.on("POST /v1/jobs", job(), 201)
    assert main(["submit", "-g", "1", "python", "train.py", "--epochs", "3"]) == 0
    assert api.asked[0].body["argv"] == ["python", "train.py", "--epochs", "3"]


def test_plan_stores_nothing_and_shows_every_tier(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    tiers = [
        {"flex": name, "start": "2026-01-31T12:00:00Z", "power_w": 300.5, "cost": 0.1234567, "wait_s": 3700}
        for name in ("none", "high")
    ]
    api.on("POST /v1/jobs:plan", {"quotes": tiers})
    assert main(["plan", "-g", "1", "python", "x.py"]) == 0
    shown = capsys.readouterr().out
    assert [a.path for a in api.asked] == ["/v1/jobs:plan"]
    for part in ("none", "high", "2026-01-31 12:00", "300 W", "0.123457", "1 h 01 min"):
        assert part in shown


# --- looking ----------------------------------------------------------------------------------------------


def test_ls_is_a_table_for_people_and_json_for_programs(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = job(
        OTHER_ID, state="QUEUED", wait_reason="waiting_for_gpus", wait_detail="2 of 8 GPUs are free"
    )
    page = {"items": [job(), waiting], "next_cursor": None}
    api.on("GET /v1/jobs", page)
    assert main(["ls", "--live", "--mine"]) == 0
    shown = capsys.readouterr().out
    assert "RUNNING capped by price" in shown
    assert "2 of 8 GPUs are free" in shown
    assert "state=RUNNING" in api.asked[0].path
    assert "owner=me" in api.asked[0].path
    assert main(["ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == page


@pytest.mark.parametrize("name", ["tune", "5b6d", JOB_ID])
def test_a_job_may_be_named_by_name_ending_or_id(api: FakeApi, name: str) -> None:
    api.on("GET /v1/jobs", {"items": [job(), job(OTHER_ID, name="other")], "next_cursor": None})
    api.on(f"POST /v1/jobs/{JOB_ID}/cancel", job(state="STOPPING"), 202)
    assert main(["cancel", name]) == 0
    assert api.asked[-1].path == f"/v1/jobs/{JOB_ID}/cancel"


def test_an_ambiguous_name_is_a_usage_mistake_and_touches_nothing(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET /v1/jobs", {"items": [job(), job(OTHER_ID)], "next_cursor": None})
    assert main(["cancel", "tune"]) == 2
    assert OTHER_ID in capsys.readouterr().err
    assert [a.method for a in api.asked] == ["GET"]


def test_logs_are_printed_as_they_are(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on(f"GET /v1/jobs/{JOB_ID}/logs", "step 1 [bold]loss[/bold]\nstep 2\n")
    assert main(["logs", "-f", JOB_ID]) == 0
    assert capsys.readouterr().out == "step 1 [bold]loss[/bold]\nstep 2\n"
    assert "follow=true" in api.asked[0].path


def test_why_says_the_sentence_and_the_proof(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    story: dict[str, Any] = {
        "sentence": "It is number 2 of 3 in the queue: 2 of 8 GPUs are free.",
        "state": "QUEUED",
        "condition": "NOMINAL",
        "since": "2026-01-31T12:00:00Z",
        "reason": "waiting_for_gpus",
        "ahead": [OTHER_ID],
        "waits_for": [],
        "power": None,
        "plan": None,
        "decision": None,
        "certificates": [{"step": "place", "gap": 0.012, "fallback": "greedy", "scope": None}],
    }
    api.on(f"GET /v1/jobs/{JOB_ID}/why", story)
    assert main(["why", JOB_ID]) == 0
    shown = capsys.readouterr().out
    assert story["sentence"] in shown
    assert "1.2 % of the best possible, by greedy" in shown
    assert "planned start" not in shown
    assert "stopping it now" not in shown


def test_why_says_the_plan_the_cost_of_a_stop_and_what_a_proof_covers(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    story: dict[str, Any] = {
        "sentence": "It is paused: the price is 90.00/MWh, above its ceiling of 60.00/MWh.",
        "state": "PAUSED",
        "condition": "NOMINAL",
        "since": "2026-01-31T12:00:00Z",
        "reason": "waiting_for_price",
        "ahead": [],
        "waits_for": [],
        "power": {
            "cap_w": 200.0,
            "draw_w": 150.0,
            "throughput_share": 0.9,
            "samples_per_s": None,
            "used_share": 0.01,
            "promised_share": 0.1,
            "stop_lost_s": 90.4,
            "stop_cost": 0.125,
        },
        "plan": {"start": "2026-01-31T14:30:00+00:00", "expected_cost": 0.25, "cost_now": 1.5},
        "decision": None,
        "certificates": [{"step": "place", "gap": 0.0, "fallback": None, "scope": "3 of 90 jobs"}],
    }
    api.on(f"GET /v1/jobs/{JOB_ID}/why", story)
    assert main(["why", JOB_ID]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "stopping it now loses 90 s of work, 0.12" in shown
    assert "planned start 2026-01-31 14:30 UTC" in shown
    assert "energy cost as planned 0.2500, started now 1.5000" in shown
    assert "place is within 0.0 % of the best possible (3 of 90 jobs)" in shown


# --- the site ---------------------------------------------------------------------------------------------


def test_budget_set_names_the_jobs_without_room(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    limit = {"id": "budget_1", "domain": "site", "limit_w": 1800.0, "end": None, "pauses": [JOB_ID]}
    api.on("POST /v1/power/budgets", limit, 201)
    assert main(["budget", "set", "site", "1.8kW"]) == 0
    assert api.asked[0].body == {"domain": "site", "limit_w": 1800.0}
    assert f"no room is left for: {JOB_ID}" in capsys.readouterr().out


def test_policy_set_adds_or_replaces(api: FakeApi) -> None:
    rule = {
        "name": "peak",
        "above_per_mwh": 150.0,
        "release_below_per_mwh": 135.0,
        "min_dwell_s": 900.0,
        "action": "cap",
        "throughput_share": 0.75,
        "applies_to": ["mid"],
        "enabled": True,
        "in_force": None,
    }
    api.on("GET /v1/policies", {"items": []})
    api.on("POST /v1/policies", rule, 201)
    api.on("PUT /v1/policies/peak", rule)
    command = ["policy", "set", "peak", "--above", "150", "--to", "mid"]
    assert main(command) == 0
    assert api.asked[-1].body == {k: v for k, v in rule.items() if k != "in_force"}
    api.on("GET /v1/policies", {"items": [rule]})
    assert main(command) == 0
    assert (api.asked[-1].method, "name" in api.asked[-1].body) == ("PUT", False)


def test_own_prices_are_read_with_the_line_of_a_mistake(
    api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.csv"
    file.write_text("time_utc,value\n2026-01-31T12:00:00Z,84.5\n2026-01-31T13:00:00Z,dear\n")
    assert main(["price", "set", str(file)]) == 2
    assert "line 3" in capsys.readouterr().err
    assert api.asked == []


def test_removing_answers_without_a_body(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("DELETE /v1/tokens/tok_1", None, 204)
    assert main(["token", "revoke", "tok_1"]) == 0
    assert capsys.readouterr().out.strip() == "revoked tok_1"


def test_a_report_can_be_csv(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET /v1/reports/cost", "start,end\n1,2\n")
    assert main(["report", "cost", "--by", "day", "--csv"]) == 0
    assert capsys.readouterr().out == "start,end\n1,2\n"
    assert "group_by=day" in api.asked[0].path
