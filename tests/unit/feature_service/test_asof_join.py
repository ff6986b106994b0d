"""The join itself: against the oracle on random tables, and case by case on the ways files differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_service.domain import KnownAt, ValueType
from feature_service.stores import array_join, held_columns
from feature_service.stores.answer import Answer
from feature_service.stores.asof_join import AsofJoin
from feature_service.stores.asof_sql import ParquetRows, SourceColumn, SourceView
from feature_service.stores.frontier_join import FrontierJoin
from tests.unit.feature_service.joining import LIMITS, SECOND, micros, times, view, write
from tests.unit.feature_service.oracle import ENTITIES, TABLES, Row, answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asof")


@pytest.mark.usefixtures("way")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=TABLES,
    entities=ENTITIES,
    ttl=st.none() | st.integers(1, 4),
    known_at=st.sampled_from(KnownAt),
)
def test_the_join_is_the_oracle(
    folder: Path, table: list[Row], entities: list[tuple[str | None, int]], ttl: int | None, known_at: KnownAt
) -> None:
    path = write(folder / "oracle.parquet", table)
    with AsofJoin(LIMITS) as join:
        join.set_entities(
            micros([moment for _, moment in entities]), [pa.array([k for k, _ in entities], pa.string())]
        )
        found = join.join(view(path, ttl=None if ttl is None else ttl * SECOND), known_at)
    expected = [answer(table, key, moment, ttl, known_at)[1] for key, moment in entities]
    assert found["value"].to_pylist() == expected


small = st.none() | st.integers(0, 2)
# Mostly one key.
pairs = st.sampled_from([("a", 1), ("a", 1), ("a", 1), ("a", 2), ("b", 1), ("a", None), (None, 1)])
soon = st.sampled_from([0, 1, 1, 2, None])
TIME_TYPES = [
    pa.timestamp(unit, tz=zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "Asia/Tokyo")
]


def joined_key(pair: tuple[str | None, int | None]) -> str | None:
    """One key out of two, null when either is."""
    return None if None in pair else f"{pair[0]}{pair[1]}"


def rank(value: int | None) -> int:
    return 0 if value is None else value + 1


@pytest.mark.usefixtures("way")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.tuples(
            st.lists(st.tuples(pairs, soon, soon, small, small), max_size=20),
            st.sampled_from(TIME_TYPES),
            st.sampled_from(TIME_TYPES),
        ),
        min_size=1,
        max_size=3,
    ),
    entities=st.lists(st.tuples(pairs, st.integers(0, 4)), min_size=1, max_size=4),
    ttls=st.tuples(st.none() | st.integers(1, 2), st.none() | st.integers(1, 2)),
    known_at=st.sampled_from(KnownAt),
)
def test_two_keys_two_features_two_ttls_and_files_of_any_times_are_the_oracle(
    folder: Path, files: Any, entities: Any, ttls: tuple[int | None, int | None], known_at: KnownAt
) -> None:
    """One of the features is asked for; both decide between rows that tie otherwise."""
    paths, known = [], []
    for index, (table, event_type, created_type) in enumerate(files):
        columns = {
            "one": pa.array([pair[0] for pair, *_ in table], pa.string()),
            "two": pa.array([pair[1] for pair, *_ in table], pa.int32()),
            "event": times([row[1] for row in table]).cast(event_type),
            "created": times([row[2] for row in table]).cast(created_type),
            "first": pa.array([row[3] for row in table], pa.int64()),
            "value": pa.array([row[4] for row in table], pa.int64()),
        }
        paths.append(folder / f"oracle-{index}.parquet")
        pq.write_table(pa.table(columns), paths[-1])
        known += [
            Row(joined_key(pair), event, created, rank(first) * 4 + rank(value))
            for pair, event, created, first, value in table
        ]
    both = [SourceColumn(name, name, ValueType.INT64) for name in ("first", "value")]
    joined_by = (SourceColumn("e0", "one", ValueType.STRING), SourceColumn("e1", "two", ValueType.INT64))
    rows_of = ParquetRows(tuple(map(str, paths)), "event", "created")
    with AsofJoin(LIMITS) as join:
        join.set_entities(
            micros([moment for _, moment in entities]),
            [
                pa.array([pair[0] for pair, _ in entities], pa.string()),
                pa.array([pair[1] for pair, _ in entities], pa.int64()),
            ],
        )
        for ttl in ttls:
            limit = None if ttl is None else ttl * SECOND
            found = join.join(SourceView("v", rows_of, joined_by, (both[1],), tuple(both), limit), known_at)
            answers = [answer(known, joined_key(pair), moment, ttl, known_at) for pair, moment in entities]
            expected = [None if value is None else value % 4 - 1 for _, value in answers]
            assert found["value"].to_pylist() == [None if value == -1 else value for value in expected]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_event_times_of_any_resolution_and_zone(
    join: AsofJoin, tmp_path: Path, unit: str, zone: str | None
) -> None:
    """Feast's DuckDB store fails on the nanosecond, zone-aware files that pandas writes."""
    kind = pa.timestamp(unit, tz=zone)
    instants = pa.array([1, 5], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp("s", tz="UTC"))
    event = instants.cast(kind) if zone else pa.array([1, 5], pa.int64()).cast(pa.timestamp("s")).cast(kind)
    table = pa.table({"key": ["a", "a"], "event": event, "value": pa.array([10, 50], pa.int64())})
    pq.write_table(table, tmp_path / "t.parquet")
    join.set_entities(micros([0, 1, 4, 5]), [pa.array(["a"] * 4)])
    found = join.join(view(tmp_path / "t.parquet", created=None), KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == [None, 10, 10, 50]


def test_ttl_is_checked_on_the_newest_known_row_only(join: AsofJoin, tmp_path: Path) -> None:
    """An older row within reach must not stand in for a newest one that is too old, nor the reverse."""
    path = write(tmp_path / "t.parquet", [Row("a", 1, 1, 1), Row("a", 5, 9, 5)])
    join.set_entities(micros([4, 5, 8, 9, 13]), [pa.array(["a"] * 5)])
    found = join.join(view(path, ttl=4 * SECOND), KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == [1, 1, None, 5, None]


@pytest.mark.parametrize(("age", "found"), [(4 * SECOND, 1), (4 * SECOND + 1, None)])
def test_a_row_exactly_as_old_as_the_ttl_answers_the_earliest_entity_row(
    join: AsofJoin, tmp_path: Path, age: int, found: int | None
) -> None:
    """What no entity row can want is not read; that bound is exact to the microsecond, too."""
    path = write(tmp_path / "t.parquet", [Row("a", 1, 1, 1)])
    join.set_entities(pa.array([SECOND + age, 20 * SECOND]), [pa.array(["a", "a"])])
    answers = join.join(view(path, ttl=4 * SECOND), KnownAt.CREATED_BY_THEN)
    assert answers["value"].to_pylist() == [found, None]


def test_few_entity_rows_of_several_keys_find_each_its_own_among_many_rows(
    join: AsofJoin, tmp_path: Path
) -> None:
    """So few that only the rows of their keys are looked at: of all of them, in both views."""
    path = write(
        tmp_path / "t.parquet", [Row(f"k{k}", t, None, k * 100 + t) for k in range(9) for t in range(30)]
    )
    join.set_entities(micros([7, 29, 40]), [pa.array(["k1", "k8", "k3"])])
    for ttl, late in ((None, 329), (5 * SECOND, None)):
        found = join.join(view(path, ttl=ttl), KnownAt.CREATED_BY_THEN)
        assert found["value"].to_pylist() == [107, 829, late]


def test_late_rows_do_not_leak_into_the_past(join: AsofJoin, tmp_path: Path) -> None:
    """Feast's created column only breaks ties: a value written on day 9 is seen on day 5."""
    path = write(tmp_path / "t.parquet", [Row("a", 1, 1, 1), Row("a", 5, 9, 5), Row("a", 3, 3, 3)])
    join.set_entities(micros([6, 9]), [pa.array(["a", "a"])])
    assert join.join(view(path), KnownAt.CREATED_BY_THEN)["value"].to_pylist() == [3, 5]
    assert join.join(view(path), KnownAt.IGNORE_CREATED)["value"].to_pylist() == [5, 5]


@pytest.mark.usefixtures("way")
def test_order_and_duplicates_are_kept(join: AsofJoin, tmp_path: Path) -> None:
    """Feast's default store drops entity rows that share key and time."""
    rng = np.random.default_rng(1)
    moments, names = rng.integers(0, 50, 20_000), rng.integers(0, 20, 20_000)
    path = write(
        tmp_path / "t.parquet", [Row(f"k{k}", t, None, k * 100 + t) for k in range(20) for t in range(50)]
    )
    join.set_entities(micros(moments.tolist()), [pa.array([f"k{n}" for n in names])])
    found = join.join(view(path), KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == (names * 100 + moments).tolist()


@pytest.mark.usefixtures("way")
def test_several_join_keys_of_other_types(join: AsofJoin, tmp_path: Path) -> None:
    table = pa.table(
        {
            "carrier": ["AA", "AA", "UA"],
            "flight": pa.array([1, 2, 1], pa.int32()),
            "event": times([1, 1, 1]),
            "value": pa.array([1.5, 2.5, None]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    keyed = view(
        tmp_path / "t.parquet",
        keys=[
            SourceColumn("e0", "carrier", ValueType.STRING),
            SourceColumn("e1", "flight", ValueType.INT64),
        ],
        features=[SourceColumn("value", "value", ValueType.DOUBLE)],
        created=None,
    )
    join.set_entities(
        micros([2, 2, 2, 2]), [pa.array(["AA", "AA", "UA", None]), pa.array([1, 2, 1, 1], pa.int64())]
    )
    assert join.join(keyed, KnownAt.CREATED_BY_THEN)["value"].to_pylist() == [1.5, 2.5, None, None]


@pytest.mark.usefixtures("way")
def test_several_join_keys_may_have_one_column_of_the_entity_rows(join: AsofJoin, tmp_path: Path) -> None:
    """A round trip: from and to are the same airport."""
    table = pa.table(
        {"from": ["A", "A", "B"], "to": ["B", "A", "B"], "event": times([1, 1, 1]), "value": [1, 2, 3]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    keys = [SourceColumn("e0", name, ValueType.STRING) for name in ("from", "to")]
    join.set_entities(micros([2, 2, 2]), [pa.array(["A", "B", "C"])])
    found = join.join(view(tmp_path / "t.parquet", keys=keys, created=None), KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == [2, 3, None]


@pytest.mark.usefixtures("way")
def test_a_view_without_entities_answers_everybody(join: AsofJoin, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [Row("x", 1, 1, 1), Row("y", 3, 3, 3)])
    join.set_entities(micros([0, 2, 5]), [])
    found = join.join(view(path, keys=()), KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == [None, 1, 3]


@pytest.mark.parametrize("where", ["no files", "no rows"])
def test_an_empty_source_answers_nobody(join: AsofJoin, tmp_path: Path, where: str) -> None:
    files = [] if where == "no files" else [write(tmp_path / "t.parquet", [])]
    join.set_entities(micros([1]), [pa.array(["a"])])
    found = join.join(view(*files), KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == [None]
    assert found.schema.field("value").type == pa.int64()


@pytest.mark.parametrize(
    ("setting", "module", "value"), [("SHARE", array_join, 0.001), ("_MOST_BYTES", held_columns, 100_000)]
)
def test_rows_that_turn_out_not_to_fit_are_joined_in_duckdb(
    monkeypatch: pytest.MonkeyPatch, join: AsofJoin, tmp_path: Path, setting: str, module: Any, value: float
) -> None:
    """What was read of them in vain does not stand in the way."""
    monkeypatch.setattr(module, setting, value)
    asked, frontier = [], FrontierJoin.answer

    def answer(self: FrontierJoin, found: SourceView, *others: Any) -> Answer:
        asked.append(found.name)
        return frontier(self, found, *others)

    monkeypatch.setattr(FrontierJoin, "answer", answer)
    count = 50_000
    table = pa.table(
        {
            "key": ["a"] * count,
            "event": pa.array(np.arange(count)).cast(pa.timestamp("s")),
            "value": [f"value {i}" for i in range(count)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    text = [SourceColumn("value", "value", ValueType.STRING)]
    join.set_entities(micros([-1, 0, 40_000]), [pa.array(["a"] * 3)])
    found = join.join(view(tmp_path / "t.parquet", features=text, created=None), KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == [None, "value 0", "value 40000"]
    assert asked == ["v"]


@pytest.mark.usefixtures("way")
def test_nulls_and_values_of_many_rows_stay_where_they_are(join: AsofJoin, tmp_path: Path) -> None:
    """Nulls first come after tens of thousands of rows."""
    count = 30_000
    values = [None if i > 20_000 and i % 3 == 0 else i for i in range(count)]
    table = pa.table(
        {
            "key": pa.array(np.arange(count) % 7),
            "event": pa.array(np.arange(count)).cast(pa.timestamp("s")),
            "value": pa.array(values, pa.int64()),
            "text": pa.array([None if value is None else str(value) for value in values]),
            "half": pa.array([None if value is None else value / 2 for value in values]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    kinds = {"value": ValueType.INT64, "text": ValueType.STRING, "half": ValueType.DOUBLE}
    wanted = view(
        tmp_path / "t.parquet",
        keys=[SourceColumn("e0", "key", ValueType.INT64)],
        features=[SourceColumn(name, name, kind) for name, kind in kinds.items()],
        created=None,
    )
    order = np.random.default_rng(2).permutation(count)
    join.set_entities(micros(order.tolist()), [pa.array(order % 7)])
    found = join.join(wanted, KnownAt.CREATED_BY_THEN)
    assert found["value"].to_pylist() == [values[i] for i in order]
    assert found["text"].to_pylist() == [None if values[i] is None else str(values[i]) for i in order]
    halves = [values[i] for i in order]
    assert found["half"].to_pylist() == [None if value is None else value / 2 for value in halves]


@pytest.mark.usefixtures("way")
def test_the_file_of_an_answer_holds_what_a_join_gives(join: AsofJoin, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [Row("a", i, i, i) for i in range(10)])
    join.set_entities(micros(range(10)), [pa.array(["a", "b"] * 5)])
    steps = join.answer(view(path), KnownAt.CREATED_BY_THEN)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        with pa.memory_map(str(end.value)) as source:
            written = pa.ipc.open_file(source).read_all()
    assert written["value"].to_pylist() == [0, None, 2, None, 4, None, 6, None, 8, None]
    assert written.equals(join.join(view(path), KnownAt.CREATED_BY_THEN))


@pytest.mark.usefixtures("way")
def test_entity_rows_may_be_added_after_a_join(join: AsofJoin, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [Row("a", 1, 1, 1), Row("b", 2, 2, 2)])
    join.set_entities(micros([3]), [pa.array(["a"])])
    assert join.join(view(path), KnownAt.CREATED_BY_THEN)["value"].to_pylist() == [1]
    join.add_entities(micros([3, 1]), [pa.array(["b", "b"])])
    assert join.join(view(path), KnownAt.CREATED_BY_THEN)["value"].to_pylist() == [1, 2, None]
    join.set_entities(micros([2]), [pa.array(["b"])])
    assert join.join(view(path), KnownAt.CREATED_BY_THEN)["value"].to_pylist() == [2]


def test_no_entity_rows_are_answered_by_no_rows(join: AsofJoin, tmp_path: Path) -> None:
    join.set_entities(micros([]), [pa.array([], pa.string())])
    found = join.join(view(write(tmp_path / "t.parquet", [Row("a", 1, 1, 1)])), KnownAt.CREATED_BY_THEN)
    assert found.num_rows == 0
    assert found.column_names == ["value"]
