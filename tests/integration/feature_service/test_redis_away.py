"""A server whose Redis reads its data after a start, and one of whose Redis cluster a node is gone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from feature_service.app import build
from feature_service.domain import Field, ValueType
from feature_service.feast_adapters.apply import apply
from feature_service.packed.keys import EntityKeys, view_prefix
from feature_service.packed.redis_rows import row_keys
from feature_service.packed.redis_sync import slot_of
from feature_service.ports import RowRead
from plumbline.features.client import FeatureClient, OnlineFeatures
from plumbline.features.errors import StoreUnavailable
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.contract.feature_service.redis_servers import pair_and_replica, redis_server
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import ago, write_repo
from tests.support import running_server, wait_until

REDIS = "  type: feature_service.stores.redis.RedisOnlineStore\n  connection_string: "
#: By packed rows as they are, on the event loop; and, for the on-demand view, on a thread.
SELECTIONS = {"hot": ["trips:n"], "on demand": ["trips:n", "scaled:scaled"]}
#: So many commands are a log that Redis reads for a long time when it pauses after each.
LOGGED, PAUSE_MICROS = 100_000, 100
PRESENT, UNAVAILABLE = 1, 5
PUSHED = {"driver_id": [3], "event_timestamp": [ago(0.1)], "n": [1], "rate": [0.5], "tag": ["p"]}


@contextmanager
def serving(folder: Path, online: str, drivers: list[int]) -> Iterator[str]:
    """A server that has a trip of each driver online; yields its address."""
    repo = write_repo(folder, REDIS + online)
    count = len(drivers)
    times = pa.array([ago(0.5)] * count, pa.timestamp("us", tz="UTC"))
    columns = {"driver_id": drivers, "event_timestamp": times, "created": times, "n": drivers}
    rates = {"rate": [0.5] * count, "tag": ["a"] * count}
    pq.write_table(pa.table(columns | rates), repo / "data" / "trips.parquet")
    apply(repo)
    # Answers of a store that is busy are waited for.
    with running_server(settings_for(repo, store_timeout_seconds=60), build) as address:
        with FeatureClient(address) as client:
            assert list(client.materialize(["trips"]))[-1].rows_written == count
        yield address


def read(client: FeatureClient, way: str, drivers: list[int], *, partial: bool = False) -> OnlineFeatures:
    data = {"factor": [2.0] * len(drivers)} if way == "on demand" else None
    return client.get_online_features(
        SELECTIONS[way], {"driver_id": drivers}, request_data=data, allow_partial=partial
    )


def check_whole(client: FeatureClient, way: str, drivers: list[int]) -> None:
    assert read(client, way, drivers).values["n"].to_pylist() == drivers


def check_away(client: FeatureClient, way: str, drivers: list[int], *words: str) -> None:
    """A read is refused with words, and with allow_partial tells that of each cell."""
    with pytest.raises(StoreUnavailable) as caught:
        read(client, way, drivers)
    for word in words:
        assert word in caught.value.message
    found = read(client, way, drivers, partial=True)
    for name in found.values.column_names:
        assert found.values[name].null_count == len(drivers)
        assert found.statuses[name].tolist() == [UNAVAILABLE] * len(drivers)


def until_whole(client: FeatureClient, way: str, drivers: list[int]) -> None:
    def whole() -> bool:
        found = read(client, way, drivers, partial=True)
        return found.statuses["n"].tolist() == [PRESENT] * len(drivers)

    wait_until(whole, 60, "the store answers")
    check_whole(client, way, drivers)


def test_a_server_that_reads_its_data_says_so_until_it_is_there(tmp_path: Path) -> None:
    kept, drivers = ("--appendonly", "yes"), [1, 2]
    with (
        redis_server(tmp_path / "redis", *kept) as server,
        serving(tmp_path / "repo", server.address, drivers) as address,
        FeatureClient(address, timeout=150) as client,
    ):
        with (
            redis.Redis(host="127.0.0.1", port=server.port) as filler,
            filler.pipeline(transaction=False) as commands,
        ):
            for _ in range(LOGGED):
                commands.set("other", 1)
            commands.execute()
        server.send(SIGKILL)
        server.start("--key-load-delay", str(PAUSE_MICROS))
        words = (f"redis://{server.address} refuses", "it is reading its data after a start; try again")
        for way in SELECTIONS:
            check_away(client, way, drivers, *words)
        with pytest.raises(StoreUnavailable, match=words[1]):
            client.push("trips", PUSHED, destination=pb.PUSH_DESTINATION_ONLINE)
        server.send(SIGKILL)
        server.start()
        for way in SELECTIONS:
            until_whole(client, way, drivers)


def drivers_by_node() -> tuple[list[int], list[int]]:
    """Two drivers whose rows are on the first primary, which has the even slots, and two on the second."""
    found: tuple[list[int], list[int]] = ([], [])
    codec, view = EntityKeys([Field("driver_id", ValueType.INT64)]), view_prefix("tiny", "trips")
    for driver in itertools.count(1):
        (key,) = row_keys([RowRead(view, codec.encode([pa.array([driver])]))])
        found[slot_of(key) % 2].append(driver)
        if min(map(len, found)) >= 2:
            return found[0][:2], found[1][:2]
    raise AssertionError


def test_rows_of_a_node_that_is_gone_are_unavailable_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other primary's rows are read meanwhile, until the cluster is down."""
    here, there = drivers_by_node()
    (tmp_path / "redis").mkdir()
    with pair_and_replica(tmp_path / "redis") as (first, second, _):
        online = f"{first.address}\n  redis_type: redis_cluster"
        with (
            serving(tmp_path / "repo", online, here + there) as address,
            FeatureClient(address, timeout=150) as client,
        ):
            second.ask("SAVE")
            second.send(SIGKILL)
            for way in SELECTIONS:
                check_away(client, way, there, f"redis://{first.address} cannot be reached", second.address)
                check_away(client, way, here + there, "see that it runs")
                check_whole(client, way, here)
            # Until the other primary takes it for gone, and the slots for not covered.
            first.ask("CONFIG", "SET", "cluster-node-timeout", 500)
            wait_until(lambda: "cluster_state:fail" in first.ask("CLUSTER", "INFO"), 60)
            for way in SELECTIONS:
                check_away(client, way, here, "refuses: nodes of the cluster are missing: start them")
            second.start()
            for way in SELECTIONS:
                until_whole(client, way, here + there)
    # What is away is no fault of the program.
    assert "Traceback" not in caplog.text


def test_a_node_that_says_nothing_is_named(tmp_path: Path) -> None:
    here, there = drivers_by_node()
    (tmp_path / "redis").mkdir()
    with pair_and_replica(tmp_path / "redis") as (first, second, _):
        online = f"{first.address},socket_timeout=3\n  redis_type: redis_cluster"
        with (
            serving(tmp_path / "repo", online, here + there) as address,
            FeatureClient(address, timeout=150) as client,
        ):
            second.send(SIGSTOP)
            check_away(client, "hot", there, f"its node {second.address}: no answer within 3 s")
            check_whole(client, "hot", here)
            second.send(SIGCONT)
            until_whole(client, "hot", here + there)
