"""Columns of a query's result, held to be looked up by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Offsets inside of an Arrow column have 32 bits.
_MOST_BYTES = 2**31 - 1


class Numbers:
    """A column of integers or floats: in one piece from the start, as memory that is touched first costs more
    than what is done with it."""

    def __init__(self, kind: pa.DataType, rows: int) -> None:
        """rows: as many or more than there will be."""
        self.kind = kind
        self._values = np.empty(rows, kind.to_pandas_dtype())
        self._null: Bools | None = None
        self._rows = 0

    def add(self, column: pa.Array) -> bool:
        """Adds rows; always True."""
        end = self._rows + len(column)
        if column.null_count:
            if self._null is None:
                self._null = np.zeros(len(self._values), np.bool_)
            self._null[self._rows : end] = column.is_null().to_numpy(zero_copy_only=False)
            column = column.fill_null(0)
        self._values[self._rows : end] = column.to_numpy(zero_copy_only=False)
        self._rows = end
        return True

    def values(self, null: int) -> Ints:
        """The values of an int64 column, nulls as another value."""
        found: Ints = self._values[: self._rows]
        if self._null is not None:
            found[self._null[: self._rows]] = null
        return found

    def take(self, rows: Ints, none: Bools) -> pa.Array:
        """The values of rows; null where `none` is set."""
        if not self._rows:
            return pa.nulls(len(rows), self.kind)
        if self._null is not None:
            none = none | self._null.take(rows, mode="clip")
        return pa.array(self._values.take(rows, mode="clip"), self.kind, mask=none)


class Anything:
    """A column of any type."""

    def __init__(self, kind: pa.DataType) -> None:
        self.kind = kind
        self._chunks: list[pa.Array] = []
        self._bytes = 0
        self._whole: pa.Array | None = None

    def add(self, column: pa.Array) -> bool:
        """Adds rows, or says that they are too many for one array."""
        self._bytes += column.nbytes
        # A copy: what DuckDB gave stays in memory as long as any column of it.
        self._chunks.append(pa.concat_arrays([column]))
        return self._bytes <= _MOST_BYTES

    def take(self, rows: Ints, none: Bools) -> pa.Array:
        """The values of rows; null where `none` is set."""
        if self._whole is None:
            self._whole = pa.concat_arrays(self._chunks) if self._chunks else pa.nulls(0, self.kind)
            self._chunks = []
        return self._whole.take(pa.array(rows, mask=none))


def held(kinds: Sequence[pa.DataType], rows: int) -> list[Numbers | Anything]:
    """Empty columns of these types. rows: as many or more than there will be."""
    return [
        Numbers(kind, rows)
        if pa.types.is_integer(kind) or (pa.types.is_floating(kind) and kind != pa.float16())
        else Anything(kind)
        for kind in kinds
    ]
