"""What ports.RowStore promises, on LMDB, on a Redis server and on a cluster."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_service.packed.layout import EARLIEST, LATEST, NO_TIME, times
from feature_service.ports import RowRead, RowReads, RowStore
from tests.conftest import RedisCluster
from tests.support_rows import LAYOUT, open_rows, rows_of

ROOT = Path(__file__).parents[3]
_views = itertools.count(1)
KEYS = [b"a", b"b", b"key that is somewhat longer", b"x" * 600]


@pytest.fixture(scope="session", params=["lmdb", "redis", "redis_cluster"])
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that other processes can open too."""
    if request.param == "lmdb":
        return f"lmdb:{tmp_path_factory.mktemp('rows')}"
    if request.param == "redis":
        return f"redis:{request.getfixturevalue('redis_address')}"
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return f"redis_cluster:{','.join(cluster.addresses[:2])}"


@pytest.fixture(scope="session")
def store(spec: str) -> Iterator[RowStore]:
    opened = open_rows(spec)
    yield opened
    opened.close()


@pytest.fixture
def view() -> bytes:
    """A view that no other test uses. Its bytes mean something to SCAN's patterns."""
    return b"*[?]\\-" + next(_views).to_bytes(2, "big")


def get(store: RowStore, view: bytes, *keys: bytes) -> list[bytes | None]:
    (found,) = store.get([RowRead(view, keys)])
    return found


def read_async(spec: str, *requests: RowReads) -> list[list[list[bytes | None]]]:
    """What get_async answers to requests that run at the same time, on a loop of their own."""

    async def run() -> list[list[list[bytes | None]]]:
        store = open_rows(spec)
        try:
            return await asyncio.gather(*(store.get_async(reads) for reads in requests))
        finally:
            store.close()

    return asyncio.run(run())


def test_rows_come_back_in_the_order_of_views_and_keys(spec: str, store: RowStore, view: bytes) -> None:
    other = b"\x00" + view[1:]
    rows = rows_of([1, 2, 3, 4])
    assert store.put(view, list(zip(KEYS, rows, strict=True)), None) == 4
    assert store.put(other, [(b"a", rows[3])], None) == 1
    keys = [b"b", b"missing", b"x" * 600, b"b", b""]
    wanted = [[rows[1], None, rows[3], rows[1], None], [None], [rows[3], None]]
    reads = [RowRead(view, keys), RowRead(view, [b"missing"]), RowRead(other, [b"a", b"b"])]
    whole = [RowRead(prefix, asked, [prefix + key for key in asked]) for prefix, asked, _ in reads]
    assert store.get(reads) == store.get(whole) == wanted
    assert read_async(spec, reads, whole) == [wanted, wanted]
    assert store.get([]) == []
    assert read_async(spec, [RowRead(view, [])]) == [[[]]]


def test_many_keys_in_one_read(spec: str, store: RowStore, view: bytes) -> None:
    keys = [b"%d" % i for i in range(2500)]
    rows = rows_of(list(range(2500)))
    assert store.put(view, list(zip(keys, rows, strict=True)), None) == 2500
    assert get(store, view, *keys) == rows
    assert read_async(spec, [RowRead(view, keys), RowRead(view, keys[::-1])]) == [[rows, rows[::-1]]]


def test_a_key_in_place_of_none_is_refused(store: RowStore, view: bytes) -> None:
    with pytest.raises(ValueError, match="without a key"):
        store.put(view, [(b"", rows_of([1])[0])], None)


