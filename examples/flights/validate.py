"""What the raw files may contain, and what becomes of a row that does not.

A fault in what identifies or times a row refuses the row. A fault in one measurement of an otherwise sound
row empties that value (a repair). Either way the row as it came is set aside with the reason; nothing is
dropped in silence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from examples.flights import clock

ORIGINS = ("EWR", "JFK", "LGA")

# The strongest surface wind ever measured was 253 mph; the files contain one of 1,048.
MAX_WIND_MPH = 253.0
# What the fields can be at all, in the files' units (°F, °F, %, degrees, mph, mph, inches, hPa, miles).
WEATHER_RANGES = {
    "temp": (-80.0, 140.0),
    "dewp": (-100.0, 100.0),
    "humid": (0.0, 100.0),
    "wind_dir": (0.0, 360.0),
    "wind_speed": (0.0, MAX_WIND_MPH),
    "wind_gust": (0.0, MAX_WIND_MPH),
    "precip": (0.0, 20.0),
    "pressure": (850.0, 1100.0),
    "visib": (0.0, 100.0),
}
# How long after daylight saving begins or ends a recorded clock may still be the old one.
CLOCKS_SET_WITHIN = pd.Timedelta(hours=12)
FLIGHT_KEY = ["time_hour", "carrier", "flight", "origin"]


@dataclass(frozen=True)
class Judged:
    """``accepted`` keeps the columns of the input (faulty measurements emptied) and adds ``departure_hour``
    or, for weather, ``observed_hour`` in UTC. ``aside`` is the rows at fault as they came, with ``action``
    (refused, repaired) and ``reason``; a row with several faults is refused for the first and repaired once
    for each."""

    accepted: pd.DataFrame
    aside: pd.DataFrame


class _Verdicts:
    """Collects reasons row by row; the first refusal of a row stands."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows
        self._refused = pd.Series(pd.NA, index=rows.index, dtype="string")
        self._repaired: list[pd.DataFrame] = []

    def refuse(self, fault: pd.Series, reason: str) -> None:
        self._refused = self._refused.mask(self._refused.isna() & fault.fillna(False).astype(bool), reason)

    def standing(self) -> pd.Series:
        return self._refused.isna()

    def repair(self, fault: pd.Series, reason: str) -> pd.Series:
        """Marks the rows and returns those really at fault (and not refused)."""
        at_fault = fault.fillna(False).astype(bool) & self.standing()
        self._repaired.append(self._rows[at_fault].assign(action="repaired", reason=reason))
        return at_fault

    def judged(self, accepted: pd.DataFrame) -> Judged:
        refused = self._rows[~self.standing()].assign(
            action="refused", reason=self._refused[~self.standing()]
        )
        aside = [part for part in (refused, *self._repaired) if len(part)]
        return Judged(
            accepted[self.standing()].reset_index(drop=True),
            pd.concat(aside, ignore_index=True) if aside else refused,
        )


def flights(raw: pd.DataFrame, zone: dict[str, str]) -> Judged:
    """Judges flights. Adds ``departure_hour`` (UTC, from ``time_hour``) and ``dest_zone``.

    Cancelled and diverted flights are sound rows: they lack outcomes, not sense.
    """
    verdicts = _Verdicts(raw)
    hour = pd.to_datetime(raw["time_hour"], utc=True, errors="coerce", format="ISO8601").dt.as_unit("us")
    for column in ("carrier", "flight", "origin", "dest"):
        verdicts.refuse(raw[column].isna(), f"{column} is missing")
    verdicts.refuse(hour.isna(), "time_hour is missing or no time")
    verdicts.refuse(~raw["origin"].isin(ORIGINS), "origin is none of EWR, JFK, LGA")
    dest_zone = raw["dest"].map(zone).astype("string")
    verdicts.refuse(dest_zone.isna(), "the destination's time zone is not known")
    verdicts.refuse(~raw["distance"].gt(0), "distance is not positive")
    for column in ("sched_dep_time", "sched_arr_time"):
        verdicts.refuse(clock.minute_of_day(raw[column]).isna(), f"{column} is missing or no clock time")
    for column in ("dep_time", "arr_time"):
        no_clock = raw[column].notna() & clock.minute_of_day(raw[column]).isna()
        verdicts.refuse(no_clock, f"{column} is no clock time")
    local = hour.dt.tz_convert(clock.ORIGIN_ZONE)
    same_hour = (
        local.dt.year.eq(raw["year"])
        & local.dt.month.eq(raw["month"])
        & local.dt.day.eq(raw["day"])
        & local.dt.hour.eq(raw["hour"])
        & (clock.minute_of_day(raw["sched_dep_time"]) % 1440).eq(raw["hour"] * 60 + raw["minute"])
    )
    verdicts.refuse(~same_hour.fillna(False).astype(bool), "the local date and clock disagree with time_hour")
    verdicts.refuse(raw["dep_delay"].isna() & raw["arr_delay"].notna(), "arrived without having departed")
    verdicts.refuse(
        raw.duplicated(FLIGHT_KEY), "a flight with this hour, carrier, number and origin came before"
    )
    return verdicts.judged(raw.assign(departure_hour=hour, dest_zone=dest_zone))


