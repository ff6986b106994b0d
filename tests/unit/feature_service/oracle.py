"""The point-in-time join in plain Python, row by row: what the SQL is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feature_service.domain import KnownAt


@dataclass(frozen=True)
class Row:
    """A feature row. Times are integers of any one unit; value None is a null."""

    key: str | None
    event: int | None
    created: int | None
    value: int | None


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
