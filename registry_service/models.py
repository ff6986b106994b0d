"""Use cases of models. Each function is one transaction of its caller's."""

from __future__ import annotations

from registry_service.checks import check_active, check_etag
from registry_service.commands import CreateModel, UpdateModel
from registry_service.domain import Act, Model
from registry_service.ports import Transaction


def create(transaction: Transaction, act: Act, command: CreateModel) -> Model:
    """Raises ModelExists."""
    return transaction.models.add(command.name, command.description, command.tags, act.time)


def get(transaction: Transaction, name: str) -> Model:
    """Raises ModelNotFound."""
    return transaction.models.get(name)


def list_page(transaction: Transaction, *, after: str | None, limit: int, archived: bool) -> list[Model]:
    """By name, those behind `after`."""
    return transaction.models.list(after=after, limit=limit, archived=archived)


def update(transaction: Transaction, act: Act, command: UpdateModel) -> Model:
    """Raises ModelNotFound, ModelArchived, EtagMismatch."""
    model = transaction.models.lock(command.name)
    check_active(model)
    check_etag(f"models/{model.name}", model.revision, command.etag)
    return transaction.models.update(
        model,
        description=model.description if command.description is None else command.description,
        tags=model.tags if command.tags is None else command.tags,
        archive_time=None,
        time=act.time,
    )


def archive(transaction: Transaction, act: Act, name: str, etag: str) -> Model:
    """Takes a model out of lists and lets nothing new be made in it; what is there stays, and its
    aliases still resolve. Archiving again changes nothing. Raises ModelNotFound, EtagMismatch."""
    model = transaction.models.lock(name)
    check_etag(f"models/{model.name}", model.revision, etag)
    if model.archive_time is not None:
        return model
    return transaction.models.update(
        model, description=model.description, tags=model.tags, archive_time=act.time, time=act.time
    )
