"""Brings events to webhooks: a task of the server's own.

Each webhook gets its events one after the other. Whoever sends to it holds a lease in the database, so that
of several processes one does; what a killed one was about, another one (or its successor) takes up when the
lease has run out. An event counts as told only after that is recorded: what was sent shortly before a kill is
sent again, under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from plumbline.registry.errors import DatabaseUnavailable
from registry_service.calls import Calls
from registry_service.events import AuditEvent
from registry_service.news import News
from registry_service.ports import Transaction
from registry_service.webhooks import messages
from registry_service.webhooks.domain import Delivery, Webhook
from registry_service.webhooks.retries import advance
from registry_service.webhooks.sender import Outcome, Sender

_log = logging.getLogger("plumbline.registry.webhooks")

# Nothing of this is audited: what was sent is no change of the registry.
_ACTOR = "registry"

#: Events sent under one lease.
BATCH = 50
#: Webhooks sent to at once, by one process.
AT_ONCE = 16
# A lease lasts this many times what one request may take; the requests under it may take one less together.
_LEASE_TIMEOUTS = 3
_IDLE_SECONDS = 30.0
_TROUBLE_SECONDS = 1.0
# How far the last event of interest may lie back before that is noted, so that a new start looks at less.
_FAR_BEHIND = 1_000

KEEP_TIME, KEEP_COUNT = timedelta(days=30), 1_000


@dataclass(frozen=True)
class _Round:
    """What one look at the database found. due_in: seconds until a webhook that waits can be tried again."""

    head: int
    work: list[tuple[Webhook, Sequence[AuditEvent]]]
    idle: list[Webhook]
    due_in: float


class Dispatcher:
    """Runs until the news end, or it is stopped."""

    def __init__(self, calls: Calls, news: News, sender: Sender, clock: Callable[[], datetime]) -> None:
        self._calls, self._news, self._sender, self._clock = calls, news, sender, clock
        self._owner = uuid.uuid4().hex
        self._busy: dict[int, asyncio.Task[None]] = {}
        # By webhook: its revision, and up to where nothing is of interest to it then.
        self._seen: dict[int, tuple[int, int]] = {}
        self._stopping = False

    async def run(self) -> None:
        """Looks and sends, again and again."""
        while not self._news.ended and not self._stopping:
            try:
                found = await self._calls.read(self._look)
                for webhook in found.idle:
                    await self._passed(webhook, found.head)
            except DatabaseUnavailable:
                await asyncio.sleep(_TROUBLE_SECONDS)
                continue
            for webhook, events in found.work[: AT_ONCE - len(self._busy)]:
                self._busy[webhook.id] = asyncio.create_task(self._serve(webhook, events))
            await self._wait(found)

    async def stop(self) -> None:
        """Lets what is being sent come to its end, which is soon, and records it."""
        self._stopping = True
        if self._busy:
            _, late = await asyncio.wait(self._busy.values(), timeout=self._sender.timeout + 1)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _look(self, transaction: Transaction) -> _Round:
        now, head = self._clock(), transaction.audit.head().sequence
        work, idle, due_in = list[tuple[Webhook, Sequence[AuditEvent]]](), list[Webhook](), _IDLE_SECONDS
        for webhook in transaction.webhooks.active():
            if webhook.id in self._busy:
                continue
            revision, seen = self._seen.get(webhook.id, (0, 0))
            after = max(webhook.progress.delivered, seen if revision == webhook.revision else 0)
            if after >= head:
                continue
            free_at = max(webhook.progress.next_attempt or now, webhook.lease_expire_time or now)
            if free_at > now:
                due_in = min(due_in, (free_at - now).total_seconds())
                continue
            events = transaction.webhooks.next_events(webhook, after=after, limit=BATCH)
            if events:
                work.append((webhook, events))
            else:
                idle.append(webhook)
        return _Round(head, work, idle, due_in)

    async def _passed(self, webhook: Webhook, head: int) -> None:
        self._seen[webhook.id] = (webhook.revision, head)
        if head - webhook.progress.delivered >= _FAR_BEHIND:
            await self._calls.act(_ACTOR, lambda tx, act: tx.webhooks.skip(webhook, head))

    async def _wait(self, found: _Round) -> None:
        """Until something happened, something was sent, or something is due."""
        news = asyncio.create_task(self._news.beyond(found.head, found.due_in))
        try:
            await asyncio.wait([news, *self._busy.values()], return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            with contextlib.suppress(asyncio.CancelledError, DatabaseUnavailable):
                await news
        for webhook_id, task in list(self._busy.items()):
            if task.done():
                del self._busy[webhook_id]
                self._report(task)

    def _report(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, DatabaseUnavailable):
            _log.warning("what was sent to a webhook could not be recorded; it may be sent again")
        elif error is not None:
            _log.error("a webhook could not be served", exc_info=error)

    async def _serve(self, webhook: Webhook, events: Sequence[AuditEvent]) -> None:
        now, timeout = self._clock(), self._sender.timeout
        until = now + timedelta(seconds=timeout * _LEASE_TIMEOUTS)
        claimed = await self._calls.act(
            _ACTOR, lambda tx, act: tx.webhooks.claim(webhook, self._owner, now, until)
        )
        if claimed is None:
            # Somebody else was faster, or it was changed: the next look tells.
            return
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout * (_LEASE_TIMEOUTS - 2)
        progress, deliveries = claimed.progress, list[Delivery]()
        for event in events:
            if event.sequence <= progress.delivered:
                continue
            outcome = await self._send(claimed, event)
            delivery, progress = advance(progress, event, outcome, self._clock(), random.random())  # noqa: S311
            deliveries.append(delivery)
            if progress.attempts or self._stopping or self._news.ended or loop.time() > ends:
                break
        await self._calls.act(
            _ACTOR, lambda tx, act: tx.webhooks.settle(claimed, self._owner, deliveries, progress)
        )

    async def _send(self, webhook: Webhook, event: AuditEvent) -> Outcome:
        message = messages.of_event(event)
        outcome = await self._sender.post(
            webhook.url, message.headers(webhook.secret, self._clock()), message.body
        )
        if not outcome.accepted:
            _log.info("event %d was not accepted by %s: %s", event.sequence, webhook.resource, outcome.error)
        return outcome


async def send_test(sender: Sender, webhook: Webhook, now: datetime) -> Delivery:
    """Sends a message that is about nothing, whatever the webhook's state."""
    message = messages.of_test(webhook, now)
    outcome = await sender.post(webhook.url, message.headers(webhook.secret, now), message.body)
    return Delivery(
        sequence=0,
        attempt=1,
        time=now,
        status=outcome.status,
        error=outcome.error,
        delivered=outcome.accepted,
        given_up=False,
    )


def forget_old_deliveries(transaction: Transaction, now: datetime) -> int:
    """Keeps those of 30 days, and no more than 1,000 of each webhook; returns how many were removed."""
    return transaction.webhooks.forget_deliveries(now - KEEP_TIME, KEEP_COUNT)
