"""What Spark cannot do exactly, or at all, is refused, and says why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.feast_adapters.repo import load_config
from feature_service.stores.spark_session import FeastSpark, spark_uri
from plumbline.errors import PlumblineError
from plumbline.features.errors import (
    InvalidField,
    JoinKeyMissing,
    MalformedEntityRows,
    SourceUnreadable,
    TypeMismatch,
)
from servicekit.server import StartupError
from tests.integration.feature_service.repo import write_repo
from tests.spark.conftest import OnSpark
from tests.spark.repo import START

ROWS = pa.table({"key": ["z"], "event_timestamp": pa.array([START], pa.timestamp("us", "UTC"))})


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("of_ns", "no nanoseconds: write the file with microseconds"),
        ("of_fractions", "column value holds fractions, declared INT64"),
        ("of_texts", "column value is string, declared INT64"),
        ("of_lost", "does not exist"),
        ("of_lost_path", "does not exist"),
        ("of_maps", "the type of value is not supported"),
    ],
)
def test_sources(on_spark: OnSpark, view: str, said: str) -> None:
    """None of them leaves anything at the place of the result."""
    before = list(on_spark.results.iterdir())
    rows = ROWS.set_column(1, "event_timestamp", pa.array([datetime(2024, 3, 11, tzinfo=UTC)]))
    with pytest.raises(SourceUnreadable, match=said):
        on_spark.join([f"{view}:value"], rows)
    assert list(on_spark.results.iterdir()) == before


def times(*values: datetime | None, unit: str = "us") -> pa.Array:
    return pa.array(values, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"))


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        (ROWS.drop(["key"]), JoinKeyMissing, "needs the join key 'key'"),
        (ROWS.drop(["event_timestamp"]), MalformedEntityRows, "no event-time column"),
        (ROWS.set_column(1, "event_timestamp", pa.array(["now"])), MalformedEntityRows, "not a timestamp"),
        (ROWS.set_column(1, "event_timestamp", times(None)), MalformedEntityRows, "null in 1 rows"),
        (
            ROWS.set_column(1, "event_timestamp", pa.array([1], pa.timestamp("ns"))),
            MalformedEntityRows,
            "nanoseconds",
        ),
        (ROWS.set_column(0, "key", pa.array([1.5])), TypeMismatch, "declared STRING"),
    ],
)
def test_entity_rows(on_spark: OnSpark, rows: pa.Table, error: type[PlumblineError], said: str) -> None:
    with pytest.raises(error, match=said):
        on_spark.join(["seeded_2_s:value"], rows)


def test_places(on_spark: OnSpark, tmp_path: Path) -> None:
    """Nothing outside of the data roots is read or written, and nothing that is there is written over."""

    def refused(rows: pa.Table | None = ROWS, rows_uri: str = "", result_uri: str | None = None) -> str:
        with pytest.raises((InvalidField, MalformedEntityRows)) as caught:
            on_spark.join(["seeded_2_s:value"], rows, rows_uri=rows_uri, result_uri=result_uri)
        return caught.value.message

    assert "writes results to storage instead of streaming them" in refused(result_uri="")
    for place in (str(tmp_path / "out"), "s3://plumbline/other", str(on_spark.results / ".." / "x")):
        assert "not below one of this server's data roots" in refused(result_uri=place)
    assert "not below one of this server's data roots" in refused(None, rows_uri=str(tmp_path / "rows"))
    there = on_spark.results / "there.parquet"
    pq.write_table(ROWS, there)
    assert "exists already" in refused(result_uri=str(there))
    assert pq.read_table(there).equals(ROWS)
    missing = on_spark.repo / "no.parquet"
    assert "cannot be read" in refused(None, rows_uri=str(missing))
    # pyspark's package has no S3; what it lacks is named.
    assert "Spark lacks the jars of this storage" in refused(result_uri="s3://plumbline/results/1")


def test_selections(on_spark: OnSpark) -> None:
    with pytest.raises(InvalidField, match=r"on-demand views are not computed on Spark \(scaled\)"):
        on_spark.join("tiny", ROWS)


def test_locations_of_spark() -> None:
    """As Hadoop has them: S3 by its own name, and nothing local that another default would move."""
    assert spark_uri("s3://bucket/a key/b") == "s3a://bucket/a key/b"
    assert (
        spark_uri("/data/rows.parquet") == spark_uri("file:///data/rows.parquet") == "file:/data/rows.parquet"
    )
    assert spark_uri("gs://bucket/key") == "gs://bucket/key"
    with pytest.raises(ValueError, match=r"fs\.s3a\.endpoint"):
        spark_uri("s3+http://127.0.0.1:9000/bucket/key")


def offline(tmp_path: Path, setting: str) -> Path:
    text = f'  type: spark\n  spark_conf:\n    spark.master: "local[1]"\n    {setting}\n'
    return write_repo(tmp_path, offline=text)


@pytest.mark.parametrize(
    "setting",
    [
        'spark.sql.session.timeZone: "America/New_York"',
        'spark.sql.ansi.enabled: "false"',
        'spark.sql.caseSensitive: "false"',
    ],
)
def test_settings_that_give_other_answers(tmp_path: Path, setting: str) -> None:
    config = load_config(offline(tmp_path, setting))
    with pytest.raises(StartupError, match="joins are exact with"):
        FeastSpark(config)


def test_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(offline(tmp_path, 'spark.ui.enabled: "false"'))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(StartupError, match="needs Java 17"):
        FeastSpark(config)
