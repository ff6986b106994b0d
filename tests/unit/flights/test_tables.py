from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.flights import tables, validate
from tests.unit.flights import rows

HOUR = pd.Timedelta(hours=1)
START = pd.Timestamp("2013-06-01T00:00Z")

# A few busy days: few keys, so that windows overlap and several flights share them.
FLIGHTS = st.lists(
    st.fixed_dictionaries(
        {
            "after": st.integers(0, 3 * 24 * 60),
            "dep_delay": st.one_of(st.none(), st.integers(-10, 200)),
            "arr_delay": st.one_of(st.none(), st.integers(-30, 200)),
            "carrier": st.sampled_from(["UA", "AA"]),
            "origin": st.sampled_from(["EWR", "JFK"]),
            "dest": st.sampled_from(["BOS", "LAX"]),
            "tailnum": st.sampled_from(["N1", "N2"]),
        }
    ),
    min_size=1,
    max_size=12,
)


def _timed(drawn: list[dict[str, Any]]) -> pd.DataFrame:
    made = []
    for number, one in enumerate(drawn):
        delay = one["dep_delay"]
        # Whoever did not depart did not arrive; whoever departs late does not arrive before that.
        arrival = None if delay is None or one["arr_delay"] is None else max(one["arr_delay"], delay - 30)
        departure = (START + pd.Timedelta(minutes=one["after"])).strftime("%Y-%m-%dT%H:%M")
        made.append(
            rows.flight(
                departure,
                dep_delay=delay,
                arr_delay=arrival,
                dest=one["dest"],
                carrier=one["carrier"],
                origin=one["origin"],
                tailnum=one["tailnum"],
                flight=number + 1,
            )
        )
    return rows.timed(made)


def _flight_tables(timed: pd.DataFrame) -> dict[str, pd.DataFrame]:
    built = {name: table.build(timed) for name, table in tables.WINDOW_TABLES.items()}
    return built | {"tail_last_landed": tables.tail_table(timed)}


