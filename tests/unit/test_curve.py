"""The prior curves against the measurements that they were fitted on."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

import pytest

from power.curve import CapCurve, board_caps_w, prior

A40 = prior("NVIDIA A40", min_cap_w=100, max_cap_w=300)
BOARDS = {
    "a40": ("NVIDIA A40", 100.0, 300.0),
    "v100": ("Tesla V100-PCIE-16GB", 100.0, 250.0),
    "rtx6000": ("Quadro RTX 6000", 100.0, 260.0),
}


def measured_points(data_dir: Path, gpu: str) -> list[tuple[CapCurve, float, float, float]]:
    """(prior of the workload, cap W, relative throughput, mean W), where the board could hold the cap."""
    model, least_w, highest_w = BOARDS[gpu]
    points = []
    with open(data_dir / "power" / "zeus_rel_by_cap.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["gpu"] != gpu or float(row["cap_w"]) == highest_w:
                continue
            curve = prior(model, min_cap_w=least_w, max_cap_w=highest_w, workload=row["wl"])
            cap_w, mean_w = float(row["cap_w"]), float(row["rel_power"]) * curve.demand_w
            if mean_w <= 1.08 * cap_w:
                points.append((curve, cap_w, float(row["rel_throughput"]), mean_w))
    return points


@pytest.mark.parametrize("gpu", sorted(BOARDS))
def test_the_prior_reproduces_the_measured_throughput_within_its_stated_error(
    data_dir: Path, gpu: str
) -> None:
    points = measured_points(data_dir, gpu)
    assert len(points) > 30
    error = mean(abs(curve.throughput(cap_w) / measured - 1) for curve, cap_w, measured, _ in points)
    assert error <= points[0][0].throughput_error


@pytest.mark.parametrize("gpu", sorted(BOARDS))
def test_the_prior_reproduces_the_measured_draw_within_its_stated_error(data_dir: Path, gpu: str) -> None:
    points = measured_points(data_dir, gpu)
    error = mean(abs(curve.power_w(cap_w) / measured - 1) for curve, cap_w, _, measured in points)
    assert error <= points[0][0].power_error


@pytest.mark.parametrize(
    ("workload", "at_half", "at_two_thirds"),
    [
        ("bert_base_uncased/squad", 0.587, 0.900),
        ("shufflenetv2/cifar100", 0.883, 1.0),
        ("ncf/movielens-1m", 1.0, 1.0),
    ],
)
def test_a_workloads_own_demand_decides_what_a_cap_costs(
    workload: str, at_half: float, at_two_thirds: float
) -> None:
    curve = prior("A40", min_cap_w=100, max_cap_w=300, workload=workload)
    assert curve.throughput(150) == pytest.approx(at_half, abs=0.09)
    assert curve.throughput(200) == pytest.approx(at_two_thirds, abs=0.09)


def test_uncapped_is_full_throughput_and_caps_outside_the_range_count_as_its_ends() -> None:
    assert A40.throughput(300) == 1.0
    assert A40.throughput(1e9) == 1.0
    assert A40.throughput(0) == A40.throughput(100) > 0
    assert A40.power_w(0) == A40.power_w(100)


def test_cap_for_is_the_inverse_of_throughput() -> None:
    for wanted in (0.4, 0.6, 0.75, 0.9, 0.99):
        assert A40.throughput(A40.cap_for(wanted)) == pytest.approx(wanted, abs=1e-9)
    assert A40.cap_for(1.0) == 300
    assert A40.cap_for(0.0) == 100


def test_a_job_that_no_cap_slows_needs_only_the_least_cap() -> None:
    ncf = prior("A40", min_cap_w=100, max_cap_w=300, workload="ncf")
    assert ncf.cap_for(1.0) == 100
    assert ncf.knee_cap_w() == 100


def test_the_knee_is_where_energy_per_work_is_least_about_half_of_tdp() -> None:
    knee_w = A40.knee_cap_w()
    assert 0.45 < knee_w / 300 < 0.65
    for cap_w in (100, 125, 250, 300):
        assert A40.energy_per_work_j(knee_w) < A40.energy_per_work_j(cap_w)


def test_draw_stays_between_idle_and_the_cap() -> None:
    for cap_w in range(100, 301, 10):
        assert A40.idle_w <= A40.power_w(cap_w) <= cap_w


def test_an_unknown_model_gets_the_pooled_curve_and_its_wide_error() -> None:
    unknown = prior("Some GPU 9000", min_cap_w=100, max_cap_w=400)
    assert unknown.t6_p0 == prior("NVIDIA H100 80GB HBM3", min_cap_w=200, max_cap_w=700).t6_p0
    assert unknown.throughput_error == 0.15
    assert prior("NVIDIA A40", min_cap_w=100, max_cap_w=300).throughput_error < 0.08


@pytest.mark.parametrize(
    ("model", "caps_w"),
    [
        ("NVIDIA A40", (100, 300)),
        ("Tesla V100-SXM2-32GB", (100, 250)),
        ("Quadro RTX 6000", (100, 260)),
        ("NVIDIA H100 80GB HBM3", (200, 700)),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", (150, 600)),
        ("NVIDIA RTX 5000 Ada Generation", (100, 250)),
        ("NVIDIA RTX 6000 Ada Generation", (100, 300)),  # not the Quadro RTX 6000: pooled
    ],
)
def test_boards_are_recognised_by_the_drivers_own_names(model: str, caps_w: tuple[float, float]) -> None:
    assert board_caps_w(model)[:2] == caps_w


def test_a_curve_survives_a_trip_through_plain_data() -> None:
    assert CapCurve(**asdict(A40)) == A40


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_cap_w": 0.0},
        {"min_cap_w": 400.0},
        {"tdp_w": float("inf")},
        {"demand_w": 0.0},
        {"idle_w": -1.0},
        {"t6_n": 0.0},
        {"t6_p0": 1.0},
        {"demand_w": float("nan")},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        replace(A40, **wrong)


def test_a_cap_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        A40.throughput(float("nan"))
