"""When a command gives up on a store that refuses."""

from __future__ import annotations

from dataclasses import replace

from cloud_archive.archive.gate import Closed
from cloud_archive.cli.give_up import Refusals
from cloud_archive.store.failures import explain

DENIED = replace(explain("AccessDenied"), transient=False)


def refused(times: int, *, transient: bool = False) -> Closed:
    return Closed(failure=replace(DENIED, transient=transient), until=0.0, refusals=times)


def test_two_refusals_in_a_row_are_final() -> None:
    refusals = Refusals()
    assert not refusals.are_final(refused(1))
    assert not refusals.are_final(refused(1)), "the same one, seen again"
    assert refusals.are_final(refused(2))


def test_what_waiting_cures_and_an_open_gate_begin_the_count_anew() -> None:
    refusals = Refusals()
    assert not refusals.are_final(refused(1))
    assert not refusals.are_final(refused(2, transient=True))
    assert not refusals.are_final(refused(3)), "the first after a store that was away proves nothing"
    assert not refusals.are_final(None)
    assert not refusals.are_final(refused(1))
    assert refusals.are_final(refused(2))
