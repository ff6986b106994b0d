"""Record batches of one length cut to those of another, without a copy where they meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from feature_service.arrow_types import arrow_type
from feature_service.domain import Field


class Aligned:
    """Hands out the rows of an iterator of batches in the pieces that are asked for."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def take(self, count: int, features: Sequence[Field]) -> Mapping[str, pa.Array]:
        """The next rows by column. features: the columns. Raises RuntimeError when there are fewer."""
        pieces = []
        missing = count
        while missing:
            if self._rest is None or not self._rest.num_rows:
                self._rest = next(self._batches, None)
                if self._rest is None:
                    raise RuntimeError(f"{missing} rows of a join's answer are missing")
            piece = self._rest.slice(0, missing)
            self._rest = self._rest.slice(piece.num_rows)
            missing -= piece.num_rows
            pieces.append(piece)
        if not pieces:
            return {item.name: pa.nulls(0, arrow_type(item.type)) for item in features}
        if len(pieces) == 1:
            return {item.name: pieces[0][item.name] for item in features}
        return {item.name: pa.concat_arrays([piece[item.name] for piece in pieces]) for item in features}


def ipc_batches(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow IPC file, one in memory at a time."""
    reader = pa.ipc.open_file(source)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values in one piece."""
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
