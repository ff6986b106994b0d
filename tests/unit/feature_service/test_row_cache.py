"""The cache of an embedded store's rows: never anything but what the store has."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from feature_service.domain import Field, ValueType
from feature_service.packed import lmdb_changes
from feature_service.packed.layout import RowLayout
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.packed.row_cache import RowCache
from feature_service.ports import RowRead

LAYOUT = RowLayout([Field("n", ValueType.INT64)])
VIEWS = [b"view-00a", b"view-00b"]
LONG = b"k" * 600
KEYS = [b"a", b"b", b"", LONG, *(b"%d" % i for i in range(5))]


def rows_at(events: list[int]) -> list[bytes]:
    return LAYOUT.pack([pa.array(events, pa.int64())], np.array(events, np.int64), None)


def put(store: LmdbRows, view: bytes, key: bytes, event: int) -> int:
    return store.put(view, [(key, *rows_at([event]))], None)


def events_of(store: LmdbRows, *keys: bytes, view: bytes = VIEWS[0]) -> list[int | None]:
    (found,) = store.get([RowRead(view, list(keys))])
    return [None if row is None else int.from_bytes(row[-8:], "little", signed=True) for row in found]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbRows]:
    found = LmdbRows(tmp_path / "rows", sync=False, retention=timedelta(0))
    yield found
    found.close()


class Machine(RuleBasedStateMachine):
    """Two caches, one of them too small for the rows, and a store without, over one file."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "rows"

        def opened(cache: int) -> LmdbRows:
            return LmdbRows(path, sync=False, retention=timedelta(0), cache=cache)

        self.plain, self.cached, self.small = opened(0), opened(2**20), opened(1_000)

    @rule(
        view=st.sampled_from(VIEWS),
        rows=st.lists(
            st.tuples(st.sampled_from([key for key in KEYS if key]), st.integers(0, 9)), max_size=4
        ),
        times=st.sampled_from([1, 80]),
    )
    def write(self, view: bytes, rows: list[tuple[bytes, int]], times: int) -> None:
        """times: so that there are more keys than a commit tells apart, or not."""
        pairs = [(key, *rows_at([event])) for key, event in rows]
        more = [(b"more-%d" % i, *rows_at([i % 7])) for i in range((times - 1) * 5)]
        self.small.put(view, pairs + more, None)

    @rule(view=st.sampled_from(VIEWS), before=st.integers(0, 9))
    def sweep(self, view: bytes, before: int) -> None:
        self.plain.sweep(view, before)

    @rule(view=st.sampled_from(VIEWS))
    def drop(self, view: bytes) -> None:
        self.cached.drop(view)

    @rule()
    def note(self) -> None:
        self.plain.set_note("name", b"value")

    @rule(commits=st.sampled_from([1, 300]))
    def write_as_another_version(self, commits: int) -> None:
        """One that writes down nothing of what it changes."""
        env = self.plain._environment()
        for i in range(commits):
            with env.begin(write=True) as txn:
                txn.put(VIEWS[0] + b"a", rows_at([10 + i % 3])[0])

    @invariant()
    def all_answer_alike(self) -> None:
        shared = list(KEYS)
        reads = [
            RowRead(VIEWS[0], shared),
            RowRead(VIEWS[1], shared),
            RowRead(VIEWS[0], [b"b", b"b", b"more-3"]),
        ]
        wanted = self.plain.get(reads)
        for store in (self.cached, self.small):
            assert store.get(reads) == wanted
            assert store.get(reads) == wanted

    def teardown(self) -> None:
        for store in (self.plain, self.cached, self.small):
            store.close()
        self._folder.cleanup()


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestAllAnswerAlike = Machine.TestCase


def test_a_second_read_asks_nothing_of_the_store(store: LmdbRows) -> None:
    put(store, VIEWS[0], b"a", 1)
    cache, asked = RowCache(2**20, 503), list[bytes]()

    def look(view: bytes, key: bytes) -> bytes | None:
        asked.append(view + key)
        return None

    shared = [b"a", b"b"]
    reads = [RowRead(VIEWS[0], shared), RowRead(VIEWS[1], shared)]
    with store._reading() as txn:
        first = cache.get(txn, reads, look)
        assert len(asked) == 4
        assert cache.get(txn, reads, look) == first == [[None, None], [None, None]]
    assert len(asked) == 4


def test_only_keys_that_were_written_are_looked_up_again(store: LmdbRows) -> None:
    for key in (b"a", b"b"):
        put(store, VIEWS[0], key, 1)
    cache, asked = RowCache(2**20, 503), list[bytes]()

    def read() -> list[bytes]:
        asked.clear()
        with store._reading() as txn:
            cache.get(txn, [RowRead(VIEWS[0], [b"a", b"b"])], lambda view, key: asked.append(key))  # type: ignore[func-returns-value]
        return list(asked)

    assert read() == [b"a", b"b"]
    put(store, VIEWS[1], b"a", 1)
    store.set_note("note", b"")
    assert read() == []
    put(store, VIEWS[0], b"b", 2)
    assert read() == [b"b"]
    put(store, VIEWS[0], b"b", 1)  # older: nothing is written
    assert read() == []
    store.sweep(VIEWS[0], 2)
    assert read() == [b"a"]


