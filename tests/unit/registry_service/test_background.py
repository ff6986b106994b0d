from __future__ import annotations

import asyncio
import logging

import pytest

from registry_service.background import kept_up


async def test_work_that_failed_begins_again_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise KeyError("what nobody expected")

    with caplog.at_level(logging.ERROR):
        await kept_up("the look at leases", work, pause=0)
    assert begun == 3
    assert [record.getMessage() for record in caplog.records] == [
        "the look at leases failed; beginning again in 0 s"
    ] * 2
    assert all(record.exc_info for record in caplog.records)


async def test_a_task_that_is_cancelled_ends() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(kept_up("waiting", work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
