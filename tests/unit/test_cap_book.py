"""A lowered cap counts at its old value until it has settled; a raise waits its turn."""

from __future__ import annotations

from dataclasses import replace

from scheduler.cap_book import CapBook
from scheduler.gpu_table import GpuTable
from tests.builders import gpus, snapshot


def test_a_lowering_counts_as_before_until_it_has_settled() -> None:
    book = CapBook(settle_s=2.0)
    book.note_set("gpu-0", before_w=300, read_back_w=150, monotonic_s=10.0)
    counted = [book.counts_at_w("gpu-0", 150, at_s) for at_s in (10.0, 11.9, 12.0, 20.0)]
    assert counted == [300, 300, 150, 150]


def test_two_lowerings_in_a_row_count_at_the_first_value() -> None:
    book = CapBook(settle_s=2.0)
    book.note_set("gpu-0", before_w=300, read_back_w=200, monotonic_s=0.0)
    book.note_set("gpu-0", before_w=200, read_back_w=100, monotonic_s=1.0)
    assert [book.counts_at_w("gpu-0", 100, at_s) for at_s in (1.5, 2.9, 3.0)] == [300, 300, 100]


def test_a_gpu_is_raised_at_most_once_per_settle_time() -> None:
    book = CapBook(settle_s=2.0)
    assert book.may_raise("gpu-0", 0.0)
    book.note_set("gpu-0", before_w=100, read_back_w=200, monotonic_s=0.0)
    assert [book.may_raise("gpu-0", at_s) for at_s in (0.5, 1.9, 2.0)] == [False, False, True]


def test_a_gpu_whose_driver_refused_is_not_settable() -> None:
    book = CapBook(settle_s=2.0)
    book.note_unsettable("gpu-1")
    assert (book.settable("gpu-0"), book.settable("gpu-1")) == (True, False)


def test_what_is_still_unsettled_is_told_with_the_cap_it_had() -> None:
    book = CapBook(settle_s=2.0)
    book.note_set("gpu-0", before_w=300, read_back_w=150, monotonic_s=10.0)
    book.note_set("gpu-1", before_w=100, read_back_w=200, monotonic_s=10.0)
    assert [book.unsettled_w(at_s) for at_s in (10.0, 11.9, 12.0)] == [{"gpu-0": 300}, {"gpu-0": 300}, {}]


def test_a_cap_that_somebody_raised_is_told_once() -> None:
    book = CapBook(settle_s=2.0)
    seen = snapshot(gpus(3, confirmed_cap_w=150.0)).gpus
    book.note_set("gpu-1", before_w=300, read_back_w=150, monotonic_s=0.0)
    assert book.drifted(seen).tolist() == []
    assert [book.drifted(_at(seen, 300.0)).tolist() for _ in range(2)] == [[1], []]
    book.note_set("gpu-1", before_w=300, read_back_w=150, monotonic_s=1.0)
    assert book.drifted(_at(seen, 300.0)).tolist() == [1]


def _at(seen: GpuTable, cap_w: float) -> GpuTable:
    return replace(seen, confirmed_cap_w=seen.confirmed_cap_w * 0 + cap_w)
