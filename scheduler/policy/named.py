"""The policies that exist, by name: `open_policy("price_threshold:above=90,delay_h=12")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scheduler.policy.backfill import Backfill
from scheduler.policy.fifo import Fifo
from scheduler.policy.greedy import Greedy
from scheduler.policy.policy import Policy, UnknownPolicy
from scheduler.policy.price_threshold import PriceThreshold
from scheduler.policy.uniform_cap import UniformCap
from scheduler.policy.wait_awhile import WaitAwhile

Speeds = Mapping[tuple[str, str], float]  # (workload, GPU model): see `max_throughput`


@dataclass(frozen=True)
class Recipe:
    """How to make a policy from its name, the options by name, and what is known of speeds."""

    make: Callable[[str, Mapping[str, Any], Speeds], Policy]
    options: Mapping[str, Callable[[str], Any]]  # how each option's value is read

    def told(self) -> str:
        """The options, in words."""
        return ", ".join(f"{option}=..." for option in self.options) or "none"


def open_policy(text: str, *, speeds: Speeds | None = None) -> Policy:
    """A new policy, `NAME` or `NAME:OPTION=VALUE,...`; its `name` is the text.

    Args:
        speeds: how fast each workload is on each GPU model, in any unit that all share; where it is missing,
            all models count as equally fast. Only `max_throughput` looks at it.

    Raises:
        UnknownPolicy: no such policy or option, or a value that it cannot have; says what there is.
    """
    name, _, rest = text.strip().partition(":")
    recipe = POLICIES.get(name)
    if recipe is None:
        raise UnknownPolicy(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    options = _options(recipe, name, rest)
    try:
        return recipe.make(text.strip(), options, speeds or {})
    except ValueError as error:
        raise UnknownPolicy(f"{text!r}: {error}") from error


def _options(recipe: Recipe, name: str, text: str) -> dict[str, Any]:
    """`a=1,b=2` as values by name."""
    options: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        option, _, value = (part.strip() for part in item.partition("="))
        if option not in recipe.options:
            raise UnknownPolicy(f"policy {name} has no option {option!r}; it has {recipe.told()}")
        if option in options:
            raise UnknownPolicy(f"option {option} of policy {name} is given twice")
        try:
            options[option] = recipe.options[option](value)
        except ValueError as error:
            raise UnknownPolicy(f"option {option} of policy {name}: {error}") from error
    return options


def _switch(value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError(f"must be `on` or `off`, got {value!r}")
    return value == "on"


def _plain(kind: Callable[..., Policy]) -> Callable[[str, Mapping[str, Any], Speeds], Policy]:
    return lambda text, options, speeds: kind(name=text, **options)


def _max_throughput(text: str, options: Mapping[str, Any], speeds: Speeds) -> Policy:
    from scheduler.policy.max_throughput import MaxThroughput  # the solver is loaded only where it is used

    return MaxThroughput(name=text, speeds=speeds, **options)


def _wattmill(text: str, options: Mapping[str, Any], speeds: Speeds) -> Policy:
    from scheduler.plan.from_snapshot import deferrable_rows  # as above
    from scheduler.policy.wattmill import Wattmill
    from scheduler.solver_tasks import open_place, open_plan

    fields = {("cap" if option == "caps" else option): value for option, value in options.items()}
    return Wattmill(
        name=text, solve_place=open_place(), solve_plan=open_plan(), deferrable=deferrable_rows, **fields
    )


POLICIES: Final[Mapping[str, Recipe]] = {
    "fifo": Recipe(_plain(Fifo), {}),
    "backfill": Recipe(_plain(Backfill), {}),
    "uniform_cap": Recipe(_plain(UniformCap), {"share": float}),
    "price_threshold": Recipe(_plain(PriceThreshold), {"above": float, "delay_h": float}),
    "wait_awhile": Recipe(_plain(WaitAwhile), {}),
    "max_throughput": Recipe(_max_throughput, {"round_s": float, "objective": str}),
    "wattmill": Recipe(
        _wattmill,
        {
            "plan_every_s": float,
            "plan_limit_s": float,
            "place_limit_s": float,
            "caps": _switch,
            "shift": _switch,
            "pause": _switch,
            "pack": _switch,
        },
    ),
    "greedy": Recipe(_plain(Greedy), {}),
}
