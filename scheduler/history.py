"""Keeps what happened, thinned: ten-second rows of every GPU, and a limit to how long all of it is kept."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta

from scheduler.observation import Observation
from scheduler.plant import Plant
from scheduler.store import SampleRow, StoreUnavailable
from telemetry.rollup import roll_up
from telemetry.sample import GpuSample

log = logging.getLogger("wattmill.history")

SPAN_S = 10.0  # real seconds per row
PRUNE_EVERY_S = 3600.0


class History:
    """Gathers samples between writes. A write that fails drops its rows: history is not the bill."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._open: dict[str, list[GpuSample]] = {}
        self._write_due_s: float | None = None
        self._prune_due_s: float | None = None

    def add(self, seen: Observation) -> None:
        for uuid, sample in seen.samples.items():
            self._open.setdefault(uuid, []).append(sample)
        if self._write_due_s is None or self._prune_due_s is None:
            self._write_due_s = seen.monotonic_s + SPAN_S
            self._prune_due_s = seen.monotonic_s + PRUNE_EVERY_S
        if seen.monotonic_s >= self._write_due_s:
            self._write_due_s = seen.monotonic_s + SPAN_S
            self._write(seen)
        if seen.monotonic_s >= self._prune_due_s:
            self._prune_due_s = seen.monotonic_s + PRUNE_EVERY_S
            self._prune(seen)

    def _write(self, seen: Observation) -> None:
        rows = [self._row(samples, seen) for samples in self._open.values()]
        # The last sample begins the next row, so that no joule falls between two rows.
        self._open = {uuid: samples[-1:] for uuid, samples in self._open.items()}
        try:
            self._plant.store.samples.append(rows)
        except StoreUnavailable as error:
            log.warning("history of %d GPUs dropped: %s", len(rows), error)

    def _row(self, samples: list[GpuSample], seen: Observation) -> SampleRow:
        rolled = roll_up(samples)
        holder = seen.holder(rolled.gpu_uuid)
        run_id = holder.run.id if holder is not None and holder.run is not None else None
        status = seen.statuses.get(run_id) if run_id is not None else None
        return SampleRow(
            **asdict(rolled),
            job_id=holder.id if holder is not None else None,
            run_id=run_id,
            samples_per_s=status.progress.samples_per_s if status and status.progress else None,
        )

    def _prune(self, seen: Observation) -> None:
        keep = timedelta(days=self._plant.config.storage.keep_days)
        try:
            gone = self._plant.store.prune(seen.now - keep)
        except StoreUnavailable as error:
            log.warning("old history not pruned: %s", error)
            return
        log.info("pruned history older than %s: %s", keep, gone)
