"""Use cases of models. Each function is one transaction of its caller's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plumbline.registry.errors import ModelExists
from registry_service import states
from registry_service.audit import record
from registry_service.checks import check_active, check_etag
from registry_service.commands import CreateModel, UpdateModel
from registry_service.domain import Act, Model
from registry_service.filtering.search import Hit, Search
from registry_service.ports import Transaction


def create(transaction: Transaction, act: Act, command: CreateModel) -> Model:
    """Raises ModelExists."""
    model = transaction.models.add(command.name, command.description, command.tags, act.time)
    return _recorded(transaction, act, "CreateModel", model, {})


def take_back(transaction: Transaction, act: Act, command: CreateModel) -> Model:
    """An archived model as a new one of its name, with other notes and created now; its numbers go on. Raises
    ModelNotFound, ModelExists for one that is not archived."""
    model = transaction.models.lock(command.name)
    if model.archive_time is None:
        raise ModelExists(f"a model named {command.name!r} exists already", metadata={"model": command.name})
    restored = transaction.models.update(
        model,
        description=command.description,
        tags=command.tags,
        archive_time=None,
        time=act.time,
        create_time=act.time,
    )
    details = {**states.difference(model, restored), "created_anew": True}
    return _recorded(transaction, act, "RestoreModel", restored, details)


def get(transaction: Transaction, name: str) -> Model:
    """Raises ModelNotFound."""
    return transaction.models.get(name)


def get_id(transaction: Transaction, name: str) -> int:
    """The registry's own id of a model. Raises ModelNotFound."""
    return transaction.models.get_id(name)


def search(transaction: Transaction, asked: Search, *, archived: bool, limit: int) -> list[Hit[Model]]:
    """A page of models, archived ones only if asked for."""
    return transaction.models.search(asked, archived=archived, limit=limit)


def update(transaction: Transaction, act: Act, command: UpdateModel) -> Model:
    """Raises ModelNotFound, ModelArchived, EtagMismatch."""
    model = transaction.models.lock(command.name)
    check_active(model)
    check_etag(f"models/{model.name}", model.revision, command.etag)
    changed = transaction.models.update(
        model,
        description=model.description if command.description is None else command.description,
        tags=model.tags if command.tags is None else command.tags,
        archive_time=None,
        time=act.time,
    )
    return _recorded(transaction, act, "UpdateModel", changed, states.difference(model, changed))


def rename(transaction: Transaction, act: Act, name: str, new_name: str, etag: str) -> Model:
    """Another name for the same model. Raises ModelNotFound, ModelArchived, EtagMismatch, ModelExists."""
    model = transaction.models.lock(name)
    check_active(model)
    check_etag(f"models/{model.name}", model.revision, etag)
    if new_name == name:
        return model
    renamed = transaction.models.rename(model, new_name, act.time)
    return _recorded(transaction, act, "RenameModel", renamed, {"from": f"models/{name}"})


def archive(transaction: Transaction, act: Act, name: str, etag: str) -> Model:
    """Takes a model out of lists and lets nothing new be made in it; what is there stays, and its
    aliases still resolve. Archiving again changes nothing. Raises ModelNotFound, EtagMismatch."""
    model = transaction.models.lock(name)
    check_etag(f"models/{model.name}", model.revision, etag)
    if model.archive_time is not None:
        return model
    archived = transaction.models.update(
        model, description=model.description, tags=model.tags, archive_time=act.time, time=act.time
    )
    return _recorded(transaction, act, "ArchiveModel", archived, {})


def restore(transaction: Transaction, act: Act, name: str, etag: str) -> Model:
    """Takes an archived model back, with all it had. Raises ModelNotFound, EtagMismatch, ModelExists for one
    that is not archived."""
    model = transaction.models.lock(name)
    check_etag(f"models/{model.name}", model.revision, etag)
    if model.archive_time is None:
        raise ModelExists(f"model {name!r} is not archived", metadata={"model": name})
    restored = transaction.models.update(
        model, description=model.description, tags=model.tags, archive_time=None, time=act.time
    )
    return _recorded(transaction, act, "RestoreModel", restored, {})


def _recorded(
    transaction: Transaction, act: Act, action: str, model: Model, details: Mapping[str, Any]
) -> Model:
    record(
        transaction, act, action, states.model_subject(model), details=details, state=states.of_model(model)
    )
    return model
