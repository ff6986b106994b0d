"""Entities drawn from the offline rows behind a selection, to compare what is served with what is joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from feature_service.coercion import coerce
from feature_service.domain import FeatureView, ReadPlan, ViewRead
from feature_service.ports import EntityKeys
from plumbline.errors import FieldViolation
from plumbline.features.errors import InvalidField

LARGEST_SAMPLE = 10_000


class EntitySampling:
    """The use case. Blocking; called on a thread."""

    def __init__(self, keys: EntityKeys, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._keys, self._now = keys, now

    def draw(self, plan: ReadPlan, count: int, seed: int) -> pa.Table:
        """At most `count` entities, one column for each join key of the selection.

        Views that are read by the same columns are drawn from together. A column that the keys with more
        columns leave open is filled from the keys of the other views, over and over. Raises InvalidField,
        SourceUnreadable, ResourceExhausted.
        """
        if not 1 <= count <= LARGEST_SAMPLE:
            what = f"is {count}; it must be between 1 and {LARGEST_SAMPLE}"
            raise InvalidField(
                f"count {what}", metadata={"field": "count"}, violations=[FieldViolation("count", what)]
            )
        drawn: dict[str, pa.Array] = {}
        for columns, reads in _by_columns(plan.reads):
            if set(columns) <= set(drawn):
                continue
            found = self._keys.sample(_distinct(reads), self._now(), count, seed)
            drawn = _beside(drawn, dict(zip(columns, found.columns, strict=True)))
        types = {key.name: key.type for key in plan.join_keys}
        return pa.table({name: coerce(drawn[name], kind, name) for name, kind in types.items()})


def _by_columns(reads: Sequence[ViewRead]) -> list[tuple[tuple[str, ...], list[ViewRead]]]:
    """The reads by the entity columns they are read by, those with the most columns first."""
    found: dict[tuple[str, ...], list[ViewRead]] = {}
    for read in reads:
        if read.keys:
            found.setdefault(tuple(key.column for key in read.keys), []).append(read)
    return sorted(found.items(), key=lambda item: (-len(item[0]), item[0]))


def _distinct(reads: Sequence[ViewRead]) -> list[FeatureView]:
    return list({read.view.name: read.view for read in reads}.values())


def _beside(drawn: dict[str, pa.Array], more: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Both side by side, the shorter one repeated; columns that are there already stay."""
    if not drawn:
        return more
    lengths = [len(next(iter(columns.values()))) for columns in (drawn, more)]
    rows = max(lengths) if all(lengths) else 0
    index = [pa.array(np.arange(rows) % max(length, 1)) for length in lengths]
    result = {name: values.take(index[0]) for name, values in drawn.items()}
    return result | {name: values.take(index[1]) for name, values in more.items() if name not in drawn}
