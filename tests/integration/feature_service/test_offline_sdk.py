"""Feast's own SDK on our offline store: what Feast promises holds, and what Feast gets wrong is right."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FileSource
from feast.data_source import PushMode
from feast.errors import FeastEntityDFMissingColumnsError, SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.feature_view import FeatureViewState
from feast.infra.offline_stores.bigquery_source import BigQuerySource
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_service.domain import KnownAt
from feature_service.feast_adapters.apply import apply
from feature_service.feast_adapters.repo import FeastRepo
from feature_service.stores import parquet, remote
from feature_service.stores.asof import AsofOfflineStore
from plumbline.features.errors import SourceUnreadable, TypeMismatch
from tests.integration.feature_service.sdk_repo import MICROS, at, definitions, times, write_sdk_repo
from tests.unit.feature_service.oracle import Row, answer

SECOND = 1_000_000


@pytest.fixture(scope="session")
def s3_folder(s3_endpoint: str) -> str:
    return "s3://plumbline/sdk/cloud"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, s3_folder: str, s3_endpoint: str) -> FeatureStore:
    """Applied twice: the view "revised" has versions 0 and 1."""
    repo = write_sdk_repo(tmp_path_factory.mktemp("sdk"), s3_folder, s3_endpoint)
    apply(repo)
    (repo / "definitions.py").write_text(definitions(s3_folder, s3_endpoint, '"a": Int64, "b": String'))
    apply(repo)
    return FeatureStore(str(repo))


@pytest.fixture
def feasts_own(store: FeatureStore) -> Iterator[FeatureStore]:
    """The same repository with known_at: false."""
    options = store.config.offline_store
    options.known_at = False
    yield store
    options.known_at = True


def rows(days: list[float], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**columns, "event_timestamp": [at(day) for day in days]})


def read(store: FeatureStore, entities: Any, *features: str, **others: Any) -> dict[str, list[Any]]:
    table = store.get_historical_features(entities, list(features), **others).to_arrow()
    found: dict[str, list[Any]] = table.to_pydict()
    return found


class TestFeastsErrors:
    """Named for the errors in Feast 0.67 that they guard against."""

    def test_dropped_duplicate_entity_rows(self, store: FeatureStore) -> None:
        """Feast's default store drops entity rows that share key and time (feast#6787)."""
        entities = rows([3.5] * 3 + [0.5, 100], driver_id=[1, 1, 1, 1, 1])
        found = read(store, entities, "stats:rate")
        assert found["driver_id"] == [1] * 5
        # Nor does it keep those without a row, or with one that is too old.
        assert found["rate"] == [0.2, 0.2, 0.2, None, None]

    def test_nanosecond_zone_aware_parquet(self, store: FeatureStore) -> None:
        """Feast's DuckDB store raises a ConversionException for what pandas writes."""
        assert read(store, rows([1, 2.5], driver_id=[1, 2]), "stats:rate")["rate"] == [0.1, 0.9]

    def test_late_data_leaks_into_the_past(self, store: FeatureStore) -> None:
        """For Feast the created column only breaks ties, unless a call asks otherwise (feast#6615)."""
        entities = rows([3.5, 4, 9], driver_id=[1, 1, 1])
        assert read(store, entities, "stats:rate")["rate"] == [0.2, 0.2, None]

    def test_reordered_rows(self, store: FeatureStore) -> None:
        rng = np.random.default_rng(7)
        days = rng.uniform(1, 2, 500).round(3).tolist()
        entities = rows(days, driver_id=rng.integers(1, 3, 500), n=range(500))
        entities.index = pd.Index(rng.permutation(500))
        frame = store.get_historical_features(entities, ["stats:rate"]).to_df()
        assert frame["n"].tolist() == list(range(500))
        assert frame.index.tolist() == list(range(500))
        assert frame["rate"].tolist() == [0.1 if key == 1 else 0.9 for key in entities["driver_id"]]


