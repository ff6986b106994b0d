"""Asynchronous reads while servers stop, hang, come back and hand over what they have."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_rows import RedisRows, row_keys
from feature_service.packed.redis_sync import slot_of
from feature_service.packed.resp import MOST_CALLS, RedisBusy, RedisLate
from feature_service.ports import RowRead
from plumbline.features.errors import StoreUnavailable
from tests.conftest import RedisCluster
from tests.contract.feature_service.redis_servers import (
    RedisServer,
    pair_and_replica,
    redis_server,
    until,
)
from tests.support_rows import rows_of

VIEW = b"failures"
(ROW,) = rows_of([1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


def rows_at(nodes: str, *, cluster: bool = False, timeout: float = 10) -> RedisRows:
    return RedisRows(RedisOptions.parse(nodes, cluster=cluster, timeout=timeout))


def on_a_loop(rows: RedisRows, test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        try:
            await test()
        finally:
            rows.close()

    asyncio.run(run())


async def read(rows: RedisRows, *keys: bytes) -> list[bytes | None]:
    (found,) = await rows.get_async([RowRead(VIEW, keys)])
    return found


async def until_read(rows: RedisRows, *keys: bytes) -> list[bytes | None]:
    """What is read once the store can be reached; within 30 seconds."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await read(rows, *keys)
            except StoreUnavailable:
                await asyncio.sleep(0)


def test_a_server_that_was_started_again_is_read_without_an_error(server: RedisServer) -> None:
    rows = rows_at(server.address)

    async def test() -> None:
        rows.put(VIEW, [(b"a", ROW)], None)
        assert await read(rows, b"a") == [ROW]
        server.send(SIGKILL)
        server.start()
        assert await read(rows, b"a") == [None]

    on_a_loop(rows, test)


def test_a_server_that_is_away_is_an_error_and_found_again(server: RedisServer) -> None:
    rows = rows_at(server.address)

    async def test() -> None:
        assert await read(rows, b"a") == [None]
        server.send(SIGKILL)
        with pytest.raises(StoreUnavailable, match=r"refused|Connect call failed"):
            await read(rows, b"a")
        server.start()
        assert await until_read(rows, b"a") == [None]

    on_a_loop(rows, test)


