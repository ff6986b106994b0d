"""The walk over the lineage graph."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.registry.errors import NodeNotFound
from registry_service.domain import Direction, LineageEdge, LineageNode, NodeKey
from registry_service.names import NodeName
from registry_service.ports import LineageStore, Transaction

#: The place of an edge in a walk: distance, upstream, downstream, relation.
EdgeKey = tuple[int, str, str, str]


@dataclass(frozen=True)
class LineagePage:
    """Edges in the order of their keys, and every node they name; the start comes first.

    more: edges follow. truncated: depth cut the graph off; told on the last page.
    """

    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]
    more: bool
    truncated: bool


def walk(
    transaction: Transaction,
    name: str,
    start: NodeName,
    *,
    direction: Direction,
    depth: int,
    after: EdgeKey | None,
    limit: int,
) -> LineagePage:
    """Breadth first from a node, each edge once, those behind `after`. Raises NodeNotFound.

    name: the start's, as asked. At most `limit` edges are given.
    """
    store = transaction.lineage
    root = store.find(start)
    if root is None:
        raise NodeNotFound(f"nothing is recorded under {name!r}", metadata={"node": name})
    distances = {root: 0}
    named = dict(store.describe([root]))
    page: list[LineageEdge] = []
    ring, distance, truncated = [root], 0, False
    while ring and len(page) <= limit:
        if distance == depth:
            truncated = bool(store.edges(ring, direction))
            break
        distance += 1
        edges, ring = _step(store, ring, direction, distance, distances, named)
        page += [edge for edge in edges if after is None or edge.key > after]
    more, page = len(page) > limit, page[:limit]
    keys = {text: key for key, (text, _) in named.items()}
    shown = dict.fromkeys([root, *(keys[end] for edge in page for end in (edge.upstream, edge.downstream))])
    nodes = tuple(LineageNode(named[key][0], key.kind, named[key][1], distances[key]) for key in shown)
    return LineagePage(nodes, tuple(page), more, truncated and not more)


def _step(
    store: LineageStore,
    ring: list[NodeKey],
    direction: Direction,
    distance: int,
    distances: dict[NodeKey, int],
    named: dict[NodeKey, tuple[str, str]],
) -> tuple[list[LineageEdge], list[NodeKey]]:
    """The edges out of a ring, in order, and the next ring. Adds its nodes to distances and named."""
    found = store.edges(ring, direction)
    ends = (edge.upstream if direction is Direction.UPSTREAM else edge.downstream for edge in found)
    fresh = sorted({end for end in ends if end not in distances})
    distances.update(dict.fromkeys(fresh, distance))
    named.update(store.describe(fresh))
    edges = [
        LineageEdge(distance, named[edge.upstream][0], named[edge.downstream][0], edge.relation)
        for edge in found
    ]
    return sorted(edges, key=lambda edge: edge.key), fresh
