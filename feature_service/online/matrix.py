"""Features as one matrix, out of Arrow columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.domain import FeatureStatus, ReadPlan, ValueType
from feature_service.online.reply import MatrixReply
from feature_service.online.retrieval import OnlineFeatures
from feature_service.planning import matrix_names
from plumbline.errors import FieldViolation
from plumbline.features.errors import InvalidField

_NUMERIC = frozenset(
    {
        ValueType.DOUBLE,
        ValueType.FLOAT,
        ValueType.INT64,
        ValueType.INT32,
        ValueType.BOOL,
        ValueType.TIMESTAMP,
    }
)


def check_numeric(plan: ReadPlan) -> None:
    """Raises InvalidField when a feature of the selection is no number."""
    for item in plan.outputs:
        if item.feature.type not in _NUMERIC:
            name, kind = f"{item.label}:{item.feature.name}", item.feature.type
            what = f"holds {name}, which is {kind}; a matrix holds numbers"
            raise InvalidField(
                f"selection {what}",
                metadata={"field": "selection"},
                violations=[FieldViolation("selection", what)],
            )


def matrix_reply(plan: ReadPlan, found: OnlineFeatures, dtype: npt.DTypeLike) -> bytes:
    """GetFeatureMatrixResponse of numeric columns."""
    values = np.empty((found.rows, len(found.columns)), dtype)
    statuses = np.full(values.shape, FeatureStatus.PRESENT, np.uint8)
    for i, column in enumerate(found.columns):
        put(values, (slice(None), i), _numbers(column.values))
        if column.values.null_count:
            values[column.values.is_null().to_numpy(zero_copy_only=False), i] = np.nan
        if column.statuses is not None:
            statuses[:, i] = column.statuses
    told = b"" if (statuses == FeatureStatus.PRESENT).all() else statuses.tobytes()
    reply = MatrixReply(matrix_names(plan), [view for view, _ in found.event_micros], found.digest)
    events = [micros.tobytes() for _, micros in found.event_micros]
    return reply.encode(found.rows, values.tobytes(), told, events, found.now)


def put(values: npt.NDArray[Any], index: Any, numbers: npt.NDArray[Any]) -> None:
    """values[index] = numbers, each rounded once, to the nearest; beyond float32's range: infinite.

    An int64 that went to float32 by way of float64 would be rounded twice, and end beside the nearest now and
    then.
    """
    with np.errstate(over="ignore"):
        values[index] = numbers


def _numbers(array: pa.Array) -> npt.NDArray[Any]:
    """Of the column's own type; 0 for null."""
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    elif pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    plain = array.fill_null(0) if array.null_count else array
    numbers: npt.NDArray[Any] = plain.to_numpy(zero_copy_only=False)
    return numbers
