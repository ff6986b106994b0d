"""A server that is killed in the middle of a write: what is there afterwards, and what it takes to go on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plumbline.channel import open_channel
from plumbline.errors import Unavailable
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from plumbline.times import timestamp
from tests.integration.feature_service.conftest import unused_port
from tests.integration.feature_service.repo import ago, write_repo
from tests.integration.feature_service.test_process import PROGRAM, environment, run_apply
from tests.support import wait_until

KEYS = 400_000
PUSHED = {
    "driver_id": [KEYS],
    "event_timestamp": [ago(0.5)],
    "created": [ago(0.5)],
    "n": [7],
    "rate": [0.7],
    "tag": ["pushed"],
}
LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With so many trips that bringing them online takes a while; a quarter of the drivers had one before."""
    folder = write_repo(tmp_path_factory.mktemp("killed"), online=LMDB)
    drivers = np.concatenate([np.arange(KEYS), np.arange(0, KEYS, 4)])
    times = pa.array([ago(1)] * KEYS + [ago(1.5)] * (KEYS // 4), pa.timestamp("us", tz="UTC"))
    numbers = np.where(np.arange(len(drivers)) < KEYS, drivers + 1, -1)
    rows = {"driver_id": drivers, "event_timestamp": times, "created": times, "n": numbers}
    table = pa.table(rows | {"rate": numbers.astype(float), "tag": pa.repeat("a", len(drivers))})
    pq.write_table(table, folder / "data" / "trips.parquet")
    # In a process of its own: one process opens an LMDB once, and below the test does.
    assert run_apply(folder).returncode == 0
    return folder


@contextmanager
def serving(repo: Path) -> Iterator[tuple[subprocess.Popen[bytes], FeatureClient]]:
    """A server of its own process, killed at the end."""
    port = unused_port()
    settings = {"REPO": str(repo), "PORT": str(port), "METRICS_PORT": "0", "HTTP_PORT": "0"}
    variables = environment(**{f"PLUMBLINE_FEATURES_{name}": value for name, value in settings.items()})
    process = subprocess.Popen(PROGRAM, env=variables, stderr=subprocess.DEVNULL)
    try:
        with FeatureClient(f"127.0.0.1:{port}") as client:

            def up() -> bool:
                assert process.poll() is None
                try:
                    return bool(client.get_feature_service("tiny").name)
                except Unavailable:
                    return False

            wait_until(up, 90, "the server answers")
            yield process, client
    finally:
        process.kill()
        process.wait()


def online(client: FeatureClient, drivers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int | None]:
    values: list[int | None] = (
        client.get_online_features(["trips:n"], {"driver_id": drivers}).values["n"].to_pylist()
    )
    return values


def joined(client: FeatureClient, driver: int) -> int | None:
    rows = pa.table({"driver_id": [driver], "event_timestamp": [ago(0.1)]})
    found: int | None = client.get_historical_features(["trips:n"], rows).read_all()["n"][0].as_py()
    return found


def test_a_retry_mends_a_push_and_a_run_goes_on_where_the_server_was_killed(repo: Path) -> None:
    """One test, for a server takes seconds to start."""
    with serving(repo) as (process, client):
        cut_off_between_the_stores(repo, process, client)
    with serving(repo) as (process, client):
        check_that_a_retry_mends_it(repo, client)
        for step in nightly(client):
            assert step.rows_total == KEYS + 1
            if step.rows_written > KEYS // 4:
                process.kill()
                break
        process.wait()
    with serving(repo) as (_, client):
        check_that_the_run_goes_on(client)


def nightly(client: FeatureClient) -> Iterator[pb.MaterializeResponse]:
    request = pb.MaterializeRequest(views=["trips"], end_time=timestamp(ago(0)), operation_id="nightly")
    with open_channel(client.target) as channel:
        yield from FeatureRetrievalServiceStub(channel).Materialize(request)


def cut_off_between_the_stores(repo: Path, process: subprocess.Popen[bytes], client: FeatureClient) -> None:
    parts = repo / "data" / "trips.parquet.d"
    with (
        lmdb.open(str(repo / "data" / "online.lmdb"), map_size=1 << 30) as store,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        with store.begin(write=True):  # while somebody else writes, the server's write waits
            pushed = pool.submit(client.push, "trips_push", PUSHED, request_id="once")
            wait_until(lambda: parts.exists() and bool(list(parts.glob("pushed-*"))), what="the offline row")
            process.kill()
            process.wait()
        with pytest.raises(Unavailable):
            pushed.result()


def check_that_a_retry_mends_it(repo: Path, client: FeatureClient) -> None:
    # It was durable before anything went online.
    assert (joined(client, KEYS), online(client, np.array([KEYS]))) == (7, [None])
    for _ in range(2):
        assert client.push("trips_push", PUSHED, request_id="once").rows_written == 1
        assert (joined(client, KEYS), online(client, np.array([KEYS]))) == (7, [7])
    assert len(list((repo / "data" / "trips.parquet.d").glob("*.parquet"))) == 1


def check_that_the_run_goes_on(client: FeatureClient) -> None:
    everyone = np.arange(KEYS)
    # Rows are written in the order of their bytes, in which multiples of 256 come first.
    first, before = everyone[:2560:256], online(client, everyone[:2560])
    assert before[::256] == (first + 1).tolist()
    assert None in before
    steps = []
    for step in nightly(client):
        # Reads and joins go on meanwhile.
        assert online(client, first) == (first + 1).tolist()
        if not steps:
            assert joined(client, 5) == 6
        steps.append(step)
    assert KEYS // 8 < steps[0].rows_resumed < KEYS
    assert (steps[-1].view_finished, steps[-1].rows_written) == (True, KEYS + 1)
    parts = np.split(everyone, KEYS // 10_000)
    assert [value for part in parts for value in online(client, part)] == (everyone + 1).tolist()