def flight_times(timed: pd.DataFrame) -> Judged:
    """Judges flights whose instants have been worked out (``tables.timed_flights``): clocks against delays.

    The instants come from the delays. A recorded arrival clock may be an hour off within half a day of
    daylight saving beginning or ending, because clocks are not always set in time (one flight of 2013, which
    landed at West Palm Beach in the night of 10 March): that is a repair, not a refusal."""
    verdicts = _Verdicts(timed)
    origin_zone = pd.Series(clock.ORIGIN_ZONE, index=timed.index, dtype="string")
    verdicts.refuse(
        _clock_gap(timed["dep_time"], timed["departed_at"], origin_zone).gt(0),
        "dep_time disagrees with sched_dep_time and dep_delay",
    )
    gap = _clock_gap(timed["arr_time"], timed["arrived_at"], timed["dest_zone"])
    old_clock = gap.eq(60) & clock.changed_before(timed["arrived_at"], timed["dest_zone"], CLOCKS_SET_WITHIN)
    verdicts.refuse(gap.gt(0) & ~old_clock, "arr_time disagrees with sched_arr_time and arr_delay")
    minutes = (timed["arrived_at"] - timed["departed_at"]).dt.total_seconds() / 60
    verdicts.refuse(minutes.le(0), "arrived before it departed")
    verdicts.refuse(minutes.lt(timed["air_time"]), "in the air for longer than between departure and arrival")
    verdicts.repair(
        old_clock, "arr_time told by the clock before daylight saving changed: the delay was used"
    )
    return verdicts.judged(timed)


def _clock_gap(hhmm: pd.Series, instant: pd.Series, zone: pd.Series) -> pd.Series:
    """Minutes between a recorded clock and the clock shown at an instant, the short way round midnight."""
    gap = (clock.minute_of_day(hhmm) - clock.clock_shown(instant, zone)).abs() % 1440
    return pd.Series(np.minimum(gap, 1440 - gap), index=hhmm.index)


def weather(raw: pd.DataFrame) -> Judged:
    """Judges weather. Adds ``observed_hour`` (UTC, from ``time_hour``); values out of range are emptied."""
    verdicts = _Verdicts(raw)
    hour = pd.to_datetime(raw["time_hour"], utc=True, errors="coerce", format="ISO8601").dt.as_unit("us")
    verdicts.refuse(~raw["origin"].isin(ORIGINS), "origin is none of EWR, JFK, LGA")
    verdicts.refuse(hour.isna(), "time_hour is missing or no time")
    local = hour.dt.tz_convert(clock.ORIGIN_ZONE)
    same_hour = local.dt.month.eq(raw["month"]) & local.dt.day.eq(raw["day"]) & local.dt.hour.eq(raw["hour"])
    verdicts.refuse(~same_hour.fillna(False).astype(bool), "the local date and hour disagree with time_hour")
    verdicts.refuse(raw.duplicated(["origin", "time_hour"]), "a reading of this origin and hour came before")
    accepted = raw.assign(observed_hour=hour)
    for column, (low, high) in WEATHER_RANGES.items():
        outside = raw[column].notna() & ~raw[column].between(low, high)
        at_fault = verdicts.repair(outside, f"{column} outside {low:g} to {high:g}: emptied")
        accepted[column] = accepted[column].mask(at_fault)
    return verdicts.judged(accepted)


def planes(raw: pd.DataFrame) -> Judged:
    """Judges planes: one row per tail number; a year or a number of seats or engines that cannot be is
    emptied."""
    verdicts = _Verdicts(raw)
    verdicts.refuse(raw["tailnum"].isna(), "tailnum is missing")
    verdicts.refuse(raw.duplicated("tailnum"), "a plane with this tail number came before")
    accepted = raw.copy()
    for column, (low, high) in {"year": (1903, 2013), "engines": (1, 8), "seats": (1, 900)}.items():
        outside = raw[column].notna() & ~raw[column].between(low, high)
        at_fault = verdicts.repair(outside, f"{column} outside {low} to {high}: emptied")
        accepted[column] = accepted[column].mask(at_fault)
    return verdicts.judged(accepted)
