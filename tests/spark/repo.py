"""The small repository of the integration tests on Spark, with more views: the data sets that the joins on
one machine are compared with the oracle on, and everything that Feast's own Spark join gets wrong."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import Phase, given, seed, settings

from tests.integration.feature_service.repo import DEFINITIONS, ago, write_repo
from tests.unit.feature_service.oracle import ENTITIES, TABLES, Row

#: The moment 0 of drawn times; they count in seconds.
START = datetime(2024, 3, 10, 6, 59, 55, tzinfo=UTC)  # five seconds before New York's clocks jump
#: Two executors beside the driver, one core and 512 MB each. Java's options halve the time of so little work.
_SPARK = """\
  type: spark
  spark_conf:
    spark.master: "local-cluster[2,1,1024]"
    spark.driver.memory: "768m"
    spark.executor.memory: "512m"
    spark.driver.host: "127.0.0.1"
    spark.driver.bindAddress: "127.0.0.1"
    spark.ui.enabled: "false"
    spark.sql.shuffle.partitions: "2"
    spark.ui.showConsoleProgress: "false"
    spark.driver.extraJavaOptions: "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    spark.executor.extraJavaOptions: "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
batch_engine:
  type: spark.engine
"""
_REDIS = "  type: feature_service.stores.redis.RedisOnlineStore\n  connection_string: {address},db=7\n"
_LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb\n  map_size: 64MiB\n"

_IMPORTS = """\
from pathlib import Path

from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Map

DATA = Path(__file__).parent / "data"
"""
#: What Feast's Spark engine brings online.
_ONLINE = """

key = Entity(name="key", join_keys=["key"], value_type=ValueType.STRING)
levels = FeatureView(
    name="levels", entities=[key], ttl=timedelta(days=2),
    schema=[Field(name="level", dtype=Int64), Field(name="note", dtype=String)],
    source=SparkSource(
        name="levels_rows", path=f"file:{DATA}/levels", file_format="parquet", timestamp_field="event",
        created_timestamp_column="created",
    ),
)
"""
#: Rows that agree in everything but their lists.
_TIED = """

tied = FeatureView(
    name="tied", entities=[small], ttl=timedelta(0), schema=[Field(name="list", dtype=Array(Int64))],
    source=source("tied", created=False),
)
"""
_MORE = """

def table(name, created="created"):
    return FileSource(
        name=f"{name}_rows", path=f"data/{name}.parquet", timestamp_field="event",
        created_timestamp_column=created,
    )


def on_spark(name, **others):
    return SparkSource(name=name, timestamp_field="event", created_timestamp_column="created", **others)


def drawn(name, seconds, source, online=False):
    return FeatureView(
        name=name, entities=[key], ttl=timedelta(seconds=seconds), source=source, online=online,
        schema=[Field(name="value", dtype=Int64)],
    )


number = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)
seeded_for_ever = drawn("seeded_for_ever", 0, table("seeded"))
SEEDED = f"file:{DATA}/seeded.parquet"
seeded_2_s = drawn("seeded_2_s", 2, on_spark("path", path=SEEDED, file_format="parquet"))
seeded_4_s = drawn("seeded_4_s", 4, on_spark(
    "query", query=f"SELECT key AS `the key`, event, created, value FROM parquet.`{SEEDED}`",
    field_mapping={"the key": "key"},
))
undated_3_s = drawn("undated_3_s", 3, table("undated", ""))
legs = FeatureView(
    name="legs", entities=[key, number], ttl=timedelta(0), source=table("legs"),
    schema=[Field(name="value", dtype=Int64)],
)
of_ms = drawn("of_ms", 2, table("of_ms", ""))
of_naive = drawn("of_naive", 2, table("of_naive", ""))
of_new_york = drawn("of_new_york", 2, table("of_new_york", ""))
of_int96 = drawn("of_int96", 2, table("of_int96", ""))
of_ns = drawn("of_ns", 2, table("of_ns", ""))
of_floats = drawn("of_floats", 0, table("of_floats", ""))
of_fractions = drawn("of_fractions", 0, table("of_fractions", ""))
of_texts = drawn("of_texts", 0, table("of_texts", ""))
of_half_seconds = drawn("of_half_seconds", 1.5, table("undated", ""))
of_wider = drawn("of_wider", 0, table("of_wider", ""))
of_nothing = drawn("of_nothing", 0, FileSource(name="nothing", path="data/nothing", timestamp_field="event"))
of_lost = drawn("of_lost", 0, table("lost", ""))
of_lost_path = drawn("of_lost_path", 0, on_spark("lost", path=f"file:{DATA}/lost", file_format="parquet"))
of_maps = FeatureView(
    name="of_maps", entities=[key], ttl=timedelta(0), source=table("undated", ""), online=False,
    schema=[Field(name="value", dtype=Map)],
)
tree = FeatureView(
    name="tree", entities=[key], ttl=timedelta(0), schema=[
        Field(name="value", dtype=Int64), Field(name="month", dtype=Int64), Field(name="part", dtype=String),
    ],
    source=FileSource(name="tree_rows", path="data/tree [1]", timestamp_field="event"),
)
crowd = drawn("crowd", 0, on_spark("crowd", query=(
    "SELECT 'z' AS key, timestamp'2024-03-10 06:59:55' AS event, timestamp'2024-03-10 06:59:55' AS created, "
    "id AS value FROM range(1000000000)"
)))
"""


@dataclass(frozen=True)
class Case:
    """A drawn data set under keys of its own, and the entity rows to join to it."""

    rows: tuple[Row, ...]
    entities: tuple[tuple[str | None, int], ...]


@functools.cache
def drawn_cases() -> list[Case]:
    """What the joins on one machine are tried on, too."""
    return _draw(150, number=1)


@functools.cache
def undated_cases() -> list[Case]:
    """The same without created times."""
    return [
        Case(tuple(replace(row, created=None) for row in case.rows), case.entities)
        for case in _draw(60, number=2)
    ]


def _draw(count: int, *, number: int) -> list[Case]:
    """Drawn by hypothesis; the same for the same number."""
    cases: list[Case] = []

    @seed(number)
    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(TABLES, ENTITIES)
    def collect(table: list[Row], entities: list[tuple[str | None, int]]) -> None:
        def own(key: str | None) -> str | None:
            return key and f"{number}.{len(cases)}{key}"

        rows = tuple(replace(row, key=own(row.key)) for row in table)
        cases.append(Case(rows, tuple((own(key), moment) for key, moment in entities)))

    collect()
    return cases


def moments(seconds: Sequence[int | None]) -> pa.Array:
    """Drawn moments as times."""
    values = [None if second is None else START + timedelta(seconds=second) for second in seconds]
    return pa.array(values, pa.timestamp("us", tz="UTC"))


def rows_table(rows: Sequence[Row]) -> pa.Table:
    """Feature rows as a source has them."""
    return pa.table(
        {
            "key": pa.array([row.key for row in rows], pa.string()),
            "event": moments([row.event for row in rows]),
            "created": moments([row.created for row in rows]),
            "value": pa.array([row.value for row in rows], pa.int64()),
        }
    )


#: Keys that give the same text when they are put one after the other: (x1, 23), (x, 123), (x12, 3).
LEGS = [
    Row(f"{name}/{number}", event, event, value)
    for value, (name, number, event) in enumerate(
        [("x1", 23, 0), ("x", 123, 1), ("x12", 3, 2), ("x1", 23, 4), ("x", 123, 4), ("x12", 3, 4)]
    )
]


def write_spark_repo(folder: Path, redis_address: str) -> Path:
    """Writes the repository and its data; returns the folder."""
    definitions = _IMPORTS + DEFINITIONS + _TIED + _ONLINE + _MORE
    write_repo(folder, _REDIS.format(address=redis_address), definitions, _SPARK)
    for path, table in _tables():
        _write(folder / "data" / path, table)
    _write(folder / "data" / "tied.parquet", _tied_table())
    (folder / "data" / "nothing").mkdir()
    return folder


def write_local_repo(folder: Path) -> Path:
    """Writes the small repository with the joins of one machine; returns the folder."""
    write_repo(folder, definitions=DEFINITIONS + _TIED)
    _write(folder / "data" / "tied.parquet", _tied_table())
    return folder


def write_embedded_repo(folder: Path) -> Path:
    """Writes a repository whose Spark engine fills an embedded store."""
    write_repo(folder, _LMDB, _IMPORTS + DEFINITIONS + _ONLINE, _SPARK)
    _write(folder / "data" / "levels" / "0.parquet", levels_table())
    return folder


def levels_table() -> pa.Table:
    """Rows of `levels`: a and b with a newer row each, b's of nulls; c's are older than the ttl. Not each has
    a created time."""
    events = pa.array([ago(1), ago(0.5), ago(1), ago(0.5), ago(5)], pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "key": ["a", "a", "b", "b", "c"],
            "event": events,
            "created": pa.array([ago(1), ago(0.5), ago(1), None, None], pa.timestamp("us", "UTC")),
            "level": pa.array([1, 2, 3, None, 5], pa.int64()),
            "note": ["one", "two", "three", None, "five"],
        }
    )


def _tables() -> Iterator[tuple[str, pa.Table]]:
    yield "levels/0.parquet", levels_table()
    yield "seeded.parquet", rows_table([row for case in drawn_cases() for row in case.rows])
    yield "undated.parquet", rows_table([row for case in undated_cases() for row in case.rows])
    split = [str(row.key).split("/") for row in LEGS]
    legs = rows_table(LEGS).set_column(0, "key", pa.array([name for name, _ in split]))
    yield "legs.parquet", legs.append_column("number", pa.array([int(number) for _, number in split]))
    plain = rows_table([Row("z", 3, None, 30), Row("z", 5, None, 50)])
    kinds = {
        "ms": pa.timestamp("ms", tz="UTC"),
        "naive": pa.timestamp("us"),
        "new_york": pa.timestamp("us", tz="America/New_York"),
        "int96": pa.timestamp("us", tz="UTC"),
        "ns": pa.timestamp("ns", tz="UTC"),
    }
    for name, kind in kinds.items():
        yield f"of_{name}.parquet", plain.set_column(1, "event", plain["event"].cast(kind))
    for name, values in {
        "floats": pa.array([7.0, float("nan")]),
        "fractions": pa.array([7.0, 1.5]),
        "texts": pa.array(["7", "8"]),
    }.items():
        yield f"of_{name}.parquet", plain.set_column(3, "value", values)
    # Pushed: a part keeps the types of the file only where that changes nothing.
    narrow = plain.set_column(1, "event", plain["event"].cast(pa.timestamp("ms")))
    yield "of_wider.parquet", narrow.set_column(3, "value", plain["value"].cast(pa.int32()))
    digits = "0" * 32
    yield f"of_wider.parquet.d/pushed-{1:020d}-{digits}-{digits}.parquet", wider_table()
    for month, key in (("01", "z"), ("12", "y")):
        part = rows_table([Row(key, 1, None, int(month))]).append_column("part", pa.array([key]))
        yield f"tree [1]/month={month}/data.parquet", part


def wider_table() -> pa.Table:
    """One row, half a millisecond after second 5, of a value that int32 does not hold."""
    event = START + timedelta(seconds=5, microseconds=500)
    return rows_table([Row("z", 5, None, 2**40)]).set_column(
        1, "event", pa.array([event], pa.timestamp("us", "UTC"))
    )


def _tied_table() -> pa.Table:
    lists = [[[1, 2], [1, None]], [[3], [3, 0]], [[None], [7]]]
    ids = [number for number, found in enumerate(lists) for _ in found]
    return pa.table(
        {
            "small_id": pa.array(ids, pa.int32()),
            "event_timestamp": [ago(1)] * len(ids),
            "list": pa.array([item for found in lists for item in found], pa.list_(pa.int64())),
        }
    )


def _write(target: Path, table: pa.Table) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, target, use_deprecated_int96_timestamps="int96" in target.name)
