"""Backups from each database into each, while others write, and what is refused."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from registry_service import versions
from registry_service.backup.manifest import BackupError, blob_path, file_digest
from registry_service.domain import AliasRef, VersionRef
from registry_service.webhooks import registration
from tests.contract.registry_service.backup_desk import Registry, Rows, new_registry
from tests.contract.registry_service.conftest import maintain
from tests.contract.registry_service.desk import Desk, snapshot
from tests.contract.registry_service.webhook_desk import SECRET, new_webhook

NewRegistry = Callable[[str], Registry]


@pytest.fixture
def registry(desk: Desk, engine: Any, fast_folder: Path) -> Registry:
    """A migrated one without anything in it, on each backend."""
    return Registry(desk, engine, fast_folder / "source")


@pytest.fixture
def fresh(fast_folder: Path, clock: Any, request: pytest.FixtureRequest) -> Iterator[NewRegistry]:
    """Makes further ones, on the backend asked for."""
    made: list[Registry] = []
    drop: list[tuple[str, str]] = []

    def new(backend: str) -> Registry:
        name = f"fresh_{uuid.uuid4().hex[:12]}"
        if backend == "sqlite":
            url = f"sqlite:///{fast_folder / name}.db"
        else:
            server = request.getfixturevalue("postgres_server")
            maintain(server, f"CREATE DATABASE {name}")
            drop.append((server, name))
            url = server.replace("/postgres?", f"/{name}?")
        made.append(new_registry(url, fast_folder / name, clock))
        return made[-1]

    yield new
    for registry in made:
        registry.engine.dispose()
    for server, name in drop:
        maintain(server, f"DROP DATABASE {name} WITH (FORCE)")


def _without_secrets(rows: Rows) -> Rows:
    hidden = {"secret": "", "last_error": "restored without its secret: give it one"}
    return {**rows, "webhook": [row | hidden for row in rows["webhook"]]}


@pytest.mark.parametrize("into", ["sqlite", "postgresql"])
def test_there_and_back(registry: Registry, fresh: NewRegistry, fast_folder: Path, into: str) -> None:
    registry.fill()
    before = registry.rows()
    manifest = registry.backup(fast_folder / "backup")
    assert registry.rows() == before
    assert manifest.blobs == 2
    assert manifest.contents.head.sequence == len(before["audit_event"])
    restored = fresh(into)
    guards = restored.guards()
    assert restored.restore(fast_folder / "backup") == manifest
    after = restored.rows()
    # One event more, which tells of the restore.
    event = after["audit_event"].pop()
    assert (event["action"], event["previous_hash"]) == ("RestoreBackup", manifest.contents.head.hash)
    assert manifest.head in event["details"]
    assert after.pop("audit_head") == [{"id": 1, "sequence": event["sequence"], "hash": event["hash"]}]
    expected = _without_secrets(before)
    expected.pop("audit_head")
    assert after == expected
    assert restored.faults() == []
    assert restored.guards() == guards


@pytest.mark.parametrize("into", ["sqlite", "postgresql"])
def test_the_restored_registry_goes_on(
    registry: Registry, fresh: NewRegistry, fast_folder: Path, into: str
) -> None:
    registry.fill()
    registry.backup(fast_folder / "backup")
    restored = fresh(into)
    restored.restore(fast_folder / "backup")
    third = restored.ready("flights", "tree three")
    assert third.ref == VersionRef("flights", 3)
    restored.desk.set_alias("champion", third.ref)
    restored.desk.model("ships")
    restored.desk.run()
    restored.desk.dataset(snapshot("later"))
    assert restored.desk.version(AliasRef("flights", "champion")).ref == third.ref
    # The evidence is guarded again.
    for statement in (
        "UPDATE model_version SET number = 9 WHERE number = 2",
        "DELETE FROM audit_event",
        "DELETE FROM version_file",
        "UPDATE dataset_snapshot SET row_count = 9",
    ):
        with pytest.raises(DBAPIError), restored.engine.begin() as connection:
            connection.execute(text(statement))
    assert restored.faults() == []
    # And a backup of it is as good.
    again = fresh("sqlite")
    restored.backup(fast_folder / "second")
    again.restore(fast_folder / "second")
    assert again.faults() == []


def test_while_others_write(registry: Registry, fresh: NewRegistry, fast_folder: Path) -> None:
    """One state of the database, with all the bytes it names."""
    registry.fill()
    stop, failures = threading.Event(), list[BaseException]()
    started = threading.Barrier(4)

    def write(writer: int) -> None:
        try:
            registry.desk.model(f"w{writer}")
            started.wait(30)
            for number in range(1_000):
                if stop.is_set():
                    return
                version = registry.ready(f"w{writer}", f"{writer} {number}")
                registry.desk.set_alias("newest", version.ref)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in writers:
        thread.start()
    started.wait(30)
    try:
        manifests = [registry.backup(fast_folder / f"backup{number}") for number in range(3)]
    finally:
        stop.set()
        for thread in writers:
            thread.join(30)
    assert not failures
    heads = [manifest.contents.head.sequence for manifest in manifests]
    assert heads == sorted(set(heads))
    for number, manifest in enumerate(manifests):
        restored = fresh("sqlite")
        assert restored.restore(fast_folder / f"backup{number}", expected_head=manifest.head) == manifest
        assert restored.faults() == []
        ready = sum(row["state"] == "READY" for row in restored.rows()["model_version"])
        assert manifest.blobs == manifest.contents.rows["blob"] >= ready


def test_bytes_nobody_refers_to_stay_behind(
    registry: Registry, fresh: NewRegistry, fast_folder: Path
) -> None:
    registry.fill()
    loose = registry.keep("never linked")
    with registry.engine.begin() as connection:
        values = {"sha256": loose.sha256, "size": loose.size_bytes}
        micros = "0" if registry.engine.dialect.name == "sqlite" else "now()"
        connection.execute(
            text(f"INSERT INTO blob (sha256, size_bytes, create_time) VALUES (:sha256, :size, {micros})"),
            values,
        )
    manifest = registry.backup(fast_folder / "backup")
    assert manifest.blobs == 2
    restored = fresh("sqlite")
    restored.restore(fast_folder / "backup")
    assert loose.sha256 not in {row["sha256"] for row in restored.rows()["blob"]}
    assert not restored.blobs.holds(loose)


def test_secrets_of_webhooks(registry: Registry, fresh: NewRegistry, fast_folder: Path) -> None:
    webhook = new_webhook(registry.desk)
    registry.backup(fast_folder / "without")
    manifest = registry.backup(fast_folder / "with", secrets=True)
    assert manifest.webhook_secrets
    assert SECRET.encode() not in (fast_folder / "without" / "registry.db").read_bytes()
    restored = fresh("sqlite")
    restored.restore(fast_folder / "without")
    found = restored.desk.ask(registration.get, webhook.name)
    assert (found.secret, found.state) == ("", webhook.state)
    # Nothing can be signed, and so nothing is sent.
    assert restored.desk.ask(lambda tx: tx.webhooks.active()) == []
    restored = fresh("sqlite")
    restored.restore(fast_folder / "with")
    assert restored.desk.ask(registration.get, webhook.name).secret == SECRET


def test_bytes_that_an_earlier_backup_has_are_shared(registry: Registry, fast_folder: Path) -> None:
    registry.fill()
    first, second = fast_folder / "first", fast_folder / "second"
    registry.backup(first)
    registry.ready("flights", "tree three")
    shas = [row["sha256"] for row in registry.rows()["blob"]]
    # One went bad meanwhile, and is not carried on.
    bad = blob_path(first, shas[0])
    bad.chmod(0o600)
    bad.write_bytes(b"x" * bad.stat().st_size)
    registry.backup(second, previous=first)
    shared = [sha for sha in shas if blob_path(second, sha).stat().st_nlink == 2]
    assert sorted(shared) == sorted(sha for sha in shas[1:] if blob_path(first, sha).exists())
    assert all(file_digest(blob_path(second, sha)) == sha for sha in shas)
    with pytest.raises(BackupError, match="is no backup"):
        registry.backup(fast_folder / "third", previous=fast_folder / "source")


def test_damaged_bytes(registry: Registry, fresh: NewRegistry, fast_folder: Path) -> None:
    registry.fill()
    sha = registry.rows()["version_file"][0]["sha256"]
    stored = registry.folder / "artifacts" / "sha256" / sha[:2] / sha[2:4] / sha
    stored.chmod(0o600)
    stored.write_bytes(b"x" * stored.stat().st_size)
    with pytest.raises(BackupError, match=f"damaged or missing in the registry: {sha}"):
        registry.backup(fast_folder / "backup")
    assert _left(fast_folder) == []
    manifest = registry.backup(fast_folder / "backup", allow_damaged=True)
    assert manifest.damaged == (sha,)
    restored = fresh("sqlite")
    restored.restore(fast_folder / "backup")
    assert any(sha in fault for fault in restored.faults())


def test_a_backup_never_writes_over_anything(registry: Registry, fast_folder: Path) -> None:
    (fast_folder / "backup").mkdir()
    with pytest.raises(BackupError, match="is there already"):
        registry.backup(fast_folder / "backup")
    assert os.listdir(fast_folder / "backup") == []


def _flip(path: Path, at: int = -1) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _first_blob(backup: Path) -> Path:
    return next(path for path in sorted((backup / "blobs").rglob("*")) if path.is_file())


def _forge(backup: Path, statement: str) -> None:
    """Alters the database, and makes the manifest fit."""
    connection = sqlite3.connect(backup / "registry.db")
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()
    _edit(backup, lambda document: document["database"].update(sha256=file_digest(backup / "registry.db")))


def _edit(backup: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((backup / "manifest.json").read_text())
    change(document)
    (backup / "manifest.json").write_text(json.dumps(document))


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the database": (lambda b: _flip(b / "registry.db", 5_000), "registry.db was altered"),
    "no database": (lambda b: (b / "registry.db").unlink(), "cannot be read"),
    "a bit of a blob": (lambda b: _flip(_first_blob(b)), "was altered: its sha256 is"),
    "no blob": (lambda b: _first_blob(b).unlink(), "is missing"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "is no backup"),
    "half a manifest": (lambda b: (b / "manifest.json").write_text('{"format": 1'), "cannot be read"),
    "an empty manifest": (lambda b: (b / "manifest.json").write_text("{}"), "is not a manifest"),
    "another format": (lambda b: _edit(b, lambda d: d.update(format=9)), "format 9"),
    "another head": (lambda b: _edit(b, lambda d: d.update(head="3:" + "0" * 64)), "does not hold"),
    "fewer rows": (lambda b: _edit(b, lambda d: d["database"]["rows"].update(alias=0)), "does not hold"),
    "an event": (
        lambda b: _forge(b, "UPDATE audit_event SET actor = 'eve' WHERE sequence = 3"),
        "was altered: auditEvents/3",
    ),
    "a version": (
        lambda b: _forge(b, "UPDATE model_version SET manifest_digest = 'sha256:' || hex(zeroblob(32))"),
        "was altered: models/flights/versions/",
    ),
    "an alias": (
        lambda b: _forge(b, "UPDATE alias SET version_id = 1 WHERE name = 'champion'"),
        "was altered: models/flights/aliases/champion",
    ),
}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_tampered_with_is_refused(
    registry: Registry, fresh: NewRegistry, fast_folder: Path, tampering: str
) -> None:
    registry.fill()
    registry.backup(fast_folder / "backup")
    tamper, message = TAMPERINGS[tampering]
    tamper(fast_folder / "backup")
    restored = fresh("sqlite")
    before = restored.rows()
    with pytest.raises(BackupError, match=message):
        restored.restore(fast_folder / "backup")
    assert restored.rows() == before
    with pytest.raises(BackupError):
        restored.restore(fast_folder / "backup", check_only=True)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_head_noted_elsewhere(registry: Registry, fresh: NewRegistry, fast_folder: Path) -> None:
    """Whoever can write anything anew is found out by what was noted elsewhere."""
    registry.fill()
    manifest = registry.backup(fast_folder / "backup")
    restored = fresh("sqlite")
    with pytest.raises(BackupError, match="expected was 7:abc"):
        restored.restore(fast_folder / "backup", expected_head="7:abc")
    assert restored.restore(fast_folder / "backup", expected_head=manifest.head, check_only=True) == manifest
    assert len(restored.rows()["audit_event"]) == 1
    assert list(restored.blobs.stored()) == []


def test_only_into_an_empty_registry(registry: Registry, fresh: NewRegistry, fast_folder: Path) -> None:
    registry.fill()
    registry.backup(fast_folder / "backup")
    before = registry.rows()
    with pytest.raises(BackupError, match="the database is not empty"):
        registry.restore(fast_folder / "backup")
    assert registry.rows() == before
    restored = fresh("sqlite")
    foreign = restored.keep("somebody else's")
    with pytest.raises(BackupError, match=f"not empty: it holds {foreign.sha256}"):
        restored.restore(fast_folder / "backup")
    restored.blobs.remove(foreign.sha256)
    # What an attempt before has left is of use.
    restored.keep("tree one")
    restored.restore(fast_folder / "backup")
    assert restored.faults() == []


def test_the_backup_stays_what_it_is(registry: Registry, fresh: NewRegistry, fast_folder: Path) -> None:
    registry.fill()
    registry.backup(fast_folder / "backup")
    restored = fresh("sqlite")
    restored.restore(fast_folder / "backup")
    for path in (fast_folder / "backup" / "blobs").rglob("*"):
        assert path.is_dir() or path.stat().st_nlink == 1
    assert list((restored.folder / "scratch").iterdir()) == []
    assert restored.desk.ask(versions.get, VersionRef("flights", 2)).files


def _left(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if "partial" in name or name.startswith("backup")]
