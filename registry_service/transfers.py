"""Files on their way in and out: bytes move on file threads, in bounded memory.

A thread is asked for several chunks at once, and the next ones are fetched from (or sent to) the network
while it works, so neither waits for the other; what lies between the two is bounded, so a slow caller or a
slow disk slows down the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count, islice
from typing import Any

from plumbline.errors import PlumblineError, Unavailable
from plumbline.registry.errors import (
    FileTooLarge,
    StorageFull,
    StorageUnavailable,
    UploadOffsetMismatch,
    UploadSizeMismatch,
)
from registry_service.artifacts import Upload
from registry_service.domain import ModelFile
from registry_service.ports_blobs import BlobStore, Outgoing, Staged, Staging
from registry_service.threads import Threads
from registry_service.uploads import BytesGone

# Bytes that wait for a thread, and again so many that are with it.
_BATCH_BYTES = 2 * 1024 * 1024

# Chunks of a read that wait to be sent, and again so many that are being read.
_READ_CHUNKS = 2

# A sweep takes the bytes of an upload that is about to be registered; more than once is no accident any more.
_TRIES = 3

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Transfers:
    """Streams between callers, the staging folder and a blob store."""

    def __init__(self, blobs: BlobStore, staging: Staging, threads: Threads, max_file_bytes: int) -> None:
        self._blobs, self._staging, self._threads = blobs, staging, threads
        self._max_file_bytes = max_file_bytes

    async def received(self, upload: Upload) -> int:
        """How many bytes are here to go on from."""
        return await self._threads.run(self._staging.received, upload)

    def holds(self, file: ModelFile) -> bool:
        """Whether the store has the file's bytes."""
        return self._blobs.holds(file)

    async def receive(
        self,
        upload: Upload,
        offset: int,
        chunks: AsyncIterator[bytes | memoryview],
        register: Callable[[], Awaitable[ModelFile]],
    ) -> ModelFile:
        """Takes the announced bytes from `offset` on, makes them a blob, and has it registered.

        What came stays for a later call when this one ends early. register: refers to the blob; asked again
        when it raises BytesGone. Raises FileTooLarge (before the first chunk), UploadOffsetMismatch,
        UploadSizeMismatch, UploadDigestMismatch, StorageFull, StorageUnavailable, and what `register` raises.
        """
        file = upload.file
        if file.size_bytes > self._max_file_bytes:
            raise FileTooLarge(
                f"{file.path!r} has {file.size_bytes} bytes; at most {self._max_file_bytes} are taken",
                metadata={"limit": str(self._max_file_bytes), "actual": str(file.size_bytes)},
            )
        staged = await self._begin(upload, offset)
        pump, end = _Pump(staged, self._threads), staged.close
        try:
            while offset and await self._threads.run(staged.reread):
                pass
            async for chunk in chunks:
                await pump.add(chunk)
            await pump.flush()
            await self._threads.run(staged.finish)
            found = await self._publish(staged, file, register)
            end = staged.discard
        except OSError as error:
            if error.errno not in _FULL:
                raise
            end = staged.discard
            raise StorageFull(
                f"no space is left for {file.path!r} ({file.size_bytes} bytes); nothing of it was kept",
                metadata={"path": file.path},
            ) from error
        except PlumblineError as error:
            if not _may_go_on(error):
                end = staged.discard
            raise
        finally:
            # A cancelled call waits for nothing here; what it left to be written is waited for over there.
            pump.then(end)
        return found

    async def send(self, file: ModelFile) -> AsyncIterator[bytes]:
        """The file's chunks. Raises BlobCorrupt before the last one when the bytes were altered."""
        outgoing = await self._threads.run(self._blobs.open, file)
        ahead: asyncio.Task[list[bytes]] | None = None
        try:
            ahead = asyncio.ensure_future(self._threads.run(_read, outgoing))
            while chunks := await ahead:
                ahead = asyncio.ensure_future(self._threads.run(_read, outgoing))
                for chunk in chunks:
                    yield chunk
        finally:
            if ahead is not None:
                ahead.cancel()
                ahead.add_done_callback(_seen)
            self._threads.start(outgoing.close)

    async def _begin(self, upload: Upload, offset: int) -> Staged:
        if not offset:
            return await self._threads.run(self._staging.begin, upload)
        return await self._threads.run(self._staging.resume, upload, offset)

    async def _publish(
        self, staged: Staged, file: ModelFile, register: Callable[[], Awaitable[ModelFile]]
    ) -> ModelFile:
        for attempt in count(1):
            try:
                await self._threads.run(self._blobs.publish, file, staged.path)
                return await register()
            except FileNotFoundError as error:
                raise StorageUnavailable(
                    f"another call finished or began anew the upload of {file.path!r}; try again",
                    metadata={"path": file.path},
                ) from error
            except BytesGone:
                if attempt == _TRIES:
                    raise
        raise AssertionError("unreachable")


class _Pump:
    """Hands chunks to a thread, in order, several at once, while the next ones come in."""

    def __init__(self, staged: Staged, threads: Threads) -> None:
        self._staged, self._threads = staged, threads
        self._batch: list[bytes | memoryview] = []
        self._size = 0
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def add(self, chunk: bytes | memoryview) -> None:
        """Waits for room. Raises what an earlier write raised."""
        self._batch.append(chunk)
        self._size += len(chunk)
        if self._task is None or self._task.done():
            await self.flush()
            self._task = asyncio.ensure_future(self._drain())
        while self._size >= _BATCH_BYTES and not self._task.done():
            self._room.clear()
            await self._room.wait()

    async def flush(self) -> None:
        """Waits until all is written. Raises what a write raised."""
        if self._task is not None:
            await self._task

    def then(self, end: Callable[[], None]) -> None:
        """Lets a thread do `end` once nothing is left to be written; nobody waits for it."""
        if self._task is None:
            self._threads.start(end)
            return

        def start(task: asyncio.Task[None]) -> None:
            _seen(task)
            # The threads are closed when the program ends: then the file is unlocked with the process.
            with contextlib.suppress(RuntimeError):
                self._threads.start(end)

        self._task.add_done_callback(start)

    async def _drain(self) -> None:
        try:
            while self._batch:
                batch, self._batch, self._size = self._batch, [], 0
                self._room.set()
                await self._threads.run(self._staged.write, batch)
                if self._staged.wants_sync():
                    self._threads.start(self._staged.sync)
        finally:
            self._room.set()


def _read(outgoing: Outgoing) -> list[bytes]:
    return list(islice(iter(outgoing.read, b""), _READ_CHUNKS))


def _may_go_on(error: PlumblineError) -> bool:
    """Whether a later call can make something of the bytes that are here."""
    if isinstance(error, UploadSizeMismatch):
        # Too few may be all that came before a break.
        return int(error.metadata["actual"]) < int(error.metadata["expected"])
    return isinstance(error, Unavailable | UploadOffsetMismatch)


def _seen(task: asyncio.Task[Any]) -> None:
    """Nobody is told of an error that comes after its caller is gone."""
    if not task.cancelled():
        task.exception()
