"""Nonsense in: a problem document out, that names the field and repeats nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.routes.budgets import BudgetIn, OverrideIn, TargetIn
from api.routes.grid import PricesIn
from api.routes.policies import RuleIn
from api.routes.tokens import TokenIn
from api.schemas import JobIn, JobPatch
from scheduler.store import StoreUnavailable
from tests.api_builders import ARGV, Site

CANARY = "canary-7f3a"


def _post(site: Site, path: str, text: str | bytes) -> Any:
    return site.client().post(path, content=text, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    "value", ["true", '"12"', "1.0", "1.5", "null", "[]", "{}", "NaN", "1e400", "9" * 400]
)
def test_gpus_must_be_an_integer(site: Site, value: str) -> None:
    answer = _post(site, "/v1/jobs", f'{{"argv": ["x"], "gpus": {value}}}')
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "detail", "errors"} <= body.keys()
    assert [error["field"] for error in body["errors"]] == ["gpus"]


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "true", '"900"', "null", "1e308"]
)
def test_budgets_must_be_watts(site: Site, value: str) -> None:
    for path, more in (
        ("/v1/power/budgets", ""),
        ("/v1/power/override", ', "ttl_s": 60'),
        ("/v1/power/targets", ', "end": "2026-02-01T00:00:00Z"'),
    ):
        answer = _post(site, path, f'{{"domain": "site", "limit_w": {value}{more}}}')
        assert answer.status_code == 422, path
        assert [error["field"] for error in answer.json()["errors"]] == ["limit_w"]
    assert site.store.budgets.list() == []


@pytest.mark.parametrize(
    "argv", ['"python"', "{}", "[1]", "[true]", "[null]", '[["x"]]', "[]", '["a\\u0000b"]', '["\\ud800"]']
)
def test_argv_must_be_a_list_of_text(site: Site, argv: str) -> None:
    answer = _post(site, "/v1/jobs", f'{{"argv": {argv}, "gpus": 1}}')
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith("argv")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b'{"argv": ["\xff"], "gpus": 1}',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"argv": ["x"], "gpus": ' + b"9" * 5000 + b"}",
    ],
)
def test_bodies_that_are_no_object(site: Site, text: bytes) -> None:
    answer = _post(site, "/v1/jobs", text)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 1000


def test_unknown_fields_are_named_and_all_at_once(site: Site) -> None:
    body = json.dumps({"argv": ARGV, "gpus": 1, "gpu": 2, "x" * 500: 1, "a\nb": 1})
    answer = _post(site, "/v1/jobs", body)
    assert answer.status_code == 422
    errors = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert errors.keys() == {"gpu", "x" * 100, "a?b"}
    assert errors["gpu"] == "is not a known field"


def test_half_a_character_in_a_field_name(site: Site) -> None:
    assert _post(site, "/v1/jobs", '{"argv": ["x"], "gpus": 1, "\\ud800": 1}').status_code == 422


def test_a_thousand_mistakes_give_a_short_answer(site: Site) -> None:
    answer = _post(site, "/v1/jobs", json.dumps({f"f{n}": 1 for n in range(20_000)}))
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 50


@pytest.mark.parametrize(
    "body",
    [
        {"argv": [CANARY, 1], "gpus": 1},
        {"argv": ["x"], "gpus": CANARY},
        {"argv": ["x"], "gpus": 1, "env": {"KEY": [CANARY]}},
        {"argv": ["x"], "gpus": 1, "deadline": CANARY},
        {"argv": ["x"], "gpus": 1, "flex": CANARY},
        {"argv": ["x"], "gpus": 1, "priority": CANARY},
        {"argv": ["x"], "gpus": 1, "cwd": CANARY},
        {"argv": ["x"], "gpus": 1, "gpu_type": CANARY},
        {"argv": ["x"], "gpus": 1, "depends_on": [CANARY]},
        {"argv": ["x"], "gpus": 1, "nope": CANARY},
        {"argv": ["x"], "gpus": 1, "env": {"K": "a\0" + CANARY}},
    ],
)
def test_what_was_sent_is_never_repeated(site: Site, body: dict[str, Any]) -> None:
    answer = site.client().post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    "when",
    [
        "2026-01-15T12:00:00",
        "2026-01-15",
        "1768478400",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "2026-13-01T00:00:00Z",
        "x" * 10_000,
        12,
        1.5,
        True,
        [],
    ],
)
def test_times_must_be_instants(site: Site, when: Any) -> None:
    answer = site.client().post("/v1/jobs", json={"argv": ARGV, "gpus": 1, "begin_at": when})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "begin_at"


def test_errors_outside_routes_are_problems_too(site: Site) -> None:
    client = site.client()
    for answer, status in (
        (client.get("/v1/nope"), 404),
        (client.put("/v1/jobs"), 405),
        (client.request("PROPFIND", "/v1/jobs"), 405),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


def test_a_bug_is_a_problem_without_details(site: Site) -> None:
    site.state = {"gpus": CANARY}  # type: ignore[assignment]
    answer = site.client().get("/v1/status")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert CANARY not in answer.text


def test_a_database_that_is_away_is_503(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client()

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable(CANARY)

    monkeypatch.setattr(site.store.jobs, "page", away)
    answer = client.get("/v1/jobs")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert CANARY not in answer.text
    monkeypatch.setattr(site.store.tokens, "find", away)
    site.app.state.authenticator.forget()
    assert client.get("/v1/jobs").status_code == 503


NUMBERS: dict[Any, tuple[dict[str, Any], tuple[str, ...]]] = {
    JobIn: (
        {"argv": ["x"], "gpus": 1},
        (
            "max_pause_s",
            "price_ceiling_per_mwh",
            "estimate_s",
            "checkpoint_grace_s",
            "gpus",
            "nodes",
            "max_restarts",
        ),
    ),
    JobPatch: ({}, ("max_pause_s", "price_ceiling_per_mwh", "estimate_s", "checkpoint_grace_s", "gpus")),
    BudgetIn: ({"domain": "site", "limit_w": 1}, ("limit_w",)),
    TargetIn: ({"domain": "site", "limit_w": 1, "end": "2026-02-01T00:00:00Z"}, ("limit_w",)),
    OverrideIn: ({"domain": "site", "limit_w": 1, "ttl_s": 1}, ("limit_w", "ttl_s")),
    RuleIn: (
        {"name": "r", "above_per_mwh": 2, "release_below_per_mwh": 1},
        ("above_per_mwh", "release_below_per_mwh", "min_dwell_s", "throughput_share"),
    ),
    TokenIn: ({"name": "n", "role": "user"}, ("expires_in_s",)),
}
NOT_NUMBERS = [
    True,
    False,
    "12",
    "",
    [],
    {},
    float("nan"),
    float("inf"),
    -float("inf"),
    10**400,
    -(10**400),
    1e300,
]


@pytest.mark.parametrize(("model", "field"), [(m, f) for m, (_, fields) in NUMBERS.items() for f in fields])
def test_no_numeric_field_takes_anything_but_a_sane_number(model: Any, field: str) -> None:
    good = NUMBERS[model][0]
    model.model_validate(good)
    for bad in NOT_NUMBERS:
        with pytest.raises(ValidationError):
            model.model_validate({**good, field: bad})


def test_prices_take_no_nonsense() -> None:
    for bad in (*NOT_NUMBERS, None):
        with pytest.raises(ValidationError):
            PricesIn.model_validate({"points": [{"start": "2026-02-01T00:00:00Z", "value": bad}]})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.fixed_dictionaries({}, optional=dict.fromkeys(JobIn.model_fields, JSON)) | JSON


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, path=st.sampled_from(["/v1/jobs", "/v1/power/budgets", "/v1/prices", "/v1/policies"]))
def test_whatever_is_posted_never_breaks_the_server(site: Site, body: Any, path: str) -> None:
    answer = _post(site, path, json.dumps(body))
    assert answer.status_code in (201, 400, 404, 422)
    if answer.status_code != 201:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
