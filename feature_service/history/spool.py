"""The Arrow bytes of a stream of messages, to a file on the way in and from batches on the way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from plumbline.features.errors import EntityRowsTooLarge

#: Written to the file at once, at least.
_BLOCK_BYTES = 512 * 1024


async def write(chunks: AsyncIterator[bytes], target: Path, *, limit: int) -> int:
    """Writes the chunks one after the other; returns the bytes. Raises EntityRowsTooLarge beyond `limit`."""
    written = 0
    # Opened here: a caller that goes away while a thread opens it would leave nobody to close it.
    file = target.open("wb")
    try:
        # Written and closed off the loop: a full page cache makes them wait.
        async for block in _blocks(chunks):
            written += len(block)
            if written > limit:
                raise EntityRowsTooLarge(
                    f"more than {limit} bytes of entity rows in one request; send several requests",
                    metadata={"limit": str(limit)},
                )
            await asyncio.to_thread(file.write, block)
    finally:
        await asyncio.to_thread(file.close)
    return written


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in fewer pieces: chunks may be small, and each write goes to another thread."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        if len(held) >= _BLOCK_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held)


class ArrowStream:
    """Writes one Arrow IPC stream and hands out its bytes as they come."""

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), schema)

    def batch(self, batch: pa.RecordBatch) -> bytes:
        """The bytes of a batch, after those of the schema if it is the first."""
        self._writer.write_batch(batch)
        return self._sink.take()

    def end(self) -> bytes:
        """The bytes that end the stream."""
        self._writer.close()
        return self._sink.take()


class _Sink:
    """A file that is emptied by `take`."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
