"""The walk over the lineage graph.

A page costs the rings up to its end, as ids; names are looked up of what the page shows alone. Its order is
that of ids, which no renaming changes between two pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from plumbline.registry.errors import NodeNotFound
from registry_service.domain import Direction, KeyEdge, LineageEdge, LineageNode, NodeKey
from registry_service.names import NodeName
from registry_service.ports import LineageStore, Transaction

#: The place of an edge in a walk: its distance; kind and id of its nearer and of its farther end; relation.
EdgeKey = tuple[int, int, int, int, int, str]

#: The types of an EdgeKey, for page tokens.
EDGE_KEY = (int, int, int, int, int, str)

# Nodes of a ring that are asked for their edges at once: a walk ends when its page is full.
_AT_ONCE = 1_000


@dataclass(frozen=True)
class LineagePage:
    """Edges in the order of a walk, nearest first, and every node they name; the start comes first.

    last: the place of the last edge when others follow, else None. truncated: depth cut the graph off; told
    on the last page.
    """

    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]
    last: EdgeKey | None
    truncated: bool

    @property
    def more(self) -> bool:
        """Whether edges follow."""
        return self.last is not None


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
    found: list[tuple[EdgeKey, KeyEdge]] = []
    ring, distance = [root], 0
    while ring and distance < depth and len(found) <= limit:
        distance += 1
        # Of rings that came whole before `after`, only where they lead to is wanted.
        wanted = after is None or distance >= after[0]
        fresh: set[NodeKey] = set()
        for part in _parts(ring):
            edges = store.edges(part, direction)
            far = {_far(edge, direction) for edge in edges}
            fresh |= far - distances.keys()
            if wanted:
                keys = sorted((_key(distance, edge, direction), edge) for edge in edges)
                found += keys if after is None else [item for item in keys if item[0] > after]
            if len(found) > limit:
                break
        distances.update(dict.fromkeys(fresh, distance))
        ring = sorted(fresh)
    more, found = len(found) > limit, found[:limit]
    cut = not more and bool(ring) and any(store.edges(part, direction) for part in _parts(ring))
    nodes, edges_shown = _shown(store, root, [edge for _, edge in found], distances, direction)
    return LineagePage(nodes, edges_shown, found[-1][0] if more else None, cut)


def _shown(
    store: LineageStore,
    root: NodeKey,
    edges: list[KeyEdge],
    distances: dict[NodeKey, int],
    direction: Direction,
) -> tuple[tuple[LineageNode, ...], tuple[LineageEdge, ...]]:
    ends = ((_near(edge, direction), _far(edge, direction)) for edge in edges)
    keys = dict.fromkeys([root, *(key for pair in ends for key in pair)])
    named = store.describe(keys)
    nodes = tuple(LineageNode(named[key][0], key.kind, named[key][1], distances[key]) for key in keys)
    shown = (
        LineageEdge(
            distances[_near(edge, direction)] + 1,
            named[edge.upstream][0],
            named[edge.downstream][0],
            edge.relation,
        )
        for edge in edges
    )
    return nodes, tuple(shown)


def _near(edge: KeyEdge, direction: Direction) -> NodeKey:
    return edge.downstream if direction is Direction.UPSTREAM else edge.upstream


def _far(edge: KeyEdge, direction: Direction) -> NodeKey:
    return edge.upstream if direction is Direction.UPSTREAM else edge.downstream


def _key(distance: int, edge: KeyEdge, direction: Direction) -> EdgeKey:
    near, far = _near(edge, direction), _far(edge, direction)
    return (distance, int(near.kind), near.id, int(far.kind), far.id, edge.relation)


def _parts(ring: Iterable[NodeKey]) -> Iterator[list[NodeKey]]:
    rest = iter(ring)
    while part := list(islice(rest, _AT_ONCE)):
        yield part
