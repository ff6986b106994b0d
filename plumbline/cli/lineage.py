"""`plumbline lineage …`, `plumbline impact …`, `plumbline models diff …`: where things came from."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.tree import Tree

from plumbline.cli.models import registry
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table, when
from plumbline.registry.client import RegistryClient
from plumbline.registry.naming import node_name
from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res

_SHORT_NAME = 40  # a run's name; longer ones end in 64 hex digits, which --json tells

Node = Annotated[
    str, typer.Argument(help="m/3, m@champion, runs/…, datasets/…, featureViews/…, deployments/…")
]


class Format(StrEnum):
    """How a graph is written."""

    TREE = "tree"
    OPENLINEAGE = "openlineage"
    DOT = "dot"
    JSON = "json"


def lineage(
    node: Node,
    down: Annotated[
        bool, typer.Option("--down", help="What came from it, instead of what it came from.")
    ] = False,
    depth: Annotated[int, typer.Option(help="Edges to follow.", min=1, max=50)] = 10,
    format: Annotated[  # noqa: A002 - the name of the option
        Format,
        typer.Option(
            help="tree; openlineage: one event a line; dot: for Graphviz; json: nodes and edges.",
        ),
    ] = Format.TREE,
    json: Annotated[bool, typer.Option("--json", help="The answer of the registry, whole.")] = False,
) -> None:
    """What a node came from, or what came from it."""
    direction = pb.LINEAGE_DIRECTION_DOWNSTREAM if down else pb.LINEAGE_DIRECTION_UPSTREAM
    with errors_for_people(), registry() as client:
        if format is not Format.TREE and not json:
            _export(client, node, format, direction, depth)
            return
        graph = client.get_lineage(node, direction=direction, depth=depth)
        print_json(graph) if json else console.print(lineage_tree(node_name(node), graph, down=down))


def _export(
    client: RegistryClient, node: str, form: Format, direction: pb.LineageDirection.ValueType, depth: int
) -> None:
    wanted = pb.LineageFormat.Value(f"LINEAGE_FORMAT_{form.name}")
    for text in client.export_lineage(node, wanted, direction=direction, depth=depth):
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def impact(
    node: Annotated[
        str,
        typer.Argument(
            help="featureViews/project/view (every state of it), datasets/…, codeRevisions/… "
            "(7 digits will do), m/3 …"
        ),
    ],
    live: Annotated[
        bool, typer.Option("--live", help="Only what has an alias or runs now, and only what runs now.")
    ] = False,
    json: Json = False,
) -> None:
    """Which versions, aliases and deployments something reaches."""
    with errors_for_people(), registry() as client:
        found = list(client.find_impact(node, live_only=live))
        if json:
            print_json(found)
            return
        print_table(
            ("VERSION", "STATE", "ALIASES", "RUNS", "RAN", "BY WAY OF"),
            [
                (
                    item.version.removeprefix("models/"),
                    res.VersionState.Name(item.state).removeprefix("VERSION_STATE_"),
                    ", ".join(item.aliases),
                    ", ".join(_place(place) for place in item.deployments if _runs(place)),
                    sum(not _runs(place) for place in item.deployments) or "",
                    " → ".join(_short(name) for name in item.path[:-1]),
                )
                for item in found
            ],
        )
        console.print(f"{len(found):,} version{'' if len(found) == 1 else 's'} reached")


def diff(
    left: Annotated[str, typer.Argument(help="m/3 or m@champion")],
    right: Annotated[str, typer.Argument(help="m/5 or m@challenger")],
    json: Json = False,
) -> None:
    """What differs between two versions: data, features, parameters, metrics, environment, code, files."""
    with errors_for_people(), registry() as client:
        found = client.compare_versions(left, right)
        if json:
            print_json(found)
            return
        console.print(f"[bold]{escape(found.left)}[/bold] → [bold]{escape(found.right)}[/bold]")
        sections: dict[str, list[pb.Difference]] = {}
        for item in found.differences:
            sections.setdefault(item.section, []).append(item)
        for section, items in sections.items():
            rows = [(_SIGNS[item.kind], item.key, item.left or None, item.right or None) for item in items]
            print_table(("", section.upper(), "LEFT", "RIGHT"), rows)
        if found.equal_sections:
            console.print(f"equal: {', '.join(found.equal_sections)}", style="dim")


_SIGNS: dict[int, str] = {
    pb.DIFFERENCE_KIND_ADDED: "+",
    pb.DIFFERENCE_KIND_REMOVED: "-",
    pb.DIFFERENCE_KIND_CHANGED: "~",
}


def lineage_tree(start: str, graph: pb.GetLineageResponse, *, down: bool = False) -> Tree:
    """The graph as a tree from its start; a node met again is named, not drawn twice."""
    labels = {node.name: node for node in graph.nodes}
    below: dict[str, list[tuple[str, str]]] = {}
    for edge in graph.edges:
        parent, child = (edge.upstream, edge.downstream) if down else (edge.downstream, edge.upstream)
        below.setdefault(parent, []).append((edge.relation, child))
    # The server names the start in full, wherever an alias was asked for.
    root = next((node.name for node in graph.nodes if node.distance == 0), start)
    tree, seen = Tree(_label(root, labels), guide_style="dim"), {root}

    def grow(branch: Tree, name: str) -> None:
        for relation, child in sorted(below.get(name, ())):
            text = f"[dim]{relation}[/dim] {_label(child, labels)}"
            if child in seen:
                branch.add(text + ("[dim] (above)[/dim]" if child in below else ""))
            else:
                seen.add(child)
                grow(branch.add(text), child)

    grow(tree, root)
    if graph.truncated:
        tree.add("[yellow]… the depth limit cut the rest off[/yellow]")
    return tree


def _label(name: str, nodes: dict[str, pb.LineageNode]) -> str:
    """What a person reads; the name itself too, where it is short enough to be of use."""
    node = nodes.get(name)
    if node is None or node.label in ("", name):
        return escape(name)
    label = escape(node.label)
    return f"{label}  [dim]{escape(name)}[/dim]" if len(name) <= _SHORT_NAME else label


def _runs(place: gov.Deployment) -> bool:
    """Whether it has not ended; one whose lease is over is left out by the registry's --live."""
    return not place.HasField("end_time")


def _place(place: gov.Deployment) -> str:
    return f"{place.environment or place.target or place.name} since {when(place.start_time)}"


def _short(name: str) -> str:
    """A name whose last part is cut where it is a digest."""
    head, at, digest = name.partition("@sha256:")
    if at:
        return f"{head}@{digest[:8]}"
    collection, _, last = name.partition("/")
    return f"{collection}/{last[:12]}" if collection in ("datasets", "codeRevisions", "runs") else name
