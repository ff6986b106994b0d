"""Sources that were filled later than what they tell of: the known-at cutoff hides all of their rows.

Whoever joins with such a source for the first time gets nothing but nulls, and should hear why.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from feature_service.domain import KnownAt
from feature_service.history.aligned import ipc_batches
from feature_service.stores.asof_join import AsofJoin
from feature_service.stores.asof_sql import SourceView


def hidden_rows(join: AsofJoin, view: SourceView, answer: Iterable[pa.RecordBatch]) -> int:
    """How many entity rows would have values but for the cutoff; 0 unless none has any.

    answer: of the view under the cutoff. Raises what AsofJoin.join raises.
    """
    if view.rows.created is None:
        return 0
    if any(column.null_count < len(column) for batch in answer for column in batch.columns):
        return 0
    found = join.join(view, KnownAt.IGNORE_CREATED)
    return max((len(column) - column.null_count for column in found.columns), default=0)


def backfilled(join: AsofJoin, view: SourceView, answer: Path) -> list[str]:
    """What to tell callers of the service, if anything. answer: an Arrow IPC file."""
    with pa.memory_map(str(answer)) as source:
        hidden = hidden_rows(join, view, ipc_batches(source))
    return [told(view, hidden, "ask with KNOWN_AT_POLICY_IGNORE_CREATED")] if hidden else []


def told(view: SourceView, hidden: int, remedy: str) -> str:
    """A sentence for people."""
    return (
        f"view {view.name}: none of its rows was known at the times of the entity rows: all were created "
        f"(column {view.rows.created}) later. Without that cutoff {hidden} rows would have values: for "
        f"sources that were filled later, {remedy}"
    )
