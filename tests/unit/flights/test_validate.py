from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from examples.flights import clock, tables, validate
from tests.unit.flights import rows

SOUND = rows.flight("2013-06-01T12:30")


def _judge(*raw: dict[str, Any]) -> validate.Judged:
    return validate.flights(rows.frame(list(raw)), clock.CARIBBEAN_ZONES | rows.ZONES)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"carrier": None}, "carrier is missing"),
        ({"flight": None}, "flight is missing"),
        ({"dest": None}, "dest is missing"),
        ({"time_hour": "yesterday"}, "time_hour is missing or no time"),
        ({"time_hour": None}, "time_hour is missing or no time"),
        ({"origin": "SFO"}, "origin is none of EWR, JFK, LGA"),
        ({"dest": "ZZZ"}, "the destination's time zone is not known"),
        ({"distance": 0}, "distance is not positive"),
        ({"distance": None}, "distance is not positive"),
        ({"sched_arr_time": 1275}, "sched_arr_time is missing or no clock time"),
        ({"sched_arr_time": None}, "sched_arr_time is missing or no clock time"),
        ({"dep_time": 2401}, "dep_time is no clock time"),
        ({"arr_time": 960}, "arr_time is no clock time"),
        ({"hour": 9}, "the local date and clock disagree with time_hour"),
        ({"month": None}, "the local date and clock disagree with time_hour"),
        ({"sched_dep_time": 831}, "the local date and clock disagree with time_hour"),
        ({"time_hour": "2013-06-01T16:00:00Z"}, "the local date and clock disagree with time_hour"),
        ({"dep_delay": None}, "arrived without having departed"),
    ],
)
def test_a_faulty_flight_is_set_aside_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    other = rows.flight("2013-06-01T12:30", flight=2)
    judged = _judge(SOUND | changes, other)
    assert judged.accepted["flight"].tolist() == [2]
    assert judged.aside[["action", "reason"]].to_numpy().tolist() == [["refused", reason]]
    for column, value in changes.items():
        kept = judged.aside[column].iloc[0]
        assert pd.isna(kept) if value is None else kept == value


def test_the_first_of_two_like_flights_stays() -> None:
    judged = _judge(SOUND, SOUND | {"tailnum": "N2"}, SOUND | {"origin": "EWR"})
    assert judged.accepted["tailnum"].tolist() == ["N1", "N1"]
    assert judged.aside["reason"].tolist() == [
        "a flight with this hour, carrier, number and origin came before"
    ]


def test_the_same_number_twice_a_day_is_two_flights() -> None:
    assert len(_judge(SOUND, rows.flight("2013-06-01T18:30")).accepted) == 2


def test_cancelled_diverted_and_tailless_flights_are_sound() -> None:
    judged = _judge(
        rows.flight("2013-06-01T12:30", dep_delay=None, arr_delay=None, tailnum=None),
        rows.flight("2013-06-01T13:30", arr_delay=None),
    )
    assert len(judged.accepted) == 2
    assert judged.aside.empty


def test_midnight_is_written_2400_and_is_sound() -> None:
    late = rows.flight("2013-06-02T02:30", dep_delay=90, arr_delay=90)
    assert late["dep_time"] == 2400
    judged = validate.flight_times(rows.timed([late]))
    assert len(judged.accepted) == 1
    assert judged.accepted["departed_at"].tolist() == [pd.Timestamp("2013-06-02T04:00Z")]


@pytest.mark.parametrize("written", [0, 2400])
def test_a_timetable_may_write_midnight_either_way(written: int) -> None:
    timed = rows.timed([rows.flight("2013-06-02T04:00", sched_dep_time=written)])
    assert timed["scheduled_departure"].tolist() == [pd.Timestamp("2013-06-02T04:00Z")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dep_time": 840}, "dep_time disagrees with sched_dep_time and dep_delay"),
        ({"arr_time": 940}, "arr_time disagrees with sched_arr_time and arr_delay"),
        # An hour off, but no clock was changed that night.
        ({"arr_time": 1030}, "arr_time disagrees with sched_arr_time and arr_delay"),
        ({"arr_delay": -60, "arr_time": 830}, "arrived before it departed"),
        ({"air_time": 61}, "in the air for longer than between departure and arrival"),
    ],
)
def test_clocks_must_agree_with_delays(changes: dict[str, Any], reason: str) -> None:
    judged = validate.flight_times(rows.timed([SOUND | changes, rows.flight("2013-06-01T12:30", flight=2)]))
    assert judged.accepted["flight"].tolist() == [2]
    assert judged.aside["reason"].tolist() == [reason]


