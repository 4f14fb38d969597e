"""Learned power curves, one per GPU model and workload. What is in them is the affair of `learning.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from scheduler.store.codec import decode, encode
from scheduler.store.database import Database, upsert
from scheduler.store.job_rows import storable
from scheduler.store.tables import curves


class CurveStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, gpu_model: str, workload: str) -> dict[str, Any] | None:
        """None = nothing was learned yet."""
        return self.all().get((gpu_model, workload))

    def put(
        self, gpu_model: str, workload: str, curve: Mapping[str, Any], at: datetime | None = None
    ) -> None:
        """Raises ValueError: NaN or infinity in the curve."""
        row = {
            "gpu_model": gpu_model,
            "workload": storable(workload),
            "curve": encode(dict(curve)),
            "at": at or datetime.now(UTC),
        }
        with self._database.write() as connection:
            upsert(connection, curves, [row])

    def all(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every curve by (GPU model, workload)."""
        with self._database.read() as connection:
            rows = connection.execute(select(curves)).all()
        return {
            (row.gpu_model, row.workload): decode(
                row.curve, "curves", f"{row.gpu_model}/{row.workload}", "curve", dict
            )
            for row in rows
        }