class TestKnownAt:
    def test_it_can_be_switched_off(self, feasts_own: FeatureStore) -> None:
        entities = rows([3.5], driver_id=[1])
        assert read(feasts_own, entities, "stats:rate")["rate"] == [0.3]

    def test_each_call_may_ask_for_it_as_in_feast(self, feasts_own: FeatureStore) -> None:
        entities = rows([3.5], driver_id=[1])
        found = read(feasts_own, entities, "stats:rate", filter_by_created_timestamp=True)
        assert found["rate"] == [0.2]

    def test_a_cutoff_that_leaves_nothing_is_said(
        self, store: FeatureStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The data of `feast init` are all created after their events."""
        path = Path(store.repo_path) / "data" / "random.parquet"
        write_random(path, [Row("a", 1, 50, 7)])
        entities = pd.DataFrame({"city_id": ["a"], "event_timestamp": [at(0) + timedelta(seconds=2)]})
        with caplog.at_level(logging.WARNING, "plumbline.features"):
            assert read(store, entities, "random:value")["value"] == [None]
        assert "1 rows would have values" in caplog.text
        assert "known_at: false" in caplog.text


class TestEntityRows:
    @pytest.mark.parametrize(
        "keys",
        [
            pd.Series([1, None, 2], dtype=object),
            pd.Series([1, None, 2], dtype="Int64"),
            pd.Series([1, None, 2], dtype="float64"),
            pd.Series([1, None, 2]).astype("category"),
            pd.Series([1, None, 2], dtype="Int8"),
        ],
        ids=["object", "Int64", "float64", "category", "Int8"],
    )
    def test_keys_as_pandas_has_them(self, store: FeatureStore, keys: pd.Series) -> None:
        entities = rows([1.5] * 3, driver_id=keys)
        frame = store.get_historical_features(entities, ["stats:rate"]).to_df()
        assert frame["rate"].tolist()[::2] == [0.1, 0.9]
        assert np.isnan(frame["rate"][1])

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    @pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
    def test_times_of_any_resolution_and_zone(self, store: FeatureStore, unit: str, zone: str | None) -> None:
        moments = pd.to_datetime([at(1), at(2), at(0.99)], utc=True)
        moments = moments.tz_localize(None) if zone is None else moments.tz_convert(zone)
        entities = pd.DataFrame({"driver_id": [1, 1, 1], "event_timestamp": moments.as_unit(unit)})
        assert read(store, entities, "stats:rate")["rate"] == [0.1, 0.2, None]

    @pytest.mark.parametrize(
        "moments",
        [
            [at(1).isoformat(), at(2).isoformat()],
            [at(1), at(2).astimezone().replace(tzinfo=UTC)],
            [at(1).date(), at(2).date()],
        ],
        ids=["text", "datetimes", "dates"],
    )
    def test_times_that_are_objects(self, store: FeatureStore, moments: list[Any]) -> None:
        entities = pd.DataFrame({"driver_id": [1, 1], "event_timestamp": pd.Series(moments, dtype=object)})
        assert read(store, entities, "stats:rate")["rate"] == [0.1, 0.2]

    def test_other_columns_keep_their_types(self, store: FeatureStore) -> None:
        """Integers with nulls stay integers, on both sides."""
        entities = rows([1.5, 2.5], driver_id=[1, 1])
        entities["label"] = pd.Series([1, None], dtype="Int64")
        entities["kind"] = pd.Series(["a", "b"], dtype="category")
        job = store.get_historical_features(entities, ["stats:trips"])
        table = job.to_arrow()
        assert table.column_names == ["driver_id", "event_timestamp", "label", "kind", "trips"]
        assert table["label"].to_pylist() == [1, None]
        assert table["trips"].to_pylist() == [10, None]
        assert table.schema.field("label").type == table.schema.field("trips").type == pa.int64()
        frame = job.to_df()
        assert str(frame["label"].dtype) == "Int64"
        assert str(frame["kind"].dtype) == "category"

    def test_the_only_timestamp_is_the_time(self, store: FeatureStore) -> None:
        entities = rows([1.5], driver_id=[1]).rename(columns={"event_timestamp": "moment"})
        assert read(store, entities, "stats:rate")["rate"] == [0.1]
        entities["other"] = entities["moment"]
        with pytest.raises(ValueError, match="event_timestamp"):
            read(store, entities, "stats:rate")

    def test_no_rows(self, store: FeatureStore) -> None:
        entities = pd.DataFrame({"driver_id": [], "event_timestamp": []})
        table = store.get_historical_features(entities, ["stats:rate"]).to_arrow()
        assert table.num_rows == 0
        assert table.schema.field("rate").type == pa.float64()

    def test_a_query(self, store: FeatureStore) -> None:
        query = "SELECT n AS driver_id, TIMESTAMP '2024-01-02 12:00' AS event_timestamp FROM range(1, 4) t(n)"
        assert read(store, query, "stats:rate")["rate"] == [0.1, 0.9, None]

    def test_an_arrow_table(self, store: FeatureStore) -> None:
        entities = pa.table({"driver_id": [1], "event_timestamp": times(1.5)})
        assert read(store, entities, "stats:rate")["rate"] == [0.1]

    def test_what_cannot_be_joined_is_said(self, store: FeatureStore) -> None:
        with pytest.raises(FeastEntityDFMissingColumnsError, match="driver_id"):
            read(store, rows([1], other=[1]), "stats:rate")
        with pytest.raises(ValueError, match="null in row 1"):
            read(store, pd.DataFrame({"driver_id": [1, 1], "event_timestamp": [at(1), None]}), "stats:rate")
        with pytest.raises(ValueError, match="not a timestamp"):
            read(store, pd.DataFrame({"driver_id": [1], "event_timestamp": [5]}), "stats:rate")
        with pytest.raises(ValueError, match="'rate': ask for full_feature_names"):
            read(store, rows([1], driver_id=[1], rate=[0]), "stats:rate")
        with pytest.raises(TypeMismatch, match="INT64"):
            read(store, rows([1], driver_id=["one"]), "stats:rate")
        with pytest.raises(TypeMismatch, match="INT64"):
            read(store, rows([1], driver_id=[1.5]), "stats:rate")
        with pytest.raises(ValueError, match="is a list"):
            read(store, [{"driver_id": 1}], "stats:rate")


class TestSources:
    def test_files_of_other_columns_resolutions_and_zones(self, store: FeatureStore) -> None:
        found = read(store, rows([1, 2, 3, 9], driver_id=[1] * 4), "mixed:x", "mixed:y")
        assert found["x"] == [1.0, None, 3.0, 3.0]
        assert found["y"] == [None, 2, 3, 3]

    def test_partition_columns_are_keys_and_features_of_the_declared_types(self, store: FeatureStore) -> None:
        entities = rows([2, 4, 2, 2], region=["eu", "eu", "south sea", "moon"])
        table = store.get_historical_features(entities, ["tree:v", "tree:year", "tree:month"]).to_arrow()
        assert table["v"].to_pylist() == [1.0, 2.0, 3.0, None]
        assert table["year"].to_pylist() == [2024, 2024, 2023, None]
        assert table["month"].to_pylist() == ["01", "02", "12", None]
        assert table.schema.field("year").type == pa.int32()

    def test_an_empty_folder(self, store: FeatureStore) -> None:
        found = read(store, rows([1, 2], driver_id=[1, 2]), "empty:nothing", "empty:shape")
        assert found["nothing"] == found["shape"] == [None, None]

    def test_maps_structs_and_lists(self, store: FeatureStore) -> None:
        """The repository that `feast init` makes has them."""
        found = read(store, rows([2, 2], driver_id=[1, 2]), "shapes:labels", "shapes:profile", "shapes:tags")
        assert found["labels"] == [{"k": "v"}, None]
        assert found["profile"] == [{"name": "Ann"}, None]
        assert found["tags"] == [["a", "b"], None]

    def test_object_storage(self, store: FeatureStore) -> None:
        assert read(store, rows([1, 5, 0], driver_id=[1] * 3), "cloud:score")["score"] == [0.5, 0.75, None]

    def test_a_source_that_is_gone_is_said(self, store: FeatureStore) -> None:
        path = Path(store.repo_path) / "data" / "pair.parquet"
        moved = path.rename(path.with_suffix(".moved"))
        with pytest.raises(SourceUnreadable, match=r"data/pair\.parquet does not exist"):
            read(store, rows([1], driver_id=[1], city_id=["LGA"]), "pair:visits")
        moved.rename(path)

    def test_sources_of_other_kinds_are_refused(self, store: FeatureStore) -> None:
        other = BigQuerySource(name="big", table="a.b", timestamp_field="t")
        with pytest.raises(ValueError, match="big is a BigQuerySource"):
            AsofOfflineStore.pull_all_from_table_or_query(store.config, other, [], [], "t")

    def test_columns_and_types_are_those_of_all_files(self, store: FeatureStore) -> None:
        provider = store._get_provider()
        mixed, tree = store.get_data_source("data/mixed"), store.get_data_source("data/tree")
        found = dict(provider.get_table_column_names_and_types_from_data_source(store.config, mixed))
        assert found.keys() == {"driver_id", "event_timestamp", "x", "y"}
        found = dict(provider.get_table_column_names_and_types_from_data_source(store.config, tree))
        assert found.keys() == {"event_timestamp", "v", "region", "year", "month"}

    def test_a_source_that_cannot_be_used_is_said_at_apply(
        self, store: FeatureStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        provider = store._get_provider()
        with caplog.at_level(logging.WARNING, "plumbline.features"):
            provider.validate_data_source(
                store.config, FileSource(name="lost", path="data/lost.parquet", timestamp_field="t")
            )
            provider.validate_data_source(
                store.config, FileSource(name="odd", path="data/pair.parquet", timestamp_field="when")
            )
        assert "source lost cannot be read: no such file" in caplog.text
        assert "source odd has no column ['when']" in caplog.text


class TestFeatures:
    def test_several_views_and_full_names(self, store: FeatureStore) -> None:
        entities = rows([3.5], driver_id=[1], city_id=["JFK"])
        found = read(
            store, entities, "stats:rate", "pair:visits", "world:fuel", "town:size", full_feature_names=True
        )
        assert {name: values[0] for name, values in found.items() if "__" in name} == {
            "stats__rate": 0.2,
            "pair__visits": 6,
            "world__fuel": 1.5,
            "town__size": 7,
        }

    def test_one_view_joined_twice_by_other_keys(self, store: FeatureStore) -> None:
        entities = rows([2], from_city=["LGA"], to_city=["JFK"])
        job = store.get_historical_features(entities, store.get_feature_service("route"), True)
        assert job.to_df().iloc[0][["origin__size", "destination__size"]].tolist() == [5, 7]

    def test_on_demand_views_with_request_data(self, store: FeatureStore) -> None:
        entities = rows([2.5, 100], driver_id=[1, 1], factor=[10.0, 10.0])
        found = read(store, entities, "scaled:scaled", "stats:trips")
        assert found["scaled"][0] == 2.0
        assert found["trips"] == [None, None]

    def test_versions_of_a_view(self, store: FeatureStore) -> None:
        entities = rows([2], driver_id=[1])
        found = read(store, entities, "revised@v0:a", "revised@v1:a", "revised@v1:b", full_feature_names=True)
        assert found["revised@v0__a"] == found["revised@v1__a"] == [1]
        assert found["revised@v1__b"] == ["two"]
        assert read(store, entities, "revised@latest:b", "revised:a")["b"] == ["two"]
        assert store.get_feature_view("revised").current_version_number == 1

    def test_a_range_of_dates_instead_of_entity_rows(self, store: FeatureStore) -> None:
        """As Feast's default store answers it: each entity as it is at the end."""
        found = read(store, None, "stats:rate", start_date=at(0), end_date=at(2.5))
        assert found == {"event_timestamp": [at(2.5)] * 2, "driver_id": [1, 2], "rate": [0.2, 0.9]}
        found = read(store, None, "stats:rate", start_date=at(1.5), end_date=at(2.5))
        assert found["driver_id"] == [1]
        found = read(store, None, "world:fuel", start_date=at(0), end_date=at(2))
        assert found == {"event_timestamp": [at(2)], "fuel": [1.25]}
        with pytest.raises(ValueError, match="same join keys"):
            read(store, None, "stats:rate", "town:size", start_date=at(0), end_date=at(2))

    def test_metadata(self, store: FeatureStore) -> None:
        job = store.get_historical_features(rows([1, 4], driver_id=[1, 1], label=[0, 1]), ["stats:rate"])
        metadata = job.metadata
        assert metadata is not None
        assert metadata.features == ["stats:rate"]
        assert metadata.keys == ["driver_id", "label"]
        assert (metadata.min_event_timestamp, metadata.max_event_timestamp) == (at(1), at(4))

    def test_a_view_that_is_materializing(self, store: FeatureStore) -> None:
        """Feast refuses before it asks any store; the registry's own switch lets it through."""
        entities = rows([2], city_id=["LGA"])
        before = store.registry.get_feature_view("town", store.project)
        materializing = store.registry.get_feature_view("town", store.project)
        materializing.state = FeatureViewState.MATERIALIZING
        store.registry.apply_feature_view(materializing, store.project)
        try:
            with pytest.raises(ValueError, match="MATERIALIZING"):
                read(store, entities, "town:size")
            store.registry.serve_features_while_materializing = True
            assert read(store, entities, "town:size")["size"] == [5]
            # And so does our own service, whatever the state.
            assert FeastRepo(store.config).load().views["town"].source is not None
        finally:
            store.registry.serve_features_while_materializing = False
            store.registry.apply_feature_view(before, store.project)


def write_random(path: Path, table: list[Row]) -> None:
    def moments(values: list[int | None]) -> pa.Array:
        base = int(at(0).timestamp()) * SECOND
        return pa.array([None if v is None else base + v * SECOND for v in values], pa.int64()).cast(MICROS)

    pq.write_table(
        pa.table(
            {
                "city_id": pa.array([row.key for row in table], pa.string()),
                "event_timestamp": moments([row.event for row in table]),
                "created": moments([row.created for row in table]),
                "value": pa.array([row.value for row in table], pa.int64()),
            }
        ),
        path,
    )


KEYS = st.sampled_from(["a", "b", None])
MOMENTS = st.integers(0, 6)
ROWS = st.builds(Row, KEYS, st.none() | MOMENTS, st.none() | MOMENTS, st.none() | st.integers(0, 3))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(ROWS, max_size=12),
    entities=st.lists(st.tuples(KEYS, st.integers(0, 7)), min_size=1, max_size=8),
    known_at=st.sampled_from(KnownAt),
)
def test_the_sdk_answers_as_the_oracle(
    store: FeatureStore, table: list[Row], entities: list[tuple[str | None, int]], known_at: KnownAt
) -> None:
    write_random(Path(store.repo_path) / "data" / "random.parquet", table)
    frame = pd.DataFrame(
        {
            "city_id": pd.Series([key for key, _ in entities], dtype=object),
            "event_timestamp": [at(0) + timedelta(seconds=moment) for _, moment in entities],
        }
    )
    store.config.offline_store.known_at = known_at is KnownAt.CREATED_BY_THEN
    try:
        found = read(store, frame, "random:value")
    finally:
        store.config.offline_store.known_at = True
    assert found["city_id"] == [key for key, _ in entities]
    assert found["value"] == [answer(table, key, moment, 3, known_at)[1] for key, moment in entities]


