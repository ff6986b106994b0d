"""Who held an alias before.

The holders of an alias are a pile. Pointing it at another version puts that version on top; pointing it at
the version on top, or clearing it, leaves the pile as it is. A rollback takes the top away, and the version
below holds the alias again: the next rollback goes further back, never forth. A version taken away so comes
back only by being set again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from plumbline.registry.errors import NoPreviousHolder, VersionNotReady
from registry_service.aliases import move
from registry_service.checks import check_active, check_etag
from registry_service.commands_governance import RollbackAlias
from registry_service.domain import Act, Alias, AliasEvent, AliasRef, Model, VersionState
from registry_service.ports import Transaction

_PAGE = 200


def roll_back(transaction: Transaction, act: Act, command: RollbackAlias) -> Alias:
    """Points the alias at the version below the present one in the pile; no policy is asked.

    Raises ModelNotFound, ModelArchived, AliasNotFound (also while it is cleared), EtagMismatch,
    NoPreviousHolder, VersionNotReady for a previous holder that was archived since.
    """
    model = transaction.models.lock(command.ref.model)
    check_active(model)
    present = transaction.aliases.get(command.ref)
    check_etag(str(command.ref), present.revision, command.etag)
    pile = holders(_moves(transaction, model, command.ref))
    next(pile)
    previous = next(pile, None)
    if previous is None or previous.to_version is None:
        raise NoPreviousHolder(
            f"{command.ref} had no holder before {present.version} to go back to; set it to a version, or "
            "clear it",
            metadata={"alias": str(command.ref)},
        )
    version = transaction.versions.get(previous.to_version)
    if version.state is not VersionState.READY:
        raise _archived(transaction, command.ref, previous, pile)
    move(
        transaction,
        act,
        "RollbackAlias",
        model,
        command.ref,
        version,
        command.reason,
        restored_revision=previous.revision,
    )
    return transaction.aliases.get(command.ref)


def holders(moves: Iterable[AliasEvent]) -> Iterator[AliasEvent]:
    """The pile, from its top: the moves that put each holder there. moves: of one alias, newest first."""
    wanted: int | None = None
    above = None
    for event in moves:
        if wanted is not None and event.revision > wanted:
            continue
        wanted = event.restored_revision
        if wanted is not None or event.to_version is None or event.to_version == above:
            continue
        above = event.to_version
        yield event


def _moves(transaction: Transaction, model: Model, ref: AliasRef) -> Iterator[AliasEvent]:
    before: int | None = None
    while page := transaction.aliases.history(model, ref.alias, before=before, limit=_PAGE):
        yield from page
        before = page[-1].sequence


def _archived(
    transaction: Transaction, ref: AliasRef, previous: AliasEvent, pile: Iterator[AliasEvent]
) -> VersionNotReady:
    """The error for a previous holder that cannot be served; names the nearest one before it that can."""
    version = str(previous.to_version)
    metadata = {"version": version, "state": VersionState.ARCHIVED.value}
    for event in pile:
        if event.to_version and transaction.versions.get(event.to_version).state is VersionState.READY:
            metadata["candidate"] = str(event.to_version)
            advice = f"{event.to_version} held it before that: set the alias to it, if it is the one you want"
            break
    else:
        advice = "no holder before it is READY either: set the alias to another version"
    return VersionNotReady(f"{version}, which held {ref} before, is ARCHIVED; {advice}", metadata=metadata)
