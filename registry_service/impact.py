"""What a node reaches: the versions made from it, directly or not, with their aliases and deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from plumbline.registry.errors import NodeNotFound
from registry_service.domain import Deployment, NodeKey, NodeKind, VersionRef, VersionState
from registry_service.names import NodeName
from registry_service.ports import Transaction
from registry_service.ports_impact import ImpactStore

#: The place of a version in an answer: its model's name and its number; greater numbers come first.
ImpactKey = tuple[str, int]


@dataclass(frozen=True)
class VersionImpact:
    """One version that is reached. path: names of nodes from the one asked about to it, one shortest way."""

    version: VersionRef
    state: VersionState
    aliases: tuple[str, ...]
    deployments: tuple[Deployment, ...]
    path: tuple[str, ...]

    @property
    def key(self) -> ImpactKey:
        return (self.version.model, self.version.number)


def find(
    transaction: Transaction,
    name: str,
    start: NodeName,
    *,
    live_only: bool,
    now: datetime,
    after: ImpactKey | None,
    limit: int,
) -> list[VersionImpact]:
    """By model, then newest version first, those behind `after`, at most `limit`. Raises NodeNotFound.

    name: the start's, as asked; a version reaches itself, an alias what its version reaches. live_only: only
    deployments that run now, and only versions that have one or an alias.
    """
    store = transaction.impact
    starts = store.starts(start)
    if not starts:
        raise NodeNotFound(f"nothing is recorded under {name!r}", metadata={"node": name})
    came_from = _spread(store, starts)
    ids = [key.id for key in came_from if key.kind is NodeKind.MODEL_VERSION]
    found = store.versions(ids, live_at=now if live_only else None, after=after, limit=limit)
    shown = [version.id for version in found]
    aliases = store.aliases(shown)
    deployments = store.deployments(shown, live_at=now if live_only else None)
    paths = [_path(came_from, NodeKey(NodeKind.MODEL_VERSION, version_id)) for version_id in shown]
    named = transaction.lineage.describe({key for path in paths for key in path})
    return [
        VersionImpact(
            version=version.ref,
            state=version.state,
            aliases=tuple(aliases.get(version.id, ())),
            deployments=tuple(deployments.get(version.id, ())),
            path=tuple(named[key][0] for key in path),
        )
        for version, path in zip(found, paths, strict=True)
    ]


def _spread(store: ImpactStore, starts: Sequence[NodeKey]) -> Mapping[NodeKey, NodeKey | None]:
    """Every node reached, with the one it was reached from first: breadth first, of several the least."""
    came_from: dict[NodeKey, NodeKey | None] = dict.fromkeys(starts)
    ring = list(starts)
    while ring:
        fresh: dict[NodeKey, NodeKey] = {}
        for upstream, downstream in store.steps(ring):
            if downstream not in came_from and upstream <= fresh.get(downstream, upstream):
                fresh[downstream] = upstream
        came_from.update(fresh)
        ring = list(fresh)
    return came_from


def _path(came_from: Mapping[NodeKey, NodeKey | None], end: NodeKey) -> list[NodeKey]:
    path, node = [end], came_from[end]
    while node is not None:
        path.append(node)
        node = came_from[node]
    return path[::-1]