def test_a_server_that_hangs_is_late_and_calls_beyond_the_limit_are_refused(server: RedisServer) -> None:
    rows = rows_at(server.address, timeout=2)

    async def test() -> None:
        assert await read(rows, b"a") == [None]
        server.send(SIGSTOP)
        calls = [asyncio.ensure_future(read(rows, b"a")) for _ in range(MOST_CALLS + 10)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert {type(_cause(call)) for call in done} == {RedisBusy}
        await asyncio.wait(calls)
        assert [type(_cause(call)) for call in calls] == [RedisLate] * MOST_CALLS + [RedisBusy] * 10
        server.send(SIGCONT)
        assert await until_read(rows, b"a") == [None]

    on_a_loop(rows, test)


def test_what_the_network_does_not_take_waits_within_bounds_and_is_answered(server: RedisServer) -> None:
    rows = rows_at(server.address, timeout=60)
    keys = [b"%d" % i + b"x" * 65_536 for i in range(100)]

    async def test() -> None:
        rows.put(VIEW, [(keys[0], ROW)], None)
        assert await read(rows, keys[0]) == [ROW]
        server.send(SIGSTOP)
        calls: list[asyncio.Future[list[bytes | None]]] = []
        while not any(call.done() for call in calls):
            calls.append(asyncio.ensure_future(read(rows, *keys)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        # What the kernel took, the transport's share, and what waits for it.
        assert 32 < 6.5 * len(calls) < 150
        server.send(SIGCONT)
        await asyncio.wait(calls)
        *good, refused = calls
        assert isinstance(_cause(refused), RedisBusy)
        assert all(call.result() == [ROW] + [None] * 99 for call in good)

    on_a_loop(rows, test)


def _cause(call: asyncio.Future[list[bytes | None]]) -> BaseException | None:
    error = call.exception()
    assert isinstance(error, StoreUnavailable)
    return error.__cause__


def test_password_and_database(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", "--requirepass", "secret") as server:
        rows = rows_at(f"{server.address},password=secret,db=3")
        wrong = rows_at(f"{server.address},password=wrong")
        other = rows_at(f"{server.address},password=secret")

        async def test() -> None:
            rows.put(VIEW, [(b"a", ROW)], None)
            assert await read(rows, b"a") == [ROW]
            assert await read(other, b"a") == [None]
            with pytest.raises(StoreUnavailable, match="WRONGPASS"):
                await read(wrong, b"a")
            other.close()
            wrong.close()

        on_a_loop(rows, test)


def test_tls_with_a_certificate_that_is_trusted_and_without(server: RedisServer, tmp_path: Path) -> None:
    """The server behind a proxy that speaks TLS, as the wheel's speaks none."""
    _write_certificate(tmp_path)
    plain = rows_at(server.address)
    plain.put(VIEW, [(b"a", ROW)], None)
    plain.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside, outside = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(_copy(reader, outside), _copy(inside, writer))

    async def run() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        async with await asyncio.start_server(through, "127.0.0.1", 0, ssl=context) as proxy:
            port = proxy.sockets[0].getsockname()[1]
            trusting = rows_at(f"localhost:{port},ssl=true,ssl_ca_certs={tmp_path}/cert.pem")
            doubting = rows_at(f"localhost:{port},ssl=true")
            assert await read(trusting, b"a") == [ROW]
            with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await read(doubting, b"a")
            trusting.close()
            doubting.close()

    asyncio.run(run())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def _write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.mark.parametrize("end", [SIGKILL, SIGSTOP])
def test_a_replica_that_took_over_is_found(end: Signals, tmp_path: Path) -> None:
    """Whether its primary is gone, or says nothing any more."""
    with pair_and_replica(tmp_path) as (first, second, replica):
        rows = rows_at(first.address, cluster=True, timeout=1)
        keys = [b"%d" % i for i in range(20)]

        async def test() -> None:
            rows.put(VIEW, [(key, ROW) for key in keys], None)
            assert first.ask("WAIT", 1, 10_000) == "1"
            assert await until_read(rows, *keys) == [ROW] * 20
            first.send(end)
            replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
            until(lambda: _is_primary(replica.port, second.ask("CLUSTER", "NODES")))
            assert await until_read(rows, *keys) == [ROW] * 20

        on_a_loop(rows, test)


def _is_primary(port: int, nodes: str) -> bool:
    """Whether CLUSTER NODES says so."""
    return any(f":{port}@" in line and " master " in line for line in nodes.splitlines())


def test_keys_of_a_slot_on_its_way_are_read_where_they_are(redis_cluster: RedisCluster) -> None:
    """Many readers at once: before, halfway, and after the slot has moved."""
    rows = rows_at(redis_cluster.addresses[0], cluster=True)
    key = b"on its way"
    slot = slot_of(row_keys([RowRead(VIEW, [key])])[0])
    views = [b"moving-%d" % i for i in range(4)]
    for view in views:
        rows.put(view, [(key, ROW)], None)
    source, target = slot % 3, (slot + 1) % 3
    reads = [RowRead(view, [key]) for view in [*views, b"moving-9"]]
    wanted = [[[ROW], [ROW], [ROW], [ROW], [None]]] * 20

    async def many() -> list[list[list[bytes | None]]]:
        return await asyncio.gather(*(rows.get_async(reads) for _ in range(20)))

    async def test() -> None:
        assert await many() == wanted
        with redis_cluster.client(source) as old, redis_cluster.client(target) as new:
            ids = [client.execute_command("CLUSTER", "MYID").decode() for client in (old, new)]
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            host, port = redis_cluster.addresses[target].split(":")
            moved = row_keys(reads[:4])
            for stored in moved[:2]:
                old.execute_command("MIGRATE", host, port, stored, 0, 5000)
            assert await many() == wanted
            for stored in moved[2:]:
                old.execute_command("MIGRATE", host, port, stored, 0, 5000)
            assert await many() == wanted
            for client in (new, old):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            assert await many() == wanted

    on_a_loop(rows, test)
