"""Local clocks to instants.

The raw files tell times as local HHMM numbers (517 is 05:17, 2400 is midnight at the end of the day).
Everything here returns zone-aware UTC."""

from __future__ import annotations

import numpy as np
import pandas as pd

ORIGIN_ZONE = "America/New_York"

# airports.csv lists the United States proper; flights from New York also go to Puerto Rico and the Virgin
# Islands, which share one zone without daylight saving.
CARIBBEAN_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")

# A scheduled arrival is looked for on the day of departure and the two after: nothing flies longer than a
# day, and the destination's date may be behind or ahead by one.
_ARRIVAL_DAYS = (0, 1, 2)


def minute_of_day(hhmm: pd.Series) -> pd.Series:
    """Minutes since local midnight of an HHMM clock; 2400 is 1440. NaN where the clock is missing or no clock
    at all (hour above 24, minute above 59, after 24:00, a fraction)."""
    hours, minutes = hhmm // 100, hhmm % 100
    total = hours * 60 + minutes
    real = (hhmm >= 0) & (hhmm == np.floor(hhmm)) & (minutes < 60) & (total <= 24 * 60)
    return total.where(real)


def zones_by_airport(airports: pd.DataFrame) -> dict[str, str]:
    """The time zone of every airport that has one, from ``faa`` and ``tzone`` plus the four Caribbean
    airports."""
    known = airports.dropna(subset=["faa", "tzone"])
    return CARIBBEAN_ZONES | dict(zip(known["faa"], known["tzone"], strict=True))


def first_instant_after(departure: pd.Series, hhmm: pd.Series, zone: pd.Series) -> pd.Series:
    """The first instant after ``departure`` at which the clock in ``zone`` shows ``hhmm``.

    This is what a scheduled arrival means: the local clock at the destination, of a day nobody wrote down. A
    clock that shows the same time twice (the night daylight saving ends) means the earlier one that is still
    after departure; a clock that is skipped (the night it begins) does not happen that day. NaT where an
    input is missing.

    ``departure``: UTC. ``hhmm``: local clock. ``zone``: IANA names. All of one index, which the result has
    too."""
    minutes = minute_of_day(hhmm)
    result = np.full(len(departure), np.datetime64("NaT", "us"), dtype="datetime64[us]")
    usable = departure.notna() & minutes.notna() & zone.notna()
    for name in zone[usable].unique():
        rows = np.flatnonzero((usable & (zone == name)).to_numpy())
        result[rows] = _first_after(departure.iloc[rows], minutes.iloc[rows], str(name))
    return pd.Series(result, index=departure.index).dt.tz_localize("UTC")


def _first_after(departure: pd.Series, minutes: pd.Series, zone: str) -> np.ndarray:
    instants = departure.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    midnight = departure.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
    clock = pd.to_timedelta(minutes, unit="min")
    best = np.full(len(instants), np.datetime64("NaT", "us"), dtype="datetime64[us]")
    for days in _ARRIVAL_DAYS:
        wall = pd.DatetimeIndex(midnight + pd.Timedelta(days=days) + clock)
        for earlier in (True, False):
            local = wall.tz_localize(zone, ambiguous=np.full(len(wall), earlier), nonexistent="NaT")
            candidate = local.tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[us]")
            # Comparisons with NaT are false, so a missing candidate never wins and a missing best always
            # loses.
            better = (candidate > instants) & ~(best <= candidate)
            best = np.where(better, candidate, best)
    return best


def clock_shown(instant: pd.Series, zone: pd.Series) -> pd.Series:
    """Minutes since midnight on the local clock at ``instant``; NaN where either is missing."""
    shown = np.full(len(instant), np.nan)
    usable = instant.notna() & zone.notna()
    for name in zone[usable].unique():
        rows = np.flatnonzero((usable & (zone == name)).to_numpy())
        local = instant.iloc[rows].dt.tz_convert(str(name))
        shown[rows] = local.dt.hour * 60 + local.dt.minute
    return pd.Series(shown, index=instant.index)


def changed_before(instant: pd.Series, zone: pd.Series, within: pd.Timedelta) -> pd.Series:
    """Whether the clocks of ``zone`` were changed in the time ``within`` before ``instant``; false where an
    input is missing."""
    moved = (clock_shown(instant, zone) - clock_shown(instant - within, zone)) % 1440
    return moved.notna() & moved.ne(within.total_seconds() / 60 % 1440)
