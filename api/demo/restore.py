"""Real GPUs get the limits back that they had before the demonstration, through the enforcer as always."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from power.capd.client import CapClient, CapdUnavailable
from power.device import DeviceError
from power.nvml import NvmlBackend

START_S = 10.0
STOP_S = 5.0
SAME_W = 0.5


def read_limits() -> dict[str, float]:
    """The limit in force of every real GPU that says, by UUID."""
    backend = NvmlBackend()
    try:
        found = {gpu.info.uuid: gpu.read().enforced_cap_w for gpu in backend.gpus()}
    except DeviceError:
        return {}
    finally:
        backend.close()
    return {uuid: cap_w for uuid, cap_w in found.items() if cap_w is not None}


def restore_limits(before: Mapping[str, float], folder: Path) -> list[str]:
    """Set back what changed. Returns the GPUs that could not be, in words."""
    now = read_limits() if before else {}
    changed = {uuid: cap_w for uuid, cap_w in before.items() if abs(now.get(uuid, cap_w) - cap_w) > SAME_W}
    if not changed:
        return []
    socket = folder / "restore.sock"
    argv = [sys.executable, "-m", "power.capd.server", "--socket", str(socket), "--backend", "nvml"]
    argv += ["--lock", str(folder / "restore.lock"), "--map", str(folder / "no.map")]
    argv += ["--allow", ",".join(changed), "--lease-s", "60", "--journal", str(folder / "restore.journal")]
    argv += ["--fail-safe", ",".join(f"{uuid}={round(cap_w * 1000)}" for uuid, cap_w in changed.items())]
    enforcer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        results = _set(CapClient(socket), changed)
    finally:
        enforcer.terminate()
        try:
            enforcer.wait(STOP_S)
        except subprocess.TimeoutExpired:
            enforcer.kill()
            enforcer.wait()
    return results


def _set(client: CapClient, caps_w: Mapping[str, float]) -> list[str]:
    end_s = time.monotonic() + START_S
    while True:
        try:
            client.take_epoch()
            break
        except CapdUnavailable as error:
            if time.monotonic() > end_s:
                return [f"{uuid}: {error}" for uuid in caps_w]
            time.sleep(0.2)
    try:
        results = client.set_caps(list(caps_w.items()))
    except CapdUnavailable as error:
        return [f"{uuid}: {error}" for uuid in caps_w]
    finally:
        client.close()
    return [f"{r.uuid}: {r.error or 'not confirmed'}" for r in results if not r.confirmed]
