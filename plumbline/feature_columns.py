"""Feature columns with their statuses and event times, as clients see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plumbline import columns
from plumbline.errors import MalformedColumn
from plumbline.types.v1 import feature_column_pb2 as pb

#: Stands in ViewEventTimes where nothing is stored.
NO_EVENT = np.iinfo(np.int64).min


class FeatureStatus(IntEnum):
    """What stands behind one cell; the numbers are those of the contract."""

    PRESENT = pb.FEATURE_STATUS_PRESENT
    NULL_VALUE = pb.FEATURE_STATUS_NULL_VALUE
    NOT_FOUND = pb.FEATURE_STATUS_NOT_FOUND
    OUTSIDE_MAX_AGE = pb.FEATURE_STATUS_OUTSIDE_MAX_AGE
    UNAVAILABLE = pb.FEATURE_STATUS_UNAVAILABLE


@dataclass(frozen=True)
class FeatureTable:
    """Features of n entities.

    values: one column per feature, n rows; null wherever the status is not PRESENT.
    statuses: by feature, n FeatureStatus numbers (uint8).
    event_times: by view, n UTC microsecond timestamps; null where nothing is stored.
    views: by feature, the view it comes from.
    """

    values: pa.Table
    statuses: Mapping[str, npt.NDArray[np.uint8]]
    event_times: Mapping[str, pa.Array]
    views: Mapping[str, str]

    def status_names(self, feature: str) -> list[str]:
        """The statuses of a feature in words, as in ["PRESENT", "NOT_FOUND"]."""
        return [FeatureStatus(int(code)).name for code in self.statuses[feature]]


def decode(
    features: Iterable[pb.FeatureColumn], event_times: Iterable[pb.ViewEventTimes] = ()
) -> FeatureTable:
    """The table of a reply. Raises MalformedColumn when statuses and values differ in length."""
    features = list(features)
    table = columns.decode_table(item.column for item in features)
    statuses, views = {}, {}
    for item in features:
        name = item.column.name
        codes = np.fromiter(item.statuses, np.uint8, len(item.statuses))
        if not len(codes):
            codes = np.full(table.num_rows, FeatureStatus.PRESENT, np.uint8)
        if len(codes) != table.num_rows:
            raise MalformedColumn(
                f"column {name!r} has {table.num_rows} rows but {len(codes)} statuses",
                metadata={"column": name},
            )
        statuses[name], views[name] = codes, item.view
    return FeatureTable(table, statuses, {item.view: times(item) for item in event_times}, views)


def times(item: pb.ViewEventTimes) -> pa.Array:
    """UTC microsecond timestamps; null where nothing is stored."""
    micros = np.fromiter(item.event_micros, np.int64, len(item.event_micros))
    array = pa.array(micros, pa.int64(), mask=micros == NO_EVENT)
    return array.cast(pa.timestamp("us", tz="UTC"))
