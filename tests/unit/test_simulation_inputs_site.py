"""What a simulation runs on and under: clusters and budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from power.budget import Budget
from scheduler.simulation.budget_schedule import budgets_of
from scheduler.simulation.clusters import largest_gang, load_cluster, quiet_w, uniform_cluster
from scheduler.simulation.model import BadInput
from tests.builders import hours
from tests.conftest import REPOSITORY

START = datetime(2023, 6, 1, tzinfo=UTC)


def cluster_file(folder: Path, text: str) -> Path:
    path = folder / "small.toml"
    path.write_text(text)
    return path


class TestUniformCluster:
    def test_nodes_hang_in_racks_in_rows_under_the_site(self) -> None:
        cluster = uniform_cluster(gpus=20, model="NVIDIA A100", per_node=4, nodes_per_rack=2)
        tree = cluster.tree
        assert tree.path("GPU-000019") == ("node-4", "rack-2", "row-0", "site")
        assert tree.path("GPU-000007") == ("node-1", "rack-0", "row-0", "site")
        assert len(tree.gpus_under("rack-0")) == 8
        assert tree.gpu_uuids() == tuple(board.uuid for board in cluster.boards)
        assert tree.base_load_under_w("site") == 5 * 1500

    def test_the_last_node_may_have_fewer_gpus(self) -> None:
        tree = uniform_cluster(gpus=10, model="A40").tree
        assert [len(tree.gpus_under(f"node-{node}")) for node in (0, 1)] == [8, 2]

    def test_boards_have_the_caps_that_they_ship_with(self) -> None:
        (board,) = uniform_cluster(gpus=1, model="NVIDIA H100").boards
        assert (board.min_cap_w, board.max_cap_w, board.default_cap_w) == (200.0, 700.0, 700.0)

    def test_every_figure_out_of_range_is_named(self) -> None:
        with pytest.raises(BadInput) as error:
            uniform_cluster(gpus=0, model="", per_node=0, base_load_w=-1.0, pue=0.5)
        assert "5 mistake(s)" in str(error.value)
        for name in ("nodes.0.gpus", "nodes.0.model", "nodes.0.per_node", "nodes.0.base_load_w", "pue"):
            assert f"{name}: " in str(error.value)


class TestClusterFile:
    def test_groups_have_rows_of_their_own(self, tmp_path: Path) -> None:
        cluster = load_cluster(
            cluster_file(
                tmp_path,
                """
                pue = 1.5
                [[nodes]]
                model = "NVIDIA H100"
                gpus = 4
                per_node = 2
                nodes_per_rack = 1
                racks_per_row = 1
                base_load_w = 800
                [[nodes]]
                model = "NVIDIA V100"
                gpus = 2
                per_node = 2
                base_load_w = 400
                min_cap_w = 150
                [limits_w]
                site = 9000
                "rack-*" = 5000
                rack-1 = 4000
                """,
            )
        )
        limits_w = cluster.tree.limits_at(START)
        assert cluster.name == "small"
        assert [cluster.tree.path(f"GPU-00000{gpu}")[2] for gpu in (0, 2, 4)] == ["row-0", "row-1", "row-2"]
        assert [limits_w[name] for name in ("site", "rack-0", "rack-1", "rack-2")] == [9000, 5000, 4000, 5000]
        assert quiet_w(cluster.tree, "site") == 1.5 * (2 * 800 + 400)
        assert quiet_w(cluster.tree, "rack-2") == 400
        assert (cluster.boards[4].min_cap_w, cluster.boards[4].max_cap_w) == (150, 250)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("nodes = [", "not valid TOML"),
            ("", "nodes: Field required"),
            ("nodes = []", "nodes: List should have at least 1"),
            ("nodes = [{model = 'A40', gpus = 1, fans = 3}]", "nodes.0.fans: Extra inputs"),
            ("nodes = [{model = 'A40', gpus = 1, min_cap_w = 400}]", "min_cap_w 400 is above max_cap_w 300"),
            ("nodes = [{model = 'A40', gpus = 1000000}, {model = 'A40', gpus = 1}]", "1000001 GPUs are more"),
            ("nodes = [{model = 'A40', gpus = 1}]\nlimits_w = {cage = 9}", "limits_w.cage: there is no such"),
            (
                "nodes = [{model = 'A40', gpus = 1}]\nlimits_w = {site = 1500}",
                "base loads and overhead alone are",
            ),
        ],
    )
    def test_a_mistake_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        path = cluster_file(tmp_path, text)
        with pytest.raises(BadInput, match=said) as error:
            load_cluster(path)
        assert str(path) in str(error.value)

    def test_all_mistakes_are_named_together(self, tmp_path: Path) -> None:
        text = "pue = 0\n[[nodes]]\ngpus = 0\n[[nodes]]\nmodel = 'A40'\ngpus = 8\nper_node = 'many'"
        with pytest.raises(BadInput, match=r"4 mistake\(s\)"):
            load_cluster(cluster_file(tmp_path, text))

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"cannot read .*none\.toml: No such file"):
            load_cluster(tmp_path / "none.toml")

    @pytest.mark.parametrize(
        "path", sorted((REPOSITORY / "examples/clusters").glob("*.toml")), ids=lambda p: p.stem
    )
    def test_the_examples_can_be_loaded_and_power_their_gpus_at_their_least_caps(self, path: Path) -> None:
        cluster = load_cluster(path)
        used_w = cluster.tree.usage_w({board.uuid: board.min_cap_w for board in cluster.boards})
        limits_w = cluster.tree.limits_at(START)
        assert cluster.boards
        assert all(used_w[name] <= limit_w for name, limit_w in limits_w.items())


class TestLargestGang:
    def test_it_is_all_boards_of_the_kind_that_has_most(self, tmp_path: Path) -> None:
        text = """
            nodes = [
                {model = "V100", gpus = 36}, {model = "A40", gpus = 20}, {model = "A40", gpus = 20},
                {model = "A40", gpus = 30, max_cap_w = 250},
            ]"""
        assert largest_gang(load_cluster(cluster_file(tmp_path, text))) == 40


class TestBudgets:
    CLUSTER = uniform_cluster(gpus=16, model="NVIDIA A100", base_load_w=500.0, pue=1.2)

    def budgets(self, text: str, peak_w: float | None = None) -> tuple[Budget, ...]:
        return budgets_of(text, tree=self.CLUSTER.tree, start=START, peak_w=peak_w)

    def schedule(self, folder: Path, *rows: str, header: str = "start_utc,limit_w,end_utc,domain") -> str:
        path = folder / "budgets.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return str(path)

    @pytest.mark.parametrize(
        ("text", "limit_w"),
        [
            ("250000", 250_000),
            ("250kW", 250_000),
            ("1.2 MW", 1_200_000),
            ("2500.5W", 2500.5),
            ("70%", 7000),
            ("100%", 10_000),
        ],
    )
    def test_a_figure_holds_on_the_site_from_the_start_on(self, text: str, limit_w: float) -> None:
        (budget,) = self.budgets(text, peak_w=10_000)
        assert budget.limit_w == pytest.approx(limit_w)
        assert (budget.domain, budget.start, budget.end) == ("site", START, None)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("70%", "a share of a peak that is not known"),
            ("0", "must be above 0"),
            ("9000000MW", "at most 1e.12 W"),
            ("110%", "more than the whole peak"),
            ("1.2.3kW", "budget: "),
            ("1200", "1200 W leaves site nothing for GPUs: base loads and overhead alone are 1200 W"),
            ("lots", "'lots' is neither watts .*, nor a file"),
            ("-5kW", "neither watts"),
        ],
    )
    def test_a_figure_that_cannot_be_used_is_refused(self, text: str, said: str) -> None:
        with pytest.raises(BadInput, match=said):
            self.budgets(text)

    def test_an_open_row_holds_until_the_next_one_and_a_target_lies_beside_it(self, tmp_path: Path) -> None:
        path = self.schedule(
            tmp_path,
            "2023-06-01T12:00Z,60%,,",
            "2023-06-01T00:00Z,8kW,,site",
            "2023-06-01T06:00+00:00,4000,2023-06-01T09:00Z,",
            "2023-06-01T06:00Z,2000,,rack-0",
        )
        budgets = self.budgets(path, peak_w=10_000)
        seen = {
            hour: self.CLUSTER.tree.limits_at(START + hours(hour), budgets)
            for hour in (0, 6, 8.999, 9, 12, 99)
        }
        assert [limits["site"] for limits in seen.values()] == [8000, 4000, 4000, 8000, 6000, 6000]
        assert [limits["rack-0"] < 1e9 for limits in seen.values()] == [False, True, True, True, True, True]
        assert [budget.source for budget in budgets] == ["operator", "operator", "target", "operator"]
        assert len({budget.id for budget in budgets}) == 4

    def test_two_columns_are_enough(self, tmp_path: Path) -> None:
        path = self.schedule(
            tmp_path, "2023-06-01T00:00Z,8000", "2023-06-02T00:00Z,9000", header="start_utc,limit_w"
        )
        first, second = self.budgets(path)
        assert (first.end, second.end) == (second.start, None)

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            (
                "2023-06-01,8000,,",
                "line 3, column start_utc: '2023-06-01' cannot be used; wanted: a time with",
            ),
            ("2023-06-02T00:00Z,8000,noon,", "line 3, column end_utc: 'noon'"),
            ("0001-01-01T00:00+05:00,8000,,", "line 3, column start_utc: '0001.*in the years 2000 to 2099"),
            ("2023-06-02T00:00Z,70%,,", "line 3, column limit_w: '70%'.*only where the peak is given"),
            ("2023-06-02T00:00Z,0,,", "line 3, column limit_w: '0'"),
            ("2023-06-02T00:00Z,8000,2023-06-02T00:00Z,", "line 3, column end_utc: the end is not after"),
            ("2023-06-02T00:00Z,8000,,cage", "line 3, column domain: there is no 'cage'"),
            ("2023-06-02T00:00Z,1000,,", "line 3, 1000 W leaves site nothing for GPUs"),
            ("2023-06-01T02:00+02:00,9000,,", "line 3, column start_utc: line 2 begins then too"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path: Path, row: str, said: str) -> None:
        with pytest.raises(BadInput, match=said):
            self.budgets(self.schedule(tmp_path, "2023-06-01T00:00Z,8000,,", row))

    def test_a_schedule_without_rows_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no budget"):
            self.budgets(self.schedule(tmp_path))
