"""One answer for all ranks of a job. Uses torch only where the job has loaded it."""

from __future__ import annotations

import sys
from typing import Any


def agree(value: int) -> int:
    """The largest `value` of any rank; `value` itself without an initialised `torch.distributed`."""
    distributed = _distributed()
    if distributed is None or distributed.get_world_size() == 1:
        return value
    torch = sys.modules["torch"]
    backend = str(distributed.get_backend())
    on_gpu = "nccl" in backend and "gloo" not in backend
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    agreed = torch.tensor([value], dtype=torch.int32, device=device)
    distributed.all_reduce(agreed, op=distributed.ReduceOp.MAX)
    return int(agreed.item())


def several() -> bool:
    """True when the job runs as more than one rank."""
    distributed = _distributed()
    return distributed is not None and distributed.get_world_size() > 1


def is_first() -> bool:
    """True on rank 0, and in a job of one process."""
    distributed = _distributed()
    return distributed is None or distributed.get_rank() == 0


def _distributed() -> Any:
    distributed = sys.modules.get("torch.distributed")
    ready = distributed is not None and distributed.is_available() and distributed.is_initialized()
    return distributed if ready else None
