"""Arrow IPC streams in gRPC messages: entity rows on their way to feature_service, and the join's result."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from plumbline.channel import ENVELOPE_BYTES, MIN_MESSAGE_BYTES
from plumbline.errors import DataLoss
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb

#: Arrow bytes in one message to a server. Its limit is not known here, so the least one is kept to; parts
#: eight times as long would save a hundredth of a join's time.
CHUNK_BYTES = MIN_MESSAGE_BYTES - ENVELOPE_BYTES

_log = logging.getLogger("plumbline.features")

OnProgress = Callable[[pb.HistoricalFeaturesProgress], None]


class HistoricalFeatures:
    """The answer to a historical read, as it arrives: iterate over the batches, then read `summary`.

    schema: of the result: the entity rows' columns, then one per feature.
    """

    def __init__(self, reader: pa.RecordBatchReader, source: ArrowReplies) -> None:
        self._reader, self._source = reader, source
        self.schema: pa.Schema = reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self._reader
        self._source.drain()

    @property
    def summary(self) -> pb.HistoricalFeaturesSummary:
        """Rows, digests and the as-of range. Raises DataLoss before the last batch was read."""
        if self._source.summary is None:
            raise DataLoss("the summary comes after the last batch; read all batches first")
        return self._source.summary

    def read_all(self) -> pa.Table:
        """All rows at once."""
        return pa.Table.from_batches(list(self), schema=self.schema)


def historical_parts(
    header: pb.HistoricalFeaturesHeader, rows: pa.Table | pa.RecordBatchReader | None
) -> Iterator[pb.GetHistoricalFeaturesRequest]:
    """The messages of a request: the header, then the entity rows, if they are sent."""
    yield pb.GetHistoricalFeaturesRequest(header=header)
    if rows is None:
        return
    reader = rows.to_reader(max_chunksize=65_536) if isinstance(rows, pa.Table) else rows
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield from _cut(sink)
    yield from _cut(sink)


def _cut(sink: io.BytesIO) -> Iterator[pb.GetHistoricalFeaturesRequest]:
    """Takes what was written out of the sink, in messages of CHUNK_BYTES."""
    with sink.getbuffer() as whole:
        for start in range(0, len(whole), CHUNK_BYTES):
            yield pb.GetHistoricalFeaturesRequest(arrow_ipc=bytes(whole[start : start + CHUNK_BYTES]))
    sink.seek(0)
    sink.truncate()


class ArrowReplies(io.RawIOBase):
    """The Arrow bytes of a reply stream as a file; progress goes to a callback, the summary is kept."""

    def __init__(
        self, replies: Iterator[pb.GetHistoricalFeaturesResponse], on_progress: OnProgress | None
    ) -> None:
        super().__init__()
        self._replies, self._on_progress = replies, on_progress
        self._buffer = memoryview(b"")
        self.summary: pb.HistoricalFeaturesSummary | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        if not len(self._buffer):
            self.fill()
        count = min(len(target), len(self._buffer))
        target[:count] = self._buffer[:count]
        self._buffer = self._buffer[count:]
        return count

    def fill(self) -> None:
        """Reads replies up to the next Arrow bytes or the end. Raises the call's typed error."""
        for reply in self._replies:
            part = reply.WhichOneof("part")
            if part == "progress":
                if self._on_progress is not None:
                    self._on_progress(reply.progress)
            elif part == "summary":
                self.summary = reply.summary
                for warning in reply.summary.warnings:
                    _log.warning(warning)
            elif reply.arrow_ipc:
                self._buffer = memoryview(reply.arrow_ipc)
                return

    def drain(self) -> None:
        """Reads what follows the Arrow end-of-stream. Raises DataLoss when no summary comes."""
        self.fill()
        if self.summary is None:
            raise DataLoss("the server ended the stream without a summary; the result may be cut short")
