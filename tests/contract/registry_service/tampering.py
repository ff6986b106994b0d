"""A registry with something of everything, its verification, and attackers who may do all to the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, exc, inspect, text

from registry_service import deployments, models, policies, rollback, runs, versions
from registry_service.audit import fields_hash
from registry_service.commands import (
    CreateVersion,
    FinishRun,
    LogRun,
    RecordEvaluation,
    StartRun,
    UpdateModel,
    UpdateVersion,
    UploadFile,
)
from registry_service.commands_governance import (
    ClearPolicy,
    EndDeployment,
    RecordApproval,
    RecordDeployment,
    RollbackAlias,
    SetPolicy,
)
from registry_service.domain import (
    AliasRef,
    CodeRevision,
    Environment,
    FeatureDefinition,
    Field,
    InputSource,
    ModelFile,
    ModelInput,
    RunState,
    Signature,
    VersionRef,
)
from registry_service.events import Head
from registry_service.governance import ApprovalRule, Decision, Rules
from registry_service.integrity.findings import Finding, Summary
from registry_service.integrity.verification import verify
from registry_service.repository.database import begin_write
from registry_service.stores.local import LocalBlobs
from registry_service.tables import Base
from registry_service.webhooks import registration
from tests.contract.registry_service.desk import Desk, definition, snapshot
from tests.contract.registry_service.webhook_desk import new_webhook

V1 = VersionRef("flights", 1)
CHAMPION = AliasRef("flights", "champion")
SIGNATURE = Signature(
    inputs=(ModelInput("wind", "DOUBLE", InputSource.FEATURE, "weather:wind"),),
    outputs=(Field("delay", "DOUBLE"),),
)


@dataclass(frozen=True)
class House:
    """A desk, its database, and the place of its bytes."""

    desk: Desk
    engine: Engine
    blobs: LocalBlobs
    folder: Path

    def verify(
        self, anchor: Head | None = None, *, skip_blobs: bool = False
    ) -> tuple[list[Finding], Summary]:
        """What a verification finds."""
        parts = list(verify(self.desk.database, self.blobs, anchor=anchor, skip_blobs=skip_blobs))
        summary = parts[-1]
        assert isinstance(summary, Summary)
        findings = [part for part in parts if isinstance(part, Finding)]
        assert summary.findings == len(findings)
        return findings, summary

    def store(self, content: bytes) -> ModelFile:
        """Bytes in the folder."""
        file = ModelFile("model.txt", hashlib.sha256(content).hexdigest(), len(content), "text/plain")
        source = self.folder / "source"
        source.write_bytes(content)
        self.blobs.publish(file, source)
        source.unlink()
        return file

    def blob(self, content: bytes) -> Path:
        """Where bytes are."""
        sha256 = hashlib.sha256(content).hexdigest()
        return self.folder / "sha256" / sha256[:2] / sha256[2:4] / sha256

    def upload(self, ref: VersionRef, content: bytes) -> None:
        self.desk.do(versions.add_file, UploadFile(ref, self.store(content)))


def furnish(house: House) -> None:
    """Something of everything, in two models."""
    desk = house.desk
    desk.model(tags={"team": "ops"}, description="Delays")
    definitions = (
        FeatureDefinition(definition("s"), "a service"),
        FeatureDefinition(definition("v"), "a view"),
    )
    data = desk.dataset(
        snapshot(
            "train",
            schema=(Field("wind", "DOUBLE"),),
            feature_service=definition("s"),
            feature_views=(definition("v"), definition("w")),
            feature_definitions=definitions,
            recipe="{}",
            uri="s3://bucket/train",
        )
    )
    other = desk.dataset(snapshot("test"))
    run = desk.do(runs.start, training(data.digest))
    desk.do(runs.log, LogRun(run.name, {"depth": "6"}, {"auc": 0.5}, {"by": "cron"}, (other.digest,)))
    desk.do(runs.finish, FinishRun(run.name, RunState.FINISHED, ""))
    first = desk.draft(run=run.name, datasets=[data.digest, other.digest], signature=SIGNATURE)
    house.upload(first.ref, b"the first model")
    desk.do(versions.finalize, first.ref, "")
    desk.do(versions.update, UpdateVersion(first.ref, "", "good", {"stage": "gold"}, "Staging"))
    for split, metrics in (("test", {"auc": 0.75, "loss": -0.0}), ("train", {"auc": 0.9})):
        desk.do(versions.record_evaluation, RecordEvaluation(first.ref, data.digest, split, metrics))
    second = desk.do(versions.create, CreateVersion("flights", "", {}, None, "", (), copy_from=first.ref))
    desk.do(versions.finalize, second.ref, "")
    desk.draft()
    desk.do(versions.archive, desk.draft().ref, "")
    desk.set_alias("champion", first.ref)
    desk.set_alias("champion", second.ref)
    desk.set_alias("canary", first.ref)
    desk.clear_alias(AliasRef("flights", "canary"))
    desk.do(runs.start, training(data.digest, parent=run.name, base_versions=(first.ref, second.ref)))
    promote(desk)
    desk.model("old", tags={"a": "b"})
    desk.do(models.update, UpdateModel("old", "", "gone", {"a": "c"}))
    desk.do(models.rename, "old", "older", "")
    desk.do(models.archive, "older", "")


def promote(desk: Desk) -> None:
    """Policies, approvals, deployments, a rollback and webhooks."""
    rules = Rules(approvals=ApprovalRule(1, approvers=("bob",)), required_tags={"stage": "gold"})
    guarded = AliasRef("flights", "guarded")
    desk.do(policies.set_policy, SetPolicy(guarded, rules, "for the pilots", "", "safer"))
    desk.do(policies.record_approval, RecordApproval(V1, Decision.APPROVED, "guarded", "fine"), actor="bob")
    desk.set_alias("guarded", V1)
    desk.do(policies.set_policy, SetPolicy(CHAMPION, rules, "", "", "too"))
    desk.do(policies.clear_policy, ClearPolicy(CHAMPION, "", "after all not"))
    desk.do(rollback.roll_back, RollbackAlias(CHAMPION, "worse", ""))
    running = RecordDeployment(V1, "production", "eu-1", "champion", {"pods": "3"}, timedelta(hours=1))
    desk.do(deployments.record, running)
    ended = desk.do(deployments.record, running)
    desk.do(deployments.end, EndDeployment(ended.name, "replaced"))
    gone = new_webhook(desk)
    desk.do(registration.delete, gone.name, "")
    new_webhook(desk, description="the one that stays")


def training(*datasets: str, parent: str = "", base_versions: tuple[VersionRef, ...] = ()) -> StartRun:
    return StartRun(
        display_name="nightly",
        parameters={},
        metrics={},
        tags={},
        seed=7,
        code=CodeRevision("git@git.example:shop.git", "abc123", dirty=True),
        environment_digest=f"sha256:{'e' * 64}",
        datasets=datasets,
        environment=Environment("3.11", "linux", ("numpy==2",)),
        config="depth: 6",
        parent=parent,
        base_versions=base_versions,
    )


@contextmanager
def attacker(engine: Engine) -> Iterator[Connection]:
    """A transaction without triggers, foreign keys and checks, as whoever owns the database may have it."""
    with begin_write(engine.connect()) as connection:
        if engine.dialect.name == "postgresql":
            with connection.begin():
                connection.execute(text("SET LOCAL session_replication_role = replica"))
                yield connection
            return
        raw: Any = connection.connection.dbapi_connection
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        try:
            for pragma in ("foreign_keys = OFF", "ignore_check_constraints = ON"):
                raw.execute(f"PRAGMA {pragma}")
            for name, _ in triggers:
                raw.execute(f"DROP TRIGGER {name}")
            with connection.begin():
                yield connection
        finally:
            for _, sql in triggers:
                raw.execute(sql)
            for pragma in ("foreign_keys = ON", "ignore_check_constraints = OFF"):
                raw.execute(f"PRAGMA {pragma}")


def tamper(engine: Engine, *statements: str) -> None:
    """Runs SQL as an attacker; each statement must touch something."""
    with attacker(engine) as connection:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount > 0, statement


def rehash(engine: Engine, *, since: int, until: int | None = None) -> None:
    """Makes events consistent again, as a thorough attacker would: hash after hash, and the recorded end if
    no last event is given."""
    micros = (
        "time" if engine.dialect.name == "sqlite" else "CAST(extract(epoch FROM time) * 1000000 AS BIGINT)"
    )
    with attacker(engine) as connection:
        rows = connection.execute(
            text(
                f"SELECT sequence, {micros}, actor, action, kind, resource, details, state_digest, "
                "request_id, previous_hash FROM audit_event WHERE sequence >= :since ORDER BY sequence"
            ),
            {"since": since},
        ).all()
        previous = rows[0][-1]
        for row in rows:
            if until is not None and row[0] > until:
                return
            found = fields_hash(*row[:-1], previous)
            connection.execute(
                text(
                    "UPDATE audit_event SET previous_hash = :previous, hash = :hash "
                    "WHERE sequence = :sequence"
                ),
                {"previous": previous, "hash": found, "sequence": row[0]},
            )
            previous = found
        connection.execute(
            text("UPDATE audit_head SET sequence = :sequence, hash = :hash"),
            {"sequence": rows[-1][0], "hash": previous},
        )


class Copies:
    """All tables as they are now, to be put back; its own are gone after the `with`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Self:
        with attacker(self._engine) as connection:
            for table in Base.metadata.tables:
                connection.execute(text(f"CREATE TABLE copy_of_{table} AS SELECT * FROM {table}"))
        return self

    def __exit__(self, *_: object) -> None:
        with attacker(self._engine) as connection:
            for table in Base.metadata.tables:
                connection.execute(text(f"DROP TABLE copy_of_{table}"))

    def restore(self) -> None:
        with attacker(self._engine) as connection:
            for table in Base.metadata.tables:
                connection.execute(text(f"DELETE FROM {table}"))
                connection.execute(text(f"INSERT INTO {table} SELECT * FROM copy_of_{table}"))

    def try_change(self, statement: str) -> int | None:
        """Rows touched; None when the types or keys of the tables do not let it happen."""
        try:
            with attacker(self._engine) as connection:
                return connection.execute(text(statement)).rowcount
        except (exc.IntegrityError, exc.DataError, exc.ProgrammingError):
            return None


def cell_changes(engine: Engine, table: str) -> Iterator[tuple[str, str]]:
    """For each column, a statement that changes it in the last row."""
    sqlite = engine.dialect.name == "sqlite"
    row, cast = ("rowid", "AS INTEGER") if sqlite else ("ctid", "AS BIGINT")
    for column in inspect(engine).get_columns(table):
        name, kind = column["name"], type(column["type"]).__name__
        if kind == "BOOLEAN":
            new = f"NOT {name}"
        elif kind in ("JSON", "JSONB"):
            new = """'{"a": "b"}'"""
        elif kind == "TEXT":
            new = f"COALESCE({name}, '') || 'x'"
        elif kind == "TIMESTAMP":
            new = f"COALESCE({name}, TIMESTAMP WITH TIME ZONE '2020-01-01 00:00Z') + INTERVAL '1 microsecond'"
        elif kind in ("DOUBLE", "DOUBLE_PRECISION", "FLOAT"):
            new = f"{name} + 1"
        else:
            new = f"COALESCE({name}, 0) + CAST(7 {cast})"
        for which in ("MIN", "MAX"):
            yield (
                name,
                f"UPDATE {table} SET {name} = {new} WHERE {row} = (SELECT {which}({row}) FROM {table})",
            )
