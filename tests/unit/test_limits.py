"""What a domain's meter shows at the least."""

from __future__ import annotations

from api.limits import Floor, floor_of
from power.budget import Domain, PowerTree


def test_overhead_counts_at_the_meter() -> None:
    tree = PowerTree.of([Domain(name="site", pue=1.5), Domain(name="node", parent="site", base_load_w=100.0)])
    totals = {name: floor_of(name, tree, None, 15.0).empty_total_w for name in tree.domains}
    assert totals == {"site": 150.0, "node": 100.0}


def test_totals_are_base_loads_and_gpus_times_overhead() -> None:
    floor = Floor(base_w=100.0, idle_w=50.0, loaded_w=200.0, gpus=2, pue=1.2)
    assert (floor.empty_total_w, floor.loaded_total_w) == (180.0, 360.0)
