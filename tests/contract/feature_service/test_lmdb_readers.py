"""LMDB's readers: what a process leaves behind that is killed in the midst of a read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.ports import RowRead
from plumbline.features.errors import StoreUnavailable
from tests.support_rows import rows_of

ROOT = Path(__file__).parents[3]
VIEW = b"readers!"
KEYS = [b"%d" % i for i in range(2000)]

_READER = """
import sys
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.ports import RowRead

class Stopping(list):
    def __iter__(self):
        yield from super().__iter__()
        print("reads", flush=True)
        sys.stdin.readline()

LmdbRows(sys.argv[1]).get([RowRead(b"readers!", Stopping([b"1"]))])
"""

_READERS = """
import sys
from contextlib import ExitStack
from feature_service.packed.lmdb_rows import LmdbRows
from plumbline.features.errors import StoreUnavailable

store = LmdbRows(sys.argv[1])
with ExitStack() as stack:
    try:
        while True:
            stack.enter_context(store._reading())
    except StoreUnavailable as error:
        print("reads", flush=True)
        sys.stdin.readline()
"""

_WRITER = """
import sys
from feature_service.packed.lmdb_rows import LmdbRows

LmdbRows(sys.argv[1]).set_note("written", b"by another process")
"""


@contextmanager
def reading(folder: Path, program: str = _READER) -> Iterator[subprocess.Popen[str]]:
    """A process in the midst of a read; killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "reads\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbRows]:
    opened = LmdbRows(tmp_path, map_size=1 << 30, sync=False)
    yield opened
    opened.close()


def rewrite(store: LmdbRows, times: int) -> int:
    """All rows anew, so many times; the size of the file then."""
    for _ in range(times):
        assert store.put(VIEW, list(zip(KEYS, rows_of([1] * len(KEYS)), strict=True)), None) == len(KEYS)
    return (Path(store.address.removeprefix("lmdb:")) / "data.mdb").stat().st_size


def slots(store: LmdbRows, pid: int) -> int:
    """How many of LMDB's reader slots are a process's."""
    lines = store._environment().readers().splitlines()
    return sum(line.split()[0] == str(pid) for line in lines)


def test_the_file_does_not_grow_because_of_a_reader_that_was_killed(store: LmdbRows, tmp_path: Path) -> None:
    """Pages that a reader may still see are not used again; those of a dead one are, by the next writes."""
    settled = rewrite(store, 20)
    assert rewrite(store, 20) == settled
    with reading(tmp_path) as process:
        assert slots(store, process.pid) == 1
        grown = rewrite(store, 20)
        assert grown > settled
    assert slots(store, process.pid) == 1
    rewrite(store, 1)
    assert slots(store, process.pid) == 0
    assert rewrite(store, 100) == grown
    assert store.get([RowRead(VIEW, KEYS)]) == [rows_of([1] * len(KEYS))]


def test_slots_of_readers_that_were_killed_are_given_to_others(store: LmdbRows, tmp_path: Path) -> None:
    """A process that only reads finds them when there are no others left."""
    with reading(tmp_path, _READERS) as process:
        assert slots(store, process.pid) > 500
        with pytest.raises(StoreUnavailable, match="has 510 readers at once, which is its limit; run fewer"):
            store.get([RowRead(VIEW, KEYS)])
    assert slots(store, process.pid) > 500
    assert store.get([RowRead(VIEW, KEYS)]) == [[None] * len(KEYS)]
    assert slots(store, process.pid) == 0


def test_a_store_may_be_opened_again_while_a_read_of_the_one_before_goes_on(tmp_path: Path) -> None:
    """LMDB tells that a process lives by a lock, which goes when the process closes the file anywhere."""
    first = LmdbRows(tmp_path, sync=False)
    first.set_note("written", b"by this one")
    with first._reading():  # of another thread, which has not noticed yet
        first.close()
        second = LmdbRows(tmp_path, sync=False)
    with second._reading():
        before = slots(second, os.getpid())
        subprocess.run([sys.executable, "-c", _WRITER, str(tmp_path)], cwd=ROOT, check=True)
        assert slots(second, os.getpid()) == before > 0
    assert second.note("written") == b"by another process"
    second.close()
