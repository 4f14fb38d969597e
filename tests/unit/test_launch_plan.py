"""What a run executes, and with which environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scheduler.engines.launch_plan import job_argv, job_environment
from tests.engine_builders import a_run


def test_the_daemons_own_venv_leaves_the_path(tmp_path: Path) -> None:
    daemon = {"PATH": "/venv/bin:/usr/bin:/venv/bin2", "HOME": "/home/a", "SECRET": "x"}
    spec = a_run(tmp_path, "true")
    env = job_environment(spec, tmp_path, Path("/injob"), daemon, daemon_venv="/venv")
    assert env["PATH"] == "/usr/bin:/venv/bin2"
    assert "SECRET" not in env
    assert job_environment(spec, tmp_path, Path("/injob"), {}, daemon_venv=None)["PATH"] == os.defpath


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]


@pytest.mark.parametrize(
    ("argv", "gpus", "becomes"),
    [
        (("python", "t.py"), 1, ["python", "t.py"]),
        (("python", "t.py"), 2, ["python", *TORCHRUN, "python", "t.py"]),
        (("/v/python3.12", "-u", "t.py"), 2, ["/v/python3.12", *TORCHRUN, "/v/python3.12", "-u", "t.py"]),
        (("./train.sh", "x"), 2, ["/fallback", *TORCHRUN, "./train.sh", "x"]),
        (("torchrun", "--nproc-per-node=2", "t.py"), 2, ["torchrun", "--nproc-per-node=2", "t.py"]),
        (("accelerate", "launch", "t.py"), 2, ["accelerate", "launch", "t.py"]),
        (("python", "-m", "torch.distributed.run", "t"), 2, ["python", "-m", "torch.distributed.run", "t"]),
        (("python", "-u", "-m", "torch.distributed.run"), 2, ["python", "-u", "-m", "torch.distributed.run"]),
        (("python", "-m", "mine"), 2, ["python", *TORCHRUN, "python", "-m", "mine"]),
        (("python", "t.py", "-m", "torch.distributed.run"), 2,
         ["python", *TORCHRUN, "python", "t.py", "-m", "torch.distributed.run"]),
        (("python",), 2, ["python", *TORCHRUN, "python"]),
    ],
)  # fmt: skip
def test_several_gpus_bring_torchrun(argv: tuple[str, ...], gpus: int, becomes: list[str]) -> None:
    assert job_argv(argv, gpus, {"PATH": "/nowhere"}, python="/fallback") == becomes