class TestResults:
    def test_a_saved_dataset(self, store: FeatureStore) -> None:
        job = store.get_historical_features(rows([1.5, 2.5], driver_id=[1, 2]), ["stats:rate"])
        place = SavedDatasetFileStorage("saved/set.parquet")
        with pytest.warns(RuntimeWarning, match="experimental"):
            saved = store.create_saved_dataset(job, "set", place)
        assert saved.min_event_timestamp == at(1.5)
        with pytest.warns(RuntimeWarning, match="experimental"):
            frame = store.get_saved_dataset("set").to_df()
        assert sorted(frame["rate"]) == [0.1, 0.9]
        with pytest.raises(SavedDatasetLocationAlreadyExists):
            job.persist(place)
        job.persist(place, allow_overwrite=True)

    def test_results_in_folders_and_in_object_storage(self, store: FeatureStore, s3_endpoint: str) -> None:
        job = store.get_historical_features(rows([1.5], driver_id=[1]), ["stats:rate"])
        job.persist(SavedDatasetFileStorage("saved/folder"))
        job.persist(SavedDatasetFileStorage("saved/folder"), allow_overwrite=True)
        written = pq.read_table(Path(store.repo_path) / "saved" / "folder")
        assert written["rate"].to_pylist() == [0.1]
        with pytest.raises(ValueError, match="holds other files"):
            job.persist(SavedDatasetFileStorage("data/mixed"), allow_overwrite=True)
        uri = "s3://plumbline/saved/set.parquet"
        place = SavedDatasetFileStorage(uri, s3_endpoint_override=s3_endpoint)
        job.persist(place)
        assert parquet.schema_of(remote.at_endpoint(uri, s3_endpoint)).names[-1] == "rate"
        with pytest.raises(SavedDatasetLocationAlreadyExists):
            job.persist(place)

    def test_an_export(self, store: FeatureStore) -> None:
        job = store.get_historical_features(rows([1.5], driver_id=[1]), ["stats:rate"])
        assert job.supports_remote_storage_export()
        (part,) = job.to_remote_storage()
        assert pq.read_table(part)["rate"].to_pylist() == [0.1]

    def test_there_is_no_sql(self, store: FeatureStore) -> None:
        job = store.get_historical_features(rows([1.5], driver_id=[1]), ["stats:rate"])
        with pytest.raises(ValueError, match="no SQL text"):
            job.to_sql()

    def test_metrics_of_monitoring_are_refused(self, store: FeatureStore) -> None:
        with pytest.raises(ValueError, match="keeps no metrics"):
            AsofOfflineStore.ensure_monitoring_tables(store.config)


