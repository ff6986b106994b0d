"""Webhooks and their deliveries, as the database keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from plumbline.registry.errors import EtagMismatch, InvalidField, ModelNotFound, WebhookNotFound
from registry_service import models
from registry_service.audit import digest
from registry_service.domain import Act, etag
from registry_service.ports import Transaction
from registry_service.webhooks import registration
from registry_service.webhooks.dispatcher import forget_old_deliveries
from registry_service.webhooks.domain import Delivery, Progress, WebhookState, state_of
from tests.contract.registry_service.desk import Desk
from tests.contract.registry_service.webhook_desk import (
    SECRET,
    URL,
    change_webhook,
    new_webhook,
    stored,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_created_and_found(desk: Desk) -> None:
    desk.model("flights")
    first = new_webhook(desk, description="chat", actions=("SetAlias",), model="flights")
    second = new_webhook(desk)
    assert stored(desk, first) == first
    assert (first.url, first.model, first.actions, first.secret) == (URL, "flights", ("SetAlias",), SECRET)
    assert first.state is WebhookState.ACTIVE
    assert desk.ask(registration.list_page, after=0, limit=9) == [first, second]
    assert desk.ask(registration.list_page, after=first.id, limit=9) == [second]
    with pytest.raises(WebhookNotFound):
        desk.ask(registration.get, "nothing")
    with pytest.raises(ModelNotFound):
        new_webhook(desk, model="trains")


def test_the_secret_shows_nowhere(desk: Desk, engine: Engine) -> None:
    webhook = new_webhook(desk, description="chat")
    change_webhook(desk, webhook, secret=SECRET[:-1] + "x", url="https://hooks.example/other-secret")
    desk.do(registration.delete, webhook.name, "")
    assert SECRET not in repr(webhook)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT action, resource, details FROM audit_event")).all()
    assert [row.action for row in rows[-3:]] == ["CreateWebhook", "UpdateWebhook", "DeleteWebhook"]
    assert all(row.resource == f"webhooks/{webhook.name}" for row in rows[-3:])
    for row in rows:
        assert "whsec" not in row.details
        assert "secret-part" not in row.details
    assert '"secret_changed":true' in rows[-2].details
    assert '"url":"https://hooks.example"' in rows[-1].details


def test_events_vouch_for_the_record(desk: Desk, engine: Engine) -> None:
    webhook = new_webhook(desk)
    changed = change_webhook(desk, webhook, description="chat", state=WebhookState.PAUSED)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT state_digest FROM audit_event WHERE kind = 'webhook' ORDER BY sequence")
        ).scalars()
        assert list(found) == [digest(state_of(webhook)), digest(state_of(changed))]
    desk.do(registration.delete, webhook.name, "")
    with engine.connect() as connection:
        last = text("SELECT state_digest FROM audit_event ORDER BY sequence DESC LIMIT 1")
        assert connection.scalar(last) == ""


def test_updates_name_what_they_change(desk: Desk) -> None:
    webhook = new_webhook(desk, description="chat")
    changed = change_webhook(desk, webhook, actions=("SetAlias",), etag=etag(webhook.resource, 1))
    assert (changed.actions, changed.description, changed.revision) == (("SetAlias",), "chat", 2)
    with pytest.raises(EtagMismatch):
        change_webhook(desk, webhook, description="mail", etag=etag(webhook.resource, 1))
    with pytest.raises(EtagMismatch):
        desk.do(registration.delete, webhook.name, etag(webhook.resource, 1))
    with pytest.raises(InvalidField, match="https://"):
        change_webhook(desk, webhook, url="http://hooks.example/")
    with pytest.raises(InvalidField, match="15 characters") as caught:
        change_webhook(desk, webhook, secret="fifteen letters")
    assert "fifteen" not in str(caught.value)


def test_it_begins_with_what_happens_next(desk: Desk) -> None:
    desk.model("flights")
    webhook = new_webhook(desk)
    desk.model("trains")
    assert _waiting(desk, webhook.name) == ["CreateModel"]


def test_filters(desk: Desk) -> None:
    flights, _ = desk.model("flights"), desk.model("trains")
    every = new_webhook(desk)
    of_model = new_webhook(desk, model="flights")
    of_action = new_webhook(desk, actions=("CreateVersion",))
    both = new_webhook(desk, model="trains", actions=("RenameModel", "CreateVersion"))
    desk.draft("flights")
    desk.draft("trains")
    desk.do(models.rename, "flights", "planes", "")
    desk.draft("planes")
    last = ["CreateVersion", "CreateVersion", "RenameModel", "CreateVersion"]
    assert _waiting(desk, every.name)[-4:] == last
    # A model is the same one under another name.
    assert _waiting(desk, of_model.name) == ["CreateVersion", "RenameModel", "CreateVersion"]
    assert stored(desk, of_model).model == "planes"
    assert stored(desk, of_model).model_id == flights.id
    assert _waiting(desk, of_action.name) == ["CreateVersion"] * 3
    assert _waiting(desk, both.name) == ["CreateVersion"]


def test_another_filter_does_not_dig_out_the_past(desk: Desk) -> None:
    webhook = new_webhook(desk, actions=("CreateVersion",))
    desk.model("flights")
    change_webhook(desk, webhook, actions=("CreateModel", "CreateVersion", "UpdateWebhook"))
    assert _waiting(desk, webhook.name) == ["UpdateWebhook"]
    desk.draft("flights")
    # What waits stays.
    change_webhook(desk, webhook, actions=("CreateVersion",))
    assert _waiting(desk, webhook.name) == ["CreateVersion"]


def test_one_lease_at_a_time(desk: Desk) -> None:
    webhook = new_webhook(desk)

    def claim(transaction: Transaction, _act: Act, owner: str, now: datetime) -> bool:
        return transaction.webhooks.claim(webhook, owner, now, now + MINUTE) is not None

    assert desk.do(claim, "a", NOW)
    assert not desk.do(claim, "b", NOW)
    assert not desk.do(claim, "a", NOW + MINUTE / 2)
    # A process that was killed is waited for no longer than that.
    assert desk.do(claim, "b", NOW + MINUTE)
    assert stored(desk, webhook).lease_expire_time == NOW + 2 * MINUTE


def test_no_lease_of_what_is_not_due_or_was_changed(desk: Desk) -> None:
    webhook = new_webhook(desk)

    def claim(transaction: Transaction, _act: Act, now: datetime) -> bool:
        return transaction.webhooks.claim(webhook, "a", now, now) is not None

    desk.do(_settle, webhook.name, "", [], Progress(1, 1, NOW, "answered 500", NOW + MINUTE))
    assert not desk.do(claim, NOW)
    assert desk.do(claim, NOW + MINUTE)
    change_webhook(desk, webhook, description="other")
    assert not desk.do(claim, NOW + MINUTE)
    webhook = change_webhook(desk, webhook, state=WebhookState.PAUSED)
    assert not desk.do(claim, NOW + MINUTE)
    assert desk.ask(lambda tx: tx.webhooks.active()) == []
    desk.do(registration.delete, webhook.name, "")
    assert not desk.do(claim, NOW + MINUTE)


def _delivery(sequence: int, attempt: int = 1, time: datetime = NOW) -> Delivery:
    return Delivery(sequence, attempt, time, 500, "answered 500", delivered=False, given_up=False)


def _settle(
    transaction: Transaction,
    _act: Act,
    name: str,
    owner: str,
    deliveries: list[Delivery],
    progress: Progress,
) -> None:
    transaction.webhooks.settle(transaction.webhooks.get(name), owner, deliveries, progress)


def test_progress_and_attempts_are_recorded(desk: Desk) -> None:
    webhook = new_webhook(desk)
    progress = Progress(7, 2, NOW, "answered 500", NOW + MINUTE)
    desk.do(_settle, webhook.name, "", [_delivery(7), _delivery(8), _delivery(8, 2)], progress)
    assert stored(desk, webhook).progress == progress
    assert stored(desk, webhook).lease_expire_time is None
    _, found = desk.ask(registration.deliveries_page, webhook.name, before=None, limit=2)
    assert [(item.sequence, item.attempt, item.time) for item in found] == [(8, 2, NOW), (8, 1, NOW)]
    _, rest = desk.ask(registration.deliveries_page, webhook.name, before=found[-1].id, limit=2)
    assert [item.sequence for item in rest] == [7]


def test_who_lost_the_lease_moves_nothing(desk: Desk) -> None:
    webhook = new_webhook(desk)
    desk.do(lambda tx, act: tx.webhooks.claim(webhook, "a", NOW, NOW + MINUTE))
    desk.do(_settle, webhook.name, "b", [_delivery(7)], Progress(7))
    assert stored(desk, webhook).progress == webhook.progress
    assert stored(desk, webhook).lease_expire_time == NOW + MINUTE
    assert len(desk.ask(registration.deliveries_page, webhook.name, before=None, limit=9)[1]) == 1


def test_a_change_meanwhile_is_tried_at_once(desk: Desk) -> None:
    webhook = new_webhook(desk)
    claimed = desk.do(lambda tx, act: tx.webhooks.claim(webhook, "a", NOW, NOW + MINUTE))
    change_webhook(desk, webhook, url="https://hooks.example/mended")
    failed = Progress(claimed.progress.delivered + 1, 3, NOW, "answered 500", NOW + MINUTE)
    desk.do(lambda tx, act: tx.webhooks.settle(claimed, "a", [], failed))
    assert stored(desk, webhook).progress == Progress(failed.delivered)
    desk.do(registration.delete, webhook.name, "")
    desk.do(lambda tx, act: tx.webhooks.settle(claimed, "a", [_delivery(9)], failed))


def test_old_deliveries_are_forgotten(desk: Desk) -> None:
    webhook, other = new_webhook(desk), new_webhook(desk)
    old, new = NOW - timedelta(days=30, seconds=1), NOW - timedelta(days=29)
    items = [_delivery(number, time=old) for number in range(10)]
    items += [_delivery(number, time=new) for number in range(10, 1_015)]
    desk.do(_settle, webhook.name, "", items, Progress(2_000))
    desk.do(_settle, other.name, "", items[10:15], Progress(2_000))
    assert desk.do(lambda tx, act: forget_old_deliveries(tx, NOW)) == 15
    _, left = desk.ask(registration.deliveries_page, webhook.name, before=None, limit=2_000)
    assert [item.sequence for item in left] == list(range(1_014, 14, -1))
    assert len(desk.ask(registration.deliveries_page, other.name, before=None, limit=9)[1]) == 5
    desk.do(registration.delete, webhook.name, "")
    with pytest.raises(WebhookNotFound):
        desk.ask(registration.deliveries_page, webhook.name, before=None, limit=9)


def test_one_without_a_secret_is_not_taken_up(desk: Desk, engine: Engine) -> None:
    """As after a restore."""
    webhook = new_webhook(desk, state=WebhookState.PAUSED)
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook SET secret = ''"))
    for ask in (
        lambda: change_webhook(desk, webhook, state=WebhookState.ACTIVE),
        lambda: desk.ask(registration.get_usable, webhook.name),
    ):
        with pytest.raises(InvalidField, match="restore"):
            ask()
    assert change_webhook(desk, webhook, state=WebhookState.ACTIVE, secret=SECRET).secret == SECRET


def _waiting(desk: Desk, name: str) -> list[str]:
    def ask(transaction: Transaction) -> list[str]:
        webhook = transaction.webhooks.get(name)
        after = webhook.progress.delivered
        events = transaction.webhooks.next_events(webhook, after=after, limit=100)
        return [event.action for event in events]

    return desk.ask(ask)
