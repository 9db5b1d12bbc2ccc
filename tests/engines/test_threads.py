"""Work side by side."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.threads import Workers, map_chunks


def map_members(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Return ``function`` of every item, one thread for each."""
    with Workers(len(items)) as workers:
        return workers.map(function, items)


@properties
@given(items=st.lists(st.integers(), min_size=1, max_size=6))
def test_results_come_in_the_order_of_the_items(items: list[int]) -> None:
    assert map_members(lambda item: item * 2, items) == [item * 2 for item in items]


def test_members_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3)
    map_members(lambda item: meeting.wait(timeout=60), range(3))  # passes only once all three are there


def test_the_exception_of_a_member_does_not_wait_for_the_others() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def work(item: int) -> None:
        if item == 1:
            raise ZeroDivisionError
        go_on.wait(timeout=30)
        ended.set()

    try:
        with pytest.raises(ZeroDivisionError):
            map_members(work, range(3))
        assert not ended.is_set()
    finally:
        go_on.set()


def test_an_interrupt_in_a_member_reaches_the_caller() -> None:
    def work(item: int) -> None:
        if item == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_members(work, range(2))


@pytest.mark.parametrize("members", [1, 2, 5])
def test_the_number_of_threads_of_the_caller_stays(members: int) -> None:
    before = torch.get_num_threads()
    map_members(lambda item: torch.ones(4, 4) @ torch.ones(4, 4), range(members))
    assert torch.get_num_threads() == before


@pytest.fixture(params=[1, 3], ids=["one core", "three cores"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
    return int(request.param)


@pytest.mark.parametrize("items", [[], [4], list(range(20))], ids=["none", "one", "many"])
def test_every_chunk_is_done_once_and_told_about(cores: int, items: list[int]) -> None:
    done: list[int] = []
    offset = torch.tensor(100)  # what the caller holds is at hand
    assert map_chunks(lambda item: int(item * 2 + offset), items, True, done.append) == [2 * i + 100 for i in items]
    assert sorted(done) == items


def test_the_exception_of_a_chunk_reaches_the_caller(cores: int) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ZeroDivisionError("three")
        return item

    with pytest.raises(ZeroDivisionError, match="three"):
        map_chunks(work, range(6), True)
