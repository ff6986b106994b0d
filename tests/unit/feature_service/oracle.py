"""The point-in-time join in plain Python, row by row: what the SQL is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from feature_service.domain import KnownAt


@dataclass(frozen=True)
class Row:
    """A feature row. Times are integers of any one unit; value None is a null."""

    key: str | None
    event: int | None
    created: int | None
    value: int | None


#: Few keys, moments and values, so that ties, late rows and rows at the bound of a ttl are common.
_KEYS = st.sampled_from(["a", "b", None])
_MOMENTS = st.integers(0, 6)
_ROWS = st.builds(Row, _KEYS, st.none() | _MOMENTS, st.none() | _MOMENTS, st.none() | st.integers(0, 3))
#: The rows of a source, and the keys and moments that are asked for.
TABLES = st.lists(_ROWS, max_size=12)
ENTITIES = st.lists(st.tuples(_KEYS, st.integers(0, 7)), max_size=8)


def answer(
    rows: Sequence[Row], key: str | None, moment: int, ttl: int | None, known_at: KnownAt
) -> tuple[bool, int | None]:
    """Whether a row answers, and its value."""
    if key is None:
        return False, None
    candidates = []
    for row in rows:
        if row.key != key or row.event is None or row.event > moment:
            continue
        late = row.created is not None and row.created > moment
        if late and known_at is KnownAt.CREATED_BY_THEN:
            continue
        candidates.append(row)
    if not candidates:
        return False, None

    def order(row: Row) -> tuple[int, tuple[bool, int], tuple[bool, int]]:
        assert row.event is not None
        return (
            row.event,
            (row.created is not None, row.created or 0),
            (row.value is not None, row.value or 0),
        )

    best = max(candidates, key=order)
    assert best.event is not None
    if ttl is not None and best.event < moment - ttl:
        return False, None
    return True, best.value
