"""The task that looks for leases: when it begins, how often it looks, and what stops it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from plumbline.registry.errors import DatabaseUnavailable
from registry_service.calls import Calls
from registry_service.expiry import ACTOR, expire_leases


class FakeCalls:
    """Answers of the database in turn: how many leases have run out, or an error."""

    def __init__(self, answers: list[int | Exception]) -> None:
        self.answers, self.expired_by = answers, list[str]()
        self.done = asyncio.Event()

    async def read(self, _work: Any) -> bool:
        if not self.answers:
            self.done.set()
            return False
        found = self.answers[0]
        if isinstance(found, Exception):
            del self.answers[0]
            raise found
        if found == 0:
            del self.answers[0]
        return found > 0

    async def act(self, actor: str, _work: Any) -> int:
        self.expired_by.append(actor)
        found = self.answers.pop(0)
        assert isinstance(found, int)
        return found


def looked(answers: list[int | Exception], grace: float = 0.0) -> FakeCalls:
    """After it has met all answers."""

    async def run() -> FakeCalls:
        calls = FakeCalls(answers)
        task = asyncio.create_task(expire_leases(cast("Calls", calls), 0.001, grace_seconds=grace))
        await asyncio.wait_for(calls.done.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return calls

    return asyncio.run(run())


def test_it_writes_only_when_there_is_something_to_end_and_in_its_own_name() -> None:
    calls = looked([0, 0, 100, 3, 0, 1, 0])
    assert calls.expired_by == [ACTOR, ACTOR, ACTOR]


def test_a_database_that_is_away_is_asked_again() -> None:
    calls = looked([DatabaseUnavailable("busy"), 2, DatabaseUnavailable("busy"), 1, 0])
    assert calls.expired_by == [ACTOR, ACTOR]


def test_it_waits_before_it_looks_for_the_first_time() -> None:
    async def run() -> FakeCalls:
        calls = FakeCalls([5])
        task = asyncio.create_task(expire_leases(cast("Calls", calls), 0.001, grace_seconds=60.0))
        # Long enough for a task that does not wait.
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return calls

    assert asyncio.run(run()).expired_by == []
