"""Water-filling on small sites that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from power.budget import Domain, PowerTree
from power.capping import Holdings, split_watts
from tests.cap_builders import NCF, CapDemand, columns
from tests.cap_builders import split as water_fill


def site(**nodes: int) -> PowerTree:
    """A site with nodes of so many GPUs: GPU names are `<node><index>`."""
    leaves = [
        Domain(name=name, parent="site", gpu_uuids=tuple(f"{name}{index}" for index in range(count)))
        for name, count in nodes.items()
    ]
    return PowerTree.of([Domain(name="site"), *leaves])


def demand(key: str, *gpus: str, **more: Any) -> CapDemand:
    return CapDemand(key=key, gpu_uuids=gpus or (key,), **more)


def test_no_jobs_need_no_watts() -> None:
    split = water_fill([], site(a=1), {"site": 100.0})
    assert (split.caps_w, split.value, split.bound) == ({}, 0.0, 0.0)


def test_everybody_at_the_ceiling_where_it_fits() -> None:
    split = water_fill([demand("a0"), demand("a1", ceiling_w=220.0)], site(a=2), {"site": 520.0})
    assert split.caps_w == {"a0": 300.0, "a1": 220.0}
    assert set(split.limited_by.values()) == {"nothing"}
    assert split.binding == {"a0": None, "a1": None}


def test_equals_share_equally() -> None:
    split = water_fill([demand("a0"), demand("a1")], site(a=2), {"site": 400.0})
    assert split.caps_w["a0"] == pytest.approx(200.0, abs=2.0)
    assert sum(split.caps_w.values()) == pytest.approx(400.0, abs=0.01)
    assert split.limited_by == {"a0": "budget", "a1": "budget"}
    assert split.binding == {"a0": "site", "a1": "site"}


def test_watts_go_where_they_are_worth_most() -> None:
    cheap, dear = demand("a0", value=0.5), demand("a1", value=4.0)
    split = water_fill([cheap, dear], site(a=2), {"site": 400.0})
    assert split.caps_w["a1"] > split.caps_w["a0"] + 20.0


def test_a_job_that_loses_nothing_gives_way() -> None:
    """A memory-bound job at 100 W is as fast as at 300 W: the watts belong to its neighbour."""
    split = water_fill([demand("a0", curve=NCF), demand("a1")], site(a=2), {"site": 400.0})
    assert split.caps_w["a0"] < 130.0
    assert split.caps_w["a1"] > 265.0


def test_a_gang_has_one_cap_and_each_domain_pays_for_its_part() -> None:
    gang = demand("g", "a0", "a1", "b0")
    split = water_fill([gang, demand("b1")], site(a=2, b=2), {"a": 300.0, "b": 420.0})
    assert split.caps_w == {"g": 150.0, "b1": 270.0}
    assert split.binding == {"g": "a", "b1": "b"}


def test_gang_across_nodes_takes_from_the_single_where_only_one_node_is_short() -> None:
    """A watt of the tight node buys the gang two GPU-watts: more than the slightly dearer single job."""
    gang = demand("g", "a0", "b0", value=1.0)
    single = demand("a1", value=1.2)
    split = water_fill([gang, single], site(a=2, b=1), {"a": 400.0})
    assert split.caps_w["g"] > split.caps_w["a1"]
    assert split.bound - split.value < 2e-3 * split.bound


def test_price_stops_below_the_ceiling_but_not_below_the_floor() -> None:
    dear = 20_000.0
    split = water_fill(
        [demand("a0", price=dear), demand("a1", price=dear, floor_w=280.0)], site(a=2), {"site": 600.0}
    )
    assert split.caps_w["a0"] < 250.0
    assert split.caps_w["a1"] == 280.0
    assert split.limited_by == {"a0": "price", "a1": "price"}


def test_negative_price_goes_to_the_ceiling() -> None:
    split = water_fill([demand("a0", price=-500.0)], site(a=1), {"site": 600.0})
    assert split.caps_w == {"a0": 300.0}


def test_floors_break_from_the_least_important_and_no_further_than_needed() -> None:
    jobs = [
        demand("a0", floor_w=250.0, rank=2),
        demand("a1", floor_w=250.0, rank=0),
        demand("a2", floor_w=250.0),
    ]
    split = water_fill(jobs, site(a=3), {"a": 550.0})
    assert split.caps_w == {"a0": 250.0, "a1": 100.0, "a2": 200.0}
    assert [(b.key, b.domain, b.floor_w, b.given_w) for b in split.broken] == [
        ("a1", "a", 250.0, 100.0),
        ("a2", "a", 250.0, 200.0),
    ]
    assert split.must_pause == ()
    assert split.binding["a1"] == "a"


def test_among_equals_the_youngest_gives_way() -> None:
    jobs = [demand(key, floor_w=200.0) for key in ("a0", "a1")]
    split = water_fill(jobs, site(a=2), {"a": 350.0})
    assert [b.key for b in split.broken] == ["a1"]


def test_below_the_minimums_jobs_must_pause_and_the_shortage_is_named() -> None:
    jobs = [demand("a0", rank=2), demand("a1", rank=0), demand("a2", rank=1), demand("b0", rank=0)]
    split = water_fill(jobs, site(a=3, b=1), {"a": 150.0, "b": 300.0})
    assert split.must_pause == ("a1", "a2")
    assert split.missing_w == {"a": 150.0}
    assert split.caps_w == {"a0": 150.0, "a1": 100.0, "a2": 100.0, "b0": 300.0}
    assert split.binding["a1"] == "a"


def test_nobody_pauses_who_need_not() -> None:
    """The small job goes first, but once the gang has to go too, the small one may stay."""
    jobs = [demand("g", "a0", "a1", "a2", rank=1), demand("a3", rank=0)]
    split = water_fill(jobs, site(a=4), {"a": 250.0})
    assert split.must_pause == ("g",)


def test_cut_to_nothing_pauses_everybody() -> None:
    split = water_fill([demand("a0"), demand("a1")], site(a=2), {"site": -50.0})
    assert set(split.must_pause) == {"a0", "a1"}
    assert split.missing_w["site"] == 250.0
    assert split.value == 0.0


def test_paused_jobs_leave_their_watts_to_the_floors_of_others() -> None:
    jobs = [demand("a0", floor_w=180.0, rank=2), demand("a1", rank=0)]
    split = water_fill(jobs, site(a=2), {"a": 190.0})
    assert split.must_pause == ("a1",)
    assert split.broken == ()
    assert split.caps_w["a0"] == 190.0


def test_floor_above_the_ceiling_counts_as_the_ceiling() -> None:
    split = water_fill([demand("a0", floor_w=280.0, ceiling_w=200.0)], site(a=1), {})
    assert split.caps_w == {"a0": 200.0}


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (replace(demand("a0"), value=math.nan), "finite"),
        (replace(demand("a0"), floor_w=math.inf), "finite"),
        (replace(demand("a0"), gpu_uuids=()), "have a GPU"),
    ],
)
def test_figures_must_be_numbers(broken: CapDemand, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        water_fill([broken], site(a=1), {})


def test_an_available_figure_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="numbers"):
        water_fill([demand("a0")], site(a=1), {"site": math.nan})


def test_a_gpu_on_no_domain_is_refused() -> None:
    outside = replace(
        columns([demand("a0")], site(a=1)), holdings=Holdings(*map(np.array, ([0], [-1], [1.0])))
    )
    with pytest.raises(ValueError, match="hang on a domain"):
        split_watts(outside, site(a=1).index, np.full(2, math.inf))
