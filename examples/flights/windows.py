"""Moving windows over events, exact at every moment.

A feature store hands out the newest row at or before the moment asked for. A row written only when an event
happens would go stale as events leave the window: after a quiet night, "the last three hours" would still be
yesterday evening's. So a row is written at every moment the window's content changes: when an event enters it
and when one leaves. Between two rows nothing changes, and the newest row at or before T is exactly the
aggregate over (T - W, T], for every T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class WindowRows:
    """One row per key and moment of change, ordered by key, then moment; a pair appears once.

    ``counts[w]`` and ``sums[w][name]`` belong to the w-th window. Integers, so nothing drifts.
    """

    key: Ints
    moment: Ints
    counts: tuple[Ints, ...]
    sums: tuple[Mapping[str, Ints], ...]


def window_rows(key: Ints, moment: Ints, values: Mapping[str, Ints], windows: Sequence[int]) -> WindowRows:
    """Counts and sums over (T - W, T] for every key, at every moment T at which one of the windows changes.

    ``key``: codes from 0. ``moment``: when each event is known, any integer unit. ``values``: what is summed,
    one array per name, of the same length. ``windows``: lengths, in the unit of ``moment``. Raises
    OverflowError when keys times span do not fit 63 bits (5,000 keys over 58 years of microseconds do)."""
    order = np.lexsort((moment, key))
    start = int(moment.min()) if moment.size else 0
    key, moment = key[order], moment[order] - start
    # Key and moment in one integer, so that one sorted search serves all keys. The stride leaves room for the
    # longest window on both sides: a window that begins before a key's first event must not reach into the
    # key before it.
    reach = max(windows, default=0)
    stride = int(moment.max(initial=0)) + 2 * reach + 2
    if key.size and (int(key.max()) + 1) * stride >= np.iinfo(np.int64).max:
        raise OverflowError(f"{int(key.max()) + 1} keys over {stride} units of time do not fit one integer")
    place = key * stride + moment + reach
    changes = _distinct(np.concatenate([place, *(place + window for window in windows)]))
    totals = {name: _running_total(value[order]) for name, value in values.items()}

    newest = np.searchsorted(place, changes, side="right")
    counts: list[Ints] = []
    sums: list[Mapping[str, Ints]] = []
    for window in windows:
        oldest = np.searchsorted(place, changes - window, side="right")
        counts.append(newest - oldest)
        sums.append({name: total[newest] - total[oldest] for name, total in totals.items()})
    return WindowRows(changes // stride, changes % stride - reach + start, tuple(counts), tuple(sums))


def _distinct(values: Ints) -> Ints:
    # Faster than np.unique here: the input is a few sorted runs, which a stable sort merges.
    ordered: Ints = np.sort(values, kind="stable")
    distinct: Ints = ordered[np.diff(ordered, prepend=ordered[:1] - 1) != 0]
    return distinct


def _running_total(values: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
