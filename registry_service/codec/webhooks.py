"""Webhooks on the wire. Their secret goes in, and never out."""

from __future__ import annotations

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import webhooks_pb2 as res
from registry_service import names
from registry_service.codec.values import to_timestamp
from registry_service.domain import etag
from registry_service.webhooks.commands import CreateWebhook, UpdateWebhook
from registry_service.webhooks.domain import Delivery, Webhook, WebhookState
from registry_service.webhooks.receivers import ReceiverRules

_STATES = {
    WebhookState.ACTIVE: res.WEBHOOK_STATE_ACTIVE,
    WebhookState.PAUSED: res.WEBHOOK_STATE_PAUSED,
}
_STATES_BY_NUMBER = {int(number): state for state, number in _STATES.items()}
_ALWAYS = ("url", "actions", "model", "state", "description")
_UPDATABLE = (*_ALWAYS, "secret")


def create_webhook(request: pb.CreateWebhookRequest, rules: ReceiverRules) -> CreateWebhook:
    webhook = request.webhook
    return CreateWebhook(
        url=webhook.url,
        actions=tuple(webhook.actions),
        model=names.model("webhook.model", webhook.model) if webhook.model else "",
        state=_state(webhook.state) if webhook.state else WebhookState.ACTIVE,
        description=webhook.description,
        secret=webhook.secret,
        rules=rules,
    )


def update_webhook(request: pb.UpdateWebhookRequest, rules: ReceiverRules) -> UpdateWebhook:
    fields = list(request.update_mask.paths) or list(_ALWAYS)
    for field in fields:
        if field not in _UPDATABLE:
            raise _invalid("update_mask", f"names {field!r}; what can be updated is {', '.join(_UPDATABLE)}")
    webhook = request.webhook
    model = names.model("webhook.model", webhook.model) if webhook.model else ""
    return UpdateWebhook(
        name=names.webhook("webhook.name", webhook.name),
        etag=webhook.etag,
        url=webhook.url if "url" in fields else None,
        actions=tuple(webhook.actions) if "actions" in fields else None,
        model=model if "model" in fields else None,
        state=_state(webhook.state) if "state" in fields else None,
        description=webhook.description if "description" in fields else None,
        secret=webhook.secret if "secret" in fields else None,
        rules=rules,
    )


def to_webhook(webhook: Webhook) -> res.Webhook:
    progress = webhook.progress
    return res.Webhook(
        name=webhook.resource,
        url=webhook.url,
        actions=webhook.actions,
        model=f"models/{webhook.model}" if webhook.model else "",
        state=_STATES[webhook.state],
        description=webhook.description,
        create_time=to_timestamp(webhook.create_time),
        update_time=to_timestamp(webhook.update_time),
        actor=webhook.actor,
        etag=etag(webhook.resource, webhook.revision),
        delivered_sequence=progress.delivered,
        last_error=progress.last_error,
        next_attempt_time=to_timestamp(progress.next_attempt),
    )


def to_delivery(webhook: Webhook, delivery: Delivery) -> res.WebhookDelivery:
    return res.WebhookDelivery(
        webhook=webhook.resource,
        sequence=delivery.sequence,
        attempt=delivery.attempt,
        time=to_timestamp(delivery.time),
        status=delivery.status,
        error=delivery.error,
        delivered=delivery.delivered,
        given_up=delivery.given_up,
    )


def _state(number: int) -> WebhookState:
    state = _STATES_BY_NUMBER.get(number)
    if state is None:
        raise _invalid("webhook.state", "is missing or unknown; say ACTIVE or PAUSED")
    return state


def _invalid(field: str, problem: str) -> InvalidField:
    message = f"{field} {problem}"
    return InvalidField(message, metadata={"field": field}, violations=[FieldViolation(field, message)])
