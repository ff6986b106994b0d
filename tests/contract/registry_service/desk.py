"""The registry's use cases in the words of the tests: each call is one transaction, as in the service."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from registry_service import aliases, datasets, models, runs, versions
from registry_service.changes import Changes
from registry_service.commands import (
    ClearAlias,
    CreateModel,
    CreateVersion,
    RecordDataset,
    SetAlias,
    StartRun,
    UploadFile,
)
from registry_service.domain import (
    Act,
    Alias,
    AliasEvent,
    AliasRef,
    CodeRevision,
    Dataset,
    DefinitionRef,
    Model,
    ModelFile,
    ModelVersion,
    Signature,
    TrainingRun,
    VersionRef,
)
from registry_service.filtering.ast import Order
from registry_service.filtering.search import Hit, Place, Search
from registry_service.ports import Database, Transaction

T = TypeVar("T")


def sha(text: str) -> str:
    """64 hex digits that stand for some content."""
    return hashlib.sha256(text.encode()).hexdigest()


def definition(name: str, state: str = "1") -> DefinitionRef:
    """One state of a feature service or view."""
    return DefinitionRef("shop", name, f"sha256:{sha(name + state)}")


def snapshot(name: str, **facts: Any) -> Dataset:
    """A dataset not yet recorded."""
    defaults: dict[str, Any] = {
        "digest": sha(name),
        "display_name": name,
        "row_count": 10,
        "schema": (),
        "as_of_start": None,
        "as_of_end": None,
        "feature_service": None,
        "feature_views": (),
        "entity_digest": "",
        "uri": "",
    }
    return Dataset(**(defaults | facts))


def model_file(path: str = "model.txt", content: str = "tree") -> ModelFile:
    return ModelFile(path, sha(content), len(content), "text/plain")


class Hits(Generic[T]):
    """A page of a list."""

    def __init__(self, hits: Sequence[Hit[T]]) -> None:
        self.items = [hit.item for hit in hits]
        #: To go on from.
        self.end = hits[-1].place if hits else None


class Desk:
    """Does things as "ann" unless told otherwise."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self.database, self.clock = database, clock
        self.changes = Changes(database, clock)

    def ask(self, question: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self.database.read() as transaction:
            return question(transaction, *args, **kwargs)

    def do(self, use_case: Callable[..., T], *args: Any, actor: str = "ann", **kwargs: Any) -> T:
        def work(transaction: Transaction, act: Act) -> T:
            return use_case(transaction, act, *args, **kwargs)

        return self.changes.make(actor, work)

    def forget_old_requests(self) -> int:
        with self.database.write() as transaction:
            return self.changes.forget_old_requests(transaction)

    def model(self, name: str = "flights", **fields: Any) -> Model:
        return self.do(
            models.create, CreateModel(name, fields.get("description", ""), fields.get("tags", {}))
        )

    def draft(
        self,
        model: str = "flights",
        *,
        run: str = "",
        datasets: Sequence[str] = (),
        signature: Signature | None = None,
    ) -> ModelVersion:
        return self.do(versions.create, CreateVersion(model, "", {}, signature, run, tuple(datasets)))

    def add_file(self, version: VersionRef, file: ModelFile | None = None) -> ModelFile:
        return self.do(versions.add_file, UploadFile(version, file or model_file()))

    def ready(self, model: str = "flights", **links: Any) -> ModelVersion:
        draft = self.draft(model, **links)
        self.add_file(draft.ref)
        return self.do(versions.finalize, draft.ref, "")

    def version(self, ref: VersionRef | AliasRef) -> ModelVersion:
        return self.ask(versions.get, ref)

    def set_alias(
        self, alias: str, version: VersionRef, *, reason: str = "better", actor: str = "ann", **condition: Any
    ) -> Alias:
        command = SetAlias(AliasRef(version.model, alias), version, reason, **condition)
        return self.do(aliases.set_alias, command, actor=actor)

    def clear_alias(self, ref: AliasRef, *, etag: str = "", reason: str = "gone") -> AliasEvent:
        return self.do(aliases.clear, ClearAlias(ref, reason, etag))

    def run(
        self, *, code: CodeRevision | None = None, datasets: Sequence[str] = (), **facts: Any
    ) -> TrainingRun:
        command = StartRun(
            display_name=facts.get("display_name", "nightly"),
            parameters=facts.get("parameters", {}),
            metrics=facts.get("metrics", {}),
            tags={},
            seed=facts.get("seed", 7),
            code=code,
            environment_digest=facts.get("environment_digest", ""),
            datasets=tuple(datasets),
            environment=facts.get("environment"),
            config=facts.get("config", ""),
            parent=facts.get("parent", ""),
            base_versions=facts.get("base_versions", ()),
        )
        return self.do(runs.start, command)

    def models(self, *, archived: bool = False, after: Place | None = None, limit: int = 99) -> Hits[Model]:
        """A page by name."""
        search = Search(orders=(Order("name"),), after=after)
        return Hits(self.ask(models.search, search, archived=archived, limit=limit))

    def versions(self, model: str, *, after: Place | None = None, limit: int = 99) -> Hits[ModelVersion]:
        """A page, newest first."""
        search = Search(orders=(Order("version", descending=True),), after=after)
        model_id = self.ask(models.get_id, model)
        return Hits(self.ask(versions.search, search, model_id=model_id, limit=limit))

    def runs(self, *, after: Place | None = None, limit: int = 99) -> Hits[TrainingRun]:
        """A page, newest first."""
        return Hits(self.ask(runs.search, Search(after=after), limit))

    def datasets(self, *, after: Place | None = None, limit: int = 99) -> Hits[Dataset]:
        """A page, newest first."""
        return Hits(self.ask(datasets.search, Search(after=after), limit))

    def dataset(self, dataset: Dataset) -> Dataset:
        return self.do(datasets.record, RecordDataset(dataset))
