"""Features for the delay of flights out of New York, as Feast objects.

Two variables of the environment say where things are (see feature_store.yaml). Everything else is fixed here.

The ttl of a view of windows is its longest window. The tables hold a row for every moment a window changes,
also for its last event leaving (examples/flights/windows.py), so an older row has nothing more to say; and
when the rows stop coming, the online store stops answering instead of repeating the last state for ever."""

import os
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String, UnixTimestamp


def _folder(variable: str) -> Path:
    folder = os.environ.get(variable, "")
    if not Path(folder).is_absolute():
        raise RuntimeError(
            f"{variable} is {folder!r}; set it to an absolute path before using this repository"
        )
    return Path(folder)


_folder("PLUMBLINE_STATE")
DATA = _folder("PLUMBLINE_FLIGHTS_DATA")

origin = Entity(
    name="origin",
    join_keys=["origin"],
    value_type=ValueType.STRING,
    description="Airport of departure: EWR, JFK, LGA",
)
dest = Entity(
    name="dest", join_keys=["dest"], value_type=ValueType.STRING, description="Airport of arrival, IATA code"
)
carrier = Entity(
    name="carrier", join_keys=["carrier"], value_type=ValueType.STRING, description="Airline, IATA code"
)
flight_number = Entity(
    name="flight",
    join_keys=["flight"],
    value_type=ValueType.INT64,
    description="Flight number; means something only together with the carrier",
)
tail = Entity(
    name="tailnum",
    join_keys=["tailnum"],
    value_type=ValueType.STRING,
    description="Aircraft, registration mark",
)


