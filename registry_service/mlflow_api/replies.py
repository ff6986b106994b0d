"""Replies to MLflow's calls, and what they are made of."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.registry.errors import VersionNotFound
from registry_service.checks import check_active, check_not_archived
from registry_service.domain import AliasRef, Model
from registry_service.mlflow_api import codec
from registry_service.ports import Transaction
from registry_service.summaries import VersionSummary


def active(transaction: Transaction, name: str) -> Model:
    """Raises ModelNotFound, ModelArchived."""
    model = transaction.models.get(name)
    check_active(model)
    return model


def of_alias(transaction: Transaction, ref: AliasRef) -> VersionSummary:
    """The version an alias points at; of "latest", the newest. Raises ModelNotFound, ModelArchived,
    AliasNotFound, VersionNotFound."""
    if ref.alias.lower() != "latest":
        summary = transaction.summaries.get(ref)
        check_not_archived(ref.model, summary.model_archive_time)
        return summary
    model = active(transaction, ref.model)
    found = latest(transaction, model)
    if not found:
        raise VersionNotFound(
            f"model {ref.model!r} has no version yet", metadata={"model": ref.model, "version": "latest"}
        )
    return found[-1]


def model_reply(transaction: Transaction, model: Model) -> bytes:
    return codec.encode({"registered_model": codec.model(model, latest(transaction, model))})


def latest(transaction: Transaction, model: Model) -> Sequence[VersionSummary]:
    return transaction.summaries.latest([model.id]).get(model.id, ())


def version_reply(summary: VersionSummary) -> bytes:
    return codec.encode({"model_version": codec.version(summary)})


def page_reply(name: str, items: Sequence[codec.Json], token: str) -> bytes:
    return codec.encode({name: items} | ({"next_page_token": token} if token else {}))
