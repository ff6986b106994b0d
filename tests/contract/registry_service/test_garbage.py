"""Garbage goes, and nothing else, beside uploads and beside other processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Engine

from registry_service import garbage, uploads
from registry_service.artifacts import Garbage
from registry_service.changes import Changes
from registry_service.collecting import Collector
from registry_service.commands import UploadFile
from registry_service.domain import Act, ModelFile, VersionRef
from registry_service.events import AuditEvent
from registry_service.ports import BlobStore, Transaction
from registry_service.repository.database import SqlDatabase, open_engine
from registry_service.stores.local import LocalBlobs
from registry_service.stores.staging import LocalStaging
from registry_service.threads import Threads
from tests.contract.registry_service.desk import Desk

T = TypeVar("T")
DAY = timedelta(days=1)
TURNS = 6


def _now() -> datetime:
    return datetime.now(UTC)


class Direct:
    """`collecting.Database`, without threads between."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], datetime]) -> None:
        self._database, self._changes = database, Changes(database, clock)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        with self._database.read() as transaction:
            return work(transaction)

    async def write(self, work: Callable[[Transaction, Act], T]) -> T:
        return self._changes.make("gc", work)


@dataclass
class Yard:
    """A desk, a folder of blobs, and somebody who sweeps it."""

    desk: Desk
    store: LocalBlobs
    staging: LocalStaging
    collector: Collector
    scratch: Path
    clock: Callable[[], datetime]

    def publish(self, content: str, path: str = "model.txt") -> ModelFile:
        file = ModelFile(path, hashlib.sha256(content.encode()).hexdigest(), len(content), "text/plain")
        source = self.scratch / f"{uuid.uuid4().hex}.part"
        source.write_text(content)
        self.store.publish(file, source)
        return file

    def orphan(self, content: str) -> str:
        """Bytes that are there for no known reason, and without waiting for the disk."""
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        path = self.scratch / "artifacts" / "sha256" / sha256[:2] / sha256[2:4] / sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return sha256

    def register(self, version: VersionRef, file: ModelFile) -> ModelFile:
        return self.desk.do(uploads.register, UploadFile(version, file), self.store.holds)

    def events(self) -> list[AuditEvent]:
        """Of sweeps."""
        with self.desk.database.read() as transaction:
            events = transaction.audit.events(after=0, limit=1000)
        return [event for event in events if event.action == "SweepBlobs"]

    def mark(self, *, dry_run: bool = False) -> Garbage:
        return asyncio.run(self.collector.mark(dry_run=dry_run))

    def sweep(self, age: timedelta = timedelta(0), *, dry_run: bool = False) -> Garbage:
        return asyncio.run(self.collector.sweep(age, dry_run=dry_run))


def collector_on(
    database: SqlDatabase, store: BlobStore, staging: LocalStaging, threads: Threads
) -> Collector:
    return Collector(Direct(database, _now), store, staging, threads, _now)


@pytest.fixture
def yard(engine: Engine, tmp_path: Path) -> Iterator[Yard]:
    database, threads = SqlDatabase(engine, busy_seconds=20), Threads("files", 1)
    store, staging = LocalBlobs(tmp_path / "artifacts"), LocalStaging(tmp_path / "incoming")
    store.prepare()
    staging.prepare()
    desk = Desk(database, _now)
    yield Yard(desk, store, staging, collector_on(database, store, staging, threads), tmp_path, _now)
    threads.close(5)


def test_bytes_that_nobody_refers_to_are_marked_then_removed(yard: Yard) -> None:
    yard.desk.model()
    draft = yard.desk.draft()
    kept, lost = yard.publish("kept"), yard.publish("lost!")
    yard.register(draft.ref, kept)
    expected = Garbage(1, 5, (lost.sha256,))
    assert yard.mark(dry_run=True) == expected
    # Nothing was marked, so there is nothing to sweep.
    assert yard.sweep().blobs == 0
    assert yard.mark() == expected
    assert yard.mark() == expected
    assert yard.sweep(DAY).blobs == 0
    assert yard.sweep(dry_run=True) == Garbage(1, 5, [lost.sha256])
    assert yard.store.holds(lost)
    assert yard.sweep() == Garbage(1, 5, [lost.sha256])
    assert not yard.store.holds(lost)
    assert yard.store.holds(kept)
    assert yard.mark() == Garbage(0, 0, ())


def test_a_sweep_is_in_the_audit_and_an_idle_one_is_not(yard: Yard) -> None:
    lost = yard.publish("lost")
    yard.sweep()
    yard.mark()
    yard.sweep()
    (event,) = yard.events()
    assert (event.actor, event.action, event.subject.kind) == ("gc", "SweepBlobs", "registry")
    details = json.loads(event.details)
    assert details == {"blobs": 1, "bytes": 4, "id": 0, "sha256": [lost.sha256]}


def test_an_upload_takes_the_mark_away(yard: Yard) -> None:
    yard.desk.model()
    draft = yard.desk.draft()
    file = yard.publish("late")
    yard.mark()
    yard.register(draft.ref, file)
    assert yard.sweep().blobs == 0
    assert yard.store.holds(file)


