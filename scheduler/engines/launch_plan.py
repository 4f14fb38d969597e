"""What exactly a run executes: its command line, under torchrun if need be, and its environment."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from scheduler.engines import run_folder
from scheduler.engines.engine import LaunchSpec
from scheduler.engines.process_identity import FOLDER_VARIABLE, RUN_VARIABLE

_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_OWN_LAUNCHERS = ("torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "horovodrun")
_LAUNCHER_MODULES = ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch")
_PASSED_ON = ("PATH", "HOME", "LANG", "USER")


def job_argv(argv: tuple[str, ...], gpus: int, env: Mapping[str, str], *, python: str) -> list[str]:
    """`argv`, under torchrun with one process per GPU where it has several and brings no launcher of its own.

    Args:
        env: the job's environment; its PATH says which torchrun a program that is not Python gets.
        python: the interpreter of last resort for torchrun.
    """
    name = os.path.basename(argv[0])
    is_python = _PYTHON.fullmatch(name) is not None
    if gpus <= 1 or name in _OWN_LAUNCHERS or (is_python and _runs_launcher(argv)):
        return list(argv)
    interpreter = argv[0] if is_python else shutil.which("python3", path=env.get("PATH", "")) or python
    torchrun = [interpreter, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
    if not is_python and (found := shutil.which("torchrun", path=env.get("PATH", ""))):
        torchrun = [found, *torchrun[3:]]
    return [*torchrun, "--no-python", *argv]


def job_environment(
    spec: LaunchSpec, run_path: Path, wattjob_dir: Path, daemon: Mapping[str, str], *, daemon_venv: str | None
) -> dict[str, str]:
    """The whole environment of a job: four of the daemon's variables, the user's own, then ours.

    Args:
        daemon: the daemon's environment. Its PYTHONPATH, LD_LIBRARY_PATH, VIRTUAL_ENV and secrets stay there.
        daemon_venv: the daemon's virtual environment, which leaves the job's PATH; None when it has none.
    """
    env = {name: daemon[name] for name in _PASSED_ON if name in daemon}
    if daemon_venv is not None and "PATH" in env:
        own = os.path.join(daemon_venv, "bin")
        env["PATH"] = os.pathsep.join(part for part in env["PATH"].split(os.pathsep) if part != own)
    env.setdefault("PATH", os.defpath)
    if len(spec.gpu_uuids) > 1:  # torchrun kills its workers after 30 s unless told otherwise
        env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(max(1, round(spec.grace_s)))
    env.update(spec.env)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (spec.env.get("PYTHONPATH"), str(wattjob_dir))))
    env |= {
        RUN_VARIABLE: spec.run_id,
        "WATTMILL_JOB_ID": spec.job_id,
        FOLDER_VARIABLE: str(run_path),
        "WATTMILL_CONTROL": str(run_path / run_folder.CONTROL),
        "WATTMILL_CHECKPOINT_DIR": spec.checkpoint_dir,
        "WATTMILL_WORKLOAD": spec.workload,
        "CUDA_VISIBLE_DEVICES": ",".join(spec.gpu_uuids),
    }
    env.pop("WATTMILL_RESUME_FROM", None)
    if spec.resume_from is not None:
        env["WATTMILL_RESUME_FROM"] = spec.resume_from
    return env


def _runs_launcher(argv: tuple[str, ...]) -> bool:
    """True for `python -m torch.distributed.run ...` and its like."""
    for option, module in itertools.pairwise((*argv[1:], "")):
        if option == "-m":
            return module in _LAUNCHER_MODULES
        if not option.startswith("-"):
            return os.path.basename(option) in _OWN_LAUNCHERS
    return False
