"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fake_nvml_build import fake_nvml_dir as fake_nvml_dir

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real prices, traces and measured curves; missing it fails CI and skips elsewhere."""
    folder = Path(os.environ.get("WATTMILL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no real data at {folder}; set WATTMILL_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


TIMED_ALONE = ("tests/crash/", "tests/scenario/", "tests/console/", "tests/unit/test_gpu_sim.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that time real processes do not share the cores: `make test` runs them by themselves."""
    for item in items:
        if item.path.relative_to(REPOSITORY).as_posix().startswith(TIMED_ALONE):
            item.add_marker(pytest.mark.live)
