"""What docs/operations.md has people do with an LMDB store in use: copy it, and look at it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.ports import RowRead
from tests.support import wait_until
from tests.support_rows import rows_of

ROOT = Path(__file__).parents[3]
BLOCK = next(
    block
    for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/operations.md").read_text(), re.M | re.S)
    if "lmdb" in block
)
VIEW = bytes(8)
#: More than LMDB's tool maps by itself.
MANY = 150_000


def keys(first: int, count: int) -> list[bytes]:
    return [b"key-%09d" % number for number in range(first, first + count)]


def put(store: LmdbRows, first: int, count: int) -> None:
    store.put(VIEW, list(zip(keys(first, count), rows_of([1] * count), strict=True)), None)


@contextmanager
def writing(store: LmdbRows) -> Iterator[None]:
    """Rows come all the time, in order of their keys."""
    stop, written = threading.Event(), [MANY]

    def run() -> None:
        while not stop.is_set():
            put(store, written[0], 500)
            written[0] += 500

    writer = threading.Thread(target=run)
    writer.start()
    try:
        wait_until(lambda: written[0] > MANY, what="rows are being written")
        yield
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("options", ["", "--compact"])
def test_a_store_is_copied_while_it_is_written(tmp_path: Path, options: str) -> None:
    store = LmdbRows(tmp_path / "online.lmdb", sync=False)
    put(store, 0, MANY)
    commands = re.sub(r"^store=.*$", f"store={tmp_path / 'online.lmdb'}", BLOCK, flags=re.M)
    commands = commands.replace("backup.lmdb", str(tmp_path / "backup.lmdb"))
    commands = commands.replace(" copy ", f" copy {options} ").replace(".venv/bin/python", sys.executable)
    with writing(store):
        done = subprocess.run(
            ["sh", "-ec", commands], capture_output=True, text=True, timeout=120, check=False
        )
    store.close()
    assert done.returncode == 0, done.stderr
    assert "verify: OK" in done.stdout
    assert re.search(r"'entries': \d{6}", done.stdout)
    copy = LmdbRows(tmp_path / "backup.lmdb")
    (found,) = copy.get([RowRead(VIEW, keys(0, MANY))])
    copy.close()
    assert None not in found
