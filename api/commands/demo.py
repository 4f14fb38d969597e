"""`wattmill demo`: the whole thing in four minutes, on this machine."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from api.demo.scenario import DEFAULT_RATE, FASTEST_RATE

GpuChoice = Literal["auto", "real", "simulated"]


def demo(
    unattended: Annotated[
        bool, typer.Option("--exit", help="Plain lines, and exit code 1 if a promise was broken.")
    ] = False,
    speed: Annotated[
        float, typer.Option(min=60.0, max=FASTEST_RATE, help="How many times as fast the day is replayed.")
    ] = DEFAULT_RATE,
    gpus: Annotated[GpuChoice, typer.Option(help="auto: real ones if there are three or more.")] = "auto",
) -> None:
    """Replay a real day of prices over three real training jobs, and show the bill."""
    from api.demo.runner import run_demo

    raise typer.Exit(run_demo(unattended=unattended, rate=speed, gpus=gpus))