def test_an_upload_that_comes_after_the_sweep_puts_its_bytes_there_again(yard: Yard) -> None:
    yard.desk.model()
    draft = yard.desk.draft()
    file = yard.publish("swept")
    yard.mark()
    assert yard.sweep().blobs == 1
    with pytest.raises(uploads.BytesGone) as caught:
        yard.register(draft.ref, file)
    assert caught.value.metadata == {"path": "model.txt"}
    assert yard.desk.version(draft.ref).files == ()
    yard.publish("swept")
    yard.register(draft.ref, file)
    assert yard.desk.version(draft.ref).files == (file,)


def test_a_sweep_killed_between_the_bytes_and_its_commit_is_made_good(yard: Yard) -> None:
    yard.desk.model()
    draft = yard.desk.draft()
    file = yard.publish("half")
    yard.mark()

    def killed(sha256: str) -> None:
        yard.store.remove(sha256)
        raise KeyboardInterrupt

    candidates = yard.desk.ask(garbage.marked, _now(), "", 10)
    with pytest.raises(KeyboardInterrupt):
        yard.desk.do(garbage.sweep, _now(), candidates, killed)
    # An upload finds the record, and no bytes.
    with pytest.raises(uploads.BytesGone):
        yard.register(draft.ref, file)
    # Without one, the next sweep removes the record.
    assert yard.sweep() == Garbage(1, 4, [file.sha256])
    assert yard.mark().blobs == 0


def test_bytes_of_a_draft_and_of_an_archived_version_stay(yard: Yard) -> None:
    yard.desk.model()
    draft = yard.desk.draft()
    file = yard.publish("evidence")
    yard.register(draft.ref, file)
    assert yard.mark() == Garbage(0, 0, ())


def test_many_blobs_go_in_several_transactions(yard: Yard) -> None:
    lost = sorted(yard.orphan(f"lost {number}") for number in range(450))
    assert yard.mark().blobs == 450
    assert yard.sweep(dry_run=True).sha256 == lost
    found = yard.sweep()
    assert (found.blobs, found.sha256) == (450, lost)
    assert list(yard.store.stored()) == []
    assert len(yard.events()) >= 3


def test_uploads_and_sweepers_of_other_processes_at_once(
    yard: Yard, database_url: str, tmp_path: Path
) -> None:
    """Uploads of the same few blobs, over and over, while others mark and sweep without any patience."""
    yard.desk.model()
    context = multiprocessing.get_context("spawn")
    stop, sweeps = context.Event(), context.Value("i", 0)
    others = [
        context.Process(target=_sweep_on, args=(database_url, str(tmp_path), stop, sweeps)) for _ in range(2)
    ]
    for process in others:
        process.start()
    drafts = [yard.desk.draft().ref for _ in range(3)]
    gone, failures = [0] * len(drafts), list[BaseException]()

    def upload(number: int) -> None:
        try:
            for turn in range(TURNS):
                # Some of the same as others, some alone and slow enough for a sweep to come in between.
                content = f"blob {turn}" if turn % 2 else f"blob {turn} of {number}"
                file, seen = yard.publish(content, path=f"{turn}.txt"), sweeps.value
                while turn % 2 == 0 and sweeps.value < seen + 3 and not stop.wait(0.002):
                    pass
                while not _registered(yard, drafts[number], file):
                    gone[number] += 1
                    yard.publish(content)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(len(drafts))]
    try:
        # Only once the others are at it.
        while sweeps.value == 0:
            assert all(process.is_alive() for process in others)
            stop.wait(0.05)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    finally:
        stop.set()
        for process in others:
            process.join(30)
    assert [process.exitcode for process in others] == [0, 0]
    assert failures == []
    for draft in drafts:
        files = yard.desk.version(draft).files
        assert len(files) == TURNS
        for file in files:
            assert yard.store.measure(file.sha256) == (file.sha256, file.size_bytes)
    # Each slow one was swept once at least, or this proves nothing.
    assert sum(gone) >= len(drafts) * TURNS // 2
    yard.mark()
    yard.sweep()
    assert len(list(yard.store.stored())) == TURNS // 2 * (1 + len(drafts))


def _registered(yard: Yard, draft: VersionRef, file: ModelFile) -> bool:
    try:
        yard.register(draft, file)
    except uploads.BytesGone:
        return False
    return True


def _sweep_on(url: str, folder: str, stop: threading.Event, sweeps: object) -> None:
    """Another process: marks and sweeps until told to stop."""
    engine, threads = open_engine(url, busy_seconds=20), Threads("files", 1)
    store, staging = LocalBlobs(Path(folder) / "artifacts"), LocalStaging(Path(folder) / "incoming")
    collector = collector_on(SqlDatabase(engine, busy_seconds=20), store, staging, threads)
    while not stop.is_set():
        asyncio.run(collector.mark(dry_run=False))
        asyncio.run(collector.sweep(timedelta(0), dry_run=False))
        sweeps.value += 1  # type: ignore[attr-defined]
    engine.dispose()
