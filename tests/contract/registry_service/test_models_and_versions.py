from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from plumbline.registry.errors import (
    DatasetNotFound,
    EtagMismatch,
    FileExists,
    FileNotFound,
    ModelArchived,
    ModelExists,
    ModelNotFound,
    RunNotFound,
    VersionEmpty,
    VersionImmutable,
    VersionNotFound,
    VersionNotReady,
)
from registry_service import models, uploads, versions
from registry_service.commands import RecordEvaluation, UpdateModel
from registry_service.domain import (
    AliasRef,
    Field,
    InputSource,
    ModelInput,
    Signature,
    VersionRef,
    VersionState,
    etag,
    manifest_digest,
)
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.desk import Desk, model_file, sha, snapshot

SIGNATURE = Signature(
    inputs=(
        ModelInput("wind", "DOUBLE", InputSource.FEATURE, "weather:wind"),
        ModelInput("carrier", "STRING", InputSource.REQUEST, "", ("9E", "AA", "ÜX")),
    ),
    outputs=(Field("late", "DOUBLE", "probability"),),
    feature_service="delays",
    feature_service_digest=f"sha256:{sha('delays')}",
    join_keys=(Field("origin", "STRING"),),
    request_data=(Field("hour", "INT64"),),
)


def test_a_model_comes_back_as_it_was_created(desk: Desk, clock: TickingClock) -> None:
    before = clock.now
    created = desk.model("flights", description="late?", tags={"team": "ops", "ünï": "✓"})
    assert created == desk.ask(models.get, "flights")
    assert (created.name, created.description, created.tags) == (
        "flights",
        "late?",
        {"team": "ops", "ünï": "✓"},
    )
    assert (created.latest_version, created.archive_time, created.aliases) == (0, None, ())
    assert created.create_time == created.update_time == before + timedelta(milliseconds=1)
    assert created.create_time.utcoffset() == timedelta(0)
    assert created.create_time.microsecond == 124_457


def test_a_name_is_given_once_also_when_archived(desk: Desk) -> None:
    desk.model("flights")
    desk.do(models.archive, "flights", "")
    with pytest.raises(ModelExists) as caught:
        desk.model("flights")
    assert caught.value.metadata == {"model": "flights"}


def test_an_unknown_model_is_told_by_name(desk: Desk) -> None:
    for question in (models.get, models.get_id):
        with pytest.raises(ModelNotFound) as caught:
            desk.ask(question, "nope")
        assert caught.value.metadata == {"model": "nope"}


def test_update_writes_only_what_is_given_and_changes_the_etag(desk: Desk) -> None:
    first = desk.model(description="old", tags={"a": "1"})
    tag = etag("models/flights", first.revision)
    second = desk.do(models.update, UpdateModel("flights", tag, None, {"b": "2"}))
    assert (second.description, second.tags) == ("old", {"b": "2"})
    assert second.update_time > first.update_time
    with pytest.raises(EtagMismatch) as caught:
        desk.do(models.update, UpdateModel("flights", tag, "newer", None))
    assert caught.value.metadata == {
        "resource": "models/flights",
        "expected": tag,
        "actual": etag("models/flights", second.revision),
    }
    assert desk.ask(models.get, "flights") == second


def test_an_archived_model_leaves_the_list_and_takes_no_changes(desk: Desk) -> None:
    desk.model("kept")
    draft = desk.draft(desk.model("gone").name)
    archived = desk.do(models.archive, "gone", "")
    assert archived.archive_time is not None
    assert desk.do(models.archive, "gone", "") == archived
    listed = desk.models().items
    everything = desk.models(archived=True).items
    assert [model.name for model in listed] == ["kept"]
    assert [model.name for model in everything] == ["gone", "kept"]
    for change in (
        lambda: desk.draft("gone"),
        lambda: desk.add_file(draft.ref),
        lambda: desk.do(models.update, UpdateModel("gone", "", "x", None)),
    ):
        with pytest.raises(ModelArchived):
            change()


