"""Feast's command line, SDK and UI on a repository that feature_service serves at the same time."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from feast import FeatureStore
from feast.cli.cli import cli
from feast.data_source import PushMode
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.ui_server import get_app

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from feature_service.settings import FeatureSettings
from feature_service.stores.packed import MAX_CLOCK_SKEW
from plumbline.channel import open_channel
from plumbline.features.client import FeatureClient
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from servicekit.http import serving_http
from tests.integration.feature_service.conftest import Running, settings_for
from tests.integration.feature_service.doors import Column, Question, native, sdk, sdk_async
from tests.integration.feature_service.repo import SQLITE, ago, write_repo
from tests.integration.feature_service.test_feast_doors import CASES
from tests.support import running_server

STORES = {
    "lmdb": "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb",
    # A database of its own: other tests keep views of these names on the server.
    "redis": "  type: feature_service.stores.redis.RedisOnlineStore\n  connection_string: {redis},db=1",
    "sqlite": SQLITE,
}


@dataclass(frozen=True)
class Shared:
    """A repository in the hands of Feast's SDK and of a running feature_service."""

    kind: str
    server: Running
    store: FeatureStore


def feast(repo: Path, *arguments: str) -> str:
    """Runs Feast's command line as a process of its own; gives what it printed."""
    program = Path(sys.executable).parent / "feast"
    environment = os.environ | {"FEAST_USAGE": "False", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [program, "-c", repo, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=STORES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Defined and materialized by Feast's own tools."""
    online = STORES[request.param]
    if request.param == "redis":
        online = online.format(redis=request.getfixturevalue("redis_address"))
    repo = write_repo(tmp_path_factory.mktemp(f"shared-{request.param}"), online)
    assert "trips" in feast(repo, "apply")
    with (
        running_server(settings_for(repo), build) as address,
        FeatureClient(address) as client,
        open_channel(address) as channel,
    ):
        store = FeatureStore(repo_path=str(repo))
        store.materialize(ago(1000), ago(0.1))
        stub = FeatureRetrievalServiceStub(channel)
        yield Shared(request.param, Running(address, "", repo, client, stub, channel), store)


@pytest.fixture
def packed(shared: Shared) -> Shared:
    """Over a store of ours."""
    if shared.kind == "sqlite":
        pytest.skip("Feast's own store")
    return shared


@pytest.mark.parametrize("case", CASES)
def test_the_service_reads_what_feast_materialized(shared: Shared, case: str) -> None:
    asked, expected = CASES[case]
    found = native(shared.server, asked)
    assert {name: column.values for name, column in found.items()} == {
        name: column.values for name, column in expected.items()
    }
    assert [column.statuses for column in found.values()] == [column.statuses for column in expected.values()]


@pytest.mark.parametrize("case", CASES)
def test_the_sdk_reads_the_same(shared: Shared, case: str) -> None:
    if shared.kind == "sqlite":
        pytest.skip("Feast's own store: no ttl, no status but PRESENT, null keys raise TypeError")
    asked, expected = CASES[case]
    found = sdk(shared.store, asked)
    for name, column in expected.items():
        assert found[name].values == column.values, name
        assert found[name].statuses == column.statuses, name
        assert found[name].times == (column.times or [None] * len(column.values)), name


async def test_the_sdks_asynchronous_calls_answer_the_same(packed: Shared) -> None:
    """All at the same time, on one loop."""
    answers = await asyncio.gather(*(sdk_async(packed.store, asked) for asked, _ in CASES.values()))
    await packed.store.close()
    assert answers == [sdk(packed.store, asked) for asked, _ in CASES.values()]


def test_each_loop_has_connections_of_its_own(packed: Shared) -> None:
    """As of a script that calls asyncio.run again and again; synchronous calls go on in between."""
    asked, _ = CASES["statuses"]

    async def answer() -> dict[str, Column]:
        try:
            return await sdk_async(packed.store, asked)
        finally:
            await packed.store.close()

    for _ in range(3):
        assert asyncio.run(answer()) == sdk(packed.store, asked)


async def test_rows_read_asynchronously_are_those_read_synchronously(packed: Shared) -> None:
    """As Feast's own servers read and write: present, of nulls, too old, and missing ones."""
    store = packed.store
    online, view = store._get_provider().online_store, store.get_feature_view("trips")
    keys = [
        EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)])
        for driver in (1, 2, 3, 405)
    ]
    for features in (None, ["rate", "n"]):
        found = await online.online_read_async(store.config, view, keys, features)
        assert found == online.online_read(store.config, view, keys, features)
        assert [event for event, _ in found] == [ago(0.5), ago(1), None, None]
    row = (keys[3], {"n": Value(int64_val=9)}, ago(0.1), ago(0.1))
    await online.online_write_batch_async(store.config, view, [row], None)
    written = await online.online_read_async(store.config, view, keys[3:], ["n"])
    await store.close()
    assert written == online.online_read(store.config, view, keys[3:], ["n"]) == [(ago(0.1), row[1])]


