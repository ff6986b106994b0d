"""A Feast repository as its users write them, with our offline store, and sources of every kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_service.stores import remote

T0 = datetime(2024, 1, 1, tzinfo=UTC)
MICROS = pa.timestamp("us", tz="UTC")

YAML = """\
project: sdk
provider: local
registry:
  path: data/registry.db
  enable_online_feature_view_versioning: true
online_store:
  type: sqlite
  path: data/online.db
offline_store:
  type: feature_service.stores.asof.AsofOfflineStore
  memory_limit: 500MB
  threads: 1
  known_at: {known_at}
  staging_location: exports
entity_key_serialization_version: 3
"""

DEFINITIONS = """\
from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float64, Int32, Int64, Map, String, Struct, UnixTimestamp

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
city = Entity(name="city", join_keys=["city_id"], value_type=ValueType.STRING)
region = Entity(name="region", join_keys=["region"], value_type=ValueType.STRING)


def source(path, created="", **others):
    return FileSource(
        name=path, path=path, timestamp_field="event_timestamp", created_timestamp_column=created, **others
    )


def view(name, entities, schema, source, ttl=timedelta(0), **others):
    fields = [Field(name=feature, dtype=dtype) for feature, dtype in schema.items()]
    return FeatureView(name=name, entities=entities, schema=fields, source=source, ttl=ttl, **others)


stats = view(
    "stats", [driver], {{"rate": Float64, "trips": Int64}},
    PushSource(
        name="stats_push",
        batch_source=source(
            "data/stats.parquet", "created", field_mapping={{"r": "rate", "drv": "driver_id"}}
        ),
    ),
    ttl=timedelta(days=2),
)
mixed = view("mixed", [driver], {{"x": Float64, "y": Int64}}, source("data/mixed"))
tree = view("tree", [region], {{"year": Int32, "month": String, "v": Float64}}, source("data/tree"))
town = view(
    "town", [city], {{"size": Int64}},
    source("data/town.parquet", field_mapping={{"size_of_town": "size", "moment": "event_timestamp"}}),
)
pair = view("pair", [driver, city], {{"visits": Int64}}, source("data/pair.parquet"))
world = view("world", [], {{"fuel": Float64}}, source("data/world.parquet"))
empty = view("empty", [driver], {{"nothing": Int64, "shape": Map}}, source("data/empty"))
shapes = view(
    "shapes", [driver], {{"labels": Map, "profile": Struct({{"name": String}}), "tags": Array(String)}},
    source("data/shapes.parquet"),
)
cloud = view(
    "cloud", [driver], {{"score": Float64}},
    PushSource(name="cloud_push", batch_source=source("{bucket}", s3_endpoint_override="{endpoint}")),
)
random = view(
    "random", [city], {{"value": Int64}}, source("data/random.parquet", "created"), ttl=timedelta(seconds=3)
)
revised = view("revised", [driver], {{{revised}}}, source("data/revised.parquet"))
request = RequestSource(name="request", schema=[Field(name="factor", dtype=Float64)])


@on_demand_feature_view(sources=[stats, request], schema=[Field(name="scaled", dtype=Float64)])
def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({{"scaled": inputs["rate"] * inputs["factor"]}})


route = FeatureService(
    name="route",
    features=[
        town.with_name("origin").with_join_key_map({{"city_id": "from_city"}}),
        town.with_name("destination").with_join_key_map({{"city_id": "to_city"}}),
    ],
)
"""


def at(days: float) -> datetime:
    """Days after T0."""
    return T0 + timedelta(days=days)


def times(*days: float, kind: pa.DataType = MICROS) -> pa.Array:
    """Event times, of any resolution and zone; naive ones hold UTC."""
    found = pa.array([at(day) for day in days], MICROS)
    if kind.tz is None:
        return found.cast(pa.timestamp("us")).cast(kind, safe=False)
    return found.cast(kind, safe=False)


def definitions(bucket: str, endpoint: str, revised: str = '"a": Int64') -> str:
    """The definitions. revised: the schema of the view of that name, which comes in versions."""
    return DEFINITIONS.format(bucket=bucket, endpoint=endpoint, revised=revised)


def write_sdk_repo(folder: Path, bucket: str, endpoint: str, *, known_at: bool = True) -> Path:
    """Writes the repository and its data; returns the folder."""
    (folder / "feature_store.yaml").write_text(YAML.format(known_at=str(known_at).lower()))
    (folder / "definitions.py").write_text(definitions(bucket, endpoint))
    tables: dict[str, dict[str, Any]] = {
        # As pandas writes it: nanoseconds with a zone. The rate of day 3 became known on day 9.
        "stats.parquet": {
            "drv": [1, 1, 1, 2],
            "event_timestamp": times(1, 2, 3, 1, kind=pa.timestamp("ns", "America/New_York")),
            "created": times(1, 2, 9, 1, kind=pa.timestamp("ns")),
            "r": [0.1, 0.2, 0.3, 0.9],
            "trips": pa.array([10, None, 30, 90], pa.int64()),
        },
        "mixed/a.parquet": {
            "driver_id": [1], "event_timestamp": times(1, kind=pa.timestamp("s")), "x": [1.0],
        },
        "mixed/deep/er/b.parquet": {
            "driver_id": pa.array([1], pa.int32()),
            "event_timestamp": times(2, kind=pa.timestamp("ms", "Asia/Tokyo")),
            "y": [2],
        },
        "mixed/c.parquet": {
            "driver_id": [1],
            "event_timestamp": times(3, kind=pa.timestamp("ns", "UTC")),
            "x": [3.0],
            "y": [3],
        },
        "mixed/_temporary/d.parquet": {"driver_id": [1], "event_timestamp": times(4), "x": [4.0], "y": [4]},
        "tree/region=eu/year=2024/month=01/a.parquet": {"event_timestamp": times(1), "v": [1.0]},
        "tree/region=eu/year=2024/month=02/a.parquet": {"event_timestamp": times(3), "v": [2.0]},
        "tree/region=south%20sea/year=2023/month=12/a.parquet": {"event_timestamp": times(1), "v": [3.0]},
        "town.parquet": {"city_id": ["LGA", "JFK"], "moment": times(1, 1), "size_of_town": [5, 7]},
        "pair.parquet": {
            "driver_id": [1, 1], "city_id": ["LGA", "JFK"], "event_timestamp": times(1, 1), "visits": [4, 6],
        },
        "world.parquet": {"event_timestamp": times(1, 3), "fuel": [1.25, 1.5]},
        "shapes.parquet": {
            "driver_id": [1],
            "event_timestamp": times(1),
            "labels": [{"k": "v"}],
            "profile": [{"name": "Ann"}],
            "tags": [["a", "b"]],
        },
        "revised.parquet": {
            "driver_id": [1], "event_timestamp": times(1), "a": [1], "b": ["two"],
        },
        "random.parquet": {
            "city_id": pa.array([], pa.string()), "event_timestamp": times(), "created": times(),
            "value": pa.array([], pa.int64()),
        },
    }  # fmt: skip
    for name, columns in tables.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
    (folder / "data" / "empty").mkdir()
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({"driver_id": [1, 1], "event_timestamp": times(1, 2), "score": [0.5, 0.75]}), sink
    )
    remote.write_whole(f"{remote.at_endpoint(bucket, endpoint)}/rows.parquet", sink.getvalue())
    return folder
