"""A small Feast repository, written to a folder: views of every kind, and one of every value type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_YAML = """\
project: tiny
provider: local
registry:
  path: data/registry.db
online_store:
{online}
offline_store:
{offline}
entity_key_serialization_version: 3
"""
ASOF = "  type: feature_service.stores.asof.AsofOfflineStore\n  memory_limit: 500MB"
SQLITE = "  type: sqlite\n  path: data/online.db"

DEFINITIONS = """\
from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64, description="Who drives")
city = Entity(name="city", join_keys=["city_id"], value_type=ValueType.STRING)
small = Entity(name="small", join_keys=["small_id"], value_type=ValueType.INT32)


def source(name, created=True):
    return FileSource(
        name=f"{name}_table",
        path=f"data/{name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created" if created else "",
    )


trips_push = PushSource(name="trips_push", batch_source=source("trips"))
trips = FeatureView(
    name="trips",
    entities=[driver],
    ttl=timedelta(days=2),
    schema=[
        Field(name="n", dtype=Int64, description="Trips"),
        Field(name="rate", dtype=Float64),
        Field(name="tag", dtype=String),
    ],
    source=trips_push,
    tags={"team": "rides"},
)
weather = FeatureView(
    name="weather",
    entities=[city],
    ttl=timedelta(0),
    schema=[Field(name="temp", dtype=Float64)],
    source=source("weather", created=False),
)
pair = FeatureView(
    name="pair",
    entities=[driver, city],
    ttl=timedelta(days=30),
    schema=[Field(name="visits", dtype=Int32)],
    source=source("pair", created=False),
)
world = FeatureView(
    name="world",
    entities=[],
    ttl=timedelta(0),
    schema=[Field(name="fuel", dtype=Float64)],
    source=source("world", created=False),
)
kinds = FeatureView(
    name="kinds",
    entities=[small],
    ttl=timedelta(0),
    schema=[
        Field(name="double", dtype=Float64),
        Field(name="float", dtype=Float32),
        Field(name="int64", dtype=Int64),
        Field(name="int32", dtype=Int32),
        Field(name="bool", dtype=Bool),
        Field(name="string", dtype=String),
        Field(name="bytes", dtype=Bytes),
        Field(name="timestamp", dtype=UnixTimestamp),
        Field(name="double_list", dtype=Array(Float64)),
        Field(name="float_list", dtype=Array(Float32)),
        Field(name="int64_list", dtype=Array(Int64)),
        Field(name="int32_list", dtype=Array(Int32)),
        Field(name="bool_list", dtype=Array(Bool)),
        Field(name="string_list", dtype=Array(String)),
        Field(name="bytes_list", dtype=Array(Bytes)),
        Field(name="timestamp_list", dtype=Array(UnixTimestamp)),
    ],
    source=source("kinds", created=False),
)
request = RequestSource(name="request", schema=[Field(name="factor", dtype=Float64)])


@on_demand_feature_view(sources=[trips, request], schema=[Field(name="scaled", dtype=Float64)])
def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"scaled": inputs["rate"] * inputs["factor"]})


ratings = FeatureView(
    name="ratings",
    entities=[city],
    ttl=timedelta(0),
    schema=[Field(name="n", dtype=Int64), Field(name="rate", dtype=Float64)],
    source=source("ratings", created=False),
)


@on_demand_feature_view(sources=[trips, ratings], schema=[Field(name="gap", dtype=Float64)])
def gap(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"gap": inputs["trips__rate"] - inputs["ratings__rate"]})


@on_demand_feature_view(sources=[trips, request], schema=[Field(name="picky", dtype=Int64)])
def picky(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"picky": inputs["factor"].astype("int64")})


tiny = FeatureService(name="tiny", features=[trips[["n", "rate"]], weather, scaled], description="For tests")
route = FeatureService(
    name="route",
    features=[
        weather.with_name("origin").with_join_key_map({"city_id": "from_city"}),
        weather.with_name("destination").with_join_key_map({"city_id": "to_city"}),
    ],
)
"""

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
KINDS = [
    "double", "float", "int64", "int32", "bool", "string", "bytes", "timestamp",
]  # fmt: skip


def ago(days: float) -> datetime:
    """A moment before the tests began, in whole seconds."""
    return NOW - timedelta(days=days)


def kinds_row(small_id: int, event: datetime) -> dict[str, Any]:
    """A row of the view `kinds`, with a value of every type."""
    scalars: dict[str, Any] = {
        "double": 1.5,
        "float": 0.25,
        "int64": 2**60 + 1,
        "int32": -5,
        "bool": True,
        "string": "grüße",
        "bytes": b"\x00\xff",
        "timestamp": datetime(2024, 3, 10, 7, 30, 0, 123456, UTC),
    }
    lists = {f"{name}_list": [value, value] for name, value in scalars.items()}
    return {"small_id": small_id, "event_timestamp": event, **scalars, **lists}


def kinds_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of `kinds` with the Arrow types of the declared ones."""
    micros = pa.timestamp("us", tz="UTC")
    scalars = [
        pa.float64(), pa.float32(), pa.int64(), pa.int32(), pa.bool_(), pa.string(), pa.binary(), micros,
    ]  # fmt: skip
    schema = pa.schema(
        [("small_id", pa.int32()), ("event_timestamp", micros)]
        + list(zip(KINDS, scalars, strict=True))
        + [(f"{name}_list", pa.list_(kind)) for name, kind in zip(KINDS, scalars, strict=True)]
    )
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_repo(
    folder: Path, online: str = SQLITE, definitions: str = DEFINITIONS, offline: str = ASOF
) -> Path:
    """Writes the repository and its data; returns the folder."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(_YAML.format(online=online, offline=offline))
    (folder / "definitions.py").write_text(definitions)
    tables = {
        "trips": pa.table(
            {
                "driver_id": [1, 1, 1, 2, 3],
                "event_timestamp": [ago(5), ago(1), ago(0.5), ago(1), ago(9)],
                "created": [ago(5), ago(1), ago(0.1), ago(1), ago(9)],
                "n": [1, 2, 3, None, 9],
                "rate": [0.1, 0.2, 0.3, 0.4, 0.9],
                "tag": ["a", "b", "c", None, "z"],
            }
        ),
        "weather": pa.table(
            {"city_id": ["LGA", "JFK"], "event_timestamp": [ago(400), ago(1)], "temp": [20.5, -3.0]}
        ),
        "pair": pa.table(
            {
                "driver_id": [1, 1],
                "city_id": ["LGA", "JFK"],
                "event_timestamp": [ago(2), ago(2)],
                "visits": pa.array([4, 7], pa.int32()),
            }
        ),
        "ratings": pa.table(
            {"city_id": ["LGA", "JFK"], "event_timestamp": [ago(5), ago(5)], "n": [1, 2], "rate": [8.0, 16.0]}
        ),
        "world": pa.table({"event_timestamp": [ago(3), ago(1)], "fuel": [1.25, 1.5]}),
        "kinds": kinds_table([kinds_row(1, ago(1))]),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / "data" / f"{name}.parquet")
    return folder
