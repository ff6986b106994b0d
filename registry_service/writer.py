"""Changes, one after the other on one thread, those that wait together in one transaction.

All changes of a registry have one order, so that more threads would only wait for one another. What waits
while a transaction commits goes into the next one: the price of a commit is shared, and every change is still
durable before it is answered.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from plumbline.registry.errors import DatabaseUnavailable
from registry_service.ports import Database, Transaction

T = TypeVar("T")

#: Changes in one transaction.
MOST_TOGETHER = 32


@dataclass(frozen=True)
class _Job:
    future: Future[Any]
    work: Callable[[Transaction], Any]


class Writer:
    """Runs changes. Each of them may be run again in another transaction, when one beside it fails, and so
    must do nothing but what the transaction undoes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        # A daemon: one that hangs in a database which stopped answering must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """What `work` returns or raises, once it is committed or undone. It sees the context of its request.
        A caller that is cancelled leaves a change that has begun running to its end."""
        if self._closed:
            raise RuntimeError("the writer is closed; nothing more can be changed")
        future: Future[T] = Future()
        context = contextvars.copy_context()
        self._jobs.put(_Job(future, lambda transaction: context.run(work, transaction)))
        return await asyncio.wrap_future(future)

    def close(self, seconds: float) -> int:
        """Waits up to so many seconds for the changes asked for; 1 when it still hangs."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join(seconds)
        return int(self._thread.is_alive())

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs, last = self._waiting(first)
            begun = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if len(begun) > 1:
                self._together(begun)
            elif begun:
                self._alone(begun[0])
            if last:
                return
            # While idle, nothing of the last requests is kept alive.
            del first, jobs, begun

    def _waiting(self, first: _Job) -> tuple[list[_Job], bool]:
        """The jobs that wait now, and whether none will come after them."""
        jobs = [first]
        while len(jobs) < MOST_TOGETHER:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _together(self, jobs: list[_Job]) -> None:
        try:
            with self._database.write() as transaction:
                results = [job.work(transaction) for job in jobs]
        except DatabaseUnavailable as error:
            for job in jobs:
                job.future.set_exception(error)
        except BaseException:  # noqa: BLE001 - one of them failed and took the others with it: each finds its own
            for job in jobs:
                self._alone(job)
        else:
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(result)

    def _alone(self, job: _Job) -> None:
        try:
            with self._database.write() as transaction:
                result = job.work(transaction)
        except BaseException as error:  # noqa: BLE001 - the outermost frame of a thread: raised where it is awaited
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
