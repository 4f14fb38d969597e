"""What the jobs of a trace are given: contracts by shares of GPU-hours, guesses, workloads."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power.curve import board_caps_w, prior
from scheduler.model import Flex
from scheduler.simulation.contracts import (
    ContractMix,
    DeadlineRule,
    contracts_of,
    parse_contracts,
    parse_deadline,
    parse_pausable,
)
from scheduler.simulation.estimates import EstimateHabits, estimates_of
from scheduler.simulation.model import BadInput
from scheduler.simulation.shares import deal, parse_shares
from scheduler.simulation.trace import TraceRow, read_trace
from scheduler.simulation.workloads import EQUAL_SHARES, FAMILIES, parse_workloads, workloads_of

START = datetime(2023, 6, 1, tzinfo=UTC)
DAY_S = 86400


def rows_of(*gpu_hours: float) -> tuple[TraceRow, ...]:
    return tuple(
        TraceRow(number=i, job_id=f"job_{i}", submitted_at=START, gpus=1, duration_s=hours * 3600)
        for i, hours in enumerate(gpu_hours)
    )


class TestShares:
    def test_they_are_read_by_name(self) -> None:
        tiers = parse_contracts("none:0.2, low:0.3,mid:0.3,high:.2")
        assert tiers == {Flex.NONE: 0.2, Flex.LOW: 0.3, Flex.MID: 0.3, Flex.HIGH: 0.2}
        assert parse_contracts("mid:1") == {Flex.MID: 1.0}
        assert parse_workloads("bert:0.25,ncf:0.75") == {"bert": 0.25, "ncf": 0.75}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("none:0.5,low:0.4", "add up to 0.9"),
            ("none:0.5,low:0.500002", "add up to 1"),
            ("none:0.5,none:0.5", "names none a second time"),
            ("none:1,lots:0", "'lots:0' is not NAME:SHARE with a name of none, low, mid, high"),
            ("none", "'none' is not NAME:SHARE"),
            ("", "'' is not NAME:SHARE"),
            ("none:all", "no number"),
            ("none:nan,low:1", "no number"),
            ("none:-0.5,low:1.5", "'none:-0.5' is not a share from 0 to 1"),
        ],
    )
    def test_a_mistake_is_named(self, text: str, said: str) -> None:
        with pytest.raises(BadInput, match=said):
            parse_contracts(text)

    def test_a_millionth_is_forgiven(self) -> None:
        assert sum(parse_shares("a:0.3333333,b:0.6666666", option="of", names="ab").values()) < 1

    @settings(deadline=None)
    @given(
        st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60),
        st.lists(st.integers(0, 5), min_size=2, max_size=5).filter(any),
        st.integers(0, 2**32 - 1),
    )
    def test_no_name_is_off_by_more_than_one_row_for_each_name(
        self, weights: list[float], parts: list[int], seed: int
    ) -> None:
        shares = {f"tier-{i}": part / sum(parts) for i, part in enumerate(parts)}
        dealt = deal(np.array(weights), shares, np.random.default_rng(seed).random(len(weights)))
        heaviest, total, slack = max(weights), sum(weights), 1e-9 * sum(weights)
        for name, share in shares.items():
            mine = sum(weight for weight, dealt_to in zip(weights, dealt, strict=True) if dealt_to == name)
            assert mine - share * total <= heaviest + slack
            assert share * total - mine <= heaviest * (len(shares) - 1) + slack
            assert share > 0 or mine == 0

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(0.1, 2.0))
    def test_shares_hold_within_a_hundredth_on_a_heavy_tailed_trace(self, seed: int, spread: float) -> None:
        chance = np.random.default_rng(seed)
        weights = chance.lognormal(2.0, spread, size=3000)
        shares = {"none": 0.2, "low": 0.3, "mid": 0.3, "high": 0.2}
        dealt = np.array(deal(weights, shares, chance.random(3000)))
        for name, share in shares.items():
            assert weights[dealt == name].sum() / weights.sum() == pytest.approx(share, abs=0.01)

    def test_the_heaviest_job_is_in_a_tier_as_often_as_its_share_says(self) -> None:
        weights = np.array([30.0, *[1.0] * 170])
        seen = [
            deal(weights, {"a": 0.2, "b": 0.8}, np.random.default_rng(seed).random(171))[0]
            for seed in range(400)
        ]
        assert 400 * 0.2 - 32 < seen.count("a") < 400 * 0.2 + 32  # four standard deviations


class TestContracts:
    MIX = ContractMix(shares=parse_contracts("none:0.2,low:0.3,mid:0.3,high:0.2"))

    def test_one_seed_gives_one_answer_and_another_another(self) -> None:
        rows = rows_of(*np.random.default_rng(1).lognormal(2, 1, size=50).tolist())
        first, again, other = (
            contracts_of(rows, self.MIX, np.random.default_rng(seed).random(50)) for seed in (7, 7, 8)
        )
        assert first == again
        assert first != other

    def test_only_pausable_tiers_pause_and_they_are_due_by_their_true_running_time(self) -> None:
        rows = rows_of(*[3.0] * 40)
        for contract in contracts_of(rows, self.MIX, np.random.default_rng(3).random(40)):
            assert contract.pausable == (contract.flex is Flex.HIGH)
            due = START + timedelta(hours=2 * 3 + 12)
            assert contract.deadline == (due if contract.pausable else None)

    def test_a_tier_may_pause_without_a_deadline(self) -> None:
        mix = ContractMix(shares={Flex.NONE: 1.0}, pausable=parse_pausable("none"), deadline=None)
        (contract,) = contracts_of(rows_of(1.0), mix, np.zeros(1))
        assert (contract.flex, contract.pausable, contract.deadline) == (Flex.NONE, True, None)

    @pytest.mark.parametrize(
        ("text", "tiers"), [("high", {Flex.HIGH}), ("mid, high", {Flex.MID, Flex.HIGH}), ("", set())]
    )
    def test_pausable_tiers_are_named(self, text: str, tiers: set[Flex]) -> None:
        assert parse_pausable(text) == tiers

    def test_an_unknown_tier_is_refused(self) -> None:
        with pytest.raises(BadInput, match="'huge' is no tier"):
            parse_pausable("high,huge")

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("2x", DeadlineRule(factor=2)),
            ("12h", DeadlineRule(constant_s=12 * 3600)),
            ("2x+12h", DeadlineRule(factor=2, constant_s=12 * 3600)),
            ("1.5x + 30m", DeadlineRule(factor=1.5, constant_s=1800)),
            ("0x+2d", DeadlineRule(constant_s=2 * DAY_S)),
        ],
    )
    def test_a_deadline_is_read(self, text: str, rule: DeadlineRule) -> None:
        assert parse_deadline(text) == rule

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "2",
            "x",
            "2x12h",
            "+12h",
            "12h+2x",
            "2x+12",
            "-2x",
            "1.2.3x",
            "0x",
            "0h",
            "101x",
            "9999d",
            "²x",
        ],
    )
    def test_anything_else_is_no_deadline(self, text: str) -> None:
        with pytest.raises(BadInput, match="deadline"):
            parse_deadline(text)


class TestEstimates:
    WORK_S = np.random.default_rng(0).lognormal(9, 1, size=4000)

    def guesses(self, habits: EstimateHabits, *, needed: bool = False, seed: int = 5) -> list[float | None]:
        chance = np.random.default_rng(seed)
        return estimates_of(
            self.WORK_S,
            np.full(len(self.WORK_S), needed),
            habits,
            errors=chance.standard_normal(len(self.WORK_S)),
            silence=chance.random(len(self.WORK_S)),
        )

    def test_without_error_they_are_exact(self) -> None:
        assert self.guesses(EstimateHabits(sigma=0)) == self.WORK_S.tolist()

    @pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
    def test_their_logarithms_miss_by_sigma_as_often_above_as_below(self, sigma: float) -> None:
        misses = np.log(np.array(self.guesses(EstimateHabits(sigma=sigma)), dtype=float) / self.WORK_S)
        assert misses.std() == pytest.approx(sigma, rel=0.05)
        assert np.median(misses) == pytest.approx(0, abs=4 * 1.25 * sigma / 4000**0.5)

    def test_some_owners_say_nothing_unless_nothing_else_is_known(self) -> None:
        habits = EstimateHabits(silent_share=0.4)
        assert self.guesses(habits).count(None) / 4000 == pytest.approx(0.4, abs=0.03)
        assert None not in self.guesses(habits, needed=True)

    def test_who_speaks_says_the_same_however_many_are_silent(self) -> None:
        some, all_of_them = self.guesses(EstimateHabits(silent_share=0.4)), self.guesses(EstimateHabits())
        assert all(one in (None, other) for one, other in zip(some, all_of_them, strict=True))

    @pytest.mark.parametrize(
        "habits", [{"sigma": -0.1}, {"sigma": 2.1}, {"sigma": float("nan")}, {"silent_share": 1.1}]
    )
    def test_habits_out_of_range_are_refused(self, habits: dict[str, float]) -> None:
        with pytest.raises(BadInput, match="estimate"):
            EstimateHabits(**habits)


class TestWorkloads:
    def test_every_family_has_its_own_demand_on_measured_boards(self) -> None:
        for model in ("NVIDIA A40", "Quadro RTX 6000", "NVIDIA H100"):
            least_w, most_w, _ = board_caps_w(model)
            demands = {
                prior(model, min_cap_w=least_w, max_cap_w=most_w, workload=family).demand_w
                for family in (*FAMILIES, None)
            }
            assert len(demands) == len(FAMILIES) + 1

    def test_families_are_drawn_by_their_shares(self) -> None:
        drawn = workloads_of(EQUAL_SHARES, np.random.default_rng(2).random(10_000))
        for family in FAMILIES:
            assert drawn.count(family) / 10_000 == pytest.approx(0.2, abs=0.02)

    def test_a_family_without_a_share_is_never_drawn(self) -> None:
        draws = np.array([0.0, 0.5, np.nextafter(1, 0)])
        assert workloads_of(parse_workloads("bert:0,resnet:0.5,ncf:0.5"), draws) == ["resnet", "ncf", "ncf"]


class TestRecordedTrace:
    def test_tiers_hold_their_shares_whatever_the_order_of_lines(
        self, data_dir: Path, tmp_path: Path
    ) -> None:
        header, *lines = (data_dir / "jobs/msitp_2021_days_0-30.csv").read_text().splitlines()
        random.Random(4).shuffle(lines)
        ordered = read_trace(data_dir / "jobs/msitp_2021_days_0-30.csv", start=START)
        path = tmp_path / "shuffled.csv"
        path.write_text("\n".join([header, *lines]))
        shuffled = read_trace(path, start=START)
        draws = np.random.default_rng(0).random(ordered.file_jobs)
        contracts = contracts_of(ordered.rows, TestContracts.MIX, draws)
        assert contracts == contracts_of(shuffled.rows, TestContracts.MIX, draws)
        gpu_h = np.array([row.gpu_h for row in ordered.rows])
        tiers = np.array([contract.flex.value for contract in contracts])
        for tier, share in TestContracts.MIX.shares.items():
            assert gpu_h[tiers == tier.value].sum() / gpu_h.sum() == pytest.approx(share, abs=0.01)
