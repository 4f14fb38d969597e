"""The same daemon with its database on PostgreSQL."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer, available
from tests.scenario.running_daemon import daemon, wait_until


@pytest.mark.postgres
@pytest.mark.slow
def test_from_submit_to_bill_on_postgres(tmp_path: Path) -> None:
    if not available():
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL's server programs are not installed")
        pytest.skip("PostgreSQL's server programs are not installed")
    server = PostgresServer()
    try:
        url = server.new_database()
        with daemon(tmp_path, gpus=2, env={"WATTMILL_STORAGE__DATABASE_URL": url}) as site:
            work = [sys.executable, "-c", "import time\nend = time.time() + 4\nwhile time.time() < end: pass"]
            job_id = site.post("/v1/jobs", {"argv": work, "gpus": 1})["id"]
            wait_until(lambda: site.job(job_id)["state"] == "SUCCEEDED", 40, site.tail)
            wait_until(lambda: site.get(f"/v1/jobs/{job_id}/energy")["total"]["cost"], 15, site.tail)
            assert not (site.data_dir / "wattmill.db").exists()
    finally:
        server.stop()
