"""Several processes of one machine write the same keys to a store of Feast's own that is a file.

The newest row stays. Of packed stores test_row_store says so; Feast's stores on the network promise nothing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack

import pyarrow as pa
import pytest

from tests.contract.feature_service.conftest import Opened
from tests.support import wait_until
from tests.support_writer import FIRST, Writer

DRIVERS = 1000
_fresh = itertools.count(900_000, DRIVERS)
pytestmark = pytest.mark.parametrize("opened", ["feast-sqlite"], indirect=True)


@pytest.fixture(scope="module")
def writers(opened: Opened) -> Iterator[list[Writer]]:
    """Three processes with the store open. The last test ends one of them."""
    with ExitStack() as stack:
        found = []
        for _ in range(3):
            found.append(Writer(opened.folder))
            stack.callback(found[-1].end)
        assert [writer.says() for writer in found] == ["open"] * 3
        yield found


@pytest.fixture
def drivers() -> range:
    """Keys that no other test uses."""
    first = next(_fresh)
    return range(first, first + DRIVERS)


def check(opened: Opened, drivers: range, event: int) -> None:
    """Each driver's row is that of the event, whole."""
    view = opened.views["trips"]
    found = opened.store.read(view, view.features, [pa.array(drivers, pa.int64())])
    n, rate, tag = (column.to_pylist() for column in found.values)
    assert set(zip(n, rate, tag, strict=True)) == {(event, float(event), str(event))}
    assert set(found.event_micros.tolist()) == {FIRST + event * 1_000_000}


def test_an_older_event_of_another_process_changes_nothing(
    opened: Opened, writers: list[Writer], drivers: range
) -> None:
    """In both orders: the newer first, and the older first."""
    one, other, _ = writers
    for writer, event, written, stays in (
        (one, 5, DRIVERS, 5),
        (other, 4, 0, 5),
        (other, 6, DRIVERS, 6),
        (one, 5, 0, 6),
    ):
        writer.write(drivers, [event])
        assert writer.says() == str(written)
        check(opened, drivers, stays)


def test_of_writers_at_the_same_time_the_newest_event_wins(
    opened: Opened, writers: list[Writer], drivers: range
) -> None:
    """Each has all events of each driver: one from the oldest on, one from the newest, one in no order."""
    shuffled = random.Random(1).sample(range(10), 10)
    orders = [list(range(10)), list(reversed(range(10))), shuffled]
    for writer, events in zip(writers, orders, strict=True):
        writer.write(drivers, events)
    assert sum(int(writer.says()) for writer in writers) >= DRIVERS
    check(opened, drivers, 9)


def test_nobody_writes_between_the_comparison_and_the_write(
    opened: Opened, writers: list[Writer], drivers: range
) -> None:
    """The older event is found new, then the newer one comes, then the older one is written."""
    older, newer, _ = writers
    older.write(drivers[:10], [1], pause=True)
    assert older.says() == "compared"
    newer.write(drivers[:10], [2])
    wait_until(newer.waits_for_a_lock, what="the second writer waits for the first")
    older.go_on()
    assert (older.says(), newer.says()) == ("10", "10")
    check(opened, drivers[:10], 2)


def test_a_writer_that_is_killed_keeps_nobody_from_writing(
    opened: Opened, writers: list[Writer], drivers: range
) -> None:
    killed, other, _ = writers
    killed.write(drivers[:10], [2], pause=True)
    assert killed.says() == "compared"
    other.write(drivers[:10], [1])
    wait_until(other.waits_for_a_lock, what="the second writer waits for the first")
    killed.end()
    assert other.says() == "10"
    check(opened, drivers[:10], 1)
