"""For `lightning.Trainer(callbacks=[WattmillCallback()])`."""

from __future__ import annotations

import os
from typing import Any

from lightning.pytorch.callbacks import Callback  # type: ignore[import-not-found]

import wattjob


class WattmillCallback(Callback):  # type: ignore[misc]
    """Reports each batch; answers a request with `trainer.save_checkpoint`.

    Args:
        folder: where to save; None = the job's checkpoint folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder or os.environ.get("WATTMILL_CHECKPOINT_DIR", "checkpoints")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else None
        wattjob.progress(trainer.global_step, total)
        if wattjob.should_checkpoint():
            path = os.path.join(self._folder, f"step-{trainer.global_step:08d}.ckpt")
            trainer.save_checkpoint(path)  # on every rank: strategies save together
            wattjob.saved(path)
