"""A repository of Feast's, two lines of its feature_store.yaml changed: all that its users do goes on.

The repository is the one of `feast init`: maps, structs and JSON, on-demand views, push sources, labels, and
rows that were created long after their events.
"""

from __future__ import annotations

import difflib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
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
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.type_map import feast_value_type_to_python_type

from feature_service.app import build
from plumbline.channel import open_channel
from plumbline.features.client import FeatureClient
from plumbline.features.errors import TypeMismatch
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import settings_for, unused_port
from tests.support import running_server

# Feast's own, about its definitions and its registry.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Entity value_type will be mandatory"),
    pytest.mark.filterwarnings("ignore:On demand feature view is an experimental feature"),
    pytest.mark.filterwarnings("ignore:We will be deprecating the usage of spec.userDefinedFunction"),
]

SERVICE = "driver_activity_v2"
REQUEST = {"val_to_add": [1, 2], "val_to_add_2": [10, 20]}


def two_lines(yaml: str) -> str:
    """The change: one line replaced, one added."""
    changed = yaml.replace("type: sqlite", "type: feature_service.stores.lmdb.LmdbOnlineStore")
    return changed + "offline_store: {type: feature_service.stores.asof.AsofOfflineStore}\n"


def run(repo: Path, *arguments: str | Path) -> str:
    """Runs a program in the repository as a user would; gives what it printed."""
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"FEAST_USAGE": "False", "PYTHONPATH": str(Path.cwd()), "PATH": path}
    done = subprocess.run(
        arguments, cwd=repo, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Moved:
    """The repository, and what its own test_workflow.py printed."""

    repo: Path
    said: str


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """Made by `feast init`, moved over, and put through the workflow that Feast ships with it.

    That applies, joins, materializes, reads, pushes, and tears everything down.
    """
    with chdir(tmp_path_factory.mktemp("existing")):
        made = CliRunner().invoke(cli, ["init", "moved"])
        repo = Path("moved/feature_repo").absolute()
    assert made.exception is None, made.output
    yaml = repo / "feature_store.yaml"
    before = yaml.read_text()
    # What Feast's own store left behind.
    (repo / "data" / "online_store.db").write_bytes(b"SQLite format 3\x00")
    yaml.write_text(two_lines(before))
    changes = list(difflib.ndiff(before.splitlines(), yaml.read_text().splitlines()))
    assert sum(line.startswith("+ ") for line in changes) == 2
    return Moved(repo, run(repo, sys.executable, "test_workflow.py"))


def test_feasts_own_workflow_runs(moved: Moved) -> None:
    assert "Traceback" not in moved.said
    after_push = moved.said.split("with updated values from a stream push")[1]
    assert "conv_rate  :  [1.0, " in after_push
    assert "'name': 'driver_1001_updated'" in after_push


def test_rows_that_the_cutoff_hides_are_told(moved: Moved) -> None:
    """The rows of 2021 that the workflow joins were created when the repository was made."""
    assert "view driver_hourly_stats: none of its rows was known" in moved.said
    assert "3 rows would have values" in moved.said
    assert "known_at: false" in moved.said


@dataclass(frozen=True)
class Served:
    """The repository applied and materialized anew by Feast's command line, and served."""

    repo: Path
    store: FeatureStore
    client: FeatureClient
    address: str
    http: str


@pytest.fixture(scope="module")
def served(moved: Moved) -> Iterator[Served]:
    apply = run(moved.repo, "feast", "apply")
    assert "Deploying infrastructure for driver_hourly_stats" in apply
    store = FeatureStore(str(moved.repo))
    gone = store.get_online_features(["driver_hourly_stats:conv_rate"], [{"driver_id": 1001}]).to_dict()
    assert gone["conv_rate"] == [None]  # `feast teardown` removed the rows
    now = datetime.now(UTC)
    for arguments in (
        ["materialize", (now - timedelta(days=3)).isoformat(), (now - timedelta(hours=6)).isoformat()],
        ["materialize-incremental", now.isoformat()],
    ):
        done = CliRunner().invoke(cli, ["-c", str(moved.repo), *arguments])
        assert done.exception is None, done.output
    port = unused_port()
    with (
        running_server(settings_for(moved.repo, http_port=port), build) as address,
        FeatureClient(address) as client,
    ):
        yield Served(moved.repo, store, client, address, f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def newest(served: Served) -> dict[int, dict[str, Any]]:
    """By driver, the row of the source that is online."""
    table = pq.read_table(served.repo / "data" / "driver_stats.parquet").to_pandas()
    table = table[table["event_timestamp"] <= pd.Timestamp.now("UTC")]
    last = table.sort_values("event_timestamp").groupby("driver_id").last()
    found: dict[int, dict[str, Any]] = last.to_dict("index")
    return found


def test_our_client_reads_what_feast_materialized(served: Served, newest: dict[int, dict[str, Any]]) -> None:
    found = served.client.get_online_features(SERVICE, {"driver_id": [1002, 5]}, request_data=REQUEST)
    rate = newest[1002]["conv_rate"]
    assert found.values["conv_rate"].to_pylist() == [pytest.approx(rate), None]
    assert found.values["conv_rate_plus_val2"].to_pylist()[0] == pytest.approx(rate + 10)
    assert found.statuses["conv_rate"].tolist() == [1, 3]
    # Types without columns come as Feast's messages.
    profile = Value.FromString(found.values["driver_profile"][0].as_py())
    assert feast_value_type_to_python_type(profile) == newest[1002]["driver_profile"]


@pytest.mark.parametrize("stub", [GrpcFeatureServerStub, ServingServiceStub])
def test_feasts_stubs_read_maps_structs_and_json(
    served: Served, newest: dict[int, dict[str, Any]], stub: Any
) -> None:
    request = GetOnlineFeaturesRequest(feature_service=SERVICE)
    for name, value in {"driver_id": 1003, "val_to_add": 1, "val_to_add_2": 10}.items():
        request.entities[name].CopyFrom(RepeatedValue(val=[Value(int64_val=value)]))
    with open_channel(served.address) as channel:
        reply = stub(channel).GetOnlineFeatures(request)
    cells = [feast_value_type_to_python_type(item.values[0]) for item in reply.results]
    found = dict(zip(reply.metadata.feature_names.val, cells, strict=True))
    assert found["driver_metadata"] == dict(newest[1003]["driver_metadata"])
    assert found["driver_profile"] == newest[1003]["driver_profile"]
    assert found["driver_config"].keys() == {"max_distance_km", "preferred_zones"}
    assert found["conv_rate_plus_val1"] == pytest.approx(newest[1003]["conv_rate"] + 1)


def test_a_remote_sdk_reads_the_same_as_one_on_the_repository(served: Served, tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(
        f"project: {served.store.project}\nprovider: local\nregistry: {served.repo}/data/registry.db\n"
        f"online_store: {{type: remote, path: '{served.http}'}}\nentity_key_serialization_version: 3\n"
    )
    rows = [{"driver_id": driver, "val_to_add": 1, "val_to_add_2": 10} for driver in (1001, 1004, 6)]
    remote = FeatureStore(str(tmp_path))
    theirs = remote.get_online_features(remote.get_feature_service(SERVICE), rows).to_dict()
    ours = served.store.get_online_features(served.store.get_feature_service(SERVICE), rows).to_dict()
    assert theirs.keys() == ours.keys()
    theirs.pop("driver_config")  # the remote store leaves JSON as text, whatever the server
    assert {name: ours[name] for name in theirs} == theirs


def test_training_rows_are_those_of_the_sdk_and_say_when_all_are_hidden(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pd.DataFrame({"driver_id": [1001, 1005], "event_timestamp": [datetime.now(UTC)] * 2} | REQUEST)
    ours = served.client.get_historical_features(SERVICE, pa.Table.from_pandas(rows)).read_all()
    theirs = served.store.get_historical_features(rows, served.store.get_feature_service(SERVICE)).to_arrow()
    assert None not in ours["conv_rate"].to_pylist()
    for name in ours.column_names:
        assert ours[name].to_pylist() == theirs[name].to_pylist(), name
    old = pa.table(
        {"driver_id": [1001], "event_timestamp": [datetime(2021, 4, 12, 10, 59, 42, tzinfo=UTC)]}
        | {name: values[:1] for name, values in REQUEST.items()}
    )
    with caplog.at_level(logging.WARNING, "plumbline.features"):
        hidden = served.client.get_historical_features("driver_activity_v1", old)
        assert hidden.read_all()["conv_rate"].to_pylist() == [None]
    assert "none of its rows was known" in hidden.summary.warnings[0]
    assert "1 rows would have values" in caplog.text
    shown = served.client.get_historical_features(
        "driver_activity_v1", old, known_at_policy=pb.KNOWN_AT_POLICY_IGNORE_CREATED
    )
    assert shown.read_all()["conv_rate"].to_pylist() != [None]
    assert not shown.summary.warnings


def test_the_service_materializes_maps_structs_and_json(
    served: Served, newest: dict[int, dict[str, Any]]
) -> None:
    start = datetime.now(UTC) - timedelta(days=3)
    steps = served.client.materialize(["driver_hourly_stats"], start=start)
    assert max(step.rows_written for step in steps) == 5
    found = served.store.get_online_features(
        ["driver_hourly_stats:driver_profile", "driver_hourly_stats:driver_metadata"], [{"driver_id": 1002}]
    ).to_dict()
    assert found["driver_profile"] == [newest[1002]["driver_profile"]]
    assert found["driver_metadata"] == [dict(newest[1002]["driver_metadata"])]


def test_the_service_takes_no_maps_and_says_so(served: Served) -> None:
    row = {"driver_id": [1], "conv_rate": [0.5], "acc_rate": [0.5], "avg_daily_trips": [5]}
    times = {"event_timestamp": [datetime.now(UTC)], "created": [datetime.now(UTC)]}
    others = {"driver_metadata": [b"no message"], "driver_config": [None], "driver_profile": [None]}
    with pytest.raises(TypeMismatch, match=r"driver_metadata.*push it with Feast's SDK"):
        served.client.push("driver_stats_push_source", row | times | others)
    nulls = {name: [None] for name in others}
    served.client.push(
        "driver_stats_push_source", row | times | nulls, destination=pb.PUSH_DESTINATION_ONLINE
    )
    found = served.client.get_online_features(["driver_hourly_stats_fresh:*"], {"driver_id": [1]})
    assert found.values["avg_daily_trips"].to_pylist() == [5]
    assert found.statuses["driver_metadata"].tolist() == [2]


def test_labels_are_pushed_and_read(served: Served) -> None:
    row = {"is_reliable": 1, "quality_score": 0.5, "reviewer_notes": "calm", "labeler": "ann"}
    pushed = pd.DataFrame([row | {"driver_id": 1001, "event_timestamp": datetime.now(UTC)}])
    served.store.push("driver_quality_labels_push", pushed, to=PushMode.ONLINE_AND_OFFLINE)
    # Feast takes the key of a label view for text where the entity declares no type.
    found = served.client.get_online_features(["driver_quality_labels:labeler"], {"driver_id": ["1001"]})
    assert found.values["labeler"].to_pylist() == ["ann"]
    rows = pd.DataFrame({"driver_id": [1001], "event_timestamp": [datetime.now(UTC)]})
    joined = served.store.get_historical_features(rows, ["driver_quality_labels:reviewer_notes"]).to_df()
    assert joined["reviewer_notes"].tolist() == ["calm"]
