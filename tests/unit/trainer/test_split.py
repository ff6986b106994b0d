"""No row from the future in an earlier part."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import SplitAt
from trainer.split import micros, split_rows

_DAY = datetime(2024, 1, 1, tzinfo=UTC)
# Whole hours around the bounds, so that rows fall exactly on them.
_HOURS = st.integers(-10, 60)
_ROWS = st.lists(st.tuples(_HOURS, st.integers(0, 40)), max_size=50)


def _at(hours: int) -> datetime:
    return _DAY + timedelta(hours=hours)


@given(_ROWS, st.integers(0, 15), st.integers(1, 15), st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_row_whose_label_was_unknown_at_a_bound_is_before_it(
    rows: list[tuple[int, int]], valid_start: int, length: int, has_start: bool, has_end: bool
) -> None:
    test_start = valid_start + length
    at = SplitAt(
        train_start=_at(-5) if has_start else None,
        valid_start=_at(valid_start),
        test_start=_at(test_start),
        test_end=_at(test_start + 10) if has_end else None,
    )
    event = np.array([micros(_at(hour)) for hour, _ in rows], np.int64)
    known = np.array([micros(_at(hour + wait)) for hour, wait in rows], np.int64)
    split = split_rows(event, known, at)

    for place, (hour, wait) in enumerate(rows):
        in_train = (not has_start or hour >= -5) and hour < valid_start
        in_valid = valid_start <= hour < test_start
        in_test = hour >= test_start and (not has_end or hour < test_start + 10)
        assert split.train[place] == (in_train and hour + wait < valid_start)
        assert split.valid[place] == (in_valid and hour + wait < test_start)
        assert split.test[place] == in_test
    assert sum(split.counts().values()) == len(rows)
    assert not (split.train & split.valid | split.valid & split.test | split.train & split.test).any()


def test_bounds_are_moments_whatever_their_zone() -> None:
    new_york = datetime.fromisoformat("2013-10-01T00:00:00-04:00")
    assert micros(new_york) == micros(datetime(2013, 10, 1, 4, tzinfo=UTC))
    assert micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
