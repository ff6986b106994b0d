"""Each change is one transaction, and happens once however often it is asked for under one request id."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from registry_service.domain import Act
from registry_service.ports import Clock, Database, Request, Transaction
from registry_service.validation import MAX_REQUEST_ID, Violations

T = TypeVar("T")

#: How long answers are kept by request id; the contract promises a day.
KEEP_REQUESTS = timedelta(days=2)


class Changes:
    """Runs changes on a database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def apply(self, request: Request, work: Callable[[Transaction, Act], bytes]) -> bytes:
        """`answer` in a transaction of its own."""
        with self._database.write() as transaction:
            return self.answer(transaction, request, work)

    def make(self, actor: str, work: Callable[[Transaction, Act], T]) -> T:
        """A change without a request id, in a transaction of its own."""
        with self._database.write() as transaction:
            return work(transaction, self.act(actor))

    def answer(
        self, transaction: Transaction, request: Request, work: Callable[[Transaction, Act], bytes]
    ) -> bytes:
        """The answer `work` gives, or gave before under this request id of this caller and method.

        Change and answer are committed together; an error of `work` undoes both, so that the same id may be
        tried again. Without an id every request is a new one. Raises RequestIdReused.
        """
        found = Violations()
        found.text("request_id", request.request_id, MAX_REQUEST_ID)
        found.check()
        act = self.act(request.principal, request.request_id)
        if not request.request_id:
            return work(transaction, act)
        before = transaction.requests.find(request)
        if before is not None:
            return before
        reply = work(transaction, act)
        transaction.requests.keep(request, reply, act.time)
        return reply

    def act(self, actor: str, request_id: str = "") -> Act:
        """Somebody's doing, now."""
        return Act(actor, self._clock(), request_id)

    def now(self) -> datetime:
        """The moment that a change made now would bear."""
        return self._clock()

    def forget_old_requests(self, transaction: Transaction) -> int:
        """Removes answers older than KEEP_REQUESTS; returns how many."""
        return transaction.requests.forget_before(self._clock() - KEEP_REQUESTS)
