"""Use cases of webhooks. Each function is one transaction of its caller's."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from registry_service.audit import record
from registry_service.checks import check_etag
from registry_service.domain import Act
from registry_service.ports import Transaction
from registry_service.validation import Violations
from registry_service.webhooks.commands import CreateWebhook, UpdateWebhook
from registry_service.webhooks.domain import Delivery, Webhook, WebhookState, state_of, subject_of
from registry_service.webhooks.urls import parse_url


def create(transaction: Transaction, act: Act, command: CreateWebhook) -> Webhook:
    """Tells what happens from now on; its own creation is not told. Raises ModelNotFound."""
    webhook = transaction.webhooks.add(
        uuid.uuid4().hex,
        url=command.url,
        actions=command.actions,
        model_id=_model_id(transaction, command.model),
        state=command.state,
        description=command.description,
        secret=command.secret,
        delivered=transaction.audit.head().sequence + 1,
        actor=act.actor,
        time=act.time,
    )
    details = {
        "url": _origin(webhook.url),
        "actions": list(webhook.actions),
        "model": _model_name(webhook),
        "state": webhook.state.value,
    }
    _record(transaction, act, "CreateWebhook", webhook, details)
    return webhook


def get(transaction: Transaction, name: str) -> Webhook:
    """Raises WebhookNotFound."""
    return transaction.webhooks.get(name)


def get_usable(transaction: Transaction, name: str) -> Webhook:
    """One that can sign. Raises WebhookNotFound, InvalidField."""
    webhook = transaction.webhooks.get(name)
    _check_secret(webhook.secret)
    return webhook


def list_page(transaction: Transaction, *, after: int, limit: int) -> Sequence[Webhook]:
    """Oldest first, those with an id above `after`."""
    return transaction.webhooks.list(after=after, limit=limit)


def update(transaction: Transaction, act: Act, command: UpdateWebhook) -> Webhook:
    """What waits is tried again at once. Raises WebhookNotFound, EtagMismatch, ModelNotFound,
    InvalidField."""
    before = transaction.webhooks.get(command.name)
    check_etag(before.resource, before.revision, command.etag)
    state = before.state if command.state is None else command.state
    secret = before.secret if command.secret is None else command.secret
    if state is WebhookState.ACTIVE:
        _check_secret(secret)
    model_id = before.model_id if command.model is None else _model_id(transaction, command.model)
    actions = before.actions if command.actions is None else command.actions
    if (model_id, actions) != (before.model_id, before.actions):
        _begin_here(transaction, before)
    after = transaction.webhooks.update(
        before,
        url=before.url if command.url is None else command.url,
        actions=actions,
        model_id=model_id,
        state=state,
        description=before.description if command.description is None else command.description,
        secret=secret,
        actor=act.actor,
        time=act.time,
    )
    _record(transaction, act, "UpdateWebhook", after, _difference(before, after))
    return after


def delete(transaction: Transaction, act: Act, name: str, etag: str) -> Webhook:
    """As it was; what it was not told yet is never told. Raises WebhookNotFound, EtagMismatch."""
    webhook = transaction.webhooks.get(name)
    check_etag(webhook.resource, webhook.revision, etag)
    transaction.webhooks.remove(webhook)
    # No state: the record is gone.
    record(transaction, act, "DeleteWebhook", subject_of(webhook), details={"url": _origin(webhook.url)})
    return webhook


def deliveries_page(
    transaction: Transaction, name: str, *, before: int | None, limit: int
) -> tuple[Webhook, Sequence[Delivery]]:
    """Newest first, those with an id below `before`. Raises WebhookNotFound."""
    webhook = transaction.webhooks.get(name)
    return webhook, transaction.webhooks.deliveries(webhook, before=before, limit=limit)


def _begin_here(transaction: Transaction, webhook: Webhook) -> None:
    """Before it is about other events: what happened so far, and was not of interest, is not told later."""
    progress = webhook.progress
    if not transaction.webhooks.next_events(webhook, after=progress.delivered, limit=1):
        transaction.webhooks.skip(webhook, transaction.audit.head().sequence)


def _check_secret(secret: str) -> None:
    """A backup holds none unless it was asked to."""
    if not secret:
        found = Violations()
        found.add("webhook.secret", "is missing since a restore from a backup: give one, then go on")
        found.check()


def _record(
    transaction: Transaction, act: Act, action: str, webhook: Webhook, details: Mapping[str, Any]
) -> None:
    record(transaction, act, action, subject_of(webhook), details=details, state=state_of(webhook))


def _difference(before: Webhook, after: Webhook) -> Mapping[str, Any]:
    changed: dict[str, Any] = {}
    if before.url != after.url:
        changed["url"] = _origin(after.url)
    if before.actions != after.actions:
        changed["actions"] = list(after.actions)
    if before.model_id != after.model_id:
        changed["model"] = _model_name(after)
    if before.state != after.state:
        changed["state"] = after.state.value
    if before.description != after.description:
        changed["description"] = after.description
    if before.secret != after.secret:
        changed["secret_changed"] = True
    return changed


def _origin(url: str) -> str:
    """What everybody who reads the audit may see: the rest of a receiver's URL is often a secret."""
    return parse_url(url, allow_http=True).origin


def _model_id(transaction: Transaction, model: str) -> int | None:
    return transaction.models.get(model).id if model else None


def _model_name(webhook: Webhook) -> str:
    return f"models/{webhook.model}" if webhook.model else ""
