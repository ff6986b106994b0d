"""Raw rows as the files have them, sound unless told otherwise."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from examples.flights import clock, tables, validate

NEW_YORK = ZoneInfo("America/New_York")
ZONES = {
    "LAX": "America/Los_Angeles",
    "BOS": "America/New_York",
    "ORD": "America/Chicago",
    "SJU": "America/Puerto_Rico",
}

_TEXT = ("carrier", "tailnum", "origin", "dest", "time_hour")
_WHOLE = ("year", "month", "day", "flight")


def flight(
    scheduled: str,
    *,
    dep_delay: float | None = 0,
    arr_delay: float | None = 0,
    minutes: int = 60,
    dest: str = "BOS",
    **changes: Any,
) -> dict[str, Any]:
    """A flight scheduled to leave at ``scheduled`` (UTC) and to take ``minutes``; its clocks agree."""
    departure = pd.Timestamp(scheduled, tz="UTC")
    arrival = departure + pd.Timedelta(minutes=minutes)
    local = departure.tz_convert(NEW_YORK)
    departed = None if dep_delay is None else departure + pd.Timedelta(minutes=dep_delay)
    arrived = None if arr_delay is None else arrival + pd.Timedelta(minutes=arr_delay)
    row = {
        "year": local.year,
        "month": local.month,
        "day": local.day,
        "dep_time": None if departed is None else _hhmm(departed.tz_convert(NEW_YORK)),
        "sched_dep_time": _hhmm(local),
        "dep_delay": dep_delay,
        "arr_time": None if arrived is None else _hhmm(arrived.tz_convert(ZONES[dest])),
        "sched_arr_time": _hhmm(arrival.tz_convert(ZONES[dest])),
        "arr_delay": arr_delay,
        "carrier": "UA",
        "flight": 1,
        "tailnum": "N1",
        "origin": "JFK",
        "dest": dest,
        "air_time": None if arr_delay is None else 1,
        "distance": 187,
        "hour": local.hour,
        "minute": local.minute,
        "time_hour": departure.floor("h").strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return row | changes


def reading(hour: str, **changes: Any) -> dict[str, Any]:
    """A sound weather reading of the hour that begins at ``hour`` (UTC)."""
    instant = pd.Timestamp(hour, tz="UTC")
    local = instant.tz_convert(NEW_YORK)
    row = {
        "origin": "JFK",
        "year": local.year,
        "month": local.month,
        "day": local.day,
        "hour": local.hour,
        "temp": 50.0,
        "dewp": 40.0,
        "humid": 60.0,
        "wind_dir": 270.0,
        "wind_speed": 10.0,
        "wind_gust": None,
        "precip": 0.0,
        "pressure": 1010.0,
        "visib": 10.0,
        "time_hour": instant.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return row | changes


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as the reader types them."""
    types = {
        name: "string" if name in _TEXT else "Int64" if name in _WHOLE else "float64" for name in rows[0]
    }
    return pd.DataFrame(rows).astype(types)


def timed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows judged and timed; every one must be accepted."""
    judged = validate.flights(frame(rows), clock.CARIBBEAN_ZONES | ZONES)
    assert len(judged.accepted) == len(rows), judged.aside["reason"].tolist()
    return tables.timed_flights(judged.accepted)


def _hhmm(local: pd.Timestamp) -> int:
    # The files write midnight as 2400.
    return 2400 if local.hour == local.minute == 0 else local.hour * 100 + local.minute
