"""Use cases of model versions. Each function is one transaction of its caller's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plumbline.registry.errors import FileExists, FileNotFound, VersionEmpty, VersionImmutable, VersionInUse
from registry_service import states
from registry_service.audit import record
from registry_service.checks import check_active, check_etag, check_not_archived, check_ready
from registry_service.commands import CreateVersion, RecordEvaluation, UpdateVersion, UploadFile
from registry_service.domain import (
    Act,
    AliasRef,
    Evaluation,
    ModelFile,
    ModelVersion,
    VersionRef,
    VersionState,
    manifest_digest,
)
from registry_service.filtering.search import Hit, Search
from registry_service.ports import Transaction


def create(transaction: Transaction, act: Act, command: CreateVersion) -> ModelVersion:
    """A DRAFT under the model's next number. A copy takes files, signature, run and datasets of the version
    it is copied from.

    Raises ModelNotFound, ModelArchived, RunNotFound, DatasetNotFound; of the version copied VersionNotFound,
    VersionNotReady.
    """
    return _create(transaction, act, command, "")


def register(transaction: Transaction, act: Act, command: CreateVersion) -> ModelVersion:
    """As `create`, and READY at once: what is registered is kept elsewhere, or is a copy."""
    if command.copy_from is None:
        return _create(transaction, act, command, manifest_digest(()))
    return finalize(transaction, act, create(transaction, act, command).ref, "")


def _create(transaction: Transaction, act: Act, command: CreateVersion, ready: str) -> ModelVersion:
    taken = transaction.models.next_number(command.model, act.time)
    check_not_archived(command.model, taken.archive_time)
    ref = VersionRef(command.model, taken.number)
    if command.copy_from is not None:
        return _copy(transaction, act, taken.model_id, ref, command, command.copy_from)
    run = transaction.runs.get(command.run) if command.run else None
    version = transaction.versions.add(
        taken.model_id,
        ref,
        description=command.description,
        tags=command.tags,
        signature=command.signature,
        run=run,
        datasets=transaction.datasets.get_all(command.datasets) if command.datasets else (),
        act=act,
        source=command.source,
        external_run=command.external_run,
        run_link=command.run_link,
        ready=ready,
    )
    return _recorded(transaction, act, "CreateVersion", version, {})


def _copy(
    transaction: Transaction,
    act: Act,
    model_id: int,
    ref: VersionRef,
    command: CreateVersion,
    origin_ref: VersionRef,
) -> ModelVersion:
    origin = transaction.versions.get(origin_ref)
    check_ready(origin)
    copy = transaction.versions.add(
        model_id,
        ref,
        description=command.description or origin.description,
        tags={**origin.tags, **command.tags},
        signature=origin.signature,
        run=transaction.runs.get(origin.run) if origin.run else None,
        datasets=transaction.datasets.get_all(origin.datasets),
        act=act,
        source=origin.source,
        external_run=command.external_run or origin.external_run,
        run_link=command.run_link or origin.run_link,
        copied_from=origin,
    )
    for file in origin.files:
        transaction.versions.add_file(copy, file, act.time)
    return _recorded(
        transaction,
        act,
        "CreateVersion",
        transaction.versions.get(copy.ref),
        {"copied_from": str(origin_ref)},
    )


def update(transaction: Transaction, act: Act, command: UpdateVersion) -> ModelVersion:
    """Other notes about a version in any state. Raises ModelNotFound, VersionNotFound, ModelArchived,
    EtagMismatch."""
    check_active(transaction.models.lock(command.ref.model))
    version = transaction.versions.get(command.ref)
    check_etag(str(command.ref), version.revision, command.etag)
    changed = transaction.versions.annotate(
        version,
        description=version.description if command.description is None else command.description,
        tags=version.tags if command.tags is None else command.tags,
        stage=version.stage if command.stage is None else command.stage,
        time=act.time,
    )
    details = dict(states.difference(version, changed))
    if version.stage != changed.stage:
        details["stage"] = changed.stage
    return _recorded(transaction, act, "UpdateVersion", changed, details)


def get(transaction: Transaction, ref: VersionRef | AliasRef) -> ModelVersion:
    """In any state. Raises ModelNotFound, VersionNotFound, AliasNotFound."""
    if isinstance(ref, AliasRef):
        ref = transaction.aliases.get(ref).version
    return transaction.versions.get(ref)


def search(
    transaction: Transaction, asked: Search, *, model_id: int | None, limit: int
) -> list[Hit[ModelVersion]]:
    """A page of the versions of one model, or of all."""
    return transaction.versions.search(asked, model_id=model_id, limit=limit)


def add_file(transaction: Transaction, act: Act, command: UploadFile) -> ModelFile:
    """Adds stored bytes to a DRAFT; the same bytes at the same path again change nothing.

    Raises ModelNotFound, VersionNotFound, ModelArchived, VersionImmutable, FileExists.
    """
    check_active(transaction.models.lock(command.version.model))
    version = transaction.versions.get(command.version)
    present = check_addable(version, command.file)
    if present is not None:
        return present
    transaction.versions.add_file(version, command.file, act.time)
    details = {"path": command.file.path, "sha256": command.file.sha256, "bytes": command.file.size_bytes}
    _recorded(transaction, act, "UploadFile", transaction.versions.get(command.version), details)
    return command.file


def finalize(transaction: Transaction, act: Act, ref: VersionRef, etag: str) -> ModelVersion:
    """DRAFT → READY. Raises ModelNotFound, VersionNotFound, ModelArchived, EtagMismatch,
    VersionImmutable, VersionEmpty."""
    check_active(transaction.models.lock(ref.model))
    version = transaction.versions.get(ref)
    check_etag(str(ref), version.revision, etag)
    _check_draft(version)
    if not version.files and not version.source:
        raise VersionEmpty(
            f"{ref} has no files; upload at least one before finalizing it", metadata={"version": str(ref)}
        )
    ready = transaction.versions.finalize(version, manifest_digest(version.files), act.time)
    return _recorded(transaction, act, "FinalizeVersion", ready, {"manifest_digest": ready.manifest_digest})


def archive(transaction: Transaction, act: Act, ref: VersionRef, etag: str) -> ModelVersion:
    """DRAFT or READY → ARCHIVED, unless an alias points at it: an alias always names a version that can
    be served. Archiving again changes nothing.

    Raises ModelNotFound, VersionNotFound, EtagMismatch, VersionInUse.
    """
    transaction.models.lock(ref.model)
    version = transaction.versions.get(ref)
    check_etag(str(ref), version.revision, etag)
    if version.state is VersionState.ARCHIVED:
        return version
    # No alias can be pointed at it in the meantime: that, too, locks the model.
    if version.aliases:
        names = [str(AliasRef(ref.model, alias)) for alias in version.aliases]
        raise VersionInUse(
            f"{', '.join(names)} {'points' if len(names) == 1 else 'point'} at {ref}; "
            "point such aliases at another version, or clear them, then archive it",
            metadata={"version": str(ref), "aliases": ",".join(names)},
        )
    return _recorded(transaction, act, "ArchiveVersion", transaction.versions.archive(version, act.time), {})


def get_ready(transaction: Transaction, ref: VersionRef) -> ModelVersion:
    """A version whose files may be read. Raises ModelNotFound, VersionNotFound, VersionNotReady."""
    version = transaction.versions.get(ref)
    check_ready(version)
    return version


def find_file(transaction: Transaction, ref: VersionRef, path: str) -> ModelFile:
    """A file that may be read. Raises ModelNotFound, VersionNotFound, VersionNotReady, FileNotFound."""
    version = get_ready(transaction, ref)
    file = version.file(path)
    if file is None:
        have = ", ".join(repr(other.path) for other in version.files[:10])
        raise FileNotFound(
            f"{ref} has no file {path!r}; it has {have}", metadata={"version": str(ref), "path": path}
        )
    return file


def record_evaluation(transaction: Transaction, act: Act, command: RecordEvaluation) -> Evaluation:
    """Raises ModelNotFound, VersionNotFound, VersionNotReady, DatasetNotFound."""
    version = transaction.versions.get(command.version)
    check_ready(version)
    dataset = transaction.datasets.get(command.dataset)
    evaluation = Evaluation(dataset.digest, command.split, command.metrics, act.time, act.actor)
    evaluation_id = transaction.versions.add_evaluation(version, dataset, evaluation)
    details = {
        "version": str(command.version),
        "dataset": f"datasets/{dataset.digest}",
        "split": command.split,
        "metrics": dict(command.metrics),
    }
    subject = states.evaluation_subject(version, evaluation_id)
    state = states.of_evaluation(version, evaluation)
    record(transaction, act, "RecordEvaluation", subject, details=details, state=state)
    return evaluation


def _recorded(
    transaction: Transaction, act: Act, action: str, version: ModelVersion, details: Mapping[str, Any]
) -> ModelVersion:
    subject = states.version_subject(version)
    record(transaction, act, action, subject, details=details, state=states.of_version(version))
    return version


def _check_draft(version: ModelVersion) -> None:
    if version.state is not VersionState.DRAFT:
        raise VersionImmutable(
            f"{version.ref} is {version.state} and cannot be changed; create a new version",
            metadata={"version": str(version.ref)},
        )


def check_addable(version: ModelVersion, file: ModelFile) -> ModelFile | None:
    """The file if the version has it already. Raises VersionImmutable, FileExists."""
    _check_draft(version)
    present = version.file(file.path)
    if present is not None and present.sha256 != file.sha256:
        raise FileExists(
            f"{version.ref} already has other bytes at {file.path!r} (sha256 {present.sha256}); "
            "use another path or a new version",
            metadata={"path": file.path, "expected": present.sha256, "actual": file.sha256},
        )
    return present
