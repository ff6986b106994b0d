"""The feature repository against the tables it reads, and what its on-demand views compute."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import examples.flights
from examples.flights import ingest, sources

REPOSITORY = Path(examples.flights.__file__).parent / "feature_repo"
# How Feast's types are stored.
ARROW = {"Int64": "int64", "Float64": "double", "String": "string", "UnixTimestamp": "timestamp[us, tz=UTC]"}

Definitions = dict[str, Any]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    state = tmp_path_factory.mktemp("state")
    ingest.ingest(sources.package_data(), state / "flights", months=[1])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PLUMBLINE_STATE", str(state))
        environment.setenv("PLUMBLINE_FLIGHTS_DATA", str(state / "flights"))
        return runpy.run_path(str(REPOSITORY / "definitions.py"))


def _views(definitions: Definitions) -> list[Any]:
    return [value for value in definitions.values() if type(value).__name__ == "FeatureView"]


def _join_keys(definitions: Definitions, view: Any) -> dict[str, str]:
    """The join keys of a view and how they are stored."""
    entities = {value.name: value for value in definitions.values() if type(value).__name__ == "Entity"}
    stored = {"STRING": "string", "INT64": "int64"}
    return {entities[name].join_key: stored[entities[name].value_type.name] for name in view.entities}


def test_every_table_has_the_columns_its_view_declares(definitions: Definitions) -> None:
    views = _views(definitions)
    assert len(views) == 9
    for view in views:
        schema = pq.read_schema(view.batch_source.path)
        declared = {field.name: ARROW[str(field.dtype)] for field in view.features}
        keys = _join_keys(definitions, view)
        stamps = {"event_timestamp", "created_timestamp"}
        stored = {name: str(schema.field(name).type).replace("large_", "") for name in schema.names}
        assert {name: kind for name, kind in stored.items() if name not in stamps} == declared | keys, (
            view.name
        )
        assert stamps <= set(stored)


def test_entity_rows_have_the_keys_and_request_data_the_service_needs(definitions: Definitions) -> None:
    path = Path(definitions["DATA"]) / "entities.parquet"
    columns = set(pq.read_schema(path).names)
    keys = {key for view in _views(definitions) for key in _join_keys(definitions, view)}
    request = {field.name for field in definitions["schedule_request"].schema}
    assert keys == {"carrier", "flight", "tailnum", "origin", "dest"}
    assert keys | request <= columns


def test_the_service_reads_every_view_and_no_feature_twice(definitions: Definitions) -> None:
    projections = definitions["flight_delay_v1"].feature_view_projections
    assert {projection.name for projection in projections} == {
        *(view.name for view in _views(definitions)),
        "schedule",
        "tail_idle",
    }
    names = [field.name for projection in projections for field in projection.features]
    assert len(names) == len(set(names)) == 32


def test_windows_expire_after_their_longest_window(definitions: Definitions) -> None:
    for name, hours in {
        "origin_departures": 24,
        "route_arrivals": 720,
        "flight_number_arrivals": 720,
    }.items():
        assert definitions[name].ttl == pd.Timedelta(hours=hours)


def test_the_timetable_is_read_on_local_clocks(definitions: Definitions) -> None:
    asked = pd.DataFrame(
        {
            # Tuesday 1 January 05:15 EST; Saturday 1 June 23:59 EDT, which is Sunday in UTC.
            "scheduled_departure": pd.to_datetime(["2013-01-01T10:15", "2013-06-02T03:59"], utc=True),
            "scheduled_arrival_clock": [819, 344],
            "distance_miles": [1400, 1598],
        }
    )
    kept = asked.copy()
    answer = definitions["schedule"].feature_transformation.udf(asked)
    assert answer.to_dict("list") == {
        "sched_dep_minute": [315, 1439],
        "sched_arr_minute": [499, 224],
        "sched_clock_minutes": [184, 225],
        "sched_weekday": [2, 6],
        "distance": [1400, 1598],
    }
    pd.testing.assert_frame_equal(asked, kept)


def test_the_timetable_is_the_same_from_any_kind_of_time(definitions: Definitions) -> None:
    """Offline gives zone-aware columns, online gives datetime objects or naive UTC."""
    instant = pd.Timestamp("2013-07-01T12:34", tz="UTC")
    rest = {"scheduled_arrival_clock": [1500], "distance_miles": [100]}
    udf = definitions["schedule"].feature_transformation.udf
    answers = [
        udf(pd.DataFrame({"scheduled_departure": pd.Series([value], dtype=kind), **rest})).to_dict("list")
        for value, kind in [
            (instant, "datetime64[us, UTC]"),
            (instant, "datetime64[ns, UTC]"),
            (instant.to_pydatetime(), "object"),
            (instant.tz_localize(None), "datetime64[us]"),
        ]
    ]
    assert answers == [answers[0]] * 4
    assert answers[0]["sched_dep_minute"] == [8 * 60 + 34]


def test_what_a_caller_leaves_out_is_missing_in_its_own_row_alone(definitions: Definitions) -> None:
    asked = pd.DataFrame(
        {
            "scheduled_departure": pd.to_datetime(["2013-01-01T10:15", None], utc=True),
            "scheduled_arrival_clock": [819, None],
            "distance_miles": [1400, None],
        }
    )
    answer = definitions["schedule"].feature_transformation.udf(asked)
    assert answer.iloc[0].tolist() == [315, 499, 184, 2, 1400]
    assert answer.iloc[1].isna().all()


def test_idle_time_is_to_departure_and_null_for_an_unknown_aircraft(definitions: Definitions) -> None:
    asked = pd.DataFrame(
        {
            "scheduled_departure": pd.to_datetime(["2013-01-02T10:00", "2013-01-02T10:00"], utc=True),
            "tail_last_landed_at": pd.Series([pd.Timestamp("2013-01-02T04:30Z"), pd.NaT]),
        }
    )
    answer = definitions["tail_idle"].feature_transformation.udf(asked)["tail_idle_hours"]
    assert answer.iloc[0] == 5.5
    assert pd.isna(answer.iloc[1])


@pytest.mark.parametrize("folder", [None, "relative/path", "${PLUMBLINE_STATE}"])
def test_a_folder_that_is_not_set_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str | None
) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE", str(tmp_path))
    monkeypatch.delenv("PLUMBLINE_FLIGHTS_DATA", raising=False)
    if folder is not None:
        monkeypatch.setenv("PLUMBLINE_FLIGHTS_DATA", folder)
    with pytest.raises(RuntimeError, match=r"PLUMBLINE_FLIGHTS_DATA is .* set it to an absolute path"):
        runpy.run_path(str(REPOSITORY / "definitions.py"))
