"""Changes as MLflow means them, made of this registry's. Each function is one transaction of its caller's.

MLflow deletes; here what is deleted is archived: no answer of this facade shows it again, its number is never
given again, and its history stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from plumbline.registry.errors import ModelNotFound, VersionNotFound
from registry_service import aliases, models, versions
from registry_service.checks import check_active
from registry_service.commands import (
    ClearAlias,
    CreateModel,
    CreateVersion,
    SetAlias,
    UpdateModel,
    UpdateVersion,
)
from registry_service.domain import Act, AliasRef, Model, ModelVersion, VersionRef, VersionState
from registry_service.mlflow_api import codec, sources
from registry_service.mlflow_api.arguments import refuse
from registry_service.mlflow_api.errors import NameTaken
from registry_service.mlflow_api.filter_grammar import IS_PROMPT_TAG
from registry_service.mlflow_api.sources import RegisteredSource
from registry_service.ports import Transaction
from registry_service.summaries import VersionSummary

ACTIVE_STAGES = ("Staging", "Production")

Tags = Callable[[Mapping[str, str]], Mapping[str, str]]


@dataclass(frozen=True)
class NewVersion:
    """registered: the version of this registry that the source names. run_id None: not given."""

    model: str
    source: str
    registered: RegisteredSource | None
    run_id: str | None
    run_link: str
    description: str
    tags: Mapping[str, str]


def create_model(transaction: Transaction, act: Act, command: CreateModel) -> Model:
    """Under the name of an archived model that model is taken back, as a new one: its versions stay hidden,
    its numbers go on. Raises NameTaken."""
    try:
        present = transaction.models.lock(command.name)
    except ModelNotFound:
        return models.create(transaction, act, command)
    if present.archive_time is None:
        raise _taken(present, command)
    for number in transaction.versions.numbers(present):
        _hide(transaction, act, VersionRef(present.name, number), "the model is created anew by MLflow")
    return models.take_back(transaction, act, command)


def update_model(transaction: Transaction, act: Act, name: str, description: str) -> Model:
    """Raises ModelNotFound, ModelArchived."""
    return models.update(transaction, act, UpdateModel(name, "", description, None))


def rename_model(transaction: Transaction, act: Act, name: str, new_name: str) -> Model:
    """Raises ModelNotFound, ModelArchived, ModelExists."""
    return models.rename(transaction, act, name, new_name, "")


def tag_model(transaction: Transaction, act: Act, name: str, tags: Tags) -> None:
    """tags: the new ones of the present ones. Raises ModelNotFound, ModelArchived."""
    model = transaction.models.lock(name)
    check_active(model)
    present = model.tags
    wanted = tags(present)
    if wanted != present:
        models.update(transaction, act, UpdateModel(name, "", None, wanted))


def delete_model(transaction: Transaction, act: Act, name: str) -> None:
    """Raises ModelNotFound."""
    if transaction.models.get(name).archive_time is not None:
        raise ModelNotFound(f"model {name!r} is archived", metadata={"model": name})
    models.archive(transaction, act, name, "")


def create_version(transaction: Transaction, act: Act, new: NewVersion) -> VersionSummary:
    """READY at once. Raises ModelNotFound, ModelArchived; of a version named by the source VersionNotFound,
    AliasNotFound, VersionNotReady."""
    if new.registered is None:
        command = CreateVersion(
            model=new.model,
            description=new.description,
            tags=new.tags,
            signature=None,
            run="",
            datasets=(),
            source=new.source,
            external_run=new.run_id or "",
            run_link=new.run_link,
        )
        return codec.summary(versions.register(transaction, act, command))
    origin = check_visible(sources.find(transaction, new.registered))
    if new.run_id is not None and new.run_id != codec.run_id(origin):
        refuse(
            "source",
            f"Invalid model version source: '{new.source}'. The run_id request parameter must match the "
            "referenced model version.",
        )
    command = CreateVersion(
        model=new.model,
        description=new.description,
        tags=new.tags,
        signature=None,
        run="",
        datasets=(),
        copy_from=origin.ref,
        run_link=new.run_link,
    )
    return codec.summary(versions.register(transaction, act, command))


def describe_version(transaction: Transaction, act: Act, ref: VersionRef, description: str) -> VersionSummary:
    """Raises VersionNotFound."""
    _lock(transaction, ref)
    return codec.summary(versions.update(transaction, act, UpdateVersion(ref, "", description, None, None)))


def tag_version(transaction: Transaction, act: Act, ref: VersionRef, tags: Tags) -> None:
    """tags: the new ones of the present ones. Raises ModelNotFound, VersionNotFound, ModelArchived."""
    _, version = _lock(transaction, ref)
    wanted = tags(version.tags)
    if wanted != version.tags:
        versions.update(transaction, act, UpdateVersion(ref, "", None, wanted, None))


def move_to_stage(
    transaction: Transaction, act: Act, ref: VersionRef, stage: str, *, archive_others: bool
) -> VersionSummary:
    """archive_others: those in the stage go to Archived. Raises ModelNotFound, VersionNotFound,
    ModelArchived."""
    model, _ = _lock(transaction, ref)
    if archive_others:
        for number in transaction.versions.numbers(model, stage=stage):
            if number != ref.number:
                other = UpdateVersion(VersionRef(ref.model, number), "", None, None, "Archived")
                versions.update(transaction, act, other)
    moved = versions.update(transaction, act, UpdateVersion(ref, "", None, None, stage))
    transaction.models.touch(model, act.time)
    return codec.summary(moved)


def delete_version(transaction: Transaction, act: Act, ref: VersionRef) -> None:
    """Aliases that point at it are cleared. Raises ModelNotFound, VersionNotFound, ModelArchived."""
    model, _ = _lock(transaction, ref)
    _hide(transaction, act, ref, f"version {ref.number} is deleted by MLflow")
    transaction.models.touch(model, act.time)


def set_alias(transaction: Transaction, act: Act, command: SetAlias) -> None:
    """Under the rules of this registry: a protected alias needs what its policy asks for. Raises
    ModelNotFound, VersionNotFound, ModelArchived, VersionNotReady, PolicyNotMet."""
    _lock(transaction, command.version)
    aliases.set_alias(transaction, act, command)


def clear_alias(transaction: Transaction, act: Act, ref: AliasRef, reason: str) -> None:
    """Without an alias of that name nothing changes. Raises ModelNotFound."""
    model = transaction.models.lock(ref.model)
    check_active(model)
    if any(alias.ref == ref for alias in model.aliases):
        aliases.clear(transaction, act, ClearAlias(ref, reason, ""))


def check_visible(summary: VersionSummary) -> VersionSummary:
    """The version, if MLflow sees it. Raises VersionNotFound."""
    if summary.model_archive_time is not None or summary.state is VersionState.ARCHIVED:
        raise _hidden(summary.ref)
    return summary


def find_version(transaction: Transaction, ref: VersionRef) -> VersionSummary:
    """Raises VersionNotFound, also without the model."""
    try:
        return check_visible(transaction.summaries.get(ref))
    except ModelNotFound as error:
        raise _hidden(ref) from error


def _lock(transaction: Transaction, ref: VersionRef) -> tuple[Model, ModelVersion]:
    """The model, locked, and a version that MLflow sees. Raises VersionNotFound, also without the model."""
    try:
        model = transaction.models.lock(ref.model)
    except ModelNotFound as error:
        raise _hidden(ref) from error
    version = transaction.versions.get(ref)
    if model.archive_time is not None or version.state is VersionState.ARCHIVED:
        raise _hidden(ref)
    return model, version


def _taken(present: Model, command: CreateModel) -> NameTaken:
    old, new = _kind(present.tags), _kind(command.tags)
    if old == new:
        return NameTaken(f"{old} (name={command.name}) already exists.")
    return NameTaken(
        f"Tried to create a {new.lower()} with name {command.name!r}, but the name is already taken by a "
        f"{old.lower()}. MLflow does not allow creating a model and a prompt with the same name."
    )


def _kind(tags: Mapping[str, str]) -> str:
    return "Prompt" if tags.get(IS_PROMPT_TAG, "").lower() == "true" else "Registered Model"


def _hide(transaction: Transaction, act: Act, ref: VersionRef, reason: str) -> None:
    for alias in transaction.versions.get(ref).aliases:
        aliases.clear(transaction, act, ClearAlias(AliasRef(ref.model, alias), reason, ""))
    versions.archive(transaction, act, ref, "")


def _hidden(ref: VersionRef) -> VersionNotFound:
    return VersionNotFound(f"{ref} is not there", metadata={"model": ref.model, "version": str(ref.number)})
