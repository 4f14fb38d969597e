"""What a training job tells wattmill, and hears from it. Optional; never blocks a training step."""

from __future__ import annotations

from wattjob.session import Session

__all__ = ["progress", "saved", "should_checkpoint"]

_session = Session.from_environment()


def progress(step: int, total: int | None = None, samples: float | None = None) -> None:
    """Report work done. Only rank 0 is heard.

    Args:
        step: optimiser steps done, those before a resume included.
        total: steps in all, if known.
        samples: samples done by the whole gang since this process started; None = count one per step.
    """
    _session.progress(step, total, samples)


def should_checkpoint() -> bool:
    """True once per request for a checkpoint: save at this step boundary, then call `saved`.

    Every rank must call it, equally often: with `torch.distributed` initialised all get the same answer.
    If the script has no SIGTERM handler, that signal waits from here on for the checkpoint.
    """
    return _session.should_checkpoint()


def saved(path: str) -> None:
    """The checkpoint at `path` is complete and may be resumed from. Only rank 0 is heard.

    Ends a single process by SIGTERM if that signal was waiting for this checkpoint.
    """
    _session.saved(path)
