"""Blocking calls off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from plumbline.features.errors import StoreUnavailable

ResultT = TypeVar("ResultT")

#: What is kept of a caller's remaining time to answer in: a share of it, within bounds (seconds).
_SHARE, _LEAST_MARGIN, _MOST_MARGIN = 0.1, 0.005, 0.1


class Threads:
    """Runs blocking calls: reads, which give up after `timeout` seconds, and writes, which do not."""

    def __init__(
        self, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor, timeout: float, store: str
    ) -> None:
        self._readers, self._writers, self._timeout, self._store = readers, writers, timeout, store

    async def read(self, call: Callable[[], ResultT], remaining: float | None = None) -> ResultT:
        """remaining: seconds to the caller's deadline.

        Raises StoreUnavailable when the call takes longer than `budget(remaining)`.
        """
        budget = self.budget(remaining)
        try:
            running = asyncio.get_running_loop().run_in_executor(self._readers, call)
            return await asyncio.wait_for(running, budget)
        except TimeoutError as error:
            raise self.late(budget) from error

    def budget(self, remaining: float | None) -> float:
        """Seconds a read may wait for the store: enough of the caller's time is left to answer in."""
        if remaining is None:
            return self._timeout
        margin = min(max(_SHARE * remaining, _LEAST_MARGIN), _MOST_MARGIN)
        return max(min(self._timeout, remaining - margin), 0.0)

    def late(self, budget: float) -> StoreUnavailable:
        """What is said of a store that let the time pass."""
        return StoreUnavailable(
            f"the online store {self._store} did not answer within {budget:.3g} s",
            metadata={"store": self._store},
        )

    async def write(self, call: Callable[[], ResultT]) -> ResultT:
        """As long as it takes: half a write helps nobody."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, call)
