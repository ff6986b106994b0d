"""The domain's column types as Arrow types, and back."""

from __future__ import annotations

import pyarrow as pa

from plumbline import columns
from plumbline.columns import ValueType
from serving.domain import ColumnType

_PREFIX = "VALUE_TYPE_"


def arrow_type(kind: ColumnType) -> pa.DataType:
    """The Arrow type of a column type."""
    return columns.arrow_type(ValueType.Value(_PREFIX + kind.name))


def column_type_of(data_type: pa.DataType) -> ColumnType:
    """The column type that carries an Arrow type. Raises TypeError when none does."""
    return ColumnType(ValueType.Name(columns.value_type(data_type)).removeprefix(_PREFIX))
