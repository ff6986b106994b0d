"""Whether anything has changed: asked before every answer that is kept, and waited for by those who watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from plumbline.registry.errors import DatabaseUnavailable
from registry_service.ports import Changed, Freshness
from registry_service.threads import Threads

#: How long a change made by another process may stay unnoticed by those who wait.
POLL_SECONDS = 0.2


class News:
    """The end of the chain of events, as one process sees it. Used on one event loop."""

    def __init__(self, freshness: Freshness, threads: Threads, patience: float) -> None:
        """threads: one thread of its own, for a database that is far. patience: seconds to wait for it."""
        self._freshness, self._threads, self._patience = freshness, threads, patience
        self._known = 0
        self._listeners: list[Callable[[Changed], None]] = []
        self._signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False
        self._running: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    def listen(self, listener: Callable[[Changed], None]) -> None:
        """Calls it, on the loop, with every change found."""
        self._listeners.append(listener)

    async def latest(self) -> int:
        """The sequence of the last event committed before the call, by whatever process. Raises
        DatabaseUnavailable."""
        if not self._freshness.waits:
            return self._heard(self._freshness.look(self._known))
        # A question that was asked before this call may have missed what was committed since; all calls that
        # wait for the next one share it.
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._ask())
            return await self._patiently(self._running)
        if self._next is None or self._next.done() or self._next is self._running:
            self._next = asyncio.ensure_future(self._ask_after(self._running))
        return await self._patiently(self._next)

    async def beyond(self, sequence: int, seconds: float) -> bool:
        """Waits until there is an event behind `sequence`, at most so long; whether there is. False at once
        when the server stops."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not self._ended:
            # Taken before looking: what is committed meanwhile is not missed.
            signal = self._signal
            if await self.latest() > sequence:
                return True
            left = deadline - loop.time()
            if left <= 0:
                return False
            await asyncio.wait([signal], timeout=min(left, POLL_SECONDS))
        return False

    @property
    def ended(self) -> bool:
        """Whether the server stops."""
        return self._ended

    def wake(self) -> None:
        """Something was committed here: those who wait look at once."""
        self._signal.set_result(None)
        self._signal = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """The server stops: nobody waits any longer."""
        self._ended = True
        self.wake()

    async def _patiently(self, question: asyncio.Task[int]) -> int:
        # The question goes on: others wait for it too.
        done, _ = await asyncio.wait([question], timeout=self._patience)
        if not done:
            raise DatabaseUnavailable(
                f"the registry's database gave no answer for {self._patience:g} s; try again"
            )
        return question.result()

    async def _ask(self) -> int:
        return self._heard(await self._threads.run(self._freshness.look, self._known))

    async def _ask_after(self, before: asyncio.Task[int]) -> int:
        await asyncio.wait([before])
        # From here on calls wait for the one after this.
        self._running = self._next
        return await self._ask()

    def _heard(self, changed: Changed | None) -> int:
        if changed is None:
            raise DatabaseUnavailable("the registry's database cannot be reached; try again")
        if changed.sequence > self._known:
            self._known = changed.sequence
            for listener in self._listeners:
                listener(changed)
        return self._known
