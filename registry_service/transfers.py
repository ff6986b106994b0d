"""Files on their way in and out: bytes move on file threads, in bounded memory."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator

from plumbline.registry.errors import FileTooLarge, StorageFull
from registry_service.domain import ModelFile
from registry_service.ports import BlobStore
from registry_service.threads import Threads


class Transfers:
    """Streams between callers and a blob store."""

    def __init__(self, blobs: BlobStore, threads: Threads, max_file_bytes: int) -> None:
        self._blobs, self._threads, self._max_file_bytes = blobs, threads, max_file_bytes

    async def receive(self, file: ModelFile, chunks: AsyncIterator[bytes]) -> None:
        """Takes the announced bytes and makes them durable, all of them or none.

        Raises FileTooLarge (before the first chunk), UploadSizeMismatch, UploadDigestMismatch.
        """
        if file.size_bytes > self._max_file_bytes:
            raise FileTooLarge(
                f"{file.path!r} has {file.size_bytes} bytes; at most {self._max_file_bytes} are taken",
                metadata={"limit": str(self._max_file_bytes), "actual": str(file.size_bytes)},
            )
        incoming = await self._threads.run(self._blobs.receive, file)
        try:
            async for chunk in chunks:
                await self._threads.run(incoming.write, chunk)
            await self._threads.run(incoming.keep)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(
                    f"no space is left for {file.path!r} ({file.size_bytes} bytes); nothing of it was kept",
                    metadata={"path": file.path},
                ) from error
            raise
        finally:
            # A cancelled call waits for nothing here; a write it left running is waited for over there.
            self._threads.start(incoming.discard)

    async def send(self, file: ModelFile) -> AsyncIterator[bytes]:
        """The file's chunks. Raises BlobCorrupt before the last one when the bytes were altered."""
        outgoing = await self._threads.run(self._blobs.open, file)
        try:
            while chunk := await self._threads.run(outgoing.read):
                yield chunk
        finally:
            self._threads.start(outgoing.close)
