"""The demo, unattended: it judges itself, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenario.running_daemon import pids_with_environ


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_keeps_its_own_promises(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "api.cli", "demo", "--exit", "--gpus", "simulated", "--speed", "360"],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    story = ended.stdout[-6000:] + ended.stderr[-3000:]
    assert ended.returncode == 0, story
    assert "estimate" in ended.stdout.lower()
    assert not pids_with_environ(f"WATTMILL_RUN_DIR={tmp_path}")
    left = [path.name for path in tmp_path.iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []  # a cache of torch itself