class TestWrites:
    def test_a_push_is_joined(self, store: FeatureStore) -> None:
        """The names are those of the source; Feast applies the view's field_mapping, which we undo."""
        pushed = pd.DataFrame(
            {"drv": [77], "event_timestamp": [at(5)], "created": [at(5)], "r": [0.77], "trips": [7]},
            index=[9],
        )
        store.push("stats_push", pushed, to=PushMode.OFFLINE)
        store.push("stats_push", pushed, to=PushMode.OFFLINE)
        found = read(store, rows([6], driver_id=[77]), "stats:rate", "stats:trips")
        assert (found["rate"], found["trips"]) == ([0.77], [7])
        assert len(list((Path(store.repo_path) / "data" / "stats.parquet.d").iterdir())) == 1

    def test_a_push_to_object_storage_is_joined(self, store: FeatureStore) -> None:
        for value in (0.1, 0.2):
            pushed = pd.DataFrame({"driver_id": [78], "event_timestamp": [at(5)], "score": [value]})
            store.push("cloud_push", pushed, to=PushMode.OFFLINE)
        assert read(store, rows([6], driver_id=[78]), "cloud:score")["score"] == [0.2]

    def test_rows_are_added_to_a_tree(self, store: FeatureStore) -> None:
        columns = {"event_timestamp": [at(1)], "v": [9.0], "region": ["new"], "year": [2030], "month": ["07"]}
        store.write_to_offline_store("tree", pd.DataFrame(columns))
        found = read(store, rows([2, 2], region=["new", "eu"]), "tree:v", "tree:year", "tree:month")
        assert (found["v"], found["year"], found["month"]) == ([9.0, 1.0], [2030, 2024], ["07", "01"])

    def test_columns_that_do_not_fit_are_said(self, store: FeatureStore) -> None:
        with pytest.raises(ValueError, match="missing_expected_columns"):
            store.write_to_offline_store("town", pd.DataFrame({"city_id": ["X"]}))

    def test_logged_features(self, store: FeatureStore) -> None:
        table = pa.table({"x": [1, 2], "day": ["mon", "tue"]})
        for partition_by, name in ((None, "plain"), (["day"], "days")):
            place = FileLoggingDestination(path=f"logs/{name}", partition_by=partition_by)
            AsofOfflineStore.write_logged_features(
                store.config, table, None, LoggingConfig(destination=place), store.registry
            )
            folder = str(Path(store.repo_path) / "logs" / name)
            files = parquet.files_of(folder)
            assert sum(pq.read_metadata(file).num_rows for file in files) == 2
            assert parquet.partition_columns(folder, files) == tuple(partition_by or ())


