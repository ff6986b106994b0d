"""Blocking work, off the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded pool whose calls see the context (actor, trace) of the request they serve."""

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns or raises. A caller that is cancelled leaves it running to its end."""
        call = partial(contextvars.copy_context().run, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def start(self, work: Callable[[], object]) -> None:
        """Lets `work` run some time soon; nobody waits for it."""
        self._pool.submit(work)

    def close(self) -> None:
        """Waits for what is running and started."""
        self._pool.shutdown()
