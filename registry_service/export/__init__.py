"""The lineage graph for other programs: OpenLineage events, Graphviz, node-link JSON."""

from __future__ import annotations

from enum import StrEnum

#: The largest graph that is exported in one go.
MAX_EDGES = 100_000


class Format(StrEnum):
    OPENLINEAGE = "OPENLINEAGE"
    DOT = "DOT"
    JSON = "JSON"
