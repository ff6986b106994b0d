"""Which row of a source answers each entity row, found by sorting integers.

What a join has to give is said in `asof_sql`, and why only the frontier counts in `join_sql`: here is the
same on arrays. A key is a number, so that (key, time) is one integer; numpy sorts and looks up a million of
them in a few hundredths of a second, a tenth of what DuckDB's ASOF JOIN takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_service.domain import KnownAt

Ints = npt.NDArray[np.int64]

#: In place of a time that is null: least, as nulls are in the order of created times.
NO_TIME = np.iinfo(np.int64).min
_BEYOND = 2**63


@dataclass(frozen=True)
class EntityTimes:
    """Entity rows whose keys are not null, by (key, time).

    keys: their numbers, from 0 on; times: int64 µs; rows: which of the entity rows each is; total: how many
    entity rows there are, with those of null keys.
    """

    keys: Ints
    times: Ints
    rows: Ints
    total: int

    @classmethod
    def of(cls, keys: Ints, times: Ints, rows: Ints, total: int) -> EntityTimes:
        """From rows in any order."""
        if len(keys):
            moments, _, width = _small(times, times[:0], int(keys.max()) + 1)
            moments += keys * width
            order = np.argsort(moments)
            keys, times, rows = keys[order], times[order], rows[order]
        return cls(keys, times, rows, total)


@dataclass(frozen=True)
class SourceTimes:
    """Rows of a source: numbers of their keys, event and created times (int64 µs, NO_TIME for null).

    created None: the source has no such times. All keys are among those of the entity rows.
    """

    keys: Ints
    events: Ints
    created: Ints | None


@dataclass(frozen=True)
class Tied:
    """Groups of rows that agree in key, known and created time, where more than that decides: which answers
    depends on it. Each once, as the number of the key and the known time."""

    keys: Ints
    known: Ints


def last_known(
    source: SourceTimes, entities: EntityTimes, known_at: KnownAt, ttl_micros: int | None
) -> Ints | Tied:
    """For each entity row the row of the source that answers it, -1 for none.

    All rows of the source are known by the last entity row.
    """
    answer = np.full(entities.total, -1)
    if not len(source.keys) or not len(entities.keys):
        return answer
    places, starts, codes, order = _frontier(source, entities, known_at)
    found = np.searchsorted(codes, places, "right") - 1
    some = np.flatnonzero((found >= 0) & (codes[found] >= starts))
    found = found[some]
    tied = _settle(codes, order, found, source.created)
    if len(tied):
        return Tied(source.keys[tied], _known(source, known_at)[tied])
    rows = order[found]
    if ttl_micros is not None:
        # Never negative: a row that answers is not later. Without a sign, the greatest ages fit as well.
        age = (entities.times[some] - source.events[rows]).view(np.uint64)
        alive = age <= min(ttl_micros, 2**64 - 1)
        some, rows = some[alive], rows[alive]
    answer[entities.rows[some]] = rows
    return answer


def _known(source: SourceTimes, known_at: KnownAt) -> Ints:
    if known_at is KnownAt.IGNORE_CREATED or source.created is None:
        return source.events
    return np.maximum(source.events, source.created)


def _frontier(source: SourceTimes, entities: EntityTimes, known_at: KnownAt) -> tuple[Ints, Ints, Ints, Ints]:
    """Where each entity row comes among the rows of the frontier, and where its key begins; the frontier as
    sorted integers of (key, known), and which row each is."""
    keys = int(entities.keys[-1]) + 1
    known = _known(source, known_at)
    cutoff = known is not source.events
    known, places, width = _small(known, entities.times, keys)
    starts = entities.keys * width
    places += starts
    codes = source.keys * width
    codes += known
    del known  # with many rows, each such array is much memory
    order = np.argsort(codes)
    codes = codes[order]
    if cutoff:
        events, _, width = _small(source.events, entities.times[:0], keys)
        events += source.keys * width
        events = events[order]
        # Keys ascend, so that the greatest so far is that of the key.
        newest = np.maximum.accumulate(events)
        last = np.append(codes[1:] != codes[:-1], True)
        if not last.all():  # known at one time, they count as one
            ends = np.flatnonzero(last)
            newest = np.repeat(newest[ends], np.diff(ends, prepend=-1))
        kept = events == newest
        codes, order = codes[kept], order[kept]
    return places, starts, codes, order


def _settle(codes: Ints, order: Ints, found: Ints, created: Ints | None) -> Ints:
    """Brings the row created last to the end of its like, where one of those found has its like.

    Returns a row of each group that this does not decide, none if there are none.
    """
    alike = np.append(False, codes[1:] == codes[:-1])
    found = np.unique(found[alike[found]])
    if not len(found) or created is None:
        return order[found]
    several = alike | np.append(alike[1:], False)
    group = order[several]
    order[several] = group[np.lexsort((created[group], codes[several]))]
    last, before = order[found], order[found - 1]
    undecided: Ints = last[created[last] == created[before]]
    return undecided


def _small(known: Ints, times: Ints, keys: int) -> tuple[Ints, Ints, int]:
    """Known and entity times as integers from 0 on that compare as they do, and a bound above them, which
    times `keys` is an int64."""
    low = int(known.min())
    width = int(known.max()) - low + 2
    if width * keys < _BEYOND:
        return known - (low - 1), np.clip(times, low - 1, low + width - 2) - (low - 1), width
    moments, ranks = np.unique(known, return_inverse=True)
    return ranks + 1, np.searchsorted(moments, times, "right"), len(moments) + 1
