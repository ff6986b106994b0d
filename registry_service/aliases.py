"""Use cases of aliases. Each function is one transaction of its caller's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from plumbline.registry.errors import AliasNotFound
from registry_service import states
from registry_service.audit import record
from registry_service.checks import check_active, check_etag, check_ready, mismatch
from registry_service.commands import ClearAlias, SetAlias
from registry_service.domain import Act, Alias, AliasEvent, AliasRef, Model, ModelVersion, etag
from registry_service.policies import require
from registry_service.ports import Transaction


def set_alias(transaction: Transaction, act: Act, command: SetAlias) -> Alias:
    """Moves the alias if the command's condition holds and its policy is met; of callers racing with the
    same condition exactly one wins. Raises ModelNotFound, ModelArchived, VersionNotFound, VersionNotReady,
    EtagMismatch, PolicyNotMet."""
    model = transaction.models.lock(command.ref.model)
    check_active(model)
    version = transaction.versions.get(command.version)
    check_ready(version)
    present = next((alias for alias in model.aliases if alias.ref == command.ref), None)
    _check_condition(command, present)
    require(transaction, act.time, model, command.ref, version)
    move(transaction, act, "SetAlias", model, command.ref, version, command.reason)
    return transaction.aliases.get(command.ref)


def clear(transaction: Transaction, act: Act, command: ClearAlias) -> AliasEvent:
    """Nobody holds it any more; no policy is asked. Raises ModelNotFound, AliasNotFound, EtagMismatch."""
    model = transaction.models.lock(command.ref.model)
    present = transaction.aliases.get(command.ref)
    check_etag(str(command.ref), present.revision, command.etag)
    return move(transaction, act, "ClearAlias", model, command.ref, None, command.reason)


def move(
    transaction: Transaction,
    act: Act,
    action: str,
    model: Model,
    ref: AliasRef,
    version: ModelVersion | None,
    reason: str,
    restored_revision: int | None = None,
) -> AliasEvent:
    """Points an alias of a locked model at a version, or at none, without further conditions.
    restored_revision: of a rollback, the move whose holder it puts back."""
    event = transaction.aliases.move(
        model, ref, version, act=act, reason=reason, restored_revision=restored_revision
    )
    details: dict[str, Any] = {
        "from": "" if event.from_version is None else str(event.from_version),
        "to": "" if event.to_version is None else str(event.to_version),
        "reason": reason,
        "revision": event.revision,
    }
    if restored_revision is not None:
        details["restored_revision"] = restored_revision
    state = states.of_alias(model.id, ref.alias, event.to_version, event.revision)
    subject = states.alias_subject(model, event.alias_id, ref)
    record(transaction, act, action, subject, details=details, state=state)
    return event


def resolve(transaction: Transaction, ref: AliasRef, as_of: datetime | None) -> tuple[Alias, ModelVersion]:
    """The holder and its version. Now, only a READY version is given; for a past moment, whatever
    became of it since. Raises ModelNotFound, AliasNotFound, VersionNotReady."""
    alias = transaction.aliases.get(ref) if as_of is None else transaction.aliases.at(ref, as_of)
    version = transaction.versions.get(alias.version)
    if as_of is None:
        check_ready(version)
    return alias, version


def history_page(
    transaction: Transaction, parent: str | AliasRef, *, before: int | None, limit: int
) -> list[AliasEvent]:
    """Newest first, those with a sequence below `before`; of one alias or of a model's all.

    Raises ModelNotFound, and AliasNotFound for an alias that never was.
    """
    name, alias = (parent.model, parent.alias) if isinstance(parent, AliasRef) else (parent, None)
    events = transaction.aliases.history(transaction.models.get(name), alias, before=before, limit=limit)
    if alias is not None and before is None and not events:
        raise AliasNotFound(
            f"model {name!r} never had an alias {alias!r}", metadata={"model": name, "alias": alias}
        )
    return events


def _check_condition(command: SetAlias, present: Alias | None) -> None:
    name = str(command.ref)
    if command.etag is not None:
        actual = "" if present is None else etag(name, present.revision)
        if actual != command.etag:
            raise mismatch(name, command.etag, actual)
    elif command.must_not_exist and present is not None:
        raise mismatch(name, "", str(present.version))
    elif command.expected_version is not None:
        actual = "" if present is None else str(present.version)
        if actual != str(command.expected_version):
            raise mismatch(name, str(command.expected_version), actual)
