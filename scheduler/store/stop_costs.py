"""What stops and starts were seen to take, by workload, or by job where it names none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import delete, select

from scheduler.stop_costs import CostKey, StopCost
from scheduler.store.database import Database, upsert
from scheduler.store.errors import CorruptRow
from scheduler.store.job_rows import AnyRow, chunks, storable
from scheduler.store.tables import stop_costs


class StopCostStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, learned: Mapping[CostKey, StopCost], forget: Collection[str], at: datetime) -> None:
        """Write these costs, and delete those of the jobs in `forget`; all of it, or nothing."""
        rows = {
            (storable(workload), job_id): {
                "workload": storable(workload),
                "job_id": job_id,
                "checkpoint_s": cost.checkpoint_s,
                "checkpoints": cost.checkpoints,
                "restart_s": cost.restart_s,
                "restarts": cost.restarts,
                "saves_on_request": cost.saves_on_request,
                "at": at,
            }
            for (workload, job_id), cost in learned.items()
        }
        with self._database.write() as connection:
            upsert(connection, stop_costs, list(rows.values()))
            for part in chunks(sorted(forget)):
                connection.execute(
                    delete(stop_costs).where(stop_costs.c.workload == "", stop_costs.c.job_id.in_(part))
                )

    def all(self) -> dict[CostKey, StopCost]:
        """Every cost by (workload, job id); one of the two is empty. Raises CorruptRow."""
        with self._database.read() as connection:
            rows = connection.execute(select(stop_costs)).all()
        return {(row.workload, row.job_id): _from_row(row) for row in rows}


def _from_row(row: AnyRow) -> StopCost:
    try:
        return StopCost(
            checkpoint_s=row.checkpoint_s,
            checkpoints=row.checkpoints,
            restart_s=row.restart_s,
            restarts=row.restarts,
            saves_on_request=row.saves_on_request,
        )
    except ValueError as error:
        raise CorruptRow("stop_costs", row.workload or row.job_id, "checkpoint_s", str(error)) from error
