"""The guides name what the code has: settings, metrics, commands, routes, states. Links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from api.auth import ACCESS
from api.cli import app
from api.routes.job_story import BillView
from api.routes.status import PlanView
from scheduler.config import Config, DomainConfig, FeedConfig, Signal, load_config
from scheduler.layout import Layout
from scheduler.lifecycle import TRANSITIONS
from scheduler.model import Condition, JobSpec, JobState, WaitReason
from scheduler.plan_state import PlannedJobState, PlanSlotState
from telemetry.metric_table import METRICS

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
CODE_PATH = re.compile(
    r"`((?:api|power|scheduler|telemetry|migrations|benchmarks|examples|deploy|tests)/[\w./*-]*)"
)
TEST_NAME = re.compile(r"`(tests/[a-z_/]+\.py)(?:::(test_\w+))?`")


def page(name: str) -> str:
    return (DOCS / name).read_text()


def guides() -> str:
    """Both guides, without regard to where lines break."""
    return " ".join((page("user.md") + page("operator.md")).split())


def block(text: str, name: str) -> str:
    """What stands between the markers `NAME:begin` and `NAME:end`."""
    found = re.search(rf"<!-- {name}:begin[^>]*-->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    assert found, f"no block {name}"
    return found[1].strip()


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]


def settings() -> Iterator[tuple[str, Any]]:
    """(section.field, default) of every setting; a missing default is PydanticUndefined."""
    sections: dict[str, type[BaseModel]] = {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    assert sections.pop("carbon") is sections["price"] is Signal
    sections["domains"], sections["feeds"] = DomainConfig, FeedConfig
    for name, section in sections.items():
        for field, info in section.model_fields.items():
            yield f"{name}.{field}", info.default if info.default_factory is None else ...


def shown(default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    return f"{default:.12g}" if isinstance(default, int | float) else f"`{default}`"


@pytest.mark.parametrize(("name", "default"), list(settings()))
def test_every_setting_has_a_row_with_its_default(name: str, default: object) -> None:
    row = next((row for row in rows(page("operator.md")) if row.startswith(f"| `{name}` |")), None)
    assert row is not None, f"docs/operator.md has no row for {name}"
    if default is not ...:
        assert row.split("|")[3].strip() == shown(default)


def test_no_setting_is_documented_that_is_gone() -> None:
    known = {name for name, _ in settings()}
    sections = "|".join(sorted({name.partition(".")[0] for name in known}))
    named = re.findall(rf"`((?:{sections})\.[a-z_]+)`", page("operator.md"))
    assert {name for name in named if not name.endswith((".json", ".map"))} <= known


def test_the_example_configuration_is_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WATTMILL_CONFIG", "WATTMILL_STORAGE__DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    example = load_config(REPOSITORY / "wattmill.example.toml")
    assert example.model_dump() == Config().model_dump()
    text = (REPOSITORY / "wattmill.example.toml").read_text()
    left_out = {
        name for name, _ in settings() if not re.search(rf"\b{name.partition('.')[2]}( = |\]\])", text)
    }
    assert left_out == {"clock.rate", "clock.grid_start", "clock.real_start"}  # for demonstrations only


def test_metrics_are_documented_as_they_are() -> None:
    table = [f"| `{m.name}` | {m.type} | {', '.join(m.labels)} | {m.help} |" for m in METRICS]
    assert rows(block(page("operator.md"), "metrics")) == table


def test_the_state_table_is_the_codes() -> None:
    """Paste what this expects into docs/architecture.md when the lifecycle changes."""
    table = [f"| `{start}` | `{end}` | {why} |" for (start, end), why in TRANSITIONS.items()]
    assert rows(block(page("architecture.md"), "transitions")) == table


def commands() -> Iterator[str]:
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield name
        for inner in getattr(command, "commands", {}):
            yield f"{name} {inner}"


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_appears(command: str) -> None:
    assert re.search(rf"wattmill {command}\b", guides()) or f"`{command}`" in guides()


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for path, methods in ACCESS.items() for method in methods]
)
def test_every_route_appears_with_its_method(method: str, path: str) -> None:
    """As `POST /path`, or in a list of methods before it: `GET` and `POST /path`."""
    named = re.search(rf"\b{method}\b[^/|]{{0,30}} {re.escape(path)}`", guides())
    assert named, f"{method} {path} is in no guide"


@pytest.mark.parametrize("words", [WaitReason, Condition, JobState])
def test_every_word_for_a_job_is_explained(words: Any) -> None:
    assert [word for word in words if f"`{word}`" not in page("user.md")] == []


def test_every_field_of_a_job_and_its_bill_is_explained() -> None:
    text = page("user.md")
    fields = [*JobSpec.__dataclass_fields__, *BillView.model_fields]
    contract = ["flex", "pausable", "max_pause_s", "deadline", "price_ceiling_per_mwh"]
    wanted = set(fields) - {"contract", "start", "end"} | set(contract)
    assert sorted(name for name in wanted if f"`{name}`" not in text) == []


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_links_lead_somewhere(file: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text())
    local = [t for t in targets if "://" not in t and not t.endswith(".png")]
    assert [t for t in local if not (file.parent / t).exists()] == []


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_tests_that_are_named_exist(file: Path) -> None:
    for path, name in TEST_NAME.findall(file.read_text()):
        source = REPOSITORY / path
        assert source.is_file(), path
        assert not name or re.search(rf"def {name}\(", source.read_text()), f"{path}::{name}"


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_files_that_are_named_exist(file: Path) -> None:
    """Not those that are still to be written (NAME), or in the wheel alone (`_migrations`)."""
    named = [path for path in CODE_PATH.findall(file.read_text()) if not re.search(r"NAME|/_", path)]
    assert [path for path in named if not any(REPOSITORY.glob(path.rstrip("/")))] == []


def test_every_decision_is_in_the_index() -> None:
    index = page("adr/README.md")
    decisions = [file.name for file in sorted((DOCS / "adr").glob("[0-9]*.md"))]
    assert [name for name in decisions if f"]({name})" not in index] == []


def test_every_file_below_the_data_folder_is_listed() -> None:
    files_section = page("architecture.md").partition("## Files\n")[2].partition("\n## ")[0]
    layout, table = Layout(Path("DATA")), " ".join(rows(files_section))
    files = [getattr(layout, name) for name, kind in vars(Layout).items() if isinstance(kind, property)]
    names = [
        path.relative_to("DATA").as_posix() for path in files if path.suffix in {".json", ".map", ".sock"}
    ]
    assert names
    assert [name for name in names if f"`{name}`" not in table] == []


def test_where_the_solver_lives_is_told_as_it_is() -> None:
    importing = {
        file.relative_to(REPOSITORY).as_posix()
        for file in (REPOSITORY / "scheduler").rglob("*.py")
        if re.search(r"^\s*(?:from|import) ortools", file.read_text(), re.MULTILINE)
    }
    layers = page("architecture.md").partition("## Layers\n")[2].partition("\n## ")[0]
    told = layers.partition("OR-Tools in")[2].partition("FastAPI")[0]
    assert set(re.findall(r"`([\w/]+\.py)`", told)) == importing


@pytest.mark.parametrize("part", [PlanView, PlanSlotState, PlannedJobState])
def test_every_field_of_a_plan_is_explained(part: Any) -> None:
    section = page("operator.md").partition("### The plan\n")[2].partition("\n#")[0]
    told = {*re.findall(r"`(\w+)`", section), "at", "job_id", "end"}
    assert set(part.__annotations__) <= told
