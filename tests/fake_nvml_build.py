"""Builds the fake NVIDIA library of the tests.

Use it through LD_LIBRARY_PATH in a child process, never inside the test run: then the real library of a
machine with GPUs can never be the one that a test changes limits through.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent / "fixtures" / "fake_nvml.c"


def build_fake_nvml(folder: Path) -> Path:
    """Compile `libnvidia-ml.so.1` into `folder` and return the folder, for LD_LIBRARY_PATH."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.fail("the fake NVIDIA library needs a C compiler (gcc)")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(target), "-lm"], check=True)
    return folder


def fake_nvml_env(library_dir: Path, map_path: Path) -> dict[str, str]:
    """The environment of a child that shall see the GPUs of `map_path` through the fake library."""
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(library_dir),
        "WATTMILL_FAKE_NVML_MAP": str(map_path),
    }


@pytest.fixture(scope="session")
def fake_nvml_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled fake library."""
    return build_fake_nvml(tmp_path_factory.mktemp("fake-nvml"))
