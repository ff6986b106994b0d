"""Blocking work, off the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple[Future[Any], Callable[[], Any]]


class Threads:
    """A bounded pool whose calls see the context (actor, trace) of the request they serve.

    Its threads are daemons, unlike those of concurrent.futures, for which an interpreter waits at its end
    without bound: a thread that hangs in a database which stopped answering must not keep a process alive.
    """

    def __init__(self, name: str, count: int) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns or raises. A caller that is cancelled leaves it running to its end; work
        that had not begun is never begun."""
        call = partial(contextvars.copy_context().run, work, *args, **kwargs)
        return await asyncio.wrap_future(self._submit(call))

    def start(self, work: Callable[[], object]) -> None:
        """Lets `work` run some time soon; nobody waits for it."""
        self._submit(work)

    def close(self, seconds: float) -> int:
        """Waits up to so many seconds for what is running and started; how many threads still hang."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise RuntimeError("these threads are closed; nothing more can be run on them")
        future: Future[T] = Future()
        self._jobs.put((future, call))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _do(*job)
            # While idle, a thread keeps nothing of its last request alive.
            del job


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - the outermost frame of a thread: raised where it is awaited
        future.set_exception(error)
    else:
        future.set_result(result)
