"""Train a small character transformer in one process, on a GPU where there is one."""

from __future__ import annotations

import sys

import torch
from char_transformer import CharTransformer, Trainer, arguments


def main() -> int:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() and torch.cuda.device_count() else "cpu")
    model = CharTransformer(options.dim, options.layers).to(device)
    return Trainer(options, model, model, device).run()


if __name__ == "__main__":
    sys.exit(main())
