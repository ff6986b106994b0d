"""Feast's own Spark engine fills our online stores; what this service does on a Spark repository itself."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from feature_service.feast_adapters.apply import apply
from plumbline.features.errors import SourceUnreadable
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.repo import NOW, ago
from tests.spark.conftest import OnSpark
from tests.spark.repo import write_embedded_repo

KEYS = ["a", "b", "c", "nobody"]


def row(key: str, days: float, level: int) -> dict[str, list[object]]:
    return {"key": [key], "event": [ago(days)], "created": [ago(days)], "level": [level], "note": ["pushed"]}


def test_rows_of_the_spark_engine_are_served_with_true_statuses(on_spark: OnSpark) -> None:
    """Written by the executors; an older row of theirs does not replace a newer one."""
    client = on_spark.client
    for key, days in (("new", 0.2), ("old", 1.5)):
        client.push("levels", row(key, days, 70), destination=pb.PUSH_DESTINATION_ONLINE)
    event = pa.array([ago(1), ago(1)], pa.timestamp("us", "UTC"))
    stored = {"key": ["new", "old"], "event": event, "created": event, "level": [7, 7], "note": ["s", "s"]}
    pq.write_table(pa.table(stored), on_spark.repo / "data" / "levels" / "1.parquet")
    FeatureStore(str(on_spark.repo)).materialize(ago(10), NOW, feature_views=["levels"])
    found = client.get_online_features(["levels:level", "levels:note"], {"key": [*KEYS, "new", "old"]})
    assert found.values["level"].to_pylist() == [2, None, None, None, 70, 7]
    assert found.event_times["levels"].to_pylist() == [
        ago(0.5), ago(0.5), ago(5), None, ago(0.2), ago(1),
    ]  # fmt: skip
    assert found.values["note"].to_pylist() == ["two", None, None, None, "pushed", "s"]
    assert found.status_names("level") == [
        "PRESENT",
        "NULL_VALUE",
        "OUTSIDE_MAX_AGE",
        "NOT_FOUND",
        "PRESENT",
        "PRESENT",
    ]


@pytest.fixture
def embedded(tmp_path: Path, on_spark: OnSpark) -> FeatureStore:
    """An embedded store on the host of the executors, filled by them. Uses the running Spark."""
    repo = write_embedded_repo(tmp_path)
    apply(repo, validate_sources=False)
    store = FeatureStore(str(repo))
    store.materialize(ago(10), NOW, feature_views=["levels"])
    return store


def test_the_spark_engine_fills_an_embedded_store(embedded: FeatureStore) -> None:
    """By Feast's SDK: executors are other processes than the reader."""
    found = embedded.get_online_features(["levels:level"], [{"key": key} for key in KEYS])
    assert found.to_dict()["level"] == [2, None, None, None]
    answers = dict(zip(found.proto.metadata.feature_names.val, found.proto.results, strict=True))
    assert [FieldStatus.Name(status) for status in answers["level"].statuses] == [
        "PRESENT",
        "NULL_VALUE",
        "OUTSIDE_MAX_AGE",
        "NOT_FOUND",
    ]


def test_what_materializes_here_says_so(on_spark: OnSpark) -> None:
    """Parquet sources do, by the joins of this machine; Spark's own do not."""
    done = [step for step in on_spark.client.materialize(["weather"]) if step.view_finished]
    assert [step.view for step in done] == ["weather"]
    found = on_spark.client.get_online_features(["weather:temp"], {"city_id": ["JFK"]})
    assert found.values["temp"].to_pylist() == [-3.0]
    with pytest.raises(SourceUnreadable, match="Run `feast materialize-incremental`"):
        list(on_spark.client.materialize(["levels"]))


def test_pushes_reach_parquet_sources_and_the_online_store(on_spark: OnSpark) -> None:
    with pytest.raises(SourceUnreadable, match="its source is 'levels_rows'"):
        on_spark.client.push("levels", row("p", 0.1, 1), destination=pb.PUSH_DESTINATION_ONLINE_AND_OFFLINE)
    # Offline comes first: nothing was written.
    assert on_spark.client.get_online_features(["levels:level"], {"key": ["p"]}).status_names("level") == [
        "NOT_FOUND"
    ]