_TIMES = st.sampled_from(
    [EARLIEST, -(2**33), -(2**32), -1, 0, 1, 2**31, 2**32, 2**32 + 1, 2**53, 2**53 + 1, LATEST]
)
_WRITES = st.lists(
    st.lists(st.tuples(st.sampled_from(KEYS[:2]), _TIMES, _TIMES | st.just(NO_TIME)), max_size=4), max_size=5
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_WRITES)
def test_the_greatest_event_then_created_stays_and_of_equals_the_last(
    store: RowStore, writes: list[list[tuple[bytes, int, int]]]
) -> None:
    """Against a dictionary. Times around the edges of 32-bit halves and of doubles."""
    view = b"guarded" + next(_views).to_bytes(2, "big")
    kept: dict[bytes, tuple[int, int, int]] = {}
    number = 0
    for batch in writes:
        pairs = []
        for key, event, created in batch:
            number += 1
            pairs.append((key, rows_of([event], number, [created])[0]))
            if (event, created) >= kept.get(key, (NO_TIME, NO_TIME, 0))[:2]:
                kept[key] = (event, created, number)
        store.put(view, pairs, None)
    for key, (event, created, last) in kept.items():
        (row,) = get(store, view, key)
        assert row is not None
        found = LAYOUT.decode([row])
        assert [item.tolist() for item in times([row])] == [[event], [created]]
        assert found.numbers(1).tolist() == [last]


def test_what_is_no_row_keeps_no_row_out(store: RowStore, view: bytes) -> None:
    """Foreign and damaged values of any length, with what would be a late time where a row has its own."""
    (row,) = rows_of([1])
    late = (2**60).to_bytes(8, "little")
    wrong = [
        b"",
        b"foreign",
        b"\x7f" * 200,
        b"\x02" + row[1:16] + late + row[24:],
        row[:1] + b"\x01" + row[2:16] + late + row[24:],
        row[:4] + b"\x01" + row[5:16] + late + row[24:],
        row[:16] + late + row[24:],
        row[:31],
    ]
    keys = [b"k%d" % i for i in range(len(wrong))]
    assert store.put(view, list(zip(keys, wrong, strict=True)), None) == len(wrong)
    assert get(store, view, *keys) == wrong
    assert store.put(view, [(key, row) for key in keys], None) == len(wrong)
    assert get(store, view, *keys) == [row] * len(wrong)
    assert store.put(view, list(zip(keys, wrong, strict=True)), None) == 0


def test_drop_removes_one_view(store: RowStore, view: bytes) -> None:
    like = b"*[?]\\-" + b"\xff" * 2
    rows = rows_of([1, 2])
    for name in (view, like):
        store.put(name, list(zip([b"a", b"b"], rows, strict=True)), None)
    store.drop(view)
    assert get(store, view, b"a", b"b") == [None, None]
    assert get(store, like, b"a", b"b") == rows


def test_notes_are_kept_replaced_and_removed(store: RowStore) -> None:
    name = "schema/ä/" + "x" * 600
    assert store.note(name) is None
    store.set_note(name, b"1")
    store.set_note(name, b"\x00" * 10_000)
    assert store.note(name) == b"\x00" * 10_000
    store.set_note(name, None)
    store.set_note(name, None)
    assert store.note(name) is None


def test_the_newest_of_each_key_wins_whoever_writes_when(spec: str, store: RowStore, view: bytes) -> None:
    """Three processes write all events of all keys, each in an order of its own."""
    keys, events, writers = 20, 40, 3
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support_rows"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(writers)
    ]
    for writer, process in enumerate(processes):
        assert process.stdin is not None
        json.dump([spec, view.hex(), writer, keys, events], process.stdin)
        process.stdin.close()
    written = []
    for process in processes:
        assert process.stdout is not None
        written.append(int(process.stdout.read()))
        process.stdout.close()
        assert process.wait(60) == 0
    rows = [row for row in get(store, view, *[b"key-%d" % key for key in range(keys)]) if row is not None]
    assert LAYOUT.decode(rows).event_micros.tolist() == [events - 1] * keys
    assert sum(written) < writers * keys * events


def test_many_reads_at_once_on_one_loop(spec: str, store: RowStore, view: bytes) -> None:
    keys = [b"%d" % i for i in range(50)]
    rows = rows_of(list(range(50)))
    store.put(view, list(zip(keys, rows, strict=True)), None)

    assert read_async(spec, *([RowRead(view, [key])] for key in keys)) == [[[row]] for row in rows]
