"""Writes what simulations came to into a folder: tables, plots, `summary.json` and `timing.json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scheduler.simulation import plots, tables
from scheduler.simulation.bound import Bound
from scheduler.simulation.common_end import to_common_end
from scheduler.simulation.compare import compare
from scheduler.simulation.measures import Measures, measure
from scheduler.simulation.model import BadInput, Outcome
from scheduler.simulation.quarter_hours import QuarterHours, quarter_hours

_FILE_NAME: Final = re.compile(r"[\w.+-]+", re.ASCII)


def write_results(
    folder: Path,
    outcomes: Sequence[Outcome],
    bound: Bound | None,
    inputs: Mapping[str, object],
    *,
    with_plots: bool = True,
) -> tuple[Path, ...]:
    """All results of policies on one scenario, in the order given; files of the same names are replaced.

    Args:
        folder: made where it does not exist. Other files in it stay.
        outcomes: one per policy; all of one scenario. What they cost is counted to their common end.
        bound: what no policy can beat until that end; None where it was not sought.
        inputs: what was asked, file names with sha256, counts, dropped rows; as `summary.json` shows it.
        with_plots: needs the extra `results`.

    Returns:
        The paths written, `summary.json` last: where it is new, so is all the rest.

    Raises:
        BadInput: no outcome, two of one name or of different scenarios, a policy's name that cannot be
            part of a file's, or plots without matplotlib. Nothing is written then.
        OSError: the folder cannot be written.
    """
    _check(outcomes)
    outcomes = to_common_end(outcomes)
    measures = {outcome.policy: measure(outcome) for outcome in outcomes}
    means = {outcome.policy: quarter_hours(outcome) for outcome in outcomes}
    texts = _plots(measures, means, bound) if with_plots else {}
    for outcome in outcomes:
        stem = file_part(outcome.policy)
        texts[f"jobs_{stem}.csv"] = tables.jobs_csv(outcome)
        texts[f"power_{stem}.csv"] = tables.power_csv(means[outcome.policy])
    comparisons = compare(measures, bound)
    texts["policies.csv"] = tables.policies_csv(measures, comparisons)
    texts["timing.json"] = _json(tables.timing(outcomes, bound))
    seed = outcomes[0].scenario.seed
    texts["summary.json"] = _json(tables.summary(measures, comparisons, bound, seed=seed, inputs=inputs))
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_write(folder / name, text) for name, text in texts.items())


def file_part(policy: str) -> str:
    """The policy's name as part of a file's: `price_threshold:above=90,delay_h=6` as
    `price_threshold+above-90+delay_h-6`."""
    return policy.translate(str.maketrans(":,=", "++-"))


def _check(outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        raise BadInput("no results to write: no policy was simulated")
    names = [outcome.policy for outcome in outcomes]
    if len(set(map(file_part, names))) != len(names):
        raise BadInput(f"two outcomes share a policy's name, and so would their files: {sorted(names)}")
    for outcome in outcomes:
        if not _FILE_NAME.fullmatch(file_part(outcome.policy)):
            raise BadInput(
                f"policy {outcome.policy!r}: its name is part of file names; use letters, digits and _ . + -"
            )
        if outcome.scenario is not outcomes[0].scenario and outcome.scenario != outcomes[0].scenario:
            raise BadInput(f"policies {names[0]} and {outcome.policy} ran different scenarios")


def _plots(
    measures: Mapping[str, Measures], means: Mapping[str, QuarterHours], bound: Bound | None
) -> dict[str, str]:
    plots.need_matplotlib()
    return {
        "power.svg": plots.svg(plots.plot_power(means)),
        "frontier.svg": plots.svg(plots.plot_frontier(measures, bound)),
        "tiers.svg": plots.svg(plots.plot_tiers(measures)),
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> Path:
    """Replace the file in one step."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    os.replace(partial, path)
    return path