def test_what_another_process_writes_is_read_at_once(tmp_path: Path) -> None:
    store = LmdbRows(tmp_path / "rows", sync=False)
    put(store, VIEWS[0], b"a", 1)
    assert events_of(store, b"a") == events_of(store, b"a") == [1]
    script = (
        "import sys; from tests.unit.feature_service import test_row_cache as t\n"
        "store = t.LmdbRows(sys.argv[1], sync=False); t.put(store, t.VIEWS[0], b'a', 2)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "rows")], check=True)
    assert events_of(store, b"a") == [2]
    store.close()


def test_a_compacted_copy_counts_its_commits_anew(store: LmdbRows, tmp_path: Path) -> None:
    for event in range(40):
        put(store, VIEWS[0], b"a", event)
    (tmp_path / "copy").mkdir()
    store._environment().copy(str(tmp_path / "copy"), compact=True)
    copy = LmdbRows(tmp_path / "copy", sync=False)
    other = LmdbRows(tmp_path / "copy", sync=False)
    for event in range(40, 90):  # through the numbers that the copy still has entries of
        assert events_of(copy, b"a") == [event - 1]
        put(other, VIEWS[0], b"a", event)
        assert events_of(copy, b"a") == [event]
    copy.close()
    other.close()


def test_what_a_copy_has_of_later_commits_is_dropped(store: LmdbRows, tmp_path: Path) -> None:
    for event in range(40):
        put(store, VIEWS[0], b"a", event)
    (tmp_path / "copy").mkdir()
    store._environment().copy(str(tmp_path / "copy"), compact=True)
    copy = LmdbRows(tmp_path / "copy", sync=False)
    put(copy, VIEWS[0], b"a", 40)
    assert events_of(copy, b"b") == [None]
    with copy._environment().begin(write=True) as txn:  # another version, which writes nothing down
        txn.put(VIEWS[0] + b"b", rows_at([1])[0])
    assert events_of(copy, b"b") == [1]
    copy.close()


def test_the_store_keeps_the_last_commits_only(store: LmdbRows) -> None:
    for event in range(600):
        put(store, VIEWS[0], b"a", event)
    with store._environment().begin() as txn, txn.cursor() as cursor:
        assert cursor.set_range(b"\xffchange:")
        kept = list(
            itertools.takewhile(lambda key: key.startswith(b"\xffchange:"), cursor.iternext(values=False))
        )
        assert len(kept) == 256
        assert lmdb_changes.since(txn, txn.id() - 256) is not None
        assert lmdb_changes.since(txn, txn.id() - 257) is None


def test_memory_is_bounded_and_what_is_asked_for_stays(store: LmdbRows) -> None:
    row = rows_at([1])[0]
    store.put(VIEWS[0], [(b"%06d" % i, row) for i in range(5_000)], None)
    cache, asked = RowCache(200_000, 503), list[bytes]()

    def look(view: bytes, key: bytes) -> bytes | None:
        asked.append(key)
        return row

    with store._reading() as txn:
        for start in range(0, 5_000, 10):
            keys = [b"%06d" % i for i in range(start, start + 10)]
            cache.get(txn, [RowRead(VIEWS[0], [b"hot", *keys])], look)
            (group,) = cache._groups.values()
            assert (len(group.young) + len(group.old)) * (200 + 48 + len(row)) <= 230_000
    assert asked.count(b"hot") == 1


def test_a_cache_that_does_not_help_rests(store: LmdbRows) -> None:
    cache = RowCache(2**30, 503)
    with store._reading() as txn:
        for start in range(0, 21_000, 1_000):
            keys = [b"%06d" % i for i in range(start, start + 1_000)]
            found = cache.get(txn, [RowRead(VIEWS[0], keys)], lambda view, key: None)
            if found is None:
                break
        assert start == 20_000
        assert cache.rests
        for _ in range(199):
            assert cache.get(txn, [RowRead(VIEWS[0], keys)], lambda view, key: None) is None
        assert cache.get(txn, [RowRead(VIEWS[0], keys)], lambda view, key: None) is not None


def test_a_store_whose_cache_rests_takes_whole_keys(store: LmdbRows) -> None:
    put(store, VIEWS[0], b"a", 1)
    assert not store.wants_whole
    keys = [b"%06d" % i for i in range(20_000)]
    store.get([RowRead(VIEWS[0], keys)])
    assert store.wants_whole
    read = RowRead(VIEWS[0], [b"a"], [VIEWS[0] + b"a"])
    assert store.get([read]) == [rows_at([1])]


def test_an_older_read_transaction_does_not_take_newer_rows(store: LmdbRows) -> None:
    put(store, VIEWS[0], b"a", 1)
    cache = RowCache(2**20, 503)
    reads = [RowRead(VIEWS[0], [b"a"])]
    with store._environment().begin() as before:
        put(store, VIEWS[0], b"a", 2)
        with lmdb.Environment.begin(store._environment()) as after:
            assert cache.get(after, reads, lambda view, key: after.get(view + key)) is not None
        assert cache.get(before, reads, lambda view, key: before.get(view + key)) is None
