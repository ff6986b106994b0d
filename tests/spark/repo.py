"""The small repository of the integration tests on Spark, with more views: data sets drawn at random, that a
brute-force join answers too, and everything that Feast's own Spark join gets wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.integration.feature_service.repo import DEFINITIONS, write_repo
from tests.unit.feature_service.oracle import Row

#: The moment 0 of drawn times; they count in seconds.
START = datetime(2024, 3, 10, 6, 59, 55, tzinfo=UTC)  # five seconds before New York's clocks jump
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
"""
_REDIS = "  type: feature_service.stores.redis.RedisOnlineStore\n  connection_string: {address},db=7\n"

_MORE = """

def table(name, created="created"):
    return FileSource(
        name=f"{name}_rows", path=f"data/{name}.parquet", timestamp_field="event",
        created_timestamp_column=created,
    )


def drawn(name, seconds, source):
    return FeatureView(
        name=name, entities=[key], ttl=timedelta(seconds=seconds), source=source,
        schema=[Field(name="value", dtype=Int64)],
    )


key = Entity(name="key", join_keys=["key"], value_type=ValueType.STRING)
number = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)
seeded = table("seeded")
seeded_for_ever = drawn("seeded_for_ever", 0, seeded)
seeded_2_s = drawn("seeded_2_s", 2, seeded)
seeded_4_s = drawn("seeded_4_s", 4, seeded)
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
of_nothing = drawn("of_nothing", 0, FileSource(name="nothing", path="data/nothing", timestamp_field="event"))
of_lost = drawn("of_lost", 0, table("lost", ""))
tree = FeatureView(
    name="tree", entities=[key], ttl=timedelta(0), schema=[
        Field(name="value", dtype=Int64), Field(name="month", dtype=Int64), Field(name="part", dtype=String),
    ],
    source=FileSource(name="tree_rows", path="data/tree", timestamp_field="event"),
)
"""


@dataclass(frozen=True)
class Case:
    """A drawn data set under keys of its own, and the entity rows to join to it."""

    rows: tuple[Row, ...]
    entities: tuple[tuple[str | None, int], ...]


def draw_cases(count: int, *, created: bool, seed: int) -> list[Case]:
    """Few keys, moments and values, so that ties, late rows and rows at the bound of the ttl are common."""
    rng = random.Random(seed)

    def maybe(value: int) -> int | None:
        return None if rng.random() < 0.15 else value

    def case(number: int) -> Case:
        keys = [f"{seed}.{number}a", f"{seed}.{number}b", None]
        return Case(
            tuple(
                Row(rng.choice(keys), maybe(rng.randint(0, 6)), maybe(rng.randint(0, 6)) if created else None,
                    maybe(rng.randint(0, 3)))
                for _ in range(rng.randint(0, 12))
            ),
            tuple((rng.choice(keys), rng.randint(0, 7)) for _ in range(rng.randint(1, 8))),
        )  # fmt: skip

    return [case(number) for number in range(count)]


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


CASES = draw_cases(120, created=True, seed=1)
UNDATED = draw_cases(60, created=False, seed=2)
#: Keys that give the same text when they are put one after the other: (x1, 23), (x, 123), (x12, 3).
LEGS = [
    Row(f"{name}/{number}", event, event, value)
    for value, (name, number, event) in enumerate(
        [("x1", 23, 0), ("x", 123, 1), ("x12", 3, 2), ("x1", 23, 4), ("x", 123, 4), ("x12", 3, 4)]
    )
]


def write_spark_repo(folder: Path, redis_address: str) -> Path:
    """Writes the repository and its data; returns the folder."""
    write_repo(folder, _REDIS.format(address=redis_address), DEFINITIONS + _MORE, _SPARK)
    for path, table in _tables():
        target = folder / "data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, target, use_deprecated_int96_timestamps="int96" in path)
    (folder / "data" / "nothing").mkdir()
    return folder


def _tables() -> Iterator[tuple[str, pa.Table]]:
    yield "seeded.parquet", rows_table([row for case in CASES for row in case.rows])
    yield "undated.parquet", rows_table([row for case in UNDATED for row in case.rows])
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
    for month, key in (("01", "z"), ("12", "y")):
        part = rows_table([Row(key, 1, None, int(month))]).append_column("part", pa.array([key]))
        yield f"tree/month={month}/data.parquet", part