def test_models_sort_by_code_point_on_every_database(desk: Desk) -> None:
    for name in ("b", "B", "a-1", "a.1", "a_1", "a1", "A"):
        desk.model(name)
    names = [model.name for model in desk.models().items]
    assert names == sorted(names)
    behind = desk.models(after=desk.models(limit=4).end, limit=2).items
    assert [model.name for model in behind] == names[4:6]


def test_a_version_goes_from_draft_to_ready_with_all_its_links(desk: Desk) -> None:
    desk.model()
    data = desk.dataset(snapshot("train"))
    other = desk.dataset(snapshot("more"))
    run = desk.run(datasets=[data.digest])
    draft = desk.draft(run=run.name, datasets=[other.digest, data.digest], signature=SIGNATURE)
    assert (draft.state, draft.manifest_digest, draft.files) == (VersionState.DRAFT, "", ())
    assert draft.signature == SIGNATURE
    assert (draft.run, draft.datasets, draft.actor) == (run.name, (other.digest, data.digest), "ann")
    files = (model_file("a/info.json", "{}"), model_file("model.txt"))
    for file in reversed(files):
        desk.add_file(draft.ref, file)
    ready = desk.do(versions.finalize, draft.ref, etag(str(draft.ref), desk.version(draft.ref).revision))
    assert (ready.state, ready.files) == (VersionState.READY, files)
    assert ready.manifest_digest == manifest_digest(files)
    assert ready.finalize_time is not None
    assert desk.version(draft.ref) == ready
    assert desk.ask(models.get, "flights").latest_version == 1


def test_numbers_count_up_within_a_model(desk: Desk) -> None:
    desk.model("a")
    desk.model("b")
    assert [desk.draft(name).ref.number for name in "aaba"] == [1, 2, 1, 3]
    page = desk.versions("a", after=desk.versions("a", limit=1).end, limit=1).items
    assert [version.ref for version in page] == [VersionRef("a", 2)]


def test_links_to_unknown_things_leave_no_version_behind(desk: Desk) -> None:
    desk.model()
    with pytest.raises(RunNotFound) as no_run:
        desk.draft(run="0" * 32)
    with pytest.raises(DatasetNotFound) as no_data:
        desk.draft(datasets=[sha("nope")])
    assert no_run.value.metadata == {"run": "0" * 32}
    assert no_data.value.metadata == {"dataset": sha("nope")}
    assert desk.draft().ref.number == 1


def test_unknown_versions(desk: Desk) -> None:
    desk.model()
    with pytest.raises(VersionNotFound) as caught:
        desk.version(VersionRef("flights", 9))
    assert caught.value.metadata == {"model": "flights", "version": "9"}
    with pytest.raises(ModelNotFound):
        desk.version(VersionRef("nope", 1))


def test_the_same_bytes_twice_are_fine_other_bytes_are_not(desk: Desk) -> None:
    desk.model()
    draft = desk.draft()
    assert desk.add_file(draft.ref) == desk.add_file(draft.ref)
    after = desk.version(draft.ref)
    for attempt in (
        lambda: desk.add_file(draft.ref, model_file(content="other")),
        lambda: desk.ask(uploads.check, _upload(draft.ref, content="other")),
    ):
        with pytest.raises(FileExists) as caught:
            attempt()
        assert caught.value.metadata == {
            "path": "model.txt",
            "expected": sha("tree"),
            "actual": sha("other"),
        }
    assert desk.version(draft.ref) == after


def test_a_version_without_files_stays_a_draft(desk: Desk) -> None:
    desk.model()
    draft = desk.draft()
    with pytest.raises(VersionEmpty):
        desk.do(versions.finalize, draft.ref, "")
    assert desk.version(draft.ref).state is VersionState.DRAFT


