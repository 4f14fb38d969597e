"""Train the same model on several GPUs, one process each: under torchrun, or wattmill with `--gpus N`."""

from __future__ import annotations

import argparse
import gc
import os
import sys

import torch
import torch.distributed as dist
from char_transformer import CharTransformer, Trainer, arguments
from torch.nn.parallel import DistributedDataParallel


def main() -> int:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() > 0
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")

    try:
        code = train(options, device)
        dist.barrier()  # nobody leaves while another still talks to it
    finally:
        gc.collect()  # what still holds the group must go before it, not at the interpreter's end
        dist.destroy_process_group()
    return code


def train(options: argparse.Namespace, device: torch.device) -> int:
    """The exit code; nothing of the model outlives it."""

    def agree(mine: bool) -> bool:
        flag = torch.tensor([int(mine)], device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    plain = CharTransformer(options.dim, options.layers).to(device)
    wrapped = DistributedDataParallel(plain, device_ids=[device.index] if device.type == "cuda" else None)
    rank, world = dist.get_rank(), dist.get_world_size()
    return Trainer(options, wrapped, plain, device, rank=rank, world=world, agree=agree).run()


if __name__ == "__main__":
    sys.exit(main())
