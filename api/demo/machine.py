"""What the demonstration finds on this machine: GPUs, the example scripts, and how fast they train here."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import scheduler
from api.commands.client import CommandError
from api.demo.scenario import LEAST_REAL_GPUS, SIMULATED_COUNT, DemoJob, Site, Speed
from power.device import DeviceError
from power.nvml import NvmlBackend

TRIAL_STEPS = 24
TRIAL_LIMIT_S = 120.0
BATCH = 16
SIMULATED = Site(backend="simulated", count=SIMULATED_COUNT, model="A40", max_cap_w=300.0)


def choose_site(choice: str) -> tuple[Site, str]:
    """The GPUs to use, and in words why. `choice` is auto, real or simulated.

    Raises:
        CommandError: real ones are asked for, and there are too few for three jobs side by side.
    """
    if choice == "simulated":
        return SIMULATED, "simulated GPUs, as asked"
    backend = NvmlBackend()
    try:
        infos = [gpu.info for gpu in backend.gpus()]
        found = f"{len(infos)} real GPU(s)"
    except DeviceError as error:
        infos, found = [], f"no real GPU ({error})"
    finally:
        backend.close()
    if len(infos) >= LEAST_REAL_GPUS:
        largest = max(infos, key=lambda info: info.max_cap_w)
        site = Site(backend="nvml", count=len(infos), model=largest.model, max_cap_w=largest.max_cap_w)
        return site, found
    if choice == "real":
        raise CommandError(f"{found}; three jobs side by side need {LEAST_REAL_GPUS}", "use --gpus simulated")
    return SIMULATED, f"{found}; using {SIMULATED.count} simulated {SIMULATED.model}"


def examples_folder() -> Path:
    """Where the training scripts are: inside an installed wheel, else beside the packages of a checkout.

    Raises:
        CommandError: they, or torch, are missing.
    """
    inside = Path(str(scheduler.__file__)).resolve().parent
    if importlib.util.find_spec("torch") is None:
        raise CommandError("the demo trains with torch, which is missing", "pip install 'wattmill[examples]'")
    for folder in (inside / "_examples", inside.parent / "examples"):
        if (folder / "train_ddp.py").is_file():
            return folder
    raise CommandError("the example scripts are missing", "install wattmill again: this one is damaged")


def job_argv(examples: Path, job: DemoJob) -> list[str]:
    """The program of one of the three jobs."""
    script = "train_ddp.py" if job.gpus > 1 else "train_char_transformer.py"
    return [sys.executable, str(examples / script), "--steps", str(job.steps), "--batch", str(BATCH)]


def measure_speed(examples: Path, scratch: Path) -> Speed:
    """Train a few steps alone, to size the jobs for this machine. Raises CommandError."""
    argv = [sys.executable, str(examples / "train_char_transformer.py"), "--steps", str(TRIAL_STEPS)]
    argv += ["--batch", str(BATCH), "--checkpoint-dir", str(scratch / "trial")]
    argv += ["--samples-per-report", str(BATCH * 3)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("WATTMILL_")}
    env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=TRIAL_LIMIT_S, check=False, cwd=scratch
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{TRIAL_STEPS} training steps took longer than {TRIAL_LIMIT_S:.0f} s") from error
    speeds = sorted(float(found) for found in re.findall(r"samples/s ([\d.]+)", done.stdout))
    if done.returncode != 0 or not speeds:
        raise CommandError(f"the example does not train here: {done.stderr.strip()[-400:]}")
    return Speed(steps_per_s=speeds[len(speeds) // 2] / BATCH, cores=usable_cores())


def usable_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Cores that this process may use: those it is bound to, or less where a container has a quota."""
    bound = float(len(os.sched_getaffinity(0)))
    try:
        quota_us, period_us = quota_file.read_text().split()
        return min(bound, float(quota_us) / float(period_us))
    except (OSError, ValueError):  # no such file, or the quota is "max"
        return bound
