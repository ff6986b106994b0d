"""What impact questions need of the database; `registry_service.ports` says how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from registry_service.domain import Deployment, NodeKey, VersionRef, VersionState
from registry_service.names import NodeName


@dataclass(frozen=True)
class ReachedVersion:
    """A version that an impact question reaches. id: the registry's own."""

    id: int
    ref: VersionRef
    state: VersionState


class ImpactStore(Protocol):
    """The graph read downstream, for questions that may reach most of it."""

    def starts(self, node: NodeName) -> Sequence[NodeKey]:
        """The nodes a name stands for, in order, none when nobody recorded one: every state of a feature
        service or view whose digest is "", every commit that begins so where none is called so, the holder
        of an alias."""

    def steps(self, nodes: Sequence[NodeKey]) -> Iterable[tuple[NodeKey, NodeKey]]:
        """Pairs of a node and one that came from it; aliases and deployments are left out."""

    def versions(
        self, ids: Sequence[int], *, live_at: datetime | None, after: tuple[str, int] | None, limit: int
    ) -> Sequence[ReachedVersion]:
        """Of these, by model name (code points), greatest number first, behind `after`. live_at: only those
        with an alias, or with a deployment that runs at that moment."""

    def aliases(self, ids: Sequence[int]) -> Mapping[int, Sequence[str]]:
        """The aliases that point at versions, in order."""

    def deployments(
        self, ids: Sequence[int], *, live_at: datetime | None
    ) -> Mapping[int, Sequence[Deployment]]:
        """The deployments of versions, newest first: those that run at a moment; without one, those that
        have not ended and the newest 100 that have."""
