from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.flights import clock


def _first_after(departure: str, hhmm: float, zone: str) -> pd.Timestamp:
    found = clock.first_instant_after(
        pd.Series([pd.Timestamp(departure, tz="UTC")]), pd.Series([hhmm]), pd.Series([zone], dtype="string")
    )
    return pd.Timestamp(found.iloc[0])


@pytest.mark.parametrize(
    ("hhmm", "minutes"), [(0, 0), (1, 1), (59, 59), (100, 60), (517, 317), (2359, 1439), (2400, 1440)]
)
def test_clock_numbers_are_minutes_of_the_day(hhmm: int, minutes: int) -> None:
    assert clock.minute_of_day(pd.Series([float(hhmm)])).tolist() == [minutes]


@pytest.mark.parametrize("hhmm", [60, 1275, 2401, 2500, -5, 12.5, float("nan")])
def test_what_no_clock_shows_is_nothing(hhmm: float) -> None:
    assert clock.minute_of_day(pd.Series([hhmm])).isna().all()


@pytest.mark.parametrize(
    ("departure", "hhmm", "zone", "arrival"),
    [
        # 05:15 EST to Houston, 08:19 CST.
        ("2013-01-01T10:15", 819, "America/Chicago", "2013-01-01T14:19"),
        # 23:59 EST to San Juan, which is an hour ahead in winter: 04:44 of the next day.
        ("2013-01-02T04:59", 444, "America/Puerto_Rico", "2013-01-02T08:44"),
        # The same in summer, when both show the same time.
        ("2013-07-02T03:59", 340, "America/Puerto_Rico", "2013-07-02T07:40"),
        # 20:00 EST to Los Angeles, 23:20 PST: the local clock of the same day.
        ("2013-01-02T01:00", 2320, "America/Los_Angeles", "2013-01-02T07:20"),
        # 22:00 EST to Los Angeles, 01:18 PST: an earlier clock, the next day.
        ("2013-01-02T03:00", 118, "America/Los_Angeles", "2013-01-02T09:18"),
        # Midnight at the end of the day.
        ("2013-01-02T03:00", 2400, "America/New_York", "2013-01-02T05:00"),
        # Never the moment of departure itself.
        ("2013-01-01T10:15", 515, "America/New_York", "2013-01-02T10:15"),
        # 3 November, 01:30 happens twice: the first one after departure.
        ("2013-11-03T02:00", 130, "America/New_York", "2013-11-03T05:30"),
        ("2013-11-03T05:30", 130, "America/New_York", "2013-11-03T06:30"),
        ("2013-11-03T05:45", 130, "America/New_York", "2013-11-03T06:30"),
        # 10 March, 02:30 does not happen: the next day's.
        ("2013-03-10T05:00", 230, "America/New_York", "2013-03-11T06:30"),
    ],
)
def test_a_scheduled_arrival_is_the_first_such_clock_after_departure(
    departure: str, hhmm: float, zone: str, arrival: str
) -> None:
    assert _first_after(departure, hhmm, zone) == pd.Timestamp(arrival, tz="UTC")


@settings(deadline=None)  # the machine may be busy
@given(
    departure=st.integers(0, 365 * 24 * 60 - 1).map(
        lambda m: datetime(2013, 1, 1, tzinfo=UTC) + timedelta(minutes=m)
    ),
    minute=st.integers(0, 24 * 60 - 1),
    zone=st.sampled_from(["America/New_York", "America/Puerto_Rico", "Pacific/Honolulu", "America/Phoenix"]),
)
def test_it_agrees_with_watching_the_clock_minute_by_minute(
    departure: datetime, minute: int, zone: str
) -> None:
    watched = departure + timedelta(minutes=1)
    while (local := watched.astimezone(ZoneInfo(zone))).hour * 60 + local.minute != minute:
        watched += timedelta(minutes=1)
    hhmm = minute // 60 * 100 + minute % 60
    assert _first_after(departure.strftime("%Y-%m-%dT%H:%M"), hhmm, zone) == pd.Timestamp(watched)


def test_rows_of_several_zones_keep_their_places_and_missing_ones_stay_missing() -> None:
    ten = pd.Timestamp("2013-01-01T10:00", tz="UTC")
    departure = pd.Series([ten, ten, pd.NaT, ten])
    departure.index = pd.Index([7, 3, 5, 1])
    hhmm = pd.Series([900.0, 900.0, 900.0, float("nan")], index=departure.index)
    zone = pd.Series(
        ["America/Chicago", "America/New_York", "America/Chicago", "America/Chicago"], departure.index
    )
    found = clock.first_instant_after(departure, hhmm, zone.astype("string"))
    assert found.index.tolist() == [7, 3, 5, 1]
    assert found.iloc[:2].tolist() == [pd.Timestamp("2013-01-01T15:00Z"), pd.Timestamp("2013-01-01T14:00Z")]
    assert found.iloc[2:].isna().all()


def test_caribbean_airports_have_a_zone_though_the_file_lacks_them() -> None:
    airports = pd.DataFrame({"faa": ["LAX", "QQQ"], "tzone": ["America/Los_Angeles", None]}, dtype="string")
    zones = clock.zones_by_airport(airports)
    assert zones["LAX"] == "America/Los_Angeles"
    assert {zones[code] for code in ("BQN", "PSE", "SJU", "STT")} == {"America/Puerto_Rico"}
    assert "QQQ" not in zones


@pytest.mark.parametrize(
    ("instant", "zone", "changed"),
    [
        ("2013-03-10T07:03", "America/New_York", True),
        ("2013-03-10T06:59", "America/New_York", False),
        ("2013-03-10T20:00", "America/New_York", False),
        ("2013-11-03T06:30", "America/New_York", True),
        ("2013-03-10T07:03", "America/Puerto_Rico", False),
    ],
)
def test_it_knows_when_clocks_were_changed(instant: str, zone: str, changed: bool) -> None:
    found = clock.changed_before(
        pd.Series([pd.Timestamp(instant, tz="UTC")]),
        pd.Series([zone], dtype="string"),
        pd.Timedelta(hours=12),
    )
    assert found.tolist() == [changed]
