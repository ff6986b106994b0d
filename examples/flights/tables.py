"""From judged rows to feature tables and entity rows.

Every feature table has ``event_timestamp``: the moment its row became available, never earlier than any fact
it is made of. ``created_timestamp`` equals it: history is loaded as if each row had been written the moment
it was known, because that is what a running system would have had; the time of this load would make all of
2013 unknown until now.

Times are UTC with microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from examples.flights import clock, windows

LATE_MINUTES = 15
CUTOFF_BEFORE_DEPARTURE = pd.Timedelta(hours=2)
# A reading is the first of its hour that was taken by minute 51; the file tells only the hour. It is
# complete, and so available, at the hour's end.
WEATHER_AVAILABLE_AFTER = pd.Timedelta(hours=1)
# The register of planes has no history. It is taken as known from the day before the first flight.
PLANES_KNOWN_FROM = pd.Timestamp("2012-12-31", tz="UTC")

_HOUR = 3_600_000_000  # microseconds

Table = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class WindowTable:
    """A table of moving windows: which flights count, by which keys, when they are known, and what is
    averaged."""

    keys: tuple[str, ...]
    prefix: str
    hours: tuple[int, ...]
    on_arrival: bool

    def columns(self) -> list[str]:
        return [name for hours in self.hours for name in self._names(hours)]

    def _names(self, hours: int) -> tuple[str, ...]:
        if self.on_arrival:
            return (f"{self.prefix}_late_rate_{hours}h", f"{self.prefix}_arrivals_{hours}h")
        return (f"{self.prefix}_dep_delay_mean_{hours}h", f"{self.prefix}_departures_{hours}h")

    def build(self, flights: pd.DataFrame) -> pd.DataFrame:
        known_at = "arrived_at" if self.on_arrival else "departed_at"
        events = flights[flights[known_at].notna()]
        if self.on_arrival:
            value = np.asarray(events["arr_delay"] > LATE_MINUTES, dtype=np.int64)
        else:
            value = np.asarray(events["dep_delay"], dtype=np.int64)
        groups = events.groupby(list(self.keys), sort=True)
        codes = np.asarray(groups.ngroup(), dtype=np.int64)
        rows = windows.window_rows(
            codes, _micros(events[known_at]), {"value": value}, [hours * _HOUR for hours in self.hours]
        )
        first = np.unique(codes, return_index=True)[1]
        columns: dict[str, object] = {key: events[key].iloc[first].array.take(rows.key) for key in self.keys}
        for hours, count, sums in zip(self.hours, rows.counts, rows.sums, strict=True):
            mean_name, count_name = self._names(hours)
            # An empty window has no mean: null, not zero.
            mean = np.divide(sums["value"], count, out=np.full(len(count), np.nan), where=count > 0)
            columns[mean_name] = mean
            columns[count_name] = count
        return _stamped(pd.DataFrame(columns), _instants(rows.moment))


WINDOW_TABLES: Mapping[str, WindowTable] = {
    "origin_departures": WindowTable(("origin",), "origin", (3, 24), on_arrival=False),
    "carrier_origin_departures": WindowTable(
        ("carrier", "origin"), "carrier_origin", (6, 168), on_arrival=False
    ),
    "carrier_arrivals": WindowTable(("carrier",), "carrier", (24, 168), on_arrival=True),
    "dest_arrivals": WindowTable(("dest",), "dest", (24, 168), on_arrival=True),
    "route_arrivals": WindowTable(("origin", "dest"), "route", (168, 720), on_arrival=True),
    "flight_number_arrivals": WindowTable(("carrier", "flight"), "flight_number", (720,), on_arrival=True),
}


def timed_flights(flights: pd.DataFrame) -> pd.DataFrame:
    """Adds instants to judged flights: ``scheduled_departure``, ``scheduled_arrival``, ``departed_at`` and
    ``arrived_at`` (NaT when it did not)."""
    scheduled = flights["departure_hour"] + pd.to_timedelta(flights["minute"], unit="min")
    arrival = clock.first_instant_after(scheduled, flights["sched_arr_time"], flights["dest_zone"])
    return flights.assign(
        scheduled_departure=scheduled.dt.as_unit("us"),
        scheduled_arrival=arrival.dt.as_unit("us"),
        departed_at=(scheduled + pd.to_timedelta(flights["dep_delay"], unit="min")).dt.as_unit("us"),
        arrived_at=(arrival + pd.to_timedelta(flights["arr_delay"], unit="min")).dt.as_unit("us"),
    )


def weather_table(weather: pd.DataFrame) -> pd.DataFrame:
    """One row per origin and hour, known when the hour is over."""
    values = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    ordered = weather.sort_values(["origin", "observed_hour"], ignore_index=True)
    return _stamped(ordered[["origin", *values]], ordered["observed_hour"] + WEATHER_AVAILABLE_AFTER)


def tail_table(flights: pd.DataFrame) -> pd.DataFrame:
    """The landing of each aircraft, known when it lands. Landings of one tail in the same minute keep one
    row."""
    landed = flights[flights["arrived_at"].notna() & flights["tailnum"].notna()]
    landed = landed.sort_values(["tailnum", "arrived_at", "scheduled_departure", "flight"])
    landed = landed.drop_duplicates(["tailnum", "arrived_at"], keep="last").reset_index(drop=True)
    values = pd.DataFrame(
        {
            "tailnum": landed["tailnum"],
            "tail_last_arr_delay": landed["arr_delay"],
            "tail_last_landed_at": landed["arrived_at"],
        }
    )
    return _stamped(values, landed["arrived_at"])


def planes_table(planes: pd.DataFrame) -> pd.DataFrame:
    """One row per tail number. ``speed`` (99 % missing) is left out."""
    ordered = planes.sort_values("tailnum", ignore_index=True)
    names = {
        name: f"plane_{name}"
        for name in ("year", "seats", "engines", "type", "manufacturer", "model", "engine")
    }
    values = ordered[["tailnum", *names]].rename(columns=names)
    return _stamped(values, pd.Series(PLANES_KNOWN_FROM, index=values.index))


@dataclass(frozen=True)
class EntityRows:
    """``eligible``: the flights with a label. ``ineligible``: the others, with the reason (cancelled,
    diverted)."""

    eligible: pd.DataFrame
    ineligible: pd.DataFrame


def entity_rows(flights: pd.DataFrame) -> EntityRows:
    """One row per flight, at the moment it is scored: two hours before scheduled departure.

    ``flight_id`` is carrier and number, origin and scheduled hour (UTC), which together are unique:
    ``AA1029/JFK/2013-12-31T00Z``. ``late`` is 1 when it arrived more than 15 minutes late, known at
    ``label_timestamp``. Ordered by ``event_timestamp``, then ``flight_id``."""
    hour = np.datetime_as_string(_naive(flights["departure_hour"]), unit="h")
    number = flights["flight"].astype("string")
    identity = (
        flights["carrier"] + number + "/" + flights["origin"] + "/" + pd.Series(hour, flights.index) + "Z"
    )
    rows = pd.DataFrame(
        {
            "flight_id": identity.astype("string"),
            "event_timestamp": flights["scheduled_departure"] - CUTOFF_BEFORE_DEPARTURE,
            "carrier": flights["carrier"],
            "flight": flights["flight"].astype("int64"),
            "tailnum": flights["tailnum"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "scheduled_departure": flights["scheduled_departure"],
            "scheduled_arrival_clock": flights["sched_arr_time"].astype("int64"),
            "distance_miles": flights["distance"].astype("int64"),
            "late": flights["arr_delay"].gt(LATE_MINUTES).astype("int64"),
            "label_timestamp": flights["arrived_at"],
        }
    )
    reason = pd.Series("diverted", index=flights.index).mask(flights["departed_at"].isna(), "cancelled")
    order = rows.sort_values(["event_timestamp", "flight_id"]).index
    rows, reason = rows.loc[order], reason.loc[order]
    labelled = rows["label_timestamp"].notna()
    unlabelled = rows[~labelled].drop(columns=["late", "label_timestamp"])
    return EntityRows(
        rows[labelled].reset_index(drop=True),
        unlabelled.assign(reason=reason[~labelled]).reset_index(drop=True),
    )


def _stamped(values: pd.DataFrame, available_at: pd.Series) -> pd.DataFrame:
    at = available_at.dt.as_unit("us")
    return values.assign(event_timestamp=at, created_timestamp=at)


def _naive(instants: pd.Series) -> np.ndarray:
    return np.asarray(instants.dt.tz_convert("UTC").dt.tz_localize(None), dtype="datetime64[us]")


def _micros(instants: pd.Series) -> windows.Ints:
    return _naive(instants).astype(np.int64)


def _instants(micros: windows.Ints) -> pd.Series:
    return pd.Series(micros.astype("datetime64[us]")).dt.tz_localize("UTC")


def feature_tables(
    flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """All feature tables by view name, from timed flights, judged weather and judged planes."""
    tables = {name: table.build(flights) for name, table in WINDOW_TABLES.items()}
    return {
        "weather": weather_table(weather),
        **tables,
        "tail_last_landed": tail_table(flights),
        "planes": planes_table(planes),
    }
