"""`wattmill simulate` as a person or a script meets it, and its page."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main

from api.cli import app, main
from api.commands.client import EXIT_REFUSED, EXIT_USAGE
from scheduler.policy.named import POLICIES
from tests.simulate_builders import Inputs

Streams = pytest.CaptureFixture[str]
BOTH = ("--policy", "fifo", "--policy", "backfill")
PROMISED = {
    *("cost", "energy_kwh", "co2_kg", "mean_jct_s", "p50_jct_s", "p95_jct_s", "p99_jct_s", "mean_slowdown"),
    *("deadlines_missed", "contracts_broken", "budget_excess_caps_ws", "budget_excess_draw_1s_ws"),
    *("preemptions", "saving_captured", "regret_cost", "gpu_utilization", "useful_work_per_kwh"),
    "cost_per_gpu_hour_of_work",
}
PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.in_folder(tmp_path_factory.mktemp("inputs"))


def test_it_writes_the_results_and_shows_a_table(inputs: Inputs, tmp_path: Path, capsys: Streams) -> None:
    out = tmp_path / "out"
    assert main(inputs.arguments(out, *BOTH, "--start", "2023-06-01", "--no-plots", "--seed", "3")) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary) == ["policies", "bound", "seed", "inputs"]
    assert list(summary["policies"]) == ["fifo", "backfill"]
    for figures in summary["policies"].values():
        assert set(figures) >= PROMISED
    assert summary["bound"]["cost"] <= summary["policies"]["backfill"]["gpu_cost"]
    assert (summary["seed"], summary["inputs"]["start"]) == (3, "2023-06-01T00:00:00+00:00")
    shown = capsys.readouterr().out
    assert "saving captured" in shown
    assert re.search(r"^fifo +\d", shown, re.MULTILINE)
    assert f"{len(list(out.iterdir()))} files in" in shown


def test_json_is_the_summary_alone(inputs: Inputs, tmp_path: Path, capsys: Streams) -> None:
    out = tmp_path / "out"
    assert main(inputs.arguments(out, "--policy", "fifo", "--no-plots", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "summary.json").read_text())


def test_by_default_it_starts_five_weeks_into_the_prices(inputs: Inputs, tmp_path: Path) -> None:
    assert main(inputs.arguments(tmp_path, "--policy", "fifo", "--no-plots")) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["inputs"]["start"] == "2023-06-01T00:00:00+00:00"


def test_options_reach_the_simulation(inputs: Inputs, tmp_path: Path) -> None:
    more = ["--contracts", "none:1", "--budget", "3kW", "--days", "0-0.1", "--deadline", "none"]
    assert main(inputs.arguments(tmp_path, "--policy", "fifo", "--no-plots", *more)) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    asked, found = summary["inputs"], summary["policies"]["fifo"]
    assert (asked["contracts"], asked["budget"], asked["days"], asked["deadline"]) == (
        *("none:1", "3kW", [0.0, 0.1]),
        None,
    )
    assert found["jobs"] == asked["jobs"] == found["jobs_none"] == 5
    assert (found["deadlines"], found["budget_excess_caps_ws"]) == (0, 0.0)
    assert found["limited_h"] > 0


def test_plots_need_matplotlib_and_no_plots_does_not(
    inputs: Inputs, tmp_path: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "out"
    assert main(inputs.arguments(out, "--policy", "fifo")) == EXIT_REFUSED
    assert "wattmill[results]" in capsys.readouterr().err
    assert not out.exists()
    assert main(inputs.arguments(out, "--policy", "fifo", "--no-plots", "--days", "0-0.05")) == 0
    assert not list(out.glob("*.svg"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--days", "3"], "--days must be FROM-TO"),
        (["--days", "5-2"], "--days must be FROM-TO"),
        (["--days", "400-401"], "jobs.csv"),
        (["--start", "yesterday"], "--start must be a time such as 2023-06-01T00:00Z, in the years"),
        (["--start", "9999-12-31"], "got '9999-12-31'"),
        (["--start", "0001-01-01T00:00+23:59"], "got '0001-01-01T00:00+23:59'"),
        (["--start", "2024-06-01"], "prices.csv covers 2023-04-26"),
        (["--policy", "magic"], "no policy 'magic'; there are fifo, backfill"),
        (["--contracts", "none:0.2"], "contracts"),
        (["--deadline", "soon"], "deadline: 'soon' cannot be read"),
        (["--budget", "little"], "budget: 'little' is neither"),
        (["--budget", "10W"], "budget"),
        (["--model", "Abacus 3000", "--value", "gold=1"], "names none of the classes low, standard, high"),
        (["--value", "standard=much"], "'standard=much' is not CLASS=MONEY"),
        (["--value", "standard=0"], "must be above 0"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    inputs: Inputs, tmp_path: Path, capsys: Streams, given: list[str], told: str
) -> None:
    out = tmp_path / "out"
    policy = [] if "--policy" in given else ["--policy", "fifo"]
    assert main(inputs.arguments(out, "--no-plots", *policy, *given)) == EXIT_REFUSED
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("wattmill: ")
    assert told in error
    assert "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a,0,none,60", "line 2, column gpus"),
        ("a,0,1,-5", "line 2, column duration_s"),
        ("a,never,1,60", "line 2, column submit_s"),
        ("a,0,64,60", "largest gang"),
    ],
)
def test_a_trace_that_is_bad_is_named_with_its_line(
    inputs: Inputs, tmp_path: Path, capsys: Streams, row: str, told: str
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(f"job_id,submit_s,gpus,duration_s\n{row}\n")
    out = tmp_path / "out"
    line = Inputs(trace=bad, prices=inputs.prices).arguments(out, "--policy", "fifo", "--no-plots")
    assert main(line) == EXIT_REFUSED
    error = " ".join(capsys.readouterr().err.split())
    assert "bad.csv" in error
    assert told in error


@pytest.mark.parametrize("content", [b"", b"time_utc,value\nnever,5\n", b"\xff\xfe\x00"])
def test_prices_that_are_none_are_named(
    inputs: Inputs, tmp_path: Path, capsys: Streams, content: bytes
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_bytes(content)
    line = Inputs(trace=inputs.trace, prices=bad).arguments(
        tmp_path / "out", "--policy", "fifo", "--no-plots"
    )
    assert main(line) == EXIT_REFUSED
    assert "bad.csv" in capsys.readouterr().err


def test_errors_can_be_read_by_scripts(inputs: Inputs, tmp_path: Path, capsys: Streams) -> None:
    assert main(inputs.arguments(tmp_path, "--policy", "magic", "--json")) == EXIT_REFUSED
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "no policy 'magic'" in json.loads(streams.err.splitlines()[-1])["title"]


def test_files_and_folders_are_looked_at_before_anything_runs(
    inputs: Inputs, tmp_path: Path, capsys: Streams
) -> None:
    there = tmp_path / "file"
    there.write_text("mine")
    assert main(inputs.arguments(there, *BOTH)) == EXIT_USAGE
    gone = Inputs(trace=tmp_path / "gone.csv", prices=inputs.prices)
    assert main(gone.arguments(tmp_path / "out", *BOTH)) == EXIT_USAGE
    told = re.sub(r"[\s│]", "", capsys.readouterr().err)  # a long path is broken over the lines of a box
    assert "gone.csv" in told
    assert there.read_text() == "mine"


# --- its page -----------------------------------------------------------------------------------------------


def rows(block: str) -> dict[str, list[str]]:
    """Cells by the first one, of the table in this block of the page."""
    found = re.search(rf"<!-- {block}:begin[^>]*-->\n(.*?)<!-- {block}:end -->", PAGE.read_text(), re.DOTALL)
    assert found, f"no block {block}"
    lines = [line.split("|")[1:-1] for line in found[1].splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


def shown(default: object) -> str:
    if default is None or isinstance(default, bool):
        return {None: "none", True: "on", False: "off"}[default]
    return f"{default:g}" if isinstance(default, int | float) else f"`{default}`"


def test_the_page_has_every_option_with_its_default() -> None:
    group = typer.main.get_command(app)
    options = group.commands["simulate"].params  # type: ignore[attr-defined]
    expected = {
        max(option.opts, key=len): "required" if option.required else shown(option.default)
        for option in options
        if option.name != "help"
    }
    assert {name: cells[0] for name, cells in rows("options").items()} == expected


def test_the_page_has_every_policy_with_its_options() -> None:
    expected = {
        name: ", ".join(f"`{option}`" for option in recipe.options) or "none"
        for name, recipe in POLICIES.items()
    }
    assert {name: cells[0] for name, cells in rows("policies").items()} == expected


def test_the_page_has_every_file_that_is_written(inputs: Inputs, tmp_path: Path) -> None:
    assert main(inputs.arguments(tmp_path, "--policy", "fifo", "--days", "0-0.05")) == 0
    written = {path.name.replace("_fifo.", "_NAME.") for path in tmp_path.iterdir()}
    assert set(rows("files")) == written


def test_the_command_of_the_page_can_be_pasted(tmp_path: Path, data_dir: Path, capsys: Streams) -> None:
    """An hour of the same trace, in place of its day."""
    found = re.search(r"<!-- command:begin -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    text = found[1].replace("\\\n", " ").replace("$WATTMILL_DATA", str(data_dir))
    _, *arguments = shlex.split(text)
    changed = {"first-simulation": str(tmp_path), "0-1": "0-0.05"}
    given = [changed.get(word, word) for word in arguments]
    given[given.index("--cluster") + 1] = str(PAGE.parents[1] / given[given.index("--cluster") + 1])
    assert main([*given, "--processes", "1"]) == 0
    assert "wattmill" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 10
