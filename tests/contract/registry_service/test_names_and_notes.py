"""Renaming and taking back; notes about versions; copies; versions whose bytes are elsewhere; leases."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from plumbline.registry.errors import (
    AliasNotFound,
    EtagMismatch,
    InvalidField,
    ModelArchived,
    ModelExists,
    ModelNotFound,
    RunEnded,
    VersionEmpty,
    VersionNotReady,
)
from registry_service import aliases, models, runs, versions
from registry_service.commands import CreateVersion, RenewRun, StartRun, UpdateModel, UpdateVersion
from registry_service.domain import AliasRef, ModelVersion, RunState, VersionRef, VersionState, etag
from registry_service.events import AuditEvent
from registry_service.ports import Transaction
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.desk import Desk, model_file, snapshot


def _events(desk: Desk, after: int = 1) -> list[AuditEvent]:
    def read(transaction: Transaction) -> list[AuditEvent]:
        return list(transaction.audit.events(after=after, limit=1_000))

    return desk.ask(read)


def _actions(desk: Desk) -> list[str]:
    return [f"{event.action} {event.subject.name}" for event in _events(desk)]


def _note(desk: Desk, version: ModelVersion, **notes: Any) -> ModelVersion:
    fields: dict[str, Any] = {"etag": "", "description": None, "tags": None, "stage": None} | notes
    return desk.do(versions.update, UpdateVersion(version.ref, **fields))


def test_a_renamed_model_keeps_all_it_has(desk: Desk) -> None:
    desk.model("old", tags={"team": "risk"})
    ready = desk.ready("old")
    desk.set_alias("champion", ready.ref)
    before = desk.ask(models.get, "old")
    renamed = desk.do(models.rename, "old", "new", etag("models/old", before.revision))
    assert (renamed.id, renamed.name, renamed.tags) == (before.id, "new", {"team": "risk"})
    assert renamed.latest_version == 1
    alias, version = desk.ask(aliases.resolve, AliasRef("new", "champion"), None)
    assert (str(alias.ref), str(version.ref)) == ("models/new/aliases/champion", "models/new/versions/1")
    assert len(desk.ask(aliases.history_page, "new", before=None, limit=10)) == 1
    for missing in (lambda: desk.ask(models.get, "old"), lambda: desk.version(VersionRef("old", 1))):
        with pytest.raises(ModelNotFound):
            missing()
    assert desk.draft("new").ref.number == 2
    # The name is free again, for another model.
    desk.model("old")
    assert desk.draft("old").ref.number == 1
    assert _events(desk)[-4].model == "models/new"


def test_a_name_that_is_taken_and_a_model_that_has_changed(desk: Desk) -> None:
    first, _ = desk.model("a"), desk.model("b")
    with pytest.raises(ModelExists):
        desk.do(models.rename, "a", "b", "")
    desk.do(models.update, UpdateModel("a", "", "other", None))
    with pytest.raises(EtagMismatch):
        desk.do(models.rename, "a", "c", etag("models/a", first.revision))
    assert desk.do(models.rename, "a", "a", "").name == "a"


def test_numbers_go_on_in_a_model_that_is_taken_back(desk: Desk) -> None:
    desk.model("m")
    desk.ready("m")
    desk.do(models.archive, "m", "")
    with pytest.raises(ModelArchived):
        desk.draft("m")
    with pytest.raises(ModelArchived):
        desk.do(models.rename, "m", "n", "")
    with pytest.raises(ModelExists):
        desk.model("m")
    restored = desk.do(models.restore, "m", "")
    assert restored.archive_time is None
    assert desk.draft("m").ref.number == 2
    with pytest.raises(ModelExists, match="not archived"):
        desk.do(models.restore, "m", "")


def test_a_refused_creation_takes_no_number(desk: Desk) -> None:
    desk.model("m")
    desk.do(models.archive, "m", "")
    with pytest.raises(ModelArchived):
        desk.draft("m")
    assert desk.ask(models.get, "m").latest_version == 0
    with pytest.raises(ModelNotFound):
        desk.draft("other")


def test_notes_about_a_ready_version_may_change_and_nothing_else_does(desk: Desk) -> None:
    desk.model()
    ready = desk.ready()
    noted = _note(desk, ready, description="good", tags={"a": "1", "b": "2"})
    assert (noted.description, noted.tags) == ("good", {"a": "1", "b": "2"})
    assert (noted.state, noted.files, noted.manifest_digest) == (
        ready.state,
        ready.files,
        ready.manifest_digest,
    )
    assert noted.revision > ready.revision
    assert noted.update_time is not None
    assert ready.update_time is not None
    assert noted.update_time > ready.update_time
    again = _note(desk, noted, tags={"b": "3"}, stage="Production", etag=etag(str(ready.ref), noted.revision))
    assert (again.description, again.tags, again.stage) == ("good", {"b": "3"}, "Production")
    assert desk.version(ready.ref) == again
    with pytest.raises(EtagMismatch):
        _note(desk, ready, description="late", etag=etag(str(ready.ref), ready.revision))
    with pytest.raises(InvalidField, match="Staging"):
        _note(desk, ready, stage="production")
    assert [(event.action, event.details) for event in _events(desk)[-2:]] == [
        ("UpdateVersion", '{"description":"good","id":1,"tags":{"a":"1","b":"2"}}'),
        ("UpdateVersion", '{"id":1,"removed_tags":["a"],"stage":"Production","tags":{"b":"3"}}'),
    ]


def test_a_copy_has_the_files_and_links_of_its_origin(desk: Desk) -> None:
    desk.model("dev")
    desk.model("prod")
    data = desk.dataset(snapshot("train"))
    run = desk.run(datasets=[data.digest])
    origin = desk.ready("dev", run=run.name, datasets=[data.digest])
    _note(desk, origin, description="from dev", tags={"a": "1"})
    command = CreateVersion("prod", "", {"b": "2"}, None, "", (), copy_from=origin.ref)
    copy = desk.do(versions.create, command)
    assert copy == desk.version(VersionRef("prod", 1))
    assert (copy.state, copy.files, copy.run, copy.datasets) == (
        VersionState.DRAFT,
        origin.files,
        run.name,
        (data.digest,),
    )
    assert (copy.copied_from, copy.description, copy.tags) == (origin.ref, "from dev", {"a": "1", "b": "2"})
    ready = desk.do(versions.finalize, copy.ref, "")
    assert ready.manifest_digest == origin.manifest_digest
    draft = desk.draft("dev")
    with pytest.raises(VersionNotReady):
        desk.do(versions.create, CreateVersion("prod", "", {}, None, "", (), copy_from=draft.ref))
    assert desk.ask(models.get, "prod").latest_version == 1
    with pytest.raises(InvalidField, match="copy_from"):
        CreateVersion("prod", "", {}, None, "", (), source="s3://x", copy_from=origin.ref)


def test_a_version_with_a_source_needs_no_files(desk: Desk) -> None:
    desk.model()
    command = CreateVersion("flights", "", {}, None, "", (), source="s3://bucket/model", external_run="r1")
    version = desk.do(versions.create, command)
    assert (version.source, version.external_run) == ("s3://bucket/model", "r1")
    ready = desk.do(versions.finalize, version.ref, "")
    assert (ready.state, ready.files) == (VersionState.READY, ())
    with pytest.raises(VersionEmpty):
        desk.do(versions.finalize, desk.draft().ref, "")


def test_every_change_leaves_one_event(desk: Desk) -> None:
    desk.model("m")
    data = desk.dataset(snapshot("train"))
    desk.dataset(snapshot("train"))
    draft = desk.draft("m", datasets=[data.digest])
    desk.add_file(draft.ref)
    desk.add_file(draft.ref)
    desk.do(versions.finalize, draft.ref, "")
    desk.set_alias("champion", draft.ref)
    desk.clear_alias(AliasRef("m", "champion"))
    with pytest.raises(AliasNotFound):
        desk.clear_alias(AliasRef("m", "champion"))
    desk.do(versions.archive, draft.ref, "")
    desk.do(versions.archive, draft.ref, "")
    assert _actions(desk) == [
        "CreateModel models/m",
        f"RecordDataset datasets/{data.digest}",
        "CreateVersion models/m/versions/1",
        "UploadFile models/m/versions/1",
        "FinalizeVersion models/m/versions/1",
        "SetAlias models/m/aliases/champion",
        "ClearAlias models/m/aliases/champion",
        "ArchiveVersion models/m/versions/1",
    ]
    events = _events(desk, after=0)
    assert [event.sequence for event in events] == list(range(1, 10))
    assert all(event.previous_hash == before.hash for before, event in pairwise(events))
    assert {event.actor for event in events[1:]} == {"ann"}


def _leased(lease: timedelta | None) -> StartRun:
    return StartRun("nightly", {}, {}, {}, 7, None, "", (), lease=lease)


def test_a_run_that_is_not_renewed_is_given_up(desk: Desk, clock: TickingClock) -> None:
    kept = desk.do(runs.start, _leased(timedelta(minutes=5)))
    lost = desk.do(runs.start, _leased(timedelta(minutes=5)))
    endless = desk.do(runs.start, _leased(None))
    clock.now += timedelta(minutes=4)
    renewed = desk.do(runs.renew, RenewRun(kept.name, timedelta(minutes=5)))
    assert renewed.lease_expire_time is not None
    assert kept.lease_expire_time is not None
    assert renewed.lease_expire_time > kept.lease_expire_time
    assert desk.do(runs.expire, 10) == 0
    clock.now += timedelta(minutes=2)
    assert desk.do(runs.expire, 10) == 1
    assert [desk.ask(runs.get, run.name).state for run in (kept, lost, endless)] == [
        RunState.RUNNING,
        RunState.FAILED,
        RunState.RUNNING,
    ]
    assert "lease ended at 2026-03-01T12:05" in desk.ask(runs.get, lost.name).error
    assert _events(desk)[-1].action == "ExpireRun"
    with pytest.raises(RunEnded):
        desk.do(runs.renew, RenewRun(lost.name, timedelta(minutes=5)))
    with pytest.raises(InvalidField):
        RenewRun(kept.name, timedelta(0))
    with pytest.raises(InvalidField):
        _leased(timedelta(days=31))


def test_the_file_of_a_copy_is_its_own(desk: Desk) -> None:
    """Adding to a copy that is a DRAFT leaves the origin as it is."""
    desk.model("m")
    origin = desk.ready("m")
    copy = desk.do(versions.create, CreateVersion("m", "", {}, None, "", (), copy_from=origin.ref))
    desk.add_file(copy.ref, model_file("extra.txt", "more"))
    assert [file.path for file in desk.version(copy.ref).files] == ["extra.txt", "model.txt"]
    assert desk.version(origin.ref) == origin