def test_what_the_sdk_pushes_is_served_and_joined(shared: Shared) -> None:
    row = {
        "driver_id": 500,
        "n": 5,
        "rate": 0.5,
        "tag": "s",
        "event_timestamp": ago(0.01),
        "created": ago(0.01),
    }
    shared.store.push("trips_push", pd.DataFrame([row]), to=PushMode.ONLINE_AND_OFFLINE)
    found = native(shared.server, Question(("trips:n", "trips:tag"), {"driver_id": [500]}))
    assert [found["n"].values, found["tag"].values, found["n"].times] == [[5], ["s"], [ago(0.01)]]
    rows = pa.table({"driver_id": [500], "event_timestamp": [ago(0)]})
    joined = shared.server.client.get_historical_features(["trips:n"], rows).read_all()
    assert joined["n"].to_pylist() == [5]


def test_what_the_service_takes_the_sdk_reads(shared: Shared) -> None:
    row = {"driver_id": [501], "n": [6], "rate": [0.25], "tag": ["c"], "event_timestamp": [ago(0.01)]}
    shared.server.client.push("trips_push", row)
    assert sdk(shared.store, Question(("trips:n",), {"driver_id": [501]}))["n"].values == [6]


@pytest.mark.parametrize("shared", ["lmdb", "redis"], indirect=True)
def test_nulls_in_what_the_sdk_writes(shared: Shared) -> None:
    """Feast hands over a null created time as pandas' NaT, and a null key as it is."""
    moment = ago(0.05)
    rows = pd.DataFrame(
        {
            "driver_id": [61, 62],
            "event_timestamp": [moment, moment],
            "created": [pd.NaT, moment],
            "n": [7, 8],
            "rate": [0.5, 0.5],
            "tag": ["x", "y"],
        }
    )
    shared.store.write_to_online_store("trips", rows)
    found = shared.server.client.get_online_features(["trips:n"], {"driver_id": [61, 62]})
    assert found.values["n"].to_pylist() == [7, 8]
    keyless = rows.assign(driver_id=pd.array([None, 63], "Int64"))
    with pytest.raises(ValueError, match="view trips: a join key is null"):
        shared.store.write_to_online_store("trips", keyless)


def test_rows_of_the_future_do_not_block_their_key(packed: Shared) -> None:
    """The service refuses them; the SDK took them, and the key, later pushes included, read NOT_FOUND."""
    now = datetime.now(UTC)
    columns = {"n": [7, 8], "rate": [0.5] * 2, "tag": ["x"] * 2, "created": [now] * 2}
    late = pd.DataFrame(
        columns | {"driver_id": [71, 72], "event_timestamp": [now, now + timedelta(days=400)]}
    )
    parts = packed.server.repo / "data" / "trips.parquet.d"
    before = set(parts.glob("*.parquet"))
    for to in (PushMode.ONLINE, PushMode.ONLINE_AND_OFFLINE):
        with pytest.raises(ValueError, match=r"view trips: the event time of row 1, .*, lies in the future"):
            packed.store.push("trips_push", late, to=to)
    naive = late.assign(event_timestamp=late["event_timestamp"].dt.tz_localize(None))
    with pytest.raises(ValueError, match="times without a zone count as UTC"):
        packed.store.push("trips_push", naive)
    assert set(parts.glob("*.parquet")) == before
    right = late.assign(event_timestamp=[now, now])
    packed.store.push("trips_push", right)
    found = sdk(packed.store, Question(("trips:n",), {"driver_id": [71, 72]}))["n"]
    assert (found.values, found.statuses) == ([7, 8], ["PRESENT", "PRESENT"])


def test_clocks_may_differ_a_little(packed: Shared) -> None:
    soon = datetime.now(UTC) + MAX_CLOCK_SKEW - timedelta(milliseconds=1)
    row = {"driver_id": 73, "event_timestamp": soon, "created": soon, "n": 7, "rate": 0.5, "tag": "x"}
    packed.store.push("trips_push", pd.DataFrame([row]))
    assert FeatureSettings.model_fields["max_clock_skew_seconds"].default == MAX_CLOCK_SKEW.total_seconds()


