"""The parts that pushes added to the sources of all views, merged where they are many."""

from __future__ import annotations

import glob
import logging
from dataclasses import dataclass, field

import pyarrow as pa

from feature_service.domain import Source
from feature_service.planning import Definitions
from feature_service.stores.compaction import Compacted, compact
from feature_service.stores.remote import is_remote

#: As many neighbouring parts are worth a merge.
AT_LEAST = 32
#: A push that was cut off between the stores is mended by its retry, which needs its part: seconds.
SETTLED_SECONDS = 3600.0

_log = logging.getLogger("plumbline.features")


@dataclass
class _Rows:
    """The columns that tell the rows of a source apart for all views that read it."""

    source: Source
    columns: dict[str, None] = field(default_factory=dict)


def merge_parts(
    definitions: Definitions, *, at_least: int = AT_LEAST, settled: float = SETTLED_SECONDS
) -> Compacted:
    """Merges the parts of every source on this machine; what cannot be is logged and left. Blocking.

    Views may read one source by different keys: a row goes only where a later one replaces it for all of
    them. Joins, reads and materializations answer the same before, meanwhile and afterwards.
    """
    total = Compacted()
    for rows in _sources(definitions):
        source = rows.source
        try:
            done = compact(
                source.path,
                list(rows.columns),
                source.timestamp_column,
                source.created_column,
                at_least=at_least,
                settled=settled,
            )
        except (OSError, ValueError, pa.ArrowException) as error:
            _log.warning("the pushed parts of %s are not merged: %s", source.name, error)
            continue
        if done.files:
            _log.info("merged %d pushed parts of %s into %d", done.parts, source.name, done.files)
        total += done
    return total


def _sources(definitions: Definitions) -> list[_Rows]:
    found: dict[str, _Rows] = {}
    for view in definitions.views.values():
        source = view.source
        if source is None or not _is_pushed_to(source.path):
            continue
        rows = found.setdefault(source.path, _Rows(source))
        times = [source.timestamp_column, *([source.created_column] if source.created_column else [])]
        rows.columns |= dict.fromkeys([*(source.column_of(key.name) for key in view.join_keys), *times])
    return list(found.values())


def _is_pushed_to(path: str) -> bool:
    return bool(path) and not is_remote(path) and not glob.has_magic(path)