class TestMaterialize:
    def test_online_is_what_was_pulled(self, store: FeatureStore) -> None:
        """With Feast's own engine and online store: key columns, mapped columns, no entities, partitions."""
        store.materialize(at(0), at(4), feature_views=["world", "pair", "town", "tree", "shapes"])
        entities = {"driver_id": [1], "city_id": ["LGA"], "region": ["eu"]}
        features = ["shapes:labels", "world:fuel", "pair:visits", "town:size", "tree:v", "tree:month"]
        found = store.get_online_features(features, entities).to_dict()
        assert found["labels"] == [{"k": "v"}]
        assert found["fuel"] == [1.5]
        assert found["visits"] == [4]
        assert found["size"] == [5]
        assert found["v"] == [2.0]

    def test_pulls(self, store: FeatureStore) -> None:
        source = store.get_feature_view("stats").batch_source

        def pull(name: str, start: datetime, end: datetime) -> pa.Table:
            method = getattr(AsofOfflineStore, f"pull_{name}_from_table_or_query")
            job = method(
                store.config, source, ["drv"], ["r", "trips"], "event_timestamp", "created", start, end
            )
            return job.to_arrow().sort_by([("drv", "ascending"), ("event_timestamp", "ascending")])

        table = pull("all", at(1), at(2))
        assert table["r"].to_pylist() == [0.1, 0.2, 0.9]
        assert table["trips"].to_pylist() == [10, None, 90]
        assert table.schema.field("event_timestamp").type == MICROS
        assert pull("latest", at(0), at(4))["r"].to_pylist() == [0.3, 0.9]
        assert pull("latest", at(2.5), at(2.6)).num_rows == 0