def test_a_value_that_is_taken_back_is_joined_as_it_is_served(shared: Shared) -> None:
    """Without a created time the row pushed last counts, also where it was pushed before."""
    event = ago(0.01)
    parts = shared.server.repo / "data" / "weather.parquet.d"
    for number, temp in enumerate([1.0, 2.0, 1.0, 1.0]):
        row = {"city_id": "EWR", "event_timestamp": event, "temp": temp}
        for write in (shared.store.write_to_online_store, shared.store.write_to_offline_store):
            write("weather", pd.DataFrame([row]))
        found = sdk(shared.store, Question(("weather:temp",), {"city_id": ["EWR"]}))
        assert found["temp"].values == [temp]
        rows = pd.DataFrame({"city_id": ["EWR"], "event_timestamp": [ago(0)]})
        joined = shared.store.get_historical_features(rows, ["weather:temp"]).to_arrow()
        assert joined["temp"].to_pylist() == [temp]
        # What was written last is written once.
        assert len(list(parts.glob("*.parquet"))) == min(number, 2) + 1


def test_what_the_sdk_writes_is_joined_as_it_is(tmp_path: Path) -> None:
    """Beside a file of float32 and milliseconds; and what no type unites with the file is refused."""
    repo = write_repo(tmp_path)
    table = pa.table(
        {
            "city_id": ["LGA"],
            "event_timestamp": pa.array([ago(5)], pa.timestamp("ms", "UTC")),
            "temp": pa.array([0.5], pa.float32()),
        }
    )
    pq.write_table(table, repo / "data" / "weather.parquet")
    pq.write_table(
        pa.table({"driver_id": [1.0], "city_id": ["LGA"], "event_timestamp": [ago(5)], "visits": [1]}),
        repo / "data" / "pair.parquet",
    )
    apply(repo)
    store = FeatureStore(str(repo))
    event = ago(1) + timedelta(microseconds=1_500)
    row = pd.DataFrame([{"city_id": "LGA", "event_timestamp": event, "temp": 0.1}])
    store.write_to_offline_store("weather", row)
    at = [event - timedelta(microseconds=1), event]
    asked = pd.DataFrame({"city_id": ["LGA"] * 2, "event_timestamp": at})
    found = store.get_historical_features(asked, ["weather:temp"]).to_arrow()
    assert found["temp"].to_pylist() == [0.5, 0.1]
    large = pd.DataFrame([{"driver_id": 2**53 + 1, "city_id": "LGA", "event_timestamp": event, "visits": 1}])
    with pytest.raises(ValueError, match="source pair_table: driver_id of row 0 is not exact"):
        store.write_to_offline_store("pair", large)
    assert not (repo / "data" / "pair.parquet.d").exists()


def test_training_rows_are_the_same_from_the_sdk_and_the_service(shared: Shared) -> None:
    rows = pa.table(
        {
            "driver_id": [1, 1, 1, 2, 1, 404],
            "city_id": ["LGA", "JFK", "LGA", "nowhere", "LGA", "JFK"],
            "event_timestamp": [ago(0.2), ago(0.05), ago(0.2), ago(0.5), ago(4), ago(0.5)],
            "factor": [10.0, 10.0, 1.0, 1.0, 1.0, 1.0],
            "label": [1, 0, 1, 0, 1, 0],
        }
    )
    ours = shared.server.client.get_historical_features("tiny", rows).read_all()
    service = shared.store.get_feature_service("tiny")
    feasts = shared.store.get_historical_features(rows.to_pandas(), service).to_arrow()
    for column in ("driver_id", "city_id", "label", "n", "rate", "temp", "scaled"):
        assert feasts[column].to_pylist() == ours[column].to_pylist(), column


# Of the registry's messages, by Feast for its own developers.
@pytest.mark.filterwarnings("ignore:We will be deprecating the usage of spec.userDefinedFunction")
def test_feasts_command_line_shows_what_is_served(shared: Shared) -> None:
    repo = str(shared.server.repo)
    for arguments, shown in ((["registry-dump"], "ratings"), (["feature-views", "list"], "trips")):
        done = CliRunner().invoke(cli, ["-c", repo, *arguments])
        assert (done.exception, shown in done.output) == (None, True), done.output


# Feast's way of mounting one application on another; FastAPI means its author.
@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
async def test_feasts_ui_shows_the_definitions(shared: Shared) -> None:
    app = get_app(shared.store, "tiny")
    async with serving_http(app, settings_for(shared.server.repo), 0, "PORT") as port:
        base = f"http://127.0.0.1:{port}"
        projects = await asyncio.to_thread(get_json, f"{base}/projects-list.json")
        assert "tiny" in [project["id"] for project in projects["projects"]]
        views = await asyncio.to_thread(get_json, f"{base}/api/v1/feature_views?project=tiny")
        names = {view["spec"]["name"] for view in views["featureViews"]}
        assert names >= {"trips", "weather", "pair", "world", "kinds", "ratings"}
        services = await asyncio.to_thread(get_json, f"{base}/api/v1/feature_services?project=tiny")
        assert {item["spec"]["name"] for item in services["featureServices"]} == {"tiny", "route"}


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.loads(reply.read())