def test_a_clock_not_yet_set_on_the_night_it_changes_is_repaired() -> None:
    # Lands at 03:03 daylight time on 10 March; the crew's clock still says 02:03.
    flight = rows.flight("2013-03-10T03:00", minutes=155, arr_delay=88, dep_delay=75, arr_time=203)
    judged = validate.flight_times(rows.timed([flight]))
    assert judged.accepted["arrived_at"].tolist() == [pd.Timestamp("2013-03-10T07:03Z")]
    assert judged.aside["action"].tolist() == ["repaired"]


def test_a_wind_no_one_ever_measured_is_emptied_and_the_reading_kept() -> None:
    judged = validate.weather(rows.frame([rows.reading("2013-02-12T08:00", wind_speed=1048.36058)]))
    assert judged.accepted["wind_speed"].isna().tolist() == [True]
    assert judged.accepted["temp"].tolist() == [50.0]
    assert judged.aside["wind_speed"].tolist() == [1048.36058]
    assert judged.aside[["action", "reason"]].to_numpy().tolist() == [
        ["repaired", "wind_speed outside 0 to 253: emptied"]
    ]


def test_the_repeated_hour_is_two_readings_and_a_repeated_instant_is_one() -> None:
    first, second = rows.reading("2013-11-03T05:00"), rows.reading("2013-11-03T06:00")
    assert first["hour"] == second["hour"] == 1
    judged = validate.weather(rows.frame([first, second, second | {"temp": 51.0}]))
    assert judged.accepted["observed_hour"].tolist() == [
        pd.Timestamp("2013-11-03T05:00Z"),
        pd.Timestamp("2013-11-03T06:00Z"),
    ]
    assert judged.aside["reason"].tolist() == ["a reading of this origin and hour came before"]


@pytest.mark.parametrize("changes", [{"origin": None}, {"time_hour": "no"}, {"hour": 4}, {"day": None}])
def test_a_reading_of_no_place_or_time_is_refused(changes: dict[str, Any]) -> None:
    judged = validate.weather(rows.frame([rows.reading("2013-02-12T08:00") | changes]))
    assert judged.accepted.empty
    assert judged.aside["action"].tolist() == ["refused"]


def test_planes_are_one_a_tail_number_and_impossible_numbers_are_emptied() -> None:
    plane = {"tailnum": "N1", "year": 1999, "engines": 2, "seats": 150}
    raw = pd.DataFrame([plane, plane, plane | {"tailnum": None}, plane | {"tailnum": "N2", "year": 0}])
    judged = validate.planes(raw.convert_dtypes())
    assert judged.accepted["tailnum"].tolist() == ["N1", "N2"]
    assert judged.accepted["year"].isna().tolist() == [False, True]
    assert sorted(judged.aside["action"]) == ["refused", "refused", "repaired"]


def test_a_refused_row_is_not_repaired_as_well() -> None:
    judged = validate.weather(rows.frame([rows.reading("2013-02-12T08:00", origin="SFO", wind_speed=1048.0)]))
    assert judged.aside["action"].tolist() == ["refused"]


def test_timing_uses_the_destinations_zone() -> None:
    timed = rows.timed([rows.flight("2013-07-01T12:00", minutes=360, dest="LAX")])
    assert timed["scheduled_arrival"].tolist() == [pd.Timestamp("2013-07-01T18:00Z")]
    assert pd.Timedelta(hours=2) == tables.CUTOFF_BEFORE_DEPARTURE