def _table(name: str) -> FileSource:
    return FileSource(
        name=f"{name}_table",
        path=str(DATA / f"{name}.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )


def _windows(
    name: str, entities: list[Entity], prefix: str, mean: str, count: str, hours: list[int], description: str
) -> FeatureView:
    return FeatureView(
        name=name,
        entities=entities,
        ttl=timedelta(hours=max(hours)),
        schema=[
            field
            for window in hours
            for field in (
                Field(name=f"{prefix}_{mean}_{window}h", dtype=Float64),
                Field(name=f"{prefix}_{count}_{window}h", dtype=Int64),
            )
        ],
        source=_table(name),
        description=description,
    )


weather_push = PushSource(name="weather_push", batch_source=_table("weather"))

weather = FeatureView(
    name="weather",
    entities=[origin],
    # Readings come hourly; after six hours without one, the last is no longer the weather.
    ttl=timedelta(hours=6),
    schema=[
        Field(name="temp", dtype=Float64, description="Temperature, °F"),
        Field(name="dewp", dtype=Float64, description="Dew point, °F"),
        Field(name="humid", dtype=Float64, description="Relative humidity, %"),
        Field(name="wind_dir", dtype=Float64, description="Degrees"),
        Field(name="wind_speed", dtype=Float64, description="Miles per hour"),
        Field(name="wind_gust", dtype=Float64, description="Miles per hour; null without gusts"),
        Field(name="precip", dtype=Float64, description="Inches in the hour"),
        Field(name="pressure", dtype=Float64, description="Hectopascal at sea level"),
        Field(name="visib", dtype=Float64, description="Miles"),
    ],
    source=weather_push,
    description="The last hourly reading at the origin",
)

origin_departures = _windows(
    "origin_departures",
    [origin],
    "origin",
    "dep_delay_mean",
    "departures",
    [3, 24],
    "Mean departure delay (minutes) and departures at the origin",
)
carrier_origin_departures = _windows(
    "carrier_origin_departures",
    [carrier, origin],
    "carrier_origin",
    "dep_delay_mean",
    "departures",
    [6, 168],
    "Mean departure delay (minutes) and departures of the carrier at the origin",
)
carrier_arrivals = _windows(
    "carrier_arrivals",
    [carrier],
    "carrier",
    "late_rate",
    "arrivals",
    [24, 168],
    "Share of the carrier's arrivals more than 15 minutes late, and arrivals",
)
dest_arrivals = _windows(
    "dest_arrivals",
    [dest],
    "dest",
    "late_rate",
    "arrivals",
    [24, 168],
    "Share of arrivals at the destination more than 15 minutes late, and arrivals",
)
route_arrivals = _windows(
    "route_arrivals",
    [origin, dest],
    "route",
    "late_rate",
    "arrivals",
    [168, 720],
    "Share of the route's arrivals more than 15 minutes late, and arrivals",
)
flight_number_arrivals = _windows(
    "flight_number_arrivals",
    [carrier, flight_number],
    "flight_number",
    "late_rate",
    "arrivals",
    [720],
    "Share of the flight number's arrivals more than 15 minutes late, and arrivals",
)

tail_last_landed = FeatureView(
    name="tail_last_landed",
    entities=[tail],
    ttl=timedelta(days=30),
    schema=[
        Field(name="tail_last_arr_delay", dtype=Float64, description="Minutes"),
        Field(name="tail_last_landed_at", dtype=UnixTimestamp, description="When it landed"),
    ],
    source=_table("tail_last_landed"),
    description="The last landing of the aircraft, of a flight out of New York",
)

planes = FeatureView(
    name="planes",
    entities=[tail],
    ttl=timedelta(0),  # never expires
    schema=[
        Field(name="plane_year", dtype=Int64, description="Year of manufacture"),
        Field(name="plane_seats", dtype=Int64),
        Field(name="plane_engines", dtype=Int64),
        Field(name="plane_type", dtype=String),
        Field(name="plane_manufacturer", dtype=String),
        Field(name="plane_model", dtype=String),
        Field(name="plane_engine", dtype=String),
    ],
    source=_table("planes"),
    description="The register of aircraft",
)

schedule_request = RequestSource(
    name="schedule_request",
    schema=[
        Field(name="scheduled_departure", dtype=UnixTimestamp, description="UTC"),
        Field(name="scheduled_arrival_clock", dtype=Int64, description="Local HHMM at the destination: 1719"),
        Field(name="distance_miles", dtype=Int64),
    ],
)


# The fields of an on-demand view have no descriptions: Feast compares them, descriptions included, with what
# it infers from the function's output, and refuses the view when they differ.


@on_demand_feature_view(  # type: ignore[untyped-decorator]
    sources=[schedule_request],
    schema=[
        Field(name="sched_dep_minute", dtype=Int64),
        Field(name="sched_arr_minute", dtype=Int64),
        Field(name="sched_clock_minutes", dtype=Int64),
        Field(name="sched_weekday", dtype=Int64),
        Field(name="distance", dtype=Int64),
    ],
    mode="pandas",
    description="What the timetable says",
)
def schedule(inputs: pd.DataFrame) -> pd.DataFrame:
    # Int64 with a capital holds nulls: what a caller leaves out is missing, and spoils nobody else's row.
    local = pd.to_datetime(inputs["scheduled_departure"], utc=True).dt.tz_convert("America/New_York")
    arrival_clock = inputs["scheduled_arrival_clock"].astype("Int64")
    departs = local.dt.hour.astype("Int64") * 60 + local.dt.minute.astype("Int64")
    arrives = arrival_clock // 100 * 60 + arrival_clock % 100
    return pd.DataFrame(
        {
            "sched_dep_minute": departs,
            "sched_arr_minute": arrives,
            "sched_clock_minutes": (arrives - departs) % 1440,
            "sched_weekday": local.dt.dayofweek.astype("Int64") + 1,
            "distance": inputs["distance_miles"].astype("Int64"),
        }
    )


@on_demand_feature_view(  # type: ignore[untyped-decorator]
    sources=[schedule_request, tail_last_landed],
    schema=[Field(name="tail_idle_hours", dtype=Float64)],
    mode="pandas",
    description="How long the aircraft has been out of sight",
)
def tail_idle(inputs: pd.DataFrame) -> pd.DataFrame:
    departs = pd.to_datetime(inputs["scheduled_departure"], utc=True)
    landed = pd.to_datetime(inputs["tail_last_landed_at"], utc=True)
    return pd.DataFrame({"tail_idle_hours": (departs - landed).dt.total_seconds() / 3600})


# What the model reads. Left out on purpose: how many flights arrived lately and the air pressure (they follow
# the season more than the day, and made October worse), and the texts about planes (no gain over seats and
# year).
flight_delay_v1 = FeatureService(
    name="flight_delay_v1",
    features=[
        schedule,
        tail_idle,
        weather[["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "visib"]],
        planes[["plane_year", "plane_seats", "plane_engines"]],
        origin_departures,
        carrier_origin_departures[
            [
                "carrier_origin_dep_delay_mean_6h",
                "carrier_origin_departures_6h",
                "carrier_origin_dep_delay_mean_168h",
            ]
        ],
        carrier_arrivals[["carrier_late_rate_24h", "carrier_late_rate_168h"]],
        dest_arrivals[["dest_late_rate_24h", "dest_late_rate_168h"]],
        route_arrivals[["route_late_rate_168h", "route_late_rate_720h"]],
        flight_number_arrivals[["flight_number_late_rate_720h"]],
        tail_last_landed[["tail_last_arr_delay"]],
    ],
    description="Whether a flight arrives more than 15 minutes late, asked two hours before departure",
)
