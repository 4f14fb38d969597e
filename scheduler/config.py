"""The one configuration file, validated whole at start with every mistake named.

`wattmill.toml`, overridden by `WATTMILL_SECTION__KEY` variables. Every value has a unit in its name.
"""

from __future__ import annotations

import math
import os
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class InvalidConfig(Exception):
    """The configuration has mistakes; the message lists all of them."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Site(Section):
    currency: str = Field("EUR", pattern="^[A-Z]{3}$")
    carbon_cost_per_tonne: float = Field(0.0, ge=0, description="money per tonne of CO2 in every decision")
    demand_charge_per_kw: float = Field(
        0.0, ge=0, description="money per kW of the month's highest quarter hour"
    )


class Server(Section):
    host: Literal["127.0.0.1", "::1", "localhost"] = (
        "127.0.0.1"  # elsewhere needs TLS, which is not built yet
    )
    port: int = Field(8787, ge=0, le=65535)
    max_body_bytes: int = Field(1_048_576, gt=0)


class Storage(Section):
    data_dir: Path = Field(default_factory=lambda: user_data_path("wattmill"))
    database_url: str | None = None  # None = SQLite in data_dir
    keep_days: float = Field(30.0, gt=0, description="events, decisions and samples; bills are kept")

    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'wattmill.db'}"


class Gpus(Section):
    backend: Literal["auto", "nvml", "simulated"] = "auto"
    simulated_count: int = Field(8, ge=1, le=4096)
    simulated_model: str = "A40"
    simulated_seed: int = 0
    idle_margin_w: float = Field(15.0, ge=0, description="added to the measured idle draw of an empty GPU")
    idle_mark_w: float = Field(
        120.0, gt=0, description="an empty GPU drawing more than this is not proven empty"
    )


class DomainConfig(Section):
    name: str = Field(min_length=1)
    parent: str | None = None
    base_load_w: float = Field(0.0, ge=0)
    pue: float = Field(1.0, ge=1, description="what the meter shows per watt under it; the root's alone")
    limit_w: float | None = Field(None, gt=0)
    gpus: list[int] | None = None  # indices on this machine; None on exactly one domain = all that are left


class Control(Section):
    cap_period_s: float = Field(1.0, gt=0)
    place_period_s: float = Field(10.0, gt=0)
    plan_period_s: float = Field(300.0, gt=0, description="grid seconds that a plan serves at most")
    stale_s: float = Field(3.0, gt=0, description="an older sample counts as unknown")
    settle_s: float = Field(2.0, ge=0, description="a lowered cap holds after this long")
    solver_time_limit_s: float = Field(2.0, gt=0)
    plan_time_limit_s: float = Field(5.0, gt=0)
    min_run_s: float = Field(60.0, ge=0, description="a younger run is not preempted for value")
    freeze_limit_s: float = Field(300.0, ge=0, description="a longer freeze becomes checkpoint and stop")
    headroom_w: float = Field(0.0, ge=0, description="kept free under every limit")
    ramp_w_per_min: float | None = Field(None, gt=0, description="how fast a plan changes the site's draw")
    restart_cost_s: float = Field(60.0, ge=0, description="work lost by a stop and a start, as a guess")
    contract_guard_share: float = Field(0.02, ge=0, lt=1)


class CapdConfig(Section):
    lease_s: float = Field(10.0, gt=0)
    renew_s: float = Field(2.0, gt=0)
    fail_safe_share: float = Field(0.0, ge=0, le=1, description="0 = board minimum, 1 = board maximum")


class FeedConfig(Section):
    type: Literal["energy_charts", "csv", "fixed"]
    zone: str = "DE-LU"
    country: str = "de"
    path: Path | None = None
    value: float | None = None  # fixed: money per MWh, or grams per kWh

    @model_validator(mode="after")
    def _complete(self) -> FeedConfig:
        if self.type == "csv" and self.path is None:
            raise ValueError("a csv feed needs `path`")
        if self.type == "fixed" and self.value is None:
            raise ValueError("a fixed feed needs `value`")
        return self


class Signal(Section):
    """Feeds in order: the first that answers wins."""

    feeds: list[FeedConfig] = Field(default_factory=list)
    poll_s: float = Field(3600.0, gt=0)
    jitter_s: float = Field(120.0, ge=0)
    deadline_s: float = Field(10.0, gt=0)
    max_bytes: int = Field(2 * 1024 * 1024, gt=0)
    plausible_min: float = -1000.0
    plausible_max: float = 10000.0
    max_age_s: float = Field(
        48 * 3600.0, gt=0, description="a cache fetched longer ago is no longer used for decisions"
    )


class ClockConfig(Section):
    """Grid time runs `rate` times as fast as real time, from these anchors. For demonstrations."""

    rate: float = Field(1.0, gt=0)
    grid_start: datetime | None = None
    real_start: datetime | None = None


class Config(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        env_prefix="WATTMILL_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    site: Site = Field(default_factory=Site)
    server: Server = Field(default_factory=Server)
    storage: Storage = Field(default_factory=Storage)
    gpus: Gpus = Field(default_factory=Gpus)
    domains: list[DomainConfig] = Field(
        default_factory=lambda: [
            DomainConfig(name="site"),
            DomainConfig(name="node", parent="site", base_load_w=0.0),
        ]
    )
    control: Control = Field(default_factory=Control)
    capd: CapdConfig = Field(default_factory=CapdConfig)
    price: Signal = Field(default_factory=lambda: Signal(feeds=[FeedConfig(type="energy_charts")]))
    carbon: Signal = Field(
        default_factory=lambda: Signal(
            feeds=[FeedConfig(type="energy_charts")], plausible_min=0.0, plausible_max=2000.0
        )
    )
    clock: ClockConfig = Field(default_factory=ClockConfig)
    priorities: dict[str, float] = Field(
        default_factory=lambda: {"low": 0.5, "standard": 1.5, "high": 4.0},
        description="value of one GPU-hour at full speed, in the site's currency, by class",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment overrides the file

    @model_validator(mode="after")
    def _cross_checks(self) -> Config:
        mistakes = [
            f"priorities.{name}: must be a finite number above 0, got {value}"
            for name, value in self.priorities.items()
            if not (math.isfinite(value) and value > 0)
        ]
        if "standard" not in self.priorities:
            mistakes.append("priorities: the class `standard` must exist, it is every job's default")
        if self.capd.renew_s * 2 > self.capd.lease_s:
            mistakes.append(
                "capd: renew_s must be at most half of lease_s, or one lost renewal caps the site"
            )
        if sum(d.parent is None for d in self.domains) != 1:
            mistakes.append("domains: exactly one domain must have no parent")
        mistakes += [
            f"domains.{d.name}: pue stands on the domain without a parent alone"
            for d in self.domains
            if d.pue > 1 and d.parent is not None
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


def load_config(path: Path | None = None) -> Config:
    """Read the file (default: `$WATTMILL_CONFIG`, else `./wattmill.toml` if there is one, else defaults).

    Raises:
        InvalidConfig: names the file and every mistake in it.
    """
    chosen = path or (Path(os.environ["WATTMILL_CONFIG"]) if "WATTMILL_CONFIG" in os.environ else None)
    if chosen is None and Path("wattmill.toml").exists():
        chosen = Path("wattmill.toml")
    values: dict[str, Any] = {}
    if chosen is not None:
        try:
            values = tomllib.loads(chosen.read_text())
        except OSError as error:
            raise InvalidConfig(f"cannot read {chosen}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise InvalidConfig(f"{chosen} is not valid TOML: {error}") from error
    return _validated(values, source=str(chosen or "the built-in defaults"))


def _validated(values: dict[str, Any], *, source: str) -> Config:
    unknown = sorted(set(values) - set(Config.model_fields))
    mistakes = [f"  {name}: no such section" for name in unknown]
    config: Config | None = None
    try:
        config = Config(**{k: v for k, v in values.items() if k not in unknown})
    except ValidationError as error:
        mistakes += [
            f"  {'.'.join(str(p) for p in item['loc']) or 'file'}: {item['msg']}" for item in error.errors()
        ]
    if mistakes or config is None:
        raise InvalidConfig(f"{source} has {len(mistakes)} mistake(s):\n" + "\n".join(mistakes))
    return config
