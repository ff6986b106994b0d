"""What lists show of versions: notes and where they come from, without signature, files and evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from registry_service.domain import AliasRef, VersionRef, VersionState
from registry_service.filtering.search import Hit, Search


@dataclass(frozen=True)
class VersionSummary:
    """model_archive_time: of its model, None while that is active. run: the run's id, "" when no run made it.
    feature_service: of the signature, "" when there is none. has_files: whether it has bytes in the registry.
    """

    id: int
    model_id: int
    ref: VersionRef
    model_archive_time: datetime | None
    state: VersionState
    stage: str
    description: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    run: str
    external_run: str
    run_link: str
    source: str
    copied_from: VersionRef | None
    feature_service: str
    has_files: bool
    actor: str
    create_time: datetime
    update_time: datetime


class SummaryStore(Protocol):
    """Summaries, and searches that give them."""

    def get(self, ref: VersionRef | AliasRef) -> VersionSummary:
        """In any state. Raises ModelNotFound, VersionNotFound, AliasNotFound."""

    def versions(self, search: Search, *, model: str | None, limit: int) -> list[Hit[VersionSummary]]:
        """Of models that are not archived (or of that one, by name), those not archived themselves."""

    def latest(self, model_ids: Sequence[int]) -> Mapping[int, list[VersionSummary]]:
        """By model, the version with the greatest number in each stage, of those not archived, by number."""
