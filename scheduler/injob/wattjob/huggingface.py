"""For `transformers.Trainer(callbacks=[WattmillCallback()])`."""

from __future__ import annotations

import os
from typing import Any

from transformers import TrainerCallback  # type: ignore[import-not-found]

import wattjob


class WattmillCallback(TrainerCallback):  # type: ignore[misc]
    """Reports each step; a request for a checkpoint becomes a save by the trainer, and its end the ack."""

    def __init__(self) -> None:
        self._first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._first_step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        done = (state.global_step - self._first_step) * per_step
        wattjob.progress(state.global_step, state.max_steps, samples=done)
        if wattjob.should_checkpoint():
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wattjob.saved(os.path.join(args.output_dir, f"checkpoint-{state.global_step}"))
