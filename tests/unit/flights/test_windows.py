from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.flights.windows import WindowRows, window_rows

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 60), st.integers(-9, 9)), max_size=25)
WINDOWS = st.lists(st.integers(1, 40), min_size=1, max_size=3)


def _rows(events: list[tuple[int, int, int]], windows: list[int]) -> WindowRows:
    columns = np.array(events, np.int64).reshape(-1, 3)
    return window_rows(columns[:, 0], columns[:, 1], {"value": columns[:, 2]}, windows)


def _as_read(rows: WindowRows, key: int, moment: int, window: int) -> tuple[int, int]:
    """What a feature store answers: the newest row at or before the moment."""
    eligible = np.flatnonzero((rows.key == key) & (rows.moment <= moment))
    if not eligible.size:
        return 0, 0
    newest = eligible[np.argmax(rows.moment[eligible])]
    return int(rows.counts[window][newest]), int(rows.sums[window]["value"][newest])


@settings(deadline=None)  # the machine may be busy
@given(events=EVENTS, windows=WINDOWS)
def test_the_newest_row_is_the_window_at_every_moment(
    events: list[tuple[int, int, int]], windows: list[int]
) -> None:
    rows = _rows(events, windows)
    for key in range(4):
        for moment in range(-52, 105):
            for place, window in enumerate(windows):
                inside = [v for k, at, v in events if k == key and moment - window < at <= moment]
                assert _as_read(rows, key, moment, place) == (len(inside), sum(inside))


@settings(deadline=None)  # the machine may be busy
@given(events=EVENTS, windows=WINDOWS)
def test_rows_are_ordered_and_only_at_moments_of_change(
    events: list[tuple[int, int, int]], windows: list[int]
) -> None:
    rows = _rows(events, windows)
    found = list(zip(rows.key.tolist(), rows.moment.tolist(), strict=True))
    assert found == sorted(set(found))
    assert set(found) == {(k, at + shift) for k, at, _ in events for shift in (0, *windows)}


def test_an_event_leaves_the_window_exactly_one_window_later() -> None:
    rows = _rows([(0, 10, 5)], [3])
    assert rows.moment.tolist() == [10, 13]
    assert rows.counts[0].tolist() == [1, 0]
    assert rows.sums[0]["value"].tolist() == [5, 0]


def test_microseconds_of_a_year_and_thousands_of_keys_fit() -> None:
    year = 365 * 86_400_000_000
    epoch = 1_357_000_000_000_000
    rows = window_rows(np.array([0, 10_000]), np.array([epoch, epoch + year]), {}, [30 * 86_400_000_000])
    assert rows.moment.tolist() == [
        epoch,
        epoch + 30 * 86_400_000_000,
        epoch + year,
        epoch + year + 30 * 86_400_000_000,
    ]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowError, match="do not fit"):
        window_rows(np.array([0, 2**40]), np.array([0, 2**40]), {}, [1])
