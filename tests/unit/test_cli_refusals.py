"""The command line when something is wrong: what it says, where, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.cli import main
from api.commands.client import Target, UsageMistake
from api.commands.power import parse_watts
from api.commands.submit import pairs, seconds
from tests.cli_builders import FakeApi, fake_api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with fake_api() as fake:
        monkeypatch.setenv("WATTMILL_URL", fake.url)
        monkeypatch.setenv("WATTMILL_TOKEN", "wm_secret")
        yield fake


# --- what can go wrong ------------------------------------------------------------------------------------


def test_a_refusal_is_readable_and_exits_1(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "gpus: asks for 99 GPUs; the largest job that fits is 8",
        "errors": [{"field": "gpus", "message": "asks for 99 GPUs; the largest job that fits is 8"}],
    }
    api.on("POST /v1/jobs", problem, 422)
    assert main(["submit", "-g", "99", "python", "x.py"]) == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.strip() == "wattmill: gpus: asks for 99 GPUs; the largest job that fits is 8"
    assert main(["submit", "-g", "99", "--json", "python", "x.py"]) == 1
    assert json.loads(capsys.readouterr().err) == problem


def test_several_mistakes_are_all_listed(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [{"field": "gpus", "message": "must be 1 or more"}, {"field": "env.A", "message": "no NUL"}]
    api.on("POST /v1/jobs", {"title": "Unprocessable Content", "detail": "2", "errors": errors}, 422)
    assert main(["submit", "x"]) == 1
    shown = capsys.readouterr().err
    assert "gpus: must be 1 or more" in shown
    assert "env.A: no NUL" in shown


def test_a_wrong_token_says_how_to_give_one(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET /v1/jobs", {"title": "Unauthorized", "detail": "this token is not valid"}, 401)
    assert main(["ls"]) == 1
    shown = capsys.readouterr().err
    assert "this token is not valid" in shown
    assert "--token-file" in shown


def test_nobody_there_exits_3_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WATTMILL_TOKEN", "t")
    assert main(["--url", "http://127.0.0.1:9", "ls"]) == 3
    assert "wattmill serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "submit",
        "submit --flex rubber x",
        "submit --max-pause soon x",
        "budget set site lots",
        "show",
    ],
)
def test_usage_mistakes_exit_2(line: str, api: FakeApi) -> None:
    assert main(line.split()) == 2
    assert api.asked == []


def test_a_mistaken_config_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WATTMILL_URL", raising=False)
    file = tmp_path / "wattmill.toml"
    file.write_text("[server]\nport = 99999\n")
    assert main(["--config", str(file), "ls"]) == 2
    assert "server.port" in capsys.readouterr().err


# --- finding the daemon -----------------------------------------------------------------------------------


def _config(folder: Path, port: int = 4242) -> Path:
    file = folder / "wattmill.toml"
    file.write_text(f'[server]\nport = {port}\n[storage]\ndata_dir = "{folder}"\n')
    return file


def test_the_config_leads_to_port_and_token(tmp_path: Path) -> None:
    target = Target(config=_config(tmp_path))
    assert target.resolve({}) == ("http://127.0.0.1:4242", None)
    (tmp_path / "token").write_text("wm_own\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "address").write_text("http://127.0.0.1:5555\n")
    assert target.resolve({}) == ("http://127.0.0.1:5555", "wm_own")


def test_the_command_line_is_above_the_environment(tmp_path: Path) -> None:
    token_file = tmp_path / "mine"
    token_file.write_text("wm_mine\n")
    environ = {"WATTMILL_URL": "http://there:1/", "WATTMILL_TOKEN": "wm_env"}
    assert Target().resolve(environ) == ("http://there:1", "wm_env")
    assert Target(url="http://here:2", token_file=token_file).resolve(environ) == ("http://here:2", "wm_mine")
    with pytest.raises(UsageMistake, match="token file"):
        Target(token_file=tmp_path / "none").resolve(environ)


# --- small readers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("2d", 172800), (None, None)],
)
def test_times(text: str | None, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1800", 1800), ("1800 W", 1800), ("1.8kW", 1800), ("2MW", 2e6)]
)
def test_watts(text: str, expected: float) -> None:
    assert parse_watts(text) == expected


@pytest.mark.parametrize(
    ("read", "text"), [(seconds, "-3s"), (seconds, "2 weeks"), (parse_watts, ""), (parse_watts, "many")]
)
def test_nonsense_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(UsageMistake):
        read(text)


def test_variables_can_be_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDED_ON", "yes=1")
    assert pairs(["A=b=c", "HANDED_ON"], "--env") == {"A": "b=c", "HANDED_ON": "yes=1"}
    with pytest.raises(UsageMistake):
        pairs(["MISSING_VARIABLE_OF_MINE"], "--env")
