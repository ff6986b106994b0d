"""Use cases of model versions. Each function is one transaction of its caller's."""

from __future__ import annotations

from plumbline.registry.errors import FileExists, FileNotFound, VersionEmpty, VersionImmutable, VersionInUse
from registry_service.checks import check_active, check_etag, check_ready
from registry_service.commands import CreateVersion, RecordEvaluation, UploadFile
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
from registry_service.ports import Transaction


def create(transaction: Transaction, act: Act, command: CreateVersion) -> ModelVersion:
    """A DRAFT under the model's next number. Raises ModelNotFound, ModelArchived, RunNotFound,
    DatasetNotFound."""
    model = transaction.models.lock(command.model)
    check_active(model)
    run = transaction.runs.get(command.run) if command.run else None
    datasets = transaction.datasets.get_all(command.datasets)
    number = transaction.models.next_number(model, act.time)
    return transaction.versions.add(
        model,
        number,
        description=command.description,
        tags=command.tags,
        signature=command.signature,
        run=run,
        datasets=datasets,
        act=act,
    )


def get(transaction: Transaction, ref: VersionRef | AliasRef) -> ModelVersion:
    """In any state. Raises ModelNotFound, VersionNotFound, AliasNotFound."""
    if isinstance(ref, AliasRef):
        ref = transaction.aliases.get(ref).version
    return transaction.versions.get(ref)


def list_page(transaction: Transaction, model: str, *, before: int | None, limit: int) -> list[ModelVersion]:
    """Newest first, those with a number below `before`. Raises ModelNotFound."""
    return transaction.versions.list(transaction.models.get(model), before=before, limit=limit)


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
    return command.file


def finalize(transaction: Transaction, act: Act, ref: VersionRef, etag: str) -> ModelVersion:
    """DRAFT → READY. Raises ModelNotFound, VersionNotFound, ModelArchived, EtagMismatch,
    VersionImmutable, VersionEmpty."""
    check_active(transaction.models.lock(ref.model))
    version = transaction.versions.get(ref)
    check_etag(str(ref), version.revision, etag)
    _check_draft(version)
    if not version.files:
        raise VersionEmpty(
            f"{ref} has no files; upload at least one before finalizing it", metadata={"version": str(ref)}
        )
    return transaction.versions.finalize(version, manifest_digest(version.files), act.time)


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
    return transaction.versions.archive(version, act.time)


def find_file(transaction: Transaction, ref: VersionRef, path: str) -> ModelFile:
    """A file that may be read. Raises ModelNotFound, VersionNotFound, VersionNotReady, FileNotFound."""
    version = transaction.versions.get(ref)
    check_ready(version)
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
    transaction.versions.add_evaluation(version, dataset, evaluation)
    return evaluation


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
