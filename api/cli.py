"""The command `wattmill`. Each sub-command is in `api/commands/`; this file names them all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from api.commands import admin, demo, doctor, grid, jobs, power, report, simulate, submit, top
from api.commands.client import CommandError, Target
from api.commands.tables import print_error

app = typer.Typer(
    name="wattmill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Options of wattmill end at the first word of the program, so that its own options need no `--`.
PROGRAM_FOLLOWS = {"allow_interspersed_args": False}

YOURS, SITE, DAEMON = "Your jobs", "The site", "The daemon"


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(help="Where the daemon listens.", envvar="WATTMILL_URL")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with your token. Else: WATTMILL_TOKEN.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The daemon's wattmill.toml.", envvar="WATTMILL_CONFIG"),
    ] = None,
    version_: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda v: _version(v))
    ] = False,
) -> None:
    """Runs torch training jobs on GPUs under a power budget and an electricity bill."""
    ctx.obj = Target(url=url, token_file=token_file, config=config)


def _version(asked: bool) -> None:
    if asked:
        try:
            sys.stdout.write(f"wattmill {version('wattmill')}\n")
        except PackageNotFoundError:
            sys.stdout.write("wattmill, not installed\n")
        raise typer.Exit


app.command("submit", context_settings=PROGRAM_FOLLOWS, help="Submit a job.", rich_help_panel=YOURS)(
    submit.job
)
app.command(
    "plan",
    context_settings=PROGRAM_FOLLOWS,
    help="What such a job would get, per flex tier, without submitting it.",
    rich_help_panel=YOURS,
)(submit.job)
app.command("ls", rich_help_panel=YOURS)(jobs.ls)
app.command("show", rich_help_panel=YOURS)(jobs.show_job)
app.command("why", rich_help_panel=YOURS)(jobs.why)
app.command("logs", rich_help_panel=YOURS)(jobs.logs)
for _name in jobs.ORDERS:
    app.command(_name, rich_help_panel=YOURS)(jobs.order(_name))

app.command("top", rich_help_panel=SITE)(top.top)
app.add_typer(power.node, name="node", rich_help_panel=SITE)
app.add_typer(power.budget, name="budget", rich_help_panel=SITE)
app.add_typer(power.target, name="target", rich_help_panel=SITE)
app.add_typer(grid.price, name="price", rich_help_panel=SITE)
app.add_typer(grid.policy, name="policy", rich_help_panel=SITE)
app.add_typer(report.report, name="report", rich_help_panel=SITE)
app.command("simulate", rich_help_panel=SITE)(simulate.simulate)

app.command("serve", rich_help_panel=DAEMON)(admin.serve)
app.command("demo", rich_help_panel=DAEMON)(demo.demo)
app.command("doctor", rich_help_panel=DAEMON)(doctor.doctor)
app.add_typer(admin.token, name="token", rich_help_panel=DAEMON)
app.add_typer(admin.db, name="db", rich_help_panel=DAEMON)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line. Returns its exit code: 0 done, 1 refused, 2 usage, 3 no daemon."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without UTF-8
    try:
        app(args=arguments, prog_name="wattmill")
    except CommandError as error:
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        print_error(error, as_json="--json" in ours)
        return error.exit_code
    except BrokenPipeError:
        return 0  # the reader, such as `head`, has seen enough
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
