"""What both training scripts share: text, model, checkpoints and the signal to stop. Needs only torch.

The text is the source of Python's own standard library, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CONTEXT = 64
STOPPED_EXIT_CODE = 85  # stopped by SIGTERM, with a checkpoint to go on from
_FIRST, _LAST = 32, 126  # printable ASCII; line ends and everything else share the last code
_CHECKPOINT = re.compile(r"step-(\d+)\.pt")

try:
    from wattjob import progress, saved, should_checkpoint
except ImportError:  # not under wattmill: the same script, with nobody to report to

    def progress(step: int, total: int | None = None, samples: float | None = None) -> None:
        pass

    def should_checkpoint() -> bool:
        return False

    def saved(path: str) -> None:
        pass


def arguments(description: str) -> argparse.Namespace:
    """The command line of both scripts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps in all")
    parser.add_argument("--batch", type=int, default=32, help="samples per step and process")
    parser.add_argument("--dim", type=int, default=128, help="width of the model, a multiple of 4")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--samples-per-report", type=int, default=128, help="samples between printed lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        default=Path(os.environ.get("WATTMILL_CHECKPOINT_DIR", "checkpoints")),
        help="default: $WATTMILL_CHECKPOINT_DIR, else ./checkpoints",
    )
    return parser.parse_args()


def stdlib_text(limit: int = 2_000_000) -> Tensor:
    """The first `limit` characters of the standard library's modules, one code per character: int64[n]."""
    parts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        parts.append(path.read_bytes())
        size += len(parts[-1])
        if size >= limit:
            break
    raw = torch.frombuffer(bytearray(b"".join(parts)[:limit]), dtype=torch.uint8).long()
    return torch.where((raw >= _FIRST) & (raw <= _LAST), raw - _FIRST, _LAST + 1 - _FIRST)


def batch_of(text: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` random passages and the same passages one character on: two int64[count, CONTEXT]."""
    starts = torch.randint(len(text) - CONTEXT - 1, (count,), generator=generator)
    passages = text[starts[:, None] + torch.arange(CONTEXT + 1)]
    return passages[:, :-1], passages[:, 1:]


class CharTransformer(nn.Module):
    """Predicts the next character of a passage."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        codes = _LAST + 2 - _FIRST
        self.embed = nn.Embedding(codes, dim)
        self.position = nn.Parameter(torch.zeros(CONTEXT, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 4 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(dim, codes)
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, passages: Tensor, targets: Tensor) -> Tensor:
        """The mean loss over int64[batch, CONTEXT], in nats per character."""
        hidden = self.blocks(self.embed(passages) + self.position, mask=self.mask, is_causal=True)
        return nn.functional.cross_entropy(self.head(hidden).flatten(0, 1), targets.flatten())


class StopSignal:
    """Turns SIGTERM into a flag, to be read at the step boundary."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, _signum: int, _frame: object) -> None:
        self.requested = True


class Checkpoints:
    """The checkpoints of one job in a folder: `step-00000042.pt`, complete or not there at all."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write beside, then rename, so that a kill at any moment leaves the one before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{step:08d}.pt"
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        with beside.open("wb") as file:
            torch.save({"step": step, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        for old in self._all()[: -self._keep]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> dict[str, Any] | None:
        """What to resume from: $WATTMILL_RESUME_FROM, else the newest in the folder, else None."""
        chosen = os.environ.get("WATTMILL_RESUME_FROM")
        paths = [Path(chosen)] if chosen else self._all()
        return torch.load(paths[-1], map_location="cpu", weights_only=True) if paths else None

    def _all(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("step-*.pt") if _CHECKPOINT.fullmatch(path.name))


class Trainer:
    """The loop of both scripts.

    Args:
        model: what `step` calls; a wrapped one (DDP) shares its parameters with `plain`.
        plain: whose weights are saved.
        rank: 0 prints, saves and reports; every rank draws other passages.
        agree: the same answer for all ranks, true if any rank's is.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        model: nn.Module,
        plain: nn.Module,
        device: torch.device,
        *,
        rank: int = 0,
        world: int = 1,
        agree: Callable[[bool], bool] = bool,
    ) -> None:
        self._options = options
        self._model = model
        self._plain = plain
        self._device = device
        self._rank = rank
        self._world = world
        self._agree = agree
        self._stop = StopSignal()
        self._checkpoints = Checkpoints(options.checkpoint_dir)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
        self._text = stdlib_text()
        self._step = 0

    def run(self) -> int:
        """Train to the end or to a stop; the exit code."""
        self._resume()
        first, since_s, reported = self._step, time.monotonic(), self._step
        per_step = self._options.batch * self._world
        while self._step < self._options.steps:
            loss = self._train_step()
            progress(self._step, self._options.steps, samples=(self._step - first) * per_step)
            done = (self._step - reported) * per_step
            if done >= self._options.samples_per_report or self._step == self._options.steps:
                now_s = time.monotonic()
                self._say(
                    f"step {self._step} loss {loss.item():.4f} samples/s {done / (now_s - since_s):.1f}"
                )
                since_s, reported = now_s, self._step
            stop = self._agree(self._stop.requested)
            if should_checkpoint() or stop:
                self._save()
            if stop:
                return STOPPED_EXIT_CODE
        return 0

    def _train_step(self) -> Tensor:
        seed = (self._options.seed * 1_000_003 + self._step) * self._world + self._rank
        passages, targets = batch_of(self._text, self._options.batch, torch.Generator().manual_seed(seed))
        self._optimizer.zero_grad()
        loss: Tensor = self._model(passages.to(self._device), targets.to(self._device))
        loss.backward()
        self._optimizer.step()
        self._step += 1
        return loss

    def _resume(self) -> None:
        state = self._checkpoints.newest()
        if state is None:
            return
        self._plain.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step = state["step"]
        self._say(f"resumed at step {self._step}")

    def _save(self) -> None:
        if self._rank == 0:
            state = {"model": self._plain.state_dict(), "optimizer": self._optimizer.state_dict()}
            path = self._checkpoints.save(self._step, state)
            saved(str(path.absolute()))
            self._say(f"saved {path.name}")

    def _say(self, text: str) -> None:
        if self._rank == 0:
            print(text, flush=True)
