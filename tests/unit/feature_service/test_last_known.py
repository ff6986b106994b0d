"""Which row answers, found by sorting, against looking at every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_service.domain import KnownAt
from feature_service.stores.last_known import NO_TIME, EntityTimes, Ints, SourceTimes, Tied, last_known

#: Number of the key, event and created time.
Row: TypeAlias = tuple[int, int, int]

KEYS = st.integers(0, 1)
#: As far apart as times can be: (key, time) does not fit in an integer then.
FAR = [-(2**62), 0, 1, 2**62]
MOMENTS = {"near": st.integers(-2, 4), "far": st.sampled_from(FAR)}


def ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)


def entities_of(rows: Sequence[tuple[int, int]], total: int | None = None) -> EntityTimes:
    keys, times = ints([key for key, _ in rows]), ints([time for _, time in rows])
    return EntityTimes.of(keys, times, np.arange(len(rows)), len(rows) if total is None else total)


def source_of(rows: Sequence[Row], *, created: bool = True) -> SourceTimes:
    keys, events, known = (ints([row[i] for row in rows]) for i in range(3))
    return SourceTimes(keys, events, known if created else None)


def candidates(rows: Sequence[Row], key: int, moment: int, known_at: KnownAt) -> list[int]:
    """The rows that answer but for the ttl: several when more than times decides."""
    cutoff = known_at is KnownAt.CREATED_BY_THEN
    found = [
        i
        for i, (of, event, created) in enumerate(rows)
        if of == key and event <= moment and (created <= moment or not cutoff)
    ]
    best = max((rows[i][1:] for i in found), default=None)
    return [i for i in found if rows[i][1:] == best]


@pytest.mark.parametrize("apart", ["near", "far"])
@settings(max_examples=600)
@given(
    data=st.data(), known_at=st.sampled_from(KnownAt), ttl=st.none() | st.sampled_from([0, 1, 2**62, 2**70])
)
def test_it_is_the_greatest_row_known(
    apart: str, data: st.DataObject, known_at: KnownAt, ttl: int | None
) -> None:
    moments = MOMENTS[apart]
    rows = data.draw(st.lists(st.tuples(KEYS, moments, st.just(NO_TIME) | moments), max_size=8))
    asked = data.draw(st.lists(st.tuples(KEYS, moments), min_size=1, max_size=4))
    last = max(moment for _, moment in asked)
    keys = {key for key, _ in asked}
    cutoff = known_at is KnownAt.CREATED_BY_THEN
    rows = [row for row in rows if row[0] in keys and max(row[1], row[2] if cutoff else row[1]) <= last]
    found = last_known(source_of(rows), entities_of(asked), known_at, ttl)
    expected = [candidates(rows, key, moment, known_at) for key, moment in asked]
    if isinstance(found, Tied):
        groups = list(zip(found.keys.tolist(), found.known.tolist(), strict=True))
        assert len(set(groups)) == len(groups)
        tied = {
            (rows[best[0]][0], max(rows[best[0]][1:]) if cutoff else rows[best[0]][1])
            for best in expected
            if len(best) > 1
        }
        assert set(groups) == tied
        return
    assert all(len(best) <= 1 for best in expected)
    for row, best, (_, moment) in zip(found.tolist(), expected, asked, strict=True):
        alive = [i for i in best if ttl is None or rows[i][1] >= moment - ttl]
        assert [row] == (alive or [-1])


def test_rows_without_keys_are_answered_by_none() -> None:
    found = last_known(
        source_of([(0, 1, 1)]), entities_of([(0, 2)], total=3), KnownAt.CREATED_BY_THEN, ttl_micros=None
    )
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0, -1, -1]


def test_without_created_times_all_ties_are_told() -> None:
    rows = [(0, 1, 5), (0, 1, 6), (1, 1, 1), (1, 0, 0)]
    found = last_known(
        source_of(rows, created=False), entities_of([(0, 2), (0, 3), (1, 2)]), KnownAt.CREATED_BY_THEN, None
    )
    assert isinstance(found, Tied)
    assert (found.keys.tolist(), found.known.tolist()) == ([0], [1])


@pytest.mark.parametrize(("ttl", "answers"), [(0, False), (2**63 - 1, False), (2**63, True), (2**70, True)])
def test_an_age_may_be_more_than_an_int64_holds(ttl: int, answers: bool) -> None:
    rows, asked = source_of([(0, -(2**62), NO_TIME)]), entities_of([(0, 2**62)])
    found = last_known(rows, asked, KnownAt.IGNORE_CREATED, ttl)
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0 if answers else -1]
