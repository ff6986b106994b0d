"""Walks over random graphs, page by page, against a walk by brute force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_service import lineage
from registry_service.domain import Direction, KeyEdge, NodeKey, NodeKind
from registry_service.names import NodeName
from registry_service.ports import Transaction

_NODES = [NodeKey(kind, number) for kind in (NodeKind.RUN, NodeKind.DATASET) for number in range(1, 6)]
_EDGES = st.sets(
    st.builds(KeyEdge, st.sampled_from(_NODES), st.sampled_from(_NODES), st.sampled_from(("made", "read")))
)
_START: NodeName = (NodeKind.RUN, "1")


class GraphInMemory:
    """`ports.LineageStore` over a set of edges. asked: how many nodes were, in all."""

    def __init__(self, edges: set[KeyEdge]) -> None:
        self._edges, self.asked = edges, 0

    def find(self, node: NodeName) -> NodeKey | None:
        return NodeKey(node[0], int(str(node[1])))

    def edges(self, nodes: Iterable[NodeKey], direction: Direction) -> list[KeyEdge]:
        wanted = set(nodes)
        self.asked += len(wanted)
        near = 1 if direction is Direction.UPSTREAM else 0
        return [edge for edge in self._edges if edge[near] in wanted]

    def describe(self, nodes: Iterable[NodeKey]) -> Mapping[NodeKey, tuple[str, str]]:
        return {node: (_name(node), f"node {_name(node)}") for node in nodes}


def _name(node: NodeKey) -> str:
    return f"{node.kind.name}/{node.id}"


def _page(
    store: GraphInMemory, direction: Direction, depth: int, after: lineage.EdgeKey | None, limit: int
) -> lineage.LineagePage:
    transaction = cast("Transaction", SimpleNamespace(lineage=store))
    return lineage.walk(
        transaction, "runs/1", _START, direction=direction, depth=depth, after=after, limit=limit
    )


def _by_brute_force(
    edges: set[KeyEdge], direction: Direction, depth: int
) -> tuple[set[tuple[int, str, str, str]], dict[str, int], bool]:
    """Edges with their distances, nodes with theirs, and whether depth cut anything off."""
    near, far = (1, 0) if direction is Direction.UPSTREAM else (0, 1)
    distances = {NodeKey(NodeKind.RUN, 1): 0}
    for step in range(len(_NODES)):
        for edge in edges:
            if distances.get(edge[near]) == step:  # type: ignore[call-overload]
                distances.setdefault(edge[far], step + 1)  # type: ignore[arg-type]
    found, cut = set(), False
    for edge in edges:
        distance = distances.get(edge[near])  # type: ignore[call-overload]
        if distance is not None and distance < depth:
            found.add((distance + 1, _name(edge.upstream), _name(edge.downstream), edge.relation))
        cut |= distance == depth
    reached = {_name(node): distance for node, distance in distances.items() if distance <= depth}
    return found, reached, cut


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_EDGES, st.sampled_from(Direction), st.integers(1, 6), st.integers(1, 9))
def test_pages_join_to_what_brute_force_finds(
    monkeypatch: pytest.MonkeyPatch, edges: set[KeyEdge], direction: Direction, depth: int, limit: int
) -> None:
    monkeypatch.setattr(lineage, "_AT_ONCE", 2)
    joined: list[tuple[int, str, str, str]] = []
    distances: dict[str, int] = {}
    after: lineage.EdgeKey | None = None
    while True:
        page = _page(GraphInMemory(edges), direction, depth, after, limit)
        joined += [edge.key for edge in page.edges]
        distances |= {node.name: node.distance for node in page.nodes}
        after = page.last
        if not page.more:
            break
        assert (len(page.edges), page.truncated) == (limit, False)
    expected, reached, cut = _by_brute_force(edges, direction, depth)
    assert (set(joined), len(joined)) == (expected, len(expected))
    assert [key[0] for key in joined] == sorted(key[0] for key in joined)
    assert (distances, page.truncated) == (reached, cut)


def test_a_page_asks_no_further_than_it_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "_AT_ONCE", 10)
    root = NodeKey(NodeKind.RUN, 1)
    wide = [NodeKey(NodeKind.DATASET, number) for number in range(1_000)]
    edges = {KeyEdge(root, node, "read") for node in wide}
    edges |= {KeyEdge(node, NodeKey(NodeKind.MODEL, node.id), "read") for node in wide}
    store = GraphInMemory(edges)
    page = _page(store, Direction.DOWNSTREAM, 6, None, 1_005)
    assert (len(page.edges), page.more) == (1_005, True)
    assert store.asked == 11