def test_finalize_compares_the_etag(desk: Desk) -> None:
    desk.model()
    draft = desk.draft()
    desk.add_file(draft.ref)
    with pytest.raises(EtagMismatch):
        desk.do(versions.finalize, draft.ref, etag(str(draft.ref), draft.revision))
    assert desk.version(draft.ref).state is VersionState.DRAFT


def test_a_ready_version_takes_no_more(desk: Desk) -> None:
    desk.model()
    ready = desk.ready()
    for change in (
        lambda: desk.add_file(ready.ref, model_file("more.txt")),
        lambda: desk.add_file(ready.ref),
        lambda: desk.do(versions.finalize, ready.ref, ""),
        lambda: desk.ask(uploads.check, _upload(ready.ref)),
    ):
        with pytest.raises(VersionImmutable) as caught:
            change()
        assert caught.value.metadata == {"version": "models/flights/versions/1"}
    assert desk.version(ready.ref) == ready


def test_archiving_keeps_what_a_version_is(desk: Desk) -> None:
    desk.model()
    ready = desk.ready()
    archived = desk.do(versions.archive, ready.ref, etag(str(ready.ref), ready.revision))
    assert archived.archive_time is not None
    assert archived == replace(
        ready,
        state=VersionState.ARCHIVED,
        revision=archived.revision,
        archive_time=archived.archive_time,
        update_time=archived.archive_time,
    )
    assert archived.revision > ready.revision
    assert desk.do(versions.archive, ready.ref, "") == archived
    with pytest.raises(VersionImmutable):
        desk.do(versions.finalize, ready.ref, "")


def test_files_are_found_in_ready_versions_only(desk: Desk) -> None:
    desk.model()
    draft = desk.draft()
    desk.add_file(draft.ref)
    with pytest.raises(VersionNotReady) as not_ready:
        desk.ask(versions.find_file, draft.ref, "model.txt")
    assert not_ready.value.metadata == {"version": str(draft.ref), "state": "DRAFT"}
    desk.do(versions.finalize, draft.ref, "")
    assert desk.ask(versions.find_file, draft.ref, "model.txt") == model_file()
    with pytest.raises(FileNotFound) as missing:
        desk.ask(versions.find_file, draft.ref, "other.txt")
    assert missing.value.metadata == {"version": str(draft.ref), "path": "other.txt"}


def test_evidence_grows_while_the_version_stays(desk: Desk) -> None:
    desk.model()
    data = desk.dataset(snapshot("test"))
    ready = desk.ready()
    metrics = {"auc": 0.7512345678901234, "rows": 1e22, "tiny": 5e-324}
    evaluation = desk.do(
        versions.record_evaluation, RecordEvaluation(ready.ref, data.digest, "test", metrics)
    )
    assert (evaluation.metrics, evaluation.actor) == (metrics, "ann")
    after = desk.version(ready.ref)
    assert after.evaluations == (evaluation,)
    assert replace(after, evaluations=()) == ready


def test_evaluations_need_a_ready_version_and_a_known_dataset(desk: Desk) -> None:
    desk.model()
    draft, data = desk.draft(), desk.dataset(snapshot("test"))
    with pytest.raises(VersionNotReady):
        desk.do(versions.record_evaluation, RecordEvaluation(draft.ref, data.digest, "test", {"auc": 0.5}))
    with pytest.raises(DatasetNotFound):
        desk.do(
            versions.record_evaluation, RecordEvaluation(desk.ready().ref, sha("?"), "test", {"auc": 0.5})
        )


def test_a_version_is_found_by_alias_too(desk: Desk) -> None:
    desk.model()
    ready = desk.ready()
    desk.set_alias("champion", ready.ref)
    found = desk.version(AliasRef("flights", "champion"))
    assert found == replace(ready, aliases=("champion",))


def _upload(ref: VersionRef, content: str = "tree") -> versions.UploadFile:
    return versions.UploadFile(ref, model_file(content=content))
