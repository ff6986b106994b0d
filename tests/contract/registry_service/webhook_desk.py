"""Webhooks in the words of the tests, and a sender that sends nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from registry_service.calls import Calls
from registry_service.changes import Changes
from registry_service.news import News
from registry_service.repository.database import SqlDatabase
from registry_service.repository.freshness import open_freshness
from registry_service.threads import Threads
from registry_service.webhooks import registration
from registry_service.webhooks.commands import CreateWebhook, UpdateWebhook
from registry_service.webhooks.dispatcher import Dispatcher
from registry_service.webhooks.domain import Webhook, WebhookState
from registry_service.webhooks.receivers import ReceiverRules
from registry_service.webhooks.sender import Outcome
from registry_service.writer import Writer
from tests.contract.registry_service.desk import Desk

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://hooks.example/secret-part"

_CREATE = CreateWebhook(URL, (), "", WebhookState.ACTIVE, "", SECRET, ReceiverRules())


def new_webhook(desk: Desk, **facts: Any) -> Webhook:
    return desk.do(registration.create, replace(_CREATE, **facts))


def change_webhook(desk: Desk, webhook: Webhook, **facts: Any) -> Webhook:
    nothing: dict[str, Any] = dict.fromkeys(("url", "actions", "model", "state", "description", "secret"))
    command = UpdateWebhook(
        **(nothing | {"name": webhook.name, "etag": "", "rules": ReceiverRules()} | facts)
    )
    return desk.do(registration.update, command)


def stored(desk: Desk, webhook: Webhook) -> Webhook:
    return desk.ask(registration.get, webhook.name)


@dataclass(frozen=True)
class Sent:
    url: str
    id: str
    type: str
    sequence: int


class FakeSender:
    """Accepts everything unless `answer` says otherwise; `sent` is shared by whoever is given it."""

    def __init__(self, sent: list[Sent] | None = None, timeout: float = 5.0) -> None:
        self.rules, self.timeout = ReceiverRules(), timeout
        self.sent: list[Sent] = [] if sent is None else sent
        self.answer: Callable[[Sent], Outcome] = lambda _sent: Outcome(200, "")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        message = json.loads(body)
        sent = Sent(url, headers["webhook-id"], message["type"], message["data"]["sequence"])
        self.sent.append(sent)
        return self.answer(sent)


def utc_now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def dispatching(
    engine: Engine, sender: FakeSender, clock: Callable[[], datetime] = utc_now
) -> Iterator[tuple[Dispatcher, News]]:
    """A dispatcher as one process has it; it is run by the test."""
    database = SqlDatabase(engine, busy_seconds=20)
    threads, looking, freshness = Threads("database", 4), Threads("news", 1), open_freshness(engine)
    writer = Writer(database)
    news = News(freshness, looking, 20)
    calls = Calls(database, Changes(database, clock), threads, writer, 20)
    try:
        yield Dispatcher(calls, news, sender, clock), news  # type: ignore[arg-type]
    finally:
        writer.close(20)
        threads.close(20)
        looking.close(20)
        freshness.close()
