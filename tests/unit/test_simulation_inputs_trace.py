"""Job traces: what is read, what is refused, what is left out and counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.simulation.model import BadInput
from scheduler.simulation.trace import Trace, read_trace

START = datetime(2023, 6, 1, tzinfo=UTC)
HEADER = "job_id,submit_s,gpus,duration_s,user,vc,gpu_type,status,model_class"
DAY_S = 86400


def trace_file(folder: Path, *rows: str, header: str = HEADER) -> Path:
    """`trace_file(tmp_path, "a,0,8,3600,,red,,,")`."""
    path = folder / "trace.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def short(job_id: str, *, submit_s: float = 0, gpus: int = 1, duration_s: float = 60, vc: str = "") -> str:
    return f"{job_id},{submit_s},{gpus},{duration_s},,{vc},,,"


class TestTrace:
    def test_jobs_come_in_order_of_submission_and_then_of_ids(self, tmp_path: Path) -> None:
        path = trace_file(tmp_path, short("c", submit_s=9), short("b", submit_s=5), short("a", submit_s=9))
        trace = read_trace(path, start=START)
        assert [(row.number, row.job_id) for row in trace.rows] == [(0, "b"), (1, "a"), (2, "c")]
        assert trace.rows[0].submitted_at == START + timedelta(seconds=5)
        assert (trace.start, trace.end) == (START, START + timedelta(days=1))
        assert trace.left_out == ()

    def test_four_columns_in_any_order_are_enough(self, tmp_path: Path) -> None:
        path = trace_file(tmp_path, "60.5,8,a,0", "", header="duration_s,gpus,job_id,submit_s")
        (row,) = read_trace(path, start=START).rows
        assert (row.job_id, row.gpus, row.duration_s, row.vc) == ("a", 8, 60.5, "")
        assert row.gpu_h == pytest.approx(8 * 60.5 / 3600)

    @pytest.mark.parametrize(
        ("row", "column", "value", "wanted"),
        [
            ("a,0,0.46,60,,,,,", "gpus", "0.46", "whole number of GPUs"),
            ("a,0,0,60,,,,,", "gpus", "0", "whole number of GPUs"),
            ("a,0,,60,,,,,", "gpus", "''", "whole number of GPUs"),
            ("a,-1,1,60,,,,,", "submit_s", "-1", "seconds from 0"),
            ("a,soon,1,60,,,,,", "submit_s", "soon", "seconds from 0"),
            ("a,0,1,0,,,,,", "duration_s", "0", "seconds above 0"),
            ("a,0,1,nan,,,,,", "duration_s", "nan", "seconds above 0"),
            ("a,0,1,1e999,,,,,", "duration_s", "1e999", "seconds above 0"),
            ("a,0,1,1_000,,,,,", "duration_s", "1_000", "seconds above 0"),
            ("a,0,1,1e12,,,,,", "duration_s", "1e12", "seconds above 0"),
            (",0,1,60,,,,,", "job_id", "''", "a name"),
        ],
    )
    def test_a_bad_cell_is_named(
        self, tmp_path: Path, row: str, column: str, value: str, wanted: str
    ) -> None:
        path = trace_file(tmp_path, short("good"), row)
        with pytest.raises(BadInput) as error:
            read_trace(path, start=START)
        for part in (str(path), "line 3", f"column {column}", value, wanted):
            assert part in str(error.value)

    def test_every_bad_row_is_named_in_order_and_the_eleventh_is_counted(self, tmp_path: Path) -> None:
        path = trace_file(tmp_path, *(f"job_{i},0,{'0' if i % 2 else '1'},-1,,,,," for i in range(10)))
        with pytest.raises(BadInput) as error:
            read_trace(path, start=START)
        lines = str(error.value).splitlines()
        assert [line.split("line ")[1].split(",")[0] for line in lines[:4]] == ["2", "3", "3", "4"]
        assert lines[10:] == ["and 5 more"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is empty"),
            (HEADER, "no job"),
            ("job_id,gpus", "no column submit_s, duration_s"),
            ("job_id,submit_s,gpus,duration_s,gpus\na,0,1,2,3", "two columns are named 'gpus'"),
            (f"{HEADER}\na,0,1", "line 2, 3 cells, the header has 9"),
            (
                f"{HEADER}\n{short('a')}\n{short('b')}\n{short('a')}",
                "line 4, column job_id: 'a' is the job of line 2",
            ),
        ],
    )
    def test_a_bad_file_is_refused(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "trace.csv"
        path.write_text(text)
        with pytest.raises(BadInput, match=said):
            read_trace(path, start=START)

    def test_a_missing_file_a_folder_and_bytes_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "bytes.csv").write_bytes(b"job_id,\xff\n")
        for name, said in (("none.csv", "No such file"), ("", "directory"), ("bytes.csv", "not UTF-8")):
            with pytest.raises(BadInput, match=said):
                read_trace(tmp_path / name, start=START)

    def test_a_start_needs_a_zone(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="time zone"):
            read_trace(trace_file(tmp_path, short("a")), start=START.replace(tzinfo=None))


class TestWhatIsLeftOut:
    def file(self, folder: Path) -> Path:
        return trace_file(
            folder,
            short("early", submit_s=0),
            short("edge", submit_s=DAY_S, gpus=2, duration_s=3600),
            short("wide", submit_s=1.5 * DAY_S, gpus=64, duration_s=7200),
            short("other", submit_s=1.5 * DAY_S, vc="blue"),
            short("late", submit_s=2 * DAY_S),
        )

    def test_days_are_half_open_and_counted_from_the_start(self, tmp_path: Path) -> None:
        trace = read_trace(self.file(tmp_path), start=START, days=(1, 2))
        assert [row.job_id for row in trace.rows] == ["edge", "other", "wide"]
        assert [row.number for row in trace.rows] == [1, 2, 3]
        assert (trace.start, trace.end) == (START + timedelta(days=1), START + timedelta(days=2))
        assert trace.file_jobs == 5
        assert [left.jobs for left in trace.left_out] == [2]

    def test_each_reason_is_counted_apart_in_jobs_and_gpu_hours(self, tmp_path: Path) -> None:
        trace = read_trace(self.file(tmp_path), start=START, days=(1, 2), vc="", largest_gang=8)
        assert [row.job_id for row in trace.rows] == ["edge"]
        assert [(left.jobs, round(left.gpu_h)) for left in trace.left_out] == [(2, 0), (1, 0), (1, 128)]
        assert str(trace.left_out[2]) == (
            "left out: 1 jobs (128 GPU-hours) that ask for more than 8 GPUs, the largest gang"
        )

    def test_nothing_left_says_what_there_is(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"no job is left.*than red.*5 jobs.*\(none\) 4, blue 1"):
            read_trace(self.file(tmp_path), start=START, vc="red")

    @pytest.mark.parametrize("days", [(2, 2), (3, 1), (-1, 2), (0, float("nan")), (0, 1e9)])
    def test_days_must_be_a_stretch(self, tmp_path: Path, days: tuple[float, float]) -> None:
        with pytest.raises(BadInput, match="days"):
            read_trace(self.file(tmp_path), start=START, days=days)


class TestRecordedTrace:
    def read(self, data_dir: Path) -> Trace:
        return read_trace(data_dir / "jobs/msitp_2021_days_0-30.csv", start=START)

    def test_thirty_days_are_read_whole(self, data_dir: Path) -> None:
        trace = self.read(data_dir)
        assert len(trace.rows) == trace.file_jobs == 41_446
        assert trace.end - trace.start == timedelta(days=30)
        assert sum(row.gpu_h for row in trace.rows) == pytest.approx(835_682.4, abs=0.1)
