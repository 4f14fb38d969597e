"""One leader at a time; a lease that ran out stays out."""

from __future__ import annotations

from power.capd.lease import Lease


def test_nobody_leads_at_first_but_has_a_lease_to_appear() -> None:
    lease = Lease(10.0, epoch=4, now_s=100.0)
    assert not lease.admits(4, 100.0)
    assert not lease.expired(109.9)
    assert lease.expired(110.0)


def test_every_taking_is_a_new_epoch_and_ends_the_one_before() -> None:
    lease = Lease(10.0, epoch=4, now_s=0.0)
    assert [lease.take(1.0), lease.take(2.0)] == [5, 6]
    assert not lease.admits(5, 2.0)
    assert lease.admits(6, 2.0)


def test_renewal_moves_the_deadline() -> None:
    lease = Lease(10.0, epoch=0, now_s=0.0)
    epoch = lease.take(0.0)
    lease.renew(8.0)
    assert lease.admits(epoch, 17.9)
    assert lease.remaining_s(13.0) == 5.0
    assert not lease.admits(epoch, 18.0)
    assert lease.expired(18.0)
    assert lease.remaining_s(30.0) == 0.0
