from __future__ import annotations

import asyncio
import threading

import pytest

from registry_service.threads import Threads


async def test_work_returns_or_raises_where_it_is_awaited() -> None:
    threads = Threads("test", 2)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    assert threads.close(10) == 0


async def test_work_whose_caller_gave_up_while_it_waited_for_a_thread_is_never_begun() -> None:
    threads, free, begun = Threads("test", 1), threading.Event(), threading.Event()
    threads.start(lambda: free.wait(30))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await threads.run(begun.set)
    free.set()
    assert threads.close(10) == 0
    assert not begun.is_set()


def test_close_waits_for_what_was_started() -> None:
    threads, done = Threads("test", 1), threading.Event()
    threads.start(done.set)
    assert threads.close(10) == 0
    assert done.is_set()
    with pytest.raises(RuntimeError, match="closed"):
        threads.start(done.set)


def test_close_does_not_wait_for_a_thread_that_hangs() -> None:
    threads, free = Threads("test", 2), threading.Event()
    threads.start(lambda: free.wait(30))
    assert threads.close(0.05) == 1
    free.set()
    assert threads.close(10) == 0
