"""Long, blocking work as an asyncio iterator: on a thread of its own, interrupted when the caller goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

ItemT = TypeVar("ItemT")
_END: Any = object()


class Job(Protocol):
    """Work that `drain` runs."""

    def interrupt(self) -> None:
        """Makes the iterator that runs raise soon; from any thread."""


async def drain(job: Job, start: Callable[[], Generator[ItemT, None, None]]) -> AsyncGenerator[ItemT, None]:
    """What the iterator gives, step by step, as the caller asks for it.

    When the caller stops early or is cancelled, the job is interrupted, then its iterator is closed on its
    own thread, where it frees what it holds; the event loop does not wait for it.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="plumbline-job")
    loop = asyncio.get_running_loop()
    box: list[Generator[ItemT, None, None]] = []
    ended = threading.Event()

    def step() -> Any:
        if not box:
            box.append(start())
        try:
            item = next(box[0], _END)
        except BaseException:
            ended.set()
            raise
        if item is _END:
            ended.set()
        return item

    try:
        while (item := await loop.run_in_executor(pool, step)) is not _END:
            yield item
    finally:
        if not ended.is_set():
            job.interrupt()

        def close() -> None:
            for iterator in box:
                iterator.close()

        pool.submit(close)
        pool.shutdown(wait=False)
