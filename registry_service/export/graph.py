"""A walk as one text: Graphviz DOT, or JSON in the node-link form that networkx reads. In pieces."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from registry_service.domain import LineageNode, NodeKind
from registry_service.lineage import LineagePage

_LINES = 500  # in a piece

# What a kind is called, its shape and its color: upstream is warm, downstream is cool.
_LOOKS = {
    NodeKind.CODE_REVISION: ("Code", "note", "#fde2c4"),
    NodeKind.FEATURE_VIEW: ("Feature views", "cylinder", "#fbe8a6"),
    NodeKind.FEATURE_SERVICE: ("Feature services", "component", "#f3f0b4"),
    NodeKind.DATASET: ("Datasets", "folder", "#dcecc0"),
    NodeKind.RUN: ("Runs", "cds", "#cdebdb"),
    NodeKind.MODEL: ("Models", "box3d", "#cfe6ee"),
    NodeKind.MODEL_VERSION: ("Versions", "box", "#cfdcf3"),
    NodeKind.ALIAS: ("Aliases", "tab", "#dcd2f0"),
    NodeKind.DEPLOYMENT: ("Deployments", "house", "#ecd0ea"),
}


def dot(page: LineagePage) -> Iterator[str]:
    """A digraph from left (upstream) to right, its nodes grouped by kind."""
    return _pieces(_dot_lines(page))


def _dot_lines(page: LineagePage) -> Iterator[str]:
    yield "digraph lineage {"
    yield '  graph [rankdir=LR, fontname="Helvetica", style=rounded, color="#999999"];'
    yield '  node [fontname="Helvetica", fontsize=11, style=filled]; edge [fontname="Helvetica", fontsize=9];'
    groups: defaultdict[NodeKind, list[LineageNode]] = defaultdict(list)
    for node in page.nodes:
        groups[node.kind].append(node)
    for kind, (title, shape, color) in _LOOKS.items():
        if kind not in groups:
            continue
        yield f"  subgraph cluster_{kind.name.lower()} {{"
        yield f'    label={_quoted(title)}; node [shape={shape}, fillcolor="{color}"];'
        for node in groups[kind]:
            bold = ", penwidth=2" if node.distance == 0 else ""
            looks = f"label={_quoted(node.label or node.name)}, tooltip={_quoted(node.name)}{bold}"
            yield f"    {_quoted(node.name)} [{looks}];"
        yield "  }"
    for edge in page.edges:
        relation = _quoted(edge.relation.replace("_", " "))
        yield f"  {_quoted(edge.upstream)} -> {_quoted(edge.downstream)} [label={relation}];"
    if page.truncated:
        yield "  // The depth limit cut the rest off."
    yield "}"


def _quoted(text: str) -> str:
    """A string of DOT's that shows just this text, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")
    return f'"{escaped}"'


def node_link(page: LineagePage, direction: str) -> Iterator[str]:
    """An object of "graph", "nodes" (the one asked about first) and "edges" (source is upstream)."""
    return _pieces(_json_lines(page, direction))


def _json_lines(page: LineagePage, direction: str) -> Iterator[str]:
    start = page.nodes[0].name
    graph = {"start": start, "direction": direction.lower(), "truncated": page.truncated}
    yield f'{{"directed": true, "multigraph": true, "graph": {json.dumps(graph)}, "nodes": ['
    nodes = (
        {"id": node.name, "kind": node.kind.name.lower(), "label": node.label, "distance": node.distance}
        for node in page.nodes
    )
    yield from _separated(json.dumps(node, ensure_ascii=False) for node in nodes)
    yield '], "edges": ['
    edges = (
        {"source": edge.upstream, "target": edge.downstream, "key": edge.relation, "relation": edge.relation}
        for edge in page.edges
    )
    yield from _separated(json.dumps(edge, ensure_ascii=False) for edge in edges)
    yield "]}"


def _separated(items: Iterable[str]) -> Iterator[str]:
    before: str | None = None
    for item in items:
        if before is not None:
            yield f"{before},"
        before = item
    if before is not None:
        yield before


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    while piece := list(islice(lines, _LINES)):
        yield "".join(f"{line}\n" for line in piece)
