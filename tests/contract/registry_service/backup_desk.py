"""A registry with something of everything, and its backups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, text

from registry_service import versions
from registry_service.backup.making import BackupOptions, make_backup
from registry_service.backup.manifest import Manifest
from registry_service.backup.restoring import RestoreOptions, restore_backup
from registry_service.commands import RecordEvaluation
from registry_service.domain import AliasRef, CodeRevision, ModelFile, ModelVersion
from registry_service.integrity.findings import Finding
from registry_service.integrity.verification import verify
from registry_service.ports import Database
from registry_service.repository.database import SqlDatabase, open_engine
from registry_service.repository.dumps import SqlDumps
from registry_service.repository.migration import migrate
from registry_service.stores.local import LocalBlobs
from registry_service.tables import Base
from tests.contract.registry_service.desk import Desk, definition, model_file, sha, snapshot
from tests.contract.registry_service.webhook_desk import new_webhook, utc_now

Rows = dict[str, list[dict[str, Any]]]


@dataclass
class Registry:
    """A database and a folder of bytes."""

    desk: Desk
    engine: Engine
    folder: Path

    def __post_init__(self) -> None:
        self.blobs = LocalBlobs(self.folder / "artifacts")
        self.blobs.prepare()

    def keep(self, content: str) -> ModelFile:
        """Puts bytes where the bytes are."""
        source = self.folder / f"source-{sha(content)[:8]}"
        source.write_text(content)
        file = model_file(f"{content[:8]}.txt", content)
        self.blobs.publish(file, source)
        source.unlink(missing_ok=True)
        return file

    def ready(self, model: str, content: str, **links: Any) -> ModelVersion:
        draft = self.desk.draft(model, **links)
        self.desk.add_file(draft.ref, self.keep(content))
        return self.desk.do(versions.finalize, draft.ref, "")

    def fill(self) -> None:
        desk = self.desk
        view, service = definition("view"), definition("service")
        data = desk.dataset(
            snapshot("train", feature_views=(view,), feature_service=service, as_of_end=utc_now())
        )
        desk.model("flights", description="late?", tags={"team": "ops", "päth": "ünïcode ✓"})
        desk.model("trains")
        code = CodeRevision("https://example.org/repo", "abc1234", True)
        run = desk.run(code=code, datasets=[data.digest], metrics={"auc": 0.1 + 0.2})
        first = self.ready("flights", "tree one", run=run.name, datasets=[data.digest])
        second = self.ready("flights", "tree two")
        desk.draft("trains")
        desk.do(
            versions.record_evaluation,
            RecordEvaluation(first.ref, data.digest, "test", {"auc": 0.7, "n": 1e15}),
        )
        desk.set_alias("champion", first.ref)
        desk.set_alias("champion", second.ref)
        desk.set_alias("old", first.ref)
        desk.clear_alias(AliasRef("flights", "old"))
        desk.do(versions.archive, first.ref, "")
        new_webhook(desk, model="flights", actions=("SetAlias",))

    def backup(self, target: Path, **options: Any) -> Manifest:
        return make_backup(
            SqlDumps(self.engine), self.blobs, BackupOptions(target, **options), self.desk.clock
        )

    def restore(self, source: Path, **options: Any) -> Manifest:
        return restore_backup(
            SqlDumps(self.engine),
            self.blobs,
            RestoreOptions(source, self.folder / "scratch", **options),
            self.faults,
            self.desk.clock,
        )

    def faults(self, database: Database | None = None) -> list[str]:
        """What a verification finds; of the bytes too, of the registry itself."""
        parts = verify(database or self.desk.database, self.blobs, skip_blobs=database is not None)
        return [f"{part.resource}: {part.message}" for part in parts if isinstance(part, Finding)]

    def rows(self) -> Rows:
        return rows_of(self.engine)

    def guards(self) -> list[Any]:
        """Every trigger, and whether it is awake."""
        statement = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
            if self.engine.dialect.name == "sqlite"
            else "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname, tgrelid"
        )
        with self.engine.connect() as connection:
            return list(connection.execute(text(statement)).all())


def rows_of(engine: Engine) -> Rows:
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            ]
            for table in Base.metadata.sorted_tables
        }


def new_registry(url: str, folder: Path, clock: Any) -> Registry:
    folder.mkdir(parents=True, exist_ok=True)
    engine = open_engine(url, busy_seconds=20)
    migrate(engine)
    return Registry(Desk(SqlDatabase(engine, busy_seconds=20), clock), engine, folder)