@settings(max_examples=40, deadline=None)
@given(drawn=FLIGHTS, asked=st.integers(0, 5 * 24 * 60))
def test_windows_hold_exactly_the_flights_known_in_them(drawn: list[dict[str, Any]], asked: int) -> None:
    timed = _timed(drawn)
    at = START + pd.Timedelta(minutes=asked)
    for name, table in tables.WINDOW_TABLES.items():
        built = table.build(timed)
        known = timed["arrived_at"] if table.on_arrival else timed["departed_at"]
        value = timed["arr_delay"].gt(15).astype(float) if table.on_arrival else timed["dep_delay"]
        for _, flight in timed.iterrows():
            same = (timed[list(table.keys)] == flight[list(table.keys)]).all(axis=1)
            mine = (built[list(table.keys)] == flight[list(table.keys)]).all(axis=1)
            newest = built[mine & (built["event_timestamp"] <= at)].tail(1)
            for hours, mean, count in zip(
                table.hours, table.columns()[::2], table.columns()[1::2], strict=True
            ):
                inside = value[same & (known > at - hours * HOUR) & (known <= at)]
                if newest.empty:
                    assert inside.empty, name
                    continue
                assert newest[count].item() == len(inside), (name, hours)
                np.testing.assert_allclose(newest[mean].item(), inside.mean(), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(drawn=FLIGHTS, data=st.data())
def test_a_flights_outcome_changes_nothing_before_it_is_known(
    drawn: list[dict[str, Any]], data: st.DataObject
) -> None:
    changed = data.draw(st.integers(0, len(drawn) - 1))
    other = [dict(one) for one in drawn]
    other[changed] |= data.draw(
        st.fixed_dictionaries(
            {"dep_delay": st.one_of(st.none(), st.integers(-10, 200)), "arr_delay": st.integers(-30, 200)}
        )
    )
    before, after = _timed(drawn), _timed(other)
    outcomes = pd.concat([frame.loc[[changed], ["departed_at", "arrived_at"]] for frame in (before, after)])
    for name, built in _flight_tables(before).items():
        # A view of arrivals may not even tell that a flight has departed.
        on_arrival = name == "tail_last_landed" or tables.WINDOW_TABLES[name].on_arrival
        known = outcomes["arrived_at" if on_arrival else "departed_at"].min()
        rebuilt = _flight_tables(after)[name]
        if known is pd.NaT:
            pd.testing.assert_frame_equal(built, rebuilt)
            continue
        pd.testing.assert_frame_equal(
            built[built["event_timestamp"] < known].reset_index(drop=True),
            rebuilt[rebuilt["event_timestamp"] < known].reset_index(drop=True),
        )


@pytest.mark.parametrize("name", tables.WINDOW_TABLES)
def test_a_flight_shows_in_a_view_from_the_moment_it_is_known(name: str) -> None:
    timed = rows.timed([rows.flight("2013-06-01T12:30", dep_delay=20, arr_delay=40)])
    table = tables.WINDOW_TABLES[name]
    built = table.build(timed)
    known = timed["arrived_at" if table.on_arrival else "departed_at"].item()
    assert known == pd.Timestamp("2013-06-01T14:10Z" if table.on_arrival else "2013-06-01T12:50Z")
    assert built["event_timestamp"].tolist() == [known, *(known + hours * HOUR for hours in table.hours)]
    assert (built["created_timestamp"] == built["event_timestamp"]).all()
    mean, count = table.columns()[:2]
    assert built[mean].iloc[0] == (1.0 if table.on_arrival else 20.0)
    assert built[count].tolist()[:2] == [1, 0]
    # Nothing in the window is no mean, not a mean of zero.
    assert np.isnan(built[mean].iloc[1])


def test_late_means_more_than_fifteen_minutes() -> None:
    timed = rows.timed(
        [rows.flight("2013-06-01T12:30", arr_delay=15), rows.flight("2013-06-01T16:30", arr_delay=16)]
    )
    built = tables.WINDOW_TABLES["carrier_arrivals"].build(timed)
    assert built["carrier_late_rate_24h"].tolist()[:2] == [0.0, 0.5]
    assert tables.entity_rows(timed).eligible["late"].tolist() == [0, 1]


def test_the_tail_is_where_it_last_landed_not_where_it_last_left() -> None:
    timed = rows.timed(
        [
            rows.flight("2013-06-01T12:00", minutes=400, arr_delay=5),
            rows.flight("2013-06-01T13:00", flight=2, arr_delay=None),
            rows.flight("2013-06-01T14:00", flight=3, tailnum=None),
        ]
    )
    built = tables.tail_table(timed)
    assert built["tailnum"].tolist() == ["N1"]
    assert built["tail_last_arr_delay"].tolist() == [5.0]
    landed = pd.Timestamp("2013-06-01T18:45Z")
    assert built["tail_last_landed_at"].tolist() == built["event_timestamp"].tolist() == [landed]


def test_two_landings_in_one_minute_are_one_row() -> None:
    timed = rows.timed(
        [rows.flight("2013-06-01T12:00", flight=2, arr_delay=1), rows.flight("2013-06-01T11:59", arr_delay=2)]
    )
    built = tables.tail_table(timed)
    assert built["tail_last_arr_delay"].tolist() == [1.0]


def test_weather_is_known_when_its_hour_is_over() -> None:
    readings = [rows.reading("2013-06-01T13:00"), rows.reading("2013-06-01T12:00")]
    built = tables.weather_table(validate.weather(rows.frame(readings)).accepted)
    assert built["event_timestamp"].tolist() == [
        pd.Timestamp("2013-06-01T13:00Z"),
        pd.Timestamp("2013-06-01T14:00Z"),
    ]


def test_entity_rows_account_for_every_flight() -> None:
    timed = rows.timed(
        [
            rows.flight("2013-06-01T14:00", arr_delay=20, flight=4),
            rows.flight("2013-06-01T12:00", dep_delay=None, arr_delay=None, tailnum=None, flight=1),
            rows.flight("2013-06-01T13:00", arr_delay=None, flight=2),
            rows.flight("2013-06-01T12:00", flight=9),
        ]
    )
    made = tables.entity_rows(timed)
    assert made.eligible["flight_id"].tolist() == ["UA9/JFK/2013-06-01T12Z", "UA4/JFK/2013-06-01T14Z"]
    assert made.eligible["event_timestamp"].tolist() == [
        pd.Timestamp("2013-06-01T10:00Z"),
        pd.Timestamp("2013-06-01T12:00Z"),
    ]
    assert made.eligible["label_timestamp"].tolist() == [
        pd.Timestamp("2013-06-01T13:00Z"),
        pd.Timestamp("2013-06-01T15:20Z"),
    ]
    assert made.eligible["late"].tolist() == [0, 1]
    assert made.ineligible[["flight", "reason"]].to_numpy().tolist() == [[1, "cancelled"], [2, "diverted"]]
    # What tells the outcome is not among the columns of a flight without one, nor are delays among anyone's.
    assert not {"late", "label_timestamp"} & set(made.ineligible)
    assert not {"arr_delay", "dep_delay", "arrived_at", "departed_at"} & set(made.eligible)
