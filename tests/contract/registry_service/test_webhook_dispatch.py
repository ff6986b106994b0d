"""The dispatcher on a real database, with a sender that sends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from registry_service.news import News
from registry_service.webhooks import dispatcher as dispatcher_module
from registry_service.webhooks import registration
from registry_service.webhooks.dispatcher import Dispatcher
from registry_service.webhooks.domain import WebhookState
from registry_service.webhooks.sender import Outcome
from tests.contract.registry_service.desk import Desk
from tests.contract.registry_service.webhook_desk import (
    FakeSender,
    Sent,
    change_webhook,
    dispatching,
    new_webhook,
    stored,
    utc_now,
)

NO = Outcome(500, "answered 500")


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop go on until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it waits for is in a database
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(engine: Engine, sender: FakeSender) -> AsyncIterator[Dispatcher]:
    with dispatching(engine, sender) as (dispatcher, news):
        task = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            news.end()
            await dispatcher.stop()
            await task


async def test_everything_in_order(desk: Desk, engine: Engine) -> None:
    webhook, sender = new_webhook(desk), FakeSender()
    for number in range(120):
        desk.model(f"m{number}")
    async with running(engine, sender):
        await until(lambda: len(sender.sent) == 120)
        desk.model("later")
        await until(lambda: len(sender.sent) == 121)
        await until(lambda: stored(desk, webhook).progress.delivered == sender.sent[-1].sequence)
    first = sender.sent[0].sequence
    assert [sent.sequence for sent in sender.sent] == list(range(first, first + 121))
    assert len({sent.id for sent in sender.sent}) == 121
    _, deliveries = desk.ask(registration.deliveries_page, webhook.name, before=None, limit=200)
    assert [item.sequence for item in deliveries] == [sent.sequence for sent in reversed(sender.sent)]
    assert all(item.delivered and item.attempt == 1 for item in deliveries)
    assert stored(desk, webhook).lease_expire_time is None


async def test_a_failing_event_holds_up_those_behind_it(
    desk: Desk, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_service.webhooks.retries.FIRST_DELAY", timedelta(milliseconds=5))
    webhook, sender = new_webhook(desk), FakeSender()
    for number in range(4):
        desk.model(f"m{number}")
    bad = webhook.progress.delivered + 2
    failures = 3

    def answer(sent: Sent) -> Outcome:
        nonlocal failures
        if sent.sequence == bad and failures:
            failures -= 1
            return NO
        return Outcome(200, "")

    sender.answer = answer
    async with running(engine, sender):
        await until(lambda: stored(desk, webhook).progress.delivered == bad + 2)
    assert [sent.sequence for sent in sender.sent] == [bad - 1, bad, bad, bad, bad, bad + 1, bad + 2]
    # A repeat has the id of the first attempt.
    assert len({sent.id for sent in sender.sent if sent.sequence == bad}) == 1
    _, deliveries = desk.ask(registration.deliveries_page, webhook.name, before=None, limit=200)
    assert [item.attempt for item in deliveries if item.sequence == bad] == [4, 3, 2, 1]
    assert stored(desk, webhook).progress.last_error == ""


async def test_one_failing_receiver_does_not_hold_up_another(desk: Desk, engine: Engine) -> None:
    bad, good = new_webhook(desk, url="https://bad.example/"), new_webhook(desk)
    sender = FakeSender()
    sender.answer = lambda sent: NO if "bad" in sent.url else Outcome(200, "")
    desk.model("m")
    desk.model("n")
    async with running(engine, sender):
        await until(lambda: stored(desk, good).progress.delivered == good.progress.delivered + 2)
        await until(lambda: stored(desk, bad).progress.attempts == 1)
    progress = stored(desk, bad).progress
    assert progress.last_error == "answered 500"
    assert progress.delivered == bad.progress.delivered
    assert progress.next_attempt is not None
    assert progress.failing_since is not None


async def test_given_up_events_are_passed_over(
    desk: Desk, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_service.webhooks.retries.PATIENCE", timedelta(0))
    webhook, sender = new_webhook(desk), FakeSender()
    sender.answer = lambda sent: NO if sent.sequence == webhook.progress.delivered + 1 else Outcome(200, "")
    desk.model("m")
    desk.model("n")
    async with running(engine, sender):
        await until(lambda: stored(desk, webhook).progress.delivered == webhook.progress.delivered + 2)
    _, deliveries = desk.ask(registration.deliveries_page, webhook.name, before=None, limit=9)
    assert [(item.delivered, item.given_up) for item in deliveries] == [(True, False), (False, True)]


async def test_two_processes_send_each_event_once(desk: Desk, engine: Engine) -> None:
    hooks = [new_webhook(desk, url=f"https://hooks.example/{number}") for number in range(3)]
    sent: list[Sent] = []
    async with running(engine, FakeSender(sent)), running(engine, FakeSender(sent)):
        for number in range(60):
            await asyncio.to_thread(desk.model, f"m{number}")
        await until(lambda: len(sent) >= 62 + 61 + 60)
    for hook in hooks:
        sequences = [item.sequence for item in sent if item.url == hook.url]
        assert sequences == sorted(set(sequences))
        assert len(sequences) == 60 + 2 - hooks.index(hook)


async def test_what_a_killed_process_was_about_is_taken_up(desk: Desk, engine: Engine) -> None:
    webhook = new_webhook(desk)
    desk.model("m")
    now = utc_now()
    desk.do(lambda tx, act: tx.webhooks.claim(webhook, "killed", now, now + timedelta(seconds=0.5)))
    sender = FakeSender()
    async with running(engine, sender):
        await until(lambda: len(sender.sent) == 1)
    assert utc_now() >= now + timedelta(seconds=0.5)


async def test_paused_and_resumed(desk: Desk, engine: Engine) -> None:
    webhook, sender = new_webhook(desk, state=WebhookState.PAUSED), FakeSender()
    witness = new_webhook(desk, url="https://witness.example/")
    async with running(engine, sender):
        await asyncio.to_thread(desk.model, "m")
        await until(lambda: stored(desk, witness).progress.delivered > witness.progress.delivered)
        assert all("witness" in item.url for item in sender.sent)
        await asyncio.to_thread(change_webhook, desk, webhook, state=WebhookState.ACTIVE)
        await until(lambda: [s.type for s in sender.sent if s.url == webhook.url][-1:] == ["UpdateWebhook"])
    # What happened meanwhile is told.
    assert "CreateModel" in [s.type for s in sender.sent if s.url == webhook.url]


async def test_far_behind_is_noted(desk: Desk, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "_FAR_BEHIND", 5)
    webhook, sender = new_webhook(desk, actions=("SetAlias",)), FakeSender()
    for number in range(6):
        desk.model(f"m{number}")
    async with running(engine, sender):
        await until(lambda: stored(desk, webhook).progress.delivered == webhook.progress.delivered + 6)
    assert sender.sent == []


async def test_stopping_records_what_was_sent(desk: Desk, engine: Engine) -> None:
    webhook, sender = new_webhook(desk), FakeSender()
    for number in range(10):
        desk.model(f"m{number}")
    stopped: list[News] = []

    def answer(_sent: Sent) -> Outcome:
        if len(sender.sent) == 3:
            stopped[0].end()
        return Outcome(200, "")

    sender.answer = answer
    with dispatching(engine, sender) as (dispatcher, news):
        stopped.append(news)
        await dispatcher.run()
        await dispatcher.stop()
    assert len(sender.sent) == 3
    assert stored(desk, webhook).progress.delivered == sender.sent[-1].sequence
    assert stored(desk, webhook).lease_expire_time is None
