"""`wattmill serve | token | db`: running the daemon and letting people in."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from api.commands.client import CommandError, Target
from api.commands.session import AsJson, client_of, show
from api.commands.submit import seconds
from api.commands.tables import moment, print_json, table

token = typer.Typer(no_args_is_help=True, help="Who may come in, and as what.")
db = typer.Typer(no_args_is_help=True, help="The database of the daemon.")


def serve(ctx: typer.Context) -> None:
    """Run the daemon here, until Ctrl-C. Jobs that run go on without it."""
    from api.serve import AlreadyServing
    from api.serve import serve as run_daemon
    from scheduler.store import StoreError
    from telemetry.logs import configure_logging

    config = (ctx.find_object(Target) or Target()).load()
    configure_logging()
    try:
        raise typer.Exit(run_daemon(config))
    except AlreadyServing as error:
        raise CommandError(str(error)) from error
    except StoreError as error:
        raise CommandError(f"the database cannot be used: {error}", "see `wattmill doctor`") from error
    except OSError as error:
        raise CommandError(f"the data folder cannot be used: {error}", "see `wattmill doctor`") from error


@token.command("ls")
def token_ls(ctx: typer.Context, as_json: AsJson = False) -> None:
    """All tokens, without their secrets."""
    with client_of(ctx) as client:
        show(client.get("/v1/tokens"), as_json, _render_tokens)


@token.command("create")
def token_create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Who it is for: owns the jobs submitted with it.")],
    role: Annotated[str, typer.Option(help="viewer, user, operator or admin.")] = "user",
    expires: Annotated[str, typer.Option(metavar="TIME", help="30d, 12h.")] = "90d",
    as_json: AsJson = False,
) -> None:
    """Make a token. Its secret is shown once."""
    body = {"name": name, "role": role, "expires_in_s": seconds(expires)}
    with client_of(ctx) as client:
        show(client.post("/v1/tokens", body), as_json, _render_secret)


@token.command("revoke")
def token_revoke(ctx: typer.Context, token_id: str) -> None:
    """Shut a token out, from now on."""
    with client_of(ctx) as client:
        client.delete(f"/v1/tokens/{token_id}")
        show(None, False, lambda _: Text(f"revoked {token_id}"))


def _render_secret(made: dict[str, Any]) -> RenderableType:
    until = f"until {moment(made['expires_at'])} UTC"
    note = f"for {made['name']}, {made['role']}, {until}; shown now and never again"
    return Group(Text(made["secret"], style="bold"), Text(note, style="dim"))


def _render_tokens(page: dict[str, Any]) -> RenderableType:
    rows = [
        (
            t["id"],
            t["name"],
            t["role"],
            moment(t["created_at"]),
            moment(t["expires_at"]),
            "valid" if t["valid"] else "revoked" if t["revoked_at"] else "expired",
        )
        for t in page["items"]
    ]
    return table(("ID", "NAME", "ROLE", "CREATED (UTC)", "EXPIRES", "STATE"), rows)


@db.command("path")
def db_path(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Where the database is."""
    from api.doctor_probes import without_password

    config = (ctx.find_object(Target) or Target()).load()
    url = without_password(config.storage.url())
    if as_json:
        print_json({"url": url, "data_dir": str(config.storage.data_dir)})
    else:
        show(None, False, lambda _: Text(url.removeprefix("sqlite:///")))


@db.command("upgrade")
def db_upgrade(ctx: typer.Context) -> None:
    """Bring the database to this version. `wattmill serve` does the same at its start."""
    from api.doctor_probes import without_password
    from scheduler.layout import Layout
    from scheduler.store import StoreError, open_store

    config = (ctx.find_object(Target) or Target()).load()
    try:
        Layout(config.storage.data_dir).create()
        open_store(config.storage.url(), upgrade=True).close()
    except (StoreError, OSError) as error:
        raise CommandError(f"the database cannot be upgraded: {error}", "see `wattmill doctor`") from error
    show(None, False, lambda _: Text(f"{without_password(config.storage.url())} is up to date"))
