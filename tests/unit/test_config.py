"""One file, validated whole: every mistake is named, the environment wins over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.config import InvalidConfig, load_config


@pytest.fixture(autouse=True)
def _no_config_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WATTMILL_CONFIG", raising=False)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    config = load_config()
    assert config.server.host == "127.0.0.1"
    assert config.priorities["standard"] > config.priorities["low"]


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        """
        [sever]
        port = 1
        [server]
        port = 99999
        [capd]
        lease_s = -1
        [price]
        feeds = [{type = "csv"}]
        """,
    )
    with pytest.raises(InvalidConfig) as caught:
        load_config(path)
    message = str(caught.value)
    for part in ("sever: no such section", "server.port", "capd.lease_s", "price.feeds.0", "4 mistake(s)"):
        assert part in message


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[capd]\nlease_s = 3\nrenew_s = 2", "renew_s must be at most half"),
        ("[priorities]\nlow = 1.0", "`standard` must exist"),
        ("[priorities]\nstandard = nan", "priorities"),
        ('[server]\nhost = "0.0.0.0"', "server.host"),
        ('[[domains]]\nname = "a"\n[[domains]]\nname = "b"', "exactly one domain must have no parent"),
        ("[control]\nramp_w_per_min = 0", "control.ramp_w_per_min"),
        ("[control]\nplan_time_limit_s = 0", "control.plan_time_limit_s"),
        ("[site]\ndemand_charge_per_kw = -1", "site.demand_charge_per_kw"),
        ("[control\n", "not valid TOML"),
    ],
)
def test_a_mistake_is_said_in_words(tmp_path: Path, text: str, mistake: str) -> None:
    with pytest.raises(InvalidConfig, match=mistake):
        load_config(toml(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTMILL_SERVER__PORT", "9001")
    config = load_config(toml(tmp_path, "[server]\nport = 9000\nmax_body_bytes = 5000"))
    assert (config.server.port, config.server.max_body_bytes) == (9001, 5000)
