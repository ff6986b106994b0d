"""Features of many entities as one dense array, as models take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plumbline import feature_columns
from plumbline.errors import MalformedColumn
from plumbline.feature_columns import FeatureStatus
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb


@dataclass(frozen=True)
class FeatureMatrix:
    """The answer to a matrix read.

    values: (entities, names), float64 or float32, NaN where the status is not PRESENT and no default was
    given; the array is the reply's own memory and read-only. statuses: FeatureStatus numbers of the same
    shape. event_times: by view, a UTC microsecond timestamp for each entity; null where nothing is stored.
    """

    names: Sequence[str]
    values: npt.NDArray[np.floating]
    statuses: npt.NDArray[np.uint8]
    event_times: Mapping[str, pa.Array]
    definition_digest: str


def decode(reply: pb.GetFeatureMatrixResponse, dtype: npt.DTypeLike) -> FeatureMatrix:
    """dtype: what was asked for. Raises MalformedColumn when the numbers do not fill the matrix."""
    shape = (reply.row_count, len(reply.names))
    kind = np.dtype(dtype).newbyteorder("<")
    cells = shape[0] * shape[1]
    if len(reply.values) != cells * kind.itemsize or len(reply.statuses) not in (0, cells):
        raise MalformedColumn(
            f"a matrix of {shape[0]} × {shape[1]} came with {len(reply.values)} bytes of values and "
            f"{len(reply.statuses)} statuses"
        )
    statuses = (
        np.frombuffer(reply.statuses, np.uint8).reshape(shape)
        if reply.statuses
        else np.full(shape, FeatureStatus.PRESENT, np.uint8)
    )
    times = {item.view: feature_columns.times(item) for item in reply.view_event_times}
    values = np.frombuffer(reply.values, kind).reshape(shape)
    return FeatureMatrix(tuple(reply.names), values, statuses, times, reply.definition_digest)
